//! The model itself against the worked example, and against small cases worked out by hand.

use botstats_tests::fixture;
use botstats_tests::generate::Dice;
use botstats_tests::model::{MAX_NAMES, Model, Verdict, answer, parse_time_ms};

#[test]
fn the_model_answers_all_questions_of_the_worked_example() {
    let model = Model::of(&fixture::messages());
    for verdict in model.verdicts.values() {
        assert!(matches!(verdict, Verdict::Accepted | Verdict::Duplicate), "{verdict:?}");
    }
    let questions = fixture::questions();
    assert_eq!(questions.len(), 24);
    for (number, (question, directory, expected)) in questions.iter().enumerate() {
        let rows = model.rows(question, directory);
        for (place, (got, wanted)) in rows.iter().zip(expected).enumerate() {
            assert_eq!(got, wanted, "question {number} {question:?}, row {place}");
        }
        assert_eq!(rows.len(), expected.len(), "question {number} {question:?}");
    }
}

#[test]
fn the_model_answers_all_questions_of_part_two() {
    let mut example = fixture::part_two();
    assert_eq!(example.questions.len(), 30);
    for shuffle in 0..5 {
        let mut dice = Dice::new(shuffle);
        if shuffle > 0 {
            dice.shuffle(&mut example.messages);
            for (sequence, message) in (1..).zip(&mut example.messages) {
                message.sequence = sequence;
            }
        }
        let model = Model::of(&example.messages);
        for verdict in model.verdicts.values() {
            assert!(matches!(verdict, Verdict::Accepted | Verdict::Duplicate), "{verdict:?}");
        }
        let contents = model.contents(MAX_NAMES);
        for (number, (asked, expected)) in example.questions.iter().enumerate() {
            let rows = answer(&contents, asked, &example.directory, &example.operators);
            for (place, (got, wanted)) in rows.iter().zip(expected).enumerate() {
                assert_eq!(got, wanted, "question {number} {asked:?}, row {place}");
            }
            assert_eq!(rows.len(), expected.len(), "question {number} {asked:?}");
        }
    }
}

#[test]
fn times() {
    for (text, ms) in [
        ("1970-01-01T00:00:00Z", Some(0)),
        ("1970-01-01t00:00:00z", Some(0)),
        ("1970-01-01T00:00:00.0019999Z", Some(1)),
        ("1969-12-31T23:59:59.9999Z", Some(-1)),
        ("1970-01-01T01:00:00+01:00", Some(0)),
        ("1969-12-31T18:15:00-05:45", Some(0)),
        ("2016-12-31T23:59:60Z", Some(1_483_228_799_000)),
        ("2016-12-31T23:59:60.5Z", Some(1_483_228_799_500)),
        ("2024-02-29T00:00:00Z", Some(1_709_164_800_000)),
        ("0000-01-01T00:00:00Z", Some(-62_167_219_200_000)),
        ("9999-12-31T23:59:59.999Z", Some(253_402_300_799_999)),
        ("2023-02-29T00:00:00Z", None),
        ("2023-02-28T24:00:00Z", None),
        ("2023-02-28 00:00:00Z", None),
        ("2023-02-28T00:00Z", None),
        ("2023-02-28T00:00:61Z", None),
        ("2023-02-28T00:00:00", None),
        ("2023-02-28T00:00:00.Z", None),
        ("2023-02-28T00:00:00,5Z", None),
        ("2023-02-28T00:00:00+0100", None),
        ("2023-02-28T00:00:00+24:00", None),
        ("2023-02-28T00:00:00Z ", None),
        ("+2023-02-28T00:00:00Z", None),
        ("", None),
    ] {
        assert_eq!(parse_time_ms(text), ms, "{text:?}");
    }
}
