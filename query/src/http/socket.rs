//! A client's socket: measures heads, bounds every wait, and ends so that the client can tell what
//! it got.
//!
//! *Invariants*: an answer that is cut off ends in a reset, never in an orderly close: a client
//! that reads to the end (HTTP/1.0) would take an orderly close for the end of the answer. After a
//! whole answer the socket reads on for a moment and drops what it reads: a close over unread bytes
//! would be a reset too, and could cost the client the answer (RFC 9112, 9.6).

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::connections::ConnectionState;
use super::head::HeadMeter;
use super::head_timeout::HeadTimeout;

/// A write that makes no progress for 30 s fails: clients, proxies and phones have shorter pauses.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// A client may go on sending for 1 s after its answer: enough for what is under way.
const LINGER_LIMIT: Duration = Duration::from_secs(1);
/// The most bytes that are read and dropped in that time.
const LINGER_BYTES: usize = 1024 * 1024;

/// What a socket is made of: TCP, or a pipe in tests.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// Makes the close that follows a reset.
    fn reset_on_close(&self);
}

impl Transport for TcpStream {
    fn reset_on_close(&self) {
        // If this fails the close is the orderly one: nothing else can be done.
        let _reset = self.set_zero_linger();
    }
}

/// A connection to a client.
#[derive(Debug)]
pub(super) struct Socket<S: Transport> {
    stream: S,
    meter: HeadMeter,
    state: ConnectionState,
    head_timeout: HeadTimeout,
    /// Runs while a write waits. Once the kernel's buffers are full, hyper asks the body for no
    /// more: only the socket knows that nothing goes out.
    write_timeout: Option<Pin<Box<Sleep>>>,
    ending: Ending,
}

#[derive(Debug)]
enum Ending {
    No,
    Lingering { until: Pin<Box<Sleep>>, left: usize },
    Done,
}

impl<S: Transport> Socket<S> {
    /// Takes over a stream; feeds `meter` with all that is read.
    pub(super) fn new(stream: S, meter: HeadMeter, state: ConnectionState, idle: Duration) -> Self {
        let head_timeout = HeadTimeout::new(idle);
        Self { stream, meter, state, head_timeout, write_timeout: None, ending: Ending::No }
    }

    /// A socket without a slot, which is only written to.
    pub(super) fn without_slot(stream: S) -> Self {
        Self::new(stream, HeadMeter::default(), ConnectionState::without_slot(), Duration::ZERO)
    }

    /// What a write gives: its own result, or the timeout of a write that waits.
    fn bounded<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        self.state.set_write_blocked(written.is_pending());
        if written.is_ready() {
            self.write_timeout = None;
            return written;
        }
        let waiting = self.write_timeout.get_or_insert_with(|| Box::pin(sleep(WRITE_LIMIT)));
        let timed_out = |()| io::Error::new(io::ErrorKind::TimedOut, "the reader takes nothing");
        waiting.as_mut().poll(context).map(timed_out).map(Err)
    }

    /// Reads and drops what still comes, until the client closes or a limit is reached.
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

impl<S: Transport> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            this.meter.feed(buffer.filled().get(before..).unwrap_or_default());
            return Poll::Ready(read);
        }
        if this.state.awaits_head() {
            this.head_timeout.poll(&this.meter, context).map(Err)
        } else {
            this.head_timeout.clear();
            Poll::Pending
        }
    }
}

impl<S: Transport> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bounded(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.bounded(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_pending() { self.bounded(flushed, context) } else { flushed }
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

impl<S: Transport> Drop for Socket<S> {
    fn drop(&mut self) {
        if matches!(self.ending, Ending::No) && !self.state.awaits_head() {
            self.stream.reset_on_close();
        }
    }
}

#[cfg(test)]
impl Transport for tokio::io::DuplexStream {
    fn reset_on_close(&self) {}
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_given_up() {
        let (ours, _theirs) = duplex(1_000);
        let start = Instant::now();
        let error = Socket::without_slot(ours).write_all(&[0; 5_000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), WRITE_LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_not() {
        let (ours, mut theirs) = duplex(1_000);
        let mut ours = Socket::without_slot(ours);
        let reader = async {
            let mut taken = [0; 100];
            for _ in 0..50 {
                sleep(WRITE_LIMIT - Duration::from_secs(1)).await;
                theirs.read_exact(&mut taken).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(ours.write_all(&[0; 5_000]), reader);
        written.unwrap();
    }
}
