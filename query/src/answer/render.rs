//! Rows as bytes: JSON, CSV or NDJSON, a piece at a time.
//!
//! *Why* texts are put together first: of a row's thirteen columns three are its own. What belongs to the
//! metric is written once an answer, what belongs to group, bot and channel once for all their rows.

use std::borrow::Borrow;
use std::fmt::Write as _;

use botstats_common::metric::{TypeCode, TypeSet};

use super::number::{Decimal, Value, write_whole};
use super::{Answer, Names, Place, Rows};

/// A piece is sent when it has about so many bytes.
const PIECE_BYTES: usize = 64 * 1024;
/// More than the rows of one group, bot and channel are likely to need beyond that.
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
    /// The media type to answer with.
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

/// An answer on its way out.
#[derive(Debug)]
pub struct Rendering<N> {
    answer: Answer<N>,
    format: Format,
    place: Place,
    state: State,
    texts: Texts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
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
        Self { answer, format, place: Place::default(), state: State::NotBegun, texts }
    }

    /// The next bytes, about 64 KiB of them; `None` after the last.
    pub fn next_piece(&mut self) -> Option<Vec<u8>> {
        if self.state == State::Ended {
            return None;
        }
        let mut piece = Vec::with_capacity(PIECE_BYTES + ROWS_BYTES);
        if self.state == State::NotBegun {
            match self.format {
                Format::Json => piece.push(b'['),
                Format::Csv => csv_header(&mut piece),
                Format::Ndjson => {}
            }
            self.state = State::FirstRow;
        }
        while piece.len() < PIECE_BYTES {
            let Some(rows) = self.answer.next_rows(&mut self.place) else {
                self.state = State::Ended;
                if self.format == Format::Json {
                    piece.push(b']');
                }
                break;
            };
            self.texts.of_all(self.format, &rows);
            let between = self.format == Format::Json;
            rows.for_each(|code, count, sum| {
                if between && self.state == State::Rows {
                    piece.push(b',');
                }
                self.state = State::Rows;
                self.texts.row(code, count, sum, &mut piece);
            });
        }
        // An answer without rows is nothing at all in NDJSON.
        if piece.is_empty() { None } else { Some(piece) }
    }
}

/// The parts of rows that are the same for many.
#[derive(Debug)]
struct Texts {
    /// By code; empty for those that were not asked for.
    codes: Vec<CodeText>,
    /// Up to the channel's name, of the rows of one group, bot and channel.
    before: Vec<u8>,
    /// From the bot's id on, of the same rows.
    after: Vec<u8>,
    /// What stands between `Value` and `Count`, and between that and `Sum`.
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
                before.text(3, code.label()).number(4, code.number().into()).name(5);
                let after = Columns { format, to: &mut text.after };
                after.text(8, code.kind().unit());
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
            before_count: name(6),
            before_sum: name(7),
            null: if format == Format::Csv { b"" } else { b"null" },
        }
    }

    /// Makes the texts that these rows have in common.
    fn of_all(&mut self, format: Format, rows: &Rows<'_>) {
        self.before.clear();
        Columns { format, to: &mut self.before }
            .text(0, &rows.group.label)
            .text(1, rows.bot_name)
            .text(2, rows.channel_name);
        self.after.clear();
        let after = Columns { format, to: &mut self.after };
        after
            .text(9, rows.pair.bot.as_str())
            .text(10, rows.pair.channel.as_str())
            .text(11, &rows.group.start_utc)
            .name(12)
            .to
            .extend_from_slice(if rows.group.complete { b"true" } else { b"false" });
        self.after.extend_from_slice(match format {
            Format::Json => b"}",
            Format::Csv => b"\r\n",
            Format::Ndjson => b"}\n",
        });
    }

    fn row(&self, code: TypeCode, count: u64, sum: u64, to: &mut Vec<u8>) {
        let Some(of_code) = self.codes.get(usize::from(code.number())) else { return };
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

/// Writes columns, each with what stands before its value.
struct Columns<'a> {
    format: Format,
    to: &'a mut Vec<u8>,
}

impl Columns<'_> {
    fn name(self, column: usize) -> Self {
        if self.format == Format::Csv {
            if column > 0 {
                self.to.push(b',');
            }
        } else {
            self.to.push(if column > 0 { b',' } else { b'{' });
            json_text(COLUMNS.get(column).copied().unwrap_or_default(), self.to);
            self.to.push(b':');
        }
        self
    }

    fn text(self, column: usize, text: &str) -> Self {
        let this = self.name(column);
        if this.format == Format::Csv {
            csv_text(text, this.to)
        } else {
            json_text(text, this.to)
        }
        this
    }

    fn number(self, column: usize, number: u64) -> Self {
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
