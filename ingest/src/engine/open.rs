//! Open conversations, in memory: what goes on now.
//!
//! *Bound*: a conversation is dropped once its idle timeout is over by the clock of every query. So
//! there are at most as many as had an event in the last half hour, or in the last day with an
//! operator.

use std::collections::BTreeMap;

use botstats_common::quarter::day_of_ms;
use rustc_hash::FxHashMap;

use crate::fold::session::SessionState;
use crate::fold::timeline::{Entry, StoredSlice, pass_over};
use crate::store::keys::{of_pair, pair_first};

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
    fn of(state: &SessionState) -> Option<Self> {
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
    fn may_be_open(&self, now_ms: i64) -> bool {
        self.last_ms.saturating_add(self.idle_ms).saturating_add(CLOCK_MS) >= now_ms
    }
}

/// All conversations that may be open.
#[derive(Debug, Default)]
pub(crate) struct OpenConversations {
    /// By [`pair_first`], so that those of a pair are one range.
    by_pair: BTreeMap<u128, Open>,
    /// The number of conversations after the last search.
    left: usize,
}

/// What a commit changes in them.
#[derive(Debug)]
pub(super) struct OpenUpdates {
    /// The moment at which the batch's last message was stored, in Unix milliseconds.
    stored_ms: i64,
    /// Whether a conversation may be known as open that is not any more.
    has_any: bool,
    updates: Vec<(u128, Option<Open>)>,
}

impl OpenConversations {
    pub(super) fn updates(&self, stored_ms: i64) -> OpenUpdates {
        OpenUpdates { stored_ms, has_any: !self.by_pair.is_empty(), updates: Vec::new() }
    }

    /// Notes the states that a commit left.
    pub(super) fn apply(&mut self, updates: OpenUpdates) {
        let OpenUpdates { updates, stored_ms, .. } = updates;
        for (key, state) in updates {
            match state {
                Some(state) => self.by_pair.insert(pair_first(key), state),
                None => self.by_pair.remove(&pair_first(key)),
            };
        }
        if self.by_pair.len() > 2 * self.left + LEAST_GROWTH {
            self.by_pair.retain(|_, state| state.may_be_open(stored_ms));
            self.left = self.by_pair.len();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_pair.len()
    }

    /// Those of a pair that may be open.
    pub(crate) fn of(&self, pair: u32) -> impl Iterator<Item = &Open> {
        self.by_pair.range(of_pair(pair)).map(|(_, open)| open)
    }
}

impl OpenUpdates {
    /// Notes the state in which a conversation is, unless a later slice follows.
    pub(super) fn note<E>(
        &mut self,
        key: u128,
        state: &SessionState,
        has_later_slice: impl FnOnce() -> Result<bool, E>,
    ) -> Result<(), E> {
        let open = self.open_of(state);
        if (self.has_any || open.is_some()) && !has_later_slice()? {
            self.has_any = true;
            self.updates.push((key, open));
        }
        Ok(())
    }

    fn open_of(&self, state: &SessionState) -> Option<Open> {
        Open::of(state).filter(|open| open.may_be_open(self.stored_ms))
    }
}

/// Whether a short slice has an event of a session. Feedback alone does not tell that a session is
/// over. A long slice counts as if it had one.
pub(super) fn has_session(events: &[Entry]) -> bool {
    events.iter().any(|event| event.kind.is_of_session())
}

/// The last slice of each conversation, while all slices are read by their days.
pub(super) struct LastSlices {
    updates: OpenUpdates,
    /// Slices of earlier days can't matter.
    first_day: u32,
    last: FxHashMap<u128, Last>,
}

enum Last {
    Ended,
    Open(Open),
    /// Its last part, by day and number, is still to be read.
    Part(u32, u32),
}

impl LastSlices {
    pub(super) fn new(stored_ms: i64) -> Self {
        // An open one has an event of the last 24 hours; a query's clock may need a day before.
        let first_day = day_of_ms(stored_ms).saturating_sub(2);
        let updates = OpenConversations::default().updates(stored_ms);
        Self { updates, first_day, last: FxHashMap::default() }
    }

    pub(super) fn slice(&mut self, day: u32, key: u128, stored: &StoredSlice, events: &[Entry]) {
        if day < self.first_day {
            return;
        }
        let last = match stored {
            StoredSlice::Short(_) if !has_session(events) => return,
            StoredSlice::Short(entry) => self.state_after(entry, events),
            StoredSlice::Long { parts, .. } => {
                parts.last().map_or(Last::Ended, |part| Last::Part(day, part.number))
            }
        };
        self.last.insert(key, last);
    }

    pub(super) fn part(
        &mut self,
        (day, key, number): (u32, u128, u32),
        entry: &SessionState,
        events: &[Entry],
    ) {
        if matches!(self.last.get(&key), Some(Last::Part(d, n)) if (*d, *n) == (day, number)) {
            let last = self.state_after(entry, events);
            self.last.insert(key, last);
        }
    }

    fn state_after(&self, entry: &SessionState, events: &[Entry]) -> Last {
        let mut state = entry.clone();
        pass_over(&mut state, events);
        self.updates.open_of(&state).map_or(Last::Ended, Last::Open)
    }

    pub(super) fn finish(self) -> OpenUpdates {
        let mut updates = self.updates;
        updates.updates = self
            .last
            .into_iter()
            .filter_map(|(key, last)| match last {
                Last::Open(open) => Some((key, Some(open))),
                Last::Ended | Last::Part(..) => None,
            })
            .collect();
        updates
    }
}
