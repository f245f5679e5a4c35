//! What comes over HTTP, and in settings.

use std::time::Duration;

use botstats_common::directory::time_zone;
use botstats_common::io::settings::{address, duration, show_duration};
use botstats_common::secret::SecretHash;
use botstats_ingest::keep_days;
use botstats_query::{BotFilter, GroupMode, Question, Route, accept};
use http::header::{ACCEPT, ACCEPT_ENCODING};
use http::{HeaderMap, HeaderValue};

use crate::model::CODES;

/// The most bytes of an error: 64 characters are repeated, each of which may need ten to be shown.
const MAX_ERROR_BYTES: usize = 1_000;

pub(super) fn question(bytes: &[u8]) {
    let Ok(target) = std::str::from_utf8(bytes) else { return };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let Route::Statistics(segments) = Route::of(path) else { return };
    let parsed = Question::parse(segments, query);
    assert_eq!(Question::parse(segments, query), parsed, "not repeatable");
    let meant = segments.map(unescaped);
    let [key, types, mode, days] = meant.each_ref().map(String::as_str);
    naive([key, types, mode, days], query.unwrap_or_default(), parsed.is_ok());
    let question = match parsed {
        Ok(question) => question,
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < MAX_ERROR_BYTES, "{text}");
            assert!(!text.contains("bst_") && !text.contains("bsk_"), "a secret in {text}");
            return;
        }
    };
    // Written again in its plainest form it is the same question.
    let key = if question.bots == BotFilter::All { "*" } else { key };
    let codes: Vec<String> = question.types.iter().map(|code| code.number().to_string()).collect();
    assert!(codes.iter().all(|code| types.split(',').any(|item| item == code)));
    let name = match question.mode {
        GroupMode::Hour => "hour",
        GroupMode::Day => "day",
        GroupMode::Month => "month",
        GroupMode::Year => "year",
    };
    assert!(mode.eq_ignore_ascii_case(name));
    assert_eq!(question.days.number().to_string(), days);
    let plain = [key, &codes.join(","), name, days];
    let query = question.fill_zero.then_some("fill=zero");
    assert_eq!(Question::parse(plain, query), Ok(question));
}

/// A segment with its escapes taken once, those that are none left as they are.
fn unescaped(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let digits =
            tail.get(..2).filter(|two| *first == b'%' && two.iter().all(u8::is_ascii_hexdigit));
        let byte =
            digits.and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether a question is one, by lists of all that is allowed. Percent signs in the query are left
/// to the product.
fn naive([key, types, mode, days]: [&str; 4], query: &str, taken: bool) {
    if query.contains('%') {
        return;
    }
    let number = |text: &str, from: u8, to: u8| (from..=to).any(|n| n.to_string() == text);
    let items: Vec<&str> = types.split(',').collect();
    let key_is_good = (8..=128).contains(&key.len())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let allowed = items.len() <= 64
        && items.iter().all(|item| number(item, 0, CODES[CODES.len() - 1]))
        && ["hour", "day", "month", "year"].contains(&mode.to_ascii_lowercase().as_str())
        && number(days, 1, 30)
        && (key == "*" || key_is_good)
        && (query.is_empty() || query == "fill=zero");
    assert_eq!(taken, allowed);
}

/// The input: values of `Accept` on a line each, a carriage return, values of `Accept-Encoding`.
pub(super) fn accept(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\r');
    let mut headers = HeaderMap::new();
    let mut upper = HeaderMap::new();
    for name in [ACCEPT, ACCEPT_ENCODING] {
        for line in parts.next().unwrap_or_default().split(|byte| *byte == b'\n') {
            if let Ok(value) = HeaderValue::from_bytes(line) {
                headers.append(&name, value);
            }
            if let Ok(value) = HeaderValue::from_bytes(&line.to_ascii_uppercase()) {
                upper.append(&name, value);
            }
        }
    }
    let decided = |headers: &HeaderMap| {
        let format = accept::format(headers).map(|format| format.content_type());
        let coding = accept::coding(headers).map(accept::Coding::name);
        (format, coding)
    };
    let found = decided(&headers);
    assert_eq!(decided(&headers), found, "not repeatable");
    assert_eq!(decided(&upper), found, "letter case decides");
}

/// The input: a value of a setting.
pub(super) fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(read) = duration(text) {
        assert_eq!(duration(&show_duration(read)), Ok(read));
        assert!(read <= Duration::from_secs(100 * 366 * 86_400));
    }
    if let Ok(read) = address(text) {
        assert_eq!(address(&read.to_string()), Ok(read));
    }
    if let Ok(days) = keep_days(text) {
        assert_eq!(keep_days(&days.to_string()), Ok(days));
        assert!(days >= 40);
    }
    if let Ok(hash) = SecretHash::try_from(text.to_owned()) {
        assert_eq!(String::from(hash), text);
    }
    match time_zone(text) {
        Ok(zone) => assert_eq!(time_zone(zone.iana_name().expect("a name")).ok(), Some(zone)),
        Err(error) => assert!(error.to_string().len() < MAX_ERROR_BYTES),
    }
}
