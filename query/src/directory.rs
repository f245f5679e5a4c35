//! The directory in memory: who holds a token, whose is an API key, what things are called.
//!
//! *Invariants*: a value that cannot be read leaves the last good one in force. A token or key that
//! stands in two places grants nothing that either of them alone would not: see [`Directory::holder`]
//! and [`Directory::bot_of`].
//!
//! *Not here*: NATS. An answer is given only after the entries were read again from there
//! ([`crate::shell::entries`]); this copy serves refusals and names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use botstats_common::directory::{AccountEntry, BotEntry, EntryError, Key};
use botstats_common::ids::{Account, Bot};
use botstats_common::secret::SecretHash;

use crate::answer::Names;

/// All entries.
#[derive(Debug, Default)]
pub struct Directory {
    accounts: HashMap<Account, AccountEntry>,
    bots: HashMap<Account, Bots>,
    tokens: HashMap<SecretHash, BTreeSet<Account>>,
    /// Keys whose newest value cannot be read, and why.
    bad: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct Bots {
    entries: Arc<Names>,
    keys: HashMap<SecretHash, BTreeSet<Bot>>,
}

/// A new value of a KV key.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// These bytes.
    Put(&'a [u8]),
    /// None any more.
    Gone,
}

impl Directory {
    /// Applies the change of a KV key. A key that is no entry's is ignored.
    ///
    /// # Errors
    /// Why a value cannot be read; the last good one stays.
    pub fn apply(&mut self, key: &str, change: Change<'_>) -> Result<(), EntryError> {
        let Some(parsed) = Key::parse(key) else {
            return Ok(());
        };
        let applied = match (parsed, change) {
            (Key::Account(account), Change::Put(json)) => {
                AccountEntry::parse(json).map(|entry| self.set_account(account, Some(entry)))
            }
            (Key::Bot(account, bot), Change::Put(json)) => {
                BotEntry::parse(json).map(|entry| self.set_bot(&account, bot, Some(entry)))
            }
            (Key::Account(account), Change::Gone) => {
                self.set_account(account, None);
                Ok(())
            }
            (Key::Bot(account, bot), Change::Gone) => {
                self.set_bot(&account, bot, None);
                Ok(())
            }
        };
        match &applied {
            Ok(()) => self.bad.remove(key),
            Err(error) => self.bad.insert(key.to_owned(), error.to_string()),
        };
        applied
    }

    /// Takes what `older` knew of the keys of which this one has seen bad values only.
    pub fn keep_last_good(&mut self, older: &Directory) {
        let bad: Vec<String> = self.bad.keys().cloned().collect();
        for key in bad {
            match Key::parse(&key) {
                Some(Key::Account(account)) if !self.accounts.contains_key(&account) => {
                    let entry = older.accounts.get(&account).cloned();
                    self.set_account(account, entry);
                }
                Some(Key::Bot(account, bot)) if self.bot(&account, &bot).is_none() => {
                    let entry = older.bot(&account, &bot).cloned();
                    self.set_bot(&account, bot, entry);
                }
                _ => {}
            }
        }
    }

    /// Keys whose newest value cannot be read, and why.
    #[must_use]
    pub fn bad(&self) -> &BTreeMap<String, String> {
        &self.bad
    }

    /// How many accounts and bots there are, removed ones included.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        (self.accounts.len(), self.bots.values().map(|bots| bots.entries.len()).sum())
    }

    /// The account that a token is of. Of several that hold the same one: the one that is not
    /// removed; `None` if that does not decide.
    #[must_use]
    pub fn holder(&self, token: &SecretHash) -> Option<&Account> {
        let removed = |account: &&Account| self.accounts.get(*account).is_some_and(|a| a.removed);
        the_one(self.tokens.get(token)?, removed)
    }

    /// The account's bot that has that key and is not removed; `None` if there are two.
    #[must_use]
    pub fn bot_of(&self, account: &Account, key: &SecretHash) -> Option<&Bot> {
        let bots = self.bots.get(account)?;
        let live = |bot: &&Bot| bots.entries.get(*bot).is_some_and(|entry| !entry.removed);
        let mut holders = bots.keys.get(key)?.iter().filter(live);
        holders.next().filter(|_| holders.next().is_none())
    }

    /// An account's entry.
    #[must_use]
    pub fn account(&self, account: &Account) -> Option<&AccountEntry> {
        self.accounts.get(account)
    }

    /// A bot's entry.
    #[must_use]
    pub fn bot(&self, account: &Account, bot: &Bot) -> Option<&BotEntry> {
        self.bots.get(account)?.entries.get(bot)
    }

    /// The entries of all bots of an account.
    #[must_use]
    pub fn names(&self, account: &Account) -> Arc<Names> {
        self.bots.get(account).map(|bots| Arc::clone(&bots.entries)).unwrap_or_default()
    }

    fn set_account(&mut self, account: Account, entry: Option<AccountEntry>) {
        let tokens = |entry: &AccountEntry| -> Vec<SecretHash> {
            entry.tokens.iter().map(|token| token.sha256).collect()
        };
        for token in self.accounts.get(&account).map(tokens).unwrap_or_default() {
            take_out(&mut self.tokens, token, &account);
        }
        for token in entry.as_ref().map(tokens).unwrap_or_default() {
            self.tokens.entry(token).or_default().insert(account.clone());
        }
        match entry {
            Some(entry) => self.accounts.insert(account, entry),
            None => self.accounts.remove(&account),
        };
    }

    fn set_bot(&mut self, account: &Account, bot: Bot, entry: Option<BotEntry>) {
        let bots = self.bots.entry(account.clone()).or_default();
        if let Some(key) = bots.entries.get(&bot).and_then(|old| old.key_sha256) {
            take_out(&mut bots.keys, key, &bot);
        }
        if let Some(key) = entry.as_ref().and_then(|entry| entry.key_sha256) {
            bots.keys.entry(key).or_default().insert(bot.clone());
        }
        let entries = Arc::make_mut(&mut bots.entries);
        match entry {
            Some(entry) => entries.insert(bot, entry),
            None => entries.remove(&bot),
        };
        if entries.is_empty() {
            self.bots.remove(account);
        }
    }
}

/// The only one; among several the only one that is not removed.
fn the_one<T: Ord>(all: &BTreeSet<T>, removed: impl Fn(&&T) -> bool) -> Option<&T> {
    if all.len() == 1 {
        return all.first();
    }
    let mut live = all.iter().filter(|one| !removed(one));
    live.next().filter(|_| live.next().is_none())
}

fn take_out<T: Ord>(from: &mut HashMap<SecretHash, BTreeSet<T>>, hash: SecretHash, one: &T) {
    if let Some(holders) = from.get_mut(&hash) {
        holders.remove(one);
        if holders.is_empty() {
            from.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> SecretHash {
        SecretHash::of(text)
    }

    fn account_json(tokens: &[&str], removed: bool) -> String {
        let tokens: Vec<_> = tokens
            .iter()
            .map(|t| serde_json::json!({"id": "t", "sha256": String::from(hash(t))}))
            .collect();
        serde_json::json!({"tokens": tokens, "removed": removed}).to_string()
    }

    fn bot_json(key: &str, removed: bool) -> String {
        serde_json::json!({"name": key, "key_sha256": String::from(hash(key)), "removed": removed})
            .to_string()
    }

    fn put(directory: &mut Directory, key: &str, json: &str) {
        directory.apply(key, Change::Put(json.as_bytes())).unwrap();
    }

    fn holder<'a>(directory: &'a Directory, token: &str) -> Option<&'a str> {
        directory.holder(&hash(token)).map(Account::as_str)
    }

    fn bot_of<'a>(directory: &'a Directory, account: &str, key: &str) -> Option<&'a str> {
        directory.bot_of(&account.parse().unwrap(), &hash(key)).map(Bot::as_str)
    }

    #[test]
    fn tokens_come_and_go() {
        let mut d = Directory::default();
        put(&mut d, "account.a", &account_json(&["t1", "t2"], false));
        put(&mut d, "account.b", &account_json(&["t3"], false));
        assert_eq!(holder(&d, "t1"), Some("a"));
        assert_eq!(holder(&d, "t3"), Some("b"));
        assert_eq!(holder(&d, "t4"), None);
        put(&mut d, "account.a", &account_json(&["t2"], true));
        assert_eq!(holder(&d, "t1"), None);
        // A removed account is still known by its token: 404, not 401.
        assert_eq!(holder(&d, "t2"), Some("a"));
        d.apply("account.a", Change::Gone).unwrap();
        assert_eq!(holder(&d, "t2"), None);
        assert!(d.account(&"a".parse().unwrap()).is_none());
    }

    #[test]
    fn a_token_in_two_places_is_the_live_ones_or_nobodys() {
        let mut d = Directory::default();
        put(&mut d, "account.a", &account_json(&["t"], false));
        put(&mut d, "account.b", &account_json(&["t"], false));
        assert_eq!(holder(&d, "t"), None);
        put(&mut d, "account.a", &account_json(&["t"], true));
        assert_eq!(holder(&d, "t"), Some("b"));
        put(&mut d, "account.b", &account_json(&["t"], true));
        assert_eq!(holder(&d, "t"), None);
    }

    #[test]
    fn keys_belong_to_one_live_bot_of_the_account() {
        let mut d = Directory::default();
        put(&mut d, "bot.a.b1", &bot_json("k1", false));
        put(&mut d, "bot.a.b2", &bot_json("k2", true));
        put(&mut d, "bot.b.b1", &bot_json("k3", false));
        assert_eq!(bot_of(&d, "a", "k1"), Some("b1"));
        assert_eq!(bot_of(&d, "a", "k2"), None, "removed");
        assert_eq!(bot_of(&d, "a", "k3"), None, "another account's");
        // The same key in another account stays there.
        put(&mut d, "bot.b.b2", &bot_json("k1", false));
        assert_eq!((bot_of(&d, "a", "k1"), bot_of(&d, "b", "k1")), (Some("b1"), Some("b2")));
        // Two bots of one account: whose numbers were meant cannot be known.
        put(&mut d, "bot.a.b3", &bot_json("k1", false));
        assert_eq!(bot_of(&d, "a", "k1"), None);
        put(&mut d, "bot.a.b3", &bot_json("k4", false));
        assert_eq!((bot_of(&d, "a", "k1"), bot_of(&d, "a", "k4")), (Some("b1"), Some("b3")));
        d.apply("bot.a.b1", Change::Gone).unwrap();
        assert_eq!(bot_of(&d, "a", "k1"), None);
        assert_eq!(d.names(&"a".parse().unwrap()).len(), 2);
    }

    #[test]
    fn a_bad_value_leaves_the_last_good_one() {
        let mut d = Directory::default();
        put(&mut d, "account.a", &account_json(&["t"], false));
        put(&mut d, "bot.a.b", &bot_json("k", false));
        for bad in ["{", "[]", r#"{"timezone":"Mars"}"#, r#"{"tokens":[{"id":"x","sha256":"y"}]}"#]
        {
            assert!(d.apply("account.a", Change::Put(bad.as_bytes())).is_err(), "{bad}");
            assert_eq!(holder(&d, "t"), Some("a"), "{bad}");
        }
        assert!(d.apply("bot.a.b", Change::Put(b"nonsense")).is_err());
        assert_eq!(bot_of(&d, "a", "k"), Some("b"));
        assert_eq!(d.bad().len(), 2);

        // A full read that finds bad values only keeps what was known before ...
        let mut fresh = Directory::default();
        for key in ["account.a", "bot.a.b", "account.new"] {
            assert!(fresh.apply(key, Change::Put(b"nonsense")).is_err());
        }
        fresh.keep_last_good(&d);
        assert_eq!((holder(&fresh, "t"), bot_of(&fresh, "a", "k")), (Some("a"), Some("b")));
        // ... but not of a key that is gone, or has a newer good value.
        let mut fresh = Directory::default();
        put(&mut fresh, "account.a", &account_json(&["t2"], false));
        assert!(fresh.apply("account.a", Change::Put(b"nonsense")).is_err());
        fresh.keep_last_good(&d);
        assert_eq!((holder(&fresh, "t"), holder(&fresh, "t2")), (None, Some("a")));
        assert_eq!(bot_of(&fresh, "a", "k"), None);
        put(&mut d, "account.a", &account_json(&["t"], false));
        assert_eq!(d.bad().len(), 1);
    }

    #[test]
    fn other_keys_are_ignored() {
        let mut d = Directory::default();
        for key in ["x", "account.a.b", "bot.a", "account.*"] {
            d.apply(key, Change::Put(b"nonsense")).unwrap();
        }
        assert!(d.bad().is_empty() && d.accounts.is_empty() && d.bots.is_empty());
    }
}
