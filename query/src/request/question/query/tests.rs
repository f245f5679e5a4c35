//! The values of each query parameter, and what an error says.

use std::fmt::Debug;

use botstats_common::metric::TypeCode;
use botstats_common::wire::SplitBy;

use super::super::{Dates, Question};
use super::*;

fn ask(types: &str, mode: &str, days: &str, query: Option<&str>) -> Result<Question, String> {
    Question::parse(["*", types, mode, days], query).map_err(|error| error.to_string())
}

/// The question of these types and mode, for all bots and one day or, with `from`, for any days.
fn asked(types: &str, mode: &str, query: &str) -> Result<Question, String> {
    // Also `%66rom=`.
    let days = if query.contains("rom=") { "*" } else { "1" };
    ask(types, mode, days, Some(query))
}

/// For each query that is read as the value, or refused with the text.
fn check<T: PartialEq + Debug>(
    types: &str,
    part: impl Fn(Question) -> T,
    cases: impl IntoIterator<Item = (&'static str, Result<T, &'static str>)>,
) {
    for (query, expected) in cases {
        let got = asked(types, "day", query).map(&part);
        assert_eq!(got, expected.map_err(str::to_owned), "{query:?}");
    }
}

#[test]
fn fill() {
    for (query, fill) in [
        (None, Some(false)),
        (Some(""), Some(false)),
        (Some("fill=zero"), Some(true)),
        (Some("fill=z%65ro"), Some(true)),
        (Some("%66ill=zer%6F"), Some(true)),
        (Some("fill=z%2565ro"), None),
        (Some("fill%3Dzero"), None),
        (Some("fill=zero+"), None),
        (Some("fill=zero%20"), None),
        (Some("fill=zero%ff"), None),
        (Some("fill=zero%26fill=zero"), None),
        (Some("_=1700000000000"), None),
        (Some("fill"), None),
        (Some("fill="), None),
        (Some("fill=ZERO"), None),
        (Some("fill=one"), None),
        (Some("fill=zero=zero"), None),
        (Some("fill=zero&fill=zero"), None),
        (Some("fill=zero&"), None),
        (Some("&fill=zero"), None),
        (Some("fill=zero&&by=bot"), None),
        (Some("fill=zero;by=bot"), None),
        (Some("&"), None),
        (Some("="), None),
        (Some("Fill=zero"), None),
        (Some("x=1"), None),
        (Some("fill=zero&x=1"), None),
    ] {
        let parsed = ask("0", "day", "1", query);
        assert_eq!(parsed.as_ref().ok().map(|q| q.fill_zero), fill, "{query:?} {parsed:?}");
    }
}

#[test]
fn what_is_wrong_with_a_query() {
    for (query, error) in [
        ("fill=one", "query parameter fill: \"one\" is not allowed; only fill=zero is"),
        (
            "x=1",
            "query parameter \"x\" is unknown; only from, to, by, previous, stats, split, top and \
             fill are allowed",
        ),
        (
            "bst_1234=1",
            "query parameter a secret (not repeated here) is unknown; only from, to, by, previous, \
             stats, split, top and fill are allowed",
        ),
        (
            "top=bsk_1234",
            "query parameter top: a secret (not repeated here) is not allowed; only 1 to 500 in \
             plain decimal is",
        ),
        ("fill=zero&fill=zero", "query parameter fill is repeated; it is allowed once"),
        // A second value is not even looked at.
        ("by=bot&by=x", "query parameter by is repeated; it is allowed once"),
        ("stats=p1&stats=p2", "query parameter stats is repeated; it is allowed once"),
    ] {
        assert_eq!(asked("0", "day", query), Err(error.to_owned()), "{query}");
    }
    for name in ["from", "to", "by", "previous", "stats", "split", "top", "fill"] {
        for query in [name.to_owned(), format!("{name}=")] {
            let error = asked("0", "day", &query).unwrap_err();
            let start = format!("query parameter {name}: \"\" is not allowed; ");
            assert!(error.starts_with(&start), "{error}");
        }
        assert!(PARAMETERS.split([',', ' ']).any(|word| word == name), "{name}");
    }
}

#[test]
fn dates_from_and_to() {
    let from = |text: &str| asked("0", "day", &format!("from={text}&to=2400-01-01"));
    for text in ["1971-01-01", "2026-11-30", "2024-02-29", "2000-02-29", "2026-1%31-30"] {
        let error = from(text).unwrap_err();
        assert!(error.contains("dates; at most 400 are allowed"), "{text} {error}");
    }
    for text in [
        "1970-12-31",
        "0000-01-01",
        "2026-02-29",
        "2100-02-29",
        "2026-04-31",
        "2026-13-01",
        "2026-00-01",
        "2026-01-00",
        "2026-01-32",
        "2026-1-01",
        "2026-01-1",
        "26-01-01",
        "02026-01-01",
        "+026-01-01",
        "-026-01-01",
        "2026-01-01T00:00",
        "2026-01-01 ",
        "%202026-01-01",
        "2026/01/01",
        "20260101",
        "2026-W01-1",
        "2026-001",
        "2026-01+1",
        "2026-+1-01",
        "2026--1-01",
        "٢٠٢٦-01-01",
        "2026-01-01%00",
        "2026-01%2D0%31%ff",
        "today",
        "*",
        "",
    ] {
        let error = from(text).unwrap_err();
        assert!(
            error.starts_with("query parameter from: ")
                && error.ends_with(
                    " is not allowed; a date of the calendar from 1971-01-01 on, written as \
                     YYYY-MM-DD, is"
                ),
            "{text} {error}"
        );
    }
    let range = |from: Date, to: Date| Ok(Dates::FromTo(from, to));
    check(
        "0",
        |question| question.dates,
        [
            ("from=2026-11-01&to=2026-11-30", range(date(2026, 11, 1), date(2026, 11, 30))),
            ("to=2026-11-30&from=2026-11-30", range(date(2026, 11, 30), date(2026, 11, 30))),
            ("%66rom=1971-01-01&to=1971%2D01%2D02", range(date(1971, 1, 1), date(1971, 1, 2))),
            ("from=9998-11-27&to=9999-12-31", range(date(9998, 11, 27), date(9999, 12, 31))),
            ("from=2025-11-27&to=2026-12-31", range(date(2025, 11, 27), date(2026, 12, 31))),
            (
                "from=2025-11-26&to=2026-12-31",
                Err("query parameters from and to: 401 dates; at most 400 are allowed, and 62 \
                     with 15min or hour for GROUPMODE"),
            ),
            (
                "from=2026-11-02&to=2026-11-01",
                Err("query parameters from and to: 2026-11-02 is after 2026-11-01; from may not \
                     be after to"),
            ),
            (
                "from=2026-11-01",
                Err("query parameter to is missing; DAYS * needs both from and to"),
            ),
        ],
    );
    for (query, error) in [
        ("", "query parameter from is missing; DAYS * needs both from and to"),
        ("to=2026-11-01", "query parameter from is missing; DAYS * needs both from and to"),
    ] {
        assert_eq!(ask("0", "day", "%2A", Some(query)), Err(error.to_owned()));
    }
    for (query, error) in [
        ("from=2026-11-01&to=2026-11-02", "query parameter from is allowed only with * for DAYS"),
        ("from=2026-11-01", "query parameter from is allowed only with * for DAYS"),
        ("to=2026-11-01", "query parameter to is allowed only with * for DAYS"),
    ] {
        assert_eq!(ask("0", "day", "30", Some(query)), Err(error.to_owned()));
    }
}

#[test]
fn what_rows_are_kept_apart_by() {
    let by = |bot, channel| Ok(By { bot, channel });
    let bad = |shown| match shown {
        "channel,bot" => Err("query parameter by: \"channel,bot\" is not allowed; only \
             \"bot,channel\", \"bot\", \"channel\" or \"none\" is"),
        _ => Err("query parameter by: \"Bot\" is not allowed; only \"bot,channel\", \"bot\", \
             \"channel\" or \"none\" is"),
    };
    check(
        "0",
        |question| question.by,
        [
            ("", by(true, true)),
            ("by=bot,channel", by(true, true)),
            ("by=bot%2cchannel", by(true, true)),
            ("by=bot", by(true, false)),
            ("by=channel", by(false, true)),
            ("by=none", by(false, false)),
            ("by=channel,bot", bad("channel,bot")),
            ("by=Bot", bad("Bot")),
        ],
    );
    for query in ["by=bot,", "by=,", "by=bot,bot", "by=none,bot", "by=bot%252cchannel", "by=*"] {
        assert!(asked("0", "day", query).is_err(), "{query}");
    }
}

#[test]
fn earlier_windows() {
    check(
        "0",
        |question| question.previous,
        [
            ("", Ok(None)),
            ("previous=period", Ok(Some(Previous::Period))),
            ("previous=week", Ok(Some(Previous::Week))),
            ("previous=month", Ok(Some(Previous::Month))),
            ("previous=ye%61r", Ok(Some(Previous::Year))),
            (
                "previous=day",
                Err("query parameter previous: \"day\" is not allowed; only period, week, month \
                     or year is"),
            ),
            (
                "previous=Year",
                Err("query parameter previous: \"Year\" is not allowed; only period, week, month \
                     or year is"),
            ),
        ],
    );
    assert_eq!(
        asked("0", "WEEKHOUR", "previous=week"),
        Err("query parameter previous is not allowed with weekhour for GROUPMODE".to_owned())
    );
}

#[test]
fn stats() {
    check(
        "0",
        |question| question.stats,
        [
            ("", Ok(Vec::new())),
            ("stats=p50", Ok(vec![Stat::Percentile(50)])),
            (
                "stats=max,p9%39,within:30%2Cmin,within:604800",
                Ok(vec![
                    Stat::Max,
                    Stat::Percentile(99),
                    Stat::Within(30),
                    Stat::Min,
                    Stat::Within(604_800),
                ]),
            ),
            ("stats=p1,p2,p3,p4,p5,p6,p7,p8", Ok((1..=8).map(Stat::Percentile).collect())),
            (
                "stats=p1,p2,p3,p4,p5,p6,p7,p8,p9",
                Err("query parameter stats: 9 items; at most 8 are allowed"),
            ),
            (
                "stats=p50,min,p50",
                Err("query parameter stats: p50 is repeated; each item is allowed once"),
            ),
            (
                "stats=p50,p050",
                Err("query parameter stats: \"p050\" is not allowed; p1 to p99, min, max and \
                     within:S with S from 1 to 604800 seconds, separated by commas, are"),
            ),
        ],
    );
    for list in [
        "p0",
        "p100",
        "P50",
        "p50,",
        ",p50",
        "p50,,min",
        "p50, min",
        "p50+min",
        "mean",
        "within:0",
        "within:604801",
        "within:030",
        "within:+3",
        "within:1.5",
        "within",
        "within:",
        "within%253A30",
    ] {
        let error = asked("0", "day", &format!("stats={list}")).unwrap_err();
        assert!(error.starts_with("query parameter stats: \""), "{list} {error}");
    }
}

#[test]
fn splits() {
    let by = |split, top| Ok(Some(SplitBy { split, top }));
    check(
        "12",
        |question| question.split,
        [
            ("", Ok(None)),
            ("split=goal", by(Split::Goal, 50)),
            ("split=goal&top=1", by(Split::Goal, 1)),
            ("top=500&split=go%61l", by(Split::Goal, 500)),
            ("top=5", Err("query parameter top is allowed only with split")),
            (
                "split=goals",
                Err("query parameter split: \"goals\" is not allowed; only goal, tag, intent, \
                     integration or operator is"),
            ),
            (
                "split=goal&top=501",
                Err("query parameter top: \"501\" is not allowed; only 1 to 500 in plain decimal \
                     is"),
            ),
            ("split=tag", Err("TYPES: 12 may not be asked for with split=tag; only 18 may")),
        ],
    );
    for top in ["0", "01", "+1", "1.0", "-1", "1e2", "5 ", "4294967297", "99999999999999", "٣"] {
        let error = asked("12", "day", &format!("split=goal&top={top}")).unwrap_err();
        assert!(error.starts_with("query parameter top: "), "{top} {error}");
    }
    let names = Split::ALL.map(Split::name);
    assert_eq!(
        asked("0", "day", "split=x").unwrap_err(),
        format!(
            "query parameter split: \"x\" is not allowed; only {} or {} is",
            names[..4].join(", "),
            names[4]
        )
    );
    for split in Split::ALL {
        let query = format!("split={}", split.name());
        let all: Vec<String> = split.codes().iter().map(TypeCode::to_string).collect();
        assert!(asked(&all.join(","), "day", &query).is_ok(), "{query}");
        for code in TypeCode::ALL {
            let is_allowed = split.codes().contains(&code);
            assert_eq!(asked(&code.to_string(), "day", &query).is_ok(), is_allowed, "{query}");
        }
    }
    assert_eq!(
        asked("107,0,14,101,4", "day", "split=integration"),
        Err("TYPES: 0,101 may not be asked for with split=integration; only 4,14,15,107 may"
            .to_owned())
    );
}
