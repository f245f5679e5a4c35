//! The state that programs report over NATS, as JSON: the answers behind `botstats status` and
//! `botstats deadletters`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::slot::Slots;

/// The state of one ingest or query. An ingest that refuses its stream answers this too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// `ingest` or `query`.
    pub program: String,
    /// Random id of this ingest's folder, or of this query's run.
    pub instance: String,
    /// Version of the program.
    pub version: String,
    /// True if the program answers reads or calls.
    pub ready: bool,
    /// The reasons why the program is not ready, by part.
    pub missing: BTreeMap<String, String>,
    /// The reasons why a ready program cannot answer some calls, by part.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limited: BTreeMap<String, String>,
    /// The release of the time zone data that a query goes by, such as `2026a`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zones: Option<String>,
    /// An ingest's place in the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingest: Option<IngestStatus>,
}

/// An ingest's place in the stream and what it has counted since its folder was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestStatus {
    /// The stream that the ingest counts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stream: String,
    /// The slots that it answers for, where streams have slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<Slots>,
    /// The stream that it reads now, where that is an earlier one of its chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<String>,
    /// The last stream sequence applied.
    pub sequence: u64,
    /// The last sequence of the stream, as far as known.
    pub stream_last_sequence: u64,
    /// Messages not yet applied.
    pub lag_messages: u64,
    /// Everything stored up to then is counted: RFC 3339, absent before the first message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    /// Why the stream is refused, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Messages by outcome: `accepted`, `duplicate`, `conflict`, `unknown_type`,
    /// `dead_letter`.
    pub events: BTreeMap<String, u64>,
    /// Dead letters by the rule that they broke.
    pub dead_letters: BTreeMap<String, u64>,
    /// Size of the store's file, in bytes.
    pub file_bytes: u64,
}

/// Asks for dead letters, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLettersRequest {
    /// Only ingests of that stream answer; absent is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Only those with a smaller sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Only that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The most that are wanted; one answer has at most 1,000.
    pub limit: u32,
}

/// The most dead letters in one answer.
pub const MAX_DEAD_LETTERS_PER_ANSWER: u32 = 1_000;

/// Dead letters, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLettersReply {
    /// How many are kept in all.
    pub kept: u64,
    /// Those asked for.
    pub letters: Vec<DeadLetter>,
}

/// A refused message; subject, headers and payload are still in the stream under its sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Stream sequence.
    pub sequence: u64,
    /// The rule that it broke: `subject`, `envelope`, `data`, `time` or `stray`.
    pub rule: String,
    /// What is wrong with it.
    pub reason: String,
}
