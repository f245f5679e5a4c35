//! The checks of a call, in the contract's order: token, parameters, `Accept`, account and key, all
//! from memory. What they found is checked again against NATS before the call is claimed.

use std::time::Instant;

use botstats_common::directory::{AccountEntry, BotEntry};
use botstats_common::ids::{Account, Bot};
use botstats_common::secret::SecretHash;
use http::HeaderMap;

use crate::answer::Format;
use crate::http::Coding;
use crate::nats::watch::Known;
use crate::nats::{Connection, entries};
use crate::problem::Problem;
use crate::request::accept;
use crate::request::auth;
use crate::request::question::{BotFilter, Question};

/// A call that passed every check that needs no NATS.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) question: Question,
    pub(crate) format: Format,
    pub(crate) coding: Coding,
    pub(crate) account: Account,
    /// The account's entry in memory.
    pub(crate) entry: AccountEntry,
    /// The bot asked for, with its entry in memory.
    pub(crate) bot: Option<(Bot, BotEntry)>,
    token: SecretHash,
}

/// The entries of a call as they are in NATS now: they allow the answer.
#[derive(Debug)]
pub(crate) struct Allowed {
    pub(crate) account: AccountEntry,
    pub(crate) bot: Option<(Bot, BotEntry)>,
}

impl Call {
    /// Checks a call against the directory in memory. `before_copies` is asked once all is known to
    /// be right, before anything is copied: most calls that are refused are refused there.
    pub(crate) fn check(
        known: &Known,
        headers: &HeaderMap,
        segments: [&str; 4],
        query: Option<&str>,
        before_copies: impl FnOnce(&Account) -> Result<(), Problem>,
    ) -> Result<Call, Problem> {
        let token = auth::token(headers)?;
        if !known.loaded {
            return Err(Problem::Unavailable("the directory cannot be reached"));
        }
        if known.refused {
            return Err(Problem::Unavailable("the directory is not as it must be"));
        }
        let directory = &known.directory;
        let account =
            directory.holder(&token).ok_or(Problem::Unauthorized { token_given: true })?;
        let question = Question::parse(segments, query).map_err(Problem::Parameter)?;
        let format = accept::format(headers).map_err(Problem::NotAcceptable)?;
        let coding = accept::coding(headers).map_err(Problem::NotAcceptable)?;
        let entry = directory.account(account).filter(|entry| !entry.removed);
        let entry = entry.ok_or(Problem::NotFound)?;
        let bot = match &question.bots {
            BotFilter::All => None,
            BotFilter::ApiKey(key) => {
                let bot = directory.bot_of(account, key).ok_or(Problem::NotFound)?;
                Some((bot, directory.bot(account, bot).ok_or(Problem::NotFound)?))
            }
        };
        before_copies(account)?;
        let bot = bot.map(|(bot, entry)| (bot.clone(), entry.clone()));
        let (account, entry) = (account.clone(), entry.clone());
        Ok(Call { question, format, coding, account, entry, bot, token })
    }

    /// Checks the call against its entries in NATS.
    pub(crate) async fn check_again(
        &self,
        connection: &Connection,
        deadline: Instant,
    ) -> Result<Allowed, Problem> {
        let (account, bot) = tokio::join!(
            entries::account(&connection.js, &self.account, deadline),
            self.bot_now(connection, deadline),
        );
        let account = self.checked_account(account?.in_force(Some(self.entry.clone())))?;
        Ok(Allowed { account, bot: bot? })
    }

    /// The token must still be in the account's entry, and the account not removed.
    fn checked_account(&self, entry: Option<AccountEntry>) -> Result<AccountEntry, Problem> {
        let entry = entry
            .filter(|entry| entry.tokens.iter().any(|token| token.sha256 == self.token))
            .ok_or(Problem::Unauthorized { token_given: true })?;
        if entry.removed { Err(Problem::NotFound) } else { Ok(entry) }
    }

    /// The API key must still be in the bot's entry, and the bot not removed.
    async fn bot_now(
        &self,
        connection: &Connection,
        deadline: Instant,
    ) -> Result<Option<(Bot, BotEntry)>, Problem> {
        let (Some((bot, known)), BotFilter::ApiKey(key)) = (&self.bot, &self.question.bots) else {
            return Ok(None);
        };
        let entry = entries::bot(&connection.js, &self.account, bot, deadline).await?;
        let entry = entry
            .in_force(Some(known.clone()))
            .filter(|entry| !entry.removed && entry.key_sha256.as_ref() == Some(key))
            .ok_or(Problem::NotFound)?;
        Ok(Some((bot.clone(), entry)))
    }
}
