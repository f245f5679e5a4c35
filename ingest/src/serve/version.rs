//! The versions of the messages: what a query asks for in each, and the frames that it is answered
//! with.

use botstats_common::wire::{self, DecodeError, Frame, overview, v1};

/// The version of the messages in which a query asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
    /// That of requests for an overview, which are answered in version 2.
    Three,
}

/// What a query asks for.
pub(super) enum Asked {
    Read(wire::Request),
    Overview(overview::Request),
}

impl Asked {
    pub(super) fn request_id(&self) -> &str {
        match self {
            Asked::Read(asked) => &asked.request_id,
            Asked::Overview(asked) => &asked.request_id,
        }
    }

    /// The query waits for the answer for this many milliseconds.
    pub(super) fn deadline_ms(&self) -> u32 {
        match self {
            Asked::Read(asked) => asked.deadline_ms,
            Asked::Overview(asked) => asked.deadline_ms,
        }
    }
}

impl Version {
    /// The version of a request; the present one of reads if the request has no known version.
    pub(super) fn of(request: &[u8]) -> Self {
        match request.first() {
            Some(&v1::VERSION) => Version::One,
            Some(&overview::VERSION) => Version::Three,
            _ => Version::Two,
        }
    }

    /// The request in its present form.
    ///
    /// # Errors
    /// If this is no request, with the reason that the asker is told.
    pub(super) fn decode(self, request: &[u8]) -> Result<Asked, &'static str> {
        let not_understood = |_: DecodeError| "not a read that this version understands";
        match self {
            Version::One => {
                let asked = wire::decode_as(v1::VERSION, request).map_err(not_understood)?;
                v1::Request::upgrade(asked).map(Asked::Read)
            }
            Version::Two => wire::decode(request).map(Asked::Read).map_err(not_understood),
            Version::Three => wire::decode_as(overview::VERSION, request)
                .map(Asked::Overview)
                .map_err(not_understood),
        }
    }

    /// The bytes of a message that has no part of the answer. Version 1 has no frames for reasons
    /// that its requests never give.
    pub(super) fn encode(self, frame: &Frame) -> Result<Vec<u8>, postcard::Error> {
        match (self, frame) {
            (Version::Two | Version::Three, frame) => wire::encode(frame),
            (Version::One, Frame::Accepted { .. } | Frame::Refused(_) | Frame::TooLarge) => {
                wire::encode_as(v1::VERSION, frame)
            }
            (
                Version::One,
                Frame::Chunk(_)
                | Frame::Incomplete { .. }
                | Frame::TooManyPairs { .. }
                | Frame::TooManyNames
                | Frame::Overview(_),
            ) => {
                let why = "version 1 of the read messages cannot say why";
                wire::encode_as(v1::VERSION, &Frame::Refused(why.to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_is_answered_in_its_own() {
        let frame = |bytes: &[u8]| {
            let version = Version::of(bytes);
            let why = version.decode(bytes);
            let frame = match why {
                Ok(_) => Frame::Accepted { instance: "i".to_owned() },
                Err(why) => Frame::Refused(why[..3].to_owned()),
            };
            version.encode(&frame).unwrap()
        };
        // Two boundaries, and one.
        assert_eq!(frame(&[1, 0, 0, 1, 2, 10, 14, 1]), [1, 0, 1, b'i']);
        assert_eq!(frame(&[1, 0, 0, 1, 1, 10, 1]), [1, 1, 3, b'a', b't', b' ']);
        assert_eq!(frame(&[1]), [1, 1, 3, b'n', b'o', b't']);
        assert_eq!(frame(&[2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), [2, 0, 1, b'i']);
        assert_eq!(frame(&[3, 0, 0, 1, 1]), [2, 0, 1, b'i']);
        for unknown in [&[][..], &[2], &[3, 0], &[3, 0, 0, 1, 1, 1], &[4, 0]] {
            assert_eq!(frame(unknown), [2, 1, 3, b'n', b'o', b't'], "{unknown:?}");
        }
        assert_eq!(Version::One.encode(&Frame::TooLarge).unwrap(), [1, 3]);
        let refused = Version::One.encode(&Frame::TooManyNames).unwrap();
        assert!(matches!(wire::decode_as(v1::VERSION, &refused), Ok(Frame::Refused(_))));
    }
}
