//! Realistic traffic from a seed: the same parameters give the same events, byte for byte.
//!
//! Conversations begin in order of time, more by day than by night; each one's events follow from a
//! seed of its own (`script`), and those that run at the same time are merged.
//!
//! *Invariants*: there are exactly as many events as asked for, in order of time, none later than
//! `now_ms`; ingest accepts all of them if they are published soon. Only conversations in progress
//! are held in memory.
//!
//! *Why* users do not depend on the seed: traffic of two seeds is of the same people, so that some
//! of them return.

mod cast;
mod command;
mod dice;
mod event;
mod rhythm;
mod script;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use botstats_common::quarter::DAY_MS;
use bytes::Bytes;

pub use cast::{Cast, CastBot};
pub(crate) use command::{Simulate, run};
pub use dice::Dice;

use event::{Talk, render};
use rhythm::Rhythm;
use script::Script;

/// The most days back: older events are refused.
pub const MAX_DAYS: u32 = 34;

/// What to simulate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// Accounts, with one to five bots each.
    pub accounts: u32,
    /// Days back from `now_ms`, at most [`MAX_DAYS`].
    pub days: u32,
    /// Events in all.
    pub events: u64,
    /// Seed of the traffic: another seed gives other events.
    pub seed: u64,
    /// The end, in Unix milliseconds; the last events are just before it.
    pub now_ms: i64,
}

/// A simulated event, ready to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The subject in NATS.
    pub subject: String,
    /// The CloudEvent, as JSON.
    pub payload: Bytes,
    /// When it happened, in Unix milliseconds.
    pub time_ms: i64,
}

/// The distribution of the traffic over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// More by day than by night, less at weekends.
    DayAndNight,
    /// The same all the time.
    Even,
}

/// An iterator over simulated events, in order of time.
#[derive(Debug)]
pub struct Simulation {
    cast: Cast,
    rhythm: Rhythm,
    seed: u64,
    end_ms: i64,
    /// Conversations in all, and how many of them have begun.
    conversations: u64,
    begun: u64,
    /// Events of the last conversation that are too many.
    surplus: usize,
    /// The conversations in progress, by the time of their next event; ties by number.
    running: BinaryHeap<Reverse<Running>>,
    next_begin: Option<(i64, u64)>,
    /// Users that each channel of the cast has seen.
    users: Vec<u64>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Running {
    time_ms: i64,
    number: u64,
    next: usize,
    talk: Talk,
}

impl Simulation {
    /// Traffic of made-up accounts, `sim-1` and so on, over some days, with its days and nights.
    #[must_use]
    pub fn new(params: Params) -> Self {
        let days = params.days.clamp(1, MAX_DAYS);
        let start_ms = params.now_ms - i64::from(days) * DAY_MS;
        let cast = Cast::of_accounts(params.accounts);
        Self::of(cast, start_ms, params.now_ms, params.events, params.seed, Spread::DayAndNight)
    }

    /// Traffic of that cast in `[start_ms, end_ms)`.
    #[must_use]
    pub fn of(
        cast: Cast,
        start_ms: i64,
        end_ms: i64,
        events: u64,
        seed: u64,
        spread: Spread,
    ) -> Self {
        // How long each conversation is follows from its seed alone, so they can be counted first.
        let (mut conversations, mut planned) = (0, 0);
        while planned < events {
            let script = Script::of(&mut Dice::of(&[seed, conversations]));
            planned += u64::try_from(script.steps.len()).unwrap_or(u64::MAX);
            conversations += 1;
        }
        let rhythm = Rhythm::new(start_ms, end_ms, spread);
        let users = vec![0; cast.channels()];
        let surplus = usize::try_from(planned - events).unwrap_or_default();
        let mut simulation = Self {
            cast,
            rhythm,
            seed,
            end_ms,
            conversations,
            begun: 0,
            surplus,
            running: BinaryHeap::new(),
            next_begin: None,
            users,
        };
        simulation.next_begin = simulation.begin_time(0);
        simulation
    }

    /// The same traffic after earlier traffic, in which the channels of the cast have seen this
    /// many users, in the order of [`Cast::subjects`]. Without this, the users of the earlier
    /// traffic come again, and nobody is new.
    pub(crate) fn after_users(mut self, users: Vec<u64>) -> Self {
        self.users = users;
        self.users.resize(self.cast.channels(), 0);
        self
    }

    /// When a conversation begins: each has an equal share of the traffic, and a place in its
    /// share.
    fn begin_time(&self, number: u64) -> Option<(i64, u64)> {
        (number < self.conversations).then(|| {
            let place = Dice::of(&[self.seed, number, 1]).below(1 << 16);
            (self.rhythm.time(number, self.conversations, place), number)
        })
    }

    fn begin(&mut self, start_ms: i64, number: u64) {
        let mut dice = Dice::of(&[self.seed, number]);
        let mut script = Script::of(&mut dice);
        if number + 1 == self.conversations {
            script.steps.truncate(script.steps.len() - self.surplus);
        }
        script.fit(self.end_ms - 1 - start_ms);
        let pair = self.cast.choose(&mut dice);
        let users = self.users.get_mut(pair.channel_index);
        let talk = Talk::new(&pair, users, script, self.seed, number, start_ms, &mut dice);
        if let Some(time_ms) = talk.time(0) {
            self.running.push(Reverse(Running { time_ms, number, next: 0, talk }));
        }
        self.begun = number + 1;
        self.next_begin = self.begin_time(self.begun);
    }
}

impl Iterator for Simulation {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        while let Some((start_ms, number)) = self.next_begin {
            let first = self.running.peek().map(|Reverse(running)| running.time_ms);
            if first.is_some_and(|first| first < start_ms) {
                break;
            }
            self.begin(start_ms, number);
        }
        let Reverse(mut running) = self.running.pop()?;
        let event = render(&running.talk, running.next)?;
        running.next += 1;
        if let Some(time_ms) = running.talk.time(running.next) {
            self.running.push(Reverse(Running { time_ms, ..running }));
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// 2026-11-20T12:00:00Z
    const NOW_MS: i64 = 1_795_176_000_000;

    fn params(events: u64) -> Params {
        Params { accounts: 3, days: 7, events, seed: 1, now_ms: NOW_MS }
    }

    #[test]
    fn as_many_as_asked_in_order_and_not_after_now() {
        for events in [0, 1, 2, 17, 5_000] {
            let got: Vec<Event> = Simulation::new(params(events)).collect();
            assert_eq!(u64::try_from(got.len()).unwrap(), events);
            assert!(got.is_sorted_by_key(|event| event.time_ms));
            for event in &got {
                assert!(event.time_ms >= NOW_MS - 7 * DAY_MS && event.time_ms < NOW_MS);
            }
        }
        let last = Simulation::new(params(5_000)).last().unwrap();
        assert!(NOW_MS - last.time_ms < 3_600_000, "{}", NOW_MS - last.time_ms);
    }

    #[test]
    fn the_seed_makes_the_difference() {
        let all =
            |seed| -> Vec<Event> { Simulation::new(Params { seed, ..params(2_000) }).collect() };
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
    }

    #[test]
    fn it_looks_like_traffic() {
        let (mut kinds, mut ids, mut subjects) =
            (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let mut fields: BTreeMap<&str, i32> = BTreeMap::new();
        let mut days_of_users: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
        for event in Simulation::new(params(20_000)) {
            let json: serde_json::Value = serde_json::from_slice(&event.payload).unwrap();
            let time: jiff::Timestamp = json["time"].as_str().unwrap().parse().unwrap();
            assert_eq!(time.as_millisecond(), event.time_ms);
            let user = json["data"]["userid"].as_str().unwrap();
            assert!(!user.is_empty() && json["data"]["conversationid"].is_string());
            // What is asked for by name, and how long calls took.
            for field in ["goal", "tag", "intent", "name", "operatorid", "durationms", "score"] {
                *fields.entry(field).or_insert(0) += i32::from(!json["data"][field].is_null());
            }
            *kinds.entry(json["type"].as_str().unwrap().to_owned()).or_insert(0) += 1;
            assert!(ids.insert(json["id"].as_str().unwrap().to_owned()), "the same id twice");
            let user = format!("{} {user}", event.subject);
            days_of_users.entry(user).or_default().insert(event.time_ms / DAY_MS);
            subjects.insert(event.subject);
        }
        let names: Vec<&str> = kinds.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "io.botstats.conversation.ended.v1",
                "io.botstats.feedback.given.v1",
                "io.botstats.goal.reached.v1",
                "io.botstats.integration.called.v1",
                "io.botstats.message.received.v1",
                "io.botstats.message.sent.v1",
                "io.botstats.nlp.evaluated.v1",
                "io.botstats.operator.joined.v1",
                "io.botstats.operator.message.v1",
                "io.botstats.operator.released.v1",
                "io.botstats.operator.requested.v1",
                "io.botstats.tag.set.v1",
            ]
        );
        assert!(kinds.values().all(|count| *count >= 20), "{kinds:?}");
        assert!(fields.values().all(|count| *count >= 20), "{fields:?}");
        let returning = days_of_users.values().filter(|days| days.len() > 1).count();
        assert!(returning * 10 > days_of_users.len(), "{returning} of {}", days_of_users.len());
        assert!(subjects.len() >= 6, "{subjects:?}");
    }
}
