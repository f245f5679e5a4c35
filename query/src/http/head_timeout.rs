//! The timeout of a head: closes a connection that keeps the server waiting for a request.
//!
//! | a connection | is closed after |
//! | --- | --- |
//! | is new and has sent nothing | [`HEAD_LIMIT`] |
//! | has sent a part of a head | [`HEAD_LIMIT`] from its first byte |
//! | was answered and has sent nothing of the next head | the idle limit |
//! | is being answered | (the limits of an answer hold) |
//!
//! *Why* not hyper's `header_read_timeout`: its time begins when the wait for a head begins, so it
//! would close idle connections after [`HEAD_LIMIT`], or let a slow head take as long as an idle
//! connection may.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::head::HeadMeter;

/// A head must be complete 5 s after its first byte; the first byte of a new connection must come
/// in the same time. `docs/http.md` promises it.
pub(super) const HEAD_LIMIT: Duration = Duration::from_secs(5);

/// Runs while a read waits for a head.
#[derive(Debug)]
pub(super) struct HeadTimeout {
    idle_limit: Duration,
    waiting: Option<(Awaited, Pin<Box<Sleep>>)>,
}

/// What a read waits for, with the number of whole heads before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    FirstByte(u64),
    RestOfHead(u64),
}

impl HeadTimeout {
    pub(super) fn new(idle_limit: Duration) -> Self {
        Self { idle_limit, waiting: None }
    }

    /// An answer is being made or sent: the read waits for no head.
    pub(super) fn clear(&mut self) {
        self.waiting = None;
    }

    /// A read waits for a head. Ready with the error by which the read fails, once it has waited
    /// too long.
    pub(super) fn poll(&mut self, meter: &HeadMeter, context: &mut Context<'_>) -> Poll<io::Error> {
        let (heads, begun) = meter.progress();
        let (awaited, limit) = match (heads, begun) {
            (_, true) => (Awaited::RestOfHead(heads), HEAD_LIMIT),
            (0, false) => (Awaited::FirstByte(0), HEAD_LIMIT),
            (_, false) => (Awaited::FirstByte(heads), self.idle_limit),
        };
        self.waiting.take_if(|(before, _)| *before != awaited);
        let (_, timer) = self.waiting.get_or_insert_with(|| (awaited, Box::pin(sleep(limit))));
        timer
            .as_mut()
            .poll(context)
            .map(|()| io::Error::new(io::ErrorKind::TimedOut, "no head came in time"))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::Instant;

    use super::super::connections::ConnectionState;
    use super::super::socket::Socket;
    use super::*;

    const IDLE: Duration = Duration::from_secs(75);

    /// The second in which a client is closed that does this: after so many seconds it sends that.
    /// A `!` is the end of the answer to the head that came last.
    async fn closed_after(script: &[(u64, &str)]) -> u64 {
        let (ours, mut theirs) = duplex(10_000);
        let (meter, state) = (HeadMeter::default(), ConnectionState::without_slot());
        let mut reader = Socket::new(ours, meter.clone(), state.clone(), IDLE);
        let start = Instant::now();
        let reads = async {
            let mut bytes = [0; 100];
            loop {
                if let Err(error) = reader.read(&mut bytes).await {
                    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                    return start.elapsed().as_secs();
                }
                // A whole head begins an answer, as in the service.
                while meter.next().is_some() {
                    state.set_answering(true);
                }
            }
        };
        let client = async {
            for (after_s, bytes) in script {
                sleep(Duration::from_secs(*after_s)).await;
                if *bytes == "!" {
                    state.set_answering(false);
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
