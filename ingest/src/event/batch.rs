//! Decoded messages on their way to the fold.

use super::Message;
use super::decoder::{Arrival, Decoder, Meaning, subject_hash};
use crate::store::{Checkpoint, Ownership, StoreError, StreamIdentity};

/// The most decoded messages of a batch. While the fold takes no batch, a full batch takes no more
/// messages. Messages of foreign slots do not count: they take no memory.
pub const MAX_BATCH_MESSAGES: usize = 100_000;

/// The place of a message in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its sequence.
    pub sequence: u64,
    /// When it was stored, in Unix nanoseconds.
    pub stored_ns: i64,
    /// The hash by which a checkpoint recognises its subject.
    pub subject_hash: u64,
}

impl Place {
    pub(crate) fn checkpoint(self, stream: &StreamIdentity) -> Checkpoint {
        let Self { sequence, stored_ns, subject_hash } = self;
        Checkpoint { stream: stream.clone(), sequence, stored_ns, subject_hash }
    }
}

/// Messages of one stream, in its order, without a gap.
#[derive(Debug)]
pub struct Batch {
    /// The stream that they came from.
    pub stream: StreamIdentity,
    /// The slots of the store when its stream was checked, before the first batch.
    pub ownership: Ownership,
    /// What was decoded.
    pub arrivals: Vec<Arrival>,
    /// The first and the last message that was read. Both may be of foreign slots.
    pub read: Option<(Place, Place)>,
}

/// What becomes of a message that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is in the batch, or passed over.
    Yes,
    /// It is in the batch, and the last one: what follows is in the next stream of the chain.
    Last,
    /// It gives slots of this store to a stream that is not the next one of the chain. It is not in
    /// the batch.
    No,
}

impl Batch {
    /// A batch without a message yet.
    #[must_use]
    pub fn new(stream: StreamIdentity, ownership: Ownership) -> Self {
        Self { stream, ownership, arrivals: Vec::new(), read: None }
    }

    /// Begins the next batch of the same stream, in the memory of `arrivals`, which is empty; gives
    /// this one.
    pub(crate) fn next(&mut self, arrivals: Vec<Arrival>) -> Self {
        let (stream, ownership) = (self.stream.clone(), self.ownership);
        std::mem::replace(self, Self { stream, ownership, arrivals, read: None })
    }

    /// Decodes the next message of the stream and takes it.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn take(
        &mut self,
        decoder: &mut Decoder,
        message: &Message<'_>,
    ) -> Result<Taken, StoreError> {
        let place = Place {
            sequence: message.sequence,
            stored_ns: message.stored_ns,
            subject_hash: subject_hash(message.subject),
        };
        let taken = match decoder.decode(message)? {
            Meaning::Foreign => Taken::Yes,
            Meaning::Said(said) => {
                self.arrivals.push(Arrival { place, said });
                Taken::Yes
            }
            Meaning::EndOfLink => Taken::Last,
            Meaning::OtherFence => return Ok(Taken::No),
        };
        let (first, _) = self.read.unwrap_or((place, place));
        self.read = Some((first, place));
        Ok(taken)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.arrivals.len() >= MAX_BATCH_MESSAGES
    }

    /// True if no message was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read.is_none()
    }

    /// The last message that was read.
    #[must_use]
    pub fn last(&self) -> Option<Place> {
        self.read.map(|(_, last)| last)
    }
}
