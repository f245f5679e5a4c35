//! Ingest for 400 days: exact on every one of them, whatever is pruned meanwhile.
//!
//! `BOTSTATS_TEST_LIFE_EVENTS` sets how many events a day has, `BOTSTATS_TEST_LIFE_DAYS` how many
//! days.

use botstats_tests::disk::Disk;
use botstats_tests::generate::{Dice, Life, ServerClock, ZONES, moment, question};
use botstats_tests::in_process::Product;
use botstats_tests::model::{GroupMode, Message, Model, Verdict, text_of};
use botstats_tests::setting;

const EVENTS: usize = 40;
const DAYS: usize = 400;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const NS_PER_MS: i64 = 1_000_000;
/// 2025-10-15: all changes of clocks of a year and the ends of two years are to come.
const START_MS: i64 = 20_376 * DAY_MS;
/// Questions of each day, and of each day of a life with a wrong clock.
const QUESTIONS: [usize; 2] = [3, 1];

fn life(seed: u64, clock: ServerClock) -> Life {
    let events = setting("BOTSTATS_TEST_LIFE_EVENTS", EVENTS);
    Life {
        seed,
        accounts: 3,
        start_ms: START_MS,
        events,
        users: 30,
        newcomers: true,
        clock,
        bots_too: false,
    }
}

/// A product, and how far back it can be asked.
struct Asked {
    product: Product,
    reach_days: i64,
    name: &'static str,
}

impl Asked {
    fn new(name: &'static str, keep_days: u32, reach_days: i64) -> anyhow::Result<Self> {
        let product = Product::on(Disk::default(), keep_days)?;
        Ok(Self { product, reach_days, name })
    }

    fn apply(&mut self, dice: &mut Dice, mut messages: &[Message]) -> anyhow::Result<()> {
        while !messages.is_empty() {
            let limit = *dice.pick(&[messages.len(), messages.len(), messages.len(), 20]);
            let (batch, rest) = messages.split_at((dice.index(limit) + 1).min(messages.len()));
            self.product.apply(batch)?;
            messages = rest;
            if dice.one_in(25) {
                self.product.reopen()?;
            }
        }
        Ok(())
    }

    fn context(&self, error: anyhow::Error, life: &Life, day: usize) -> anyhow::Error {
        error.context(format!("seed {}, day {day}, keeping {} days", life.seed, self.name))
    }
}

/// Lives a life, comparing everything with the model at the end of each day.
fn check(life: &Life, days: usize, questions: usize) -> anyhow::Result<Model> {
    let mut dice = Dice::new(life.seed ^ 0x11fe);
    let mut model = Model::default();
    // A window reaches back 30 days and the offset of a zone.
    let mut asked =
        [Asked::new("400", 400, 300)?, Asked::new("40", 40, 7)?, Asked::new("both", 400, 7)?];
    let mut lifetime = life.begin();
    for day in 1..=days {
        let messages = lifetime.next().unwrap_or_default();
        model.add(&messages);
        for asked in &mut asked {
            asked.apply(&mut dice, &messages)?;
            asked.product.check_counts(&model).map_err(|e| asked.context(e, life, day))?;
        }
        if day % 35 == 0 {
            let keep_days = *dice.pick(&[40, 41, 60, 400, 36_600]);
            asked[2].product.reopen_keeping(keep_days)?;
        }
        let now_ms = lifetime.now_ms();
        for place in 0..questions {
            let back_days =
                if (day + place) % 3 == 0 { asked[0].reach_days } else { asked[1].reach_days };
            let from_ms = (now_ms - back_days * DAY_MS).max(life.start_ms);
            let at_ms = moment(&mut dice, from_ms, now_ms + 2 * DAY_MS).max(from_ms);
            let accounts: Vec<&String> = lifetime.scene.bots.keys().collect();
            let account = *dice.pick(&accounts);
            let mut question = question(&mut dice, &lifetime.scene, account, at_ms);
            // Rows of hours in which nothing happened are many; other tests look at them.
            question.fill &= question.mode != GroupMode::Hour;
            let mut directory = lifetime.scene.directories[account].clone();
            directory.timezone = (*dice.pick(&ZONES)).to_owned();
            let wanted = text_of(&model.rows(&question, &directory));
            for asked in asked.iter_mut().filter(|asked| back_days <= asked.reach_days) {
                let same = asked.product.check_text(&wanted, &question, &directory);
                same.map_err(|e| asked.context(e, life, day))?;
            }
        }
    }
    Ok(model)
}

#[test]
fn every_day_of_a_life_is_exact() {
    let model =
        check(&life(1, |ns| ns), setting("BOTSTATS_TEST_LIFE_DAYS", DAYS), QUESTIONS[0]).unwrap();
    let fates = Verdict::ALL.map(|verdict| (verdict, model.count(verdict)));
    eprintln!("{fates:?}");
    assert!(fates.iter().all(|(_, count)| *count > 0), "{fates:?}");
}

/// The day on which the server's clock goes wrong.
const FAULT_MS: i64 = START_MS + 42 * DAY_MS + 7 * HOUR_MS;
/// Days of the lives with such a clock: until nothing that was stored meanwhile can matter any
/// more.
const FAULT_DAYS: usize = 80;

/// A clock that is wrong by that much for that long.
fn wrong(ns: i64, by_ms: i64, for_ms: i64) -> i64 {
    let wrong = FAULT_MS * NS_PER_MS..(FAULT_MS + for_ms) * NS_PER_MS;
    if wrong.contains(&ns) { ns + by_ms * NS_PER_MS } else { ns }
}

/// A clock that stands still for that long.
fn still(ns: i64, for_ms: i64) -> i64 {
    let still = FAULT_MS * NS_PER_MS..(FAULT_MS + for_ms) * NS_PER_MS;
    if still.contains(&ns) { still.start } else { ns }
}

fn check_clocks(clocks: &[(&str, ServerClock)]) {
    let results = (100..).zip(clocks).map(|(seed, (name, clock))| {
        check(&life(seed, *clock), FAULT_DAYS, QUESTIONS[1]).err().map(|e| format!("{name}: {e:#}"))
    });
    let failures: Vec<String> = results.flatten().collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn a_clock_that_stands_still_or_is_a_little_wrong() {
    check_clocks(&[
        ("an hour ahead", |ns| wrong(ns, HOUR_MS, 5 * HOUR_MS)),
        ("an hour behind", |ns| wrong(ns, -HOUR_MS, 5 * HOUR_MS)),
        ("a day behind", |ns| wrong(ns, -DAY_MS, 9 * HOUR_MS)),
        ("still for hours", |ns| still(ns, 9 * HOUR_MS)),
        ("still for days", |ns| still(ns, 3 * DAY_MS)),
        ("an hour to and fro", |ns| ns + (ns / 1_000 % 3 - 1) * HOUR_MS * NS_PER_MS),
    ]);
}

#[test]
fn a_clock_that_leaps_ahead_by_days_deletes_nothing() {
    check_clocks(&[
        ("2 days ahead", |ns| wrong(ns, 2 * DAY_MS, 5 * HOUR_MS)),
        ("20 days ahead", |ns| wrong(ns, 20 * DAY_MS, 5 * HOUR_MS)),
        ("400 days ahead", |ns| wrong(ns, 400 * DAY_MS, 5 * HOUR_MS)),
        ("300 days ahead, for a day", |ns| wrong(ns, 300 * DAY_MS, DAY_MS)),
        ("30 days ahead, now and then", |ns| {
            if ns / 1_000 % 7 == 0 { wrong(ns, 30 * DAY_MS, DAY_MS) } else { ns }
        }),
    ]);
}

/// The most messages of a batch, and one restart in how many batches.
const CUTS: [(usize, i64); 5] = [(usize::MAX, 2), (3_000, 3), (400, 10), (60, 30), (8, 100)];

#[test]
fn how_months_are_cut_into_batches_is_invisible() {
    for seed in 200..203 {
        let mut life = life(seed, |ns| ns);
        life.events /= 2;
        let mut lifetime = life.begin();
        let messages: Vec<Message> = lifetime.by_ref().take(100).flatten().collect();
        let mut model = Model::default();
        model.add(&messages);
        let mut dice = Dice::new(seed);
        let now_ms = lifetime.now_ms();
        let mut questions = Vec::new();
        for account in lifetime.scene.bots.keys() {
            for _ in 0..4 {
                let at_ms = moment(&mut dice, now_ms - 7 * DAY_MS, now_ms + DAY_MS);
                let mut question = question(&mut dice, &lifetime.scene, account, at_ms);
                question.fill &= question.mode != GroupMode::Hour;
                let directory = &lifetime.scene.directories[account];
                questions.push((text_of(&model.rows(&question, directory)), question, directory));
            }
        }
        for (most, restarts) in CUTS {
            let mut product = Product::on(Disk::default(), 40).unwrap();
            let mut rest = &messages[..];
            while !rest.is_empty() {
                let size = if most > rest.len() { rest.len() } else { dice.index(most) + 1 };
                let (batch, later) = rest.split_at(size);
                product.apply(batch).unwrap();
                rest = later;
                if dice.one_in(restarts) {
                    product.reopen().unwrap();
                }
            }
            let same = |product: &mut Product| {
                product.check_counts(&model)?;
                questions.iter().try_for_each(|(wanted, q, d)| product.check_text(wanted, q, d))
            };
            same(&mut product).unwrap_or_else(|e| panic!("seed {seed}, at most {most}: {e:#}"));
        }
    }
}

/// A life in which server and bots are wrong together.
fn both_wrong(seed: u64, clock: ServerClock) -> Life {
    Life { bots_too: true, ..life(seed, clock) }
}

#[test]
fn days_ahead_with_the_bots() {
    let clocks: [ServerClock; 4] = [
        |ns| wrong(ns, DAY_MS, 5 * HOUR_MS),
        |ns| wrong(ns, 2 * DAY_MS, 5 * HOUR_MS),
        |ns| wrong(ns, 20 * DAY_MS, 5 * HOUR_MS),
        |ns| wrong(ns, 400 * DAY_MS, 4 * DAY_MS),
    ];
    for (seed, clock) in (300..).zip(clocks) {
        let checked = check(&both_wrong(seed, clock), FAULT_DAYS, QUESTIONS[1]);
        checked.unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// All clocks wrong for longer than a leap is doubted, or by decades: what was deleted for it is
/// gone, but nothing stops, and what is new is judged as it should be.
#[test]
fn clocks_that_are_wrong_for_long_stop_nothing() {
    let clocks: [ServerClock; 4] = [
        // A machine that begins in 1970 until it has asked for the time.
        |ns| wrong(ns, -20_400 * DAY_MS, 5 * HOUR_MS),
        |ns| wrong(ns, 20 * DAY_MS, 9 * DAY_MS),
        |ns| wrong(ns, 36 * DAY_MS, 15 * DAY_MS),
        |ns| wrong(ns, 400 * DAY_MS, 9 * DAY_MS),
    ];
    for (seed, clock) in (309..).zip(clocks) {
        let life = both_wrong(seed, clock);
        let (mut model, mut dice) = (Model::default(), Dice::new(seed));
        let mut products = [Asked::new("400", 400, 0).unwrap(), Asked::new("40", 40, 0).unwrap()];
        for messages in life.begin().take(FAULT_DAYS + 60) {
            model.add(&messages);
            for asked in &mut products {
                asked.apply(&mut dice, &messages).unwrap();
            }
        }
        let count = |verdict| u64::try_from(model.count(verdict)).unwrap();
        let events = [Verdict::Accepted, Verdict::Duplicate, Verdict::Conflict].map(count);
        let events: u64 = events.iter().sum();
        let mut accepted = Vec::new();
        for asked in &mut products {
            let progress = asked.product.engine().unwrap().progress();
            let told = progress.accepted + progress.duplicates + progress.conflicts;
            assert_eq!(told, events, "seed {seed}, keeping {}", asked.name);
            accepted.push(progress.accepted);
        }
        // However they were cut into batches.
        assert_eq!(accepted[0], accepted[1], "seed {seed}");
        let beyond = accepted[0] - count(Verdict::Accepted);
        assert!(beyond < events / 20, "seed {seed}: {beyond} repeats counted, of {events}");
    }
}
