//! Columns that fit into a terminal.
//!
//! What does not fit gives way in this order: the bars, the ends of long names, and at last the
//! columns of numbers, which go on in a second table below.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::output::{Align, table};

/// The width that every terminal has, in characters.
pub(super) const WIDTH: usize = 80;
/// The space between two columns.
const GAP: usize = 2;
/// Width of the longest bar.
const BAR_WIDTH: usize = 20;
/// A shorter longest bar says nothing.
const LEAST_BAR_WIDTH: usize = 5;
/// A name is not cut to less than this width.
const LEAST_NAME_WIDTH: usize = 8;
/// The last character of a bar, by the eighths of it that are filled.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// Texts that are never cut.
    Label,
    /// Texts that may be cut.
    Name,
    /// Numbers.
    Number,
}

/// A column with its cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) holds: Holds,
    pub(super) cells: Vec<String>,
    /// True if it says nothing without the column before it.
    pub(super) is_joined: bool,
}

impl Column {
    pub(super) fn new(name: impl Into<String>, holds: Holds, cells: Vec<String>) -> Self {
        Self { name: name.into(), holds, cells, is_joined: false }
    }

    /// The same, beside the column before it wherever that stands.
    pub(super) fn joined(self) -> Self {
        Self { is_joined: true, ..self }
    }

    fn width(&self) -> usize {
        let cells = self.cells.iter().map(|cell| cell.width());
        cells.chain([self.name.width()]).max().unwrap_or_default()
    }

    fn align(&self) -> Align {
        match self.holds {
            Holds::Label | Holds::Name => Align::Left,
            Holds::Number => Align::Right,
        }
    }
}

/// The width of columns beside each other.
pub(super) fn width(columns: &[Column]) -> usize {
    columns.iter().map(|column| column.width() + GAP).sum::<usize>().saturating_sub(GAP)
}

/// The columns as lines; `bars` has a number for each row, or none.
pub(super) fn fit(mut columns: Vec<Column>, bars: &[f64]) -> String {
    let room = WIDTH.saturating_sub(width(&columns) + GAP).min(BAR_WIDTH);
    if room >= LEAST_BAR_WIDTH && !bars.is_empty() {
        let most = bars.iter().copied().fold(0.0, f64::max);
        let cells = bars.iter().map(|value| bar(*value, most, room)).collect();
        columns.push(Column::new("", Holds::Label, cells));
    }
    shorten_names(&mut columns);
    let (numbers, texts): (Vec<Column>, Vec<Column>) = if width(&columns) > WIDTH {
        columns.into_iter().partition(|column| column.holds == Holds::Number)
    } else {
        return lines(&columns);
    };
    let mut text = String::new();
    let mut shown = texts.clone();
    for numbers in numbers.chunk_by(|_, next| next.is_joined) {
        if shown.len() > texts.len() && width(&shown) + GAP + width(numbers) > WIDTH {
            text.push_str(&lines(&shown));
            text.push('\n');
            shown = texts.clone();
        }
        shown.extend_from_slice(numbers);
    }
    text + &lines(&shown)
}

/// Cuts the widest names until the columns fit, or no name can be cut further.
fn shorten_names(columns: &mut [Column]) {
    let mut excess = width(columns).saturating_sub(WIDTH);
    let names = columns.iter_mut().filter(|column| column.holds == Holds::Name);
    let mut names: Vec<(usize, &mut Column)> =
        names.map(|column| (column.width(), column)).collect();
    while excess > 0 {
        let widest = names.iter_mut().max_by_key(|(width, _)| *width);
        let Some((width, _)) = widest.filter(|(width, _)| *width > LEAST_NAME_WIDTH) else { break };
        *width -= 1;
        excess -= 1;
    }
    for (width, column) in names {
        column.cells.iter_mut().for_each(|cell| *cell = cut(cell, width));
    }
}

fn lines(columns: &[Column]) -> String {
    let heads: Vec<(&str, Align)> =
        columns.iter().map(|column| (column.name.as_str(), column.align())).collect();
    let rows = columns.first().map_or(0, |column| column.cells.len());
    let row = |number: usize| {
        columns.iter().map(move |column| column.cells.get(number).cloned().unwrap_or_default())
    };
    let rows: Vec<Vec<String>> = (0..rows).map(|number| row(number).collect()).collect();
    table(&heads, &rows)
}

/// The text in at most that width, with an ellipsis where its end is cut.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or_default();
        if used > width {
            break;
        }
        shown.push(c);
    }
    shown.push('…');
    shown
}

/// A bar for `value`; the bar of `most` has the full width.
fn bar(value: f64, most: f64, width: usize) -> String {
    if value <= 0.0 || most <= 0.0 {
        return String::new();
    }
    let longest = f64::from(u16::try_from(width).unwrap_or(u16::MAX));
    let wanted = (value / most).min(1.0) * longest * 8.0;
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
            assert_eq!(bar(value, most, BAR_WIDTH), expect, "{value} of {most}");
        }
    }

    #[test]
    fn long_texts_are_cut() {
        for (text, width, expect) in [
            ("order", 5, "order"),
            ("orders", 5, "orde…"),
            ("食べ物", 6, "食べ物"),
            ("食べ物", 5, "食べ…"),
            ("食べ物", 4, "食…"),
            ("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}…"),
        ] {
            assert_eq!(cut(text, width), expect, "{text:?} in {width}");
            assert!(cut(text, width).width() <= width);
        }
    }

    #[test]
    fn what_does_not_fit_gives_way() {
        let column =
            |name: &str, holds, cell: &str| Column::new(name, holds, vec![cell.to_owned()]);
        let label = column("", Holds::Label, "2026-11-20");
        let name = |width| column("NAME", Holds::Name, &"n".repeat(width));
        let number = |name: &str| column(name, Holds::Number, "123.456");
        let shown = |columns: &[Column]| {
            let text = fit(columns.to_vec(), &[1.0]);
            for line in text.lines() {
                assert!(line.width() <= WIDTH, "{text}");
            }
            text
        };
        // The bar gets what is left, or nothing.
        let text = shown(&[label.clone(), name(40), number("SECONDS")]);
        assert!(text.ends_with("123.456  █████████████████\n"), "{text}");
        let text = shown(&[label.clone(), name(57), number("SECONDS")]);
        assert!(text.ends_with("nn  123.456\n"), "{text}");
        let text = shown(&[label.clone(), name(90), number("SECONDS")]);
        assert!(text.ends_with("nn…  123.456\n"), "{text}");
        let numbers: Vec<Column> = (1..=9).map(|n| number(&format!("P{n} (s)"))).collect();
        let text = shown(&[vec![label, name(50)], numbers].concat());
        insta::assert_snapshot!(text, @r"
                    NAME       P1 (s)   P2 (s)   P3 (s)   P4 (s)   P5 (s)   P6 (s)
        2026-11-20  nnnnnnn…  123.456  123.456  123.456  123.456  123.456  123.456

                    NAME       P7 (s)   P8 (s)   P9 (s)
        2026-11-20  nnnnnnn…  123.456  123.456  123.456
        ");
    }
}
