//! Rows as bytes: JSON, CSV or NDJSON, a piece at a time.
//!
//! *Why* texts are put together first: only the numbers of a row differ from row to row. The
//! columns of the metric are written once an answer, the columns of group, names and ids once for
//! all rows of these.

use botstats_common::metric::{TypeCode, TypeSet};
use botstats_common::split::Split;
use botstats_common::stat::Stat;

use super::Answer;
use super::columns::{Writer, columns, null};
use super::number::{Decimal, write_whole};
use super::rows::{Cursor, Row, Rows};
use crate::request::question::Question;

/// A piece is sent when it has about 64 KiB: large enough for few writes, small enough to hold
/// several.
const PIECE_BYTES: usize = 64 * 1024;
/// The capacity beyond that for the rows of one group with the same names.
const ROWS_BYTES: usize = 16 * 1024;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// An answer that is being written.
#[derive(Debug)]
pub struct Rendering {
    answer: Answer,
    format: Format,
    /// What stands before the first row.
    header: Vec<u8>,
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

impl Rendering {
    /// Begins to write the answer to a question.
    #[must_use]
    pub fn new(answer: Answer, question: &Question, format: Format) -> Self {
        let header = match format {
            Format::Json => b"[".to_vec(),
            Format::Csv => csv_header(question),
            Format::Ndjson => Vec::new(),
        };
        let texts = Texts::new(format, question);
        let (cursor, progress) = (Cursor::default(), Progress::NotBegun);
        Self { answer, format, header, cursor, progress, texts }
    }

    /// The next bytes, about 64 KiB of them; `None` after the last.
    pub fn next_piece(&mut self) -> Option<Vec<u8>> {
        if self.progress == Progress::Ended {
            return None;
        }
        let mut piece = Vec::with_capacity(PIECE_BYTES + ROWS_BYTES);
        if self.progress == Progress::NotBegun {
            piece.append(&mut self.header);
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
            rows.for_each(|row| {
                if between && self.progress == Progress::Rows {
                    piece.push(b',');
                }
                self.progress = Progress::Rows;
                self.texts.row(row, &mut piece);
            });
        }
        // In NDJSON an answer without rows has no bytes.
        if piece.is_empty() { None } else { Some(piece) }
    }
}

fn csv_header(question: &Question) -> Vec<u8> {
    let mut line = columns(question).join(",").into_bytes();
    line.extend_from_slice(b"\r\n");
    line
}

/// The parts of rows that many rows share.
#[derive(Debug)]
struct Texts {
    /// By code; empty for the metrics that were not asked for.
    codes: Vec<CodeText>,
    /// From the first column to the one before the metric's label, for the rows of one group with
    /// the same names.
    before: Vec<u8>,
    /// From the bot's id to the end, for the same rows.
    after: Vec<u8>,
    /// Between the numbers of `Value` and `Count`, and of `Count` and `Sum`.
    before_count: Vec<u8>,
    before_sum: Vec<u8>,
    /// Each stat asked for, with what stands before its number.
    stats: Vec<(Stat, Vec<u8>)>,
    /// The stats of a row that has none.
    no_stats: Vec<u8>,
    has_period: bool,
    split: Option<Split>,
    null: &'static [u8],
}

#[derive(Debug, Default)]
struct CodeText {
    /// From the label to the value.
    before: Vec<u8>,
    /// From the sum to the unit.
    after: Vec<u8>,
}

impl CodeText {
    fn new(format: Format, types: TypeSet, code: TypeCode) -> Self {
        let mut text = Self::default();
        if types.contains(code) {
            Writer::within(format, &mut text.before)
                .text("EventLabel", code.label())
                .number("EventType", code.number().into())
                .name("Value");
            Writer::within(format, &mut text.after).text("Unit", code.kind().unit());
        }
        text
    }
}

impl Texts {
    fn new(format: Format, question: &Question) -> Self {
        let types = question.types;
        let name = |column: &str| {
            let mut to = Vec::new();
            Writer::within(format, &mut to).name(column);
            to
        };
        let stats: Vec<_> =
            question.stats.iter().map(|stat| (*stat, name(&stat.column()))).collect();
        let no_stats = stats.iter().flat_map(|(_, name)| [name, null(format)].concat()).collect();
        Self {
            codes: TypeCode::ALL.map(|code| CodeText::new(format, types, code)).into(),
            before: Vec::new(),
            after: Vec::new(),
            before_count: name("Count"),
            before_sum: name("Sum"),
            stats,
            no_stats,
            has_period: question.previous.is_some(),
            split: question.split.map(|by| by.split),
            null: null(format),
        }
    }

    /// Makes the texts that these rows share.
    fn of_all(&mut self, format: Format, rows: &Rows<'_>) {
        let Rows { group, labels, .. } = rows;
        self.before.clear();
        let mut before = Writer::of_row(format, &mut self.before);
        if self.has_period {
            before = before.text("Period", if rows.is_current { "current" } else { "previous" });
        }
        before = before
            .text("GroupLabel", &group.label)
            .text_or_null("BotName", labels.bot_name)
            .text_or_null("ChannelName", labels.channel_name);
        if let Some(split) = self.split {
            before.text("SplitBy", split.name()).text("SplitName", labels.split_name);
        }
        self.after.clear();
        let mut after = Writer::within(format, &mut self.after)
            .text_or_null("BotId", labels.bot_id)
            .text_or_null("ChannelId", labels.channel_id);
        if self.split.is_some() {
            after = after.text_or_null("SplitId", labels.split_id);
        }
        after
            .text_or_null("GroupStart", group.start_utc.as_deref())
            .flag("Complete", group.complete);
        self.after.extend_from_slice(match format {
            Format::Json => b"}",
            Format::Csv => b"\r\n",
            Format::Ndjson => b"}\n",
        });
    }

    fn row(&self, row: &Row<'_>, to: &mut Vec<u8>) {
        let Some(of_code) = self.codes.get(row.code.place()) else { return };
        let numbers = row.value;
        to.extend_from_slice(&self.before);
        to.extend_from_slice(&of_code.before);
        self.number(numbers.value, to);
        to.extend_from_slice(&self.before_count);
        write_whole(numbers.count, to);
        to.extend_from_slice(&self.before_sum);
        numbers.sum.write(to);
        to.extend_from_slice(&of_code.after);
        match row.stats {
            None => to.extend_from_slice(&self.no_stats),
            Some(stats) => {
                let mut stats = stats.iter();
                for (stat, name) in &self.stats {
                    to.extend_from_slice(name);
                    let number = stats.next();
                    let shown = number.and_then(|n| Decimal::of_stat(*stat, *n, numbers.count));
                    self.number(shown, to);
                }
            }
        }
        to.extend_from_slice(&self.after);
    }

    fn number(&self, number: Option<Decimal>, to: &mut Vec<u8>) {
        match number {
            Some(number) => number.write(to),
            None => to.extend_from_slice(self.null),
        }
    }
}
