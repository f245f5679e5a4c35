//! `botstats-ingest rebuild`, from the start of the process to its end.

use std::time::Duration;

use botstats_common::io::clock;

use super::load::{Headers, fill, history};
use super::{Row, Scale, usage};
use botstats_tests::harness::{Process, Site};

const EVENTS: u64 = 2_000_000;
const DAYS: u32 = 7;
/// How long one may take.
const LIMIT: Duration = Duration::from_secs(600);
/// How often the process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(super) async fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let events = scale.of(EVENTS);
    let site = Site::start("0s").await;
    fill(&site.client, Headers::ContentType, history(events, DAYS, clock::now_ms())).await?;
    let (mut seconds, mut rate, mut cpu, mut memory) = (vec![], vec![], vec![], vec![]);
    let folder = site.folder("ingest");
    for _ in 0..scale.rounds {
        let begun = clock::monotonic();
        let settings = site.ingest_settings(&folder);
        let mut process = Process::start("botstats-ingest", &["rebuild"], &settings, &folder);
        let mut peak_bytes = 0;
        while !usage::has_ended(process.pid()) {
            peak_bytes = usage::peak_bytes(process.pid()).unwrap_or(peak_bytes);
            anyhow::ensure!(begun.elapsed() < LIMIT, "no end within {LIMIT:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let took = begun.elapsed().as_secs_f64();
        let used = usage::of(process.pid());
        let status = process.ended(LIMIT).await;
        anyhow::ensure!(status.success(), "the rebuild ended with {status}: {}", process.log());
        seconds.push(took);
        rate.push(events as f64 / took / 1e3);
        cpu.push(used.cpu.as_secs_f64() * 1e6 / events as f64);
        memory.push(peak_bytes as f64 / 1024.0 / 1024.0);
    }
    Ok(vec![
        Row::new(format!("{events} events"), "s", seconds),
        Row::new("rate", "1000/s", rate),
        Row::new("CPU an event", "us", cpu),
        Row::new("peak memory", "MiB", memory),
    ])
}
