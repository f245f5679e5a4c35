//! `botstats stats`: asks the endpoint and shows the rows.

mod http;
mod table;

use std::convert::Infallible;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use botstats_common::ids::is_id_char;
use botstats_common::io::{clock, settings};
use botstats_common::metric::{TypeCode, TypeSet};
use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::output::{Answer, BadUsage, printable};

pub(crate) use http::{Reply, get};

/// The most days that the endpoint answers.
const MAX_DAYS: i64 = 30;
/// The lengths of an API key that are allowed, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 8..=128;

/// The default endpoint: that of a query on this machine.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8080";

#[derive(Debug, Args)]
#[command(
    after_long_help = "The token comes from the variable BOTSTATS_TOKEN or from a file, never from an argument. \
    One call an account an hour is answered: a 429 says when the next one is.\n\n\
    EXAMPLES\n  \
    BOTSTATS_TOKEN=bst_... botstats stats\n  \
    botstats stats --token-file acme.token --types 0-18 --group hour --days 1\n  \
    botstats stats --token-file acme.token --json | jq '.[] | select(.EventType == 10)'"
)]
pub(crate) struct Stats {
    /// File that holds the account's token; without it the variable BOTSTATS_TOKEN does
    #[arg(long, env = "BOTSTATS_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Where the endpoint is
    #[arg(long = "url", env = "BOTSTATS_URL", default_value = DEFAULT_URL, value_name = "URL", value_parser = base_url)]
    endpoint: String,
    /// API key of one bot [default: all bots of the account]
    #[arg(long, env = "BOTSTATS_BOT_KEY", hide_env_values = true, value_name = "KEY", value_parser = secret)]
    bot: Option<SecretString>,
    /// Types to ask for: codes and ranges of codes, such as 0,2,8-10
    #[arg(long, default_value = "0,2,3,8,10,13", value_name = "TYPES", value_parser = types)]
    types: TypeSet,
    /// What a row stands for
    #[arg(long, default_value = "day", value_name = "GROUP", ignore_case = true)]
    group: Group,
    /// Days of history, 1 to 30
    #[arg(long, default_value_t = 7, value_name = "DAYS", value_parser = settings::whole::<i64>(1..=MAX_DAYS))]
    days: i64,
}

/// What a row stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    Hour,
    Day,
    Month,
    Year,
}

pub(crate) fn base_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        // The token takes the header that user and password would need.
        Some(rest) if !rest.is_empty() && !rest.contains(['?', '#', ' ', '@']) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => {
            Err("http://HOST:PORT or https://HOST is needed, without user and password".to_owned())
        }
    }
}

fn secret(text: &str) -> Result<SecretString, Infallible> {
    Ok(SecretString::from(text))
}

/// Checks an API key. Clap does not do it, because its error would repeat a key with a typo.
fn check_key(key: &str) -> Result<&str, BadUsage> {
    if KEY_BYTES.contains(&key.len()) && key.bytes().all(is_id_char) {
        Ok(key)
    } else {
        let needed = "8 to 128 of A-Z a-z 0-9 _ - are needed";
        Err(BadUsage(format!("--bot (BOTSTATS_BOT_KEY) is no API key: {needed}")))
    }
}

fn types(text: &str) -> Result<TypeSet, String> {
    let (first, last) = (TypeCode::OFFERED_NUMBERS.start(), TypeCode::OFFERED_NUMBERS.end());
    let bad = |item: &str| format!("{item:?}: codes {first} to {last} are allowed");
    let mut set = TypeSet::default();
    for item in text.split(',') {
        let (from, to) = item.split_once('-').unwrap_or((item, item));
        let code = |text: &str| {
            let number = text.parse::<u8>().map_err(|_| bad(item))?;
            TypeCode::offered(number).ok_or_else(|| bad(item))
        };
        let (from, to) = (code(from)?, code(to)?);
        if from > to {
            return Err(bad(item));
        }
        TypeCode::OFFERED
            .into_iter()
            .filter(|c| (from..=to).contains(c))
            .for_each(|c| set.insert(c));
    }
    Ok(set)
}

/// The endpoint's path for a question.
#[must_use]
pub(crate) fn path(key: Option<&str>, types: TypeSet, group: Group, days: i64) -> String {
    let codes: Vec<String> = types.iter().map(|code| code.to_string()).collect();
    let group = match group {
        Group::Hour => "hour",
        Group::Day => "day",
        Group::Month => "month",
        Group::Year => "year",
    };
    let key = key.unwrap_or("*");
    format!("/analytics/statistics/account/{key}/{}/{group}/{days}", codes.join(","))
}

/// A problem that the endpoint tells (RFC 9457).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
}

pub(crate) async fn run(stats: Stats) -> anyhow::Result<Answer> {
    let token = token(stats.token_file.as_deref())?;
    let key = stats.bot.as_ref().map(|key| check_key(key.expose_secret())).transpose()?;
    let url = format!("{}{}", stats.endpoint, path(key, stats.types, stats.group, stats.days));
    let reply = get(url, token)
        .await
        .with_context(|| format!("no answer from {}; is query running there?", stats.endpoint))?;
    if reply.status != 200 {
        bail!("{}", refusal(&reply, clock::now_ms()));
    }
    let rows: Vec<table::Row> = serde_json::from_str(&reply.body).with_context(|| {
        format!(
            "the answer of {} has no rows; is that URL the endpoint of botstats?",
            stats.endpoint
        )
    })?;
    Ok(Answer::new(table::show(&rows, reply.as_of.as_deref()), &reply.body))
}

fn token(file: Option<&std::path::Path>) -> anyhow::Result<SecretString> {
    match file {
        Some(path) => settings::secret_file(path).with_context(|| {
            format!("--token-file (BOTSTATS_TOKEN_FILE): {}", settings::shown_path(path))
        }),
        None => settings::secret_variable(settings::BOTSTATS_TOKEN).ok_or_else(|| {
            let text = "no token: set BOTSTATS_TOKEN or give --token-file; \
                        `botstats token add ACCOUNT` makes one";
            BadUsage(text.to_owned()).into()
        }),
    }
}

/// The error for an answer other than 200.
fn refusal(reply: &Reply, now_ms: i64) -> String {
    let problem: Problem = serde_json::from_str(&reply.body).unwrap_or_default();
    let said = match (problem.title.as_str(), problem.detail.as_str()) {
        ("", "") => String::new(),
        (title, "") => format!(": {title}"),
        ("", detail) => format!(": {detail}"),
        (title, detail) => format!(": {title}: {detail}"),
    };
    let when = |seconds: u32| {
        let at = clock::rfc3339_ms(now_ms + i64::from(seconds) * 1_000);
        format!("in {} (at {at})", span(seconds))
    };
    let hint = match (reply.status, reply.retry_after) {
        (401, _) => "\nthe token is unknown or was revoked; \
                     `botstats token add ACCOUNT` makes a new one"
            .to_owned(),
        (404, _) => "\nthe account or the bot is not there".to_owned(),
        (429, Some(seconds)) => {
            format!("\nthe account's call is used; the next one is {}", when(seconds))
        }
        (503, Some(seconds)) => format!("\nthe call is not used up; try again {}", when(seconds)),
        _ => String::new(),
    };
    printable(&format!("the endpoint answers {}{said}{hint}", reply.status))
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
    fn type_lists() {
        for (text, codes) in [
            ("0", Some("0")),
            ("13,0,2", Some("0,2,13")),
            ("8-10", Some("8,9,10")),
            ("0-18", Some("0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18")),
            ("3,3,2-4", Some("2,3,4")),
            ("", None),
            ("19", None),
            ("5-3", None),
            ("1,,2", None),
            ("-1", None),
            ("a", None),
        ] {
            let path = types(text).ok().map(|set| path(None, set, Group::Day, 7));
            let expect =
                codes.map(|codes| format!("/analytics/statistics/account/*/{codes}/day/7"));
            assert_eq!(path, expect, "{text:?}");
        }
    }

    #[test]
    fn urls_and_keys() {
        assert_eq!(base_url("http://a:1/").as_deref(), Ok("http://a:1"));
        assert_eq!(base_url("https://a/x").as_deref(), Ok("https://a/x"));
        for text in ["", "a:1", "ftp://a", "http://", "http://a?x"] {
            assert!(base_url(text).is_err(), "{text:?}");
        }
        assert!(check_key("bsk_0123").is_ok());
        for text in ["short", "with space", "bsk_0123/..", ""] {
            assert!(check_key(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        let now = 1_795_176_000_000;
        let reply = |status, retry_after, body: &str| Reply {
            status,
            retry_after,
            as_of: None,
            body: body.to_owned(),
        };
        for (reply, expect) in [
            (
                reply(429, Some(2_520), r#"{"title":"Too many requests"}"#),
                "the endpoint answers 429: Too many requests\nthe account's call is used; the next \
                 one is in 42 min 0 s (at 2026-11-20T12:42:00.000Z)",
            ),
            (
                reply(400, None, r#"{"title":"Bad request","detail":"DAYS"}"#),
                "the endpoint answers 400: Bad request: DAYS",
            ),
            (
                reply(503, Some(5), "<html>"),
                "the endpoint answers 503\nthe call is not used up; try again in 5 s (at \
                 2026-11-20T12:00:05.000Z)",
            ),
        ] {
            assert_eq!(refusal(&reply, now), expect);
        }
    }
}
