//! How the events of one conversation make sessions, and what sessions contribute
//! (`docs/metrics.md`).
//!
//! A fold: [`SessionState`] goes from event to event and emits [`Sample`]s as soon as they are
//! final. What can still change while the session lasts is not emitted on the way:
//! [`SessionState::open_samples`] emits it as it stands.
//!
//! *Invariants*: no clock, no timer: what a conversation contributes is a function of its events in
//! order. Events of one millisecond, kind and operator may come in any order among themselves.

mod stored;

use botstats_common::metric::TypeCode;

use crate::event::{Kind, flag};
use crate::fold::names::NameId;

/// The idle timeout in milliseconds: an event that follows the previous event after a longer pause
/// begins a new session.
pub(crate) const IDLE_MS: i64 = 30 * 60 * 1000;
/// The idle timeout while an operator is requested or in control, in milliseconds.
pub(crate) const IDLE_WITH_OPERATOR_MS: i64 = 24 * 60 * 60 * 1000;

/// The version of the rules in this file and in [`crate::fold::metrics`], by which stored sums are
/// made. Raise it with every change of what events contribute: a commit subtracts what old events
/// contributed before, so a store whose sums were made by other rules must be rebuilt.
pub(crate) const RULES: u32 = 2;

/// The metrics that a session with a `message.received` feeds there, all from one list of values.
/// The first counts the session; the others add to their sums alone.
const OF_SESSION: [TypeCode; 5] = [
    TypeCode::Conversations,
    TypeCode::TakeoverRate,
    TypeCode::ContainedRate,
    TypeCode::GoalRate,
    TypeCode::MessagesPerConversation,
];

/// One contribution of an event or a session to a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    /// The instant at which the sample counts, in Unix milliseconds.
    pub(crate) at_ms: i64,
    /// The metric.
    pub(crate) metric: TypeCode,
    /// Milliseconds for durations; for a ratio 1 if it belongs to the part, else 0; for counts 1;
    /// for messages per conversation messages.
    pub(crate) value: i64,
    /// 1, or -1 if it is taken back.
    pub(crate) sign: i64,
    /// The operator to whom a sample of `split=operator` belongs.
    pub(crate) operator: NameId,
}

impl Sample {
    pub(crate) fn new(at_ms: i64, metric: TypeCode, value: i64) -> Self {
        Self { at_ms, metric, value, sign: 1, operator: NameId::ABSENT }
    }

    pub(crate) fn taken_back(self) -> Self {
        Self { sign: -self.sign, ..self }
    }

    fn of(self, operator: NameId) -> Self {
        Self { operator, ..self }
    }
}

/// An event as the fold sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// When it happened.
    pub(crate) time_ms: i64,
    /// What it is.
    pub(crate) kind: Kind,
    /// Bits of [`flag`].
    pub(crate) flags: u8,
    /// The operator that it names.
    pub(crate) operator: NameId,
}

/// Where a conversation stands between two events. The default has no open session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SessionState {
    /// The last event of the session; none if the next event starts one.
    last_ms: Option<i64>,
    received: Option<Received>,
    messages: Option<Messages>,
    /// The session has a `goal.reached`.
    has_goal: bool,
    /// The session has an `operator.requested`, whether that set `requested_ms` or not.
    asked: bool,
    /// The session has a join.
    joined: bool,
    /// Since when an operator is requested.
    requested_ms: Option<i64>,
    /// The operator in control.
    control: Option<Control>,
}

/// The session's `message.received` events.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Received {
    first_ms: i64,
    last_ms: i64,
    unanswered: Option<Unanswered>,
}

/// What the next answer answers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unanswered {
    /// The first `message.received` since the last answer.
    since_ms: i64,
    /// The last explicit join after it.
    joined_ms: Option<i64>,
}

/// The session's messages of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Messages {
    count: u32,
    last_ms: i64,
    last_is_received: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Control {
    joined_ms: i64,
    last_message_ms: i64,
    /// Joined explicitly and has not yet written.
    awaits_first_message: bool,
    operator: NameId,
}

impl SessionState {
    /// The idle timeout that applies, in milliseconds.
    pub(crate) fn idle_ms(&self) -> i64 {
        let with_operator = self.requested_ms.is_some() || self.control.is_some();
        if with_operator { IDLE_WITH_OPERATOR_MS } else { IDLE_MS }
    }

    /// True if an event at that instant, not before the last one, belongs to the open session.
    pub(crate) fn alive_at(&self, ms: i64) -> bool {
        self.last_ms.is_some_and(|last| ms - last <= self.idle_ms())
    }

    /// The instant of the open session's last event, in Unix milliseconds.
    pub(crate) fn last_event_ms(&self) -> Option<i64> {
        self.last_ms
    }

    /// True if the open session has a message, a request or a join.
    pub(crate) fn has_message_or_operator(&self) -> bool {
        self.messages.is_some() || self.asked || self.joined
    }

    /// Since when an operator is requested, in Unix milliseconds.
    pub(crate) fn requested_ms(&self) -> Option<i64> {
        self.requested_ms
    }

    /// True if an operator is in control.
    pub(crate) fn is_in_control(&self) -> bool {
        self.control.is_some()
    }

    /// True if the open session's last message is a `message.received`.
    pub(crate) fn last_message_is_received(&self) -> bool {
        self.messages.as_ref().is_some_and(|messages| messages.last_is_received)
    }

    /// The instant of the open session's last `message.received`, in Unix milliseconds.
    pub(crate) fn last_received_ms(&self) -> Option<i64> {
        self.received.as_ref().map(|received| received.last_ms)
    }

    /// Folds the next event of the timeline. Never takes a sample back.
    pub(crate) fn step(&mut self, event: Step, emit: &mut impl FnMut(Sample)) {
        let now = event.time_ms;
        if !event.kind.is_of_session() {
            return;
        }
        if self.last_ms.is_some() && !self.alive_at(now) {
            self.end(emit);
        }
        self.last_ms = Some(now);
        match event.kind {
            Kind::Received => self.received(now),
            Kind::Sent => {
                self.message(now, false);
                if self.control.is_none()
                    && let Some(unanswered) = self.answer()
                {
                    let waited_ms = now - unanswered.since_ms;
                    emit(Sample::new(now, TypeCode::BotReplyTime, waited_ms));
                }
            }
            Kind::Requested => {
                self.asked = true;
                if self.requested_ms.is_none() && self.control.is_none() {
                    self.requested_ms = Some(now);
                }
            }
            Kind::Joined => {
                if self.control.is_none() {
                    self.join(now, true, event.operator, emit);
                    if let Some(received) = &mut self.received
                        && let Some(unanswered) = &mut received.unanswered
                    {
                        unanswered.joined_ms = Some(now);
                    }
                }
            }
            Kind::OperatorMessage => {
                self.message(now, false);
                if event.flags & flag::AUTOMATIC == 0 {
                    self.operator_message(now, event.operator, emit);
                }
            }
            Kind::Released => {
                if let Some(control) = self.control.take() {
                    emit(support(now, &control));
                }
            }
            Kind::Goal => self.has_goal = true,
            Kind::Ended => self.end(emit),
            Kind::Nlp | Kind::Integration | Kind::Tag | Kind::Feedback | Kind::Forgotten => {}
        }
    }

    /// Emits the samples of an open session as they stand.
    pub(crate) fn open_samples(&self, emit: &mut impl FnMut(Sample)) {
        Self::default().open_change(self, emit);
    }

    /// Emits what makes the open samples of `new` out of those of `self`: less than all of `self`
    /// taken back and all of `new`, but the same counts and sums.
    ///
    /// A metric of which only the sum is stored ([`crate::fold::metrics::Source::SumOf`]) gets one
    /// sample with the difference.
    pub(crate) fn open_change(&self, new: &Self, emit: &mut impl FnMut(Sample)) {
        for sample_of in [Self::length_sample, Self::support_sample, Self::request_sample] {
            let (before, after) = (sample_of(self), sample_of(new));
            if before != after {
                before.map(Sample::taken_back).into_iter().chain(after).for_each(&mut *emit);
            }
        }
        let mut add = |at_ms, values: [i64; OF_SESSION.len()]| {
            for (metric, value) in OF_SESSION.into_iter().zip(values) {
                if value != 0 {
                    let sample = Sample::new(at_ms, metric, value.abs());
                    emit(Sample { sign: value.signum(), ..sample });
                }
            }
        };
        match (self.session_values(), new.session_values()) {
            (Some((at_ms, before)), Some((same_ms, mut after))) if at_ms == same_ms => {
                after.iter_mut().zip(before).for_each(|(value, before)| *value -= before);
                add(at_ms, after);
            }
            (before, after) => {
                if let Some((at_ms, values)) = before {
                    add(at_ms, values.map(|value| -value));
                }
                if let Some((at_ms, values)) = after {
                    add(at_ms, values);
                }
            }
        }
    }

    /// The conversation's length, as far as it is known.
    fn length_sample(&self) -> Option<Sample> {
        let (first_ms, last_ms) =
            (self.received.as_ref()?.first_ms, self.messages.as_ref()?.last_ms);
        Some(Sample::new(last_ms, TypeCode::ConversationLength, last_ms - first_ms))
    }

    /// The length of the support by the operator in control, as far as it is known.
    fn support_sample(&self) -> Option<Sample> {
        self.control.as_ref().map(|control| support(control.last_message_ms, control))
    }

    /// The request that no join has answered yet.
    fn request_sample(&self) -> Option<Sample> {
        Some(Sample::new(self.requested_ms?, TypeCode::UnansweredRequests, 1))
    }

    /// The instant and the values of [`OF_SESSION`].
    fn session_values(&self) -> Option<(i64, [i64; OF_SESSION.len()])> {
        let first_ms = self.received.as_ref()?.first_ms;
        let messages = self.messages.as_ref().map_or(0, |messages| messages.count);
        let contained = !self.asked && !self.joined;
        let [joined, contained, has_goal] = [self.joined, contained, self.has_goal].map(i64::from);
        Some((first_ms, [1, joined, contained, has_goal, messages.into()]))
    }

    fn end(&mut self, emit: &mut impl FnMut(Sample)) {
        self.open_samples(emit);
        *self = Self::default();
    }

    fn received(&mut self, now: i64) {
        self.message(now, true);
        let first = Received { first_ms: now, last_ms: now, unanswered: None };
        let received = self.received.get_or_insert(first);
        received.last_ms = now;
        received.unanswered.get_or_insert(Unanswered { since_ms: now, joined_ms: None });
    }

    fn message(&mut self, now: i64, is_received: bool) {
        let count = self.messages.as_ref().map_or(0, |messages| messages.count);
        self.messages = Some(Messages {
            count: count.saturating_add(1),
            last_ms: now,
            last_is_received: is_received,
        });
        if let Some(control) = &mut self.control {
            control.last_message_ms = now;
        }
    }

    /// What an answer answers; from then on that is answered.
    fn answer(&mut self) -> Option<Unanswered> {
        self.received.as_mut()?.unanswered.take()
    }

    /// A message of an operator that is not automatic.
    fn operator_message(&mut self, now: i64, operator: NameId, emit: &mut impl FnMut(Sample)) {
        match &mut self.control {
            None => self.join(now, false, operator, emit),
            Some(control) if control.awaits_first_message => {
                control.awaits_first_message = false;
                let waited_ms = now - control.joined_ms;
                emit(Sample::new(now, TypeCode::TimeToFirstMessage, waited_ms).of(operator));
            }
            Some(_) => {}
        }
        if let Some(Unanswered { since_ms, joined_ms }) = self.answer() {
            let waited_ms = now - joined_ms.unwrap_or(since_ms);
            emit(Sample::new(now, TypeCode::OperatorReplyTime, waited_ms).of(operator));
        }
    }

    fn join(&mut self, now: i64, explicit: bool, operator: NameId, emit: &mut impl FnMut(Sample)) {
        if let Some(requested_ms) = self.requested_ms.take() {
            emit(Sample::new(requested_ms, TypeCode::UnansweredRequests, 0));
            emit(Sample::new(now, TypeCode::TimeToPickUp, now - requested_ms).of(operator));
        }
        self.joined = true;
        self.control = Some(Control {
            joined_ms: now,
            last_message_ms: now,
            awaits_first_message: explicit,
            operator,
        });
    }
}

fn support(at_ms: i64, control: &Control) -> Sample {
    let length_ms = at_ms - control.joined_ms;
    Sample::new(at_ms, TypeCode::SupportLength, length_ms).of(control.operator)
}

#[cfg(test)]
mod tests;
