//! The document against what the service really answers.

use std::collections::BTreeSet;

use botstats_common::metric::TypeCode;
use botstats_common::split::Split;
use botstats_common::stat::Stat;
use botstats_common::wire::{Cell, Chunk, Pair, Samples, SplitBy};

use super::operations::example_row;
use super::parameters::GROUP_MODES;
use super::*;
use crate::answer::columns::{COLUMNS, columns};
use crate::answer::render::Format;
use crate::answer::{Labels, Names, render_all};
use crate::problem::Problem;
use crate::request::question::{GroupMode, Previous, Question};
use crate::window::Windows;

/// Every `$ref` in the document.
fn all_references(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get("$ref") {
                into.insert(target.clone());
            }
            fields.values().for_each(|field| all_references(field, into));
        }
        Value::Array(items) => items.iter().for_each(|item| all_references(item, into)),
        _ => {}
    }
}

#[test]
fn it_reads_back_and_refers_to_what_is_there() {
    let document: Value = serde_json::from_slice(&json()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut targets = BTreeSet::new();
    all_references(&document, &mut targets);
    assert!(targets.len() > 10);
    for target in targets {
        let pointer = target.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{target}");
    }
}

#[test]
fn every_problem_is_described() {
    let document = document();
    let described =
        [ACCOUNT_PATH, BOT_PATH].map(|path| &document["paths"][path]["get"]["responses"]);
    let types = &document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"];
    for problem in Problem::examples() {
        let body = serde_json::to_value(problem.body("r")).unwrap();
        assert!(types.as_array().unwrap().contains(&body["type"]), "{body}");
        let status = problem.status().as_str().to_owned();
        assert!(described.iter().all(|answers| answers.get(&status).is_some()), "{status}");
        let required = &document["components"]["schemas"]["Problem"]["required"];
        for name in required.as_array().unwrap() {
            assert!(body.get(name.as_str().unwrap()).is_some(), "{name}");
        }
    }
}

#[test]
fn the_example_row_is_what_is_rendered() {
    let question = Question::parse(["*", "10", "day", "3"], None).unwrap();
    let now_ms = "2026-11-22T15:20:00Z".parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let windows = Windows::new(now_ms, &jiff::tz::TimeZone::UTC, &question).unwrap();
    let entry = br#"{"name":"Pizza","channels":{"web":"Web"}}"#;
    let entry = botstats_common::directory::BotEntry::parse(entry).unwrap();
    let names = Names::from([("b1".parse().unwrap(), entry)]);
    let samples = vec![Samples { code: TypeCode::TakeoverRate, count: 3, sum: 1 }];
    let chunk = Chunk {
        last: true,
        rows: vec![Pair { bot: "b1".parse().unwrap(), channel: "web".parse().unwrap() }.into()],
        cells: vec![Cell { group: 0, row: 0, samples, stats: Vec::new() }],
        ..Chunk::default()
    };
    let labels = Labels { bots: names.into(), ..Labels::default() };
    let bytes = render_all(&question, &labels, &windows, &[chunk], Format::Json).unwrap();
    let rows: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(rows, json!([example_row()]));
}

#[test]
fn every_column_is_described() {
    let row = &document()["components"]["schemas"]["Row"];
    let properties = row["properties"].as_object().unwrap();
    let mut question = Question::parse(["*", "17", "day", "3"], None).unwrap();
    assert_eq!(row["required"], json!(columns(&question)));
    question.previous = Some(Previous::Week);
    question.split = Some(SplitBy { split: Split::Operator, top: 1 });
    question.stats = vec![Stat::Min, Stat::Max];
    let mut described: Vec<String> = properties.keys().cloned().collect();
    let mut all = columns(&question);
    assert_eq!(all.len(), COLUMNS.len() + 6);
    all.sort();
    described.sort();
    assert_eq!(all, described);
    let patterns: Vec<&String> = row["patternProperties"].as_object().unwrap().keys().collect();
    assert_eq!(patterns, ["^P[1-9][0-9]?$", "^Within[1-9][0-9]{0,5}$"]);
}

#[test]
fn every_group_mode_is_described() {
    let modes: Vec<GroupMode> = GROUP_MODES.iter().map(|name| name.parse().unwrap()).collect();
    for mode in modes {
        // A new one must be listed; the compiler asks for it here.
        match mode {
            GroupMode::Quarter
            | GroupMode::Hour
            | GroupMode::Day
            | GroupMode::Week
            | GroupMode::Month
            | GroupMode::Year
            | GroupMode::Total
            | GroupMode::WeekHour => {}
        }
    }
    let pattern = &document()["components"]["parameters"]["GROUPMODE"]["schema"]["pattern"];
    let pattern = pattern.as_str().unwrap();
    assert!(pattern.starts_with("^(15[Mm][Ii][Nn]|[Hh][Oo][Uu][Rr]|"), "{pattern}");
}
