//! `botstats setup`: makes or checks the stream and the KV buckets.

use std::time::Duration;

use async_nats::jetstream;
use botstats_common::io::clock;
use botstats_common::io::logging::RateLimit;
use botstats_common::io::nats::{self, ConnectError, NatsSettings, Role};
use botstats_common::io::settings::{bytes, duration, show_duration};
use botstats_common::io::setup::{self as making, Outcome, SetupError, Shape};
use botstats_common::names::{
    BOT_THROTTLE_BUCKET, DIRECTORY_BUCKET, EVENTS_STREAM, THROTTLE_BUCKET,
};
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

/// Makes or checks the stream and the buckets; returns the outcome of each.
pub(crate) async fn make(
    js: &jetstream::Context,
    windows: WindowsOfCalls,
    shape: Shape,
) -> Result<[(String, Outcome); 4], SetupError> {
    let stream = making::events_stream(js, shape).await?;
    let directory = making::directory_bucket(js, shape).await?;
    let throttle = making::throttle_bucket(js, windows.accounts, shape).await?;
    let bots = making::bot_throttle_bucket(js, windows.bots, shape).await?;
    let [window, of_bots] = [windows.accounts, windows.bots].map(show_duration);
    Ok([
        (format!("stream {EVENTS_STREAM}"), stream),
        (format!("KV bucket {DIRECTORY_BUCKET}"), directory),
        (format!("KV bucket {THROTTLE_BUCKET} (window {window})"), throttle),
        (format!("KV bucket {BOT_THROTTLE_BUCKET} (window {of_bots})"), bots),
    ])
}

static TRYING: RateLimit = RateLimit::new();

/// Retries until stream and buckets are made, `--wait` is over, or an error shows that waiting
/// can't help.
async fn make_within(setup: &Setup, nats: &NatsSettings) -> anyhow::Result<[(String, Outcome); 4]> {
    let started = clock::monotonic();
    let shape = Shape { replicas: setup.replicas, max_bytes: setup.max_bytes };
    let windows =
        WindowsOfCalls { accounts: setup.throttle_window, bots: setup.bot_throttle_window };
    loop {
        let error = match nats.connect(Role::Admin).await {
            Ok(client) => {
                let js = nats.jetstream(&client);
                match make(&js, windows, shape).await {
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
    let lines: Vec<String> =
        made.iter().map(|(what, outcome)| format!("{what}: {outcome}")).collect();
    let warnings: Vec<String> = made
        .iter()
        .flat_map(|(what, outcome)| outcome.warnings().iter().map(move |w| format!("{what}: {w}")))
        .collect();
    let [stream, directory, throttle, bots] = made.map(|(_, outcome)| outcome.is_made());
    let json = json!({
        "stream_made": stream, "directory_made": directory, "throttle_made": throttle,
        "throttle_window_seconds": setup.throttle_window.as_secs_f64(),
        "bot_throttle_made": bots,
        "bot_throttle_window_seconds": setup.bot_throttle_window.as_secs_f64(),
        "replicas": setup.replicas, "max_bytes": setup.max_bytes, "warnings": warnings,
    });
    Ok(Answer::new(lines.join("\n"), json))
}
