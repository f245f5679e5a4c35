//! Goes through the buckets of some pairs, day by day.

use std::sync::Arc;
use std::time::Instant;

use botstats_common::io::clock::monotonic;
use botstats_common::quarter::{QUARTERS_PER_DAY, QUARTERS_PER_HOUR};

use super::ReadError;
use super::windows::Window;
use crate::event::registry::NamedPair;
use crate::fold::bucket_key::{self, NAMES};
use crate::store::PackedSnapshot;

/// Up to this many pairs are looked up one by one; for more, all buckets of the account are
/// scanned. Few in the tests of this crate, so that small cases are read in both ways.
const FEW_PAIRS: usize = if cfg!(test) { 3 } else { 16 };
/// The deadline is checked once in this many items.
const ITEMS_A_DEADLINE_CHECK: usize = 4_096;

/// What is stored of a pair and day in one slot.
pub(super) struct Item<'a> {
    /// The index of the pair among those asked for.
    pub(super) pair: usize,
    pub(super) day: u32,
    /// An hour, or [`NAMES`].
    pub(super) slot: u8,
    pub(super) body: &'a [u8],
}

impl Item<'_> {
    /// The first quarter of the hour.
    #[inline]
    pub(super) fn first_quarter(&self) -> u32 {
        self.day * QUARTERS_PER_DAY + u32::from(self.slot) * QUARTERS_PER_HOUR
    }
}

/// What is done with the items of a window. The items of a pair and day come one after another, its
/// hours first. The pairs of a day come in the order of their numbers.
pub(super) trait Visit {
    /// Whether the names of the days are visited too.
    const WITH_NAMES: bool;

    /// Before the items of each day with its first quarter, and at the window's end with
    /// `u32::MAX`: all items of earlier quarters have been visited.
    fn reach(&mut self, window: &Window, quarter: u32) -> Result<(), ReadError>;

    fn visit(&mut self, window: &Window, item: &Item<'_>) -> Result<(), ReadError>;
}

/// The buckets of the pairs asked for, in one snapshot.
pub(super) struct Scan {
    table: PackedSnapshot,
    account: u32,
    /// The first key of each pair and the pair's index, ascending.
    asked: Vec<(u128, usize)>,
    until: Option<Instant>,
    /// How many items were visited.
    items: usize,
}

impl Scan {
    pub(super) fn new(
        table: PackedSnapshot,
        account: u32,
        pairs: &[Arc<NamedPair>],
        until: Option<Instant>,
    ) -> Self {
        let mut asked: Vec<(u128, usize)> = pairs
            .iter()
            .enumerate()
            .map(|(place, pair)| (bucket_key::item(pair.number, 0), place))
            .collect();
        asked.sort_unstable();
        Self { table, account, asked, until, items: 0 }
    }

    /// Visits all items of the days of a window.
    ///
    /// # Errors
    /// [`ReadError::TooLate`], or if the store cannot be read or the visit fails.
    pub(super) fn window<V: Visit>(
        &mut self,
        window: &Window,
        visit: &mut V,
    ) -> Result<(), ReadError> {
        if self.asked.is_empty() || window.start == window.end {
            return Ok(());
        }
        let last_slot = if V::WITH_NAMES { NAMES } else { NAMES - 1 };
        let last_day = (window.end - 1) / QUARTERS_PER_DAY;
        for day in window.start / QUARTERS_PER_DAY..=last_day {
            visit.reach(window, day * QUARTERS_PER_DAY)?;
            if self.asked.len() > FEW_PAIRS {
                self.day(window, visit, day, last_slot, None)?;
            } else {
                for pair in 0..self.asked.len() {
                    self.day(window, visit, day, last_slot, Some(pair))?;
                }
            }
        }
        visit.reach(window, u32::MAX)
    }

    /// Visits the items of a day: of one pair, or of all.
    fn day<V: Visit>(
        &mut self,
        window: &Window,
        visit: &mut V,
        day: u32,
        last_slot: u8,
        pair: Option<usize>,
    ) -> Result<(), ReadError> {
        let Self { table, account, asked, until, items } = self;
        let mut asked = asked.get(pair.unwrap_or_default()..).unwrap_or_default();
        let keys = match (pair, asked.first()) {
            (Some(_), Some((first, _))) => *first..=first + u128::from(last_slot),
            _ => 0..=u128::MAX,
        };
        table.scan_keys(&bucket_key::group(day, *account), keys, |key, body| {
            if items.is_multiple_of(ITEMS_A_DEADLINE_CHECK)
                && until.is_some_and(|until| monotonic() > until)
            {
                return Err(ReadError::TooLate);
            }
            *items += 1;
            // The pair whose first key is the last one at or before this key.
            while let [_, rest @ ..] = asked
                && rest.first().is_some_and(|(first, _)| *first <= key)
            {
                asked = rest;
            }
            let of_pair = asked.first().and_then(|(first, pair)| {
                Some((u8::try_from(key.checked_sub(*first)?).ok()?, *pair))
            });
            match of_pair.filter(|(slot, _)| *slot <= last_slot) {
                Some((slot, pair)) => visit.visit(window, &Item { pair, day, slot, body }),
                None => Ok(()),
            }
        })
    }
}
