//! Tables of the worked example's answers, and of rows that it does not have.

use clap::Parser;
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr as _;

use super::*;

const EXAMPLE: &str = include_str!("../../../../tests/tests/fixtures/part2.json");

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    question: Question,
}

fn question(line: &str) -> Question {
    let arguments = std::iter::once("stats").chain(line.split_whitespace());
    let question = Line::try_parse_from(arguments).unwrap().question;
    question.check().unwrap();
    question
}

/// The parts of a path that a question is made of, in one order.
fn parts(path: &str) -> Vec<String> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut parts: Vec<String> = query.split('&').map(str::to_owned).collect();
    parts.sort_unstable();
    for segment in path.split('/') {
        let mut items: Vec<&str> = segment.split(',').collect();
        items.sort_unstable();
        parts.push(items.join(","));
    }
    parts
}

/// The example's answer to what the command line asks.
fn rows(question: &Question) -> Vec<Row> {
    let example: Value = serde_json::from_str(EXAMPLE).unwrap();
    let path_of = |asked: &Value| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let parameters = asked["params"].as_array().unwrap().iter();
        let query: Vec<String> =
            parameters.map(|pair| format!("{}={}", text(&pair[0]), text(&pair[1]))).collect();
        let [bots, types, mode, days] =
            ["bots", "types", "groupmode", "days"].map(|name| text(&asked[name]));
        let query = query.join("&");
        format!("/analytics/statistics/account/{bots}/{types}/{mode}/{days}?{query}")
    };
    let wanted = parts(&question.path());
    let mut all = example["questions"].as_array().unwrap().iter();
    let asked = all.find(|asked| parts(&path_of(asked)) == wanted).expect("a question");
    serde_json::from_value(asked["rows"].clone()).unwrap()
}

/// The table that a command line gets.
fn shown(line: &str) -> String {
    let question = question(line);
    let text = show(&rows(&question), &Asked::of(&question), Some("2026-11-20T10:21:59.000Z"));
    for line in text.lines() {
        assert!(line.width() <= WIDTH, "{line}");
    }
    text
}

#[test]
fn stats_of_durations() {
    let text = shown(
        "--types 105 --group total --days 2 --by none --stats p50,p90,min,max,within:30,within:4",
    );
    insta::assert_snapshot!(text, @r"
    Bot Reply Time (105), 2026-11-19/2026-11-20*
    SECONDS  COUNT  P50 (s)  P90 (s)  MIN (s)  MAX (s)  <=30s (%)  <=4s (%)
      8.101      5    3.000   30.000    1.500   30.000     100.00     60.00  ███████

    1 row; as of 2026-11-20T10:21:59.000Z; * is not complete
    COUNT is the number of samples behind the value
    ");
    let text = shown("--types 105,106,107,9,3 --days 2 --stats max,p1,p99");
    insta::assert_snapshot!(text, @r"
    Messages (3)
                 BOT    CHANNEL   COUNT
    2026-11-19   Pizza  Web           5  ████████████████████
    2026-11-20*  Pizza  WhatsApp      1  ████
                 Taxi   Site          1  ████

    Time To Pick Up (9)
                BOT    CHANNEL  SECONDS  COUNT  MAX (s)  P1 (s)  P99 (s)
    2026-11-19  Pizza  Web       90.000      1   90.000  90.000   90.000  ██████████

    Bot Reply Time (105)
                 BOT    CHANNEL   SECONDS  COUNT  MAX (s)  P1 (s)  P99 (s)
    2026-11-19   Pizza  Web         2.502      3    4.010   1.500    4.010  ▋
    2026-11-20*  Pizza  WhatsApp    3.000      1    3.000   3.000    3.000  ▊
                 Taxi   Site       30.000      1   30.000  30.000   30.000  ████████

    Operator Reply Time (106)
                 BOT    CHANNEL   SECONDS  COUNT  MAX (s)  P1 (s)  P99 (s)
    2026-11-19   Pizza  Web        30.000      2   40.000  20.000   40.000  ████████
    2026-11-20*  Taxi   whatsapp    5.000      1    5.000   5.000    5.000  █▎

    API Time (107)
                BOT    CHANNEL  SECONDS  COUNT  MAX (s)  P1 (s)  P99 (s)
    2026-11-19  Pizza  Web        6.348      2   12.300   0.350   12.300  ██████████

    10 rows; as of 2026-11-20T10:21:59.000Z; * is not complete
    COUNT is the number of samples behind the value
    ");
}

#[test]
fn names_beside_numbers() {
    let text =
        shown("--types 107 --split integration --group total --days 2 --stats p50,within:12");
    insta::assert_snapshot!(text, @r"
    API Time (107), 2026-11-19/2026-11-20*
    BOT    CHANNEL  NAME  SECONDS  COUNT  P50 (s)  <=12s (%)
    Pizza  Web      crm     0.350      1    0.350     100.00  ▌
    Pizza  Web      erp    12.345      1   12.300       0.00  ████████████████████

    2 rows; as of 2026-11-20T10:21:59.000Z; * is not complete
    COUNT is the number of samples behind the value
    ");
    let text = shown(
        "--types 6,7 --split intent --group total --from 2026-10-20 --to 2026-11-20 --by none",
    );
    insta::assert_snapshot!(text, @r"
    NLP Detected (6), 2026-10-20/2026-11-20*
    NAME                                                                       COUNT
    order                                                                          1
    xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…      1

    NLP Missed (7), 2026-10-20/2026-11-20*
    NAME    COUNT
    (none)      1  ████████████████████

    3 rows; as of 2026-11-20T10:21:59.000Z; * is not complete
    ");
}

#[test]
fn two_windows_beside_each_other() {
    let text = shown(
        "--types 12 --split goal --group month --from 2026-11-01 --to 2026-11-30 --by none \
         --previous month",
    );
    insta::assert_snapshot!(text, @r"
    Goal Reached (12)
              NAME     COUNT  WAS    CHANGE
    2026-11*  (other)      1    -       new
              order        2    1  +100.0 %
              signup       1    -       new

    4 rows; as of 2026-11-20T10:21:59.000Z; * is not complete
    WAS is the value a month before
    ");
    let text = shown(
        "--types 0,2,12 --group total --from 2026-11-01 --to 2026-11-20 --by none --previous month",
    );
    insta::assert_snapshot!(text, @r"
    New User (0), 2026-11-01/2026-11-20*, before 2026-10-01/2026-10-20*
    USERS  WAS    CHANGE
        6    1  +500.0 %

    Active User (2), 2026-11-01/2026-11-20*, before 2026-10-01/2026-10-20*
    USERS  WAS    CHANGE
        6    1  +500.0 %

    Goal Reached (12), 2026-11-01/2026-11-20*, before 2026-10-01/2026-10-20*
    COUNT  WAS    CHANGE
        4    1  +300.0 %

    6 rows; as of 2026-11-20T10:21:59.000Z; * is not complete
    WAS is the value a month before
    ");
    let text = shown("--types 12,13 --days 1 --previous period");
    insta::assert_snapshot!(text, @r"
    Goal Reached (12)
                   BOT    CHANNEL   COUNT  WAS  CHANGE
    (2026-11-19*)  Pizza  Web           -    1    gone
    2026-11-20*    Pizza  WhatsApp      2    -     new
                   Taxi   Site          1    -     new

    Incoming Message (13)
                 BOT    CHANNEL   COUNT  WAS  CHANGE
    2026-11-20*  Pizza  Web           3    3   0.0 %
                 Pizza  WhatsApp      2    -     new
                 Taxi   Site          2    -     new
                 Taxi   whatsapp      1    -     new

    8 rows; as of 2026-11-20T10:21:59.000Z; * is not complete
    WAS is the value 1 day before; (..) is in the earlier window only
    ");
    let text = shown("--types 13,100,101 --days 2 --previous period --fill --by bot");
    insta::assert_snapshot!(text, @r"
    Incoming Message (13)
                 BOT    COUNT  WAS  CHANGE
    2026-11-19   Pizza      6    0     new
                 Taxi       0    0       -
    2026-11-20*  Pizza      5    0     new
                 Taxi       3    0     new

    Conversations (100)
                 BOT    COUNT  WAS  CHANGE
    2026-11-19   Pizza      2    0     new
                 Taxi       0    0       -
    2026-11-20*  Pizza      3    0     new
                 Taxi       2    0     new

    Contained Rate (101)
                 BOT    PERCENT  WAS  CHANGE  COUNT  WAS
    2026-11-19   Pizza    50.00    -     new      2    0
                 Taxi         -    -       -      0    0
    2026-11-20*  Pizza    66.67    -     new      3    0
                 Taxi     50.00    -     new      2    0

    24 rows; as of 2026-11-20T10:21:59.000Z; * is not complete
    COUNT is the number of samples behind the value; WAS is the value 2 days before
    pp are percentage points
    ");
}

#[test]
fn hours_of_the_week() {
    let text = shown("--types 13,100 --group weekhour --from 2026-10-25 --to 2026-10-25 --by none");
    let like_01 =
        (3..24).map(|hour| format!("{hour:02}    .      .      .      .      .      .       .\n"));
    let text = text.replace(&like_01.collect::<String>(), "(03 to 23 like 01)\n");
    insta::assert_snapshot!(text, @r"
    Incoming Message (13), count
        Mon    Tue    Wed    Thu    Fri    Sat     Sun
    00    .      .      .      .      .      .       .
    01    .      .      .      .      .      .       .
    02    .      .      .      .      .      .    1.50 █
    (03 to 23 like 01)

    Conversations (100), count
        Mon    Tue    Wed    Thu    Fri    Sat     Sun
    00    .      .      .      .      .      .       .
    01    .      .      .      .      .      .       .
    02    .      .      .      .      .      .    1.50 █
    (03 to 23 like 01)

    2 rows; as of 2026-11-20T10:21:59.000Z; users and counts are means of an hour
    ");
    // Several names do not fit into one grid.
    let text = shown("--types 11,17 --group weekhour --days 2 --by none --split operator");
    insta::assert_snapshot!(text, @r"
    Support Conversation Length (11)
            NAME    SECONDS  COUNT
    Thu 12  Ann     180.000      1  ████████████████████
    Fri 08  (none)    0.000      1

    Operator Message (17)
            NAME    COUNT  HOURS
    Thu 12  Ann      1.00      1  ████████████████████
            Bob      1.00      1  ████████████████████
    Fri 08  (none)   1.00      1  ████████████████████
            Bob      1.00      1  ████████████████████

    6 rows; as of 2026-11-20T10:21:59.000Z
    COUNT is the number of samples behind the value
    users and counts are means of an hour
    ");
}

#[test]
fn short_groups_and_merged_rows() {
    let text = shown("--types 0,1,2 --group 15min --days 1 --by bot");
    insta::assert_snapshot!(text, @r"
    New User (0)
                             BOT    USERS
    2026-11-20 08:00+01:00   Taxi       1  ████████████████████
    2026-11-20 09:00+01:00   Pizza      1  ████████████████████
    2026-11-20 10:15+01:00   Pizza      1  ████████████████████
    2026-11-20 11:15+01:00*  Taxi       1  ████████████████████

    Returning User (1)
                            BOT    USERS
    2026-11-20 10:00+01:00  Pizza      1  ████████████████████

    Active User (2)
                             BOT    USERS
    2026-11-20 08:00+01:00   Taxi       1  ████████████████████
    2026-11-20 09:00+01:00   Pizza      1  ████████████████████
    2026-11-20 10:00+01:00   Pizza      1  ████████████████████
    2026-11-20 10:15+01:00   Pizza      1  ████████████████████
    2026-11-20 11:15+01:00*  Taxi       1  ████████████████████

    10 rows; as of 2026-11-20T10:21:59.000Z; * is not complete
    ");
    let text = shown("--types 2,100 --group week --days 30 --by none");
    insta::assert_snapshot!(text, @r"
    Active User (2)
               USERS
    2026-W43*      2  ██████▋
    2026-W47*      6  ████████████████████

    Conversations (100)
               COUNT
    2026-W43*      3  ████████▌
    2026-W47*      7  ████████████████████

    4 rows; as of 2026-11-20T10:21:59.000Z; * is not complete
    ");
    let text = shown("--types 102,103,104,108 --group total --days 2 --by channel");
    insta::assert_snapshot!(text, @r"
    Unanswered Requests (102), 2026-11-19/2026-11-20*
    CHANNEL   PERCENT  COUNT
    Site         0.00      1
    WhatsApp   100.00      1  ████████████████████

    Goal Rate (103), 2026-11-19/2026-11-20*
    CHANNEL   PERCENT  COUNT
    Site        50.00      4  ████████████████████
    WhatsApp    33.33      3  █████████████▎

    Messages Per Conversation (104), 2026-11-19/2026-11-20*
    CHANNEL   VALUE  COUNT
    Site      5.250      4  ████████████████████
    WhatsApp  2.000      3  ███████▌

    Satisfaction (108), 2026-11-19/2026-11-20*
    CHANNEL  PERCENT  COUNT
    Site       50.00      2  ████████████████████

    7 rows; as of 2026-11-20T10:21:59.000Z; * is not complete
    COUNT is the number of samples behind the value
    ");
}

#[test]
fn stats_of_two_windows_go_on_below() {
    let question = question("--types 105 --days 1 --stats p10,p50,p90,p99,min,max --previous week");
    let row = |period: &str, label: &str, ms: f64, count: u64| {
        let row = json!({
            "Period": period, "GroupLabel": label, "BotName": "Pizza ".repeat(9), "ChannelName":
            "食べ物".repeat(4), "EventLabel": "Bot Reply Time", "EventType": 105, "Value": ms,
            "Count": count, "Sum": 0, "Unit": "seconds", "P10": ms, "P50": ms, "P90": ms, "P99": ms,
            "Min": 0.5, "Max": 86_400, "BotId": "b1", "ChannelId": "web", "GroupStart": null,
            "Complete": true,
        });
        serde_json::from_value(row).unwrap()
    };
    let rows: [Row; 2] =
        [row("current", "2026-11-20", 8.101, 5), row("previous", "2026-11-13", 1.5, 1_200)];
    let text = show(&rows, &Asked::of(&question), None);
    for line in text.lines() {
        assert!(line.width() <= WIDTH, "{line}");
    }
    insta::assert_snapshot!(text, @r"
    Bot Reply Time (105)
                BOT       CHANNEL  SECONDS    WAS    CHANGE  COUNT    WAS
    2026-11-20  Pizza P…  食べ物…    8.101  1.500  +440.1 %      5  1,200

                BOT       CHANNEL  P10 (s)    WAS  P50 (s)    WAS  P90 (s)    WAS
    2026-11-20  Pizza P…  食べ物…    8.101  1.500    8.101  1.500    8.101  1.500

                BOT       CHANNEL  P99 (s)    WAS  MIN (s)    WAS
    2026-11-20  Pizza P…  食べ物…    8.101  1.500    0.500  0.500

                BOT       CHANNEL    MAX (s)        WAS
    2026-11-20  Pizza P…  食べ物…  86400.000  86400.000

    2 rows; COUNT is the number of samples behind the value
    WAS is the value 7 days before
    ");
}

#[test]
fn blocks() {
    let usual = Asked::of(&question(""));
    let row = |label: &str, code: u8, unit: &str, value: Option<f64>, count: u64| -> Row {
        let row = json!({
            "GroupLabel": label, "BotName": "Pizza", "ChannelName": "Web",
            "EventLabel": if code == 2 { "Active User" } else { "Conversation Length" },
            "EventType": code, "Value": value, "Count": count, "Sum": 0, "Unit": unit,
            "BotId": "b1", "ChannelId": "web", "GroupStart": null,
            "Complete": label != "2026-11-21",
        });
        serde_json::from_value(row).unwrap()
    };
    let rows = [
        row("2026-11-20", 2, "users", Some(1200.0), 1200),
        row("2026-11-20", 8, "seconds", Some(61.5), 7),
        row("2026-11-21", 2, "users", Some(600.0), 600),
        row("2026-11-21", 8, "seconds", None, 0),
    ];
    insta::assert_snapshot!(show(&rows, &usual, Some("2026-11-21T09:00:00.000Z")), @r"
    Active User (2)
                 BOT    CHANNEL  USERS
    2026-11-20   Pizza  Web      1,200  ████████████████████
    2026-11-21*  Pizza  Web        600  ██████████

    Conversation Length (8)
                 BOT    CHANNEL  SECONDS  COUNT
    2026-11-20   Pizza  Web       61.500      7  ████████████████████
    2026-11-21*  Pizza  Web            -      0

    4 rows; as of 2026-11-21T09:00:00.000Z; * is not complete
    COUNT is the number of samples behind the value
    ");
    assert!(show(&[], &usual, None).starts_with("no rows"));
    // A metric of a newer endpoint keeps its value and its unit.
    let unknown = show(&[row("2026-11-20", 200, "points", Some(4.25), 3)], &usual, None);
    assert!(
        unknown.contains("POINTS  COUNT\n") && unknown.contains("   4.25      3  "),
        "{unknown}"
    );
}
