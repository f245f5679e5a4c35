//! Command lines, and what they ask or why they are refused.

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    question: Question,
}

/// The path of a command line, or why there is none.
fn asked(line: &str) -> Result<String, String> {
    let arguments = std::iter::once("stats").chain(line.split_whitespace());
    let question = Line::try_parse_from(arguments).map_err(|e| e.to_string())?.question;
    question.check().map_err(|e| e.to_string())?;
    Ok(question.path())
}

#[test]
fn questions_as_paths() {
    for (line, path) in [
        ("", "account/*/0,2,3,8,10,13/day/7"),
        ("--types 0 --group HOUR --days 1", "account/*/0/hour/1"),
        ("--types 13,0,2 --bot bsk_0123", "account/bsk_0123/0,2,13/day/7"),
        ("--types 8-10,3,3,2-4", "account/*/2,3,4,8,9,10/day/7"),
        ("--types 17-101", "account/*/17,18,100,101/day/7"),
        ("--types 8,100-108", "account/*/8,100,101,102,103,104,105,106,107,108/day/7"),
        (
            "--types 3 --from 2026-11-01 --to 2026-11-30 --group week",
            "account/*/3/week/*?from=2026-11-01&to=2026-11-30",
        ),
        ("--types 3 --as-bot --group 15min --days 2", "3/15min/2"),
        ("--split goal --top 10 --fill", "account/*/12/day/7?split=goal&top=10&fill=zero"),
        (
            "--split operator --types 106 --stats p50,within:30,max --by none --previous week \
             --group total",
            "account/*/106/total/7?by=none&previous=week&stats=p50,within:30,max&split=operator",
        ),
        ("--types 3 --by bot,channel", "account/*/3/day/7?by=bot,channel"),
        ("--types 3 --group weekhour --days 30", "account/*/3/weekhour/30"),
    ] {
        let path = format!("/analytics/statistics/{path}");
        assert_eq!(asked(line).as_deref(), Ok(path.as_str()), "{line}");
    }
}

#[test]
fn what_is_refused_before_it_is_asked() {
    for (line, why) in [
        ("--types 19", "codes 0 to 18 and 100 to 108"),
        ("--types 5-3", "codes 0 to 18"),
        ("--types 1,,2", "codes 0 to 18"),
        ("--types 109", "codes 0 to 18"),
        ("--group fortnight", "15min, hour, day, week, month, year, total, weekhour"),
        ("--days 0", "from 1 to 30"),
        ("--from 2026-11-01", "--to"),
        ("--to 2026-11-01", "--from"),
        ("--from 2026-11-01 --to 2026-11-02 --days 3", "cannot be used with"),
        ("--from 2026-11-31 --to 2026-12-01", "a date of the calendar"),
        ("--from 20261101 --to 2026-12-01", "a date of the calendar"),
        ("--from 1970-01-01 --to 2026-12-01", "from 1971 on"),
        ("--from 2026-11-02 --to 2026-11-01", "--from is after --to"),
        ("--from 2025-01-01 --to 2026-02-05", "401 dates; with --group day at most 400"),
        (
            "--from 2026-09-01 --to 2026-11-02 --group hour",
            "63 dates; with --group hour at most 62",
        ),
        ("--previous decade", "period, week, month, year"),
        ("--previous week --group weekhour", "--previous is not allowed"),
        ("--by operator", "bot,channel, bot, channel, none"),
        ("--types 8 --stats p50,p100", "\"p100\": p1 to p99, min, max and within:S"),
        ("--types 8 --stats p50,p50", "p50 is given twice"),
        ("--types 8 --stats p1,p2,p3,p4,p5,p6,p7,p8,p9", "9 items; at most 8"),
        ("--types 3,10 --stats p50", "add one of the types 8,9,11,16,105,106,107"),
        ("--split colour", "goal, tag, intent, integration, operator"),
        ("--split goal --types 12,3", "--types: 3 has no names of kind goal"),
        ("--top 5", "--split"),
        ("--split goal --top 501", "from 1 to 500"),
        ("--bot short", "is no API key"),
        ("--as-bot --bot bsk_0123", "leave out --bot"),
    ] {
        let text = asked(line).expect_err(line);
        assert!(text.contains(why), "{line}: {why:?} is not in {text}");
    }
    // The limits themselves are allowed.
    for line in [
        "--from 2025-01-01 --to 2026-02-04",
        "--from 2026-09-01 --to 2026-11-01 --group 15min",
        "--types 8 --stats p1,p2,p3,p4,p5,p6,p7,p8",
    ] {
        assert!(asked(line).is_ok(), "{line}");
    }
}

#[test]
fn keys() {
    assert!(check_key("bsk_0123").is_ok());
    for text in ["short", "with space", "bsk_0123/..", ""] {
        assert!(check_key(text).is_err(), "{text:?}");
    }
}
