//! Rows and problems.

use botstats_common::metric::TypeCode;
use botstats_common::split::Split;
use serde_json::{Value, json};

use super::reference;
use crate::answer::columns::COLUMNS;
use crate::problem::Problem;

/// A row, with every column that may be asked for.
pub(super) fn row() -> Value {
    let mut units: Vec<&str> = Vec::new();
    for unit in TypeCode::ALL.map(|code| code.kind().unit()) {
        if !units.contains(&unit) {
            units.push(unit);
        }
    }
    let text_or_null =
        |description: &str| json!({ "type": ["string", "null"], "description": description });
    let stat = |description: &str| json!({ "type": ["number", "null"], "minimum": 0, "description": description });
    json!({
        "type": "object",
        "required": COLUMNS,
        "properties": {
            "Period": {
                "type": "string", "enum": ["current", "previous"],
                "description": "With `previous`: which window the row is of"
            },
            "GroupLabel": {
                "type": "string",
                "description": "Local time of the group's first instant: 2026-11-20T10:00:00Z (or with \
                    an offset such as +01:00), 2026-11-20, 2026-W47, 2026-11, 2026; of total the dates \
                    asked for, 2026-11-01/2026-11-30; of weekhour Mon 00 to Sun 23"
            },
            "BotName": text_or_null("The bot's name of now, else its id; null where rows are merged"),
            "ChannelName": text_or_null(
                "The channel's name of now, else its id; null where rows are merged. With by=channel \
                 the smallest name that a bot has for it."),
            "SplitBy": {
                "type": "string", "enum": Split::ALL.map(Split::name),
                "description": "With `split`: the kind of name"
            },
            "SplitName": {
                "type": "string",
                "description": "With `split`: the name, of operators the one to show; (none) for samples \
                    without a name, (other) for all names without rows of their own"
            },
            "EventLabel": { "type": "string", "enum": TypeCode::ALL.map(TypeCode::label) },
            "EventType": { "type": "integer", "enum": TypeCode::ALL.map(TypeCode::number) },
            "Value": {
                "type": ["number", "null"],
                "description": "The number to read; null for a mean or ratio without samples, and for an \
                    hour of the week that did not occur"
            },
            "Count": {
                "type": "integer", "minimum": 0,
                "description": "How many samples; of users and counts by weekhour how often the hour \
                    occurred"
            },
            "Sum": {
                "type": "number", "minimum": 0,
                "description": "The samples' sum: seconds for durations, messages for code 104, those of \
                    the samples that have the property for ratios, else the number of samples"
            },
            "Unit": { "type": "string", "enum": units },
            "Min": stat("With `stats`: the shortest duration in seconds; null for other codes"),
            "Max": stat("With `stats`: the longest duration in seconds; null for other codes"),
            "BotId": text_or_null("null where rows are merged"),
            "ChannelId": text_or_null("null where rows are merged"),
            "SplitId": text_or_null(
                "With `split`: the name as bots sent it, of operators the id; null for (none) and (other)"),
            "GroupStart": {
                "type": ["string", "null"], "format": "date-time",
                "description": "The group's first instant in UTC; null for weekhour"
            },
            "Complete": {
                "type": "boolean",
                "description": "Whether the group began in the window and has ended"
            }
        },
        "patternProperties": {
            "^P[1-9][0-9]?$": stat(
                "With `stats`: the duration at this percentage of all, in seconds; null for other codes"),
            "^Within[1-9][0-9]{0,5}$": stat(
                "With `stats`: the percentage of durations of at most so many seconds; null for other \
                 codes")
        },
        "additionalProperties": false
    })
}

/// An answer as JSON.
pub(super) fn rows() -> Value {
    json!({ "type": "array", "items": reference("schemas", "Row") })
}

/// An error.
pub(super) fn problem() -> Value {
    let types: Vec<String> = Problem::examples()
        .iter()
        .map(|problem| format!("urn:botstats:problem:{}", problem.code()))
        .collect();
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail", "request_id"],
        "properties": {
            "type": { "type": "string", "enum": types },
            "title": { "type": "string" },
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "detail": { "type": "string", "description": "What is wrong, and what is allowed" },
            "request_id": { "type": "string" }
        }
    })
}
