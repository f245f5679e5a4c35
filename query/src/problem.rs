//! Errors as answers: the closed set of problems (RFC 9457) and who does what about each.
//!
//! *Invariants*: no text holds a token, an API key or whether another account's bot exists. No
//! error uses up an account's call.

use botstats_common::wire::{MAX_DATES_TIMES_PAIRS, MAX_NAMES};
use http::StatusCode;
use jiff::civil::Date;
use serde::Serialize;

use crate::admission::allowance::Policy;
use crate::answer::{MAX_PAGE_ROWS, MAX_ROWS};
use crate::http::{BadHead, Failure, Methods};
use crate::nats::Unreachable;
use crate::request::accept::NotAcceptable;
use crate::request::question::BadParameter;

/// The realm of the bearer tokens.
const REALM: &str = "botstats";
/// Seconds after which a client may ask again when something cannot be reached.
pub(crate) const UNAVAILABLE_RETRY_S: u64 = 2;

/// Everything that can be wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The request is not HTTP as it should be.
    BadRequest(&'static str),
    /// The head has too many fields or bytes.
    HeadTooLarge,
    /// There is nothing at this path.
    UnknownPath,
    /// Another method than those of the path.
    MethodNotAllowed(Methods),
    /// No, malformed, unknown or revoked token.
    Unauthorized {
        /// Whether there was a token at all.
        token_given: bool,
    },
    /// A valid token, of another scope than the path's.
    Forbidden,
    /// A parameter that is not allowed.
    Parameter(BadParameter),
    /// No format or coding that the client takes.
    NotAcceptable(NotAcceptable),
    /// A removed account, or an API key that is not one of the account's.
    NotFound,
    /// The call of the account or the bot is used.
    Throttled {
        /// Whose call it is.
        policy: Policy,
        /// Seconds after which the next call is allowed.
        retry_after_s: u64,
        /// The throttle window, in seconds.
        window_s: u64,
    },
    /// The token sees no such bot, or there is none.
    NoBot,
    /// A valid token that may not see operators.
    OperatorsHidden,
    /// The page asks too often, or has too many streams.
    TooMany {
        /// What there is too much of, and how much is allowed.
        what: &'static str,
        /// Seconds after which the next request may be answered.
        retry_after_s: u64,
    },
    /// The answer is larger than a call may have.
    AnswerTooLarge(TooLarge),
    /// The question reaches further back than the statistics are complete; from this local date on
    /// they are.
    Incomplete(Date),
    /// Something cannot be reached; what, in words without secrets.
    Unavailable(&'static str),
    /// A defect of this program.
    Internal,
}

/// What an answer has too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooLarge {
    /// Memory while it is made: more than
    /// [`MAX_ANSWER_BYTES`](botstats_common::wire::MAX_ANSWER_BYTES).
    Memory,
    /// This number of rows, which is more than [`MAX_ROWS`].
    Rows(usize),
    /// More than [`MAX_DATES_TIMES_PAIRS`].
    Pairs {
        /// How many pairs of a bot and a channel were asked for.
        pairs: u32,
        /// The dates of both windows.
        dates: u32,
    },
    /// More than [`MAX_NAMES`] names.
    Names,
    /// This number of rows, which is more than [`MAX_PAGE_ROWS`].
    PageRows(usize),
}

impl TooLarge {
    /// What is too much, and what to ask for instead.
    fn detail(self) -> String {
        match self {
            TooLarge::Memory => {
                "the answer needs more than 64 MiB: ask for fewer dates or TYPES, a \
                coarser GROUPMODE, one bot, or with a smaller top; no call was used"
                    .to_owned()
            }
            TooLarge::Rows(rows) => format!(
                "the answer has {rows} rows; at most {MAX_ROWS} are allowed: ask for fewer dates or \
                 TYPES, a coarser GROUPMODE, one bot, with a smaller top, or without fill=zero; no \
                 call was used"
            ),
            TooLarge::PageRows(rows) => format!(
                "the answer has {rows} rows; at most {MAX_PAGE_ROWS} are allowed for the page: ask for \
                 fewer dates or TYPES, a coarser GROUPMODE, one bot, by=none, or with a smaller top"
            ),
            TooLarge::Pairs { pairs, dates } => format!(
                "{dates} dates (those of previous included) of {pairs} pairs of a bot and a channel; \
                 dates x pairs of at most {MAX_DATES_TIMES_PAIRS} are allowed: ask for fewer dates, \
                 without previous, or for one bot; no call was used"
            ),
            TooLarge::Names => format!(
                "the answer has more than {MAX_NAMES} different names, which are allowed: ask for \
                 fewer dates, without previous, or for one bot; no call was used"
            ),
        }
    }
}

/// A problem as it is sent.
#[derive(Debug, Serialize)]
pub(crate) struct Body<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    request_id: &'a str,
}

impl Problem {
    /// One of each kind, for what describes or tests them all.
    pub(crate) fn examples() -> Vec<Problem> {
        vec![
            Problem::BadRequest("one Host field is needed"),
            Problem::HeadTooLarge,
            Problem::UnknownPath,
            Problem::MethodNotAllowed(Methods::Get),
            Problem::Unauthorized { token_given: true },
            Problem::Forbidden,
            Problem::Parameter(BadParameter::ApiKey),
            Problem::NotAcceptable(NotAcceptable::Format),
            Problem::NotFound,
            Problem::NoBot,
            Problem::OperatorsHidden,
            Problem::TooMany { what: "120 questions a minute are allowed", retry_after_s: 7 },
            Problem::Throttled { policy: Policy::Account, retry_after_s: 1800, window_s: 3600 },
            Problem::AnswerTooLarge(TooLarge::Memory),
            Problem::Incomplete(Date::constant(2026, 1, 5)),
            Problem::Unavailable("the statistics cannot be reached"),
            Problem::Internal,
        ]
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Problem::BadRequest(_)
            | Problem::Parameter(_)
            | Problem::AnswerTooLarge(_)
            | Problem::Incomplete(_) => StatusCode::BAD_REQUEST,
            Problem::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Problem::UnknownPath | Problem::NotFound | Problem::NoBot => StatusCode::NOT_FOUND,
            Problem::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Problem::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Problem::Forbidden | Problem::OperatorsHidden => StatusCode::FORBIDDEN,
            Problem::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Problem::Throttled { .. } | Problem::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Problem::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Problem::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The last part of the problem's `type`, stable for programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Problem::BadRequest(_) => "bad-request",
            Problem::HeadTooLarge => "head-too-large",
            Problem::UnknownPath => "unknown-path",
            Problem::MethodNotAllowed(_) => "method-not-allowed",
            Problem::Unauthorized { .. } => "unauthorized",
            Problem::Forbidden => "forbidden",
            Problem::Parameter(_) => "bad-parameter",
            Problem::NotAcceptable(_) => "not-acceptable",
            Problem::NotFound => "not-found",
            Problem::NoBot => "bot-not-found",
            Problem::OperatorsHidden => "operators-hidden",
            Problem::TooMany { .. } => "too-many",
            Problem::Throttled { .. } => "throttled",
            Problem::AnswerTooLarge(_) => "answer-too-large",
            Problem::Incomplete(_) => "incomplete",
            Problem::Unavailable(_) => "unavailable",
            Problem::Internal => "internal",
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Problem::BadRequest(_) => "Not a proper HTTP request",
            Problem::HeadTooLarge => "The request's head is too large",
            Problem::UnknownPath => "There is nothing at this path",
            Problem::MethodNotAllowed(Methods::Get) => "Only GET is allowed here",
            Problem::MethodNotAllowed(Methods::GetAndHead) => "Only GET and HEAD are allowed here",
            Problem::Unauthorized { .. } => "A valid account token is needed",
            Problem::Forbidden => "The token is not valid for this path",
            Problem::Parameter(_) => "A parameter is not allowed",
            Problem::NotAcceptable(_) => "No acceptable representation",
            Problem::NotFound => "Account or bot not found",
            Problem::NoBot => "Bot not found",
            Problem::OperatorsHidden => "The token may not see operators",
            Problem::TooMany { .. } => "Too many requests of the page",
            Problem::Throttled { policy: Policy::Account, .. } => "The account's call is used",
            Problem::Throttled { policy: Policy::Bot, .. } => "The bot's call is used",
            Problem::AnswerTooLarge(_) => "The answer is too large",
            Problem::Incomplete(_) => "The answer would not be complete",
            Problem::Unavailable(_) => "Not available for the moment",
            Problem::Internal => "An error in the service",
        }
    }

    fn detail(&self) -> String {
        match self {
            Problem::BadRequest(what) => (*what).to_owned(),
            Problem::HeadTooLarge => "a head of at most 16 KiB and 64 fields is allowed".to_owned(),
            Problem::UnknownPath => "see /openapi.json for what there is".to_owned(),
            Problem::MethodNotAllowed(_) => "no call was used".to_owned(),
            Problem::Unauthorized { .. } => {
                "send the account's token as Authorization: Bearer TOKEN".to_owned()
            }
            Problem::Forbidden => {
                "a token of an account is for /analytics/statistics/account/.. and /dashboard, a token of a \
                 bot for /analytics/statistics/TYPES/.., a view token for /dashboard; no call was used"
                    .to_owned()
            }
            Problem::Parameter(bad) => bad.to_string(),
            Problem::NotAcceptable(what) => what.to_string(),
            Problem::NotFound => {
                "the account was removed, or the API key is not one of its bots'".to_owned()
            }
            Problem::NoBot => "the token sees no bot with this id".to_owned(),
            Problem::OperatorsHidden => {
                "split=operator needs a token of the account, or a view token made with --operators"
                    .to_owned()
            }
            Problem::TooMany { what, retry_after_s } => {
                format!("{what}; ask again in {retry_after_s} s")
            }
            Problem::Throttled { policy, retry_after_s, window_s } => {
                let who = match policy {
                    Policy::Account => "an account",
                    Policy::Bot => "a bot",
                };
                format!("{who} has one call in {window_s} s; the next is allowed in {retry_after_s} s")
            }
            Problem::AnswerTooLarge(what) => what.detail(),
            Problem::Incomplete(since) => format!(
                "the statistics are complete from {since} on: ask for dates from then on, also for \
                 those of previous; no call was used"
            ),
            Problem::Unavailable(what) => format!("{what}; no call was used"),
            Problem::Internal => "the service's logs have the request_id".to_owned(),
        }
    }

    /// `Retry-After` in seconds, where there is one.
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        match self {
            Problem::Throttled { retry_after_s, .. } | Problem::TooMany { retry_after_s, .. } => {
                Some(*retry_after_s)
            }
            Problem::Unavailable(_) => Some(UNAVAILABLE_RETRY_S),
            _ => None,
        }
    }

    /// `WWW-Authenticate`, where there is one (RFC 6750, 3: no error code if there was no token).
    pub(crate) fn challenge(&self) -> Option<String> {
        match self {
            Problem::Unauthorized { token_given: true } => {
                Some(format!("Bearer realm=\"{REALM}\", error=\"invalid_token\""))
            }
            Problem::Unauthorized { token_given: false } => {
                Some(format!("Bearer realm=\"{REALM}\""))
            }
            _ => None,
        }
    }

    /// The body to send as `application/problem+json`.
    pub(crate) fn body<'a>(&self, request_id: &'a str) -> Body<'a> {
        Body {
            r#type: format!("urn:botstats:problem:{}", self.code()),
            title: self.title(),
            status: self.status().as_u16(),
            detail: self.detail(),
            request_id,
        }
    }
}

impl From<BadHead> for Problem {
    fn from(bad: BadHead) -> Self {
        match bad {
            BadHead::TooLarge => Problem::HeadTooLarge,
            BadHead::Malformed(what) => Problem::BadRequest(what),
            BadHead::MethodNotAllowed(methods) => Problem::MethodNotAllowed(methods),
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Panicked => Problem::Internal,
            Failure::TimedOut => Problem::Unavailable("the answer took too long"),
        }
    }
}

impl From<Unreachable> for Problem {
    fn from(unreachable: Unreachable) -> Self {
        Problem::Unavailable(unreachable.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn problems_as_they_are_sent() {
        let shown: Vec<String> = Problem::examples()
            .iter()
            .map(|problem| serde_json::to_string(&problem.body("r1")).unwrap())
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        {"type":"urn:botstats:problem:bad-request","title":"Not a proper HTTP request","status":400,"detail":"one Host field is needed","request_id":"r1"}
        {"type":"urn:botstats:problem:head-too-large","title":"The request's head is too large","status":431,"detail":"a head of at most 16 KiB and 64 fields is allowed","request_id":"r1"}
        {"type":"urn:botstats:problem:unknown-path","title":"There is nothing at this path","status":404,"detail":"see /openapi.json for what there is","request_id":"r1"}
        {"type":"urn:botstats:problem:method-not-allowed","title":"Only GET is allowed here","status":405,"detail":"no call was used","request_id":"r1"}
        {"type":"urn:botstats:problem:unauthorized","title":"A valid account token is needed","status":401,"detail":"send the account's token as Authorization: Bearer TOKEN","request_id":"r1"}
        {"type":"urn:botstats:problem:forbidden","title":"The token is not valid for this path","status":403,"detail":"a token of an account is for /analytics/statistics/account/.. and /dashboard, a token of a bot for /analytics/statistics/TYPES/.., a view token for /dashboard; no call was used","request_id":"r1"}
        {"type":"urn:botstats:problem:bad-parameter","title":"A parameter is not allowed","status":400,"detail":"APIKEY: * (all bots) or 8 to 128 of the characters A-Z a-z 0-9 _ - is allowed","request_id":"r1"}
        {"type":"urn:botstats:problem:not-acceptable","title":"No acceptable representation","status":406,"detail":"Accept allows none of what there is: application/json, text/csv, application/x-ndjson","request_id":"r1"}
        {"type":"urn:botstats:problem:not-found","title":"Account or bot not found","status":404,"detail":"the account was removed, or the API key is not one of its bots'","request_id":"r1"}
        {"type":"urn:botstats:problem:bot-not-found","title":"Bot not found","status":404,"detail":"the token sees no bot with this id","request_id":"r1"}
        {"type":"urn:botstats:problem:operators-hidden","title":"The token may not see operators","status":403,"detail":"split=operator needs a token of the account, or a view token made with --operators","request_id":"r1"}
        {"type":"urn:botstats:problem:too-many","title":"Too many requests of the page","status":429,"detail":"120 questions a minute are allowed; ask again in 7 s","request_id":"r1"}
        {"type":"urn:botstats:problem:throttled","title":"The account's call is used","status":429,"detail":"an account has one call in 3600 s; the next is allowed in 1800 s","request_id":"r1"}
        {"type":"urn:botstats:problem:answer-too-large","title":"The answer is too large","status":400,"detail":"the answer needs more than 64 MiB: ask for fewer dates or TYPES, a coarser GROUPMODE, one bot, or with a smaller top; no call was used","request_id":"r1"}
        {"type":"urn:botstats:problem:incomplete","title":"The answer would not be complete","status":400,"detail":"the statistics are complete from 2026-01-05 on: ask for dates from then on, also for those of previous; no call was used","request_id":"r1"}
        {"type":"urn:botstats:problem:unavailable","title":"Not available for the moment","status":503,"detail":"the statistics cannot be reached; no call was used","request_id":"r1"}
        {"type":"urn:botstats:problem:internal","title":"An error in the service","status":500,"detail":"the service's logs have the request_id","request_id":"r1"}
        "#);
    }

    #[test]
    fn an_answer_that_is_too_large_says_what_to_narrow() {
        let shown = [
            TooLarge::Rows(16_416_000),
            TooLarge::Pairs { pairs: 400, dates: 730 },
            TooLarge::Names,
            TooLarge::PageRows(5_001),
        ]
        .map(TooLarge::detail);
        insta::assert_snapshot!(shown.join("\n"), @r"
        the answer has 16416000 rows; at most 2000000 are allowed: ask for fewer dates or TYPES, a coarser GROUPMODE, one bot, with a smaller top, or without fill=zero; no call was used
        730 dates (those of previous included) of 400 pairs of a bot and a channel; dates x pairs of at most 150000 are allowed: ask for fewer dates, without previous, or for one bot; no call was used
        the answer has more than 100000 different names, which are allowed: ask for fewer dates, without previous, or for one bot; no call was used
        the answer has 5001 rows; at most 5000 are allowed for the page: ask for fewer dates or TYPES, a coarser GROUPMODE, one bot, by=none, or with a smaller top
        ");
    }

    #[test]
    fn a_used_call_of_a_bot_says_so() {
        let used = Problem::Throttled { policy: Policy::Bot, retry_after_s: 5, window_s: 1800 };
        insta::assert_snapshot!(serde_json::to_string(&used.body("r1")).unwrap(), @r#"{"type":"urn:botstats:problem:throttled","title":"The bot's call is used","status":429,"detail":"a bot has one call in 1800 s; the next is allowed in 5 s","request_id":"r1"}"#);
    }

    #[test]
    fn codes_are_distinct_and_errors_have_error_statuses() {
        let examples = Problem::examples();
        let codes: BTreeSet<_> = examples.iter().map(Problem::code).collect();
        assert_eq!(codes.len(), examples.len());
        assert!(examples.iter().all(|p| p.status().as_u16() >= 400));
    }

    #[test]
    fn what_the_listener_refuses_or_ends_is_a_problem() {
        for (problem, code) in [
            (Problem::from(Failure::Panicked), "internal"),
            (Problem::from(Failure::TimedOut), "unavailable"),
            (Problem::from(BadHead::TooLarge), "head-too-large"),
            (Problem::from(BadHead::Malformed("x")), "bad-request"),
            (Problem::from(BadHead::MethodNotAllowed(Methods::Get)), "method-not-allowed"),
        ] {
            assert_eq!(problem.code(), code);
        }
    }

    #[test]
    fn the_body_does_not_say_why_a_token_was_refused() {
        let body = |token_given| {
            serde_json::to_string(&Problem::Unauthorized { token_given }.body("r")).unwrap()
        };
        assert_eq!(body(true), body(false));
    }
}
