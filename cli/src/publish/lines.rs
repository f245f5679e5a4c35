//! Reads events from lines: `{"subject": "botstats.events.<account>.<bot>.<channel>", "payload": {..}}`.
//!
//! The payload is published as it stands in the line, byte for byte. Whether it keeps the rules of an
//! event is for ingest to say; here is refused only what can't be a message of the stream.

use std::borrow::Cow;
use std::io::{self, BufRead, Read as _};

use botstats_common::names::EVENTS_SUBJECTS;
use botstats_common::shell::producer::Message;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The longest line, in bytes; far above the largest event.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// How a gzip file begins (RFC 1952, section 2.3.1).
const GZIP: &[u8] = &[0x1f, 0x8b];

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// Reads one line after the other.
pub(super) struct Lines<R> {
    input: R,
    number: u64,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, number: 0, line: Vec::new() }
    }

    /// The number of the line read last, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The next message, or why its line is none; `None` at the end. Empty lines are skipped.
    pub(super) fn next(&mut self) -> io::Result<Option<Result<Message, String>>> {
        loop {
            self.line.clear();
            let most = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
            let read = self.input.by_ref().take(most).read_until(b'\n', &mut self.line)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if read == MAX_LINE_BYTES && !self.line.ends_with(b"\n") {
                self.input.skip_until(b'\n')?;
                return Ok(Some(Err(format!("longer than {MAX_LINE_BYTES} bytes"))));
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(Some(parse(self.number, &self.line)));
            }
        }
    }
}

fn parse(number: u64, line: &[u8]) -> Result<Message, String> {
    if line.starts_with(GZIP) {
        return Err("compressed; `zcat FILE | botstats publish -` publishes it".to_owned());
    }
    let line: Line<'_> = serde_json::from_slice(line)
        .map_err(|error| format!("not a line {{\"subject\": .., \"payload\": {{..}}}}: {error}"))?;
    if !is_event_subject(&line.subject) {
        return Err(format!("subject {:?} is not of the form {EVENTS_SUBJECTS}", line.subject));
    }
    Ok(Message {
        tag: number,
        subject: line.subject.into_owned(),
        payload: Bytes::copy_from_slice(line.payload.get().as_bytes()),
    })
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

    #[test]
    fn a_compressed_file_is_named() {
        let bytes = [GZIP, &[8, 0]].concat();
        let mut lines = Lines::new(bytes.as_slice());
        assert!(lines.next().unwrap().unwrap().is_err_and(|why| why.contains("zcat")));
    }

    #[test]
    fn lines() {
        let long = format!("{{\"subject\":\"{}\"}}", "x".repeat(MAX_LINE_BYTES));
        let text = format!(
            "{}\n\n  \n{}\n{long}\nnonsense\n{}",
            r#"{"subject":"botstats.events.a.b.c","payload":{"z":1, "a":[ 2 ]}}"#,
            r#"{"subject":"elsewhere","payload":{}}"#,
            r#" {"payload":"text","subject":"botstats.events.a.b.c","extra":1} "#,
        );
        let mut lines = Lines::new(text.as_bytes());
        let mut got = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            got.push((lines.number(), line.map(|m| String::from_utf8(m.payload.into()).unwrap())));
        }
        let starts: Vec<(u64, Result<&str, &str>)> = got
            .iter()
            .map(|(number, line)| match line {
                Ok(payload) => (*number, Ok(payload.as_str())),
                Err(why) => (*number, Err(&why[..10])),
            })
            .collect();
        assert_eq!(
            starts,
            [
                (1, Ok(r#"{"z":1, "a":[ 2 ]}"#)),
                (4, Err("subject \"e")),
                (5, Err("longer tha")),
                (6, Err("not a line")),
                (7, Ok("\"text\"")),
            ]
        );
    }
}
