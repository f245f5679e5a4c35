//! What to tell of an answer other than 200: one line, which says what to do.

use botstats_common::io::clock;
use serde::Deserialize;

use super::Reply;
use crate::output::printable;

/// A problem that the endpoint tells (RFC 9457).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
}

/// The error for an answer other than 200. `as_bot`: the token was taken for a bot's.
pub(super) fn refusal(reply: &Reply, as_bot: bool, now_ms: i64) -> String {
    let when = |to_do: &str| match reply.retry_after {
        Some(seconds) => {
            let at = clock::rfc3339_ms(now_ms + i64::from(seconds) * 1_000);
            format!("{to_do} in {} (at {at})", span(seconds))
        }
        None => format!("{to_do} later"),
    };
    let said = match reply.status {
        401 => {
            let make = if as_bot { "ACCOUNT --bot BOT" } else { "ACCOUNT" };
            format!(
                "the token is unknown, was revoked or has expired; `botstats token add {make}` \
                 makes a new one"
            )
        }
        403 if as_bot => {
            "the token is not a bot's; leave out --as-bot, or use a bot's token".to_owned()
        }
        403 => "the token may not ask for the account's statistics; add --as-bot if it is a bot's"
            .to_owned(),
        404 if as_bot => {
            "the bot or its account is not there, or --url is not the endpoint's".to_owned()
        }
        404 => "the account or the bot is not there; check --bot and --url".to_owned(),
        429 if as_bot => when("the bot's call is used; ask again"),
        429 => when("the account's call is used; ask again"),
        503 => {
            let what = told(reply, "not available for the moment");
            format!("{what}; no call was used; {}", when("try again"))
        }
        400 => format!("{}; no call was used", told(reply, "the question is not allowed")),
        _ => told(reply, "unexpected; is --url the endpoint of botstats?"),
    };
    // One line, whatever the other side wrote.
    printable(&format!("the endpoint answers {}: {said}", reply.status)).replace('\n', " ")
}

/// What the problem says is wrong; `otherwise` if the answer is no problem.
fn told(reply: &Reply, otherwise: &str) -> String {
    let Problem { title, detail } = serde_json::from_str(&reply.body).unwrap_or_default();
    let text = if detail.is_empty() { title } else { detail };
    let text = text.strip_suffix("; no call was used").unwrap_or(&text);
    if text.is_empty() { otherwise.to_owned() } else { text.to_owned() }
}

/// Seconds as people say them.
fn span(seconds: u32) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_to_do() {
        let now = 1_795_176_000_000;
        let reply = |status, retry_after, body: &str| Reply {
            status,
            retry_after,
            as_of: None,
            body: body.to_owned(),
        };
        for (reply, as_bot, expect) in [
            (
                reply(429, Some(2_520), r#"{"title":"Too many requests"}"#),
                false,
                "the endpoint answers 429: the account's call is used; ask again in 42 min 0 s (at \
                 2026-11-20T12:42:00.000Z)",
            ),
            (
                reply(429, Some(5), ""),
                true,
                "the endpoint answers 429: the bot's call is used; ask again in 5 s (at \
                 2026-11-20T12:00:05.000Z)",
            ),
            (
                reply(400, None, r#"{"title":"Bad request","detail":"DAYS"}"#),
                false,
                "the endpoint answers 400: DAYS; no call was used",
            ),
            (
                reply(400, None, r#"{"detail":"too large: one bot; no call was used"}"#),
                false,
                "the endpoint answers 400: too large: one bot; no call was used",
            ),
            (
                reply(401, None, "{}"),
                true,
                "the endpoint answers 401: the token is unknown, was revoked or has expired; \
                 `botstats token add ACCOUNT --bot BOT` makes a new one",
            ),
            (
                reply(403, None, r#"{"title":"Forbidden"}"#),
                false,
                "the endpoint answers 403: the token may not ask for the account's statistics; add \
                 --as-bot if it is a bot's",
            ),
            (
                reply(403, None, "{}"),
                true,
                "the endpoint answers 403: the token is not a bot's; leave out --as-bot, or use a \
                 bot's token",
            ),
            (
                reply(404, None, "{}"),
                false,
                "the endpoint answers 404: the account or the bot is not there; check --bot and \
                 --url",
            ),
            (
                reply(503, Some(5), "<html>"),
                false,
                "the endpoint answers 503: not available for the moment; no call was used; try \
                 again in 5 s (at 2026-11-20T12:00:05.000Z)",
            ),
            (
                reply(
                    503,
                    Some(2),
                    r#"{"detail":"the statistics cannot be reached; no call was used"}"#,
                ),
                false,
                "the endpoint answers 503: the statistics cannot be reached; no call was used; try \
                 again in 2 s (at 2026-11-20T12:00:02.000Z)",
            ),
            (
                reply(502, None, "a\nb"),
                false,
                "the endpoint answers 502: unexpected; is --url the endpoint of botstats?",
            ),
        ] {
            assert_eq!(refusal(&reply, as_bot, now), expect);
        }
    }
}
