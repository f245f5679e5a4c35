//! The hours of a week as a grid: an hour each line, a weekday each column.

use super::columns::{Column, Holds, WIDTH, fit};
use super::row::Row;

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// The marks behind numbers, from nothing to the highest number.
const HEAT: [&str; 5] = [" ", "░", "▒", "▓", "█"];

/// The rows of one metric as a grid, if they are all about one thing and the grid fits.
pub(super) fn grid(rows: &[&Row]) -> Option<String> {
    let key = rows.first()?.key();
    if rows.iter().any(|row| row.key() != key) {
        return None;
    }
    let most = rows.iter().filter_map(|row| row.value).fold(0.0, f64::max);
    let cell = |weekday: &str, hour: u8| {
        let label = format!("{weekday} {hour:02}");
        let row = rows.iter().find(|row| row.group_label == label);
        row.map_or_else(
            || ".  ".to_owned(),
            |row| {
                format!("{} {}", row.shown_value(true), heat(row.value.unwrap_or_default(), most))
            },
        )
    };
    let hours = (0..24).map(|hour| format!("{hour:02}")).collect();
    let mut columns = vec![Column::new("", Holds::Label, hours)];
    for weekday in WEEKDAYS {
        let cells = (0..24).map(|hour| cell(weekday, hour)).collect();
        columns.push(Column::new(format!("{weekday}  "), Holds::Number, cells));
    }
    let fits = super::columns::width(&columns) <= WIDTH;
    fits.then(|| fit(columns, &[]))
}

/// The mark for a share of the highest number.
fn heat(value: f64, most: f64) -> &'static str {
    let [none, rest @ ..] = HEAT;
    if value <= 0.0 || most <= 0.0 {
        return none;
    }
    let mut mark = none;
    for (quarter, of) in (0_u8..).zip(rest) {
        if value * 4.0 > f64::from(quarter) * most {
            mark = of;
        }
    }
    mark
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks() {
        for (value, expect) in [
            (0.0, " "),
            (0.1, "░"),
            (25.0, "░"),
            (25.1, "▒"),
            (50.1, "▓"),
            (76.0, "█"),
            (100.0, "█"),
        ] {
            assert_eq!(heat(value, 100.0), expect, "{value}");
        }
    }
}
