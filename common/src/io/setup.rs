//! Makes the stream and the KV buckets if they are absent; checks existing ones by
//! [`crate::rules`].

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::context::CreateStreamErrorKind;
use async_nats::jetstream::stream::{
    Compression, Config, DiscardPolicy, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{self, ErrorCode};
use futures::future::BoxFuture;

use super::nats::{NO_JETSTREAM, StreamInfoError, stream_info};
use super::settings::show_duration;
use crate::lineage::Lineage;
use crate::names::{
    DIRECTORY_BUCKET, EVENTS_STREAM, EVENTS_SUBJECTS, MAX_MESSAGE_BYTES, bucket_stream,
    control_subject, slot_subjects,
};
use crate::rules::{self, Finding, StreamConfig, refusals};
use crate::slot::{SLOT_COUNT, Slot, Slots};

/// The revisions that are kept of each directory key: a replica that starts after a bad write still
/// finds the last good value.
const DIRECTORY_HISTORY: i64 = 8;
/// The size limit of each KV bucket, in bytes, if the stream of events gets a limit; a smaller
/// limit of the stream is used for the buckets too. 64 MiB hold the history of some 20,000 bots and
/// the calls of some 200,000 accounts.
const MAX_BUCKET_BYTES: i64 = 64 * 1024 * 1024;

/// Why the stream or a bucket could not be made, or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The server refused, or did not answer (as it does when a permission is missing).
    #[error("{what} could not be made or read{hint}")]
    Request {
        /// Which stream or bucket.
        what: String,
        /// What to do, if that is known, in brackets.
        hint: &'static str,
        /// What happened.
        source: async_nats::Error,
    },
    /// No server has JetStream for this connection.
    #[error("{what} could not be made or read: {NO_JETSTREAM}")]
    NoJetStream {
        /// Which stream or bucket.
        what: String,
    },
    /// The stream or bucket exists with settings that make it unusable.
    #[error(
        "{what} cannot be used as it is: {why}; what exists is not changed here (docs/configuration.md, \
         \"Rules for stream and buckets\")"
    )]
    Refused {
        /// Which stream or bucket.
        what: String,
        /// Each of the settings.
        why: String,
    },
    /// A bucket of calls exists with another window.
    #[error(
        "{what} exists with the window (max_age) {found}; {wanted} is needed, and \
         what exists is not changed here (docs/runbook.md says how)"
    )]
    Window {
        /// Which bucket.
        what: String,
        /// The window of the bucket.
        found: String,
        /// The window of the setting.
        wanted: String,
    },
}

/// The settings of a stream or bucket that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Copies in the cluster.
    pub replicas: usize,
    /// The most bytes of the stream of events; `None` is no limit. See `MAX_BUCKET_BYTES`.
    pub max_bytes: Option<i64>,
}

impl Default for Shape {
    fn default() -> Self {
        Self { replicas: 1, max_bytes: None }
    }
}

impl Shape {
    fn max_bucket_bytes(self) -> i64 {
        self.max_bytes.map_or(-1, |of_stream| of_stream.min(MAX_BUCKET_BYTES))
    }
}

/// The result for a stream or bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was absent and was made.
    Made,
    /// It exists and can be used; each text names a setting that may lose data.
    Checked(Vec<String>),
}

impl Outcome {
    /// True if this call made it.
    #[must_use]
    pub fn is_made(&self) -> bool {
        *self == Outcome::Made
    }

    /// The settings that may lose data.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        match self {
            Outcome::Made => &[],
            Outcome::Checked(warnings) => warnings,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Made => f.write_str("made"),
            Outcome::Checked(warnings) if warnings.is_empty() => {
                f.write_str("there already, as it must be")
            }
            Outcome::Checked(warnings) => {
                write!(f, "there already; warning: {}", warnings.join("; "))
            }
        }
    }
}

/// Makes or checks the stream of events.
///
/// # Errors
/// [`SetupError`]; a stream that exists with other settings is not changed.
pub async fn events_stream(js: &jetstream::Context, shape: Shape) -> Result<Outcome, SetupError> {
    let subjects = vec![EVENTS_SUBJECTS.to_owned()];
    let wanted = stream_of_events(EVENTS_STREAM, subjects, &Lineage::default(), shape);
    let what = stream_named(EVENTS_STREAM);
    make_or_check(js, what, wanted, |found| Ok(rules::events(found))).await
}

/// Names and slots of that many streams that share the slots evenly.
#[must_use]
pub fn even_cells(count: usize) -> Vec<(String, Slots)> {
    let edge = |at: usize| at * SLOT_COUNT / count;
    let cell = |at: usize| {
        let slots = Slot::all().skip(edge(at)).take(edge(at + 1) - edge(at)).collect();
        match at {
            0 => (EVENTS_STREAM.to_owned(), slots),
            _ => (format!("{EVENTS_STREAM}_{}", at + 1), slots),
        }
    };
    (0..count).map(cell).collect()
}

/// Makes or checks the streams of [`even_cells`], the first one first. A stream that was made for
/// these slots and has given some away since is good, too.
///
/// # Errors
/// [`SetupError`]; a stream that exists for other slots is not changed.
pub async fn events_cells(
    js: &jetstream::Context,
    shape: Shape,
    count: usize,
) -> Result<Vec<(String, Outcome)>, SetupError> {
    let mut outcomes = Vec::new();
    for (name, slots) in even_cells(count) {
        let lineage = Lineage { slots, parent: None };
        let wanted = stream_of_events(&name, cell_subjects(&name, slots), &lineage, shape);
        let what = stream_named(&name);
        let judge = |found: &StreamConfig| {
            let same = found.lineage().is_ok_and(|found| found == lineage)
                && found.slots().is_subset(slots)
                && found.slots() != Slots::NONE;
            if same {
                return Ok(rules::events(found));
            }
            let why = format!(
                "it was not made for the slots {slots}; `botstats cells list` shows its slots"
            );
            Err(SetupError::Refused { what: stream_named(&name), why })
        };
        outcomes.push((name.clone(), make_or_check(js, what, wanted, judge).await?));
    }
    Ok(outcomes)
}

/// What a stream with these slots listens on.
#[must_use]
pub fn cell_subjects(name: &str, slots: Slots) -> Vec<String> {
    std::iter::once(control_subject(name)).chain(slots.iter().map(slot_subjects)).collect()
}

fn stream_named(name: &str) -> String {
    format!("stream {name}")
}

fn stream_of_events(name: &str, subjects: Vec<String>, lineage: &Lineage, shape: Shape) -> Config {
    Config {
        name: name.to_owned(),
        subjects,
        metadata: lineage.metadata().into_iter().collect(),
        description: Some("botstats: every event, the source of truth".to_owned()),
        storage: StorageType::File,
        // Events repeat the names of their fields: a compressed message takes a fifth of the disk.
        compression: Some(Compression::S2),
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        deny_delete: true,
        max_message_size: MAX_MESSAGE_BYTES,
        max_bytes: shape.max_bytes.unwrap_or(-1),
        allow_direct: true,
        allow_atomic_publish: true,
        num_replicas: shape.replicas,
        ..Config::default()
    }
}

/// Makes or checks the directory's KV bucket.
///
/// # Errors
/// [`SetupError`].
pub async fn directory_bucket(
    js: &jetstream::Context,
    shape: Shape,
) -> Result<Outcome, SetupError> {
    let wanted = kv_stream(DIRECTORY_BUCKET, DIRECTORY_HISTORY, Duration::ZERO, shape);
    let what = bucket_named(DIRECTORY_BUCKET);
    make_or_check(js, what, wanted, |found| Ok(rules::directory(found))).await
}

/// Makes or checks a KV bucket of calls, whose keys live for one window.
///
/// # Errors
/// [`SetupError::Window`] names both windows if the bucket has another one.
pub async fn calls_bucket(
    js: &jetstream::Context,
    bucket: &str,
    window: Duration,
    shape: Shape,
) -> Result<Outcome, SetupError> {
    let wanted = kv_stream(bucket, 1, window, shape);
    make_or_check(js, bucket_named(bucket), wanted, |found| match found.max_age() {
        age if age == window => Ok(rules::calls(found, bucket, window)),
        age => {
            let (what, found) = (bucket_named(bucket), show_duration(age));
            Err(SetupError::Window { what, found, wanted: show_duration(window) })
        }
    })
    .await
}

fn bucket_named(name: &str) -> String {
    format!("KV bucket {name}")
}

/// The stream of a KV bucket. Made as a stream, so that the stream's info is enough to check the
/// bucket.
fn kv_stream(bucket: &str, history: i64, max_age: Duration, shape: Shape) -> Config {
    Config {
        name: bucket_stream(bucket),
        subjects: vec![format!("$KV.{bucket}.>")],
        max_messages_per_subject: history,
        max_age,
        max_bytes: shape.max_bucket_bytes(),
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        num_replicas: shape.replicas,
        // 2 minutes, as in any KV bucket, but not more than `max_age`: nats-server refuses that.
        duplicate_window: match max_age {
            Duration::ZERO => Duration::from_secs(120),
            age => age.min(Duration::from_secs(120)),
        },
        ..Config::default()
    }
}

async fn make_or_check(
    js: &jetstream::Context,
    what: String,
    wanted: Config,
    judge: impl FnOnce(&StreamConfig) -> Result<Vec<Finding>, SetupError>,
) -> Result<Outcome, SetupError> {
    let Some(found) = make_or_find(js, &what, wanted).await? else { return Ok(Outcome::Made) };
    let findings = judge(&found)?;
    match refusals(&findings) {
        Some(why) => Err(SetupError::Refused { what, why }),
        None => Ok(Outcome::Checked(findings.into_iter().map(|finding| finding.text).collect())),
    }
}

/// Makes a stream and gives none. If the stream is there, gives its settings. Boxed, so that the
/// compiler makes the requests' code here, once, and not in each crate that calls this.
fn make_or_find<'a>(
    js: &'a jetstream::Context,
    what: &'a str,
    wanted: Config,
) -> BoxFuture<'a, Result<Option<StreamConfig>, SetupError>> {
    Box::pin(try_to_make(js, what, wanted))
}

async fn try_to_make(
    js: &jetstream::Context,
    what: &str,
    wanted: Config,
) -> Result<Option<StreamConfig>, SetupError> {
    let failed = |error| match error {
        StreamInfoError::NoJetStream => SetupError::NoJetStream { what: what.to_owned() },
        error => SetupError::Request { what: what.to_owned(), hint: "", source: error.into() },
    };
    let name = wanted.name.clone();
    let found = match stream_info(js, &name).await {
        Ok(info) => info,
        Err(StreamInfoError::NoStream(_)) => match js.create_stream(wanted).await {
            Ok(_) => return Ok(None),
            Err(error) => match error.kind() {
                // Another process made the stream in the meantime: check that stream.
                CreateStreamErrorKind::JetStream(e)
                    if e.error_code() == ErrorCode::STREAM_NAME_EXIST =>
                {
                    stream_info(js, &name).await.map_err(failed)?
                }
                kind => {
                    let hint = hint(&kind);
                    let what = what.to_owned();
                    return Err(SetupError::Request { what, hint, source: error.into() });
                }
            },
        },
        Err(error) => return Err(failed(error)),
    };
    Ok(Some(found.config))
}

/// What to do about a stream that the server does not make, by the code of JetStream's error.
fn hint(error: &CreateStreamErrorKind) -> &'static str {
    let CreateStreamErrorKind::JetStream(error) = error else { return "" };
    match error.error_code() {
        ErrorCode::STREAM_MAX_BYTES_REQUIRED => {
            " (the account requires a limit of size: run `botstats setup --max-bytes SIZE`)"
        }
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED
        | ErrorCode::NO_LIMITS => {
            " (the account has too little file storage for the stream of events and three KV buckets: raise its \
             limit, or run `botstats setup --max-bytes SIZE` with a size that fits)"
        }
        ErrorCode::MAXIMUM_STREAMS_LIMIT => {
            " (the account needs room for four streams, and for one more with each further cell: raise its \
             limit, or delete others)"
        }
        ErrorCode::STREAM_SUBJECT_OVERLAP => {
            " (another stream has some of its subjects: `nats stream ls --subject` finds that stream)"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_share_all_slots() {
        let shown = |count| even_cells(count).into_iter().map(|(n, s)| format!("{n} {s}"));
        assert_eq!(
            shown(4).collect::<Vec<_>>(),
            [
                "BOTSTATS_EVENTS 0-63",
                "BOTSTATS_EVENTS_2 64-127",
                "BOTSTATS_EVENTS_3 128-191",
                "BOTSTATS_EVENTS_4 192-255",
            ]
        );
        for count in [2, 3, 7, 100, 256] {
            let cells = even_cells(count);
            let all = cells.iter().fold(Slots::NONE, |all, (_, slots)| all.union(*slots));
            let sum: u32 = cells.iter().map(|(_, slots)| slots.len()).sum();
            assert_eq!((all, sum, cells.len()), (Slots::ALL, 256, count));
            assert!(cells.iter().all(|(_, slots)| !slots.is_empty()), "{count}");
        }
    }
}
