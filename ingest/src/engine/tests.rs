//! Long conversations, on a small scale. In this crate's tests a slice holds few events. So a
//! hundred events make many slices, of which the engine reads only a part.

use std::collections::BTreeMap;

use botstats_common::metric::TypeSet;
use botstats_common::quarter::{DAY_MS, Quarter};
use proptest::prelude::*;

use super::conversations::MAX_SHORT_SLICES;
use super::*;
use crate::fold::session::{SessionState, Step};
use crate::fold::timeline::MAX_SLICE_EVENTS;

const START_MS: i64 = 20_700 * DAY_MS;
const DAYS: i64 = 4;
/// The codes of metrics that sessions feed or that count the events of these tests.
const COMPARED: [u8; 7] = [8, 9, 10, 11, 13, 16, 17];

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
    let messages: Vec<Message> = (first..)
        .zip(&payloads)
        .map(|(sequence, payload)| Message {
            sequence,
            stored_ns: (START_MS + DAYS * DAY_MS) * NS_PER_MS,
            subject: "botstats.events.a.b.c",
            headers: None.into(),
            payload: payload.as_bytes(),
        })
        .collect();
    engine.apply(&messages).unwrap();
}

type Sums = BTreeMap<(u32, u8), (u64, u64)>;

/// What the engine answers by hour.
fn answered(engine: &Engine) -> Sums {
    let first = Quarter::of_ms(START_MS).0;
    let hours = u32::try_from(DAYS).unwrap() * 24;
    let request = wire::Request {
        request_id: String::new(),
        bots: None,
        types: TypeSet::ALL,
        boundaries: (0..=hours).map(|h| Quarter(first + 4 * h)).collect(),
        deadline_ms: 1000,
    };
    let chunks = engine.read(&"a".parse().unwrap(), &request).unwrap();
    let cells = chunks.into_iter().flat_map(|c| c.cells);
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
    let mut sums = Sums::new();
    let mut samples = Vec::new();
    let mut state = SessionState::default();
    for event in sorted {
        let flags = u8::from(event.automatic && event.kind == Kind::OperatorMessage);
        let time_ms = START_MS + event.ms;
        state.step(Step { time_ms, kind: event.kind, flags }, &mut |s| samples.push(s));
        let counted = counted(event.kind, flags).iter();
        samples.extend(counted.map(|metric| Sample::new(time_ms, *metric, 1)));
    }
    state.open_samples(&mut |s| samples.push(s));
    for sample in samples {
        let group = u32::try_from((sample.at_ms - START_MS) / 3_600_000).unwrap();
        let code = sample.metric.number();
        if !COMPARED.contains(&code) {
            continue;
        }
        let entry = sums.entry((group, code)).or_default();
        entry.0 = entry.0.checked_add_signed(sample.sign).unwrap();
        entry.1 = entry.1.checked_add_signed(sample.sign * sample.value).unwrap();
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
        prop_assert_eq!(engine.conversations.long.len(), 1);
        // All events are duplicates now: nothing counts twice.
        apply(&mut engine, sequence, &events);
        prop_assert_eq!(answered(&engine), naive(&events));
    }
}

#[test]
fn a_long_conversation_is_forgotten_with_its_days() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::open(folder.path(), 40).unwrap();
    let count = u32::try_from(MAX_SLICE_EVENTS * (MAX_SHORT_SLICES + 2)).unwrap();
    let events: Vec<Given> = (0..count)
        .map(|id| Given { ms: i64::from(id) * 1000, kind: Kind::Sent, automatic: false, id })
        .collect();
    apply(&mut engine, 1, &events);
    assert_eq!(engine.conversations.long.len(), 1);
    // An event of another conversation, 60 days on.
    let later = (START_MS + 60 * DAY_MS) * NS_PER_MS;
    let payload = payload(&Given { ms: 60 * DAY_MS, kind: Kind::Sent, automatic: false, id: 1 })
        .replace("default", "other");
    let message = Message {
        sequence: u64::from(count) + 1,
        stored_ns: later,
        subject: "botstats.events.a.b.c",
        headers: None.into(),
        payload: payload.as_bytes(),
    };
    engine.apply(&[message]).unwrap();
    assert!(engine.conversations.long.is_empty());
    drop(engine);
    assert!(Engine::open(folder.path(), 40).unwrap().conversations.long.is_empty());
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
        let payload = payload(&Given { ms, kind, automatic: false, id });
        let message = Message {
            sequence,
            stored_ns: (START_MS + ms) * NS_PER_MS,
            subject: "botstats.events.a.b.c",
            headers: None.into(),
            payload: payload.as_bytes(),
        };
        engine.apply(&[message]).unwrap();
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
