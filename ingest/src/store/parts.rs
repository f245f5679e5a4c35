//! The parts of long slices: a row for each.

use redb::{ReadableTable as _, Table};

use super::{StoreError, keys};
use crate::fold::names::Names;
use crate::fold::session::SessionState;
use crate::fold::timeline::{Entry, StoredSlice, decode_slice_for, encode_slice};

/// The parts of long slices, in a commit.
pub(crate) struct Parts<'a>(pub(super) Table<'a, &'static [u8], &'static [u8]>);

impl Parts<'_> {
    /// Appends the events of a part; gives its state on entry. With an identity it leaves out the
    /// events if none of them has it.
    pub(crate) fn read(
        &self,
        (day, conversation, number): (u32, u128, u32),
        wanted: Option<u64>,
        names: &mut Names,
        events: &mut Vec<Entry>,
    ) -> Result<SessionState, StoreError> {
        let key = keys::part_key(day, conversation, number);
        let wrong = |reason| StoreError::value("parts", reason);
        let row = self.0.get(&key[..])?.ok_or_else(|| wrong("a part is missing"))?;
        match decode_slice_for(wanted, day, row.value(), names, events)? {
            StoredSlice::Short(entry) => Ok(entry),
            StoredSlice::Long { .. } => Err(wrong("a part has parts")),
        }
    }

    pub(crate) fn put(
        &mut self,
        (day, conversation, number): (u32, u128, u32),
        entry: &SessionState,
        events: &[Entry],
        names: &Names,
    ) -> Result<(), StoreError> {
        let key = keys::part_key(day, conversation, number);
        let mut body = Vec::with_capacity(16 * events.len() + 16);
        encode_slice(day, entry, events, names, &mut body);
        self.0.insert(&key[..], body.as_slice())?;
        Ok(())
    }
}
