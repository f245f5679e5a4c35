//! The rows of hand-made cells.

use std::collections::BTreeMap;
use std::sync::Arc;

use botstats_common::directory::BotEntry;
use botstats_common::metric::TypeCode;
use botstats_common::quarter::{DAY_MS, Quarter};
use botstats_common::split::Split;
use botstats_common::stat::Stat;
use botstats_common::wire::{Cell, Chunk, Pair, RowKey, RowName, Samples, SplitBy};
use jiff::civil::Date;
use proptest::prelude::*;

use super::columns::{COLUMNS, columns};
use super::*;
use crate::request::question::Previous;
use crate::window::Window;

/// A question about all bots, for a day.
pub(crate) fn question(types: &str, mode: &str) -> Question {
    Question::parse(["*", types, mode, "1"], None).unwrap()
}

fn of_hours(types: &str, fill_zero: bool) -> Question {
    Question { fill_zero, ..question(types, "hour") }
}

/// Hours of a day in UTC, the last one running.
fn hours(number: i64) -> Windows {
    let midnight_ms = 20_000 * DAY_MS;
    let now_ms = midnight_ms + (number - 1) * 3_600_000 + 1;
    Windows::new(now_ms, &jiff::tz::TimeZone::UTC, &question("0", "hour")).unwrap()
}

/// Windows of groups with these labels and numbers of parts.
fn windows_of(current: &[(&str, u32)], earlier: Option<&[(&str, u32)]>) -> Windows {
    let group = |(label, parts): &(&str, u32)| Group {
        label: (*label).to_owned(),
        start_utc: None,
        complete: true,
        parts: *parts,
    };
    let window = |groups: &[_]| Window {
        start: Quarter(0),
        groups: groups.iter().map(group).collect(),
        runs: Vec::new(),
    };
    Windows {
        current: window(current),
        earlier: earlier.map(window),
        dates: 1,
        last_date: Date::constant(2026, 11, 20),
    }
}

pub(crate) fn pair(bot: &str, channel: &str) -> Pair {
    Pair { bot: bot.parse().unwrap(), channel: channel.parse().unwrap() }
}

/// An id and a name.
type Named = (&'static str, &'static str);

/// The names of bots and of their channels.
pub(crate) fn names(bots: &[(&str, &str, &[Named])]) -> Labels {
    let entry = |name: &str, channels: &[Named]| {
        let channels: BTreeMap<_, _> = channels.iter().copied().collect();
        let json = serde_json::json!({"name": name, "channels": channels}).to_string();
        BotEntry::parse(json.as_bytes()).unwrap()
    };
    let bots: Names = bots
        .iter()
        .map(|(id, name, channels)| (id.parse().unwrap(), entry(name, channels)))
        .collect();
    Labels { bots: Arc::new(bots), ..Labels::default() }
}

fn sample(code: TypeCode, count: u64, sum: u64) -> Samples {
    Samples { code, count, sum }
}

/// One chunk in which every pair has `codes` once in every group named.
fn chunk(pairs: &[Pair], groups: &[u32], codes: &[u8]) -> Chunk {
    let samples: Vec<Samples> =
        codes.iter().map(|code| sample((*code).try_into().unwrap(), 1, 1)).collect();
    let places = 0..u32::try_from(pairs.len()).unwrap();
    let cell = |group: u32, row| Cell { group, row, samples: samples.clone(), stats: Vec::new() };
    let cells = groups.iter().flat_map(|g| places.clone().map(|p| cell(*g, p))).collect();
    let rows = pairs.iter().cloned().map(RowKey::from).collect();
    Chunk { last: true, rows, cells, ..Chunk::default() }
}

fn render(
    question: &Question,
    labels: &Labels,
    windows: &Windows,
    chunk: Chunk,
    format: Format,
) -> String {
    let bytes = render_all(question, labels, windows, &[chunk], format).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn bytes_of_each_format() {
    let names = names(&[("b1", "A \"b\", c", &[])]);
    let pairs = [pair("b1", "web")];
    let asked = of_hours("9,13", true);
    let of = |format| render(&asked, &names, &hours(3), chunk(&pairs, &[2], &[9]), format);
    insta::assert_snapshot!(of(Format::Csv).replace("\r\n", "|\n"), @r#"
    GroupLabel,BotName,ChannelName,EventLabel,EventType,Value,Count,Sum,Unit,BotId,ChannelId,GroupStart,Complete|
    2024-10-04T00:00:00Z,"A ""b"", c",web,Time To Pick Up,9,,0,0,seconds,b1,web,2024-10-04T00:00:00Z,true|
    2024-10-04T00:00:00Z,"A ""b"", c",web,Incoming Message,13,0,0,0,count,b1,web,2024-10-04T00:00:00Z,true|
    2024-10-04T01:00:00Z,"A ""b"", c",web,Time To Pick Up,9,,0,0,seconds,b1,web,2024-10-04T01:00:00Z,true|
    2024-10-04T01:00:00Z,"A ""b"", c",web,Incoming Message,13,0,0,0,count,b1,web,2024-10-04T01:00:00Z,true|
    2024-10-04T02:00:00Z,"A ""b"", c",web,Time To Pick Up,9,0.001,1,0.001,seconds,b1,web,2024-10-04T02:00:00Z,false|
    2024-10-04T02:00:00Z,"A ""b"", c",web,Incoming Message,13,0,0,0,count,b1,web,2024-10-04T02:00:00Z,false|
    "#);
    assert_eq!(of(Format::Ndjson).lines().count(), 6);
    let first = r#"[{"GroupLabel":"2024-10-04T00:00:00Z","BotName":"A \"b\", c","ChannelName":"web","EventLabel":"Time To Pick Up","EventType":9,"Value":null,"Count":0,"Sum":0,"Unit":"seconds","BotId":"b1","ChannelId":"web","GroupStart":"2024-10-04T00:00:00Z","Complete":true},{"#;
    assert!(of(Format::Json).starts_with(first), "{}", of(Format::Json));
}

/// A question with every column: rows by operator and channel, of two windows.
fn of_everything() -> (Question, Windows, Labels, Chunk) {
    let mut asked = question("9,17", "total");
    asked.by.bot = false;
    asked.previous = Some(Previous::Month);
    asked.split = Some(SplitBy { split: Split::Operator, top: 2 });
    asked.stats = vec![Stat::Max, Stat::Within(30)];
    let windows = windows_of(&[("now", 1)], Some(&[("then", 1)]));
    let mut labels = names(&[("b1", "Pizza", &[("web", "Web")])]);
    labels.operators = Arc::new([("o1".to_owned(), "Ann".to_owned())].into());
    let row = |name| RowKey { bot: None, channel: Some("web".parse().unwrap()), name };
    let cell = |group, row, samples: &[Samples], stats: &[u64]| Cell {
        group,
        row,
        samples: samples.to_vec(),
        stats: stats.to_vec(),
    };
    let pick_up = |count, sum| sample(TypeCode::TimeToPickUp, count, sum);
    let cells = vec![
        // Code 11 was not asked for: its stats are passed over.
        cell(1, 0, &[sample(TypeCode::SupportLength, 1, 5)], &[5, 1]),
        cell(
            0,
            0,
            &[pick_up(3, 61_001), sample(TypeCode::SupportLength, 1, 5)],
            &[60_000, 2, 5, 1],
        ),
        cell(0, 1, &[sample(TypeCode::OperatorMessage, 4, 4)], &[]),
        cell(
            1,
            2,
            &[sample(TypeCode::TimeToFirstMessage, 1, 5), sample(TypeCode::OperatorMessage, 1, 1)],
            &[5, 1],
        ),
    ];
    let rows = [RowName::Named("o1".to_owned()), RowName::Absent, RowName::Other].map(row).to_vec();
    let pairs = vec![pair("b1", "web")];
    (asked, windows, labels, Chunk { last: true, pairs, rows, cells, ..Chunk::default() })
}

#[test]
fn columns_that_were_asked_for() {
    let (mut asked, windows, labels, chunk) = of_everything();
    let of = |asked: &Question, format| render(asked, &labels, &windows, chunk.clone(), format);
    insta::assert_snapshot!(of(&asked, Format::Ndjson), @r#"
    {"Period":"current","GroupLabel":"now","BotName":null,"ChannelName":"Web","SplitBy":"operator","SplitName":"(none)","EventLabel":"Operator Message","EventType":17,"Value":4,"Count":4,"Sum":4,"Unit":"count","Max":null,"Within30":null,"BotId":null,"ChannelId":"web","SplitId":null,"GroupStart":null,"Complete":true}
    {"Period":"current","GroupLabel":"now","BotName":null,"ChannelName":"Web","SplitBy":"operator","SplitName":"Ann","EventLabel":"Time To Pick Up","EventType":9,"Value":20.334,"Count":3,"Sum":61.001,"Unit":"seconds","Max":60,"Within30":66.67,"BotId":null,"ChannelId":"web","SplitId":"o1","GroupStart":null,"Complete":true}
    {"Period":"previous","GroupLabel":"then","BotName":null,"ChannelName":"Web","SplitBy":"operator","SplitName":"(other)","EventLabel":"Operator Message","EventType":17,"Value":1,"Count":1,"Sum":1,"Unit":"count","Max":null,"Within30":null,"BotId":null,"ChannelId":"web","SplitId":null,"GroupStart":null,"Complete":true}
    "#);
    let csv = of(&asked, Format::Csv);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], columns(&asked).join(","));
    assert_eq!(
        lines[2],
        "current,now,,Web,operator,Ann,Time To Pick Up,9,20.334,3,61.001,seconds,60,66.67,,web,o1,,true"
    );
    // Every row of both windows is filled up.
    asked.fill_zero = true;
    let filled = of(&asked, Format::Csv);
    assert_eq!(filled.lines().count(), 1 + 2 * 3 * 2);
    assert!(filled.contains(
        "previous,then,,Web,operator,Ann,Time To Pick Up,9,,0,0,seconds,,,,web,o1,,true\r\n"
    ));
}

#[test]
fn the_header_names_the_columns_of_the_rows() {
    let (whole, windows, labels, chunk) = of_everything();
    let basic = question("17", "day");
    assert_eq!(columns(&basic), COLUMNS);
    let mut without = whole.clone();
    without.stats = Vec::new();
    let mut chunk_without = chunk.clone();
    chunk_without.cells.iter_mut().for_each(|cell| cell.stats = Vec::new());
    for (asked, chunk) in [(whole, chunk), (without, chunk_without)] {
        let row = render(&asked, &labels, &windows, chunk, Format::Ndjson);
        let row = row.lines().next().unwrap();
        let mut rest = row;
        for column in columns(&asked) {
            let (before, after) = rest.split_once(&format!("\"{column}\":")).unwrap();
            assert_eq!(before.matches("\":").count(), 0, "{row}: {before}");
            rest = after;
        }
        assert_eq!(rest, "true}");
    }
}

#[test]
fn hours_of_the_week_are_averages() {
    let mut asked = question("2,3,9,10", "weekhour");
    let windows = windows_of(&[("Mon 00", 3), ("Mon 01", 0), ("Mon 02", 8)], None);
    let samples = |codes: &[(TypeCode, u64)]| {
        codes.iter().map(|(code, count)| sample(*code, *count, *count)).collect()
    };
    let first = samples(&[
        (TypeCode::ActiveUser, 2),
        (TypeCode::TimeToPickUp, 3),
        (TypeCode::TakeoverRate, 1),
    ]);
    let cell = |group, samples| Cell { group, row: 0, samples, stats: Vec::new() };
    let cells = vec![cell(0, first), cell(2, samples(&[(TypeCode::Messages, 9)]))];
    let rows = vec![pair("b", "c").into()];
    let chunk = Chunk { last: true, rows, cells, ..Chunk::default() };
    let of = |asked: &Question| {
        let csv = render(asked, &Labels::default(), &windows, chunk.clone(), Format::Csv);
        csv.replace("\r\n", "\n")
    };
    insta::assert_snapshot!(of(&asked), @r"
    GroupLabel,BotName,ChannelName,EventLabel,EventType,Value,Count,Sum,Unit,BotId,ChannelId,GroupStart,Complete
    Mon 00,b,c,Active User,2,0.67,3,2,users,b,c,,true
    Mon 00,b,c,Time To Pick Up,9,0.001,3,0.003,seconds,b,c,,true
    Mon 00,b,c,Takeover Rate,10,100,1,1,percent,b,c,,true
    Mon 02,b,c,Messages,3,1.13,8,9,count,b,c,,true
    ");
    asked.fill_zero = true;
    let filled = of(&asked);
    assert_eq!(filled.lines().count(), 1 + 3 * 4);
    for line in [
        "Mon 00,b,c,Messages,3,0,3,0,count,b,c,,true",
        "Mon 01,b,c,Active User,2,,0,0,users,b,c,,true",
        "Mon 01,b,c,Time To Pick Up,9,,0,0,seconds,b,c,,true",
        "Mon 02,b,c,Active User,2,0,8,0,users,b,c,,true",
    ] {
        assert!(filled.lines().any(|filled| filled == line), "{line} in {filled}");
    }
}

#[test]
fn nothing_is_an_empty_answer() {
    let render = |asked: &Question, chunk, format| {
        render(asked, &Labels::default(), &hours(3), chunk, format)
    };
    for fill_zero in [false, true] {
        let of = |format| render(&of_hours("0", fill_zero), chunk(&[], &[], &[]), format);
        assert_eq!(of(Format::Json), "[]");
        assert_eq!(of(Format::Ndjson), "");
        assert_eq!(of(Format::Csv), format!("{}\r\n", COLUMNS.join(",")));
    }
    // A pair whose samples are of other types only has rows where they are filled in.
    let other = || chunk(&[pair("b", "c")], &[0], &[]);
    assert_eq!(render(&of_hours("0", false), other(), Format::Json), "[]");
    let filled = render(&of_hours("0", true), other(), Format::Ndjson);
    assert_eq!(filled.lines().count(), 3);
    // A window without a group has no row.
    let asked = Question { fill_zero: true, ..question("0", "total") };
    let empty = windows_of(&[], Some(&[]));
    let none = render_all(
        &asked,
        &Labels::default(),
        &empty,
        &[chunk(&[pair("b", "c")], &[], &[])],
        Format::Json,
    );
    assert_eq!(none.unwrap(), b"[]");
}

#[test]
fn cells_that_do_not_fit_the_question_are_refused() {
    let pairs = [pair("b", "c")];
    let with_stats = {
        let mut chunk = chunk(&pairs, &[1], &[9]);
        chunk.cells[0].stats = vec![1];
        chunk
    };
    for (chunk, expected) in [
        (chunk(&pairs, &[3], &[0]), Malformed::Group),
        (chunk(&pairs, &[1, 1], &[0]), Malformed::Twice),
        (with_stats, Malformed::Stats),
        (Chunk { pairs: pairs.to_vec(), ..chunk(&pairs, &[1], &[0]) }, Malformed::Row),
    ] {
        let asked = of_hours("0", false);
        let got = render_all(&asked, &Labels::default(), &hours(3), &[chunk], Format::Json);
        assert_eq!(got.unwrap_err(), expected);
    }
}

proptest! {
    /// Rows by the definition: every combination, kept if it was asked for and sampled (or filled
    /// in), sorted.
    #[test]
    fn rows_as_their_definition_says(
        cells in prop::collection::btree_map((0_u32..3, 0_u32..4), prop::collection::btree_map(0_u8..19, 1_u64..9, 0..19), 0..12),
        types in prop::collection::btree_set(0..=18_u8, 1..TypeCode::BASIC.len()),
        fill in any::<bool>(),
    ) {
        let pairs = [pair("b2", "x"), pair("b1", "y"), pair("b1", "x"), pair("b3", "x")];
        let names = names(&[("b1", "same", &[]), ("b2", "same", &[]), ("b3", "first", &[])]);
        let wire_cells = cells.iter().map(|((group, pair), samples)| Cell {
            group: *group,
            row: *pair,
            samples: samples
                .iter()
                .map(|(code, count)| sample((*code).try_into().unwrap(), *count, *count))
                .collect(),
            stats: Vec::new(),
        });
        let rows = pairs.iter().cloned().map(RowKey::from).collect();
        let sent = Chunk { last: true, rows, cells: wire_cells.collect(), ..Chunk::default() };
        let list: Vec<_> = types.iter().map(u8::to_string).collect();
        let asked = of_hours(&list.join(","), fill);
        let text = render(&asked, &names, &hours(3), sent, Format::Ndjson);
        let got: Vec<_> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|row| (
                row["GroupStart"].as_str().unwrap().to_owned(),
                row["BotId"].as_str().unwrap().to_owned(),
                row["ChannelId"].as_str().unwrap().to_owned(),
                row["EventType"].as_u64().unwrap(),
                row["Count"].as_u64().unwrap(),
            ))
            .collect();
        let mut expected = Vec::new();
        for group in 0..3_u32 {
            // By name, then id: "first" before "same".
            for (bot, channel, place) in [("b3", "x", 3), ("b1", "x", 2), ("b1", "y", 1), ("b2", "x", 0_u32)] {
                for code in &types {
                    let count = cells.get(&(group, place)).and_then(|s| s.get(code)).copied();
                    if count.is_some() || fill {
                        expected.push((
                            format!("2024-10-04T0{group}:00:00Z"),
                            bot.to_owned(),
                            channel.to_owned(),
                            u64::from(*code),
                            count.unwrap_or(0),
                        ));
                    }
                }
            }
        }
        prop_assert_eq!(got, expected);
    }
}

#[test]
fn rows_are_counted_before_they_are_made() {
    let answer = |pairs: u32, types: &str, codes: &[u8], fill| {
        let pairs: Vec<Pair> = (0..pairs).map(|i| pair(&format!("b{i}"), "web")).collect();
        let mut collecting = Collecting::default();
        collecting.add_value(chunk(&pairs, &[0, 1], codes)).unwrap();
        let cells = collecting.finish().unwrap();
        Answer::new(&of_hours(types, fill), &hours(3), Labels::default(), cells).unwrap()
    };
    let all = (0..19).map(|code| code.to_string()).collect::<Vec<_>>().join(",");
    let of = |pairs, types, codes: &[u8], fill| {
        answer(pairs, types, codes, fill).too_many_rows(MAX_ROWS)
    };
    // Filled up: 3 groups, whatever has samples.
    assert_eq!(of(35_000, &all, &[], true), None);
    assert_eq!(of(35_100, &all, &[], true), Some(35_100 * 3 * 19));
    assert_eq!(of(2, &all, &[], true), None);
    // Else 2 cells of each pair, with the samples that were asked for.
    let (many, few): (Vec<u8>, Vec<u8>) = ((0..19).collect(), (0..16).collect());
    assert_eq!(of(62_500, &all, &few, false), None, "2,000,000");
    assert_eq!(of(62_501, &all, &few, false), Some(2_000_032));
    assert_eq!(of(62_501, "0,1,2", &many, false), None);
    // The count is that of the rows that are made.
    for fill in [false, true] {
        let small = answer(50, "0,3,18", &[0, 2, 18], fill);
        let mut rows = 0;
        let mut cursor = Cursor::default();
        while let Some(some) = small.next_rows(&mut cursor) {
            some.for_each(|_| rows += 1);
        }
        assert_eq!(small.row_count(), rows);
        assert_eq!(rows, if fill { 50 * 3 * 3 } else { 50 * 2 * 2 });
    }
}

#[test]
fn many_pieces_are_one_document() {
    let pairs: Vec<Pair> = (0..100).map(|i| pair(&format!("b{i}"), "web")).collect();
    let all: Vec<u8> = (0..19).collect();
    let sent = chunk(&pairs, &[0, 1, 2], &all);
    let types = all.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
    let asked = of_hours(&types, false);
    let of = |format| render(&asked, &Labels::default(), &hours(3), sent.clone(), format);
    let json: Vec<serde_json::Value> = serde_json::from_str(&of(Format::Json)).unwrap();
    assert_eq!(json.len(), 100 * 3 * 19);
    let lines: Vec<serde_json::Value> =
        of(Format::Ndjson).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json, lines);
    assert_eq!(of(Format::Csv).matches("\r\n").count(), json.len() + 1);
}
