//! Looks at the stream: which one it is, where it ends, and what time the server has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use botstats_common::io::clock::monotonic;
use botstats_common::io::nats::{StreamInfoError, explain, stream_info};
use botstats_common::names::EVENTS_STREAM;
use botstats_common::rules::{self, Finding};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::freshness::Look;
use crate::identity::StreamState;
use crate::shared::Shared;
use crate::store::StreamIdentity;

/// A look at the stream's end this often.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The state of the stream, as the server tells it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) state: StreamState,
    pub(crate) look: Look,
    /// When the server was asked.
    pub(crate) asked: Instant,
    /// What is wrong with the stream's settings.
    pub(crate) findings: Vec<Finding>,
}

/// Asks the server.
pub(crate) async fn look(js: &Context) -> Result<Seen, StreamInfoError> {
    let asked = monotonic();
    let info = stream_info(js, EVENTS_STREAM).await?;
    let name = EVENTS_STREAM.to_owned();
    Ok(Seen {
        state: StreamState {
            identity: StreamIdentity { name, created_ns: info.created_ns },
            first_sequence: info.first_sequence,
            last_sequence: info.last_sequence,
        },
        look: Look { at_ms: info.at_ms, last_sequence: info.last_sequence },
        asked,
        findings: rules::events(&info.config),
    })
}

/// Whether the stream is there.
///
/// # Errors
/// If JetStream does not answer.
pub(crate) async fn stream_is_there(js: &Context) -> Result<bool, String> {
    match look(js).await {
        Ok(_) => Ok(true),
        Err(StreamInfoError::NoStream(_)) => Ok(false),
        Err(error) => Err(explain(&error)),
    }
}

/// The stream's state, and what had been taken before it was asked for: a message that was taken
/// later may be missing in it.
#[derive(Debug, Clone)]
pub(crate) struct Looked {
    pub(crate) state: StreamState,
    pub(crate) taken_before: u64,
}

/// Looks at the stream now and then, as long as somebody listens. `taken` is the last sequence that
/// was taken.
pub(crate) fn looks(
    js: Context,
    taken: Arc<AtomicU64>,
    shared: Shared,
) -> watch::Sender<Option<Looked>> {
    let (sender, _) = watch::channel(None);
    let task_sender = sender.clone();
    botstats_common::io::stop::spawn(async move {
        loop {
            sleep(LOOK_INTERVAL).await;
            // The reader's own handle does not listen.
            if task_sender.receiver_count() == 0 {
                return;
            }
            let taken_before = taken.load(Ordering::Relaxed);
            match look(&js).await {
                Ok(seen) => {
                    shared.looked(&seen);
                    let state = seen.state;
                    task_sender.send_replace(Some(Looked { state, taken_before }));
                }
                Err(error) => shared.unreachable(&explain(&error)),
            }
        }
    });
    sender
}
