//! Responses: the fields in the head of each kind of answer.

use botstats_common::ids::Account;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName,
    RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use jiff::civil::Date;

use crate::admission::allowance::{Allowance, Policy};
use crate::answer::Format;
use crate::http::{Body, Coding, whole};
use crate::problem::{Problem, UNAVAILABLE_RETRY_S};

/// Everything stored up to this instant is counted.
const DATA_AS_OF: HeaderName = HeaderName::from_static("data-as-of");
/// The allowance of the account or the bot, and what is left of it.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The same allowance as a rule.
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
/// The fields of a request that change an answer of the statistics.
pub(crate) const VARY_FIELDS: &str = "Authorization, Accept, Accept-Encoding";
/// The capacity for the fields of any answer, so that the map never grows.
const HEADERS: usize = 12;
/// The capacity for most problems.
const PROBLEM_BYTES: usize = 512;
/// The media type of errors.
const PROBLEM_JSON: &str = "application/problem+json";

/// The answer to a problem; the headers of the statistics are the caller's.
pub(crate) fn problem(problem: &Problem, request_id: &str) -> Response<Body> {
    let mut json = Vec::with_capacity(PROBLEM_BYTES);
    // Plain strings and numbers always serialize, and memory takes them.
    let _written = serde_json::to_writer(&mut json, &problem.body(request_id));
    let mut response = with_body(problem.status(), PROBLEM_JSON, whole(json));
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
        Problem::Throttled { policy, retry_after_s, window_s } => {
            rate_limit(headers, *policy, *window_s, *retry_after_s);
        }
        _ => {}
    }
    response
}

/// What the head of an answer with statistics says.
#[derive(Debug)]
pub(crate) struct StatisticsHead<'a> {
    pub(crate) format: Format,
    pub(crate) coding: Coding,
    pub(crate) account: &'a Account,
    /// The last local date of the window.
    pub(crate) last_date: Date,
    /// Everything stored up to this instant (RFC 3339) is counted.
    pub(crate) as_of: &'a str,
    /// `None` if the throttle is off.
    pub(crate) allowance: Option<Allowance>,
}

/// An answer with statistics.
pub(crate) fn statistics(body: Body, head: &StatisticsHead<'_>) -> Response<Body> {
    let StatisticsHead { format, coding, account, last_date, as_of, allowance } = head;
    let mut response = with_body(StatusCode::OK, format.content_type(), body);
    let headers = response.headers_mut();
    if *format == Format::Csv {
        // A browser that saves the answer would name the file after DAYS. The name never has the
        // API key: others see file names.
        let file = format!("attachment; filename=\"botstats-{account}-{last_date}.csv\"");
        insert(headers, CONTENT_DISPOSITION, &file);
    }
    if let Some(name) = coding.name() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    insert(headers, DATA_AS_OF, as_of);
    match allowance {
        Some(allowance) => {
            let window_s = allowance.window_s();
            insert(headers, CACHE_CONTROL, &format!("private, max-age={window_s}"));
            rate_limit(headers, allowance.policy(), window_s, allowance.longest_wait_s());
        }
        None => {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
    response
}

/// The answer to a check of a load balancer: the public learns nothing else from it.
pub(crate) fn health(ready: bool) -> Response<Body> {
    let (status, text) = match ready {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    };
    let mut response = with_body(status, "text/plain; charset=utf-8", whole(text));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !ready {
        headers.insert(RETRY_AFTER, HeaderValue::from(UNAVAILABLE_RETRY_S));
    }
    response
}

/// An answer with a body of that media type.
pub(crate) fn with_body(
    status: StatusCode,
    content_type: &'static str,
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
    response
}

/// Adds the field that every answer of the statistics has, refusals included.
pub(crate) fn vary(headers: &mut HeaderMap) {
    headers.insert(VARY, HeaderValue::from_static(VARY_FIELDS));
}

/// Sets a field whose value is made of digits, plain words and checked ids.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn rate_limit(headers: &mut HeaderMap, policy: Policy, window_s: u64, seconds: u64) {
    let policy = policy.name();
    insert(headers, RATE_LIMIT_POLICY, &format!("\"{policy}\";q=1;w={window_s}"));
    insert(headers, RATE_LIMIT, &format!("\"{policy}\";r=0;t={seconds}"));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::Methods;

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
            let head = StatisticsHead {
                format,
                coding: Coding::Gzip,
                account: &"Acme_-1".parse().unwrap(),
                last_date: Date::constant(2026, 11, 20),
                as_of: "2026-11-20T10:52:00.000Z",
                allowance: Allowance::of_accounts(Duration::from_secs(window_s)),
            };
            shown(&statistics(whole(""), &head))
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
        for (policy, limit) in [
            (Policy::Account, ["\"account\";q=1;w=3600", "\"account\";r=0;t=17"]),
            (Policy::Bot, ["\"bot\";q=1;w=3600", "\"bot\";r=0;t=17"]),
        ] {
            let throttled = Problem::Throttled { policy, retry_after_s: 17, window_s: 3600 };
            assert_eq!(
                shown(&problem(&throttled, "r")),
                [
                    "429",
                    "cache-control: no-store",
                    "content-type: application/problem+json",
                    &format!("ratelimit-policy: {}", limit[0]),
                    &format!("ratelimit: {}", limit[1]),
                    "retry-after: 17",
                    "x-content-type-options: nosniff",
                ]
            );
        }
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
}
