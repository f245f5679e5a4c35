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
//! | fold | the second half of some conversations' events into their timelines, with reading and writing their slices |
//! | commit | all of `Engine::apply`, decode and fold included, on top of some history |
//! | gather | a read of thirty days by day, all numbers, from buckets to cells |
//! | render | that answer, and one by hour, from cells to JSON |
#![expect(missing_docs, reason = "made by the macros")]
#![expect(clippy::unwrap_used, reason = "like a test it fails by panicking")]

use std::collections::BTreeMap;
use std::hint::black_box;

use async_nats::HeaderMap;
use botstats::simulate::{Event, Params, Simulation};
use botstats_bench::in_process::{FULL_BATCH, Fed, ON_THE_WAY_MS};
use botstats_bench::load::Headers;
use botstats_common::quarter::day_of_ms;
use botstats_common::wire;
use botstats_ingest::testing::{
    Admitted, Entry, Inserted, Insertion, Known, NewEvent, Slice, admit,
};
use botstats_ingest::testing::{Decoded, Message, decode};
use botstats_query::{BotFilter, Format, Names, Question, Window, render_all};
use gungraun::{library_benchmark, library_benchmark_group, main};
use tempfile::TempDir;

/// 2026-11-20T12:00:00Z: what depended on the clock would never be the same twice.
const NOW_MS: i64 = 1_795_176_000_000;
const DAYS: u32 = 30;

const DECODED: usize = 5_000;
const FOLDED: usize = 5_000;
const COMMITTED: usize = FULL_BATCH;
/// Events of the history below a commit, and of the account that is read.
const HISTORY: usize = 60_000;
/// Rows of buckets that one account's history has.
const BUCKETS: u64 = 3_179;

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
    for event in &events {
        black_box(decode(&message(event, &headers)));
    }
    (events, headers)
}

/// A stored slice: its day, where it begins, its bytes.
type Stored = (Slice, Vec<u8>);
/// What a conversation has, and what comes.
type Halves = Vec<(Vec<Stored>, Vec<NewEvent>)>;

fn halves(count: usize) -> Halves {
    let (events, headers) = published(2 * count);
    let mut conversations: BTreeMap<(String, u128), Vec<NewEvent>> = BTreeMap::new();
    for event in &events {
        let Decoded::Event(_, decoded) = decode(&message(event, &headers)) else { panic!() };
        let botstats_ingest::testing::Event { time_ms, kind, flags, id, content, .. } = decoded;
        let entry = Entry { time_ms, kind, flags, id, content };
        let first_day = day_of_ms(time_ms).saturating_sub(DAYS);
        let key = (event.subject.clone(), decoded.conversation);
        conversations.entry(key).or_default().push(NewEvent { entry, first_day });
    }
    let mut left = count;
    let mut halves = Halves::new();
    for mut events in conversations.into_values() {
        let new = events.split_off(events.len() / 2);
        let stored = merge(Vec::new(), &events).slices.into_iter().map(|slice| {
            let bytes = slice.encode().unwrap();
            (slice, bytes)
        });
        let new: Vec<NewEvent> = new.into_iter().take(left).collect();
        left -= new.len();
        halves.push((stored.collect(), new));
    }
    assert_eq!(left, 0, "too few events");
    halves
}

fn merge(slices: Vec<Slice>, new: &[NewEvent]) -> Inserted {
    let Admitted { accepted, .. } = admit(new, &Known::of(&slices, new.len()));
    let mut insertion = Insertion::begin(slices, accepted);
    while insertion.needs_after().is_some() {
        insertion.give(None);
    }
    insertion.finish()
}

#[library_benchmark]
#[bench::events_5000(args = (FOLDED), setup = halves)]
fn folding(halves: Halves) -> Halves {
    for (stored, new) in &halves {
        let decoded = stored
            .iter()
            .map(|(slice, bytes)| Slice::decode(slice.day, slice.begins, bytes).unwrap());
        let inserted = merge(decoded.collect(), new);
        for sample in &inserted.samples {
            black_box(sample);
        }
        for slice in inserted.into_changed() {
            black_box(slice.encode().unwrap());
        }
    }
    halves
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
    window: Window,
    request: wire::Request,
    _folder: TempDir,
}

fn reading(mode: &str, buckets: u64) -> Reading {
    let (mut fed, _folder) = fed(&events(HISTORY, 1));
    let rows = fed.engine().store().snapshot().unwrap().rows().unwrap();
    let found = rows.iter().find(|(name, _)| *name == "buckets").unwrap().1;
    assert_eq!(found, buckets, "give the case the number that is right now");
    let question = Question {
        bots: BotFilter::All,
        types: (0..19_u8).filter_map(|code| code.try_into().ok()).collect(),
        mode: mode.parse().ok().unwrap(),
        days: u8::try_from(DAYS).unwrap().try_into().ok().unwrap(),
        fill_zero: false,
    };
    let window = Window::new(NOW_MS, &jiff::tz::TimeZone::UTC, question.days, question.mode);
    let request = wire::Request {
        request_id: "bench".to_owned(),
        bots: None,
        types: question.types,
        boundaries: window.boundaries.clone(),
        deadline_ms: 60_000,
    };
    Reading { fed, question, window, request, _folder }
}

fn by_day(buckets: u64) -> Reading {
    reading("day", buckets)
}

#[library_benchmark]
#[bench::by_day_buckets_3179(args = (BUCKETS), setup = by_day)]
fn gathering(mut reading: Reading) -> Reading {
    let chunks = reading.fed.engine().read(&"sim-1".parse().unwrap(), &reading.request);
    black_box(chunks.unwrap());
    reading
}

/// Cells on their way to JSON.
struct Cells {
    question: Question,
    window: Window,
    chunks: Vec<wire::Chunk>,
}

impl Cells {
    fn of(mode: &str, rows: usize) -> Self {
        let mut reading = reading(mode, BUCKETS);
        let chunks = reading.fed.engine().read(&"sim-1".parse().unwrap(), &reading.request);
        let cells =
            Self { question: reading.question, window: reading.window, chunks: chunks.unwrap() };
        let text = cells.render();
        let found = text.windows(12).filter(|bytes| bytes == b"\"GroupLabel\"").count();
        assert_eq!(found, rows, "give the case the number that is right now");
        cells
    }

    fn render(&self) -> Vec<u8> {
        let Self { question, window, chunks } = self;
        render_all(question, &Names::new(), window, chunks, Format::Json).unwrap()
    }
}

fn cells_by_day(rows: usize) -> Cells {
    Cells::of("day", rows)
}

fn cells_by_hour(rows: usize) -> Cells {
    Cells::of("hour", rows)
}

#[library_benchmark]
#[bench::by_day_rows_5092(args = (5_092), setup = cells_by_day)]
#[bench::by_hour_rows_30821(args = (30_821), setup = cells_by_hour)]
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
