//! Instructions that the hot paths take, counted by Valgrind: the same on a noisy machine as on a
//! quiet one.
//!
//! `tests/bench/benches/run` installs what that needs, runs this and shows instructions an event,
//! bucket or row beside those of the run before. The number at the end of each case's name is how
//! many there are of them.
//!
//! | group | what |
//! | --- | --- |
//! | decode | messages to events |
//! | fold | `Engine::apply_batch`, on top of some history: all of a commit but decoding |
//! | commit | all of `Engine::apply`, decode and fold included, on top of the same history |
//! | gather | a read of thirty days by day, all numbers, from buckets to cells |
//! | render | that answer, and one by hour, from cells to JSON |
#![expect(missing_docs, reason = "made by the macros")]
#![expect(clippy::unwrap_used, reason = "like a test it fails by panicking")]

use std::collections::BTreeSet;
use std::hint::black_box;

use async_nats::HeaderMap;
use botstats::simulate::{Event, Params, Simulation};
use botstats_bench::in_process::{FULL_BATCH, Fed, ON_THE_WAY_MS};
use botstats_bench::load::Headers;
use botstats_common::wire;
use botstats_ingest::testing::{Batch, HashKey, Message, decode};
use botstats_query::{Format, Labels, Question, Subject, Windows, render_all, request};
use botstats_tests::in_process::chunks_of;
use gungraun::{library_benchmark, library_benchmark_group, main};
use tempfile::TempDir;

/// 2026-11-20T12:00:00Z: what depended on the clock would never be the same twice.
const NOW_MS: i64 = 1_795_176_000_000;
const DAYS: u32 = 30;

const DECODED: usize = 5_000;
const COMMITTED: usize = FULL_BATCH;
/// Events of the history below a commit, and of the account that is read.
const HISTORY: usize = 60_000;
/// Hours of buckets that one account's history has.
const BUCKETS: usize = 3_149;

fn events(count: usize, accounts: u32) -> Vec<Event> {
    let events = count.try_into().unwrap();
    Simulation::new(Params { accounts, days: DAYS, events, seed: 1, now_ms: NOW_MS }).collect()
}

/// Events with the headers of their messages.
type Published = (Vec<Event>, HeaderMap);

fn published(count: usize) -> Published {
    (events(count, 10), Headers::ContentType.map())
}

fn message<'a>(event: &'a Event, headers: &'a HeaderMap) -> Message<'a> {
    Message {
        sequence: 1,
        stored_ns: (event.time_ms + ON_THE_WAY_MS) * 1_000_000,
        subject: &event.subject,
        headers: Some(headers).into(),
        payload: &event.payload,
    }
}

#[library_benchmark]
#[bench::events_5000(args = (DECODED), setup = published)]
fn decoding((events, headers): Published) -> Published {
    let key = HashKey::new([0; 16]);
    for event in &events {
        black_box(decode(&message(event, &headers), &key));
    }
    (events, headers)
}

/// An engine with some history, in its folder, and what comes next.
type Ready = (Fed, Vec<Event>, TempDir);

fn ready(count: usize) -> Ready {
    let mut events = events(HISTORY + count, 10);
    let next = events.split_off(HISTORY);
    let (fed, folder) = fed(&events);
    (fed, next, folder)
}

fn fed(events: &[Event]) -> (Fed, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut fed = Fed::open(folder.path()).unwrap();
    for batch in events.chunks(FULL_BATCH) {
        fed.commit(stored(batch)).unwrap();
    }
    (fed, folder)
}

fn stored(events: &[Event]) -> impl Iterator<Item = (i64, &Event)> {
    events.iter().map(|event| (event.time_ms + ON_THE_WAY_MS, event))
}

/// An engine with some history, and decoded messages that come next.
type Decoded = (Fed, Batch, TempDir);

fn decoded(count: usize) -> Decoded {
    let (mut fed, events, folder) = ready(count);
    let headers = Headers::ContentType.map();
    let mut decoder = fed.engine().decoder();
    let mut batch = fed.engine().batch();
    for (sequence, event) in (1 + HISTORY as u64..).zip(&events) {
        let message = Message { sequence, ..message(event, &headers) };
        batch.take(&mut decoder, &message).unwrap();
    }
    (fed, batch, folder)
}

#[library_benchmark]
#[bench::events_20000(args = (COMMITTED), setup = decoded)]
fn folding((mut fed, batch, folder): Decoded) -> Decoded {
    fed.engine().apply_batch(&batch).unwrap();
    (fed, batch, folder)
}

#[library_benchmark]
#[bench::events_20000(args = (COMMITTED), setup = ready)]
fn committing((mut fed, events, folder): Ready) -> Ready {
    fed.commit(stored(&events)).unwrap();
    (fed, events, folder)
}

/// A question about everything of one account.
struct Reading {
    fed: Fed,
    question: Question,
    windows: Windows,
    request: wire::Request,
    _folder: TempDir,
}

fn reading(mode: &str, buckets: usize) -> Reading {
    let (mut fed, _folder) = fed(&events(HISTORY, 1));
    let contents = fed.engine().store().snapshot().unwrap().contents().unwrap();
    let hours: BTreeSet<_> = contents
        .pairs
        .iter()
        .flat_map(|(pair, of)| of.sums.keys().map(move |(quarter, _)| (pair, quarter / 4)))
        .collect();
    assert_eq!(hours.len(), buckets, "give the case the number that is right now");
    let types: Vec<String> = (0..19).map(|code: u8| code.to_string()).collect();
    let question = Question::parse(["*", &types.join(","), mode, &DAYS.to_string()], None).unwrap();
    let windows = Windows::new(NOW_MS, &jiff::tz::TimeZone::UTC, &question).unwrap();
    let account = "sim-1".parse().unwrap();
    let subject = Subject { account: &account, bots: None, request_id: "bench" };
    let request = wire::Request { deadline_ms: 60_000, ..request(&question, &windows, subject) };
    Reading { fed, question, windows, request, _folder }
}

fn by_day(buckets: usize) -> Reading {
    reading("day", buckets)
}

#[library_benchmark]
#[bench::by_day_buckets_3149(args = (BUCKETS), setup = by_day)]
fn gathering(mut reading: Reading) -> Reading {
    let reader = reading.fed.engine().reader();
    let chunks = chunks_of(&reader, &"sim-1".parse().unwrap(), &reading.request);
    black_box(chunks.unwrap());
    reading
}

/// Cells on their way to JSON.
struct Cells {
    question: Question,
    windows: Windows,
    chunks: Vec<wire::Chunk>,
}

impl Cells {
    fn of(mode: &str, rows: usize) -> Self {
        let mut reading = reading(mode, BUCKETS);
        let reader = reading.fed.engine().reader();
        let chunks = chunks_of(&reader, &"sim-1".parse().unwrap(), &reading.request);
        let cells =
            Self { question: reading.question, windows: reading.windows, chunks: chunks.unwrap() };
        let text = cells.render();
        let found = text.windows(12).filter(|bytes| bytes == b"\"GroupLabel\"").count();
        assert_eq!(found, rows, "give the case the number that is right now");
        cells
    }

    fn render(&self) -> Vec<u8> {
        let Self { question, windows, chunks } = self;
        render_all(question, &Labels::default(), windows, chunks, Format::Json).unwrap()
    }
}

fn cells_by_day(rows: usize) -> Cells {
    Cells::of("day", rows)
}

fn cells_by_hour(rows: usize) -> Cells {
    Cells::of("hour", rows)
}

#[library_benchmark]
#[bench::by_day_rows_5003(args = (5_003), setup = cells_by_day)]
#[bench::by_hour_rows_30542(args = (30_542), setup = cells_by_hour)]
fn rendering(cells: Cells) -> Cells {
    black_box(cells.render());
    cells
}

library_benchmark_group!(name = decode_group; benchmarks = decoding);
library_benchmark_group!(name = fold_group; benchmarks = folding);
library_benchmark_group!(name = commit_group; benchmarks = committing);
library_benchmark_group!(name = gather_group; benchmarks = gathering);
library_benchmark_group!(name = render_group; benchmarks = rendering);

main!(
    library_benchmark_groups = decode_group,
    fold_group,
    commit_group,
    gather_group,
    render_group
);
