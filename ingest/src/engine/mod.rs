//! The projection at work: messages in, one commit out; and the handle that answers reads.
//!
//! A batch of messages goes: [`batch`] -> [`conversations`] (what is new, and what it changes) ->
//! [`users`] -> buckets -> commit with the checkpoint. Everything of a batch is in one transaction;
//! how messages are cut into batches is not visible in the result.

mod batch;
mod conversations;
mod users;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use botstats_common::ids::Account;
use botstats_common::quarter::Quarter;
use botstats_common::wire;
use parking_lot::RwLock;

use crate::event::Kind;
use crate::event::Message;
use crate::event::decoder::{Arrival, Decoder};
use crate::event::registry::Registry;
use crate::fold::deltas::BucketDeltas;
use crate::fold::metrics::counted;
use crate::fold::session::Sample;
use crate::fold::timeline::{Admission, NewEvent, SLICE_DAYS};
use crate::serve::cells::{CellReader, ReadError};
use crate::store::{
    Commit, Folder, OpenError, Progress, STORE_FILE, SliceRow, Store, StoreError, StreamIdentity,
};
use crate::telemetry;
use batch::{Batch, NS_PER_MS, Pending};
use conversations::Conversations;
use users::{Activity, count_users};

/// What an engine holds in memory beside redb's page cache, which is bounded by a constant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes of the filters of conversations' days and of identities.
    pub filter_bytes: usize,
    /// Estimated bytes of the names of accounts and pairs.
    pub pair_bytes: usize,
    /// The number of pairs.
    pub pairs: u32,
    /// The number of long conversations.
    pub long_conversations: usize,
}

/// The open projection.
///
/// After an error of [`Engine::apply`] the engine's memory may be ahead of the file: the engine
/// must be opened again.
pub struct Engine {
    store: Arc<Store>,
    registry: Arc<RwLock<Registry>>,
    conversations: Conversations,
    progress: Progress,
    /// The number of pairs that have rows in the store.
    pairs: u32,
    stream: StreamIdentity,
    keep_days: u32,
    /// The days before which slices were deleted, and before which buckets were deleted.
    deleted_before: (u32, u32),
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
        for account in registry.accounts_with_many_pairs() {
            telemetry::many_pairs(account);
        }
        let conversations = Conversations::load(&snapshot)?;
        drop(snapshot);
        Ok(Self {
            store: Arc::new(store),
            conversations,
            stream: progress.checkpoint.as_ref().map(|c| c.stream.clone()).unwrap_or_default(),
            progress,
            pairs: registry.pair_count(),
            registry: Arc::new(RwLock::new(registry)),
            keep_days,
            deleted_before: (0, 0),
            _folder: None,
        })
    }

    /// Sets the stream of the next messages. The reader has compared this stream with the
    /// checkpoint.
    pub fn attach(&mut self, stream: StreamIdentity) {
        self.stream = stream;
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
            filter_bytes: self.conversations.filter_bytes(),
            pair_bytes: registry.bytes(),
            pairs: registry.pair_count(),
            long_conversations: self.conversations.long.len(),
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
        CellReader::new(Arc::clone(&self.store), Arc::clone(&self.registry))
    }

    /// Answers one read, as of the last message applied.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(
        &self,
        account: &Account,
        request: &wire::Request,
    ) -> Result<Vec<wire::Chunk>, ReadError> {
        let as_of = self.progress.checkpoint.as_ref().map_or(0, |c| c.stored_ns / NS_PER_MS);
        self.reader().chunks(account, request, as_of)
    }

    /// A decoder whose messages this engine can apply.
    #[must_use]
    pub fn decoder(&self) -> Decoder {
        Decoder::new(Arc::clone(&self.registry))
    }

    /// Decodes messages and applies them.
    ///
    /// # Errors
    /// As [`Engine::apply_decoded`].
    pub fn apply(&mut self, messages: &[Message<'_>]) -> Result<(), StoreError> {
        let mut decoder = self.decoder();
        let decoded = messages.iter().map(|message| decoder.decode(message));
        self.apply_decoded(&decoded.collect::<Result<Vec<_>, _>>()?)
    }

    /// Applies messages that one decoder of this engine decoded, in the order of their sequences,
    /// and commits. Skips messages at or before the checkpoint.
    ///
    /// # Errors
    /// If the store cannot be read or written. Then the engine must be opened again, as of its last
    /// commit.
    pub fn apply_decoded(&mut self, arrivals: &[Arrival]) -> Result<(), StoreError> {
        let done = self.progress.checkpoint.as_ref().map_or(0, |c| c.sequence);
        let mut rest = &arrivals[arrivals.partition_point(|a| a.sequence <= done)..];
        while !rest.is_empty() {
            let applied = self.apply_some(rest)?;
            rest = &rest[applied..];
        }
        Ok(())
    }

    /// Applies the first messages in one commit; gives their number.
    fn apply_some(&mut self, arrivals: &[Arrival]) -> Result<usize, StoreError> {
        let mut batch = Batch::first_of(arrivals, &self.stream, &self.progress, self.pairs);
        let keep = first_days_kept(&mut batch.progress, self.keep_days);

        let commit = self.store.begin()?;
        let mut deltas = BucketDeltas::from_day(keep.1);
        let activities = self.count_events(&commit, &mut batch, &mut deltas)?;
        let mut changed_pairs = count_users(&commit, &self.registry, activities, &mut deltas)?;
        apply_deltas(&commit, deltas, batch.progress.deleted_to_day)?;
        {
            let registry = self.registry.read();
            changed_pairs.extend(self.pairs..batch.pairs);
            changed_pairs.sort_unstable();
            changed_pairs.dedup();
            commit.put_pairs(changed_pairs.iter().filter_map(|n| Some((*n, registry.row(*n)?))))?;
        }
        commit.put_dead_letters(&batch.dead_letters)?;
        commit.put_progress(&batch.progress)?;
        let mut still_long = None;
        if keep != self.deleted_before {
            commit.delete_before(keep.0, keep.1)?;
            still_long = Some(self.conversations.still_long(&commit, keep.0)?);
        }
        commit.commit()?;

        self.conversations.forget_before(keep.0, still_long);
        self.deleted_before = keep;
        self.pairs = batch.pairs;
        self.progress = batch.progress;
        Ok(batch.count)
    }

    /// Adds the batch's events to their conversations; gives the activities of users.
    fn count_events(
        &mut self,
        commit: &Commit,
        batch: &mut Batch<'_>,
        deltas: &mut BucketDeltas,
    ) -> Result<Vec<Activity>, StoreError> {
        let mut timelines = commit.timelines()?;
        let mut activities: Vec<Activity> = Vec::new();
        // By day, because keys begin with the day: so rows are put in the order of keys.
        let mut rows: BTreeMap<u32, Vec<SliceRow>> = BTreeMap::new();
        let mut new: Vec<NewEvent> = Vec::new();
        let (mut accepted, mut duplicates, mut conflicts) = (0, 0, 0);
        for events in batch.conversations() {
            let Some(first) = events.first() else { continue };
            let (numbers, (pair, conversation)) = (first.numbers, first.conversation());
            new.clear();
            new.extend(events.iter().map(Pending::new_event));
            let merged = self.conversations.merge(&mut timelines, (pair, conversation), &new)?;
            for (pending, admission) in events.iter().zip(merged.admissions) {
                match admission {
                    Admission::Accepted => accepted += 1,
                    Admission::Duplicate => duplicates += 1,
                    Admission::Conflict => conflicts += 1,
                }
                if admission == Admission::Accepted {
                    count_event(pending, deltas, &mut activities);
                }
            }
            for sample in merged.samples {
                deltas.add(numbers, sample);
            }
            for slice in merged.slices {
                let row = SliceRow::of(pair, conversation, &slice)?;
                rows.entry(slice.day).or_default().push(row);
            }
        }
        for row in rows.values().flatten() {
            timelines.put(row)?;
        }
        batch.progress.accepted += accepted;
        batch.progress.duplicates += duplicates;
        batch.progress.conflicts += conflicts;
        Ok(activities)
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

/// Counts an accepted event by itself, without the events around it.
fn count_event(
    Pending { numbers, event, index, .. }: &Pending<'_>,
    deltas: &mut BucketDeltas,
    activities: &mut Vec<Activity>,
) {
    for metric in counted(event.kind, event.flags) {
        deltas.add(*numbers, Sample::new(event.time_ms, *metric, 1));
    }
    if event.kind == Kind::Received {
        let quarter = Quarter::of_ms(event.time_ms).0;
        let activity = Activity { numbers: *numbers, user: event.user, index: *index, quarter };
        // Successive messages of a user in one quarter are one activity.
        if activities.last().is_none_or(|last| !last.is_like(&activity)) {
            activities.push(activity);
        }
    }
}

/// Changes the buckets. Buckets of days before `deleted_to_day` may have lost a part.
fn apply_deltas(
    commit: &Commit,
    deltas: BucketDeltas,
    deleted_to_day: u32,
) -> Result<(), StoreError> {
    let mut buckets = commit.buckets()?;
    for (id, mut delta) in deltas.sorted() {
        let mut bucket = buckets.get(&id)?;
        bucket.apply(&mut delta, id.day >= deleted_to_day)?;
        buckets.put(&id, &bucket)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
