//! An ingest that was told to stop, and started again when the stream had grown: from the start of
//! the process until it has counted what it had missed.

use std::time::Duration;

use botstats_common::io::clock;

use super::ingest::applied;
use super::load::{EVENTS_PER_ACCOUNT_DAY, Headers, even, fill};
use super::{Row, Scale, usage};
use botstats_tests::harness::Site;

/// Events counted before, and those missed each time; as even traffic, a day each.
const BEFORE: u64 = 1_000_000;
const MISSED: u64 = 500_000;
/// How long ingest may take to end.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) async fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let (before, missed) = (scale.of(BEFORE), scale.of(MISSED));
    let accounts = u32::try_from(MISSED / EVENTS_PER_ACCOUNT_DAY)?;
    let day = |n: usize, events, seed| {
        // The last day ends now.
        let ago = i64::try_from(scale.rounds - n).unwrap_or_default();
        let end_ms = clock::now_ms() - ago * super::load::DAY_MS;
        even(accounts, end_ms - super::load::DAY_MS, end_ms, events, seed)
    };
    let site = Site::start("0s").await;
    let mut last = fill(&site.client, Headers::ContentType, day(0, before, 0)).await?;
    let mut ingest = site.ingest("ingest");
    applied(&site.client, last).await;
    let (mut seconds, mut rate, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for (n, seed) in (1..=scale.rounds).zip(1..) {
        ingest.signal("TERM");
        let status = ingest.ended(LIMIT).await;
        anyhow::ensure!(status.success(), "ingest ended with {status}");
        last = fill(&site.client, Headers::ContentType, day(n, missed, seed)).await?;
        let begun = clock::monotonic();
        ingest.restart();
        applied(&site.client, last).await;
        let took = begun.elapsed().as_secs_f64();
        seconds.push(took);
        rate.push(missed as f64 / took / 1e3);
        let used = usage::of(ingest.pid()).cpu;
        cpu.push(used.as_secs_f64() * 1e6 / missed as f64);
    }
    Ok(vec![
        Row::new(format!("{missed} events missed, until counted"), "s", seconds),
        Row::new("rate", "1000/s", rate),
        Row::new("CPU an event", "us", cpu),
    ])
}
