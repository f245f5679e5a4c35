//! Accounts and (bot, channel) pairs by number: rows of the store refer to them so.
//!
//! Numbers are given in the order of the stream and never change; the registry only grows.

use std::sync::Arc;

use botstats_common::ids::{Account, Bot, Channel};
use rustc_hash::FxHashMap;

use crate::event::Address;
use crate::store::{PairRow, StoreError};

/// An account with more pairs than this is worth a warning: a publisher may put ids of users where those of
/// bots or channels belong.
pub(crate) const MANY_PAIRS: usize = 10_000;

/// What a pair takes beside the text of its ids: its row, its entry by path, its name with a count of users.
const PAIR_BYTES: usize = size_of::<PairRow>()
    + size_of::<(String, PairNumbers)>()
    + size_of::<NamedPair>()
    + 3 * size_of::<usize>();

/// The numbers by which rows refer to a pair and its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PairNumbers {
    /// The account's.
    pub account: u32,
    /// The pair's, among all pairs of all accounts.
    pub pair: u32,
}

/// All pairs that ever had an event.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_path: FxHashMap<String, PairNumbers>,
    rows: Vec<PairRow>,
    /// About what they take.
    bytes: usize,
    accounts: FxHashMap<Account, AccountPairs>,
}

#[derive(Debug)]
struct AccountPairs {
    number: u32,
    pairs: Vec<Arc<NamedPair>>,
}

/// A pair of an account.
#[derive(Debug, Clone)]
pub(crate) struct NamedPair {
    /// Its number.
    pub number: u32,
    /// The bot.
    pub bot: Bot,
    /// The channel.
    pub channel: Channel,
}

impl Registry {
    /// The registry of rows in the order of their numbers.
    ///
    /// # Errors
    /// If a row has an id that is none.
    pub(crate) fn of_rows(rows: Vec<PairRow>) -> Result<Self, StoreError> {
        let mut registry = Self::default();
        for row in rows {
            registry.push(row)?;
        }
        Ok(registry)
    }

    /// The numbers of a pair, if it has some.
    #[must_use]
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

    /// Gives a new pair the next number; true if it is its account's first beyond [`MANY_PAIRS`].
    ///
    /// # Errors
    /// If the address has an id that is none, or there are no more numbers.
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
            next_user: 0,
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
        // The ids stand in the row, in the path, and bot and channel once more.
        let ids = row.account.len() + row.bot.len() + row.channel.len();
        self.bytes += PAIR_BYTES + 3 * ids;
        let numbers = PairNumbers { account: row.account_number, pair: number };
        self.by_path.insert(format!("{}.{}.{}", row.account, row.bot, row.channel), numbers);
        self.rows.push(row);
        Ok((numbers, passes_many))
    }

    /// How many pairs there are.
    #[must_use]
    pub(crate) fn pair_count(&self) -> u32 {
        u32::try_from(self.rows.len()).unwrap_or(u32::MAX)
    }

    /// About the memory held, in bytes.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The row of a pair.
    #[must_use]
    pub(crate) fn row(&self, number: u32) -> Option<&PairRow> {
        self.rows.get(usize::try_from(number).ok()?)
    }

    /// The row of a pair, to change it.
    #[must_use]
    pub(crate) fn row_mut(&mut self, number: u32) -> Option<&mut PairRow> {
        self.rows.get_mut(usize::try_from(number).ok()?)
    }

    /// An account's number and its pairs by their numbers, of all bots or of those; none if it never had an
    /// event.
    #[must_use]
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
