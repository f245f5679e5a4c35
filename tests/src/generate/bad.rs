//! Messages that break a rule, and types that nobody knows.

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::{Arrival, DAY_MS, Dice, Draft, NS_PER_MS, form};

/// A payload of that many bytes is one too many.
const TOO_LARGE: usize = 65_537;

pub(super) fn message(dice: &mut Dice, draft: &Draft, stored_ns: i64) -> Arrival {
    let time = form::time(dice, draft.time_ms);
    let data = Value::Object(form::data(dice, draft));
    let mut subject = form::subject(draft);
    let mut headers = Vec::new();
    let good = form::envelope(draft, &time, data);
    let with = |name: &str, value: Value| {
        let mut envelope = good.clone();
        envelope[name] = value;
        form::text(&envelope)
    };
    let with_data = |name: &str, value: Value| {
        let mut envelope = good.clone();
        envelope["data"][name] = value;
        form::text(&envelope)
    };
    let of_type = |name: &str, data: Value| {
        let mut envelope = good.clone();
        envelope["type"] = format!("io.botstats.{name}.v1").into();
        envelope["data"] = json!({"conversationid": "c", "userid": "u"});
        for (field, value) in data.as_object().expect("an object") {
            envelope["data"][field] = value.clone();
        }
        form::text(&envelope)
    };
    let bare = |encoded: Value| {
        let mut envelope = good.clone();
        envelope["data"] = Value::Null;
        envelope["data_base64"] = encoded;
        form::text(&envelope)
    };
    let in_base64 = |bytes: &[u8]| bare(BASE64.encode(bytes).into());
    let text = match dice.below(70) {
        0 => String::new(),
        1 => "{".to_owned(),
        2 => format!("[{good}]"),
        3 => format!("{good}{good}"),
        4 => format!("\u{feff}{good}"),
        5 => with("specversion", "0.3".into()),
        6 => with("specversion", json!(1.0)),
        7 => with("id", "".into()),
        8 => with("id", "i".repeat(129).into()),
        9 => with("id", json!(7)),
        10 => with("source", "".into()),
        11 => with("source", "s".repeat(257).into()),
        12 => with("time", "2026-11-20 10:52:00Z".into()),
        13 => with("time", "2026-02-29T10:52:00Z".into()),
        14 => with("time", "2026-11-20T10:52:00".into()),
        15 => with("time", json!(1_700_000_000)),
        16 => with("data", json!([["conversationid", "c"], ["userid", "u"]])),
        17 => with("data", Value::Null),
        18 => with("data", "e30=".into()),
        19 => with("type", if dice.one_in(2) { "".into() } else { Value::Null }),
        20 => with("type", "io.botstats.message.received.v2".into()),
        21 => with("type", "com.example.other".into()),
        22 => with("subject", "x".repeat(TOO_LARGE).into()),
        23 => form::text(&good).replacen('{', r#"{"id":"twice","#, 1),
        24 => form::text(&good).replacen(r#""data":{"#, r#""data":{"userid":"twice","#, 1),
        25 => with_data("conversationid", "".into()),
        26 => with_data("conversationid", "c".repeat(513).into()),
        27 => with_data("userid", json!(5)),
        28 => with_data("userid", Value::Null),
        29 => of_type("nlp.evaluated", json!({})),
        30 => of_type("nlp.evaluated", json!({"detected": "yes"})),
        31 => of_type("message.sent", json!({"fallback": 1})),
        32 => of_type("message.sent", json!({"parts": "two"})),
        33 => of_type("integration.called", json!({"kind": "api"})),
        34 => of_type("integration.called", json!({"kind": null, "ok": true})),
        35 => of_type("goal.reached", json!({})),
        36 => of_type("tag.set", json!({"tag": 3})),
        37 => {
            let far_ms = draft.time_ms + *dice.pick(&[-90 * DAY_MS, 90 * DAY_MS]);
            with("time", form::time(dice, far_ms).into())
        }
        38 => {
            // Without the other attributes that go into headers.
            headers.push(("ce-id".to_owned(), draft.id.clone()));
            form::text(&good["data"])
        }
        39 => {
            // Which of two headers counts would be chance.
            let name = *dice.pick(&["Content-Type", "ce-id"]);
            headers.push((name.to_owned(), "application/json".to_owned()));
            headers.push((name.to_ascii_lowercase(), "application/json".to_owned()));
            let names = ["specversion", "source", "type", "time"];
            let values = names.map(|name| good[name].as_str().unwrap_or_default().to_owned());
            headers.extend(names.iter().map(|n| format!("ce-{n}")).zip(values));
            form::text(&good["data"])
        }
        40 => of_type("message.received", json!({"kind": 5})),
        41 => of_type("nlp.evaluated", json!({"detected": true, "confidence": [0.5]})),
        42 => with("data_base64", BASE64.encode(form::text(&good["data"]).as_bytes()).into()),
        43 => in_base64(b"[]"),
        44 => in_base64(b"\xff\xfe"),
        45 => in_base64(b"{\"conversationid\":\"c\""),
        46 => {
            let text = BASE64.encode(form::text(&good["data"]).as_bytes());
            bare(format!("{}*", &text[1..]).into())
        }
        47 => bare(json!(5)),
        48 => of_type("integration.called", json!({"kind": "api", "ok": true, "durationms": "5"})),
        49 => of_type("integration.called", json!({"kind": "x", "ok": true, "durationms": true})),
        50 => of_type("integration.called", json!({"kind": "api", "ok": true, "name": 5})),
        51 => of_type("operator.joined", json!({"operatorid": 7})),
        52 => of_type("feedback.given", json!({})),
        53 => of_type("feedback.given", json!({"score": null})),
        54 => of_type("feedback.given", json!({"score": 0})),
        55 => of_type("feedback.given", json!({"score": 6})),
        56 => of_type("feedback.given", json!({"score": "5"})),
        57 => of_type("feedback.given", json!({"score": form::raw("5.0")})),
        58 => of_type("feedback.given", json!({"score": form::raw("1e0")})),
        59 => of_type("feedback.given", json!({"score": form::raw("-1")})),
        60 => of_type("feedback.given", json!({"score": 5, "question": 1})),
        61 => of_type("feedback.given", json!({"score": 5, "conversationid": null})),
        62 => of_type("user.forgotten", json!({"userid": null})),
        63 => of_type("user.forgotten", json!({"userid": ""})),
        64 => of_type("user.forgotten", json!({"userid": 5})),
        65 => {
            let late_ms = stored_ns / NS_PER_MS - DAY_MS - 1;
            let mut late = good.clone();
            late["type"] = "io.botstats.user.forgotten.v1".into();
            late["time"] = form::time(dice, late_ms).into();
            form::text(&late)
        }
        _ => {
            let tokens = ["b$t", "", "é", "b b", &"b".repeat(65), "*"];
            let token = if dice.one_in(2) { tokens[0] } else { tokens[4] };
            subject = format!("botstats.events.{}.{token}.{}", draft.account, draft.channel);
            form::text(&good)
        }
    };
    Arrival { stored_ns, subject, headers, payload: text.into_bytes() }
}
