//! Tokens in the directory: what they are valid for, and until when.
//!
//! *Invariants*: a token whose expiry or bots are not understood grants nothing, and the rest of
//! its entry stays good. What is not understood is written back as it was read.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{EntryError, from_object};
use crate::ids::Bot;
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
            Value::String(text) => match instant_ms(&text) {
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

/// Unix milliseconds (floor) of an instant as RFC 3339 writes it. The parser takes more forms.
fn instant_ms(text: &str) -> Option<i64> {
    let seconds = text.get(..19)?;
    let form = seconds.bytes().zip(*b"0000-00-00T00:00:00").all(|(byte, wanted)| match wanted {
        b'0' => byte.is_ascii_digit(),
        b'T' => byte.eq_ignore_ascii_case(&b'T'),
        other => byte == other,
    });
    let rest = text.get(19..)?;
    let rest = match rest.strip_prefix('.') {
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if zone.len() == fraction.len() {
                return None;
            }
            zone
        }
        None => rest,
    };
    let zone = rest.eq_ignore_ascii_case("Z")
        || matches!(rest.as_bytes(), [b'+' | b'-', a, b, b':', c, d]
            if [a, b, c, d].iter().all(|digit| digit.is_ascii_digit()));
    if !form || !zone {
        return None;
    }
    let instant: Timestamp = text.parse().ok()?;
    i64::try_from(instant.as_nanosecond().div_euclid(1_000_000)).ok()
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
    fn instants() {
        let t = 1_795_168_800_000;
        for (text, ms) in [
            ("2026-11-20T10:00:00Z", Some(t)),
            ("2026-11-20t10:00:00z", Some(t)),
            ("2026-11-20T10:00:00.5Z", Some(t + 500)),
            ("2026-11-20T10:00:00.999999Z", Some(t + 999)),
            ("2026-11-20T11:00:00+01:00", Some(t)),
            ("2026-11-20T09:30:00-00:30", Some(t)),
            ("1969-12-31T23:59:59.9995Z", Some(-1)),
            ("", None),
            ("2026-11-20", None),
            ("2026-11-20T10:00:00", None),
            ("2026-11-20 10:00:00Z", None),
            ("2026-11-20T10:00Z", None),
            ("2026-11-20T10:00:00.Z", None),
            ("2026-11-20T10:00:00+0100", None),
            ("2026-11-20T10:00:00Z[UTC]", None),
            ("2026-11-20T10:00:00+01:00[Europe/Rome]", None),
            ("2026-02-30T10:00:00Z", None),
            ("2026-11-20T25:00:00Z", None),
            (" 2026-11-20T10:00:00Z", None),
            ("2026-11-20T10:00:0\u{e9}Z", None),
            ("soon", None),
        ] {
            assert_eq!(instant_ms(text), ms, "{text}");
        }
    }

    #[test]
    fn when_a_token_ends() {
        let at = Expires::at(1_000);
        assert_eq!(at.shown().as_deref(), Some("1970-01-01T00:00:01.000Z"));
        for (expires, now_ms, later) in [
            (&Expires::Never, i64::MAX, true),
            (&at, 999, true),
            (&at, 1_000, false),
            (&at, 1_001, false),
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
