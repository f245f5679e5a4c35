//! How the events of one conversation make sessions, and what sessions contribute
//! (`docs/metrics.md`).
//!
//! A fold: [`SessionState`] goes from event to event and emits [`Sample`]s as soon as they are
//! known. Two samples change until their session ends (conversation length, support length):
//! [`SessionState::open_samples`] emits them as they stand.
//!
//! *Invariants*: no clock, no timer: what a conversation contributes is a function of its events in
//! order. Events of one millisecond and kind may come in any order among themselves.

use botstats_common::metric::TypeCode;
use serde::{Deserialize, Serialize};

use crate::event::{Kind, flag};

/// The idle timeout in milliseconds: an event that follows the previous event after a longer pause
/// begins a new session.
pub(crate) const IDLE_MS: i64 = 30 * 60 * 1000;
/// The idle timeout while an operator is requested or in control, in milliseconds.
pub(crate) const IDLE_WITH_OPERATOR_MS: i64 = 24 * 60 * 60 * 1000;

/// The version of the rules in this file and in [`crate::fold::metrics`], by which stored sums are
/// made. Raise it with every change of what events contribute: a commit subtracts what old events
/// contributed before, so a store whose sums were made by other rules must be rebuilt.
pub(crate) const RULES: u32 = 1;

/// One contribution of an event or a session to a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The instant at which the sample counts, in Unix milliseconds.
    pub at_ms: i64,
    /// The metric.
    pub metric: TypeCode,
    /// Milliseconds for durations; for a ratio 1 if it belongs to the part, else 0; for counts 1.
    pub value: i64,
    /// 1, or -1 if it is taken back.
    pub sign: i64,
}

impl Sample {
    #[must_use]
    pub fn new(at_ms: i64, metric: TypeCode, value: i64) -> Self {
        Self { at_ms, metric, value, sign: 1 }
    }

    #[must_use]
    pub fn taken_back(self) -> Self {
        Self { sign: -self.sign, ..self }
    }
}

/// An event as the fold sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// When it happened.
    pub time_ms: i64,
    /// What it is.
    pub kind: Kind,
    /// Bits of [`flag`].
    pub flags: u8,
}

/// Where a conversation stands between two events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionState {
    /// The previous event of the session; none if the next event starts one.
    previous_ms: Option<i64>,
    /// The session's first `message.received`.
    first_received_ms: Option<i64>,
    /// The session's last message.
    last_message_ms: Option<i64>,
    /// Since when an operator is requested.
    requested_ms: Option<i64>,
    /// The operator in control.
    control: Option<Control>,
    /// Whether the session had a join.
    joined: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Control {
    joined_ms: i64,
    last_message_ms: i64,
    /// Joined explicitly and has not yet written.
    awaits_first_message: bool,
}

impl SessionState {
    /// True if an event at `time_ms` can follow.
    #[must_use]
    pub fn is_before(&self, time_ms: i64) -> bool {
        self.previous_ms.is_none_or(|previous| previous <= time_ms)
    }

    /// Folds the next event of the timeline.
    pub fn step(&mut self, event: Step, emit: &mut impl FnMut(Sample)) {
        let now = event.time_ms;
        if let Some(previous) = self.previous_ms {
            let with_operator = self.requested_ms.is_some() || self.control.is_some();
            let idle = if with_operator { IDLE_WITH_OPERATOR_MS } else { IDLE_MS };
            if now - previous > idle {
                self.end(emit);
            }
        }
        self.previous_ms = Some(now);
        match event.kind {
            Kind::Received => {
                if self.first_received_ms.is_none() {
                    self.first_received_ms = Some(now);
                    let takeover = i64::from(self.joined);
                    emit(Sample::new(now, TypeCode::TakeoverRate, takeover));
                }
                self.message(now);
            }
            Kind::Sent => self.message(now),
            Kind::Requested => {
                if self.requested_ms.is_none() && self.control.is_none() {
                    self.requested_ms = Some(now);
                }
            }
            Kind::Joined => {
                if self.control.is_none() {
                    self.join(now, true, emit);
                }
            }
            Kind::OperatorMessage => {
                self.message(now);
                if event.flags & flag::AUTOMATIC == 0 {
                    match &mut self.control {
                        None => self.join(now, false, emit),
                        Some(control) if control.awaits_first_message => {
                            control.awaits_first_message = false;
                            let waited_ms = now - control.joined_ms;
                            emit(Sample::new(now, TypeCode::TimeToFirstMessage, waited_ms));
                        }
                        Some(_) => {}
                    }
                }
            }
            Kind::Released => {
                if let Some(control) = self.control.take() {
                    emit(support(now, &control));
                }
            }
            Kind::Ended => self.end(emit),
            Kind::Nlp | Kind::Integration | Kind::Goal | Kind::Tag => {}
        }
    }

    /// Emits the samples of an open session as they stand.
    pub fn open_samples(&self, emit: &mut impl FnMut(Sample)) {
        if let (Some(first), Some(last)) = (self.first_received_ms, self.last_message_ms) {
            emit(Sample::new(last, TypeCode::ConversationLength, last - first));
        }
        if let Some(control) = &self.control {
            emit(support(control.last_message_ms, control));
        }
    }

    fn end(&mut self, emit: &mut impl FnMut(Sample)) {
        self.open_samples(emit);
        *self = Self::default();
    }

    fn message(&mut self, now: i64) {
        self.last_message_ms = Some(now);
        if let Some(control) = &mut self.control {
            control.last_message_ms = now;
        }
    }

    fn join(&mut self, now: i64, explicit: bool, emit: &mut impl FnMut(Sample)) {
        if let Some(requested) = self.requested_ms.take() {
            emit(Sample::new(now, TypeCode::TimeToPickUp, now - requested));
        }
        self.control =
            Some(Control { joined_ms: now, last_message_ms: now, awaits_first_message: explicit });
        if !self.joined {
            self.joined = true;
            if let Some(first) = self.first_received_ms {
                // Until now the session counted as one without a join.
                emit(Sample::new(first, TypeCode::TakeoverRate, 0).taken_back());
                emit(Sample::new(first, TypeCode::TakeoverRate, 1));
            }
        }
    }
}

fn support(at_ms: i64, control: &Control) -> Sample {
    Sample::new(at_ms, TypeCode::SupportLength, at_ms - control.joined_ms)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use Kind::*;
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;
    use crate::fold::metrics::{counted, source};

    const MIN: i64 = 60_000;

    /// Folds (minutes, kind, flags) and gives all samples that are not taken back, open ones last:
    /// (minute, metric, value; durations in minutes).
    fn samples(events: &[(i64, Kind, u8)]) -> Vec<(i64, TypeCode, i64)> {
        let mut all = Vec::new();
        let mut emit = |s: Sample| {
            let unit = if s.metric == TypeCode::TakeoverRate { 1 } else { MIN };
            let sample = (s.at_ms / MIN, s.metric, s.value / unit);
            if s.sign == 1 {
                all.push(sample);
            } else {
                let place = all.iter().position(|other| *other == sample).unwrap();
                all.remove(place);
            }
        };
        let mut state = SessionState::default();
        for &(minute, kind, flags) in events {
            state.step(Step { time_ms: minute * MIN, kind, flags }, &mut emit);
        }
        state.open_samples(&mut emit);
        all
    }

    #[test]
    fn sessions_as_cases() {
        use TypeCode::{
            ConversationLength, SupportLength, TakeoverRate, TimeToFirstMessage, TimeToPickUp,
        };
        let auto = flag::AUTOMATIC;
        let check = |events: &[(i64, Kind, u8)], expect: &[(i64, TypeCode, i64)]| {
            assert_eq!(samples(events), expect, "{events:?}");
        };
        // Exactly 30 minutes still belongs to the session; one more does not.
        check(
            &[(0, Received, 0), (30, Sent, 0)],
            &[(0, TakeoverRate, 0), (30, ConversationLength, 30)],
        );
        check(
            &[(0, Received, 0), (31, Sent, 0)],
            &[(0, TakeoverRate, 0), (0, ConversationLength, 0)],
        );
        // Any event keeps a session alive, only messages lengthen it.
        check(
            &[(0, Received, 0), (20, Kind::Tag, 0), (45, Sent, 0)],
            &[(0, TakeoverRate, 0), (45, ConversationLength, 45)],
        );
        // Requested: 24 hours.
        check(
            &[(0, Received, 0), (1, Requested, 0), (1 + 24 * 60, Joined, 0)],
            &[
                (1441, TimeToPickUp, 1440),
                (0, TakeoverRate, 1),
                (0, ConversationLength, 0),
                (1441, SupportLength, 0),
            ],
        );
        check(
            &[(0, Received, 0), (1, Requested, 0), (2 + 24 * 60, Joined, 0)],
            &[(0, TakeoverRate, 0), (0, ConversationLength, 0), (1442, SupportLength, 0)],
        );
        // A request while in control changes nothing; a release does not clear a request.
        check(
            &[(0, Joined, 0), (1, Requested, 0), (2, Released, 0), (3, Joined, 0)],
            &[(2, SupportLength, 2), (3, SupportLength, 0)],
        );
        check(
            &[(0, Requested, 0), (1, Released, 0), (5, Joined, 0)],
            &[(5, TimeToPickUp, 5), (5, SupportLength, 0)],
        );
        // An implied join feeds 9, 10 and 11 but not 16; an automatic message is no join.
        check(
            &[
                (0, Received, 0),
                (1, Requested, 0),
                (2, OperatorMessage, auto),
                (3, OperatorMessage, 0),
                (5, OperatorMessage, 0),
            ],
            &[
                (3, TimeToPickUp, 2),
                (0, TakeoverRate, 1),
                (5, ConversationLength, 5),
                (5, SupportLength, 2),
            ],
        );
        // 16: explicit join to the first message that is not automatic, before the release.
        check(
            &[
                (0, Joined, 0),
                (1, OperatorMessage, auto),
                (4, OperatorMessage, 0),
                (6, OperatorMessage, 0),
            ],
            &[(4, TimeToFirstMessage, 4), (6, SupportLength, 6)],
        );
        check(
            &[(0, Joined, 0), (1, Released, 0), (2, OperatorMessage, 0)],
            &[(1, SupportLength, 1), (2, SupportLength, 0)],
        );
        // Joining while in control changes nothing.
        check(
            &[(0, OperatorMessage, 0), (1, Joined, 0), (3, OperatorMessage, 0)],
            &[(3, SupportLength, 3)],
        );
        // The takeover counts at the session's first received message, whichever comes first.
        check(
            &[(0, Joined, 0), (2, Received, 0)],
            &[(2, TakeoverRate, 1), (2, ConversationLength, 0), (2, SupportLength, 2)],
        );
        // Ended cuts at once; state does not cross.
        check(
            &[
                (0, Received, 0),
                (1, Joined, 0),
                (2, Ended, 0),
                (3, OperatorMessage, auto),
                (4, Received, 0),
            ],
            &[
                (0, TakeoverRate, 1),
                (0, ConversationLength, 0),
                (1, SupportLength, 0),
                (4, TakeoverRate, 0),
                (4, ConversationLength, 0),
            ],
        );
    }

    /// The version of the rules, and a hash of what [`the_rules_have_a_version`] counts by them.
    const GOLDEN: (u32, u64) = (1, 18_399_241_456_429_852_854);

    /// Compares a hash of what a thousand conversations and each event by itself contribute.
    #[test]
    fn the_rules_have_a_version() {
        let mut text = String::new();
        let mut random = 7_u64;
        let mut below = |n: usize| {
            // The linear congruential generator of Knuth's MMIX.
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(random >> 33).unwrap() % n
        };
        for kind in Kind::ALL {
            for flags in 0..4 {
                writeln!(text, "{kind:?} {flags} {:?}", counted(kind, flags)).unwrap();
            }
        }
        for code in TypeCode::ALL {
            writeln!(text, "{code} {:?}", source(code)).unwrap();
        }
        for _ in 0..1000 {
            let mut minute = 0;
            let mut events = Vec::new();
            for _ in 0..below(30) {
                minute += [0, 1, 2, 5, 29, 30, 31, 24 * 60, 24 * 60 + 1][below(9)];
                let kind = Kind::ALL[below(Kind::ALL.len())];
                events.push((minute, kind, u8::try_from(below(4)).unwrap()));
            }
            writeln!(text, "{:?}", samples(&events)).unwrap();
        }
        let found = (RULES, xxh3_64(text.as_bytes()));
        assert_eq!(
            found, GOLDEN,
            "events contribute something else than before: stored sums can't be continued. Raise RULES, so \
             that stores are rebuilt, and put the new pair into GOLDEN"
        );
    }
}
