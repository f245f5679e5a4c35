//! How a conversation is cut into sessions, and what a session contributes.

use super::accept::{Event, Kind};
use super::{Sample, count};

const IDLE_MS: i64 = 30 * 60_000;
const IDLE_WITH_OPERATOR_MS: i64 = 24 * 3_600_000;

/// Whether an operator is wanted or there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Nobody,
    Requested { at_ms: i64 },
    InControl { since_ms: i64, awaits_first_message: bool },
}

impl Operator {
    /// Whether the event is the join of an operator.
    fn is_joined_by(self, event: &Event) -> bool {
        let in_control = matches!(self, Operator::InControl { .. });
        let joins = matches!(event.kind, Kind::Joined | Kind::OperatorMessage { automatic: false });
        joins && !in_control
    }

    fn after(self, event: &Event) -> Self {
        let at_ms = event.time_ms;
        if self.is_joined_by(event) {
            let awaits_first_message = event.kind == Kind::Joined;
            return Operator::InControl { since_ms: at_ms, awaits_first_message };
        }
        match (self, event.kind) {
            (Operator::Nobody, Kind::Requested) => Operator::Requested { at_ms },
            (Operator::InControl { since_ms, .. }, Kind::OperatorMessage { automatic: false }) => {
                Operator::InControl { since_ms, awaits_first_message: false }
            }
            (Operator::InControl { .. }, Kind::Released) => Operator::Nobody,
            _ => self,
        }
    }
}

/// Cuts the sorted events of a conversation into sessions.
pub(super) fn cut<'a, 'e>(events: &'a [&'e Event]) -> Vec<&'a [&'e Event]> {
    let mut sessions = Vec::new();
    let mut start = 0;
    let mut operator = Operator::Nobody;
    for (i, event) in events.iter().enumerate() {
        if i > start {
            let previous = events[i - 1];
            let idle_ms = match operator {
                Operator::Nobody => IDLE_MS,
                _ => IDLE_WITH_OPERATOR_MS,
            };
            if previous.kind == Kind::Ended || event.time_ms - previous.time_ms > idle_ms {
                sessions.push(&events[start..i]);
                start = i;
                operator = Operator::Nobody;
            }
        }
        operator = operator.after(event);
    }
    if start < events.len() {
        sessions.push(&events[start..]);
    }
    sessions
}

/// What one session contributes to the codes 8, 9, 10, 11 and 16.
pub(super) fn samples(session: &[&Event]) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut taken_over = false;
    let mut operator = Operator::Nobody;
    for event in session {
        let now_ms = event.time_ms;
        if operator.is_joined_by(event) {
            taken_over = true;
            if let Operator::Requested { at_ms } = operator {
                samples.push(count::duration(9, at_ms, now_ms));
            }
        }
        if let Operator::InControl { since_ms, awaits_first_message } = operator {
            let by_person = event.kind == Kind::OperatorMessage { automatic: false };
            if awaits_first_message && by_person {
                samples.push(count::duration(16, since_ms, now_ms));
            }
            if event.kind == Kind::Released {
                samples.push(count::duration(11, since_ms, now_ms));
            }
        }
        operator = operator.after(event);
    }
    let messages = session.iter().filter(|e| e.kind.is_message());
    let last_message_ms = messages.map(|e| e.time_ms).max();
    if let Operator::InControl { since_ms, .. } = operator {
        let end_ms = last_message_ms.filter(|ms| *ms >= since_ms).unwrap_or(since_ms);
        samples.push(count::duration(11, since_ms, end_ms));
    }
    let first_received = session.iter().find(|e| e.kind == Kind::Received);
    if let (Some(first), Some(last_ms)) = (first_received, last_message_ms) {
        samples.push(count::duration(8, first.time_ms, last_ms));
        let sum = u64::from(taken_over);
        samples.push(Sample { time_ms: first.time_ms, code: 10, count: 1, sum });
    }
    samples
}
