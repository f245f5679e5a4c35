//! The way that messages take to the stream: one by one, or in atomic batches.
//!
//! | server | faster |
//! | --- | --- |
//! | syncs its disk every two minutes (the default) | one by one: a batch costs the server two to three times as much, and a header that every reader must parse |
//! | syncs its disk before each acknowledgement (`sync_interval: always`) | batches: one sync for all messages of a batch |
//!
//! A publisher cannot ask for this setting, and the disk and the replicas matter too. So it
//! measures how long acknowledgements take. A *trial* is [`TRIAL_MESSAGES`] messages that go one of
//! the two ways while nothing else of the publisher is in flight; its time ends with the last
//! acknowledgement. A *series* is two trials of each way in turn. The way with the fastest trial of
//! a series is taken until the end of the next series. The next series begins after
//! [`SERIES_INTERVAL`], since a server may come back with another setting.
//!
//! Before the first series messages go one by one.

use std::time::{Duration, Instant};

/// The messages of a trial: enough that one sync a message shows, few enough that the slower way
/// costs little.
pub(super) const TRIAL_MESSAGES: usize = 64;
/// Time from one series to the next: a series takes 100 ms where each message is synced, so this
/// keeps its cost at 1%.
const SERIES_INTERVAL: Duration = Duration::from_secs(10);
/// The trials of a series. Two of each way: the first may meet a cold file or a busy moment.
const SERIES: [Way; 4] = [Way::OneByOne, Way::Batches, Way::OneByOne, Way::Batches];

/// How messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Each with its own acknowledgement; many are in flight.
    OneByOne,
    /// As an atomic batch, with one acknowledgement.
    Batches,
}

/// Chooses the way by trials.
#[derive(Debug)]
pub(super) struct Chooser {
    way: Way,
    /// The number of trials that this series has had.
    done: usize,
    /// The fastest trial of the series, in time a message.
    best: Option<(Way, Duration)>,
    /// When the next series begins; at once if it is absent.
    next_series: Option<Instant>,
}

impl Chooser {
    pub(super) fn new() -> Self {
        Self { way: Way::OneByOne, done: 0, best: None, next_series: None }
    }

    /// The way to take now, outside of trials.
    pub(super) fn way(&self) -> Way {
        self.way
    }

    /// The way of the trial that is due, if one is.
    pub(super) fn trial(&self, now: Instant) -> Option<Way> {
        if self.next_series.is_some_and(|begins| now < begins) {
            return None;
        }
        SERIES.get(self.done).copied()
    }

    /// Takes the time of the trial that was due, and chooses after the last one of a series.
    pub(super) fn measured(&mut self, way: Way, messages: usize, time: Duration, now: Instant) {
        let messages = u32::try_from(messages).unwrap_or(u32::MAX).max(1);
        let each = time / messages;
        if self.best.is_none_or(|(_, best)| each < best) {
            self.best = Some((way, each));
        }
        self.done += 1;
        if self.done == SERIES.len() {
            let best = self.best.take();
            self.way = best.map_or(self.way, |(way, _)| way);
            tracing::debug!("messages now go {:?}: {best:?} was the fastest trial", self.way);
            self.done = 0;
            self.next_series = Some(now + SERIES_INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::clock::monotonic;

    const MS: Duration = Duration::from_millis(1);

    /// Lets a chooser have a series whose trials take these times.
    fn series(chooser: &mut Chooser, now: Instant, milliseconds: [u32; 4]) {
        for (way, time) in SERIES.into_iter().zip(milliseconds) {
            assert_eq!(chooser.trial(now), Some(way));
            chooser.measured(way, TRIAL_MESSAGES, MS * time, now);
        }
        assert_eq!(chooser.trial(now), None);
    }

    #[test]
    fn the_fastest_trial_decides() {
        for (times, expect) in [
            ([1, 3, 1, 3], Way::OneByOne),
            ([40, 5, 40, 5], Way::Batches),
            // A busy moment.
            ([90, 3, 1, 3], Way::OneByOne),
            ([40, 90, 40, 5], Way::Batches),
            // A draw leaves messages on their own: they cost readers less.
            ([2, 2, 2, 2], Way::OneByOne),
        ] {
            let mut chooser = Chooser::new();
            assert_eq!(chooser.way(), Way::OneByOne);
            series(&mut chooser, monotonic(), times);
            assert_eq!(chooser.way(), expect, "{times:?}");
        }
    }

    #[test]
    fn the_next_series_comes_after_its_interval() {
        let (mut chooser, now) = (Chooser::new(), monotonic());
        series(&mut chooser, now, [40, 5, 40, 5]);
        assert_eq!(chooser.trial(now + SERIES_INTERVAL - MS), None);
        // The server has come back with another setting.
        let later = now + SERIES_INTERVAL;
        assert_eq!(chooser.way(), Way::Batches);
        series(&mut chooser, later, [1, 3, 1, 3]);
        assert_eq!(chooser.way(), Way::OneByOne);
    }

    #[test]
    fn trials_of_different_size_compare_by_message() {
        let (mut chooser, now) = (Chooser::new(), monotonic());
        for (way, messages, time) in [
            (Way::OneByOne, 64, MS * 64),
            (Way::Batches, 32, MS * 40),
            (Way::OneByOne, 64, MS * 64),
            (Way::Batches, 32, MS * 40),
        ] {
            chooser.measured(way, messages, time, now);
        }
        assert_eq!(chooser.way(), Way::OneByOne);
    }
}
