//! `botstats token`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use botstats_common::directory::{Bots, Expires, TokenEntry, ViewEntry};
use botstats_common::ids::{Account, Bot, TokenId};
use botstats_common::io::clock;
use botstats_common::io::nats::NatsSettings;
use botstats_common::io::settings::duration;
use botstats_common::names::{account_key, bot_key};
use botstats_common::secret::{self, SecretHash, SecretKind};
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::rules::{self, Refusal};
use super::store::ChangeError;
use super::{Directory, Entry, must_live, open};
use crate::output::{Align, Answer, printable, table};
use crate::stats;

/// Random bytes in a token's id.
const TOKEN_ID_BYTES: usize = 4;
/// The first letter of the id of an account's token; a bot's and a view token's follow.
pub(crate) const ACCOUNT_PREFIX: &str = "t";
const BOT_PREFIX: &str = "b";
const VIEW_PREFIX: &str = "v";
/// Why no token can be made.
pub(crate) const NO_RANDOM: &str = "the operating system gives no random bytes";
/// A view token ends after 90 days unless `--expires` says otherwise: a link is passed on easily
/// and forgotten easily.
const VIEW_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// The page that a view token opens.
const PAGE: &str = "/dashboard";

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make one more token of an account; prints it, once
    #[command(
        after_long_help = "Without --bot and --view the token may ask for the statistics of the whole account \
        (the account's call).\n\n\
        EXAMPLES\n  \
        botstats token add acme --json | jq -r .token > acme.token\n  \
        botstats token add acme --bot pizza          for the bot's own call\n  \
        botstats token add acme --view               a link to the page, for all bots, for 90 days\n  \
        botstats token add acme --view --only pizza --expires 7d\n\n\
        To replace a token: add one, put it in use, then revoke the old one."
    )]
    Add {
        /// The account's id
        account: Account,
        /// What the token may do
        #[command(flatten)]
        what: NewToken,
    },
    /// List the tokens of an account, or of all; ids only, nobody has the tokens themselves
    List {
        /// The account's id
        account: Option<Account>,
    },
    /// End a token of any kind: from now on it gets a 401
    Revoke {
        /// The account's id
        account: Account,
        /// The token's id, as `botstats token list` shows it (not the token itself)
        token_id: String,
    },
}

/// What a new token may do.
#[derive(Debug, Args)]
pub(crate) struct NewToken {
    /// For the statistics of this bot alone
    #[arg(long, value_name = "BOT", conflicts_with_all = ["view", "only", "operators"])]
    bot: Option<Bot>,
    /// For looking at the page; prints a link that opens it
    #[arg(long)]
    view: bool,
    /// Show only this bot on the page; may be given several times [default: all, new ones too]
    #[arg(long, value_name = "BOT", requires = "view")]
    only: Vec<Bot>,
    /// Show on the page how operators do, with their names
    #[arg(long, requires = "view")]
    operators: bool,
    /// The token ends after this time, such as 12h or 30d [default: never; with --view 90d]
    #[arg(long, value_name = "DURATION", value_parser = life)]
    expires: Option<Duration>,
    /// Where people reach the page, as scheme and host; the link begins with it
    #[arg(long, env = "BOTSTATS_PUBLIC_URL", value_name = "URL", value_parser = stats::base_url)]
    public_url: Option<String>,
}

fn life(text: &str) -> Result<Duration, String> {
    let life = duration(text)?;
    if life.is_zero() { Err("more than 0s is needed".to_owned()) } else { Ok(life) }
}

/// Makes a token: the secret to show and the entry to keep.
pub(crate) fn new_token(
    id_prefix: &str,
    now_ms: i64,
    expires: Expires,
) -> Result<(SecretString, TokenEntry), getrandom::Error> {
    let token = secret::generate(SecretKind::Token)?;
    let mut random = [0_u8; TOKEN_ID_BYTES];
    getrandom::fill(&mut random)?;
    let id = random.iter().fold(id_prefix.to_owned(), |id, byte| format!("{id}{byte:02x}"));
    let sha256 = SecretHash::of(token.expose_secret());
    Ok((token, TokenEntry { id, sha256, created: clock::rfc3339_ms(now_ms), expires }))
}

pub(crate) async fn token(command: TokenCommand, nats: &NatsSettings) -> anyhow::Result<Answer> {
    let directory = open(nats).await?;
    match command {
        TokenCommand::Add { account, what } => add(&directory, &account, what).await,
        TokenCommand::List { account } => {
            if let Some(account) = &account
                && directory.account(account).await?.is_none()
            {
                bail!("there is no account {account}")
            }
            Ok(list(&directory.list(account.as_ref()).await?, clock::now_ms()))
        }
        TokenCommand::Revoke { account, token_id } => {
            revoke(&directory, &account, &token_id).await?;
            let text = format!("token {token_id} of account {account} revoked");
            Ok(Answer::new(text, json!({"account": account, "revoked": token_id})))
        }
    }
}

async fn add(directory: &Directory, account: &Account, what: NewToken) -> anyhow::Result<Answer> {
    let now_ms = clock::now_ms();
    let life = what.expires.or(what.view.then_some(VIEW_LIFE));
    let end_ms =
        life.map(|life| i64::try_from(life.as_millis()).map(|ms| now_ms + ms)).transpose()?;
    let expires = end_ms.map_or(Expires::Never, Expires::at);
    if what.view {
        return add_view(directory, account, what, expires).await;
    }
    let prefix = if what.bot.is_some() { BOT_PREFIX } else { ACCOUNT_PREFIX };
    let (token, entry) = new_token(prefix, now_ms, expires).context(NO_RANDOM)?;
    match &what.bot {
        None => {
            let rule = |current| rules::add_token(current, entry.clone());
            directory.change_account(account, rule).await?;
            Ok(account_answer(
                &format!("account {account} has a new token"),
                account,
                &entry,
                &token,
            ))
        }
        Some(bot) => {
            must_live(directory, account).await?;
            let rule = |current| rules::add_token(current, entry.clone());
            directory.change_bot(account, bot, rule).await?;
            let text = format!(
                "bot {bot} of account {account} has a new token\n\n{}\n\nIt is for the bot's call:\n  \
                 /analytics/statistics/TYPES/GROUPMODE/DAYS",
                shown_token(&entry, &token),
            );
            let mut json = token_json(account, &entry.id, &token, &entry.expires, "bot");
            json["bot"] = json!(bot);
            Ok(Answer::new(text, json))
        }
    }
}

async fn add_view(
    directory: &Directory,
    account: &Account,
    what: NewToken,
    expires: Expires,
) -> anyhow::Result<Answer> {
    must_live(directory, account).await?;
    let only: BTreeSet<Bot> = what.only.into_iter().collect();
    for bot in &only {
        match directory.bot(account, bot).await? {
            Some(entry) if !entry.removed => {}
            _ => {
                bail!("account {account} has no bot {bot}; `botstats bot list {account}` shows all")
            }
        }
    }
    let (token, entry) = new_token(VIEW_PREFIX, clock::now_ms(), expires).context(NO_RANDOM)?;
    let id: TokenId = entry.id.parse()?;
    let bots = if only.is_empty() { Bots::All } else { Bots::Only(Arc::new(only)) };
    let TokenEntry { sha256, created, expires, .. } = entry.clone();
    let view = ViewEntry { sha256, created, expires, bots, operators: what.operators };
    directory.add_view(account, &id, &view).await?;
    let link = link(what.public_url.as_deref().unwrap_or_default(), &token);
    let ends = match view.expires.shown() {
        Some(at) => {
            format!("It ends at {at}; `botstats token revoke {account} {id}` ends it sooner.")
        }
        None => format!("It has no end; `botstats token revoke {account} {id}` ends it."),
    };
    let address = match &what.public_url {
        Some(_) => "",
        None => "\nPut query's address in front of it, or set BOTSTATS_PUBLIC_URL to this address.",
    };
    let text = format!(
        "account {account} has a new link to the page ({})\n\n  {link}\n\nIt is shown this once, and everybody who \
         has it may look. {ends}{address}",
        scope_of_view(&view),
    );
    let mut json = token_json(account, id.as_str(), &token, &view.expires, "view");
    json["bots"] = Value::from(view.bots);
    json["operators"] = json!(view.operators);
    json["link"] = json!(link);
    Ok(Answer::new(text, json))
}

/// The link that opens the page at that URL with that token. A browser does not send what follows
/// the `#`.
pub(crate) fn link(url: &str, token: &SecretString) -> String {
    format!("{url}{PAGE}#{}", token.expose_secret())
}

fn shown_token(entry: &TokenEntry, token: &SecretString) -> String {
    let (id, token) = (&entry.id, token.expose_secret());
    let ends = entry.expires.shown().map(|at| format!(" It ends at {at}.")).unwrap_or_default();
    format!("  token {id}: {token}\n\nIt is shown this once.{ends}")
}

fn token_json(
    account: &Account,
    id: &str,
    token: &SecretString,
    expires: &Expires,
    scope: &str,
) -> Value {
    json!({
        "account": account, "token_id": id, "token": token.expose_secret(), "scope": scope,
        "expires": expires.shown(),
    })
}

/// The answer with a new token of an account.
pub(super) fn account_answer(
    what: &str,
    account: &Account,
    entry: &TokenEntry,
    token: &SecretString,
) -> Answer {
    let text = format!(
        "{what}\n\n{} To use it:\n  BOTSTATS_TOKEN={} botstats stats",
        shown_token(entry, token),
        token.expose_secret(),
    );
    Answer::new(text, token_json(account, &entry.id, token, &entry.expires, "account"))
}

/// Ends the token of that id, wherever it stands; all of them if several have this id.
async fn revoke(directory: &Directory, account: &Account, id: &str) -> anyhow::Result<()> {
    let has = |tokens: &[TokenEntry]| tokens.iter().any(|token| token.id == id);
    let entries = directory.list(Some(account)).await?;
    let (mut known, mut ended, mut unreadable) = (false, false, Vec::new());
    for entry in &entries {
        match entry {
            Entry::Account(_, Ok(entry)) => {
                known = true;
                if has(&entry.tokens) {
                    let rule = |current| rules::revoke_token(current, id);
                    directory.change_account(account, rule).await?;
                    ended = true;
                }
            }
            Entry::Bot(_, bot, Ok(entry)) if has(&entry.tokens) => {
                let rule = |current| rules::revoke_token(current, id);
                directory.change_bot(account, bot, rule).await?;
                ended = true;
            }
            Entry::View(_, view, _) if view.as_str() == id => {
                directory.delete_view(account, view).await?;
                ended = true;
            }
            Entry::Account(_, Err(_)) => unreadable.push(account_key(account)),
            Entry::Bot(_, bot, Err(_)) => unreadable.push(bot_key(account, bot)),
            Entry::Bot(..) | Entry::View(..) => {}
        }
    }
    if ended {
        return Ok(());
    }
    if !unreadable.is_empty() {
        // Their last good value stays in force, so the token may be one of theirs.
        bail!(
            "there is no token {id} in the entries that can be read; these cannot be, and their tokens stay in \
             force: {}; write good ones with a NATS client",
            unreadable.join(", ")
        );
    }
    let refusal = if known { Refusal::NoToken(id.to_owned()) } else { Refusal::Absent("account") };
    Err(ChangeError::Refused { key: account_key(account), refusal }.into())
}

/// What a list shows of a token.
struct Listed {
    account: Account,
    id: String,
    /// As text for people, and with its details as JSON.
    scope: (String, Value),
    created: String,
    expires: Expires,
    /// Why it grants nothing, other than its expiry.
    ended: Option<&'static str>,
}

impl Listed {
    fn state(&self, now_ms: i64) -> &'static str {
        match (self.ended, &self.expires) {
            (Some(why), _) => why,
            (None, Expires::Unclear(_)) => "grants nothing: its expiry cannot be understood",
            (None, expires) if !expires.is_later(now_ms) => "expired",
            (None, _) => "",
        }
    }

    fn row(&self, now_ms: i64) -> Vec<String> {
        let expires = self.expires.shown().unwrap_or_else(|| "never".to_owned());
        vec![
            self.account.to_string(),
            printable(&self.id),
            printable(&self.scope.0),
            printable(&self.created),
            printable(&expires),
            self.state(now_ms).to_owned(),
        ]
    }

    fn json(&self, account_removed: bool, now_ms: i64) -> Value {
        let mut json = self.scope.1.clone();
        json["account"] = json!(self.account);
        json["token_id"] = json!(self.id);
        json["created"] = json!(self.created);
        json["expires"] = json!(self.expires.shown());
        json["valid"] = json!(self.state(now_ms).is_empty());
        json["account_removed"] = json!(account_removed);
        json
    }
}

fn scope_of_view(view: &ViewEntry) -> String {
    let bots = match &view.bots {
        Bots::All => "all bots".to_owned(),
        Bots::Only(bots) if bots.is_empty() => "no bot".to_owned(),
        Bots::Only(bots) => bots.iter().map(Bot::as_str).collect::<Vec<_>>().join(", "),
        Bots::Unclear(_) => "?".to_owned(),
    };
    let operators = if view.operators { ", with operators" } else { "" };
    format!("view of {bots}{operators}")
}

fn list(entries: &[Entry], now_ms: i64) -> Answer {
    let removed: BTreeSet<&Account> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Account(account, Ok(entry)) if entry.removed => Some(account),
            _ => None,
        })
        .collect();
    let mut all: Vec<Listed> = entries.iter().flat_map(listed).collect();
    // The entries are sorted by kind; people look for an account.
    all.sort_by(|a, b| a.account.cmp(&b.account));
    if all.is_empty() {
        return Answer::new("no tokens; make one with `botstats token add`", json!([]));
    }
    for one in &mut all {
        if removed.contains(&one.account) {
            one.ended = Some("account removed");
        }
    }
    let json: Vec<Value> =
        all.iter().map(|one| one.json(removed.contains(&one.account), now_ms)).collect();
    let rows: Vec<_> = all.iter().map(|one| one.row(now_ms)).collect();
    let columns = ["ACCOUNT", "TOKEN ID", "SCOPE", "CREATED", "EXPIRES", "STATE"];
    let columns = columns.map(|column| (column, Align::Left));
    Answer::new(table(&columns, &rows), Value::from(json))
}

fn listed(entry: &Entry) -> Vec<Listed> {
    let of_entry = |account: &Account, tokens: &[TokenEntry], scope: (String, Value)| {
        let one = |token: &TokenEntry| Listed {
            account: account.clone(),
            id: token.id.clone(),
            scope: scope.clone(),
            created: token.created.clone(),
            expires: token.expires.clone(),
            ended: None,
        };
        tokens.iter().map(one).collect()
    };
    match entry {
        Entry::Account(account, Ok(entry)) => {
            let scope = ("account".to_owned(), json!({"scope": "account"}));
            of_entry(account, &entry.tokens, scope)
        }
        Entry::Bot(account, bot, Ok(entry)) => {
            let mut all = of_entry(
                account,
                &entry.tokens,
                (format!("bot {bot}"), json!({"scope": "bot", "bot": bot})),
            );
            if entry.removed {
                all.iter_mut().for_each(|one: &mut Listed| one.ended = Some("bot removed"));
            }
            all
        }
        Entry::View(account, id, Ok(view)) => {
            let bots = Value::from(view.bots.clone());
            let unclear = "grants nothing: its bots cannot be understood";
            vec![Listed {
                account: account.clone(),
                id: id.to_string(),
                scope: (
                    scope_of_view(view),
                    json!({"scope": "view", "bots": bots, "operators": view.operators}),
                ),
                created: view.created.clone(),
                expires: view.expires.clone(),
                ended: (!view.bots.is_clear()).then_some(unclear),
            }]
        }
        Entry::View(account, id, Err(_)) => vec![Listed {
            account: account.clone(),
            id: id.to_string(),
            scope: ("(bad value)".to_owned(), json!({"scope": "view", "bots": null})),
            created: String::new(),
            expires: Expires::Never,
            ended: Some("cannot be read: the last good value is in force"),
        }],
        Entry::Account(_, Err(_)) | Entry::Bot(_, _, Err(_)) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_shows_scopes_and_ends() {
        let account = |text: &str| text.parse::<Account>().unwrap();
        let hash = String::from(SecretHash::of("x"));
        let token = |id: &str, expires: Value| json!({"id": id, "sha256": hash, "created": "2026-01-01T00:00:00Z", "expires": expires});
        let entry = |key: &str, value: Value| {
            let (kind, id) = key.split_once('.').unwrap();
            let json = value.to_string();
            let a = account("a");
            match kind {
                "account" => Entry::Account(
                    account(id),
                    botstats_common::directory::AccountEntry::parse(json.as_bytes()),
                ),
                "bot" => Entry::Bot(
                    a,
                    id.parse().unwrap(),
                    botstats_common::directory::BotEntry::parse(json.as_bytes()),
                ),
                _ => Entry::View(a, id.parse().unwrap(), ViewEntry::parse(json.as_bytes())),
            }
        };
        let entries = [
            entry(
                "account.a",
                json!({"tokens": [token("t1", Value::Null), token("t2", json!("2026-11-20T10:00:00Z"))]}),
            ),
            entry("account.b", json!({"tokens": [token("t3", Value::Null)], "removed": true})),
            entry("bot.b1", json!({"tokens": [token("b1", json!("2026-11-20T10:00:00.001Z"))]})),
            entry("bot.b2", json!({"tokens": [token("b2", json!("soon"))]})),
            entry("bot.b3", json!({"tokens": [token("b3", Value::Null)], "removed": true})),
            entry("view.v1", json!({"sha256": hash})),
            entry("view.v2", json!({"sha256": hash, "bots": ["y", "x"], "operators": true})),
            entry("view.v3", json!({"sha256": hash, "bots": "x"})),
            entry("view.v4", json!({"sha256": 5})),
        ];
        let shown: Vec<String> = {
            let mut all: Vec<Listed> = entries.iter().flat_map(listed).collect();
            all.sort_by(|a, b| a.account.cmp(&b.account));
            all.iter()
                .map(|one| {
                    let row = one.row(1_795_168_800_000);
                    format!("{} {} | {} | {} | {}", row[0], row[1], row[2], row[4], row[5])
                })
                .collect()
        };
        assert_eq!(
            shown,
            [
                "a t1 | account | never | ",
                "a t2 | account | 2026-11-20T10:00:00Z | expired",
                "a b1 | bot b1 | 2026-11-20T10:00:00.001Z | ",
                "a b2 | bot b2 | \"soon\" | grants nothing: its expiry cannot be understood",
                "a b3 | bot b3 | never | bot removed",
                "a v1 | view of all bots | never | ",
                "a v2 | view of x, y, with operators | never | ",
                "a v3 | view of ? | never | grants nothing: its bots cannot be understood",
                "a v4 | (bad value) | never | cannot be read: the last good value is in force",
                "b t3 | account | never | ",
            ]
        );
        let text = format!("{:?}", list(&entries, 1_795_168_800_000));
        assert!(text.contains("account removed") && !text.contains(&hash), "{text}");
    }

    #[test]
    fn lives() {
        for (text, ok) in [("1ms", true), ("90d", true), ("0s", false), ("", false), ("x", false)] {
            assert_eq!(life(text).is_ok(), ok, "{text}");
        }
    }
}
