//! Tokens in the directory: what they are valid for, and until when.
//!
//! *Invariants*: a token whose expiry or bots are not understood grants nothing, and the rest of
//! its entry stays good. What is not understood is written back as it was read.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{EntryError, from_object};
use crate::ids::Bot;
use crate::rfc3339;
use crate::secret::SecretHash;

/// A bearer token of an account or a bot, as a hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenEntry {
    /// The id in `token list` and `token revoke`; not secret.
    pub id: String,
    /// SHA-256 of the token.
    pub sha256: SecretHash,
    /// When it was made, RFC 3339.
    #[serde(default)]
    pub created: String,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Expires::is_never")]
    pub expires: Expires,
}

/// A view token: it may look at some bots of an account, not use the account's call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewEntry {
    /// SHA-256 of the token.
    pub sha256: SecretHash,
    /// When it was made, RFC 3339.
    #[serde(default)]
    pub created: String,
    /// When it ends.
    #[serde(default)]
    pub expires: Expires,
    /// The bots that it may see.
    #[serde(default)]
    pub bots: Bots,
    /// True if it may see the names of operators.
    #[serde(default)]
    pub operators: bool,
}

impl ViewEntry {
    /// Reads a stored value.
    ///
    /// # Errors
    /// [`EntryError`] names what is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, EntryError> {
        from_object(json)
    }

    /// True if the token grants anything at `now_ms` (Unix milliseconds).
    #[must_use]
    pub fn is_valid(&self, now_ms: i64) -> bool {
        self.expires.is_later(now_ms) && self.bots.is_clear()
    }
}

/// When a token ends. In JSON: RFC 3339; absent or null is never.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Value", into = "Value")]
pub enum Expires {
    /// It ends when it is revoked.
    #[default]
    Never,
    /// At that instant.
    At {
        /// The instant, in Unix milliseconds (floor).
        ms: i64,
        /// The instant as it was written.
        text: String,
    },
    /// This value is not understood, so the token grants nothing.
    Unclear(Value),
}

impl Expires {
    /// At that instant, in Unix milliseconds.
    #[must_use]
    pub fn at(ms: i64) -> Self {
        Self::from(Value::from(crate::io::clock::rfc3339_ms(ms)))
    }

    /// True without an expiry.
    #[must_use]
    pub fn is_never(&self) -> bool {
        *self == Expires::Never
    }

    /// True if the expiry is understood.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        !matches!(self, Expires::Unclear(_))
    }

    /// True if the token still grants something at `now_ms` (Unix milliseconds).
    #[must_use]
    pub fn is_later(&self, now_ms: i64) -> bool {
        match self {
            Expires::Never => true,
            Expires::At { ms, .. } => now_ms < *ms,
            Expires::Unclear(_) => false,
        }
    }

    /// As it stands in an entry, for people; `None` is never.
    #[must_use]
    pub fn shown(&self) -> Option<String> {
        match self {
            Expires::Never => None,
            Expires::At { text, .. } => Some(text.clone()),
            Expires::Unclear(value) => Some(value.to_string()),
        }
    }
}

impl From<Value> for Expires {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Expires::Never,
            Value::String(text) => match rfc3339::parse_ms(&text) {
                Some(ms) => Expires::At { ms, text },
                None => Expires::Unclear(Value::String(text)),
            },
            other => Expires::Unclear(other),
        }
    }
}

impl From<Expires> for Value {
    fn from(expires: Expires) -> Value {
        match expires {
            Expires::Never => Value::Null,
            Expires::At { text, .. } => Value::String(text),
            Expires::Unclear(value) => value,
        }
    }
}

/// The bots that a view token may see. In JSON: an array of ids; absent or null is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Value", into = "Value")]
pub enum Bots {
    /// All bots of the account, new ones too.
    #[default]
    All,
    /// These.
    Only(Arc<BTreeSet<Bot>>),
    /// This value is not understood, so the token grants nothing.
    Unclear(Value),
}

impl Bots {
    /// True if it is understood which bots are meant.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        !matches!(self, Bots::Unclear(_))
    }
}

impl From<Value> for Bots {
    fn from(value: Value) -> Self {
        if value.is_null() {
            return Bots::All;
        }
        match BTreeSet::deserialize(&value) {
            Ok(bots) if value.is_array() => Bots::Only(Arc::new(bots)),
            _ => Bots::Unclear(value),
        }
    }
}

impl From<Bots> for Value {
    fn from(bots: Bots) -> Value {
        match bots {
            Bots::All => Value::Null,
            Bots::Only(bots) => bots.iter().map(Bot::as_str).collect(),
            Bots::Unclear(value) => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn when_a_token_ends() {
        let at = Expires::at(1_000);
        assert_eq!(at.shown().as_deref(), Some("1970-01-01T00:00:01.000Z"));
        for (expires, now_ms, later) in [
            (&Expires::Never, i64::MAX, true),
            (&at, 999, true),
            (&at, 1_000, false),
            (&at, 1_001, false),
            (&Expires::from(json!("1970-01-01T01:00:01+01:00")), 999, true),
            (&Expires::from(json!("1970-01-01T01:00:01+01:00")), 1_000, false),
            (&Expires::from(json!("soon")), 0, false),
            (&Expires::from(json!(9_999_999_999_999_i64)), 0, false),
        ] {
            assert_eq!(expires.is_later(now_ms), later, "{expires:?} {now_ms}");
        }
    }

    #[test]
    fn what_a_view_token_grants() {
        let hash = "a".repeat(64);
        let parse = |more: &Value| {
            let mut entry = json!({"sha256": hash, "later": {"of": "another version"}});
            for (field, value) in more.as_object().unwrap() {
                entry[field] = value.clone();
            }
            ViewEntry::parse(entry.to_string().as_bytes())
        };
        let only = |bots: &[&str]| {
            Bots::Only(Arc::new(bots.iter().map(|bot| bot.parse().unwrap()).collect()))
        };
        for (more, bots, valid) in [
            (json!({}), Some(Bots::All), true),
            (json!({"bots": null, "expires": null}), Some(Bots::All), true),
            (json!({"bots": ["b", "a", "a"]}), Some(only(&["a", "b"])), true),
            (json!({"bots": []}), Some(only(&[])), true),
            (json!({"bots": ["a", "no id"]}), None, false),
            (json!({"bots": ["a", 5]}), None, false),
            (json!({"bots": "a"}), None, false),
            (json!({"bots": {}}), None, false),
            (json!({"bots": true}), None, false),
            (json!({"expires": "1970-01-01T00:00:05Z"}), Some(Bots::All), false),
            (json!({"expires": "1970-01-01T00:00:05.001Z"}), Some(Bots::All), true),
            (json!({"expires": "never"}), Some(Bots::All), false),
        ] {
            let entry = parse(&more).unwrap();
            assert_eq!(entry.is_valid(5_000), valid, "{more}");
            assert_eq!(entry.bots.is_clear(), bots.is_some(), "{more}");
            if let Some(bots) = bots {
                assert_eq!(entry.bots, bots, "{more}");
            }
            let again = serde_json::to_vec(&entry).unwrap();
            assert_eq!(ViewEntry::parse(&again).unwrap(), entry, "{more}");
        }
        for more in [json!({"operators": "yes"}), json!({"sha256": "x"}), json!({"sha256": null})] {
            assert!(parse(&more).is_err(), "{more}");
        }
        assert!(ViewEntry::parse(b"[]").is_err());
    }
}
