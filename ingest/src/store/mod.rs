//! The store: one redb file that holds everything an ingest knows.
//!
//! *Invariants*: only this module writes redb. A commit holds state and checkpoint in one
//! transaction, so after a crash at any moment the file has the fold of exactly the messages up to
//! the checkpoint of the last synced commit. A value starts with a version; an unknown one is
//! refused.
//!
//! *Not here*: rules. What a bucket or a slice becomes is decided in `fold`.
//!
//! *Format*: the tables below; keys in `store/keys.rs`; values in `fold/body.rs`,
//! `fold/timeline.rs`, `store/meta.rs` and here; `store/checked.rs` has the layout of the file
//! itself, which holds redb's pages with their checksums.

mod checked;
pub(crate) mod contents;
mod disk_usage;
mod error;
mod folder;
pub(crate) mod keys;
mod meta;
pub(crate) mod packed;
mod parts;
mod reencode;
mod users;

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use botstats_common::io::clock::monotonic;
use redb::backends::FileBackend;
use redb::{
    Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase as _,
    ReadableTable as _, ReadableTableMetadata as _, Table, TableDefinition, TableHandle as _,
    WriteTransaction,
};

pub(crate) use botstats_common::lineage::StreamIdentity;
pub(crate) use checked::Damage;
pub use contents::{Contents, PairContents};
pub(crate) use disk_usage::disk_usage;
pub use error::{OpenError, StoreError};
pub(crate) use folder::{DAMAGED_FILE, REBUILD_FILE, replace};
pub use folder::{Folder, STORE_FILE};
pub(crate) use meta::{Checkpoint, FirstMessage, PairRow};
pub use meta::{Ownership, Progress};
pub(crate) use parts::Parts;
pub use redb::StorageBackend;
pub use reencode::{Reencoded, StoredTable, reencode};
pub(crate) use users::{Counts, Forgotten, StoredUser};

use crate::event::Rule;
use crate::event::hash::HashKey;
use crate::fold::bucket_key;
use crate::fold::session::RULES;
use crate::telemetry::METRICS;
use checked::{CheckedFile, FirstFailure};
use keys::{DAY, day_bytes};
use packed::{Packed, Shape};

type Bytes = TableDefinition<'static, &'static [u8], &'static [u8]>;
/// A packed table that is written.
pub(crate) type PackedTable<'a> = Packed<Table<'a, &'static [u8], &'static [u8]>>;
/// A packed table of a snapshot.
pub(crate) type PackedSnapshot = Packed<ReadOnlyTable<&'static [u8], &'static [u8]>>;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const PAIRS: TableDefinition<u32, &[u8]> = TableDefinition::new("pairs");
const SLICES: Bytes = TableDefinition::new("slices");
const PARTS: Bytes = TableDefinition::new("parts");
const USERS: Bytes = TableDefinition::new("users");
const FORGOTTEN: TableDefinition<u128, &[u8]> = TableDefinition::new("forgotten");
const COUNTS: TableDefinition<u32, &[u8]> = TableDefinition::new("counts");
const BUCKETS: Bytes = TableDefinition::new("buckets");
const DEAD_LETTERS: TableDefinition<u64, &[u8]> = TableDefinition::new("dead_letters");

/// The newest dead letters are kept, up to this many: enough to find what publishers do wrong.
pub const MAX_DEAD_LETTERS: u64 = 100_000;
/// Memory for redb's page cache, in bytes.
const CACHE_BYTES: usize = 40 * 1024 * 1024;
const DEAD_LETTER_VERSION: u8 = 1;
/// The version of a file's layout, tables, keys and values. A file of another format is refused.
const FORMAT: u32 = 5;
const SLICES_SHAPE: Shape = Shape { name: "slices", group: DAY, key: 16 };
const USERS_SHAPE: Shape = Shape { name: "users", group: 0, key: 16 };
const BUCKETS_SHAPE: Shape = bucket_key::SHAPE;
/// First bytes of a file of format 1, which was a plain redb file.
const FORMAT_1: &[u8] = b"redb";

/// The open store.
#[derive(Debug)]
pub struct Store {
    database: Database,
    first_failure: FirstFailure,
}

impl Store {
    /// Opens the store's file, or makes one if there is none.
    ///
    /// # Errors
    /// If the store is damaged, of another version, or cannot be read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut options = File::options();
        options.read(true).write(true);
        match options.open(path) {
            Ok(mut file) => {
                let mut start = [0; FORMAT_1.len()];
                match file.read_exact(&mut start) {
                    Ok(()) if start == FORMAT_1 => return Err(StoreError::Format(1)),
                    Ok(()) => {}
                    // `open` never leaves an empty file: it renames a new file only when complete.
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                        return Err(Damage("it is empty".to_owned()).into());
                    }
                    Err(error) => return Err(error.into()),
                }
                Self::open_on(Box::new(FileBackend::new(file)?))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // The new file is renamed only when complete, so a crash leaves no store or a whole
                // one.
                let new = path.with_extension("new");
                let file = options.create(true).truncate(true).open(&new)?;
                let store = Self::open_on(Box::new(FileBackend::new(file)?))?;
                replace(&new, path)?;
                Ok(store)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the store on a disk, or makes one if the disk is empty.
    ///
    /// # Errors
    /// If the store is damaged, of another version, or cannot be read.
    pub fn open_on(disk: Box<dyn StorageBackend>) -> Result<Self, StoreError> {
        if let Some(other) = checked::format_of(&*disk)?.filter(|format| *format != FORMAT) {
            return Err(StoreError::Format(other));
        }
        let first_failure = FirstFailure::default();
        let file = CheckedFile::open(disk, FORMAT, FirstFailure::clone(&first_failure))?;
        let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(file)?;
        let made = database.begin_read()?.list_tables()?.any(|table| table.name() == META.name());
        if made {
            let rules = meta::rules(&database.begin_read()?.open_table(META)?)?;
            if rules != RULES {
                return Err(StoreError::Rules(rules));
            }
            // To open a store writes nothing, so a store on a full disk can be opened.
            return Ok(Self { database, first_failure });
        }
        let store = Self { database, first_failure };
        let commit = store.begin()?;
        {
            let write = &commit.transaction;
            write.open_table(PAIRS)?;
            write.open_table(SLICES)?;
            write.open_table(PARTS)?;
            write.open_table(USERS)?;
            write.open_table(FORGOTTEN)?;
            write.open_table(COUNTS)?;
            write.open_table(BUCKETS)?;
            write.open_table(DEAD_LETTERS)?;
            meta::make(&mut write.open_table(META)?)?;
        }
        commit.commit_and_sync()?;
        Ok(store)
    }

    /// The first failure of the file since it was opened. After a failure the file cannot be read
    /// or written until it is opened again.
    #[must_use]
    pub fn failure(&self) -> Option<StoreError> {
        self.first_failure.get().map(|failure| failure.clone().into())
    }

    /// A consistent view of everything committed so far.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Ok(Snapshot { transaction: self.database.begin_read()? })
    }

    pub(crate) fn begin(&self) -> Result<Commit, StoreError> {
        Ok(Commit { transaction: self.database.begin_write()? })
    }

    /// Syncs all commits to the disk.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.begin()?.commit_and_sync()
    }
}

/// Why a message was refused. The message itself is in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message's stream sequence.
    pub sequence: u64,
    pub rule: Rule,
    pub reason: String,
}

/// A view of the store at one commit. Drop a snapshot soon: while it lives, redb cannot use the
/// commit's pages again.
pub struct Snapshot {
    transaction: ReadTransaction,
}

impl Snapshot {
    /// The progress as of this commit.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn progress(&self) -> Result<Progress, StoreError> {
        meta::progress(&self.transaction.open_table(META)?)
    }

    /// The random id that was made with the file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn instance(&self) -> Result<String, StoreError> {
        meta::instance(&self.transaction.open_table(META)?)
    }

    pub(crate) fn pairs(&self) -> Result<Vec<PairRow>, StoreError> {
        let table = self.transaction.open_table(PAIRS)?;
        table.iter()?.map(|row| PairRow::decode(row?.1.value())).collect()
    }

    pub(crate) fn hash_key(&self) -> Result<HashKey, StoreError> {
        meta::hash_key(&self.transaction.open_table(META)?)
    }

    /// Calls `each` with day, conversation and bytes of every slice, by days.
    pub(crate) fn slices(
        &self,
        mut each: impl FnMut(u32, u128, &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let table = Packed::new(self.transaction.open_table(SLICES)?, SLICES_SHAPE);
        table.scan_all(|group, key, body| {
            let day =
                keys::day_of(group).ok_or_else(|| StoreError::value("slices", "malformed key"))?;
            each(day, key, body)
        })
    }

    /// Calls `each` with day, conversation, number and bytes of every part of a long slice.
    pub(crate) fn parts(
        &self,
        mut each: impl FnMut((u32, u128, u32), &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let table = self.transaction.open_table(PARTS)?;
        for row in table.iter()? {
            let (key, body) = row?;
            let place = keys::part_of(key.value())
                .ok_or_else(|| StoreError::value("parts", "malformed key"))?;
            each(place, body.value())?;
        }
        Ok(())
    }

    /// Everything that the buckets say.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged.
    pub fn contents(&self) -> Result<Contents, StoreError> {
        let pairs = self.pairs()?;
        contents::contents(&self.buckets()?, |pair| {
            let row = pairs.get(usize::try_from(pair).ok()?)?;
            Some((row.account.clone(), row.bot.clone(), row.channel.clone()))
        })
    }

    pub(crate) fn counts(&self) -> Result<Counts, StoreError> {
        Counts::read(&self.transaction.open_table(COUNTS)?)
    }

    /// The number of rows of each table. redb keeps these numbers: nothing is counted here.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn rows(&self) -> Result<[(&'static str, u64); 7], StoreError> {
        let t = &self.transaction;
        Ok([
            (PAIRS.name(), t.open_table(PAIRS)?.len()?),
            (USERS.name(), t.open_table(USERS)?.len()?),
            (FORGOTTEN.name(), t.open_table(FORGOTTEN)?.len()?),
            (SLICES.name(), t.open_table(SLICES)?.len()?),
            (PARTS.name(), t.open_table(PARTS)?.len()?),
            (BUCKETS.name(), t.open_table(BUCKETS)?.len()?),
            (DEAD_LETTERS.name(), t.open_table(DEAD_LETTERS)?.len()?),
        ])
    }

    pub(crate) fn buckets(&self) -> Result<PackedSnapshot, StoreError> {
        Ok(Packed::new(self.transaction.open_table(BUCKETS)?, BUCKETS_SHAPE))
    }

    /// Gives the number of all dead letters, and at most `limit` of those below the sequence
    /// `before`, newest first.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn dead_letters(
        &self,
        before: u64,
        limit: usize,
    ) -> Result<(u64, Vec<DeadLetter>), StoreError> {
        let table = self.transaction.open_table(DEAD_LETTERS)?;
        let mut letters = Vec::new();
        for row in table.range(..before)?.rev().take(limit) {
            let (sequence, value) = row?;
            let (rule, reason) = decode_dead_letter(value.value())?;
            letters.push(DeadLetter { sequence: sequence.value(), rule, reason });
        }
        Ok((table.len()?, letters))
    }
}

/// A write transaction. It is rolled back if it is dropped without [`Commit::commit`] or
/// [`Commit::commit_and_sync`].
pub(crate) struct Commit {
    transaction: WriteTransaction,
}

impl Commit {
    pub(crate) fn slices(&self) -> Result<PackedTable<'_>, StoreError> {
        Ok(Packed::new(self.transaction.open_table(SLICES)?, SLICES_SHAPE))
    }

    pub(crate) fn parts(&self) -> Result<Parts<'_>, StoreError> {
        Ok(Parts(self.transaction.open_table(PARTS)?))
    }

    pub(crate) fn users(&self) -> Result<PackedTable<'_>, StoreError> {
        Ok(Packed::new(self.transaction.open_table(USERS)?, USERS_SHAPE))
    }

    pub(crate) fn forgotten(&self) -> Result<Forgotten<'_>, StoreError> {
        Ok(Forgotten(self.transaction.open_table(FORGOTTEN)?))
    }

    pub(crate) fn buckets(&self) -> Result<PackedTable<'_>, StoreError> {
        Ok(Packed::new(self.transaction.open_table(BUCKETS)?, BUCKETS_SHAPE))
    }

    pub(crate) fn put_counts(&self, counts: &mut Counts) -> Result<(), StoreError> {
        counts.write(&mut self.transaction.open_table(COUNTS)?)
    }

    pub(crate) fn put_pairs<'a>(
        &self,
        rows: impl IntoIterator<Item = (u32, &'a PairRow)>,
    ) -> Result<(), StoreError> {
        let mut table = self.transaction.open_table(PAIRS)?;
        for (pair, row) in rows {
            table.insert(pair, row.encode()?.as_slice())?;
        }
        Ok(())
    }

    /// Adds dead letters and drops the oldest beyond [`MAX_DEAD_LETTERS`].
    pub(crate) fn put_dead_letters(&self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        if letters.is_empty() {
            return Ok(());
        }
        let mut table = self.transaction.open_table(DEAD_LETTERS)?;
        for DeadLetter { sequence, rule, reason } in letters {
            table.insert(sequence, encode_dead_letter(*rule, reason).as_slice())?;
        }
        while table.len()? > MAX_DEAD_LETTERS {
            table.pop_first()?;
        }
        Ok(())
    }

    pub(crate) fn put_progress(&self, progress: &Progress) -> Result<(), StoreError> {
        meta::put_progress(&mut self.transaction.open_table(META)?, progress)
    }

    /// Deletes the slices of days before `slices`, and the buckets of days before `buckets`.
    pub(crate) fn delete_before(&self, slices: u32, buckets: u32) -> Result<(), StoreError> {
        let end = day_bytes(slices);
        self.slices()?.delete_before(&end)?;
        self.transaction.open_table(PARTS)?.retain_in(..&end[..], |_, _| false)?;
        self.buckets()?.delete_before(&day_bytes(buckets))
    }

    /// Commits in memory: snapshots see it at once. A crash loses all commits since the last sync.
    pub(crate) fn commit(mut self) -> Result<(), StoreError> {
        self.transaction.set_durability(Durability::None)?;
        Ok(self.transaction.commit()?)
    }

    /// Commits, and syncs this and all commits before to the disk.
    pub(crate) fn commit_and_sync(mut self) -> Result<(), StoreError> {
        // The next open after a crash then takes milliseconds, however large the file is.
        self.transaction.set_quick_repair(true);
        let begun = monotonic();
        self.transaction.commit()?;
        METRICS.sync_seconds.record(begun.elapsed().as_secs_f64());
        Ok(())
    }
}

fn encode_dead_letter(rule: Rule, reason: &str) -> Vec<u8> {
    [&[DEAD_LETTER_VERSION, rule as u8], reason.as_bytes()].concat()
}

fn decode_dead_letter(value: &[u8]) -> Result<(Rule, String), StoreError> {
    let wrong = || StoreError::value("dead_letters", "malformed, or of an unknown version");
    let [DEAD_LETTER_VERSION, rule, reason @ ..] = value else { return Err(wrong()) };
    let rule = *Rule::ALL.get(usize::from(*rule)).ok_or_else(wrong)?;
    Ok((rule, String::from_utf8(reason.to_vec()).map_err(|_| wrong())?))
}
