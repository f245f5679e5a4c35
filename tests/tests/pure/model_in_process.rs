//! Random streams through engine and renderer, against the model, to the last byte.

use botstats_tests::generate::{Dice, Generated, Plan, ZONES, moment, question};
use botstats_tests::in_process::Product;
use botstats_tests::model::{Message, Model, Rule, Verdict};
use botstats_tests::setting;

/// Streams of a run; `BOTSTATS_TEST_STREAMS` makes it more (or fewer).
const STREAMS: usize = 40;
/// Seeds that once found something.
const FOUND: &[u64] = &[];
const DAY_MS: i64 = 86_400_000;
const NS_PER_MS: i64 = 1_000_000;

/// Days (since 1970) shortly before something happens to clocks or calendars somewhere.
const STARTS: [i64; 9] = [
    20_746, // 2026-10-20: clocks of Europe, Beirut, New York go back
    20_532, // 2026-03-20: and forward
    20_543, // 2026-03-31: Lord_Howe, Chatham, Santiago
    20_718, // 2026-09-22: the same, the other way
    20_805, // 2026-12-18: a year ends
    19_774, // 2024-02-21: a leap day
    15_327, // 2011-12-19: Apia has no 30 December
    19_437, // 2023-03-21: Nuuk, Cairo, Beirut
    20_390, // 2025-10-29: Cairo, Havana
];

pub(crate) fn plan(seed: u64) -> Plan {
    let mut dice = Dice::new(seed ^ 0x005e_ed00);
    Plan {
        seed,
        accounts: *dice.pick(&[1, 2, 3]),
        events: *dice.pick(&[60, 400, 1_500, 4_000]),
        start_ms: *dice.pick(&STARTS) * DAY_MS,
        days: *dice.pick(&[1, 4, 12, 30, 90]),
        conflicts: seed % 4 == 3,
        bad: true,
    }
}

/// Directories with other zones, so that one stream is asked in many.
fn change_zones(dice: &mut Dice, generated: &mut Generated) {
    for directory in generated.directories.values_mut() {
        directory.timezone = (*dice.pick(&ZONES)).to_owned();
    }
}

fn check(seed: u64) -> anyhow::Result<()> {
    let plan = plan(seed);
    let mut generated = plan.generate();
    let messages = generated.messages.clone();
    let mut dice = Dice::new(seed ^ 0xba7c);
    // With few days kept, only questions of now can be answered.
    let keeps_all = seed.is_multiple_of(2);
    let mut product = Product::new(if keeps_all { 400 } else { 40 })?;
    let looks = [3, 7, 10].map(|tenth| messages.len() * tenth / 10);
    product.apply_in_batches(&mut dice, &messages, &looks, |product, dice, applied| {
        change_zones(dice, &mut generated);
        let model = Model::of(applied);
        product.check_counts(&model)?;
        let newest_ms = applied.last().map_or(0, |message| message.stored_ns / NS_PER_MS);
        let from_ms = if keeps_all { plan.start_ms } else { newest_ms };
        for (account, directory) in &generated.directories {
            for _ in 0..8 {
                let now_ms = moment(dice, from_ms, newest_ms + 2 * DAY_MS).max(from_ms);
                let question = question(dice, &generated, account, now_ms);
                product.check(&model, &question, directory)?;
            }
        }
        Ok(())
    })
}

#[test]
fn answers_equal_the_models() {
    let streams = u64::try_from(setting("BOTSTATS_TEST_STREAMS", STREAMS)).unwrap();
    let failures: Vec<String> = (0..streams)
        .chain(FOUND.iter().copied())
        .filter_map(|seed| check(seed).err().map(|e| format!("seed {seed}: {e:#}")))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Zones and days (since 1970) at which their calendar does something odd.
const ODD_DAYS: [(&str, i64); 12] = [
    ("America/St_Johns", 14_916), // 2010-11-03: at 00:01 back to 23:01 of the day before
    ("America/St_Johns", 14_678), // 2010-03-10: at 00:01 on to 01:01
    ("Pacific/Apia", 15_334),     // 2011-12-26: no 30 December
    ("Pacific/Kwajalein", 8_629), // 1993-08-17: no 21 August
    ("America/Caracas", 13_852),  // 2007-12-05: half an hour back
    ("Asia/Pyongyang", 17_651),   // 2018-04-30: half an hour on, at 23:30
    ("Australia/Lord_Howe", 20_727), // 2026-10-01: half an hour
    ("Australia/Lord_Howe", 20_542), // 2026-03-30: the same back
    ("Pacific/Chatham", 20_720),  // 2026-09-24: at 02:45
    ("America/Havana", 20_756),   // 2026-10-30: at 01:00 back to midnight
    ("America/Santiago", 20_700), // 2026-09-04: no midnight
    ("Asia/Beirut", 20_749),      // 2026-10-23: at midnight back to 23:00
];

#[test]
fn odd_days_of_the_calendar() -> anyhow::Result<()> {
    for (seed, (zone, day)) in (0..).zip(ODD_DAYS) {
        let start_ms = day * DAY_MS;
        let (accounts, events, days) = (1, 1_200, 8);
        let plan = Plan { seed, accounts, events, start_ms, days, conflicts: false, bad: false };
        let mut generated = plan.generate();
        let mut product = Product::new(400)?;
        product.apply(&generated.messages)?;
        let model = Model::of(&generated.messages);
        let mut dice = Dice::new(seed);
        for directory in generated.directories.values_mut() {
            directory.timezone = zone.to_owned();
        }
        for (account, directory) in &generated.directories {
            for _ in 0..60 {
                let now_ms = moment(&mut dice, start_ms, start_ms + 10 * DAY_MS);
                let mut question = question(&mut dice, &generated, account, now_ms);
                question.days = question.days.min(7);
                product.check(&model, &question, directory)?;
            }
        }
    }
    Ok(())
}

/// The accepted messages of a stream, stored at one moment at which all of them are accepted.
pub(crate) fn accepted_at_once(messages: &[Message], stored_ns: i64) -> Vec<Message> {
    let model = Model::of(messages);
    let mut accepted = messages.to_vec();
    accepted
        .retain(|m| matches!(model.verdicts[&m.sequence], Verdict::Accepted | Verdict::Duplicate));
    for message in &mut accepted {
        message.stored_ns = stored_ns;
    }
    number(&mut accepted);
    let model = Model::of(&accepted);
    accepted.retain(|m| model.verdicts[&m.sequence] != Verdict::DeadLetter(Rule::Time));
    accepted
}

pub(crate) fn number(messages: &mut [Message]) {
    for (sequence, message) in (1..).zip(messages) {
        message.sequence = sequence;
    }
}

#[test]
fn the_order_of_arrival_is_invisible() -> anyhow::Result<()> {
    for seed in 0..6 {
        let mut plan = plan(1_000 + seed);
        (plan.conflicts, plan.days, plan.events) = (false, 20, 800);
        let generated = plan.generate();
        let end_ms = plan.start_ms + 30 * DAY_MS;
        let mut messages = accepted_at_once(&generated.messages, end_ms * NS_PER_MS);
        let mut dice = Dice::new(seed);
        let mut questions = Vec::new();
        for (account, directory) in &generated.directories {
            for _ in 0..10 {
                let now_ms = moment(&mut dice, plan.start_ms, end_ms);
                questions.push((question(&mut dice, &generated, account, now_ms), directory));
            }
        }
        let mut first: Option<Vec<String>> = None;
        for order in 0..8 {
            if order > 0 {
                dice.shuffle(&mut messages);
            }
            number(&mut messages);
            let mut product = Product::new(400)?;
            for batch in messages.chunks(dice.index(300) + 20) {
                product.apply(batch)?;
            }
            let answers: Result<Vec<String>, _> =
                questions.iter().map(|(q, d)| product.answer(q, d)).collect();
            let answers = answers?;
            assert!(answers.iter().any(|a| a.len() > 2), "seed {seed}: all answers are empty");
            match &first {
                None => first = Some(answers),
                Some(first) => assert_eq!(first, &answers, "seed {seed}, order {order}"),
            }
        }
    }
    Ok(())
}
