//! The directory in memory: which account holds a token, which bot has an API key, what bots and
//! channels are called.
//!
//! *Invariants*: a value that cannot be read leaves the last good one in force. A token or key that
//! two entries have grants nothing that one of them alone would not grant: see
//! [`Directory::holder`] and [`Directory::bot_of`]. [`Directory::clashes`] names such entries.
//!
//! *Not here*: NATS. An answer is given only after the entries were read again from NATS
//! ([`crate::nats::entries`]); this copy serves refusals and names.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use botstats_common::directory::{AccountEntry, BotEntry, EntryError, Key};
use botstats_common::ids::{Account, Bot};
use botstats_common::names::{account_key, bot_key};
use botstats_common::secret::SecretHash;

use crate::answer::Names;

/// The most entries of a clash that its text names.
const MAX_NAMED: usize = 5;

/// All entries of the directory.
#[derive(Debug, Default)]
pub struct Directory {
    accounts: HashMap<Account, AccountEntry>,
    bots: HashMap<Account, Bots>,
    tokens: HashMap<SecretHash, BTreeSet<Account>>,
    /// Tokens that several accounts have, removed ones included.
    shared_tokens: HashSet<SecretHash>,
    /// API keys that several bots of an account have, removed ones included.
    shared_keys: HashSet<(Account, SecretHash)>,
    /// Accounts that have a token, or the id of a token, twice.
    repeating: HashMap<Account, Repeated>,
    /// KV keys whose newest value cannot be read, and why.
    bad: BTreeMap<String, String>,
}

/// What one account has twice among its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Repeated {
    /// One token under two ids.
    Token,
    /// Two tokens under one id.
    Id,
}

/// Entries that can be read, but whose secrets conflict. The entries are named by their KV keys,
/// the secrets not at all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clash {
    /// Accounts, none of them removed, with a token in common.
    Token(BTreeSet<String>),
    /// Bots of an account, none of them removed, with an API key in common.
    ApiKey(BTreeSet<String>),
    /// An account that is not removed.
    Within(String, Repeated),
}

impl Clash {
    fn entries(&self) -> Vec<&str> {
        match self {
            Clash::Token(keys) | Clash::ApiKey(keys) => keys.iter().map(String::as_str).collect(),
            Clash::Within(key, _) => vec![key],
        }
    }
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries();
        let named = entries.iter().take(MAX_NAMED).copied().collect::<Vec<_>>().join(", ");
        f.write_str(&named)?;
        if let Some(more @ 1..) = entries.len().checked_sub(MAX_NAMED) {
            write!(f, " and {more} more")?;
        }
        f.write_str(match self {
            Clash::Token(_) => {
                " have the same token: whose it is cannot be told, so calls with it get 401; give each \
                 account a token of its own (`botstats token add`) and revoke the shared one"
            }
            Clash::ApiKey(_) => {
                " have the same API key: which bot it means cannot be told, so calls with it get 404; give \
                 each bot a key of its own (`botstats key rotate`)"
            }
            Clash::Within(_, Repeated::Token) => {
                " has the same token under two ids: revoking one of them leaves it in force"
            }
            Clash::Within(_, Repeated::Id) => {
                " has two tokens of the same id: revoking that id ends both"
            }
        })
    }
}

#[derive(Debug, Default)]
struct Bots {
    entries: Arc<Names>,
    keys: HashMap<SecretHash, BTreeSet<Bot>>,
}

/// A new value of a KV key.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// The key has this value.
    Put(&'a [u8]),
    /// The key was deleted.
    Delete,
}

impl Directory {
    /// Applies the change of a KV key. Keys that are not of an entry are ignored.
    ///
    /// # Errors
    /// If the value cannot be read; the last good one stays.
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
            (Key::Account(account), Change::Delete) => {
                self.set_account(account, None);
                Ok(())
            }
            (Key::Bot(account, bot), Change::Delete) => {
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

    /// Takes the entries of `older` for the keys of which this directory has seen bad values only.
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

    /// KV keys whose newest value cannot be read, and why.
    #[must_use]
    pub fn bad(&self) -> &BTreeMap<String, String> {
        &self.bad
    }

    /// Entries whose secrets conflict.
    #[must_use]
    pub fn clashes(&self) -> BTreeSet<Clash> {
        let lives = |account: &Account| self.accounts.get(account).is_some_and(|a| !a.removed);
        let tokens = self.shared_tokens.iter().filter_map(|token| {
            let holders = self.tokens.get(token)?.iter().filter(|account| lives(account));
            Some(Clash::Token(holders.map(account_key).collect()))
        });
        let keys = self.shared_keys.iter().filter(|(account, _)| lives(account));
        let keys = keys.filter_map(|(account, key)| {
            let bots = self.bots.get(account)?;
            let live = |bot: &&Bot| bots.entries.get(*bot).is_some_and(|entry| !entry.removed);
            let holders = bots.keys.get(key)?.iter().filter(live);
            Some(Clash::ApiKey(holders.map(|bot| bot_key(account, bot)).collect()))
        });
        let within = self.repeating.iter().filter(|(account, _)| lives(account));
        let within = within.map(|(account, what)| Clash::Within(account_key(account), *what));
        let several = |clash: &Clash| match clash {
            Clash::Token(entries) | Clash::ApiKey(entries) => entries.len() > 1,
            Clash::Within(..) => true,
        };
        tokens.chain(keys).filter(several).chain(within).collect()
    }

    /// The number of entries that cannot be read or clash.
    #[must_use]
    pub fn bad_entries(&self) -> usize {
        let clashes = self.clashes();
        let mut all: BTreeSet<&str> = self.bad.keys().map(String::as_str).collect();
        all.extend(clashes.iter().flat_map(Clash::entries));
        all.len()
    }

    /// The numbers of accounts and bots, removed ones included.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        (self.accounts.len(), self.bots.values().map(|bots| bots.entries.len()).sum())
    }

    /// The account that holds a token. If several hold it: the only one that is not removed, else
    /// `None`.
    #[must_use]
    pub fn holder(&self, token: &SecretHash) -> Option<&Account> {
        let removed = |account: &&Account| self.accounts.get(*account).is_some_and(|a| a.removed);
        the_one(self.tokens.get(token)?, removed)
    }

    /// The account's bot that has an API key and is not removed; `None` if two bots have it.
    #[must_use]
    pub fn bot_of(&self, account: &Account, key: &SecretHash) -> Option<&Bot> {
        let bots = self.bots.get(account)?;
        let live = |bot: &&Bot| bots.entries.get(*bot).is_some_and(|entry| !entry.removed);
        let mut holders = bots.keys.get(key)?.iter().filter(live);
        holders.next().filter(|_| holders.next().is_none())
    }

    /// The entry of an account, removed or not.
    #[must_use]
    pub fn account(&self, account: &Account) -> Option<&AccountEntry> {
        self.accounts.get(account)
    }

    /// The entry of a bot, removed or not.
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
        let before = self.accounts.get(&account).map(tokens).unwrap_or_default();
        let after = entry.as_ref().map(tokens).unwrap_or_default();
        for token in &before {
            take_out(&mut self.tokens, *token, &account);
        }
        for token in &after {
            self.tokens.entry(*token).or_default().insert(account.clone());
        }
        for token in before.into_iter().chain(after) {
            let shared = self.tokens.get(&token).is_some_and(|holders| holders.len() > 1);
            put_or_take(&mut self.shared_tokens, token, shared);
        }
        match entry.as_ref().and_then(repeated) {
            Some(what) => self.repeating.insert(account.clone(), what),
            None => self.repeating.remove(&account),
        };
        match entry {
            Some(entry) => self.accounts.insert(account, entry),
            None => self.accounts.remove(&account),
        };
    }

    fn set_bot(&mut self, account: &Account, bot: Bot, entry: Option<BotEntry>) {
        let bots = self.bots.entry(account.clone()).or_default();
        let before = bots.entries.get(&bot).and_then(|old| old.key_sha256);
        let after = entry.as_ref().and_then(|entry| entry.key_sha256);
        if let Some(key) = before {
            take_out(&mut bots.keys, key, &bot);
        }
        if let Some(key) = after {
            bots.keys.entry(key).or_default().insert(bot.clone());
        }
        for key in before.into_iter().chain(after) {
            let shared = bots.keys.get(&key).is_some_and(|holders| holders.len() > 1);
            put_or_take(&mut self.shared_keys, (account.clone(), key), shared);
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

/// The only item; among several the only one that is not removed.
fn the_one<T: Ord>(all: &BTreeSet<T>, removed: impl Fn(&&T) -> bool) -> Option<&T> {
    if all.len() == 1 {
        return all.first();
    }
    let mut live = all.iter().filter(|one| !removed(one));
    live.next().filter(|_| live.next().is_none())
}

/// What an account has twice among its tokens. An exact copy of a token's item is harmless.
fn repeated(entry: &AccountEntry) -> Option<Repeated> {
    let mut id_of = HashMap::new();
    let mut token_of = HashMap::new();
    entry.tokens.iter().find_map(|token| {
        let id = id_of.insert(token.sha256, &token.id);
        let other = token_of.insert(&token.id, token.sha256);
        if id.is_some_and(|id| *id != token.id) {
            return Some(Repeated::Token);
        }
        other.filter(|other| *other != token.sha256).map(|_| Repeated::Id)
    })
}

fn put_or_take<T: Eq + std::hash::Hash>(set: &mut HashSet<T>, value: T, there: bool) {
    if there {
        set.insert(value);
    } else {
        set.remove(&value);
    }
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
        d.apply("account.a", Change::Delete).unwrap();
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
        d.apply("bot.a.b1", Change::Delete).unwrap();
        assert_eq!(bot_of(&d, "a", "k1"), None);
        assert_eq!(d.names(&"a".parse().unwrap()).len(), 2);
    }

    fn clashes(directory: &Directory) -> Vec<String> {
        directory.clashes().iter().map(Clash::to_string).collect()
    }

    #[test]
    fn secrets_that_stand_twice_are_told_with_the_keys_of_their_entries() {
        let mut d = Directory::default();
        let two = account_json(&["t1", "t2"], false).replacen("\"id\":\"t\"", "\"id\":\"u\"", 1);
        put(&mut d, "account.a", &two);
        put(&mut d, "account.b", &account_json(&["t3"], false));
        put(&mut d, "bot.a.b1", &bot_json("k1", false));
        assert!(d.clashes().is_empty() && d.bad_entries() == 0);

        // A copy of a whole entry: two tokens, one clash.
        put(&mut d, "account.c", &two);
        insta::assert_snapshot!(clashes(&d).join("\n"), @"account.a, account.c have the same token: whose it is cannot be told, so calls with it get 401; give each account a token of its own (`botstats token add`) and revoke the shared one");
        assert_eq!((holder(&d, "t1"), d.bad_entries()), (None, 2));
        // A value that cannot be read leaves the last good one, so the clash too; it counts once.
        assert!(d.apply("account.c", Change::Put(b"nonsense")).is_err());
        assert_eq!((clashes(&d).len(), d.bad_entries()), (1, 2));
        // Only one of them is not removed: it is whose token it is.
        let removed = two.replace("\"removed\":false", "\"removed\":true");
        put(&mut d, "account.c", &removed);
        assert_eq!((holder(&d, "t1"), d.bad_entries()), (Some("a"), 0));
        put(&mut d, "account.c", &two);
        assert_eq!(d.bad_entries(), 2);
        put(&mut d, "account.a", &account_json(&["t9"], false));
        assert_eq!((holder(&d, "t1"), d.bad_entries()), (Some("c"), 0));
        d.apply("account.c", Change::Delete).unwrap();

        // Many copies are not all named.
        for n in 0..8 {
            put(&mut d, &format!("account.m{n}"), &account_json(&["t4"], false));
        }
        let text = clashes(&d).join("\n");
        assert!(
            text.starts_with(
                "account.m0, account.m1, account.m2, account.m3, account.m4 and 3 more have"
            ),
            "{text}"
        );
        assert_eq!(d.bad_entries(), 8);
        for n in 0..8 {
            d.apply(&format!("account.m{n}"), Change::Delete).unwrap();
        }
        assert_eq!(d.bad_entries(), 0);

        // The same key in another account opens there what it opens here.
        put(&mut d, "bot.b.b1", &bot_json("k1", false));
        put(&mut d, "bot.a.b2", &bot_json("k1", true));
        assert!(d.clashes().is_empty());
        put(&mut d, "bot.a.b2", &bot_json("k1", false));
        insta::assert_snapshot!(clashes(&d).join("\n"), @"bot.a.b1, bot.a.b2 have the same API key: which bot it means cannot be told, so calls with it get 404; give each bot a key of its own (`botstats key rotate`)");
        assert_eq!((bot_of(&d, "a", "k1"), d.bad_entries()), (None, 2));
        put(&mut d, "account.a", &account_json(&["t9"], true));
        assert!(d.clashes().is_empty(), "of a removed account");
        put(&mut d, "account.a", &account_json(&["t9"], false));
        put(&mut d, "bot.a.b1", &bot_json("k2", false));
        assert!(d.clashes().is_empty());
    }

    #[test]
    fn what_stands_twice_within_an_account_is_told() {
        let entry = |tokens: &[(&str, &str)], removed: bool| {
            let tokens: Vec<_> = tokens
                .iter()
                .map(|(id, t)| serde_json::json!({"id": id, "sha256": String::from(hash(t))}))
                .collect();
            serde_json::json!({"tokens": tokens, "removed": removed}).to_string()
        };
        let mut d = Directory::default();
        for (tokens, removed, expected) in [
            (&[("a", "t1"), ("b", "t2")][..], false, ""),
            (&[("a", "t1"), ("a", "t1")], false, ""),
            (&[("a", "t1"), ("b", "t1")], true, ""),
            (
                &[("a", "t1"), ("b", "t1")],
                false,
                "account.a has the same token under two ids: revoking one of them leaves it in force",
            ),
            (
                &[("a", "t1"), ("a", "t2")],
                false,
                "account.a has two tokens of the same id: revoking that id ends both",
            ),
            (&[("a", "t1")], false, ""),
        ] {
            put(&mut d, "account.a", &entry(tokens, removed));
            assert_eq!(clashes(&d).join("\n"), expected, "{tokens:?}");
            assert_eq!(d.bad_entries(), usize::from(!expected.is_empty()));
            assert_eq!(holder(&d, "t1"), Some("a"), "it is in force all the same");
        }
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
