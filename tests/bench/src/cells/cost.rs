//! The CPU time of ingests that share the events of 1, 2 and 4 streams.

use anyhow::Context as _;
use botstats_common::io::clock;
use botstats_tests::spread::{Spread, name};

use super::super::load::{Headers, fill};
use super::{Row, Scale, applied, ratios, say, stop, traffic, usage};
use crate::Target;

const EVENTS: u64 = 1_000_000;
/// How many streams share the events.
const STREAMS: [usize; 3] = [1, 2, 4];

/// The step of the system's clock of CPU time, in seconds.
const LEAST_CPU: f64 = 0.01;

/// A full server, and what was measured on it.
struct Full {
    spread: Spread,
    /// Each stream with its last sequence.
    last: Vec<(String, u64)>,
    cpu_us: Vec<f64>,
    server_us: Vec<f64>,
    rate: Vec<f64>,
}

pub(super) async fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let (events, now_ms) = (scale.of(EVENTS), clock::now_ms());
    let mut all = Vec::new();
    for streams in STREAMS {
        let spread = Spread::start(streams, false).await;
        fill(&spread.client, Headers::ContentType, traffic(events, now_ms)).await?;
        let mut last = Vec::new();
        for stream in (1..=streams).map(name) {
            let count = spread.messages(&stream).await;
            last.push((stream, count));
        }
        let stored: u64 = last.iter().map(|(_, count)| count).sum();
        anyhow::ensure!(stored == events, "{stored} of {events} events are stored");
        let [cpu_us, server_us, rate] = [(); 3].map(|()| Vec::new());
        all.push(Full { spread, last, cpu_us, server_us, rate });
    }
    for round in 1..=scale.rounds {
        for full in &mut all {
            full.count(round, events).await?;
        }
        let cpu: Vec<f64> = all.iter().map(|full| full.cpu_us[round - 1]).collect();
        say(&format!("  round {round}: ingests of {STREAMS:?} cells: {cpu:.2?} us an event"));
    }
    let mut rows = Vec::new();
    let one = all[0].cpu_us.clone();
    for (streams, Full { cpu_us, server_us, rate, .. }) in STREAMS.into_iter().zip(all) {
        let row = |what: &str, unit, rounds| {
            let cells = if streams == 1 { "cell" } else { "cells" };
            Row::new(format!("{streams} {cells}, {what}"), unit, rounds)
        };
        let ratio = ratios(&cpu_us, &one);
        rows.push(row("all ingests: CPU an event", "us", cpu_us));
        rows.push(row("nats-server: CPU an event", "us", server_us));
        rows.push(row("rate of all events", "1000/s", rate));
        if streams > 1 {
            let row = row("CPU an event / that of one", "", ratio);
            rows.push(if streams == 4 { row.should_be(Target::less(1.15, 1.05)) } else { row });
        }
    }
    Ok(rows)
}

impl Full {
    /// Lets the ingests count everything from empty folders.
    async fn count(&mut self, round: usize, events: u64) -> anyhow::Result<()> {
        let server = self.spread.nats.pid().context("a running server")?;
        let (before, begun) = (usage::of(server), clock::monotonic());
        let streams = self.last.iter().map(|(stream, _)| stream);
        let ingests: Vec<_> = streams
            .map(|stream| self.spread.ingest(stream, &format!("{stream}-{round}")))
            .collect();
        applied(&self.spread.client, &self.last).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let cpu: f64 = ingests.iter().map(|i| usage::of(i.pid()).cpu.as_secs_f64()).sum();
        // So few events that they took less than the system's clock shows.
        let cpu = cpu.max(LEAST_CPU);
        let of_server = (usage::of(server) - before).cpu.as_secs_f64();
        stop(ingests).await;
        for (stream, _) in &self.last {
            std::fs::remove_dir_all(self.spread.folder.path().join(format!("{stream}-{round}")))?;
        }
        self.cpu_us.push(cpu * 1e6 / events as f64);
        self.server_us.push(of_server * 1e6 / events as f64);
        self.rate.push(events as f64 / seconds / 1e3);
        Ok(())
    }
}
