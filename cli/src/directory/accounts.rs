//! `botstats account`.

use std::collections::BTreeMap;

use anyhow::Context as _;
use botstats_common::directory::{AccountEntry, Expires, check_name};
use botstats_common::ids::Account;
use botstats_common::io::clock;
use botstats_common::io::nats::NatsSettings;
use botstats_common::io::zoneinfo::ZoneSettings;
use clap::{Args, Subcommand};
use serde_json::json;

use super::rules::{self, AccountChange};
use super::{Entry, open, tokens, zones};
use crate::output::{Align, Answer, BadUsage, counted, printable, table};

#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// Make an account; prints its token, once
    #[command(after_long_help = "EXAMPLES\n  \
        botstats account add acme --name 'Acme Ltd' --timezone Europe/Rome\n  \
        botstats account add acme --restore      bring a removed one back, with its old rows\n  \
        botstats account add acme --json | jq -r .token > acme.token")]
    Add {
        /// The account's id: 1 to 64 of A-Z a-z 0-9 _ -; the first token of its events' subjects
        account: Account,
        /// Name and so on
        #[command(flatten)]
        what: NewAccount,
        /// Where time zones come from
        #[command(flatten)]
        zones: ZoneSettings,
        /// Bring back a removed account; its old tokens, those of its bots and its share links stay
        /// revoked
        #[arg(long)]
        restore: bool,
    },
    /// Change name or time zone; what is not given stays
    #[command(after_long_help = "EXAMPLES\n  \
        botstats account set acme --timezone America/New_York\n  \
        botstats account set acme --name ''      take the name away, so that the id shows")]
    Set {
        /// The account's id
        account: Account,
        /// Name and so on
        #[command(flatten)]
        what: ChangedAccount,
        /// Where time zones come from
        #[command(flatten)]
        zones: ZoneSettings,
    },
    /// List all accounts, removed ones too
    List,
    /// Remove an account: its tokens end, its rows stay; `add --restore` brings it back
    Remove {
        /// The account's id
        account: Account,
    },
}

/// What a new account may have.
#[derive(Debug, Args)]
pub(crate) struct NewAccount {
    /// Name to show; the id if absent
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    /// IANA time zone in which its days are counted, such as Europe/Rome [default: UTC]
    #[arg(long, value_name = "TZ")]
    timezone: Option<String>,
}

/// What can be changed of an account.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct ChangedAccount {
    /// Name to show; '' takes it away
    #[arg(long, value_name = "NAME", value_parser = name_or_none)]
    name: Option<NameOrNone>,
    /// IANA time zone in which its days are counted; takes effect at once, for old rows too
    #[arg(long, value_name = "TZ")]
    timezone: Option<String>,
}

/// A name, or none where an empty text was given.
#[derive(Debug, Clone)]
pub(crate) struct NameOrNone(pub Option<String>);

pub(super) fn name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned()).map_err(|e| e.to_string())
}

pub(super) fn name_or_none(text: &str) -> Result<NameOrNone, String> {
    if text.is_empty() { Ok(NameOrNone(None)) } else { name(text).map(|n| NameOrNone(Some(n))) }
}

/// The time zone of `--timezone` by its IANA name. Call it after the source of zones is set.
fn time_zone(text: Option<&str>) -> Result<Option<String>, BadUsage> {
    let parsed = text.map(zones::parse).transpose();
    parsed.map_err(|why| BadUsage(format!("--timezone: {why}")))
}

pub(crate) async fn account(
    command: AccountCommand,
    nats: &NatsSettings,
) -> anyhow::Result<Answer> {
    let timezone = match &command {
        AccountCommand::Add { what: NewAccount { timezone, .. }, zones, .. }
        | AccountCommand::Set { what: ChangedAccount { timezone, .. }, zones, .. } => {
            zones.start();
            time_zone(timezone.as_deref())?
        }
        AccountCommand::List | AccountCommand::Remove { .. } => None,
    };
    let directory = open(nats).await?;
    match command {
        AccountCommand::Add { account, what, restore, .. } => {
            let change = AccountChange { name: what.name.map(Some), timezone };
            let secret = tokens::new_token(tokens::ACCOUNT_PREFIX, clock::now_ms(), Expires::Never);
            let (token, entry) = secret.context(tokens::NO_RANDOM)?;
            // Old tokens stay revoked, those of its bots and its share links too.
            if restore && directory.account(&account).await?.is_some_and(|entry| entry.removed) {
                directory.end_narrow_tokens(&account).await?;
            }
            let added = directory
                .change_account(&account, |current| {
                    rules::add_account(current, &change, entry.clone(), restore)
                })
                .await?;
            let what = format!("account {account} added (time zone {})", added.timezone);
            Ok(tokens::account_answer(&what, &account, &entry, &token))
        }
        AccountCommand::Set { account, what, .. } => {
            let change = AccountChange { name: what.name.map(|name| name.0), timezone };
            let entry = directory
                .change_account(&account, |current| rules::set_account(current, &change))
                .await?;
            let shown = printable(entry.shown_name(&account));
            let text = format!("account {account}: name {shown}, time zone {}", entry.timezone);
            Ok(Answer::new(text, account_json(&account, &entry, 0)))
        }
        AccountCommand::List => Ok(account_list(&directory.list(None).await?)),
        AccountCommand::Remove { account } => {
            directory.change_account(&account, rules::remove_account).await?;
            let text = format!(
                "account {account} removed: its tokens get a 404 from now on; \
                 `botstats account add {account} --restore` brings it back"
            );
            Ok(Answer::new(text, json!({"account": account, "removed": true})))
        }
    }
}

fn account_json(account: &Account, entry: &AccountEntry, bots: usize) -> serde_json::Value {
    let tokens: Vec<&str> = entry.tokens.iter().map(|token| token.id.as_str()).collect();
    json!({
        "account": account, "name": entry.name, "timezone": entry.timezone, "token_ids": tokens,
        "bots": bots, "removed": entry.removed,
    })
}

fn account_list(entries: &[Entry]) -> Answer {
    let mut bots: BTreeMap<&Account, usize> = BTreeMap::new();
    for entry in entries {
        if let Entry::Bot(account, _, Ok(bot)) = entry
            && !bot.removed
        {
            *bots.entry(account).or_default() += 1;
        }
    }
    let (mut rows, mut json) = (Vec::new(), Vec::new());
    for entry in entries {
        let Entry::Account(account, entry) = entry else { continue };
        let bots = bots.get(account).copied().unwrap_or_default();
        match entry {
            Ok(entry) => {
                let state = if entry.removed { "removed" } else { "" };
                let name = printable(entry.shown_name(account));
                let counts = [entry.tokens.len().to_string(), bots.to_string()];
                let [tokens, bots_shown] = counts;
                rows.push(vec![
                    account.to_string(),
                    name,
                    entry.timezone.clone(),
                    tokens,
                    bots_shown,
                    state.to_owned(),
                ]);
                json.push(account_json(account, entry, bots));
            }
            Err(error) => {
                rows.push(vec![account.to_string(), format!("(bad value: {error})")]);
                json.push(json!({"account": account, "error": error.to_string()}));
            }
        }
    }
    if rows.is_empty() {
        return Answer::new("no accounts yet; make one with `botstats account add`", json!([]));
    }
    let columns = [
        ("ACCOUNT", Align::Left),
        ("NAME", Align::Left),
        ("TIME ZONE", Align::Left),
        ("TOKENS", Align::Right),
        ("BOTS", Align::Right),
        ("STATE", Align::Left),
    ];
    let text = format!("{}{}", table(&columns, &rows), counted(to_u64(rows.len()), "account"));
    Answer::new(text, serde_json::Value::from(json))
}

pub(super) fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
