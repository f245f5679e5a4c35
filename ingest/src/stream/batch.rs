//! What passes between the reader, its consumer and the fold.

use botstats_common::io::nats::explain;

use super::identity::Refusal;
use crate::event::decoder::Arrival;
use crate::store::{Checkpoint, StreamIdentity};

/// The most messages of a batch. While the fold takes no batch, a full batch takes no more
/// messages.
pub const MAX_BATCH_MESSAGES: usize = 100_000;

/// Decoded messages on their way to the fold.
pub struct Batch {
    /// The stream that they came from.
    pub stream: StreamIdentity,
    /// In the order of the stream, without a gap.
    pub arrivals: Vec<Arrival>,
}

impl Batch {
    pub(super) fn new(stream: StreamIdentity) -> Self {
        Self { stream, arrivals: Vec::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.arrivals.len() >= MAX_BATCH_MESSAGES
    }
}

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
}

impl Interruption {
    pub(super) fn retry(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Retry(explain(error))
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
        if let Some(last) = batch.arrivals.last() {
            self.last = Some(Checkpoint {
                stream: batch.stream.clone(),
                sequence: last.sequence,
                stored_ns: last.stored_ns,
                subject_hash: last.subject_hash,
            });
        }
    }
}
