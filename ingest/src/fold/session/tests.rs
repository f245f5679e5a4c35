//! Every sentence of the sessions' rules, as cases.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use Kind::*;
use botstats_common::quarter::{DAY_MS, day_of_ms};
use botstats_common::split::Split;
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::fold::metrics::{counted, source};
use crate::fold::names::Names;

pub(super) const MIN: i64 = 60_000;
const AUTO: u8 = flag::AUTOMATIC;

/// An event at a minute. Its name is an operator's.
pub(super) type Given = (i64, Kind, u8, Option<&'static str>);
/// Minute, code, value (durations in minutes), operator.
type Found = (i64, u8, i64, Option<&'static str>);

fn steps(events: &[Given], names: &mut Names) -> Vec<Step> {
    let step = |&(minute, kind, flags, operator): &Given| Step {
        time_ms: minute * MIN,
        kind,
        flags,
        operator: names.id(operator),
    };
    events.iter().map(step).collect()
}

/// All samples of these events, open ones last.
fn samples(events: &[Given]) -> Vec<Found> {
    let mut names = Names::default();
    let steps = steps(events, &mut names);
    let mut all = Vec::new();
    let mut emit = |s: Sample| {
        assert_eq!(s.sign, 1, "nothing was open before");
        let unit = if s.metric.kind() == DURATION { MIN } else { 1 };
        let operator = events.iter().map(|event| event.3).find(|o| names.text(s.operator) == *o);
        all.push((s.at_ms / MIN, s.metric.number(), s.value / unit, operator.flatten()));
    };
    let mut state = SessionState::default();
    steps.into_iter().for_each(|step| state.step(step, &mut emit));
    state.open_samples(&mut emit);
    all
}

const DURATION: botstats_common::metric::Kind = botstats_common::metric::Kind::DURATION;

/// Compares the samples of some codes, in any order.
fn check(codes: &[u8], events: &[(i64, Kind)], expect: &[(i64, u8, i64)]) {
    let events: Vec<Given> = events.iter().map(|&(at, kind)| (at, kind, 0, None)).collect();
    check_flagged(codes, &events, expect);
}

fn check_flagged(codes: &[u8], events: &[Given], expect: &[(i64, u8, i64)]) {
    let all = samples(events).into_iter().map(|(at, code, value, _)| (at, code, value));
    let mut found: Vec<_> = all.filter(|(_, code, _)| codes.contains(code)).collect();
    let mut expect = expect.to_vec();
    found.sort_unstable();
    expect.sort_unstable();
    assert_eq!(found, expect, "{events:?}");
}

#[test]
fn sessions_as_cases() {
    let codes = [8, 9, 10, 11, 16, 100];
    let check = |events: &[(i64, Kind, u8)], expect: &[(i64, u8, i64)]| {
        let events: Vec<Given> = events.iter().map(|&(at, k, f)| (at, k, f, None)).collect();
        check_flagged(&codes, &events, expect);
    };
    // Exactly 30 minutes still belongs to the session; one more does not.
    check(&[(0, Received, 0), (30, Sent, 0)], &[(0, 100, 1), (30, 8, 30)]);
    check(&[(0, Received, 0), (31, Sent, 0)], &[(0, 100, 1), (0, 8, 0)]);
    // Any event keeps a session alive, only messages lengthen it.
    check(&[(0, Received, 0), (20, Kind::Tag, 0), (45, Sent, 0)], &[(0, 100, 1), (45, 8, 45)]);
    // Requested: 24 hours.
    check(
        &[(0, Received, 0), (1, Requested, 0), (1 + 24 * 60, Joined, 0)],
        &[(1441, 9, 1440), (0, 100, 1), (0, 10, 1), (0, 8, 0), (1441, 11, 0)],
    );
    check(
        &[(0, Received, 0), (1, Requested, 0), (2 + 24 * 60, Joined, 0)],
        &[(0, 100, 1), (0, 8, 0), (1442, 11, 0)],
    );
    // A request while in control changes nothing; a release does not clear a request.
    check(
        &[(0, Joined, 0), (1, Requested, 0), (2, Released, 0), (3, Joined, 0)],
        &[(2, 11, 2), (3, 11, 0)],
    );
    check(&[(0, Requested, 0), (1, Released, 0), (5, Joined, 0)], &[(5, 9, 5), (5, 11, 0)]);
    // An implied join feeds 9, 10 and 11 but not 16; an automatic message is no join.
    check(
        &[
            (0, Received, 0),
            (1, Requested, 0),
            (2, OperatorMessage, AUTO),
            (3, OperatorMessage, 0),
            (5, OperatorMessage, 0),
        ],
        &[(3, 9, 2), (0, 100, 1), (0, 10, 1), (5, 8, 5), (5, 11, 2)],
    );
    // 16: explicit join to the first message that is not automatic, before the release.
    check(
        &[
            (0, Joined, 0),
            (1, OperatorMessage, AUTO),
            (4, OperatorMessage, 0),
            (6, OperatorMessage, 0),
        ],
        &[(4, 16, 4), (6, 11, 6)],
    );
    check(&[(0, Joined, 0), (1, Released, 0), (2, OperatorMessage, 0)], &[(1, 11, 1), (2, 11, 0)]);
    // Joining while in control changes nothing.
    check(&[(0, OperatorMessage, 0), (1, Joined, 0), (3, OperatorMessage, 0)], &[(3, 11, 3)]);
    // The takeover counts at the session's first received message, whichever comes first.
    check(&[(0, Joined, 0), (2, Received, 0)], &[(2, 100, 1), (2, 10, 1), (2, 8, 0), (2, 11, 2)]);
    // Ended cuts at once; state does not cross.
    check(
        &[
            (0, Received, 0),
            (1, Joined, 0),
            (2, Ended, 0),
            (3, OperatorMessage, AUTO),
            (4, Received, 0),
        ],
        &[(0, 100, 1), (0, 10, 1), (0, 8, 0), (1, 11, 0), (4, 100, 1), (4, 8, 0)],
    );
}

#[test]
fn contained_and_goal_rates_as_cases() {
    let check = |events: &[(i64, Kind)], expect: &[(i64, u8, i64)]| {
        check(&[10, 100, 101, 103], events, expect);
    };
    check(&[(3, Received), (4, Sent)], &[(3, 100, 1), (3, 101, 1)]);
    // Sessions without a received message have none of these numbers.
    check(&[(0, Sent), (1, Goal), (2, Requested), (3, Joined)], &[]);
    // A request or a join, before or after the first message, explicit or implied.
    check(&[(0, Received), (1, Requested)], &[(0, 100, 1)]);
    check(&[(0, Requested), (1, Received)], &[(1, 100, 1)]);
    check(&[(0, Received), (1, Joined)], &[(0, 100, 1), (0, 10, 1)]);
    check(&[(0, Received), (1, OperatorMessage)], &[(0, 100, 1), (0, 10, 1)]);
    check(&[(0, Joined), (1, Released), (2, Received)], &[(2, 100, 1), (2, 10, 1)]);
    // Of the next session neither matters.
    check(
        &[(0, Received), (1, Requested), (2, Ended), (3, Received)],
        &[(0, 100, 1), (3, 100, 1), (3, 101, 1)],
    );
    let auto = [(0, Received, 0, None), (1, OperatorMessage, AUTO, None)];
    check_flagged(&[10, 101], &auto, &[(0, 101, 1)]);
    // Any number of goals, also one before the first message.
    let one = [(1, 100, 1), (1, 101, 1), (1, 103, 1)];
    check(&[(0, Goal), (1, Received)], &one);
    check(&[(1, Received), (2, Goal), (2, Goal)], &one);
    check(&[(1, Received), (40, Goal)], &[(1, 100, 1), (1, 101, 1)]);
}

#[test]
fn unanswered_requests_as_cases() {
    let check = |events: &[(i64, Kind)], expect: &[(i64, u8, i64)]| {
        check(&[9, 102], events, expect);
    };
    check(&[(1, Requested)], &[(1, 102, 1)]);
    check(&[(1, Requested), (2, Ended)], &[(1, 102, 1)]);
    check(&[(1, Requested), (4, Joined)], &[(1, 102, 0), (4, 9, 3)]);
    check(&[(1, Requested), (4, OperatorMessage)], &[(1, 102, 0), (4, 9, 3)]);
    // Only an event that sets requested is a request.
    check(&[(1, Requested), (2, Requested), (4, Joined)], &[(1, 102, 0), (4, 9, 3)]);
    check(&[(1, Joined), (2, Requested), (3, Released)], &[]);
    // Two in one session: the second is not answered. A release answers nothing.
    check(
        &[(1, Requested), (2, Joined), (3, Released), (5, Requested), (6, Released)],
        &[(1, 102, 0), (2, 9, 1), (5, 102, 1)],
    );
    // A join of the next session does not answer.
    check(&[(0, Requested), (1441, Joined)], &[(0, 102, 1)]);
    check(&[(0, Requested), (1, Ended), (2, Joined)], &[(0, 102, 1)]);
    // An automatic message is no join.
    let auto = [(0, Requested, 0, None), (1, OperatorMessage, AUTO, None)];
    check_flagged(&[9, 102], &auto, &[(0, 102, 1)]);
    // Same millisecond: the request comes first.
    check(&[(1, Requested), (1, Joined)], &[(1, 102, 0), (1, 9, 0)]);
}

#[test]
fn messages_per_conversation_as_cases() {
    let check = |events: &[(i64, Kind)], expect: &[(i64, u8, i64)]| {
        check(&[104], events, expect);
    };
    check(&[(0, Received)], &[(0, 104, 1)]);
    check(&[(0, Sent), (1, OperatorMessage)], &[]);
    // Those before the first received message count too, all at that one's instant.
    check(&[(0, Sent), (1, OperatorMessage), (2, Received), (3, Sent)], &[(2, 104, 4)]);
    check(&[(0, Received), (31, Sent), (32, Received)], &[(0, 104, 1), (32, 104, 2)]);
    // Other events are no messages.
    let others = [Nlp, Integration, Goal, Kind::Tag, Feedback, Forgotten];
    let events: Vec<_> = [Received].into_iter().chain(others).map(|kind| (0, kind)).collect();
    check(&events, &[(0, 104, 1)]);
    let auto = [(0, Received, 0, None), (1, OperatorMessage, AUTO, None)];
    check_flagged(&[104], &auto, &[(0, 104, 2)]);
}

#[test]
fn reply_times_as_cases() {
    let check = |events: &[(i64, Kind)], expect: &[(i64, u8, i64)]| {
        check(&[105, 106], events, expect);
    };
    // From the first unanswered message; once answered, only the next message waits again.
    check(&[(0, Received), (2, Received), (5, Sent), (6, Sent)], &[(5, 105, 5)]);
    check(&[(0, Received), (1, Sent), (3, Received), (7, Sent)], &[(1, 105, 1), (7, 105, 4)]);
    check(&[(0, Sent), (1, OperatorMessage)], &[]);
    // Same millisecond: received before sent.
    check(&[(1, Received), (1, Sent)], &[(1, 105, 0)]);
    // Not across a cut.
    check(&[(0, Received), (31, Sent)], &[]);
    check(&[(0, Received), (1, Ended), (2, Sent)], &[]);
    // Sent while an operator is in control is no answer; after the release it is.
    check(&[(0, Received), (1, Joined), (2, Sent), (4, OperatorMessage)], &[(4, 106, 3)]);
    check(&[(0, Received), (1, Joined), (2, Sent), (3, Released), (4, Sent)], &[(4, 105, 4)]);
    // An operator's answer counts from the join, if that came after the message.
    check(&[(0, Received), (5, Joined), (7, OperatorMessage)], &[(7, 106, 2)]);
    check(&[(0, Joined), (5, Received), (7, OperatorMessage)], &[(7, 106, 2)]);
    check(&[(5, Received), (5, Joined), (7, OperatorMessage)], &[(7, 106, 2)]);
    check(&[(0, Joined), (5, Received), (6, Received), (7, OperatorMessage)], &[(7, 106, 2)]);
    // A join between two unanswered messages comes after the first.
    check(&[(0, Received), (3, Joined), (4, Received), (9, OperatorMessage)], &[(9, 106, 6)]);
    // An implied join is an answer, but no starting point.
    check(&[(0, Received), (4, OperatorMessage)], &[(4, 106, 4)]);
    check(
        &[(0, Received), (4, OperatorMessage), (5, Received), (8, OperatorMessage)],
        &[(4, 106, 4), (8, 106, 3)],
    );
    // The last explicit join; one while in control is none.
    check(
        &[(0, Received), (1, Joined), (2, Released), (4, Joined), (9, OperatorMessage)],
        &[(9, 106, 5)],
    );
    check(&[(0, Received), (1, Joined), (2, Joined), (9, OperatorMessage)], &[(9, 106, 8)]);
    check(&[(0, Received), (1, Joined), (2, Released), (9, OperatorMessage)], &[(9, 106, 8)]);
    // A join that came before the message that is answered does not count, even if that
    // session's earlier message waited for it.
    check(
        &[(0, Received), (2, Joined), (3, OperatorMessage), (6, Received), (7, OperatorMessage)],
        &[(3, 106, 1), (7, 106, 1)],
    );
    // The bot's answer counts from the message, whoever joined and left.
    check(&[(0, Received), (2, Joined), (3, Released), (5, Sent)], &[(5, 105, 5)]);
    // Either answer answers for both.
    check(&[(0, Received), (1, Sent), (3, OperatorMessage)], &[(1, 105, 1)]);
    check(&[(0, Received), (1, OperatorMessage), (2, Released), (3, Sent)], &[(1, 106, 1)]);
    // An automatic message is no answer.
    let auto =
        [(0, Received, 0, None), (1, OperatorMessage, AUTO, None), (2, OperatorMessage, 0, None)];
    check_flagged(&[105, 106], &auto, &[(2, 106, 2)]);
    let auto = [(0, Received, 0, None), (1, OperatorMessage, AUTO, None), (2, Sent, 0, None)];
    check_flagged(&[105, 106], &auto, &[(2, 105, 2)]);
}

#[test]
fn samples_belong_to_operators_as_cases() {
    let check = |events: &[Given], expect: &[Found]| {
        let mut found = samples(events);
        found.retain(|(_, code, ..)| Split::Operator.codes().iter().any(|c| c.number() == *code));
        assert_eq!(found, expect, "{events:?}");
    };
    // 9 and 11 belong to the operator of the join, 16 and 106 to that of the message.
    check(
        &[
            (0, Received, 0, None),
            (1, Requested, 0, None),
            (3, Joined, 0, Some("a")),
            (7, OperatorMessage, 0, Some("b")),
            (9, Released, 0, Some("c")),
        ],
        &[
            (3, 9, 2, Some("a")),
            (7, 16, 4, Some("b")),
            (7, 106, 4, Some("b")),
            (9, 11, 6, Some("a")),
        ],
    );
    // Of an implied join all belong to the message's.
    check(
        &[
            (0, Received, 0, None),
            (1, Requested, 0, None),
            (3, OperatorMessage, 0, Some("a")),
            (4, OperatorMessage, 0, Some("b")),
        ],
        &[(3, 9, 2, Some("a")), (3, 106, 3, Some("a")), (4, 11, 1, Some("a"))],
    );
    // A name is kept as it was sent.
    check(&[(0, Joined, 0, Some("")), (1, Released, 0, None)], &[(1, 11, 1, Some(""))]);
    check(&[(0, Joined, 0, None), (1, Released, 0, Some("a"))], &[(1, 11, 1, None)]);
}

#[test]
fn what_is_in_no_session_changes_nothing() {
    for kind in [Feedback, Forgotten] {
        // It does not start a session, keep it open or cut it.
        check(&[8, 100], &[(0, kind)], &[]);
        check(&[8, 100], &[(0, Received), (20, kind), (40, Sent)], &[(0, 8, 0), (0, 100, 1)]);
        check(&[8], &[(0, Received), (29, kind), (30, Sent)], &[(30, 8, 30)]);
        let mut state = SessionState::default();
        let step = Step { time_ms: 7, kind, flags: 1, operator: NameId::ABSENT };
        state.step(step, &mut |sample| panic!("{sample:?}"));
        assert_eq!(state, SessionState::default());
    }
}

pub(super) fn state_after(events: &[Given], names: &mut Names) -> SessionState {
    let mut state = SessionState::default();
    steps(events, names).into_iter().for_each(|step| state.step(step, &mut |_| {}));
    state
}

#[test]
fn a_state_tells_what_goes_on() {
    let state = |events: &[(i64, Kind)]| {
        let events: Vec<Given> = events.iter().map(|&(at, kind)| (at, kind, 0, None)).collect();
        state_after(&events, &mut Names::default())
    };
    let none = SessionState::default();
    assert!(!none.alive_at(0) && !none.has_message_or_operator() && !none.is_in_control());
    assert_eq!(state(&[(0, Received), (1, Ended)]), none);
    let silent = state(&[(0, Kind::Tag)]);
    assert!(!silent.has_message_or_operator() && silent.alive_at(30 * MIN));
    assert_eq!((silent.idle_ms(), silent.last_event_ms()), (IDLE_MS, Some(0)));
    let bot = state(&[(0, Received), (1, Received), (2, Sent), (3, Kind::Tag)]);
    assert_eq!((bot.last_event_ms(), bot.last_received_ms()), (Some(3 * MIN), Some(MIN)));
    assert!(bot.has_message_or_operator() && !bot.last_message_is_received());
    assert!(bot.alive_at(33 * MIN) && !bot.alive_at(33 * MIN + 1));
    let waiting = state(&[(0, Received), (1, Requested), (1, Requested)]);
    assert_eq!((waiting.requested_ms(), waiting.is_in_control()), (Some(MIN), false));
    assert!(waiting.last_message_is_received());
    assert!(waiting.alive_at(1441 * MIN) && !waiting.alive_at(1441 * MIN + 1));
    let taken = state(&[(1, Requested), (2, Joined)]);
    assert_eq!((taken.requested_ms(), taken.is_in_control()), (None, true));
    assert_eq!(taken.idle_ms(), IDLE_WITH_OPERATOR_MS);
    let released = state(&[(1, Joined), (2, Released)]);
    assert!(released.has_message_or_operator() && !released.is_in_control());
    assert_eq!(released.idle_ms(), IDLE_MS);
}

/// Counts and sums by instant, field and operator; no zeros.
type Sums = BTreeMap<(i64, u8, Option<String>), i64>;

fn add(sums: &mut Sums, names: &Names, sample: Sample) {
    for (field, n) in source(sample.metric).amounts(sample.value, sample.sign) {
        let operator = names.text(sample.operator).map(str::to_owned);
        *sums.entry((sample.at_ms, field as u8, operator)).or_default() += n;
    }
    sums.retain(|_, n| *n != 0);
}

pub(super) fn given() -> impl Strategy<Value = Vec<Given>> {
    let minutes = prop::sample::select(&[0, 0, 1, 2, 5, 29, 30, 31, 24 * 60, 24 * 60 + 1][..]);
    let kind = prop::sample::select(&Kind::ALL[..]);
    let operator = prop::sample::select(&[None, Some(""), Some("a"), Some("ö")][..]);
    let event = (minutes, kind, 0..2_u8, operator);
    prop::collection::vec(event, 0..25).prop_map(|mut events| {
        let mut now = 0;
        for event in &mut events {
            now += event.0;
            event.0 = now;
        }
        events
    })
}

proptest! {
    /// The difference of two open states has the sums of one taken back and the other added.
    #[test]
    fn a_change_is_the_difference(events in given(), other in given(), at in any::<prop::sample::Index>()) {
        let mut names = Names::default();
        let first = state_after(&events[..at.index(events.len() + 1)], &mut names);
        for second in [state_after(&events, &mut names), state_after(&other, &mut names)] {
            let (mut whole, mut less) = (Sums::new(), Sums::new());
            first.open_samples(&mut |s| add(&mut whole, &names, s.taken_back()));
            second.open_samples(&mut |s| add(&mut whole, &names, s));
            first.open_change(&second, &mut |s| add(&mut less, &names, s));
            prop_assert_eq!(whole, less);
        }
        first.open_change(&first, &mut |s| panic!("{s:?} did not change"));
    }

    /// Day by day, each from what is alive when it begins, makes the same as all at once.
    #[test]
    fn days_add_up(events in given()) {
        let mut names = Names::default();
        let steps = steps(&events, &mut names);
        let (mut whole, mut by_days) = (Sums::new(), Sums::new());
        let mut state = SessionState::default();
        steps.iter().for_each(|s| state.step(*s, &mut |s| add(&mut whole, &names, s)));
        state.open_samples(&mut |s| add(&mut whole, &names, s));
        let mut entry = SessionState::default();
        for day in steps.chunk_by(|a, b| day_of_ms(a.time_ms) == day_of_ms(b.time_ms)) {
            let begin_ms = i64::from(day_of_ms(day[0].time_ms)) * DAY_MS;
            if !entry.alive_at(begin_ms) {
                entry = SessionState::default();
            }
            let mut exit = entry.clone();
            day.iter().for_each(|s| exit.step(*s, &mut |s| add(&mut by_days, &names, s)));
            entry.open_change(&exit, &mut |s| add(&mut by_days, &names, s));
            entry = exit;
        }
        prop_assert_eq!(whole, by_days);
    }

}

/// The version of the rules, and a hash of what [`the_rules_have_a_version`] counts by them.
const GOLDEN: (u32, u64) = (2, 9_295_481_001_961_627_163);

/// Compares a hash of what a thousand conversations and each event by itself contribute.
#[test]
fn the_rules_have_a_version() {
    let mut text = String::new();
    let mut random = 7_u64;
    let mut below = |n: usize| {
        // The linear congruential generator of Knuth's MMIX.
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap() % n
    };
    for kind in Kind::ALL {
        for (flags, duration_ms) in (0..4).flat_map(|flags| [(flags, None), (flags, Some(7))]) {
            let counted: Vec<_> = counted(kind, flags, duration_ms).collect();
            writeln!(text, "{kind:?} {flags} {duration_ms:?} {counted:?}").unwrap();
        }
    }
    for code in TypeCode::ALL {
        writeln!(text, "{code} {:?} {:?}", source(code), Split::of(code)).unwrap();
    }
    for _ in 0..1000 {
        let mut minute = 0;
        let mut events = Vec::new();
        for _ in 0..below(30) {
            minute += [0, 1, 2, 5, 29, 30, 31, 24 * 60, 24 * 60 + 1][below(9)];
            let kind = Kind::ALL[below(Kind::ALL.len())];
            let operator = [None, Some(""), Some("a"), Some("b")][below(4)];
            events.push((minute, kind, u8::try_from(below(4)).unwrap(), operator));
        }
        writeln!(text, "{:?}", samples(&events)).unwrap();
    }
    let found = (RULES, xxh3_64(text.as_bytes()));
    assert_eq!(
        found, GOLDEN,
        "events contribute something else than before: stored sums can't be continued. Raise RULES, so \
         that stores are rebuilt, and put the new pair into GOLDEN"
    );
}
