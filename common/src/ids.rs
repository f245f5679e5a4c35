//! Identifiers of accounts, bots and channels: one token of a NATS subject each.
//!
//! *Format*: `[A-Za-z0-9_-]{1,64}`. Because that set has no `.`, `*`, `>` or space, a parsed id can
//! stand in a subject or a KV key as it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest id, in bytes.
pub const MAX_ID_BYTES: usize = 64;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} is not allowed: 1 to 64 of the characters A-Z a-z 0-9 _ -")]
pub struct IdError {
    kind: &'static str,
    text: String,
}

/// True for the characters of an id: `A-Z a-z 0-9 _ -`.
#[must_use]
pub fn is_id_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// True if `text` is 1 to 64 of the characters an id may have.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(is_id_char)
}

/// The longest id of a request, in bytes.
pub(crate) const MAX_REQUEST_ID_BYTES: usize = 128;

/// True if `text` can be the id of a request: 1 to 128 of the characters `A-Z a-z 0-9 . _ -`, so
/// that it can stand in a log as it is.
#[must_use]
pub fn is_request_id(text: &str) -> bool {
    (1..=MAX_REQUEST_ID_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte == b'.' || is_id_char(byte))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                if is_id(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    // An id that is far too long is cut: the message must stay readable.
                    Err(IdError { kind: $kind, text: text.chars().take(MAX_ID_BYTES + 1).collect() })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// An account: the tenant that owns bots and asks for statistics.
    Account, "account"
);
id!(
    /// A bot's id. Not its API key, which is a secret and never travels in events.
    Bot, "bot"
);
id!(
    /// A channel that a bot talks on, such as `web`.
    Channel, "channel"
);

id!(
    /// A token's id: not secret, and what `token list` and `token revoke` call the token.
    TokenId,
    "token id"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_one_subject_token() {
        let longest = "x".repeat(64);
        let too_long = "x".repeat(65);
        for (text, ok) in [
            ("acme", true),
            ("A-z_09", true),
            (longest.as_str(), true),
            (too_long.as_str(), false),
            ("", false),
            ("a.b", false),
            ("*", false),
            (">", false),
            ("a b", false),
            ("é", false),
            ("a\0", false),
        ] {
            assert_eq!(text.parse::<Account>().is_ok(), ok, "{text:?}");
        }
    }
}
