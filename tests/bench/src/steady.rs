//! The time from a publisher's acknowledgement until the event is counted. The publisher keeps a
//! fixed rate, and waits only while many messages are unacknowledged.
//!
//! An event is counted once ingest's status has its sequence. The status is asked again and again,
//! so the resolution is the time between two answers, which is a row of its own. The events' own
//! times are spread over the last half hour. So as many conversations run at once as in real
//! traffic of this rate.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use botstats::simulate::Event;
use botstats_common::io::{clock, stop};
use futures::StreamExt as _;
use tokio::sync::mpsc;

use super::ingest::{applied, applied_sequence};
use super::load::{EVENTS_PER_ACCOUNT_DAY, Headers, Publisher, acknowledged, even};
use super::report::percentile;
use super::usage::Usage;
use super::{Row, Scale, Target, say, usage};
use botstats_tests::harness::Site;

/// Events a second, and for how many seconds.
const RATES: [(u64, u64); 4] = [(100, 10), (1_000, 10), (50_000, 10), (150_000, 6)];
/// The highest rate, in events a second, with a target: nats-server, publisher and ingest may not
/// reach a higher one on two cores.
const TARGET_RATE: u64 = 50_000;
/// The events' own times are spread over this time before now, in milliseconds.
const SPREAD_MS: i64 = 30 * 60 * 1000;
/// The most accounts of the traffic.
const MAX_ACCOUNTS: u64 = 1_000;
/// How often the publisher wakes to send what is due.
const TICK: Duration = Duration::from_millis(1);
/// The pause after an answer about the applied sequence.
const ASK_EVERY: Duration = Duration::from_millis(2);
/// The publisher waits while this many messages are unacknowledged: the server refuses messages
/// beyond its queue.
const MAX_UNACKNOWLEDGED: u64 = 5_000;
/// How long after the last acknowledgement everything must be counted.
const LIMIT: Duration = Duration::from_secs(120);

/// The measurements of one round.
#[derive(Debug, Default)]
struct Round {
    /// Acknowledgements a second, in thousands.
    rate: f64,
    /// Milliseconds from acknowledgement to being counted.
    delays_ms: Vec<f64>,
    /// Milliseconds between two answers about the applied sequence.
    resolution_ms: f64,
    cpu_us: f64,
    /// Bytes that ingest made the system write to disks, an event.
    written: f64,
}

pub(super) async fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (rate, seconds) in RATES {
        let site = Site::start("0s").await;
        let ingest = site.ingest("ingest");
        // The first round warms up: pairs, users and the file grow.
        let (mut reached, mut p50, mut p99) = (Vec::new(), Vec::new(), Vec::new());
        let (mut most, mut resolution) = (Vec::new(), Vec::new());
        let (mut cpu, mut written) = (Vec::new(), Vec::new());
        for (round, seed) in (0..=scale.rounds).zip(1..) {
            let measured = one(&site, ingest.pid(), rate, scale.of(rate * seconds), seed).await?;
            say(&format!(
                "  {rate}/s, round {round}: {:.1}k/s, p50 {:.0} ms, p99 {:.0} ms",
                measured.rate,
                percentile(&measured.delays_ms, 50),
                percentile(&measured.delays_ms, 99)
            ));
            if round > 0 {
                reached.push(measured.rate);
                p50.push(percentile(&measured.delays_ms, 50));
                p99.push(percentile(&measured.delays_ms, 99));
                most.push(percentile(&measured.delays_ms, 100));
                resolution.push(measured.resolution_ms);
                cpu.push(measured.cpu_us);
                written.push(measured.written);
            }
        }
        let p99 = Row::new(format!("{rate}/s: publish to counted, p99"), "ms", p99);
        rows.extend([
            Row::new(format!("{rate}/s: rate reached"), "1000/s", reached),
            Row::new(format!("{rate}/s: publish to counted, p50"), "ms", p50),
            if rate <= TARGET_RATE { p99.should_be(Target::less(1_000.0, 300.0)) } else { p99 },
            Row::new(format!("{rate}/s: publish to counted, most"), "ms", most),
            Row::new(format!("{rate}/s: time between two looks, p99"), "ms", resolution),
            Row::new(format!("{rate}/s: CPU of ingest an event"), "us", cpu),
            Row::new(format!("{rate}/s: written to the disk by ingest, an event"), "B", written),
        ]);
    }
    Ok(rows)
}

async fn one(site: &Site, pid: u32, rate: u64, count: u64, seed: u64) -> anyhow::Result<Round> {
    let now_ms = clock::now_ms();
    let accounts = (rate * 86_400 / EVENTS_PER_ACCOUNT_DAY).clamp(1, MAX_ACCOUNTS);
    let accounts = u32::try_from(accounts)?;
    // Made before the round: to make events takes as long as to count them.
    let events: Vec<Event> = even(accounts, now_ms - SPREAD_MS, now_ms, count, seed).collect();
    let first = site.last_sequence().await + 1;
    if first > 1 {
        applied(&site.client, first - 1).await;
    } else {
        while applied_sequence(&site.client).await.is_none() {
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
    let used = usage::of(pid);
    let (publisher, mut acknowledgements) =
        Publisher::new(&site.client, Headers::ContentType).await?;
    let (sender, acknowledged_at) = mpsc::unbounded_channel();
    let stored = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&stored);
    let collecting = stop::spawn(async move {
        for _ in 0..count {
            let sequence = acknowledged(acknowledgements.next().await)?;
            counting.fetch_add(1, Ordering::Relaxed);
            // The receiver is gone only after an error.
            let _gone = sender.send((sequence, clock::monotonic()));
        }
        anyhow::Ok(())
    });
    let looking = stop::spawn(look(site.client.clone(), first + count - 1));
    let begun = clock::monotonic();
    publish(&publisher, events, rate, begun, &stored).await?;
    collecting.await??;
    let looks = looking.await??;
    let used = usage::of(pid) - used;
    Ok(evaluate(acknowledged_at, &looks, begun, used, count))
}

/// Sends events at `rate`, or as fast as the server stores them.
async fn publish(
    publisher: &Publisher,
    events: Vec<Event>,
    rate: u64,
    begun: Instant,
    stored: &AtomicU64,
) -> anyhow::Result<()> {
    let mut events = VecDeque::from(events);
    let mut sent = 0_u64;
    while !events.is_empty() {
        let elapsed_us = u64::try_from(begun.elapsed().as_micros())?;
        let due = elapsed_us * rate / 1_000_000 + 1;
        while sent < due && sent - stored.load(Ordering::Relaxed) < MAX_UNACKNOWLEDGED {
            let Some(event) = events.pop_front() else { break };
            publisher.send(event).await?;
            sent += 1;
        }
        tokio::time::sleep(TICK).await;
    }
    Ok(())
}

/// Asks ingest for its applied sequence until that is `end`; returns each answer and when it came.
async fn look(client: async_nats::Client, end: u64) -> anyhow::Result<Vec<(u64, Instant)>> {
    let mut looks = Vec::new();
    let begun = clock::monotonic();
    loop {
        if let Some(applied) = applied_sequence(&client).await {
            looks.push((applied, clock::monotonic()));
            if applied >= end {
                return Ok(looks);
            }
        }
        anyhow::ensure!(begun.elapsed() < LIMIT, "sequence {end} is not counted within {LIMIT:?}");
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn evaluate(
    mut acknowledged_at: mpsc::UnboundedReceiver<(u64, Instant)>,
    looks: &[(u64, Instant)],
    begun: Instant,
    used: Usage,
    count: u64,
) -> Round {
    let ms = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1e3;
    let (mut delays_ms, mut last) = (Vec::new(), begun);
    while let Ok((sequence, at)) = acknowledged_at.try_recv() {
        // The first answer in which the event is counted.
        let counted = looks.partition_point(|(applied, _)| *applied < sequence);
        if let Some((_, counted)) = looks.get(counted) {
            delays_ms.push(ms(at, *counted));
        }
        last = last.max(at);
    }
    let between: Vec<f64> = looks.windows(2).map(|pair| ms(pair[0].1, pair[1].1)).collect();
    Round {
        rate: count as f64 / last.saturating_duration_since(begun).as_secs_f64() / 1e3,
        delays_ms,
        resolution_ms: percentile(&between, 99),
        cpu_us: used.cpu.as_secs_f64() * 1e6 / count as f64,
        written: used.disk_written as f64 / count as f64,
    }
}
