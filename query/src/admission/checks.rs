//! The checks of a call, in the contract's order: token, its scope, parameters, `Accept`, account
//! and key, all from memory. What they found is checked again against NATS before the call is
//! claimed.

use std::time::Instant;

use botstats_common::directory::{AccountEntry, BotEntry, time_zone};
use botstats_common::ids::{Account, Bot};
use botstats_common::io::clock;
use botstats_common::names::{account_key, bot_key};
use botstats_common::secret::SecretHash;
use http::HeaderMap;

use super::allowance::{AllowanceKey, Policy};
use super::directory::{Grant, Scope, has_token};
use crate::answer::Format;
use crate::http::Coding;
use crate::nats::watch::Known;
use crate::nats::{Connection, entries};
use crate::problem::Problem;
use crate::request::accept;
use crate::request::auth;
use crate::request::question::{BotFilter, Dates, Question};
use crate::window;

/// Which of the two calls is made, with the raw segments of its path.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Endpoint<'a> {
    /// The account's: APIKEY, TYPES, GROUPMODE, DAYS.
    Account([&'a str; 4]),
    /// The bot's: TYPES, GROUPMODE, DAYS.
    Bot([&'a str; 3]),
}

impl Endpoint<'_> {
    /// Whose call is used.
    pub(crate) fn policy(self) -> Policy {
        match self {
            Endpoint::Account(_) => Policy::Account,
            Endpoint::Bot(_) => Policy::Bot,
        }
    }

    fn parse(self, query: Option<&str>) -> Result<Question, Problem> {
        let parsed = match self {
            Endpoint::Account(segments) => Question::parse(segments, query),
            Endpoint::Bot(segments) => Question::parse_for_bot(segments, query),
        };
        parsed.map_err(Problem::Parameter)
    }
}

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
    /// Whose call is used.
    pub(crate) policy: Policy,
    /// Under which key of the allowance.
    pub(crate) key: AllowanceKey,
    token: SecretHash,
}

/// The entries of a call as they are in NATS now: they allow the answer.
#[derive(Debug)]
pub(crate) struct Allowed {
    pub(crate) account: AccountEntry,
    pub(crate) bot: Option<(Bot, BotEntry)>,
}

impl Call {
    /// Checks a call against the directory in memory, at `now_ms` (Unix milliseconds).
    /// `before_copies` is asked once all is known to be right, before anything is copied: most
    /// calls that are refused are refused there.
    pub(crate) fn check(
        known: &Known,
        headers: &HeaderMap,
        endpoint: Endpoint<'_>,
        query: Option<&str>,
        now_ms: i64,
        before_copies: impl FnOnce(&AllowanceKey) -> Result<(), Problem>,
    ) -> Result<Call, Problem> {
        let token = auth::token(headers)?;
        known.check()?;
        let directory = &known.directory;
        let Grant { account, scope } =
            directory.grant(&token, now_ms).ok_or(Problem::Unauthorized { token_given: true })?;
        let own_bot = match (endpoint, scope) {
            (Endpoint::Account(_), Scope::Account) => None,
            (Endpoint::Bot(_), Scope::Bot(bot)) => Some(bot),
            (_, Scope::Account | Scope::Bot(_) | Scope::View { .. }) => {
                return Err(Problem::Forbidden);
            }
        };
        let question = endpoint.parse(query)?;
        let entry = directory.account(account);
        check_dates(&question, entry, now_ms)?;
        let format = accept::format(headers).map_err(Problem::NotAcceptable)?;
        let coding = accept::coding(headers).map_err(Problem::NotAcceptable)?;
        let entry = entry.filter(|entry| !entry.removed).ok_or(Problem::NotFound)?;
        let asked = match &question.bots {
            BotFilter::ApiKey(key) => {
                Some(directory.bot_of(account, key).ok_or(Problem::NotFound)?)
            }
            // A call never names a bot by its id.
            BotFilter::All | BotFilter::OfToken | BotFilter::Id(_) => own_bot.as_ref(),
        };
        let bot = match asked {
            Some(bot) => Some((bot, directory.bot(account, bot).ok_or(Problem::NotFound)?)),
            None => None,
        };
        let policy = endpoint.policy();
        let key = match &own_bot {
            Some(bot) => AllowanceKey::from((account, bot)),
            None => AllowanceKey::from(account),
        };
        before_copies(&key)?;
        let bot = bot.map(|(bot, entry)| (bot.clone(), entry.clone()));
        let (account, entry) = (account.clone(), entry.clone());
        Ok(Call { question, format, coding, account, entry, bot, policy, key, token })
    }

    /// Checks the call against its entries in NATS.
    pub(crate) async fn check_again(
        &self,
        connection: &Connection,
        deadline: Instant,
    ) -> Result<Allowed, Problem> {
        let key = account_key(&self.account);
        let (account, bot) = tokio::join!(
            entries::get(&connection.js, &key, AccountEntry::parse, deadline),
            self.bot_now(connection, deadline),
        );
        let account = account?.in_force(Some(self.entry.clone()));
        match self.policy {
            Policy::Account => {
                let account = self.checked_account(account)?;
                Ok(Allowed { account, bot: self.checked_bot(bot?)? })
            }
            // The token is the bot's, so it is looked for before the account.
            Policy::Bot => {
                let bot = self.checked_bot(bot?)?;
                let account = account.filter(|entry| !entry.removed).ok_or(Problem::NotFound)?;
                Ok(Allowed { account, bot })
            }
        }
    }

    /// The token must still be in the account's entry, and the account not removed.
    fn checked_account(&self, entry: Option<AccountEntry>) -> Result<AccountEntry, Problem> {
        let entry = entry
            .filter(|entry| has_token(&entry.tokens, &self.token, clock::now_ms()))
            .ok_or(Problem::Unauthorized { token_given: true })?;
        if entry.removed { Err(Problem::NotFound) } else { Ok(entry) }
    }

    /// The API key or the token must still be in the bot's entry, and the bot not removed.
    fn checked_bot(&self, entry: Option<BotEntry>) -> Result<Option<(Bot, BotEntry)>, Problem> {
        let Some((bot, _)) = &self.bot else {
            return Ok(None);
        };
        let entry = entry.filter(|entry| !entry.removed);
        let (entry, otherwise) = match &self.question.bots {
            BotFilter::ApiKey(key) => {
                (entry.filter(|entry| entry.key_sha256.as_ref() == Some(key)), Problem::NotFound)
            }
            BotFilter::All | BotFilter::OfToken | BotFilter::Id(_) => {
                let now_ms = clock::now_ms();
                let entry = entry.filter(|entry| has_token(&entry.tokens, &self.token, now_ms));
                (entry, Problem::Unauthorized { token_given: true })
            }
        };
        Ok(Some((bot.clone(), entry.ok_or(otherwise)?)))
    }

    /// The entry of the bot asked for; `None` if there is none, or all are asked for.
    async fn bot_now(
        &self,
        connection: &Connection,
        deadline: Instant,
    ) -> Result<Option<BotEntry>, Problem> {
        let Some((bot, known)) = &self.bot else {
            return Ok(None);
        };
        let key = bot_key(&self.account, bot);
        let entry = entries::get(&connection.js, &key, BotEntry::parse, deadline).await?;
        Ok(entry.in_force(Some(known.clone())))
    }
}

/// Checks that a question does not ask for dates after today, in the account's time zone.
pub(crate) fn check_dates(
    question: &Question,
    entry: Option<&AccountEntry>,
    now_ms: i64,
) -> Result<(), Problem> {
    if let (Dates::FromTo(..), Some(entry)) = (question.dates, entry) {
        let zone = time_zone(&entry.timezone).map_err(|_| Problem::Internal)?;
        window::check_dates(now_ms, &zone, question).map_err(Problem::Parameter)?;
    }
    Ok(())
}
