//! The rows of an answer: which pairs they have, and where they stand.

use std::sync::Arc;

use botstats_common::ids::{Bot, Channel};
use botstats_common::wire::{By, RowKey, RowName};
use rustc_hash::FxHashMap;

use crate::event::registry::NamedPair;

/// The number of a row. Without a split, rows are numbered from the start; with one, as they come.
pub(super) type RowNumber = u32;

/// Whether a row is in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listing {
    Unlisted,
    /// It will be put into the answer at the end of the day.
    Waiting,
    /// Its place in the answer.
    Placed(u32),
}

/// All rows that there can be.
pub(super) struct Rows<'a> {
    pairs: &'a [Arc<NamedPair>],
    by: By,
    /// By the index of a pair: the number of the key under which it is merged.
    key_of_pair: Vec<u32>,
    /// A pair of each key.
    pair_of_key: Vec<usize>,
    listing: Vec<Listing>,
    waiting: Vec<RowNumber>,
    placed: u32,
    /// With a split: the rows by key and number of the name.
    by_name: FxHashMap<(u32, u32), RowNumber>,
}

impl<'a> Rows<'a> {
    /// Without a split, each key has a row, with the key's number.
    pub(super) fn new(pairs: &'a [Arc<NamedPair>], by: By, is_split: bool) -> Self {
        let (mut key_of_pair, mut pair_of_key) = (Vec::new(), Vec::new());
        let mut known: FxHashMap<(Option<&Bot>, Option<&Channel>), u32> = FxHashMap::default();
        for (number, (place, pair)) in (0_u32..).zip(pairs.iter().enumerate()) {
            if by == By::PAIR {
                key_of_pair.push(number);
                pair_of_key.push(place);
                continue;
            }
            let path = (by.bot.then_some(&pair.bot), by.channel.then_some(&pair.channel));
            key_of_pair.push(*known.entry(path).or_insert_with(|| {
                pair_of_key.push(place);
                u32::try_from(pair_of_key.len() - 1).unwrap_or(u32::MAX)
            }));
        }
        let rows = if is_split { 0 } else { pair_of_key.len() };
        Self {
            pairs,
            by,
            key_of_pair,
            pair_of_key,
            listing: vec![Listing::Unlisted; rows],
            waiting: Vec::new(),
            placed: 0,
            by_name: FxHashMap::default(),
        }
    }

    /// The number of the key of a pair, and of its row if there is no split.
    #[inline]
    pub(super) fn key_of(&self, pair: usize) -> u32 {
        self.key_of_pair.get(pair).copied().unwrap_or_default()
    }

    /// The row of a key and a name, and its key if the row is new.
    pub(super) fn named(
        &mut self,
        key: u32,
        number: u32,
        name: impl FnOnce() -> RowName,
    ) -> (RowNumber, Option<RowKey>) {
        if let Some(row) = self.by_name.get(&(key, number)) {
            return (*row, None);
        }
        let row = u32::try_from(self.listing.len()).unwrap_or(u32::MAX);
        self.by_name.insert((key, number), row);
        self.listing.push(Listing::Placed(self.placed));
        self.placed += 1;
        (row, self.row_key(key, name()))
    }

    /// Notes that a row is in the answer.
    #[inline]
    pub(super) fn list(&mut self, row: RowNumber) {
        let listing = usize::try_from(row).ok().and_then(|row| self.listing.get_mut(row));
        if let Some(listing @ Listing::Unlisted) = listing {
            *listing = Listing::Waiting;
            self.waiting.push(row);
        }
    }

    /// Puts the waiting rows into the answer, in the order of their numbers.
    pub(super) fn place(&mut self, mut each: impl FnMut(&RowKey)) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_unstable();
        for row in waiting.drain(..) {
            let Some(key) = self.row_key(row, RowName::Unsplit) else { continue };
            let listing = usize::try_from(row).ok().and_then(|row| self.listing.get_mut(row));
            if let Some(listing) = listing {
                *listing = Listing::Placed(self.placed);
                self.placed += 1;
                each(&key);
            }
        }
        self.waiting = waiting;
    }

    /// The place of a row in the answer; `None` before it has one.
    #[inline]
    pub(super) fn place_of(&self, row: RowNumber) -> Option<u32> {
        match self.listing.get(usize::try_from(row).ok()?)? {
            Listing::Placed(place) => Some(*place),
            Listing::Unlisted | Listing::Waiting => None,
        }
    }

    fn row_key(&self, key: u32, name: RowName) -> Option<RowKey> {
        let pair = *self.pair_of_key.get(usize::try_from(key).ok()?)?;
        let pair = self.pairs.get(pair)?;
        Some(RowKey {
            bot: self.by.bot.then(|| pair.bot.clone()),
            channel: self.by.channel.then(|| pair.channel.clone()),
            name,
        })
    }
}
