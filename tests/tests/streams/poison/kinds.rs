//! Bad messages as data, and some that only look bad.

use botstats_common::io::clock;
use botstats_tests::model::Rule;
use data_encoding::BASE64;

/// Stands in every message as the user's id: no reason and no log may hold it.
pub(crate) const USER: &str = "user-4711-hidden";
/// Where the bad messages of an account go.
pub(crate) const SUBJECT: &str = "botstats.events.acct-0.b1.web";

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
const STRUCTURED: &[(&str, &str)] = &[("Content-Type", "application/cloudevents+json")];

/// What must become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A dead letter of that rule, whose reason has that word.
    Letter(Rule, &'static str),
    /// Skipped and counted.
    Unknown,
    /// It is an event like any other.
    Counts,
    /// The server does not store it.
    NotStored,
}

use Rule::{Data, Envelope, Subject, Time};
use Wanted::{Counts, Letter, NotStored, Unknown};

/// A message, and what must become of it.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    pub(crate) name: String,
    pub(crate) subject: Vec<u8>,
    /// The bytes of the headers.
    pub(crate) head: Vec<u8>,
    /// The headers in them; none if they are none.
    pub(crate) headers: Option<Vec<(String, String)>>,
    pub(crate) payload: Vec<u8>,
    pub(crate) wanted: Wanted,
}

/// A structured event of the conversation `c1` on the usual subject.
fn kind(name: impl Into<String>, payload: impl Into<Vec<u8>>, wanted: Wanted) -> Kind {
    let kind = Kind {
        name: name.into(),
        subject: SUBJECT.into(),
        head: Vec::new(),
        headers: Some(Vec::new()),
        payload: payload.into(),
        wanted,
    };
    kind.with(STRUCTURED)
}

/// What becomes of a message whose envelope breaks a rule.
fn is(word: &'static str) -> Wanted {
    Letter(Envelope, word)
}

/// What becomes of a message whose data breaks a rule.
fn of(word: &'static str) -> Wanted {
    Letter(Data, word)
}

impl Kind {
    fn with(self, headers: &[(&str, &str)]) -> Self {
        let lines: String = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        let own = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Self { head: format!("NATS/1.0\r\n{lines}\r\n").into(), headers: Some(own), ..self }
    }

    fn bytes(self, head: &[u8], headers: Option<&[(&str, &str)]>) -> Self {
        let own = |all: &[(&str, &str)]| {
            all.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
        };
        Self { head: head.to_vec(), headers: headers.map(own), ..self }
    }

    fn on(self, subject: impl Into<Vec<u8>>) -> Self {
        Self { subject: subject.into(), ..self }
    }
}

/// The kinds in groups. Every one has an id of its own.
pub(crate) fn groups() -> Vec<(&'static str, Vec<Kind>)> {
    let mut groups = vec![
        ("JSON", json()),
        ("members", members()),
        ("sizes", sizes()),
        ("times", times()),
        ("types of fields", wrong_types()),
        ("headers", headers()),
        ("subjects", subjects()),
    ];
    // Each of these breaks the connection of a client library: read one at a time, and among
    // others.
    let broken = broken_headers();
    groups.extend(broken.iter().map(|kind| ("one broken header", vec![kind.clone()])));
    groups.push(("broken headers", broken));
    let mut number = 0;
    for kind in groups.iter_mut().flat_map(|(_, kinds)| kinds) {
        number += 1;
        let id = format!("bad-{number}");
        kind.payload = replaced(&kind.payload, b"bad-0", id.as_bytes());
        kind.head = replaced(&kind.head, b"bad-0", id.as_bytes());
        for (_, value) in kind.headers.iter_mut().flatten() {
            *value = value.replace("bad-0", &id);
        }
    }
    groups
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    match text.windows(from.len()).position(|window| window == from) {
        Some(at) => [&text[..at], to, &text[at + from.len()..]].concat(),
        None => text.to_vec(),
    }
}

/// An event as text, `more` after its data's two ids.
pub(crate) fn text(name: &str, id: &str, conversation: &str, more: &str) -> String {
    let time = clock::rfc3339_ms(clock::now_ms());
    format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"/test","type":"io.botstats.{name}.v1","time":"{time}","data":{{"conversationid":"{conversation}","userid":"{USER}"{more}}}}}"#
    )
}

fn good() -> String {
    text("goal.reached", "bad-0", "c1", r#","goal":"order""#)
}

/// The good event with something else in it.
fn with(from: &str, to: &str) -> String {
    let good = good();
    assert!(good.contains(from), "{from} is not in {good}");
    good.replacen(from, to, 1)
}

/// The good event with something before its first member.
fn before(more: &str) -> String {
    with("{", &format!("{{{more},"))
}

fn json() -> Vec<Kind> {
    let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    let good = good();
    let half = &good[..good.len() / 2];
    let utf16: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(good.bytes().flat_map(|byte| [byte, 0])).collect();
    let bytes_for = |from: &str, to: &[u8]| replaced(good.as_bytes(), from.as_bytes(), to);
    let not_json = is("not JSON");
    let no_object = is("not a JSON object");
    let no_utf8 = is("not UTF-8");
    vec![
        kind("empty", "", is("the payload is empty")),
        kind("only space", " \n\t\r", is("the payload is empty")),
        kind("half of it", half, not_json),
        kind("all but the end", &good[..good.len() - 1], not_json),
        kind("a letter behind it", format!("{good}x"), not_json),
        kind("twice", format!("{good}{good}"), not_json),
        kind("two lines", format!("{good}\n{good}"), not_json),
        kind("a comma behind it", format!("{good},"), not_json),
        kind("NUL behind it", format!("{good}\0"), not_json),
        kind("space around it", format!(" \r\n\t{good} \n"), Counts),
        kind("form feed before it", format!("\u{c}{good}"), not_json),
        kind("byte order mark", format!("\u{feff}{good}"), is("begins with a byte order mark")),
        kind("UTF-16", utf16, is("UTF-16")),
        kind("gzip", b"\x1f\x8b\x08\x00".as_slice(), is("compressed")),
        kind("Latin-1", bytes_for("order", b"caf\xe9"), no_utf8),
        kind("overlong UTF-8", bytes_for("order", b"\xc0\x80"), no_utf8),
        kind("a surrogate as UTF-8", bytes_for("order", b"\xed\xa0\x80"), no_utf8),
        kind("cut in a character", bytes_for("order", b"\xe2\x82"), no_utf8),
        kind("single quotes", good.replace('"', "'"), not_json),
        kind("a comment", format!("/* {USER} */{good}"), not_json),
        kind("a comma too many", with(r#""order""#, r#""order","#), not_json),
        kind("no comma", with(r#","source""#, r#" "source""#), not_json),
        kind("no quotes", with(r#""source""#, "source"), not_json),
        kind("a number as name", before(r#"5:"x""#), not_json),
        kind("NaN", before(r#""x":NaN"#), not_json),
        kind("Infinity", before(r#""x":-Infinity"#), not_json),
        kind("undefined", before(r#""x":undefined"#), not_json),
        kind("True", before(r#""x":True"#), not_json),
        kind("leading zero", before(r#""x":01"#), not_json),
        kind("hexadecimal", before(r#""x":0x1f"#), not_json),
        kind("plus", before(r#""x":+1"#), not_json),
        kind("only a minus", before(r#""x":-"#), not_json),
        kind("no digit after the point", before(r#""x":1."#), not_json),
        kind("no digit before the point", before(r#""x":.5"#), not_json),
        kind("1e400 where nobody looks", before(r#""x":1e400"#), Counts),
        kind("control character", bytes_for("order", b"or\x01der"), not_json),
        kind("tab in a text", bytes_for("order", b"or\tder"), not_json),
        kind("line feed in a name", bytes_for("goal\"", b"goal\n\""), not_json),
        kind("unknown escape", with("order", r"\x41"), not_json),
        kind("half an escape", with("order", r"\u12"), not_json),
        kind("surrogates in order", with("order", r"\ud83d\ude00"), Counts),
        kind("half of a pair in the id", with("bad-0", r"bad-0\ud800"), is("id has half")),
        kind("half of a pair in the goal", with("order", r"\udc00"), of("data.goal has half")),
        kind("half of a pair where nobody looks", before(r#""\ud800":"\udfff""#), Counts),
        kind("escaped NUL in an id", with("bad-0", r"bad-0\u0000\n"), Counts),
        kind("escaped names", with(r#""userid""#, r#""\u0075serid""#), Counts),
        kind("a list", format!("[{good}]"), no_object),
        kind("an empty list", "[]", no_object),
        kind("an empty object", "{}", is("no CloudEvent")),
        kind("null", "null", no_object),
        kind("true", "true", no_object),
        kind("a number", "4711", no_object),
        kind("a text", format!("\"{USER} {}\"", "and more ".repeat(5_000)), no_object),
        kind("base64", "eyJzcGVjdmVyc2lvbiI6IjEuMCJ9", not_json),
        kind("XML", format!("<event user=\"{USER}\"/>"), not_json),
        kind("10,000 lists deep", format!("{open}{close}"), no_object),
        kind("10,000 lists deep, unclosed", open.clone(), no_object),
        kind("10,000 objects deep", objects.clone(), is("no CloudEvent")),
        kind("10,000 deep where nobody looks", before(&format!(r#""x":{open}{close}"#)), Counts),
        kind("10,000 deep, unclosed", before(&format!(r#""x":{open}"#)), not_json),
        kind(
            "10,000 deep as data",
            with(r#""data":{"#, &format!(r#""data":{open}{close},"x":{{"#)),
            is("data is not a JSON object"),
        ),
        kind(
            "10,000 deep as user",
            with(&format!("\"{USER}\""), &objects),
            of("data.userid is not a string"),
        ),
    ]
}

fn members() -> Vec<Kind> {
    let good = good();
    let data_of = |good: &str| good.split_once(r#""data":"#).map(|(_, d)| d.to_owned());
    let data = data_of(&good).unwrap_or_default();
    let data = data.trim_end_matches('}').to_owned() + "}";
    let encoded = |data: &[u8]| {
        let (head, _) = good.split_once(r#""data":"#).unwrap_or_default();
        format!(r#"{head}"data_base64":"{}"}}"#, BASE64.encode(data))
    };
    let twice = |name: &str| before(&format!(r#""{name}":"twice""#));
    let version = is("specversion is not 1.0");
    let mut kinds = vec![
        kind(
            "null everywhere",
            r#"{"specversion":null,"id":null,"source":null,"type":null,"time":null,"data":null}"#,
            is("data is missing"),
        ),
        kind("null as data", with(&data, "null"), is("data is missing")),
        kind(
            "null in data",
            with(&data, r#"{"conversationid":null,"userid":null,"goal":null}"#),
            of("data.conversationid is missing"),
        ),
        kind("null as goal", with(r#""order""#, "null"), of("data.goal is missing")),
        kind("empty data", with(&data, "{}"), of("data.conversationid is missing")),
        kind("data as base64", encoded(data.as_bytes()), Counts),
        kind(
            "data as base64 and null",
            encoded(data.as_bytes()).replacen('{', r#"{"data":null,"#, 1),
            Counts,
        ),
        kind(
            "data twice, once as base64",
            encoded(data.as_bytes()).replacen('{', &format!(r#"{{"data":{data},"#), 1),
            is("data and data_base64 are both given"),
        ),
        kind(
            "an object as base64",
            with(r#""data""#, r#""data_base64""#),
            is("data_base64 is not a string"),
        ),
        kind(
            "base64 with a letter too many",
            encoded(data.as_bytes()).replacen(r#"_base64":""#, r#"_base64":"A"#, 1),
            is("data_base64 is not base64"),
        ),
        kind("Avro as base64", encoded(b"\x02\x80\xff"), is("is not UTF-8")),
        kind("a list as base64", encoded(b"[]"), is("is not a JSON object")),
        kind(
            "half of it as base64",
            encoded(&data.as_bytes()[..20]),
            is("data_base64 once decoded is not JSON"),
        ),
        kind(
            "data as a text of JSON",
            with(&data, &serde_json::Value::from(data.as_str()).to_string()),
            is("data is not a JSON object"),
        ),
        kind("data as a list", with(&data, &format!("[{data}]")), is("data is not a JSON object")),
        kind("data twice", before(&format!(r#""data":{data}"#)), is("data is given twice")),
        kind("a name twice, once escaped", before(r#""\u0069d":"x""#), is("id is given twice")),
        kind(
            "userid twice",
            with(r#""userid""#, r#""userid":"x","userid""#),
            of("data.userid is given twice"),
        ),
        kind(
            "goal twice",
            with(r#""goal""#, r#""goal":"order","goal""#),
            of("data.goal is given twice"),
        ),
        kind(
            "null and a goal",
            with(r#""goal""#, r#""goal":null,"goal""#),
            of("data.goal is given twice"),
        ),
        kind(
            "twice what another type names",
            with(r#""goal""#, r#""kind":1,"kind":2,"goal""#),
            Counts,
        ),
        kind("twice what nobody names", before(r#""x":1,"x":2"#), Counts),
        kind("names in capitals", with(r#""userid""#, r#""UserId""#), of("data.userid is missing")),
        kind("specversion 0.3", with(r#""1.0""#, r#""0.3""#), version),
        kind("specversion 1", with(r#""1.0""#, r#""1""#), version),
        kind("specversion with space", with(r#""1.0""#, r#""1.0 ""#), version),
        kind("a long specversion", with(r#""1.0""#, &format!("{:?}", "1".repeat(1_000))), version),
        kind("an empty specversion", with(r#""1.0""#, r#""""#), version),
        kind("an empty type", with("io.botstats.goal.reached.v1", ""), is("type is empty")),
        kind("an empty time", replaced_time(""), is("RFC 3339")),
        kind("another version of a type", with("reached.v1", "reached.v2"), Unknown),
        kind("a type in capitals", with("io.botstats", "IO.BOTSTATS"), Unknown),
        kind("a type with space", with("reached.v1", "reached.v1 "), Unknown),
        kind("somebody else's type", with("io.botstats.goal.reached.v1", "com.example"), Unknown),
        kind(
            "an unknown type without data fields",
            with(&data, "{}").replace("reached", "missed"),
            Unknown,
        ),
        kind(
            "an unknown type of 1970",
            with("goal.reached", "goal.missed").replace(r#""time":"20"#, r#""time":"19"#),
            Unknown,
        ),
        kind(
            "an unknown type without time",
            with(r#""time""#, r#""t""#).replace("reached", "missed"),
            is("time is missing"),
        ),
    ];
    for name in ["specversion", "id", "source", "type", "time"] {
        let told = |what: &str| -> &'static str { format!("{name} is {what}").leak() };
        kinds.push(kind(format!("{name} twice"), twice(name), is(told("given twice"))));
        let quoted = format!("\"{name}\"");
        kinds.push(kind(format!("no {name}"), with(&quoted, r#""x""#), is(told("missing"))));
    }
    kinds
}

fn sizes() -> Vec<Kind> {
    let padded = |bytes: usize| {
        let exact = text("goal.reached", "exact", "c1", r#","goal":"order","x":"""#);
        exact.replacen(r#""x":"""#, &format!(r#""x":"{}""#, "x".repeat(bytes - exact.len())), 1)
    };
    let members: Vec<String> = (0..5_000).map(|n| format!(r#""{n}":0"#)).collect();
    let members = members.join(",");
    // The number that makes ids different is longer in the end.
    let id = |bytes: usize| format!("bad-0{}", "i".repeat(bytes - "bad-000".len()));
    let id_size = is("id is not 1 to 128 bytes");
    let source_size = is("source is not 1 to 256 bytes");
    let user_size = of("data.userid is not 1 to 512 bytes");
    let conversation_size = of("data.conversationid is not 1 to 512 bytes");
    let euro = "€".repeat(43);
    let long_euro = "€".repeat(171);
    vec![
        kind("64 KiB", padded(65_536), Counts),
        kind("64 KiB and a byte", padded(65_537), is("65536 bytes")),
        kind("72 KiB and more", padded(74_000), NotStored),
        kind("an empty id", with("bad-0", ""), is("1 to 128 bytes")),
        kind("an id of at most 128 bytes", with("bad-0", &id(128)), Counts),
        kind("an id of 140 bytes", with("bad-0", &id(140)), id_size),
        kind("an id of 129 bytes in 43 characters", with("bad-0", &euro), id_size),
        kind("an empty source", with("/test", ""), source_size),
        kind("a source of 256 bytes", with("/test", &"s".repeat(256)), Counts),
        kind("a source of 257 bytes", with("/test", &"s".repeat(257)), source_size),
        kind("an empty userid", with(USER, ""), user_size),
        kind("a userid of 512 bytes", with(USER, &"u".repeat(512)), Counts),
        kind("a userid of 513 bytes in 171 characters", with(USER, &long_euro), user_size),
        kind("an empty conversationid", with(r#""c1""#, r#""""#), conversation_size),
        kind(
            "a conversationid of 512 bytes, as of Microsoft Teams",
            with(r#""c1""#, &format!("\"a:1{}\"", "x".repeat(509))),
            Counts,
        ),
        kind(
            "a conversationid of 513 bytes",
            with(r#""c1""#, &format!("{long_euro:?}")),
            conversation_size,
        ),
        kind("an empty goal", with("order", ""), Counts),
        kind("a long goal", with("order", &"g".repeat(60_000)), Counts),
        kind("an empty tag", text("tag.set", "bad-0", "c1", r#","tag":"""#), Counts),
        kind(
            "a long tag",
            text("tag.set", "bad-0", "c1", &format!(r#","tag":{:?}"#, "t".repeat(60_000))),
            Counts,
        ),
        kind("a long type", with("goal.reached", &"g".repeat(60_000)), Unknown),
        kind(
            "a long time",
            replaced_time(&format!("2026-10-03T10:52:00.{}", "0".repeat(60_000))),
            is("RFC 3339"),
        ),
        kind("5,000 members", before(&members), Counts),
    ]
}

fn replaced_time(time: &str) -> String {
    let good = good();
    let (head, tail) = good.split_once(r#""time":""#).unwrap_or_default();
    let (_, tail) = tail.split_once('"').unwrap_or_default();
    format!(r#"{head}"time":"{time}"{tail}"#)
}

fn times() -> Vec<Kind> {
    let now_ms = clock::now_ms();
    let at = |ms: i64| replaced_time(&clock::rfc3339_ms(ms));
    let mut kinds = vec![
        kind("35 days and a millisecond", at(now_ms - 35 * DAY_MS - 1), Letter(Time, "35 days")),
        kind("nearly 35 days", at(now_ms - 35 * DAY_MS + 10 * MINUTE_MS), Counts),
        kind("an hour ahead", at(now_ms + 60 * MINUTE_MS), Letter(Time, "5 minutes")),
        kind("4 minutes ahead", at(now_ms + 4 * MINUTE_MS), Counts),
        kind("the year 0", replaced_time("0000-01-01T00:00:00Z"), Letter(Time, "35 days")),
        kind("the year 9999", replaced_time("9999-12-31T23:59:59Z"), Letter(Time, "5 minutes")),
        kind("1970", replaced_time("1970-01-01T00:00:00Z"), Letter(Time, "35 days")),
        kind(
            "a leap second long ago",
            replaced_time("2016-12-31T23:59:60Z"),
            Letter(Time, "35 days"),
        ),
    ];
    for time in [
        "10000-01-01T00:00:00Z",
        "+2026-10-03T10:52:00Z",
        "-0001-01-01T00:00:00Z",
        "26-11-20T10:52:00Z",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-11-31T00:00:00Z",
        "2026-11-00T00:00:00Z",
        "2026-10-03T24:00:00Z",
        "2026-10-03T10:60:00Z",
        "2026-10-03T10:52:61Z",
        "2026-10-03T10:52:60Z",
        "2026-10-03 10:52:00Z",
        "2026-10-03_10:52:00Z",
        "2026-10-03T10:52:00",
        "2026-10-03T10:52Z",
        "2026-10-03",
        "10:52:00Z",
        "20261003T105200Z",
        "2026-W47-5T10:52:00Z",
        "2026-324T10:52:00Z",
        "2026-10-03T10:52:00.Z",
        "2026-10-03T10:52:00,5Z",
        "2026-10-03T10:52:00 Z",
        " 2026-10-03T10:52:00Z",
        "2026-10-03T10:52:00Z ",
        "2026-10-03T10:52:00+25:00",
        "2026-10-03T10:52:00+24:00",
        "2026-10-03T10:52:00+01:60",
        "2026-10-03T10:52:00+0100",
        "2026-10-03T10:52:00+01",
        "2026-10-03T10:52:00Z[UTC]",
        "2026-10-03T10:52:00 GMT",
        "Fri, 20 Nov 2026 10:52:00 GMT",
        "1795171920",
        "1795171920000",
        "now",
        "٢٠٢٦-10-03T10:52:00Z",
    ] {
        kinds.push(kind(format!("the time {time}"), replaced_time(time), is("RFC 3339")));
    }
    kinds
}

/// A field's name, a value of its type, and what the reason says of another.
type Field = (&'static str, (&'static str, &'static str));

/// Every field of every type with every JSON type that is not its own.
fn wrong_types() -> Vec<Kind> {
    const TEXT: (&str, &str) = ("\"x\"", "not a string");
    const BOOL: (&str, &str) = ("true", "not true or false");
    const NUMBER: (&str, &str) = ("5", "not a number");
    let values = ["\"x\"", "true", "5", "[]", "{}", "-0", "1e400"];
    let type_of = |value: &str| match value {
        "\"x\"" => "text",
        "true" => "bool",
        "5" | "-0" | "1e400" => "number",
        "[]" => "list",
        _ => "object",
    };
    let mut kinds = Vec::new();
    for name in ["specversion", "id", "source", "type", "time"] {
        for value in values.iter().filter(|value| type_of(value) != "text") {
            let payload = with(&format!("\"{name}\":"), &format!("\"{name}\":{value},\"x\":"));
            let told = format!("{name} is not a string").leak();
            kinds.push(kind(format!("{name} {value}"), payload, is(told)));
        }
    }
    for value in values.iter().filter(|value| type_of(value) != "object") {
        let payload = with("\"data\":", &format!("\"data\":{value},\"x\":"));
        kinds.push(kind(format!("data {value}"), payload, is("data is not a JSON object")));
    }
    for name in ["conversationid", "userid"] {
        for value in values.iter().filter(|value| type_of(value) != "text") {
            let payload = with(&format!("\"{name}\":"), &format!("\"{name}\":{value},\"x\":"));
            let told = format!("data.{name} is not a string").leak();
            kinds.push(kind(format!("{name} {value}"), payload, of(told)));
        }
    }
    let types: [(&str, &[Field]); 11] = [
        ("message.received", &[("kind", TEXT)]),
        ("message.sent", &[("fallback", BOOL), ("parts", NUMBER)]),
        ("nlp.evaluated", &[("detected", BOOL), ("intent", TEXT), ("confidence", NUMBER)]),
        (
            "integration.called",
            &[
                ("kind", TEXT),
                ("ok", BOOL),
                ("status", NUMBER),
                ("durationms", NUMBER),
                ("name", TEXT),
            ],
        ),
        ("operator.requested", &[("by", TEXT)]),
        ("operator.joined", &[("operatorid", TEXT)]),
        ("operator.message", &[("operatorid", TEXT), ("automatic", BOOL)]),
        ("operator.released", &[("reason", TEXT)]),
        ("conversation.ended", &[("reason", TEXT)]),
        ("goal.reached", &[("goal", TEXT)]),
        ("tag.set", &[("tag", TEXT)]),
    ];
    for (name, fields) in types {
        for (wrong, (own, told)) in fields {
            for value in values.iter().filter(|value| type_of(value) != type_of(own)) {
                let more: String = fields
                    .iter()
                    .map(|(field, (own, _))| {
                        format!(",\"{field}\":{}", if field == wrong { value } else { own })
                    })
                    .collect();
                let told = format!("data.{wrong} is {told}").leak();
                let payload = text(name, "bad-0", "c1", &more);
                kinds.push(kind(format!("{name}: {wrong} {value}"), payload, of(told)));
            }
        }
    }
    kinds
}

fn headers() -> Vec<Kind> {
    let time = clock::rfc3339_ms(clock::now_ms());
    let time = time.as_str();
    let all = [
        ("ce-specversion", "1.0"),
        ("ce-id", "bad-0"),
        ("ce-source", "/test"),
        ("ce-type", "io.botstats.goal.reached.v1"),
        ("ce-time", time),
        ("Content-Type", "application/json"),
    ];
    let data = format!(r#"{{"conversationid":"c1","userid":"{USER}","goal":"order"}}"#);
    let binary = |name: &str, change: (&str, &str), body: &str, wanted| {
        let changed: Vec<(&str, &str)> = all
            .into_iter()
            .filter(|(name, _)| *name != change.0)
            .chain([change].into_iter().filter(|(_, value)| *value != "absent"))
            .collect();
        kind(name, body, wanted).with(&changed)
    };
    let none = ("x", "y");
    let foreign = is("headers ce_.. and cloudEvents.. are not read");
    let good = good();
    let whole = good.as_str();
    let mut kinds = vec![
        binary("binary mode", none, &data, Counts),
        binary("names in capitals", ("Ce-Type", "x"), &data, is("ce-type is given twice")),
        binary("ce-id twice", ("CE-ID", "bad-0"), &data, is("ce-id is given twice")),
        binary(
            "Content-Type twice",
            ("content-type", "text/plain"),
            &data,
            is("content-type is given twice"),
        ),
        binary("no UTF-8 once decoded", ("ce-source", "%ff"), &data, is("ce-source is not UTF-8")),
        binary(
            "half of a pair, encoded",
            ("ce-source", "%ed%a0%80"),
            &data,
            is("ce-source is not UTF-8"),
        ),
        binary("a percent sign alone", ("ce-source", "%"), &data, Counts),
        binary("an escape of no digits", ("ce-source", "/%zz%4"), &data, Counts),
        binary("an escaped line feed", ("ce-source", "a%0Ab%00"), &data, Counts),
        binary("an empty ce-id", ("ce-id", ""), &data, is("id is not 1 to 128 bytes")),
        binary(
            "a long ce-source",
            ("ce-source", &"s".repeat(257)),
            &data,
            is("source is not 1 to 256 bytes"),
        ),
        binary(
            "ce-specversion 0.3",
            ("ce-specversion", "0.3"),
            &data,
            is("specversion is not 1.0"),
        ),
        binary("a bad ce-time", ("ce-time", "yesterday"), &data, is("RFC 3339")),
        binary("an unknown ce-type", ("ce-type", "com.example"), &data, Unknown),
        binary("an empty ce-type", ("ce-type", ""), &data, is("type is empty")),
        binary("headers only", none, "", is("the payload is empty")),
        binary("a body that is no JSON", none, USER, is("data is not a JSON object")),
        binary("half a body", none, &data[..20], is("data is not JSON")),
        binary("more than a body", none, &format!("{data}{data}"), is("data is not JSON")),
        binary(
            "form feed before the body",
            none,
            &format!("\u{c}{data}"),
            is("data is not a JSON object"),
        ),
        binary("a list as body", none, &format!("[{data}]"), is("data is not a JSON object")),
        binary("null as body", none, "null", is("data is not a JSON object")),
        binary("a whole event as body", none, whole, of("because of header ce-specversion")),
        binary(
            "a whole event and ce- headers",
            ("Content-Type", "application/cloudevents+json"),
            whole,
            Counts,
        ),
        binary(
            "data alone, said to be whole",
            ("Content-Type", "application/cloudevents+json"),
            &data,
            is("no CloudEvent"),
        ),
        kind("one ce- header, of those who trace", whole, Counts)
            .with(&[("ce-traceparent", "00-x")]),
        kind("ce-id alone", whole, Counts).with(&[("ce-id", "y")]),
        kind("only ce-specversion", whole, is("because of header ce-specversion"))
            .with(&[("ce-specversion", "1.0")]),
        kind("headers as in Kafka", data.as_str(), foreign)
            .with(&[("ce_specversion", "1.0"), ("ce_type", "io.botstats.goal.reached.v1")]),
        kind("headers as in AMQP", data.as_str(), foreign)
            .with(&[("cloudEvents", "type: io.botstats.goal.reached.v1")]),
        kind("gzip, said so", b"\x0b\x80".as_slice(), is("compressed"))
            .with(&[("Content-Encoding", "gzip")]),
        kind("a header that is nearly ce-", whole, Counts).with(&[("ce", "y"), ("xce-id", "z")]),
        kind("no headers", whole, Counts).bytes(b"", Some(&[])),
        kind("an empty block of headers", whole, Counts).with(&[]),
        kind("text/plain", whole, Counts).with(&[("Content-Type", "text/plain")]),
        kind("no media type", whole, Counts).with(&[("Content-Type", ";;;")]),
        kind("parameters", whole, Counts)
            .with(&[("content-TYPE", "application/CloudEvents+json ; charset=x")]),
        kind("a batch", format!("[{good}]"), is("batch+json is not read"))
            .with(&[("Content-Type", "application/cloudevents-batch+json")]),
        kind("Avro", vec![0xfe, 0x01, 0xff], is("a format that is not read"))
            .with(&[("Content-Type", "application/cloudevents+avro")]),
        kind("100 other headers", whole, Counts).with(&[("x", "y"); 100]),
    ];
    for (name, _) in &all[..5] {
        // Without the one that says how it is read, the other four are named.
        let told = match *name {
            "ce-specversion" => "header ce-specversion is missing",
            _ => format!("{} is missing", &name[3..]).leak(),
        };
        kinds.push(binary(&format!("no {name}"), (name, "absent"), &data, is(told)));
    }
    kinds
}

/// Headers that client libraries do not read, or read as the server's own.
fn broken_headers() -> Vec<Kind> {
    let unreadable = is("the headers cannot be read");
    let of = |name: &str, head: &[u8]| kind(name, good(), unreadable).bytes(head, None);
    // A status of the server in a publisher's message: the event is good all the same.
    let status = |line: &str| {
        let head = format!("NATS/1.0 {line}\r\n\r\n");
        kind(format!("the status {line}"), good(), Counts).bytes(head.as_bytes(), Some(&[]))
    };
    vec![
        of("no colon", b"NATS/1.0\r\nno colon\r\n\r\n"),
        of("space in a name", b"NATS/1.0\r\nname with space: x\r\n\r\n"),
        of("no UTF-8 in a value", b"NATS/1.0\r\nce-id: \xff\xfe\r\n\r\n"),
        of("no UTF-8 in a name", b"NATS/1.0\r\n\xff\xfe: x\r\n\r\n"),
        of("a carriage return in a value", b"NATS/1.0\r\nx: a\rb\r\n\r\n"),
        of("another version", b"NATS/9.9\r\nce-id: x\r\n\r\n"),
        of("no headers at all", b"not headers at all"),
        of("only line ends", b"\r\n\r\n"),
        status("999999"),
        status("100 Idle Heartbeat"),
        status("100 FlowControl Request"),
        status("404 No Messages"),
        status("408 Request Timeout"),
        status("409 Consumer Deleted"),
        status("503"),
    ]
}

fn subjects() -> Vec<Kind> {
    let of = |subject: &[u8], wanted| {
        let name = format!("on {}", subject.escape_ascii());
        kind(name, good(), wanted).on(subject)
    };
    let prefix = "botstats.events.acct-0";
    let long = "b".repeat(65);
    let account = Letter(Subject, "the account is not 1 to 64");
    let bot = Letter(Subject, "the bot is not 1 to 64");
    let channel = Letter(Subject, "the channel is not 1 to 64");
    vec![
        of(format!("{prefix}.b$t.web").as_bytes(), bot),
        of(format!("{prefix}.bé.web").as_bytes(), bot),
        of(format!("{prefix}.{long}.web").as_bytes(), bot),
        of(format!("{prefix}.b1.{long}").as_bytes(), channel),
        of(format!("botstats.events.{long}.b1.web").as_bytes(), account),
        of(format!("botstats.events.{USER}@example.b1.web").as_bytes(), account),
        of(format!("{prefix}.b1.we\u{1}b").as_bytes(), channel),
        of(format!("{prefix}.b1.web/../x").as_bytes(), NotStored),
        of(format!("{prefix}.b1.%77eb").as_bytes(), channel),
        of([prefix.as_bytes(), b".b1.w\xffb"].concat().as_slice(), channel),
        of(format!("{prefix}.b1").as_bytes(), NotStored),
        of(format!("{prefix}.b1.web.x").as_bytes(), NotStored),
        of(b"botstats.events", NotStored),
        of(b"botstats.Events.acct-0.b1.web", NotStored),
    ]
}
