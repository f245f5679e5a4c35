//! Collects an ingest's chunks into cells.
//!
//! *Invariants*: chunks come without a gap, pairs are distinct, every cell's samples are in order
//! and counted; what breaks the contract of the wire is refused, never guessed.
//!
//! *Why* samples stay encoded: a large answer has a million samples, and each is read only once
//! more, when its row is written.

use std::collections::HashSet;

use botstats_common::wire::{
    self, AnswerSize, Chunk, DecodeError, EncodedCell, EncodedChunk, EncodedSamples, Frame, Pair,
    Reply,
};

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
    /// The last chunk is not there.
    #[error("the last chunk of the answer is missing")]
    NoLast,
    /// A cell's pair is not among the pairs of the answer.
    #[error("a cell belongs to no bot and channel")]
    Pair,
    /// A (bot, channel) named twice.
    #[error("a bot and channel is named twice")]
    PairTwice,
    /// A cell's group was not asked for.
    #[error("a cell belongs to no group")]
    Group,
    /// Two cells of one group and pair.
    #[error("two cells of one group, bot and channel")]
    Twice,
    /// Samples that are not in order, or counted 0.
    #[error("a cell's samples are not in order")]
    Samples,
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
    pub(crate) pair: u32,
    chunk: u32,
    first: u32,
}

/// The cells of all chunks as they came.
#[derive(Debug, Default)]
pub(crate) struct SampleStore(Vec<Box<[u8]>>);

impl SampleStore {
    pub(crate) fn of(&self, cell: &CellAt) -> EncodedSamples<'_> {
        let index = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let bytes = self.0.get(index(cell.chunk)).and_then(|bytes| bytes.get(index(cell.first)..));
        EncodedSamples::at(bytes.unwrap_or_default())
    }
}

/// A whole answer of an ingest.
#[derive(Debug)]
pub struct Cells {
    pub(crate) pairs: Vec<Pair>,
    pub(crate) cells: Vec<CellAt>,
    pub(crate) samples: SampleStore,
    /// Everything stored in the stream up to this instant (Unix ms) is counted.
    pub as_of_ms: i64,
}

/// An answer whose chunks are still coming.
#[derive(Debug, Default)]
pub struct Collecting {
    next: u32,
    last_as_of_ms: Option<i64>,
    pairs: Vec<Pair>,
    seen: HashSet<Pair>,
    cells: Vec<CellAt>,
    samples: SampleStore,
    size: AnswerSize,
}

impl Collecting {
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
            if !self.seen.insert(pair.clone()) {
                return Err(Malformed::PairTwice);
            }
            self.size.add_pair(pair);
        }
        self.pairs.extend(chunk.pairs);
        let bytes = chunk.cells.bytes();
        let mut cells = chunk.cells;
        while let Some(cell) = cells.next() {
            let EncodedCell { group, pair, samples } = cell?;
            if usize::try_from(pair).is_ok_and(|pair| pair >= self.pairs.len()) {
                return Err(Malformed::Pair);
            }
            let first = bytes.len() - cells.bytes().len() - samples.bytes().len();
            let first = u32::try_from(first).map_err(|_| Malformed::Bytes)?;
            self.size.add_cell(samples.bytes().len());
            self.cells.push(CellAt { group, pair, chunk: chunk.number, first });
        }
        // A copy: a slice could keep the whole buffer of the connection in memory.
        self.samples.0.push(bytes.into());
        self.next += 1;
        self.last_as_of_ms = chunk.last.then_some(chunk.as_of_ms);
        Ok(())
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

    /// Whether the last chunk is there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.last_as_of_ms.is_some()
    }

    /// The memory that the answer takes so far.
    #[must_use]
    pub fn size(&self) -> AnswerSize {
        self.size
    }

    /// The whole answer.
    ///
    /// # Errors
    /// If chunks are still missing.
    pub fn finish(self) -> Result<Cells, Malformed> {
        let as_of_ms = self.last_as_of_ms.ok_or(Malformed::NoLast)?;
        Ok(Cells { pairs: self.pairs, cells: self.cells, samples: self.samples, as_of_ms })
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
    fn cells_must_keep_the_contract() {
        let with = |pairs: &[Pair], pair, list: &[Samples]| Chunk {
            pairs: pairs.to_vec(),
            cells: vec![Cell { group: 0, pair, samples: list.to_vec() }],
            ..chunk(0, true)
        };
        let one = [pair("b", "c")];
        let (a, b) = (samples(TypeCode::Messages, 1), samples(TypeCode::TagHit, 1));
        for (chunk, expected) in [
            (with(&one, 0, &[a, b]), None),
            (with(&one, 1, &[a]), Some(Malformed::Pair)),
            (with(&one, 0, &[b, a]), Some(Malformed::Samples)),
            (with(&one, 0, &[a, a]), Some(Malformed::Samples)),
            (with(&one, 0, &[samples(TypeCode::Messages, 0)]), Some(Malformed::Samples)),
            (with(&[pair("b", "c"), pair("b", "c")], 0, &[a]), Some(Malformed::PairTwice)),
        ] {
            assert_eq!(collect(vec![chunk.clone()]).err(), expected, "{chunk:?}");
        }
    }

    #[test]
    fn what_is_held_is_counted() {
        let mut collecting = Collecting::default();
        let many = Cell {
            group: 0,
            pair: 0,
            samples: TypeCode::ALL.map(|code| samples(code, 1)).to_vec(),
        };
        let cells = (0..1_000).map(|group| Cell { group, ..many.clone() }).collect();
        let sent = Chunk { pairs: vec![pair("b", "c")], cells, ..chunk(0, false) };
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
