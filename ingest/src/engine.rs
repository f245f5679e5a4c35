//! The projection at work: messages in, one commit out; and the handle that answers reads.
//!
//! A batch goes: decode -> timelines (what is new, and what it changes) -> users -> buckets -> commit with
//! the checkpoint. Everything of a batch is in one transaction; how messages are cut into batches is not
//! visible in the result.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use botstats_common::ids::Account;
use botstats_common::quarter::{QUARTERS_PER_HOUR, Quarter, day_of_ms};
use botstats_common::wire;
use rustc_hash::{FxHashMap, FxHashSet};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::bucket::{Delta, Field};
use crate::days::Days;
pub use crate::event::Message;
use crate::event::{Decoded, Event, Kind, decode};
use crate::read::{ReadError, Reader};
use crate::registry::Registry;
use crate::session::{Sample, counted};
use crate::store::keys::{self, BucketKey};
use crate::store::{
    Checkpoint, Commit, Conversation, DeadLetter, Folder, OpenError, Progress, STORE_FILE, Store,
    StoreError, StreamIdentity, Timelines, UserRow,
};
use crate::timeline::{Admission, Entry, NewEvent, SLICE_DAYS, Slice, admit, insert};

const NS_PER_MS: i64 = 1_000_000;
/// A conversation with more slices is long: it is not read whole any more.
const MAX_SHORT_SLICES: usize = 4;

/// The open projection.
///
/// After an error of [`Engine::apply`] what it holds in memory may be ahead of the file: open it again.
pub struct Engine {
    store: Arc<Store>,
    registry: Arc<RwLock<Registry>>,
    days: Days,
    /// Conversations of which only what is touched is read: (pair, conversation).
    long: FxHashSet<(u32, u128)>,
    progress: Progress,
    stream: StreamIdentity,
    keep_days: u32,
    /// Days before which slices and buckets were deleted.
    deleted_before: (u32, u32),
    /// Held as long as the engine lives, if the engine took it.
    _folder: Option<Folder>,
}

/// The hash by which a checkpoint recognises a subject.
#[must_use]
pub fn subject_hash(subject: &str) -> u64 {
    xxh3_64(subject.as_bytes())
}

/// An event of the batch, on its way.
struct Pending {
    pair: u32,
    event: Event,
    first_day: u32,
}

/// A user's activity in the batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Activity {
    pair: u32,
    user: u128,
    /// Place in the batch.
    order: usize,
    quarter: u32,
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

    /// Goes on with an open store.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn on(store: Store, keep_days: u32) -> Result<Self, StoreError> {
        let snapshot = store.snapshot()?;
        let progress = snapshot.progress()?;
        let registry = Registry::of_rows(snapshot.pairs()?)?;
        let mut days = Days::default();
        snapshot.conversations(|day, pair, conversation| {
            days.insert(day, conversation_hash(pair, conversation));
        })?;
        let long = snapshot.long_conversations()?.into_iter().collect();
        drop(snapshot);
        Ok(Self {
            store: Arc::new(store),
            registry: Arc::new(RwLock::new(registry)),
            days,
            long,
            stream: progress.checkpoint.as_ref().map(|c| c.stream.clone()).unwrap_or_default(),
            progress,
            keep_days,
            deleted_before: (0, 0),
            _folder: None,
        })
    }

    /// Says which stream the next messages come from. It has been checked against the checkpoint.
    pub fn attach(&mut self, stream: StreamIdentity) {
        self.stream = stream;
    }

    /// What was committed last.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// What is held in memory about conversations: bytes of filters, and how many conversations are long.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        (self.days.bytes(), self.long.len())
    }

    /// The store, for views of it.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// A handle that answers reads from any thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.store), Arc::clone(&self.registry))
    }

    /// Answers one read; the answer says it is as of the last message applied.
    ///
    /// # Errors
    /// [`ReadError`] if the request makes no sense or the store cannot be read.
    pub fn read(
        &self,
        account: &Account,
        request: &wire::Request,
    ) -> Result<Vec<wire::Chunk>, ReadError> {
        let as_of = self.progress.checkpoint.as_ref().map_or(0, |c| c.stored_ns / NS_PER_MS);
        self.reader().chunks(account, request, as_of)
    }

    /// Applies messages, in the order of their sequences, and commits. Messages at or before the
    /// checkpoint are passed over.
    ///
    /// # Errors
    /// If the store cannot be read or written; then what was not committed was not applied, and the engine
    /// must be opened again.
    pub fn apply(&mut self, messages: &[Message<'_>]) -> Result<(), StoreError> {
        let done = self.progress.checkpoint.as_ref().map_or(0, |c| c.sequence);
        let mut rest = &messages[messages.partition_point(|m| m.sequence <= done)..];
        while !rest.is_empty() {
            let applied = self.apply_some(rest)?;
            rest = &rest[applied..];
        }
        Ok(())
    }

    /// Applies the first messages in one commit; gives their number.
    fn apply_some(&mut self, messages: &[Message<'_>]) -> Result<usize, StoreError> {
        let mut next = self.progress.clone();
        let mut batch = Batch::default();
        let mut count = 0;
        for message in messages {
            if !self.take(message, &mut next, &mut batch, count == 0)? {
                break;
            }
            count += 1;
        }
        let Some(last) = messages[..count].last() else { return Ok(0) };
        next.checkpoint = Some(Checkpoint {
            stream: self.stream.clone(),
            sequence: last.sequence,
            stored_ns: last.stored_ns,
            subject_hash: subject_hash(last.subject),
        });
        let newest_day = next.watermark.day();
        let kept_from = newest_day.saturating_sub(self.keep_days);
        next.buckets_from_day = next.buckets_from_day.max(kept_from);
        next.deleted_to_day = next.deleted_to_day.max(next.buckets_from_day);
        let keep = (newest_day.saturating_sub(SLICE_DAYS), next.buckets_from_day);

        let commit = self.store.begin()?;
        let mut changes = Changes { first_day: keep.1, deltas: FxHashMap::default() };
        let activities = self.merge_timelines(&commit, &mut batch, &mut next, &mut changes)?;
        self.count_users(&commit, activities, &mut batch, &mut changes)?;
        commit.apply(changes.sorted(), next.deleted_to_day)?;
        {
            let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
            batch.pairs.sort_unstable();
            batch.pairs.dedup();
            commit.put_pairs(batch.pairs.iter().filter_map(|n| Some((*n, registry.row(*n)?))))?;
        }
        commit.put_dead_letters(&batch.dead_letters)?;
        commit.put_progress(&next)?;
        let mut long = None;
        if keep != self.deleted_before {
            commit.delete_before(keep.0, keep.1)?;
            long = Some(self.forget_identities(&commit, keep.0)?);
        }
        commit.commit()?;

        if let Some(long) = long {
            self.long = long;
        }
        self.days.forget_before(keep.0);
        self.deleted_before = keep;
        self.progress = next;
        Ok(count)
    }

    /// Decodes a message into the batch. False if it may only be the first of a batch: it was not taken.
    fn take(
        &mut self,
        message: &Message<'_>,
        next: &mut Progress,
        batch: &mut Batch,
        is_first: bool,
    ) -> Result<bool, StoreError> {
        match decode(message) {
            Decoded::UnknownType => next.unknown_types += 1,
            Decoded::DeadLetter(rule, reason) => {
                *next.dead_letters.entry(rule.name().to_owned()).or_default() += 1;
                batch.dead_letters.push(DeadLetter {
                    sequence: message.sequence,
                    rule,
                    reason: reason.into_owned(),
                });
            }
            Decoded::Event(address, event) => {
                let stored_ms = message.stored_ns / NS_PER_MS;
                if next.watermark.was_wrong(stored_ms) {
                    // What may be deleted changes here, so that what is deleted must not depend on batches.
                    if !is_first {
                        return Ok(false);
                    }
                    next.buckets_from_day = next.buckets_from_day.min(day_of_ms(stored_ms) + 1);
                }
                next.watermark.observe(event.time_ms, stored_ms);
                let known =
                    self.registry.read().unwrap_or_else(PoisonError::into_inner).number(&address);
                let pair = match known {
                    Some(pair) => pair,
                    None => {
                        let mut registry =
                            self.registry.write().unwrap_or_else(PoisonError::into_inner);
                        let pair = registry.add(&address)?;
                        batch.pairs.push(pair);
                        pair
                    }
                };
                let first_day = next.watermark.day().saturating_sub(SLICE_DAYS);
                batch.events.push(Pending { pair, event, first_day });
            }
        }
        Ok(true)
    }

    /// Adds the batch's events to their conversations; gives the activities of users.
    fn merge_timelines(
        &mut self,
        commit: &Commit,
        batch: &mut Batch,
        next: &mut Progress,
        changes: &mut Changes,
    ) -> Result<Vec<Activity>, StoreError> {
        let mut timelines = commit.timelines()?;
        let mut order: Vec<usize> = (0..batch.events.len()).collect();
        order.sort_unstable_by_key(|&i| {
            let p = &batch.events[i];
            (p.pair, p.event.conversation, i)
        });
        let mut activities = Vec::new();
        let mut writes: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let same = |a: &usize, b: &usize| {
            let (a, b) = (&batch.events[*a], &batch.events[*b]);
            (a.pair, a.event.conversation) == (b.pair, b.event.conversation)
        };
        for run in order.chunk_by(same) {
            let Some(first) = run.first().map(|i| &batch.events[*i]) else { continue };
            let (pair, conversation) = (first.pair, first.event.conversation);
            let target = (self.account_number(pair)?, pair);
            let new: Vec<NewEvent> = run.iter().map(|i| batch.events[*i].new_event()).collect();
            let mut accepted = Vec::with_capacity(run.len());
            let decided = |i: usize, admission| match admission {
                Admission::Accepted => accepted.push(run[i]),
                Admission::Duplicate => next.duplicates += 1,
                Admission::Conflict => next.conflicts += 1,
            };
            let changed =
                self.merge(&mut timelines, (pair, conversation), &new, decided, |sample| {
                    changes.add(target, sample);
                })?;
            next.accepted += accepted.len() as u64;
            for i in accepted {
                let event = &batch.events[i].event;
                for field in counted(event.kind, event.flags) {
                    let at_ms = event.time_ms;
                    changes.add(target, Sample { at_ms, field: *field, amount: 1 });
                }
                if event.kind == Kind::Received {
                    let quarter = Quarter::of_ms(event.time_ms).0;
                    activities.push(Activity { pair, user: event.user, order: i, quarter });
                }
            }
            for slice in changed {
                let prefix = keys::slice_prefix(slice.day, pair, conversation);
                let value = slice
                    .encode()
                    .map_err(|e| StoreError::Value { table: "timelines", reason: e.to_string() })?;
                writes.push((keys::slice_key(&prefix, slice.begins), value));
            }
        }
        writes.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (key, value) in &writes {
            timelines.put(key, value)?;
        }
        Ok(activities)
    }

    /// Adds new events to one conversation; gives the slices to write.
    ///
    /// | conversation | duplicates are found in | slices read |
    /// | --- | --- | --- |
    /// | short | its slices | all |
    /// | long | the table of identities | those that the change reaches |
    fn merge(
        &mut self,
        timelines: &mut Timelines<'_>,
        (pair, conversation): (u32, u128),
        new: &[NewEvent],
        decided: impl FnMut(usize, Admission),
        emit: impl FnMut(Sample),
    ) -> Result<Vec<Slice>, StoreError> {
        let hash = conversation_hash(pair, conversation);
        let of = Conversation { pair, conversation, days: self.days.of(hash).collect() };
        let mut slices = Vec::new();
        let changed = if self.long.contains(&(pair, conversation)) {
            let known = |id| timelines.identity(pair, conversation, id);
            let accepted = admit(new, known, decided)?;
            for entry in &accepted {
                timelines.put_identity(pair, conversation, entry)?;
            }
            read_around(timelines, &of, &accepted, &mut slices)?;
            insert(&mut slices, accepted, |place| timelines.after(&of, Some(place)), emit)?
        } else {
            while let Some(slice) = timelines.after(&of, slices.last().map(Slice::place))? {
                slices.push(slice);
            }
            let seen: FxHashMap<u64, Entry> =
                slices.iter().flat_map(|s| &s.events).map(|e| (e.id, *e)).collect();
            let accepted = admit(new, |id| Ok::<_, StoreError>(seen.get(&id).copied()), decided)?;
            let changed = insert(&mut slices, accepted, |_| Ok::<_, StoreError>(None), emit)?;
            if slices.len() > MAX_SHORT_SLICES {
                timelines.put_long(pair, conversation)?;
                for entry in slices.iter().flat_map(|s| &s.events) {
                    timelines.put_identity(pair, conversation, entry)?;
                }
                self.long.insert((pair, conversation));
            }
            changed
        };
        // Only what changes is kept; places ascend.
        let mut place = 0;
        let mut changed = changed.into_iter().peekable();
        slices.retain(|_| {
            let keep = changed.next_if_eq(&place).is_some();
            place += 1;
            keep
        });
        for slice in &slices {
            self.days.insert(slice.day, hash);
        }
        Ok(slices)
    }

    /// Deletes identities from before a day; gives the conversations that are still long.
    fn forget_identities(
        &self,
        commit: &Commit,
        day: u32,
    ) -> Result<FxHashSet<(u32, u128)>, StoreError> {
        let mut timelines = commit.timelines()?;
        let mut long = self.long.clone();
        for (pair, conversation) in &self.long {
            if timelines.forget_before(*pair, *conversation, day)? {
                long.remove(&(*pair, *conversation));
            }
        }
        Ok(long)
    }

    /// Finds or makes the users, notes when they were first seen, and marks them active.
    fn count_users(
        &mut self,
        commit: &Commit,
        mut activities: Vec<Activity>,
        batch: &mut Batch,
        changes: &mut Changes,
    ) -> Result<(), StoreError> {
        let mut table = commit.users()?;
        activities.sort_unstable();
        let by_user = |a: &Activity, b: &Activity| (a.pair, a.user) == (b.pair, b.user);
        let mut found: Vec<Option<UserRow>> = Vec::new();
        // Ordinals go in the order of the stream, whatever the batches.
        let mut newcomers: Vec<(usize, usize, u32)> = Vec::new();
        for (i, user) in activities.chunk_by(by_user).enumerate() {
            let row = table.get(keys::user_key(user[0].pair, user[0].user))?;
            if row.is_none() {
                newcomers.push((user[0].order, i, user[0].pair));
            }
            found.push(row);
        }
        newcomers.sort_unstable();
        {
            let mut registry = self.registry.write().unwrap_or_else(PoisonError::into_inner);
            for (_, i, pair) in newcomers {
                let row = registry.row_mut(pair).ok_or_else(|| unknown_pair(pair))?;
                found[i] = Some(UserRow { ordinal: row.next_user, first_seen: u32::MAX });
                row.next_user = row.next_user.checked_add(1).ok_or_else(|| unknown_pair(pair))?;
                batch.pairs.push(pair);
            }
        }
        for (user, row) in activities.chunk_by(by_user).zip(found) {
            let Some(mut row) = row else { continue };
            let target = (self.account_number(user[0].pair)?, user[0].pair);
            for activity in user {
                changes.user(target, activity.quarter, row.ordinal);
            }
            let earliest = user.iter().map(|a| a.quarter).min().unwrap_or(u32::MAX);
            if earliest < row.first_seen {
                if row.first_seen != u32::MAX {
                    changes.add_quarter(target, row.first_seen, Field::NewUsers, -1);
                }
                changes.add_quarter(target, earliest, Field::NewUsers, 1);
                row.first_seen = earliest;
                table.put(keys::user_key(user[0].pair, user[0].user), row)?;
            }
        }
        Ok(())
    }

    fn account_number(&self, pair: u32) -> Result<u32, StoreError> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        registry.row(pair).map(|row| row.account_number).ok_or_else(|| unknown_pair(pair))
    }
}

/// What a batch of messages holds.
#[derive(Default)]
struct Batch {
    events: Vec<Pending>,
    dead_letters: Vec<DeadLetter>,
    /// Pairs whose rows change.
    pairs: Vec<u32>,
}

impl Pending {
    fn new_event(&self) -> NewEvent {
        let Event { time_ms, kind, flags, id, content, .. } = self.event;
        NewEvent { entry: Entry { time_ms, kind, flags, id, content }, first_day: self.first_day }
    }
}

/// Changes of buckets, by key.
struct Changes {
    /// What falls before this day is dropped with it.
    first_day: u32,
    deltas: FxHashMap<BucketKey, Delta>,
}

impl Changes {
    fn add(&mut self, target: (u32, u32), sample: Sample) {
        let quarter = Quarter::of_ms(sample.at_ms).0;
        self.add_quarter(target, quarter, sample.field, sample.amount);
    }

    fn add_quarter(&mut self, target: (u32, u32), quarter: u32, field: Field, amount: i64) {
        if let Some((delta, place)) = self.delta(target, quarter) {
            delta.add(place, field, amount);
        }
    }

    fn user(&mut self, target: (u32, u32), quarter: u32, ordinal: u32) {
        if let Some((delta, place)) = self.delta(target, quarter) {
            delta.user(place, ordinal);
        }
    }

    fn delta(&mut self, (account, pair): (u32, u32), quarter: u32) -> Option<(&mut Delta, usize)> {
        let day = Quarter(quarter).day();
        if day < self.first_day {
            return None;
        }
        let hour = u8::try_from(quarter / QUARTERS_PER_HOUR % 24).ok()?;
        let place = usize::try_from(quarter % QUARTERS_PER_HOUR).ok()?;
        Some((self.deltas.entry(keys::bucket_key(day, account, pair, hour)).or_default(), place))
    }

    fn sorted(self) -> Vec<(BucketKey, Delta)> {
        let mut deltas: Vec<_> = self.deltas.into_iter().filter(|(_, d)| !d.is_empty()).collect();
        deltas.sort_unstable_by_key(|(key, _)| *key);
        deltas
    }
}

/// Reads the slices of a long conversation that new events fall into, and the one before or after them
/// that tells the state there.
fn read_around(
    timelines: &Timelines<'_>,
    of: &Conversation,
    accepted: &[Entry],
    slices: &mut Vec<Slice>,
) -> Result<(), StoreError> {
    let places = || accepted.iter().map(|e| (e.day(), e.place()));
    let (Some(first), Some(last)) = (places().min(), places().max()) else { return Ok(()) };
    match timelines.at_or_before(of, first)? {
        Some(slice) => slices.push(slice),
        None => slices.extend(timelines.after(of, Some(first))?),
    }
    while let Some(end) = slices.last().map(Slice::place) {
        match timelines.after(of, Some(end))? {
            Some(slice) if slice.place() <= last => slices.push(slice),
            _ => break,
        }
    }
    Ok(())
}

fn conversation_hash(pair: u32, conversation: u128) -> u64 {
    xxh3_64_with_seed(&conversation.to_le_bytes(), u64::from(pair))
}

fn unknown_pair(pair: u32) -> StoreError {
    StoreError::Value { table: "pairs", reason: format!("pair {pair} is missing or full") }
}

#[cfg(test)]
mod tests;
