//! Up to when everything is counted, and how far behind the stream's end that is.
//!
//! Two things prove that everything stored up to an instant is counted: an applied message (all
//! messages stored before it came earlier), and the stream's end at a known time of the server,
//! once that end is applied. So an idle stream stays fresh, and the lag is never underestimated:
//! the oldest unapplied message is younger than the proven instant.
//!
//! Where streams have slots, a store reads one stream after the other. An end behind the fence of a
//! stream proves nothing: the next stream may have had events by then.
//!
//! *Invariants*: all instants are the server's; the local clock only measures the time since the
//! server was last asked. Sequences only grow from a stream to the next.

use std::time::Instant;

/// Where the stream ended, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamEnd {
    /// The server's time, in Unix milliseconds.
    pub at_ms: i64,
    pub last_sequence: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Freshness {
    as_of_ms: i64,
    applied: u64,
    /// The last known end of the stream, and when the server was asked, by the local monotonic
    /// clock.
    end: Option<(StreamEnd, Instant)>,
    /// The server's time of the end that was known before `end`.
    before_ms: Option<i64>,
    drained: Option<Drained>,
    /// The sequence of the fence, where the events go on in the next stream.
    fence: Option<u64>,
}

/// Once everything up to `taken` is applied, everything up to `end` is: the messages between were
/// deleted.
#[derive(Debug, Clone, Copy)]
struct Drained {
    taken: u64,
    end: u64,
}

impl Freshness {
    /// The freshness of a store whose last applied message has this sequence and time.
    pub(crate) fn of(applied: u64, stored_ms: i64) -> Self {
        Self { as_of_ms: stored_ms, applied, ..Self::default() }
    }

    /// A batch was committed whose last message has this sequence and time.
    pub(crate) fn applied(&mut self, sequence: u64, stored_ms: i64) {
        self.applied = self.applied.max(sequence);
        self.as_of_ms = self.as_of_ms.max(stored_ms);
        self.prove();
    }

    /// Takes the stream's end, which was asked for at `asked`. An answer that comes after the
    /// answer to a later request is ignored.
    pub(crate) fn observed(&mut self, end: StreamEnd, asked: Instant) {
        if self.end.is_some_and(|(_, last)| asked < last) {
            return;
        }
        // Requests on two connections may be answered in another order.
        self.before_ms =
            self.end.map(|(before, _)| before.at_ms).filter(|before| *before < end.at_ms);
        self.end = Some((end, asked));
        self.prove();
    }

    /// The stream has no messages after `taken` up to `end`; both were known before the stream was
    /// asked.
    pub(crate) fn drained(&mut self, taken: u64, end: u64) {
        self.drained = Some(Drained { taken, end });
        self.prove();
    }

    /// The events go on in the next stream behind the message with this sequence.
    pub(crate) fn ends_at(&mut self, fence: u64) {
        self.fence = Some(fence);
    }

    /// The next stream is read, which has no message before the sequence `first`.
    pub(crate) fn next_stream(&mut self, fence: u64, first: u64) {
        (self.end, self.before_ms, self.fence) = (None, None, None);
        self.drained(fence, first.saturating_sub(1));
    }

    /// A known end proves the time of the end known before it, not its own: a message stored a
    /// moment before the server's answer may not have been in the stream's state yet.
    fn prove(&mut self) {
        if let (Some((end, _)), Some(before_ms)) = (self.end, self.before_ms)
            && self.sequence() >= end.last_sequence
            && self.fence.is_none_or(|fence| end.last_sequence < fence)
        {
            self.as_of_ms = self.as_of_ms.max(before_ms);
        }
    }

    /// Everything stored up to this instant (Unix milliseconds, the server's clock) is counted.
    pub(crate) fn as_of_ms(&self) -> i64 {
        self.as_of_ms
    }

    /// The sequence up to which everything is applied.
    pub(crate) fn sequence(&self) -> u64 {
        match self.drained {
            Some(drained) if self.applied >= drained.taken => self.applied.max(drained.end),
            _ => self.applied,
        }
    }

    /// That sequence, or the fence's if the stream's events end before.
    pub(crate) fn within(&self, sequence: u64) -> u64 {
        sequence.min(self.fence.unwrap_or(u64::MAX))
    }

    pub(crate) fn last_sequence(&self) -> u64 {
        let end = self.end.map_or(0, |(end, _)| end.last_sequence);
        self.within(end).max(self.sequence())
    }

    /// Upper bound for the age of the oldest unapplied message, in milliseconds; `None` before the
    /// stream's end is known.
    pub(crate) fn lag_ms(&self, now: Instant) -> Option<i64> {
        let (end, asked) = self.end?;
        let since =
            i64::try_from(now.saturating_duration_since(asked).as_millis()).unwrap_or(i64::MAX);
        Some(end.at_ms.saturating_add(since).saturating_sub(self.as_of_ms).max(0))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use botstats_common::io::clock::monotonic;

    use super::*;

    #[test]
    fn what_is_proven() {
        let start = monotonic();
        let mut fresh = Freshness::of(5, 1_000);
        assert_eq!((fresh.as_of_ms(), fresh.lag_ms(start)), (1_000, None));
        fresh.observed(StreamEnd { at_ms: 9_000, last_sequence: 7 }, start);
        assert_eq!((fresh.as_of_ms(), fresh.last_sequence()), (1_000, 7));
        assert_eq!(fresh.lag_ms(start), Some(8_000));
        fresh.applied(6, 2_000);
        assert_eq!(fresh.as_of_ms(), 2_000);
        fresh.observed(StreamEnd { at_ms: 9_500, last_sequence: 7 }, start);
        assert_eq!(fresh.as_of_ms(), 2_000);
        // With the last known end applied, the time of the end before it is proven.
        fresh.applied(7, 2_500);
        assert_eq!((fresh.as_of_ms(), fresh.lag_ms(start)), (9_000, Some(500)));
        assert_eq!(fresh.lag_ms(start + Duration::from_secs(3)), Some(3_500));
        fresh.observed(StreamEnd { at_ms: 12_000, last_sequence: 8 }, start);
        assert_eq!(fresh.as_of_ms(), 9_000);
    }

    #[test]
    fn an_end_that_comes_late_proves_nothing() {
        let start = monotonic();
        let after = |ms| start + Duration::from_millis(ms);
        let mut fresh = Freshness::of(5, 1_000);
        fresh.observed(StreamEnd { at_ms: 9_000, last_sequence: 5 }, after(0));
        fresh.observed(StreamEnd { at_ms: 9_500, last_sequence: 8 }, after(500));
        // Asked for in between, answered last: 6 to 8, stored before 9,500, are not applied.
        fresh.observed(StreamEnd { at_ms: 9_200, last_sequence: 5 }, after(200));
        assert_eq!((fresh.as_of_ms(), fresh.last_sequence()), (1_000, 8));
        fresh.applied(8, 9_400);
        assert_eq!(fresh.as_of_ms(), 9_400);
    }

    #[test]
    fn an_end_that_was_answered_before_the_one_asked_for_earlier_proves_nothing() {
        let start = monotonic();
        let after = |ms| start + Duration::from_millis(ms);
        let mut fresh = Freshness::of(5, 1_000);
        fresh.observed(StreamEnd { at_ms: 9_500, last_sequence: 8 }, after(0));
        // 6 to 8 were stored between the two answers.
        fresh.observed(StreamEnd { at_ms: 9_200, last_sequence: 5 }, after(200));
        assert_eq!(fresh.as_of_ms(), 1_000);
        fresh.observed(StreamEnd { at_ms: 9_800, last_sequence: 8 }, after(700));
        assert_eq!(fresh.as_of_ms(), 1_000);
        fresh.applied(8, 9_100);
        assert_eq!(fresh.as_of_ms(), 9_200);
    }

    #[test]
    fn sequences_without_a_message_are_passed() {
        let start = monotonic();
        let mut fresh = Freshness::default();
        let end = StreamEnd { at_ms: 9_000, last_sequence: 7 };
        fresh.observed(end, start);
        fresh.observed(StreamEnd { at_ms: 9_500, ..end }, start);
        // Up to 5 was taken, 6 and 7 are gone; nothing is applied yet.
        fresh.drained(5, 7);
        assert_eq!((fresh.sequence(), fresh.as_of_ms()), (0, 0));
        fresh.applied(5, 2_000);
        assert_eq!((fresh.sequence(), fresh.as_of_ms()), (7, 9_000));
        fresh.applied(8, 9_700);
        assert_eq!((fresh.sequence(), fresh.last_sequence()), (8, 8));
    }

    #[test]
    fn an_end_behind_the_fence_proves_nothing() {
        let start = monotonic();
        let mut fresh = Freshness::of(5, 1_000);
        fresh.ends_at(7);
        for at_ms in [9_000, 9_500] {
            fresh.observed(StreamEnd { at_ms, last_sequence: 7 }, start);
        }
        assert_eq!((fresh.sequence(), fresh.last_sequence()), (5, 7));
        fresh.applied(7, 2_000);
        assert_eq!(fresh.as_of_ms(), 2_000);
        fresh.observed(StreamEnd { at_ms: 9_800, last_sequence: 70 }, start);
        assert_eq!((fresh.as_of_ms(), fresh.last_sequence()), (2_000, 7));

        // The next stream is empty: nothing is left to apply, and two of its ends prove time.
        fresh.next_stream(7, 1_001);
        assert_eq!((fresh.sequence(), fresh.last_sequence()), (1_000, 1_000));
        fresh.observed(StreamEnd { at_ms: 10_000, last_sequence: 1_000 }, start);
        assert_eq!(fresh.as_of_ms(), 2_000);
        fresh.observed(StreamEnd { at_ms: 10_500, last_sequence: 1_003 }, start);
        assert_eq!(fresh.last_sequence() - fresh.sequence(), 3);
        fresh.applied(1_003, 10_400);
        assert_eq!(fresh.as_of_ms(), 10_400);
        fresh.observed(StreamEnd { at_ms: 11_000, last_sequence: 1_003 }, start);
        assert_eq!(fresh.as_of_ms(), 10_500);
    }
}
