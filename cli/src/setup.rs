//! `botstats setup`: makes or checks the stream and the KV buckets.

use std::time::Duration;

use async_nats::jetstream;
use botstats_common::io::clock;
use botstats_common::io::logging::RateLimit;
use botstats_common::io::nats::{self, ConnectError, NatsSettings, Role};
use botstats_common::io::settings::{bytes, duration, show_duration, whole};
use botstats_common::io::setup::{self as making, Outcome, SetupError, Shape};
use botstats_common::names::{
    BOT_THROTTLE_BUCKET, DIRECTORY_BUCKET, EVENTS_STREAM, THROTTLE_BUCKET,
};
use botstats_common::slot::SLOT_COUNT;
use clap::Args;
use serde_json::json;

use crate::output::Answer;

/// Pause before a retry.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// The most replicas of a stream: nats-server allows no more.
const MAX_REPLICAS: i64 = 5;

#[derive(Debug, Args)]
#[command(after_long_help = "EXAMPLES\n  \
    botstats setup\n  \
    botstats setup --replicas 3                 in a cluster of three or more nats-servers\n  \
    botstats setup --throttle-window 15m        four calls an account an hour\n  \
    botstats setup --max-bytes 10GB             in an account that requires limits of size\n  \
    botstats setup --cells 4                    a new installation whose accounts share four streams\n  \
    botstats setup --wait 60s                   beside servers that are just being started")]
pub(crate) struct Setup {
    /// One call an account in this time; 0s switches the throttle off
    #[arg(long, env = "BOTSTATS_THROTTLE_WINDOW", default_value = "1h", value_name = "DURATION", value_parser = duration)]
    throttle_window: Duration,
    /// One call a bot in this time, for tokens of bots; 0s switches that throttle off
    #[arg(long, env = "BOTSTATS_BOT_THROTTLE_WINDOW", default_value = "30m", value_name = "DURATION", value_parser = duration)]
    bot_throttle_window: Duration,
    /// Copies of stream and KV buckets in the cluster: 1, 3 or 5
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = replicas)]
    replicas: usize,
    /// Limit of the stream of events, where the NATS account requires one; each KV bucket gets
    /// 64MB, or SIZE if that is less. When the stream is full publishers get errors
    #[arg(long, env = "BOTSTATS_MAX_BYTES", value_name = "SIZE", value_parser = bytes)]
    max_bytes: Option<i64>,
    /// For a new installation: spread the accounts over N streams, 2 to 256. The mapping of slots
    /// must be in every nats-server (docs/scaling.md); `botstats cells check` says whether it is
    #[arg(long, value_name = "N", value_parser = whole::<usize>(2..=SLOT_COUNT))]
    cells: Option<usize>,
    /// Retry for this time while NATS can't be reached or can't make stream and buckets yet
    #[arg(long, default_value = "0s", value_name = "DURATION", value_parser = duration)]
    wait: Duration,
}

fn replicas(text: &str) -> Result<usize, String> {
    match text.parse::<i64>() {
        Ok(n) if (1..=MAX_REPLICAS).contains(&n) && n % 2 == 1 => {
            usize::try_from(n).map_err(|e| e.to_string())
        }
        _ => Err("1, 3 or 5 is needed".to_owned()),
    }
}

/// The throttle windows of the calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WindowsOfCalls {
    /// Of accounts.
    pub(crate) accounts: Duration,
    /// Of bots.
    pub(crate) bots: Duration,
}

/// What was made or checked, each with its name for people.
#[derive(Debug)]
pub(crate) struct Made {
    /// The streams of events: one without cells.
    streams: Vec<(String, Outcome)>,
    directory: (String, Outcome),
    throttle: (String, Outcome),
    bot_throttle: (String, Outcome),
}

impl Made {
    /// All of it in the order in which it was made.
    pub(crate) fn all(&self) -> impl Iterator<Item = &(String, Outcome)> {
        self.streams.iter().chain([&self.directory, &self.throttle, &self.bot_throttle])
    }
}

/// Makes or checks the stream of events, or the streams of that many cells, and the buckets.
pub(crate) async fn make(
    js: &jetstream::Context,
    windows: WindowsOfCalls,
    shape: Shape,
    cells: Option<usize>,
) -> Result<Made, SetupError> {
    let streams = match cells {
        None => vec![(EVENTS_STREAM.to_owned(), making::events_stream(js, shape).await?)],
        Some(count) => making::events_cells(js, shape, count).await?,
    };
    let directory = making::directory_bucket(js, shape).await?;
    let throttle = making::calls_bucket(js, THROTTLE_BUCKET, windows.accounts, shape).await?;
    let bots = making::calls_bucket(js, BOT_THROTTLE_BUCKET, windows.bots, shape).await?;
    let [window, of_bots] = [windows.accounts, windows.bots].map(show_duration);
    Ok(Made {
        streams: streams.into_iter().map(|(name, made)| (format!("stream {name}"), made)).collect(),
        directory: (format!("KV bucket {DIRECTORY_BUCKET}"), directory),
        throttle: (format!("KV bucket {THROTTLE_BUCKET} (window {window})"), throttle),
        bot_throttle: (format!("KV bucket {BOT_THROTTLE_BUCKET} (window {of_bots})"), bots),
    })
}

static TRYING: RateLimit = RateLimit::new();

/// Retries until stream and buckets are made, `--wait` is over, or an error shows that waiting
/// can't help.
async fn make_within(setup: &Setup, nats: &NatsSettings) -> anyhow::Result<Made> {
    let started = clock::monotonic();
    let shape = Shape { replicas: setup.replicas, max_bytes: setup.max_bytes };
    let windows =
        WindowsOfCalls { accounts: setup.throttle_window, bots: setup.bot_throttle_window };
    loop {
        let error = match nats.connect(Role::Admin).await {
            Ok(client) => {
                let js = nats.jetstream(&client);
                match make(&js, windows, shape, setup.cells).await {
                    Ok(made) => return Ok(made),
                    Err(error @ (SetupError::Refused { .. } | SetupError::Window { .. })) => {
                        return Err(error.into());
                    }
                    Err(error) => anyhow::Error::new(error),
                }
            }
            Err(error @ (ConnectError::File { .. } | ConnectError::TooOld { .. })) => {
                return Err(error.into());
            }
            Err(error) => error.into(),
        };
        if started.elapsed() >= setup.wait {
            return Err(error);
        }
        let text = nats::explain(error.as_ref());
        if let Some(suppressed) = TRYING.due(&text) {
            tracing::warn!("setup is not possible yet; trying again: {text}{suppressed}");
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

pub(crate) async fn run(setup: Setup, nats: &NatsSettings) -> anyhow::Result<Answer> {
    let made = make_within(&setup, nats).await?;
    let mut lines: Vec<String> =
        made.all().map(|(what, outcome)| format!("{what}: {outcome}")).collect();
    let warnings: Vec<String> = made
        .all()
        .flat_map(|(what, outcome)| outcome.warnings().iter().map(move |w| format!("{what}: {w}")))
        .collect();
    if setup.cells.is_some() {
        let next = "events are stored once every nats-server maps them to slots: run `botstats cells check`";
        lines.push(next.to_owned());
    }
    let json = json!({
        "stream_made": made.streams.first().is_some_and(|(_, outcome)| outcome.is_made()),
        "streams_made": made.streams.iter().filter(|(_, outcome)| outcome.is_made()).count(),
        "cells": setup.cells,
        "directory_made": made.directory.1.is_made(),
        "throttle_made": made.throttle.1.is_made(),
        "throttle_window_seconds": setup.throttle_window.as_secs_f64(),
        "bot_throttle_made": made.bot_throttle.1.is_made(),
        "bot_throttle_window_seconds": setup.bot_throttle_window.as_secs_f64(),
        "replicas": setup.replicas, "max_bytes": setup.max_bytes, "warnings": warnings,
    });
    Ok(Answer::new(lines.join("\n"), json))
}
