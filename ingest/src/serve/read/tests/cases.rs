//! Single cases: what is refused, and bytes that do not change.

use botstats_common::metric::TypeCode;
use botstats_common::quarter::{DAY_MS, Quarter};
use botstats_common::split::Split;
use botstats_common::stat::Stat;
use botstats_common::wire::{
    By, MAX_GROUPS, MAX_WINDOW_QUARTERS, Request, RowName, Run, SplitBy, Window, v1,
};

use super::super::{ReadError, Window as Checked};
use super::store::{ACCOUNT, DAYS, Given, START_DAY, filled};
use super::{read, request, window};
use crate::engine::Engine;
use crate::event::Message;

fn run(parts: u32, quarters: u32, group: impl Into<Option<u32>>) -> Run {
    Run { parts, quarters, group: group.into() }
}

fn given(pair: &'static str, minute: i64, name: &'static str, data: &str) -> Given {
    let data = data.to_owned();
    Given { pair, ms: minute * 60_000, name, data, user: 0, conversation: 0 }
}

fn gathered(engine: &Engine, request: &Request) -> Result<Vec<Vec<u8>>, ReadError> {
    engine.reader().gather(&ACCOUNT.parse().unwrap(), request, 7)
}

#[test]
fn windows_as_cases() {
    let check = |windows: Vec<Window>| {
        Checked::all_of(&Request { windows, ..request(&[]) }).map_err(|error| error.to_string())
    };
    let at = |start, groups, runs| Window { start: Quarter(start), groups, runs };
    let groups = |window: &Checked| -> Vec<Option<u32>> {
        (window.start..window.end).map(|quarter| window.group_of(quarter).unwrap()).collect()
    };
    // Wraps around, with a gap; the second window's groups follow.
    let both = check(vec![
        at(10, 3, vec![run(3, 1, 1), run(1, 2, None), run(1, 1, 1)]),
        at(12, 2, vec![run(2, 1, 0)]),
    ])
    .unwrap();
    assert_eq!(groups(&both[0]), [Some(1), Some(2), Some(0), None, None, Some(1)]);
    assert_eq!(groups(&both[1]), [Some(3), Some(4)]);
    assert_eq!((both[0].repeats, both[1].repeats), (true, false));
    assert_eq!((both[0].group_of(9), both[0].group_of(16)), (None, None));
    let empty = check(vec![at(10, 0, Vec::new())]).unwrap();
    assert_eq!((empty[0].start, empty[0].end), (10, 10));

    let last = (1 << 24) * 96;
    let year = |start, groups| at(start, groups, vec![run(1, MAX_WINDOW_QUARTERS, 0)]);
    assert!(check(vec![year(last - MAX_WINDOW_QUARTERS, MAX_GROUPS)]).is_ok());
    assert!(check(vec![at(0, 1, vec![run(1, 1, 0); v1::MAX_GROUPS])]).is_ok());
    let most = u32::MAX;
    for (windows, text) in [
        (vec![], "one or two windows"),
        (vec![year(0, 1), year(0, 1), year(0, 1)], "one or two windows"),
        (vec![year(0, MAX_GROUPS + 1)], "too many groups"),
        (vec![at(0, most, vec![])], "too many groups"),
        (vec![at(0, 1, vec![run(1, 1, 0); v1::MAX_GROUPS + 1])], "too many runs"),
        (vec![at(0, 1, vec![run(0, 1, 0)])], "no parts"),
        (vec![at(0, 1, vec![run(1, 0, 0)])], "no length"),
        (vec![at(0, 1, vec![run(most, 0, 0)])], "no length"),
        (vec![at(0, 1, vec![run(1, 1, 1)])], "a group that there is not"),
        (vec![at(0, 0, vec![run(1, 1, 0)])], "a group that there is not"),
        (vec![at(0, 1, vec![run(1, 1, most)])], "a group that there is not"),
        (vec![at(0, 1, vec![run(1, MAX_WINDOW_QUARTERS, 0), run(1, 1, None)])], "too long"),
        (vec![at(0, 1, vec![run(most, most, None); 800])], "too long"),
        (vec![at(0, 1, vec![run(most, 1, 0)])], "too long"),
        (vec![year(last - MAX_WINDOW_QUARTERS + 1, 1)], "after all days"),
        (vec![year(most, 1)], "after all days"),
        (vec![at(most, 1, vec![])], "after all days"),
    ] {
        let error = check(windows.clone()).unwrap_err();
        assert!(error.contains(text), "{windows:?}: {error}");
    }
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let (_folder, engine) = filled(&[given("a.b1.c1", 0, "message.received", "")], 4096);
    let with_stats = |stats: &[Stat]| Request { stats: stats.to_vec(), ..request(&[]) };
    let with_split = |types: &[TypeCode], split| {
        let split = Some(SplitBy { split, top: u32::MAX });
        Request { split, ..request(types) }
    };
    use TypeCode::{ActiveUser, ApiTime, GoalReached};
    for (request, text) in [
        (with_stats(&[Stat::Min; 9]), "at most 8 stats"),
        (with_stats(&[Stat::Min, Stat::Percentile(0)]), "percentiles from 1 to 99"),
        (with_stats(&[Stat::Percentile(100)]), "percentiles from 1 to 99"),
        (with_stats(&[Stat::Within(0)]), "within 1 to 604800"),
        (with_stats(&[Stat::Within(604_801)]), "within 1 to 604800"),
        (with_split(&[GoalReached, ApiTime], Split::Goal), "not counted by the names"),
        (with_split(&[ActiveUser], Split::Operator), "not counted by the names"),
    ] {
        match gathered(&engine, &request) {
            Err(ReadError::Request(why)) => assert!(why.contains(text), "{why}, not {text}"),
            other => panic!("{request:?}: {other:?}"),
        }
    }
    let most = [Stat::Percentile(1), Stat::Percentile(99), Stat::Within(1), Stat::Within(604_800)];
    assert!(gathered(&engine, &with_stats(&[most, most].concat())).is_ok());
    assert!(gathered(&engine, &with_split(&[ApiTime], Split::Integration)).is_ok());
}

#[test]
fn too_many_dates_for_the_pairs_asked_for() {
    let events = ["a.b1.c1", "a.b1.c2", "a.b2.c1"];
    let events = events.map(|pair| given(pair, 0, "message.received", ""));
    let (_folder, engine) = filled(&events, 4096);
    let ask = |dates, bot: Option<&str>| {
        let bots = bot.map(|bot| vec![bot.parse().unwrap()]);
        let request = Request { dates, bots, ..request(&[TypeCode::IncomingMessage]) };
        match gathered(&engine, &request) {
            Ok(_) => None,
            Err(ReadError::TooManyPairs { pairs }) => Some(pairs),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!([0, 1, 50_000].map(|dates| ask(dates, None)), [None; 3]);
    assert_eq!([50_001, u32::MAX].map(|dates| ask(dates, None)), [Some(3); 2]);
    assert_eq!([75_000, 75_001].map(|dates| ask(dates, Some("b1"))), [None, Some(2)]);
    assert_eq!(ask(u32::MAX, Some("b9")), None);
}

/// Applies one event a day, from a sequence on, with the days that are kept.
fn with_days(
    days: std::ops::Range<u32>,
    sequence: u64,
    keep_days: u32,
) -> (tempfile::TempDir, Engine) {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::open(folder.path(), keep_days).unwrap();
    for (sequence, day) in (sequence..).zip(days) {
        let at_ms = i64::from(day) * DAY_MS;
        let time = jiff::Timestamp::from_millisecond(at_ms).unwrap();
        let payload = format!(
            r#"{{"specversion":"1.0","id":"{day}","source":"s","type":"io.botstats.message.received.v1","time":"{time}","data":{{"conversationid":"c","userid":"u"}}}}"#
        );
        let message = Message {
            sequence,
            stored_ns: at_ms * 1_000_000,
            subject: "botstats.events.a.b1.c1",
            headers: None.into(),
            payload: payload.as_bytes(),
        };
        engine.apply(&[message]).unwrap();
    }
    (folder, engine)
}

#[test]
fn answers_are_complete_or_refused() {
    let day_ms = |day: u32| i64::from(day) * DAY_MS;
    let ask = |engine: &Engine, starts: &[u32], complete| {
        let window =
            |start: &u32| Window { start: Quarter(*start), groups: 1, runs: vec![run(1, 1, 0)] };
        let windows = starts.iter().map(window).collect();
        let request = Request { windows, complete, ..request(&[TypeCode::IncomingMessage]) };
        match gathered(engine, &request) {
            Ok(_) => None,
            Err(ReadError::Incomplete { since_ms }) => Some(since_ms),
            Err(error) => panic!("{error}"),
        }
    };
    let (folder, engine) = with_days(1_000..1_100, 1, 40);
    let since = 1_060;
    assert_eq!(ask(&engine, &[since * 96], true), None);
    assert_eq!(ask(&engine, &[since * 96 - 1], true), Some(day_ms(since)));
    assert_eq!(ask(&engine, &[since * 96 - 1], false), None);
    assert_eq!(ask(&engine, &[1_099 * 96, 0], true), Some(day_ms(since)));
    // An empty window reaches back to nothing.
    let empty = Window { start: Quarter(0), groups: 0, runs: Vec::new() };
    let request = Request { windows: vec![empty], complete: true, ..request(&[]) };
    assert!(gathered(&engine, &request).is_ok());
    // Longer from now on, but what was deleted does not come back; shorter at once.
    drop(engine);
    let engine = Engine::open(folder.path(), 400).unwrap();
    assert_eq!(ask(&engine, &[0], true), Some(day_ms(1_059)));
    drop(engine);
    let engine = Engine::open(folder.path(), 45).unwrap();
    assert_eq!(ask(&engine, &[0], true), Some(day_ms(1_059)));
    drop(engine);
    let engine = Engine::open(folder.path(), 30).unwrap();
    assert_eq!(ask(&engine, &[0], true), Some(day_ms(1_070)));

    // The stream began with another message.
    let (_folder, engine) = with_days(1_000..1_001, 2, 40);
    assert_eq!(ask(&engine, &[1_000 * 96], true), Some(day_ms(1_000) + 300_001));
    assert_eq!(ask(&engine, &[1_000 * 96 + 1], true), None);
    let (_folder, engine) = with_days(1_000..1_001, 1, 40);
    assert_eq!(ask(&engine, &[961 * 96], true), None);
    // An empty store has lost nothing.
    let (_folder, engine) = with_days(0..0, 1, 40);
    assert_eq!(ask(&engine, &[0], true), None);
}

/// What the rows have by name: group, count and stats.
fn by_name(engine: &Engine, request: &Request) -> Vec<(RowName, u32, u64, Vec<u64>)> {
    let chunks = read(engine, request);
    let rows: Vec<_> = chunks.iter().flat_map(|chunk| &chunk.rows).collect();
    let mut all = Vec::new();
    for (place, row) in (0..).zip(&rows) {
        let cells = chunks.iter().flat_map(|chunk| &chunk.cells).filter(|cell| cell.row == place);
        let before = all.len();
        all.extend(
            cells.map(|cell| {
                (row.name.clone(), cell.group, cell.samples[0].count, cell.stats.clone())
            }),
        );
        if all.len() == before {
            all.push((row.name.clone(), u32::MAX, 0, Vec::new()));
        }
    }
    all.sort();
    all
}

#[test]
fn names_as_cases() {
    let tag = |pair, minute, name| given(pair, minute, "tag.set", &format!(r#","tag":"{name}""#));
    const LATER: i64 = 60 * 24;
    let (_folder, engine) = filled(
        &[
            tag("a.b1.c1", 0, "x"),
            tag("a.b1.c2", 1, "x"),
            tag("a.b1.c1", LATER, "x"),
            tag("a.b1.c1", 0, "y"),
            tag("a.b1.c1", 2, "y"),
            tag("a.b1.c1", 3, "(none)"),
            tag("a.b1.c1", 3, "(other)"),
            // In no group: listed, without a sample.
            tag("a.b1.c1", LATER, "z"),
        ],
        4096,
    );
    let first_day = vec![run(1, 96, 0), run(1, 96, None)];
    let ask = |top| Request {
        split: Some(SplitBy { split: Split::Tag, top }),
        windows: vec![window(1, first_day.clone())],
        by: By { bot: false, channel: false },
        ..request(&[TypeCode::TagHit])
    };
    let named = |name: &str| RowName::Named(name.to_owned());
    let row = |name, count| (name, 0, count, Vec::new());
    let nothing = |name| (name, u32::MAX, 0, Vec::new());
    assert_eq!(
        by_name(&engine, &ask(4)),
        [
            row(RowName::Absent, 1),
            row(RowName::Other, 1),
            row(named("x"), 2),
            row(named("y"), 2),
            nothing(named("z")),
        ]
    );
    assert_eq!(by_name(&engine, &ask(1)), [row(RowName::Other, 4), row(named("x"), 2)]);
    assert_eq!(by_name(&engine, &ask(0)), [row(RowName::Other, 6)]);
}

#[test]
fn stats_of_merged_rows_are_those_of_all_samples() {
    let call = |pair, minute, ms: u32| {
        let data = format!(r#","kind":"api","ok":true,"durationms":{ms},"name":"n{}""#, ms % 2);
        given(pair, minute, "integration.called", &data)
    };
    let (_folder, engine) = filled(
        &[
            call("a.b1.c1", 0, 1_000),
            call("a.b1.c1", 20, 2_004),
            call("a.b2.c1", 40, 4_000),
            call("a.b2.c2", 80, 3_001),
            call("z.b1.c1", 0, 9),
        ],
        4096,
    );
    let ask = |split| Request {
        by: By { bot: false, channel: false },
        stats: vec![Stat::Percentile(50), Stat::Min, Stat::Max, Stat::Within(2)],
        split,
        ..request(&[TypeCode::ApiTime])
    };
    assert_eq!(
        by_name(&engine, &ask(None)),
        [(RowName::Unsplit, 0, 4, vec![2_000, 1_000, 4_000, 2])]
    );
    let split = Some(SplitBy { split: Split::Integration, top: 9 });
    assert_eq!(
        by_name(&engine, &ask(split)),
        [
            (RowName::Named("n0".to_owned()), 0, 3, vec![2_000, 1_000, 4_000, 2]),
            (RowName::Named("n1".to_owned()), 0, 1, vec![3_000, 3_000, 3_000, 0]),
        ]
    );
}

#[test]
fn the_bytes_of_an_answer_in_version_1_do_not_change() {
    let (_folder, engine) = filled(
        &[
            given("a.b2.c1", 60 * 25, "message.received", ""),
            given("a.b1.c1", 1, "message.received", ""),
            given("a.b1.c1", 61, "message.received", ""),
            given("a.b1.c1", 60 * 24, "tag.set", r#","tag":"t""#),
            given("a.b1.c2", 5, "tag.set", r#","tag":"t""#),
        ],
        4096,
    );
    let first = START_DAY * 96;
    let asked = v1::Request {
        request_id: "r".to_owned(),
        bots: None,
        types: [TypeCode::ActiveUser, TypeCode::IncomingMessage].into_iter().collect(),
        boundaries: vec![Quarter(first), Quarter(first + 4), Quarter(first + DAYS * 96)],
        deadline_ms: 1_000,
    };
    let reader = engine.reader().in_version_1();
    let answer = reader.gather(&ACCOUNT.parse().unwrap(), &asked.upgrade().unwrap(), -1).unwrap();
    let expected: &[&[u8]] = &[
        // Version, chunk, number, last, as of.
        &[1, 2, 0, 1, 1],
        // The pairs of the first day, then that of the second one.
        &[3, 2, b'b', b'1', 2, b'c', b'1', 2, b'b', b'1', 2, b'c', b'2'],
        &[2, b'b', b'2', 2, b'c', b'1'],
        // Group, pair, samples: code, count, sum. The tag alone is not asked for.
        &[3, 0, 0, 2, 2, 1, 1, 13, 1, 1],
        &[1, 0, 2, 2, 1, 1, 13, 1, 1],
        &[1, 2, 2, 2, 1, 1, 13, 1, 1],
    ];
    assert_eq!(answer, [expected.concat()]);
}
