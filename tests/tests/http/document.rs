//! Random requests made from `/openapi.json`, some as it describes them, some not. Every answer is
//! as described, and a request is refused if and only if the description refuses it, or parameters
//! that do not go together ([`go_together`]).

use std::collections::BTreeMap;

use botstats_common::io::clock;
use botstats_tests::generate::Dice;
use botstats_tests::harness::{Answer, PATIENCE, Stage, get, send};
use botstats_tests::model::{ALL_CODES, Grain, Previous, SPLITS, codes_of};
use botstats_tests::{seed, setting};
use jiff::civil::Date;
use jsonschema::Validator;
use serde_json::{Value, json};

/// Requests of a run; `BOTSTATS_TEST_REQUESTS` makes it more (or fewer).
const REQUESTS: usize = 1_200;
/// Headers that HTTP itself brings.
const OF_HTTP: [&str; 5] =
    ["content-type", "content-length", "transfer-encoding", "connection", "date"];

/// The description, its references in place.
struct Document {
    path: String,
    operations: BTreeMap<String, Value>,
    components: Value,
}

impl Document {
    fn of(mut document: Value) -> Self {
        let components = document["components"].take();
        let paths = document["paths"].as_object().unwrap();
        let operations: BTreeMap<_, _> = paths
            .iter()
            .map(|(path, item)| (path.clone(), resolved(&item["get"], &components)))
            .collect();
        let path = operations.keys().find(|path| path.contains('{')).unwrap().clone();
        Self { path, operations, components }
    }

    fn validator(&self, schema: &Value) -> Validator {
        let mut schema = schema.clone();
        schema["components"] = self.components.clone();
        jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
    }

    fn parameters(&self) -> &Vec<Value> {
        self.operations[&self.path]["parameters"].as_array().unwrap()
    }

    /// Checks an answer to an operation against its description.
    fn check(&self, path: &str, case: &str, answer: &Answer) {
        let described = &self.operations[path]["responses"][answer.status.to_string()];
        assert!(described.is_object(), "{case}: {} is not described", answer.status);
        let headers = described["headers"].as_object().unwrap();
        for (name, header) in headers {
            let value = answer.header(&name.to_ascii_lowercase());
            let Some(text) = value else {
                assert_ne!(header["required"], true, "{case}: no {name} in {answer:?}");
                continue;
            };
            let number = header["schema"]["type"] == "integer";
            let value = if number { json!(text.parse::<u64>().unwrap()) } else { json!(text) };
            self.valid(case, &header["schema"], &value);
        }
        for (name, _) in &answer.headers {
            let known = OF_HTTP.contains(&name.as_str())
                || headers.keys().any(|described| described.eq_ignore_ascii_case(name));
            assert!(known, "{case}: {name} is not described for {}", answer.status);
        }
        let content_type = answer.header("content-type").unwrap();
        let media_type = content_type.split(';').next().unwrap();
        let schema = &described["content"][media_type]["schema"];
        assert!(schema.is_object(), "{case}: {media_type} is not described for {}", answer.status);
        assert!(answer.whole, "{case}");
        if answer.header("content-encoding").is_some() {
            return;
        }
        match media_type {
            "text/plain" => self.valid(case, schema, &json!(answer.text())),
            "text/csv" => {
                let text = answer.text();
                let first = ["GroupLabel,", "Period,"];
                assert!(first.iter().any(|column| text.starts_with(column)), "{case}");
            }
            "application/x-ndjson" => {
                let row = json!({ "$ref": "#/components/schemas/Row" });
                let rows = answer.text().lines().map(|line| serde_json::from_str(line).unwrap());
                rows.for_each(|line: Value| self.valid(case, &row, &line));
            }
            _ => self.valid(case, schema, &answer.json()),
        }
        if answer.status >= 400 {
            assert_eq!(answer.json()["status"], answer.status, "{case}");
        }
    }

    fn valid(&self, case: &str, schema: &Value, value: &Value) {
        if let Err(error) = self.validator(schema).validate(value) {
            panic!("{case}: {error} at {}", error.instance_path());
        }
    }
}

/// The same with every reference outside schemas replaced by what it refers to.
fn resolved(value: &Value, components: &Value) -> Value {
    match value {
        Value::Object(fields) => match fields.get("$ref").and_then(Value::as_str) {
            Some(target) if !target.contains("/schemas/") => {
                let pointer = target.strip_prefix("#/components").unwrap();
                resolved(components.pointer(pointer).unwrap(), components)
            }
            _ => fields
                .iter()
                .map(|(name, value)| (name.clone(), resolved(value, components)))
                .collect(),
        },
        Value::Array(items) => items.iter().map(|item| resolved(item, components)).collect(),
        other => other.clone(),
    }
}

/// A value as JSON, if it reads as such a number, else as text.
fn as_json(text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => json!(number),
        _ => json!(text),
    }
}

fn escaped(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let byte =
        |byte: u8| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(byte).collect()
}

fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        // Everything here was escaped, so two digits follow each percent sign.
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}

const JUNK: [&str; 32] = [
    "",
    "0",
    "-1",
    "31",
    "19",
    "01",
    "1.5",
    "1e1",
    "null",
    "true",
    "[]",
    "a b",
    "\u{0}",
    "/",
    "..",
    "%",
    "%41",
    "\u{e9}",
    "\u{2603}",
    "week",
    "'",
    "\"",
    "zero",
    "*",
    "p0",
    "p100",
    "p1,p1",
    "within:604801",
    "2026-02-30",
    "2026-1-01",
    "501",
    "bot,bot",
];
const STATS: [&str; 8] =
    ["p1", "p50", "p99", "min", "max", "within:1", "within:30", "within:604800"];

/// The values of a request's parameters as text.
type Sent = BTreeMap<String, String>;

/// Whether to give a query parameter a value.
fn is_given(dice: &mut Dice, name: &str, sent: &Sent) -> bool {
    match name {
        "from" | "to" if sent["DAYS"] == "*" => !dice.one_in(12),
        "from" | "to" => dice.one_in(40),
        "top" => dice.one_in(if sent.contains_key("split") { 2 } else { 40 }),
        _ => dice.one_in(6),
    }
}

/// Whether values go together that are allowed each.
fn go_together(sent: &Sent, today: Date) -> bool {
    let given = |name: &str| sent.get(name).map(String::as_str);
    let date = |name: &str| given(name).and_then(|date| date.parse::<Date>().ok());
    let has_dates = match (given("DAYS"), date("from"), date("to")) {
        (Some("*"), Some(from), Some(to)) => {
            let dates = (to - from).get_days() + 1;
            let mode = sent["GROUPMODE"].to_ascii_lowercase();
            let most = if ["15min", "hour"].contains(&mode.as_str()) { 62 } else { 400 };
            // No date is drawn that is today only somewhere.
            (1..=most).contains(&dates) && from <= today
        }
        (days, None, None) => days != Some("*") && given("from").is_none() && given("to").is_none(),
        _ => false,
    };
    let codes = sent["TYPES"].split(',').filter_map(|code| code.parse::<u8>().ok());
    let mut codes = codes.peekable();
    let is_split = match given("split") {
        Some(split) => codes.all(|code| codes_of(split).contains(&code)),
        None => given("top").is_none(),
    };
    let is_compared = given("previous").is_some();
    has_dates && is_split && !(is_compared && sent["GROUPMODE"].eq_ignore_ascii_case("weekhour"))
}

/// A value for a parameter: what is sent, and what it is to the description.
fn value(
    dice: &mut Dice,
    name: &str,
    keys: &[String],
    today: Date,
    sent: &Sent,
) -> (String, Value) {
    let junk = dice.one_in(12);
    if name == "TYPES" {
        let count = if dice.one_in(20) { 62 + dice.index(6) } else { 1 + dice.index(5) };
        let items: Vec<String> = (0..count)
            .map(|_| match junk && dice.one_in(2) {
                true => escaped(JUNK[dice.index(JUNK.len())]),
                false if junk && dice.one_in(2) => (*dice.pick(&["19", "99", "109"])).to_owned(),
                false => dice.pick(&ALL_CODES).to_string(),
            })
            .collect();
        let comma = if dice.one_in(3) { "%2C" } else { "," };
        return (items.join(comma), items.iter().map(|item| as_json(item)).collect());
    }
    let text = match name {
        _ if junk => JUNK[dice.index(JUNK.len())].to_owned(),
        "APIKEY" if dice.one_in(2) => "*".to_owned(),
        "APIKEY" if dice.one_in(2) => dice.pick(keys).clone(),
        "APIKEY" => {
            let length = *dice.pick(&[0, 1, 7, 8, 9, 47, 127, 128, 129, 200]);
            let letters = b"abcXYZ0189_-";
            (0..length).map(|_| char::from(*dice.pick(letters))).collect()
        }
        "GROUPMODE" => {
            let mode = *dice.pick(&Grain::ALL.map(Grain::name));
            mode.chars().map(|c| if dice.one_in(3) { c.to_ascii_uppercase() } else { c }).collect()
        }
        "DAYS" if dice.one_in(3) => "*".to_owned(),
        "DAYS" => dice.below(33).to_string(),
        "from" | "to" => {
            let ago = *dice.pick(&[2, 3, 10, 30, 90, 300, -3]);
            (today - jiff::Span::new().days(ago)).to_string()
        }
        "by" => (*dice.pick(&["bot,channel", "bot", "channel", "none"])).to_owned(),
        "previous" => dice.pick(&Previous::ALL).1.to_owned(),
        "stats" => dice.some_of(&STATS).join(","),
        "split" => {
            let first = sent["TYPES"].split(',').next().and_then(|code| code.parse().ok());
            let fits = |split: &&&str| first.is_some_and(|code| codes_of(split).contains(&code));
            let fitting = SPLITS.iter().find(fits).filter(|_| !dice.one_in(4));
            (*fitting.unwrap_or(dice.pick(&SPLITS))).to_owned()
        }
        "top" => dice.pick(&[0, 1, 50, 500, 501]).to_string(),
        "fill" => "zero".to_owned(),
        other => panic!("{other} is new: say here what it may be"),
    };
    let as_described = match name {
        "DAYS" | "top" => as_json(&text),
        "stats" => text.split(',').collect(),
        _ => json!(text),
    };
    (escaped(&text), as_described)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_as_described() {
    let requests = setting("BOTSTATS_TEST_REQUESTS", REQUESTS);
    let seed = seed();
    let mut dice = Dice::new(seed);
    let mut statuses = BTreeMap::<(&str, u16), u32>::new();
    let today = jiff::Timestamp::from_millisecond(clock::now_ms()).unwrap();
    let today = jiff::tz::TimeZone::UTC.to_datetime(today).date();
    for (window, share) in [("0s", 4), ("1h", 1)] {
        let stage = Stage::start(window, 3).await;
        let described = get(stage.query.http, "/openapi.json", &[]).await;
        let document = Document::of(described.json());
        document.check("/openapi.json", "the description", &described);
        let health = get(stage.query.http, "/healthz", &[]).await;
        document.check("/healthz", "the health", &health);
        assert_eq!(health.status, 200);
        let mut keys: Vec<String> = stage.logins[0].keys.values().cloned().collect();
        keys.push(stage.logins[1].keys["b1"].clone());
        let validators: Vec<(String, bool, Validator)> = document
            .parameters()
            .iter()
            .map(|p| {
                let in_path = p["in"] == "path";
                (p["name"].as_str().unwrap().to_owned(), in_path, document.validator(&p["schema"]))
            })
            .collect();
        for _ in 0..requests * share / 5 {
            let (mut path, mut query, mut allowed) = (document.path.clone(), String::new(), true);
            let mut all = Sent::new();
            for (name, in_path, validator) in &validators {
                if name == "X-Request-Id" || (!in_path && !is_given(&mut dice, name, &all)) {
                    continue;
                }
                let (sent, meant) = value(&mut dice, name, &keys, today, &all);
                allowed &= validator.is_valid(&meant);
                if *in_path {
                    path = path.replace(&format!("{{{name}}}"), &sent);
                } else {
                    let between = if query.is_empty() { '?' } else { '&' };
                    query = format!("{query}{between}{name}={sent}");
                }
                let sent = percent_decoded(&sent);
                all.insert(name.clone(), sent);
            }
            allowed = allowed && go_together(&all, today);
            let token = match dice.index(12) {
                0 => None,
                1 => Some("bst_nobodys".to_owned()),
                // In the second round there is one 200 for each of them.
                n => Some(stage.logins[n % 3].token.clone()),
            };
            let accept = *dice.pick(&[
                "*/*",
                "application/json",
                "text/csv",
                "application/x-ndjson",
                "text/html",
                "text/*;q=0.5",
            ]);
            let coding = *dice.pick(&["", "gzip", "zstd", "identity;q=0", "br"]);
            let method =
                if dice.one_in(15) { *dice.pick(&["POST", "PUT", "OPTIONS"]) } else { "GET" };
            let bearer = token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n"));
            let request = format!(
                "{method} {path}{query} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept: {accept}\r\n\
                 Accept-Encoding: {coding}\r\n{}\r\n",
                bearer.unwrap_or_default()
            );
            let case = format!("seed {seed}: {request}");
            let answer = send(stage.query.http, request.as_bytes(), PATIENCE).await;
            let answer = answer.unwrap_or_else(|e| panic!("{case}: {e}"));
            *statuses.entry((window, answer.status)).or_default() += 1;
            document.check(&document.path, &case, &answer);
            assert!(answer.status < 500, "{case}: {answer:?}");
            // What comes before the parameters, then what is described of them, both ways.
            let known = token.is_some_and(|token| token != "bst_nobodys");
            let reaches_back = all.contains_key("from") || all.contains_key("previous");
            if allowed && known && answer.status == 400 && reaches_back {
                assert_eq!(answer.json()["type"], "urn:botstats:problem:incomplete", "{case}");
                continue;
            }
            let expected: &[u16] = match (method, known, allowed) {
                ("GET", true, true) => &[200, 404, 406, 429],
                ("GET", true, false) => &[400],
                ("GET", false, _) => &[401],
                _ => &[405],
            };
            assert!(expected.contains(&answer.status), "{case}: {answer:?}");
        }
    }
    eprintln!("{statuses:?}");
    for status in [200, 400, 401, 404, 405, 406] {
        assert!(statuses.contains_key(&("0s", status)), "never a {status}: {statuses:?}");
    }
    assert!(statuses.contains_key(&("1h", 429)), "never a 429: {statuses:?}");
}
