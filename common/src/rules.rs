//! Rules for the settings of the stream and the KV buckets: one list for `botstats setup`, ingest
//! and query. The table in `docs/configuration.md` says the same in words; a test compares both.
//!
//! | severity | `setup` | ingest, of the stream | query, of a KV bucket |
//! | --- | --- | --- | --- |
//! | refuse | fails | a doubt: warning and metric | not ready, 503 |
//! | warn | succeeds and says so | a doubt: warning and metric | warning |
//!
//! A setting without a rule here does no harm.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::io::settings::show_duration;
use crate::lineage::{Lineage, LineageError};
use crate::names::{
    CONTROL_PREFIX, DEAD_LETTERS_SUBJECT, DIRECTORY_BUCKET, EVENTS_SUBJECTS, MAX_MESSAGE_BYTES,
    SLOT_PREFIX, STATUS_SUBJECT, control_subject,
};
use crate::slot::{Slot, Slots};

/// The time that the server keeps a consumer without a reader: ingest and query ask for this when
/// they make a consumer.
pub const CONSUMER_LIFE: Duration = Duration::from_secs(30);
/// The least `max_consumers` that works: while an ingest or query reconnects the server still has
/// its old consumer, so two programs need four.
const MIN_CONSUMERS: i64 = 4;
/// The least `max_msg_size` of the directory, in bytes: an entry with twenty tokens or a hundred
/// channels is smaller.
const MIN_ENTRY_BYTES: i64 = 16 * 1024;
/// The subjects of requests between the programs.
const REQUESTS: [&str; 3] = ["botstats.read.>", STATUS_SUBJECT, DEAD_LETTERS_SUBJECT];
/// The least `max_msg_size` of the buckets of calls, in bytes: a claim has a nonce of 36 bytes and
/// headers of about 130 bytes.
const MIN_CLAIM_BYTES: i64 = 512;

/// The kinds of subjects in a stream that is one of several: events without and with a slot, and
/// control messages.
const KINDS: [&str; 3] = [EVENTS_SUBJECTS, "botstats.slot.*.*.*.*", "botstats.cell.*"];

/// The settings of a stream that have rules. A KV bucket is a stream, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct StreamConfig {
    name: String,
    subjects: Vec<String>,
    metadata: BTreeMap<String, String>,
    first_seq: u64,
    retention: String,
    storage: String,
    discard: String,
    persist_mode: String,
    max_age: i64,
    max_msgs: i64,
    max_bytes: i64,
    max_msgs_per_subject: i64,
    max_msg_size: i64,
    max_consumers: i64,
    discard_new_per_subject: bool,
    sealed: bool,
    no_ack: bool,
    deny_delete: bool,
    allow_rollup_hdrs: bool,
    allow_msg_ttl: bool,
    allow_msg_counter: bool,
    allow_msg_schedules: bool,
    subject_delete_marker_ttl: i64,
    mirror: Option<Mirror>,
    sources: Vec<Mirror>,
    subject_transform: Option<Transform>,
    consumer_limits: ConsumerLimits,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Mirror {
    opt_start_seq: u64,
    opt_start_time: Option<String>,
    filter_subject: String,
    subject_transforms: Vec<Transform>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Transform {
    src: String,
    dest: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct ConsumerLimits {
    inactive_threshold: i64,
}

impl StreamConfig {
    /// How long a message lives; zero is for ever.
    #[must_use]
    pub fn max_age(&self) -> Duration {
        nanoseconds(self.max_age)
    }

    /// What the stream listens on.
    #[must_use]
    pub fn subjects(&self) -> &[String] {
        &self.subjects
    }

    /// True if the stream is one of several that share the slots: it listens on slots or on control
    /// messages, or was made for some slots.
    fn is_cell(&self) -> bool {
        let of_cells = [SLOT_PREFIX, CONTROL_PREFIX];
        let listens = |subject: &String| of_cells.iter().any(|of| subject.starts_with(of));
        self.subjects.iter().any(listens)
            || self.lineage().is_ok_and(|lineage| lineage != Lineage::default())
    }

    /// The slots whose events the stream listens on, each by its own subject.
    #[must_use]
    pub fn slots(&self) -> Slots {
        let slot = |subject: &String| {
            subject.strip_prefix(SLOT_PREFIX)?.strip_suffix(".*.*.*")?.parse::<Slot>().ok()
        };
        self.subjects.iter().filter_map(slot).collect()
    }

    /// The sequence that the stream's first message got.
    #[must_use]
    pub fn first_sequence(&self) -> u64 {
        self.first_seq.max(1)
    }

    /// Where the events of the stream's slots come from.
    ///
    /// # Errors
    /// If the stream's metadata cannot be read.
    pub fn lineage(&self) -> Result<Lineage, LineageError> {
        Lineage::of(&self.metadata)
    }
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The stream works, but may lose data.
    Warn,
    /// The stream is unusable.
    Refuse,
}

/// A bad setting of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The setting, as nats-server calls it.
    pub setting: &'static str,
    /// Its value and the consequence, in words for an operator.
    pub text: String,
}

/// Judges the stream of events.
#[must_use]
pub fn events(config: &StreamConfig) -> Vec<Finding> {
    let mut found = Findings::default();
    let kinds = if config.is_cell() { &KINDS[..] } else { &KINDS[..1] };
    if let Some(mirror) = &config.mirror {
        let part = mirror.opt_start_seq > 1
            || mirror.opt_start_time.is_some()
            || !mirror.filter_subject.is_empty()
                && !covers(&mirror.filter_subject, EVENTS_SUBJECTS)
            || mirror.subject_transforms.iter().any(|transform| !keeps_events(transform, kinds));
        found.warn(part, "mirror", || "it mirrors a part of another stream only".to_owned());
    } else if config.is_cell() {
        found.control_subject(config);
    } else if config.sources.is_empty() {
        found.subjects(config, EVENTS_SUBJECTS);
    }
    found.requests(config);
    if let Some(transform) = &config.subject_transform {
        found.refuse(!keeps_events(transform, kinds), "subject_transform", || {
            let Transform { src, dest } = transform;
            format!("it stores messages of {src} as {dest}, which ingest does not understand")
        });
    }
    found.common(config);
    found.refuse(config.storage == "memory", "storage", || {
        "it is kept in memory: all events are gone when nats-server restarts".to_owned()
    });
    found.refuse(config.sealed, "sealed", || "it is sealed: no event can be stored".to_owned());
    found.refuse(config.no_ack, "no_ack", || {
        "it sends no acknowledgements: publishers cannot know what is stored".to_owned()
    });
    found.small_messages(Severity::Refuse, config, MAX_MESSAGE_BYTES.into());
    found.refuse(config.max_msgs_per_subject > 0, "max_msgs_per_subject", || {
        let most = config.max_msgs_per_subject;
        format!(
            "it keeps {most} messages of a subject: of each bot and channel only the newest events"
        )
    });
    found.refuse(is_short(config.consumer_limits.inactive_threshold), "consumer_limits", || {
        let most = show_duration(nanoseconds(config.consumer_limits.inactive_threshold));
        let needed = show_duration(CONSUMER_LIFE);
        format!("its consumers may be unused for {most} at most, ingest needs {needed}")
    });
    found.warn(config.max_age > 0, "max_age", || {
        format!("its messages expire after {}", show_duration(config.max_age()))
    });
    found.warn(drops_first(config), "discard", || {
        "it drops its first messages when it is full".to_owned()
    });
    found.warn(!config.deny_delete, "deny_delete", || {
        "single messages of it can be deleted".to_owned()
    });
    found.warn(config.allow_rollup_hdrs, "allow_rollup_hdrs", || {
        "a publisher can delete all earlier events by a header (Nats-Rollup)".to_owned()
    });
    found.warn(config.allow_msg_ttl, "allow_msg_ttl", || {
        "a publisher can let its events expire by a header (Nats-TTL)".to_owned()
    });
    found.warn(config.subject_delete_marker_ttl > 0, "subject_delete_marker_ttl", || {
        "the server stores markers beside the events, which become dead letters".to_owned()
    });
    found.warn(config.allow_msg_schedules, "allow_msg_schedules", || {
        "a publisher can store events later, on subjects of others too (Nats-Schedule)".to_owned()
    });
    found.few_consumers(config);
    found.0
}

/// Judges the stream of the directory's KV bucket.
#[must_use]
pub fn directory(config: &StreamConfig) -> Vec<Finding> {
    let mut found = Findings::default();
    found.bucket(config, DIRECTORY_BUCKET);
    found.refuse(config.max_age > 0, "max_age", || {
        let age = show_duration(config.max_age());
        format!("its entries expire after {age} (max_age, TTL): accounts, tokens and bots go; 0s is needed")
    });
    found.refuse(is_short(config.consumer_limits.inactive_threshold), "consumer_limits", || {
        let most = show_duration(nanoseconds(config.consumer_limits.inactive_threshold));
        let needed = show_duration(CONSUMER_LIFE);
        format!("its consumers may be unused for {most} at most, query needs {needed}")
    });
    found.warn(config.sealed, "sealed", || "it is sealed: no entry can be changed".to_owned());
    found.warn(config.no_ack, "no_ack", || {
        "it sends no acknowledgements: no change of an entry succeeds".to_owned()
    });
    found.small_messages(Severity::Warn, config, MIN_ENTRY_BYTES);
    found.few_consumers(config);
    found.0
}

/// Judges the stream of a KV bucket of calls, whose keys live for that window.
#[must_use]
pub fn calls(config: &StreamConfig, bucket: &str, window: Duration) -> Vec<Finding> {
    let mut found = Findings::default();
    found.bucket(config, bucket);
    found.refuse(config.max_age() != window, "max_age", || {
        let (age, window) = (show_duration(config.max_age()), show_duration(window));
        format!("its window (max_age) is {age}, that of this program is {window}")
    });
    found.refuse(config.sealed, "sealed", || "it is sealed: no call can be claimed".to_owned());
    found.refuse(config.no_ack, "no_ack", || {
        "it sends no acknowledgements: no call can be claimed".to_owned()
    });
    found.small_messages(Severity::Refuse, config, MIN_CLAIM_BYTES);
    found.0
}

/// The texts of the settings that are refused; `None` if no setting is.
#[must_use]
pub fn refusals(findings: &[Finding]) -> Option<String> {
    let texts: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Refuse)
        .map(|finding| finding.text.as_str())
        .collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        severity: Severity,
        bad: bool,
        setting: &'static str,
        text: impl FnOnce() -> String,
    ) {
        if bad {
            self.0.push(Finding { severity, setting, text: text() });
        }
    }

    fn refuse(&mut self, bad: bool, setting: &'static str, text: impl FnOnce() -> String) {
        self.add(Severity::Refuse, bad, setting, text);
    }

    fn warn(&mut self, bad: bool, setting: &'static str, text: impl FnOnce() -> String) {
        self.add(Severity::Warn, bad, setting, text);
    }

    fn subjects(&mut self, config: &StreamConfig, needed: &str) {
        let stored = config.subjects.iter().any(|subject| covers(subject, needed));
        self.refuse(!stored, "subjects", || match config.subjects.join(", ") {
            none if none.is_empty() => format!("it stores no subject; {needed} is needed"),
            found => format!("it stores {found}, not all of {needed}"),
        });
    }

    /// A stream with slots needs its control subject: a split ends the slots' events there. Which
    /// slots it has is not judged: a stream that takes part in a split may have none.
    fn control_subject(&mut self, config: &StreamConfig) {
        let needed = control_subject(&config.name);
        let stored = config.subjects.iter().any(|subject| covers(subject, &needed));
        self.refuse(!stored, "subjects", || {
            format!("it has slots, but does not store {needed}, which a split needs")
        });
    }

    fn requests(&mut self, config: &StreamConfig) {
        // The stream would store the requests, and its acknowledgement would arrive in place of the
        // answer.
        let takes = config.subjects.iter().find(|s| REQUESTS.iter().any(|r| meets(s, r)));
        self.refuse(takes.is_some(), "subjects", || {
            let subject = takes.map_or("", String::as_str);
            format!("it stores {subject}, which takes requests between the programs, too")
        });
    }

    /// The rules of the stream of events and all buckets.
    fn common(&mut self, config: &StreamConfig) {
        self.refuse(!matches!(config.retention.as_str(), "" | "limits"), "retention", || {
            let retention = &config.retention;
            format!("its retention is {retention}: messages go when consumers had them; limits is needed")
        });
        self.refuse(config.allow_msg_counter, "allow_msg_counter", || {
            "it holds counters (allow_msg_counter) and refuses other messages".to_owned()
        });
        self.warn(config.persist_mode == "async", "persist_mode", || {
            "it acknowledges messages before they are stored (persist_mode async)".to_owned()
        });
    }

    /// The rules of all buckets.
    fn bucket(&mut self, config: &StreamConfig, bucket: &str) {
        self.refuse(config.mirror.is_some(), "mirror", || {
            "it mirrors another bucket, which it follows late; the bucket itself is needed"
                .to_owned()
        });
        if config.mirror.is_none() {
            self.subjects(config, &format!("$KV.{bucket}.>"));
        }
        self.requests(config);
        self.refuse(config.subject_transform.is_some(), "subject_transform", || {
            "it changes keys (subject_transform)".to_owned()
        });
        self.common(config);
        self.warn(config.storage == "memory", "storage", || {
            "it is kept in memory: its values are gone when nats-server restarts".to_owned()
        });
        self.refuse(drops_first(config), "discard", || {
            "it drops its oldest values when it is full (discard old)".to_owned()
        });
        self.refuse(config.discard_new_per_subject, "discard_new_per_subject", || {
            "a key cannot be written any more when its history is full (discard_new_per_subject)"
                .to_owned()
        });
    }

    fn small_messages(&mut self, severity: Severity, config: &StreamConfig, needed: i64) {
        let most = config.max_msg_size;
        self.add(severity, most > 0 && most < needed, "max_msg_size", || {
            format!("it refuses messages of more than {most} bytes; {needed} are needed")
        });
    }

    fn few_consumers(&mut self, config: &StreamConfig) {
        let most = config.max_consumers;
        self.warn(most > 0 && most < MIN_CONSUMERS, "max_consumers", || {
            format!(
                "it allows {most} consumers, {MIN_CONSUMERS} are needed: a program needs a second one \
                 while it connects anew"
            )
        });
    }
}

fn drops_first(config: &StreamConfig) -> bool {
    config.discard != "new" && (config.max_msgs > 0 || config.max_bytes > 0)
}

fn is_short(inactive_threshold: i64) -> bool {
    inactive_threshold > 0 && nanoseconds(inactive_threshold) < CONSUMER_LIFE
}

fn nanoseconds(ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(ns).unwrap_or_default())
}

/// True if a message of each kind of subject still has a subject of this kind after the transform.
fn keeps_events(transform: &Transform, kinds: &[&str]) -> bool {
    let Transform { src, dest } = transform;
    kinds.iter().all(|kind| {
        let touched = src.is_empty() || meets(src, kind);
        // A token such as {{wildcard(1)}} becomes one token of the subject.
        !touched || dest.is_empty() || covers(kind, dest)
    })
}

/// True if every subject that matches `narrow` matches `wide`, too.
fn covers(wide: &str, narrow: &str) -> bool {
    let (mut wide, mut narrow) = (wide.split('.'), narrow.split('.'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(a), Some(b)) if a == b && a != "*" => {}
            _ => return false,
        }
    }
}

/// True if a subject can match both patterns.
pub fn meets(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) | (None, None) => return true,
            (Some(x), Some(y)) if x == y || x == "*" || y == "*" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests;
