//! Names in NATS: the stream, its subjects, the KV buckets, the request subjects.

use crate::ids::{Account, Bot, Channel};

/// The stream that holds every event.
pub const EVENTS_STREAM: &str = "BOTSTATS_EVENTS";
/// What the stream listens on: `botstats.events.<account>.<bot>.<channel>`.
pub const EVENTS_SUBJECTS: &str = "botstats.events.*.*.*";
/// The KV bucket of accounts, tokens, bots, keys and names.
pub const DIRECTORY_BUCKET: &str = "botstats_directory";
/// The KV bucket whose keys are the used calls of each account.
pub const THROTTLE_BUCKET: &str = "botstats_throttle";

/// Queue group in which ingests answer reads.
pub const READ_QUEUE: &str = "botstats-read";
/// What an ingest subscribes to for reads; the last token is the account.
pub const READ_SUBJECTS: &str = "botstats.read.v1.*";
/// Dead letters, asked of any ingest (JSON, see [`crate::status`]).
pub const DEAD_LETTERS_SUBJECT: &str = "botstats.deadletters.v1";
/// State of a program, answered by every ingest and query (JSON, see [`crate::status`]).
pub const STATUS_SUBJECT: &str = "botstats.status.v1";

/// The largest event payload that is accepted, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;
/// The stream's `max_msg_size`: payload and headers, in bytes.
pub const MAX_MESSAGE_BYTES: i32 = 72 * 1024;

/// The subject that a bot's events are published to.
#[must_use]
pub fn event_subject(account: &Account, bot: &Bot, channel: &Channel) -> String {
    format!("botstats.events.{account}.{bot}.{channel}")
}

/// The subject on which an account's statistics are asked.
#[must_use]
pub fn read_subject(account: &Account) -> String {
    format!("botstats.read.v1.{account}")
}

/// The subject on which an account's statistics are asked of one ingest alone, named by the id of its NATS
/// service.
#[must_use]
pub fn read_subject_of(ingest: &str, account: &Account) -> String {
    format!("botstats.read.v1.{ingest}.{account}")
}

/// What an ingest subscribes to for reads that are asked of it alone.
#[must_use]
pub fn read_subjects_of(ingest: &str) -> String {
    format!("botstats.read.v1.{ingest}.*")
}

/// The KV key of an account's directory entry.
#[must_use]
pub fn account_key(account: &Account) -> String {
    format!("account.{account}")
}

/// The KV key of a bot's directory entry.
#[must_use]
pub fn bot_key(account: &Account, bot: &Bot) -> String {
    format!("bot.{account}.{bot}")
}
