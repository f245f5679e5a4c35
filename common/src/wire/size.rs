//! The limit of an answer's size. The ingest that gathers an answer and the query that holds it
//! count its size in the same way, so an ingest never sends an answer that the query refuses.

use super::{Pair, RowKey, RowName};
use crate::ids::{Bot, Channel};

/// The most that one answer may take in a query's memory, in bytes.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// What a pair takes beside its texts, in bytes: it stands in a list and in a set, which both grow
/// by doubling, as two texts with 16 bytes around each, and in the order of rows.
const PAIR_BYTES: usize = 2 * (2 * size_of::<Pair>() + 2 * 16) + size_of::<u32>();
/// What a row's name takes beside its text, in bytes: 16 around each of two texts.
const NAME_BYTES: usize = 2 * 16;
/// What a cell takes beside its samples, in bytes: 16 in a list that grows by doubling, and the
/// numbers of its group and row.
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

    /// Adds a row: as a pair, and its name likewise.
    pub fn add_row(&mut self, row: &RowKey) {
        let ids = [row.bot.as_ref().map(Bot::as_str), row.channel.as_ref().map(Channel::as_str)];
        let ids: usize = ids.into_iter().flatten().map(str::len).sum();
        let name = match &row.name {
            RowName::Named(name) => NAME_BYTES + 2 * name.len(),
            RowName::Unsplit | RowName::Absent | RowName::Other => 0,
        };
        self.bytes += PAIR_BYTES + 2 * ids + name;
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
