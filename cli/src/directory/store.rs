//! The directory's KV bucket: read, compare-and-set, list.

use async_nats::jetstream;
use async_nats::jetstream::kv::{self, Operation, UpdateErrorKind};
use botstats_common::directory::{
    AccountEntry, BotEntry, EntryError, Key, Operators, ViewEntry, parse_operators,
};
use botstats_common::ids::{Account, Bot, TokenId};
use botstats_common::names::{self, DIRECTORY_BUCKET};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use std::time::Duration;

use super::rules::{self, Refusal};

/// The most tries of a change while others write the same key.
const MAX_TRIES: usize = 8;
/// The number of entries that a list reads at once.
const READS_AT_ONCE: usize = 64;
/// The time limit for reading a list.
const LIST_LIMIT: Duration = Duration::from_secs(60);

/// Why a change or reading of the directory did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// The bucket is not there or can't be reached.
    #[error("the KV bucket {DIRECTORY_BUCKET} cannot be opened; `botstats setup` makes it")]
    Bucket(#[source] async_nats::Error),
    /// A request got no good answer.
    #[error("{key}: no answer from the directory")]
    Request { key: String, source: async_nats::Error },
    /// The rules say no.
    #[error("{key}: {refusal}")]
    Refused { key: String, refusal: Refusal },
    /// The stored value is no entry.
    #[error("{key}: the stored value is no entry; write a good one with a NATS client")]
    Entry { key: String, source: EntryError },
    /// Others wrote the same key each time.
    #[error("{0}: others change it all the time; try again")]
    Contended(String),
    /// The list did not come to its end.
    #[error("the directory's list did not come within {} s", LIST_LIMIT.as_secs())]
    ListLate,
}

/// The directory, open for writing.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    kv: kv::Store,
}

/// An entry of a list; a value that does not parse has none.
#[derive(Debug)]
pub(crate) enum Entry {
    Account(Account, Result<AccountEntry, EntryError>),
    Bot(Account, Bot, Result<BotEntry, EntryError>),
    View(Account, TokenId, Result<ViewEntry, EntryError>),
}

/// What is stored under a key; without a value the revision to write over, 0 for a fresh key.
struct Stored<T> {
    entry: Option<T>,
    revision: u64,
}

impl Directory {
    /// Opens the directory.
    pub(crate) async fn open(js: &jetstream::Context) -> Result<Self, ChangeError> {
        let kv = js.get_key_value(DIRECTORY_BUCKET).await;
        Ok(Self { kv: kv.map_err(|e| ChangeError::Bucket(e.into()))? })
    }

    /// An account's entry, if it has one.
    pub(crate) async fn account(
        &self,
        account: &Account,
    ) -> Result<Option<AccountEntry>, ChangeError> {
        Ok(self.read(&names::account_key(account), AccountEntry::parse).await?.entry)
    }

    /// Changes an account's entry to what the rule decides; gives what was written.
    pub(crate) async fn change_account(
        &self,
        account: &Account,
        rule: impl Fn(Option<AccountEntry>) -> Result<AccountEntry, Refusal>,
    ) -> Result<AccountEntry, ChangeError> {
        self.change(names::account_key(account), AccountEntry::parse, rule).await
    }

    /// Changes a bot's entry to what the rule decides; gives what was written.
    pub(crate) async fn change_bot(
        &self,
        account: &Account,
        bot: &Bot,
        rule: impl Fn(Option<BotEntry>) -> Result<BotEntry, Refusal>,
    ) -> Result<BotEntry, ChangeError> {
        self.change(names::bot_key(account, bot), BotEntry::parse, rule).await
    }

    /// A bot's entry, if it has one.
    pub(crate) async fn bot(
        &self,
        account: &Account,
        bot: &Bot,
    ) -> Result<Option<BotEntry>, ChangeError> {
        Ok(self.read(&names::bot_key(account, bot), BotEntry::parse).await?.entry)
    }

    /// Writes a new view token.
    pub(crate) async fn add_view(
        &self,
        account: &Account,
        id: &TokenId,
        entry: &ViewEntry,
    ) -> Result<ViewEntry, ChangeError> {
        let rule = |current| rules::add_view(current, entry.clone());
        self.change(names::view_key(account, id), ViewEntry::parse, rule).await
    }

    /// Ends a view token. Its id is never used again, so no tombstone of ours is needed.
    pub(crate) async fn delete_view(
        &self,
        account: &Account,
        id: &TokenId,
    ) -> Result<(), ChangeError> {
        let key = names::view_key(account, id);
        let deleted = self.kv.delete(&key).await;
        deleted.map_err(|e| ChangeError::Request { key, source: e.into() })
    }

    /// Ends all tokens of the account's bots, and its view tokens.
    pub(crate) async fn end_narrow_tokens(&self, account: &Account) -> Result<(), ChangeError> {
        for entry in self.list(Some(account)).await? {
            match entry {
                Entry::Account(..) => {}
                Entry::View(account, id, _) => self.delete_view(&account, &id).await?,
                // An entry that cannot be read may have tokens in force: reading it fails here.
                Entry::Bot(account, bot, entry)
                    if entry.as_ref().map_or(true, |entry| !entry.tokens.is_empty()) =>
                {
                    self.change_bot(&account, &bot, rules::end_bot_tokens).await?;
                }
                Entry::Bot(..) => {}
            }
        }
        Ok(())
    }

    /// The names of an account's operators; empty if it has none.
    pub(crate) async fn operators(&self, account: &Account) -> Result<Operators, ChangeError> {
        let stored = self.read(&names::operators_key(account), parse_operators).await?;
        Ok(stored.entry.unwrap_or_default())
    }

    /// Changes the names of an account's operators; gives what was written.
    pub(crate) async fn change_operators(
        &self,
        account: &Account,
        rule: impl Fn(Option<Operators>) -> Result<Operators, Refusal>,
    ) -> Result<Operators, ChangeError> {
        self.change(names::operators_key(account), parse_operators, rule).await
    }

    /// All entries of an account, or of all; removed ones too, ordered by key. Names of operators
    /// are not among them.
    pub(crate) async fn list(&self, only: Option<&Account>) -> Result<Vec<Entry>, ChangeError> {
        let all = tokio::time::timeout(LIST_LIMIT, self.list_all(only));
        all.await.map_err(|_| ChangeError::ListLate)?
    }

    async fn list_all(&self, only: Option<&Account>) -> Result<Vec<Entry>, ChangeError> {
        let failed = |source| ChangeError::Request { key: "list".to_owned(), source };
        let keys = self.kv.keys().await.map_err(|e| failed(e.into()))?;
        let mut keys: Vec<String> = keys.try_collect().await.map_err(|e| failed(e.into()))?;
        keys.sort();
        let entries: Vec<Option<Entry>> = futures::stream::iter(keys)
            .map(|key| async move {
                let wanted = |key: &Key| only.is_none_or(|only| key.account() == only);
                let Some(parsed) = Key::parse(&key).filter(wanted) else { return Ok(None) };
                let value = self.kv.get(key.clone()).await;
                let value = value.map_err(|e| ChangeError::Request { key, source: e.into() })?;
                Ok(value.and_then(|value| match parsed {
                    Key::Account(account) => {
                        Some(Entry::Account(account, AccountEntry::parse(&value)))
                    }
                    Key::Bot(account, bot) => {
                        Some(Entry::Bot(account, bot, BotEntry::parse(&value)))
                    }
                    Key::View(account, id) => {
                        Some(Entry::View(account, id, ViewEntry::parse(&value)))
                    }
                    Key::Operators(_) => None,
                }))
            })
            .buffered(READS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(entries.into_iter().flatten().collect())
    }

    async fn read<T>(
        &self,
        key: &str,
        parse: impl Fn(&[u8]) -> Result<T, EntryError>,
    ) -> Result<Stored<T>, ChangeError> {
        let entry = self
            .kv
            .entry(key)
            .await
            .map_err(|e| ChangeError::Request { key: key.to_owned(), source: e.into() })?;
        let Some(entry) = entry else { return Ok(Stored { entry: None, revision: 0 }) };
        if entry.operation != Operation::Put {
            return Ok(Stored { entry: None, revision: entry.revision });
        }
        let parsed = parse(&entry.value)
            .map_err(|source| ChangeError::Entry { key: key.to_owned(), source })?;
        Ok(Stored { entry: Some(parsed), revision: entry.revision })
    }

    async fn change<T: Serialize + Clone + PartialEq>(
        &self,
        key: String,
        parse: impl Fn(&[u8]) -> Result<T, EntryError>,
        rule: impl Fn(Option<T>) -> Result<T, Refusal>,
    ) -> Result<T, ChangeError> {
        let mut unsure: Option<T> = None;
        for _ in 0..MAX_TRIES {
            let stored = self.read(&key, &parse).await?;
            // A write without an answer may have been done; what it wrote has fresh random bits or
            // says the same as before, so finding it means that it was.
            if unsure.is_some() && unsure == stored.entry {
                return unsure.ok_or_else(|| ChangeError::Contended(key));
            }
            let next = rule(stored.entry)
                .map_err(|refusal| ChangeError::Refused { key: key.clone(), refusal })?;
            let value = serde_json::to_vec(&next).map_err(|e| ChangeError::Entry {
                key: key.clone(),
                source: EntryError::Json(e),
            })?;
            match self.kv.update(&key, value.into(), stored.revision).await {
                Ok(_) => return Ok(next),
                Err(error) => match error.kind() {
                    UpdateErrorKind::WrongLastRevision => {}
                    UpdateErrorKind::TimedOut => unsure = Some(next),
                    _ => return Err(ChangeError::Request { key, source: error.into() }),
                },
            }
        }
        Err(ChangeError::Contended(key))
    }
}
