//! Reads over NATS: what a query asks of an ingest, and how the answer comes back.
//!
//! *Format* of every message: a version byte, then postcard. Version 1 is in [`v1`]: an ingest
//! still answers its requests, in its form. Version 3 is in [`overview`].
//!
//! Any ingest takes a request on `botstats.read.v1.<account>`; where streams have slots, any that
//! answers for the account's slot takes it on `botstats.read.v2.<slot>.<account>`. One ingest takes
//! a request on `botstats.read.v1.<ingest>.<account>`. The ingest answers to the request's reply
//! inbox:
//! [`Frame::Accepted`] at once, then numbered [`Frame::Chunk`]s, the last one marked. Instead of
//! the first chunk it may send [`Frame::Refused`], [`Frame::TooLarge`], [`Frame::Incomplete`],
//! [`Frame::TooManyPairs`] or [`Frame::TooManyNames`], which end the answer. A chunk is smaller
//! than [`MAX_CHUNK_BYTES`] and the server's `max_payload`, because the server refuses a larger
//! message.
//!
//! *Not here*: time zones, shown names and the clock. The stretches of the groups come with the
//! request.

mod encoded;
pub mod overview;
mod size;
pub mod v1;

use serde::{Deserialize, Serialize};

pub use self::encoded::{
    ChunksWriter, EncodedCell, EncodedCells, EncodedChunk, EncodedSamples, Reply, put_samples,
};
pub use self::size::{AnswerSize, MAX_ANSWER_BYTES};
use crate::ids::{Bot, Channel};
use crate::metric::{TypeCode, TypeSet};
use crate::quarter::{QUARTERS_PER_DAY, Quarter};
use crate::split::Split;
use crate::stat::Stat;

/// The version of the messages that a query writes, and the only one that it reads.
pub const VERSION: u8 = 2;
/// The largest chunk of an answer, in bytes.
pub const MAX_CHUNK_BYTES: usize = 256 * 1024;
/// The smallest `max_payload` of a server over which all messages between the programs fit, in
/// bytes: a request of version 1 with 800 boundaries takes 4,100, a status some 2,000. Any cell
/// fits into a chunk of that size.
pub const MIN_PAYLOAD_BYTES: usize = 8 * 1024;
/// The most dates that a question may ask for.
pub const MAX_DATES: u32 = 400;
/// The most dates of a window with groups of an hour or less.
pub const MAX_CLOCK_DATES: u32 = 62;
/// The longest window, in quarters. The dates a month before [`MAX_DATES`] may be three more, as
/// 1 January to 7 February of the next year is before 1 February to 7 March; the fourth day is room
/// for clock changes.
pub const MAX_WINDOW_QUARTERS: u32 = (MAX_DATES + 4) * QUARTERS_PER_DAY;
/// The most groups of a window: 62 dates of quarters, with the same room.
pub const MAX_GROUPS: u32 = (62 + 4) * QUARTERS_PER_DAY;
/// The most runs of a window. Clocks change a few times a year, and a run is a month or less only
/// where the groups are of different length.
pub const MAX_RUNS: usize = 500;
/// The most different names of an answer.
pub const MAX_NAMES: usize = 100_000;
/// The most dates times pairs of a request that has [`Request::dates`].
pub const MAX_DATES_TIMES_PAIRS: u64 = 150_000;

/// What a query asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The HTTP request's id, for the logs of both sides.
    pub request_id: String,
    /// The bots asked for; `None` is all bots of the account.
    pub bots: Option<Vec<Bot>>,
    /// The metrics asked for.
    pub types: TypeSet,
    /// A row is listed if its pairs have a sample of one of these, or an active user, in any
    /// window. With `split` it is listed if its name has a sample of any metric of the split.
    pub listed: TypeSet,
    /// The window, then the earlier one that it is compared with.
    pub windows: Vec<Window>,
    /// What rows are kept apart by.
    pub by: By,
    /// What is made of each row's durations.
    pub stats: Vec<Stat>,
    /// Rows by name.
    pub split: Option<SplitBy>,
    /// Whether the answer is refused if the windows reach further back than the ingest can answer
    /// completely.
    pub complete: bool,
    /// The dates of all windows. Together with the pairs asked for they are limited
    /// ([`MAX_DATES_TIMES_PAIRS`]); 0 is no limit.
    pub dates: u32,
    /// The query waits for the answer for this many milliseconds.
    pub deadline_ms: u32,
}

/// A stretch of time, cut into groups. Groups of the second window have numbers that follow those
/// of the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Where the window begins.
    pub start: Quarter,
    /// How many groups it has.
    pub groups: u32,
    /// The runs that follow each other from `start` to the window's end; none in an empty window.
    pub runs: Vec<Run>,
}

/// Parts of equal length that follow each other, each for one group.
///
/// The first part counts for `group`, each next one for the next group; group 0 follows the last.
/// Active users are distinct within a part; a group that has several parts adds them up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// How many parts; at least 1.
    pub parts: u32,
    /// The length of each part in quarters; at least 1.
    pub quarters: u32,
    /// The group of the first part; `None` if all parts are in the window but in no group.
    pub group: Option<u32>,
}

/// The same runs of a window with that many groups, with neighbours of equal length in one, where
/// the next group follows.
#[must_use]
pub fn joined(runs: impl IntoIterator<Item = Run>, groups: u32) -> Vec<Run> {
    let mut joined: Vec<Run> = Vec::new();
    for run in runs {
        match joined.last_mut() {
            Some(last)
                if last.quarters == run.quarters
                    && last.group.map(|group| (group + last.parts) % groups.max(1))
                        == run.group =>
            {
                last.parts += run.parts;
            }
            _ => joined.push(run),
        }
    }
    joined
}

/// What rows are kept apart by; rows are merged over the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct By {
    /// Each bot has rows of its own.
    pub bot: bool,
    /// Each channel has rows of its own.
    pub channel: bool,
}

impl By {
    /// Each bot on each channel.
    pub const PAIR: By = By { bot: true, channel: true };
}

/// Rows by the names of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SplitBy {
    /// The kind of name.
    pub split: Split,
    /// The most names that keep rows of their own; the others join [`RowName::Other`].
    pub top: u32,
}

/// One message of an answer.
///
/// Never move the first four variants. Version 1 has the same four in the same places, and an
/// ingest answers its requests with them. Only the chunks differ: [`ChunksWriter`] writes both
/// kinds.
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
    /// A window reaches further back than this ingest can answer completely.
    Incomplete {
        /// What lies at or after this instant (Unix ms) is complete.
        since_ms: i64,
    },
    /// Dates times pairs are too many, see [`Request::dates`].
    TooManyPairs {
        /// How many pairs were asked for.
        pairs: u32,
    },
    /// The answer has more than [`MAX_NAMES`] names.
    TooManyNames,
    /// A part of the answer to [`overview::Request`].
    Overview(overview::Part),
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
    /// Only where rows are merged over bots but not over channels: every pair with a sample of any
    /// metric in a window, each once.
    pub pairs: Vec<Pair>,
    /// Rows that follow those of the chunks before; a cell names its row by the place in this list.
    pub rows: Vec<RowKey>,
    /// In any order, each (group, row) at most once. A cell with no sample of the metrics asked for
    /// is not sent.
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

/// Whose rows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RowKey {
    /// `None` where rows are merged over bots.
    pub bot: Option<Bot>,
    /// `None` where rows are merged over channels.
    pub channel: Option<Channel>,
    /// The name of the split.
    pub name: RowName,
}

impl From<Pair> for RowKey {
    fn from(Pair { bot, channel }: Pair) -> Self {
        Self { bot: Some(bot), channel: Some(channel), name: RowName::Unsplit }
    }
}

/// The name by which a row is split.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RowName {
    /// The rows are not split.
    #[default]
    Unsplit,
    /// Without a name.
    Absent,
    /// All names that have no rows of their own.
    Other,
    /// This name; of an operator the id.
    Named(String),
}

/// What one row has in one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The group's number.
    pub group: u32,
    /// The row's place in the answer.
    pub row: u32,
    /// The cell's samples by metric, in ascending order of codes; no count is 0.
    pub samples: Vec<Samples>,
    /// For each duration among the samples, in their order, a number for each stat asked for:
    /// milliseconds, for [`Stat::Within`] the number of samples.
    pub stats: Vec<u64>,
}

/// The samples of one metric in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Samples {
    /// The metric.
    pub code: TypeCode,
    /// How many samples.
    pub count: u64,
    /// The sum of their values: for durations in milliseconds, for ratios the number of those that
    /// have the property; for users and counts the same as `count`.
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

/// Encodes a message in the present version.
///
/// # Errors
/// Only if memory runs out.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, postcard::Error> {
    encode_as(VERSION, message)
}

/// Encodes a message of that version.
///
/// # Errors
/// Only if memory runs out.
pub fn encode_as<T: Serialize>(version: u8, message: &T) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_extend(message, vec![version])
}

/// Decodes a message of the present version.
///
/// # Errors
/// As [`decode_as`].
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    decode_as(VERSION, bytes)
}

/// Decodes a message of that version.
///
/// # Errors
/// [`DecodeError`] if the version is another, the bytes are damaged, or bytes follow the message.
pub fn decode_as<'a, T: Deserialize<'a>>(version: u8, bytes: &'a [u8]) -> Result<T, DecodeError> {
    match bytes.split_first() {
        Some((&first, body)) if first == version => match postcard::take_from_bytes(body)? {
            (message, []) => Ok(message),
            (_, rest) => Err(DecodeError::Trailing(rest.len())),
        },
        Some((&other, _)) => Err(DecodeError::Version(other)),
        None => Err(DecodeError::Empty),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_version_2_do_not_change() {
        let request = Request {
            request_id: "r1".to_owned(),
            bots: Some(vec!["b1".parse().unwrap()]),
            types: TypeSet::from_iter([TypeCode::NewUser, TypeCode::IncomingMessage]),
            listed: TypeSet::from_iter([TypeCode::NewUser]),
            windows: vec![Window {
                start: Quarter(10),
                groups: 5,
                runs: vec![
                    Run { parts: 2, quarters: 4, group: Some(3) },
                    Run { parts: 1, quarters: 3, group: None },
                ],
            }],
            by: By { bot: false, channel: true },
            stats: vec![Stat::Percentile(90), Stat::Min, Stat::Max, Stat::Within(30)],
            split: Some(SplitBy { split: Split::Tag, top: 50 }),
            complete: true,
            dates: 7,
            deadline_ms: 1500,
        };
        let bytes = encode(&request).unwrap();
        let expected: &[&[u8]] = &[
            &[2, 2, b'r', b'1', 1, 1, 2, b'b', b'1', 0x81, 0x40, 1],
            &[1, 10, 5, 2, 2, 4, 1, 3, 1, 3, 0],
            &[0, 1, 4, 0, 90, 1, 2, 3, 30, 1, 1, 50, 1, 7, 0xdc, 0x0b],
        ];
        assert_eq!(bytes, expected.concat());
        assert_eq!(decode::<Request>(&bytes).unwrap(), request);

        let frame = Frame::Chunk(Chunk {
            number: 0,
            last: true,
            as_of_ms: -1,
            pairs: vec![Pair { bot: "b".parse().unwrap(), channel: "c".parse().unwrap() }],
            rows: vec![RowKey {
                bot: None,
                channel: Some("c".parse().unwrap()),
                name: RowName::Named("n".to_owned()),
            }],
            cells: vec![Cell {
                group: 0,
                row: 0,
                samples: vec![Samples { code: TypeCode::ApiTime, count: 3, sum: 300 }],
                stats: vec![100],
            }],
        });
        let bytes = encode(&frame).unwrap();
        let expected: &[&[u8]] = &[
            &[2, 2, 0, 1, 1, 1, 1, b'b', 1, b'c', 1, 0, 1, 1, b'c', 3, 1, b'n'],
            &[1, 0, 0, 1, 107, 3, 0xac, 0x02, 1, 100],
        ];
        assert_eq!(bytes, expected.concat());
        assert_eq!(decode::<Frame>(&bytes).unwrap(), frame);

        for (frame, expected) in [
            (Frame::TooLarge, &[2, 3][..]),
            (Frame::Incomplete { since_ms: 1 }, &[2, 4, 2]),
            (Frame::TooManyPairs { pairs: 9 }, &[2, 5, 9]),
            (Frame::TooManyNames, &[2, 6]),
        ] {
            assert_eq!(encode(&frame).unwrap(), expected);
            assert_eq!(decode::<Frame>(expected).unwrap(), frame);
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(matches!(decode::<Request>(&[9, 0]), Err(DecodeError::Version(9))));
        assert!(matches!(decode::<Request>(&[]), Err(DecodeError::Empty)));
        assert!(matches!(decode::<Request>(&[2, 0xff]), Err(DecodeError::Postcard(_))));
        // A field and a metric that only a newer program knows.
        let request = |types: u8| [2, 0, 0, types, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(decode::<Request>(&request(1)).is_ok());
        let longer = [&request(1)[..], &[0]].concat();
        assert!(matches!(decode::<Request>(&longer), Err(DecodeError::Trailing(1))));
        let of_bits = |bits: u32| {
            let mut bytes = vec![2, 0, 0];
            bytes.extend(postcard::to_stdvec(&bits).unwrap());
            bytes.extend([0; 9]);
            decode::<Request>(&bytes).map(|request| request.types)
        };
        let all = u32::from(TypeSet::ALL);
        assert_eq!(of_bits(all).unwrap(), TypeSet::ALL);
        assert!(matches!(of_bits(all + 1), Err(DecodeError::Postcard(_))));
        assert!(matches!(decode::<Frame>(&[2, 3, 0]), Err(DecodeError::Trailing(1))));
        // A malformed id is refused as well.
        assert!(decode::<Pair>(&[2, 1, b'*', 1, b'c']).is_err());
    }
}
