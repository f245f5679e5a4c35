//! Rows as bytes: JSON, CSV or NDJSON, a piece at a time.
//!
//! *Why* texts are put together first: only three of a row's thirteen columns differ from row to
//! row. The columns of the metric are written once an answer, the columns of group, bot and channel
//! once for all rows of these.

use std::borrow::Borrow;
use std::fmt::Write as _;

use botstats_common::metric::{TypeCode, TypeSet};

use super::number::{Decimal, Value, write_whole};
use super::{Answer, Cursor, Names, Rows};

/// A piece is sent when it has about 64 KiB: large enough for few writes, small enough to hold
/// several.
const PIECE_BYTES: usize = 64 * 1024;
/// The capacity beyond that for the rows of one group, bot and channel.
const ROWS_BYTES: usize = 16 * 1024;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One array of objects.
    Json,
    /// RFC 4180, with a header line.
    Csv,
    /// One object a line.
    Ndjson,
}

impl Format {
    /// The value of `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Csv => "text/csv; charset=utf-8",
            Format::Ndjson => "application/x-ndjson",
        }
    }
}

/// The columns, in order; the names of the JSON fields too.
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

/// An answer that is being written.
#[derive(Debug)]
pub struct Rendering<N> {
    answer: Answer<N>,
    format: Format,
    cursor: Cursor,
    progress: Progress,
    texts: Texts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    NotBegun,
    FirstRow,
    Rows,
    Ended,
}

impl<N: Borrow<Names>> Rendering<N> {
    /// Begins to write an answer.
    #[must_use]
    pub fn new(answer: Answer<N>, format: Format) -> Self {
        let texts = Texts::new(format, answer.types);
        Self { answer, format, cursor: Cursor::default(), progress: Progress::NotBegun, texts }
    }

    /// The next bytes, about 64 KiB of them; `None` after the last.
    pub fn next_piece(&mut self) -> Option<Vec<u8>> {
        if self.progress == Progress::Ended {
            return None;
        }
        let mut piece = Vec::with_capacity(PIECE_BYTES + ROWS_BYTES);
        if self.progress == Progress::NotBegun {
            match self.format {
                Format::Json => piece.push(b'['),
                Format::Csv => csv_header(&mut piece),
                Format::Ndjson => {}
            }
            self.progress = Progress::FirstRow;
        }
        while piece.len() < PIECE_BYTES {
            let Some(rows) = self.answer.next_rows(&mut self.cursor) else {
                self.progress = Progress::Ended;
                if self.format == Format::Json {
                    piece.push(b']');
                }
                break;
            };
            self.texts.of_all(self.format, &rows);
            let between = self.format == Format::Json;
            rows.for_each(|code, count, sum| {
                if between && self.progress == Progress::Rows {
                    piece.push(b',');
                }
                self.progress = Progress::Rows;
                self.texts.row(code, count, sum, &mut piece);
            });
        }
        // In NDJSON an answer without rows has no bytes.
        if piece.is_empty() { None } else { Some(piece) }
    }
}

/// The parts of rows that many rows share.
#[derive(Debug)]
struct Texts {
    /// By code; empty for the metrics that were not asked for.
    codes: Vec<CodeText>,
    /// From the group's label to the channel's name, for the rows of one group, bot and channel.
    before: Vec<u8>,
    /// From the bot's id to the end, for the same rows.
    after: Vec<u8>,
    /// Between the numbers of `Value` and `Count`, and of `Count` and `Sum`.
    before_count: Vec<u8>,
    before_sum: Vec<u8>,
    null: &'static [u8],
}

#[derive(Debug, Default)]
struct CodeText {
    /// From the label to the value.
    before: Vec<u8>,
    /// From the sum to the unit.
    after: Vec<u8>,
}

impl Texts {
    fn new(format: Format, types: TypeSet) -> Self {
        let of_code = |code: TypeCode| {
            let mut text = CodeText::default();
            if types.contains(code) {
                let before = Columns { format, to: &mut text.before };
                before
                    .text("EventLabel", code.label())
                    .number("EventType", code.number().into())
                    .name("Value");
                let after = Columns { format, to: &mut text.after };
                after.text("Unit", code.kind().unit());
            }
            text
        };
        let name = |column| {
            let mut to = Vec::new();
            Columns { format, to: &mut to }.name(column);
            to
        };
        Self {
            codes: TypeCode::ALL.into_iter().map(of_code).collect(),
            before: Vec::new(),
            after: Vec::new(),
            before_count: name("Count"),
            before_sum: name("Sum"),
            null: if format == Format::Csv { b"" } else { b"null" },
        }
    }

    /// Makes the texts that these rows share.
    fn of_all(&mut self, format: Format, rows: &Rows<'_>) {
        self.before.clear();
        Columns { format, to: &mut self.before }
            .text("GroupLabel", &rows.group.label)
            .text("BotName", rows.bot_name)
            .text("ChannelName", rows.channel_name);
        self.after.clear();
        let after = Columns { format, to: &mut self.after };
        after
            .text("BotId", rows.pair.bot.as_str())
            .text("ChannelId", rows.pair.channel.as_str())
            .text("GroupStart", &rows.group.start_utc)
            .name("Complete")
            .to
            .extend_from_slice(if rows.group.complete { b"true" } else { b"false" });
        self.after.extend_from_slice(match format {
            Format::Json => b"}",
            Format::Csv => b"\r\n",
            Format::Ndjson => b"}\n",
        });
    }

    fn row(&self, code: TypeCode, count: u64, sum: u64, to: &mut Vec<u8>) {
        let Some(of_code) = self.codes.get(code.place()) else { return };
        let numbers = Value::of(code.kind(), count, sum);
        to.extend_from_slice(&self.before);
        to.extend_from_slice(&of_code.before);
        match numbers.value {
            Some(value) => value.write(to),
            None => to.extend_from_slice(self.null),
        }
        to.extend_from_slice(&self.before_count);
        write_whole(numbers.count, to);
        to.extend_from_slice(&self.before_sum);
        numbers.sum.write(to);
        to.extend_from_slice(&of_code.after);
        to.extend_from_slice(&self.after);
    }
}

/// Writes columns in their order, each with its separator and, in JSON, its name.
struct Columns<'a> {
    format: Format,
    to: &'a mut Vec<u8>,
}

impl Columns<'_> {
    fn name(self, column: &str) -> Self {
        let is_first = COLUMNS.first() == Some(&column);
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

    fn text(self, column: &str, text: &str) -> Self {
        let this = self.name(column);
        if this.format == Format::Csv {
            csv_text(text, this.to)
        } else {
            json_text(text, this.to)
        }
        this
    }

    fn number(self, column: &str, number: u64) -> Self {
        let this = self.name(column);
        Decimal::whole(number).write(this.to);
        this
    }
}

/// A string of RFC 8259.
fn json_text(text: &str, to: &mut Vec<u8>) {
    to.push(b'"');
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        to.extend_from_slice(text.as_bytes());
    } else {
        let mut escaped = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            match c {
                '"' | '\\' => {
                    escaped.push('\\');
                    escaped.push(c);
                }
                '\0'..='\x1f' => {
                    // Writing to a String cannot fail.
                    let _written = write!(escaped, "\\u{:04x}", u32::from(c));
                }
                _ => escaped.push(c),
            }
        }
        to.extend_from_slice(escaped.as_bytes());
    }
    to.push(b'"');
}

fn csv_header(to: &mut Vec<u8>) {
    to.extend_from_slice(COLUMNS.join(",").as_bytes());
    to.extend_from_slice(b"\r\n");
}

/// A field of RFC 4180, quoted where it must be.
fn csv_text(text: &str, to: &mut Vec<u8>) {
    if text.contains(['"', ',', '\r', '\n']) {
        to.push(b'"');
        to.extend_from_slice(text.replace('"', "\"\"").as_bytes());
        to.push(b'"');
    } else {
        to.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn json_texts_read_back(text in any::<String>()) {
            let mut bytes = Vec::new();
            json_text(&text, &mut bytes);
            prop_assert_eq!(serde_json::from_slice::<String>(&bytes).unwrap(), text);
        }
    }

    #[test]
    fn csv_texts_are_quoted_where_they_must_be() {
        for (text, expected) in [
            ("Web", "Web"),
            ("", ""),
            ("a b", "a b"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("a\nb", "\"a\nb\""),
        ] {
            let mut bytes = Vec::new();
            csv_text(text, &mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        }
    }
}
