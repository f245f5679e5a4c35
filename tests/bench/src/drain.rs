//! A stream full of events, taken by those who drop it and by ingest: in turn, so that what else
//! the machine does meets all of them.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use botstats::simulate::Event;
use botstats_common::io::clock;

use super::ingest::{applied, data_file};
use super::load::{Headers, fill, history};
use super::null::{self, Null};
use super::shapes::{Detail, Shape, Traffic};
use super::size::BLOCK;
use super::{Row, Scale, Target, say, usage};
use botstats_tests::harness::{Process, Site};

const EVENTS: u64 = 2_000_000;
const DAYS: u32 = 7;
/// Events of the traffic of a shape.
const SHAPE_EVENTS: u64 = 1_000_000;
const SEED: u64 = 42;
/// How long one of them may take.
const LIMIT: Duration = Duration::from_secs(600);

/// What one of them used.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    seconds: f64,
    cpu_us: f64,
    server_us: f64,
}

/// What a drain should reach.
#[derive(Debug, Clone, Copy)]
struct Targets {
    /// The rate, as a share of raw pull's.
    ratio: Option<Target>,
    /// CPU time an event beyond raw pull's, in microseconds.
    beyond: Option<Target>,
    /// Peak memory, in MiB.
    memory: Option<Target>,
    /// Disk space of the folder, in MB.
    disk: Option<Target>,
}

const NONE: Targets = Targets { ratio: None, beyond: None, memory: None, disk: None };

pub(super) async fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let traffic = || history(scale.of(EVENTS), DAYS, clock::now_ms());
    let beyond = Some(Target::less(1.9, 1.2));
    let targets = Targets { ratio: Some(Target::more(0.75, 0.85)), beyond, ..NONE };
    let mut rows = of_stream(scale, Headers::ContentType, "", traffic(), targets).await?;
    let targets = Targets { ratio: Some(Target::more(0.55, 0.65)), beyond, ..NONE };
    rows.extend(of_stream(scale, Headers::None, ", no headers", traffic(), targets).await?);
    Ok(rows)
}

/// Traffic of a shape.
pub(super) async fn of_shape(scale: Scale, shape: Shape) -> anyhow::Result<Vec<Row>> {
    let traffic = Traffic::until(shape, scale.of(SHAPE_EVENTS), SEED, clock::now_ms());
    let events = traffic.cloud_events(Detail::Named).map(|(_, event)| event);
    let targets = match shape {
        Shape::Sparse if scale.divisor == 1 => Targets {
            memory: Some(Target::less(128.0, 80.0)),
            disk: Some(Target::less(85.0, 70.0)),
            ..NONE
        },
        _ => NONE,
    };
    of_stream(scale, Headers::ContentType, "", events, targets).await
}

async fn of_stream(
    scale: Scale,
    headers: Headers,
    note: &str,
    traffic: impl Iterator<Item = Event> + Send + 'static,
    targets: Targets,
) -> anyhow::Result<Vec<Row>> {
    let site = Site::start("0s").await;
    let events = fill(&site.client, headers, traffic).await?;
    let (mut raw, mut reader, mut ingest) = (Vec::new(), Vec::new(), Vec::new());
    let (mut memory, mut written, mut file) = (Vec::new(), Vec::new(), Vec::new());
    let mut disk = Vec::new();
    let per_event = |bytes: u64| bytes as f64 / events as f64;
    for round in 0..scale.rounds {
        raw.push(null(&site, Null::Raw, events)?);
        reader.push(null(&site, Null::Reader, events)?);
        let folder = site.folder(&format!("ingest-{round}"));
        let (taken, store) = counted(&site, &folder, events).await?;
        ingest.push(taken);
        memory.push(store.peak_bytes as f64 / 1024.0 / 1024.0);
        written.push(per_event(store.written));
        file.push(per_event(store.file_bytes));
        disk.push(store.disk_bytes as f64 / 1e6);
        std::fs::remove_dir_all(&folder)?;
        let rate = |taken: &[Taken]| taken.last().map_or(0.0, |t| events as f64 / t.seconds / 1e3);
        say(&format!(
            "  round {}{note}: raw {:.0}k/s, reader {:.0}k/s, ingest {:.0}k/s",
            round + 1,
            rate(&raw),
            rate(&reader),
            rate(&ingest),
        ));
    }
    let each = |taken: &[Taken], of: fn(&Taken) -> f64| -> Vec<f64> {
        taken.iter().map(|t| of(t) / events as f64).collect()
    };
    let pairwise = |of: fn(&Taken, &Taken) -> f64| -> Vec<f64> {
        raw.iter().zip(&ingest).map(|(raw, ingest)| of(raw, ingest)).collect()
    };
    let mut rows = Vec::new();
    for (name, taken) in [("raw pull", &raw), ("our reader", &reader), ("ingest", &ingest)] {
        let rate = taken.iter().map(|t| events as f64 / t.seconds / 1e3).collect();
        rows.push(Row::new(format!("{name}{note}: rate"), "1000/s", rate));
        let cpu = each(taken, |t| t.cpu_us);
        rows.push(Row::new(format!("{name}{note}: CPU an event"), "us", cpu));
        let server = each(taken, |t| t.server_us);
        rows.push(Row::new(format!("{name}{note}: CPU of nats-server an event"), "us", server));
    }
    let beyond = pairwise(|raw, ingest| ingest.cpu_us - raw.cpu_us);
    let beyond = beyond.iter().map(|us| us / events as f64).collect();
    let ratio = pairwise(|raw, ingest| raw.seconds / ingest.seconds);
    let row = |what: &str, unit, rounds, target: Option<Target>| {
        let row = Row::new(format!("ingest{note}: {what}"), unit, rounds);
        match target {
            Some(target) => row.should_be(target),
            None => row,
        }
    };
    rows.extend([
        row("rate / raw pull's", "", ratio, targets.ratio),
        row("CPU an event beyond raw pull's", "us", beyond, targets.beyond),
        row("peak memory", "MiB", memory, targets.memory),
        row("disk space", "MB", disk, targets.disk),
        row("written to disk an event", "B", written, None),
        row("file an event", "B", file, None),
    ]);
    Ok(rows)
}

/// A consumer that drops all events.
fn null(site: &Site, null: Null, events: u64) -> anyhow::Result<Taken> {
    let server = site.nats.pid().context("a running server")?;
    let before = usage::of(server);
    let drained = null::run(null, &site.nats.url(), events)?;
    let server_us = (usage::of(server) - before).cpu.as_secs_f64() * 1e6;
    Ok(Taken { seconds: drained.seconds, cpu_us: drained.cpu_us, server_us })
}

/// What an ingest has besides time.
struct Store {
    peak_bytes: u64,
    written: u64,
    file_bytes: u64,
    disk_bytes: u64,
}

/// An ingest from its start on an empty folder until all events are counted.
async fn counted(site: &Site, folder: &Path, events: u64) -> anyhow::Result<(Taken, Store)> {
    let server = site.nats.pid().context("a running server")?;
    let before = usage::of(server);
    let begun = clock::monotonic();
    let mut ingest = Process::start("botstats-ingest", &[], &site.ingest_settings(folder), folder);
    applied(&site.client, events).await;
    let seconds = begun.elapsed().as_secs_f64();
    let used = usage::of(ingest.pid());
    let server_us = (usage::of(server) - before).cpu.as_secs_f64() * 1e6;
    let peak_bytes = ingest.peak_rss_bytes();
    ingest.signal("TERM");
    ingest.ended(LIMIT).await;
    let file = std::fs::metadata(data_file(folder))?;
    let (file_bytes, disk_bytes) = (file.len(), file.blocks() * BLOCK);
    let taken = Taken { seconds, cpu_us: used.cpu.as_secs_f64() * 1e6, server_us };
    Ok((taken, Store { peak_bytes, written: used.disk_written, file_bytes, disk_bytes }))
}
