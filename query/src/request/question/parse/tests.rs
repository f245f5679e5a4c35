//! Segments, and what does not go together.

use jiff::civil::date;

use super::*;

const KEY: &str = "abcdefgh";

fn parse(
    key: &str,
    types: &str,
    mode: &str,
    days: &str,
    query: Option<&str>,
) -> Result<Question, String> {
    Question::parse([key, types, mode, days], query).map_err(|e| e.to_string())
}

#[test]
fn types() {
    let codes = |text: &str| {
        parse("*", text, "day", "1", None)
            .map(|q| q.types.iter().map(TypeCode::number).collect::<Vec<_>>())
    };
    assert_eq!(codes("0"), Ok(vec![0]));
    assert_eq!(codes("108,18,3,3,100,0"), Ok(vec![0, 3, 18, 100, 108]));
    assert_eq!(codes(&vec!["7"; 64].join(",")), Ok(vec![7]));
    assert_eq!(codes("0%2C12"), Ok(vec![0, 12]));
    assert_eq!(codes("%30%2c1%32,3"), Ok(vec![0, 3, 12]));
    assert_eq!(
        codes(&vec!["7"; 65].join(",")),
        Err("TYPES: 65 items; at most 64 are allowed".to_owned())
    );
    for (text, item) in [
        ("", "\"\""),
        ("19", "\"19\""),
        ("99", "\"99\""),
        ("109", "\"109\""),
        ("0100", "\"0100\""),
        ("1,,2", "\"\""),
        ("1,", "\"\""),
        ("+1", "\"+1\""),
        ("-1", "\"-1\""),
        ("01", "\"01\""),
        ("00", "\"00\""),
        ("1, 2", "\" 2\""),
        ("1%252C2", "\"1%2C2\""),
        ("1%2", "\"1%2\""),
        ("1%", "\"1%\""),
        ("1%2C", "\"\""),
        ("1%2C%202", "\" 2\""),
        ("1%2F2", "\"1/2\""),
        ("1%00", "\"1\\0\""),
        ("1%FF", "\"1\u{fffd}\""),
        ("1%0d%0a", "\"1\\r\\n\""),
        ("%2B1", "\"+1\""),
        ("%62sk_12345", "a secret (not repeated here)"),
        ("1.0", "\"1.0\""),
        ("1;2", "\"1;2\""),
        ("0x1", "\"0x1\""),
        ("256", "\"256\""),
        ("٣", "\"٣\""),
        ("all", "\"all\""),
        ("bsk_12345", "a secret (not repeated here)"),
    ] {
        assert_eq!(
            codes(text),
            Err(format!(
                "TYPES: {item} is not allowed; type codes 0 to 18 and 100 to 108 in plain decimal, separated by commas"
            )),
            "{text:?}"
        );
    }
    let long = codes(&"9".repeat(10_000)).unwrap_err();
    assert!(long.len() < 200 && long.contains("..."), "{long}");
}

#[test]
fn modes_and_days() {
    for (text, mode) in [
        ("hour", Some(GroupMode::Hour)),
        ("DAY", Some(GroupMode::Day)),
        ("Month", Some(GroupMode::Month)),
        ("yEAR", Some(GroupMode::Year)),
        ("15MIN", Some(GroupMode::Quarter)),
        ("week", Some(GroupMode::Week)),
        ("Total", Some(GroupMode::Total)),
        ("WeekHour", Some(GroupMode::WeekHour)),
        ("", None),
        ("days", None),
        ("quarter", None),
        ("15", None),
        ("week hour", None),
        ("d%61y", Some(GroupMode::Day)),
        ("%44%41%59", Some(GroupMode::Day)),
        ("d%2561y", None),
        ("day%00", None),
        ("day%ff", None),
        ("day%", None),
    ] {
        assert_eq!(parse("*", "0", text, "1", None).ok().map(|q| q.mode), mode, "{text:?}");
    }
    assert!(
        parse("*", "0", "days", "1", None)
            .unwrap_err()
            .ends_with("not allowed; 15min, hour, day, week, month, year, total or weekhour")
    );
    for (text, days) in [
        ("1", Some(1)),
        ("9", Some(9)),
        ("30", Some(30)),
        ("0", None),
        ("31", None),
        ("", None),
        ("+7", None),
        ("-1", None),
        ("07", None),
        ("7 ", None),
        ("7.0", None),
        ("1e1", None),
        ("0x1", None),
        ("NaN", None),
        ("300", None),
        ("%37", Some(7)),
        ("%33%30", Some(30)),
        ("3%30", Some(30)),
        ("%2537", None),
        ("%2B7", None),
        ("%207", None),
        ("7%", None),
        ("100", None),
        ("**", None),
        // With from and to only.
        ("*", None),
    ] {
        let parsed = parse("*", "0", "day", text, None).ok().map(|q| match q.dates {
            Dates::Last(days) => days,
            Dates::FromTo(..) => 0,
        });
        assert_eq!(parsed, days, "{text:?}");
    }
    assert_eq!(
        parse("*", "0", "day", "31", None).unwrap_err(),
        "DAYS: \"31\" is not allowed; 1 to 30 in plain decimal, or * with the query parameters \
         from and to"
    );
}

#[test]
fn keys() {
    let hash = |text: &str| Some(BotFilter::ApiKey(SecretHash::of(text)));
    let longest = "k".repeat(128);
    let too_long = "k".repeat(129);
    for (text, asked) in [
        ("*", Some(BotFilter::All)),
        ("%2A", Some(BotFilter::All)),
        ("%2a", Some(BotFilter::All)),
        (KEY, hash(KEY)),
        ("%61bcdefgh", hash(KEY)),
        ("A-z_0123", hash("A-z_0123")),
        (longest.as_str(), hash(&longest)),
        (too_long.as_str(), None),
        ("abcdefg", None),
        ("", None),
        ("**", None),
        // Decoded once only.
        ("%252A", None),
        ("%2561bcdefgh", None),
        ("abcdefg%2F", None),
        ("abcdefg%00", None),
        ("abcdefg%zz", None),
        ("abcdefg%ff", None),
        ("abcdefg%", None),
        ("abcdefg.", None),
        ("abcdefgé", None),
    ] {
        let parsed = parse(text, "0", "day", "1", None).ok().map(|q| q.bots);
        assert_eq!(parsed, asked, "{text:?}");
    }
    let error = parse("secret!!key", "0", "day", "1", None).unwrap_err();
    assert!(error.starts_with("APIKEY") && !error.contains("secret"), "{error}");
}

/// The question of these types and mode, for all bots and one day or, with `from`, for any days.
fn asked(types: &str, mode: &str, query: &str) -> Result<Question, String> {
    let days = if query.contains("from=") { "*" } else { "1" };
    parse("*", types, mode, days, Some(query))
}

#[test]
fn fine_groups_have_fewer_dates() {
    for (mode, most) in [
        ("15min", 62),
        ("hour", 62),
        ("day", 400),
        ("week", 400),
        ("month", 400),
        ("year", 400),
        ("total", 400),
        ("weekhour", 400),
    ] {
        let from = date(2026, 1, 1);
        let dates = |number: i32| {
            let to = from.checked_add(jiff::Span::new().days(number - 1)).unwrap();
            asked("0", mode, &format!("from={from}&to={to}"))
        };
        assert!(dates(most).is_ok(), "{mode}");
        let error = dates(most + 1).unwrap_err();
        assert!(error.contains(&format!(" {} dates; ", most + 1)), "{error}");
    }
}

#[test]
fn the_first_bad_item_is_named_in_order() {
    for (parameters, named) in [
        (["!", "x", "x", "x"], "TYPES"),
        (["!", "0", "x", "x"], "GROUPMODE"),
        (["!", "0", "day", "x"], "DAYS"),
        (["!", "0", "day", "1"], "APIKEY"),
        (["*", "0", "day", "1"], "query"),
    ] {
        let error = Question::parse(parameters, Some("x")).unwrap_err().to_string();
        assert!(error.starts_with(named), "{error}");
    }
    let types_of = |query| Question::parse(["*", "0", "weekhour", "*"], Some(query));
    // The query as it is written, then what does not go together.
    for (query, named) in [
        ("top=5&by=x&to=x", "query parameter by: "),
        ("to=x&by=x", "query parameter to: "),
        ("to=2026-01-01&split=tag&previous=week&x", "query parameter \"x\" is unknown"),
        ("to=2026-01-01&split=tag&previous=week", "query parameter from is missing"),
        ("from=2026-01-02&to=2026-01-01&split=tag&previous=week", "query parameters from and to: "),
        ("from=2026-01-01&to=2026-01-01&split=tag&previous=week", "query parameter previous is "),
        ("from=2026-01-01&to=2026-01-01&split=tag", "TYPES: 0 may not"),
        ("from=2026-01-01&to=2026-01-01&top=1", "query parameter top is "),
    ] {
        let error = types_of(query).unwrap_err().to_string();
        assert!(error.starts_with(named), "{query} {error}");
    }
}

#[test]
fn calls_with_a_bots_token_have_no_key() {
    let query = Some("from=2026-11-01&to=2026-11-30&previous=month&stats=p50&by=channel&fill=zero");
    let of_bot = Question::parse_for_bot(["8%2C105", "week", "*"], query).unwrap();
    let of_all = Question::parse(["*", "8,105", "week", "*"], query).unwrap();
    assert_eq!(of_bot, Question { bots: BotFilter::OfToken, ..of_all });
    for (segments, named) in [
        (["*", "day", "1"], "TYPES"),
        (["0", "*", "1"], "GROUPMODE"),
        (["0", "day", "x"], "DAYS"),
        (["0", "day", "1"], "query"),
    ] {
        let error = Question::parse_for_bot(segments, Some("x")).unwrap_err().to_string();
        assert!(error.starts_with(named), "{error}");
    }
}

#[test]
fn basic_and_complete_questions() {
    for (types, mode, query, is_basic, must_be_complete) in [
        ("0,18", "day", "", true, false),
        ("0,18", "Hour", "fill=zero", true, false),
        ("0", "month", "by=bot,channel", true, false),
        ("0", "year", "by=none", false, false),
        ("0", "15min", "", false, false),
        ("0", "week", "", false, false),
        ("0", "total", "", false, false),
        ("0", "weekhour", "", false, false),
        ("0,100", "day", "", false, true),
        ("108", "day", "", false, true),
        ("0", "day", "from=2026-11-01&to=2026-11-02", false, true),
        ("0", "day", "previous=period", false, true),
        ("0", "day", "stats=min", false, true),
        ("12", "day", "split=goal", false, true),
    ] {
        let question = asked(types, mode, query).unwrap();
        let found = (question.is_basic(), question.must_be_complete());
        assert_eq!(found, (is_basic, must_be_complete), "{types} {mode} {query}");
    }
}
