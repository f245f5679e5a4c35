//! Rows as bytes: JSON, CSV or NDJSON, a piece at a time.

use std::borrow::Borrow;
use std::fmt::Write as _;

use super::{Answer, Names, Place, Row};

/// A piece is sent when it has about so many bytes.
const PIECE_BYTES: usize = 64 * 1024;
/// More than one row is likely to need beyond that.
const ROW_BYTES: usize = 1024;

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
        Self { answer, format, place: Place::default(), state: State::NotBegun }
    }

    /// The next bytes, about 64 KiB of them; `None` after the last.
    pub fn next_piece(&mut self) -> Option<Vec<u8>> {
        if self.state == State::Ended {
            return None;
        }
        let mut piece = Vec::with_capacity(PIECE_BYTES + ROW_BYTES);
        if self.state == State::NotBegun {
            match self.format {
                Format::Json => piece.push(b'['),
                Format::Csv => csv_header(&mut piece),
                Format::Ndjson => {}
            }
            self.state = State::FirstRow;
        }
        while piece.len() < PIECE_BYTES {
            let Some(row) = self.answer.next_row(&mut self.place) else {
                self.state = State::Ended;
                if self.format == Format::Json {
                    piece.push(b']');
                }
                break;
            };
            match self.format {
                Format::Json => {
                    if self.state == State::Rows {
                        piece.push(b',');
                    }
                    json(&row, &mut piece);
                }
                Format::Csv => csv(&row, &mut piece),
                Format::Ndjson => {
                    json(&row, &mut piece);
                    piece.push(b'\n');
                }
            }
            self.state = State::Rows;
        }
        // An answer without rows is nothing at all in NDJSON.
        if piece.is_empty() { None } else { Some(piece) }
    }
}

/// One column's content.
enum Field<'a> {
    Text(&'a str),
    Number(super::number::Decimal),
    Bool(bool),
    Null,
}

fn fields<'a>(row: &Row<'a>) -> [Field<'a>; COLUMNS.len()] {
    use super::number::Decimal;
    let number = |number: u64| Field::Number(Decimal::whole(number));
    [
        Field::Text(&row.group.label),
        Field::Text(row.bot_name),
        Field::Text(row.channel_name),
        Field::Text(row.code.label()),
        number(row.code.number().into()),
        row.value.value.map_or(Field::Null, Field::Number),
        number(row.value.count),
        Field::Number(row.value.sum),
        Field::Text(row.code.kind().unit()),
        Field::Text(row.pair.bot.as_str()),
        Field::Text(row.pair.channel.as_str()),
        Field::Text(&row.group.start_utc),
        Field::Bool(row.group.complete),
    ]
}

fn json(row: &Row<'_>, to: &mut Vec<u8>) {
    let mut before = b'{';
    for (name, field) in COLUMNS.into_iter().zip(fields(row)) {
        to.push(before);
        before = b',';
        json_text(name, to);
        to.push(b':');
        match field {
            Field::Text(text) => json_text(text, to),
            Field::Number(number) => number.write(to),
            Field::Bool(true) => to.extend_from_slice(b"true"),
            Field::Bool(false) => to.extend_from_slice(b"false"),
            Field::Null => to.extend_from_slice(b"null"),
        }
    }
    to.push(b'}');
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

fn csv(row: &Row<'_>, to: &mut Vec<u8>) {
    for (i, field) in fields(row).into_iter().enumerate() {
        if i > 0 {
            to.push(b',');
        }
        match field {
            Field::Text(text) => csv_text(text, to),
            Field::Number(number) => number.write(to),
            Field::Bool(true) => to.extend_from_slice(b"true"),
            Field::Bool(false) => to.extend_from_slice(b"false"),
            Field::Null => {}
        }
    }
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
