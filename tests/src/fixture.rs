//! The worked examples: events in, questions with their rows out.

use std::collections::BTreeMap;
use std::fmt;

use botstats_common::io::clock;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::model::{
    Asked, CODES, Dates, Directory, Grain, GroupMode, Message, Previous, Question, Row, SPLITS,
    Stat, parse_time_ms,
};

const EVENTS: &str = include_str!("../tests/fixtures/events.ndjson");
const DIRECTORY: &str = include_str!("../tests/fixtures/directory.json");
const EXPECTED: &str = include_str!("../tests/fixtures/expected.ndjson");

const PART_TWO: &str = include_str!("../tests/fixtures/part2.json");

/// A moment at which every event of the example is accepted.
const STORED: &str = "2026-11-22T15:30:00Z";
/// The same for the example of part two.
const PART_TWO_STORED: &str = "2026-11-20T12:00:00Z";

/// The events in order of arrival, with their duplicates.
pub fn messages() -> Vec<Message> {
    messages_of(EVENTS.lines().map(|line| serde_json::from_str(line).expect("JSON")), STORED)
}

/// The events of both examples, moved together so that each example's moment is `now_ms`.
pub fn messages_until(now_ms: i64) -> Vec<Message> {
    let part_one = (messages(), parse_time_ms(STORED).expect("a time"));
    let part_two = part_two();
    [part_one, (part_two.messages, part_two.now_ms)]
        .into_iter()
        .flat_map(|(messages, moment)| {
            messages.into_iter().map(move |message| later(message, now_ms - moment))
        })
        .collect()
}

/// The message with the time of its event so much later, if it has one.
fn later(mut message: Message, by_ms: i64) -> Message {
    let mut event: Value = serde_json::from_slice(&message.payload).expect("JSON");
    if let Some(time) = event["time"].as_str().and_then(parse_time_ms) {
        event["time"] = clock::rfc3339_ms(time + by_ms).into();
        message.payload = event.to_string().into_bytes();
    }
    message
}

fn messages_of(events: impl Iterator<Item = Value>, stored: &str) -> Vec<Message> {
    let stored_ns = parse_time_ms(stored).expect("a time") * 1_000_000;
    let parts = events.map(|event| (text(&event["subject"]), event["payload"].to_string()));
    (1..)
        .zip(parts)
        .map(|(sequence, (subject, payload))| Message {
            sequence,
            stored_ns,
            subject,
            headers: Vec::new(),
            payload: payload.into_bytes(),
        })
        .collect()
}

/// The questions, the directory in force for each, and the rows that answer it.
pub fn questions() -> Vec<(Question, Directory, Vec<Value>)> {
    EXPECTED
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let account = text(&line["account"]);
            let directory = directory(&account, text(&line["timezone"]));
            let rows = line["rows"].as_array().expect("rows").iter().map(shortest).collect();
            let question = Question {
                account,
                bots: match line["bots"].as_str().expect("bots") {
                    "*" => None,
                    bot => Some(vec![bot.to_owned()]),
                },
                types: types(line["types"].as_str().expect("types")),
                mode: mode(line["groupmode"].as_str().expect("a mode")),
                days: line["days"].as_u64().and_then(|d| d.try_into().ok()).expect("days"),
                fill: line["fill"] == "zero",
                now_ms: parse_time_ms(line["now"].as_str().expect("now")).expect("a time"),
            };
            (question, directory, rows)
        })
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn types(list: &str) -> Vec<u8> {
    match list {
        "0-18" => CODES.to_vec(),
        list => list.split(',').map(|code| code.parse().expect("a code")).collect(),
    }
}

fn mode(name: &str) -> GroupMode {
    *GroupMode::ALL.iter().find(|mode| mode.name() == name).expect("a mode")
}

fn directory(account: &str, timezone: String) -> Directory {
    let all: Value = serde_json::from_str(DIRECTORY).expect("JSON");
    directory_of(&all["accounts"][account], timezone)
}

fn directory_of(account: &Value, timezone: String) -> Directory {
    let mut directory = Directory { timezone, bots: BTreeMap::new(), channels: BTreeMap::new() };
    for (bot, entry) in account["bots"].as_object().expect("bots") {
        directory.bots.insert(bot.clone(), text(&entry["name"]));
        for (channel, name) in entry["channels"].as_object().expect("channels") {
            directory.channels.insert((bot.clone(), channel.clone()), text(name));
        }
    }
    directory
}

/// The example writes whole numbers of seconds and percent as `420.0`; answers write `420`.
fn shortest(row: &Value) -> Value {
    let mut row = row.clone();
    for field in ["Value", "Sum"] {
        row[field] = whole(&row[field]);
    }
    row
}

fn whole(number: &Value) -> Value {
    match number.to_string().strip_suffix(".0") {
        Some(whole) if number.is_f64() => serde_json::from_str(whole).expect("a whole number"),
        _ => number.clone(),
    }
}

/// The example of part two.
#[derive(Debug)]
pub struct PartTwo {
    /// The events in order of arrival, with their duplicates.
    pub messages: Vec<Message>,
    pub directory: Directory,
    /// The moment of its questions, in Unix milliseconds.
    pub now_ms: i64,
    /// Operators' names by id.
    pub operators: BTreeMap<String, String>,
    /// The questions, and the rows that answer them.
    pub questions: Vec<(Asked, Vec<Row>)>,
}

/// Reads the example of part two.
pub fn part_two() -> PartTwo {
    let all: Value = serde_json::from_str(PART_TWO).expect("JSON");
    let events = all["events"].as_array().expect("events").iter().cloned();
    let account = &all["directory"]["accounts"]["acme"];
    let operators = account["operators"].as_object().expect("operators").iter();
    let now_ms = parse_time_ms(&text(&all["now"])).expect("a time");
    let questions = all["questions"].as_array().expect("questions");
    // Values know nothing of the order of columns.
    let in_order: InOrder = serde_json::from_str(PART_TWO).expect("JSON");
    let rows = in_order.questions.into_iter().map(|question| {
        let rows = question.rows.into_iter();
        rows.map(|Columns(row)| row.into_iter().map(|(k, v)| (k, whole(&v))).collect()).collect()
    });
    PartTwo {
        messages: messages_of(events, PART_TWO_STORED),
        directory: directory_of(account, text(&all["timezone"])),
        now_ms,
        operators: operators.map(|(id, name)| (id.clone(), text(name))).collect(),
        questions: questions.iter().map(|question| asked(question, now_ms)).zip(rows).collect(),
    }
}

#[derive(Deserialize)]
struct InOrder {
    questions: Vec<QuestionInOrder>,
}

#[derive(Deserialize)]
struct QuestionInOrder {
    rows: Vec<Columns>,
}

struct Columns(Row);

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RowVisitor;

        impl<'de> Visitor<'de> for RowVisitor {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut row = Row::new();
                while let Some(column) = map.next_entry()? {
                    row.push(column);
                }
                Ok(Columns(row))
            }
        }

        deserializer.deserialize_map(RowVisitor)
    }
}

fn asked(question: &Value, now_ms: i64) -> Asked {
    let parameters: BTreeMap<&str, &str> = question["params"]
        .as_array()
        .expect("parameters")
        .iter()
        .map(|pair| (pair[0].as_str().expect("a name"), pair[1].as_str().expect("a value")))
        .collect();
    let date = |name| parameters[name].parse().expect("a date");
    let grain = question["groupmode"].as_str().expect("a mode");
    let split = parameters.get("split");
    Asked {
        account: "acme".to_owned(),
        bots: match question["bots"].as_str().expect("bots") {
            "*" => None,
            bot => Some(vec![bot.to_owned()]),
        },
        types: types(question["types"].as_str().expect("types")),
        grain: *Grain::ALL.iter().find(|of| of.name() == grain).expect("a grain"),
        dates: match question["days"].as_str().expect("days") {
            "*" => Dates::FromTo(date("from"), date("to")),
            number => Dates::Last(number.parse().expect("a number")),
        },
        by: match parameters.get("by").copied() {
            None | Some("bot,channel") => [true, true],
            Some("bot") => [true, false],
            Some("channel") => [false, true],
            Some(none) => [none != "none"; 2],
        },
        previous: parameters.get("previous").map(|name| {
            Previous::ALL.iter().find(|(_, of)| of == name).expect("an earlier window").0
        }),
        stats: parameters.get("stats").map_or(Vec::new(), |l| l.split(',').map(stat).collect()),
        split: split.map(|name| *SPLITS.iter().find(|of| *of == name).expect("a split")),
        top: parameters.get("top").map_or(50, |number| number.parse().expect("a number")),
        fill: parameters.contains_key("fill"),
        now_ms,
    }
}

fn stat(name: &str) -> Stat {
    match name {
        "min" => Stat::Min,
        "max" => Stat::Max,
        name => match name.strip_prefix("within:") {
            Some(seconds) => Stat::Within(seconds.parse().expect("seconds")),
            None => Stat::Percentile(name[1..].parse().expect("a percentile")),
        },
    }
}
