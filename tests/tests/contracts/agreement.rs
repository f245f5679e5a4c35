//! The schemas of events and ingest's decoder must agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use async_nats::HeaderMap;
use botstats_common::event::schema::types;
use botstats_common::event::{Event, What};
use botstats_ingest::testing::{Decoded, HashKey, Message, decode};
use jsonschema::{Draft, Validator};
use serde_json::{Value, json};

use super::asyncapi::{self, TIME_MS, examples, structured};
use super::docs;

/// The schemas of the document.
struct Schemas {
    document: Value,
}

impl Schemas {
    fn new() -> Self {
        Self { document: asyncapi::document() }
    }

    /// The validator of a schema in the document, which can follow its references. It does not
    /// check formats, as most validators do by default.
    fn at(&self, pointer: &str) -> Validator {
        self.build(pointer, false)
    }

    fn build(&self, pointer: &str, formats: bool) -> Validator {
        let mut schema = self.document.pointer(pointer).unwrap().clone();
        if schema.get("$ref").is_some() {
            // Draft 7 ignores everything beside a `$ref`, so also `components` below.
            schema = json!({"allOf": [schema]});
        }
        schema["components"] = self.document["components"].clone();
        let options = jsonschema::options().with_draft(Draft::Draft7);
        options.should_validate_formats(formats).build(&schema).unwrap()
    }

    fn event(&self, type_name: &str) -> Validator {
        self.at(&event_pointer(type_name))
    }
}

fn event_pointer(type_name: &str) -> String {
    format!("/components/schemas/{}", asyncapi::name_of(type_name))
}

/// Why ingest refuses a message; `None` if the message is an event.
fn refusal(headers: &[(&str, &str)], payload: &[u8]) -> Option<String> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, *value);
    }
    let message = Message {
        sequence: 1,
        stored_ns: TIME_MS * 1_000_000,
        subject: "botstats.events.acme.bot1.web",
        headers: Some(&map).filter(|map| !map.is_empty()).into(),
        payload,
    };
    match decode(&message, &HashKey::new([0; 16])) {
        Decoded::Event(..) => None,
        Decoded::UnknownType => Some("unknown type".to_owned()),
        Decoded::DeadLetter(rule, reason) => Some(format!("{}: {reason}", rule.name())),
    }
}

fn refusal_of(event: &Value) -> Option<String> {
    refusal(&[], event.to_string().as_bytes())
}

#[test]
fn every_example_of_the_document_is_valid_and_accepted() {
    let schemas = Schemas::new();
    let messages = schemas.document["components"]["messages"].as_object().unwrap();
    let mut accepted = 0;
    for (name, message) in messages {
        let pointer = format!("/components/messages/{name}");
        let payload_schema = schemas.at(&format!("{pointer}/payload"));
        for example in message["examples"].as_array().unwrap() {
            let payload = &example["payload"];
            payload_schema.validate(payload).unwrap_or_else(|e| panic!("{name}: {e}"));
            let Some(headers) = example["headers"].as_object() else { continue };
            let header_schema = schemas.at(&format!("{pointer}/headers"));
            header_schema.validate(&example["headers"]).unwrap_or_else(|e| panic!("{name}: {e}"));
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (&**name, value.as_str().unwrap())).collect();
            assert_eq!(refusal(&headers, payload.to_string().as_bytes()), None, "{name} {payload}");
            accepted += 1;
        }
    }
    assert_eq!(accepted, What::TYPES.len() * 4);
}

#[test]
fn examples_are_one_of_each_type() {
    let (full, least): (Vec<_>, Vec<_>) =
        examples().iter().map(|(full, least)| (full.type_name(), least.type_name())).unzip();
    assert_eq!(full, What::TYPES);
    assert_eq!(least, What::TYPES);
    // The schema of each type names just the fields that the type has.
    for (kind, (full, least)) in types().iter().zip(examples()) {
        let keys = |event: &Value| -> BTreeSet<String> {
            event["data"].as_object().unwrap().keys().cloned().collect()
        };
        let described = kind.data["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys(&structured(&full)), described, "{}", kind.type_name);
        let required: Vec<String> = serde_json::from_value(kind.data["required"].clone()).unwrap();
        assert_eq!(keys(&structured(&least)), required.into_iter().collect(), "{}", kind.type_name);
    }
}

#[test]
fn the_examples_in_words_are_valid_and_accepted() {
    let schemas = Schemas::new();
    let page = fs::read_to_string(docs("events.md")).unwrap();
    let blocks = page.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let events: Vec<Value> = blocks.map(|block| serde_json::from_str(block).unwrap()).collect();
    assert!(!events.is_empty());
    for event in events {
        let type_name = event["type"].as_str().unwrap();
        schemas.event(type_name).validate(&event).unwrap_or_else(|e| panic!("{event}: {e}"));
        assert_eq!(refusal_of(&event), None, "{event}");
    }
}

/// Fields of a row of the table of types: name, JSON type, and whether the field is required.
fn fields_in_words(required: &str, optional: &str) -> BTreeSet<(String, String, bool)> {
    let read = |cell: &str, required: bool| -> Vec<(String, String, bool)> {
        let plain = |part: &str| part.split(" (").next().unwrap().trim().to_owned();
        // A name is in backquotes. Text in brackets is left out: it has backquotes too.
        let outside: String = cell
            .split('(')
            .map(|part| part.rsplit(')').next().unwrap())
            .collect::<Vec<_>>()
            .join(" ");
        let named = outside.split(',').filter_map(|field| {
            let (_, rest) = field.split_once('`')?;
            let (name, kind) = rest.split_once('`')?;
            Some((name.to_owned(), plain(kind), required))
        });
        named.collect()
    };
    read(required, true).into_iter().chain(read(optional, false)).collect()
}

#[test]
fn the_table_of_types_says_the_same() {
    let page = fs::read_to_string(docs("events.md")).unwrap();
    let table = page.split("| name | further required fields |").nth(1).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut in_words = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let type_name = format!("io.botstats.{}.v1", cells[1].trim_matches('`'));
        in_words.insert(type_name, fields_in_words(cells[2], cells[3]));
    }
    let described: BTreeMap<String, _> = types()
        .iter()
        .map(|kind| {
            let required = kind.data["required"].as_array().unwrap();
            let fields = kind.data["properties"].as_object().unwrap().iter();
            let fields: BTreeSet<(String, String, bool)> = fields
                .filter(|(name, _)| !["conversationid", "userid"].contains(&name.as_str()))
                .map(|(name, schema)| {
                    let kind = schema["type"].as_str().or(schema["type"][0].as_str()).unwrap();
                    let kind = if kind == "boolean" { "bool" } else { kind };
                    (name.clone(), kind.to_owned(), required.contains(&json!(name)))
                })
                .collect();
            (kind.type_name.to_owned(), fields)
        })
        .collect();
    assert_eq!(in_words, described);
}

/// The values that are put into every place of an event.
fn values() -> Vec<Value> {
    let mut values = vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(6),
        json!(-1.5),
        json!([]),
        json!(["x"]),
        json!({}),
        json!({"x": 1}),
        json!(""),
        json!("x"),
        json!("1.0"),
        json!("true"),
        json!("7"),
        json!("null"),
    ];
    values.extend(
        [127, 128, 129, 255, 256, 257, 511, 512, 513, 1_000].map(|bytes| json!("x".repeat(bytes))),
    );
    // Good times, and times that are slightly wrong.
    values.extend(
        [
            "2026-11-20T10:52:00Z",
            "2026-11-20t10:52:00z",
            "2026-11-20T10:52:00.123456789Z",
            "2026-11-20T10:52:00+00:00",
            "2026-11-20T12:52:00-00:00",
            "2026-11-20T11:52:00+01:00",
            "2026-11-19T23:59:60Z",
            "2026-11-20 10:52:00Z",
            "2026-11-20T10:52Z",
            "2026-11-20T10:52:00",
            "2026-11-20T10:52:00.Z",
            "2026-11-20T10:52:00,5Z",
            "2026-11-20T24:00:00Z",
            "2026-11-20T10:60:00Z",
            "2026-11-20T10:52:61Z",
            "2026-13-20T10:52:00Z",
            "2026-00-20T10:52:00Z",
            "2026-11-00T10:52:00Z",
            "2026-11-32T10:52:00Z",
            "2026-11-20T10:52:00+1:00",
            "2026-11-20T10:52:00+24:00",
            "2026-11-20T10:52:00+01:60",
            "2026-11-20T10:52:00+0100",
            "26-11-20T10:52:00Z",
            "2026-11-20",
            "٢٠٢٦-11-20T10:52:00Z",
            " 2026-11-20T10:52:00Z",
            "2026-11-20T10:52:00Z\n",
        ]
        .map(Value::from),
    );
    values
}

#[test]
fn what_a_schema_refuses_is_refused_and_the_other_way_round() {
    let schemas = Schemas::new();
    let (mut valid, mut invalid) = (0_u32, 0_u32);
    let mut compare = |[validator, strict]: &[Validator; 2], event: &Value| {
        let refused = refusal_of(event);
        // A well-formed time may be too old or too new for the time of storing, which no schema
        // knows.
        if refused.as_deref().is_some_and(|why| why.starts_with("time: ")) {
            return;
        }
        let says = validator.validate(event).err().map(|error| error.to_string());
        assert_eq!(says.is_some(), refused.is_some(), "{event}: {says:?}, but {refused:?}");
        // A reader that knows the format of times must not refuse more.
        assert!(refused.is_some() || strict.is_valid(event), "{event}");
        *(if refused.is_some() { &mut invalid } else { &mut valid }) += 1;
    };
    for (kind, (full, least)) in types().iter().zip(examples()) {
        let pointer = event_pointer(kind.type_name);
        let validators = [false, true].map(|formats| schemas.build(&pointer, formats));
        let of_data = kind.data["properties"].as_object().unwrap().keys();
        let places: Vec<String> = ["specversion", "id", "source", "type", "time", "data", "other"]
            .iter()
            .map(|name| format!("/{name}"))
            .chain(of_data.map(|name| format!("/data/{name}")))
            .chain(["/data/other".to_owned()])
            .collect();
        for event in [structured(&full), structured(&least)] {
            compare(&validators, &event);
            for place in &places {
                let (parent, name) = place.rsplit_once('/').unwrap();
                let mut without = event.clone();
                without.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
                compare(&validators, &without);
                for value in values() {
                    let mut changed = event.clone();
                    changed.pointer_mut(parent).unwrap()[name] = value;
                    compare(&validators, &changed);
                }
            }
        }
        for value in values() {
            compare(&validators, &value);
        }
    }
    // Large numbers, so that a missing comparison is noticed.
    assert!(valid > 3_000 && invalid > 3_000, "{valid} valid, {invalid} not");
}

#[test]
fn what_only_ingest_can_refuse() {
    let schemas = Schemas::new();
    let event = structured(&What::TagSet { tag: "vip".into() });
    let with = |from: &str, to: &str| {
        let text = event.to_string();
        assert!(text.contains(from), "{from} in {text}");
        text.replacen(from, to, 1)
    };
    let two_bytes_each = "é".repeat(65);
    let long = "é".repeat(257);
    for (text, reason) in [
        (with("0193f0c2-6b1e-7c55-9a3e-0a5a1c1d2e3f", &two_bytes_each), "id is not 1 to 128 bytes"),
        (with("\"c2\"", &format!("{long:?}")), "data.conversationid is not 1 to 512"),
        (with("\"tag\":", "\"tag\":\"a\",\"tag\":"), "data.tag is given twice"),
        (with("\"id\":", "\"id\":\"a\",\"id\":"), "id is given twice"),
        (with("2026-11-20T", "2026-02-30T"), "time is not RFC 3339"),
        (with("10:52:00.000Z", "10:52:60Z"), "time is not RFC 3339"),
        (with("2026-11-20T", "2026-10-15T"), "time is more than 35 days before"),
        (with("10:52:00.000Z", "10:57:00.001Z"), "time is more than 5 minutes after"),
        (with("\"vip\"", &format!("\"{}\"", "x".repeat(65_536))), "payload is larger than 65536"),
    ] {
        let refused = refusal(&[], text.as_bytes()).unwrap_or_default();
        assert!(refused.contains(reason), "{refused}, not {reason}");
        let event: Value = serde_json::from_str(&text).unwrap();
        assert!(schemas.event("io.botstats.tag.set.v1").is_valid(&event), "{reason}");
    }
    let feedback = structured(&What::FeedbackGiven { score: 5, question: None }).to_string();
    let feedback = feedback.replace("\"score\":5", "\"score\":5.0");
    assert!(refusal(&[], feedback.as_bytes()).unwrap().contains("score is not a whole number"));
    let event: Value = serde_json::from_str(&feedback).unwrap();
    assert!(schemas.event("io.botstats.feedback.given.v1").is_valid(&event));
    let forgotten = structured(&What::UserForgotten {}).to_string();
    let forgotten = forgotten.replace("2026-11-20T", "2026-11-19T");
    assert_eq!(refusal(&[], forgotten.as_bytes()), None);
    let forgotten = forgotten.replace("10:52:00.000Z", "10:51:59.999Z");
    assert!(refusal(&[], forgotten.as_bytes()).unwrap().contains("more than 24 hours before"));
    let half = with("\"vip\"", "\"\\ud800\"");
    assert!(refusal(&[], half.as_bytes()).unwrap().contains("half of a surrogate pair"));
}

#[test]
fn a_typed_event_is_accepted_or_not_made() {
    let schemas = Schemas::new();
    let mut texts =
        ["", "x", "\"\\\u{0}\u{7f}", "\u{2028}é😀", "null", " "].map(str::to_owned).to_vec();
    texts.extend([64, 65, 128, 129, 256, 257].map(|letters| "é".repeat(letters)));
    texts.extend([128, 129, 256, 257, 512, 513, 70_000].map(|letters| "x".repeat(letters)));
    let (mut made, mut refused) = (0, 0);
    for text in &texts {
        for place in 0..5 {
            let at = |number: i32| if number == place { text.clone() } else { "x".to_owned() };
            let event = Event {
                id: at(0).into(),
                source: at(1).into(),
                time_ms: TIME_MS,
                conversation: at(2).into(),
                user: at(3).into(),
                what: What::TagSet { tag: at(4).into() },
            };
            match event.render() {
                Ok(bytes) => {
                    assert_eq!(refusal(&[], &bytes), None, "{place} {text:?}");
                    let json = serde_json::from_slice(&bytes).unwrap();
                    assert!(schemas.event(event.what.type_name()).is_valid(&json));
                    made += 1;
                }
                Err(_) => {
                    let data = json!({"conversationid": at(2), "userid": at(3), "tag": at(4)});
                    let same = json!({
                        "specversion": "1.0", "id": at(0), "source": at(1), "data": data,
                        "type": event.what.type_name(), "time": "2026-11-20T10:52:00Z"
                    });
                    assert!(refusal_of(&same).is_some(), "{place} {text:?}");
                    refused += 1;
                }
            }
        }
    }
    assert!(made > 30 && refused > 20, "{made} made, {refused} not");
}
