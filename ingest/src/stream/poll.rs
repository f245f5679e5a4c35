//! Asks about the stream again and again while it is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::Context;
use botstats_common::io::nats::explain;
use botstats_common::io::stop::spawn;
use tokio::sync::watch;
use tokio::time::sleep;

use super::identity::StreamState;
use super::info::observe;
use crate::serve::health::Health;

/// Pause between two requests for the stream's state: reads prove their freshness at most this much
/// late.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The stream's state, and the last sequence that was taken before it was asked for. A message that
/// was taken later may be missing in that state.
#[derive(Debug, Clone)]
pub(super) struct Polled {
    pub(super) state: StreamState,
    pub(super) taken_before: u64,
}

/// Polls as long as somebody listens. `taken` is the last sequence that was taken.
pub(super) fn poll(
    js: Context,
    stream: String,
    taken: Arc<AtomicU64>,
    health: Health,
) -> watch::Receiver<Option<Polled>> {
    let (sender, receiver) = watch::channel(None);
    spawn(async move {
        loop {
            sleep(POLL_INTERVAL).await;
            let taken_before = taken.load(Ordering::Relaxed);
            let seen = observe(&js, &stream).await;
            // A late answer says nothing about the connection that a later reader has.
            if sender.is_closed() {
                return;
            }
            match seen {
                Ok(seen) => {
                    health.observed(&seen);
                    let state = seen.state;
                    sender.send_replace(Some(Polled { state, taken_before }));
                }
                Err(error) => health.unreachable(&explain(&error)),
            }
        }
    });
    receiver
}
