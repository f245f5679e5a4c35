//! The directory's writer: accounts, bots, tokens, API keys and names of operators.
//!
//! Each change is one compare-and-set on one key of the KV bucket: read the entry, let a plain
//! function of [`rules`] decide the next entry, write it if the revision is still the same; else
//! start again with the new entry.
//!
//! *Format*: `botstats_common::directory`.

pub(crate) mod accounts;
pub(crate) mod bots;
pub(crate) mod operators;
pub(crate) mod rules;
mod store;
pub(crate) mod tokens;
pub(crate) mod zones;

use anyhow::bail;
use botstats_common::ids::Account;
use botstats_common::io::nats::{NatsSettings, Role};

pub(crate) use store::{Directory, Entry};

/// Opens the directory.
async fn open(nats: &NatsSettings) -> anyhow::Result<Directory> {
    let client = nats.connect(Role::Admin).await?;
    Ok(Directory::open(&nats.jetstream(&client)).await?)
}

/// Fails unless the account is there and not removed: a change of what belongs to it needs that.
async fn must_live(directory: &Directory, account: &Account) -> anyhow::Result<()> {
    match directory.account(account).await? {
        None => {
            bail!("there is no account {account}; make it with `botstats account add {account}`")
        }
        Some(entry) if entry.removed => bail!(
            "account {account} was removed; `botstats account add {account} --restore` \
             brings it back"
        ),
        Some(_) => Ok(()),
    }
}
