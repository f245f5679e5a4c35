//! The store's small values: instance id, progress, and the rows of (bot, channel) pairs.

use std::collections::BTreeMap;

use botstats_common::lineage::StreamIdentity;
use botstats_common::slot::Slots;
use redb::{ReadableTable, Table};
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::event::hash::HashKey;
use crate::fold::session::RULES;
use crate::fold::watermark::Watermark;

const VERSION: u8 = 1;
const INSTANCE_KEY: &str = "instance";
/// The key of the hashes of ids.
const HASH_KEY: &str = "hash key";
const PROGRESS_KEY: &str = "progress";
const RULES_KEY: &str = "rules";
const OWNERSHIP_KEY: &str = "slots";
/// The rules of a file without that key.
const FIRST_RULES: u32 = 1;

type Meta<'a> = Table<'a, &'static str, &'static [u8]>;

/// The last message that was applied, so that it can be recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The stream it came from.
    pub stream: StreamIdentity,
    /// Its sequence.
    pub sequence: u64,
    /// When it was stored, in Unix nanoseconds.
    pub stored_ns: i64,
    /// Hash of its subject.
    pub subject_hash: u64,
}

/// The first message that a store has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstMessage {
    /// Its sequence: not 1 if older messages were deleted before the store was made.
    pub sequence: u64,
    /// When it was stored, in Unix nanoseconds.
    pub stored_ns: i64,
}

/// Which slots' events a store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    /// The slots whose events it counts; events of other slots are passed over.
    pub counted: Slots,
    /// Those that its stream gave away since.
    pub given_away: Slots,
}

impl Default for Ownership {
    /// All slots.
    fn default() -> Self {
        Self { counted: Slots::ALL, given_away: Slots::NONE }
    }
}

impl Ownership {
    /// The slots that it has and that nobody else has.
    #[must_use]
    pub fn owned(&self) -> Slots {
        self.counted.difference(self.given_away)
    }
}

/// How far the store is, and what it has counted on the way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The last message applied; none in a new store.
    pub checkpoint: Option<Checkpoint>,
    /// The first message applied; none in a new store. What can be answered completely begins here.
    pub first: Option<FirstMessage>,
    /// What may be deleted is measured from here.
    pub watermark: Watermark,
    /// The first UTC day whose buckets are whole. A longer BOTSTATS_KEEP_DAYS does not move the day
    /// back. A watermark that goes back does, to the day after the watermark.
    pub buckets_from_day: u32,
    /// The highest that `buckets_from_day` ever was: buckets of earlier days may have lost a part.
    pub deleted_to_day: u32,
    /// Events that count.
    pub accepted: u64,
    /// Events that were counted before.
    pub duplicates: u64,
    /// Events whose identity another event has.
    pub conflicts: u64,
    /// Messages of unknown type.
    pub unknown_types: u64,
    /// Dead letters by the name of the rule that they broke.
    pub dead_letters: BTreeMap<String, u64>,
    /// Which slots are counted. It has a key of its own, which a store without cells does not have.
    #[serde(skip)]
    pub ownership: Ownership,
}

impl Progress {
    /// The messages by outcome.
    #[must_use]
    pub fn by_outcome(&self) -> [(&'static str, u64); 5] {
        [
            ("accepted", self.accepted),
            ("duplicate", self.duplicates),
            ("conflict", self.conflicts),
            ("unknown_type", self.unknown_types),
            ("dead_letter", self.dead_letters.values().sum()),
        ]
    }
}

/// A bot on a channel. The number of its row is its id in all other tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PairRow {
    /// The number of the account.
    pub account_number: u32,
    /// The account's id.
    pub account: String,
    /// The bot's id.
    pub bot: String,
    /// The channel's id.
    pub channel: String,
}

impl PairRow {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        decode("pairs", bytes)
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, StoreError> {
        encode("pairs", self)
    }
}

pub(super) fn decode<'a, T: Deserialize<'a>>(
    table: &'static str,
    bytes: &'a [u8],
) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => {
            postcard::from_bytes(rest).map_err(|e| StoreError::value(table, e))
        }
        Some((version, _)) => Err(StoreError::value(table, format!("unknown version {version}"))),
        None => Err(StoreError::value(table, "empty")),
    }
}

pub(super) fn encode<T: Serialize>(table: &'static str, value: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_extend(value, vec![VERSION]).map_err(|e| StoreError::value(table, e))
}

/// Writes the instance id, the key of hashes and the version of the rules into a new file.
pub(super) fn make(table: &mut Meta<'_>) -> Result<(), StoreError> {
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(|e| StoreError::value("meta", e))?;
    table.insert(HASH_KEY, key.as_slice())?;
    let mut id = [0; 8];
    getrandom::fill(&mut id).map_err(|e| StoreError::value("meta", e))?;
    let id = format!("{:016x}", u64::from_le_bytes(id));
    table.insert(INSTANCE_KEY, id.as_bytes())?;
    table.insert(RULES_KEY, encode("meta", &RULES)?.as_slice())?;
    Ok(())
}

/// The version of the rules by which the sums in the file were made.
pub(super) fn rules(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<u32, StoreError> {
    table.get(RULES_KEY)?.map_or(Ok(FIRST_RULES), |value| decode("meta", value.value()))
}

pub(super) fn instance(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<String, StoreError> {
    let value = table.get(INSTANCE_KEY)?.map(|v| v.value().to_vec());
    value
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| StoreError::value("meta", "no instance id"))
}

/// The key with which ids are hashed. It was made with the file.
pub(super) fn hash_key(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<HashKey, StoreError> {
    let key = table.get(HASH_KEY)?.and_then(|value| value.value().try_into().ok());
    key.map(HashKey::new).ok_or_else(|| StoreError::value("meta", "no key for hashes"))
}

pub(super) fn progress(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Progress, StoreError> {
    let mut progress = match table.get(PROGRESS_KEY)? {
        Some(value) => decode("meta", value.value())?,
        None => Progress::default(),
    };
    if let Some(value) = table.get(OWNERSHIP_KEY)? {
        progress.ownership = decode("meta", value.value())?;
    }
    Ok(progress)
}

pub(super) fn put_progress(table: &mut Meta<'_>, progress: &Progress) -> Result<(), StoreError> {
    table.insert(PROGRESS_KEY, encode("meta", progress)?.as_slice())?;
    if progress.ownership != Ownership::default() {
        table.insert(OWNERSHIP_KEY, encode("meta", &progress.ownership)?.as_slice())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{META, STORE_FILE, Store};
    use super::*;

    #[test]
    fn the_bytes_of_version_1_do_not_change() {
        let row = PairRow {
            account_number: 1,
            account: "a".to_owned(),
            bot: "b".to_owned(),
            channel: "c".to_owned(),
        };
        let bytes = row.encode().unwrap();
        assert_eq!(bytes, [1, 1, 1, b'a', 1, b'b', 1, b'c']);
        assert_eq!(PairRow::decode(&bytes).unwrap(), row);

        let progress = Progress {
            checkpoint: Some(Checkpoint {
                stream: StreamIdentity { name: "S".to_owned(), created_ns: 1 },
                sequence: 2,
                stored_ns: -1,
                subject_hash: 3,
            }),
            first: Some(FirstMessage { sequence: 4, stored_ns: -2 }),
            watermark: Watermark::default(),
            buckets_from_day: 10,
            deleted_to_day: 11,
            accepted: 5,
            duplicates: 6,
            conflicts: 7,
            unknown_types: 8,
            dead_letters: [("data".to_owned(), 9)].into(),
            ownership: Ownership::default(),
        };
        let bytes = encode("meta", &progress).unwrap();
        assert_eq!(
            bytes,
            [
                1, 1, 1, b'S', 2, 2, 1, 3, 1, 4, 3, 0, 0, 10, 11, 5, 6, 7, 8, 1, 4, b'd', b'a',
                b't', b'a', 9
            ]
        );
        assert_eq!(decode::<Progress>("meta", &bytes).unwrap(), progress);

        let given_away = "2".parse().unwrap();
        let ownership = Ownership { counted: "0-3".parse().unwrap(), given_away };
        let bytes = encode("meta", &ownership).unwrap();
        assert_eq!(bytes, [1, 3, b'0', b'-', b'3', 1, b'2']);
        assert_eq!(decode::<Ownership>("meta", &bytes).unwrap(), ownership);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (bytes, reason) in [(&[][..], "empty"), (&[2, 0][..], "version 2")] {
            let error = PairRow::decode(bytes).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert!(PairRow::decode(&[1, 0xff]).is_err());
    }

    #[test]
    fn sums_by_other_rules_are_refused() {
        let opened_with = |change: &dyn Fn(&mut Meta<'_>)| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(STORE_FILE);
            let store = Store::open(&path).unwrap();
            let commit = store.begin().unwrap();
            change(&mut commit.transaction.open_table(META).unwrap());
            commit.commit_and_sync().unwrap();
            drop(store);
            Store::open(&path).map(|_| ())
        };
        opened_with(&|table| assert_eq!(rules(table).unwrap(), RULES)).unwrap();
        // A file from before rules had a version.
        let without = opened_with(&|table| drop(table.remove(RULES_KEY).unwrap()));
        assert_eq!(without.is_ok(), RULES == FIRST_RULES);
        let refused = opened_with(&|table| {
            let other = encode("meta", &(RULES + 1)).unwrap();
            table.insert(RULES_KEY, other.as_slice()).unwrap();
        });
        let refused = refused.unwrap_err();
        assert!(matches!(refused, StoreError::Rules(other) if other == RULES + 1), "{refused}");
        assert!(refused.to_string().contains("botstats-ingest rebuild"), "{refused}");
    }
}
