//! Looks at the stream: which one it is, where it ends, and what time the server has.

use std::time::Duration;

use async_nats::Client;
use botstats_common::names::EVENTS_STREAM;
use botstats_common::shell::nats::{StreamInfoError, chain, stream_info};
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
}

/// Asks the server.
pub(crate) async fn look(client: &Client) -> Result<Seen, StreamInfoError> {
    let info = stream_info(client, EVENTS_STREAM).await?;
    let name = EVENTS_STREAM.to_owned();
    Ok(Seen {
        state: StreamState {
            identity: StreamIdentity { name, created_ns: info.created_ns },
            first_sequence: info.first_sequence,
            last_sequence: info.last_sequence,
        },
        look: Look { at_ms: info.at_ms, last_sequence: info.last_sequence },
    })
}

/// Whether the stream is there.
///
/// # Errors
/// If JetStream does not answer.
pub(crate) async fn stream_is_there(client: &Client) -> Result<bool, String> {
    match look(client).await {
        Ok(_) => Ok(true),
        Err(StreamInfoError::NoStream(_)) => Ok(false),
        Err(error) => Err(chain(&error)),
    }
}

/// Looks at the stream now and then, as long as somebody listens.
pub(crate) fn looks(client: Client, shared: Shared) -> watch::Sender<Option<StreamState>> {
    let (sender, _) = watch::channel(None);
    let task_sender = sender.clone();
    botstats_common::shell::stop::spawn(async move {
        loop {
            sleep(LOOK_INTERVAL).await;
            // The reader's own handle does not listen.
            if task_sender.receiver_count() == 0 {
                return;
            }
            match look(&client).await {
                Ok(seen) => {
                    shared.looked(&seen.state, seen.look);
                    task_sender.send_replace(Some(seen.state));
                }
                Err(error) => shared.unreachable(&chain(&error)),
            }
        }
    });
    sender
}
