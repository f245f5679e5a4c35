//! The projection over its file: what is kept, what is let go, and what a restart finds.

use std::path::Path;
use std::time::Duration;

use botstats_common::ids::Account;
use botstats_common::io::clock;
use botstats_common::metric::{TypeCode, TypeSet};
use botstats_common::quarter::Quarter;
use botstats_common::wire::{self, AnswerSize, Chunk, MAX_ANSWER_BYTES, Request};
use botstats_ingest::testing::MAX_DEAD_LETTERS;
use botstats_ingest::testing::ReadError;
use botstats_ingest::testing::{Engine, Message};
use botstats_ingest::{Folder, OpenError};
use botstats_tests::in_process::chunks_of;

const DAY_NS: i64 = 86_400_000_000_000;
const START_NS: i64 = 20_700 * DAY_NS;

struct Owned {
    sequence: u64,
    stored_ns: i64,
    subject: String,
    payload: String,
}

fn event(
    sequence: u64,
    stored_ns: i64,
    time_ns: i64,
    id: &str,
    conversation: &str,
    user: &str,
) -> Owned {
    let time = jiff::Timestamp::from_nanosecond(time_ns.into()).unwrap();
    Owned {
        sequence,
        stored_ns,
        subject: "botstats.events.acme.b1.web".to_owned(),
        payload: format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"io.botstats.message.received.v1","time":"{time}","data":{{"conversationid":"{conversation}","userid":"{user}"}}}}"#
        ),
    }
}

fn apply(engine: &mut Engine, messages: &[Owned]) {
    let messages: Vec<Message> = messages
        .iter()
        .map(|m| Message {
            sequence: m.sequence,
            stored_ns: m.stored_ns,
            subject: &m.subject,
            headers: None.into(),
            payload: m.payload.as_bytes(),
        })
        .collect();
    engine.apply(&messages).unwrap();
}

fn open(path: &Path) -> Engine {
    Engine::open(path, 40).unwrap()
}

/// Asks for a metric in the 30 days that end with the day of `end_ns`.
fn request(code: TypeCode, end_ns: i64) -> Request {
    let end = u32::try_from(end_ns / DAY_NS + 1).unwrap() * 96;
    let request = wire::v1::Request {
        request_id: "r".to_owned(),
        bots: None,
        types: TypeSet::from_iter([code]),
        boundaries: vec![Quarter(end - 30 * 96), Quarter(end)],
        deadline_ms: 1000,
    };
    request.upgrade().unwrap()
}

/// The (count, sum) of it.
fn read(engine: &Engine, code: TypeCode, end_ns: i64) -> (u64, u64) {
    let request = request(code, end_ns);
    let account: Account = "acme".parse().unwrap();
    let chunks = chunks_of(&engine.reader(), &account, &request).unwrap();
    let cell = chunks.iter().flat_map(|c| &c.cells).next();
    cell.map_or((0, 0), |c| (c.samples[0].count, c.samples[0].sum))
}

#[test]
fn a_restart_finds_everything_and_passes_over_what_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let messages: Vec<Owned> = (1..=10)
        .map(|i| event(i, START_NS, START_NS, &format!("e{i}"), "c", &format!("u{}", i % 3)))
        .collect();
    let mut engine = open(folder.path());
    apply(&mut engine, &messages[..6]);
    assert!(matches!(Folder::lock(folder.path()), Err(OpenError::Locked { .. })));
    drop(engine);
    let mut engine = open(folder.path());
    apply(&mut engine, &messages);
    apply(&mut engine, &messages);
    assert_eq!(read(&engine, TypeCode::IncomingMessage, START_NS), (10, 10));
    assert_eq!(read(&engine, TypeCode::ActiveUser, START_NS), (3, 3));
    assert_eq!((engine.progress().accepted, engine.progress().duplicates), (10, 0));
}

#[test]
fn a_read_ends_when_nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = open(folder.path());
    apply(&mut engine, &[event(1, START_NS, START_NS, "e", "c", "u")]);
    let request = request(TypeCode::IncomingMessage, START_NS);
    let account: Account = "acme".parse().unwrap();
    let read = |until| chunks_of(&engine.reader().until(until), &account, &request);
    let now = clock::monotonic();
    let cells = |chunks: Vec<Chunk>| chunks.iter().map(|chunk| chunk.cells.len()).sum::<usize>();
    assert_eq!(read(now + Duration::from_secs(60)).map(cells).unwrap(), 1);
    let late = read(now.checked_sub(Duration::from_secs(1)).unwrap());
    assert!(matches!(late, Err(ReadError::TooLate)), "{late:?}");
}

/// A user id in place of the channel gives an account as many pairs as it has users.
#[test]
fn an_answer_that_no_query_takes_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = open(folder.path());
    let messages: Vec<Owned> = (1..=250_000)
        .map(|n| Owned {
            subject: format!("botstats.events.acme.b{}.user-{n}", n % 2),
            ..event(n, START_NS, START_NS, "e", "c", "u")
        })
        .collect();
    messages.chunks(50_000).for_each(|some| apply(&mut engine, some));
    let all = request(TypeCode::IncomingMessage, START_NS);
    let account: Account = "acme".parse().unwrap();
    let read = |request| chunks_of(&engine.reader(), &account, request);
    let too_large = read(&all);
    assert!(matches!(too_large, Err(ReadError::TooLarge)), "{:?}", too_large.map(|c| c.len()));
    // What was asked is counted, not what the account has.
    let one_bot = Request { bots: Some(vec!["b1".parse().unwrap()]), ..all.clone() };
    let mut size = AnswerSize::default();
    for chunk in read(&one_bot).unwrap() {
        chunk.rows.iter().for_each(|row| size.add_row(row));
        chunk.cells.iter().for_each(|_| size.add_cell(1 + 3 + 1));
    }
    assert!((MAX_ANSWER_BYTES / 2..MAX_ANSWER_BYTES).contains(&size.bytes()), "{size:?}");
    let before = request(TypeCode::IncomingMessage, START_NS - DAY_NS);
    assert_eq!(
        read(&before).unwrap().iter().map(|c| c.cells.len() + c.rows.len()).sum::<usize>(),
        0
    );
}

#[test]
fn first_seen_moves_earlier_with_a_late_event() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = open(folder.path());
    let now = START_NS + 34 * DAY_NS;
    apply(&mut engine, &[event(1, now, now, "e1", "c1", "u")]);
    assert_eq!(read(&engine, TypeCode::NewUser, now), (1, 1));
    // 34 days late: outside the 30 days asked for, so the user is a returning one there.
    apply(&mut engine, &[event(2, now, START_NS, "e2", "c2", "u")]);
    assert_eq!(read(&engine, TypeCode::NewUser, now), (0, 0));
    assert_eq!(read(&engine, TypeCode::ReturningUser, now), (1, 1));
    assert_eq!(read(&engine, TypeCode::NewUser, START_NS + DAY_NS), (1, 1));
}

#[test]
fn what_is_too_old_goes_and_duplicates_stay_duplicates_until_then() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = open(folder.path());
    let mut sequence = 0;
    // A year of days, each with an event, a duplicate of the oldest that may still come, and a
    // restart.
    for day in 0..365_i64 {
        let now = START_NS + day * DAY_NS;
        let mut batch = Vec::new();
        let mut push = |time, id: i64| {
            sequence += 1;
            batch.push(event(sequence, now, time, &format!("e{id}"), &format!("c{id}"), "u"));
        };
        push(now, day);
        if day >= 35 {
            push(now - 35 * DAY_NS, day - 35);
        }
        apply(&mut engine, &batch);
        if day % 50 == 0 {
            drop(engine);
            engine = open(folder.path());
        }
        let expect = u64::try_from(day + 1).unwrap().min(30);
        assert_eq!(read(&engine, TypeCode::IncomingMessage, now), (expect, expect), "day {day}");
    }
    assert_eq!((engine.progress().accepted, engine.progress().duplicates), (365, 330));
    // 41 days of buckets and 38 of slices are left of 365.
    assert_eq!(read(&engine, TypeCode::IncomingMessage, START_NS + 100 * DAY_NS), (0, 0));
    assert_eq!(read(&engine, TypeCode::NewUser, START_NS + 364 * DAY_NS), (0, 0));
}

#[test]
fn a_clock_of_1970_does_not_reach_what_was_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = open(folder.path());
    let mut sequence = 0;
    let mut say = |engine: &mut Engine, now: i64| {
        sequence += 1;
        let id = format!("e{sequence}");
        apply(engine, &[event(sequence, now, now, &id, &id, "u")]);
    };
    // First seen on a day whose buckets are deleted by the end.
    for day in 0..60 {
        say(&mut engine, START_NS + day * DAY_NS);
    }
    // The machine began without a clock: first seen moves to 1970, away from that day.
    say(&mut engine, DAY_NS);
    for day in 60..100 {
        say(&mut engine, START_NS + day * DAY_NS);
    }
    let now = START_NS + 99 * DAY_NS;
    assert_eq!(engine.progress().accepted, 101);
    assert_eq!(read(&engine, TypeCode::IncomingMessage, now), (30, 30));
    assert_eq!(read(&engine, TypeCode::NewUser, now), (0, 0));
    assert_eq!(read(&engine, TypeCode::ReturningUser, now), (1, 1));
}

#[test]
fn the_newest_dead_letters_are_kept() {
    const MORE: u64 = 1_234;
    let folder = tempfile::tempdir().unwrap();
    let mut engine = open(folder.path());
    let bad: Vec<Owned> = (1..=MAX_DEAD_LETTERS + MORE)
        .map(|sequence| Owned {
            sequence,
            stored_ns: START_NS,
            subject: "a.b.c".to_owned(),
            payload: "x".to_owned(),
        })
        .collect();
    for part in bad.chunks(30_000) {
        apply(&mut engine, part);
    }
    let (kept, newest) = engine.store().snapshot().unwrap().dead_letters(u64::MAX, 2).unwrap();
    assert_eq!(kept, MAX_DEAD_LETTERS);
    assert_eq!(
        newest.iter().map(|l| l.sequence).collect::<Vec<_>>(),
        [MAX_DEAD_LETTERS + MORE, MAX_DEAD_LETTERS + MORE - 1]
    );
    let (_, oldest) = engine.store().snapshot().unwrap().dead_letters(MORE + 2, 10).unwrap();
    assert_eq!(oldest.iter().map(|l| l.sequence).collect::<Vec<_>>(), [MORE + 1]);
    assert_eq!(engine.progress().dead_letters["envelope"], MAX_DEAD_LETTERS + MORE);
}
