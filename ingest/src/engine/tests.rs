//! Long conversations, on a small scale. In this crate's tests a part of a long slice holds few
//! events. So a hundred events make many parts, of which the engine reads only some.

use std::collections::BTreeMap;

use botstats_common::metric::TypeSet;
use botstats_common::quarter::{DAY_MS, Quarter};
use botstats_common::wire::{self, overview};
use proptest::prelude::*;

use super::*;
use crate::event::Kind;
use crate::fold::metrics::{Source, counted, source};
use crate::fold::names::NameId;
use crate::fold::session::{Sample, SessionState, Step};
use crate::fold::timeline::MAX_PART_EVENTS;

const MINUTE: i64 = 60_000;
const START_MS: i64 = 20_700 * DAY_MS;
const DAYS: i64 = 4;
/// The codes of metrics that sessions feed or that count the events of these tests.
const COMPARED: [u8; 14] = [8, 9, 10, 11, 13, 16, 17, 100, 101, 102, 103, 104, 105, 106];

#[derive(Debug, Clone)]
struct Given {
    ms: i64,
    kind: Kind,
    automatic: bool,
    id: u32,
}

fn payload(event: &Given) -> String {
    let name = match event.kind {
        Kind::Received => "message.received",
        Kind::Sent => "message.sent",
        Kind::Requested => "operator.requested",
        Kind::Joined => "operator.joined",
        Kind::OperatorMessage => "operator.message",
        Kind::Released => "operator.released",
        _ => "conversation.ended",
    };
    let time = jiff::Timestamp::from_millisecond(START_MS + event.ms).unwrap();
    let automatic = if event.automatic { r#","automatic":true"# } else { "" };
    format!(
        r#"{{"specversion":"1.0","id":"{}","source":"s","type":"io.botstats.{name}.v1","time":"{time}","data":{{"conversationid":"default","userid":"u"{automatic}}}}}"#,
        event.id
    )
}

fn apply(engine: &mut Engine, first: u64, events: &[Given]) {
    let payloads: Vec<String> = events.iter().map(payload).collect();
    apply_at(engine, first, DAYS * DAY_MS, &payloads);
}

type Sums = BTreeMap<(u32, u8), (u64, u64)>;

/// What the engine answers by hour.
fn answered(engine: &Engine) -> Sums {
    let first = Quarter::of_ms(START_MS).0;
    let hours = u32::try_from(DAYS).unwrap() * 24;
    let request = wire::v1::Request {
        request_id: String::new(),
        bots: None,
        types: TypeSet::ALL,
        boundaries: (0..=hours).map(|h| Quarter(first + 4 * h)).collect(),
        deadline_ms: 1000,
    };
    let request = request.upgrade().unwrap();
    let messages = engine.reader().gather(&"a".parse().unwrap(), &request, 0).unwrap();
    let cells = messages.iter().flat_map(|message| {
        let wire::Frame::Chunk(chunk) = wire::decode(message).unwrap() else { panic!("no chunk") };
        chunk.cells
    });
    cells
        .flat_map(|c| {
            c.samples.into_iter().map(move |s| ((c.group, s.code.number()), (s.count, s.sum)))
        })
        .filter(|((_, code), _)| COMPARED.contains(code))
        .collect()
}

/// The expected answer, by sorting and folding all events: the first event of an id counts.
fn naive(events: &[Given]) -> Sums {
    let mut first: BTreeMap<u32, &Given> = BTreeMap::new();
    for event in events {
        first.entry(event.id).or_insert(event);
    }
    let mut sorted: Vec<&Given> = first.into_values().collect();
    sorted.sort_by_key(|e| (e.ms, e.kind));
    let mut samples = Vec::new();
    let mut state = SessionState::default();
    for event in sorted {
        let flags = u8::from(event.automatic && event.kind == Kind::OperatorMessage);
        let time_ms = START_MS + event.ms;
        let step = Step { time_ms, kind: event.kind, flags, operator: NameId::ABSENT };
        state.step(step, &mut |s| samples.push(s));
        let counted = counted(event.kind, flags, None);
        samples.extend(counted.map(|(metric, value)| Sample::new(time_ms, metric, value)));
    }
    state.open_samples(&mut |s| samples.push(s));
    let mut fields: BTreeMap<(u32, u8), i64> = BTreeMap::new();
    for sample in samples {
        let group = u32::try_from((sample.at_ms - START_MS) / 3_600_000).unwrap();
        for (field, n) in source(sample.metric).amounts(sample.value, sample.sign) {
            *fields.entry((group, field as u8)).or_default() += n;
        }
    }
    let groups = u32::try_from(DAYS * 24).unwrap();
    let mut sums = Sums::new();
    for (group, code) in (0..groups).flat_map(|group| COMPARED.map(|code| (group, code))) {
        let get = |field| {
            let n = fields.get(&(group, field as u8)).copied().unwrap_or_default();
            u64::try_from(n).unwrap()
        };
        let (count, sum) = match source(code.try_into().unwrap()) {
            Source::Count(count) => (get(count), get(count)),
            Source::Pair { count, sum } | Source::SumOf { counted: count, sum } => {
                (get(count), get(sum))
            }
            Source::Active | Source::ActiveBut(_) => unreachable!("not compared"),
        };
        if count > 0 {
            sums.insert((group, code), (count, sum));
        }
    }
    sums
}

fn given() -> impl Strategy<Value = Given> {
    const KINDS: [Kind; 7] = [
        Kind::Received,
        Kind::Sent,
        Kind::Requested,
        Kind::Joined,
        Kind::OperatorMessage,
        Kind::Released,
        Kind::Ended,
    ];
    // Weights: long threads that are rarely ended, steps around the idle limit.
    let kind = prop_oneof![20 => 0..6_usize, 1 => Just(6_usize)];
    let ms = prop_oneof![
        (0..DAYS * 48).prop_map(|half| half * 1_800_000),
        (0..DAYS * 48).prop_map(|half| half * 1_800_000 + 1),
        0..DAYS * DAY_MS,
    ];
    (ms, kind, any::<bool>(), 0..400_u32).prop_map(|(ms, kind, automatic, id)| Given {
        ms,
        kind: KINDS[kind],
        automatic,
        id,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_long_conversation_is_exact_in_any_order(
        events in prop::collection::vec(given(), 100..300),
        size in 1..40_usize,
        reopen in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut engine = Engine::open(folder.path(), 40).unwrap();
        let mut sequence = 1;
        for batch in events.chunks(size) {
            apply(&mut engine, sequence, batch);
            sequence += batch.len() as u64;
            if reopen {
                drop(engine);
                engine = Engine::open(folder.path(), 40).unwrap();
            }
        }
        prop_assert_eq!(answered(&engine), naive(&events));
        // All events are duplicates now: nothing counts twice.
        apply(&mut engine, sequence, &events);
        prop_assert_eq!(answered(&engine), naive(&events));
    }
}

fn row_counts(engine: &Engine) -> BTreeMap<&'static str, u64> {
    engine.store.snapshot().unwrap().rows().unwrap().into_iter().collect()
}

#[test]
fn a_long_conversation_is_forgotten_with_its_days() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::open(folder.path(), 40).unwrap();
    let count = u32::try_from(MAX_PART_EVENTS * 6).unwrap();
    let events: Vec<Given> = (0..count)
        .map(|id| Given { ms: i64::from(id) * 1000, kind: Kind::Sent, automatic: false, id })
        .collect();
    apply(&mut engine, 1, &events);
    assert!(row_counts(&engine)["parts"] >= 6);
    // An event of another conversation, 60 days on.
    let payload = payload(&Given { ms: 60 * DAY_MS, kind: Kind::Sent, automatic: false, id: 1 })
        .replace("default", "other");
    apply_at(&mut engine, u64::from(count) + 1, 60 * DAY_MS, &[payload]);
    let rows = row_counts(&engine);
    assert_eq!((rows["parts"], rows["slices"]), (0, 1));
}

#[test]
fn open_conversations_are_known_after_each_commit_and_each_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::open(folder.path(), 40).unwrap();
    let mut sequence = 0;
    // Everything is stored at noon of the first day.
    let now = 12 * 60 * MINUTE;
    let mut send = |engine: &mut Engine, conversation: &str, minute: i64, kind: Kind| {
        sequence += 1;
        let id = u32::try_from(sequence).unwrap();
        let given = Given { ms: now + minute * MINUTE, kind, automatic: false, id };
        let payload = payload(&given).replace("default", conversation);
        apply_at(engine, sequence, now, &[payload]);
    };
    // (minutes of the last event, idle minutes, minutes of the request, operator, unanswered)
    let open = |engine: &Engine| {
        let minute = |ms: i64| (ms - START_MS - now) / MINUTE;
        let mut all: Vec<_> = engine
            .open
            .read()
            .of(0)
            .map(|open| {
                let requested = open.requested_ms.map(minute);
                let idle = open.idle_ms / MINUTE;
                (minute(open.last_ms), idle, requested, open.is_with_operator, open.is_unanswered)
            })
            .collect();
        all.sort_unstable();
        all
    };
    send(&mut engine, "talks", -40, Kind::Received);
    assert_eq!(open(&engine), [], "too long ago");
    send(&mut engine, "talks", -20, Kind::Received);
    send(&mut engine, "talks", -19, Kind::Sent);
    send(&mut engine, "waits", -23 * 60, Kind::Requested);
    send(&mut engine, "waits", -22 * 60, Kind::Received);
    send(&mut engine, "with an operator", -5, Kind::Joined);
    send(&mut engine, "has ended", -5, Kind::Received);
    send(&mut engine, "has ended", -4, Kind::Ended);
    let expected = [
        (-22 * 60, 24 * 60, Some(-23 * 60), false, true),
        (-19, 30, None, false, false),
        (-5, 24 * 60, None, true, false),
    ];
    assert_eq!(open(&engine), expected);
    drop(engine);
    let mut engine = Engine::open(folder.path(), 40).unwrap();
    assert_eq!(open(&engine), expected);
    // An older event changes nothing of what is now, a newer one does.
    send(&mut engine, "waits", -24 * 60 - 1, Kind::Received);
    assert_eq!(open(&engine), expected);
    for minute in 0..2 * i64::try_from(MAX_PART_EVENTS).unwrap() {
        send(&mut engine, "waits", -minute, Kind::Sent);
    }
    send(&mut engine, "with an operator", 0, Kind::Ended);
    let expected = [(-19, 30, None, false, false), (0, 24 * 60, Some(-23 * 60), false, false)];
    assert_eq!(open(&engine), expected);
    drop(engine);
    assert_eq!(open(&Engine::open(folder.path(), 40).unwrap()), expected);
}

/// Applies payloads in one commit, all stored at that moment.
fn apply_at(engine: &mut Engine, first: u64, ms: i64, payloads: &[String]) {
    let messages: Vec<Message> = (first..)
        .zip(payloads)
        .map(|(sequence, payload)| Message {
            sequence,
            stored_ns: (START_MS + ms) * NS_PER_MS,
            subject: "botstats.events.a.b.c",
            headers: None.into(),
            payload: payload.as_bytes(),
        })
        .collect();
    engine.apply(&messages).unwrap();
}

/// The overview's counts of the first pair, minutes after noon of the first day: open, waiting,
/// active, with an operator, unanswered; the minute of the oldest request.
fn overview(engine: &Engine, minute: i64) -> ([u32; 5], Option<i64>) {
    let noon = START_MS + 12 * 60 * MINUTE;
    let request = overview::Request {
        request_id: String::new(),
        bots: None,
        now_ms: noon + minute * MINUTE,
        deadline_ms: 1000,
    };
    let parts = engine.overviews().gather(&"a".parse().unwrap(), &request, 7, 8 * 1024).unwrap();
    let [part] = &parts[..] else { panic!("{} parts", parts.len()) };
    let wire::Frame::Overview(part) = wire::decode(part).unwrap() else { panic!("no overview") };
    assert_eq!((part.number, part.last, part.as_of_ms), (0, true, 7));
    // No day was deleted; a store without events has nothing to miss.
    assert_eq!(part.complete_since_ms, engine.progress().checkpoint.as_ref().map(|_| 0));
    let Some(now) = part.pairs.first() else { return Default::default() };
    assert_eq!((now.pair.bot.as_str(), now.pair.channel.as_str()), ("b", "c"));
    let counts = [now.open, now.waiting, now.waiting_active, now.with_operator, now.unanswered];
    (counts, now.oldest_request_ms.map(|ms| (ms - noon) / MINUTE))
}

#[test]
fn an_overview_says_what_goes_on_after_each_commit_and_each_start() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Engine::open(folder.path(), 40).unwrap();
    let mut engine = open();
    assert_eq!(overview(&engine, 0), ([0; 5], None));
    let (noon, mut sequence) = (12 * 60 * MINUTE, 0);
    for (conversation, minute, kind, expect) in [
        ("one", 0, Kind::Received, ([1, 0, 0, 0, 1], None)),
        ("one", 1, Kind::Requested, ([1, 1, 1, 0, 1], Some(1))),
        // A second request changes nothing.
        ("one", 2, Kind::Requested, ([1, 1, 1, 0, 1], Some(1))),
        ("two", 3, Kind::Requested, ([2, 2, 1, 0, 1], Some(1))),
        ("two", 4, Kind::Received, ([2, 2, 2, 0, 2], Some(1))),
        ("one", 5, Kind::Joined, ([2, 1, 1, 1, 2], Some(3))),
        ("one", 6, Kind::OperatorMessage, ([2, 1, 1, 1, 1], Some(3))),
        ("one", 7, Kind::Released, ([2, 1, 1, 0, 1], Some(3))),
        ("one", 8, Kind::Requested, ([2, 2, 2, 0, 1], Some(3))),
        ("two", 9, Kind::Ended, ([1, 1, 1, 0, 0], Some(8))),
        // What was before the end is of another session, and so the user has not written.
        ("two", 10, Kind::Requested, ([2, 2, 1, 0, 0], Some(8))),
        // Late, and before all others.
        ("one", -1, Kind::Requested, ([2, 2, 1, 0, 0], Some(8))),
        ("two", 11, Kind::Released, ([2, 2, 1, 0, 0], Some(8))),
        ("two", 12, Kind::Joined, ([2, 1, 1, 1, 0], Some(8))),
    ] {
        sequence += 1;
        let id = u32::try_from(sequence).unwrap();
        let given = Given { ms: noon + minute * MINUTE, kind, automatic: false, id };
        let payload = payload(&given).replace("default", conversation);
        apply_at(&mut engine, sequence, noon + minute.max(0) * MINUTE, &[payload]);
        assert_eq!(overview(&engine, minute), expect, "{conversation} {minute}");
        if minute % 3 == 0 {
            drop(engine);
            engine = open();
            assert_eq!(overview(&engine, minute), expect, "{conversation} {minute}, opened again");
        }
    }
    for _ in 0..2 {
        for (minute, expect) in [
            (30, ([2, 1, 1, 1, 0], Some(8))),
            (31, ([2, 1, 0, 1, 0], None)),
            (24 * 60 + 8, ([2, 1, 0, 1, 0], None)),
            (24 * 60 + 9, ([1, 0, 0, 1, 0], None)),
            (24 * 60 + 13, ([0; 5], None)),
        ] {
            assert_eq!(overview(&engine, minute), expect, "{minute}");
        }
        drop(engine);
        engine = open();
    }
}

#[test]
fn a_conversation_that_begins_and_ends_in_one_commit_is_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::open(folder.path(), 40).unwrap();
    // One event on each side of midnight, so in two slices.
    let event = |minute, kind, id| {
        payload(&Given { ms: DAY_MS + minute * MINUTE, kind, automatic: false, id })
    };
    let events = [event(-1, Kind::Received, 1), event(1, Kind::Ended, 2)];
    apply_at(&mut engine, 1, DAY_MS + 2 * MINUTE, &events);
    assert_eq!(engine.open.read().of(0).next(), None);
}

#[test]
fn feedback_of_the_next_day_leaves_a_conversation_open() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::open(folder.path(), 40).unwrap();
    let half_past = 11 * 60 + 30;
    let event = |minute, id| {
        let ms = (12 * 60 + minute) * MINUTE;
        payload(&Given { ms, kind: Kind::Received, automatic: false, id })
    };
    // After midnight, by a clock that is ahead. The conversation can't be open at midnight.
    let feedback = event(12 * 60 + 2, 2).replace("message.received", "feedback.given");
    let feedback = feedback.replace(r#""userid""#, r#""score":5,"userid""#);
    let events = [event(half_past - 1, 1), feedback.clone(), feedback.replace("\"2\"", "\"3\"")];
    for (sequence, payload) in (1..).zip(events) {
        apply_at(&mut engine, sequence, (12 * 60 + half_past + 28) * MINUTE, &[payload]);
        assert_eq!(overview(&engine, half_past + 29), ([1, 0, 0, 0, 1], None), "{sequence}");
        assert_eq!(overview(&engine, half_past + 30), ([0; 5], None), "{sequence}");
        drop(engine);
        engine = Engine::open(folder.path(), 40).unwrap();
        assert_eq!(overview(&engine, half_past + 29), ([1, 0, 0, 0, 1], None), "{sequence}");
    }
    // The earlier slice is folded again, though a later one is there.
    let sent = event(half_past - 2, 4).replace("message.received", "operator.requested");
    apply_at(&mut engine, 4, (12 * 60 + half_past + 28) * MINUTE, &[sent]);
    assert_eq!(overview(&engine, half_past + 29).0[..2], [1, 1]);
}

#[test]
fn lists_begin_empty_and_are_given_back_when_batches_get_far_smaller() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::open(folder.path(), 40).unwrap();
    let event = |id| payload(&Given { ms: 0, kind: Kind::Received, automatic: false, id });
    let forgotten = event(20).replace("message.received", "user.forgotten");
    let events: Vec<_> = (0..20).map(event).chain([forgotten]).collect();
    apply_at(&mut engine, 1, 0, &events);
    assert_ne!(engine.lists.effects.activities, users::Activities::default());
    for (batch, kept) in [(3, 21), (2, 21), (1, 1), (5, 5), (0, 5)] {
        let lists = engine.lists.for_batch_of(batch);
        lists.effects.begin(0, &engine.open.read(), 0);
        assert_eq!(lists.effects.activities, users::Activities::default(), "{batch}");
        assert_eq!(lists.most, kept, "{batch}");
    }
}

#[test]
fn a_user_may_be_forgotten_twice_in_one_commit() {
    let quarter = |n: u32| Quarter::of_ms(START_MS).0 + n;
    for reversed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut engine = Engine::open(folder.path(), 40).unwrap();
        let event =
            |n: i64, kind, id| payload(&Given { ms: n * 15 * MINUTE, kind, automatic: false, id });
        let active = [10, 20, 30].map(|n| event(n, Kind::Received, u32::try_from(n).unwrap()));
        let mut forgotten = [15, 25].map(|n| {
            event(n, Kind::Ended, u32::try_from(n).unwrap())
                .replace("conversation.ended", "user.forgotten")
        });
        if reversed {
            forgotten.reverse();
        }
        let stored_ms = 31 * 15 * MINUTE;
        apply_at(&mut engine, 1, stored_ms, &active);
        apply_at(&mut engine, 4, stored_ms, &forgotten);
        let contents = engine.store.snapshot().unwrap().contents().unwrap();
        let pair = ["a", "b", "c"].map(str::to_owned).into();
        let users = &contents.pairs[&pair].users;
        assert_eq!(users, &[10, 20, 30].map(|n| vec![quarter(n)]), "reversed: {reversed}");
        assert_eq!(contents.pairs[&pair].sums[&(quarter(30), 0)], (1, 1));
    }
}

#[test]
fn a_floor_that_was_reached_stays() {
    // A session that stays open for weeks: its first sample is moved when its bucket is long gone.
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::open(folder.path(), 40).unwrap();
    let mut sequence = 0;
    let mut send = |engine: &mut Engine, ms: i64, kind: Kind| {
        sequence += 1;
        let id = u32::try_from(sequence).unwrap();
        apply_at(engine, sequence, ms, &[payload(&Given { ms, kind, automatic: false, id })]);
    };
    send(&mut engine, 0, Kind::Received);
    send(&mut engine, 1000, Kind::Requested);
    for i in 1..60_i64 {
        send(&mut engine, i * 23 * 3_600_000, Kind::Requested);
    }
    drop(engine);
    // From now on buckets are kept longer, but deleted buckets stay deleted.
    let mut engine = Engine::open(folder.path(), 400).unwrap();
    send(&mut engine, 60 * 23 * 3_600_000, Kind::Sent);
    assert_eq!(engine.progress().accepted, 62);
}
