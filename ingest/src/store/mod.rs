//! The store: one redb file that holds everything an ingest knows.
//!
//! *Invariants*: only this module writes redb. A commit holds state and checkpoint in one
//! transaction, so a crash at any moment leaves the fold of exactly the messages up to the
//! checkpoint. A value starts with a version; an unknown one is refused.
//!
//! *Not here*: rules. What a bucket or a slice becomes is decided in `fold`.
//!
//! *Format*: the tables below; keys in `store/keys.rs`; values in `fold/bucket.rs`,
//! `fold/timeline.rs`, `store/meta.rs` and here; `store/checked.rs` has the layout of the file
//! itself, which holds redb's pages with their checksums.

mod checked;
mod disk_usage;
mod error;
mod folder;
pub(crate) mod keys;
mod meta;
mod reencode;

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::ops::Bound;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    ReadableTableMetadata as _, Table, TableDefinition, TableHandle as _, WriteTransaction,
};

pub(crate) use checked::Damage;
pub(crate) use disk_usage::disk_usage;
pub use error::{OpenError, StoreError};
pub(crate) use folder::{DAMAGED_FILE, REBUILD_FILE, replace};
pub use folder::{Folder, STORE_FILE};
pub use meta::Progress;
pub(crate) use meta::{Checkpoint, PairRow, StreamIdentity};
pub use redb::StorageBackend;
pub use reencode::{Reencoded, StoredTable, reencode};

use crate::event::Rule;
use crate::fold::bucket::{Bucket, BucketId};
use crate::fold::session::RULES;
use crate::fold::timeline::{Slice, SortKey};
use checked::{CheckedFile, FirstFailure};
use keys::{BucketKey, LongKey, UserKey};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const PAIRS: TableDefinition<u32, &[u8]> = TableDefinition::new("pairs");
const USERS: TableDefinition<UserKey, [u8; 9]> = TableDefinition::new("users");
const TIMELINES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("timelines");
const LONG: TableDefinition<LongKey, ()> = TableDefinition::new("long");
const BUCKETS: TableDefinition<BucketKey, &[u8]> = TableDefinition::new("buckets");
const DEAD_LETTERS: TableDefinition<u64, &[u8]> = TableDefinition::new("dead_letters");

/// The newest dead letters are kept, up to this many: enough to find what publishers do wrong.
pub const MAX_DEAD_LETTERS: u64 = 100_000;
/// Memory for redb's page cache, in bytes.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
const USER_VERSION: u8 = 1;
const DEAD_LETTER_VERSION: u8 = 1;
/// The version of a file's layout, tables, keys and values. A file of another format is refused.
const FORMAT: u32 = 3;
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
        let write = begin(&database)?;
        {
            write.open_table(PAIRS)?;
            write.open_table(USERS)?;
            write.open_table(TIMELINES)?;
            write.open_table(LONG)?;
            write.open_table(BUCKETS)?;
            write.open_table(DEAD_LETTERS)?;
            meta::make(&mut write.open_table(META)?)?;
        }
        write.commit()?;
        Ok(Self { database, first_failure })
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
        Ok(Commit { transaction: begin(&self.database)? })
    }
}

fn begin(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut transaction = database.begin_write()?;
    // The next open after a crash then takes milliseconds, however large the file is.
    transaction.set_quick_repair(true);
    Ok(transaction)
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

    /// Calls `each` with the day and the conversation (pair and hash) of every slice, and with the
    /// slice itself if `wanted` is true for the conversation.
    pub(crate) fn slices(
        &self,
        wanted: impl Fn((u32, u128)) -> bool,
        mut each: impl FnMut(u32, (u32, u128), Option<Slice>),
    ) -> Result<(), StoreError> {
        let table = self.transaction.open_table(TIMELINES)?;
        for row in table.iter()? {
            let (key, value) = row?;
            let (day, pair, conversation) = keys::slice_conversation(key.value())
                .ok_or_else(|| StoreError::value("timelines", "malformed key"))?;
            let slice = wanted((pair, conversation))
                .then(|| decode_slice(day, key.value(), value.value()))
                .transpose()?;
            each(day, (pair, conversation), slice);
        }
        Ok(())
    }

    /// Long conversations: (pair, conversation).
    pub(crate) fn long_conversations(&self) -> Result<Vec<(u32, u128)>, StoreError> {
        let table = self.transaction.open_table(LONG)?;
        table.iter()?.map(|row| Ok(keys::long_conversation(&row?.0.value()))).collect()
    }

    /// The number of rows of each table. redb keeps these numbers: nothing is counted here.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn rows(&self) -> Result<[(&'static str, u64); 5], StoreError> {
        let t = &self.transaction;
        Ok([
            (PAIRS.name(), t.open_table(PAIRS)?.len()?),
            (USERS.name(), t.open_table(USERS)?.len()?),
            (TIMELINES.name(), t.open_table(TIMELINES)?.len()?),
            (BUCKETS.name(), t.open_table(BUCKETS)?.len()?),
            (DEAD_LETTERS.name(), t.open_table(DEAD_LETTERS)?.len()?),
        ])
    }

    pub(crate) fn buckets(&self) -> Result<ReadOnlyTable<BucketKey, &'static [u8]>, StoreError> {
        Ok(self.transaction.open_table(BUCKETS)?)
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

/// A write transaction. It is rolled back if it is dropped without [`Commit::commit`].
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
        Ok(Timelines {
            slices: self.transaction.open_table(TIMELINES)?,
            long: self.transaction.open_table(LONG)?,
        })
    }

    pub(crate) fn users(&self) -> Result<Users<'_>, StoreError> {
        Ok(Users(self.transaction.open_table(USERS)?))
    }

    pub(crate) fn buckets(&self) -> Result<Buckets<'_>, StoreError> {
        Ok(Buckets { table: self.transaction.open_table(BUCKETS)?, bytes: Vec::new() })
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
        let end = keys::slices_from(slices);
        self.transaction.open_table(TIMELINES)?.retain_in(..&end[..], |_, _| false)?;
        let end = keys::buckets_from(buckets);
        self.transaction.open_table(BUCKETS)?.retain_in(..end, |_, _| false)?;
        Ok(())
    }

    pub(crate) fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit()?)
    }
}

pub(crate) struct Buckets<'a> {
    table: Table<'a, BucketKey, &'static [u8]>,
    /// The bytes of the bucket that `put` encodes; a field to save an allocation for each bucket.
    bytes: Vec<u8>,
}

impl Buckets<'_> {
    /// The stored bucket, or an empty bucket.
    pub(crate) fn get(&self, id: &BucketId) -> Result<Bucket, StoreError> {
        match self.table.get(keys::bucket_key(id))? {
            Some(value) => Ok(Bucket::decode(value.value())?),
            None => Ok(Bucket::default()),
        }
    }

    pub(crate) fn put(&mut self, id: &BucketId, bucket: &Bucket) -> Result<(), StoreError> {
        self.bytes.clear();
        bucket.encode(&mut self.bytes);
        self.table.insert(keys::bucket_key(id), self.bytes.as_slice())?;
        Ok(())
    }
}

/// The slices of conversations, and which conversations are long.
pub(crate) struct Timelines<'a> {
    slices: Table<'a, &'static [u8], &'static [u8]>,
    long: Table<'a, LongKey, ()>,
}

/// A slice as it is stored.
pub(crate) struct SliceRow {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl SliceRow {
    pub(crate) fn of(pair: u32, conversation: u128, slice: &Slice) -> Result<Self, StoreError> {
        let prefix = keys::slice_prefix(slice.day, pair, conversation);
        let value = slice.encode().map_err(|e| StoreError::value("timelines", e))?;
        Ok(Self { key: keys::slice_key(&prefix, slice.begins), value })
    }
}

/// A conversation, and the days on which it may have slices, ascending.
pub(crate) struct Conversation {
    pub(crate) pair: u32,
    pub(crate) conversation: u128,
    pub(crate) days: Vec<u32>,
}

impl Timelines<'_> {
    /// The last slice that begins at or before a place in a day.
    pub(crate) fn at_or_before(
        &self,
        of: &Conversation,
        (day, place): (u32, SortKey),
    ) -> Result<Option<Slice>, StoreError> {
        for &d in of.days.iter().rev().filter(|d| **d <= day) {
            let prefix = keys::slice_prefix(d, of.pair, of.conversation);
            let end = if d == day {
                keys::slice_key(&prefix, place)
            } else {
                keys::slice_end(&prefix).to_vec()
            };
            if let Some(row) = self.slices.range(&prefix[..]..=&end[..])?.next_back() {
                let (key, value) = row?;
                return decode_slice(d, key.value(), value.value()).map(Some);
            }
        }
        Ok(None)
    }

    /// Adds all slices of the conversation to `slices`, in order.
    pub(crate) fn all(&self, of: &Conversation, slices: &mut Vec<Slice>) -> Result<(), StoreError> {
        for &day in &of.days {
            let prefix = keys::slice_prefix(day, of.pair, of.conversation);
            let end = keys::slice_end(&prefix);
            for row in self.slices.range(&prefix[..]..=&end[..])? {
                let (key, value) = row?;
                slices.push(decode_slice(day, key.value(), value.value())?);
            }
        }
        Ok(())
    }

    /// The first slice that begins after a place in a day.
    pub(crate) fn after(
        &self,
        of: &Conversation,
        (first_day, place): (u32, SortKey),
    ) -> Result<Option<Slice>, StoreError> {
        for &d in of.days.iter().filter(|d| **d >= first_day) {
            let prefix = keys::slice_prefix(d, of.pair, of.conversation);
            let begin = if d == first_day {
                Bound::Excluded(keys::slice_key(&prefix, place))
            } else {
                Bound::Included(prefix.to_vec())
            };
            let end = keys::slice_end(&prefix);
            let range = (begin.as_ref().map(Vec::as_slice), Bound::Included(&end[..]));
            if let Some(row) = self.slices.range::<&[u8]>(range)?.next() {
                let (key, value) = row?;
                return decode_slice(d, key.value(), value.value()).map(Some);
            }
        }
        Ok(None)
    }

    pub(crate) fn put(&mut self, row: &SliceRow) -> Result<(), StoreError> {
        self.slices.insert(row.key.as_slice(), row.value.as_slice())?;
        Ok(())
    }

    pub(crate) fn put_long(&mut self, pair: u32, conversation: u128) -> Result<(), StoreError> {
        self.long.insert(keys::long_key(pair, conversation), ())?;
        Ok(())
    }

    pub(crate) fn forget_long(&mut self, pair: u32, conversation: u128) -> Result<(), StoreError> {
        self.long.remove(keys::long_key(pair, conversation))?;
        Ok(())
    }
}

fn decode_slice(day: u32, key: &[u8], value: &[u8]) -> Result<Slice, StoreError> {
    let begins =
        keys::slice_begins(key).ok_or_else(|| StoreError::value("timelines", "malformed key"))?;
    Ok(Slice::decode(day, begins, value)?)
}

pub(crate) struct Users<'a>(Table<'a, UserKey, [u8; 9]>);

impl Users<'_> {
    pub(crate) fn get(&self, pair: u32, user: u128) -> Result<Option<UserRow>, StoreError> {
        self.0.get(keys::user_key(pair, user))?.map(|value| decode_user(value.value())).transpose()
    }

    pub(crate) fn put(&mut self, pair: u32, user: u128, row: UserRow) -> Result<(), StoreError> {
        self.0.insert(keys::user_key(pair, user), encode_user(row))?;
        Ok(())
    }
}

fn encode_user(row: UserRow) -> [u8; 9] {
    let [o0, o1, o2, o3] = row.ordinal.to_le_bytes();
    let [q0, q1, q2, q3] = row.first_seen.to_le_bytes();
    [USER_VERSION, o0, o1, o2, o3, q0, q1, q2, q3]
}

fn decode_user(value: [u8; 9]) -> Result<UserRow, StoreError> {
    let [version, o0, o1, o2, o3, q0, q1, q2, q3] = value;
    if version != USER_VERSION {
        return Err(StoreError::value("users", format!("unknown version {version}")));
    }
    Ok(UserRow {
        ordinal: u32::from_le_bytes([o0, o1, o2, o3]),
        first_seen: u32::from_le_bytes([q0, q1, q2, q3]),
    })
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
