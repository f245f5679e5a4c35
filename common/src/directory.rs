//! The directory's entries: what stands in the KV bucket `botstats_directory`, as JSON.
//!
//! *Format*: key `account.<account>` holds an [`AccountEntry`], key `bot.<account>.<bot>` a
//! [`BotEntry`] (see [`crate::names`]). Any NATS client may write them; unknown fields are ignored.
//! A removed entry stays as a tombstone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Account, Bot, Channel};
use crate::secret::SecretHash;
use crate::zones;

/// The longest name of an account, bot or channel that is accepted, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 256;

/// An account's entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountEntry {
    /// The name to show; the id if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// IANA time zone name in which the account's days are counted.
    #[serde(default = "utc")]
    pub timezone: String,
    /// The tokens that may ask for its statistics.
    #[serde(default)]
    pub tokens: Vec<TokenEntry>,
    /// True for a tombstone.
    #[serde(default)]
    pub removed: bool,
}

/// A bearer token, as a hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenEntry {
    /// The id in `token list` and `token revoke`; not secret.
    pub id: String,
    /// SHA-256 of the token.
    pub sha256: SecretHash,
    /// When it was made, RFC 3339.
    #[serde(default)]
    pub created: String,
}

/// A bot's entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BotEntry {
    /// The name to show; the id if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Names of its channels by id; a channel without one shows as its id.
    #[serde(default)]
    pub channels: BTreeMap<Channel, String>,
    /// SHA-256 of the API key; absent while the bot has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_sha256: Option<SecretHash>,
    /// True for a tombstone.
    #[serde(default)]
    pub removed: bool,
}

fn utc() -> String {
    "UTC".to_owned()
}

impl Default for AccountEntry {
    fn default() -> Self {
        Self { name: None, timezone: utc(), tokens: Vec::new(), removed: false }
    }
}

/// Why a stored value is not an entry.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The JSON has another shape.
    #[error("not a directory entry")]
    Json(#[from] serde_json::Error),
    /// JSON, but no object.
    #[error("not a JSON object")]
    NotAnObject,
    /// Not a zone of the IANA database.
    #[error("time zone {0:?} is not in the IANA database (release {release})", release = zones::release())]
    TimeZone(String),
    /// A zone of that database, but not a place's: see [`zones::is_place`].
    #[error("time zone {0:?} is no place's and no offset's")]
    NoPlace(String),
    /// A name that is empty, too long or has control characters.
    #[error("name {0:?} is not allowed: 1 to 256 bytes without control characters")]
    Name(String),
}

/// The time zone of that IANA name.
///
/// # Errors
/// [`EntryError::TimeZone`] if there is no such zone, [`EntryError::NoPlace`] if it is none of a
/// place.
pub fn time_zone(name: &str) -> Result<jiff::tz::TimeZone, EntryError> {
    if !zones::is_place(name) {
        return Err(EntryError::NoPlace(shown(name)));
    }
    zones::find(name).ok_or_else(|| EntryError::TimeZone(shown(name)))
}

/// Checks a name that people will see.
///
/// # Errors
/// [`EntryError::Name`] if it is empty, longer than 256 bytes or has control characters.
pub fn check_name(name: &str) -> Result<(), EntryError> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(EntryError::Name(shown(name)));
    }
    Ok(())
}

/// The first characters of a bad text: errors, which go into logs and answers, must stay short.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Reads an object; derived readers would take an array as well.
fn from_object<T: for<'a> Deserialize<'a>>(json: &[u8]) -> Result<T, EntryError> {
    let value: serde_json::Value = serde_json::from_slice(json)?;
    if !value.is_object() {
        return Err(EntryError::NotAnObject);
    }
    Ok(serde_json::from_value(value)?)
}

impl AccountEntry {
    /// Reads and checks a stored value.
    ///
    /// # Errors
    /// [`EntryError`] names what is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, EntryError> {
        let entry: Self = from_object(json)?;
        entry.check()?;
        Ok(entry)
    }

    /// Checks names and time zone.
    ///
    /// # Errors
    /// [`EntryError`] names what is wrong.
    pub fn check(&self) -> Result<(), EntryError> {
        time_zone(&self.timezone)?;
        self.name.as_deref().map_or(Ok(()), check_name)
    }

    /// The name to show.
    #[must_use]
    pub fn shown_name<'a>(&'a self, account: &'a Account) -> &'a str {
        self.name.as_deref().unwrap_or(account.as_str())
    }
}

impl BotEntry {
    /// Reads and checks a stored value.
    ///
    /// # Errors
    /// [`EntryError`] names what is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, EntryError> {
        let entry: Self = from_object(json)?;
        entry.check()?;
        Ok(entry)
    }

    /// Checks the names.
    ///
    /// # Errors
    /// [`EntryError`] names what is wrong.
    pub fn check(&self) -> Result<(), EntryError> {
        self.name.iter().chain(self.channels.values()).try_for_each(|name| check_name(name))
    }

    /// The name to show.
    #[must_use]
    pub fn shown_name<'a>(&'a self, bot: &'a Bot) -> &'a str {
        self.name.as_deref().unwrap_or(bot.as_str())
    }

    /// The name to show for one of its channels.
    #[must_use]
    pub fn channel_name<'a>(&'a self, channel: &'a Channel) -> &'a str {
        self.channels.get(channel).map_or(channel.as_str(), String::as_str)
    }
}

/// Whose entry a KV key names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// `account.<account>`
    Account(Account),
    /// `bot.<account>.<bot>`
    Bot(Account, Bot),
}

impl Key {
    /// Reads a KV key; `None` if it is neither an account's nor a bot's.
    #[must_use]
    pub fn parse(key: &str) -> Option<Self> {
        let mut tokens = key.split('.');
        let parsed = match tokens.next()? {
            "account" => Key::Account(tokens.next()?.parse().ok()?),
            "bot" => Key::Bot(tokens.next()?.parse().ok()?, tokens.next()?.parse().ok()?),
            _ => return None,
        };
        tokens.next().is_none().then_some(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_fill_in_what_is_absent() {
        let entry = AccountEntry::parse(b"{}").unwrap();
        assert_eq!(entry, AccountEntry::default());
        let bot =
            BotEntry::parse(br#"{"name":"Pizza","channels":{"web":"Web"},"extra":1}"#).unwrap();
        assert_eq!(bot.channel_name(&"web".parse().unwrap()), "Web");
        assert_eq!(bot.channel_name(&"sms".parse().unwrap()), "sms");
    }

    #[test]
    fn bad_entries_are_named() {
        assert!(matches!(
            AccountEntry::parse(br#"{"timezone":"Mars/Base"}"#),
            Err(EntryError::TimeZone(zone)) if zone == "Mars/Base"
        ));
        for name in ["Etc/Unknown", "Factory", "localtime", "right/Europe/Rome"] {
            let entry = format!(r#"{{"timezone":"{name}"}}"#);
            let parsed = AccountEntry::parse(entry.as_bytes());
            assert!(matches!(parsed, Err(EntryError::NoPlace(_))), "{name}: {parsed:?}");
        }
        let long = format!(r#"{{"timezone":"{}"}}"#, "x".repeat(10_000));
        assert!(AccountEntry::parse(long.as_bytes()).unwrap_err().to_string().len() < 120);
        assert!(matches!(AccountEntry::parse(b"{"), Err(EntryError::Json(_))));
        assert!(matches!(AccountEntry::parse(b"[]"), Err(EntryError::NotAnObject)));
        assert!(matches!(BotEntry::parse(br#"{"name":""}"#), Err(EntryError::Name(_))));
    }

    #[test]
    fn keys() {
        assert_eq!(Key::parse("account.a"), Some(Key::Account("a".parse().unwrap())));
        assert_eq!(
            Key::parse("bot.a.b"),
            Some(Key::Bot("a".parse().unwrap(), "b".parse().unwrap()))
        );
        for key in ["account", "account.a.b", "bot.a", "bot.a.b.c", "x.a", ""] {
            assert_eq!(Key::parse(key), None, "{key}");
        }
    }
}
