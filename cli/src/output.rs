//! The answer of a command: text for people, JSON for programs.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use indicatif::HumanCount;
use serde_json::json;
use unicode_width::UnicodeWidthStr as _;

/// A command's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    text: String,
    json: String,
    ok: bool,
    silent: bool,
}

impl Answer {
    /// The answer of a command that succeeded; `json` displays as JSON.
    pub(crate) fn new(text: impl Into<String>, json: impl Display) -> Self {
        Self { text: text.into(), json: json.to_string(), ok: true, silent: false }
    }

    /// The same, but the process ends with code 1 unless `ok`.
    pub(crate) fn ok_if(self, ok: bool) -> Self {
        Self { ok, ..self }
    }

    /// The same, but nothing is written: the command wrote its answer itself.
    pub(crate) fn silent(self) -> Self {
        Self { silent: true, ..self }
    }

    /// Writes the answer to standard output; returns the process's exit code.
    #[must_use]
    pub fn print(&self, json: bool) -> ExitCode {
        let written = self.silent || print(if json { &self.json } else { &self.text });
        if self.ok && written { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The most refused lines that [`published`] lists.
pub(crate) const MAX_NAMED: usize = 20;

/// The answer of a command that published what lines say: `text`, then the first refused lines and
/// why. `refused` counts all of them.
pub(crate) fn published(
    mut text: String,
    stored: u64,
    refused: u64,
    first: &[(u64, String)],
) -> Answer {
    let mut refusals = Vec::new();
    for (line, reason) in first {
        text.push_str(&format!("\n  line {line}: {}", printable(reason)));
        refusals.push(json!({"line": line, "reason": reason}));
    }
    let more = refused.saturating_sub(u64::try_from(first.len()).unwrap_or(u64::MAX));
    if more > 0 {
        text.push_str(&format!("\n  and {} more", counted(more, "line")));
    }
    Answer::new(text, json!({"stored": stored, "refused": refused, "refusals": refusals}))
        .ok_if(refused == 0)
}

/// A bad command line or setting that only the command itself can see; the process ends with
/// `botstats_common::io::settings::EXIT_USAGE`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadUsage(pub String);

/// Writes lines to standard output at once; false if standard output is closed.
pub(crate) fn print(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    let text = text.trim_end_matches('\n');
    text.is_empty() || (writeln!(out, "{text}").is_ok() && out.flush().is_ok())
}

/// [`print()`] in a separate thread, so that a standard output without a reader does not hold up
/// the stop.
pub(crate) async fn print_in_thread(text: String) -> bool {
    let (sender, printed) = tokio::sync::oneshot::channel();
    // At the end of the process the thread may still wait for a reader.
    std::thread::spawn(move || sender.send(print(&text)));
    printed.await.unwrap_or(false)
}

/// The alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Lines of a table whose columns are as wide as their widest cell.
pub(crate) fn table(columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let width = |column: usize, name: &str| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.width()).chain([name.width()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> =
        columns.iter().enumerate().map(|(i, (name, _))| width(i, name)).collect();
    let mut lines = String::new();
    let header: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for ((cell, (_, align)), width) in row.iter().zip(columns).zip(&widths) {
            let space = " ".repeat(width.saturating_sub(cell.width()));
            match align {
                Align::Left => line.extend([cell, space.as_str()]),
                Align::Right => line.extend([space.as_str(), cell]),
            }
            line.push_str("  ");
        }
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    lines
}

/// Makes text from outside safe for a terminal: control characters are escaped. Line ends stay.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A number with its digits in groups of three: `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    HumanCount(number).to_string()
}

/// `1 event`, `2 events`.
pub(crate) fn counted(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", grouped(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows =
            [vec!["食べ".to_owned(), "7".to_owned()], vec!["b".to_owned(), "123".to_owned()]];
        let text = table(&[("NAME", Align::Left), ("N", Align::Right)], &rows);
        assert_eq!(text, "NAME    N\n食べ    7\nb     123\n");
    }

    #[test]
    fn numbers_and_texts() {
        for (number, shown) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), shown);
        }
        assert_eq!(counted(1, "event"), "1 event");
        assert_eq!(printable("a\u{1b}[2J\nb"), "a\\u{1b}[2J\nb");
    }
}
