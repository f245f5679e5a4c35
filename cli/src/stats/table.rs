//! Rows for people: one block a type, its groups under each other with small bars.
//!
//! *Why* by type: numbers of one type can be compared, so each block has one unit, one number of
//! decimals and one scale for its bars.

use std::collections::BTreeMap;

use botstats_common::stat::Stat;
use botstats_query::{GroupMode, Previous};

use super::columns::{Column, Holds, WIDTH, fit};
use super::compare::{Calendar, Pair};
use super::question::Question;
use super::row::{Row, heading, name};
use super::week;
use crate::output::{counted, grouped, printable};

/// What the question says of the table's form.
#[derive(Debug)]
pub(super) struct Asked {
    group: GroupMode,
    calendar: Option<Calendar>,
    stats: Vec<Stat>,
}

impl Asked {
    pub(super) fn of(question: &Question) -> Self {
        let group = question.group;
        let dates = question.dates();
        let calendar = question.previous.map(|previous| Calendar { group, previous, dates });
        Self { group, calendar, stats: question.stats().to_vec() }
    }
}

pub(super) fn show(rows: &[Row], asked: &Asked, as_of: Option<&str>) -> String {
    let mut types: BTreeMap<u8, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        types.entry(row.event_type).or_default().push(row);
    }
    let mut text = String::new();
    if types.is_empty() {
        text.push_str("no rows: nothing of this happened in these days\n");
    }
    for rows in types.values() {
        text.push_str(&block(rows, asked));
        text.push('\n');
    }
    let has_brackets = asked.group != GroupMode::Total && text.contains("\n(");
    text + &notes(rows, asked, has_brackets, as_of)
}

/// What stands below the blocks.
fn notes(rows: &[Row], asked: &Asked, has_brackets: bool, as_of: Option<&str>) -> String {
    let mut notes = vec![counted(u64::try_from(rows.len()).unwrap_or(u64::MAX), "row")];
    if let Some(as_of) = as_of {
        notes.push(format!("as of {}", printable(as_of)));
    }
    if rows.iter().any(|row| !row.complete) {
        notes.push("* is not complete".to_owned());
    }
    if rows.iter().any(|row| !row.is_count()) {
        notes.push("COUNT is the number of samples behind the value".to_owned());
    }
    if asked.group == GroupMode::WeekHour && rows.iter().any(Row::is_count) {
        notes.push("users and counts are means of an hour".to_owned());
    }
    if let Some(Calendar { previous, dates, .. }) = asked.calendar {
        notes.push(match previous {
            Previous::Period => format!("WAS is the value {} before", counted_days(dates)),
            Previous::Week => {
                format!("WAS is the value {} before", counted_days((dates + 6) / 7 * 7))
            }
            Previous::Month => "WAS is the value a month before".to_owned(),
            Previous::Year => "WAS is the value a year before".to_owned(),
        });
        if has_brackets {
            notes.push("(..) is in the earlier window only".to_owned());
        }
        let is_ratio = |row: &Row| row.unit == "percent";
        if rows.iter().any(is_ratio) {
            notes.push("pp are percentage points".to_owned());
        }
    }
    let mut text = String::new();
    let mut width = 0;
    for note in notes {
        let length = note.chars().count();
        if width > 0 && width + 2 + length > WIDTH {
            text.push('\n');
            width = 0;
        } else if width > 0 {
            text.push_str("; ");
            width += 2;
        }
        text.push_str(&note);
        width += length;
    }
    text
}

fn counted_days(days: i64) -> String {
    counted(u64::try_from(days).unwrap_or_default(), "day")
}

/// The rows of one metric.
fn block(rows: &[&Row], asked: &Asked) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let mut title = format!("{} ({})", printable(&first.event_label), first.event_type);
    if asked.group == GroupMode::WeekHour
        && let Some(grid) = week::grid(rows)
    {
        return format!("{title}, {}\n{grid}", of_what(first));
    }
    let pairs: Vec<Pair<'_>> = match asked.calendar {
        Some(calendar) => calendar.pairs(rows),
        None => rows.iter().map(|row| Pair { now: Some(*row), ..Pair::default() }).collect(),
    };
    let mut columns = Vec::new();
    if asked.group == GroupMode::Total {
        // The only group of a window stands in the title.
        let label = |is_previous: bool| {
            rows.iter().find(|row| row.is_previous() == is_previous).map(|row| shown_label(row))
        };
        if let Some(label) = label(false) {
            title.push_str(&format!(", {label}"));
        }
        if let Some(label) = label(true) {
            title.push_str(&format!(", before {label}"));
        }
    } else {
        columns.push(Column::new("", Holds::Label, labels(&pairs)));
    }
    columns.extend(names(rows, &pairs));
    columns.extend(numbers(first, &pairs, asked));
    let bars: Vec<f64> = match asked.calendar {
        None => rows.iter().map(|row| row.value.unwrap_or_default()).collect(),
        Some(_) => Vec::new(),
    };
    format!("{title}\n{}", fit(columns, &bars))
}

/// Unit and names, for a grid of numbers without columns of names.
fn of_what(row: &Row) -> String {
    let names = [&row.bot_name, &row.channel_name, &row.split_name];
    let mut parts = vec![printable(&row.unit)];
    parts.extend(names.into_iter().flatten().map(|text| printable(text)));
    parts.join(", ")
}

/// The label of a group; of a quarter or hour without the seconds, which are always 0:
/// `2026-11-20 10:15+01:00`.
fn shown_label(row: &Row) -> String {
    let label = printable(&row.group_label);
    let parts = [0..10, 10..11, 11..16, 16..19].map(|part| label.get(part));
    let shown = match (parts, label.get(19..)) {
        ([Some(date), Some("T"), Some(minute), Some(":00")], Some(offset)) => {
            format!("{date} {minute}{offset}")
        }
        _ => label.clone(),
    };
    let star = if row.complete { "" } else { "*" };
    format!("{shown}{star}")
}

/// The group of each row, once for each. A group of the earlier window alone stands in brackets.
fn labels(pairs: &[Pair<'_>]) -> Vec<String> {
    let mut before = String::new();
    let label = |pair: &Pair<'_>| {
        let label = pair.any().map(shown_label).unwrap_or_default();
        if pair.now.is_none() { format!("({label})") } else { label }
    };
    let labels = pairs.iter().map(|pair| {
        let label = label(pair);
        if label == before {
            return String::new();
        }
        before.clone_from(&label);
        label
    });
    labels.collect()
}

/// The columns of names that are not merged away.
fn names(rows: &[&Row], pairs: &[Pair<'_>]) -> Vec<Column> {
    type NameOf = fn(&Row) -> Option<&str>;
    let columns: [(&str, NameOf); 3] = [
        ("BOT", |row| row.bot_name.as_deref()),
        ("CHANNEL", |row| row.channel_name.as_deref()),
        ("NAME", |row| row.split_name.as_deref()),
    ];
    let is_there = |of: &NameOf| rows.iter().any(|row| of(row).is_some());
    let columns = columns.into_iter().filter(|(_, of)| is_there(of));
    columns
        .map(|(heading, of)| {
            let cells = pairs.iter().map(|pair| name(pair.any().and_then(of))).collect();
            Column::new(heading, Holds::Name, cells)
        })
        .collect()
}

/// The value, the samples behind it, and the stats; beside each what it was before.
fn numbers(first: &Row, pairs: &[Pair<'_>], asked: &Asked) -> Vec<Column> {
    let is_mean = asked.group == GroupMode::WeekHour;
    let mut columns = Vec::new();
    let mut put = |heading: String, cell: &dyn Fn(&Row) -> String| {
        let cells = |row: for<'a> fn(&'a Pair<'a>) -> Option<&'a Row>| {
            pairs.iter().map(|pair| row(pair).map_or_else(|| "-".to_owned(), cell)).collect()
        };
        columns.push(Column::new(heading, Holds::Number, cells(|pair| pair.now)));
        if asked.calendar.is_some() {
            columns.push(Column::new("WAS", Holds::Number, cells(|pair| pair.then)).joined());
        }
    };
    // The number of samples is the column COUNT.
    let unit = match first.unit.as_str() {
        "count" if !first.is_count() => "VALUE".to_owned(),
        unit => printable(unit).to_uppercase(),
    };
    put(unit, &|row| row.shown_value(is_mean));
    if !first.is_count() {
        put("COUNT".to_owned(), &|row| grouped(row.count));
    } else if is_mean {
        put("HOURS".to_owned(), &|row| grouped(row.count));
    }
    if first.kind().is_none_or(|kind| kind.is_duration()) {
        for stat in &asked.stats {
            put(heading(*stat), &|row| row.shown_stat(*stat));
        }
    }
    if asked.calendar.is_some() {
        let changes = pairs.iter().map(Pair::change).collect();
        let change = Column::new("CHANGE", Holds::Number, changes).joined();
        columns.insert(2.min(columns.len()), change);
    }
    columns
}

#[cfg(test)]
mod tests;
