//! A conversation in its place, and its events as CloudEvents.

use botstats_common::names;
use botstats_common::shell::clock::rfc3339_ms;
use bytes::Bytes;
use serde::Serialize;

use super::Event;
use super::cast::Place;
use super::dice::Dice;
use super::script::{Say, Script};

/// How often somebody new talks, in percent.
const NEW_USER_PERCENT: u64 = 45;

/// A conversation with its script.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Talk {
    subject: String,
    source: &'static str,
    conversation: String,
    user: String,
    start_ms: i64,
    seed: u64,
    number: u64,
    script: Script,
}

impl Talk {
    /// `users` is how many users the channel has seen.
    pub(super) fn new(
        place: &Place<'_>,
        users: Option<&mut u64>,
        script: Script,
        seed: u64,
        number: u64,
        start_ms: i64,
        dice: &mut Dice,
    ) -> Self {
        let seen = users.map_or(0, |users| {
            if *users == 0 || dice.percent(NEW_USER_PERCENT) {
                *users += 1;
                *users - 1
            } else {
                // Those who were here last are the likelier ones.
                let (a, b) = (dice.below(*users), dice.below(*users));
                a.max(b)
            }
        });
        let subject = names::event_subject(place.account, place.bot, place.channel);
        let user = Dice::of(&[hash(&subject), seen]).next();
        // On the web each visit is a conversation; elsewhere a user has one thread.
        let conversation = if place.channel.as_str() == "web" {
            format!("c-{:016x}", Dice::of(&[seed, number, 2]).next())
        } else {
            format!("t-{user:016x}")
        };
        let source = dice.pick(["/runtime/eu-1", "/runtime/eu-2", "/runtime/us-1"]);
        let user = format!("u-{user:016x}");
        Self { subject, source, conversation, user, start_ms, seed, number, script }
    }

    /// When its event number `step` happens.
    pub(super) fn time(&self, step: usize) -> Option<i64> {
        self.script.steps.get(step).map(|step| self.start_ms + step.at_ms)
    }
}

/// A number that follows from a text (FNV-1a).
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    time: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    conversationid: &'a str,
    userid: &'a str,
    #[serde(flatten)]
    more: More,
}

#[derive(Default)]
struct More(Vec<(&'static str, serde_json::Value)>);

impl Serialize for More {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

fn words(say: Say) -> (&'static str, More) {
    let more = |fields: Vec<(&'static str, serde_json::Value)>| More(fields);
    match say {
        Say::Received { kind } => {
            ("io.botstats.message.received.v1", more(vec![("kind", kind.into())]))
        }
        Say::Sent { fallback, parts } => (
            "io.botstats.message.sent.v1",
            more(vec![("fallback", fallback.into()), ("parts", parts.into())]),
        ),
        Say::Nlp { detected, intent, confidence } => {
            let confidence = serde_json::Value::from(
                f64::from(i32::try_from(confidence).unwrap_or_default()) / 100.0,
            );
            let mut fields = vec![("detected", detected.into()), ("confidence", confidence)];
            if detected {
                fields.push(("intent", intent.into()));
            }
            ("io.botstats.nlp.evaluated.v1", more(fields))
        }
        Say::Integration { kind, ok, status, duration_ms } => (
            "io.botstats.integration.called.v1",
            more(vec![
                ("kind", kind.into()),
                ("ok", ok.into()),
                ("status", status.into()),
                ("durationms", duration_ms.into()),
            ]),
        ),
        Say::Requested { by } => {
            ("io.botstats.operator.requested.v1", more(vec![("by", by.into())]))
        }
        Say::Joined { operator } => (
            "io.botstats.operator.joined.v1",
            more(vec![("operatorid", format!("op-{operator}").into())]),
        ),
        Say::Operator { operator, automatic } => (
            "io.botstats.operator.message.v1",
            more(vec![
                ("operatorid", format!("op-{operator}").into()),
                ("automatic", automatic.into()),
            ]),
        ),
        Say::Released { reason } => {
            ("io.botstats.operator.released.v1", more(vec![("reason", reason.into())]))
        }
        Say::Goal { goal } => ("io.botstats.goal.reached.v1", more(vec![("goal", goal.into())])),
        Say::Tag { tag } => ("io.botstats.tag.set.v1", more(vec![("tag", tag.into())])),
        Say::Ended { reason } => {
            ("io.botstats.conversation.ended.v1", more(vec![("reason", reason.into())]))
        }
    }
}

/// An event of a conversation as it is published.
pub(super) fn render(talk: &Talk, step: usize) -> Option<Event> {
    let time_ms = talk.time(step)?;
    let (kind, more) = words(talk.script.steps.get(step)?.say);
    let mut dice = Dice::of(&[talk.seed, talk.number, 3, u64::try_from(step).ok()?]);
    let mut random = [0_u8; 10];
    let bytes = dice.next().to_le_bytes().into_iter().chain(dice.next().to_le_bytes());
    random.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    let unix_ms = u64::try_from(time_ms).unwrap_or_default();
    let event = CloudEvent {
        specversion: "1.0",
        id: uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid().to_string(),
        source: talk.source,
        kind,
        time: rfc3339_ms(time_ms),
        data: Data { conversationid: &talk.conversation, userid: &talk.user, more },
    };
    let payload = Bytes::from(serde_json::to_vec(&event).ok()?);
    Some(Event { subject: talk.subject.clone(), payload, time_ms })
}
