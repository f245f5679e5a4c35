//! Is this still the stream that the state was made from? Decided at every connect, before a
//! message is applied. A sequence alone proves nothing: a stream that was made again, restored from
//! an older copy, or lost its tail gives the same sequences to other messages.
//!
//! *Why* the time at which the stream was made does not decide alone: after NATS' own restore, or
//! when a mirror takes the stream's place, every message is back with its sequence and time stamp,
//! but the stream has a new time. The message at the checkpoint tells such a stream from another:
//! nobody can publish a message with the sequence and the nanosecond of an earlier one.

use super::chain::ChainRefusal;
use crate::store::{Checkpoint, StreamIdentity};

/// What identifies the stream, and which sequences it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamState {
    pub identity: StreamIdentity,
    /// The first sequence that the stream still has; one more than the last if it is empty.
    pub first_sequence: u64,
    /// The last sequence that the stream ever gave to a message.
    pub last_sequence: u64,
}

/// Where to begin reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// At this sequence or the first after it.
    From(u64),
    /// After the checkpoint at this sequence, if [`recognise`] finds its message there. The stream
    /// may have been made at another time.
    AtCheckpoint(u64),
}

/// Why the stream is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "the stream was deleted and made again since sequence {sequence} was applied, and does not have the \
         message that was applied"
    )]
    OtherStream { sequence: u64 },
    #[error(
        "the stream ends at sequence {last}, but {sequence} was applied: it was restored from an older copy or lost \
         its tail"
    )]
    LostTail { sequence: u64, last: u64 },
    #[error(
        "the stream was deleted and made again, or restored from an older copy: it ends at sequence {last}, but \
         {sequence} was applied"
    )]
    ShortCopy { sequence: u64, last: u64 },
    #[error(
        "the stream begins at sequence {first}, but only {sequence} was applied: the messages between were deleted \
         or expired"
    )]
    LostMessages { sequence: u64, first: u64 },
    #[error(
        "sequence {sequence} is not the message that was applied: the stream was restored from an older copy or lost \
         its tail, and gave the sequence again"
    )]
    OtherMessage { sequence: u64 },
    #[error(transparent)]
    Chain(#[from] ChainRefusal),
}

impl Refusal {
    /// What an operator can do about it.
    pub(crate) fn what_to_do(&self) -> &'static str {
        match self {
            Self::Chain(refusal) => refusal.what_to_do(),
            _ => WHAT_TO_DO,
        }
    }
}

const WHAT_TO_DO: &str = "no event is counted until an operator acts: bring the right stream back, or run \
     `botstats-ingest rebuild` to count the events that the stream has now";

/// Decides where to begin.
///
/// | checkpoint | stream | result |
/// | --- | --- | --- |
/// | none | any | from its first message |
/// | some | ends before it | refuse |
/// | some | still has it, whenever it was made | after it, once it is compared |
/// | some | the same, begins right after it | from there: the message expired, nothing was missed |
/// | some | the same, begins later | refuse |
/// | some | made at another time, begins after it | refuse: nothing shows that it is a copy |
pub(crate) fn start(
    checkpoint: Option<&Checkpoint>,
    stream: &StreamState,
) -> Result<Start, Refusal> {
    // The server says 0 for a stream that never had a message.
    let Some(checkpoint) = checkpoint else { return Ok(Start::From(stream.first_sequence.max(1))) };
    let sequence = checkpoint.sequence;
    let same = checkpoint.stream == stream.identity;
    if stream.last_sequence < sequence {
        let last = stream.last_sequence;
        return Err(match same {
            true => Refusal::LostTail { sequence, last },
            false => Refusal::ShortCopy { sequence, last },
        });
    }
    match stream.first_sequence {
        first if first <= sequence => Ok(Start::AtCheckpoint(sequence)),
        _ if !same => Err(Refusal::OtherStream { sequence }),
        first if first == sequence + 1 => Ok(Start::From(first)),
        first => Err(Refusal::LostMessages { sequence, first }),
    }
}

/// Checks that the message which a stream has at the checkpoint or after it (sequence, time in
/// nanoseconds, hash of its subject; none if there is none) is the one that was applied.
///
/// | message | stream | result |
/// | --- | --- | --- |
/// | the one applied | the same | go on |
/// | the one applied | made at another time | go on: it was restored |
/// | another, or none | the same | refuse: it lost its tail |
/// | another, or none | made at another time | refuse: it is another stream |
///
/// # Errors
/// [`Refusal::OtherMessage`], [`Refusal::OtherStream`].
pub(crate) fn recognise(
    checkpoint: &Checkpoint,
    stream: &StreamIdentity,
    found: Option<(u64, i64, u64)>,
) -> Result<(), Refusal> {
    let Checkpoint { sequence, stored_ns, subject_hash, .. } = *checkpoint;
    match found == Some((sequence, stored_ns, subject_hash)) {
        true => Ok(()),
        false if checkpoint.stream == *stream => Err(Refusal::OtherMessage { sequence }),
        false => Err(Refusal::OtherStream { sequence }),
    }
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
            (true, stream(6, 1, 20), Ok(Start::AtCheckpoint(10))),
            (true, stream(6, 10, 10), Ok(Start::AtCheckpoint(10))),
            (true, stream(4, 1, 10), Ok(Start::AtCheckpoint(10))),
            (true, stream(6, 1, 9), Err(Refusal::ShortCopy { sequence, last: 9 })),
            (true, stream(6, 1, 0), Err(Refusal::ShortCopy { sequence, last: 0 })),
            (true, stream(6, 11, 10), Err(Refusal::OtherStream { sequence })),
            (true, stream(6, 11, 20), Err(Refusal::OtherStream { sequence })),
            (true, stream(6, 12, 20), Err(Refusal::OtherStream { sequence })),
            (false, stream(6, 8, 20), Ok(Start::From(8))),
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
        let restored = StreamIdentity { created_ns: 6, ..identity.clone() };
        for stream in [&identity, &restored] {
            assert_eq!(recognise(&checkpoint, stream, Some((10, 7, 9))), Ok(()));
        }
        for found in [Some((11, 7, 9)), Some((10, 8, 9)), Some((10, 7, 8)), None] {
            let same = recognise(&checkpoint, &identity, found);
            assert_eq!(same, Err(Refusal::OtherMessage { sequence }), "{found:?}");
            let other = recognise(&checkpoint, &restored, found);
            assert_eq!(other, Err(Refusal::OtherStream { sequence }), "{found:?}");
        }
    }
}
