//! The worked example: events in, questions with their rows out.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::{CODES, Directory, GroupMode, Message, Question, parse_time_ms};

const EVENTS: &str = include_str!("../tests/fixtures/events.ndjson");
const DIRECTORY: &str = include_str!("../tests/fixtures/directory.json");
const EXPECTED: &str = include_str!("../tests/fixtures/expected.ndjson");

/// A moment at which every event of the example is accepted.
const STORED: &str = "2026-11-22T15:30:00Z";

/// The events in order of arrival, with their duplicates.
pub fn messages() -> Vec<Message> {
    let stored_ns = parse_time_ms(STORED).expect("a time") * 1_000_000;
    let lines = EVENTS.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let parts = lines.map(|line| (text(&line["subject"]), line["payload"].to_string()));
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
    let mut directory = Directory { timezone, bots: BTreeMap::new(), channels: BTreeMap::new() };
    for (bot, entry) in all["accounts"][account]["bots"].as_object().expect("bots") {
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
        let whole = row[field].to_string().strip_suffix(".0").map(str::to_owned);
        if let Some(whole) = whole {
            row[field] = serde_json::from_str(&whole).expect("a whole number");
        }
    }
    row
}
