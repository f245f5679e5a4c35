//! The generator keeps its promises: every case that it is there for does occur.

use std::collections::{BTreeMap, BTreeSet};

use botstats_tests::generate::{Dice, Plan, moment, question};
use botstats_tests::model::{CODES, Event, Kind, Model, SPLITS, Verdict};

const START_MS: i64 = 1_792_800_000_000;
const QUARTER_MS: i64 = 900_000;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

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

#[test]
fn names_and_durations_occur_at_all_edges() {
    let model = Model::of(&plan(6).generate().messages);
    let contents = model.contents(4);
    let codes: BTreeSet<u8> =
        contents.pairs.values().flat_map(|pair| pair.sums.keys().map(|key| key.1)).collect();
    let all = (0..=18).chain(100..=108).filter(|code| ![1, 2].contains(code));
    assert_eq!(codes, all.collect());
    for split in SPLITS {
        let all: Vec<&String> = contents
            .pairs
            .values()
            .flat_map(|pair| pair.names.keys().filter(|key| key.1 == split).map(|key| &key.2))
            .collect();
        for name in ["(none)", "(other)"] {
            let times = all.iter().filter(|other| **other == name).count();
            assert!(times * 100 > all.len() && times * 2 < all.len(), "{split}: {times} {name}");
        }
        assert!(all.iter().any(|name| name.len() > 120), "{split}");
    }
    let called = model.events.iter().filter(|(_, event)| event.field("durationms").is_some());
    let (counted, absent): (Vec<_>, Vec<_>) = called.partition(|(_, e)| e.duration_ms.is_some());
    assert!(counted.len() > 100 && absent.len() > 20, "{}, {}", counted.len(), absent.len());
    // The first of some operators within a millisecond is who joins.
    let mut joins: BTreeMap<_, BTreeSet<Option<&str>>> = BTreeMap::new();
    for (_, event) in model.events.iter().filter(|(_, event)| event.kind == Kind::Joined) {
        let key = (&event.bot, &event.channel, &event.conversation, event.time_ms);
        joins.entry(key).or_default().insert(event.field("operatorid"));
    }
    let ties = joins.values().filter(|operators| operators.len() > 1).count();
    assert!(ties > 10, "{ties}");
}

#[test]
fn users_are_forgotten_at_all_times() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 10..14 {
        let generated = plan(seed).generate();
        let model = Model::of(&generated.messages);
        let stored: BTreeMap<u64, i64> =
            generated.messages.iter().map(|m| (m.sequence, m.stored_ns / 1_000_000)).collect();
        let mut users: BTreeMap<_, Vec<(u64, &Event)>> = BTreeMap::new();
        let conversations: BTreeSet<&String> =
            model.events.iter().map(|(_, event)| &event.conversation).collect();
        for (sequence, event) in &model.events {
            let key = (&event.account, &event.bot, &event.channel, &event.user);
            users.entry(key).or_default().push((*sequence, event));
        }
        for ((.., user), events) in &users {
            let of = |kind: Kind| events.iter().filter(move |(_, event)| event.kind == kind);
            let quarter = |event: &Event| event.time_ms.div_euclid(QUARTER_MS);
            let quarters: BTreeSet<i64> = of(Kind::Forgotten).map(|(_, e)| quarter(e)).collect();
            let mut count = |what, times: usize| *seen.entry(what).or_default() += times;
            count("twice in a quarter", of(Kind::Forgotten).count() - quarters.len());
            count("three times", usize::from(quarters.len() > 2));
            let never = of(Kind::Received).next().is_none() && !quarters.is_empty();
            count("never there", usize::from(never));
            count("a conversation called so", conversations.contains(user).into());
            for (sequence, forgotten) in of(Kind::Forgotten) {
                let age_ms = stored[sequence] - forgotten.time_ms;
                count("late by most of a day", usize::from(age_ms > 20 * HOUR_MS));
                let received = || of(Kind::Received).map(|(sequence, event)| (sequence, *event));
                for (other, event) in received() {
                    let after_ms = event.time_ms - forgotten.time_ms;
                    if quarter(event) == quarter(forgotten) {
                        count("there before, in the quarter", usize::from(after_ms < 0));
                        count("there after, in the quarter", usize::from(after_ms > 0));
                    }
                    let later = other > sequence && after_ms < 0;
                    let days = (stored[other] - event.time_ms) / DAY_MS;
                    count("late activity of before", later.into());
                    count("activity weeks late", usize::from(later && days > 14));
                }
                let next = received().map(|(_, e)| e.time_ms - forgotten.time_ms);
                let next = next.filter(|after_ms| *after_ms >= 0).min();
                count("back after 38 days", next.is_some_and(|ms| ms > 39 * DAY_MS).into());
                count("gone for good", next.is_none().into());
            }
        }
    }
    let few: Vec<_> = seen.iter().filter(|(_, times)| **times < 3).collect();
    assert!(few.is_empty() && seen.len() == 11, "{seen:?}");
}
