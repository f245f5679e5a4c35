//! Ingest for 400 days: exact on every one of them, whatever is pruned meanwhile.
//!
//! `BOTSTATS_TEST_LIFE_EVENTS` sets how many events a day has, `BOTSTATS_TEST_LIFE_DAYS` how many days.

use botstats_common::shell::settings;
use botstats_tests::generate::{Dice, Life, ZONES, moment, question};
use botstats_tests::in_process::Product;
use botstats_tests::model::{Message, Model, Verdict, text_of};

const EVENTS: usize = 40;
const DAYS: usize = 400;
const DAY_MS: i64 = 86_400_000;
/// 2025-10-15: all changes of clocks of a year and the ends of two years are to come.
const START_MS: i64 = 20_376 * DAY_MS;
/// Questions of each day.
const QUESTIONS: usize = 4;

fn setting(name: &str, default: usize) -> usize {
    settings::variable(name).map_or(default, |number| number.to_string_lossy().parse().unwrap())
}

fn life(seed: u64) -> Life {
    let events = setting("BOTSTATS_TEST_LIFE_EVENTS", EVENTS);
    let clock = |ns| ns;
    Life { seed, accounts: 3, start_ms: START_MS, events, users: 30, newcomers: true, clock }
}

/// A product, and how far back it can be asked.
struct Asked {
    product: Product,
    reach_days: i64,
    name: &'static str,
}

impl Asked {
    fn new(name: &'static str, keep_days: u32, reach_days: i64) -> Self {
        Self { product: Product::new(keep_days).unwrap(), reach_days, name }
    }

    fn apply(&mut self, dice: &mut Dice, mut messages: &[Message]) -> anyhow::Result<()> {
        while !messages.is_empty() {
            let limit = *dice.pick(&[messages.len(), messages.len(), 20]);
            let (batch, rest) = messages.split_at((dice.index(limit) + 1).min(messages.len()));
            self.product.apply(batch)?;
            messages = rest;
            if dice.one_in(25) {
                self.product.reopen()?;
            }
        }
        Ok(())
    }
}

/// Lives a life, comparing everything with the model at the end of each day.
fn check(life: &Life, days: usize) -> anyhow::Result<Model> {
    let mut dice = Dice::new(life.seed ^ 0x11fe);
    let mut model = Model::default();
    // A window reaches back 30 days and the offset of a zone.
    let mut asked =
        [Asked::new("400", 400, 300), Asked::new("40", 40, 7), Asked::new("both", 400, 7)];
    let mut lifetime = life.begin();
    for day in 1..=days {
        let messages = lifetime.next().unwrap_or_default();
        model.add(&messages);
        for asked in &mut asked {
            asked.apply(&mut dice, &messages)?;
            asked.product.check_counts(&model)?;
        }
        if day % 35 == 0 {
            let keep_days = *dice.pick(&[40, 41, 60, 400, 36_600]);
            asked[2].product.reopen_keeping(keep_days)?;
        }
        let now_ms = lifetime.now_ms();
        for place in 0..QUESTIONS {
            let back_days = if place == 0 { asked[0].reach_days } else { asked[1].reach_days };
            let from_ms = (now_ms - back_days * DAY_MS).max(life.start_ms);
            let at_ms = moment(&mut dice, from_ms, now_ms + 2 * DAY_MS).max(from_ms);
            let accounts: Vec<&String> = lifetime.scene.bots.keys().collect();
            let account = *dice.pick(&accounts);
            let question = question(&mut dice, &lifetime.scene, account, at_ms);
            let mut directory = lifetime.scene.directories[account].clone();
            directory.timezone = (*dice.pick(&ZONES)).to_owned();
            let wanted = text_of(&model.rows(&question, &directory));
            for asked in asked.iter_mut().filter(|asked| back_days <= asked.reach_days) {
                asked.product.check_text(&wanted, &question, &directory).map_err(|e| {
                    e.context(format!("seed {}, day {day}, keeping {}", life.seed, asked.name))
                })?;
            }
        }
    }
    Ok(model)
}

#[test]
fn every_day_of_a_life_is_exact() {
    let model = check(&life(1), setting("BOTSTATS_TEST_LIFE_DAYS", DAYS)).unwrap();
    let fates = Verdict::ALL.map(|verdict| (verdict, model.count(verdict)));
    eprintln!("{fates:?}");
    assert!(fates.iter().all(|(_, count)| *count > 0), "{fates:?}");
}
