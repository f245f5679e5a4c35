//! The model on small cases worked out by hand, and on random ones in any order of arrival.

use std::collections::BTreeMap;

use botstats_tests::generate::{Dice, moment, question};
use botstats_tests::model::{
    Asked, Contents, Dates, Grain, MAX_NAMES, Message, Model, PairContents, Question, Rule,
    Verdict, answer, parse_time_ms,
};
use serde_json::{Value, json};

use crate::model_in_process::{accepted_at_once, number, plan};

const DAY_MS: i64 = 86_400_000;
const NS_PER_MS: i64 = 1_000_000;

/// A case: what is published on one day, in order of arrival.
#[derive(Default)]
struct Case(Vec<Message>);

impl Case {
    /// An event of that time of the day, stored at noon of the day, and its identity.
    fn at(self, time: &str, name: &str, data: &Value) -> Self {
        self.stored("2026-11-20T12:00:00Z", &format!("2026-11-20T{time}Z"), name, data)
    }

    fn stored(mut self, stored: &str, time: &str, name: &str, data: &Value) -> Self {
        let sequence = u64::try_from(self.0.len()).unwrap() + 1;
        let mut all = json!({"conversationid": "c", "userid": "u"});
        let mut id = format!("e{sequence}");
        for (field, value) in data.as_object().unwrap() {
            match field.as_str() {
                "id" => id = value.as_str().unwrap().to_owned(),
                _ => all[field] = value.clone(),
            }
        }
        let payload = json!({
            "specversion": "1.0",
            "id": id,
            "source": "/s",
            "type": format!("io.botstats.{name}.v1"),
            "time": time,
            "data": all,
        });
        self.0.push(Message {
            sequence,
            stored_ns: parse_time_ms(stored).unwrap() * NS_PER_MS,
            subject: "botstats.events.a.b.c".to_owned(),
            headers: Vec::new(),
            payload: payload.to_string().into_bytes(),
        });
        self
    }

    /// What is known then; the same for every order of arrival.
    fn contents(mut self, max_names: usize) -> PairContents {
        let model = Model::of(&self.0);
        assert_eq!(model.count(Verdict::Accepted), self.0.len(), "{:?}", model.verdicts);
        let contents = model.contents(max_names);
        let mut dice = Dice::new(1);
        for _ in 0..5 {
            dice.shuffle(&mut self.0);
            number(&mut self.0);
            assert_eq!(Model::of(&self.0).contents(max_names).difference(&contents), None);
        }
        contents.pairs.into_values().next().unwrap_or_default()
    }

    fn verdicts(&self) -> Vec<Verdict> {
        Model::of(&self.0).verdicts.into_values().collect()
    }
}

fn no() -> Value {
    json!({})
}

/// Count and sum of some codes over the whole case.
fn sums<const N: usize>(contents: &PairContents, codes: [u8; N]) -> [(u64, u64); N] {
    codes.map(|code| {
        let of_code = contents.sums.iter().filter(|((_, of), _)| *of == code);
        of_code.fold((0, 0), |(count, sum), (_, (more, more_sum))| (count + more, sum + more_sum))
    })
}

/// Count and sum by name and code of one split over the whole case.
fn names(contents: &PairContents, split: &str) -> BTreeMap<(String, u8), (u64, u64)> {
    let mut names = BTreeMap::new();
    for ((_, of, name, code), (count, sum)) in &contents.names {
        if *of == split {
            let (all, all_sum) = names.entry((name.clone(), *code)).or_insert((0, 0));
            *all += count;
            *all_sum += sum;
        }
    }
    names
}

fn named<const N: usize>(wanted: [(&str, u8, u64, u64); N]) -> BTreeMap<(String, u8), (u64, u64)> {
    wanted.map(|(name, code, count, sum)| ((name.to_owned(), code), (count, sum))).into()
}

#[test]
fn what_is_accepted_of_the_new_types() {
    let feedback = |data: Value| Case::default().at("10:00:00", "feedback.given", &data).verdicts();
    for score in [1, 2, 3, 4, 5] {
        assert_eq!(feedback(json!({"score": score})), [Verdict::Accepted]);
    }
    let no_score =
        [json!(0), json!(6), json!(5.0), json!(-1), json!("5"), json!(true), json!(null)];
    for score in no_score {
        assert_eq!(feedback(json!({"score": score})), [Verdict::DeadLetter(Rule::Data)], "{score}");
    }
    let question = feedback(json!({"score": 1, "question": 1}));
    assert_eq!(question, [Verdict::DeadLetter(Rule::Data)]);

    let forgotten =
        |data: Value| Case::default().at("10:00:00", "user.forgotten", &data).verdicts();
    for ignored in [json!(null), json!(5), json!(""), json!("x".repeat(600))] {
        assert_eq!(forgotten(json!({"conversationid": ignored})), [Verdict::Accepted]);
    }
    for user in [json!(null), json!(5), json!(""), json!("x".repeat(513))] {
        assert_eq!(forgotten(json!({"userid": user})), [Verdict::DeadLetter(Rule::Data)]);
    }
    let stored = |name: &str, stored: &str| {
        let case = Case::default();
        case.stored(stored, "2026-11-20T10:00:00Z", name, &json!({"score": 1})).verdicts()[0]
    };
    let late = Verdict::DeadLetter(Rule::Time);
    for (name, at, verdict) in [
        ("user.forgotten", "2026-11-21T10:00:00Z", Verdict::Accepted),
        ("user.forgotten", "2026-11-21T10:00:00.001Z", late),
        ("user.forgotten", "2026-11-20T09:55:00Z", Verdict::Accepted),
        ("user.forgotten", "2026-11-20T09:54:59.999Z", late),
        ("feedback.given", "2026-12-25T10:00:00Z", Verdict::Accepted),
        ("feedback.given", "2026-12-25T10:00:00.001Z", late),
    ] {
        assert_eq!(stored(name, at), verdict, "{name} at {at}");
    }
}

#[test]
fn identities_and_content() {
    let two = |name: &str, first: Value, second: Value| {
        let mut both = [first, second];
        for data in &mut both {
            data["id"] = "one".into();
        }
        let case = Case::default().at("10:00:00", name, &both[0]);
        case.at("10:00:00", name, &both[1]).verdicts()[1]
    };
    let (same, other) = (Verdict::Duplicate, Verdict::Conflict);
    let forgotten = |first, second| two("user.forgotten", first, second);
    assert_eq!(forgotten(json!({"conversationid": "x"}), json!({"conversationid": 5})), same);
    assert_eq!(forgotten(json!({"userid": "x"}), json!({"userid": "y"})), Verdict::Accepted);
    let feedback = |first, second| two("feedback.given", first, second);
    assert_eq!(feedback(json!({"score": 4}), json!({"score": 4})), same);
    assert_eq!(feedback(json!({"score": 4}), json!({"score": 5})), other);
    let called = |first: Value, second: Value| {
        let data = |ms| json!({"kind": "api", "ok": true, "durationms": ms});
        two("integration.called", data(first), data(second))
    };
    assert_eq!(called(json!(5), json!(5)), same);
    assert_eq!(called(json!(5), json!(5.0)), other);
    assert_eq!(called(json!(5), json!(null)), other);
    assert_eq!(called(json!(5.0), json!(null)), other);

    let data = json!({"id": "one", "conversationid": "u"});
    let case = Case::default().at("10:00:00", "message.received", &data);
    let case = case.at("10:00:00", "user.forgotten", &data);
    assert_eq!(case.verdicts(), [Verdict::Accepted; 2], "a conversation called like a user");
}

#[test]
fn operators_within_a_millisecond() {
    let join = |id: Value| json!({"operatorid": id});
    let first_of = |ids: &[Value]| {
        let mut case = Case::default().at("10:00:00", "operator.requested", &no());
        for id in ids {
            case = case.at("10:00:10", "operator.joined", &join(id.clone()));
        }
        case = case.at("10:00:15", "operator.message", &join("o9".into()));
        let contents = case.at("10:00:30", "operator.released", &no()).contents(3);
        let names = names(&contents, "operator");
        let [(name, _)] = names.keys().filter(|key| key.1 == 9).collect::<Vec<_>>()[..] else {
            panic!("{names:?}")
        };
        assert_eq!(
            names,
            named([
                (name, 9, 1, 10_000),
                (name, 11, 1, 20_000),
                ("o9", 16, 1, 5_000),
                ("o9", 17, 1, 1)
            ])
        );
        name.clone()
    };
    assert_eq!(first_of(&["o2".into(), "o1".into()]), "o1");
    assert_eq!(first_of(&["o2".into(), "O3".into()]), "O3");
    assert_eq!(first_of(&["o2".into(), Value::Null]), "(none)");
    assert_eq!(first_of(&["o2".into(), "".into()]), "(none)");
    assert_eq!(first_of(&["(other)".into(), "(none)".into()]), "(none)");
    // Only what is cut off from one of them puts it behind the other.
    let x = "x".repeat(126);
    let first = format!("{x}zz");
    assert_eq!(first_of(&[format!("{x}€").into(), first.as_str().into()]), first);
}

#[test]
fn who_answers_whom() {
    let by = |id: &str| json!({"operatorid": id});
    let automatic = json!({"operatorid": "o1", "automatic": true});
    let contents = Case::default()
        .at("10:00:00", "message.received", &no())
        .at("10:00:05", "message.received", &no())
        .at("10:00:07", "message.sent", &no()) // 105: 7 s
        .at("10:00:08", "message.sent", &no()) // answers nothing
        .at("10:00:10", "operator.requested", &no())
        .at("10:00:11", "operator.requested", &no()) // is no request
        .at("10:00:20", "message.received", &no())
        .at("10:00:30", "operator.joined", &by("o1")) // 9: 20 s
        .at("10:00:31", "operator.joined", &by("o2")) // is no join
        .at("10:00:32", "message.sent", &no()) // no answer: an operator is in control
        .at("10:00:33", "operator.message", &automatic) // no answer: nobody wrote it
        .at("10:00:40", "operator.message", &by("o2")) // 106: 10 s since the join; 16: 10 s
        .at("10:00:41", "message.received", &no())
        .at("10:00:45", "operator.message", &by("o1")) // 106: 4 s
        .at("10:00:50", "operator.released", &no()) // 11: 20 s
        .at("10:01:00", "operator.requested", &no()) // nobody answers
        .at("10:01:10", "goal.reached", &json!({"goal": "g"}))
        .at("10:01:20", "feedback.given", &json!({"score": 4}))
        .contents(3);
    assert_eq!(
        sums(&contents, [8, 9, 10, 11, 16, 17, 100, 101, 102, 103, 104, 105, 106, 108]),
        [
            (1, 45_000),
            (1, 20_000),
            (1, 1),
            (1, 20_000),
            (1, 10_000),
            (2, 2),
            (1, 1),
            (1, 0),
            (2, 1),
            (1, 1),
            (1, 10),
            (1, 7_000),
            (2, 14_000),
            (1, 1)
        ]
    );
    assert_eq!(
        names(&contents, "operator"),
        named([
            ("o1", 9, 1, 20_000),
            ("o1", 11, 1, 20_000),
            ("o2", 16, 1, 10_000),
            ("o1", 17, 1, 1),
            ("o2", 17, 1, 1),
            ("o1", 106, 1, 4_000),
            ("o2", 106, 1, 10_000)
        ])
    );
}

#[test]
fn an_implied_join_is_an_answer_to_the_message_before() {
    let contents = Case::default()
        .at("10:00:00", "message.received", &no())
        .at("10:00:10", "operator.joined", &json!({"operatorid": "o1"}))
        .at("10:00:20", "operator.released", &no())
        .at("10:00:30", "operator.message", &no())
        .contents(3);
    // The explicit join counts, although nobody was in control any more.
    assert_eq!(sums(&contents, [11, 16, 106]), [(2, 10_000), (0, 0), (1, 20_000)]);
}

#[test]
fn feedback_and_forgetting_are_no_part_of_a_session() {
    let contents = Case::default()
        .at("10:00:00", "message.received", &no())
        .at("10:20:00", "feedback.given", &json!({"score": 1}))
        .at("10:20:00", "user.forgotten", &no())
        .at("10:31:00", "message.received", &no())
        .contents(3);
    assert_eq!(sums(&contents, [0, 100, 108]), [(2, 2), (2, 2), (1, 0)]);
}

#[test]
fn durations_keep_three_digits() {
    for (ms, kept) in [
        (0, 0),
        (999, 999),
        (1_000, 1_000),
        (1_004, 1_000),
        (1_005, 1_010),
        (9_994, 9_990),
        (9_995, 10_000),
        (10_049, 10_000),
        (10_050, 10_100),
        (999_499, 999_000),
        (999_500, 1_000_000),
        (1_004_999, 1_000_000),
        (86_349_999, 86_300_000),
        (86_400_000, 86_400_000),
    ] {
        let data = json!({"kind": "api", "ok": true, "durationms": ms});
        let contents = Case::default().at("10:00:00", "integration.called", &data).contents(3);
        assert_eq!(sums(&contents, [107]), [(1, ms)]);
        let samples: Vec<u64> = contents.samples.keys().map(|(_, _, ms)| *ms).collect();
        assert_eq!(samples, [kept], "{ms}");
    }
    for ms in [json!(86_400_001), json!(-1), json!(5.0), json!(1e300), json!(null)] {
        let data = json!({"kind": "api", "ok": true, "durationms": ms});
        let contents = Case::default().at("10:00:00", "integration.called", &data).contents(3);
        assert_eq!(sums(&contents, [4, 14, 107]), [(1, 1), (1, 1), (0, 0)], "{ms}");
    }
    let database = json!({"kind": "database", "ok": true, "durationms": 5});
    let contents = Case::default().at("10:00:00", "integration.called", &database).contents(3);
    assert_eq!(sums(&contents, [4, 107]), [(1, 1), (0, 0)]);
}

#[test]
fn names_beyond_the_bound_are_others() {
    let mut order = ["n1", "n2", "n3", "n4", "n5", "n6"];
    order.sort_by_key(|name| xxhash_rust::xxh3::xxh3_64(name.as_bytes()));
    let mut case = Case::default();
    for name in order.iter().rev() {
        case = case.at("10:00:00", "goal.reached", &json!({"goal": name}));
        case = case.at("23:59:59.999", "tag.set", &json!({"tag": name}));
    }
    for name in ["(none)", "", "(other)"] {
        case = case.at("00:00:00", "goal.reached", &json!({"goal": name}));
    }
    // Another day.
    let last = json!({"goal": order[5], "conversationid": "other"});
    case = case.stored("2026-11-20T12:00:00Z", "2026-11-19T23:59:59Z", "goal.reached", &last);
    for message in &mut case.0 {
        message.stored_ns += 43_200_000 * NS_PER_MS;
    }
    let contents = case.contents(3);
    let mut goals = BTreeMap::new();
    for ((_, split, name, code), (count, _)) in &contents.names {
        if *split == "goal" {
            assert_eq!(*code, 12);
            *goals.entry(name.as_str()).or_insert(0) += count;
        }
    }
    let mut wanted = BTreeMap::from([("(none)", 2), ("(other)", 4), (order[5], 1)]);
    wanted.extend(order[..3].iter().map(|name| (*name, 1)));
    assert_eq!(goals, wanted);
    assert_eq!(names(&contents, "tag").len(), 4);
}

#[test]
fn names_are_cut() {
    let x = "x".repeat(127);
    let mut case = Case::default();
    for name in [format!("{x}é"), format!("{x}êz"), x.clone(), format!("{x}y"), format!("{x}yz")]
    {
        case = case.at("10:00:00", "tag.set", &json!({"tag": name}));
    }
    let contents = case.contents(3);
    let cut = format!("{x}y");
    assert_eq!(names(&contents, "tag"), named([(&x, 18, 3, 3), (&cut, 18, 2, 2)]));
}

#[test]
fn a_forgotten_user_is_somebody_new_from_the_next_quarter_on() {
    let at = |case: Case, time: &str| case.at(time, "message.received", &no());
    let forgotten = |case: Case, time: &str| case.at(time, "user.forgotten", &no());
    let mut case = Case::default();
    case = at(case, "08:00:00");
    case = at(case, "09:01:00");
    case = forgotten(case, "09:05:00");
    case = forgotten(case, "09:06:00");
    case = at(case, "09:14:59.999");
    case = at(case, "09:15:00");
    case = at(case, "10:00:00");
    case = forgotten(case, "10:20:00");
    case = forgotten(case, "10:40:00");
    case = at(case, "11:00:00");
    case = forgotten(case, "07:00:00");
    case = case.at("07:00:00", "user.forgotten", &json!({"userid": "never"}));
    let contents = case.contents(3);
    let first = contents.users[0][0];
    let from_first: Vec<Vec<u32>> =
        contents.users.iter().map(|user| user.iter().map(|q| q - first).collect()).collect();
    assert_eq!(from_first, [vec![0, 4], vec![5, 8], vec![12]]);
    let new: Vec<u32> =
        contents.sums.keys().filter(|(_, code)| *code == 0).map(|(q, _)| q - first).collect();
    assert_eq!(new, [0, 5, 12]);
}

#[test]
fn only_what_was_accepted_counts_not_its_order() {
    for seed in 0..4 {
        let mut plan = plan(2_000 + seed);
        (plan.conflicts, plan.days, plan.events) = (false, 1, 1_500);
        let stored_ns = (plan.start_ms + DAY_MS) * NS_PER_MS;
        let mut messages = accepted_at_once(&plan.generate().messages, stored_ns);
        let mut dice = Dice::new(seed);
        let mut first: Option<Contents> = None;
        for _ in 0..4 {
            let contents = Model::of(&messages).contents(3);
            assert!(!contents.pairs.is_empty());
            match &first {
                None => first = Some(contents),
                Some(first) => assert_eq!(contents.difference(first), None, "seed {seed}"),
            }
            dice.shuffle(&mut messages);
            number(&mut messages);
        }
    }
}

#[test]
fn the_sum_over_names_is_the_row_without_a_split() {
    for seed in 0..4 {
        let contents = Model::of(&plan(3_000 + seed).generate().messages).contents(4);
        let most = Model::of(&plan(3_000 + seed).generate().messages).contents(MAX_NAMES);
        for (pair, contents) in &contents.pairs {
            let mut sums = BTreeMap::new();
            for ((quarter, _, _, code), (count, sum)) in &contents.names {
                let (all, all_sum) = sums.entry((*quarter, *code)).or_insert((0, 0));
                *all += count;
                *all_sum += sum;
            }
            let mut wanted = contents.sums.clone();
            wanted.retain(|(_, code), _| {
                matches!(code, 4 | 6 | 7 | 9 | 11 | 12 | 14..=18 | 106 | 107)
            });
            assert_eq!(sums, wanted);
            assert_eq!(contents.sums, most.pairs[pair].sums);
            assert!(contents.names.len() <= most.pairs[pair].names.len());
        }
    }
}

#[test]
fn contents_answer_what_the_model_answers_without_them() {
    for seed in 0..12 {
        let plan = plan(4_000 + seed);
        let generated = plan.generate();
        let model = Model::of(&generated.messages);
        let contents = model.contents(3);
        let mut dice = Dice::new(seed);
        let mut rows_seen = 0;
        for (account, directory) in &generated.directories {
            for _ in 0..6 {
                let now_ms = moment(&mut dice, plan.start_ms, plan.start_ms + 40 * DAY_MS);
                let question = question(&mut dice, &generated, account, now_ms);
                // The two parts have different rules for which empty groups have rows.
                let question = Question { fill: false, ..question };
                let grain = Grain::ALL.iter().find(|grain| grain.name() == question.mode.name());
                let asked = Asked {
                    account: account.clone(),
                    bots: question.bots.clone(),
                    types: question.types.clone(),
                    grain: *grain.unwrap(),
                    dates: Dates::Last(question.days),
                    by: [true, true],
                    previous: None,
                    stats: Vec::new(),
                    split: None,
                    top: 50,
                    fill: false,
                    now_ms,
                };
                let rows = answer(&contents, &asked, directory, &BTreeMap::new());
                let rows: Vec<Value> =
                    rows.into_iter().map(|row| Value::Object(row.into_iter().collect())).collect();
                assert_eq!(rows, model.rows(&question, directory), "seed {seed}, {question:?}");
                rows_seen += rows.len();
            }
        }
        assert!(rows_seen > 0, "seed {seed}");
    }
}
