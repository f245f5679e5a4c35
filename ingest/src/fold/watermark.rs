//! How far the events' own time has come. What is too old by this time is deleted.
//!
//! *Invariants*: pure; depends on the accepted messages alone, so a replay deletes the same.
//!
//! *Why* not the server's clock: a clock that leaps ahead and comes back would delete what still
//! counts. An event's time is not later than the moment it was stored, so a leap needs both clocks.
//! If both leap (bots and server on one machine), the leap is believed only when time has gone on
//! from there for [`CONFIRMED_MS`]. Until then more is kept than needed, which changes no answer.

use botstats_common::quarter::{DAY_MS, day_of_ms};
use serde::{Deserialize, Serialize};

/// Steps forward up to this, in milliseconds, are believed at once, and such steps back of the
/// server's clock are ignored: slices are kept a day longer for them.
pub(crate) const TOLERATED_MS: i64 = DAY_MS;
/// A larger step forward is believed once time has gone on by this many milliseconds from there.
pub(crate) const CONFIRMED_MS: i64 = 7 * DAY_MS;

/// The largest time of an event that is believed, in Unix milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    at_ms: i64,
    /// The first time beyond a leap that is not believed yet.
    leapt_to_ms: Option<i64>,
}

impl Watermark {
    #[must_use]
    pub fn day(&self) -> u32 {
        day_of_ms(self.at_ms)
    }

    /// Whether a message stored at that moment shows that the watermark went too far.
    #[must_use]
    pub fn was_wrong(&self, stored_ms: i64) -> bool {
        stored_ms < self.at_ms.saturating_sub(TOLERATED_MS)
    }

    /// Takes an event's own time and the moment at which the event was stored.
    ///
    /// | event | watermark |
    /// | --- | --- |
    /// | stored more than a day before it | goes back to that moment |
    /// | stored more than a day before the end of a leap | the leap is forgotten |
    /// | at most a day ahead | moves there |
    /// | further ahead | a leap, if there is none yet |
    /// | [`CONFIRMED_MS`] beyond a leap's end | moves there |
    pub fn observe(&mut self, time_ms: i64, stored_ms: i64) {
        if self.was_wrong(stored_ms) {
            *self = Self { at_ms: stored_ms, leapt_to_ms: None };
        }
        self.leapt_to_ms.take_if(|to| stored_ms < to.saturating_sub(TOLERATED_MS));
        if time_ms <= self.at_ms.saturating_add(TOLERATED_MS) {
            self.at_ms = self.at_ms.max(time_ms);
            return;
        }
        let to = *self.leapt_to_ms.get_or_insert(time_ms);
        if time_ms >= to.saturating_add(CONFIRMED_MS) {
            *self = Self { at_ms: time_ms, leapt_to_ms: None };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Time and stored in days, and where the watermark is then.
    fn check(events: &[(i64, i64, i64)]) {
        let mut watermark = Watermark { at_ms: 100 * DAY_MS, leapt_to_ms: None };
        for (i, (time, stored, expect)) in events.iter().enumerate() {
            watermark.observe(time * DAY_MS, stored * DAY_MS);
            assert_eq!(watermark.at_ms, expect * DAY_MS, "event {i} of {events:?}");
        }
    }

    #[test]
    fn steps_leaps_and_returns() {
        // Day by day, and late ones.
        check(&[(101, 101, 101), (90, 101, 101), (102, 102, 102), (103, 103, 103)]);
        // The server alone.
        check(&[(101, 140, 101), (100, 101, 101)]);
        // Idle for long: believed after a week, whatever comes late.
        check(&[(150, 150, 100), (120, 151, 100), (156, 156, 100), (157, 157, 157)]);
        // Both clocks for some days: nothing happened.
        check(&[(140, 140, 100), (146, 146, 100), (101, 101, 101), (102, 102, 102)]);
        check(&[
            (140, 140, 100),
            (101, 101, 101),
            (148, 148, 101),
            (154, 154, 101),
            (155, 155, 155),
        ]);
        // Both for longer than a week: too long to tell; back when they are.
        check(&[
            (140, 140, 100),
            (147, 147, 147),
            (148, 148, 148),
            (109, 109, 109),
            (110, 110, 110),
        ]);
        // The server alone goes back, and late events come.
        check(&[(60, 60, 60), (101, 101, 60), (107, 107, 60), (108, 108, 108)]);
        check(&[(99, 99, 100), (101, 101, 101)]);
    }
}
