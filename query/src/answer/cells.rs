//! Collects an ingest's chunks into cells.
//!
//! *Invariants*: chunks come without a gap, rows are distinct, every cell's samples are in order
//! and counted, with as many stats as were asked for; what breaks the contract of the wire is
//! refused, never guessed.
//!
//! *Why* samples stay encoded: a large answer has a million samples, and each is read only once
//! more, when its row is written.

use std::collections::HashSet;

use botstats_common::wire::{
    self, AnswerSize, Chunk, DecodeError, EncodedCell, EncodedChunk, EncodedSamples, Frame, Pair,
    Reply, RowKey,
};

use super::as_usize;
use super::collect::{Collect, Part};

/// Why chunks are not a whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Bytes that are no chunk.
    #[error("a chunk of the answer cannot be read")]
    Bytes,
    /// A chunk is missing, or came twice.
    #[error("a chunk of the answer is missing")]
    Gap,
    /// A chunk came after the last one.
    #[error("a chunk came after the last one")]
    AfterLast,
    /// A part of another kind of answer.
    #[error("a part of another answer than was asked for")]
    Kind,
    /// The last chunk is not there.
    #[error("the last chunk of the answer is missing")]
    NoLast,
    /// A cell's row is not among the rows of the answer.
    #[error("a cell belongs to no row")]
    NoRow,
    /// Two rows of the same bot, channel and name.
    #[error("a row is there twice")]
    RowTwice,
    /// A row is merged, split or named in another way than was asked for.
    #[error("a row is none that was asked for")]
    Row,
    /// A cell's group was not asked for.
    #[error("a cell belongs to no group")]
    Group,
    /// Two cells of one group and row.
    #[error("two cells of one group and row")]
    Twice,
    /// Samples that are not in order, or counted 0.
    #[error("a cell's samples are not in order")]
    Samples,
    /// Not one number for each duration and stat asked for.
    #[error("a cell has another number of stats than was asked for")]
    Stats,
}

impl From<DecodeError> for Malformed {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Samples => Malformed::Samples,
            _ => Malformed::Bytes,
        }
    }
}

/// A cell, with the place of its samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CellAt {
    pub(crate) group: u32,
    pub(crate) row: u32,
    chunk: u32,
    first: u32,
}

/// The cells of all chunks as they came.
#[derive(Debug, Default)]
pub(crate) struct SampleStore(Vec<Box<[u8]>>);

impl SampleStore {
    pub(crate) fn of(&self, cell: &CellAt) -> EncodedSamples<'_> {
        let bytes =
            self.0.get(as_usize(cell.chunk)).and_then(|bytes| bytes.get(as_usize(cell.first)..));
        EncodedSamples::at(bytes.unwrap_or_default())
    }
}

/// A whole answer of an ingest.
#[derive(Debug)]
pub struct Cells {
    /// Where rows are merged by channel: the pairs that they are made of.
    pub(crate) pairs: Vec<Pair>,
    pub(crate) rows: Vec<RowKey>,
    pub(crate) cells: Vec<CellAt>,
    pub(crate) samples: SampleStore,
    /// Everything stored in the stream up to this instant (Unix ms) is counted.
    pub as_of_ms: i64,
}

/// An answer whose chunks are still coming.
#[derive(Debug, Default)]
pub struct Collecting {
    /// How many stats were asked for.
    stats: usize,
    next: u32,
    last_as_of_ms: Option<i64>,
    pairs: Vec<Pair>,
    rows: Vec<RowKey>,
    seen: HashSet<RowKey>,
    cells: Vec<CellAt>,
    samples: SampleStore,
    size: AnswerSize,
}

impl Collecting {
    /// An answer of which no chunk is there yet. `stats` is the number of stats asked for.
    #[must_use]
    pub fn new(stats: usize) -> Self {
        Self { stats, ..Self::default() }
    }

    /// Adds the next chunk.
    ///
    /// # Errors
    /// If it is not the next one, or breaks the contract.
    pub fn add(&mut self, chunk: EncodedChunk<'_>) -> Result<(), Malformed> {
        if self.is_whole() {
            return Err(Malformed::AfterLast);
        }
        if chunk.number != self.next {
            return Err(Malformed::Gap);
        }
        for pair in &chunk.pairs {
            self.size.add_pair(pair);
        }
        self.pairs.extend(chunk.pairs);
        for row in &chunk.rows {
            if !self.seen.insert(row.clone()) {
                return Err(Malformed::RowTwice);
            }
            self.size.add_row(row);
        }
        self.rows.extend(chunk.rows);
        let bytes = chunk.cells.bytes();
        let mut cells = chunk.cells;
        while let Some(cell) = cells.next() {
            let EncodedCell { group, row, samples, stats } = cell?;
            if as_usize(row) >= self.rows.len() {
                return Err(Malformed::NoRow);
            }
            if as_usize(stats) != self.stats_of(samples) {
                return Err(Malformed::Stats);
            }
            let first = bytes.len() - cells.bytes().len() - samples.bytes().len();
            let first = u32::try_from(first).map_err(|_| Malformed::Bytes)?;
            self.size.add_cell(samples.bytes().len());
            self.cells.push(CellAt { group, row, chunk: chunk.number, first });
        }
        // A copy: a slice could keep the whole buffer of the connection in memory.
        self.samples.0.push(bytes.into());
        self.next += 1;
        self.last_as_of_ms = chunk.last.then_some(chunk.as_of_ms);
        Ok(())
    }

    /// How many stats a cell with these samples has.
    fn stats_of(&self, samples: EncodedSamples<'_>) -> usize {
        // Most questions ask for none, so most cells are not looked through for it.
        if self.stats == 0 {
            return 0;
        }
        let durations = samples.iter().filter(|samples| samples.code.kind().is_duration());
        durations.count() * self.stats
    }

    /// Adds the next chunk, given as a value.
    ///
    /// # Errors
    /// If it is not the next one, or breaks the contract.
    pub fn add_value(&mut self, chunk: Chunk) -> Result<(), Malformed> {
        let bytes = wire::encode(&Frame::Chunk(chunk)).map_err(|_| Malformed::Bytes)?;
        match Reply::decode(&bytes)? {
            Reply::Chunk(chunk) => self.add(chunk),
            _ => Err(Malformed::Bytes),
        }
    }

    /// The whole answer.
    ///
    /// # Errors
    /// If chunks are still missing.
    pub fn finish(self) -> Result<Cells, Malformed> {
        let as_of_ms = self.last_as_of_ms.ok_or(Malformed::NoLast)?;
        Ok(Cells {
            pairs: self.pairs,
            rows: self.rows,
            cells: self.cells,
            samples: self.samples,
            as_of_ms,
        })
    }
}

impl Collect for Collecting {
    type Whole = Cells;

    fn add(&mut self, part: Part<'_>) -> Result<(), Malformed> {
        match part {
            Part::Chunk(chunk) => self.add(chunk),
            Part::Overview(_) => Err(Malformed::Kind),
        }
    }

    fn is_whole(&self) -> bool {
        self.last_as_of_ms.is_some()
    }

    fn size(&self) -> AnswerSize {
        self.size
    }

    fn finish(self) -> Result<Cells, Malformed> {
        self.finish()
    }
}

#[cfg(test)]
mod tests {
    use botstats_common::metric::TypeCode;
    use botstats_common::wire::{Cell, Samples};

    use super::*;

    fn chunk(number: u32, last: bool) -> Chunk {
        Chunk { number, last, as_of_ms: 7, ..Chunk::default() }
    }

    fn pair(bot: &str, channel: &str) -> Pair {
        Pair { bot: bot.parse().unwrap(), channel: channel.parse().unwrap() }
    }

    fn samples(code: TypeCode, count: u64) -> Samples {
        Samples { code, count, sum: count }
    }

    fn collect(chunks: Vec<Chunk>) -> Result<Cells, Malformed> {
        let mut collecting = Collecting::default();
        chunks.into_iter().try_for_each(|chunk| collecting.add_value(chunk))?;
        collecting.finish()
    }

    #[test]
    fn chunks_must_be_whole() {
        for (chunks, expected) in [
            (vec![], Err(Malformed::NoLast)),
            (vec![chunk(0, false)], Err(Malformed::NoLast)),
            (vec![chunk(1, true)], Err(Malformed::Gap)),
            (vec![chunk(0, false), chunk(2, true)], Err(Malformed::Gap)),
            (vec![chunk(0, false), chunk(0, true)], Err(Malformed::Gap)),
            (vec![chunk(0, true), chunk(1, true)], Err(Malformed::AfterLast)),
            (vec![chunk(0, true)], Ok(7)),
            (vec![chunk(0, false), chunk(1, true)], Ok(7)),
        ] {
            assert_eq!(collect(chunks.clone()).map(|c| c.as_of_ms), expected, "{chunks:?}");
        }
    }

    #[test]
    fn cells_have_the_stats_that_were_asked_for() {
        let (mean, count) = (samples(TypeCode::ApiTime, 1), samples(TypeCode::Messages, 1));
        let ratio = samples(TypeCode::GoalRate, 1);
        for (asked, list, stats, is_good) in [
            (0, vec![mean], 0, true),
            (0, vec![mean], 1, false),
            (2, vec![mean], 2, true),
            (2, vec![mean], 1, false),
            (2, vec![mean], 3, false),
            (2, vec![mean], 0, false),
            (2, vec![count, ratio], 0, true),
            (2, vec![count, ratio], 2, false),
            (3, vec![samples(TypeCode::TimeToPickUp, 1), ratio, mean], 6, true),
            (3, vec![samples(TypeCode::TimeToPickUp, 1), ratio, mean], 9, false),
        ] {
            let case = format!("{asked} {list:?} {stats}");
            let cell = Cell { group: 0, row: 0, samples: list, stats: vec![7; stats] };
            let rows = vec![pair("b", "c").into()];
            let mut collecting = Collecting::new(asked);
            let added = collecting.add_value(Chunk { rows, cells: vec![cell], ..chunk(0, true) });
            assert_eq!(added, if is_good { Ok(()) } else { Err(Malformed::Stats) }, "{case}");
        }
    }

    #[test]
    fn cells_must_keep_the_contract() {
        let with = |pairs: &[Pair], row, list: &[Samples]| Chunk {
            rows: pairs.iter().cloned().map(RowKey::from).collect(),
            cells: vec![Cell { group: 0, row, samples: list.to_vec(), stats: Vec::new() }],
            ..chunk(0, true)
        };
        let one = [pair("b", "c")];
        let (a, b) = (samples(TypeCode::Messages, 1), samples(TypeCode::TagHit, 1));
        for (chunk, expected) in [
            (with(&one, 0, &[a, b]), None),
            (with(&one, 1, &[a]), Some(Malformed::NoRow)),
            (with(&one, 0, &[b, a]), Some(Malformed::Samples)),
            (with(&one, 0, &[a, a]), Some(Malformed::Samples)),
            (with(&one, 0, &[samples(TypeCode::Messages, 0)]), Some(Malformed::Samples)),
            (with(&[pair("b", "c"), pair("b", "c")], 0, &[a]), Some(Malformed::RowTwice)),
        ] {
            assert_eq!(collect(vec![chunk.clone()]).err(), expected, "{chunk:?}");
        }
    }

    #[test]
    fn what_is_held_is_counted() {
        let mut collecting = Collecting::default();
        let many = Cell {
            group: 0,
            row: 0,
            samples: TypeCode::ALL.map(|code| samples(code, 1)).to_vec(),
            stats: Vec::new(),
        };
        let cells = (0..1_000).map(|group| Cell { group, ..many.clone() }).collect();
        let sent = Chunk { rows: vec![pair("b", "c").into()], cells, ..chunk(0, false) };
        collecting.add_value(sent).unwrap();
        // A code, a count and a sum are a byte each here.
        let least = 1_000 * (TypeCode::ALL.len() * 3 + size_of::<CellAt>());
        let size = collecting.size().bytes();
        assert!((least..2 * least).contains(&size), "{size}");
        let cells = collecting.cells.capacity() * size_of::<CellAt>();
        let samples: usize = collecting.samples.0.iter().map(|chunk| chunk.len()).sum();
        assert!(cells + samples <= size, "{size}");
    }
}
