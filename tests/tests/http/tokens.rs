//! Entries of tokens.

use botstats_common::secret::SecretHash;
use serde_json::{Value, json};

/// The entry of a view token.
pub(crate) fn view(token: &str, more: &Value) -> Value {
    let mut entry = json!({"sha256": String::from(SecretHash::of(token)), "bots": null});
    for (name, value) in more.as_object().unwrap() {
        entry[name] = value.clone();
    }
    entry
}
