//! Events spread over several streams, each with an ingest of its own.
//!
//! | what | compares |
//! | --- | --- |
//! | `cost` | the ingests of 1, 2 and 4 streams with the same events |
//! | `foreign` | an ingest whose slots have no event in its parent's stream, with consumers that drop that stream |
//! | `publish` | `botstats publish` into four streams, with one stream |
//! | `gap` | how long a publisher waits while slots move |
//! | [`simulation`] | how even slots are, and that spreading changes no answer; only with --simulate |

mod cost;
mod foreign;
mod gap;
mod publish;
pub mod simulation;

use std::time::Duration;

use async_nats::Client;
use botstats::simulate::{Params, Simulation};
use botstats_common::io::clock;
use botstats_common::names::STATUS_SUBJECT;
use botstats_common::status::{IngestStatus, Status};
use botstats_tests::harness::{PATIENCE, Process};
use futures::StreamExt as _;

use super::{Row, Scale, say, usage};

/// Accounts of the traffic.
const ACCOUNTS: u32 = 1_000;
const DAYS: u32 = 7;
const SEED: u64 = 1;
/// How long ingests may take for all there is.
const LIMIT: Duration = Duration::from_secs(600);
/// How often ingests are asked how far they are: seldom, as that costs them time too.
const ASK_EVERY: Duration = Duration::from_millis(20);

pub(super) async fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let mut rows = cost::run(scale).await?;
    rows.extend(foreign::run(scale).await?);
    rows.extend(publish::run(scale).await?);
    rows.extend(gap::run(scale).await?);
    Ok(rows)
}

/// The traffic of the days up to `now_ms`.
fn traffic(events: u64, now_ms: i64) -> Simulation {
    Simulation::new(Params { accounts: ACCOUNTS, days: DAYS, events, seed: SEED, now_ms })
}

/// Waits until the ingest of each of these streams has applied that sequence.
async fn applied(client: &Client, wanted: &[(String, u64)]) -> anyhow::Result<()> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await?;
    let begun = clock::monotonic();
    let mut left: Vec<&(String, u64)> = wanted.iter().collect();
    while !left.is_empty() {
        anyhow::ensure!(begun.elapsed() < LIMIT, "{left:?} are not applied within {LIMIT:?}");
        client.publish_with_reply(STATUS_SUBJECT, inbox.clone(), "".into()).await?;
        let until = clock::monotonic() + ASK_EVERY;
        loop {
            let wait = until.saturating_duration_since(clock::monotonic());
            let Ok(Some(answer)) = tokio::time::timeout(wait, answers.next()).await else { break };
            let Ok(status) = serde_json::from_slice::<Status>(&answer.payload) else { continue };
            let Some(IngestStatus { stream, sequence, refused, .. }) = status.ingest else {
                continue;
            };
            anyhow::ensure!(refused.is_none(), "an ingest refuses {stream}: {refused:?}");
            left.retain(|(name, wanted)| *name != stream || *wanted > sequence);
        }
        // None of them listens yet.
        tokio::time::sleep(until.saturating_duration_since(clock::monotonic())).await;
    }
    Ok(())
}

/// Stops ingests in order.
async fn stop(ingests: Vec<Process>) {
    for mut ingest in ingests {
        ingest.signal("TERM");
        ingest.ended(PATIENCE).await;
    }
}

/// Divides in pairs.
fn ratios(above: &[f64], below: &[f64]) -> Vec<f64> {
    above.iter().zip(below).map(|(above, below)| above / below).collect()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
