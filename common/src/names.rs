//! Names in NATS: the stream, its subjects, the KV buckets, the request subjects.

use crate::ids::{Account, Bot, Channel, TokenId, is_id};
use crate::slot::Slot;

/// The stream that holds every event.
pub const EVENTS_STREAM: &str = "BOTSTATS_EVENTS";
/// What the stream listens on: `botstats.events.<account>.<bot>.<channel>`.
pub const EVENTS_SUBJECTS: &str = "botstats.events.*.*.*";
/// The mapping of an account in nats-server that puts the slot into the subject of an event: source
/// and destination.
pub const SLOT_MAPPING: (&str, &str) = (
    EVENTS_SUBJECTS,
    "botstats.slot.{{partition(256,1)}}.{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}",
);
/// What comes before account, bot and channel in the subject of an event.
pub const EVENTS_PREFIX: &str = "botstats.events.";
/// What comes before the slot in the subject of an event, where streams have slots.
pub const SLOT_PREFIX: &str = "botstats.slot.";
/// What comes before the stream's name in the subject of control messages.
pub const CONTROL_PREFIX: &str = "botstats.cell.";
/// The KV bucket of accounts, tokens, bots, keys and names: see [`crate::directory`].
pub const DIRECTORY_BUCKET: &str = "botstats_directory";
/// The KV bucket whose keys are the used calls of each account.
pub const THROTTLE_BUCKET: &str = "botstats_throttle";
/// The KV bucket whose keys, `<account>.<bot>`, are the used calls of each bot.
pub const BOT_THROTTLE_BUCKET: &str = "botstats_throttle_bot";

/// Queue group in which ingests answer reads.
pub const READ_QUEUE: &str = "botstats-read";
/// Dead letters, asked of one ingest of each stream (JSON, see [`crate::status`]).
pub const DEAD_LETTERS_SUBJECT: &str = "botstats.deadletters.v1";
/// State of a program, answered by every ingest and query (JSON, see [`crate::status`]).
pub const STATUS_SUBJECT: &str = "botstats.status.v1";

/// The largest event payload that is accepted, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;
/// The stream's `max_msg_size`: payload and headers, in bytes.
pub(crate) const MAX_MESSAGE_BYTES: i32 = 72 * 1024;

/// The subject that a bot's events are published to.
#[must_use]
pub fn event_subject(account: &Account, bot: &Bot, channel: &Channel) -> String {
    format!("{EVENTS_PREFIX}{account}.{bot}.{channel}")
}

/// Reads the name of a stream of events, as [`is_events_stream`] allows it.
///
/// # Errors
/// Says what is allowed.
pub fn events_stream(text: &str) -> Result<String, String> {
    if is_events_stream(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{EVENTS_STREAM}, or {EVENTS_STREAM}_ and 1 to 32 of the characters A-Z a-z 0-9 _ -"
    ))
}

/// True if a stream of events may have that name: [`EVENTS_STREAM`] itself, or that with `_` and 1
/// to 32 of the characters `A-Z a-z 0-9 _ -` behind it.
#[must_use]
pub fn is_events_stream(name: &str) -> bool {
    let is_cell = |rest: &str| rest.strip_prefix('_').is_some_and(|c| is_id(c) && c.len() <= 32);
    name.strip_prefix(EVENTS_STREAM).is_some_and(|rest| rest.is_empty() || is_cell(rest))
}

/// What a stream listens on for the events of a slot:
/// `botstats.slot.<slot>.<account>.<bot>.<channel>`.
#[must_use]
pub fn slot_subjects(slot: Slot) -> String {
    format!("{SLOT_PREFIX}{slot}.*.*.*")
}

/// The subject of a stream's control messages ([`crate::lineage::Control`]).
#[must_use]
pub fn control_subject(stream: &str) -> String {
    format!("{CONTROL_PREFIX}{stream}")
}

/// What comes before the account, or before an ingest and the account, in the subject of a read
/// without a slot.
const READ_PREFIX: &str = "botstats.read.v1";
/// What comes before slot and account in the subject of a read, where streams have slots.
pub(crate) const SLOT_READ_PREFIX: &str = "botstats.read.v2";
/// The key in the metadata of an ingest's NATS service with the slots that it answers for
/// ([`crate::slot::Slots`]). An ingest that answers for all slots, and only on the subjects without
/// a slot, does not have it.
pub const SLOTS_METADATA: &str = "slots";

/// The subject on which an ingest that answers for an account's slot is asked.
#[must_use]
pub fn slot_read_subject(account: &Account) -> String {
    format!("{SLOT_READ_PREFIX}.{}.{account}", Slot::of(account))
}

/// What an ingest that answers for a slot subscribes to; the last token is the account.
#[must_use]
pub fn slot_reads(slot: Slot) -> String {
    format!("{SLOT_READ_PREFIX}.{slot}.*")
}

/// What an ingest that answers for all slots subscribes to in place of each [`slot_reads`].
#[must_use]
pub fn all_slot_reads() -> String {
    format!("{SLOT_READ_PREFIX}.*.*")
}

/// The queue group in which the ingests of a stream answer about dead letters: each stream has a
/// group, so that one ingest of each stream answers.
#[must_use]
pub fn dead_letters_queue(stream: &str) -> String {
    if stream == EVENTS_STREAM { READ_QUEUE.to_owned() } else { format!("{READ_QUEUE}-{stream}") }
}

/// The subject on which any ingest is asked for an account's statistics.
#[must_use]
pub fn read_subject(account: &Account) -> String {
    format!("{READ_PREFIX}.{account}")
}

/// The subject on which one ingest alone is asked, named by the id of its NATS service.
#[must_use]
pub fn read_subject_at(ingest: &str, account: &Account) -> String {
    format!("{READ_PREFIX}.{ingest}.{account}")
}

/// What every ingest that answers for all slots subscribes to; the last token is the account.
#[must_use]
pub fn all_reads() -> String {
    format!("{READ_PREFIX}.*")
}

/// What one ingest subscribes to for reads that it alone is asked.
#[must_use]
pub fn all_reads_at(ingest: &str) -> String {
    format!("{READ_PREFIX}.{ingest}.*")
}

/// The stream of a KV bucket.
#[must_use]
pub fn bucket_stream(bucket: &str) -> String {
    format!("KV_{bucket}")
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

/// The KV key of a view token.
#[must_use]
pub fn view_key(account: &Account, token: &TokenId) -> String {
    format!("view.{account}.{token}")
}

/// The KV key of the names of an account's operators.
#[must_use]
pub fn operators_key(account: &Account) -> String {
    format!("operators.{account}")
}
