//! Where the reader is, and why a consumer is given up.

use botstats_common::io::nats::explain;

use super::identity::Refusal;
use crate::event::batch::Batch;
use crate::store::Checkpoint;

/// Why a consumer is given up, and what comes next.
pub(super) enum Interruption {
    /// The reader was told to stop, or the fold takes no more batches.
    Stopped,
    /// The stream is not the one that was counted.
    Refused(Refusal),
    /// Try again after the last message taken.
    Retry(String),
    /// Try again at once: messages were taken, or the stream was just made.
    Again,
    /// The message at this sequence is taken; behind it the next stream of the chain is read.
    EndOfLink(u64),
}

impl Interruption {
    pub(super) fn retry(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Retry(explain(error))
    }

    /// To be checked again at once: a fence that does not fit.
    pub(super) fn other_fence(stream: &str) -> Self {
        Self::Retry(format!("the stream {stream} gave slots to an unexpected stream"))
    }
}

/// The last message taken, whether applied yet or not.
pub(super) struct Position {
    pub(super) last: Option<Checkpoint>,
}

impl Position {
    pub(super) fn sequence(&self) -> u64 {
        self.last.as_ref().map_or(0, |c| c.sequence)
    }

    /// Goes on to the last message of a batch.
    pub(super) fn advance(&mut self, batch: &Batch) {
        if let Some(last) = batch.last() {
            self.last = Some(last.checkpoint(&batch.stream));
        }
    }
}
