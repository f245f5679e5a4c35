//! Every decoder on bytes that nobody wrote on purpose, without a fuzzing engine: the kept seeds
//! and findings, and random changes to them.
//!
//! `BOTSTATS_TEST_MUTATIONS` sets how many changed inputs each decoder gets (30,000),
//! `BOTSTATS_TEST_SEED` the seed. `tests/fuzz/run` looks much further.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::Context as _;
use botstats_tests::decoders::{TARGETS, Target, folder};
use botstats_tests::generate::Dice;
use botstats_tests::setting;

/// Larger inputs are not made.
const MAX_BYTES: usize = 70_000;

/// Checks an input; a failure shows it so that it can be kept.
fn check(target: &Target, input: &[u8], from: &str) {
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.check)(input)));
    assert!(
        outcome.is_ok(),
        "{} does not hold ({from}) for these {} bytes; keep them in tests/fuzz/found/{}/: {}",
        target.name,
        input.len(),
        target.name,
        input.escape_ascii()
    );
}

#[test]
fn seeds_and_findings() {
    for target in &TARGETS {
        let kept = target.kept();
        assert!(!kept.is_empty(), "{} has no seeds", target.name);
        for (number, input) in kept.iter().enumerate() {
            check(target, input, &format!("kept input {number}"));
        }
        // Each shorter form too: whatever is cut off.
        for input in kept.iter().filter(|input| input.len() < 1_000) {
            for end in 0..input.len() {
                check(target, &input[..end], "a kept input that ends early");
            }
        }
    }
}

#[test]
fn changed_inputs() -> anyhow::Result<()> {
    let seed = u64::try_from(setting("BOTSTATS_TEST_SEED", 20_261_120))?;
    let count = setting("BOTSTATS_TEST_MUTATIONS", 30_000);
    println!("BOTSTATS_TEST_SEED={seed}");
    let words = words()?;
    for target in &TARGETS {
        let mut dice = Dice::new(seed);
        let kept = target.kept();
        for number in 0..count {
            let mut input = dice.pick(&kept).clone();
            for _ in 0..=dice.below(4) {
                change(&mut dice, &mut input, &kept, &words);
            }
            input.truncate(MAX_BYTES);
            check(target, &input, &format!("seed {seed}, input {number}"));
        }
    }
    Ok(())
}

/// One change: a byte, a piece, a word, or the end of another input.
fn change(dice: &mut Dice, input: &mut Vec<u8>, kept: &[Vec<u8>], words: &[Vec<u8>]) {
    let at = dice.index(input.len() + 1);
    let end = (at + dice.index(9)).min(input.len());
    match dice.below(8) {
        0 if at < input.len() => input[at] ^= 1 << dice.below(8),
        1 if at < input.len() => input[at] = dice.bits().to_le_bytes()[0],
        2 => drop(input.drain(at..end)),
        3 => {
            let piece = input[at..end].to_vec();
            for _ in 0..=dice.below(3) {
                input.splice(at..at, piece.iter().copied());
            }
        }
        4 => drop(input.splice(at..end, dice.pick(words).iter().copied())),
        5 => drop(input.splice(at..at, dice.pick(words).iter().copied())),
        6 => {
            let other = dice.pick(kept);
            let from = dice.index(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => input.truncate(at),
    }
}

/// The words of the engine's dictionary.
fn words() -> anyhow::Result<Vec<Vec<u8>>> {
    let text = fs::read_to_string(folder().join("words.dict"))?;
    let quoted = text.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
    let words: Vec<Vec<u8>> = quoted.map(word).collect::<anyhow::Result<_>>()?;
    assert!(words.len() > 50, "{} words", words.len());
    Ok(words)
}

/// A word without its escapes, which are all of the form `\x22`.
fn word(quoted: &str) -> anyhow::Result<Vec<u8>> {
    let mut parts = quoted.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).context("two digits")?;
        bytes.push(u8::from_str_radix(digits, 16)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Ok(bytes)
}

#[test]
fn every_target_has_a_program() {
    let programs = folder().join("fuzz_targets");
    let mut found: Vec<String> = fs::read_dir(programs)
        .expect("the programs")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    found.sort();
    let mut wanted: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
}
