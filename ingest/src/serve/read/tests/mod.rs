//! Reads against a naive form of the same rules over everything that a store holds.

mod cases;
mod naive;
mod store;

use botstats_common::metric::{TypeCode, TypeSet};
use botstats_common::quarter::Quarter;
use botstats_common::split::Split;
use botstats_common::stat::Stat;
use botstats_common::wire::{
    self, By, Cell, Chunk, Frame, MIN_PAYLOAD_BYTES, Pair, Request, RowKey, Run, Samples, SplitBy,
    Window, joined, v1,
};
use proptest::prelude::*;

use self::naive::{Expected, answer};
use self::store::{ACCOUNT, DAYS, START_DAY, filled, given};
use crate::engine::Engine;

/// The kind of message, number, last, as of, pairs, and cells of group, pair and samples.
type ChunkOfVersion1 = (u32, u32, bool, i64, Vec<Pair>, Vec<(u32, u32, Vec<Samples>)>);

/// Asks for everything of one window in one group.
fn request(types: &[TypeCode]) -> Request {
    let types = TypeSet::from_iter(types.iter().copied());
    let whole = Run { parts: 1, quarters: DAYS * 96, group: Some(0) };
    Request {
        request_id: "r".to_owned(),
        bots: None,
        types,
        listed: types,
        windows: vec![window(1, vec![whole])],
        by: By::PAIR,
        stats: Vec::new(),
        split: None,
        complete: false,
        dates: 0,
        deadline_ms: 1_000,
    }
}

/// A window from the first day on.
fn window(groups: u32, runs: Vec<Run>) -> Window {
    Window { start: Quarter(START_DAY * 96), groups, runs }
}

fn read(engine: &Engine, request: &Request) -> Vec<Chunk> {
    let reader = engine.reader().in_chunks_of(MIN_PAYLOAD_BYTES);
    decoded(&reader.gather(&ACCOUNT.parse().unwrap(), request, 7).unwrap())
}

fn decoded(messages: &[Vec<u8>]) -> Vec<Chunk> {
    let chunk = |message: &Vec<u8>| match wire::decode(message) {
        Ok(Frame::Chunk(chunk)) => chunk,
        other => panic!("no chunk: {other:?}"),
    };
    messages.iter().map(chunk).collect()
}

/// How the groups of a window's runs are numbered.
#[derive(Debug, Clone, Copy)]
enum Numbering {
    /// One after another, as for days.
    Ascending,
    /// As they come, as for hours of the week.
    Any,
}

fn windows() -> impl Strategy<Value = Vec<Window>> {
    let quarters = prop_oneof![1..8_u32, Just(4), Just(1), Just(96), 1..120_u32];
    let run = (1..7_u32, quarters, any::<u32>(), prop::bool::weighted(0.2));
    let numbering = prop_oneof![Just(Numbering::Ascending), Just(Numbering::Any)];
    let start = START_DAY * 96 - 10..(START_DAY + DAYS) * 96;
    let window = (start, prop::collection::vec(run, 0..8), 1..9_u32, numbering);
    let window = window.prop_map(|(start, given, groups, numbering)| {
        let (mut runs, mut next) = (Vec::new(), 0);
        for (parts, quarters, group, is_gap) in given {
            let group = match numbering {
                Numbering::Ascending => next,
                Numbering::Any => group % groups,
            };
            if is_gap {
                runs.push(Run { parts, quarters, group: None });
            } else {
                runs.push(Run { parts, quarters, group: Some(group) });
                next += parts;
            }
        }
        let groups = match numbering {
            Numbering::Ascending => next,
            Numbering::Any => groups,
        };
        Window { start: Quarter(start), groups, runs: joined(runs, groups) }
    });
    prop::collection::vec(window, 1..3)
}

fn codes() -> impl Strategy<Value = TypeSet> {
    let some = prop::collection::vec(prop::sample::select(&TypeCode::ALL[..]), 0..6);
    prop_oneof![
        3 => some.prop_map(TypeSet::from_iter),
        1 => Just(TypeSet::ALL),
        1 => Just(TypeSet::BASIC),
    ]
}

fn requests() -> impl Strategy<Value = Request> {
    let stat = prop_oneof![
        3 => (1..100_u8).prop_map(Stat::Percentile),
        1 => Just(Stat::Min),
        1 => Just(Stat::Max),
        2 => (1..90_u32).prop_map(Stat::Within),
    ];
    let stats = prop_oneof![Just(Vec::new()), prop::collection::vec(stat, 0..5)];
    let split = prop::option::of((prop::sample::select(&Split::ALL[..]), 0..7_u32));
    let bots = prop::option::of(prop::collection::vec("b[1-4]", 0..3));
    (windows(), codes(), codes(), any::<[bool; 2]>(), stats, split, bots).prop_map(
        |(windows, types, listed, [bot, channel], stats, split, bots)| {
            let split = split.map(|(split, top)| SplitBy { split, top });
            let is_asked = |code: &TypeCode| types.contains(*code);
            let types = match split {
                Some(by) => by.split.codes().iter().copied().filter(is_asked).collect(),
                None => types,
            };
            let bots = bots.map(|bots| bots.iter().map(|bot| bot.parse().unwrap()).collect());
            let by = By { bot, channel };
            let (complete, dates) = (true, 1);
            let whole = request(&[]);
            Request { bots, types, listed, windows, by, stats, split, complete, dates, ..whole }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]
    #[test]
    fn any_request_is_answered_like_the_naive_one(
        given in prop::collection::vec(given(), 0..150),
        max_names in prop_oneof![Just(2), Just(4096)],
        requests in prop::collection::vec(requests(), 12),
    ) {
        let (_folder, engine) = filled(&given, max_names);
        let contents = engine.store().snapshot().unwrap().contents().unwrap();
        for request in requests {
            let expected = answer(&contents, &request);
            prop_assert_eq!(Expected::of(&read(&engine, &request)), expected, "{:?}", request);
        }
    }

    #[test]
    fn version_1_says_the_same_as_version_2(
        given in prop::collection::vec(given(), 0..100),
        start in 0..DAYS * 96,
        lengths in prop::collection::vec(prop_oneof![Just(4), Just(96), 1..99_u32], 1..30),
        types in codes(),
    ) {
        let (_folder, engine) = filled(&given, 4096);
        let mut boundaries = vec![Quarter(START_DAY * 96 + start)];
        for length in lengths {
            boundaries.push(Quarter(boundaries[boundaries.len() - 1].0 + length));
        }
        let asked = v1::Request {
            request_id: "r".to_owned(),
            bots: None,
            types,
            boundaries,
            deadline_ms: 1_000,
        };
        let request = asked.upgrade().unwrap();
        let reader = engine.reader().in_chunks_of(MIN_PAYLOAD_BYTES);
        let account = ACCOUNT.parse().unwrap();
        let old = reader.clone().in_version_1().gather(&account, &request, -7).unwrap();
        let new = decoded(&reader.gather(&account, &request, -7).unwrap());
        let (mut pairs, mut cells) = (Vec::new(), Vec::new());
        for (number, message) in (0..).zip(&old) {
            let chunk: ChunkOfVersion1 = wire::decode_as(v1::VERSION, message).unwrap();
            prop_assert_eq!(&wire::encode_as(v1::VERSION, &chunk).unwrap(), message);
            let (kind, found, last, as_of_ms, more, of_chunk) = chunk;
            prop_assert_eq!((kind, found, as_of_ms), (2, number, -7));
            prop_assert_eq!(last, usize::try_from(number).unwrap() + 1 == old.len());
            pairs.extend(more);
            cells.extend(of_chunk);
        }
        let rows: Vec<_> = new.iter().flat_map(|chunk| chunk.rows.clone()).collect();
        let pairs: Vec<RowKey> = pairs.into_iter().map(RowKey::from).collect();
        prop_assert_eq!(pairs, rows);
        let of_version_1 = |cell: &Cell| (cell.group, cell.row, cell.samples.clone());
        let expected: Vec<_> =
            new.iter().flat_map(|chunk| &chunk.cells).map(of_version_1).collect();
        prop_assert_eq!(cells, expected);
        let contents = engine.store().snapshot().unwrap().contents().unwrap();
        prop_assert_eq!(Expected::of(&new), answer(&contents, &request));
    }
}
