//! The directory's entries, read again from NATS before an answer is given.

use std::time::Instant;

use async_nats::jetstream::Context;
use botstats_common::directory::{AccountEntry, BotEntry, EntryError};
use botstats_common::ids::{Account, Bot};
use botstats_common::io::nats;
use botstats_common::names::{DIRECTORY_BUCKET, account_key, bot_key};
use botstats_common::rules::{self, refusals};
use tokio::time::timeout_at;

use super::{Unreachable, kv};

/// The stream of the directory's KV bucket.
pub const DIRECTORY_STREAM: &str = "KV_botstats_directory";

/// What stands in NATS under a key now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry<T> {
    /// This entry.
    Good(T),
    /// A value that cannot be read: the last good one is in force.
    Bad,
    /// Nothing.
    Gone,
}

impl<T> Entry<T> {
    /// The entry in force, given the last good one that is known.
    pub fn in_force(self, last_good: Option<T>) -> Option<T> {
        match self {
            Entry::Good(entry) => Some(entry),
            Entry::Bad => last_good,
            Entry::Gone => None,
        }
    }
}

/// Reads an account's entry.
///
/// # Errors
/// If NATS does not answer by the deadline.
pub async fn account(
    js: &Context,
    account: &Account,
    deadline: Instant,
) -> Result<Entry<AccountEntry>, Unreachable> {
    get(js, &account_key(account), AccountEntry::parse, deadline).await
}

/// Reads a bot's entry.
///
/// # Errors
/// If NATS does not answer by the deadline.
pub async fn bot(
    js: &Context,
    account: &Account,
    bot: &Bot,
    deadline: Instant,
) -> Result<Entry<BotEntry>, Unreachable> {
    get(js, &bot_key(account, bot), BotEntry::parse, deadline).await
}

async fn get<T>(
    js: &Context,
    key: &str,
    parse: fn(&[u8]) -> Result<T, EntryError>,
    deadline: Instant,
) -> Result<Entry<T>, Unreachable> {
    let latest = timeout_at(deadline.into(), kv::latest(js, DIRECTORY_BUCKET, key))
        .await
        .map_err(|late| Unreachable::directory(&late))?
        .map_err(|error| Unreachable::directory(&error))?;
    match latest {
        Some(kv::Latest { value: Some(value), .. }) => {
            Ok(parse(&value).map_or(Entry::Bad, Entry::Good))
        }
        // A key that was removed has a marker.
        Some(_) => Ok(Entry::Gone),
        None => not_expired(js, deadline).await.map(|()| Entry::Gone),
    }
}

/// A key without a marker may have expired, in a bucket that was given an age limit a moment ago.
async fn not_expired(js: &Context, deadline: Instant) -> Result<(), Unreachable> {
    let info = timeout_at(deadline.into(), nats::stream_info(js, DIRECTORY_STREAM))
        .await
        .map_err(|late| Unreachable::directory(&late))?
        .map_err(|error| Unreachable::directory(&error))?;
    match refusals(&rules::directory(&info.config)) {
        Some(why) => Err(Unreachable::directory(&why)),
        None => Ok(()),
    }
}
