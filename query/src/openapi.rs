//! The description of the API, as OpenAPI 3.1: what `/openapi.json` answers.
//!
//! *Why* by hand: query matches the raw request target, so there are no framework's handlers to
//! derive a description from. Tests compare the description with rendered rows and with the closed
//! set of problems.

use std::sync::OnceLock;

use botstats_common::metric::TypeCode;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::answer::render::COLUMNS;
use crate::problem::Problem;
use crate::request::question::{MAX_DAYS, MAX_TYPE_ITEMS};

/// The path of the statistics, with its parameters.
const STATISTICS_PATH: &str = "/analytics/statistics/account/{APIKEY}/{TYPES}/{GROUPMODE}/{DAYS}";

/// The largest type code.
const MAX_CODE: u8 = *TypeCode::OFFERED_NUMBERS.end();

/// The document as JSON text.
pub(crate) fn json() -> Bytes {
    static JSON: OnceLock<Bytes> = OnceLock::new();
    JSON.get_or_init(|| Bytes::from(document().to_string())).clone()
}

/// The document.
#[must_use]
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "botstats",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Statistics of chatbots, by account",
            "description": "One call an account an hour (the window can be configured). Only a 200 \
                uses it up. Errors are problems as in RFC 9457.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" }
        },
        "servers": [{ "url": "/" }],
        "paths": {
            STATISTICS_PATH: { "get": statistics() },
            "/openapi.json": { "get": {
                "operationId": "describe",
                "summary": "This document",
                "security": [],
                "responses": {
                    "200": {
                        "description": "This document",
                        "headers": named(&["X-Content-Type-Options", "X-Request-Id"]),
                        "content": { "application/json": { "schema": { "type": "object" } } }
                    },
                    "400": response("BadRequest"),
                    "405": response("MethodNotAllowed"),
                    "431": response("HeadTooLarge"),
                    "500": response("Internal"),
                    "503": response("Unavailable")
                }
            } },
            "/healthz": {
                "get": health("checkHealth", true),
                "head": health("checkHealthHead", false)
            }
        },
        "components": {
            "securitySchemes": { "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "The account's token, as RFC 6750 sends it"
            } },
            "schemas": { "Row": row(), "Rows": rows(), "Problem": problem() },
            "headers": headers(),
            "responses": responses()
        }
    })
}

/// An operation of the health check for load balancers; `body` is false for HEAD.
fn health(operation: &str, body: bool) -> Value {
    let answer = |description: &str, text: &str, more: &[&str]| {
        let every = ["Cache-Control", "X-Content-Type-Options", "X-Request-Id"];
        let mut answer = json!({
            "description": description,
            "headers": named(&[&every[..], more].concat())
        });
        if body {
            let schema = json!({ "type": "string", "enum": [text] });
            answer["content"] = json!({ "text/plain": { "schema": schema } });
        }
        answer
    };
    let mut answers = json!({
        "200": answer("This replica answers calls", "ready\n", &[]),
        "503": answer("This replica would answer 503: send calls to another", "not ready\n",
            &["Retry-After"])
    });
    if body {
        answers["400"] = response("BadRequest");
        answers["405"] = response("MethodNotAllowed");
        answers["431"] = response("HeadTooLarge");
        answers["500"] = response("Internal");
    }
    json!({
        "operationId": operation,
        "summary": "Whether this replica is ready, for load balancers; uses no call",
        "security": [],
        "responses": answers
    })
}

/// References to these headers.
fn named(names: &[&str]) -> Map<String, Value> {
    names.iter().map(|name| ((*name).to_owned(), header(name))).collect()
}

fn header(name: &str) -> Value {
    json!({ "$ref": format!("#/components/headers/{name}") })
}

fn response(name: &str) -> Value {
    json!({ "$ref": format!("#/components/responses/{name}") })
}

fn statistics() -> Value {
    let codes: Vec<String> =
        TypeCode::OFFERED.iter().map(|code| format!("{code} {}", code.label())).collect();
    let success_headers = [
        "Data-As-Of",
        "Cache-Control",
        "RateLimit",
        "RateLimit-Policy",
        "Vary",
        "Content-Encoding",
        "Content-Disposition",
        "X-Content-Type-Options",
        "X-Request-Id",
    ];
    let success_headers = named(&success_headers);
    json!({
        "operationId": "accountStatistics",
        "summary": "Account Statistics Data",
        "description": "Rows of all bots, or one bot, of the account that the token is of, over the \
            last DAYS local days of the account's time zone.",
        "security": [{ "token": [] }],
        "parameters": [
            {
                "name": "APIKEY", "in": "path", "required": true,
                "description": "A bot's API key, or * for all bots of the account",
                "schema": { "type": "string", "pattern": r"^(\*|[A-Za-z0-9_-]{8,128})$" },
                "example": "*"
            },
            {
                "name": "TYPES", "in": "path", "required": true,
                "description": format!(
                    "Type codes separated by commas (or %2C), at most {MAX_TYPE_ITEMS}; order and \
                     duplicates do not matter: {}", codes.join(", ")),
                "style": "simple", "explode": false,
                "schema": {
                    "type": "array", "minItems": 1, "maxItems": MAX_TYPE_ITEMS,
                    "items": { "type": "integer", "minimum": 0, "maximum": MAX_CODE }
                },
                "example": [0, 2, 13]
            },
            {
                "name": "GROUPMODE", "in": "path", "required": true,
                "description": "How rows are grouped in local time; any letter case",
                "schema": {
                    "type": "string",
                    "pattern": "^([Hh][Oo][Uu][Rr]|[Dd][Aa][Yy]|[Mm][Oo][Nn][Tt][Hh]|[Yy][Ee][Aa][Rr])$"
                },
                "example": "day"
            },
            {
                "name": "DAYS", "in": "path", "required": true,
                "description": "Days of history; today is the last one",
                "schema": { "type": "integer", "minimum": 1, "maximum": MAX_DAYS },
                "example": 7
            },
            {
                "name": "fill", "in": "query", "required": false,
                "description": "zero: rows for combinations without a sample too",
                "schema": { "type": "string", "enum": ["zero"] }
            },
            {
                "name": "X-Request-Id", "in": "header", "required": false,
                "description": "Names the request in answers and logs, if it is 1 to 128 of the characters \
                    A-Z a-z 0-9 . _ -; else one is made",
                "schema": { "type": "string" },
                "example": "my-request.1"
            }
        ],
        "responses": {
            "200": {
                "description": "The rows, ordered by group start, bot name, bot id, channel name, \
                    channel id and type code",
                "headers": success_headers,
                "content": {
                    "application/json": {
                        "schema": { "$ref": "#/components/schemas/Rows" },
                        "example": [example_row()]
                    },
                    "text/csv": {
                        "schema": {
                            "type": "string",
                            "description": "RFC 4180: a header line with the field names, CRLF, \
                                nothing for null"
                        }
                    },
                    "application/x-ndjson": {
                        "schema": {
                            "type": "string",
                            "description": "One object a line, each like a row of the JSON"
                        }
                    }
                }
            },
            "400": response("BadRequest"),
            "401": response("Unauthorized"),
            "404": response("NotFound"),
            "405": response("MethodNotAllowed"),
            "406": response("NotAcceptable"),
            "429": response("Throttled"),
            "431": response("HeadTooLarge"),
            "500": response("Internal"),
            "503": response("Unavailable")
        }
    })
}

/// A row of the worked example in `docs/http.md`.
fn example_row() -> Value {
    json!({
        "GroupLabel": "2026-11-20", "BotName": "Pizza", "ChannelName": "Web",
        "EventLabel": "Takeover Rate", "EventType": 10, "Value": 33.33, "Count": 3, "Sum": 1,
        "Unit": "percent", "BotId": "b1", "ChannelId": "web",
        "GroupStart": "2026-11-20T00:00:00Z", "Complete": true
    })
}

fn row() -> Value {
    let labels: Vec<&str> = TypeCode::OFFERED.iter().map(|code| code.label()).collect();
    let mut units: Vec<&str> = Vec::new();
    for unit in TypeCode::OFFERED.map(|code| code.kind().unit()) {
        if !units.contains(&unit) {
            units.push(unit);
        }
    }
    json!({
        "type": "object",
        "required": COLUMNS,
        "properties": {
            "GroupLabel": {
                "type": "string",
                "description": "Local time of the group's first instant: 2026-11-20T10:00:00Z (or with \
                    an offset such as +01:00), 2026-11-20, 2026-11, 2026"
            },
            "BotName": { "type": "string", "description": "The bot's name of now, else its id" },
            "ChannelName": { "type": "string", "description": "The channel's name of now, else its id" },
            "EventLabel": { "type": "string", "enum": labels },
            "EventType": { "type": "integer", "minimum": 0, "maximum": MAX_CODE },
            "Value": {
                "type": ["number", "null"],
                "description": "The number to read; null for a mean or ratio without samples"
            },
            "Count": { "type": "integer", "minimum": 0, "description": "How many samples" },
            "Sum": {
                "type": "number", "minimum": 0,
                "description": "The samples' sum: seconds for means, sessions with a join for the \
                    takeover rate, else the same as Count"
            },
            "Unit": { "type": "string", "enum": units },
            "BotId": { "type": "string" },
            "ChannelId": { "type": "string" },
            "GroupStart": {
                "type": "string", "format": "date-time",
                "description": "The group's first instant in UTC"
            },
            "Complete": {
                "type": "boolean",
                "description": "Whether the group began in the window and has ended"
            }
        }
    })
}

fn rows() -> Value {
    json!({ "type": "array", "items": { "$ref": "#/components/schemas/Row" } })
}

fn problem() -> Value {
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

fn headers() -> Value {
    /// Whether every answer that lists the header has the header.
    enum Is {
        Always,
        Sometimes,
    }
    use Is::{Always, Sometimes};
    let header = |is: Is, description: &str, schema: Value, example: Value| {
        json!({
            "description": description,
            "required": matches!(is, Always),
            "schema": schema,
            "example": example
        })
    };
    let text = || json!({ "type": "string" });
    let like = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    json!({
        "Data-As-Of": header(Always, "Everything stored up to then is counted",
            json!({ "type": "string", "format": "date-time" }), json!("2026-11-20T10:52:00.000Z")),
        "Cache-Control": header(Always,
            "private for the throttle's window; no-store on errors and without a throttle",
            like("^(no-store|private, max-age=[0-9]+)$"), json!("private, max-age=3600")),
        "RateLimit": header(Sometimes,
            "What is left of the allowance (draft-ietf-httpapi-ratelimit-headers); absent where the \
                throttle is off",
            like("^\"account\";r=0;t=[0-9]+$"), json!("\"account\";r=0;t=3601")),
        "RateLimit-Policy": header(Sometimes,
            "The allowance (draft-ietf-httpapi-ratelimit-headers); absent where the throttle is off",
            like("^\"account\";q=1;w=[0-9]+$"), json!("\"account\";q=1;w=3600")),
        "Retry-After": header(Always, "Seconds; a client that waits just that long is served",
            json!({ "type": "integer", "minimum": 1 }), json!(1800)),
        "Vary": header(Sometimes, "What the answer depends on; absent on other paths", text(),
            json!("Authorization, Accept, Accept-Encoding")),
        "Content-Encoding": header(Sometimes, "Absent if the body is sent as it is",
            json!({ "type": "string", "enum": ["gzip", "zstd"] }), json!("gzip")),
        "Content-Disposition": header(Sometimes,
            "A file name for CSV, of the account's id and the last local date; absent in other formats",
            like("^attachment; filename=\"botstats-[A-Za-z0-9_-]+-[0-9-]+[.]csv\"$"),
            json!("attachment; filename=\"botstats-acme-2026-11-20.csv\"")),
        "WWW-Authenticate": header(Always, "RFC 6750", like("^Bearer realm="),
            json!("Bearer realm=\"botstats\", error=\"invalid_token\"")),
        "Allow": header(Always, "The methods that are allowed",
            json!({ "type": "string", "enum": ["GET", "GET, HEAD"] }), json!("GET")),
        "X-Content-Type-Options": header(Always, "The media type is the one that is said",
            json!({ "type": "string", "enum": ["nosniff"] }), json!("nosniff")),
        "X-Request-Id": header(Always, "The request's id, taken or made",
            like("^[A-Za-z0-9._-]{1,128}$"), json!("0193f0c2-6b1e-7c55-9a3e-0a5a1c1d2e3f"))
    })
}

fn responses() -> Value {
    let answer = |description: &str, more: &[&str]| {
        let every = ["Cache-Control", "Vary", "X-Content-Type-Options", "X-Request-Id"];
        json!({
            "description": description,
            "headers": named(&[&every[..], more].concat()),
            "content": { "application/problem+json": {
                "schema": { "$ref": "#/components/schemas/Problem" }
            } }
        })
    };
    json!({
        "BadRequest": answer(
            "A parameter that is not allowed, an answer that is too large, or no proper request", &[]),
        "Unauthorized": answer("No, malformed, unknown or revoked token", &["WWW-Authenticate"]),
        "NotFound": answer(
            "The account was removed, or the API key is unknown, removed or another account's", &[]),
        "MethodNotAllowed": answer("Another method than Allow lists", &["Allow"]),
        "NotAcceptable": answer(
            "Accept allows none of JSON, CSV, NDJSON, or Accept-Encoding no coding", &[]),
        "Throttled": answer(
            "The account's call is used", &["Retry-After", "RateLimit", "RateLimit-Policy"]),
        "HeadTooLarge": answer("A head of more than 16 KiB or 64 fields", &[]),
        "Internal": answer("A defect of the service; no call was used", &[]),
        "Unavailable": answer(
            "The statistics or the throttle cannot be reached, the service's clock is wrong, or too much \
                is going on; no call was used", &["Retry-After"])
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use botstats_common::wire::{Cell, Chunk, Pair, Samples};

    use super::*;
    use crate::answer::render::Format;
    use crate::answer::{Names, render_all};
    use crate::request::question::Question;
    use crate::window::Window;

    /// Every `$ref` in the document.
    fn references(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(target)) = fields.get("$ref") {
                    into.insert(target.clone());
                }
                fields.values().for_each(|field| references(field, into));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, into)),
            _ => {}
        }
    }

    #[test]
    fn it_reads_back_and_refers_to_what_is_there() {
        let document: Value = serde_json::from_slice(&json()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let mut targets = BTreeSet::new();
        references(&document, &mut targets);
        assert!(targets.len() > 10);
        for target in targets {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
    }

    #[test]
    fn every_problem_is_described() {
        let document = document();
        let described = &document["paths"][STATISTICS_PATH]["get"]["responses"];
        let types = &document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"];
        for problem in Problem::examples() {
            let body = serde_json::to_value(problem.body("r")).unwrap();
            assert!(types.as_array().unwrap().contains(&body["type"]), "{body}");
            let status = problem.status().as_str().to_owned();
            assert!(described.get(&status).is_some(), "{status}");
            let required = &document["components"]["schemas"]["Problem"]["required"];
            for name in required.as_array().unwrap() {
                assert!(body.get(name.as_str().unwrap()).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn the_example_row_is_what_is_rendered() {
        let question = Question::parse(["*", "10", "day", "3"], None).unwrap();
        let now_ms = "2026-11-22T15:20:00Z".parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let window = Window::new(now_ms, &jiff::tz::TimeZone::UTC, question.days, question.mode);
        let entry = br#"{"name":"Pizza","channels":{"web":"Web"}}"#;
        let entry = botstats_common::directory::BotEntry::parse(entry).unwrap();
        let names = Names::from([("b1".parse().unwrap(), entry)]);
        let samples = vec![Samples { code: TypeCode::TakeoverRate, count: 3, sum: 1 }];
        let chunk = Chunk {
            last: true,
            pairs: vec![Pair { bot: "b1".parse().unwrap(), channel: "web".parse().unwrap() }],
            cells: vec![Cell { group: 0, pair: 0, samples }],
            ..Chunk::default()
        };
        let bytes = render_all(&question, &names, &window, &[chunk], Format::Json).unwrap();
        let rows: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(rows, json!([example_row()]));
        let described = document();
        let properties = &described["components"]["schemas"]["Row"]["properties"];
        for (name, value) in rows[0].as_object().unwrap() {
            assert!(properties.get(name).is_some(), "{name} {value}");
        }
        assert_eq!(properties.as_object().unwrap().len(), COLUMNS.len());
    }
}
