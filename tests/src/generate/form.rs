//! The many ways in which one event may be written.

use data_encoding::BASE64;
use serde_json::{Map, Value, json};

use super::{Arrival, Dice, Draft, names};
use crate::model::Kind;

/// Around the text of a number that is to stand in the JSON just like this.
const RAW: [&str; 2] = ["\"@raw ", "@\""];

pub(super) fn write(dice: &mut Dice, draft: &Draft, stored_ns: i64) -> Arrival {
    let data = Value::Object(data(dice, draft));
    let time = time(dice, draft.time_ms);
    let (headers, payload) = if dice.one_in(8) {
        // Header values may be percent-encoded.
        let slash = *dice.pick(&["/", "%2F", "%2f"]);
        let attributes = [
            ("specversion", "1.0"),
            ("id", &draft.id),
            ("source", &draft.source.replace('/', slash)),
            ("type", &type_name(draft.kind)),
            ("time", &time),
        ];
        let mut headers: Vec<(String, String)> =
            attributes.iter().map(|(n, v)| (format!("ce-{n}"), (*v).to_owned())).collect();
        if dice.one_in(2) {
            headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
        }
        (headers, text(&data))
    } else {
        let mut headers = Vec::new();
        let structured =
            ["application/cloudevents+json", "application/cloudevents+json; charset=UTF-8"];
        if dice.one_in(2) {
            headers.push(("Content-Type".to_owned(), (*dice.pick(&structured)).to_owned()));
        }
        let mut envelope = envelope(draft, &time, data);
        if dice.one_in(6) {
            envelope["subject"] = json!({"anything": ["at", "all", 1e-7, null]});
            envelope["datacontenttype"] = "application/json".into();
        }
        if dice.one_in(6) {
            in_base64(dice, &mut envelope);
        }
        (headers, layout(dice, &envelope))
    };
    Arrival { stored_ns, subject: subject(draft), headers, payload: payload.into_bytes() }
}

/// As libraries write data that they got as bytes.
fn in_base64(dice: &mut Dice, envelope: &mut Value) {
    let data = &envelope["data"];
    let text = if dice.one_in(3) { format!(" {data:#}\n") } else { data.to_string() };
    envelope["data_base64"] = BASE64.encode(with_raw(text).as_bytes()).into();
    if dice.one_in(4) {
        envelope["data"] = Value::Null;
    } else if let Some(members) = envelope.as_object_mut() {
        members.remove("data");
    }
}

pub(super) fn subject(draft: &Draft) -> String {
    format!("botstats.events.{}.{}.{}", draft.account, draft.bot, draft.channel)
}

pub(super) fn envelope(draft: &Draft, time: &str, data: Value) -> Value {
    json!({
        "specversion": "1.0",
        "id": draft.id,
        "source": draft.source,
        "type": type_name(draft.kind),
        "time": time,
        "data": data,
    })
}

pub(super) fn type_name(kind: Kind) -> String {
    let name = match kind {
        Kind::Received => "message.received",
        Kind::Sent { .. } => "message.sent",
        Kind::Nlp { .. } => "nlp.evaluated",
        Kind::Integration { .. } => "integration.called",
        Kind::Requested => "operator.requested",
        Kind::Joined => "operator.joined",
        Kind::OperatorMessage { .. } => "operator.message",
        Kind::Released => "operator.released",
        Kind::Ended => "conversation.ended",
        Kind::Goal => "goal.reached",
        Kind::Tag => "tag.set",
        Kind::Feedback { .. } => "feedback.given",
        Kind::Forgotten => "user.forgotten",
    };
    format!("io.botstats.{name}.v1")
}

/// A number that is written in that way.
pub(super) fn raw(number: &str) -> Value {
    let [before, after] = RAW.map(|mark| mark.trim_matches('"'));
    format!("{before}{number}{after}").into()
}

/// JSON as text, with all [`raw`] numbers in it.
pub(super) fn text(json: &Value) -> String {
    with_raw(json.to_string())
}

fn with_raw(mut text: String) -> String {
    for mark in RAW {
        text = text.replace(mark, "");
    }
    text
}

pub(super) fn data(dice: &mut Dice, draft: &Draft) -> Map<String, Value> {
    let mut data = Map::new();
    let mut put = |name: &str, value: Value| data.insert(name.to_owned(), value);
    if draft.kind != Kind::Forgotten {
        put("conversationid", draft.conversation.clone().into());
    } else if dice.one_in(2) {
        // Ignored, whatever it is.
        let ignored = [draft.conversation.clone().into(), "".into(), Value::Null, json!([5])];
        put("conversationid", dice.pick(&ignored).clone());
    }
    put("userid", draft.user.clone().into());
    // An optional field may be there, absent or null.
    let optional = |dice: &mut Dice, value: Value| match dice.below(3) {
        0 => Some(value),
        1 => Some(Value::Null),
        _ => None,
    };
    // What much depends on is there most of the time.
    let often = |dice: &mut Dice, value: Value| match dice.below(6) {
        0 => None,
        1 => Some(Value::Null),
        _ => Some(value),
    };
    let mut maybe = |name: &str, value: Option<Value>| value.map(|value| put(name, value));
    match draft.kind {
        Kind::Received => {
            maybe("kind", optional(dice, "api".into()));
        }
        Kind::Sent { fallback } => {
            // Absent means false.
            maybe(
                "fallback",
                if fallback { Some(true.into()) } else { optional(dice, false.into()) },
            );
            maybe("parts", optional(dice, 3.into()));
        }
        Kind::Nlp { detected } => {
            maybe("detected", Some(detected.into()));
            let intent = names::name(dice).into();
            maybe("intent", often(dice, intent));
            maybe("confidence", optional(dice, json!(0.25)));
        }
        Kind::Integration { api, ok } => {
            let other = *dice.pick(&["nlp", "API", "", "api "]);
            maybe("kind", Some(if api { "api" } else { other }.into()));
            maybe("ok", Some(ok.into()));
            maybe("status", optional(dice, 500.into()));
            let took = raw(names::duration(dice));
            maybe("durationms", often(dice, took));
            let name = names::name(dice).into();
            maybe("name", often(dice, name));
        }
        Kind::Requested => {
            maybe("by", optional(dice, "bot".into()));
        }
        Kind::Joined => {
            maybe("operatorid", names::operator(dice));
        }
        Kind::OperatorMessage { automatic } => {
            maybe("operatorid", names::operator(dice));
            let absent = optional(dice, false.into());
            maybe("automatic", if automatic { Some(true.into()) } else { absent });
        }
        Kind::Released | Kind::Ended => {
            maybe("reason", optional(dice, "done".into()));
        }
        Kind::Goal => {
            maybe("goal", Some(names::name(dice).into()));
        }
        Kind::Tag => {
            maybe("tag", Some(names::name(dice).into()));
        }
        Kind::Feedback { satisfied } => {
            let scores: &[u8] = if satisfied { &[4, 5] } else { &[1, 2, 3] };
            maybe("score", Some((*dice.pick(scores)).into()));
            maybe("question", optional(dice, "Happy?".into()));
        }
        Kind::Forgotten => {}
    }
    if dice.one_in(6) {
        data.insert("extension".to_owned(), json!([{"fallback": 1}, true]));
    }
    // What the type does not name is ignored, whatever it holds.
    for (name, value) in
        [("goal", json!(1)), ("ok", json!("yes")), ("by", json!({})), ("parts", json!("x"))]
    {
        let is_named = match name {
            "goal" => draft.kind == Kind::Goal,
            "ok" => matches!(draft.kind, Kind::Integration { .. }),
            "by" => draft.kind == Kind::Requested,
            _ => matches!(draft.kind, Kind::Sent { .. }),
        };
        if dice.one_in(12) && !is_named {
            data.insert(name.to_owned(), value);
        }
    }
    data
}

/// The object as text, in one of the layouts that JSON allows.
fn layout(dice: &mut Dice, envelope: &Value) -> String {
    with_raw(match dice.below(20) {
        0 => format!("\n\t {envelope:#} \r\n"),
        // Repeats of names that mean nothing are no business of ours.
        1 => envelope.to_string().replacen('{', r#"{"x":1,"x":{"x":2,"x":3},"#, 1),
        2 => envelope.to_string().replacen("\"id\"", r#""\u0069d""#, 1),
        3 => envelope.to_string().replacen("/runtime/", r"\/runtime\u002F", 1),
        // Halves of surrogate pairs are JSON, if not text.
        4 => envelope.to_string().replacen('{', r#"{"x":"\udc00","y":1e999,"#, 1),
        5 => envelope.to_string().replacen(
            r#""data":{"#,
            r#""data":{"\ud800":0,"z":"\udfff","z":1,"#,
            1,
        ),
        _ => envelope.to_string(),
    })
}

/// The time as RFC 3339, in any offset, with any number of further digits.
pub(super) fn time(dice: &mut Dice, time_ms: i64) -> String {
    let minutes = *dice.pick(&[0, 0, 0, 60, -210, 345, 825, -720, 1]);
    let zone = match (minutes, dice.below(4)) {
        (0, 0) => "z".to_owned(),
        (0, 1) => "-00:00".to_owned(),
        (0, _) => "Z".to_owned(),
        (m, _) if m < 0 => format!("-{:02}:{:02}", -m / 60, -m % 60),
        (m, _) => format!("+{:02}:{:02}", m / 60, m % 60),
    };
    let local = jiff::Timestamp::from_millisecond(time_ms + i64::from(minutes) * 60_000);
    let local = local.expect("an instant of our age").to_zoned(jiff::tz::TimeZone::UTC).datetime();
    let fraction_ms = time_ms.rem_euclid(1_000);
    let fraction = match dice.below(4) {
        0 => format!(".{fraction_ms:03}999999999999"),
        1 => format!(".{fraction_ms:03}0"),
        _ if fraction_ms == 0 => String::new(),
        _ if fraction_ms % 100 == 0 => format!(".{}", fraction_ms / 100),
        _ => format!(".{fraction_ms:03}"),
    };
    let mark = if dice.one_in(10) { 't' } else { 'T' };
    format!("{}{mark}{}{fraction}{zone}", local.strftime("%Y-%m-%d"), local.strftime("%H:%M:%S"))
}
