//! The parameters of the statistics.
//!
//! Only those in the path have examples: together, examples of the others would be refused.

use botstats_common::metric::TypeCode;
use botstats_common::split::MAX_TOP;
use botstats_common::split::Split;
use botstats_common::stat::MAX_STATS;
use botstats_common::stat::MAX_WITHIN_S;
use botstats_common::wire::MAX_DATES;
use serde_json::{Value, json};

use crate::request::question::{MAX_DAYS, MAX_TYPE_ITEMS};

/// The values of GROUPMODE.
pub(super) const GROUP_MODES: [&str; 8] =
    ["15min", "hour", "day", "week", "month", "year", "total", "weekhour"];
/// `YYYY-MM-DD` from 1971 on.
const DATE: &str = "^(197[1-9]|19[89][0-9]|[2-9][0-9]{3})-[0-9]{2}-[0-9]{2}$";
/// An item of `stats`: the last numbers are the seconds of a week, digit by digit.
const STAT: &str = "^(p[1-9][0-9]?|min|max|within:([1-9][0-9]{0,4}|[1-5][0-9]{5}|60[0-3][0-9]{3}\
    |604[0-7][0-9]{2}|604800))$";
const _: () = assert!(MAX_WITHIN_S == 604_800, "as the pattern of a stat says");

/// All parameters by name.
pub(super) fn parameters() -> Value {
    let labelled = TypeCode::ALL.map(|code| format!("{code} {}", code.label()));
    let codes = |split: Split| {
        let codes: Vec<String> = split.codes().iter().map(ToString::to_string).collect();
        format!("{} ({})", split.name(), codes.join(", "))
    };
    json!({
        "APIKEY": {
            "name": "APIKEY", "in": "path", "required": true,
            "description": "A bot's API key, or * for all bots of the account",
            "schema": { "type": "string", "pattern": r"^(\*|[A-Za-z0-9_-]{8,128})$" },
            "example": "*"
        },
        "TYPES": {
            "name": "TYPES", "in": "path", "required": true,
            "description": format!(
                "Type codes separated by commas (or %2C), at most {MAX_TYPE_ITEMS}; order and \
                 duplicates do not matter: {}", labelled.join(", ")),
            "style": "simple", "explode": false,
            "schema": {
                "type": "array", "minItems": 1, "maxItems": MAX_TYPE_ITEMS,
                "items": { "type": "integer", "enum": TypeCode::ALL.map(TypeCode::number) }
            },
            "example": [0, 2, 13]
        },
        "GROUPMODE": {
            "name": "GROUPMODE", "in": "path", "required": true,
            "description": format!(
                "How rows are grouped in local time: {}; any letter case. 15min and hour take at \
                 most 62 dates.", GROUP_MODES.join(", ")),
            "schema": { "type": "string", "pattern": in_any_case(&GROUP_MODES) },
            "example": "day"
        },
        "DAYS": {
            "name": "DAYS", "in": "path", "required": true,
            "description": "Days of history, of which today is the last one; or * for the dates \
                from `from` to `to`",
            "schema": { "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": MAX_DAYS },
                { "type": "string", "enum": ["*"] }
            ] },
            "example": 7
        },
        "from": {
            "name": "from", "in": "query", "required": false,
            "description": format!(
                "The first local date, not after today; needed with DAYS * and not allowed \
                 without; at most {MAX_DATES} dates from it to `to`"),
            "schema": { "type": "string", "format": "date", "pattern": DATE }
        },
        "to": {
            "name": "to", "in": "query", "required": false,
            "description": "The last local date, not before `from`; needed likewise",
            "schema": { "type": "string", "format": "date", "pattern": DATE }
        },
        "previous": {
            "name": "previous", "in": "query", "required": false,
            "description": "Adds the rows of an earlier window: of as many dates just before, or \
                of the same dates whole weeks, a month or a year ago. Not with weekhour.",
            "schema": { "type": "string", "enum": ["period", "week", "month", "year"] }
        },
        "by": {
            "name": "by", "in": "query", "required": false,
            "description": "What rows are kept apart by; they are merged over the rest, whose \
                names and ids are null",
            "schema": {
                "type": "string", "enum": ["bot,channel", "bot", "channel", "none"],
                "default": "bot,channel"
            }
        },
        "stats": {
            "name": "stats", "in": "query", "required": false,
            "description": format!(
                "Columns about the durations of a row, at most {MAX_STATS}, none twice: p1 to p99 \
                 (percentiles), min, max and within:S (the share of durations of at most S \
                 seconds, 1 to {MAX_WITHIN_S})"),
            "style": "form", "explode": false,
            "schema": {
                "type": "array", "minItems": 1, "maxItems": MAX_STATS, "uniqueItems": true,
                "items": { "type": "string", "pattern": STAT }
            }
        },
        "fill": {
            "name": "fill", "in": "query", "required": false,
            "description": "zero: rows for combinations without a sample too",
            "schema": { "type": "string", "enum": ["zero"] }
        },
        "split": {
            "name": "split", "in": "query", "required": false,
            "description": format!(
                "Rows by name. Each kind of name has its own type codes, and only these may be \
                 asked for: {}", Split::ALL.map(codes).join("; ")),
            "schema": { "type": "string", "enum": Split::ALL.map(Split::name) }
        },
        "top": {
            "name": "top", "in": "query", "required": false,
            "description": "How many names have rows of their own, those with the most samples; \
                the others are in the row (other). Only with `split`.",
            "schema": { "type": "integer", "minimum": 1, "maximum": MAX_TOP, "default": 50 }
        },
        "X-Request-Id": {
            "name": "X-Request-Id", "in": "header", "required": false,
            "description": "Names the request in answers and logs, if it is 1 to 128 of the \
                characters A-Z a-z 0-9 . _ -; else one is made",
            "schema": { "type": "string" },
            "example": "my-request.1"
        }
    })
}

fn in_any_case(names: &[&str]) -> String {
    let letter = |c: char| match c.is_ascii_alphabetic() {
        true => format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase()),
        false => c.to_string(),
    };
    let names: Vec<String> = names.iter().map(|name| name.chars().map(letter).collect()).collect();
    format!("^({})$", names.join("|"))
}
