//! The numbers of accounts and of (bot, channel) pairs, by which rows of the store refer to them.
//!
//! Numbers are given in the order of the stream and never change; the registry only grows.

use std::sync::Arc;

use botstats_common::ids::{Account, Bot, Channel};
use rustc_hash::FxHashMap;

use crate::event::Address;
use crate::store::{PairRow, StoreError};

/// An account with more pairs than this is worth a warning: a publisher may put ids of users where
/// those of bots or channels belong.
pub(crate) const MANY_PAIRS: usize = 10_000;

/// Estimated memory of a pair in bytes, beside the text of its ids: its row, its entry by path, its
/// name.
const PAIR_BYTES: usize = size_of::<PairRow>()
    + size_of::<(String, PairNumbers)>()
    + size_of::<NamedPair>()
    + 3 * size_of::<usize>();

/// The numbers by which rows refer to a pair and its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PairNumbers {
    pub account: u32,
    /// Unique among the pairs of all accounts.
    pub pair: u32,
}

/// All pairs that ever had an accepted event.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_path: FxHashMap<String, PairNumbers>,
    rows: Vec<PairRow>,
    /// Estimated memory of all pairs.
    bytes: usize,
    accounts: FxHashMap<Account, AccountPairs>,
}

#[derive(Debug)]
struct AccountPairs {
    number: u32,
    pairs: Vec<Arc<NamedPair>>,
}

#[derive(Debug, Clone)]
pub(crate) struct NamedPair {
    pub number: u32,
    pub bot: Bot,
    pub channel: Channel,
}

impl Registry {
    /// The registry of rows in the order of their numbers.
    ///
    /// # Errors
    /// If a row has a malformed id.
    pub(crate) fn of_rows(rows: Vec<PairRow>) -> Result<Self, StoreError> {
        let mut registry = Self::default();
        for row in rows {
            registry.push(row)?;
        }
        Ok(registry)
    }

    /// The numbers of a pair; `None` before the pair's first event.
    pub(crate) fn numbers(&self, address: &Address<'_>) -> Option<PairNumbers> {
        self.by_path.get(address.path).copied()
    }

    /// The accounts with more than [`MANY_PAIRS`] pairs.
    pub(crate) fn accounts_with_many_pairs(&self) -> impl Iterator<Item = &Account> {
        self.accounts
            .iter()
            .filter(|(_, of)| of.pairs.len() > MANY_PAIRS)
            .map(|(account, _)| account)
    }

    /// Gives a new pair the next number. The flag is true if this is the first pair of its account
    /// beyond [`MANY_PAIRS`].
    ///
    /// # Errors
    /// If the address has a malformed id, or there are no more numbers.
    pub(crate) fn add(&mut self, address: &Address<'_>) -> Result<(PairNumbers, bool), StoreError> {
        let known = address.account.parse::<Account>().ok().and_then(|a| self.accounts.get(&a));
        let account_number = match known {
            Some(account) => account.number,
            None => {
                u32::try_from(self.accounts.len()).map_err(|_| wrong("no account numbers left"))?
            }
        };
        self.push(PairRow {
            account_number,
            account: address.account.to_owned(),
            bot: address.bot.to_owned(),
            channel: address.channel.to_owned(),
        })
    }

    fn push(&mut self, row: PairRow) -> Result<(PairNumbers, bool), StoreError> {
        let number = u32::try_from(self.rows.len()).map_err(|_| wrong("no pair numbers left"))?;
        let account: Account = row.account.parse().map_err(|e| wrong(&format!("{e}")))?;
        let bot = row.bot.parse().map_err(|e| wrong(&format!("{e}")))?;
        let channel = row.channel.parse().map_err(|e| wrong(&format!("{e}")))?;
        let entry = self
            .accounts
            .entry(account)
            .or_insert_with(|| AccountPairs { number: row.account_number, pairs: Vec::new() });
        entry.pairs.push(Arc::new(NamedPair { number, bot, channel }));
        let passes_many = entry.pairs.len() == MANY_PAIRS + 1;
        // The row and the path have all ids, the name has those of bot and channel.
        let ids = row.account.len() + row.bot.len() + row.channel.len();
        self.bytes += PAIR_BYTES + 3 * ids;
        let numbers = PairNumbers { account: row.account_number, pair: number };
        self.by_path.insert(format!("{}.{}.{}", row.account, row.bot, row.channel), numbers);
        self.rows.push(row);
        Ok((numbers, passes_many))
    }

    pub(crate) fn pair_count(&self) -> u32 {
        u32::try_from(self.rows.len()).unwrap_or(u32::MAX)
    }

    /// Estimated memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn row(&self, number: u32) -> Option<&PairRow> {
        self.rows.get(usize::try_from(number).ok()?)
    }

    /// An account's number and its pairs in the order of their numbers, of all bots or only of
    /// `bots`; `None` before the account's first event.
    pub(crate) fn pairs(
        &self,
        account: &Account,
        bots: Option<&[Bot]>,
    ) -> Option<(u32, Vec<Arc<NamedPair>>)> {
        let entry = self.accounts.get(account)?;
        let asked = |pair: &&Arc<NamedPair>| bots.is_none_or(|bots| bots.contains(&pair.bot));
        Some((entry.number, entry.pairs.iter().filter(asked).cloned().collect()))
    }
}

fn wrong(reason: &str) -> StoreError {
    StoreError::value("pairs", reason)
}
