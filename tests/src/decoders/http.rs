//! What comes over HTTP, and in settings.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use botstats_common::directory::time_zone;
use botstats_common::io::settings::{address, duration, show_duration};
use botstats_common::secret::SecretHash;
use botstats_common::stat::Stat;
use botstats_common::wire::SplitBy;
use botstats_ingest::keep_days;
use botstats_query::{BotFilter, Dates, GroupMode, Previous, Question, Route, accept};
use http::header::{ACCEPT, ACCEPT_ENCODING};
use http::{HeaderMap, HeaderValue};

use crate::model::{Grain, SPLITS};

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
        GroupMode::Quarter => "15min",
        GroupMode::Hour => "hour",
        GroupMode::Day => "day",
        GroupMode::Week => "week",
        GroupMode::Month => "month",
        GroupMode::Year => "year",
        GroupMode::Total => "total",
        GroupMode::WeekHour => "weekhour",
    };
    assert!(mode.eq_ignore_ascii_case(name));
    match question.dates {
        Dates::Last(last) => assert_eq!(last.to_string(), days),
        Dates::FromTo(..) => assert_eq!(days, "*"),
    }
    let plain_query = plain_query(&question);
    let codes = codes.join(",");
    assert_eq!(
        Question::parse([key, &codes, name, days], Some(&plain_query)),
        Ok(question.clone())
    );
    let of_bot = Question { bots: BotFilter::OfToken, ..question };
    assert_eq!(Question::parse_for_bot([&codes, name, days], Some(&plain_query)), Ok(of_bot));
}

/// All parameters of a question as a query, also those that have their default.
fn plain_query(question: &Question) -> String {
    let mut query = Vec::new();
    if let Dates::FromTo(from, to) = question.dates {
        query.push(format!("from={from}&to={to}"));
    }
    let by = match (question.by.bot, question.by.channel) {
        (true, true) => "bot,channel",
        (true, false) => "bot",
        (false, true) => "channel",
        (false, false) => "none",
    };
    query.push(format!("by={by}"));
    if let Some(previous) = question.previous {
        let name = match previous {
            Previous::Period => "period",
            Previous::Week => "week",
            Previous::Month => "month",
            Previous::Year => "year",
        };
        query.push(format!("previous={name}"));
    }
    if !question.stats.is_empty() {
        let stats: Vec<String> = question.stats.iter().map(Stat::to_string).collect();
        query.push(format!("stats={}", stats.join(",")));
    }
    if let Some(SplitBy { split, top }) = question.split {
        query.push(format!("split={}&top={top}", split.name()));
    }
    if question.fill_zero {
        query.push("fill=zero".to_owned());
    }
    query.join("&")
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
    let items: Vec<&str> = types.split(',').collect();
    let mode = mode.to_ascii_lowercase();
    let key_is_good = (8..=128).contains(&key.len())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let allowed = items.len() <= 64
        && items.iter().all(|item| is_number(item, 0..=18) || is_number(item, 100..=108))
        && Grain::ALL.iter().any(|grain| grain.name() == mode)
        && (days == "*" || is_number(days, 1..=30))
        && (key == "*" || key_is_good)
        && query_is_allowed(&items, &mode, days, query);
    assert_eq!(taken, allowed);
}

fn is_number(text: &str, allowed: RangeInclusive<u32>) -> bool {
    text.parse().is_ok_and(|number| allowed.contains(&number) && number.to_string() == text)
}

fn query_is_allowed(types: &[&str], mode: &str, days: &str, query: &str) -> bool {
    let mut given: BTreeMap<&str, &str> = BTreeMap::new();
    for pair in query.split('&').filter(|_| !query.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else { return false };
        if given.insert(name, value).is_some() {
            return false;
        }
    }
    let values_are_good = given.iter().all(|(name, value)| match *name {
        "from" | "to" => day_of(value).is_some(),
        "by" => ["bot,channel", "bot", "channel", "none"].contains(value),
        "previous" => ["period", "week", "month", "year"].contains(value),
        "stats" => {
            let items: Vec<&str> = value.split(',').collect();
            let different: BTreeSet<&&str> = items.iter().collect();
            items.len() <= 8
                && different.len() == items.len()
                && items.iter().all(|item| stat_is_good(item))
        }
        "split" => SPLITS.contains(value),
        "top" => is_number(value, 1..=500),
        "fill" => *value == "zero",
        _ => false,
    });
    let date = |name| given.get(name).and_then(|value| day_of(value));
    let dates_are_good = match (days, date("from"), date("to")) {
        ("*", Some(from), Some(to)) => {
            let most = if ["15min", "hour"].contains(&mode) { 62 } else { 400 };
            from <= to && to - from < most
        }
        ("*", ..) => false,
        _ => !given.contains_key("from") && !given.contains_key("to"),
    };
    let split_is_good = match given.get("split") {
        Some(split) => {
            let allowed = match *split {
                "goal" => &["12"][..],
                "tag" => &["18"],
                "intent" => &["6", "7"],
                "integration" => &["4", "14", "15", "107"],
                _ => &["9", "11", "16", "17", "106"],
            };
            types.iter().all(|code| allowed.contains(code))
        }
        None => !given.contains_key("top"),
    };
    let previous_is_good = mode != "weekhour" || !given.contains_key("previous");
    values_are_good && dates_are_good && split_is_good && previous_is_good
}

fn stat_is_good(item: &str) -> bool {
    let within = |seconds| is_number(seconds, 1..=604_800);
    ["min", "max"].contains(&item)
        || item.strip_prefix('p').is_some_and(|percent| is_number(percent, 1..=99))
        || item.strip_prefix("within:").is_some_and(within)
}

/// How many days a date written as `YYYY-MM-DD` is after 1970-12-31; `None` for any other text.
fn day_of(text: &str) -> Option<u32> {
    let is_form = text.len() == 10
        && text.chars().enumerate().all(|(place, c)| match place {
            4 | 7 => c == '-',
            _ => c.is_ascii_digit(),
        });
    if !is_form {
        return None;
    }
    let mut parts = text.split('-').map(|part| part.parse::<u32>().expect("digits"));
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let is_leap = |year: u32| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let days_of = |year: u32| {
        let february = if is_leap(year) { 29 } else { 28 };
        [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    };
    let months = days_of(year);
    let before = usize::try_from(month.checked_sub(1)?).ok()?;
    if year < 1971 || before >= 12 || !(1..=months[before]).contains(&day) {
        return None;
    }
    let years: u32 = (1971..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    Some(years + months[..before].iter().sum::<u32>() + day)
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
