//! What an ingest's answer is collected with, while its parts come in.

use botstats_common::wire::{AnswerSize, EncodedChunk, overview};

use super::cells::Malformed;

/// An answer whose parts are still coming.
pub(crate) trait Collect {
    /// The whole answer.
    type Whole: Send;

    /// Adds the next part.
    fn add(&mut self, part: Part<'_>) -> Result<(), Malformed>;

    /// True if the last part is there.
    fn is_whole(&self) -> bool;

    /// The memory that the answer takes so far.
    fn size(&self) -> AnswerSize;

    /// The whole answer.
    fn finish(self) -> Result<Self::Whole, Malformed>;
}

/// A part of an answer.
#[derive(Debug)]
pub(crate) enum Part<'a> {
    Chunk(EncodedChunk<'a>),
    Overview(overview::Part),
}
