//! The rules of events as cases: a message in, what becomes of it out.

use async_nats::HeaderMap;
use data_encoding::BASE64;

use super::*;

const STORED_NS: i64 = 1_795_171_920_000_000_000; // 2026-11-20T10:52:00Z

fn key() -> HashKey {
    HashKey::new([7; 16])
}

fn message(subject: &'static str, payload: &'static str) -> Message<'static> {
    Message {
        sequence: 1,
        stored_ns: STORED_NS,
        subject,
        headers: None.into(),
        payload: payload.as_bytes(),
    }
}

fn with_data(kind: &str, data: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"e1","source":"/s","type":"io.botstats.{kind}.v1","time":"2026-11-20T10:52:00Z","data":{data}}}"#
    )
}

fn decode_text(payload: &str) -> Result<Event, String> {
    judged(None, payload.as_bytes())
}

fn judged(headers: Option<&HeaderMap>, payload: &[u8]) -> Result<Event, String> {
    let headers = headers.into();
    let message = Message { headers, payload, ..message("botstats.events.acme.b1.web", "") };
    match decode(&message, &key()) {
        Decoded::Event(_, event) => Ok(event),
        Decoded::UnknownType => Err("unknown type".to_owned()),
        Decoded::DeadLetter(rule, reason) => {
            assert!(reason.len() <= MAX_REASON_BYTES, "{reason}");
            Err(format!("{}: {reason}", rule.name()))
        }
    }
}

#[test]
fn every_type_and_its_flags() {
    for (kind, data, expect) in [
        ("message.received", r#"{"kind":"text"}"#, Ok((Kind::Received, 0))),
        ("message.received", r#"{"kind":null}"#, Ok((Kind::Received, 0))),
        ("message.received", r#"{"kind":1}"#, Err("data: data.kind is not a string")),
        ("message.sent", r#"{"fallback":true,"parts":3}"#, Ok((Kind::Sent, flag::FALLBACK))),
        ("message.sent", r#"{"fallback":false}"#, Ok((Kind::Sent, 0))),
        ("message.sent", r#"{"fallback":"yes"}"#, Err("data: data.fallback is not true or false")),
        ("message.sent", r#"{"parts":[1]}"#, Err("data: data.parts is not a number")),
        ("nlp.evaluated", r#"{"detected":true,"confidence":0.5}"#, Ok((Kind::Nlp, flag::DETECTED))),
        ("nlp.evaluated", r#"{"detected":false}"#, Ok((Kind::Nlp, 0))),
        ("nlp.evaluated", r"{}", Err("data: data.detected is missing")),
        ("nlp.evaluated", r#"{"detected":null}"#, Err("data: data.detected is missing")),
        ("integration.called", r#"{"kind":"api","ok":true}"#, Ok((Kind::Integration, flag::API))),
        (
            "integration.called",
            r#"{"kind":"api","ok":false}"#,
            Ok((Kind::Integration, flag::API | flag::FAILED)),
        ),
        (
            "integration.called",
            r#"{"kind":"nlp","ok":false}"#,
            Ok((Kind::Integration, flag::FAILED)),
        ),
        (
            "integration.called",
            r#"{"kind":"API","ok":true,"status":200}"#,
            Ok((Kind::Integration, 0)),
        ),
        ("integration.called", r#"{"kind":"api"}"#, Err("data: data.ok is missing")),
        ("integration.called", r#"{"ok":true}"#, Err("data: data.kind is missing")),
        (
            "integration.called",
            r#"{"kind":"api","ok":true,"status":"200"}"#,
            Err("data: data.status is not a number"),
        ),
        ("operator.requested", r#"{"by":"user"}"#, Ok((Kind::Requested, 0))),
        ("operator.joined", r#"{"operatorid":"o"}"#, Ok((Kind::Joined, 0))),
        ("operator.message", r#"{"automatic":true}"#, Ok((Kind::OperatorMessage, flag::AUTOMATIC))),
        ("operator.message", r"{}", Ok((Kind::OperatorMessage, 0))),
        ("operator.released", r#"{"reason":{}}"#, Err("data: data.reason is not a string")),
        ("operator.released", r"{}", Ok((Kind::Released, 0))),
        ("conversation.ended", r#"{"reason":"done"}"#, Ok((Kind::Ended, 0))),
        ("goal.reached", r#"{"goal":"g"}"#, Ok((Kind::Goal, 0))),
        ("goal.reached", r"{}", Err("data: data.goal is missing")),
        ("tag.set", r#"{"tag":"t"}"#, Ok((Kind::Tag, 0))),
        ("tag.set", r#"{"tag":7}"#, Err("data: data.tag is not a string")),
        ("feedback.given", r#"{"score":5}"#, Ok((Kind::Feedback, flag::SATISFIED))),
        ("feedback.given", r#"{"score":4,"question":"q"}"#, Ok((Kind::Feedback, flag::SATISFIED))),
        ("feedback.given", r#"{"score":3,"question":null}"#, Ok((Kind::Feedback, 0))),
        ("feedback.given", r#"{"score":1}"#, Ok((Kind::Feedback, 0))),
        ("feedback.given", r"{}", Err("data: data.score is missing")),
        ("feedback.given", r#"{"score":null}"#, Err("data: data.score is missing")),
        ("feedback.given", r#"{"score":5,"score":5}"#, Err("data: data.score is given twice")),
        (
            "feedback.given",
            r#"{"score":5,"question":1}"#,
            Err("data: data.question is not a string"),
        ),
        ("user.forgotten", r#"{"reason":1}"#, Ok((Kind::Forgotten, 0))),
        ("tag.sat", r"{}", Err("unknown type")),
        // What the type does not name is ignored, whatever it holds.
        (
            "message.received",
            r#"{"name":"\ud800","status":1e999,"tag":1,"tag":2,"\ud800":0,"x":[{}]}"#,
            Ok((Kind::Received, 0)),
        ),
        (
            "message.received",
            r#"{"kind":"\ud800"}"#,
            Err("data: data.kind has half of a surrogate pair, which is no text"),
        ),
        (
            "message.received",
            r#"{"kind":"a","\u006bind":"a"}"#,
            Err("data: data.kind is given twice"),
        ),
        (
            "nlp.evaluated",
            r#"{"detected":true,"confidence":1e999}"#,
            Ok((Kind::Nlp, flag::DETECTED)),
        ),
        (
            "nlp.evaluated",
            r#"{"detected":true,"confidence":"1"}"#,
            Err("data: data.confidence is not a number"),
        ),
    ] {
        let fields = data.strip_prefix('{').unwrap();
        let comma = if fields == "}" { "" } else { "," };
        let data = format!(r#"{{"conversationid":"c","userid":"u"{comma}{fields}"#);
        let found = decode_text(&with_data(kind, &data)).map(|e| (e.kind, e.flags));
        assert_eq!(found, expect.map_err(str::to_owned), "{kind} {data}");
    }
}

#[test]
fn a_score_is_a_whole_number_from_1_to_5() {
    for score in ["0", "6", "-1", "5.0", "5e0", "50e-1", "-0", "4294967297", "\"5\"", "true", "[5]"]
    {
        let data = format!(r#"{{"conversationid":"c","userid":"u","score":{score}}}"#);
        assert_eq!(
            decode_text(&with_data("feedback.given", &data)),
            Err("data: data.score is not a whole number from 1 to 5".to_owned()),
            "{score}"
        );
    }
}

#[test]
fn names() {
    let long = "x".repeat(200);
    let wide = format!("x{}", "é".repeat(100));
    for (kind, data, expect) in [
        ("goal.reached", r#""goal":"order""#, Some("order")),
        ("goal.reached", r#""goal":"""#, Some("")),
        ("tag.set", r#""tag":"(none)""#, Some("(none)")),
        ("nlp.evaluated", r#""detected":false,"intent":"a\u0062""#, Some("ab")),
        ("nlp.evaluated", r#""detected":true,"intent":null"#, None),
        ("nlp.evaluated", r#""detected":true,"name":"n""#, None),
        ("integration.called", r#""kind":"nlp","ok":true,"name":"n""#, Some("n")),
        ("integration.called", r#""kind":"nlp","ok":true,"intent":"n""#, None),
        ("operator.joined", r#""operatorid":"o""#, Some("o")),
        ("operator.message", r#""operatorid":"o","automatic":true"#, Some("o")),
        ("operator.requested", r#""by":"user","operatorid":"o""#, None),
        ("operator.released", r#""reason":"r","operatorid":"o""#, None),
        ("message.received", r#""kind":"text","name":"n""#, None),
        ("feedback.given", r#""score":1,"question":"q","goal":"g""#, None),
        // Cut to 128 bytes, and the rest of the character that stands there.
        ("tag.set", &format!(r#""tag":"{long}""#), Some(&long[..128])),
        ("tag.set", &format!(r#""tag":"{wide}""#), Some(&wide[..129])),
    ] {
        let data = format!(r#"{{"conversationid":"c","userid":"u",{data}}}"#);
        let event = decode_text(&with_data(kind, &data)).unwrap();
        assert_eq!(event.name.as_deref(), expect, "{kind} {data}");
    }
    // What is cut off is content all the same.
    let content = |tag: &str| {
        let data = format!(r#"{{"conversationid":"c","userid":"u","tag":"{tag}"}}"#);
        decode_text(&with_data("tag.set", &data)).unwrap().content
    };
    assert_ne!(content(&long), content(&long[1..]));
}

#[test]
fn durations() {
    for (kind, duration, expect) in [
        ("api", "0", Some(0)),
        ("api", "1200", Some(1_200)),
        ("api", "86400000", Some(86_400_000)),
        ("api", "86400001", None),
        ("api", "99999999999999999999", None),
        ("api", "1200.0", None),
        ("api", "12e2", None),
        ("api", "-0", None),
        ("api", "-1", None),
        ("api", "null", None),
        ("nlp", "1200", None),
        ("API", "1200", None),
    ] {
        let data = format!(
            r#"{{"conversationid":"c","userid":"u","kind":"{kind}","ok":true,"durationms":{duration}}}"#
        );
        let event = decode_text(&with_data("integration.called", &data)).unwrap();
        assert_eq!(event.duration_ms, expect, "{kind} {duration}");
    }
    for duration in ["\"1200\"", "true", "{}"] {
        let data = format!(
            r#"{{"conversationid":"c","userid":"u","kind":"nlp","ok":true,"durationms":{duration}}}"#
        );
        assert_eq!(
            decode_text(&with_data("integration.called", &data)),
            Err("data: data.durationms is not a number".to_owned())
        );
    }
}

/// `user.forgotten` names no conversation, whatever stands there.
#[test]
fn a_user_is_forgotten() {
    let event = decode_text(&with_data("user.forgotten", r#"{"userid":"u"}"#)).unwrap();
    let (forgotten, user) = (key().forgotten("u"), key().user("u"));
    assert_eq!((event.conversation, event.user), (forgotten, user));
    for conversation in [
        r#""conversationid":"c""#,
        r#""conversationid":"""#,
        r#""conversationid":5"#,
        r#""conversationid":{}"#,
        r#""conversationid":"\ud800""#,
        r#""conversationid":1,"conversationid":2"#,
    ] {
        let data = format!(r#"{{{conversation},"userid":"u"}}"#);
        assert_eq!(decode_text(&with_data("user.forgotten", &data)).as_ref(), Ok(&event), "{data}");
    }
    let other = decode_text(&with_data("user.forgotten", r#"{"userid":"v"}"#)).unwrap();
    assert_ne!(other.conversation, event.conversation);
    assert_eq!(
        decode_text(&with_data("user.forgotten", r#"{"conversationid":"c"}"#)),
        Err("data: data.userid is missing".to_owned())
    );
    let at = |time: &str| {
        let text = with_data("user.forgotten", r#"{"userid":"u"}"#);
        decode_text(&text.replace("2026-11-20T10:52:00Z", time)).map(|event| event.kind)
    };
    assert_eq!(at("2026-11-19T10:52:00Z"), Ok(Kind::Forgotten));
    assert_eq!(at("2026-11-20T10:57:00Z"), Ok(Kind::Forgotten));
    let old = "time: time of user.forgotten is more than 24 hours before the message was stored";
    assert_eq!(at("2026-11-19T10:51:59.999Z"), Err(old.to_owned()));
    let ahead = "time: time is more than 5 minutes after the message was stored";
    assert_eq!(at("2026-11-20T10:57:00.001Z"), Err(ahead.to_owned()));
}

#[test]
fn every_rule_of_the_envelope() {
    let good = with_data("message.received", r#"{"conversationid":"c","userid":"u"}"#);
    decode_text(&good).unwrap();
    let long = "x".repeat(129);
    let long_id = "x".repeat(513);
    for (from, to, reason) in [
        (r#""1.0""#, r#""0.3""#, "envelope: specversion is not 1.0"),
        (r#""1.0""#, "1.0", "envelope: specversion is not a string"),
        (r#""specversion":"1.0","#, "", "envelope: specversion is missing"),
        (r#""e1""#, r#""""#, "envelope: id is not 1 to 128 bytes long"),
        (r#""e1""#, &format!("{long:?}"), "envelope: id is not 1 to 128 bytes long"),
        (r#""e1""#, "null", "envelope: id is missing"),
        (r#""/s""#, "[]", "envelope: source is not a string"),
        (r#""1.0""#, &format!("{long:?}"), "envelope: specversion is not 1.0"),
        (r#""io.botstats.message.received.v1""#, r#""""#, "envelope: type is empty"),
        (
            r#""2026-11-20T10:52:00Z""#,
            r#""""#,
            "envelope: time is not RFC 3339, such as 2026-11-20T10:52:00.000Z",
        ),
        (
            "2026-11-20T10",
            "2026-11-20 10",
            "envelope: time is not RFC 3339, such as 2026-11-20T10:52:00.000Z",
        ),
        (r#""userid":"u""#, r#""userid":"""#, "data: data.userid is not 1 to 512 bytes long"),
        (
            r#""userid":"u""#,
            &format!(r#""userid":{long_id:?}"#),
            "data: data.userid is not 1 to 512 bytes long",
        ),
        (
            r#""conversationid":"c""#,
            &format!(r#""conversationid":{long_id:?}"#),
            "data: data.conversationid is not 1 to 512 bytes long",
        ),
        (r#","userid":"u""#, "", "data: data.userid is missing"),
        (r#""conversationid":"c","#, "", "data: data.conversationid is missing"),
        (
            r#"{"conversationid":"c","userid":"u"}"#,
            r#"["c","u"]"#,
            "envelope: data is not a JSON object",
        ),
        (r#"{"conversationid":"c","userid":"u"}"#, "null", "envelope: data is missing"),
        (
            "2026-11-20T10:52:00Z",
            "2026-11-20T10:57:00.001Z",
            "time: time is more than 5 minutes after the message was stored",
        ),
        (
            "2026-11-20T10:52:00Z",
            "2026-10-16T10:51:59.999Z",
            "time: time is more than 35 days before the message was stored",
        ),
        ("io.botstats.message.received.v1", "io.botstats.message.received.v2", "unknown type"),
        ("io.botstats.message.received.v1", "com.example", "unknown type"),
    ] {
        assert_eq!(
            decode_text(&good.replace(from, to)).map(|_| ()),
            Err(reason.to_owned()),
            "{to}"
        );
    }
    for time in ["2026-11-20T10:57:00Z", "2026-10-16T10:52:00Z", "2026-10-16T10:52:00.0009Z"] {
        decode_text(&good.replace("2026-11-20T10:52:00Z", time)).unwrap();
    }
    let longest = format!("{:?}", "x".repeat(512));
    for id in [r#""c""#, r#""u""#] {
        decode_text(&good.replace(id, &longest)).unwrap();
    }
}

#[test]
fn text_that_is_no_event() {
    for payload in [
        "",
        " ",
        "null",
        "[]",
        "{",
        "{}",
        "\"x\"",
        "5",
        "nul",
        "{\"id\":}",
        "[\"1.0\",\"e\",\"s\",\"t\",\"z\",{}]",
        "{\"id\":\"a\",\"id\":\"b\"}",
        "{\"id\":\"\\ud800\"}",
        "{\"id\":1e400}",
        "{\"id\":NaN}",
        "{\"id\":\"\u{d}\"}",
        "{}x",
    ] {
        let reason = decode_text(payload).unwrap_err();
        assert!(reason.starts_with("envelope: "), "{payload:?}: {reason}");
    }
    // No value of a message stands in a reason, however JSON's reader would say it.
    let secret = format!("\"{}\"", "user-4711".repeat(7_000));
    for (payload, reason) in [
        (
            secret.as_str(),
            "the payload is a JSON string, not a JSON object; publish the event itself, encoded once",
        ),
        ("4711", "the payload is not a JSON object"),
        (
            "[4711]",
            "the payload is a JSON array, not a JSON object; publish each event as a message of its own",
        ),
        ("{\"4711\" 5}", "the payload is not JSON: expected `:` at line 1 column 9"),
    ] {
        assert_eq!(decode_text(payload), Err(format!("envelope: {reason}")));
    }
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(decode_text(&deep).is_err());
    let large = with_data(
        "message.received",
        &format!(r#"{{"conversationid":"c","userid":"u","x":"{}"}}"#, "x".repeat(65_536)),
    );
    assert_eq!(
        decode_text(&large),
        Err("envelope: the payload is larger than 65536 bytes".to_owned())
    );
    let not_utf8 = Message { payload: b"{\"id\":\"\xff\"}", ..message("a.b.c", "") };
    assert!(matches!(decode(&not_utf8, &key()), Decoded::DeadLetter(Rule::Envelope, _)));
}

/// What is written in an unusual way, wherever it stands, is the same event.
#[test]
fn one_event_in_many_forms() {
    let plain = with_data("message.sent", r#"{"conversationid":"c","userid":"u","fallback":true}"#);
    let event = decode_text(&plain).unwrap();
    let data_at = plain.find(r#","data""#).unwrap();
    let (before, data) = plain.split_at(data_at);
    let before_data = |more: &str| format!("{before},{more}{data}");
    let after_data = |more: &str| format!("{},{more}}}", plain.strip_suffix('}').unwrap());
    let in_data = |more: &str| format!("{},{more}}}}}", plain.strip_suffix("}}").unwrap());
    for more in [
        r#""x":"\u0061""#,
        r#""\u0078":1"#,
        r#""x":{"y":[1,2]}"#,
        r#""x":[{}]"#,
        "\"x\":\n1",
        "\"x\":\t\"\u{7f}\"",
        r#""x":1e2"#,
        r#""x":"é""#,
    ] {
        for text in [before_data(more), after_data(more), in_data(more)] {
            assert_eq!(decode_text(&text).as_ref(), Ok(&event), "{text}");
        }
    }
    for text in [
        plain.replace(r#""c""#, r#""\u0063""#),
        plain.replace(r#""userid""#, r#""user\u0069d""#),
        plain.replace(r#""data""#, r#""d\u0061ta""#),
        plain.replace("true", " true\r\n"),
        format!("\n\t {plain} \r"),
    ] {
        assert_eq!(decode_text(&text).as_ref(), Ok(&event), "{text}");
    }
}

#[test]
fn the_last_three_tokens_of_the_subject() {
    for (subject, ok) in [
        ("botstats.events.acme.b1.web", true),
        ("cell7.botstats.events.acme.b1.web", true),
        ("acme.b1.web", true),
        ("b1.web", false),
        ("botstats.events.acme.b1.we b", false),
        ("botstats.events.acme..web", false),
        ("botstats.events.acme.b1.wéb", false),
    ] {
        let payload = r#"{"specversion":"1.0","id":"e","source":"s","type":"io.botstats.tag.set.v1","time":"2026-11-20T10:52:00Z","data":{"conversationid":"c","userid":"u","tag":"t"}}"#;
        match decode(&message(subject, payload), &key()) {
            Decoded::Event(address, _) => {
                assert!(ok, "{subject}");
                assert_eq!((address.account, address.bot, address.channel), ("acme", "b1", "web"));
                assert_eq!(address.path, "acme.b1.web");
            }
            Decoded::DeadLetter(Rule::Subject, _) => assert!(!ok, "{subject}"),
            other => panic!("{subject}: {other:?}"),
        }
    }
}

#[test]
fn binary_mode() {
    let data = r#" {"conversationid":"c","userid":"u","tag":"t"} "#;
    let whole = with_data("tag.set", data.trim()).replace("e1", "e 1");
    let event = decode_text(&whole).unwrap();
    let good = [
        ("ce-specversion", "1.0"),
        ("ce-id", "e%201"),
        ("Ce-Source", "/s"),
        ("ce-type", "io.botstats.tag.set.v1"),
        ("ce-time", "2026-11-20T10:52:00Z"),
        ("Content-Type", "application/json"),
    ];
    let ok = Ok(event);
    let err = |reason: &str| Err(format!("envelope: {reason}"));
    for (change, payload, expect) in [
        (("x", "y"), data, ok.clone()),
        // The content type of structured mode wins over ce- headers; other formats are refused.
        (("Content-Type", "application/CloudEvents+JSON; charset=utf-8"), &whole, ok.clone()),
        // Another format with ce- headers is binary mode all the same.
        (("Content-Type", "application/cloudevents+avro"), data, ok.clone()),
        (("CE-ID", "e%201"), data, err("header ce-id is given twice")),
        (("content-type", "text/plain"), data, err("header content-type is given twice")),
        (("ce-id", "%ff"), data, err("header ce-id is not UTF-8 once decoded")),
        (("ce-id", ""), data, err("id is not 1 to 128 bytes long")),
        (("ce-specversion", "0.3"), data, err("specversion is not 1.0")),
        (("x", "y"), "[1]", err("data is not a JSON object")),
        (("x", "y"), "", err("the payload is empty; an event is a JSON object")),
        // Form feed and vertical tab are space elsewhere, but not in JSON.
        (("x", "y"), &format!("\u{c}{data}"), err("data is not a JSON object")),
        (
            ("x", "y"),
            &format!("{data}\u{b}"),
            err("data is not JSON: trailing characters at line 1 column 47"),
        ),
    ] {
        let mut headers = HeaderMap::new();
        for (name, value) in good.iter().filter(|(name, _)| *name != change.0).chain([&change]) {
            headers.insert(*name, *value);
        }
        let found = judged(Some(&headers), payload.as_bytes());
        assert_eq!(found, expect, "{change:?} {payload}");
    }
}

/// What an event's own library made of its data: the same event, or a reason that says what is
/// wrong.
#[test]
fn data_in_base64() {
    let data = r#"{"conversationid":"c","userid":"u","tag":"t"}"#;
    let plain = with_data("tag.set", data);
    let event = decode_text(&plain).unwrap();
    let with = |members: &str| {
        let (head, _) = plain.split_once(r#""data":"#).unwrap();
        decode_text(&format!("{head}{members}}}"))
    };
    let of = |bytes: &[u8]| with(&format!(r#""data_base64":"{}""#, BASE64.encode(bytes)));
    let encoded = BASE64.encode(data.as_bytes());
    let good = format!(r#""data_base64":"{encoded}""#);
    for members in [
        good.clone(),
        format!(r#""data":null,{good}"#),
        format!(r#"{good},"datacontenttype":"application/json""#),
        format!(r#""data":{data},"data_base64":null"#),
        format!(r#""data_base\u0036\u0034":"\u0065{}""#, &encoded[1..]),
    ] {
        assert_eq!(with(&members).as_ref(), Ok(&event), "{members}");
    }
    for bytes in [format!(" \n{data}\r\n"), data.replace("\"t\"", "\"\\u0074\"")] {
        assert_eq!(of(bytes.as_bytes()).as_ref(), Ok(&event), "{bytes}");
    }
    let other = of(data.replace("\"t\"", "\"other\"").as_bytes()).unwrap();
    assert_eq!((other.id, other.conversation), (event.id, event.conversation));
    assert_ne!(other.content, event.content);
    let no_base64 = "data_base64 is not base64 (RFC 4648, section 4, padded)";
    for (found, reason) in [
        (
            with(&format!(r#""data":{data},{good}"#)),
            "data and data_base64 are both given; one is allowed",
        ),
        (
            with(&format!(r#""data":5,{good}"#)),
            "data and data_base64 are both given; one is allowed",
        ),
        (with(&format!("{good},{good}")), "data_base64 is given twice"),
        (with(r#""data_base64":{}"#), "data_base64 is not a string"),
        (with(r#""data_base64":null"#), "data is missing"),
        (with(r#""data_base64":"e30""#), no_base64),
        (with(r#""data_base64":"e3 0=""#), no_base64),
        (with(r#""data_base64":"e31=""#), no_base64),
        (with(r#""data_base64":"_-__""#), no_base64),
        (of(b"\x00\xff"), "data_base64 once decoded is not UTF-8"),
        (of(b"[1]"), "data_base64 once decoded is not a JSON object"),
        (
            of(b""),
            "data_base64 once decoded is not JSON: EOF while parsing a value at line 1 column 0",
        ),
        (
            of(b"{\"a\":}"),
            "data_base64 once decoded is not JSON: expected value at line 1 column 6",
        ),
    ] {
        assert_eq!(found, Err(format!("envelope: {reason}")));
    }
    assert_eq!(of(b"{}"), Err("data: data.conversationid is missing".to_owned()));
}

/// Who sends events in a way that is not read is told which, not what is missing after it was not
/// read.
#[test]
fn the_cause_is_named() {
    let data = r#"{"conversationid":"c","userid":"u","tag":"t"}"#;
    let whole = with_data("tag.set", data);
    let event = decode_text(&whole).unwrap();
    let attributes = [
        ("specversion", "1.0"),
        ("id", "e1"),
        ("source", "/s"),
        ("type", "io.botstats.tag.set.v1"),
        ("time", "2026-11-20T10:52:00Z"),
    ];
    let with_prefix =
        |prefix: &str| attributes.map(|(name, value)| (format!("{prefix}{name}"), value));
    let check = |headers: &[(String, &str)], payload: &[u8], expect: &str| {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.as_str(), *value);
        }
        match judged(Some(&map), payload) {
            Ok(found) => assert_eq!((&found, expect), (&event, ""), "{headers:?}"),
            Err(reason) => {
                assert!(!expect.is_empty() && reason.contains(expect), "{headers:?}: {reason}");
            }
        }
    };
    let header = |name: &str, value: &'static str| vec![(name.to_owned(), value)];
    let (data, whole) = (data.as_bytes(), whole.as_bytes());
    let trace = header("ce-traceparent", "00-x");
    check(&trace, whole, "");
    check(&header("ce-id", "x"), whole, "");
    check(&with_prefix("ce_"), whole, "");
    check(&header("Content-Type", "application/avro"), whole, "");
    check(&header("Content-Encoding", "gzip"), whole, "");
    for prefix in ["ce-", "CE-", "Ce-"] {
        check(&with_prefix(prefix), data, "");
        check(&with_prefix(prefix)[1..], data, "header ce-specversion is missing");
    }
    for prefix in ["ce_", "CE_", "cloudEvents_", "cloudEvents:", "CloudEvents-"] {
        // What stands behind a colon is the value.
        let headers = with_prefix(prefix).map(|(name, value)| (name.replace(':', ""), value));
        check(&headers, data, "headers ce_.. and cloudEvents.. are not read");
        check(&headers, b"\x02\x80", "headers ce_.. and cloudEvents.. are not read");
    }
    check(&with_prefix("ce-"), whole, "because of header ce-specversion");
    let said_whole =
        [header("Content-Type", "application/cloudevents+json"), with_prefix("ce-").to_vec()];
    check(&said_whole.concat(), whole, "");
    check(&said_whole.concat(), data, "the payload is no CloudEvent");
    check(&header("ce-specversion", "1.0"), whole, "because of header ce-specversion");
    check(&[], data, "the payload is no CloudEvent");
    check(&trace, data, "the payload is no CloudEvent");
    check(&[], b"{\"id\":\"1\"}", "data is missing");
    let list = [b"[".as_slice(), whole, b"]"].concat();
    check(
        &header("Content-Type", "application/cloudevents-batch+json; charset=utf-8"),
        &list,
        "batch+json is not read",
    );
    check(&[], &list, "a JSON array");
    let text = serde_json::Value::from(str::from_utf8(whole).unwrap()).to_string();
    check(&[], text.as_bytes(), "encoded once");
    for media in
        ["application/cloudevents+avro", "application/cloudevents+protobuf", "application/avro"]
    {
        check(&header("Content-Type", media), b"\x02\x80", "a format that is not read");
    }
    check(&header("Content-Type", "text/plain"), b"\x02\x80", "not UTF-8");
    for compressed in [b"\x1f\x8b\x08".as_slice(), b"\x28\xb5\x2f\xfd", b"PK\x03\x04"] {
        check(&[], compressed, "compressed");
        check(&with_prefix("ce-"), compressed, "compressed");
    }
    check(&header("content-encoding", "br"), b"\x0b\x02\x80", "compressed");
    let wide = |unit: &[u8]| -> Vec<u8> {
        let at = unit.iter().position(|b| *b == b'x').unwrap();
        whole.iter().flat_map(|b| [&unit[..at], &[*b], &unit[at + 1..]].concat()).collect()
    };
    for unit in [b"x\0".as_slice(), b"\0x", b"x\0\0\0", b"\0\0\0x"] {
        check(&[], &wide(unit), "UTF-16 or UTF-32");
    }
    check(&[], &[b"\xff\xfe".as_slice(), &wide(b"x\0")].concat(), "UTF-16 or UTF-32");
    check(&[], &[b"\xef\xbb\xbf".as_slice(), whole].concat(), "byte order mark");
    check(&[], b" \r\n", "the payload is empty");
}

#[test]
fn identity_and_content() {
    let base = with_data("message.received", r#"{"conversationid":"c","userid":"u"}"#);
    let event = decode_text(&base).unwrap();
    let changed = |from: &str, to: &str| decode_text(&base.replace(from, to)).unwrap();
    assert_eq!(changed(r#""userid":"u"}"#, r#""extra":[1],"userid":"u"}"#), event);
    // What has no meaning here is ignored, whatever it holds.
    assert_eq!(
        changed(r#""id":"e1""#, r#""\ud800":1,"x":"\ud800","y":1e999,"y":0,"id":"e1""#),
        event
    );
    assert_eq!(changed(r#""userid":"u""#, r#""userid":"\u0075""#), event);
    assert_ne!(changed("e1", "e2").id, event.id);
    assert_ne!(changed("/s", "/t").id, event.id);
    // The border between source and id counts.
    let a = changed(r#""id":"e1","source":"/s""#, r#""id":"1","source":"/se""#);
    assert_ne!(a.id, event.id);
    assert_ne!(changed(r#""userid":"u""#, r#""userid":"v""#).content, event.content);
    assert_ne!(changed(r#""userid":"u""#, r#""userid":"u","kind":"text""#).content, event.content);

    // Numbers are compared by value.
    let parts = |number: &str| {
        let data = format!(r#"{{"conversationid":"c","userid":"u","parts":{number}}}"#);
        decode_text(&with_data("message.sent", &data)).unwrap().content
    };
    assert_eq!(parts("20"), parts("2.0e1"));
    assert_ne!(parts("20"), parts("21"));
    assert_ne!(parts("20"), parts("null"));

    // A duration that does not count is other content than one that does.
    let duration = |number: &str| {
        let data = format!(
            r#"{{"conversationid":"c","userid":"u","kind":"api","ok":true,"durationms":{number}}}"#
        );
        decode_text(&with_data("integration.called", &data)).unwrap().content
    };
    assert_ne!(duration("20"), duration("20.0"));
    assert_eq!(duration("2e1"), duration("20.0"));
    assert_eq!(duration("86400001"), duration("86400001.0"));
    let feedback = |data: &str| {
        let data = format!(r#"{{"conversationid":"c","userid":"u",{data}}}"#);
        decode_text(&with_data("feedback.given", &data)).unwrap().content
    };
    assert_ne!(feedback(r#""score":5"#), feedback(r#""score":4"#));
    assert_ne!(feedback(r#""score":5"#), feedback(r#""score":5,"question":"""#));
}
