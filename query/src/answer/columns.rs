//! The columns of an answer, and how one is written.

use botstats_common::stat::Stat;

use super::number::Decimal;
use super::render::Format;
use super::text::{csv_text, json_text};
use crate::request::question::Question;

/// The columns that every answer has, in order; the names of the JSON fields too.
pub const COLUMNS: [&str; 13] = [
    "GroupLabel",
    "BotName",
    "ChannelName",
    "EventLabel",
    "EventType",
    "Value",
    "Count",
    "Sum",
    "Unit",
    "BotId",
    "ChannelId",
    "GroupStart",
    "Complete",
];

/// The columns of the answer to a question, in order.
#[must_use]
pub fn columns(question: &Question) -> Vec<String> {
    let stats: Vec<String> = question.stats.iter().copied().map(Stat::column).collect();
    let mut columns = Vec::with_capacity(COLUMNS.len() + 4 + stats.len());
    for column in COLUMNS {
        let (before, after): (&[&str], &[String]) = match column {
            "GroupLabel" if question.previous.is_some() => (&["Period"], &[]),
            "EventLabel" if question.split.is_some() => (&["SplitBy", "SplitName"], &[]),
            "GroupStart" if question.split.is_some() => (&["SplitId"], &[]),
            "Unit" => (&[], &stats),
            _ => (&[], &[]),
        };
        columns.extend(before.iter().map(|column| (*column).to_owned()));
        columns.push(column.to_owned());
        columns.extend_from_slice(after);
    }
    columns
}

/// Writes the columns of a row in their order, each with its separator and, in JSON, its name.
pub(super) struct Writer<'a> {
    pub(super) format: Format,
    pub(super) to: &'a mut Vec<u8>,
    /// Whether the next column is the first of a row.
    pub(super) first: bool,
}

impl<'a> Writer<'a> {
    /// Writes from the beginning of a row.
    pub(super) fn of_row(format: Format, to: &'a mut Vec<u8>) -> Self {
        Self { format, to, first: true }
    }

    /// Goes on in a row that has columns already.
    pub(super) fn within(format: Format, to: &'a mut Vec<u8>) -> Self {
        Self { format, to, first: false }
    }

    /// Writes all of a column but its value.
    pub(super) fn name(mut self, column: &str) -> Self {
        let is_first = std::mem::take(&mut self.first);
        if self.format == Format::Csv {
            if !is_first {
                self.to.push(b',');
            }
        } else {
            self.to.push(if is_first { b'{' } else { b',' });
            json_text(column, self.to);
            self.to.push(b':');
        }
        self
    }

    pub(super) fn text(self, column: &str, text: &str) -> Self {
        let this = self.name(column);
        match this.format {
            Format::Csv => csv_text(text, this.to),
            Format::Json | Format::Ndjson => json_text(text, this.to),
        }
        this
    }

    pub(super) fn text_or_null(self, column: &str, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(column, text),
            None => {
                let this = self.name(column);
                this.to.extend_from_slice(null(this.format));
                this
            }
        }
    }

    pub(super) fn number(self, column: &str, number: u64) -> Self {
        let this = self.name(column);
        Decimal::whole(number).write(this.to);
        this
    }

    pub(super) fn flag(self, column: &str, flag: bool) -> Self {
        let this = self.name(column);
        this.to.extend_from_slice(if flag { b"true" } else { b"false" });
        this
    }
}

/// How a value is written that there is not.
pub(super) fn null(format: Format) -> &'static [u8] {
    match format {
        Format::Csv => b"",
        Format::Json | Format::Ndjson => b"null",
    }
}
