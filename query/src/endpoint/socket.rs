//! A client's socket: measures heads, and ends so that the client can tell what it got.
//!
//! *Invariants*: an answer that is cut off ends in a reset, never in an orderly close, which a client
//! that reads to the end (HTTP/1.0) would take for the answer's own end. After a whole answer what the
//! client still sends is taken for a moment: closing over it would be a reset too, and could cost the
//! client the answer (RFC 9112, 9.6).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::crowd::Presence;
use super::head::Meter;

/// How long a client that was answered may go on sending.
const LINGER_LIMIT: Duration = Duration::from_secs(1);
/// And how much.
const LINGER_BYTES: usize = 1024 * 1024;

/// A connection to a client.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    meter: Meter,
    presence: Presence,
    ending: Ending,
}

#[derive(Debug)]
enum Ending {
    No,
    Lingering { until: Pin<Box<Sleep>>, left: usize },
    Done,
}

impl Socket {
    /// Takes over a socket.
    #[must_use]
    pub fn new(stream: TcpStream, meter: Meter, presence: Presence) -> Self {
        Self { stream, meter, presence, ending: Ending::No }
    }

    /// Takes and drops what still comes, until the client closes or a limit is reached.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Ending::Lingering { until, left } = &mut self.ending else {
            return Poll::Ready(());
        };
        let mut scratch = [0; 4096];
        while *left > 0 {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    *left = left.saturating_sub(buffer.filled().len());
                }
                Poll::Ready(_) => break,
                Poll::Pending => {
                    ready!(until.as_mut().poll(context));
                    break;
                }
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.meter.feed(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.ending, Ending::No) {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            let until = Box::pin(sleep(LINGER_LIMIT));
            self.ending = Ending::Lingering { until, left: LINGER_BYTES };
        }
        ready!(self.poll_linger(context));
        self.ending = Ending::Done;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if matches!(self.ending, Ending::No) && !self.presence.is_in_order() {
            // Without it the close is the orderly one, which is all that can be done then.
            let _reset = self.stream.set_zero_linger();
        }
    }
}
