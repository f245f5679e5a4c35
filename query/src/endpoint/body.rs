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

use crate::accept::Coding;

/// What every answer's body is.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Compressed bytes are sent in pieces of up to so many.
const COMPRESSED_PIECE_BYTES: usize = 32 * 1024;
/// So many pieces of an answer are made ahead of the one that is being sent.
const PIECES_AHEAD: usize = 4;

/// A body that is there already.
#[must_use]
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body made of pieces. The first is made at once, so that a small answer is whole and a defect that shows in it
/// costs nobody a call; the others are made while those before are sent.
pub fn pieces(mut pieces: impl Iterator<Item = Vec<u8>> + Send + 'static, coding: Coding) -> Body {
    let first = pieces.next().unwrap_or_default();
    let plain = match pieces.next() {
        None if coding == Coding::Identity => return whole(first),
        None => stream::iter([Ok(first.into())]).left_stream(),
        Some(second) => {
            let made = stream::iter([Ok(first.into()), Ok(second.into())]);
            made.chain(made_ahead(pieces)).right_stream()
        }
    };
    match coding {
        Coding::Identity => {
            BodyExt::boxed_unsync(StreamBody::new(plain.map(|piece| piece.map(Frame::data))))
        }
        // Rows are repetitive: the fastest level takes most of what there is to gain.
        Coding::Gzip => {
            from_reader(GzipEncoder::with_quality(StreamReader::new(plain), Level::Fastest))
        }
        Coding::Zstd => {
            from_reader(ZstdEncoder::with_quality(StreamReader::new(plain), Level::Fastest))
        }
    }
}

/// Pieces out of a task that makes them. It ends when nobody takes them any more; if it ends early, what comes
/// last is an error.
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
