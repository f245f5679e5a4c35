//! What can be called.

use serde_json::{Value, json};

use super::{reference, references};

/// The query parameters of the statistics.
const QUERY: [&str; 8] = ["from", "to", "by", "previous", "stats", "split", "top", "fill"];

/// An account's call.
pub(super) fn account_statistics() -> Value {
    let path = ["APIKEY", "TYPES", "GROUPMODE", "DAYS"];
    let mut operation = statistics(&path);
    operation["operationId"] = json!("accountStatistics");
    operation["summary"] = json!("Account Statistics Data");
    operation["description"] = json!(
        "Rows of all bots, or one bot, of the account that the token is of: of the last DAYS local \
         days of the account's time zone, or of the dates from `from` to `to`."
    );
    operation["security"] = json!([{ "token": [] }]);
    operation
}

/// A bot's call.
pub(super) fn bot_statistics() -> Value {
    let mut operation = statistics(&["TYPES", "GROUPMODE", "DAYS"]);
    operation["operationId"] = json!("botStatistics");
    operation["summary"] = json!("Statistics of one bot");
    operation["description"] = json!(
        "As the account's call, but only the rows of the bot that the token is of. It uses the \
         bot's own calls."
    );
    operation["security"] = json!([{ "botToken": [] }]);
    operation
}

fn statistics(path: &[&str]) -> Value {
    let parameters = path.iter().chain(&QUERY).chain(&["X-Request-Id"]);
    let parameters: Vec<Value> = parameters.map(|name| reference("parameters", name)).collect();
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
    json!({
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "The rows, ordered by Period (all current ones first), the group's place \
                    in its window, BotName, BotId, ChannelName, ChannelId, SplitName, SplitId (null as \
                    the empty text) and EventType. Columns that were not asked for are absent.",
                "headers": references("headers", &success_headers),
                "content": {
                    "application/json": {
                        "schema": reference("schemas", "Rows"),
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
            "400": reference("responses", "BadRequest"),
            "401": reference("responses", "Unauthorized"),
            "403": reference("responses", "Forbidden"),
            "404": reference("responses", "NotFound"),
            "405": reference("responses", "MethodNotAllowed"),
            "406": reference("responses", "NotAcceptable"),
            "429": reference("responses", "Throttled"),
            "431": reference("responses", "HeadTooLarge"),
            "500": reference("responses", "Internal"),
            "503": reference("responses", "Unavailable")
        }
    })
}

/// A row of the worked example in `docs/http.md`.
pub(super) fn example_row() -> Value {
    json!({
        "GroupLabel": "2026-11-20", "BotName": "Pizza", "ChannelName": "Web",
        "EventLabel": "Takeover Rate", "EventType": 10, "Value": 33.33, "Count": 3, "Sum": 1,
        "Unit": "percent", "BotId": "b1", "ChannelId": "web",
        "GroupStart": "2026-11-20T00:00:00Z", "Complete": true
    })
}

/// The call for this document.
pub(super) fn describe() -> Value {
    json!({
        "operationId": "describe",
        "summary": "This document",
        "security": [],
        "responses": {
            "200": {
                "description": "This document",
                "headers": references("headers", &["X-Content-Type-Options", "X-Request-Id"]),
                "content": { "application/json": { "schema": { "type": "object" } } }
            },
            "400": reference("responses", "BadRequest"),
            "405": reference("responses", "MethodNotAllowed"),
            "431": reference("responses", "HeadTooLarge"),
            "500": reference("responses", "Internal"),
            "503": reference("responses", "Unavailable")
        }
    })
}

/// An operation of the health check for load balancers; `body` is false for HEAD.
pub(super) fn health(operation: &str, body: bool) -> Value {
    let answer = |description: &str, text: &str, more: &[&str]| {
        let every = ["Cache-Control", "X-Content-Type-Options", "X-Request-Id"];
        let mut answer = json!({
            "description": description,
            "headers": references("headers", &[&every[..], more].concat())
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
        answers["400"] = reference("responses", "BadRequest");
        answers["405"] = reference("responses", "MethodNotAllowed");
        answers["431"] = reference("responses", "HeadTooLarge");
        answers["500"] = reference("responses", "Internal");
    }
    json!({
        "operationId": operation,
        "summary": "Whether this replica is ready, for load balancers; uses no call",
        "security": [],
        "responses": answers
    })
}
