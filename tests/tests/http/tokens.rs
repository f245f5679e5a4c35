//! Entries of tokens, and waiting for what a token gets.

use std::net::SocketAddr;

use botstats_common::secret::SecretHash;
use botstats_tests::harness::{Answer, PATIENCE, get_as, until};
use serde_json::{Value, json};

/// The entry of a view token.
pub(crate) fn view(token: &str, more: &Value) -> Value {
    let mut entry = json!({"sha256": String::from(SecretHash::of(token)), "bots": null});
    for (name, value) in more.as_object().unwrap() {
        entry[name] = value.clone();
    }
    entry
}

/// Waits until a path gets this status.
pub(crate) async fn becomes(address: SocketAddr, token: &str, path: &str, status: u16) -> Answer {
    until(&format!("a {status} at {path}"), PATIENCE, async || {
        Some(get_as(token, address, path, &[]).await).filter(|answer| answer.status == status)
    })
    .await
}
