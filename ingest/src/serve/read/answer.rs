//! The answer in the making: rows, cells that wait to be merged, chunks, and the size so far.

use std::sync::Arc;

use botstats_common::metric::TypeCode;
use botstats_common::stat::Stat;
use botstats_common::wire::{AnswerSize, ChunksWriter, Pair, Request, RowName, Samples};

use super::ReadError;
use super::histogram::Histogram;
use super::partial::{Partials, codes_of};
use super::rows::{RowNumber, Rows};
use crate::event::registry::NamedPair;
use crate::fold::body::BodyError;

pub(super) struct Answer<'a> {
    pairs: &'a [Arc<NamedPair>],
    /// Where the answer names its pairs: those that it has named, by their index.
    named_pairs: Option<Vec<bool>>,
    stats: &'a [Stat],
    rows: Rows<'a>,
    partials: Partials,
    chunks: ChunksWriter,
    size: AnswerSize,
    /// The samples and stats of a cell; the memory of one serves the next.
    samples: Vec<u8>,
    histogram: Histogram,
    numbers: Vec<u64>,
}

impl<'a> Answer<'a> {
    pub(super) fn new(
        request: &'a Request,
        pairs: &'a [Arc<NamedPair>],
        chunks: ChunksWriter,
    ) -> Self {
        let by = request.by;
        Self {
            pairs,
            named_pairs: (by.channel && !by.bot).then(|| vec![false; pairs.len()]),
            stats: &request.stats,
            rows: Rows::new(pairs, by, request.split.is_some()),
            partials: Partials::new(request.types.iter().collect(), !request.stats.is_empty()),
            chunks,
            size: AnswerSize::default(),
            samples: Vec::new(),
            histogram: Histogram::default(),
            numbers: Vec::new(),
        }
    }

    /// Whether the answer names its pairs.
    pub(super) fn names_pairs(&self) -> bool {
        self.named_pairs.is_some()
    }

    /// Notes that a pair has a sample of any metric in a window.
    #[inline]
    pub(super) fn name_pair(&mut self, pair: usize) {
        let named = self.named_pairs.as_mut().and_then(|named| named.get_mut(pair));
        if let (Some(named @ false), Some(of)) = (named, self.pairs.get(pair)) {
            *named = true;
            let pair = Pair { bot: of.bot.clone(), channel: of.channel.clone() };
            self.size.add_pair(&pair);
            self.chunks.pair(&pair);
        }
    }

    /// The row of a pair, without a split.
    #[inline]
    pub(super) fn row_of(&self, pair: usize) -> RowNumber {
        self.rows.key_of(pair)
    }

    /// Notes that a row is in the answer.
    #[inline]
    pub(super) fn list(&mut self, row: RowNumber) {
        self.rows.list(row);
    }

    /// The row of a pair and a name, which is in the answer from now on. The name has a number by
    /// which it is known.
    pub(super) fn listed(
        &mut self,
        pair: usize,
        number: u32,
        name: impl FnOnce() -> RowName,
    ) -> RowNumber {
        let (row, new) = self.rows.named(self.rows.key_of(pair), number, name);
        if let Some(key) = new {
            self.size.add_row(&key);
            self.chunks.row(&key);
        }
        row
    }

    /// Adds what a row has in a group: more of it may follow.
    ///
    /// # Errors
    /// [`ReadError::TooLarge`], or if the store is damaged.
    #[inline]
    pub(super) fn add(
        &mut self,
        cell: (u32, RowNumber),
        samples: impl Fn(TypeCode) -> Samples,
        histogram: &mut Histogram,
    ) -> Result<(), ReadError> {
        self.partials.push(cell, samples, histogram);
        if self.partials.is_full() { self.merge() } else { Ok(()) }
    }

    #[cold]
    fn merge(&mut self) -> Result<(), ReadError> {
        let (cells, bytes) = self.partials.merge()?;
        // The cells that wait are at least that large.
        let mut size = self.size;
        if let Some(others) = cells.checked_sub(1) {
            (0..others).for_each(|_| size.add_cell(0));
            size.add_cell(bytes);
        }
        if size.is_too_large() { Err(ReadError::TooLarge) } else { self.check_size() }
    }

    #[inline]
    pub(super) fn check_size(&self) -> Result<(), ReadError> {
        if self.size.is_too_large() { Err(ReadError::TooLarge) } else { Ok(()) }
    }

    /// Puts the rows that wait into the answer. To be called before [`Answer::write`].
    pub(super) fn place_rows(&mut self) {
        let Self { rows, size, chunks, .. } = self;
        rows.place(|key| {
            size.add_row(key);
            chunks.row(key);
        });
    }

    /// Writes all cells that were added. To be called when nothing more comes for their groups.
    ///
    /// # Errors
    /// [`ReadError::TooLarge`], or if the store is damaged.
    pub(super) fn write(&mut self) -> Result<(), ReadError> {
        let Self { stats, rows, partials, chunks, size, samples, histogram, numbers, .. } = self;
        let place = |row| rows.place_of(row).unwrap_or(u32::MAX);
        partials.take(
            |group, row| (group, place(row)),
            |(group, row), cell| {
                let (samples, histogram) =
                    cell.read(samples, histogram).ok_or(BodyError::Damaged)?;
                numbers.clear();
                if !stats.is_empty() {
                    let codes = codes_of(samples).ok_or(BodyError::Damaged)?;
                    for code in codes.iter().filter(|code| code.kind().is_duration()) {
                        histogram.stats(code, stats, numbers);
                    }
                }
                size.add_cell(chunks.cell(group, place(row), samples, numbers));
                if size.is_too_large() { Err(ReadError::TooLarge) } else { Ok(()) }
            },
        )
    }

    pub(super) fn finish(self) -> Vec<Vec<u8>> {
        self.chunks.finish()
    }
}
