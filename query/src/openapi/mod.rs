//! The description of the API, as OpenAPI 3.1: what `/openapi.json` answers.
//!
//! *Why* by hand: query matches the raw request target, so there are no framework's handlers to
//! derive a description from. Tests compare the description with rendered rows and with the closed
//! set of problems.

mod operations;
mod parameters;
mod responses;
mod schemas;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use self::operations::{account_statistics, bot_statistics, describe, health};
use self::parameters::parameters;
use self::responses::{headers, responses};
use self::schemas::{problem, row, rows};

/// The path of an account's statistics, with its parameters.
const ACCOUNT_PATH: &str = "/analytics/statistics/account/{APIKEY}/{TYPES}/{GROUPMODE}/{DAYS}";
/// The path of a bot's statistics, with its parameters.
const BOT_PATH: &str = "/analytics/statistics/{TYPES}/{GROUPMODE}/{DAYS}";

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
            "summary": "Statistics of chatbots, by account or bot",
            "description": "One call an account an hour, and one call a bot in half an hour (both \
                windows can be configured). Only a 200 uses a call up. Errors are problems as in \
                RFC 9457.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" }
        },
        "servers": [{ "url": "/" }],
        "paths": {
            ACCOUNT_PATH: { "get": account_statistics() },
            BOT_PATH: { "get": bot_statistics() },
            "/openapi.json": { "get": describe() },
            "/healthz": {
                "get": health("checkHealth", true),
                "head": health("checkHealthHead", false)
            }
        },
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of the account, as RFC 6750 sends it"
                },
                "botToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of the bot, as RFC 6750 sends it"
                }
            },
            "schemas": { "Row": row(), "Rows": rows(), "Problem": problem() },
            "parameters": parameters(),
            "headers": headers(),
            "responses": responses()
        }
    })
}

/// References to components of a kind.
fn references(kind: &str, names: &[&str]) -> Map<String, Value> {
    names.iter().map(|name| ((*name).to_owned(), reference(kind, name))).collect()
}

fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}
