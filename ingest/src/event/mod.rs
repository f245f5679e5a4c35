//! From the bytes of a message to an event: the rules of `docs/events.md`, in their order.
//!
//! subject -> envelope -> type -> data -> time. The first rule that a message breaks makes it a
//! dead letter; an unknown type is skipped. Nothing here asks a clock: the timestamp that JetStream
//! gave the message decides whether an event is too old or too new.
//!
//! *Invariants*: a reason names fields and what is allowed, never a value of the message, in at
//! most [`MAX_REASON_BYTES`].

mod cause;
pub(crate) mod decoder;
mod field;
mod kind;
pub(crate) mod registry;
mod rfc3339;
mod split;

use std::borrow::Cow;

use async_nats::HeaderMap;
use botstats_common::event::{MAX_AGE_MS, MAX_AHEAD_MS, MAX_ID_BYTES, MAX_SOURCE_BYTES};
use botstats_common::ids::is_id;
use botstats_common::names::MAX_PAYLOAD_BYTES;
use data_encoding::BASE64;
use percent_encoding::percent_decode_str;
use serde_json::error::Category;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

pub use kind::Kind;

use field::{DataFields, EnvelopeFields, FieldReader, RawField, Reason};

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
}

/// The parts of an accepted event that the metrics need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Hash of the conversation id, which is unique only within one (account, bot, channel).
    pub conversation: u128,
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
    pub user: u128,
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
    /// The subject does not end in account, bot and channel.
    Subject = 0,
    /// CloudEvents attributes, or the JSON around them.
    Envelope = 1,
    /// The data of the type.
    Data = 2,
    /// Too old or too new.
    Time = 3,
}

impl Rule {
    /// All rules, by number.
    pub const ALL: [Rule; 4] = [Rule::Subject, Rule::Envelope, Rule::Data, Rule::Time];

    /// The name in metrics and lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Rule::Subject => "subject",
            Rule::Envelope => "envelope",
            Rule::Data => "data",
            Rule::Time => "time",
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

/// Decodes one message.
#[must_use]
pub fn decode<'a>(message: &Message<'a>) -> Decoded<Address<'a>> {
    decoded(address(message.subject), message)
}

/// Decodes one message whose subject was decoded before, to `whose`.
#[must_use]
pub(crate) fn decode_known<A>(whose: A, message: &Message<'_>) -> Decoded<A> {
    decoded(Ok(whose), message)
}

fn decoded<A>(address: Result<A, Broken>, message: &Message<'_>) -> Decoded<A> {
    match address.and_then(|address| Ok((address, try_decode(message)?))) {
        Ok((address, Some(event))) => Decoded::Event(address, event),
        Ok((_, None)) => Decoded::UnknownType,
        Err(Broken(rule, reason)) => Decoded::DeadLetter(rule, reason),
    }
}

fn try_decode(message: &Message<'_>) -> Result<Option<Event>, Broken> {
    let event = read(message).map_err(|Broken(rule, reason)| {
        Broken(rule, cause::of(message).map_or(reason, Cow::Borrowed))
    })?;
    if let Some(event) = &event {
        check_time(event.time_ms, message.stored_ns)?;
    }
    Ok(event)
}

fn read(message: &Message<'_>) -> Result<Option<Event>, Broken> {
    let decoded: String;
    let mut fields = DataFields::default();
    let (envelope, data) = envelope(message, &mut fields)?;
    match data {
        Data::Split => {}
        Data::Object(json) => fields = object("data", json)?,
        Data::Base64(text) => {
            decoded = from_base64(&text)?;
            fields = object("data_base64 once decoded", decoded.trim_matches(JSON_SPACE))?;
        }
        Data::Other => return broken(Rule::Envelope, "data is not a JSON object"),
    }
    let Some(kind) = Kind::of_type(&envelope.kind) else { return Ok(None) };
    event(&envelope, &fields, kind).map(Some).map_err(|reason| Broken(Rule::Data, reason))
}

fn address(subject: &str) -> Result<Address<'_>, Broken> {
    let mut tokens = subject.rsplit('.');
    if let (Some(channel), Some(bot), Some(account)) = (tokens.next(), tokens.next(), tokens.next())
    {
        for (name, id) in [("account", account), ("bot", bot), ("channel", channel)] {
            if !is_id(id) {
                return broken(
                    Rule::Subject,
                    format!("the {name} is not 1 to 64 of the characters A-Z a-z 0-9 _ -"),
                );
            }
        }
        let path = &subject[subject.len() - account.len() - bot.len() - channel.len() - 2..];
        return Ok(Address { account, bot, channel, path });
    }
    broken(Rule::Subject, "it does not end in <account>.<bot>.<channel>")
}

struct Envelope<'a> {
    id: Cow<'a, str>,
    source: Cow<'a, str>,
    kind: Cow<'a, str>,
    time_ms: i64,
}

/// Reads the envelope. Data in plain JSON is split into `fields` in the same pass.
fn envelope<'a>(
    message: &Message<'a>,
    fields: &mut DataFields<'a>,
) -> Result<(Envelope<'a>, Data<'a>), Broken> {
    if message.payload.len() > MAX_PAYLOAD_BYTES {
        return broken(
            Rule::Envelope,
            format!("the payload is larger than {MAX_PAYLOAD_BYTES} bytes"),
        );
    }
    let text = str::from_utf8(message.payload)
        .map_err(|_| Broken(Rule::Envelope, "the payload is not UTF-8".into()))?;
    let (attributes, data) = match mode(message.headers)? {
        Mode::Structured => structured(text, fields)?,
        Mode::Binary(headers) => {
            (binary(headers)?, Data::of(text.trim_matches(JSON_SPACE), fields))
        }
    };
    let attribute = |name: &'static str, text: Option<Cow<'a, str>>, max: usize| match text {
        Some(text) if (1..=max).contains(&text.len()) => Ok(text),
        Some(_) => broken(Rule::Envelope, format!("{name} is not 1 to {max} bytes long")),
        None => broken(Rule::Envelope, format!("{name} is missing")),
    };
    match attributes.specversion.as_deref() {
        Some("1.0") => {}
        Some(_) => return broken(Rule::Envelope, "specversion is not 1.0"),
        None => return broken(Rule::Envelope, "specversion is missing"),
    }
    let id = attribute("id", attributes.id, MAX_ID_BYTES)?;
    let source = attribute("source", attributes.source, MAX_SOURCE_BYTES)?;
    let kind = match attributes.kind {
        Some(kind) if !kind.is_empty() => kind,
        Some(_) => return broken(Rule::Envelope, "type is empty"),
        None => return broken(Rule::Envelope, "type is missing"),
    };
    let time_ms = match attributes.time.map(|time| rfc3339::parse_ms(&time)) {
        Some(Some(ms)) => ms,
        Some(None) => {
            return broken(
                Rule::Envelope,
                "time is not RFC 3339, such as 2026-11-20T10:52:00.000Z",
            );
        }
        None => return broken(Rule::Envelope, "time is missing"),
    };
    Ok((Envelope { id, source, kind, time_ms }, data))
}

/// The data of an event.
enum Data<'a> {
    /// Already split into fields.
    Split,
    /// JSON text that begins like an object.
    Object(&'a str),
    /// The attribute `data_base64`.
    Base64(Cow<'a, str>),
    /// A JSON value that is not an object.
    Other,
}

impl<'a> Data<'a> {
    fn of(json: &'a str, fields: &mut DataFields<'a>) -> Self {
        match split::data(json, fields) {
            Some(()) => Data::Split,
            None if json.starts_with('{') => Data::Object(json),
            None => Data::Other,
        }
    }
}

fn object<'a>(what: &str, json: &'a str) -> Result<DataFields<'a>, Broken> {
    let mut fields = DataFields::default();
    if split::data(json, &mut fields).is_none() {
        fields = serde_json::from_str(json).map_err(|error| not_an_object(what, &error))?;
    }
    Ok(fields)
}

/// The JSON text that some libraries write as `data_base64`, because they got the data as bytes.
fn from_base64(text: &str) -> Result<String, Broken> {
    let Ok(bytes) = BASE64.decode(text.as_bytes()) else {
        return broken(Rule::Envelope, "data_base64 is not base64 (RFC 4648, section 4, padded)");
    };
    String::from_utf8(bytes)
        .map_err(|_| Broken(Rule::Envelope, "data_base64 once decoded is not UTF-8".into()))
}

/// Says where the JSON text is wrong. An error of category `Data` is not quoted: its text would
/// repeat a value of the message.
fn not_an_object(what: &str, error: &serde_json::Error) -> Broken {
    let reason = match error.classify() {
        Category::Data => format!("{what} is not a JSON object"),
        _ => format!("{what} is not JSON: {error}"),
    };
    Broken(Rule::Envelope, reason.into())
}

enum Mode<'a> {
    Structured,
    Binary(&'a HeaderMap),
}

/// The mode of the CloudEvents binding for NATS:
///
/// | content type | header ce-specversion | read as |
/// | --- | --- | --- |
/// | application/cloudevents+json | any | structured |
/// | any other or none | yes | binary |
/// | any other or none | no | structured |
fn mode(headers: Headers<'_>) -> Result<Mode<'_>, Broken> {
    let headers = match headers {
        Headers::Read(Some(headers)) => headers,
        Headers::Read(None) => return Ok(Mode::Structured),
        Headers::Unreadable => return broken(Rule::Envelope, "the headers cannot be read"),
    };
    if let Some(value) = header(headers, "content-type")? {
        let media = value.split(';').next().unwrap_or_default().trim();
        if media.eq_ignore_ascii_case("application/cloudevents+json") {
            return Ok(Mode::Structured);
        }
    }
    // Other ce- headers do not count: programs between publisher and stream, such as tracing, may
    // add them to any message.
    let is_version = |name: &str| name.eq_ignore_ascii_case("ce-specversion");
    let binary = headers.iter().any(|(name, _)| is_version(name.as_ref()));
    Ok(if binary { Mode::Binary(headers) } else { Mode::Structured })
}

/// The value of a header in any letter case. A header that is given twice is refused: chance would
/// decide which value counts.
fn header<'a>(headers: &'a HeaderMap, wanted: &'static str) -> Result<Option<&'a str>, Broken> {
    let mut values = headers
        .iter()
        .filter(|(name, _)| AsRef::<str>::as_ref(*name).eq_ignore_ascii_case(wanted))
        .flat_map(|(_, values)| values);
    match (values.next(), values.next()) {
        (_, Some(_)) => broken(Rule::Envelope, format!("header {wanted} is given twice")),
        (value, None) => Ok(value.map(async_nats::HeaderValue::as_str)),
    }
}

/// The CloudEvents attributes that the rules use.
struct Attributes<'a> {
    specversion: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    source: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    time: Option<Cow<'a, str>>,
}

fn structured<'a>(
    text: &'a str,
    data: &mut DataFields<'a>,
) -> Result<(Attributes<'a>, Data<'a>), Broken> {
    let mut fields = EnvelopeFields::default();
    let split = split::envelope(text, &mut fields, data).is_some();
    if !split {
        fields = serde_json::from_str(text).map_err(|e| not_an_object("the payload", &e))?;
    }
    let mut read = || {
        let attributes = Attributes {
            specversion: fields.specversion.text("specversion")?,
            id: fields.id.text("id")?,
            source: fields.source.text("source")?,
            kind: fields.kind.text("type")?,
            time: fields.time.text("time")?,
        };
        let encoded = fields.data_base64.text("data_base64")?;
        let data = match fields.data {
            _ if split => Some(Data::Split),
            RawField::Absent | RawField::Json("null") => None,
            RawField::Twice => return Err("data is given twice".into()),
            RawField::Text(_) => Some(Data::Other),
            RawField::Json(json) => Some(Data::of(json, data)),
        };
        match (data, encoded) {
            (Some(data), None) => Ok((attributes, data)),
            (None, Some(encoded)) => Ok((attributes, Data::Base64(encoded))),
            (Some(_), Some(_)) => Err("data and data_base64 are both given; one is allowed".into()),
            (None, None) => Err("data is missing".into()),
        }
    };
    read().map_err(|reason: Reason| Broken(Rule::Envelope, reason))
}

fn binary(headers: &HeaderMap) -> Result<Attributes<'_>, Broken> {
    let attribute = |name: &'static str| match header(headers, name)? {
        None => Ok(None),
        Some(value) => percent_decode_str(value).decode_utf8().map(Some).map_err(|_| {
            Broken(Rule::Envelope, format!("header {name} is not UTF-8 once decoded").into())
        }),
    };
    Ok(Attributes {
        specversion: attribute("ce-specversion")?,
        id: attribute("ce-id")?,
        source: attribute("ce-source")?,
        kind: attribute("ce-type")?,
        time: attribute("ce-time")?,
    })
}

/// Reads the data of a known type; the error says what is wrong with it.
fn event(envelope: &Envelope<'_>, data: &DataFields<'_>, kind: Kind) -> Result<Event, Reason> {
    let mut asked = FieldReader::new();
    let conversation = asked.id("data.conversationid", data.conversationid)?;
    let user = asked.id("data.userid", data.userid)?;
    let mut flags = 0;
    let mut set = |bit: u8, on: bool| flags |= if on { bit } else { 0 };
    // Every field that the type names must have the right JSON type, even an optional one.
    match kind {
        Kind::Received => {
            asked.text("data.kind", data.kind)?;
        }
        Kind::Sent => {
            set(flag::FALLBACK, asked.bool("data.fallback", data.fallback)?.unwrap_or(false));
            asked.number("data.parts", data.parts)?;
        }
        Kind::Nlp => {
            set(flag::DETECTED, asked.required_bool("data.detected", data.detected)?);
            asked.text("data.intent", data.intent)?;
            asked.number("data.confidence", data.confidence)?;
        }
        Kind::Integration => {
            set(flag::API, asked.required_text("data.kind", data.kind)? == "api");
            set(flag::FAILED, !asked.required_bool("data.ok", data.ok)?);
            asked.number("data.status", data.status)?;
            asked.number("data.durationms", data.durationms)?;
            asked.text("data.name", data.name)?;
        }
        Kind::Requested => {
            asked.text("data.by", data.by)?;
        }
        Kind::Joined => {
            asked.text("data.operatorid", data.operatorid)?;
        }
        Kind::OperatorMessage => {
            asked.text("data.operatorid", data.operatorid)?;
            set(flag::AUTOMATIC, asked.bool("data.automatic", data.automatic)?.unwrap_or(false));
        }
        Kind::Released | Kind::Ended => {
            asked.text("data.reason", data.reason)?;
        }
        Kind::Goal => {
            asked.required_text("data.goal", data.goal)?;
        }
        Kind::Tag => {
            asked.required_text("data.tag", data.tag)?;
        }
    }
    let [a, b, c, d, ..] = xxh3_64(&asked.content).to_le_bytes();
    // The length keeps source "a" with id "bc" and source "ab" with id "c" apart.
    let mut identity = asked.content;
    identity.clear();
    identity.extend_from_slice(&envelope.source.len().to_le_bytes());
    identity.extend_from_slice(envelope.source.as_bytes());
    identity.extend_from_slice(envelope.id.as_bytes());
    Ok(Event {
        conversation: xxh3_128(conversation.as_bytes()),
        id: xxh3_64(&identity),
        content: u32::from_le_bytes([a, b, c, d]),
        time_ms: envelope.time_ms,
        kind,
        flags,
        user: xxh3_128(user.as_bytes()),
    })
}

fn check_time(time_ms: i64, stored_ns: i64) -> Result<(), Broken> {
    let ahead_ns = i128::from(time_ms) * NS_PER_MS - i128::from(stored_ns);
    if ahead_ns > i128::from(MAX_AHEAD_MS) * NS_PER_MS {
        return broken(Rule::Time, "time is more than 5 minutes after the message was stored");
    }
    if ahead_ns < -i128::from(MAX_AGE_MS) * NS_PER_MS {
        return broken(Rule::Time, "time is more than 35 days before the message was stored");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
