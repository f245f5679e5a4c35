//! Gets single messages as JSON, also those that a NATS client library cannot read.
//!
//! The server stores header bytes and subjects that client libraries refuse to parse: a library
//! drops the connection, makes a new one, and meets the same message again. Such a message must not
//! block the messages behind it. So after failures without progress the reader gets some messages
//! in this way, in which no bytes of a message can fail.
//!
//! *Invariants*: a message that both ways can read is the same in both.

use std::str::FromStr as _;

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};
use async_nats::jetstream::context::RequestError;
use async_nats::jetstream::{self, Context, ErrorCode};
use botstats_common::io::nats::explain;
use bytes::Bytes;
use data_encoding::BASE64;
use serde::Deserialize;

/// A message as the server stores it.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names say what they are")]
pub struct RawMessage {
    pub sequence: u64,
    /// When it was stored, in Unix nanoseconds.
    pub stored_ns: i64,
    pub subject: String,
    /// None if they cannot be read; empty if there are none.
    pub headers: Option<HeaderMap>,
    pub header_bytes: Bytes,
    pub payload: Bytes,
}

#[derive(Deserialize)]
struct Reply {
    message: Option<Stored>,
    error: Option<jetstream::Error>,
}

#[derive(Deserialize)]
struct Stored {
    seq: u64,
    subject: String,
    time: String,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

/// The first message of a stream at or after a sequence; none if there is none.
///
/// # Errors
/// Says why there is no answer.
pub async fn raw_message_from(
    js: &Context,
    stream: &str,
    sequence: u64,
) -> Result<Option<RawMessage>, String> {
    next_of_subject(js, stream, ">", sequence).await
}

/// The first message of a stream at or after a sequence whose subject matches; none if no message
/// does.
///
/// # Errors
/// Says why there is no answer.
pub(crate) async fn next_of_subject(
    js: &Context,
    stream: &str,
    subject: &str,
    sequence: u64,
) -> Result<Option<RawMessage>, String> {
    let request = serde_json::json!({ "seq": sequence, "next_by_subj": subject });
    let asked = js.request(format!("STREAM.MSG.GET.{stream}"), &request).await;
    message_of(asked.map_err(|error: RequestError| explain(&error))?)
}

/// Decodes the server's reply.
///
/// # Errors
/// Says what is wrong with the reply.
pub fn parse_reply(json: &[u8]) -> Result<Option<RawMessage>, String> {
    message_of(serde_json::from_slice(json).map_err(|e| e.to_string())?)
}

fn message_of(answer: Reply) -> Result<Option<RawMessage>, String> {
    let stored = match (answer.message, answer.error) {
        (Some(stored), _) => stored,
        (None, Some(error)) => match error.error_code() {
            ErrorCode::NO_MESSAGE_FOUND => return Ok(None),
            _ => return Err(error.to_string()),
        },
        (None, None) => return Err("the server's reply is empty".to_owned()),
    };
    let bytes = |text: &str| BASE64.decode(text.as_bytes()).map_err(|e| e.to_string());
    let stored_at: jiff::Timestamp = stored.time.parse().map_err(|e| format!("{e}"))?;
    let header_bytes = bytes(&stored.hdrs)?;
    Ok(Some(RawMessage {
        sequence: stored.seq,
        stored_ns: i64::try_from(stored_at.as_nanosecond()).map_err(|e| e.to_string())?,
        subject: stored.subject,
        headers: headers(&header_bytes),
        header_bytes: header_bytes.into(),
        payload: bytes(&stored.data)?.into(),
    }))
}

/// Reads headers as the client library does; none where that fails.
fn headers(bytes: &[u8]) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    if bytes.is_empty() {
        return Some(map);
    }
    let mut lines = str::from_utf8(bytes).ok()?.lines().peekable();
    lines.next()?.strip_prefix("NATS/1.0")?;
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (name, value) = line.split_once(':')?;
        let name = HeaderName::from_str(name).ok()?;
        let mut value = value.trim_start().to_owned();
        while let Some(more) = lines.next_if(|l| l.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        map.append(name, HeaderValue::from_str(value.trim_end()).ok()?);
    }
    Some(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_as_cases() {
        for (bytes, expect) in [
            (&b""[..], Some(vec![])),
            (b"NATS/1.0\r\n\r\n", Some(vec![])),
            (b"NATS/1.0\r\nce-id: e 1 \r\nx:y\r\n\r\n", Some(vec![("ce-id", "e 1"), ("x", "y")])),
            (b"NATS/1.0\r\nx: a\r\n b\r\n\r\n", Some(vec![("x", "a b")])),
            (b"HTTP/1.1\r\n\r\n", None),
            (b"NATS/1.0\r\nxyz\r\n\r\n", None),
            (b"NATS/1.0\r\nx: \xff\r\n\r\n", None),
            (b"NATS/1.0\r\nx: a\rb\r\n\r\n", None),
            (b"NATS/1.0\r\n: b\r\n\r\n", Some(vec![("", "b")])),
        ] {
            let found = headers(bytes).map(|map| {
                let mut all: Vec<(String, String)> = map
                    .iter()
                    .flat_map(|(n, vs)| vs.iter().map(|v| (n.to_string(), v.as_str().to_owned())))
                    .collect();
                all.sort();
                all
            });
            let expect = expect.map(|all| {
                all.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect::<Vec<_>>()
            });
            assert_eq!(found, expect, "{bytes:?}");
        }
    }

    #[test]
    fn answers_as_cases() {
        let found = parse_reply(br#"{"message":{"subject":"a.b.c","seq":7,"data":"eA==","time":"1970-01-01T00:00:01.000000002Z"}}"#)
            .unwrap()
            .unwrap();
        assert_eq!(
            (found.sequence, found.stored_ns, &found.payload[..]),
            (7, 1_000_000_002, &b"x"[..])
        );
        let none = parse_reply(
            br#"{"error":{"code":404,"err_code":10037,"description":"no message found"}}"#,
        );
        assert!(none.unwrap().is_none());
        let error =
            parse_reply(br#"{"error":{"code":503,"err_code":10008,"description":"unavailable"}}"#);
        assert_eq!(error.unwrap_err(), "unavailable (code 503, error code 10008)");
    }
}
