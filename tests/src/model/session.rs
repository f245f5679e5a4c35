//! How a conversation is cut into sessions, and what a session contributes.

use super::accept::{Event, Kind};
use super::{Sample, count};

const IDLE_MS: i64 = 30 * 60_000;
const IDLE_WITH_OPERATOR_MS: i64 = 24 * 3_600_000;

/// Whether an operator is wanted or there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operator<'e> {
    Nobody,
    Requested { at_ms: i64 },
    InControl { join: &'e Event, awaits_first_message: bool },
}

impl<'e> Operator<'e> {
    /// The longest pause after which an event still belongs to the session.
    pub(super) fn idle_ms(self) -> i64 {
        match self {
            Operator::Nobody => IDLE_MS,
            Operator::Requested { .. } | Operator::InControl { .. } => IDLE_WITH_OPERATOR_MS,
        }
    }

    fn is_in_control(self) -> bool {
        matches!(self, Operator::InControl { .. })
    }

    /// Whether the event is the join of an operator.
    fn is_joined_by(self, event: &Event) -> bool {
        let joins = matches!(event.kind, Kind::Joined | Kind::OperatorMessage { automatic: false });
        joins && !self.is_in_control()
    }

    /// Whether the event is a request that somebody has to answer.
    fn is_requested_by(self, event: &Event) -> bool {
        matches!(self, Operator::Nobody) && event.kind == Kind::Requested
    }

    fn after(self, event: &'e Event) -> Self {
        if self.is_joined_by(event) {
            let awaits_first_message = event.kind == Kind::Joined;
            return Operator::InControl { join: event, awaits_first_message };
        }
        if self.is_requested_by(event) {
            return Operator::Requested { at_ms: event.time_ms };
        }
        match (self, event.kind) {
            (Operator::InControl { join, .. }, Kind::OperatorMessage { automatic: false }) => {
                Operator::InControl { join, awaits_first_message: false }
            }
            (Operator::InControl { .. }, Kind::Released) => Operator::Nobody,
            _ => self,
        }
    }
}

/// Sorts the events of a conversation: by time, type and operator as sent, and what still ties by
/// source and id.
pub(super) fn sort(events: &mut [&Event]) {
    // Nothing sorts before any text. Other types than those of operators have no `operatorid`.
    fn place(event: &Event) -> (i64, u8, Option<&str>, &str, &str) {
        let operator = event.field("operatorid");
        (event.time_ms, event.kind.rank(), operator, &event.source, &event.id)
    }
    events.sort_by(|a, b| place(a).cmp(&place(b)));
}

/// Cuts the sorted events of a conversation into sessions.
pub(super) fn cut<'a, 'e>(events: &'a [&'e Event]) -> Vec<&'a [&'e Event]> {
    let mut sessions = Vec::new();
    let mut start = 0;
    let mut operator = Operator::Nobody;
    for (i, event) in events.iter().enumerate() {
        if i > start {
            let previous = events[i - 1];
            let pause_ms = event.time_ms - previous.time_ms;
            if previous.kind == Kind::Ended || pause_ms > operator.idle_ms() {
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

/// What one session contributes.
pub(super) fn samples(session: &[&Event]) -> Vec<Sample> {
    let mut samples = operators(session);
    samples.extend(requests(session));
    samples.extend(replies(session));
    samples.extend(outcomes(session));
    samples
}

/// The operator in control, or wanted, before each event of the session, and after the last.
pub(super) fn states<'e>(session: &[&'e Event]) -> Vec<Operator<'e>> {
    let mut states = vec![Operator::Nobody];
    for event in session {
        states.push(states[states.len() - 1].after(event));
    }
    states
}

/// The codes 9, 11 and 16: what operators do.
fn operators(session: &[&Event]) -> Vec<Sample> {
    let states = states(session);
    let mut samples = Vec::new();
    for (event, before) in session.iter().zip(&states) {
        let now_ms = event.time_ms;
        match *before {
            Operator::Requested { at_ms } if before.is_joined_by(event) => {
                samples.push(count::duration(9, at_ms, now_ms).named_by(event));
            }
            Operator::InControl { join, awaits_first_message } => {
                let by_person = event.kind == Kind::OperatorMessage { automatic: false };
                if awaits_first_message && by_person {
                    samples.push(count::duration(16, join.time_ms, now_ms).named_by(event));
                }
                if event.kind == Kind::Released {
                    samples.push(count::duration(11, join.time_ms, now_ms).named_by(join));
                }
            }
            Operator::Nobody | Operator::Requested { .. } => {}
        }
    }
    if let Operator::InControl { join, .. } = states[session.len()] {
        let last_ms = last_message_ms(session).filter(|ms| *ms >= join.time_ms);
        let end_ms = last_ms.unwrap_or(join.time_ms);
        samples.push(count::duration(11, join.time_ms, end_ms).named_by(join));
    }
    samples
}

/// The code 102: of the requests, those that no join answers.
fn requests(session: &[&Event]) -> Vec<Sample> {
    let states = states(session);
    let mut samples = Vec::new();
    for (place, event) in session.iter().enumerate() {
        if states[place].is_requested_by(event) {
            let later = place + 1..session.len();
            let answered = later.into_iter().any(|at| states[at].is_joined_by(session[at]));
            samples.push(count::share(102, event.time_ms, !answered));
        }
    }
    samples
}

/// The codes 105 and 106: how long users wait for an answer.
fn replies(session: &[&Event]) -> Vec<Sample> {
    let states = states(session);
    // Where the last answer is.
    let mut after = 0;
    let mut samples = Vec::new();
    for (place, event) in session.iter().enumerate() {
        let by_bot = matches!(event.kind, Kind::Sent { .. }) && !states[place].is_in_control();
        let by_person = event.kind == Kind::OperatorMessage { automatic: false };
        if !by_bot && !by_person {
            continue;
        }
        let unanswered = (after..place).find(|&at| session[at].kind == Kind::Received);
        after = place;
        let Some(question) = unanswered else { continue };
        let asked_ms = session[question].time_ms;
        if by_bot {
            samples.push(count::duration(105, asked_ms, event.time_ms));
        } else {
            let is_join = |at: &usize| {
                session[*at].kind == Kind::Joined && states[*at].is_joined_by(session[*at])
            };
            let join_ms = (question..place).rev().find(is_join).map(|at| session[at].time_ms);
            let from_ms = join_ms.unwrap_or(asked_ms);
            samples.push(count::duration(106, from_ms, event.time_ms).named_by(event));
        }
    }
    samples
}

/// What a session with a `message.received` counts for: the codes 8, 10, 100, 101, 103 and 104.
fn outcomes(session: &[&Event]) -> Vec<Sample> {
    let first_received = session.iter().find(|e| e.kind == Kind::Received);
    let (Some(first), Some(last_ms)) = (first_received, last_message_ms(session)) else {
        return Vec::new();
    };
    let states = states(session);
    let joined = session.iter().zip(&states).any(|(event, before)| before.is_joined_by(event));
    let has = |kind| session.iter().any(|e| e.kind == kind);
    let messages = session.iter().filter(|e| e.kind.is_message()).count();
    let at_ms = first.time_ms;
    vec![
        count::duration(8, at_ms, last_ms),
        count::share(10, at_ms, joined),
        count::one(100, at_ms),
        count::share(101, at_ms, !joined && !has(Kind::Requested)),
        count::share(103, at_ms, has(Kind::Goal)),
        Sample { sum: messages.try_into().expect("a number of events"), ..count::one(104, at_ms) },
    ]
}

fn last_message_ms(session: &[&Event]) -> Option<i64> {
    session.iter().filter(|e| e.kind.is_message()).map(|e| e.time_ms).max()
}
