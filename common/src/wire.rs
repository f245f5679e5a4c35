//! Reads over NATS: what a query asks of an ingest, and how the answer comes back.
//!
//! *Format* of every message: a version byte, then postcard.
//!
//! Any ingest takes a request on `botstats.read.v1.<account>`; one ingest takes a request on
//! `botstats.read.v1.<ingest>.<account>`. The ingest answers to the request's reply inbox:
//! [`Frame::Accepted`] at once, then numbered [`Frame::Chunk`]s, the last one marked. Instead of
//! the first chunk it may send [`Frame::Refused`] or [`Frame::TooLarge`], which end the answer. A
//! chunk is smaller than [`MAX_CHUNK_BYTES`] and the server's `max_payload`, because the server
//! refuses a larger message.
//!
//! *Not here*: time zones, names and the clock. The boundaries of the groups come with the request.

mod encoded;
mod size;

use serde::{Deserialize, Serialize};

pub use self::encoded::{
    ChunksWriter, EncodedCell, EncodedCells, EncodedChunk, EncodedSamples, Reply, put_samples,
};
pub use self::size::{AnswerSize, MAX_ANSWER_BYTES};
use crate::ids::{Bot, Channel};
use crate::metric::{TypeCode, TypeSet};
use crate::quarter::Quarter;

/// The version of the messages that this program writes, and the only one that it reads.
pub const VERSION: u8 = 1;
/// The largest chunk of an answer, in bytes.
pub const MAX_CHUNK_BYTES: usize = 256 * 1024;
/// The smallest `max_payload` of a server over which all messages between the programs fit, in
/// bytes: a request with [`MAX_GROUPS`] boundaries takes 4,100, a status some 2,000. Any cell fits
/// into a chunk of that size.
pub const MIN_PAYLOAD_BYTES: usize = 8 * 1024;
/// The most groups a request may ask for: 30 days of hours, with room for clock changes.
pub const MAX_GROUPS: usize = 800;

/// What a query asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The HTTP request's id, for the logs of both sides.
    pub request_id: String,
    /// The bots asked for; `None` is all bots of the account.
    pub bots: Option<Vec<Bot>>,
    /// The metrics asked for.
    pub types: TypeSet,
    /// The groups' boundaries, strictly ascending: group `i` is
    /// `[boundaries[i], boundaries[i + 1])`.
    pub boundaries: Vec<Quarter>,
    /// The query waits for the answer for this many milliseconds.
    pub deadline_ms: u32,
}

/// One message of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// An ingest works on the request.
    Accepted {
        /// The id of its NATS service, by which it can be pinged and asked alone.
        instance: String,
    },
    /// The request can't be answered; the text says why.
    Refused(String),
    /// A part of the answer.
    Chunk(Chunk),
    /// The answer is larger than any query takes, see [`AnswerSize`].
    TooLarge,
}

/// A part of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// `0`, `1`, ... in order of sending.
    pub number: u32,
    /// True in the last chunk.
    pub last: bool,
    /// Everything stored in the stream up to this instant (Unix ms, by the server's clock) is
    /// counted.
    pub as_of_ms: i64,
    /// Pairs that follow those of the chunks before. All chunks together list every pair with a
    /// sample of any metric in the window; a cell names a pair by its place in this list.
    pub pairs: Vec<Pair>,
    /// Ordered by (group, pair). A cell with no sample of the metrics asked for is not sent.
    pub cells: Vec<Cell>,
}

/// A bot on a channel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pair {
    /// The bot.
    pub bot: Bot,
    /// The channel.
    pub channel: Channel,
}

/// What one pair has in one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The group's place in the request.
    pub group: u32,
    /// The pair's place in the answer.
    pub pair: u32,
    /// The cell's samples by metric, in ascending order of codes; no count is 0.
    pub samples: Vec<Samples>,
}

/// The samples of one metric in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Samples {
    /// The metric.
    pub code: TypeCode,
    /// How many samples: users, events, durations, or sessions for the takeover rate.
    pub count: u64,
    /// For means the sum in milliseconds; for the takeover rate the sessions with a join; for users
    /// and counts the same as `count`.
    pub sum: u64,
}

/// Why bytes are not a message of this contract.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// An unknown version.
    #[error("version {0} of the read messages is not known; this program knows {VERSION}")]
    Version(u8),
    /// A message without bytes.
    #[error("an empty message")]
    Empty,
    /// The bytes are damaged, or of another type of message.
    #[error("not a read message")]
    Postcard(#[from] postcard::Error),
    /// A cell has samples that are not in order, or a count of 0.
    #[error("a cell's samples are not in order")]
    Samples,
    /// Bytes follow the message: only a newer program knows their meaning.
    #[error("{0} bytes after the message")]
    Trailing(usize),
}

/// Encodes a message.
///
/// # Errors
/// Only if memory runs out.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_extend(message, vec![VERSION])
}

/// Decodes a message.
///
/// # Errors
/// [`DecodeError`] if the version is unknown, the bytes are damaged, or bytes follow the message.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => match postcard::take_from_bytes(body)? {
            (message, []) => Ok(message),
            (_, rest) => Err(DecodeError::Trailing(rest.len())),
        },
        Some((&version, _)) => Err(DecodeError::Version(version)),
        None => Err(DecodeError::Empty),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_version_1_do_not_change() {
        let request = Request {
            request_id: "r1".to_owned(),
            bots: Some(vec!["b1".parse().unwrap()]),
            types: TypeSet::from_iter([TypeCode::NewUser, TypeCode::IncomingMessage]),
            boundaries: vec![Quarter(10), Quarter(14)],
            deadline_ms: 1500,
        };
        let bytes = encode(&request).unwrap();
        assert_eq!(
            bytes,
            [1, 2, b'r', b'1', 1, 1, 2, b'b', b'1', 0x81, 0x40, 2, 10, 14, 0xdc, 0x0b]
        );
        assert_eq!(decode::<Request>(&bytes).unwrap(), request);

        let frame = Frame::Chunk(Chunk {
            number: 0,
            last: true,
            as_of_ms: -1,
            pairs: vec![Pair { bot: "b".parse().unwrap(), channel: "c".parse().unwrap() }],
            cells: vec![Cell {
                group: 0,
                pair: 0,
                samples: vec![Samples { code: TypeCode::TagHit, count: 3, sum: 300 }],
            }],
        });
        let bytes = encode(&frame).unwrap();
        assert_eq!(bytes, [1, 2, 0, 1, 1, 1, 1, b'b', 1, b'c', 1, 0, 0, 1, 18, 3, 0xac, 0x02]);
        assert_eq!(decode::<Frame>(&bytes).unwrap(), frame);

        assert_eq!(encode(&Frame::TooLarge).unwrap(), [1, 3]);
        assert_eq!(decode::<Frame>(&[1, 3]).unwrap(), Frame::TooLarge);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(matches!(decode::<Request>(&[9, 0]), Err(DecodeError::Version(9))));
        assert!(matches!(decode::<Request>(&[]), Err(DecodeError::Empty)));
        assert!(matches!(decode::<Request>(&[1, 0xff]), Err(DecodeError::Postcard(_))));
        // A field and a metric that only a newer program knows.
        let request = |types: u8| [1, 0, 0, types, 0, 0];
        assert!(decode::<Request>(&request(1)).is_ok());
        let longer = [&request(1)[..], &[0]].concat();
        assert!(matches!(decode::<Request>(&longer), Err(DecodeError::Trailing(1))));
        let of_bits = |bits: u32| {
            let mut bytes = vec![1, 0, 0];
            bytes.extend(postcard::to_stdvec(&bits).unwrap());
            bytes.extend([0, 0]);
            decode::<Request>(&bytes).map(|request| request.types)
        };
        let all = u32::from(TypeSet::ALL);
        assert_eq!(of_bits(all).unwrap(), TypeSet::ALL);
        assert!(matches!(of_bits(all + 1), Err(DecodeError::Postcard(_))));
        assert!(matches!(decode::<Frame>(&[1, 3, 0]), Err(DecodeError::Trailing(1))));
        // A malformed id is refused as well.
        assert!(decode::<Pair>(&[1, 1, b'*', 1, b'c']).is_err());
    }
}
