//! `botstats stats`: asks the endpoint and shows the rows.

mod columns;
mod compare;
mod http;
mod question;
mod refusal;
mod row;
mod table;
mod week;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use botstats_common::io::{clock, settings};
use clap::Args;
use secrecy::SecretString;

use crate::output::{Answer, BadUsage};

pub(crate) use http::{CSV, JSON, Reply, get};

/// The default endpoint: that of a query on this machine.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8080";

#[derive(Debug, Args)]
#[command(
    after_long_help = "The token comes from the variable BOTSTATS_TOKEN or from a file, never from an argument. \
    One call an account an hour is answered: a 429 says when the next one is. Only an answer uses the call, an \
    error does not. With --as-bot the token is a bot's, which has calls of its own.\n\n\
    --stats takes percentiles by nearest rank, of durations kept to three digits.\n\n\
    EXAMPLES\n  \
    BOTSTATS_TOKEN=bst_... botstats stats\n  \
    botstats stats --token-file acme.token --types 0-18 --group hour --days 1\n  \
    botstats stats --from 2026-11-01 --to 2026-11-30 --group total --previous month\n  \
    botstats stats --types 105,106 --stats p50,p90,within:30 --by channel\n  \
    botstats stats --split goal --top 10 --by none --group total\n  \
    botstats stats --types 13 --group weekhour --days 28 --by none\n  \
    botstats stats --token-file acme.token --json | jq '.[] | select(.EventType == 10)'"
)]
pub(crate) struct Stats {
    /// File that holds the token of the account, or of a bot; without it the variable
    /// BOTSTATS_TOKEN does
    #[arg(long, env = "BOTSTATS_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Where the endpoint is
    #[arg(long = "url", env = "BOTSTATS_URL", default_value = DEFAULT_URL, value_name = "URL", value_parser = base_url)]
    endpoint: String,
    #[command(flatten)]
    question: question::Question,
    /// Answer as CSV on standard output, as the endpoint sends it
    #[arg(long)]
    csv: bool,
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

/// Asks; `json`: the answer is wanted as JSON.
pub(crate) async fn run(stats: Stats, json: bool) -> anyhow::Result<Answer> {
    let Stats { token_file, endpoint, question, csv } = stats;
    if csv && json {
        return Err(BadUsage("--csv and --json are two formats: give one".to_owned()).into());
    }
    let token = token(token_file.as_deref())?;
    question.check()?;
    let url = format!("{endpoint}{}", question.path());
    let reply = get(url, token, if csv { CSV } else { JSON })
        .await
        .with_context(|| format!("no answer from {endpoint}; is query running there?"))?;
    if reply.status != 200 {
        bail!("{}", refusal::refusal(&reply, question.as_bot, clock::now_ms()));
    }
    if csv {
        return Ok(Answer::new(reply.body, ""));
    }
    let no_rows =
        || format!("the answer of {endpoint} has no rows; is that URL the endpoint of botstats?");
    let rows: Vec<row::Row> = serde_json::from_str(&reply.body).with_context(no_rows)?;
    let text = table::show(&rows, &table::Asked::of(&question), reply.as_of.as_deref());
    Ok(Answer::new(text, &reply.body))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        assert_eq!(base_url("http://a:1/").as_deref(), Ok("http://a:1"));
        assert_eq!(base_url("https://a/x").as_deref(), Ok("https://a/x"));
        for text in ["", "a:1", "ftp://a", "http://", "http://a?x"] {
            assert!(base_url(text).is_err(), "{text:?}");
        }
    }
}
