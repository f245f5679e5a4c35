//! The projection at work: messages in, one commit out; and the handle that answers reads.
//!
//! A batch of messages goes: [`batch`] -> [`upcoming`] (in order) -> [`slices`] (what is new, and
//! what it changes) -> [`users`] -> buckets -> commit with the checkpoint. Everything of a batch is
//! in one transaction; how messages are cut into batches is not visible in the result.

mod batch;
mod open;
mod slices;
mod upcoming;
mod users;

use std::path::Path;
use std::sync::{Arc, Once};

use parking_lot::RwLock;

use crate::event::Message;
use crate::event::batch::{Batch as Decoded, Place};
use crate::event::decoder::{Arrival, DecodedStream, Decoder};
use crate::event::hash::HashKey;
use crate::event::registry::Registry;
use crate::fold::names::Names;
use crate::fold::names_of_day::MAX_NAMES;
use crate::fold::timeline::SLICE_DAYS;
use crate::serve::open::OpenConversations;
use crate::serve::overview::Overviews;
use crate::serve::read::CellReader;
use crate::store::{
    Counts, Folder, OpenError, Progress, STORE_FILE, Store, StoreError, StreamIdentity,
};
use crate::telemetry;
use batch::{Batch, NS_PER_MS};
use slices::{Conversations, Effects, Outcomes};
use upcoming::Upcoming;
use users::{count_users, prune_generations};

/// The most messages that wait for a sync to the disk. A larger sync would delay the next commit.
/// At 10,000 events a second about every eighth commit is synced, at 50,000 every commit.
const MAX_UNSYNCED: usize = 4_000;

/// Said once: a store on a full disk is opened again every few seconds.
static MANY_PAIRS_TOLD: Once = Once::new();

/// The parts of an engine's memory that grow with the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes of the filters of conversations' days and of identities.
    pub filter_bytes: usize,
    /// Estimated bytes of the names of accounts and pairs.
    pub pair_bytes: usize,
    /// The number of pairs.
    pub pairs: u32,
    /// The number of conversations that may be open.
    pub open_conversations: usize,
}

/// The open projection.
///
/// After an error of [`Engine::apply_batch`] or [`Engine::sync`] the engine's memory no longer
/// matches the file: the engine must be opened again.
pub struct Engine {
    store: Arc<Store>,
    registry: Arc<RwLock<Registry>>,
    conversations: Conversations,
    open: Arc<RwLock<OpenConversations>>,
    counts: Counts,
    hash_key: HashKey,
    lists: Lists,
    /// Names of the present batch.
    names: Names,
    /// How many names of a day have counts of their own.
    max_names: usize,
    progress: Progress,
    /// The number of pairs that have rows in the store.
    pairs: u32,
    stream: StreamIdentity,
    /// True once the first batch since the store was opened has set the store's slots.
    is_attached: bool,
    keep_days: u32,
    /// The days before which slices were deleted, and before which buckets were deleted.
    deleted_before: (u32, u32),
    /// The number of messages that wait for a sync; `None` before the first commit.
    unsynced: Option<usize>,
    /// The most messages that wait for a sync.
    max_unsynced: usize,
    /// The lock of the folder, if this engine took it.
    _folder: Option<Folder>,
}

impl Engine {
    /// Locks the folder and opens the store in it.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong with the folder or the file.
    pub fn open(folder: &Path, keep_days: u32) -> Result<Self, OpenError> {
        let folder = Folder::lock(folder)?;
        let mut engine = Self::open_file(&folder.file(STORE_FILE), keep_days)?;
        engine._folder = Some(folder);
        Ok(engine)
    }

    /// Opens a store's file in a folder that is locked already.
    ///
    /// # Errors
    /// If the file is damaged, of another version, or cannot be read.
    pub fn open_file(path: &Path, keep_days: u32) -> Result<Self, StoreError> {
        Self::on(Store::open(path)?, keep_days)
    }

    /// Makes an engine of an open store.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn on(store: Store, keep_days: u32) -> Result<Self, StoreError> {
        let snapshot = store.snapshot()?;
        let progress = snapshot.progress()?;
        let registry = Registry::of_rows(snapshot.pairs()?)?;
        MANY_PAIRS_TOLD.call_once(|| {
            registry.accounts_with_many_pairs().for_each(telemetry::many_pairs);
        });
        let stored_ms = progress.checkpoint.as_ref().map_or(0, |c| c.stored_ns / NS_PER_MS);
        let mut open = OpenConversations::default();
        let conversations = Conversations::load(&snapshot, &mut open, stored_ms)?;
        let (counts, hash_key) = (snapshot.counts()?, snapshot.hash_key()?);
        drop(snapshot);
        Ok(Self {
            store: Arc::new(store),
            conversations,
            open: Arc::new(RwLock::new(open)),
            counts,
            hash_key,
            lists: Lists::default(),
            names: Names::default(),
            max_names: MAX_NAMES,
            stream: progress.checkpoint.as_ref().map(|c| c.stream.clone()).unwrap_or_default(),
            is_attached: false,
            progress,
            pairs: registry.pair_count(),
            registry: Arc::new(RwLock::new(registry)),
            keep_days,
            deleted_before: (0, 0),
            unsynced: None,
            max_unsynced: MAX_UNSYNCED,
            _folder: None,
        })
    }

    /// The progress as of the last commit.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Memory held beside the page cache.
    #[must_use]
    pub fn memory_use(&self) -> MemoryUse {
        let registry = self.registry.read();
        MemoryUse {
            filter_bytes: self.conversations.bytes(),
            pair_bytes: registry.bytes(),
            pairs: registry.pair_count(),
            open_conversations: self.open.read().len(),
        }
    }

    /// The store, for snapshots.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// A handle that answers reads from any thread.
    #[must_use]
    pub fn reader(&self) -> CellReader {
        CellReader::new(Arc::clone(&self.store), Arc::clone(&self.registry), self.keep_days)
    }

    /// A handle that answers from any thread what goes on now.
    #[must_use]
    pub fn overviews(&self) -> Overviews {
        let (store, registry) = (Arc::clone(&self.store), Arc::clone(&self.registry));
        Overviews::new(store, registry, Arc::clone(&self.open), self.keep_days)
    }

    /// A decoder whose messages this engine can apply.
    #[must_use]
    pub fn decoder(&self) -> Decoder {
        let (registry, key) = (Arc::clone(&self.registry), self.hash_key.clone());
        let stream = DecodedStream::new(&self.stream.name, None);
        Decoder::new(registry, key, self.progress.ownership, stream)
    }

    /// An empty batch of the stream that was read last.
    #[must_use]
    pub fn batch(&self) -> Decoded {
        Decoded::new(self.stream.clone(), self.progress.ownership)
    }

    /// Bounds the names of a day that have counts of their own. For tests, and only before the
    /// first message: stored counts were made by the bound of their time.
    pub fn set_max_names(&mut self, max_names: usize) {
        self.max_names = max_names;
    }

    /// Bounds the messages that wait for a sync. For tests.
    pub fn set_max_unsynced(&mut self, messages: usize) {
        self.max_unsynced = messages;
    }

    /// Decodes messages of the stream that was read last, and applies them.
    ///
    /// # Errors
    /// As [`Engine::apply_batch`].
    pub fn apply(&mut self, messages: &[Message<'_>]) -> Result<(), StoreError> {
        let mut decoder = self.decoder();
        let mut batch = self.batch();
        for message in messages {
            batch.take(&mut decoder, message)?;
        }
        self.apply_batch(&batch)
    }

    /// True if everything applied so far is on the disk.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.unsynced.is_none_or(|messages| messages == 0)
    }

    /// Syncs everything applied so far to the disk.
    ///
    /// # Errors
    /// As [`Engine::apply_batch`].
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if !self.is_synced() {
            self.store.sync()?;
            self.unsynced = Some(0);
        }
        Ok(())
    }

    /// Applies messages that one decoder of this engine decoded, in the order of their sequences,
    /// and commits. Skips messages at or before the checkpoint. The reader has compared the stream
    /// with the checkpoint, and the slots with those of the store.
    ///
    /// Reads see the commit at once. Small commits are synced to the disk later, by
    /// [`Engine::sync`] or when many messages wait for that: often they change the same pages,
    /// which are then written once.
    ///
    /// # Errors
    /// If the store cannot be read or written. Then the engine must be opened again, as of the last
    /// sync.
    pub fn apply_batch(&mut self, batch: &Decoded) -> Result<(), StoreError> {
        self.stream = batch.stream.clone();
        if !self.is_attached {
            (self.is_attached, self.progress.ownership) = (true, batch.ownership);
        }
        let Some(read) = batch.read else { return Ok(()) };
        let mut rest = &batch.arrivals[..];
        while let done = self.done()
            && done < read.1.sequence
        {
            rest = &rest[rest.partition_point(|a| a.place.sequence <= done)..];
            self.apply_some(rest, read)?;
        }
        Ok(())
    }

    /// The sequence of the last message applied.
    fn done(&self) -> u64 {
        self.progress.checkpoint.as_ref().map_or(0, |c| c.sequence)
    }

    /// Applies the first messages in one commit.
    fn apply_some(&mut self, arrivals: &[Arrival], read: (Place, Place)) -> Result<(), StoreError> {
        let (progress, stream) = (&self.progress, &self.stream);
        let names = &mut self.names;
        let mut batch = Batch::first_of(arrivals, read, stream, progress, self.pairs, names);
        let keep = first_days_kept(&mut batch.progress, self.keep_days);
        let stored_ms = batch.progress.checkpoint.as_ref().map_or(0, |c| c.stored_ns / NS_PER_MS);

        let unsynced = self.unsynced_after(&batch);
        let commit = self.store.begin()?;
        let Lists { upcoming, effects, .. } = self.lists.for_batch_of(batch.events.len());
        effects.begin(keep.1, &self.open.read(), stored_ms);
        let tables = (commit.slices()?, commit.parts()?);
        let Outcomes { accepted, duplicates, conflicts } =
            self.conversations.add(&batch, upcoming, &mut self.names, tables, effects)?;
        batch.progress.accepted += accepted;
        batch.progress.duplicates += duplicates;
        batch.progress.conflicts += conflicts;
        let Effects { changes, activities, open } = effects;
        count_users(&commit, &mut self.counts, activities, changes)?;
        {
            let registry = self.registry.read();
            let new_pairs = self.pairs..batch.pairs;
            commit.put_pairs(new_pairs.filter_map(|n| Some((n, registry.row(n)?))))?;
        }
        let whole_from = batch.progress.deleted_to_day;
        changes.apply(&self.names, self.max_names, &mut commit.buckets()?, whole_from)?;
        commit.put_counts(&mut self.counts)?;
        commit.put_dead_letters(&batch.dead_letters)?;
        commit.put_progress(&batch.progress)?;
        if keep != self.deleted_before {
            commit.delete_before(keep.0, keep.1)?;
            prune_generations(&commit, keep.0)?;
        }
        match unsynced {
            Some(_) => commit.commit()?,
            None => commit.commit_and_sync()?,
        }
        self.unsynced = unsynced.or(Some(0));

        self.conversations.forget_before(keep.0);
        open.apply(&mut self.open.write());
        self.deleted_before = keep;
        self.pairs = batch.pairs;
        self.progress = batch.progress;
        Ok(())
    }

    /// The number of messages that wait for a sync after the batch; `None` if the batch's commit is
    /// synced itself.
    fn unsynced_after(&self, batch: &Batch<'_>) -> Option<usize> {
        // The first commit is synced, so that a full disk shows before reads are answered.
        let unsynced = self.unsynced?;
        // A commit that passes to another stream or gives slots away is synced, too.
        let (before, after) = (&self.progress, &batch.progress);
        let [old, new] = [before, after].map(|of| of.checkpoint.as_ref().map(|c| &c.stream));
        let goes_on = old == new && before.ownership == after.ownership;
        // The next commit may be as large.
        let has_room = unsynced + 2 * batch.count <= self.max_unsynced;
        (has_room && goes_on).then_some(unsynced + batch.count.max(1))
    }
}

/// The events of a batch in order, and what they change: the memory of one batch serves the next.
#[derive(Default)]
struct Lists {
    upcoming: Upcoming,
    effects: Effects,
    /// The most events that a batch had since the lists were made.
    most: usize,
}

impl Lists {
    /// Lists for a batch with that many events. Those of far larger batches are given back, so that
    /// catching up leaves nothing behind.
    fn for_batch_of(&mut self, events: usize) -> &mut Self {
        if events < self.most / 10 {
            *self = Self::default();
        }
        self.most = self.most.max(events);
        self
    }
}

/// Moves the progress to the first days that are kept; returns that of slices and that of buckets.
fn first_days_kept(progress: &mut Progress, keep_days: u32) -> (u32, u32) {
    let newest_day = progress.watermark.day();
    let kept_from = newest_day.saturating_sub(keep_days);
    progress.buckets_from_day = progress.buckets_from_day.max(kept_from);
    progress.deleted_to_day = progress.deleted_to_day.max(progress.buckets_from_day);
    (newest_day.saturating_sub(SLICE_DAYS), progress.buckets_from_day)
}

#[cfg(test)]
mod tests;
