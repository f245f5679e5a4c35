//! Events for publishers: typed, checked, and rendered as the bytes of a CloudEvent.
//!
//! The rules are those of `docs/events.md`. With the feature `schema` the types describe themselves
//! as JSON Schema, from which `docs/asyncapi.yaml` is made.
//!
//! *Invariants*: ingest accepts what [`Event::render`] gives, if it is published in time.
//!
//! *Not here*: reading events. Ingest has its own decoder, which keeps only the fields that are
//! counted.

#[cfg(feature = "schema")]
pub mod schema;

use std::borrow::Cow;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use crate::names::MAX_PAYLOAD_BYTES;

/// The longest `id` of an event that is accepted, in bytes.
pub const MAX_ID_BYTES: usize = 128;
/// The longest `source` of an event that is accepted, in bytes.
pub const MAX_SOURCE_BYTES: usize = 256;
/// The longest conversation or user id that is accepted, in bytes. Ids of platforms are long: those
/// of Microsoft Teams have 150 to 325 bytes.
pub const MAX_DATA_ID_BYTES: usize = 512;
/// The most that an event's `time` may be before the moment at which the stream stored it, in
/// milliseconds.
pub const MAX_AGE_MS: i64 = 35 * 24 * 60 * 60 * 1000;
/// The same for `user.forgotten`, in milliseconds: a day.
pub const MAX_FORGOTTEN_AGE_MS: i64 = 24 * 60 * 60 * 1000;
/// The most that an event's `time` may be after that moment, in milliseconds: publishers' clocks
/// differ.
pub const MAX_AHEAD_MS: i64 = 5 * 60 * 1000;
/// The lowest score of `feedback.given`.
pub const MIN_SCORE: u8 = 1;
/// The highest score of `feedback.given`.
pub const MAX_SCORE: u8 = 5;
/// 0000-01-01T00:00:00Z, the first moment that RFC 3339 can write, in Unix milliseconds.
const FIRST_MS: i64 = -62_167_219_200_000;

/// An event of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<'a> {
    /// New for each event, and the same whenever that one is sent again; 1 to [`MAX_ID_BYTES`]
    /// bytes.
    pub id: Cow<'a, str>,
    /// Who made the event, such as a runtime's name; 1 to [`MAX_SOURCE_BYTES`] bytes.
    pub source: Cow<'a, str>,
    /// When it happened, in Unix milliseconds.
    pub time_ms: i64,
    /// The conversation, a pseudonym; 1 to [`MAX_DATA_ID_BYTES`] bytes. It is not used for
    /// [`What::UserForgotten`].
    pub conversation: Cow<'a, str>,
    /// The end user, a pseudonym, where an operator acts too; 1 to [`MAX_DATA_ID_BYTES`] bytes.
    pub user: Cow<'a, str>,
    /// What happened.
    pub what: What<'a>,
}

/// What happened: one variant for each type of event, with its data.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum What<'a> {
    /// The user said something.
    MessageReceived {
        /// Of what kind it was, such as text
        #[serde(skip_serializing_if = "Option::is_none")]
        kind: Option<Cow<'a, str>>,
    },
    /// The bot answered: one turn, however many bubbles it had.
    MessageSent {
        /// Whether it was a fallback reply
        #[serde(skip_serializing_if = "Option::is_none")]
        fallback: Option<bool>,
        /// How many bubbles it had
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Number>"))]
        parts: Option<u32>,
    },
    /// The bot tried to understand what the user said.
    NlpEvaluated {
        /// Whether it did
        detected: bool,
        /// How sure it was, 0 to 1
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Number>"))]
        confidence: Option<f64>,
        /// What it took it for; counted by its first 128 bytes, and no personal data
        #[serde(skip_serializing_if = "Option::is_none")]
        intent: Option<Cow<'a, str>>,
    },
    /// The bot called another system.
    IntegrationCalled {
        /// api in exactly these letters, or any other kind such as nlp or database
        kind: Cow<'a, str>,
        /// Whether the call worked
        ok: bool,
        /// The status of its answer
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Number>"))]
        status: Option<i64>,
        /// How long it took, in milliseconds: counted if kind is api and this is a whole number,
        /// written with digits only, up to 86400000
        #[serde(rename = "durationms", skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Number>"))]
        duration_ms: Option<u64>,
        /// Which integration it was; counted by its first 128 bytes, and no personal data
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<Cow<'a, str>>,
    },
    /// An operator is wanted.
    OperatorRequested {
        /// Who asked for one, such as user or bot
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<Cow<'a, str>>,
    },
    /// An operator took over.
    OperatorJoined {
        /// Which operator, a pseudonym; counted by its first 128 bytes
        #[serde(rename = "operatorid", skip_serializing_if = "Option::is_none")]
        operator: Option<Cow<'a, str>>,
    },
    /// An operator said something.
    OperatorMessage {
        /// Which operator, a pseudonym; counted by its first 128 bytes
        #[serde(rename = "operatorid", skip_serializing_if = "Option::is_none")]
        operator: Option<Cow<'a, str>>,
        /// Whether the system sent it in the operator's name
        #[serde(skip_serializing_if = "Option::is_none")]
        automatic: Option<bool>,
    },
    /// The operator gave the conversation back.
    OperatorReleased {
        /// Why
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Cow<'a, str>>,
    },
    /// The conversation is over.
    ConversationEnded {
        /// Why
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Cow<'a, str>>,
    },
    /// A goal was reached.
    GoalReached {
        /// Which goal; counted by its first 128 bytes, and no personal data
        goal: Cow<'a, str>,
    },
    /// A tag was set.
    TagSet {
        /// Which tag; counted by its first 128 bytes, and no personal data
        tag: Cow<'a, str>,
    },
    /// The user gave a score.
    FeedbackGiven {
        /// The score, from 1 to 5, written with digits only; 4 and 5 are satisfied users
        #[cfg_attr(feature = "schema", schemars(range(min = MIN_SCORE, max = MAX_SCORE)))]
        score: u8,
        /// What the user was asked
        #[serde(skip_serializing_if = "Option::is_none")]
        question: Option<Cow<'a, str>>,
    },
    /// The user is to be forgotten: from the next quarter of an hour on, the user is a new one.
    UserForgotten {},
}

impl What<'_> {
    /// The types of events, in the order of the variants: the CloudEvents attribute `type`.
    pub const TYPES: [&'static str; 13] = [
        "io.botstats.message.received.v1",
        "io.botstats.message.sent.v1",
        "io.botstats.nlp.evaluated.v1",
        "io.botstats.integration.called.v1",
        "io.botstats.operator.requested.v1",
        "io.botstats.operator.joined.v1",
        "io.botstats.operator.message.v1",
        "io.botstats.operator.released.v1",
        "io.botstats.conversation.ended.v1",
        "io.botstats.goal.reached.v1",
        "io.botstats.tag.set.v1",
        "io.botstats.feedback.given.v1",
        "io.botstats.user.forgotten.v1",
    ];

    /// The CloudEvents attribute `type`.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        let number = match self {
            Self::MessageReceived { .. } => 0,
            Self::MessageSent { .. } => 1,
            Self::NlpEvaluated { .. } => 2,
            Self::IntegrationCalled { .. } => 3,
            Self::OperatorRequested { .. } => 4,
            Self::OperatorJoined { .. } => 5,
            Self::OperatorMessage { .. } => 6,
            Self::OperatorReleased { .. } => 7,
            Self::ConversationEnded { .. } => 8,
            Self::GoalReached { .. } => 9,
            Self::TagSet { .. } => 10,
            Self::FeedbackGiven { .. } => 11,
            Self::UserForgotten {} => 12,
        };
        Self::TYPES[number]
    }
}

/// Why ingest would refuse an event, so that it can't be published.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEvent {
    /// A text that is empty or too long.
    #[error("{field} is {bytes} bytes long, not 1 to {most}")]
    Length {
        /// Its name in the CloudEvent.
        field: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        most: usize,
    },
    /// A score that does not exist.
    #[error("the score {0} is not {MIN_SCORE} to {MAX_SCORE}")]
    Score(u8),
    /// A time that RFC 3339 can't write.
    #[error("the time {0} ms is not in the years 0000 to 9999")]
    Time(i64),
    /// More data than an event may have.
    #[error("the event is {0} bytes long, more than {MAX_PAYLOAD_BYTES}")]
    TooLarge(usize),
    /// It can't be written as JSON.
    #[error("the event can't be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// The CloudEvent as it stands in JSON.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct CloudEvent<'a> {
    /// The version of CloudEvents
    specversion: &'static str,
    /// New for each event, and the same whenever that one is sent again; at most 128 bytes
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_ID_BYTES)))]
    id: &'a str,
    /// Who made the event, such as a runtime's name; at most 256 bytes
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_SOURCE_BYTES)))]
    source: &'a str,
    /// What happened
    #[serde(rename = "type")]
    kind: &'static str,
    /// When it happened: RFC 3339, kept to the millisecond
    #[cfg_attr(
        feature = "schema",
        schemars(regex(pattern = schema::TIME_PATTERN), extend("format" = "date-time"))
    )]
    time: String,
    data: Data<'a>,
}

#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Data<'a> {
    /// The conversation, a pseudonym; at most 512 bytes
    #[serde(rename = "conversationid", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "&'a str", length(min = 1, max = MAX_DATA_ID_BYTES))
    )]
    conversation: Option<&'a str>,
    /// The end user, a pseudonym, where an operator acts too; at most 512 bytes
    #[serde(rename = "userid")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_DATA_ID_BYTES)))]
    user: &'a str,
    #[serde(flatten)]
    what: &'a What<'a>,
}

impl Event<'_> {
    /// The event as it is published: a CloudEvent in structured mode.
    ///
    /// # Errors
    /// [`InvalidEvent`], if ingest would refuse it.
    pub fn render(&self) -> Result<Bytes, InvalidEvent> {
        let conversation = self.conversation();
        for (field, text, most) in [
            ("id", Some(&*self.id), MAX_ID_BYTES),
            ("source", Some(&*self.source), MAX_SOURCE_BYTES),
            ("conversationid", conversation, MAX_DATA_ID_BYTES),
            ("userid", Some(&*self.user), MAX_DATA_ID_BYTES),
        ] {
            let Some(text) = text else { continue };
            if !(1..=most).contains(&text.len()) {
                return Err(InvalidEvent::Length { field, bytes: text.len(), most });
            }
        }
        if let What::FeedbackGiven { score, .. } = self.what
            && !(MIN_SCORE..=MAX_SCORE).contains(&score)
        {
            return Err(InvalidEvent::Score(score));
        }
        let time = Timestamp::from_millisecond(self.time_ms).ok();
        let time = time.filter(|_| self.time_ms >= FIRST_MS);
        let time = time.ok_or(InvalidEvent::Time(self.time_ms))?;
        let event = CloudEvent {
            specversion: "1.0",
            id: &self.id,
            source: &self.source,
            kind: self.what.type_name(),
            time: format!("{time:.3}"),
            data: Data { conversation, user: &self.user, what: &self.what },
        };
        let bytes = serde_json::to_vec(&event)?;
        if bytes.len() > MAX_PAYLOAD_BYTES {
            return Err(InvalidEvent::TooLarge(bytes.len()));
        }
        Ok(bytes.into())
    }

    fn conversation(&self) -> Option<&str> {
        (!matches!(self.what, What::UserForgotten {})).then_some(&*self.conversation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event<'static> {
        Event {
            id: "e1".into(),
            source: "/s".into(),
            time_ms: 1_795_171_920_000,
            conversation: "c".into(),
            user: "u".into(),
            what: What::TagSet { tag: "vip".into() },
        }
    }

    #[test]
    fn the_bytes() {
        for (what, expect) in [
            (What::TagSet { tag: "v\"".into() }, r#"tag.set.v1","tag":"v\"""#),
            (What::MessageReceived { kind: None }, r#"message.received.v1""#),
            (
                What::NlpEvaluated { detected: false, confidence: Some(0.25), intent: None },
                r#"nlp.evaluated.v1","detected":false,"confidence":0.25"#,
            ),
            (
                What::IntegrationCalled {
                    kind: "api".into(),
                    ok: true,
                    status: Some(200),
                    duration_ms: Some(7),
                    name: Some("n".into()),
                },
                r#"integration.called.v1","kind":"api","ok":true,"status":200,"durationms":7,"name":"n""#,
            ),
            (
                What::FeedbackGiven { score: 4, question: Some("q".into()) },
                r#"feedback.given.v1","score":4,"question":"q""#,
            ),
        ] {
            let (name, data) = expect.split_once('"').unwrap();
            let wanted = format!(
                r#"{{"specversion":"1.0","id":"e1","source":"/s","type":"io.botstats.{name}","time":"2026-11-20T10:52:00.000Z","data":{{"conversationid":"c","userid":"u"{data}}}}}"#
            );
            let got = Event { what, ..event() }.render().unwrap();
            assert_eq!(String::from_utf8_lossy(&got), wanted);
        }
        let forgotten = Event { what: What::UserForgotten {}, ..event() }.render().unwrap();
        let forgotten = String::from_utf8_lossy(&forgotten).into_owned();
        assert!(forgotten.ends_with(r#"Z","data":{"userid":"u"}}"#), "{forgotten}");
    }

    #[test]
    fn what_ingest_would_refuse() {
        let long = |bytes: usize| Cow::Owned("é".repeat(bytes / 2));
        for (event, expect) in [
            (Event { id: "".into(), ..event() }, Some("id is 0 bytes long, not 1 to 128")),
            (Event { id: long(128), ..event() }, None),
            (Event { id: long(130), ..event() }, Some("id is 130 bytes long, not 1 to 128")),
            (Event { source: long(256), ..event() }, None),
            (
                Event { source: long(258), ..event() },
                Some("source is 258 bytes long, not 1 to 256"),
            ),
            (
                Event { conversation: "".into(), ..event() },
                Some("conversationid is 0 bytes long, not 1 to 512"),
            ),
            (Event { conversation: long(512), user: long(512), ..event() }, None),
            (Event { user: long(514), ..event() }, Some("userid is 514 bytes long, not 1 to 512")),
            (Event { time_ms: FIRST_MS, ..event() }, None),
            (
                Event { time_ms: FIRST_MS - 1, ..event() },
                Some("the time -62167219200001 ms is not in the years 0000 to 9999"),
            ),
            (
                Event { time_ms: i64::MAX, ..event() },
                Some("the time 9223372036854775807 ms is not in the years 0000 to 9999"),
            ),
            (
                Event { what: What::FeedbackGiven { score: 0, question: None }, ..event() },
                Some("the score 0 is not 1 to 5"),
            ),
            (Event { what: What::FeedbackGiven { score: 1, question: None }, ..event() }, None),
            (Event { what: What::FeedbackGiven { score: 5, question: None }, ..event() }, None),
            (
                Event { what: What::FeedbackGiven { score: 6, question: None }, ..event() },
                Some("the score 6 is not 1 to 5"),
            ),
            (Event { conversation: "".into(), what: What::UserForgotten {}, ..event() }, None),
            (
                Event { what: What::TagSet { tag: long(70_000) }, ..event() },
                Some("the event is 70163 bytes long, more than 65536"),
            ),
        ] {
            let refused = event.render().err().map(|error| error.to_string());
            assert_eq!(refused.as_deref(), expect);
        }
    }
}
