//! The body of an answer: rendered in a task of its own and compressed while it is sent.

use std::io;

use async_compression::Level;
use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
use botstats_common::io::stop::spawn;
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio_util::io::{ReaderStream, StreamReader};

/// The body of any answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The largest piece of compressed bytes: a few writes of a socket.
const COMPRESSED_PIECE_BYTES: usize = 32 * 1024;
/// The most pieces that are made ahead of the one that is being sent: the maker and the sender then
/// rarely wait for each other.
const PIECES_AHEAD: usize = 4;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// No coding.
    Identity,
    /// gzip
    Gzip,
    /// zstd
    Zstd,
}

impl Coding {
    /// The value of `Content-Encoding`, if that field is needed.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            Coding::Identity => None,
            Coding::Gzip => Some("gzip"),
            Coding::Zstd => Some("zstd"),
        }
    }
}

/// A body whose bytes are there already.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body made of pieces. The first two are made at once, so that a small answer is whole and a
/// defect that shows in them is an error before the head of the answer is sent; the others are made
/// while those before them are sent.
pub(crate) fn pieces(
    mut pieces: impl Iterator<Item = Vec<u8>> + Send + 'static,
    coding: Coding,
) -> Body {
    let first = pieces.next().unwrap_or_default();
    let plain = match pieces.next() {
        None if coding == Coding::Identity => return whole(first),
        None => stream::iter([Ok(first.into())]).left_stream(),
        Some(second) => {
            let made = stream::iter([Ok(first.into()), Ok(second.into())]);
            made.chain(made_ahead(pieces)).right_stream()
        }
    };
    encoded(plain, coding)
}

/// A body whose bytes are there already, sent in a coding.
pub(crate) fn whole_in(bytes: Bytes, coding: Coding) -> Body {
    match coding {
        Coding::Identity => whole(bytes),
        Coding::Gzip | Coding::Zstd => encoded(stream::iter([Ok(bytes)]), coding),
    }
}

/// A body without a known end: each piece is sent as soon as it is there, never compressed. The
/// limit of an answer's time cuts it off, so the stream has to end before ([`ANSWER_LIMIT`]).
///
/// [`ANSWER_LIMIT`]: super::service::ANSWER_LIMIT
pub(crate) fn endless(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    BodyExt::boxed_unsync(StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))))
}

fn encoded(plain: impl Stream<Item = io::Result<Bytes>> + Send + 'static, coding: Coding) -> Body {
    match coding {
        Coding::Identity => {
            BodyExt::boxed_unsync(StreamBody::new(plain.map(|piece| piece.map(Frame::data))))
        }
        // Rows are repetitive: the fastest level gains most of what a slower one would.
        Coding::Gzip => {
            from_reader(GzipEncoder::with_quality(StreamReader::new(plain), Level::Fastest))
        }
        Coding::Zstd => {
            from_reader(ZstdEncoder::with_quality(StreamReader::new(plain), Level::Fastest))
        }
    }
}

/// Pieces out of a task that makes them. The task ends when the stream is dropped; if the task
/// panics, the last item is an error.
fn made_ahead(
    pieces: impl Iterator<Item = Vec<u8>> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    let making = spawn(async move {
        for piece in pieces {
            if sender.send(Bytes::from(piece)).await.is_err() {
                return;
            }
        }
    });
    stream::unfold(Some((receiver, making)), async |state| {
        let (mut receiver, making) = state?;
        match receiver.recv().await {
            Some(piece) => Some((Ok(piece), Some((receiver, making)))),
            None => match making.await {
                Ok(()) => None,
                Err(error) => Some((Err(io::Error::other(error)), None)),
            },
        }
    })
}

fn from_reader(reader: impl AsyncRead + Send + 'static) -> Body {
    let stream = ReaderStream::with_capacity(reader, COMPRESSED_PIECE_BYTES);
    BodyExt::boxed_unsync(StreamBody::new(stream.map(|piece| piece.map(Frame::data))))
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn codings_read_back() {
        let parts: Vec<Vec<u8>> = (0..40_u8).map(|i| vec![i; 5_000 + usize::from(i)]).collect();
        let plain = parts.concat();
        for coding in [Coding::Identity, Coding::Gzip, Coding::Zstd] {
            let body = pieces(parts.clone().into_iter(), coding).collect().await.unwrap();
            let sent = body.to_bytes();
            let mut read = Vec::new();
            match coding {
                Coding::Identity => read = sent.to_vec(),
                Coding::Gzip => {
                    GzipDecoder::new(&sent[..]).read_to_end(&mut read).await.map(|_| ()).unwrap();
                }
                Coding::Zstd => {
                    ZstdDecoder::new(&sent[..]).read_to_end(&mut read).await.map(|_| ()).unwrap();
                }
            }
            assert_eq!(read, plain, "{coding:?}");
        }
    }
}
