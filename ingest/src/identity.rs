//! Is this still the stream that the state was made from? Decided before a message is applied, at every
//! connect: a sequence alone proves nothing, because a stream that was made again, restored from an older
//! copy, or lost its tail gives the same sequences to other messages.

use crate::store::{Checkpoint, StreamIdentity};

/// What the server says about the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// Which stream it is.
    pub identity: StreamIdentity,
    /// The first sequence that it still has; one more than the last if it is empty.
    pub first_sequence: u64,
    /// The last sequence that it ever gave.
    pub last_sequence: u64,
}

/// Where to begin reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At this sequence; whatever comes first is applied.
    From(u64),
    /// After the checkpoint, once the message at this sequence is seen to be that one ([`recognise`]).
    AtCheckpoint(u64),
}

/// Why the stream is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another stream of the same name.
    #[error("the stream was deleted and made again since sequence {sequence} was applied")]
    OtherStream {
        /// Of the checkpoint.
        sequence: u64,
    },
    /// The stream is shorter than what was applied.
    #[error(
        "the stream ends at sequence {last}, but {sequence} was applied: it was restored from an older copy or lost its tail"
    )]
    LostTail {
        /// Of the checkpoint.
        sequence: u64,
        /// Of the stream.
        last: u64,
    },
    /// Messages went before they were applied.
    #[error(
        "the stream begins at sequence {first}, but only {sequence} was applied: messages between were deleted or expired"
    )]
    LostMessages {
        /// Of the checkpoint.
        sequence: u64,
        /// Of the stream.
        first: u64,
    },
    /// The message at the checkpoint is another one.
    #[error(
        "sequence {sequence} is not the message that was applied: the stream was restored from an older copy or lost its tail, and gave the sequence again"
    )]
    OtherMessage {
        /// Of the checkpoint.
        sequence: u64,
    },
}

/// What an operator can do about a refusal.
pub const WHAT_TO_DO: &str = "nothing is counted until this is settled: bring the right stream back, or run \
     `botstats-ingest rebuild` to count anew what the stream holds now";

/// Decides where to begin.
///
/// | checkpoint | stream | result |
/// | --- | --- | --- |
/// | none | any | from its first message |
/// | some | made at another time | refuse |
/// | some | ends before it | refuse |
/// | some | still has it | after it, once it is compared |
/// | some | begins right after it | from there: the message expired, nothing was missed |
/// | some | begins later | refuse |
///
/// # Errors
/// [`Refusal`] says why it can't go on.
pub fn start(checkpoint: Option<&Checkpoint>, stream: &StreamState) -> Result<Start, Refusal> {
    // A stream that never had a message says 0.
    let Some(checkpoint) = checkpoint else { return Ok(Start::From(stream.first_sequence.max(1))) };
    let sequence = checkpoint.sequence;
    if checkpoint.stream != stream.identity {
        return Err(Refusal::OtherStream { sequence });
    }
    if stream.last_sequence < sequence {
        return Err(Refusal::LostTail { sequence, last: stream.last_sequence });
    }
    match stream.first_sequence {
        first if first <= sequence => Ok(Start::AtCheckpoint(sequence)),
        first if first == sequence + 1 => Ok(Start::From(first)),
        first => Err(Refusal::LostMessages { sequence, first }),
    }
}

/// Checks that a message is the one of the checkpoint.
///
/// # Errors
/// [`Refusal::OtherMessage`] if it is not.
pub fn recognise(
    checkpoint: &Checkpoint,
    sequence: u64,
    stored_ns: i64,
    subject_hash: u64,
) -> Result<(), Refusal> {
    let same = checkpoint.sequence == sequence
        && checkpoint.stored_ns == stored_ns
        && checkpoint.subject_hash == subject_hash;
    if same { Ok(()) } else { Err(Refusal::OtherMessage { sequence: checkpoint.sequence }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_begin() {
        let identity = StreamIdentity { name: "S".to_owned(), created_ns: 5 };
        let checkpoint =
            Checkpoint { stream: identity.clone(), sequence: 10, stored_ns: 7, subject_hash: 9 };
        let stream = |created_ns, first_sequence, last_sequence| StreamState {
            identity: StreamIdentity { created_ns, ..identity.clone() },
            first_sequence,
            last_sequence,
        };
        let sequence = 10;
        for (known, stream, expect) in [
            (false, stream(5, 0, 0), Ok(Start::From(1))),
            (false, stream(5, 1, 0), Ok(Start::From(1))),
            (false, stream(5, 8, 20), Ok(Start::From(8))),
            (true, stream(6, 1, 20), Err(Refusal::OtherStream { sequence })),
            (true, stream(5, 1, 9), Err(Refusal::LostTail { sequence, last: 9 })),
            (true, stream(5, 1, 0), Err(Refusal::LostTail { sequence, last: 0 })),
            (true, stream(5, 1, 10), Ok(Start::AtCheckpoint(10))),
            (true, stream(5, 10, 20), Ok(Start::AtCheckpoint(10))),
            (true, stream(5, 11, 10), Ok(Start::From(11))),
            (true, stream(5, 11, 20), Ok(Start::From(11))),
            (true, stream(5, 12, 20), Err(Refusal::LostMessages { sequence, first: 12 })),
            (true, stream(5, 12, 11), Err(Refusal::LostMessages { sequence, first: 12 })),
        ] {
            assert_eq!(start(known.then_some(&checkpoint), &stream), expect, "{known} {stream:?}");
        }
        assert_eq!(recognise(&checkpoint, 10, 7, 9), Ok(()));
        for (s, t, h) in [(11, 7, 9), (10, 8, 9), (10, 7, 8)] {
            assert_eq!(recognise(&checkpoint, s, t, h), Err(Refusal::OtherMessage { sequence }));
        }
    }
}
