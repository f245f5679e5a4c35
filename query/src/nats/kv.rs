//! The newest value of a KV key, read from the stream's leader.
//!
//! *Why* not `kv::Store::get`: it reads from any replica of the stream. A replica may be behind,
//! and a revoked token must not get an answer.

use async_nats::jetstream::Context;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use botstats_common::names::bucket_stream;
use bytes::Bytes;

/// The newest message of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Latest {
    /// The message's sequence in the stream.
    pub(crate) revision: u64,
    /// When the server stored the message, in Unix milliseconds by its clock.
    pub(crate) created_ms: i64,
    /// The value; `None` if the key was deleted.
    pub(crate) value: Option<Bytes>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum KvError {
    #[error("the KV bucket's stream did not answer")]
    Get(#[from] async_nats::jetstream::stream::LastRawMessageError),
    #[error("not a KV bucket's name")]
    Bucket(#[from] async_nats::jetstream::context::GetStreamError),
}

/// The newest message of a key, or of all keys with `>`; `None` if there is none.
pub(crate) async fn latest(
    js: &Context,
    bucket: &str,
    key: &str,
) -> Result<Option<Latest>, KvError> {
    let stream = js.get_stream_no_info(bucket_stream(bucket)).await?;
    match stream.get_last_raw_message_by_subject(&format!("$KV.{bucket}.{key}")).await {
        Ok(message) => Ok(Some(read(message))),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read(message: StreamMessage) -> Latest {
    let created_ms = message.time.unix_timestamp_nanos().div_euclid(1_000_000);
    Latest {
        revision: message.sequence,
        created_ms: i64::try_from(created_ms).unwrap_or(i64::MAX),
        value: (!is_tombstone(&message.headers)).then_some(message.payload),
    }
}

/// True if a message with these headers is a tombstone: it deletes its key.
pub(crate) fn is_tombstone(headers: &async_nats::HeaderMap) -> bool {
    let operation = headers.get("KV-Operation").map(async_nats::HeaderValue::as_str);
    // A tombstone that the server leaves when a key expires has a reason instead.
    matches!(operation, Some("DEL" | "PURGE")) || headers.get("Nats-Marker-Reason").is_some()
}
