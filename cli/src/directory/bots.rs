//! `botstats bot` and `botstats key`.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use botstats_common::directory::BotEntry;
use botstats_common::ids::{Account, Bot, Channel};
use botstats_common::io::nats::NatsSettings;
use botstats_common::secret::{self, SecretHash, SecretKind};
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::accounts::{self, NameOrNone, to_u64};
use super::rules::{self, BotChange};
use super::{Entry, must_live, open};
use crate::output::{Align, Answer, counted, printable, table};

#[derive(Debug, Subcommand)]
pub(crate) enum BotCommand {
    /// Make a bot of an account; prints its API key, once
    #[command(after_long_help = "EXAMPLES\n  \
        botstats bot add acme pizza --name Pizza --channel web=Web --channel wa=WhatsApp\n  \
        botstats bot add acme pizza --restore      bring a removed one back, with its old rows")]
    Add {
        /// The account's id; the account must exist
        account: Account,
        /// The bot's id: 1 to 64 of A-Z a-z 0-9 _ -; the second token of its events' subjects
        bot: Bot,
        /// Name and so on
        #[command(flatten)]
        what: NewBot,
        /// Bring back a removed bot; its old key and tokens stay gone
        #[arg(long)]
        restore: bool,
    },
    /// Change a bot's name or names of its channels; what is not given stays
    #[command(after_long_help = "EXAMPLES\n  \
        botstats bot set acme pizza --channel sms=SMS\n  \
        botstats bot set acme pizza --channel sms=      take the channel's name away\n  \
        botstats bot set acme pizza --name ''           take the bot's name away")]
    Set {
        /// The account's id
        account: Account,
        /// The bot's id
        bot: Bot,
        /// Name and so on
        #[command(flatten)]
        what: ChangedBot,
    },
    /// List the bots of an account, or of all; removed ones too
    List {
        /// The account's id
        account: Option<Account>,
    },
    /// Remove a bot: its key and tokens end, its rows stay under its name; `add --restore` brings
    /// it back
    Remove {
        /// The account's id
        account: Account,
        /// The bot's id
        bot: Bot,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Replace a bot's API key; prints the new one, once; the old one gets a 404 from now on
    Rotate {
        /// The account's id
        account: Account,
        /// The bot's id
        bot: Bot,
    },
}

/// What a new bot may have.
#[derive(Debug, Args)]
pub(crate) struct NewBot {
    /// Name to show; the id if absent
    #[arg(long, value_name = "NAME", value_parser = accounts::name)]
    name: Option<String>,
    /// Name to show for a channel; may be given several times
    #[arg(long = "channel", value_name = "ID=NAME", value_parser = channel)]
    channels: Vec<ChannelName>,
}

/// What can be changed of a bot.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct ChangedBot {
    /// Name to show; '' takes it away
    #[arg(long, value_name = "NAME", value_parser = accounts::name_or_none)]
    name: Option<NameOrNone>,
    /// Name to show for a channel, `ID=` takes it away; may be given several times
    #[arg(long = "channel", value_name = "ID=NAME", value_parser = channel)]
    channels: Vec<ChannelName>,
}

/// A channel, with its new name or without a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChannelName(Channel, Option<String>);

fn channel(text: &str) -> Result<ChannelName, String> {
    let (id, name) = text.split_once('=').ok_or("ID=NAME is needed, such as web=Web")?;
    let id = id.parse().map_err(|e: botstats_common::ids::IdError| e.to_string())?;
    Ok(ChannelName(id, accounts::name_or_none(name)?.0))
}

fn channels(given: Vec<ChannelName>) -> BTreeMap<Channel, Option<String>> {
    given.into_iter().map(|ChannelName(id, name)| (id, name)).collect()
}

fn new_key() -> anyhow::Result<(SecretString, SecretHash)> {
    let key = secret::generate(SecretKind::ApiKey)
        .context("the operating system gives no random bytes")?;
    let hash = SecretHash::of(key.expose_secret());
    Ok((key, hash))
}

pub(crate) async fn bot(command: BotCommand, nats: &NatsSettings) -> anyhow::Result<Answer> {
    let directory = open(nats).await?;
    match command {
        BotCommand::Add { account, bot, what, restore } => {
            must_live(&directory, &account).await?;
            let change = BotChange { name: what.name.map(Some), channels: channels(what.channels) };
            let (key, hash) = new_key()?;
            directory
                .change_bot(&account, &bot, |current| {
                    rules::add_bot(current, &change, hash, restore)
                })
                .await?;
            Ok(key_answer(&format!("bot {bot} of account {account} added"), &account, &bot, &key))
        }
        BotCommand::Set { account, bot, what } => {
            let change =
                BotChange { name: what.name.map(|name| name.0), channels: channels(what.channels) };
            let entry = directory
                .change_bot(&account, &bot, |current| rules::set_bot(current, &change))
                .await?;
            let mut text = format!(
                "bot {bot} of account {account}: name {}",
                printable(entry.shown_name(&bot))
            );
            let names = channel_names(&entry);
            if !names.is_empty() {
                text.push_str(&format!(", channels {names}"));
            }
            Ok(Answer::new(text, bot_json(&account, &bot, &entry)))
        }
        BotCommand::List { account } => {
            if let Some(account) = &account
                && directory.account(account).await?.is_none()
            {
                bail!("there is no account {account}; `botstats account list` shows all")
            }
            Ok(list(&directory.list(account.as_ref()).await?))
        }
        BotCommand::Remove { account, bot } => {
            directory.change_bot(&account, &bot, rules::remove_bot).await?;
            let text = format!(
                "bot {bot} of account {account} removed: its key gets a 404 from now on, its \
                 tokens a 401, its rows stay; `botstats bot add {account} {bot} --restore` brings it back"
            );
            Ok(Answer::new(text, json!({"account": account, "bot": bot, "removed": true})))
        }
    }
}

pub(crate) async fn key(command: KeyCommand, nats: &NatsSettings) -> anyhow::Result<Answer> {
    let KeyCommand::Rotate { account, bot } = command;
    let directory = open(nats).await?;
    let (key, hash) = new_key()?;
    directory.change_bot(&account, &bot, |current| rules::rotate_key(current, hash)).await?;
    let what = format!("bot {bot} of account {account} has a new API key; the old one is gone");
    Ok(key_answer(&what, &account, &bot, &key))
}

fn key_answer(what: &str, account: &Account, bot: &Bot, key: &SecretString) -> Answer {
    let key = key.expose_secret();
    let text = format!(
        "{what}\n\n  API key: {key}\n\nThe key is shown this once. The bot's events go to \
         botstats.events.{account}.{bot}.<channel>"
    );
    Answer::new(text, json!({"account": account, "bot": bot, "key": key}))
}

fn bot_json(account: &Account, bot: &Bot, entry: &BotEntry) -> serde_json::Value {
    json!({
        "account": account, "bot": bot, "name": entry.name, "channels": entry.channels,
        "has_key": entry.key_sha256.is_some(), "removed": entry.removed,
    })
}

fn channel_names(entry: &BotEntry) -> String {
    let names: Vec<String> =
        entry.channels.iter().map(|(id, name)| format!("{id}={}", printable(name))).collect();
    names.join(", ")
}

fn list(entries: &[Entry]) -> Answer {
    let (mut rows, mut json) = (Vec::new(), Vec::new());
    for entry in entries {
        let Entry::Bot(account, bot, entry) = entry else { continue };
        match entry {
            Ok(entry) => {
                let state = match (entry.removed, &entry.key_sha256) {
                    (true, _) => "removed",
                    (false, None) => "no key",
                    (false, Some(_)) => "",
                };
                let name = printable(entry.shown_name(bot));
                let channels = channel_names(entry);
                let ids = [account.to_string(), bot.to_string()];
                rows.push([ids.to_vec(), vec![name, channels, state.to_owned()]].concat());
                json.push(bot_json(account, bot, entry));
            }
            Err(error) => {
                let shown = format!("(bad value: {error})");
                rows.push(vec![account.to_string(), bot.to_string(), shown]);
                json.push(json!({"account": account, "bot": bot, "error": error.to_string()}));
            }
        }
    }
    if rows.is_empty() {
        return Answer::new("no bots; make one with `botstats bot add`", json!([]));
    }
    let columns =
        ["ACCOUNT", "BOT", "NAME", "CHANNELS", "STATE"].map(|column| (column, Align::Left));
    let text = format!("{}{}", table(&columns, &rows), counted(to_u64(rows.len()), "bot"));
    Answer::new(text, serde_json::Value::from(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_arguments() {
        let id = |text: &str| text.parse::<Channel>().unwrap();
        for (text, expect) in [
            ("web=Web", Some((id("web"), Some("Web")))),
            ("wa=A=B", Some((id("wa"), Some("A=B")))),
            ("sms=", Some((id("sms"), None))),
            ("web", None),
            ("=Web", None),
            ("a.b=Web", None),
            ("web=a\tb", None),
        ] {
            let expect = expect.map(|(id, name)| ChannelName(id, name.map(str::to_owned)));
            assert_eq!(channel(text).ok(), expect, "{text}");
        }
    }
}
