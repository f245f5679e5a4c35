//! What was done and measured.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::callers::Answers;
use super::plan::Numbers;

/// One episode's.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Faults by name.
    pub faults: BTreeMap<&'static str, usize>,
    /// Times until an event was counted again, by the fault before; of several together by the
    /// last.
    pub recoveries: Vec<(&'static str, Duration)>,
    /// Events that were published, each until it was acknowledged.
    pub published: usize,
    /// Messages in the stream at the end: more, by what was published again.
    pub stored: usize,
    pub accepted: usize,
    /// Answers that were compared with the model's.
    pub compared: usize,
    /// Looks at the checkpoint.
    pub looks: usize,
    /// What the clients were told.
    pub answers: Answers,
}

/// A whole run's.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was ordered.
    pub numbers: Numbers,
    /// The one episode that was run, if not all.
    pub only_episode: Option<usize>,
    /// Episodes that were run.
    pub episodes: usize,
    /// Faults by name.
    pub faults: BTreeMap<&'static str, usize>,
    /// Recovery after each step, by the last fault in it.
    pub recovery: BTreeMap<&'static str, Recovery>,
    /// Events that were published, each until it was acknowledged.
    pub published: usize,
    /// Messages in the streams at the end.
    pub stored: usize,
    pub accepted: usize,
    /// Answers that were compared with the model's.
    pub compared: usize,
    /// Looks at the checkpoint.
    pub looks: usize,
    /// Calls of accounts that were answered 200.
    pub calls_given: usize,
    /// Those answered 429.
    pub calls_refused: usize,
    /// Those answered 503.
    pub calls_unavailable: usize,
    /// The longest that a 503 took, in milliseconds.
    pub slowest_unavailable_ms: u128,
    #[serde(skip)]
    times: BTreeMap<&'static str, Vec<Duration>>,
}

/// How long it took until an event was counted again.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Recovery {
    /// How often it was measured.
    pub count: usize,
    /// Half of the times were not longer.
    pub median_ms: u128,
    /// The longest.
    pub worst_ms: u128,
}

impl Report {
    pub(super) fn new(numbers: &Numbers, only_episode: Option<usize>) -> Self {
        Self {
            numbers: numbers.clone(),
            only_episode,
            episodes: 0,
            faults: BTreeMap::new(),
            recovery: BTreeMap::new(),
            published: 0,
            stored: 0,
            accepted: 0,
            compared: 0,
            looks: 0,
            calls_given: 0,
            calls_refused: 0,
            calls_unavailable: 0,
            slowest_unavailable_ms: 0,
            times: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, tally: Tally) {
        self.episodes += 1;
        for (name, count) in tally.faults {
            *self.faults.entry(name).or_default() += count;
        }
        for (name, time) in tally.recoveries {
            let times = self.times.entry(name).or_default();
            times.push(time);
            times.sort_unstable();
            let recovery = Recovery {
                count: times.len(),
                median_ms: times[times.len() / 2].as_millis(),
                worst_ms: times[times.len() - 1].as_millis(),
            };
            self.recovery.insert(name, recovery);
        }
        self.published += tally.published;
        self.stored += tally.stored;
        self.accepted += tally.accepted;
        self.compared += tally.compared;
        self.looks += tally.looks;
        self.calls_given += tally.answers.given;
        self.calls_refused += tally.answers.refused;
        self.calls_unavailable += tally.answers.unavailable;
        let slowest_ms = tally.answers.slowest_unavailable.as_millis();
        self.slowest_unavailable_ms = self.slowest_unavailable_ms.max(slowest_ms);
    }
}
