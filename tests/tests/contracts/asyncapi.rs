//! `docs/asyncapi.yaml`: what is published, as AsyncAPI 3.0, made from the types of events.

use std::borrow::Cow;

use botstats_common::event::schema::{self, TypeSchema};
use botstats_common::event::{Event, What};
use botstats_common::ids::MAX_ID_BYTES;
use serde_json::{Map, Value, json};

/// 2026-11-20T10:52:00Z
pub(crate) const TIME_MS: i64 = 1_795_171_920_000;
const STRUCTURED: &str = "application/cloudevents+json";

/// Each type of event with all of its data, and with no more than it must have.
pub(crate) fn examples() -> Vec<(What<'static>, What<'static>)> {
    let text = |text: &'static str| Some(Cow::Borrowed(text));
    vec![
        (What::MessageReceived { kind: text("text") }, What::MessageReceived { kind: None }),
        (
            What::MessageSent { fallback: Some(true), parts: Some(2) },
            What::MessageSent { fallback: None, parts: None },
        ),
        (
            What::NlpEvaluated { detected: true, confidence: Some(0.87), intent: text("order") },
            What::NlpEvaluated { detected: false, confidence: None, intent: None },
        ),
        (
            What::IntegrationCalled {
                kind: "api".into(),
                ok: false,
                status: Some(503),
                duration_ms: Some(1_200),
                name: text("stock"),
            },
            What::IntegrationCalled {
                kind: "database".into(),
                ok: true,
                status: None,
                duration_ms: None,
                name: None,
            },
        ),
        (What::OperatorRequested { by: text("user") }, What::OperatorRequested { by: None }),
        (What::OperatorJoined { operator: text("op-7") }, What::OperatorJoined { operator: None }),
        (
            What::OperatorMessage { operator: text("op-7"), automatic: Some(true) },
            What::OperatorMessage { operator: None, automatic: None },
        ),
        (
            What::OperatorReleased { reason: text("solved") },
            What::OperatorReleased { reason: None },
        ),
        (
            What::ConversationEnded { reason: text("done") },
            What::ConversationEnded { reason: None },
        ),
        (
            What::GoalReached { goal: "ordered".into() },
            What::GoalReached { goal: "ordered".into() },
        ),
        (What::TagSet { tag: "vip".into() }, What::TagSet { tag: "vip".into() }),
        (
            What::FeedbackGiven { score: 5, question: text("Did this help?") },
            What::FeedbackGiven { score: 2, question: None },
        ),
        (What::UserForgotten {}, What::UserForgotten {}),
    ]
}

/// An event in structured mode.
pub(crate) fn structured(what: &What<'static>) -> Value {
    let event = Event {
        id: "0193f0c2-6b1e-7c55-9a3e-0a5a1c1d2e3f".into(),
        source: "/runtime/eu-1".into(),
        time_ms: TIME_MS,
        conversation: "c2".into(),
        user: "B".into(),
        what: what.clone(),
    };
    serde_json::from_slice(&event.render().unwrap()).unwrap()
}

/// The headers and the body of the same event in binary mode.
pub(crate) fn binary(event: &Value) -> (Map<String, Value>, Value) {
    let attribute = |name: &str| (format!("ce-{name}"), event[name].clone());
    let names = ["specversion", "id", "source", "type", "time"];
    (names.map(attribute).into_iter().collect(), event["data"].clone())
}

/// The name of a type of event in the document, such as `MessageReceived`.
pub(crate) fn name_of(type_name: &str) -> String {
    let name = type_name.strip_prefix("io.botstats.").unwrap().strip_suffix(".v1").unwrap();
    name.split('.').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

/// The document.
pub(crate) fn document() -> Value {
    let types = schema::types();
    let mut messages = Map::new();
    let mut schemas = Map::from_iter([
        ("Envelope".to_owned(), schema::envelope()),
        ("StructuredHeaders".to_owned(), structured_headers()),
    ]);
    for (kind, (full, least)) in types.iter().zip(examples()) {
        let name = name_of(kind.type_name);
        let events = [("everything", structured(&full)), ("the least", structured(&least))];
        messages.insert(name.clone(), structured_message(&name, kind, &events));
        messages.insert(format!("{name}Binary"), binary_message(&name, kind, &events));
        schemas.insert(format!("{name}Data"), kind.data.clone());
        schemas.insert(name.clone(), event_schema(&name, kind));
    }
    let of_events: Map<String, Value> = messages.keys().map(|name| reference(name)).collect();
    messages.extend(acknowledgements());
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "botstats events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What the runtimes of chatbots publish to be counted. The rules in words are in \
                docs/events.md. What a schema here refuses is refused by botstats too; botstats refuses some \
                that no schema can: lengths are bytes, not characters; a field that stands twice; half of \
                a surrogate pair; a score written as 5.0; a day that is not in the calendar; an event that is too \
                old, too new or too large.",
            "license": {"name": "MIT OR Apache-2.0"}
        },
        "defaultContentType": STRUCTURED,
        "servers": {"local": {
            "host": "127.0.0.1:4222",
            "protocol": "nats",
            "description": "A nats-server (2.14 or newer) with the JetStream stream BOTSTATS_EVENTS"
        }},
        "channels": {
            "events": {
                "address": "botstats.events.{account}.{bot}.{channel}",
                "description": "The subject alone says whose event it is. Leave the header Nats-Msg-Id out.",
                "parameters": {
                    "account": parameter("The account's id", "acme"),
                    "bot": parameter("The bot's id, not its API key", "bot1"),
                    "channel": parameter("The channel's id", "web")
                },
                "messages": of_events
            },
            "acknowledgement": {
                "address": null,
                "description": "The reply subject of the published message: an inbox of the publisher",
                "messages": Map::from_iter([reference("Stored"), reference("NotStored")])
            }
        },
        "operations": {"publish": {
            "action": "receive",
            "channel": {"$ref": "#/channels/events"},
            "summary": "Publish an event, wait for its acknowledgement",
            "description": "Send it as a request. Without an acknowledgement (a time-out, a lost connection) \
                send the same bytes again: an event counts once however often it is stored.",
            "reply": {"channel": {"$ref": "#/channels/acknowledgement"}}
        }},
        "components": {"messages": messages, "schemas": schemas}
    })
}

fn reference(message: &str) -> (String, Value) {
    (message.to_owned(), json!({"$ref": format!("#/components/messages/{message}")}))
}

fn parameter(what: &str, example: &str) -> Value {
    json!({
        "description": format!("{what}: 1 to {MAX_ID_BYTES} of the characters A-Z a-z 0-9 _ -"),
        "examples": [example]
    })
}

fn event_schema(name: &str, kind: &TypeSchema) -> Value {
    json!({
        "description": kind.description,
        "allOf": [{"$ref": "#/components/schemas/Envelope"}],
        "properties": {
            "type": {"const": kind.type_name},
            "data": {"$ref": format!("#/components/schemas/{name}Data")}
        }
    })
}

fn structured_message(name: &str, kind: &TypeSchema, events: &[(&str, Value)]) -> Value {
    let example = |(what, event): &(&str, Value)| json!({"name": what, "headers": {"Content-Type": STRUCTURED}, "payload": event});
    json!({
        "name": kind.type_name,
        "title": kind.description,
        "summary": "CloudEvents structured mode: the whole event is the body.",
        "contentType": STRUCTURED,
        "headers": {"$ref": "#/components/schemas/StructuredHeaders"},
        "payload": {"$ref": format!("#/components/schemas/{name}")},
        "examples": events.iter().map(example).collect::<Vec<_>>()
    })
}

fn binary_message(name: &str, kind: &TypeSchema, events: &[(&str, Value)]) -> Value {
    let attribute = |what: &str| {
        let description = format!("{what}; percent-encoded where it is not printable ASCII");
        json!({"type": "string", "minLength": 1, "description": description})
    };
    let example = |(what, event): &(&str, Value)| {
        let (headers, data) = binary(event);
        json!({"name": what, "headers": headers, "payload": data})
    };
    json!({
        "name": format!("{} (binary)", kind.type_name),
        "title": kind.description,
        "summary": "CloudEvents binary mode: attributes are headers, the body is the data alone.",
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "required": ["ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time"],
            "properties": {
                "ce-specversion": {"type": "string", "const": "1.0"},
                "ce-id": attribute("1 to 128 bytes"),
                "ce-source": attribute("1 to 256 bytes"),
                "ce-type": {"type": "string", "const": kind.type_name},
                "ce-time": attribute("RFC 3339")
            }
        },
        "payload": {"$ref": format!("#/components/schemas/{name}Data")},
        "examples": events.iter().map(example).collect::<Vec<_>>()
    })
}

fn structured_headers() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    json!({
        "type": "object",
        "properties": {
            "Content-Type": {
                "type": "string",
                "pattern": "^[Aa][Pp][Pp][Ll][Ii][Cc][Aa][Tt][Ii][Oo][Nn]/cloudevents\\+json",
                "description": "Says that the whole event is the body"
            },
            "Nats-Batch-Id": text("In an atomic batch: the same for all of it, new for each try"),
            "Nats-Batch-Sequence": text("In an atomic batch: 1, 2, .. 1000"),
            "Nats-Batch-Commit": text("On the last message of an atomic batch: 1")
        }
    })
}

/// What JetStream answers.
fn acknowledgements() -> [(String, Value); 2] {
    let message = |title: &str, payload: Value, examples: Value| {
        json!({
            "title": title, "contentType": "application/json",
            "payload": payload, "examples": examples
        })
    };
    let stored = json!({
        "type": "object",
        "required": ["stream", "seq"],
        "properties": {
            "stream": {"type": "string"},
            "seq": {"type": "integer", "minimum": 1, "description": "The (last) message's sequence"},
            "batch": {"type": "string", "description": "Of an atomic batch: its id"},
            "count": {"type": "integer", "minimum": 1, "description": "Of an atomic batch: its size"},
            "duplicate": {"type": "boolean", "description": "Dropped for its Nats-Msg-Id"}
        },
        "not": {"required": ["error"]}
    });
    let not_stored = json!({
        "type": "object",
        "required": ["error"],
        "properties": {"error": {
            "type": "object",
            "required": ["code"],
            "properties": {
                "code": {
                    "type": "integer",
                    "description": "4xx: never will be; 5xx: the same bytes again, later"
                },
                "err_code": {"type": "integer"},
                "description": {"type": "string"}
            }
        }}
    });
    let seq = json!({"stream": "BOTSTATS_EVENTS", "seq": 7});
    let batch = json!({"stream": "BOTSTATS_EVENTS", "seq": 1007, "batch": "b1", "count": 1000});
    let too_large = json!({
        "code": 400, "err_code": 10054, "description": "message size exceeds maximum allowed"
    });
    [
        (
            "Stored".to_owned(),
            message(
                "The event is in the stream.",
                stored,
                json!([{"payload": seq}, {"payload": batch}]),
            ),
        ),
        (
            "NotStored".to_owned(),
            message(
                "The event is not in the stream.",
                not_stored,
                json!([{"payload": {"error": too_large, "stream": "BOTSTATS_EVENTS", "seq": 0}}]),
            ),
        ),
    ]
}
