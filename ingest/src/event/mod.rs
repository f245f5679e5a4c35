//! From the bytes of a message to an event: the rules of `docs/events.md`, in their order.
//!
//! subject -> envelope -> type -> data -> time. The first rule that a message breaks makes it a
//! dead letter; an unknown type is skipped. Nothing here asks a clock: the timestamp that JetStream
//! gave the message decides whether an event is too old or too new.
//!
//! *Invariants*: a reason names fields and what is allowed, never a value of the message, in at
//! most [`MAX_REASON_BYTES`].

pub(crate) mod batch;
mod cause;
mod data;
pub(crate) mod decoder;
mod envelope;
mod field;
pub(crate) mod hash;
mod kind;
pub(crate) mod registry;
mod split;
mod subject;

use std::borrow::Cow;

use async_nats::HeaderMap;
use botstats_common::event::{MAX_AGE_MS, MAX_AHEAD_MS, MAX_FORGOTTEN_AGE_MS};

pub(crate) use data::{MAX_NAME_BYTES, MAX_SENT_BYTES};
pub use hash::{HashKey, IdHash};
pub use kind::Kind;

use envelope::Data;
use field::DataFields;
use smol_str::SmolStr;

/// The longest reason for a refusal, in bytes.
pub const MAX_REASON_BYTES: usize = 160;

const NS_PER_MS: i128 = 1_000_000;
/// White space around a JSON value (RFC 8259, section 2).
const JSON_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// A message of the stream.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the names say what they are")]
pub struct Message<'a> {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When JetStream stored it, in Unix nanoseconds.
    pub stored_ns: i64,
    pub subject: &'a str,
    pub headers: Headers<'a>,
    pub payload: &'a [u8],
}

/// The headers of a message.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the names say what they are")]
pub enum Headers<'a> {
    Read(Option<&'a HeaderMap>),
    /// The bytes are not valid NATS headers.
    Unreadable,
}

impl<'a> From<Option<&'a HeaderMap>> for Headers<'a> {
    fn from(headers: Option<&'a HeaderMap>) -> Self {
        Self::Read(headers)
    }
}

/// Bits for those members of an event's data that the metrics need.
pub mod flag {
    /// `message.sent`: a fallback reply.
    pub const FALLBACK: u8 = 1;
    /// `nlp.evaluated`: detected.
    pub const DETECTED: u8 = 1;
    /// `integration.called`: of kind `api`.
    pub const API: u8 = 1;
    /// `integration.called`: not ok.
    pub const FAILED: u8 = 2;
    /// `operator.message`: automatic.
    pub const AUTOMATIC: u8 = 1;
    /// `feedback.given`: the score is 4 or 5.
    pub const SATISFIED: u8 = 1;
}

/// The parts of an accepted event that the metrics need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Hash of the conversation id, which is unique only within one (account, bot, channel). For
    /// `user.forgotten`, which has none, another hash of the user id.
    pub conversation: IdHash,
    /// Hash of source and id; identifies the event within its conversation.
    pub id: u64,
    /// Hash of the remaining content: equal for a duplicate, another for a conflict.
    pub content: u32,
    /// When the event happened, in Unix milliseconds.
    pub time_ms: i64,
    /// Its type.
    pub kind: Kind,
    /// Bits of [`flag`], by kind.
    pub flags: u8,
    /// Hash of the user id, which is unique only within one (account, bot, channel).
    pub user: IdHash,
    /// The goal, tag, intent, integration or operator that it names, as sent, but of a long
    /// one only the first 131 bytes or less. Most have no memory of their own: memory that one
    /// thread takes and another gives back is slow to take again.
    pub name: Option<SmolStr>,
    /// How long a call of kind `api` took, in milliseconds.
    pub duration_ms: Option<u32>,
}

/// Whose event it is: the last three tokens of the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say what they are")]
pub struct Address<'a> {
    pub account: &'a str,
    pub bot: &'a str,
    pub channel: &'a str,
    /// All three, with dots between them.
    pub path: &'a str,
}

/// The rule that a dead letter broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Rule {
    /// The subject does not end in account, bot and channel, or names another slot than the
    /// account's.
    Subject = 0,
    /// CloudEvents attributes, or the JSON around them.
    Envelope = 1,
    /// The data of the type.
    Data = 2,
    /// Too old or too new.
    Time = 3,
    /// Stored in a stream that had given the slot away.
    Stray = 4,
}

impl Rule {
    /// All rules, by number.
    pub const ALL: [Rule; 5] = [Rule::Subject, Rule::Envelope, Rule::Data, Rule::Time, Rule::Stray];

    /// The name in metrics and lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Rule::Subject => "subject",
            Rule::Envelope => "envelope",
            Rule::Data => "data",
            Rule::Time => "time",
            Rule::Stray => "stray",
        }
    }
}

/// The result of decoding a message. `A` identifies the account, bot and channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded<A> {
    /// An event. It counts unless it is a duplicate or a conflict.
    Event(A, Event),
    /// The type is not one of `docs/events.md`.
    UnknownType,
    /// The message breaks a rule; the text says what is wrong and what is allowed.
    DeadLetter(Rule, Cow<'static, str>),
}

impl<A> Decoded<A> {
    /// Converts `A`.
    pub(crate) fn try_map<B, E>(self, of: impl FnOnce(A) -> Result<B, E>) -> Result<Decoded<B>, E> {
        Ok(match self {
            Decoded::Event(whose, event) => Decoded::Event(of(whose)?, event),
            Decoded::UnknownType => Decoded::UnknownType,
            Decoded::DeadLetter(rule, reason) => Decoded::DeadLetter(rule, reason),
        })
    }
}

struct Broken(Rule, Cow<'static, str>);

fn broken<T>(rule: Rule, reason: impl Into<Cow<'static, str>>) -> Result<T, Broken> {
    Err(Broken(rule, reason.into()))
}

/// Decodes one message. Ids are hashed with `key`.
#[must_use]
pub fn decode<'a>(message: &Message<'a>, key: &HashKey) -> Decoded<Address<'a>> {
    match subject::address(message.subject) {
        Ok(address) => decode_known(address, message, key),
        Err(reason) => Decoded::DeadLetter(Rule::Subject, reason),
    }
}

/// Decodes one message whose subject was decoded before, to `whose`.
pub(crate) fn decode_known<A>(whose: A, message: &Message<'_>, key: &HashKey) -> Decoded<A> {
    match try_decode(message, key) {
        Ok(Some(event)) => Decoded::Event(whose, event),
        Ok(None) => Decoded::UnknownType,
        Err(Broken(rule, reason)) => Decoded::DeadLetter(rule, reason),
    }
}

fn try_decode(message: &Message<'_>, key: &HashKey) -> Result<Option<Event>, Broken> {
    let event = read(message, key).map_err(|Broken(rule, reason)| {
        Broken(rule, cause::of(message).map_or(reason, Cow::Borrowed))
    })?;
    if let Some(event) = &event {
        check_time(event, message.stored_ns)?;
    }
    Ok(event)
}

fn read(message: &Message<'_>, key: &HashKey) -> Result<Option<Event>, Broken> {
    let decoded: String;
    let mut fields = DataFields::default();
    let (envelope, data) = envelope::read(message, &mut fields)?;
    match data {
        Data::Split => {}
        Data::Object(json) => fields = envelope::object("data", json)?,
        Data::Base64(text) => {
            decoded = envelope::from_base64(&text)?;
            fields =
                envelope::object("data_base64 once decoded", decoded.trim_matches(JSON_SPACE))?;
        }
        Data::Other => return broken(Rule::Envelope, "data is not a JSON object"),
    }
    let Some(kind) = Kind::of_type(&envelope.kind) else { return Ok(None) };
    data::event(&envelope, &fields, kind, key)
        .map(Some)
        .map_err(|reason| Broken(Rule::Data, reason))
}

fn check_time(event: &Event, stored_ns: i64) -> Result<(), Broken> {
    let ahead_ns = i128::from(event.time_ms) * NS_PER_MS - i128::from(stored_ns);
    if ahead_ns > i128::from(MAX_AHEAD_MS) * NS_PER_MS {
        return broken(Rule::Time, "time is more than 5 minutes after the message was stored");
    }
    let (max_age_ms, too_old) = match event.kind {
        Kind::Forgotten => (
            MAX_FORGOTTEN_AGE_MS,
            "time of user.forgotten is more than 24 hours before the message was stored",
        ),
        _ => (MAX_AGE_MS, "time is more than 35 days before the message was stored"),
    };
    if ahead_ns < -i128::from(max_age_ms) * NS_PER_MS {
        return broken(Rule::Time, too_old);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
