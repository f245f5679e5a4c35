//! Reads events from lines:
//! `{"subject": "botstats.events.<account>.<bot>.<channel>", "payload": {..}}`. An array of such
//! objects is read as its elements, one a line.
//!
//! The payload is published byte for byte. Ingest decides whether it is a good event; this module
//! refuses only lines that can't be a message of the stream, or of which a part would be lost.
//!
//! *Invariants*: each line and each element is a message or is refused with its number; at most
//! [`MAX_LINE_BYTES`] of one are held.
//!
//! *Why* arrays are split here: serde_json ends at the first bad element, has no limit for the size
//! of an element, and reads its whole array before it gives the first one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Chain, Cursor, Read as _};

use botstats_common::io::producer::Message;
use botstats_common::names::EVENTS_SUBJECTS;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::error::Category;
use serde_json::value::RawValue;

/// The longest line that is read, in bytes; far above the largest event.
const MAX_LINE_BYTES: usize = 1024 * 1024;
/// The number of bytes at the start of a file by which its format is known.
const HEAD_BYTES: u64 = 6;

/// The form of a line, for errors.
const WANTED: &str = "{\"subject\": .., \"payload\": {..}}";
/// The byte order mark of UTF-8, which some programs put before a text.
const MARK: &[u8] = b"\xef\xbb\xbf";
/// Compressed files: first bytes, format, and the command that decompresses them.
const COMPRESSED: [(&[u8], &str, &str); 5] = [
    (b"\x1f\x8b", "gzip", "zcat FILE"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstdcat FILE"),
    (b"\xfd7zXZ", "xz", "xzcat FILE"),
    (b"BZh", "bzip2", "bzcat FILE"),
    (b"PK\x03\x04", "zip", "unzip -p FILE"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// The part of the input that the next message is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// On a line of its own.
    Line,
    /// In an array.
    Array,
    /// The input is at its end, or its format can't be read.
    End,
}

/// Reads one line or element after the other.
pub(super) struct Lines<R> {
    input: Chain<Cursor<Vec<u8>>, R>,
    part: Part,
    /// Lines and elements before the next one.
    before: u64,
    number: u64,
    line: Vec<u8>,
    /// Why the input can't be read; taken once it was returned.
    unreadable: Option<String>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(mut input: R) -> io::Result<Self> {
        let mut head = Vec::new();
        input.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
        let unreadable = other_form(&head);
        let part = if unreadable.is_some() { Part::End } else { Part::Line };
        let input = Cursor::new(head).chain(input);
        Ok(Self { input, part, before: 0, number: 1, line: Vec::new(), unreadable })
    }

    /// The number of the line or element read last, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The next message, or what is wrong with its line; `None` at the end. Empty lines are
    /// skipped.
    pub(super) fn next(&mut self) -> io::Result<Option<Result<Message, String>>> {
        if let Some(why) = self.unreadable.take() {
            return Ok(Some(Err(why)));
        }
        loop {
            let first = self.skip_space()?;
            let found = match (self.part, first) {
                (Part::End, _) | (Part::Line, None) => return Ok(None),
                (Part::Line, Some(b'[')) => {
                    self.input.consume(1);
                    self.part = Part::Array;
                    // An array may be empty.
                    if self.skip_space()? == Some(b']') {
                        self.input.consume(1);
                        self.part = Part::Line;
                    }
                    continue;
                }
                (Part::Line, Some(_)) => self.line()?,
                (Part::Array, None) => {
                    self.part = Part::End;
                    self.number = self.before + 1;
                    Err("the array has no end; is the file cut off?".to_owned())
                }
                (Part::Array, Some(_)) => self.element()?,
            };
            return Ok(Some(found));
        }
    }

    /// Skips space, empty lines and byte order marks; returns the next byte without taking it.
    fn skip_space(&mut self) -> io::Result<Option<u8>> {
        loop {
            let rest = self.input.fill_buf()?;
            let Some(first) = rest.first().copied() else { return Ok(None) };
            if rest.starts_with(MARK) {
                self.input.consume(MARK.len());
                continue;
            }
            if !first.is_ascii_whitespace() {
                return Ok(Some(first));
            }
            self.input.consume(1);
            self.before += u64::from(first == b'\n' && self.part == Part::Line);
        }
    }

    fn line(&mut self) -> io::Result<Result<Message, String>> {
        self.line.clear();
        self.before += 1;
        self.number = self.before;
        let most = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
        let read = self.input.by_ref().take(most).read_until(b'\n', &mut self.line)?;
        if read == MAX_LINE_BYTES && !self.line.ends_with(b"\n") {
            self.input.skip_until(b'\n')?;
            return Ok(Err(too_long()));
        }
        Ok(parse(self.number, &self.line))
    }

    /// Takes the bytes before the next comma of the array, or before its end.
    fn element(&mut self) -> io::Result<Result<Message, String>> {
        self.line.clear();
        self.before += 1;
        self.number = self.before;
        let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
        let mut bytes = 0;
        while let Some(byte) = self.input.fill_buf()?.first().copied() {
            self.input.consume(1);
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ if quoted => {}
                b'[' | b'{' => depth += 1,
                b',' if depth == 0 => break,
                b']' if depth == 0 => {
                    self.part = Part::Line;
                    break;
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            bytes += 1;
            if bytes <= MAX_LINE_BYTES {
                self.line.push(byte);
            }
        }
        Ok(match bytes {
            0 => Err("the array has a comma too many: an element is empty".to_owned()),
            1..=MAX_LINE_BYTES => parse(self.number, &self.line),
            _ => Err(too_long()),
        })
    }
}

fn too_long() -> String {
    format!("longer than {MAX_LINE_BYTES} bytes")
}

/// By the first bytes of a file that is not UTF-8 text: the command that converts it.
fn other_form(head: &[u8]) -> Option<String> {
    if let Some((_, name, show)) = COMPRESSED.iter().find(|(start, ..)| head.starts_with(start)) {
        return Some(format!("compressed with {name}; `{show} | botstats publish -` publishes it"));
    }
    let encoding = match head {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => "UTF-32",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16",
        // Without a mark: the first character is an ASCII one.
        [0, 0, 0, ..] => "UTF-32BE",
        [_, 0, 0, 0, ..] => "UTF-32LE",
        [0, ..] => "UTF-16BE",
        [_, 0, ..] => "UTF-16LE",
        _ => return None,
    };
    Some(format!(
        "{encoding} text, UTF-8 is needed; \
         `iconv -f {encoding} -t UTF-8 FILE | botstats publish -` publishes it"
    ))
}

fn parse(number: u64, line: &[u8]) -> Result<Message, String> {
    let Ok(text) = str::from_utf8(line) else {
        return Err("not UTF-8; convert the file, for example with iconv".to_owned());
    };
    // Where files were put together, a mark may stand before any line.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let line: Line<'_> = serde_json::from_str(text).map_err(|error| why_not(text, &error))?;
    if !is_event_subject(&line.subject) {
        return Err(format!("subject {:?} is not of the form {EVENTS_SUBJECTS}", line.subject));
    }
    let payload = line.payload.get();
    if payload.starts_with('"') {
        return Err(format!(
            "payload is a text; a line is {WANTED} with the event itself as an object"
        ));
    }
    if !payload.starts_with('{') {
        return Err(format!("payload is not an object; a line is {WANTED}"));
    }
    Ok(Message {
        tag: number,
        subject: line.subject.into_owned(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    })
}

/// Says why a text is not a line.
fn why_not(text: &str, error: &serde_json::Error) -> String {
    let trimmed = text.trim();
    if text.contains('\0') {
        return "has NUL characters; is the file damaged, or UTF-16?".to_owned();
    }
    if trimmed.starts_with('{') && error.classify() == Category::Eof {
        return "the object does not end on its line; `jq -c . FILE | botstats publish -` publishes \
            objects of several lines"
            .to_owned();
    }
    let without_comma = trimmed.strip_suffix(',').unwrap_or_default();
    if serde_json::from_str::<IgnoredAny>(without_comma).is_ok() {
        return "a comma follows the object; lines have none between them".to_owned();
    }
    let members: BTreeMap<String, IgnoredAny> = serde_json::from_str(text).unwrap_or_default();
    if members.contains_key("specversion") {
        return "an event without its line: {\"subject\": \
            \"botstats.events.<account>.<bot>.<channel>\", \"payload\": <the event>} is needed"
            .to_owned();
    }
    if members.contains_key("headers") {
        return format!(
            "headers would not be sent; a line is {WANTED} with the whole event as payload"
        );
    }
    format!("not a line {WANTED}: {error}")
}

/// Whether the stream would store messages of that subject. Ids with characters that ingest refuses
/// pass: such dead letters are worth testing.
fn is_event_subject(subject: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '*' || c == '>';
    let Some(tokens) = subject.strip_prefix("botstats.events.") else { return false };
    tokens.split('.').count() == 3
        && tokens.split('.').all(|token| !token.is_empty())
        && !subject.contains(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects() {
        for (subject, ok) in [
            ("botstats.events.a.b.c", true),
            ("botstats.events.a.é.c", true),
            ("botstats.events.a.b", false),
            ("botstats.events.a.b.c.d", false),
            ("botstats.events.a..c", false),
            ("botstats.events.a.*.c", false),
            ("botstats.events.a.b.>", false),
            ("botstats.events.a.b c.d", false),
            ("other.a.b.c", false),
            ("", false),
        ] {
            assert_eq!(is_event_subject(subject), ok, "{subject:?}");
        }
    }

    /// What becomes of each line: its number with the payload, or with why not.
    fn read(bytes: &[u8]) -> Vec<(u64, Result<String, String>)> {
        let mut lines = Lines::new(bytes).unwrap();
        let mut got = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            got.push((lines.number(), line.map(|m| String::from_utf8(m.payload.into()).unwrap())));
        }
        got
    }

    fn check(bytes: &[u8], expect: &[(u64, Result<&str, &str>)]) {
        let got = read(bytes);
        let shown = bytes[..bytes.len().min(200)].escape_ascii();
        assert_eq!(got.len(), expect.len(), "{shown}: {got:?}");
        for ((number, got), (wanted_number, wanted)) in got.iter().zip(expect) {
            assert_eq!(number, wanted_number, "{shown}: {got:?}");
            match (got, wanted) {
                (Ok(payload), Ok(wanted)) => assert_eq!(payload, wanted, "{shown}"),
                (Err(why), Err(wanted)) => assert!(why.contains(wanted), "{shown}: {why}"),
                (got, wanted) => panic!("{shown}: {got:?}, not {wanted:?}"),
            }
        }
    }

    const SUBJECT: &str = r#""subject":"botstats.events.a.b.c""#;

    fn line(payload: &str) -> String {
        format!("{{{SUBJECT},\"payload\":{payload}}}")
    }

    #[test]
    fn lines() {
        let long = format!("{{\"subject\":\"{}\"}}", "x".repeat(MAX_LINE_BYTES));
        let text = format!(
            "{}\r\n\r\n  \n{}\n{long}\nnonsense\n{}",
            r#"{"subject":"botstats.events.a.b.c","payload":{"z":1, "a":[ 2 ]}}"#,
            r#"{"subject":"elsewhere","payload":{}}"#,
            r#" {"payload":{"text":""},"subject":"botstats.events.a.b.c"} "#,
        );
        check(
            text.as_bytes(),
            &[
                (1, Ok(r#"{"z":1, "a":[ 2 ]}"#)),
                (4, Err("subject \"elsewhere\"")),
                (5, Err("longer than")),
                (6, Err("not a line")),
                (7, Ok(r#"{"text":""}"#)),
            ],
        );
        check(b"", &[]);
        check(b"\xef\xbb\xbf", &[]);
    }

    #[test]
    fn what_would_be_lost_is_refused() {
        let event = r#"{"specversion":"1.0","id":"e","subject":"x"}"#;
        for (text, why) in [
            (line(r#""{\"id\":\"e\"}""#), "payload is a text"),
            (line("[{}]"), "payload is not an object"),
            (line("null"), "payload is not an object"),
            (
                format!("{{\"headers\":{{\"ce-id\":\"e\"}},{}", &line("{}")[1..]),
                "headers would not",
            ),
            (format!("{{\"time\":1,{}", &line("{}")[1..]), "unknown field `time`"),
            (format!("{{{SUBJECT},{}", &line("{}")[1..]), "duplicate field `subject`"),
            (format!("{{{SUBJECT}}}"), "missing field `payload`"),
            (r#"{"payload":{}}"#.to_owned(), "missing field `subject`"),
            (event.to_owned(), "an event without its line"),
            (format!("{},", line("{}")), "a comma follows"),
            (line("{}").replace('}', "\0}"), "NUL"),
            (line("{}").replace('}', ""), "jq -c . FILE"),
            (format!("{0}{0}", line("{}")), "not a line"),
            ("\"text\"".to_owned(), "not a line"),
        ] {
            check(format!("{text}\n{}", line("{}")).as_bytes(), &[(1, Err(why)), (2, Ok("{}"))]);
        }
        let latin = line(r#"{"x":"?"}"#).replace('?', "\u{e9}").into_bytes();
        let latin: Vec<u8> = latin.into_iter().filter(|byte| *byte != 0xc3).collect();
        check(&latin, &[(1, Err("not UTF-8"))]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_line() {
        let text = format!("\u{feff}{}\n\u{feff}{}\n", line("{}"), line("[]"));
        check(text.as_bytes(), &[(1, Ok("{}")), (2, Err("payload is not"))]);
        check(format!("\u{feff}[{}]", line("{}")).as_bytes(), &[(1, Ok("{}"))]);
    }

    #[test]
    fn an_array_is_its_elements() {
        let (good, bad) = (line(r#"{"x":"a,]\"}"}"#), line("5"));
        let payload = Ok(r#"{"x":"a,]\"}"}"#);
        let pretty: serde_json::Value = serde_json::from_str(&line("{}")).unwrap();
        check(
            format!("[{good},{bad},{good}]").as_bytes(),
            &[(1, payload), (2, Err("payload is not an object")), (3, payload)],
        );
        check(
            format!(" \n [\n{pretty:#},\r\n {pretty:#}\n]\n").as_bytes(),
            &[(2, Ok("{}")), (3, Ok("{}"))],
        );
        check(b"[]\n[ ]", &[]);
        check(
            format!("[{good}]\n[{good}]\n{good}").as_bytes(),
            &[(1, payload), (3, payload), (5, payload)],
        );
        check(format!("[{good},]").as_bytes(), &[(1, payload), (2, Err("a comma too many"))]);
        check(
            format!("[{good}, ,{good}]").as_bytes(),
            &[(1, payload), (2, Err("a comma too many")), (3, payload)],
        );
        check(format!("[{good},").as_bytes(), &[(1, payload), (2, Err("no end"))]);
        check(
            format!("[{good}, 5").as_bytes(),
            &[(1, payload), (2, Err("not a line")), (3, Err("no end"))],
        );
        check(format!("[{good}]{good}").as_bytes(), &[(1, payload), (2, payload)]);
        let long = format!("[{good},\"{}\",{good}]", "x".repeat(MAX_LINE_BYTES));
        check(long.as_bytes(), &[(1, payload), (2, Err("longer than")), (3, payload)]);
    }

    #[test]
    fn other_forms_are_named_once() {
        for (start, name, show) in COMPRESSED {
            let bytes = [start, b"\n\n\n\0\0\n"].concat();
            check(&bytes, &[(1, Err(name))]);
            assert!(read(&bytes)[0].1.as_ref().is_err_and(|why| why.contains(show)));
        }
        let text = format!("{}\n{}\n", line("{}"), line("{}"));
        let wide = |before: usize, after: usize| -> Vec<u8> {
            let zeros = |count| std::iter::repeat_n(0, count);
            text.bytes().flat_map(|b| zeros(before).chain([b]).chain(zeros(after))).collect()
        };
        for (mark, before, after, name) in [
            (b"\xff\xfe".as_slice(), 0, 1, "UTF-16 text"),
            (b"\xfe\xff", 1, 0, "UTF-16 text"),
            (b"\xff\xfe\0\0", 0, 3, "UTF-32 text"),
            (b"\0\0\xfe\xff", 3, 0, "UTF-32 text"),
            (b"", 0, 1, "UTF-16LE text"),
            (b"", 1, 0, "UTF-16BE text"),
            (b"", 0, 3, "UTF-32LE text"),
            (b"", 3, 0, "UTF-32BE text"),
        ] {
            check(&[mark, &wide(before, after)].concat(), &[(1, Err(name))]);
        }
    }
}
