//! The timeout of a write: closes a connection whose reader takes nothing.
//!
//! *Why* in the socket and not around the body: once the kernel's buffers are full, hyper asks the
//! body for no more; only the socket knows that nothing goes out.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// A write that makes no progress for 30 s fails: clients, proxies and phones have shorter pauses.
pub(super) const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// Runs while a write waits.
#[derive(Debug, Default)]
pub(super) struct WriteTimeout(Option<Pin<Box<Sleep>>>);

impl WriteTimeout {
    /// A write made progress.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }

    /// A write waits. Ready with the error by which the write fails, once it has waited too long.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let waiting = self.0.get_or_insert_with(|| Box::pin(sleep(WRITE_LIMIT)));
        waiting
            .as_mut()
            .poll(context)
            .map(|()| io::Error::new(io::ErrorKind::TimedOut, "the reader takes nothing"))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::Instant;

    use super::super::socket::Socket;
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
