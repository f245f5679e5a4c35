//! Fold and commit alone: what the engine's thread does with batches that are decoded already.
//!
//! As a measure, on traffic of four kinds, in commits of two sizes. And on the events of a file, so
//! that programs of two versions can be measured on the same events: [`write()`] makes such a file,
//! [`of_file`] reads it, and `tests/bench/before` has the same for an older version.
//!
//! *Format* of the file: a line an event, `<stored, Unix ms> <subject> <payload>`.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use botstats::simulate::Event;
use botstats_common::io::clock;
use botstats_ingest::testing::{Engine, Message, STORE_FILE};
use clap::ValueEnum;
use serde::Serialize;

use super::in_process::{FULL_BATCH, KEEP_DAYS, ON_THE_WAY_MS, us_each};
use super::load::{DAY_MS, Headers, even};
use super::shapes::{Detail, Shape, Traffic};
use super::size::BLOCK;
use super::usage;
use super::{Row, Scale, Target, say};

/// Events of each kind of traffic.
pub const EVENTS: u64 = 1_000_000;
const SEED: u64 = 42;
/// Accounts of the dense traffic, which have about 60 bots and channels.
const DENSE_ACCOUNTS: u32 = 8;
/// Days of the dense traffic: about 350 events of a bot and channel in an hour.
const DENSE_DAYS: i64 = 2;
/// Messages of a commit: while catching up, and under heavy live load.
pub const BATCHES: [usize; 2] = [FULL_BATCH, 2_500];
const NS_PER_MS: i64 = 1_000_000;

/// The kinds of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// [`Shape::Sparse`]
    Sparse,
    /// [`Shape::Conversations`]
    Conversations,
    /// Events of `botstats simulate`: 60 bots and channels, 350 events of each in an hour.
    Dense,
    /// [`Shape::Late`]
    Late,
    /// As sparse, without names and durations.
    Bare,
}

impl Kind {
    /// The events of the days before `end_ms`, each with the moment at which it is stored, in the
    /// order of these moments.
    pub fn events(self, count: u64, end_ms: i64) -> Box<dyn Iterator<Item = (i64, Event)>> {
        let of = |shape, detail| Traffic::until(shape, count, SEED, end_ms).cloud_events(detail);
        match self {
            Self::Sparse => Box::new(of(Shape::Sparse, Detail::Named)),
            Self::Conversations => Box::new(of(Shape::Conversations, Detail::Named)),
            Self::Late => Box::new(of(Shape::Late, Detail::Named)),
            Self::Bare => Box::new(of(Shape::Sparse, Detail::Bare)),
            Self::Dense => {
                let start_ms = end_ms - DENSE_DAYS * DAY_MS;
                let events = even(DENSE_ACCOUNTS, start_ms, end_ms, count, SEED);
                Box::new(events.map(|event| (event.time_ms + ON_THE_WAY_MS, event)))
            }
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// What fold and commit took.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Folded {
    pub events: usize,
    /// CPU time of this process in fold and commit, in microseconds an event.
    pub cpu_us: f64,
    /// The disk space that the store's file takes, in bytes an event.
    pub disk_bytes: f64,
    /// The length of that file, in bytes an event.
    pub file_bytes: f64,
}

pub(super) fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let count = scale.of(EVENTS);
    let end_ms = clock::now_ms();
    let kinds = Kind::value_variants();
    let mut rows = Vec::new();
    for batch in BATCHES {
        let mut rounds = vec![Vec::new(); kinds.len()];
        for round in 1..=scale.rounds {
            for (kind, rounds) in kinds.iter().zip(&mut rounds) {
                let folded = fold(kind.events(count, end_ms), batch)?;
                let (name, us) = (kind.name(), folded.cpu_us);
                say(&format!("  round {round}, commits of {batch}: {name} {us:.2} us an event"));
                rounds.push(folded);
            }
        }
        let each = |kind: Kind, of: fn(&Folded) -> f64| -> Vec<f64> {
            let rounds = kinds.iter().position(|k| *k == kind).map(|place| &rounds[place]);
            rounds.into_iter().flatten().map(of).collect()
        };
        for kind in kinds {
            let what = format!("{}, commits of {batch}", kind.name());
            let cpu = each(*kind, |f| f.cpu_us);
            rows.push(Row::new(format!("{what}: CPU an event"), "us", cpu));
            let disk = each(*kind, |f| f.disk_bytes);
            rows.push(Row::new(format!("{what}: disk space an event"), "B", disk));
        }
        let ratio = |a: Kind, b: Kind| -> Vec<f64> {
            let (a, b) = (each(a, |f| f.cpu_us), each(b, |f| f.cpu_us));
            a.iter().zip(&b).map(|(a, b)| a / b).collect()
        };
        let what = format!("late / sparse, commits of {batch}: CPU");
        let late = Row::new(what, "", ratio(Kind::Late, Kind::Sparse));
        rows.push(if batch == FULL_BATCH { late } else { late.should_be(Target::less(1.5, 1.3)) });
        let what = format!("sparse / bare, commits of {batch}: CPU");
        rows.push(Row::new(what, "", ratio(Kind::Sparse, Kind::Bare)));
    }
    Ok(rows)
}

/// Writes events of a kind to a file, as lines.
pub fn write(kind: Kind, count: u64, end_ms: i64, to: &mut impl Write) -> anyhow::Result<()> {
    for (stored_ms, event) in kind.events(count, end_ms) {
        write!(to, "{stored_ms} {} ", event.subject)?;
        to.write_all(&event.payload)?;
        to.write_all(b"\n")?;
    }
    Ok(to.flush()?)
}

/// Folds the events of such a file, in commits of `batch`, into a new store.
pub fn of_file(path: &Path, batch: usize) -> anyhow::Result<Folded> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut bad = None;
    let lines = BufReader::new(file).lines().map_while(|line| {
        let event = line.map_err(anyhow::Error::from).and_then(|line| read(&line));
        event.map_err(|error| bad = Some(error)).ok()
    });
    let folded = fold(lines, batch);
    bad.map_or(folded, Err)
}

fn read(line: &str) -> anyhow::Result<(i64, Event)> {
    let mut parts = line.splitn(3, ' ');
    let mut part = || parts.next().with_context(|| format!("not an event: {line}"));
    let stored_ms = part()?.parse()?;
    let (subject, payload) = (part()?.to_owned(), part()?.to_owned().into());
    // Only the generators of events need to know when it happened.
    Ok((stored_ms, Event { subject, payload, time_ms: stored_ms }))
}

/// Folds events into a new store, in commits of `batch`; only fold and commit are measured.
fn fold(events: impl Iterator<Item = (i64, Event)>, batch: usize) -> anyhow::Result<Folded> {
    let folder = tempfile::tempdir()?;
    let mut engine = Engine::open(folder.path(), KEEP_DAYS)?;
    let mut decoder = engine.decoder();
    let headers = Headers::ContentType.map();
    let (mut events, mut cpu, mut sequence) = (events, Duration::ZERO, 0);
    loop {
        let mut decoded = engine.batch();
        for (stored_ms, event) in events.by_ref().take(batch) {
            sequence += 1;
            let message = Message {
                sequence,
                stored_ns: stored_ms * NS_PER_MS,
                subject: &event.subject,
                headers: Some(&headers).into(),
                payload: &event.payload,
            };
            decoded.take(&mut decoder, &message)?;
        }
        if decoded.is_empty() {
            break;
        }
        let before = usage::own_cpu();
        engine.apply_batch(&decoded)?;
        cpu += usage::own_cpu() - before;
    }
    let accepted = engine.progress().accepted;
    anyhow::ensure!(accepted == sequence, "{accepted} of {sequence} events were counted");
    drop((decoder, engine));
    let events = usize::try_from(sequence)?;
    let file = std::fs::metadata(folder.path().join(STORE_FILE))?;
    let each = |bytes: u64| bytes as f64 / events as f64;
    Ok(Folded {
        events,
        cpu_us: us_each(cpu, events),
        disk_bytes: each(file.blocks() * BLOCK),
        file_bytes: each(file.len()),
    })
}
