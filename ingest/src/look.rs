//! Looks at the stream: which one it is, where it ends, and what time the server has.

use std::time::Duration;

use async_nats::Client;
use botstats_common::names::EVENTS_STREAM;
use botstats_common::shell::nats::chain;
use serde::Deserialize;
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

/// Why there is no look at the stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    /// Nothing, or an error on the way.
    #[error("no answer from JetStream")]
    Request(#[from] async_nats::RequestError),
    #[error("JetStream's answer cannot be read: {0}")]
    Answer(String),
    #[error("there is no stream {EVENTS_STREAM}: run `botstats setup`")]
    NoStream,
}

#[derive(Deserialize)]
struct Info {
    created: Option<String>,
    ts: Option<String>,
    state: Option<InfoState>,
    error: Option<InfoError>,
}

#[derive(Deserialize)]
struct InfoState {
    first_seq: u64,
    last_seq: u64,
}

#[derive(Deserialize)]
struct InfoError {
    err_code: Option<u64>,
    description: Option<String>,
}

/// The error code of JetStream for a stream that is not there.
const STREAM_NOT_FOUND: u64 = 10_059;

/// Asks the server.
pub(crate) async fn look(client: &Client) -> Result<Seen, LookError> {
    let answer = client.request(format!("$JS.API.STREAM.INFO.{EVENTS_STREAM}"), "".into()).await?;
    let bad = |what: &str| LookError::Answer(what.to_owned());
    let info: Info = serde_json::from_slice(&answer.payload).map_err(|e| bad(&e.to_string()))?;
    if let Some(error) = info.error {
        return Err(match error.err_code {
            Some(STREAM_NOT_FOUND) => LookError::NoStream,
            _ => bad(error.description.as_deref().unwrap_or("an error without a text")),
        });
    }
    let time = |text: Option<String>| {
        text.and_then(|t| t.parse::<jiff::Timestamp>().ok()).ok_or_else(|| bad("a time is missing"))
    };
    let created = time(info.created)?.as_nanosecond();
    let state = info.state.ok_or_else(|| bad("the state is missing"))?;
    Ok(Seen {
        state: StreamState {
            identity: StreamIdentity {
                name: EVENTS_STREAM.to_owned(),
                created_ns: i64::try_from(created).map_err(|_| bad("a time is out of range"))?,
            },
            first_sequence: state.first_seq,
            last_sequence: state.last_seq,
        },
        look: Look { at_ms: time(info.ts)?.as_millisecond(), last_sequence: state.last_seq },
    })
}

/// Whether the stream is there.
///
/// # Errors
/// If JetStream does not answer.
pub(crate) async fn stream_is_there(client: &Client) -> Result<bool, String> {
    match look(client).await {
        Ok(_) => Ok(true),
        Err(LookError::NoStream) => Ok(false),
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
