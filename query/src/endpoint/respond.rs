//! Answers: the headers that belong to each.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use botstats_common::ids::{Account, is_request_id};
use botstats_common::io::clock;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName,
    RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use jiff::civil::Date;
use uuid::Uuid;

use super::body::{self, Body};
use crate::accept::Coding;
use crate::answer::render::Format;
use crate::problem::{Problem, UNAVAILABLE_RETRY_S};
use crate::throttle::Throttle;

/// Names a request in logs, answers and the reads that it causes.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Everything stored up to then is counted.
pub const DATA_AS_OF: HeaderName = HeaderName::from_static("data-as-of");
/// The account's allowance and what is left of it.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The rule of the allowance.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
/// What an answer of the statistics depends on beside its path.
pub const VARY_FIELDS: &str = "Authorization, Accept, Accept-Encoding";
/// Room for the headers of any answer, so that the map never grows.
const HEADERS: usize = 12;
/// Room for most problems.
const PROBLEM_BYTES: usize = 512;
/// The media type of errors.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The request's own id if it has a proper one, else a new one.
#[must_use]
pub fn request_id(headers: &HeaderMap) -> String {
    let mut given = headers.get_all(X_REQUEST_ID).iter();
    match (given.next().and_then(|value| value.to_str().ok()), given.next()) {
        (Some(id), None) if is_request_id(id) => id.to_owned(),
        _ => new_id(),
    }
}

/// A new id: the time, and what this process drew when it made its first one, counted up. Not a secret.
///
/// *Why* nothing is drawn for each: a system call an answer is a tenth of what a refusal costs.
fn new_id() -> String {
    static DRAWN: OnceLock<u128> = OnceLock::new();
    static MADE: AtomicU64 = AtomicU64::new(0);
    let drawn = *DRAWN.get_or_init(|| Uuid::now_v7().as_u128());
    let counted = drawn.wrapping_add(MADE.fetch_add(1, Ordering::Relaxed).into());
    let [.., a, b, c, d, e, f, g, h, i, j] = counted.to_be_bytes();
    let now_ms = u64::try_from(clock::now_ms()).unwrap_or_default();
    let random = [a, b, c, d, e, f, g, h, i, j];
    uuid::Builder::from_unix_timestamp_millis(now_ms, &random).into_uuid().to_string()
}

/// The answer to a problem; the headers of the statistics are the caller's.
#[must_use]
pub fn problem(problem: &Problem, request_id: &str) -> Response<Body> {
    let mut json = Vec::with_capacity(PROBLEM_BYTES);
    // Plain strings and numbers always serialize, and memory takes them.
    let _written = serde_json::to_writer(&mut json, &problem.body(request_id));
    let mut response = with_body(problem.status(), PROBLEM_JSON, body::whole(json));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = problem.retry_after_s() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(challenge) = problem.challenge() {
        insert(headers, WWW_AUTHENTICATE, &challenge);
    }
    match problem {
        Problem::MethodNotAllowed(methods) => {
            headers.insert(ALLOW, HeaderValue::from_static(methods.names()));
        }
        Problem::Throttled { retry_after_s, window_s } => {
            rate_limit(headers, *window_s, *retry_after_s);
        }
        _ => {}
    }
    response
}

/// What the head of an answer with statistics tells.
#[derive(Debug)]
pub struct Told<'a> {
    /// How the rows are written.
    pub format: Format,
    /// The coding of the body.
    pub coding: Coding,
    /// Whose statistics they are.
    pub account: &'a Account,
    /// The last local date of the window.
    pub last_date: Date,
    /// Everything stored up to then is counted, as RFC 3339.
    pub as_of: &'a str,
    /// The throttle; `None` if it is off.
    pub throttle: Option<Throttle>,
}

/// An answer with statistics.
#[must_use]
pub fn statistics(body: Body, told: &Told<'_>) -> Response<Body> {
    let Told { format, coding, account, last_date, as_of, throttle } = told;
    let mut response = with_body(StatusCode::OK, format.content_type(), body);
    let headers = response.headers_mut();
    if *format == Format::Csv {
        // A browser or spreadsheet that saves the answer would name the file after DAYS. Never the
        // API key: file names are seen by others.
        let file = format!("attachment; filename=\"botstats-{account}-{last_date}.csv\"");
        insert(headers, CONTENT_DISPOSITION, &file);
    }
    if let Some(name) = coding.name() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    insert(headers, DATA_AS_OF, as_of);
    match throttle {
        Some(throttle) => {
            let window_s = throttle.window_s();
            insert(headers, CACHE_CONTROL, &format!("private, max-age={window_s}"));
            rate_limit(headers, window_s, throttle.longest_wait_s());
        }
        None => {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
    response
}

/// The answer to a check of the health: the same few bytes each time, which tell the public nothing
/// else.
#[must_use]
pub fn health(ready: bool) -> Response<Body> {
    let (status, text) = match ready {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    };
    let mut response = with_body(status, "text/plain; charset=utf-8", body::whole(text));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !ready {
        headers.insert(RETRY_AFTER, HeaderValue::from(UNAVAILABLE_RETRY_S));
    }
    response
}

/// An answer with a body of that media type.
#[must_use]
pub fn with_body(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
    response
}

/// Adds what every answer of the statistics has.
pub fn vary(headers: &mut HeaderMap) {
    headers.insert(VARY, HeaderValue::from_static(VARY_FIELDS));
}

/// Sets a header whose value is made of digits, plain words and what was checked before.
pub fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn rate_limit(headers: &mut HeaderMap, window_s: u64, seconds: u64) {
    insert(headers, RATE_LIMIT_POLICY, &format!("\"account\";q=1;w={window_s}"));
    insert(headers, RATE_LIMIT, &format!("\"account\";r=0;t={seconds}"));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::question::Methods;

    fn shown(response: &Response<Body>) -> Vec<String> {
        let mut lines: Vec<_> = response
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines.insert(0, response.status().as_u16().to_string());
        lines
    }

    #[test]
    fn heads() {
        let answer = |format, window_s| {
            let told = Told {
                format,
                coding: Coding::Gzip,
                account: &"Acme_-1".parse().unwrap(),
                last_date: Date::constant(2026, 11, 20),
                as_of: "2026-11-20T10:52:00.000Z",
                throttle: Throttle::with_window(Duration::from_secs(window_s)),
            };
            shown(&statistics(body::whole(""), &told))
        };
        assert_eq!(
            answer(Format::Csv, 3600),
            [
                "200",
                "cache-control: private, max-age=3600",
                "content-disposition: attachment; filename=\"botstats-Acme_-1-2026-11-20.csv\"",
                "content-encoding: gzip",
                "content-type: text/csv; charset=utf-8",
                "data-as-of: 2026-11-20T10:52:00.000Z",
                "ratelimit-policy: \"account\";q=1;w=3600",
                "ratelimit: \"account\";r=0;t=3601",
                "x-content-type-options: nosniff",
            ]
        );
        let off = answer(Format::Json, 0);
        let absent = |name: &str| off.iter().all(|line| !line.contains(name));
        assert!(absent("ratelimit") && absent("content-disposition"), "{off:?}");
        assert!(off.contains(&"cache-control: no-store".to_owned()));
        let throttled = Problem::Throttled { retry_after_s: 17, window_s: 3600 };
        assert_eq!(
            shown(&problem(&throttled, "r")),
            [
                "429",
                "cache-control: no-store",
                "content-type: application/problem+json",
                "ratelimit-policy: \"account\";q=1;w=3600",
                "ratelimit: \"account\";r=0;t=17",
                "retry-after: 17",
                "x-content-type-options: nosniff",
            ]
        );
        for (kind, line) in [
            (Problem::MethodNotAllowed(Methods::Get), "allow: GET"),
            (Problem::MethodNotAllowed(Methods::GetAndHead), "allow: GET, HEAD"),
            (Problem::Unavailable("x"), "retry-after: 2"),
            (
                Problem::Unauthorized { token_given: true },
                "www-authenticate: Bearer realm=\"botstats\", error=\"invalid_token\"",
            ),
            (
                Problem::Unauthorized { token_given: false },
                "www-authenticate: Bearer realm=\"botstats\"",
            ),
        ] {
            assert!(shown(&problem(&kind, "r")).contains(&line.to_owned()), "{kind:?}");
        }
    }

    #[test]
    fn request_ids() {
        let longest = "x".repeat(128);
        let too_long = "x".repeat(129);
        for (given, taken) in [
            (&["abc-1._Z"][..], true),
            (&[longest.as_str()], true),
            (&[too_long.as_str()], false),
            (&[""], false),
            (&["a b"], false),
            (&["a", "a"], false),
            (&[], false),
        ] {
            let headers: HeaderMap =
                given.iter().map(|id| (X_REQUEST_ID, id.parse().unwrap())).collect();
            assert_eq!(given.first() == Some(&request_id(&headers).as_str()), taken, "{given:?}");
        }
        let made: BTreeSet<String> = (0..10_000).map(|_| request_id(&HeaderMap::new())).collect();
        assert_eq!(made.len(), 10_000);
        let first = Uuid::parse_str(made.first().unwrap()).unwrap();
        assert_eq!(first.get_version_num(), 7);
    }
}
