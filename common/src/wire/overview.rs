//! What an account has and what goes on in it now: asked for in version 3 of the messages, on the
//! subjects of the other reads, and answered in frames of version 2.
//!
//! *Format* of the request: the byte 3, then postcard. An ingest that does not know it refuses it.
//! After [`Frame::Accepted`](super::Frame) come numbered
//! [`Frame::Overview`](super::Frame::Overview)s, the last one marked, each small enough for a
//! message.

use serde::{Deserialize, Serialize};

use super::Pair;
use crate::ids::Bot;

/// The version byte of a request for an overview.
pub const VERSION: u8 = 3;

/// What a query asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The HTTP request's id, for the logs of both sides.
    pub request_id: String,
    /// The bots asked for; `None` is all bots of the account.
    pub bots: Option<Vec<Bot>>,
    /// The moment asked for, by the clock of the query, in Unix milliseconds.
    pub now_ms: i64,
    /// The query waits for the answer for this many milliseconds.
    pub deadline_ms: u32,
}

/// A part of an overview.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// `0`, `1`, ... in order of sending.
    pub number: u32,
    /// True in the last part.
    pub last: bool,
    /// Everything stored in the stream up to this instant (Unix ms, by the server's clock) is
    /// counted.
    pub as_of_ms: i64,
    /// What lies at or after this instant (Unix ms) is complete; `None` in a store without events,
    /// which has nothing to miss.
    pub complete_since_ms: Option<i64>,
    /// Every bot on a channel that had an event, those asked for, each once in all parts.
    pub pairs: Vec<PairNow>,
}

/// What goes on in a bot on a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairNow {
    /// The bot on the channel.
    pub pair: Pair,
    /// Conversations whose last session has a message, a request or a join, has not ended, and
    /// whose last event is no longer ago than the idle time that applies. Each of them is waiting,
    /// with an operator, or (the rest) with the bot.
    pub open: u32,
    /// An operator is requested and nobody is in control.
    pub waiting: u32,
    /// Those that wait and had a `message.received` in the last 30 minutes.
    pub waiting_active: u32,
    /// An operator is in control.
    pub with_operator: u32,
    /// The last message is a `message.received`.
    pub unanswered: u32,
    /// The earliest request of those in `waiting_active`, in Unix milliseconds.
    pub oldest_request_ms: Option<i64>,
}

impl PairNow {
    /// A bot on a channel without an open conversation.
    #[must_use]
    pub fn without(pair: Pair) -> Self {
        Self {
            pair,
            open: 0,
            waiting: 0,
            waiting_active: 0,
            with_operator: 0,
            unanswered: 0,
            oldest_request_ms: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DecodeError, Frame, decode, decode_as, encode, encode_as};
    use super::*;

    #[test]
    fn the_bytes_do_not_change() {
        let request = Request {
            request_id: "r1".to_owned(),
            bots: Some(vec!["b1".parse().unwrap()]),
            now_ms: 1,
            deadline_ms: 1500,
        };
        let bytes = encode_as(VERSION, &request).unwrap();
        assert_eq!(bytes, [3, 2, b'r', b'1', 1, 1, 2, b'b', b'1', 2, 0xdc, 0x0b]);
        assert_eq!(decode_as::<Request>(VERSION, &bytes).unwrap(), request);
        assert!(matches!(decode_as::<Request>(VERSION, &[2, 0]), Err(DecodeError::Version(2))));

        let frame = Frame::Overview(Part {
            number: 0,
            last: true,
            as_of_ms: -1,
            complete_since_ms: Some(2),
            pairs: vec![PairNow {
                pair: Pair { bot: "b".parse().unwrap(), channel: "c".parse().unwrap() },
                open: 6,
                waiting: 3,
                waiting_active: 2,
                with_operator: 1,
                unanswered: 4,
                oldest_request_ms: Some(1),
            }],
        });
        let bytes = encode(&frame).unwrap();
        let expected: &[&[u8]] =
            &[&[2, 7, 0, 1, 1, 1, 4, 1], &[1, b'b', 1, b'c', 6, 3, 2, 1, 4, 1, 2]];
        assert_eq!(bytes, expected.concat());
        assert_eq!(decode::<Frame>(&bytes).unwrap(), frame);
    }
}
