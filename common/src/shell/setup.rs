//! The stream and the KV buckets: made if they are absent, checked if they are there.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::context::{
    CreateStreamErrorKind, GetStreamErrorKind, RequestError, RequestErrorKind,
};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, ErrorCode};

use super::nats::NO_JETSTREAM;
use super::settings::show_duration;
use crate::names::{
    DIRECTORY_BUCKET, EVENTS_STREAM, EVENTS_SUBJECTS, MAX_MESSAGE_BYTES, THROTTLE_BUCKET,
};

/// Values kept of each directory key, so that a replica that starts after a bad write still finds the
/// last good one.
const DIRECTORY_HISTORY: i64 = 8;

/// Why the stream or a bucket is not there or not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The server said no, or nothing (as it does when a permission is missing).
    #[error("{what} could not be made or read")]
    Request {
        /// Which stream or bucket.
        what: &'static str,
        /// What happened.
        source: async_nats::Error,
    },
    /// There is nobody to ask.
    #[error("{what} could not be made or read: {NO_JETSTREAM}")]
    NoJetStream {
        /// Which stream or bucket.
        what: &'static str,
    },
    /// It exists with another setting.
    #[error(
        "{what} exists with {setting} = {found}; {wanted} is needed, and what exists is not changed here \
         (docs/operations.md says how)"
    )]
    Differs {
        /// Which stream or bucket.
        what: &'static str,
        /// Which of its settings.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it should be.
        wanted: String,
    },
}

/// What was done about a stream or bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there and was made.
    Made,
    /// It was there, as it must be.
    Checked,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Made => "made",
            Outcome::Checked => "there already, as it must be",
        })
    }
}

/// Makes or checks the stream of events.
///
/// # Errors
/// [`SetupError`]; a stream that exists with other settings is not changed.
pub async fn events_stream(
    js: &jetstream::Context,
    replicas: usize,
) -> Result<Outcome, SetupError> {
    let wanted = Config {
        name: EVENTS_STREAM.to_owned(),
        subjects: vec![EVENTS_SUBJECTS.to_owned()],
        description: Some("botstats: every event, the source of truth".to_owned()),
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        deny_delete: true,
        max_message_size: MAX_MESSAGE_BYTES,
        allow_direct: true,
        allow_atomic_publish: true,
        num_replicas: replicas,
        ..Config::default()
    };
    let (outcome, found) = make_or_get(js, "stream BOTSTATS_EVENTS", wanted.clone()).await?;
    let differs = |setting, found: String, wanted: String| {
        if found == wanted {
            return Ok(());
        }
        Err(SetupError::Differs { what: "stream BOTSTATS_EVENTS", setting, found, wanted })
    };
    differs("subjects", found.subjects.join(","), wanted.subjects.join(","))?;
    differs("storage", format!("{:?}", found.storage), format!("{:?}", wanted.storage))?;
    differs("retention", format!("{:?}", found.retention), format!("{:?}", wanted.retention))?;
    differs("discard", format!("{:?}", found.discard), format!("{:?}", wanted.discard))?;
    differs("deny_delete", found.deny_delete.to_string(), "true".to_owned())?;
    differs("allow_direct", found.allow_direct.to_string(), "true".to_owned())?;
    Ok(outcome)
}

/// Makes or checks the directory's KV bucket.
///
/// # Errors
/// [`SetupError`].
pub async fn directory_bucket(
    js: &jetstream::Context,
    replicas: usize,
) -> Result<Outcome, SetupError> {
    let wanted = kv_stream(DIRECTORY_BUCKET, DIRECTORY_HISTORY, Duration::ZERO, replicas);
    let (outcome, found) = make_or_get(js, "KV bucket botstats_directory", wanted).await?;
    if found.max_age != Duration::ZERO {
        return Err(SetupError::Differs {
            what: "KV bucket botstats_directory",
            setting: "max_age",
            found: show_duration(found.max_age),
            wanted: "0s (nothing expires)".to_owned(),
        });
    }
    Ok(outcome)
}

/// Makes or checks the throttle's KV bucket, whose keys live for one window.
///
/// # Errors
/// [`SetupError::Differs`] names both windows if the bucket has another one.
pub async fn throttle_bucket(
    js: &jetstream::Context,
    window: Duration,
    replicas: usize,
) -> Result<Outcome, SetupError> {
    let wanted = kv_stream(THROTTLE_BUCKET, 1, window, replicas);
    let (outcome, found) = make_or_get(js, "KV bucket botstats_throttle", wanted).await?;
    if found.max_age != window {
        return Err(SetupError::Differs {
            what: "KV bucket botstats_throttle",
            setting: "max_age (the throttle window)",
            found: show_duration(found.max_age),
            wanted: show_duration(window),
        });
    }
    Ok(outcome)
}

/// A KV bucket is a stream; made as one, so that a check needs nothing but its info.
fn kv_stream(bucket: &str, history: i64, max_age: Duration, replicas: usize) -> Config {
    Config {
        name: format!("KV_{bucket}"),
        subjects: vec![format!("$KV.{bucket}.>")],
        max_messages_per_subject: history,
        max_age,
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        num_replicas: replicas,
        // At most the life of a message, and 2 minutes as KV buckets have it.
        duplicate_window: match max_age {
            Duration::ZERO => Duration::from_secs(120),
            age => age.min(Duration::from_secs(120)),
        },
        ..Config::default()
    }
}

async fn make_or_get(
    js: &jetstream::Context,
    what: &'static str,
    wanted: Config,
) -> Result<(Outcome, Config), SetupError> {
    let failed = |source: async_nats::Error| match is_unanswered(&*source) {
        true => SetupError::NoJetStream { what },
        false => SetupError::Request { what, source },
    };
    match js.get_stream(&wanted.name).await {
        Ok(stream) => return Ok((Outcome::Checked, stream.cached_info().config.clone())),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(e) if e.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
            _ => return Err(failed(error.into())),
        },
    }
    match js.create_stream(wanted.clone()).await {
        Ok(stream) => Ok((Outcome::Made, stream.cached_info().config.clone())),
        // Somebody else was faster: check what they made.
        Err(error)
            if matches!(error.kind(), CreateStreamErrorKind::JetStream(e)
                if e.error_code() == ErrorCode::STREAM_NAME_EXIST) =>
        {
            let stream = js.get_stream(&wanted.name).await.map_err(|e| failed(e.into()))?;
            Ok((Outcome::Checked, stream.cached_info().config.clone()))
        }
        Err(error) => Err(failed(error.into())),
    }
}

/// Whether nobody was there to answer a request to JetStream; the client library calls that a resource
/// that does not exist.
fn is_unanswered(error: &(dyn std::error::Error + 'static)) -> bool {
    let kind = error.downcast_ref().map(RequestError::kind);
    kind == Some(RequestErrorKind::NoResponders) || error.source().is_some_and(is_unanswered)
}
