//! Users: their items, their generations, and the next number of each pair.
//!
//! *Format* of an item of `users`: 0 alone for a user with a row in `forgotten`; else 1 + ordinal
//! and the first quarter, as varints. A row of `counts` has the next ordinals of 512 pairs in turn,
//! 4 bytes each, least significant byte first; pairs at its end that have none may be missing.

use std::collections::BTreeSet;

use botstats_common::varint;
use redb::{ReadableTable, Table};

use super::StoreError;
use crate::fold::generations::{Generation, Generations};

/// Pairs in one row of `counts`.
const PAIRS_A_ROW: usize = 1 << PAIRS_BITS;
const PAIRS_BITS: u32 = 9;

/// A user as its item has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredUser {
    /// Without an item.
    None,
    /// With one generation: never forgotten, or longer than 38 days ago.
    Known(Generation),
    /// Its generations are in `forgotten`.
    Forgotten,
}

impl StoredUser {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        match self {
            StoredUser::None => {}
            StoredUser::Forgotten => varint::write(out, 0),
            StoredUser::Known(Generation { ordinal, first_seen }) => {
                varint::write(out, u64::from(ordinal) + 1);
                varint::write(out, first_seen.into());
            }
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut rest = bytes;
        let mut read = || u32::try_from(varint::read(&mut rest)?).ok();
        let user = read().and_then(|number| match number.checked_sub(1) {
            None => Some(StoredUser::Forgotten),
            Some(ordinal) => Some(StoredUser::Known(Generation { ordinal, first_seen: read()? })),
        });
        user.filter(|_| rest.is_empty())
            .ok_or_else(|| StoreError::value("users", "malformed bytes"))
    }
}

/// The generations of users that were forgotten, in a commit.
pub(crate) struct Forgotten<'a>(pub(super) Table<'a, u128, &'static [u8]>);

impl Forgotten<'_> {
    pub(crate) fn get(&self, user: u128) -> Result<Generations, StoreError> {
        let row = self.0.get(user)?;
        row.and_then(|bytes| Generations::decode(bytes.value()))
            .ok_or_else(|| StoreError::value("forgotten", "a user is missing or malformed"))
    }

    pub(crate) fn put(&mut self, user: u128, of: &Generations) -> Result<(), StoreError> {
        self.0.insert(user, of.encode().as_slice())?;
        Ok(())
    }

    pub(crate) fn remove(&mut self, user: u128) -> Result<(), StoreError> {
        self.0.remove(user)?;
        Ok(())
    }

    /// The users with that answer, and their generations.
    pub(crate) fn select(
        &self,
        wanted: impl Fn(&Generations) -> bool,
    ) -> Result<Vec<(u128, Generations)>, StoreError> {
        let mut all = Vec::new();
        for row in self.0.iter()? {
            let (user, bytes) = row?;
            let generations = Generations::decode(bytes.value())
                .ok_or_else(|| StoreError::value("forgotten", "malformed bytes"))?;
            if wanted(&generations) {
                all.push((user.value(), generations));
            }
        }
        Ok(all)
    }
}

/// The next ordinal of each pair.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    next: Vec<u32>,
    /// Rows that must be written.
    changed: BTreeSet<u32>,
}

impl Counts {
    pub(super) fn read(table: &impl ReadableTable<u32, &'static [u8]>) -> Result<Self, StoreError> {
        let mut counts = Self::default();
        for row in table.iter()? {
            let (number, bytes) = row?;
            let (chunks, rest) = bytes.value().as_chunks();
            let first = usize::try_from(number.value()).unwrap_or(usize::MAX);
            let first = first.saturating_mul(PAIRS_A_ROW);
            if !rest.is_empty() || chunks.len() > PAIRS_A_ROW || first > u32::MAX as usize {
                return Err(StoreError::value("counts", "malformed row"));
            }
            counts.next.resize(first, 0);
            counts.next.extend(chunks.iter().map(|bytes| u32::from_le_bytes(*bytes)));
        }
        Ok(counts)
    }

    /// Takes the next ordinal of a pair.
    pub(crate) fn next(&mut self, pair: u32) -> Result<u32, StoreError> {
        let full = || StoreError::value("counts", format!("pair {pair} is full"));
        let place = usize::try_from(pair).map_err(|_| full())?;
        if self.next.len() <= place {
            self.next.resize(place + 1, 0);
        }
        let next = self.next.get_mut(place).ok_or_else(full)?;
        let ordinal = *next;
        *next = ordinal.checked_add(1).ok_or_else(full)?;
        self.changed.insert(pair >> PAIRS_BITS);
        Ok(ordinal)
    }

    pub(super) fn write(
        &mut self,
        table: &mut Table<'_, u32, &'static [u8]>,
    ) -> Result<(), StoreError> {
        let mut bytes = Vec::with_capacity(4 * PAIRS_A_ROW);
        for row in std::mem::take(&mut self.changed) {
            let first = row as usize * PAIRS_A_ROW;
            let end = self.next.len().min(first + PAIRS_A_ROW);
            bytes.clear();
            for next in self.next.get(first..end).unwrap_or_default() {
                bytes.extend_from_slice(&next.to_le_bytes());
            }
            table.insert(row, bytes.as_slice())?;
        }
        Ok(())
    }
}
