//! How the events of one conversation make sessions, and what sessions contribute (`docs/metrics.md`).
//!
//! A fold: [`State`] goes from event to event and hands out [`Sample`]s. A sample is handed out once it
//! is known; the two that still move while a session is open (conversation length, support length)
//! are what [`State::open_samples`] gives.
//!
//! *Invariants*: no clock, no timer: what a conversation contributes is a function of its events in
//! order. Events of one millisecond and kind may come in any order among themselves.

use serde::{Deserialize, Serialize};

use crate::bucket::Field;
use crate::event::{Kind, flag};

/// A session ends before an event that comes more than this after the previous one.
pub const IDLE_MS: i64 = 30 * 60 * 1000;
/// The same while an operator is requested or in control.
pub const IDLE_WITH_OPERATOR_MS: i64 = 24 * 60 * 60 * 1000;

/// What one event or session adds to a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Where it counts.
    pub at_ms: i64,
    /// What of.
    pub field: Field,
    /// Milliseconds for durations, 1 for counts.
    pub amount: i64,
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
pub struct State {
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

impl State {
    /// Whether it is one from before that moment, so that an event of then can follow.
    #[must_use]
    pub fn is_before(&self, time_ms: i64) -> bool {
        self.previous_ms.is_none_or(|previous| previous <= time_ms)
    }

    /// Takes one more event. Events must come in the order of their timeline.
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
                    emit(Sample { at_ms: now, field: Field::Sessions, amount: 1 });
                    if self.joined {
                        emit(Sample { at_ms: now, field: Field::Takeovers, amount: 1 });
                    }
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
                            let amount = now - control.joined_ms;
                            emit(Sample { at_ms: now, field: Field::FirstMessageSum, amount });
                            emit(Sample { at_ms: now, field: Field::FirstMessageCount, amount: 1 });
                        }
                        Some(_) => {}
                    }
                }
            }
            Kind::Released => {
                if let Some(control) = self.control.take() {
                    support(now, now - control.joined_ms, emit);
                }
            }
            Kind::Ended => self.end(emit),
            Kind::Nlp | Kind::Integration | Kind::Goal | Kind::Tag => {}
        }
    }

    /// The samples of an open session, as they stand with what it has so far.
    pub fn open_samples(&self, emit: &mut impl FnMut(Sample)) {
        if let (Some(first), Some(last)) = (self.first_received_ms, self.last_message_ms) {
            emit(Sample { at_ms: last, field: Field::LengthSum, amount: last - first });
            emit(Sample { at_ms: last, field: Field::LengthCount, amount: 1 });
        }
        if let Some(control) = &self.control {
            support(control.last_message_ms, control.last_message_ms - control.joined_ms, emit);
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
            emit(Sample { at_ms: now, field: Field::PickUpSum, amount: now - requested });
            emit(Sample { at_ms: now, field: Field::PickUpCount, amount: 1 });
        }
        self.control =
            Some(Control { joined_ms: now, last_message_ms: now, awaits_first_message: explicit });
        if !self.joined {
            self.joined = true;
            if let Some(first) = self.first_received_ms {
                emit(Sample { at_ms: first, field: Field::Takeovers, amount: 1 });
            }
        }
    }
}

fn support(at_ms: i64, amount: i64, emit: &mut impl FnMut(Sample)) {
    emit(Sample { at_ms, field: Field::SupportSum, amount });
    emit(Sample { at_ms, field: Field::SupportCount, amount: 1 });
}

/// What one event counts by itself, whatever its session.
#[must_use]
pub fn counted(kind: Kind, flags: u8) -> &'static [Field] {
    let has = |bit: u8| flags & bit != 0;
    match kind {
        Kind::Received => &[Field::Incoming],
        Kind::Sent if has(flag::FALLBACK) => &[Field::Messages, Field::Fallback],
        Kind::Sent => &[Field::Messages],
        Kind::Nlp if has(flag::DETECTED) => &[Field::NlpDetected],
        Kind::Nlp => &[Field::NlpMissed],
        Kind::Integration if has(flag::API) && has(flag::FAILED) => {
            &[Field::Actions, Field::Api, Field::ApiErrors]
        }
        Kind::Integration if has(flag::API) => &[Field::Actions, Field::Api],
        Kind::Integration => &[Field::Actions],
        Kind::OperatorMessage if !has(flag::AUTOMATIC) => &[Field::OperatorMessages],
        Kind::Goal => &[Field::Goals],
        Kind::Tag => &[Field::Tags],
        Kind::OperatorMessage | Kind::Requested | Kind::Joined | Kind::Released | Kind::Ended => {
            &[]
        }
    }
}

#[cfg(test)]
mod tests {
    use Kind::*;

    use super::*;

    const MIN: i64 = 60_000;

    /// Folds (minutes, kind, flags) and gives all samples, open ones last, as (minute, field, amount
    /// in minutes for durations).
    fn samples(events: &[(i64, Kind, u8)]) -> Vec<(i64, Field, i64)> {
        let mut all = Vec::new();
        let mut emit = |s: Sample| {
            // Counts of durations go with their sums; leave them out here.
            match s.field {
                Field::LengthCount
                | Field::PickUpCount
                | Field::SupportCount
                | Field::FirstMessageCount => {}
                Field::Sessions | Field::Takeovers => all.push((s.at_ms / MIN, s.field, s.amount)),
                _ => all.push((s.at_ms / MIN, s.field, s.amount / MIN)),
            }
        };
        let mut state = State::default();
        for &(minute, kind, flags) in events {
            state.step(Step { time_ms: minute * MIN, kind, flags }, &mut emit);
        }
        state.open_samples(&mut emit);
        all
    }

    #[test]
    fn sessions_as_cases() {
        use Field::*;
        let auto = flag::AUTOMATIC;
        let check = |events: &[(i64, Kind, u8)], expect: &[(i64, Field, i64)]| {
            assert_eq!(samples(events), expect, "{events:?}");
        };
        // Exactly 30 minutes still belongs to the session; one more does not.
        check(&[(0, Received, 0), (30, Sent, 0)], &[(0, Sessions, 1), (30, LengthSum, 30)]);
        check(&[(0, Received, 0), (31, Sent, 0)], &[(0, Sessions, 1), (0, LengthSum, 0)]);
        // Any event keeps a session alive, only messages lengthen it.
        check(
            &[(0, Received, 0), (20, Kind::Tag, 0), (45, Sent, 0)],
            &[(0, Sessions, 1), (45, LengthSum, 45)],
        );
        // Requested: 24 hours.
        check(
            &[(0, Received, 0), (1, Requested, 0), (1 + 24 * 60, Joined, 0)],
            &[
                (0, Sessions, 1),
                (1441, PickUpSum, 1440),
                (0, Takeovers, 1),
                (0, LengthSum, 0),
                (1441, SupportSum, 0),
            ],
        );
        check(
            &[(0, Received, 0), (1, Requested, 0), (2 + 24 * 60, Joined, 0)],
            &[(0, Sessions, 1), (0, LengthSum, 0), (1442, SupportSum, 0)],
        );
        // A request while in control changes nothing; a release does not clear a request.
        check(
            &[(0, Joined, 0), (1, Requested, 0), (2, Released, 0), (3, Joined, 0)],
            &[(2, SupportSum, 2), (3, SupportSum, 0)],
        );
        check(
            &[(0, Requested, 0), (1, Released, 0), (5, Joined, 0)],
            &[(5, PickUpSum, 5), (5, SupportSum, 0)],
        );
        // An implied join feeds 9, 10 and 11 but starts no 16; an automatic message is none.
        check(
            &[
                (0, Received, 0),
                (1, Requested, 0),
                (2, OperatorMessage, auto),
                (3, OperatorMessage, 0),
                (5, OperatorMessage, 0),
            ],
            &[
                (0, Sessions, 1),
                (3, PickUpSum, 2),
                (0, Takeovers, 1),
                (5, LengthSum, 5),
                (5, SupportSum, 2),
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
            &[(4, FirstMessageSum, 4), (6, SupportSum, 6)],
        );
        check(
            &[(0, Joined, 0), (1, Released, 0), (2, OperatorMessage, 0)],
            &[(1, SupportSum, 1), (2, SupportSum, 0)],
        );
        // Joining while in control changes nothing.
        check(
            &[(0, OperatorMessage, 0), (1, Joined, 0), (3, OperatorMessage, 0)],
            &[(3, SupportSum, 3)],
        );
        // The takeover counts at the session's first received message, whichever comes first.
        check(
            &[(0, Joined, 0), (2, Received, 0)],
            &[(2, Sessions, 1), (2, Takeovers, 1), (2, LengthSum, 0), (2, SupportSum, 2)],
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
                (0, Sessions, 1),
                (0, Takeovers, 1),
                (0, LengthSum, 0),
                (1, SupportSum, 0),
                (4, Sessions, 1),
                (4, LengthSum, 0),
            ],
        );
    }
}
