//! What a publisher sent in place of an event, where the broken rule does not say so.
//!
//! A publisher who sends events in another way than the two that are read would else be told that
//! an attribute is missing which he did send. Only refused messages come here.
//!
//! *Invariants*: the texts are fixed, so none has a value of a message.

use async_nats::HeaderMap;

use botstats_common::names::MAX_PAYLOAD_BYTES;
use serde::de::IgnoredAny;

use super::{Headers, JSON_SPACE, Message};

const COMPRESSED: &str = "the payload is compressed; publish JSON in UTF-8 as it is";
const UTF16: &str = "the payload is UTF-16 or UTF-32; publish JSON in UTF-8";
const MARK: &str = "the payload is not JSON: it begins with a byte order mark; publish it without";
const EMPTY: &str = "the payload is empty; an event is a JSON object";
const ARRAY: &str =
    "the payload is a JSON array, not a JSON object; publish each event as a message of its own";
const TEXT: &str =
    "the payload is a JSON string, not a JSON object; publish the event itself, encoded once";
const BATCH: &str =
    "application/cloudevents-batch+json is not read; publish each event as a message of its own";
const FORMAT: &str =
    "Content-Type names a format that is not read; events are JSON: application/cloudevents+json";
const PREFIX: &str = "headers ce_.. and cloudEvents.. are not read; attributes are the headers \
    ce-specversion, ce-id, ce-source, ce-type, ce-time";
const NO_VERSION: &str =
    "header ce-specversion is missing; without it no other ce- header is read as an attribute";
const WHOLE: &str = "the body was read as data because of header ce-specversion; a whole event \
    needs Content-Type: application/cloudevents+json";
const NO_EVENT: &str =
    "the payload is no CloudEvent: it has none of specversion, id, source, type and time";

/// The first bytes of compressed data: gzip (RFC 1952), Zstandard (RFC 8878), zip.
const COMPRESSIONS: [&[u8]; 3] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"];
/// Attributes as they stand in JSON text.
const ATTRIBUTES: [&str; 5] = ["\"specversion\"", "\"id\"", "\"source\"", "\"type\"", "\"time\""];
/// Attributes as headers, without the one that decides how a message is read.
const OTHER_HEADERS: [&str; 4] = ["ce-id", "ce-source", "ce-type", "ce-time"];

pub(super) fn of(message: &Message<'_>) -> Option<&'static str> {
    let Headers::Read(headers) = message.headers else { return None };
    if message.payload.len() > MAX_PAYLOAD_BYTES {
        return None;
    }
    of_payload(message.payload, headers).or_else(|| of_headers(message.payload, headers))
}

fn of_payload(payload: &[u8], headers: Option<&HeaderMap>) -> Option<&'static str> {
    let is_plain = |coding: &str| coding.is_empty() || coding.eq_ignore_ascii_case("identity");
    match payload {
        [b'{', next, ..] if *next != 0 => None,
        _ if COMPRESSIONS.iter().any(|start| payload.starts_with(start)) => Some(COMPRESSED),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 0, 0xfe, 0xff, ..] => Some(UTF16),
        [b'{' | b'[', 0, ..] | [0, b'{' | b'[', ..] | [0, 0, 0, b'{' | b'[', ..] => Some(UTF16),
        [0xef, 0xbb, 0xbf, ..] => Some(MARK),
        _ if payload.trim_ascii().is_empty() => Some(EMPTY),
        _ if values(headers, "content-encoding").any(|c| !is_plain(c.trim())) => Some(COMPRESSED),
        _ => None,
    }
}

fn of_headers(payload: &[u8], headers: Option<&HeaderMap>) -> Option<&'static str> {
    let text = str::from_utf8(payload).ok();
    let says = |attribute: &&str| text.is_some_and(|text| text.contains(*attribute));
    let is_whole = ATTRIBUTES.first().is_some_and(says);
    let media = values(headers, "content-type").next().unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if media != "application/cloudevents+json" && has(headers, "ce-specversion") {
        return is_whole.then_some(WHOLE);
    }
    if media == "application/cloudevents-batch+json" {
        return Some(BATCH);
    }
    let first = text.and_then(|text| text.trim_start_matches(JSON_SPACE).chars().next());
    match first {
        Some('[') => return Some(ARRAY),
        Some('"') => return Some(TEXT),
        // For a whole event the broken rule is the reason, whatever the headers are.
        Some('{') if is_whole => return None,
        _ => {}
    }
    if !has(headers, "ce-specversion") && OTHER_HEADERS.iter().any(|name| has(headers, name)) {
        return Some(NO_VERSION);
    }
    let foreign = ["ce_", "cloudevents"];
    if names(headers).any(|name| foreign.iter().any(|start| starts_with(name, start))) {
        return Some(PREFIX);
    }
    let is_text = media.is_empty() || media.contains("json") || media.starts_with("text/");
    if first != Some('{') {
        return (!is_text).then_some(FORMAT);
    }
    let is_json = text.is_some_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    (is_json && !ATTRIBUTES.iter().any(says)).then_some(NO_EVENT)
}

fn names(headers: Option<&HeaderMap>) -> impl Iterator<Item = &str> {
    headers.into_iter().flat_map(HeaderMap::iter).map(|(name, _)| name.as_ref())
}

fn has(headers: Option<&HeaderMap>, wanted: &str) -> bool {
    names(headers).any(|name| name.eq_ignore_ascii_case(wanted))
}

fn values<'a>(headers: Option<&'a HeaderMap>, wanted: &'a str) -> impl Iterator<Item = &'a str> {
    let all = headers.into_iter().flat_map(HeaderMap::iter);
    all.filter(move |(name, _)| AsRef::<str>::as_ref(*name).eq_ignore_ascii_case(wanted))
        .flat_map(|(_, values)| values)
        .map(async_nats::HeaderValue::as_str)
}

fn starts_with(name: &str, start: &str) -> bool {
    name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start))
}
