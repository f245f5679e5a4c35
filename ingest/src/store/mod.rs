//! The store: one redb file that holds everything an ingest knows.
//!
//! *Invariants*: only this module writes redb. A commit holds the state and the checkpoint up to which
//! it is true, in one transaction, so a crash at any moment leaves the fold of exactly the messages up
//! to the checkpoint. A value starts with a version; an unknown one is refused.
//!
//! *Format*: the tables below; keys in `store/keys.rs`; values in `bucket.rs`, `timeline.rs`, and here.

pub(crate) mod keys;
mod meta;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    ReadableTableMetadata as _, Table, TableDefinition, TableHandle as _, WriteTransaction,
};

pub use meta::{Checkpoint, PairRow, Progress, StreamIdentity};

use crate::bucket::{Bucket, BucketError, Delta};
use crate::event::Rule;
use crate::timeline::{Slice, SliceError};
use keys::{BucketKey, SlicePrefix, UserKey};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const PAIRS: TableDefinition<u32, &[u8]> = TableDefinition::new("pairs");
const USERS: TableDefinition<UserKey, [u8; 9]> = TableDefinition::new("users");
const TIMELINES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("timelines");
const BUCKETS: TableDefinition<BucketKey, &[u8]> = TableDefinition::new("buckets");
const DEAD_LETTERS: TableDefinition<u64, &[u8]> = TableDefinition::new("dead_letters");

/// Dead letters kept; the oldest go first.
pub const MAX_DEAD_LETTERS: u64 = 100_000;
/// redb's page cache.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
const USER_VERSION: u8 = 1;
const DEAD_LETTER_VERSION: u8 = 1;
/// The file of the store in its folder.
pub const STORE_FILE: &str = "botstats.redb";
/// The file that a rebuild makes before it takes the other's place.
pub const REBUILD_FILE: &str = "rebuild.redb";

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("{} is used by another ingest: stop it, or give this one a folder of its own", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder or a file in it cannot be made or opened.
    #[error("{}", path.display())]
    Io {
        /// What was tried.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The file cannot be used.
    #[error("the store's file cannot be used")]
    Store(#[from] StoreError),
}

/// Why the store cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// redb says so: the disk is full, the file is damaged, or similar.
    #[error("store")]
    Redb(#[from] redb::Error),
    /// A value of a version that this program does not know, or no such value at all.
    #[error("table {table}: a value that this program cannot read ({reason})")]
    Value {
        /// Where it stands.
        table: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                Self::Redb(error.into())
            }
        }
    )*};
}

from_redb!(StorageError, TableError, TransactionError, CommitError, DatabaseError);

impl StoreError {
    fn value(table: &'static str, reason: impl ToString) -> Self {
        Self::Value { table, reason: reason.to_string() }
    }
}

impl From<BucketError> for StoreError {
    fn from(error: BucketError) -> Self {
        Self::value("buckets", error)
    }
}

impl From<SliceError> for StoreError {
    fn from(error: SliceError) -> Self {
        Self::value("timelines", error)
    }
}

/// A folder that no other ingest uses while this lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder if need be, and takes its lock.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another process has it.
    pub fn lock(path: &Path) -> Result<Self, OpenError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        std::fs::create_dir_all(path).map_err(io(path))?;
        let lock_path = path.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { folder: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(io(&lock_path)(source)),
        }
    }

    /// A file in the folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// The open store.
#[derive(Debug)]
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// If it is damaged, of another version, or cannot be read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        let made = database.begin_read()?.list_tables()?.any(|table| table.name() == META.name());
        if made {
            // Nothing is written, so that a full disk does not keep a file from being opened.
            meta::check_format(&database.begin_read()?.open_table(META)?)?;
            return Ok(Self { database });
        }
        let write = begin(&database)?;
        {
            write.open_table(PAIRS)?;
            write.open_table(USERS)?;
            write.open_table(TIMELINES)?;
            write.open_table(BUCKETS)?;
            write.open_table(DEAD_LETTERS)?;
            meta::make(&mut write.open_table(META)?)?;
        }
        write.commit()?;
        Ok(Self { database })
    }

    /// A consistent view of everything committed so far.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Ok(Snapshot { transaction: self.database.begin_read()? })
    }

    pub(crate) fn begin(&self) -> Result<Commit, StoreError> {
        Ok(Commit { transaction: begin(&self.database)? })
    }
}

fn begin(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut transaction = database.begin_write()?;
    // A crash then costs milliseconds at the next open, whatever the file's size.
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// A refused message: the rest of it is still in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its stream sequence.
    pub sequence: u64,
    /// The rule that it broke.
    pub rule: Rule,
    /// What is wrong with it.
    pub reason: String,
}

/// A view of the store at one commit. Pins the pages of that commit: let it go soon.
pub struct Snapshot {
    transaction: ReadTransaction,
}

impl Snapshot {
    /// What was committed up to, and what was counted.
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

    /// Calls `each` with (day, pair, conversation) of every slice.
    pub(crate) fn conversations(
        &self,
        mut each: impl FnMut(u32, u32, u128),
    ) -> Result<(), StoreError> {
        let table = self.transaction.open_table(TIMELINES)?;
        for row in table.iter()? {
            let (key, _) = row?;
            let (day, pair, conversation) = keys::slice_conversation(key.value())
                .ok_or_else(|| StoreError::value("timelines", "a key that is none"))?;
            each(day, pair, conversation);
        }
        Ok(())
    }

    pub(crate) fn buckets(&self) -> Result<ReadOnlyTable<BucketKey, &'static [u8]>, StoreError> {
        Ok(self.transaction.open_table(BUCKETS)?)
    }

    /// Dead letters below a sequence, newest first, and how many are kept in all.
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

/// A write transaction. Dropped without [`Commit::commit`] it never was.
pub(crate) struct Commit {
    transaction: WriteTransaction,
}

/// A user's row: ordinal within its (bot, channel), and the quarter in which it was first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserRow {
    pub(crate) ordinal: u32,
    pub(crate) first_seen: u32,
}

impl Commit {
    pub(crate) fn timelines(&self) -> Result<Timelines<'_>, StoreError> {
        Ok(Timelines(self.transaction.open_table(TIMELINES)?))
    }

    pub(crate) fn users(&self) -> Result<Users<'_>, StoreError> {
        Ok(Users(self.transaction.open_table(USERS)?))
    }

    /// Applies changes to buckets, which must come in the order of their keys.
    pub(crate) fn apply(&self, deltas: Vec<(BucketKey, Delta)>) -> Result<(), StoreError> {
        let mut table = self.transaction.open_table(BUCKETS)?;
        let mut bytes = Vec::new();
        for (key, mut delta) in deltas {
            let mut bucket = match table.get(key)? {
                Some(value) => Bucket::decode(value.value())?,
                None => Bucket::default(),
            };
            bucket.apply(&mut delta)?;
            bytes.clear();
            bucket.encode(&mut bytes);
            table.insert(key, bytes.as_slice())?;
        }
        Ok(())
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
            let mut value = vec![DEAD_LETTER_VERSION, *rule as u8];
            value.extend_from_slice(reason.as_bytes());
            table.insert(sequence, value.as_slice())?;
        }
        while table.len()? > MAX_DEAD_LETTERS {
            table.pop_first()?;
        }
        Ok(())
    }

    pub(crate) fn put_progress(&self, progress: &Progress) -> Result<(), StoreError> {
        meta::put_progress(&mut self.transaction.open_table(META)?, progress)
    }

    /// Deletes slices and buckets of days before these.
    pub(crate) fn delete_before(&self, slices: u32, buckets: u32) -> Result<(), StoreError> {
        let end = keys::slices_from(slices);
        self.transaction.open_table(TIMELINES)?.retain_in(..&end[..], |_, _| false)?;
        let end = keys::bucket_key(buckets, 0, 0, 0);
        self.transaction.open_table(BUCKETS)?.retain_in(..end, |_, _| false)?;
        Ok(())
    }

    pub(crate) fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit()?)
    }
}

pub(crate) struct Timelines<'a>(Table<'a, &'static [u8], &'static [u8]>);

impl Timelines<'_> {
    /// Appends the slices of a conversation on a day.
    pub(crate) fn read(
        &self,
        day: u32,
        prefix: &SlicePrefix,
        slices: &mut Vec<Slice>,
    ) -> Result<(), StoreError> {
        for row in self.0.range(&prefix[..]..=&keys::slice_end(prefix)[..])? {
            let (key, value) = row?;
            let begins = keys::slice_place(key.value())
                .ok_or_else(|| StoreError::value("timelines", "a key that is none"))?;
            slices.push(Slice::decode(day, begins, value.value())?);
        }
        Ok(())
    }

    pub(crate) fn put(&mut self, key: &[u8], slice: &[u8]) -> Result<(), StoreError> {
        self.0.insert(key, slice)?;
        Ok(())
    }
}

pub(crate) struct Users<'a>(Table<'a, UserKey, [u8; 9]>);

impl Users<'_> {
    pub(crate) fn get(&self, key: UserKey) -> Result<Option<UserRow>, StoreError> {
        let Some(value) = self.0.get(key)? else { return Ok(None) };
        let [version, o0, o1, o2, o3, q0, q1, q2, q3] = value.value();
        if version != USER_VERSION {
            return Err(StoreError::value("users", format!("version {version}")));
        }
        Ok(Some(UserRow {
            ordinal: u32::from_le_bytes([o0, o1, o2, o3]),
            first_seen: u32::from_le_bytes([q0, q1, q2, q3]),
        }))
    }

    pub(crate) fn put(&mut self, key: UserKey, row: UserRow) -> Result<(), StoreError> {
        let [o0, o1, o2, o3] = row.ordinal.to_le_bytes();
        let [q0, q1, q2, q3] = row.first_seen.to_le_bytes();
        self.0.insert(key, [USER_VERSION, o0, o1, o2, o3, q0, q1, q2, q3])?;
        Ok(())
    }
}

fn decode_dead_letter(value: &[u8]) -> Result<(Rule, String), StoreError> {
    let wrong = || StoreError::value("dead_letters", "damaged, or of another version");
    let [DEAD_LETTER_VERSION, rule, reason @ ..] = value else { return Err(wrong()) };
    let rule = *Rule::ALL.get(usize::from(*rule)).ok_or_else(wrong)?;
    Ok((rule, String::from_utf8(reason.to_vec()).map_err(|_| wrong())?))
}
