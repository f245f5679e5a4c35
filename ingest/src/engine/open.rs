//! What a commit, or a start, finds out about open conversations.

use botstats_common::quarter::day_of_ms;
use rustc_hash::FxHashMap;

use crate::fold::session::SessionState;
use crate::fold::timeline::{Entry, StoredSlice, pass_over};
use crate::serve::open::{Open, OpenConversations};

/// What a commit changes in the open conversations. The memory of one commit serves the next.
#[derive(Debug, Default)]
pub(super) struct OpenUpdates {
    /// The moment at which the batch's last message was stored, in Unix milliseconds.
    stored_ms: i64,
    /// Whether a conversation may be known as open that is not any more.
    has_any: bool,
    updates: Vec<(u128, Option<Open>)>,
}

impl OpenUpdates {
    /// Begins a commit: no change yet of these conversations.
    pub(super) fn begin(&mut self, open: &OpenConversations, stored_ms: i64) {
        self.updates.clear();
        (self.stored_ms, self.has_any) = (stored_ms, !open.is_empty());
    }

    /// Notes the states that the commit left.
    pub(super) fn apply(&mut self, open: &mut OpenConversations) {
        open.note(self.updates.drain(..), self.stored_ms);
    }

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
        let updates = OpenUpdates { stored_ms, ..OpenUpdates::default() };
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
