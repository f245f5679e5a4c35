//! Account tokens and API keys: made, hashed, compared.
//!
//! *Invariants*: a secret is shown once, when it is made; everywhere else there is only its
//! SHA-256. Digests are compared in constant time.

use std::fmt;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Random bytes in a secret: 256 bits.
const SECRET_BYTES: usize = 32;

/// What a secret is for; it shows in its first four characters, so that a leak can be recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// An account's bearer token, `bst_...`.
    Token,
    /// A bot's API key, `bsk_...`.
    ApiKey,
}

/// Makes a new secret from the operating system's random source.
///
/// # Errors
/// If the operating system gives no random bytes.
pub fn generate(kind: SecretKind) -> Result<SecretString, getrandom::Error> {
    let mut bytes = [0_u8; SECRET_BYTES];
    getrandom::fill(&mut bytes)?;
    let prefix = match kind {
        SecretKind::Token => "bst_",
        SecretKind::ApiKey => "bsk_",
    };
    Ok(SecretString::from(format!("{prefix}{}", BASE64URL_NOPAD.encode(&bytes))))
}

/// The SHA-256 of a secret. In JSON: 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Hash, Serialize, Deserialize)]
#[expect(clippy::derived_hash_with_manual_eq, reason = "equal either way; only the time differs")]
#[serde(try_from = "String", into = "String")]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// The hash of a secret.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

/// A text that is not a SHA-256 in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 is 64 lower-case hexadecimal digits")]
pub struct NotAHash;

impl TryFrom<String> for SecretHash {
    type Error = NotAHash;

    fn try_from(text: String) -> Result<Self, NotAHash> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| NotAHash)?;
        bytes.try_into().map(Self).map_err(|_| NotAHash)
    }
}

impl From<SecretHash> for String {
    fn from(hash: SecretHash) -> String {
        HEXLOWER.encode(&hash.0)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn secrets_differ_and_fit_the_path() {
        let a = generate(SecretKind::ApiKey).unwrap();
        let b = generate(SecretKind::ApiKey).unwrap();
        assert_ne!(a.expose_secret(), b.expose_secret());
        assert_eq!(a.expose_secret().len(), 47);
        assert!(a.expose_secret().bytes().all(crate::ids::is_id_char));
    }

    #[test]
    fn the_hash_is_sha256_in_hex() {
        // FIPS 180-2, appendix B.1.
        let hash = SecretHash::of("abc");
        assert_eq!(
            String::from(hash),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(SecretHash::try_from("BA78".to_owned()).is_err());
        assert_eq!(format!("{hash:?}"), "SecretHash(..)");
    }
}
