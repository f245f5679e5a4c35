//! The generator keeps its promises: every case that it is there for does occur.

use std::collections::BTreeSet;

use botstats_tests::generate::{Dice, Plan, moment, question};
use botstats_tests::model::{CODES, Model, Verdict};

const START_MS: i64 = 1_792_800_000_000;

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        accounts: 3,
        events: 6_000,
        start_ms: START_MS,
        days: 20,
        conflicts: true,
        bad: true,
    }
}

#[test]
fn the_same_seed_gives_the_same_stream() {
    let (a, b, c) = (plan(1).generate(), plan(1).generate(), plan(2).generate());
    assert_eq!(a.messages, b.messages);
    assert_ne!(a.messages, c.messages);
}

#[test]
fn every_verdict_and_every_metric_occurs() {
    let generated = plan(3).generate();
    let model = Model::of(&generated.messages);
    for verdict in Verdict::ALL {
        assert!(model.count(verdict) > 0, "{verdict:?}");
    }
    let accepted = model.count(Verdict::Accepted);
    assert!(accepted * 10 > generated.messages.len() * 7, "{accepted}");

    let mut dice = Dice::new(4);
    let mut codes = BTreeSet::new();
    for account in model.accounts() {
        for _ in 0..30 {
            let now_ms = moment(&mut dice, START_MS, START_MS + 25 * 86_400_000);
            let question = question(&mut dice, &generated, account, now_ms);
            for row in model.rows(&question, &generated.directories[account]) {
                if row["Count"] != 0 {
                    codes.insert(row["EventType"].as_u64().unwrap());
                }
            }
        }
    }
    assert_eq!(codes, CODES.map(u64::from).into());
}

#[test]
fn events_come_late_and_tie() {
    let generated = plan(5).generate();
    let model = Model::of(&generated.messages);
    let times: Vec<i64> = model.events.iter().map(|(_, e)| e.time_ms).collect();
    let late = times.windows(2).filter(|t| t[1] < t[0] - 86_400_000).count();
    assert!(late * 50 > times.len(), "{late} of {}", times.len());
    let places: BTreeSet<_> =
        model.events.iter().map(|(_, e)| (&e.bot, &e.conversation, e.time_ms)).collect();
    let ties = times.len() - places.len();
    assert!(ties * 20 > times.len(), "{ties} of {}", times.len());
}
