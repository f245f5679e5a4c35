//! `botstats account` and `botstats token`.

use std::collections::BTreeMap;

use anyhow::Context as _;
use botstats_common::directory::{AccountEntry, TokenEntry, check_name};
use botstats_common::ids::Account;
use botstats_common::io::clock;
use botstats_common::io::nats::{NatsSettings, Role};
use botstats_common::io::zoneinfo::ZoneSettings;
use botstats_common::secret::{self, SecretHash, SecretKind};
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::rules::{self, AccountChange};
use super::zones;
use super::{Directory, Entry};
use crate::output::{Align, Answer, BadUsage, counted, printable, table};

/// Random bytes in a token's id.
const TOKEN_ID_BYTES: usize = 4;

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
        /// Bring back a removed account; its old tokens stay revoked
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

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make one more token of an account; prints it, once
    #[command(after_long_help = "EXAMPLES\n  \
        botstats token add acme --json | jq -r .token > acme.token\n\n\
        To replace a token: add one, put it in use, then revoke the old one.")]
    Add {
        /// The account's id
        account: Account,
    },
    /// List the tokens of an account, or of all; ids only, nobody has the tokens themselves
    List {
        /// The account's id
        account: Option<Account>,
    },
    /// End a token: from now on it gets a 401
    Revoke {
        /// The account's id
        account: Account,
        /// The token's id, as `botstats token list` shows it (not the token itself)
        token_id: String,
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

/// Makes a token: the secret to show and the entry to keep.
pub(crate) fn new_token(
    id_prefix: &str,
    now_ms: i64,
) -> Result<(SecretString, TokenEntry), getrandom::Error> {
    let token = secret::generate(SecretKind::Token)?;
    let mut random = [0_u8; TOKEN_ID_BYTES];
    getrandom::fill(&mut random)?;
    let id = random.iter().fold(id_prefix.to_owned(), |id, byte| format!("{id}{byte:02x}"));
    let sha256 = SecretHash::of(token.expose_secret());
    Ok((token, TokenEntry { id, sha256, created: clock::rfc3339_ms(now_ms) }))
}

/// The time zone of `--timezone` by its IANA name. Call it after the source of zones is set.
fn time_zone(text: Option<&str>) -> Result<Option<String>, BadUsage> {
    let parsed = text.map(zones::parse).transpose();
    parsed.map_err(|why| BadUsage(format!("--timezone: {why}")))
}

async fn open(nats: &NatsSettings) -> anyhow::Result<Directory> {
    let client = nats.connect(Role::Admin).await?;
    Ok(Directory::open(&nats.jetstream(&client)).await?)
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
            let (token, entry) = new_token("t", clock::now_ms())
                .context("the operating system gives no random bytes")?;
            let added = directory
                .change_account(&account, |current| {
                    rules::add_account(current, &change, entry.clone(), restore)
                })
                .await?;
            let what = format!("account {account} added (time zone {})", added.timezone);
            Ok(token_answer(&what, &account, &entry.id, &token))
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
        AccountCommand::List => Ok(account_list(&directory.list().await?)),
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

pub(crate) async fn token(command: TokenCommand, nats: &NatsSettings) -> anyhow::Result<Answer> {
    let directory = open(nats).await?;
    match command {
        TokenCommand::Add { account } => {
            let (token, entry) = new_token("t", clock::now_ms())
                .context("the operating system gives no random bytes")?;
            directory
                .change_account(&account, |current| rules::add_token(current, entry.clone()))
                .await?;
            let what = format!("account {account} has a new token");
            Ok(token_answer(&what, &account, &entry.id, &token))
        }
        TokenCommand::List { account: Some(account) } => {
            let entry = directory.account(&account).await?;
            let entry = entry.with_context(|| format!("there is no account {account}"))?;
            Ok(token_list(&[(&account, &entry)]))
        }
        TokenCommand::List { account: None } => {
            let entries = directory.list().await?;
            let accounts: Vec<_> = entries
                .iter()
                .filter_map(|entry| match entry {
                    Entry::Account(account, Ok(entry)) => Some((account, entry)),
                    _ => None,
                })
                .collect();
            Ok(token_list(&accounts))
        }
        TokenCommand::Revoke { account, token_id } => {
            directory
                .change_account(&account, |current| rules::revoke_token(current, &token_id))
                .await?;
            let text = format!("token {token_id} of account {account} revoked");
            Ok(Answer::new(text, json!({"account": account, "revoked": token_id})))
        }
    }
}

fn token_answer(what: &str, account: &Account, id: &str, token: &SecretString) -> Answer {
    let token = token.expose_secret();
    let text = format!(
        "{what}\n\n  token {id}: {token}\n\nIt is shown this once. To use it:\n  \
         BOTSTATS_TOKEN={token} botstats stats"
    );
    Answer::new(text, json!({"account": account, "token_id": id, "token": token}))
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

fn token_list(accounts: &[(&Account, &AccountEntry)]) -> Answer {
    let (mut rows, mut json) = (Vec::new(), Vec::new());
    for (account, entry) in accounts {
        for token in &entry.tokens {
            let state = if entry.removed { "account removed" } else { "" };
            let (id, created) = (printable(&token.id), printable(&token.created));
            rows.push(vec![account.to_string(), id, created, state.to_owned()]);
            json.push(json!({
                "account": account, "token_id": token.id, "created": token.created,
                "account_removed": entry.removed,
            }));
        }
    }
    if rows.is_empty() {
        return Answer::new("no tokens; make one with `botstats token add`", json!([]));
    }
    let columns = [
        ("ACCOUNT", Align::Left),
        ("TOKEN ID", Align::Left),
        ("CREATED", Align::Left),
        ("STATE", Align::Left),
    ];
    Answer::new(table(&columns, &rows), serde_json::Value::from(json))
}

pub(super) fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
