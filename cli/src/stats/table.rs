//! Rows for people: one block a type, its groups under each other with small bars.
//!
//! *Why* by type: numbers of one type can be compared, so each block has one unit, one number of
//! decimals and one scale for its bars.

use std::collections::BTreeMap;

use botstats_common::metric::{Kind, TypeCode};
use serde::Deserialize;

use crate::output::{Align, counted, grouped, printable, table};

/// Width of the longest bar, in characters.
const BAR_WIDTH: f64 = 20.0;
/// The last character of a bar, by the eighths of it that are filled.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// A row of the endpoint.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Row {
    group_label: String,
    bot_name: String,
    channel_name: String,
    event_label: String,
    event_type: u8,
    value: Option<f64>,
    count: u64,
    unit: String,
    complete: bool,
}

pub(super) fn show(rows: &[Row], as_of: Option<&str>) -> String {
    let mut types: BTreeMap<u8, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        types.entry(row.event_type).or_default().push(row);
    }
    let mut text = String::new();
    if types.is_empty() {
        text.push_str("no rows: nothing of this happened in these days\n");
    }
    for rows in types.values() {
        text.push_str(&block(rows));
        text.push('\n');
    }
    let as_of = as_of.map_or_else(String::new, |as_of| format!("; as of {}", printable(as_of)));
    let open = rows.iter().any(|row| !row.complete);
    let open = if open { "; * is not complete" } else { "" };
    let all_counts = rows.iter().all(|row| row.kind().is_some_and(is_count));
    let samples = if all_counts { "" } else { "; COUNT is the number of samples behind the value" };
    let count = counted(u64::try_from(rows.len()).unwrap_or(u64::MAX), "row");
    format!("{text}{count}{as_of}{open}{samples}")
}

impl Row {
    /// `None` for a metric that only a newer endpoint knows.
    fn kind(&self) -> Option<Kind> {
        TypeCode::try_from(self.event_type).ok().map(TypeCode::kind)
    }

    fn shown_value(&self) -> String {
        match (self.kind(), self.value) {
            (_, None) => "-".to_owned(),
            // Value and Count are the same number here, and an integer needs no rounding.
            (Some(Kind::Users | Kind::Count), Some(_)) => grouped(self.count),
            (Some(Kind::Mean { .. }), Some(value)) => format!("{value:.3}"),
            (Some(Kind::Ratio), Some(value)) => format!("{value:.2}"),
            (None, Some(value)) => value.to_string(),
        }
    }
}

/// True if the value is itself a count, so that it has no samples behind it.
fn is_count(kind: Kind) -> bool {
    match kind {
        Kind::Users | Kind::Count => true,
        Kind::Mean { .. } | Kind::Ratio => false,
    }
}

fn block(rows: &[&Row]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let most = rows.iter().filter_map(|row| row.value).fold(0.0, f64::max);
    let has_samples = !first.kind().is_some_and(is_count);
    let unit = printable(&first.unit).to_uppercase();
    let columns = [
        ("", Align::Left),
        ("BOT", Align::Left),
        ("CHANNEL", Align::Left),
        (unit.as_str(), Align::Right),
        (if has_samples { "COUNT" } else { "" }, Align::Right),
        ("", Align::Left),
    ];
    let mut before = "";
    let mut cells = Vec::with_capacity(rows.len());
    for row in rows {
        let star = if row.complete { "" } else { "*" };
        let group = format!("{}{star}", printable(&row.group_label));
        cells.push(vec![
            if before == row.group_label { String::new() } else { group },
            printable(&row.bot_name),
            printable(&row.channel_name),
            row.shown_value(),
            if has_samples { grouped(row.count) } else { String::new() },
            bar(row.value.unwrap_or(0.0), most),
        ]);
        before = &row.group_label;
    }
    let code = first.event_type;
    format!("{} ({code})\n{}", printable(&first.event_label), table(&columns, &cells))
}

/// A bar for `value`; the bar of `most` has the full width.
fn bar(value: f64, most: f64) -> String {
    if value <= 0.0 || most <= 0.0 {
        return String::new();
    }
    let wanted = (value / most).min(1.0) * BAR_WIDTH * 8.0;
    let mut bar = String::new();
    let mut eighths = 0.0;
    while eighths + 8.0 <= wanted {
        bar.push('█');
        eighths += 8.0;
    }
    let fits = |(_, part): &(&&str, u8)| eighths + f64::from(*part) <= wanted;
    let rest = EIGHTHS.iter().zip(0_u8..).filter(fits).last();
    bar.push_str(rest.map_or("", |(part, _)| part));
    // A value above 0 always has a bar.
    if bar.is_empty() { EIGHTHS[1].to_owned() } else { bar }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        for (value, most, expect) in [
            (0.0, 10.0, ""),
            (10.0, 10.0, "████████████████████"),
            (5.0, 10.0, "██████████"),
            (5.25, 10.0, "██████████▌"),
            (0.001, 10.0, "▏"),
            (1.0, 0.0, ""),
        ] {
            assert_eq!(bar(value, most), expect, "{value} of {most}");
        }
    }

    #[test]
    fn blocks() {
        let row = |label: &str, code: u8, unit: &str, value: Option<f64>, count| Row {
            group_label: label.to_owned(),
            bot_name: "Pizza".to_owned(),
            channel_name: "Web".to_owned(),
            event_label: if code == 2 { "Active User" } else { "Conversation Length" }.to_owned(),
            event_type: code,
            value,
            count,
            unit: unit.to_owned(),
            complete: label != "2026-11-21",
        };
        let rows = [
            row("2026-11-20", 2, "users", Some(1200.0), 1200),
            row("2026-11-20", 8, "seconds", Some(61.5), 7),
            row("2026-11-21", 2, "users", Some(600.0), 600),
            row("2026-11-21", 8, "seconds", None, 0),
        ];
        insta::assert_snapshot!(show(&rows, Some("2026-11-21T09:00:00.000Z")), @r"
        Active User (2)
                     BOT    CHANNEL  USERS
        2026-11-20   Pizza  Web      1,200    ████████████████████
        2026-11-21*  Pizza  Web        600    ██████████

        Conversation Length (8)
                     BOT    CHANNEL  SECONDS  COUNT
        2026-11-20   Pizza  Web       61.500      7  ████████████████████
        2026-11-21*  Pizza  Web            -      0

        4 rows; as of 2026-11-21T09:00:00.000Z; * is not complete; COUNT is the number of samples behind the value
        ");
        assert!(show(&[], None).starts_with("no rows"));
        // A metric of a newer endpoint keeps its value and its unit.
        let unknown = show(&[row("2026-11-20", 200, "points", Some(4.25), 3)], None);
        assert!(
            unknown.contains("POINTS  COUNT\n") && unknown.contains("   4.25      3  "),
            "{unknown}"
        );
    }
}
