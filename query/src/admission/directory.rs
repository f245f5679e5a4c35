//! The directory in memory: what a token grants, which bot has an API key, what bots, channels and
//! operators are called.
//!
//! *Invariants*: a value that cannot be read leaves the last good one in force. A token or key that
//! two entries have grants nothing that one of them alone would not grant: see
//! [`Directory::grant`] and [`Directory::bot_of`]. [`Directory::clashes`] names such entries.
//!
//! *Not here*: NATS. An answer is given only after the entries were read again from NATS
//! ([`crate::nats::entries`]); this copy serves refusals and names.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use botstats_common::directory::{
    AccountEntry, BotEntry, Bots as SeenBots, EntryError, Key, Operators, TokenEntry, ViewEntry,
    parse_operators,
};
use botstats_common::ids::{Account, Bot, TokenId};
use botstats_common::names::bot_key;
use botstats_common::secret::SecretHash;

use super::clashes::{Clash, Flaw, flaw_of_tokens, flaw_of_view};
use crate::answer::Names;

/// What a token may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The statistics of the account.
    Account,
    /// The statistics of that bot.
    Bot(Bot),
    /// The page, for these bots of the account.
    View {
        /// `None` is all bots.
        bots: Option<Arc<BTreeSet<Bot>>>,
        /// True if it may see what operators are called.
        operators: bool,
    },
}

/// What a valid token grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant<'a> {
    /// The account that the token belongs to, removed or not.
    pub account: &'a Account,
    /// What it may ask for.
    pub scope: Scope,
}

/// All entries of the directory.
#[derive(Debug, Default)]
pub struct Directory {
    accounts: HashMap<Account, AccountEntry>,
    bots: HashMap<Account, Bots>,
    views: HashMap<(Account, TokenId), ViewEntry>,
    operators: HashMap<Account, Arc<Operators>>,
    /// The entries that hold a token. Those of removed bots are not among them.
    tokens: HashMap<SecretHash, BTreeSet<Key>>,
    /// Tokens that several entries have, those of removed accounts included.
    shared_tokens: HashSet<SecretHash>,
    /// API keys that several bots of an account have, removed ones included.
    shared_keys: HashSet<(Account, SecretHash)>,
    /// Entries whose tokens are not as they should be.
    flawed: HashMap<Key, Flaw>,
    /// KV keys whose newest value cannot be read, and why.
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
        let applied = match change {
            Change::Put(json) => self.put(parsed, json),
            Change::Delete => {
                self.delete(parsed);
                Ok(())
            }
        };
        match &applied {
            Ok(()) => self.bad.remove(key),
            Err(error) => self.bad.insert(key.to_owned(), error.to_string()),
        };
        applied
    }

    fn put(&mut self, key: Key, json: &[u8]) -> Result<(), EntryError> {
        match key {
            Key::Account(account) => self.set_account(account, Some(AccountEntry::parse(json)?)),
            Key::Bot(account, bot) => self.set_bot(account, bot, Some(BotEntry::parse(json)?)),
            Key::View(account, id) => self.set_view(account, id, Some(ViewEntry::parse(json)?)),
            Key::Operators(account) => {
                self.operators.insert(account, Arc::new(parse_operators(json)?));
            }
        }
        Ok(())
    }

    fn delete(&mut self, key: Key) {
        match key {
            Key::Account(account) => self.set_account(account, None),
            Key::Bot(account, bot) => self.set_bot(account, bot, None),
            Key::View(account, id) => self.set_view(account, id, None),
            Key::Operators(account) => {
                self.operators.remove(&account);
            }
        }
    }

    /// Takes the entries of `older` for the keys of which this directory has seen bad values only.
    pub fn keep_last_good(&mut self, older: &Directory) {
        let bad: Vec<Key> = self.bad.keys().filter_map(|key| Key::parse(key)).collect();
        for key in bad {
            match key {
                Key::Account(account) if !self.accounts.contains_key(&account) => {
                    let entry = older.accounts.get(&account).cloned();
                    self.set_account(account, entry);
                }
                Key::Bot(account, bot) if self.bot(&account, &bot).is_none() => {
                    let entry = older.bot(&account, &bot).cloned();
                    self.set_bot(account, bot, entry);
                }
                Key::View(account, id) if self.view(&account, &id).is_none() => {
                    let entry = older.view(&account, &id).cloned();
                    self.set_view(account, id, entry);
                }
                Key::Operators(account) if !self.operators.contains_key(&account) => {
                    if let Some(names) = older.operators.get(&account) {
                        self.operators.insert(account, Arc::clone(names));
                    }
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

    /// Entries whose secrets conflict, or whose tokens are not as they should be.
    #[must_use]
    pub fn clashes(&self) -> BTreeSet<Clash> {
        let lives = |account: &Account| self.accounts.get(account).is_some_and(|a| !a.removed);
        let tokens = self.shared_tokens.iter().filter_map(|token| {
            let holders = self.tokens.get(token)?.iter().filter(|key| lives(key.account()));
            Some(Clash::Token(holders.map(Key::to_string).collect()))
        });
        let keys = self.shared_keys.iter().filter(|(account, _)| lives(account));
        let keys = keys.filter_map(|(account, key)| {
            let bots = self.bots.get(account)?;
            let live = |bot: &&Bot| bots.entries.get(*bot).is_some_and(|entry| !entry.removed);
            let holders = bots.keys.get(key)?.iter().filter(live);
            Some(Clash::ApiKey(holders.map(|bot| bot_key(account, bot)).collect()))
        });
        let flawed = self.flawed.iter().filter(|(key, _)| lives(key.account()));
        let flawed = flawed.map(|(key, flaw)| Clash::Within(key.to_string(), *flaw));
        tokens.chain(keys).filter(Clash::is_of_several).chain(flawed).collect()
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

    /// What a token grants at `now_ms` (Unix milliseconds); `None` if nothing.
    ///
    /// | the token stands in | it grants |
    /// | --- | --- |
    /// | no entry, or a removed bot's alone | nothing |
    /// | one entry | what that entry says, until it expires |
    /// | several, one of them of an account that lives | what that one says, until it expires |
    /// | several others | nothing |
    #[must_use]
    pub fn grant(&self, token: &SecretHash, now_ms: i64) -> Option<Grant<'_>> {
        let removed = |key: &&Key| self.accounts.get(key.account()).is_some_and(|a| a.removed);
        let key = the_one(self.tokens.get(token)?, removed)?;
        let account = key.account();
        let scope = match key {
            Key::Account(_) => {
                let entry = self.accounts.get(account)?;
                has_token(&entry.tokens, token, now_ms).then_some(Scope::Account)
            }
            Key::Bot(_, bot) => {
                let entry = self.bot(account, bot)?;
                has_token(&entry.tokens, token, now_ms).then(|| Scope::Bot(bot.clone()))
            }
            Key::View(_, id) => {
                let entry = self.view(account, id).filter(|entry| entry.is_valid(now_ms))?;
                let bots = match &entry.bots {
                    SeenBots::All => None,
                    SeenBots::Only(bots) => Some(Arc::clone(bots)),
                    SeenBots::Unclear(_) => return None,
                };
                Some(Scope::View { bots, operators: entry.operators })
            }
            Key::Operators(_) => None,
        };
        scope.map(|scope| Grant { account, scope })
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

    /// What the operators of an account are called.
    #[must_use]
    pub fn operators(&self, account: &Account) -> Arc<Operators> {
        self.operators.get(account).map(Arc::clone).unwrap_or_default()
    }

    fn view(&self, account: &Account, id: &TokenId) -> Option<&ViewEntry> {
        // Entries are looked up seldom: a key made of copies is no cost that matters.
        self.views.get(&(account.clone(), id.clone()))
    }

    fn set_account(&mut self, account: Account, entry: Option<AccountEntry>) {
        let key = Key::Account(account.clone());
        let before = self.accounts.get(&account).map(account_hashes).unwrap_or_default();
        let after = entry.as_ref().map(account_hashes).unwrap_or_default();
        self.set_tokens(&key, before, after);
        self.set_flaw(key, entry.as_ref().and_then(|entry| flaw_of_tokens(&entry.tokens)));
        match entry {
            Some(entry) => self.accounts.insert(account, entry),
            None => self.accounts.remove(&account),
        };
    }

    fn set_bot(&mut self, account: Account, bot: Bot, entry: Option<BotEntry>) {
        let key = Key::Bot(account.clone(), bot.clone());
        let before = self.bot(&account, &bot).map(bot_hashes).unwrap_or_default();
        let after = entry.as_ref().map(bot_hashes).unwrap_or_default();
        self.set_tokens(&key, before, after);
        let live = entry.as_ref().filter(|entry| !entry.removed);
        self.set_flaw(key, live.and_then(|entry| flaw_of_tokens(&entry.tokens)));

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
            self.bots.remove(&account);
        }
    }

    fn set_view(&mut self, account: Account, id: TokenId, entry: Option<ViewEntry>) {
        let key = Key::View(account.clone(), id.clone());
        let hashes = |entry: &ViewEntry| vec![entry.sha256];
        let before = self.view(&account, &id).map(hashes).unwrap_or_default();
        let after = entry.as_ref().map(hashes).unwrap_or_default();
        self.set_tokens(&key, before, after);
        self.set_flaw(key, entry.as_ref().and_then(flaw_of_view));
        match entry {
            Some(entry) => self.views.insert((account, id), entry),
            None => self.views.remove(&(account, id)),
        };
    }

    /// Notes which tokens an entry has now.
    fn set_tokens(&mut self, key: &Key, before: Vec<SecretHash>, after: Vec<SecretHash>) {
        for token in &before {
            take_out(&mut self.tokens, *token, key);
        }
        for token in &after {
            self.tokens.entry(*token).or_default().insert(key.clone());
        }
        for token in before.into_iter().chain(after) {
            let shared = self.tokens.get(&token).is_some_and(|holders| holders.len() > 1);
            put_or_take(&mut self.shared_tokens, token, shared);
        }
    }

    fn set_flaw(&mut self, key: Key, flaw: Option<Flaw>) {
        match flaw {
            Some(flaw) => self.flawed.insert(key, flaw),
            None => self.flawed.remove(&key),
        };
    }
}

/// True if one of the tokens is this one and has not expired.
pub(crate) fn has_token(tokens: &[TokenEntry], token: &SecretHash, now_ms: i64) -> bool {
    let in_force = |one: &TokenEntry| one.sha256 == *token && one.expires.is_later(now_ms);
    tokens.iter().any(in_force)
}

fn hashes(tokens: &[TokenEntry]) -> Vec<SecretHash> {
    tokens.iter().map(|token| token.sha256).collect()
}

fn account_hashes(entry: &AccountEntry) -> Vec<SecretHash> {
    hashes(&entry.tokens)
}

/// The tokens of a bot, which end when the bot is removed.
fn bot_hashes(entry: &BotEntry) -> Vec<SecretHash> {
    if entry.removed { Vec::new() } else { hashes(&entry.tokens) }
}

/// The only item; among several the only one that is not removed.
fn the_one<T: Ord>(all: &BTreeSet<T>, removed: impl Fn(&&T) -> bool) -> Option<&T> {
    if all.len() == 1 {
        return all.first();
    }
    let mut live = all.iter().filter(|one| !removed(one));
    live.next().filter(|_| live.next().is_none())
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
mod tests;
