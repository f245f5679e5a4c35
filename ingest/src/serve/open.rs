//! Conversations that may be open, in memory. The engine notes each change; an overview counts
//! them.
//!
//! *Bound*: a conversation is dropped once its idle timeout is over by the clock of every query. So
//! there are at most as many as had an event in the last half hour, or in the last day with an
//! operator.

use std::collections::BTreeMap;

use crate::fold::session::SessionState;
use crate::store::keys::of_pair;

/// The clock of a query may be this many milliseconds behind that of the server.
const CLOCK_MS: i64 = 2 * 60 * 1000;
/// The map is searched for what is not open any more when it has grown by this many, and to twice
/// its size.
const LEAST_GROWTH: usize = 1024;

/// A conversation whose last session has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Open {
    /// The time of its last event.
    pub(crate) last_ms: i64,
    /// The longest pause after which it is still open.
    pub(crate) idle_ms: i64,
    /// Since when an operator is requested, with nobody in control.
    pub(crate) requested_ms: Option<i64>,
    /// Whether an operator is in control.
    pub(crate) is_with_operator: bool,
    /// Whether its last message is a `message.received`.
    pub(crate) is_unanswered: bool,
    /// The time of the session's last `message.received`.
    pub(crate) received_ms: Option<i64>,
}

impl Open {
    /// That conversation, if its last session has a message, a request or a join.
    pub(crate) fn of(state: &SessionState) -> Option<Self> {
        Some(Self {
            last_ms: state.last_event_ms().filter(|_| state.has_message_or_operator())?,
            idle_ms: state.idle_ms(),
            requested_ms: state.requested_ms().filter(|_| !state.is_in_control()),
            is_with_operator: state.is_in_control(),
            is_unanswered: state.last_message_is_received(),
            received_ms: state.last_received_ms(),
        })
    }

    /// Whether it can still be open at that moment, by the clock of any query.
    pub(crate) fn may_be_open(&self, now_ms: i64) -> bool {
        self.last_ms.saturating_add(self.idle_ms).saturating_add(CLOCK_MS) >= now_ms
    }
}

/// All conversations that may be open.
#[derive(Debug, Default)]
pub(crate) struct OpenConversations {
    /// By key: those of a pair are one range.
    by_key: BTreeMap<u128, Open>,
    /// The number of conversations after the last search.
    left: usize,
}

impl OpenConversations {
    /// Notes that conversations, by key, are in these states; `None` is not open. `now_ms` is the
    /// moment at which the last message was stored, in Unix milliseconds.
    pub(crate) fn note(
        &mut self,
        states: impl IntoIterator<Item = (u128, Option<Open>)>,
        now_ms: i64,
    ) {
        for (key, state) in states {
            match state {
                Some(state) => self.by_key.insert(key, state),
                None => self.by_key.remove(&key),
            };
        }
        if self.by_key.len() > 2 * self.left + LEAST_GROWTH {
            self.by_key.retain(|_, state| state.may_be_open(now_ms));
            self.left = self.by_key.len();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Those of a pair that may be open.
    pub(crate) fn of(&self, pair: u32) -> impl Iterator<Item = &Open> {
        self.by_key.range(of_pair(pair)).map(|(_, open)| open)
    }
}
