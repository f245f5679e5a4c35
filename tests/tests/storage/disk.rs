//! A disk that fails, fills up, loses its power or forgets. The state is the fold of exactly the
//! messages up to the checkpoint, or the store refuses to open. `BOTSTATS_TEST_DISK` sets how many
//! times as many cases as usual are tried.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use botstats_tests::disk::{Disk, Fault, Replay};
use botstats_tests::generate::{Dice, Generated, Plan, question};
use botstats_tests::in_process::Product;
use botstats_tests::model::{Directory, Message, Model, Question};
use botstats_tests::setting;

const SEED: u64 = 20_261_122;
const COMMITS: usize = 30;
const QUESTIONS: usize = 3;
const KEEP_DAYS: u32 = 400;
const DAY_MS: i64 = 86_400_000;

/// How many times as many cases as usual are tried.
fn thoroughness() -> usize {
    setting("BOTSTATS_TEST_DISK", 1)
}

/// A stream in batches, and what is to be answered after each.
struct Run {
    batches: Vec<Vec<Message>>,
    directories: Vec<Directory>,
    questions: Vec<(Question, usize)>,
    /// By the number of batches applied: the last sequence and the answers.
    expected: Vec<(u64, Vec<String>)>,
}

impl Run {
    /// Every expected answer is the model's.
    fn new(seed: u64, events: usize) -> Self {
        let plan = Plan {
            seed,
            accounts: 2,
            events,
            start_ms: 20_746 * DAY_MS,
            days: 60,
            conflicts: true,
            bad: true,
        };
        let generated: Generated = plan.generate();
        let mut dice = Dice::new(seed);
        let now_ms = generated.messages.last().unwrap().stored_ns / 1_000_000;
        let mut directories = Vec::new();
        let mut questions = Vec::new();
        for (account, directory) in &generated.directories {
            for _ in 0..QUESTIONS {
                let question = question(&mut dice, &generated, account, now_ms);
                questions.push((Question { days: 30, bots: None, ..question }, directories.len()));
            }
            directories.push(directory.clone());
        }
        let size = generated.messages.len().div_ceil(COMMITS);
        let batches: Vec<Vec<Message>> =
            generated.messages.chunks(size).map(<[_]>::to_vec).collect();
        let mut run = Self { batches, directories, questions, expected: Vec::new() };
        let mut product = Product::new(KEEP_DAYS).unwrap();
        for applied in 0..=run.batches.len() {
            let model = Model::of(&run.batches[..applied].concat());
            for (question, directory) in &run.questions {
                product.check(&model, question, &run.directories[*directory]).unwrap();
            }
            product.check_counts(&model).unwrap();
            run.expected.push((product.sequence().unwrap(), run.answers(&mut product).unwrap()));
            if let Some(batch) = run.batches.get(applied) {
                product.apply(batch).unwrap();
            }
        }
        run
    }

    fn answers(&self, product: &mut Product) -> anyhow::Result<Vec<String>> {
        self.questions
            .iter()
            .map(|(question, directory)| product.answer(question, &self.directories[*directory]))
            .collect()
    }

    /// How many batches have been applied, if the state is exactly that of some.
    fn applied(&self, product: &mut Product) -> anyhow::Result<usize> {
        let sequence = product.sequence()?;
        let applied = self.expected.iter().position(|(last, _)| *last == sequence);
        let applied = applied.ok_or_else(|| anyhow::anyhow!("{sequence} ends no batch"))?;
        let same = self.answers(product)? == self.expected[applied].1;
        anyhow::ensure!(same, "after {applied} batches the answers are not the model's");
        Ok(applied)
    }

    /// A product on that disk that syncs every fifth commit by itself.
    fn product(&self, disk: Disk) -> anyhow::Result<Product> {
        let mut product = Product::on(disk, KEEP_DAYS)?;
        product.engine()?.set_max_unsynced(5 * self.batches[0].len());
        Ok(product)
    }

    /// Applies one batch, and syncs after each seventh; true if everything is synced.
    fn apply(&self, product: &mut Product, number: usize) -> anyhow::Result<bool> {
        product.apply(&self.batches[number])?;
        let engine = product.engine()?;
        if number % 7 == 6 {
            engine.sync()?;
        }
        Ok(engine.is_synced())
    }

    /// Applies what is left; in the end everything is there.
    fn finish(&self, product: &mut Product) -> anyhow::Result<()> {
        let applied = self.applied(product)?;
        for number in applied..self.batches.len() {
            self.apply(product, number)?;
        }
        anyhow::ensure!(self.applied(product)? == self.batches.len(), "not all is there");
        Ok(())
    }
}

#[test]
fn the_power_is_cut_at_every_operation() {
    let run = Run::new(SEED, 900);
    let disk = Disk::default();
    let mut product = run.product(disk.clone()).unwrap();
    let begin = disk.bytes();
    disk.record();
    // By syncs: the number of batches on the disk, and of its operations until then.
    let mut syncs = vec![(0, 0)];
    for number in 0..COMMITS {
        if run.apply(&mut product, number).unwrap() {
            syncs.push((number + 1, disk.operations()));
        }
    }
    let log = disk.recorded();
    assert!((COMMITS / 5..COMMITS / 2).contains(&syncs.len()), "{syncs:?}");

    let mut replay = Replay::new(begin);
    let mut dice = Dice::new(SEED);
    let mut tried = 0;
    for (k, operation) in log.iter().enumerate() {
        replay.step(operation.clone());
        // The sync before and the next one.
        let next = syncs.partition_point(|(_, end)| *end <= k + 1);
        let possible = &syncs[next - 1..syncs.len().min(next + 1)];
        let mut images = vec![replay.nothing_more(), replay.everything()];
        images.extend((0..thoroughness()).map(|_| replay.some(&mut dice)));
        for (image, bytes) in images.into_iter().enumerate() {
            let case = format!("seed {SEED}, operation {k} of {}, image {image}", log.len());
            let mut product = Product::on(Disk::of(bytes), KEEP_DAYS)
                .unwrap_or_else(|error| panic!("{case}: {error:#}"));
            let applied =
                run.applied(&mut product).unwrap_or_else(|error| panic!("{case}: {error:#}"));
            let is_possible = possible.iter().any(|(batches, _)| *batches == applied);
            assert!(is_possible, "{case}: {applied}, not of {possible:?}");
            // What is not visible in answers is right too if the rest comes out right.
            if (k + image).is_multiple_of((40 / thoroughness()).max(1)) {
                run.finish(&mut product).unwrap_or_else(|error| panic!("{case}: {error:#}"));
            }
            tried += 1;
        }
    }
    println!("{} operations, {tried} images", log.len());
    assert!(log.len() > 10 * syncs.len(), "so few operations: {}", log.len());
}

#[test]
fn the_disk_fails_or_fills_up() {
    let run = Run::new(SEED + 1, 600);
    let made = {
        let disk = Disk::default();
        drop(Product::on(disk.clone(), KEEP_DAYS).unwrap());
        disk.bytes()
    };
    let all = {
        let disk = Disk::of(made.clone());
        let mut product = run.product(disk.clone()).unwrap();
        run.finish(&mut product).unwrap();
        disk.operations()
    };
    let mut failures = 0;
    let step = (10 / thoroughness()).max(1);
    for k in (0..all).step_by(step) {
        for fault in [Fault::From(k), Fault::FullFrom(k)] {
            let disk = Disk::of(made.clone());
            disk.set_fault(Some(fault));
            let case = format!("seed {}, {fault:?} of {all}", SEED + 1);
            let (mut seen, mut synced) = (None, 0);
            if let Ok(mut product) = run.product(disk.clone()) {
                for number in 0..COMMITS {
                    match run.apply(&mut product, number) {
                        Ok(true) => synced = number + 1,
                        Ok(false) => {}
                        Err(error) => {
                            seen = Some(error);
                            break;
                        }
                    }
                }
                if seen.is_none() {
                    run.applied(&mut product).unwrap_or_else(|e| panic!("{case}: {e:#}"));
                }
            }
            if let Some(error) = &seen {
                let text = format!("{error:#}");
                let why = ["the disk is broken", "no space left"];
                assert!(why.iter().any(|why| text.contains(why)), "{case}: {text}");
                failures += 1;
            }
            // The disk works again, or has room again.
            disk.set_fault(None);
            let mut product =
                Product::on(disk, KEEP_DAYS).unwrap_or_else(|e| panic!("{case}: {e:#}"));
            let applied = run.applied(&mut product).unwrap_or_else(|e| panic!("{case}: {e:#}"));
            assert!(applied >= synced, "{case}: {applied} instead of {synced}");
            run.finish(&mut product).unwrap_or_else(|e| panic!("{case}: {e:#}"));
        }
    }
    println!("{all} operations, every {step}th failed; {failures} were seen by a commit");
    assert!(failures > 10, "so few failures were seen: {failures}");
}

/// What a snapshot shows stays on the disk while later commits reuse pages.
#[test]
fn a_snapshot_lasts_over_commits() {
    let run = Run::new(SEED + 3, 1_500);
    let mut product = run.product(Disk::default()).unwrap();
    let mut held = VecDeque::new();
    for number in 0..COMMITS {
        run.apply(&mut product, number).unwrap();
        let snapshot = product.engine().unwrap().store().snapshot().unwrap();
        let contents = snapshot.contents().unwrap();
        held.push_back((snapshot, contents));
        // Each lives through more than one sync.
        if held.len() > 12 {
            let (snapshot, contents) = held.pop_front().unwrap();
            assert!(snapshot.contents().unwrap() == contents, "seed {}, {number}", SEED + 3);
        }
    }
}

/// What a damaged file may be.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip { byte: usize, bit: u8 },
    Cut { length: usize },
    Zeros { from: usize, length: usize },
}

#[test]
fn damage_is_never_a_wrong_number() {
    let run = Run::new(SEED + 2, 3_000);
    let disk = Disk::default();
    let mut product = Product::on(disk.clone(), KEEP_DAYS).unwrap();
    // The last batches come after the damage, so that writing meets it too.
    let before = COMMITS - 5;
    for batch in &run.batches[..before] {
        product.apply(batch).unwrap();
    }
    product.engine().unwrap().sync().unwrap();
    drop(product);
    let good = disk.bytes();
    let mut dice = Dice::new(SEED);
    let (mut found, mut harmless) = (0, 0);
    for number in 0..200 * thoroughness() {
        let mut bytes = good.clone();
        let damage = match number % 10 {
            0 | 1 => Damage::Cut { length: dice.index(bytes.len()) },
            2 => Damage::Zeros { from: dice.index(bytes.len()) / 512 * 512, length: 4_096 },
            _ => Damage::Flip {
                // Mostly where there is something.
                byte: (0..20)
                    .map(|_| dice.index(bytes.len()))
                    .find(|byte| bytes[*byte] != 0)
                    .unwrap_or_else(|| dice.index(bytes.len())),
                bit: u8::try_from(dice.below(8)).unwrap(),
            },
        };
        match damage {
            Damage::Flip { byte, bit } => bytes[byte] ^= 1 << bit,
            Damage::Cut { length } => bytes.truncate(length),
            Damage::Zeros { from, length } => {
                let end = bytes.len().min(from + length);
                bytes[from..end].fill(0);
            }
        }
        let case = format!("seed {SEED}, case {number}: {damage:?}");
        let disk = Disk::of(bytes);
        let used = catch_unwind(AssertUnwindSafe(|| {
            let mut product = Product::on(disk, KEEP_DAYS)?;
            anyhow::ensure!(run.applied(&mut product)? == before, "not the state it was");
            run.finish(&mut product)
        }));
        match used.unwrap_or_else(|_| panic!("{case}: a panic")) {
            Ok(()) => harmless += 1,
            Err(error) => {
                let text = format!("{error:#}");
                assert!(text.contains("the file is damaged"), "{case}: {text}");
                found += 1;
            }
        }
    }
    println!("{found} found, {harmless} where nothing is");
    assert!(found > 60 && harmless > 0, "{found} found, {harmless} harmless");
}
