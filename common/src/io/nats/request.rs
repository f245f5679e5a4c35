//! Requests to JetStream, and what the server says about a stream.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{RequestError, RequestErrorKind};
use async_nats::{Client, jetstream};
use futures::future::BoxFuture;
use serde::Deserialize;

use crate::rules::StreamConfig;

/// The time limit of one try to connect, and of one request to JetStream.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// A JetStream context whose requests end after [`REQUEST_TIMEOUT`]. Without a domain, the
/// connected server's own is used.
#[must_use]
pub fn jetstream(client: &Client, domain: Option<&str>) -> jetstream::Context {
    let builder =
        jetstream::ContextBuilder::new().timeout(REQUEST_TIMEOUT).ack_timeout(REQUEST_TIMEOUT);
    match domain {
        Some(domain) => builder.domain(domain).build(client.clone()),
        None => builder.build(client.clone()),
    }
}

/// The prefix of the subject to which a key of a KV bucket is written: in a JetStream domain,
/// buckets listen behind the prefix of its API.
#[must_use]
pub fn put_prefix(domain: Option<&str>) -> String {
    domain.map(|domain| format!("$JS.{domain}.API.")).unwrap_or_default()
}

/// The text for requests to JetStream that no server answers.
pub(crate) const NO_JETSTREAM: &str = "no JetStream there: nats-server runs without it (start it with \
     --jetstream), this user's account has none (give it one), it is in another domain (set \
     NATS_JS_DOMAIN), or it is only just starting";

/// The info of a stream and the server's clock. async-nats has the same request, but drops the
/// clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// When the stream was made, in Unix nanoseconds.
    pub created_ns: i64,
    /// The first sequence in the stream; the last one plus 1 if the stream is empty.
    pub first_sequence: u64,
    /// The last sequence that the stream assigned.
    pub last_sequence: u64,
    /// The server's clock, in Unix milliseconds.
    pub at_ms: i64,
    /// The stream's configuration.
    pub config: StreamConfig,
}

/// Why there is no [`StreamInfo`].
#[derive(Debug, thiserror::Error)]
pub enum StreamInfoError {
    /// The request got no answer.
    #[error("no answer from JetStream")]
    Request(#[source] RequestError),
    /// No server has JetStream for this connection.
    #[error("{NO_JETSTREAM}")]
    NoJetStream,
    /// The answer is not the info of a stream.
    #[error("JetStream's answer cannot be read: {0}")]
    Answer(String),
    /// There is no such stream.
    #[error("there is no stream {0}: run `botstats setup`")]
    NoStream(String),
}

#[derive(Deserialize)]
struct RawInfo {
    created: Option<String>,
    ts: Option<String>,
    config: Option<StreamConfig>,
    state: Option<RawState>,
    error: Option<jetstream::Error>,
}

#[derive(Deserialize)]
struct RawState {
    first_seq: u64,
    last_seq: u64,
}

/// Asks for the info of a stream. Boxed, so that the compiler makes the request's code here, once,
/// and not in each crate that asks.
///
/// # Errors
/// [`StreamInfoError`]; no answer within [`REQUEST_TIMEOUT`] is one.
pub fn stream_info<'a>(
    js: &'a jetstream::Context,
    stream: &'a str,
) -> BoxFuture<'a, Result<StreamInfo, StreamInfoError>> {
    Box::pin(ask_info(js, stream))
}

async fn ask_info(js: &jetstream::Context, stream: &str) -> Result<StreamInfo, StreamInfoError> {
    let asked = js.request(format!("STREAM.INFO.{stream}"), &()).await;
    let info: RawInfo = asked.map_err(|error: RequestError| match error.kind() {
        RequestErrorKind::NoResponders => StreamInfoError::NoJetStream,
        _ => StreamInfoError::Request(error),
    })?;
    let bad = |what: &str| StreamInfoError::Answer(what.to_owned());
    if let Some(error) = info.error {
        return Err(match error.error_code() {
            ErrorCode::STREAM_NOT_FOUND => StreamInfoError::NoStream(stream.to_owned()),
            ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => StreamInfoError::NoJetStream,
            _ => StreamInfoError::Answer(error.to_string()),
        });
    }
    let time = |text: Option<String>| {
        text.and_then(|t| t.parse::<jiff::Timestamp>().ok()).ok_or_else(|| bad("a time is missing"))
    };
    let created = time(info.created)?.as_nanosecond();
    let state = info.state.ok_or_else(|| bad("the state is missing"))?;
    Ok(StreamInfo {
        created_ns: i64::try_from(created).map_err(|_| bad("a time is out of range"))?,
        first_sequence: state.first_seq,
        last_sequence: state.last_seq,
        at_ms: time(info.ts)?.as_millisecond(),
        config: info.config.ok_or_else(|| bad("the configuration is missing"))?,
    })
}
