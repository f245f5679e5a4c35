//! Closes a connection that keeps the server waiting for the head of a request.
//!
//! | the connection | is closed after |
//! | --- | --- |
//! | is new and has sent nothing | [`HEAD_LIMIT`] |
//! | has sent a part of a head | [`HEAD_LIMIT`] from its first byte |
//! | was answered and has sent nothing of a next head | the idle limit |
//! | is being answered | (limits of the answer hold) |
//!
//! *Why* not the parser's limit of a head: that begins when the wait for the head begins, so it
//! would close idle connections after [`HEAD_LIMIT`], or let a slow head take as long as an idle
//! connection.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::crowd::Presence;
use super::head::Meter;

/// A head must be complete this long after its first byte, and the first byte of a new connection
/// must come as soon.
pub const HEAD_LIMIT: Duration = Duration::from_secs(5);

/// A stream whose reads fail when what is waited for does not come in time.
#[derive(Debug)]
pub struct Patience<S> {
    stream: S,
    meter: Meter,
    presence: Presence,
    idle_limit: Duration,
    /// Runs while a read waits for a head.
    waiting: Option<(Awaited, Pin<Box<Sleep>>)>,
}

/// What a read waits for, of the request of that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    FirstByte(u64),
    RestOfHead(u64),
}

impl<S> Patience<S> {
    /// Guards a stream whose bytes the meter is fed with.
    pub fn new(stream: S, meter: Meter, presence: Presence, idle_limit: Duration) -> Self {
        Self { stream, meter, presence, idle_limit, waiting: None }
    }

    /// What is waited for, and how long; nothing while an answer is made or sent.
    fn awaited(&self) -> Option<(Awaited, Duration)> {
        if !self.presence.is_in_order() {
            return None;
        }
        let (heads, begun) = self.meter.progress();
        Some(match (heads, begun) {
            (_, true) => (Awaited::RestOfHead(heads), HEAD_LIMIT),
            (0, false) => (Awaited::FirstByte(0), HEAD_LIMIT),
            (_, false) => (Awaited::FirstByte(heads), self.idle_limit),
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buffer) {
            return Poll::Ready(read);
        }
        let Some((awaited, limit)) = self.awaited() else {
            self.waiting = None;
            return Poll::Pending;
        };
        self.waiting.take_if(|(before, _)| *before != awaited);
        let (_, timer) = self.waiting.get_or_insert_with(|| (awaited, Box::pin(sleep(limit))));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no head came in time")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patience<S> {
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
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::Instant;

    use super::*;

    const IDLE: Duration = Duration::from_secs(75);

    /// Feeds the meter as a socket does.
    struct Metered<S>(S, Meter);

    impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.0).poll_read(context, buffer))?;
            self.1.feed(&buffer.filled()[before..]);
            Poll::Ready(Ok(()))
        }
    }

    /// The second in which a client is closed that does this: after so many seconds it sends that.
    /// A `!` is the end of the answer to the head that came last.
    async fn closed_after(script: &[(u64, &str)]) -> u64 {
        let (ours, mut theirs) = duplex(10_000);
        let (meter, presence) = (Meter::default(), Presence::alone());
        let reader = Metered(ours, meter.clone());
        let mut reader = Patience::new(reader, meter.clone(), presence.clone(), IDLE);
        let start = Instant::now();
        let reads = async {
            let mut bytes = [0; 100];
            loop {
                if let Err(error) = reader.read(&mut bytes).await {
                    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                    return start.elapsed().as_secs();
                }
                // A whole head begins the making of an answer, as an exchange does.
                while meter.next().is_some() {
                    presence.answering(true);
                }
            }
        };
        let client = async {
            for (after_s, bytes) in script {
                sleep(Duration::from_secs(*after_s)).await;
                if *bytes == "!" {
                    presence.answering(false);
                } else {
                    theirs.write_all(bytes.as_bytes()).await.unwrap();
                }
            }
            std::future::pending().await
        };
        // Every second all are polled again, as a connection is by the end of an answer.
        let ticking = async {
            for _ in 0..1_000 {
                sleep(Duration::from_secs(1)).await;
            }
            u64::MAX
        };
        tokio::select! {
            biased;
            closed = client => closed,
            closed = ticking => closed,
            closed = reads => closed,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_limit() {
        let head = "GET / HTTP/1.1\r\n\r\n";
        for (script, expected) in [
            (&[][..], 5),
            // From the first byte of a head, however it trickles.
            (&[(3, "G")], 8),
            (&[(1, "G"), (2, "E"), (2, "T")], 6),
            (&[(1, "GET / HTTP/1.1\r\n"), (4, "a: b\r\n")], 6),
            // Idle after an answer, however long that took.
            (&[(0, head), (1, "!")], 76),
            (&[(1, head), (60, "!")], 136),
            // Then the next head: 5 s from its first byte.
            (&[(0, head), (1, "!"), (60, "G")], 66),
            (&[(0, head), (1, "!"), (74, "G")], 80),
            (&[(0, head), (1, "!"), (70, head), (1, "!")], 147),
            // A part of the next head that came while the answer was made.
            (&[(0, head), (1, "GET /"), (20, "!")], 26),
            // A head in two parts does not shorten the idle time after it.
            (&[(0, "GET / "), (4, "HTTP/1.1\r\n\r\n"), (1, "!")], 80),
        ] {
            assert_eq!(closed_after(script).await, expected, "{script:?}");
        }
    }
}
