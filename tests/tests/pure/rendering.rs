//! The worked example: its questions with their rows. The cells of each answer are taken back from
//! the expected rows; window, labels, order, values, filled rows and all three formats must come
//! out.

use std::collections::BTreeMap;

use botstats_common::directory::{BotEntry, time_zone};
use botstats_common::ids::Bot;
use botstats_common::metric::{Kind, TypeCode};
use botstats_common::wire::{Cell, Chunk, Pair, RowKey, Samples};
use botstats_query::{COLUMNS, Format, Labels, Names, Question, Windows, render_all};
use botstats_tests::model::TYPES;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Case {
    types: String,
    groupmode: String,
    days: u8,
    now: String,
    timezone: String,
    fill: Option<String>,
    rows: Vec<serde_json::Map<String, Value>>,
}

impl Case {
    fn question(&self) -> Question {
        let types = if self.types == "0-18" { TYPES } else { &self.types };
        let query = self.fill.as_ref().map(|fill| format!("fill={fill}"));
        let days = self.days.to_string();
        Question::parse(["*", types, &self.groupmode, &days], query.as_deref()).unwrap()
    }

    fn windows(&self, question: &Question) -> Windows {
        let now = self.now.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        Windows::new(now, &time_zone(&self.timezone).unwrap(), question).unwrap()
    }

    /// The cells that the rows were made of, pairs in the order of their ids.
    fn chunk(&self, windows: &Windows) -> Chunk {
        let text = |row: &serde_json::Map<String, Value>, name: &str| {
            row[name].as_str().unwrap().to_owned()
        };
        let pair = |row: &_| Pair {
            bot: text(row, "BotId").parse().unwrap(),
            channel: text(row, "ChannelId").parse().unwrap(),
        };
        let mut pairs: Vec<Pair> = self.rows.iter().map(pair).collect();
        pairs.sort();
        pairs.dedup();
        let mut cells: BTreeMap<(usize, usize), Vec<Samples>> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| row["Count"] != 0) {
            let (start, label) = (text(row, "GroupStart"), text(row, "GroupLabel"));
            let group = windows
                .current
                .groups
                .iter()
                .position(|group| group.start_utc.as_ref() == Some(&start) && group.label == label)
                .unwrap_or_else(|| panic!("no group {label} from {start}"));
            let code =
                TypeCode::try_from(u8::try_from(row["EventType"].as_u64().unwrap()).unwrap())
                    .unwrap();
            let sum = row["Sum"].as_f64().unwrap();
            let sum = if code.kind() == Kind::DURATION { (sum * 1000.0).round() } else { sum };
            let pair = pairs.iter().position(|known| *known == pair(row)).unwrap();
            cells.entry((group, pair)).or_default().push(Samples {
                code,
                count: row["Count"].as_u64().unwrap(),
                sum: format!("{sum}").parse().unwrap(),
            });
        }
        let cells = cells.into_iter().map(|((group, pair), samples)| Cell {
            group: group.try_into().unwrap(),
            row: pair.try_into().unwrap(),
            samples,
            stats: Vec::new(),
        });
        let rows = pairs.iter().cloned().map(RowKey::from).collect();
        Chunk { last: true, cells: cells.collect(), rows, ..Chunk::default() }
    }
}

fn labels() -> Labels {
    let entry = |json: &str| BotEntry::parse(json.as_bytes()).unwrap();
    let bot = |id: &str| id.parse::<Bot>().unwrap();
    let bots = Names::from([
        (bot("b1"), entry(r#"{"name":"Pizza","channels":{"web":"Web","whatsapp":"WhatsApp"}}"#)),
        (bot("b2"), entry(r#"{"name":"Taxi"}"#)),
    ]);
    Labels { bots: bots.into(), ..Labels::default() }
}

fn cases() -> Vec<Case> {
    let cases: Vec<Case> = include_str!("../fixtures/expected.ndjson")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(cases.len(), 24);
    cases
}

fn render(case: &Case, format: Format) -> Vec<u8> {
    let question = case.question();
    let windows = case.windows(&question);
    let chunk = case.chunk(&windows);
    render_all(&question, &labels(), &windows, &[chunk], format).unwrap()
}

/// Numbers by value: the example writes 420.0 where the answer has 420.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}

fn check_rows(got: &[serde_json::Map<String, Value>], case: &Case) {
    for (got, expected) in got.iter().zip(&case.rows) {
        let equal = COLUMNS.iter().all(|name| same(&got[*name], &expected[*name]));
        assert!(equal && got.len() == COLUMNS.len(), "{got:?}\n{expected:?}");
    }
    assert_eq!(got.len(), case.rows.len());
}

#[test]
fn json() {
    for case in cases() {
        let bytes = render(&case, Format::Json);
        check_rows(&serde_json::from_slice::<Vec<_>>(&bytes).unwrap(), &case);
        let text = String::from_utf8(bytes).unwrap();
        assert!(!text.contains(".0,"), "numbers are in their shortest form");
        let in_order = COLUMNS.map(|name| text.find(&format!("\"{name}\":")).unwrap());
        assert!(in_order.is_sorted(), "{in_order:?}");
    }
}

#[test]
fn ndjson() {
    for case in cases() {
        let text = String::from_utf8(render(&case, Format::Ndjson)).unwrap();
        assert!(text.ends_with('\n'));
        let rows: Vec<_> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        check_rows(&rows, &case);
    }
}

#[test]
fn csv() {
    for case in cases() {
        let text = String::from_utf8(render(&case, Format::Csv)).unwrap();
        let mut lines = text.strip_suffix("\r\n").unwrap().split("\r\n");
        assert_eq!(lines.next().unwrap(), COLUMNS.join(","));
        let rows: Vec<_> = lines
            .map(|line| {
                let fields = line.split(',').zip(COLUMNS).map(|(field, name)| {
                    // Nothing in the example needs quotes.
                    let text = Value::String(field.to_owned());
                    let number = !matches!(name, "GroupLabel" | "BotId" | "ChannelId");
                    let read = number.then(|| serde_json::from_str(field).ok()).flatten();
                    let empty = if field.is_empty() { Value::Null } else { text };
                    (name.to_owned(), read.unwrap_or(empty))
                });
                fields.collect()
            })
            .collect();
        check_rows(&rows, &case);
    }
}

#[test]
fn cells_in_any_order_and_cut_anyhow_give_the_same_bytes() {
    for case in cases() {
        let question = case.question();
        let windows = case.windows(&question);
        let whole = case.chunk(&windows);
        let mut backwards = whole.clone();
        backwards.cells.reverse();
        backwards.rows.reverse();
        let last = u32::try_from(whole.rows.len()).unwrap() - 1;
        backwards.cells.iter_mut().for_each(|cell| cell.row = last - cell.row);
        let mut pieces: Vec<Chunk> = backwards
            .cells
            .chunks(3)
            .enumerate()
            .map(|(number, cells)| Chunk {
                number: number.try_into().unwrap(),
                rows: if number == 0 { backwards.rows.clone() } else { Vec::new() },
                cells: cells.to_vec(),
                ..Chunk::default()
            })
            .collect();
        pieces.last_mut().unwrap().last = true;
        let of = |chunks: &[Chunk]| {
            render_all(&question, &labels(), &windows, chunks, Format::Json).unwrap()
        };
        assert_eq!(of(&pieces), of(&[whole]));
    }
}
