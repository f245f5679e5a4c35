//! The demo's account, bots, channels, operators and tokens.

use botstats_common::directory::{Bots, Expires, Operators, TokenEntry, ViewEntry};
use botstats_common::ids::{Account, Bot, Channel, TokenId};
use botstats_common::io::clock;
use botstats_common::secret::{self, SecretHash, SecretKind};
use secrecy::{ExposeSecret as _, SecretString};

use crate::directory::rules::{self, AccountChange, BotChange};
use crate::directory::{Directory, Entry, tokens};
use crate::simulate::{Cast, CastBot};

/// The account's id.
pub(crate) const ACCOUNT: &str = "demo";
/// The bots: id, name, share of the traffic.
const BOTS: [(&str, &str, u64); 2] = [("pizza", "Pizza Palace", 3), ("taxi", "City Taxi", 2)];
/// The channels of each bot: id, name, share.
const CHANNELS: [(&str, &str, u64); 3] =
    [("web", "Web", 5), ("whatsapp", "WhatsApp", 3), ("telegram", "Telegram", 1)];
/// The names of the simulation's operators, `op-1` and so on.
const OPERATORS: [&str; 12] = [
    "Amara", "Bruno", "Chiara", "Dewi", "Emil", "Fatima", "Grace", "Hiro", "Ines", "Jonas",
    "Kwame", "Lucía",
];
/// The prefix of the ids of tokens that the demo made; the next start of the demo revokes these.
const TOKEN_PREFIX: &str = "demo-";

/// The tokens of a start of the demo.
pub(super) struct Tokens {
    /// For the account's call.
    pub(super) account: SecretString,
    /// For the page: sees all bots and the operators. Absent if there is no page.
    pub(super) view: Option<SecretString>,
}

/// The account with all that takes part in its traffic.
pub(super) fn cast() -> anyhow::Result<(Account, Cast)> {
    let account: Account = ACCOUNT.parse()?;
    let channels = CHANNELS
        .iter()
        .map(|(id, _, share)| Ok((id.parse::<Channel>()?, *share)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let bots = BOTS
        .iter()
        .map(|(id, _, share)| {
            let bot: Bot = id.parse()?;
            Ok(CastBot { account: account.clone(), bot, channels: channels.clone(), share: *share })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok((account, Cast::new(bots)))
}

/// Makes what is absent, and new tokens; revokes the tokens of earlier starts. Tokens and names
/// that a person made stay.
pub(super) async fn make(
    directory: &Directory,
    account: &Account,
    with_page: bool,
) -> anyhow::Result<Tokens> {
    let (token, entry) = tokens::new_token(TOKEN_PREFIX, clock::now_ms(), Expires::Never)?;
    directory
        .change_account(account, |current| match current {
            Some(mut there) if !there.removed => {
                there.tokens.retain(|token| !token.id.starts_with(TOKEN_PREFIX));
                rules::add_token(Some(there), entry.clone())
            }
            absent => {
                let change = AccountChange { name: Some(Some("Demo".to_owned())), timezone: None };
                rules::add_account(absent, &change, entry.clone(), true)
            }
        })
        .await?;
    make_bots(directory, account).await?;
    directory.change_operators(account, |current| Ok(named(current.unwrap_or_default()))).await?;
    for entry in directory.list(Some(account)).await? {
        if let Entry::View(account, id, _) = entry
            && id.as_str().starts_with(TOKEN_PREFIX)
        {
            directory.delete_view(&account, &id).await?;
        }
    }
    let view = match with_page {
        true => Some(make_view(directory, account).await?),
        false => None,
    };
    Ok(Tokens { account: token, view })
}

async fn make_bots(directory: &Directory, account: &Account) -> anyhow::Result<()> {
    let channels: BotChange = BotChange {
        name: None,
        channels: CHANNELS
            .iter()
            .map(|(id, name, _)| Ok((id.parse()?, Some((*name).to_owned()))))
            .collect::<anyhow::Result<_>>()?,
    };
    for (id, name, _) in BOTS {
        let bot: Bot = id.parse()?;
        // Nobody is told this key: `botstats key rotate demo` makes one that somebody has.
        let key = SecretHash::of(secret::generate(SecretKind::ApiKey)?.expose_secret());
        let change = BotChange { name: Some(Some(name.to_owned())), ..channels.clone() };
        directory
            .change_bot(account, &bot, |current| match current {
                Some(there) if !there.removed => Ok(there),
                absent => rules::add_bot(absent, &change, key, true),
            })
            .await?;
    }
    Ok(())
}

/// The names of operators, with one for each of the simulation's that has none.
fn named(mut operators: Operators) -> Operators {
    for (number, name) in (1..).zip(OPERATORS) {
        operators.entry(format!("op-{number}")).or_insert_with(|| name.to_owned());
    }
    operators
}

async fn make_view(directory: &Directory, account: &Account) -> anyhow::Result<SecretString> {
    let (token, entry) = tokens::new_token(TOKEN_PREFIX, clock::now_ms(), Expires::Never)?;
    let id: TokenId = entry.id.parse()?;
    let TokenEntry { sha256, created, expires, .. } = entry;
    let view = ViewEntry { sha256, created, expires, bots: Bots::All, operators: true };
    directory.add_view(account, &id, &view).await?;
    Ok(token)
}
