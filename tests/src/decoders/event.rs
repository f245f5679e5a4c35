//! Messages of the stream, judged by the product and by the model.

use async_nats::header::{HeaderName, HeaderValue};
use botstats_common::directory::Key;
use botstats_common::ids::{Account, Bot, Channel, IdError};
use botstats_ingest::testing::{
    Decoded, Event, HashKey, Kind, MAX_REASON_BYTES, Rule, decode, flag,
};

use super::head_and_body;
use crate::harness::header_map;
use crate::in_process::incoming;
use crate::model::{self, Message, Model, Verdict, parse_time_ms};

/// 2026-11-20T10:52:00Z
const STORED_NS: i64 = 1_795_171_920_000_000_000;
/// Between two messages of one input.
const NEXT: u8 = 0x1e;

/// The input: the last three tokens of the subject on a line, lines of headers, an empty line, and
/// one payload or two with the byte 0x1e between them.
pub(super) fn event(bytes: &[u8]) {
    let (head, body) = head_and_body(bytes);
    let mut head = head.into_iter();
    let subject = format!("botstats.events.{}", head.next().unwrap_or_default());
    // What neither the server nor the client library lets through is not tried.
    let headers: Vec<(String, String)> = head
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            let name: HeaderName = name.parse().ok()?;
            let value: HeaderValue = value.trim().parse().ok()?;
            Some((name.to_string(), value.to_string()))
        })
        .collect();
    let payloads = body.splitn(2, |byte| *byte == NEXT);
    let messages: Vec<Message> = payloads
        .zip(1..)
        .map(|(payload, sequence)| Message {
            sequence,
            stored_ns: STORED_NS + i64::from(sequence == 2) * 60_000_000_000,
            subject: subject.clone(),
            headers: headers.clone(),
            payload: payload.to_vec(),
        })
        .collect();
    agree(&messages);
}

/// The input: the last three tokens of a subject, or a key of the directory.
pub(super) fn subject(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let message = |subject: String| Message {
        sequence: 1,
        stored_ns: STORED_NS,
        subject,
        headers: Vec::new(),
        payload: GOOD.as_bytes().to_vec(),
    };
    agree(&[message(format!("botstats.events.{text}"))]);
    agree(&[message(text.to_string())]);

    let naive = |text: &str| {
        let allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
        !text.is_empty() && text.len() <= 64 && text.chars().all(|c| allowed.contains(c))
    };
    let shown = |error: IdError| assert!(error.to_string().len() < 1_000, "{error}");
    assert_eq!(text.parse::<Account>().map_err(shown).is_ok(), naive(&text));
    assert_eq!(text.parse::<Bot>().map_err(shown).is_ok(), naive(&text));
    assert_eq!(text.parse::<Channel>().map_err(shown).is_ok(), naive(&text));
    let tokens: Vec<&str> = text.split('.').collect();
    let key = match tokens[..] {
        ["account", account] => naive(account),
        ["bot", account, bot] => naive(account) && naive(bot),
        _ => false,
    };
    assert_eq!(Key::parse(&text).is_some(), key);
}

const GOOD: &str = r#"{"specversion":"1.0","id":"e","source":"s","type":"io.botstats.tag.set.v1",
    "time":"2026-11-20T10:52:00Z","data":{"conversationid":"c","userid":"u","tag":"t"}}"#;

pub(super) fn time(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let quoted = serde_json::Value::from(text).to_string();
    // Stored when it happened, as far as a timestamp of the stream can say.
    let stored_ms = parse_time_ms(text).unwrap_or(0);
    let message = Message {
        sequence: 1,
        stored_ns: stored_ms.saturating_mul(1_000_000),
        subject: "botstats.events.a.b.c".to_owned(),
        headers: Vec::new(),
        payload: GOOD.replace(r#""2026-11-20T10:52:00Z""#, &quoted).into_bytes(),
    };
    agree(&[message]);
}

/// Both judge the messages in the same way, and read the same from those that are events.
fn agree(messages: &[Message]) {
    let model = Model::of(messages);
    let key = HashKey::new([7; 16]);
    let mut known: Vec<(String, Event)> = Vec::new();
    for message in messages {
        let wanted = model.verdicts[&message.sequence];
        let headers = header_map(&message.headers);
        let incoming = incoming(message, &headers);
        let decoded = decode(&incoming, &key);
        assert_eq!(decode(&incoming, &key), decoded, "not repeatable");
        let found = match decoded {
            Decoded::UnknownType => Verdict::UnknownType,
            Decoded::DeadLetter(rule, reason) => {
                assert!(reason.len() <= MAX_REASON_BYTES, "a long reason: {reason}");
                assert!(
                    reason.bytes().all(|b| b == b' ' || b.is_ascii_graphic()),
                    "a reason of {reason:?}"
                );
                Verdict::DeadLetter(rule_of(rule))
            }
            Decoded::Event(address, event) => {
                let same = |(path, other): &&(String, Event)| {
                    path == address.path
                        && (other.conversation, other.id) == (event.conversation, event.id)
                };
                match known.iter().find(same) {
                    Some((_, other)) if *other == event => Verdict::Duplicate,
                    Some(_) => Verdict::Conflict,
                    None => {
                        known.push((address.path.to_owned(), event.clone()));
                        let accepted = model.events.iter().find(|(s, _)| *s == message.sequence);
                        if let Some((_, wanted)) = accepted {
                            let place =
                                (address.account, address.bot, address.channel, event.time_ms);
                            assert_eq!(
                                place,
                                (
                                    wanted.account.as_str(),
                                    wanted.bot.as_str(),
                                    wanted.channel.as_str(),
                                    wanted.time_ms
                                )
                            );
                            assert_eq!((event.kind, event.flags), kind_of(wanted.kind));
                            assert_eq!(event.name.as_deref(), name_of(wanted).as_deref());
                        }
                        Verdict::Accepted
                    }
                }
            }
        };
        // The stream takes nothing on other subjects: there is no right or wrong.
        let possible = message.subject.starts_with("botstats.events.")
            && message.subject.split('.').count() == 5;
        assert!(
            found == wanted || !possible,
            "{found:?}, but the model says {wanted:?}: {} {:?} {}",
            message.subject,
            message.headers,
            String::from_utf8_lossy(&message.payload)
        );
    }
}

fn rule_of(rule: Rule) -> model::Rule {
    match rule {
        Rule::Subject => model::Rule::Subject,
        Rule::Envelope => model::Rule::Envelope,
        Rule::Data => model::Rule::Data,
        Rule::Time => model::Rule::Time,
        Rule::Stray => panic!("a single message is a stray"),
    }
}

/// The name that an event carries, cut to 128 bytes and the rest of the character there.
fn name_of(event: &model::Event) -> Option<String> {
    let field = match event.kind {
        model::Kind::Goal => "goal",
        model::Kind::Tag => "tag",
        model::Kind::Nlp { .. } => "intent",
        model::Kind::Integration { .. } => "name",
        model::Kind::Joined | model::Kind::OperatorMessage { .. } => "operatorid",
        _ => return None,
    };
    let mut cut = String::new();
    for letter in event.fields.get(field)?.chars() {
        if cut.len() >= 128 {
            break;
        }
        cut.push(letter);
    }
    Some(cut)
}

fn kind_of(kind: model::Kind) -> (Kind, u8) {
    let bit = |bit: u8, on: bool| if on { bit } else { 0 };
    match kind {
        model::Kind::Received => (Kind::Received, 0),
        model::Kind::Sent { fallback } => (Kind::Sent, bit(flag::FALLBACK, fallback)),
        model::Kind::Nlp { detected } => (Kind::Nlp, bit(flag::DETECTED, detected)),
        model::Kind::Integration { api, ok } => {
            (Kind::Integration, bit(flag::API, api) | bit(flag::FAILED, !ok))
        }
        model::Kind::Requested => (Kind::Requested, 0),
        model::Kind::Joined => (Kind::Joined, 0),
        model::Kind::OperatorMessage { automatic } => {
            (Kind::OperatorMessage, bit(flag::AUTOMATIC, automatic))
        }
        model::Kind::Released => (Kind::Released, 0),
        model::Kind::Goal => (Kind::Goal, 0),
        model::Kind::Tag => (Kind::Tag, 0),
        model::Kind::Ended => (Kind::Ended, 0),
        model::Kind::Feedback { satisfied } => (Kind::Feedback, bit(flag::SATISFIED, satisfied)),
        model::Kind::Forgotten => (Kind::Forgotten, 0),
    }
}
