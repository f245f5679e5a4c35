//! Which messages are events: the rules in their order, subject, envelope, type, data, time.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::json::Object;
use super::time::parse_time_ms;
use super::{Message, Verdict};

const ATTRIBUTES: [&str; 5] = ["specversion", "id", "source", "type", "time"];
const MAX_PAYLOAD_BYTES: usize = 65_536;
const MAX_EVENT_ID_BYTES: usize = 128;
const MAX_SOURCE_BYTES: usize = 256;
const MAX_USER_BYTES: usize = 512;
const NS_PER_MS: i128 = 1_000_000;
const LATE_NS: i128 = 35 * 86_400_000 * NS_PER_MS;
const LATE_FORGOTTEN_NS: i128 = 86_400_000 * NS_PER_MS;
const EARLY_NS: i128 = 5 * 60_000 * NS_PER_MS;
const MAX_DURATION_MS: u64 = 86_400_000;

/// The rules that a message can break, in the order of checking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The subject names no account, bot and channel.
    Subject,
    /// Not a CloudEvent as described.
    Envelope,
    /// Fields of the data missing or of the wrong type.
    Data,
    /// Too old or too early when it was stored.
    Time,
}

impl Rule {
    pub const ALL: [Self; 4] = [Self::Subject, Self::Envelope, Self::Data, Self::Time];

    /// What dead letters call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Envelope => "envelope",
            Self::Data => "data",
            Self::Time => "time",
        }
    }
}

/// What happened, with the facts that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Received,
    Sent {
        /// The bot did not know what to say.
        fallback: bool,
    },
    Nlp {
        /// An intent was found.
        detected: bool,
    },
    Integration {
        /// Its kind is `api`.
        api: bool,
        ok: bool,
    },
    Requested,
    Joined,
    OperatorMessage {
        /// Not written by a person.
        automatic: bool,
    },
    Released,
    Goal,
    Tag,
    Ended,
    Feedback {
        /// The score is 4 or 5.
        satisfied: bool,
    },
    /// The user is to be forgotten.
    Forgotten,
}

impl Kind {
    /// Place in the order of events of the same millisecond.
    pub fn rank(self) -> u8 {
        match self {
            Kind::Received => 0,
            Kind::Sent { .. } => 1,
            Kind::Nlp { .. } => 2,
            Kind::Integration { .. } => 3,
            Kind::Requested => 4,
            Kind::Joined => 5,
            Kind::OperatorMessage { .. } => 6,
            Kind::Released => 7,
            Kind::Goal => 8,
            Kind::Tag => 9,
            Kind::Ended => 10,
            Kind::Feedback { .. } => 11,
            Kind::Forgotten => 12,
        }
    }

    /// Whether it belongs to a session.
    pub fn is_of_session(self) -> bool {
        !matches!(self, Kind::Feedback { .. } | Kind::Forgotten)
    }

    /// Whether it is a message: received, sent or an operator's.
    pub fn is_message(self) -> bool {
        matches!(self, Kind::Received | Kind::Sent { .. } | Kind::OperatorMessage { .. })
    }
}

/// An event that may count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub account: String,
    pub bot: String,
    pub channel: String,
    /// Empty for [`Kind::Forgotten`], which belongs to none.
    pub conversation: String,
    pub user: String,
    pub source: String,
    pub id: String,
    /// The event's own time, Unix milliseconds.
    pub time_ms: i64,
    pub kind: Kind,
    /// The fields that its type names, as they stand there; null is absent.
    pub fields: Fields,
    /// The value of `durationms` if it counts, whatever the kind of the integration. It makes `5`
    /// and `5.0` different content.
    pub duration_ms: Option<u64>,
}

/// Values by name. Texts as they are, booleans as `true` and `false`, numbers as Rust writes them.
pub type Fields = BTreeMap<&'static str, String>;

impl Event {
    /// The text of a field, if the type names it and it is there.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

/// Whether the event is a `user.forgotten`; account, bot, channel, conversation id (or user id, if
/// it is one), source, id.
pub(super) type Identity = (bool, [String; 6]);

/// Reads a message, or says why it does not count.
pub(super) fn judge(message: &Message) -> Result<(Identity, Event), Verdict> {
    let broken = |rule| move || Verdict::DeadLetter(rule);
    let [account, bot, channel] = subject(&message.subject).ok_or_else(broken(Rule::Subject))?;
    let envelope = envelope(message).ok_or_else(broken(Rule::Envelope))?;
    if named(&envelope.kind).is_none() {
        return Err(Verdict::UnknownType);
    }
    let data = data(&envelope).ok_or_else(broken(Rule::Data))?;
    let is_forgotten = data.kind == Kind::Forgotten;
    let late_ns = if is_forgotten { LATE_FORGOTTEN_NS } else { LATE_NS };
    let age_ns = i128::from(message.stored_ns) - i128::from(envelope.time_ms) * NS_PER_MS;
    if age_ns > late_ns || -age_ns > EARLY_NS {
        return Err(Verdict::DeadLetter(Rule::Time));
    }
    let whose = if is_forgotten { &data.user } else { &data.conversation };
    let identity = [account, bot, channel, whose, &envelope.source, &envelope.id];
    let identity = (is_forgotten, identity.map(str::to_owned));
    let event = Event {
        account: account.to_owned(),
        bot: bot.to_owned(),
        channel: channel.to_owned(),
        conversation: data.conversation,
        user: data.user,
        source: envelope.source,
        id: envelope.id,
        time_ms: envelope.time_ms,
        kind: data.kind,
        fields: data.fields,
        duration_ms: data.duration_ms,
    };
    Ok((identity, event))
}

fn subject(subject: &str) -> Option<[&str; 3]> {
    let tokens: Vec<&str> = subject.split('.').collect();
    let [account, bot, channel] = match tokens[..] {
        ["botstats", "events", account, bot, channel] => [account, bot, channel],
        ["botstats", "slot", slot, account, bot, channel] if slot == slot_of(account) => {
            [account, bot, channel]
        }
        _ => return None,
    };
    let is_token = |t: &str| {
        (1..=64).contains(&t.len())
            && t.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    (is_token(account) && is_token(bot) && is_token(channel)).then_some([account, bot, channel])
}

/// The 32-bit FNV-1a of the account, modulo 256, in decimal.
fn slot_of(account: &str) -> String {
    let mut hash: u64 = 2_166_136_261;
    for byte in account.bytes() {
        hash = (hash ^ u64::from(byte)) * 16_777_619 % (1 << 32);
    }
    (hash % 256).to_string()
}

struct Envelope {
    id: String,
    source: String,
    kind: String,
    time_ms: i64,
    data: Box<RawValue>,
}

fn envelope(message: &Message) -> Option<Envelope> {
    if message.payload.len() > MAX_PAYLOAD_BYTES {
        return None;
    }
    let body = std::str::from_utf8(&message.payload).ok()?;
    let content_type = header(message, "content-type")?.unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let structured = media_type.eq_ignore_ascii_case("application/cloudevents+json");
    let is_version = |name: &str| name.eq_ignore_ascii_case("ce-specversion");
    let binary = !structured && message.headers.iter().any(|(name, _)| is_version(name));

    let ([specversion, id, source, kind, time], data) = if binary {
        let attribute = |name: &str| {
            let value = header(message, &format!("ce-{name}"))??;
            percent_decoded(value)
        };
        let data: Box<RawValue> = serde_json::from_str(body).ok()?;
        (ATTRIBUTES.map(attribute), data)
    } else {
        let object = Object::read(body)?;
        let attribute = |name: &str| object.typed::<String>(name).ok().flatten();
        let encoded = object.typed::<String>("data_base64").ok()?;
        let data: Box<RawValue> = match (object.get("data").ok()?, encoded) {
            (Some(data), None) => data.to_owned(),
            (None, Some(encoded)) => serde_json::from_str(&from_base64(&encoded)?).ok()?,
            _ => return None,
        };
        (ATTRIBUTES.map(attribute), data)
    };

    let (id, source, kind) = (id?, source?, kind?);
    let is_envelope = specversion? == "1.0"
        && (1..=MAX_EVENT_ID_BYTES).contains(&id.len())
        && (1..=MAX_SOURCE_BYTES).contains(&source.len())
        && !kind.is_empty()
        && data.get().starts_with('{');
    is_envelope.then_some(Envelope { id, source, kind, time_ms: parse_time_ms(&time?)?, data })
}

/// The value of a header; none of the outer option if it is there twice.
fn header<'a>(message: &'a Message, wanted: &str) -> Option<Option<&'a str>> {
    let mut found = message.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
    let first = found.next().map(|(_, value)| value.as_str());
    found.next().is_none().then_some(first)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        let code = code.filter(|h| h.chars().all(|c| c.is_ascii_hexdigit()));
        match (first, code) {
            (b'%', Some(hex)) => {
                bytes.push(u8::from_str_radix(hex, 16).ok()?);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// The text that base64 (RFC 4648, section 4) stands for, by its bits.
fn from_base64(encoded: &str) -> Option<String> {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = encoded.trim_end_matches('=');
    let padding = encoded.len() - letters.len();
    if !encoded.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let mut bits = String::new();
    for letter in letters.chars() {
        bits.push_str(&format!("{:06b}", alphabet.find(letter)?));
    }
    let (whole, rest) = bits.split_at(bits.len() / 8 * 8);
    if rest.contains('1') {
        return None;
    }
    let bytes = whole.as_bytes().chunks(8).map(|bits| {
        let bits = std::str::from_utf8(bits).ok()?;
        u8::from_str_radix(bits, 2).ok()
    });
    String::from_utf8(bytes.collect::<Option<_>>()?).ok()
}

/// The JSON type of a field.
#[derive(Clone, Copy)]
enum Json {
    Text,
    Bool,
    Number,
    /// A whole number from 1 to 5, written with one digit.
    Score,
}

/// What a type names beside the conversation (which `user.forgotten` has not) and the user:
/// required and optional fields.
type Named = (&'static [(&'static str, Json)], &'static [(&'static str, Json)]);

fn named(kind: &str) -> Option<Named> {
    use Json::{Bool, Number, Score, Text};
    let name = kind.strip_prefix("io.botstats.")?.strip_suffix(".v1")?;
    Some(match name {
        "message.received" => (&[], &[("kind", Text)]),
        "message.sent" => (&[], &[("fallback", Bool), ("parts", Number)]),
        "nlp.evaluated" => (&[("detected", Bool)], &[("intent", Text), ("confidence", Number)]),
        "integration.called" => (
            &[("kind", Text), ("ok", Bool)],
            &[("status", Number), ("durationms", Number), ("name", Text)],
        ),
        "operator.requested" => (&[], &[("by", Text)]),
        "operator.joined" => (&[], &[("operatorid", Text)]),
        "operator.message" => (&[], &[("operatorid", Text), ("automatic", Bool)]),
        "operator.released" | "conversation.ended" => (&[], &[("reason", Text)]),
        "goal.reached" => (&[("goal", Text)], &[]),
        "tag.set" => (&[("tag", Text)], &[]),
        "feedback.given" => (&[("score", Score)], &[("question", Text)]),
        "user.forgotten" => (&[], &[]),
        _ => return None,
    })
}

struct Data {
    conversation: String,
    user: String,
    kind: Kind,
    fields: Fields,
    duration_ms: Option<u64>,
}

fn data(envelope: &Envelope) -> Option<Data> {
    let object = Object::read(envelope.data.get())?;
    let id = |name| {
        let text = object.typed::<String>(name).ok()??;
        (1..=MAX_USER_BYTES).contains(&text.len()).then_some(text)
    };
    let (required, optional) = named(&envelope.kind)?;
    let mut fields = Fields::new();
    for (name, json) in required.iter().chain(optional) {
        let value = match json {
            Json::Text => object.typed::<String>(name).ok()?,
            Json::Bool => object.typed::<bool>(name).ok()?.map(|value| value.to_string()),
            Json::Number => match object.get(name).ok()? {
                None => None,
                Some(value) => Some(number(value.get())?),
            },
            Json::Score => match object.get(name).ok()? {
                None => None,
                Some(value) => Some(score(value.get())?),
            },
        };
        fields.extend(value.map(|value| (*name, value)));
    }
    if !required.iter().all(|(name, _)| fields.contains_key(name)) {
        return None;
    }
    let is = |name, value: &str| fields.get(name).is_some_and(|field| field == value);
    let kind = match envelope.kind.as_str() {
        "io.botstats.message.received.v1" => Kind::Received,
        "io.botstats.message.sent.v1" => Kind::Sent { fallback: is("fallback", "true") },
        "io.botstats.nlp.evaluated.v1" => Kind::Nlp { detected: is("detected", "true") },
        "io.botstats.integration.called.v1" => {
            Kind::Integration { api: is("kind", "api"), ok: is("ok", "true") }
        }
        "io.botstats.operator.requested.v1" => Kind::Requested,
        "io.botstats.operator.joined.v1" => Kind::Joined,
        "io.botstats.operator.message.v1" => {
            Kind::OperatorMessage { automatic: is("automatic", "true") }
        }
        "io.botstats.operator.released.v1" => Kind::Released,
        "io.botstats.conversation.ended.v1" => Kind::Ended,
        "io.botstats.goal.reached.v1" => Kind::Goal,
        "io.botstats.tag.set.v1" => Kind::Tag,
        "io.botstats.feedback.given.v1" => {
            Kind::Feedback { satisfied: is("score", "4") || is("score", "5") }
        }
        "io.botstats.user.forgotten.v1" => Kind::Forgotten,
        other => unreachable!("{other} names its fields above"),
    };
    let conversation = match kind {
        Kind::Forgotten => String::new(),
        _ => id("conversationid")?,
    };
    let duration_ms = match kind {
        Kind::Integration { .. } => {
            object.get("durationms").ok()?.and_then(|value| duration(value.get()))
        }
        _ => None,
    };
    Some(Data { conversation, user: id("userid")?, kind, fields, duration_ms })
}

/// The number if it is written with digits alone and is at most a day.
fn duration(json: &str) -> Option<u64> {
    let is_whole = json.chars().all(|c| c.is_ascii_digit());
    json.parse().ok().filter(|ms| is_whole && *ms <= MAX_DURATION_MS)
}

fn score(json: &str) -> Option<String> {
    ["1", "2", "3", "4", "5"].contains(&json).then(|| json.to_owned())
}

/// A JSON number, however large, in one form for each value.
fn number(json: &str) -> Option<String> {
    let is_number = json.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    is_number.then(|| json.parse::<f64>().map_or_else(|_| json.to_owned(), |n| n.to_string()))
}
