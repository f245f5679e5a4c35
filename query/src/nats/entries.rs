//! The directory's entries as they are in NATS now.

use std::time::Instant;

use async_nats::jetstream::Context;
use botstats_common::directory::EntryError;
use botstats_common::io::nats;
use botstats_common::names::DIRECTORY_BUCKET;
use botstats_common::rules::{self, refusals};
use tokio::time::timeout_at;

use super::{Unreachable, kv};

/// The stream of the directory's KV bucket.
pub(crate) const DIRECTORY_STREAM: &str = "KV_botstats_directory";

/// What NATS has under a key now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored<T> {
    Good(T),
    /// A value that cannot be read: the last good one is in force.
    Bad,
    Absent,
}

impl<T> Stored<T> {
    /// The entry in force, given the last good one.
    pub(crate) fn in_force(self, last_good: Option<T>) -> Option<T> {
        match self {
            Stored::Good(entry) => Some(entry),
            Stored::Bad => last_good,
            Stored::Absent => None,
        }
    }
}

/// Reads the entry of a key.
///
/// # Errors
/// If NATS does not answer by the deadline.
pub(crate) async fn get<T>(
    js: &Context,
    key: &str,
    parse: fn(&[u8]) -> Result<T, EntryError>,
    deadline: Instant,
) -> Result<Stored<T>, Unreachable> {
    let latest = timeout_at(deadline.into(), kv::latest(js, DIRECTORY_BUCKET, key))
        .await
        .map_err(|late| Unreachable::directory(&late))?
        .map_err(|error| Unreachable::directory(&error))?;
    match latest {
        Some(kv::Latest { value: Some(value), .. }) => {
            Ok(parse(&value).map_or(Stored::Bad, Stored::Good))
        }
        // A deleted key has a tombstone.
        Some(_) => Ok(Stored::Absent),
        None => not_expired(js, deadline).await.map(|()| Stored::Absent),
    }
}

/// A key without a tombstone may have expired, in a bucket that was given an age limit a moment
/// ago.
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
