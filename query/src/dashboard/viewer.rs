//! Who looks: what a token sees, by the directory in memory.
//!
//! | the token | |
//! | --- | --- |
//! | none, unknown, revoked, expired | 401 |
//! | a bot's | 403 |
//! | an account's, or a view token, of a removed account | 404 |
//! | an account's | all bots, and operators |
//! | a view token | its bots, and operators if it says so |
//!
//! *Why* in memory only: the page asks often, and its answers use up nothing. A change of the
//! directory is here within a second; the calls, which look the entries up in NATS, cost more.

use std::collections::BTreeSet;
use std::sync::Arc;

use botstats_common::directory::{AccountEntry, Operators};
use botstats_common::ids::{Account, Bot};
use botstats_common::io::clock;
use botstats_common::quarter::QUARTER_MS;
use botstats_common::secret::SecretHash;
use http::HeaderMap;

use crate::admission::directory::{Grant, Scope};
use crate::answer::{Labels, Names};
use crate::nats::watch::Known;
use crate::problem::Problem;
use crate::request::auth;
use crate::request::question::BotFilter;

/// What makes answers to one question equal: who looks at what, by which state of the directory, in
/// which quarter of an hour.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    pub(super) account: Account,
    /// The bots that the token sees; `None` is all.
    pub(super) bots: Option<Arc<BTreeSet<Bot>>>,
    /// True if the token may see operators.
    pub(super) operators: bool,
    generation: u64,
    quarter: i64,
}

impl Seen {
    /// The bots to ask an ingest for; `None` is all.
    pub(super) fn asked(&self) -> Option<Vec<Bot>> {
        self.bots.as_ref().map(|bots| bots.iter().cloned().collect())
    }
}

/// A valid token of an account that is not removed, and what the directory says about it.
#[derive(Debug, Clone)]
pub(super) struct Viewer {
    token: SecretHash,
    pub(super) seen: Seen,
    /// What the account is called.
    pub(super) name: String,
    pub(super) zone: String,
    names: Arc<Names>,
    operators: Arc<Operators>,
}

impl Viewer {
    /// The viewer with the token of a request. `parse` reads the rest of the request, knowing
    /// whether the token may see operators, and the account's entry: its errors come after those of
    /// the token and before that of the account.
    pub(super) fn of<T>(
        known: &Known,
        headers: &HeaderMap,
        parse: impl FnOnce(bool, Option<&AccountEntry>) -> Result<T, Problem>,
    ) -> Result<(Self, T), Problem> {
        Self::with_token(known, auth::token(headers)?, parse)
    }

    /// The same viewer by the directory of now.
    pub(super) fn again(&self, known: &Known) -> Result<Self, Problem> {
        let (viewer, ()) = Self::with_token(known, self.token, |_, _| Ok(()))?;
        Ok(viewer)
    }

    fn with_token<T>(
        known: &Known,
        token: SecretHash,
        parse: impl FnOnce(bool, Option<&AccountEntry>) -> Result<T, Problem>,
    ) -> Result<(Self, T), Problem> {
        known.check()?;
        let (directory, now_ms) = (&known.directory, clock::now_ms());
        let Grant { account, scope } =
            directory.grant(&token, now_ms).ok_or(Problem::Unauthorized { token_given: true })?;
        let (bots, operators) = match scope {
            Scope::Account => (None, true),
            Scope::View { bots, operators } => (bots, operators),
            Scope::Bot(_) => return Err(Problem::Forbidden),
        };
        let entry = directory.account(account);
        let parsed = parse(operators, entry)?;
        let entry = entry.filter(|entry| !entry.removed).ok_or(Problem::NotFound)?;
        let seen = Seen {
            account: account.clone(),
            bots,
            operators,
            generation: known.generation,
            quarter: now_ms.div_euclid(QUARTER_MS),
        };
        let viewer = Self {
            token,
            seen,
            name: entry.shown_name(account).to_owned(),
            zone: entry.timezone.clone(),
            names: directory.names(account),
            operators: directory.operators(account),
        };
        Ok((viewer, parsed))
    }

    pub(super) fn token(&self) -> SecretHash {
        self.token
    }

    /// True if both see the same.
    pub(super) fn sees_as_much_as(&self, other: &Viewer) -> bool {
        let of = |viewer: &Viewer| (viewer.seen.account.clone(), viewer.seen.operators);
        of(self) == of(other) && self.seen.bots == other.seen.bots
    }

    /// The bots to ask an ingest for; `None` is all.
    ///
    /// # Errors
    /// [`Problem::NoBot`] if the question is about a bot that is not there, removed, or unseen.
    pub(super) fn asked(&self, bots: &BotFilter) -> Result<Option<Vec<Bot>>, Problem> {
        let BotFilter::Id(bot) = bots else {
            return Ok(self.seen.asked());
        };
        let is_seen = self.seen.bots.as_ref().is_none_or(|bots| bots.contains(bot));
        let is_there = self.names.get(bot).is_some_and(|entry| !entry.removed);
        if is_seen && is_there { Ok(Some(vec![bot.clone()])) } else { Err(Problem::NoBot) }
    }

    /// The entries of the bots that the token sees, removed ones included.
    pub(super) fn names(&self) -> Arc<Names> {
        let Some(seen) = &self.seen.bots else {
            return Arc::clone(&self.names);
        };
        let entry = |bot: &Bot| self.names.get(bot).map(|entry| (bot.clone(), entry.clone()));
        Arc::new(seen.iter().filter_map(entry).collect())
    }

    /// What the operators are called, if the token may see them.
    pub(super) fn operators(&self) -> Arc<Operators> {
        if self.seen.operators { Arc::clone(&self.operators) } else { Arc::default() }
    }

    pub(super) fn labels(&self) -> Labels {
        Labels { bots: self.names(), operators: self.operators() }
    }
}
