//! The limit of an answer's size. The ingest that gathers an answer and the query that holds it
//! count its size in the same way, so an ingest never sends an answer that the query refuses.

use super::Pair;

/// The most that one answer may take in a query's memory, in bytes.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// What a pair takes beside its texts, in bytes: it stands in a list and in a set, which both grow
/// by doubling, as two texts with 16 bytes around each, and in the order of rows.
const PAIR_BYTES: usize = 2 * (2 * size_of::<Pair>() + 2 * 16) + size_of::<u32>();
/// What a cell takes beside its samples, in bytes: 16 in a list that grows by doubling, and the
/// numbers of its group and pair.
const CELL_BYTES: usize = 2 * 16 + 8;

/// What the pairs and cells of an answer take in the memory of a query.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnswerSize {
    bytes: usize,
}

impl AnswerSize {
    /// Adds a pair.
    pub fn add_pair(&mut self, pair: &Pair) {
        self.bytes += PAIR_BYTES + 2 * (pair.bot.as_str().len() + pair.channel.as_str().len());
    }

    /// Adds a cell with that many bytes of encoded samples.
    pub fn add_cell(&mut self, samples_bytes: usize) {
        self.bytes += CELL_BYTES + samples_bytes;
    }

    /// The size, in bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.bytes
    }

    /// Whether it is more than [`MAX_ANSWER_BYTES`].
    #[must_use]
    pub fn is_too_large(self) -> bool {
        self.bytes > MAX_ANSWER_BYTES
    }
}
