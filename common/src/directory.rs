//! The directory's entries: what stands in the KV bucket `botstats_directory`, as JSON.
//!
//! *Format*: the table has the KV keys (see [`crate::names`]) and their values. Any NATS client may
//! write them; unknown fields are ignored. A removed account or bot stays as a tombstone.
//!
//! | key | value |
//! | --- | --- |
//! | `account.<account>` | [`AccountEntry`] |
//! | `bot.<account>.<bot>` | [`BotEntry`] |
//! | `view.<account>.<token id>` | [`ViewEntry`] |
//! | `operators.<account>` | [`Operators`] |
//!
//! *Why* tokens stand in three places: a program of an older version knows only the tokens of
//! accounts. It ignores the other two, so it never takes a narrow token for an account's.

mod operators;
mod tokens;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Account, Bot, Channel, TokenId};
use crate::names;
use crate::secret::SecretHash;
use crate::zones;

pub use operators::{
    MAX_OPERATOR_ID_BYTES, MAX_OPERATORS, Operators, check_operator_id, check_operator_name,
    parse_operators,
};
pub use tokens::{Bots, Expires, TokenEntry, ViewEntry};

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

/// A bot's entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The tokens that may ask for its statistics alone. They end when the bot is removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenEntry>,
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
    /// A name of an operator that rows use for something else.
    #[error("name {0:?} is not allowed for an operator: rows have it for something else")]
    Reserved(String),
    /// An operator's id that no event can have.
    #[error("operator id {0:?} is not allowed: 1 to 128 bytes, and neither (none) nor (other)")]
    OperatorId(String),
    /// More operators than an account may have names for.
    #[error("{0} operators have names; at most {MAX_OPERATORS} may")]
    TooManyOperators(usize),
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
    /// Reads a stored value, and checks name and time zone.
    ///
    /// # Errors
    /// [`EntryError`] names what is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, EntryError> {
        let entry: Self = from_object(json)?;
        time_zone(&entry.timezone)?;
        entry.name.as_deref().map_or(Ok(()), check_name)?;
        Ok(entry)
    }

    /// The name to show.
    #[must_use]
    pub fn shown_name<'a>(&'a self, account: &'a Account) -> &'a str {
        self.name.as_deref().unwrap_or(account.as_str())
    }
}

impl BotEntry {
    /// Reads a stored value, and checks the names.
    ///
    /// # Errors
    /// [`EntryError`] names what is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, EntryError> {
        let entry: Self = from_object(json)?;
        entry.name.iter().chain(entry.channels.values()).try_for_each(|name| check_name(name))?;
        Ok(entry)
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

/// The entry that a KV key names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `account.<account>`
    Account(Account),
    /// `bot.<account>.<bot>`
    Bot(Account, Bot),
    /// `view.<account>.<token id>`
    View(Account, TokenId),
    /// `operators.<account>`
    Operators(Account),
}

impl Key {
    /// Reads a KV key; `None` if it is not an entry's.
    #[must_use]
    pub fn parse(key: &str) -> Option<Self> {
        let mut tokens = key.split('.');
        let (kind, account) = (tokens.next()?, tokens.next()?.parse().ok()?);
        let parsed = match kind {
            "account" => Key::Account(account),
            "bot" => Key::Bot(account, tokens.next()?.parse().ok()?),
            "view" => Key::View(account, tokens.next()?.parse().ok()?),
            "operators" => Key::Operators(account),
            _ => return None,
        };
        tokens.next().is_none().then_some(parsed)
    }

    /// The account that the entry belongs to.
    #[must_use]
    pub fn account(&self) -> &Account {
        match self {
            Key::Account(account)
            | Key::Bot(account, _)
            | Key::View(account, _)
            | Key::Operators(account) => account,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            Key::Account(account) => names::account_key(account),
            Key::Bot(account, bot) => names::bot_key(account, bot),
            Key::View(account, token) => names::view_key(account, token),
            Key::Operators(account) => names::operators_key(account),
        })
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
    fn entries_of_earlier_versions_are_written_as_they_were_read() {
        let hash = "b".repeat(64);
        let account = format!(
            r#"{{"name":"A","timezone":"UTC","tokens":[{{"id":"t","sha256":"{hash}","created":"c"}}],"removed":false}}"#
        );
        let bot = format!(r#"{{"channels":{{"w":"W"}},"key_sha256":"{hash}","removed":false}}"#);
        let read = AccountEntry::parse(account.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), account);
        let read = BotEntry::parse(bot.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), bot);
    }

    #[test]
    fn a_bad_expiry_leaves_the_rest_of_an_entry_good() {
        let hash = "b".repeat(64);
        for (expires, good) in [
            ("null", true),
            (r#""2026-11-20T10:00:00Z""#, true),
            (r#""soon""#, false),
            ("5", false),
            ("{}", false),
        ] {
            let json = format!(
                r#"{{"name":"P","channels":{{}},"tokens":[{{"id":"t","sha256":"{hash}","created":"","expires":{expires}}}],"removed":false}}"#
            );
            let bot = BotEntry::parse(json.as_bytes()).unwrap();
            assert_eq!(bot.name.as_deref(), Some("P"));
            assert_eq!(bot.tokens[0].expires.is_clear(), good, "{expires}");
            // What is not understood stays as it is when another field changes.
            let kept = serde_json::to_string(&bot).unwrap();
            assert_eq!(kept == json, expires != "null", "{kept}");
        }
    }

    #[test]
    fn keys() {
        let (a, b) = ("a".parse::<Account>().unwrap(), "b".parse().unwrap());
        for (text, key) in [
            ("account.a", Key::Account(a.clone())),
            ("bot.a.b", Key::Bot(a.clone(), b)),
            ("view.a.v1", Key::View(a.clone(), "v1".parse().unwrap())),
            ("operators.a", Key::Operators(a.clone())),
        ] {
            assert_eq!(Key::parse(text), Some(key.clone()));
            assert_eq!((key.to_string().as_str(), key.account()), (text, &a));
        }
        for key in [
            "account",
            "account.a.b",
            "bot.a",
            "bot.a.b.c",
            "view.a",
            "view.a.b.c",
            "view.a.",
            "operators",
            "operators.a.b",
            "x.a",
            "x",
            "",
        ] {
            assert_eq!(Key::parse(key), None, "{key}");
        }
    }
}
