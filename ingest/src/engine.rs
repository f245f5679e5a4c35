//! The projection at work: messages in, one commit out; and the handle that answers reads.
//!
//! A batch goes: decode -> timelines (what is new, and what it changes) -> users -> buckets -> commit with
//! the checkpoint. Everything of a batch is in one transaction; how messages are cut into batches is not
//! visible in the result.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use botstats_common::ids::Account;
use botstats_common::quarter::{Quarter, day_of_ms};
use botstats_common::wire;
use parking_lot::RwLock;
use rustc_hash::{FxHashMap, FxHashSet};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::changes::Changes;
use crate::days::{Days, Doubt};
use crate::decoder::{Arrival, Decoder};
pub use crate::event::Message;
use crate::event::{Decoded, Event, Kind};
use crate::metrics::counted;
use crate::read::{ReadError, Reader};
use crate::registry::{PairNumbers, Registry};
use crate::session::Sample;
use crate::store::keys;
use crate::store::{
    Checkpoint, Commit, Conversation, DeadLetter, Folder, OpenError, Progress, STORE_FILE, Store,
    StoreError, StreamIdentity, Timelines, UserRow,
};
use crate::telemetry::Held;
use crate::timeline::{Admission, Entry, NewEvent, SLICE_DAYS, Slice, admit, insert};

const NS_PER_MS: i64 = 1_000_000;
/// A conversation with more slices is long: it is not read whole any more.
const MAX_SHORT_SLICES: usize = 4;
/// So many new events are looked for among the old ones one by one.
const MAX_LOOKED_UP_SINGLY: usize = 8;

/// Key and value.
type Row = (Vec<u8>, Vec<u8>);

/// The open projection.
///
/// After an error of [`Engine::apply`] what it holds in memory may be ahead of the file: open it again.
pub struct Engine {
    store: Arc<Store>,
    registry: Arc<RwLock<Registry>>,
    /// On which days conversations may have slices,
    days: Days,
    /// and long ones which identities.
    identities: Days,
    /// Conversations of which only what is touched is read: (pair, conversation).
    long: FxHashSet<(u32, u128)>,
    progress: Progress,
    /// How many pairs have rows.
    pairs: u32,
    stream: StreamIdentity,
    keep_days: u32,
    /// Days before which slices and buckets were deleted.
    deleted_before: (u32, u32),
    /// Held as long as the engine lives, if the engine took it.
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

    /// Goes on with an open store.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn on(store: Store, keep_days: u32) -> Result<Self, StoreError> {
        let snapshot = store.snapshot()?;
        let progress = snapshot.progress()?;
        let registry = Registry::of_rows(snapshot.pairs()?)?;
        let long: FxHashSet<(u32, u128)> = snapshot.long_conversations()?.into_iter().collect();
        let mut days = Days::new(Doubt::OneInHundred);
        let mut identities = Days::new(Doubt::OneInTenThousand);
        let is_long = |conversation| long.contains(&conversation);
        snapshot.slices(is_long, |day, (pair, conversation), slice| {
            let hash = conversation_hash(pair, conversation);
            days.insert(day, hash);
            for entry in slice.iter().flat_map(|s| &s.events) {
                identities.insert(day, identity_hash(hash, entry.id));
            }
        })?;
        drop(snapshot);
        Ok(Self {
            store: Arc::new(store),
            days,
            identities,
            long,
            stream: progress.checkpoint.as_ref().map(|c| c.stream.clone()).unwrap_or_default(),
            progress,
            pairs: registry.pair_count(),
            registry: Arc::new(RwLock::new(registry)),
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

    /// What is held in memory beside the page cache.
    #[must_use]
    pub fn held(&self) -> Held {
        let registry = self.registry.read();
        Held {
            filter_bytes: self.days.bytes() + self.identities.bytes(),
            pair_bytes: registry.bytes(),
            pairs: registry.pair_count(),
            long_conversations: self.long.len(),
        }
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

    /// What decodes messages for this engine.
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

    /// Applies messages that one decoder of this engine decoded, in the order of their sequences, and
    /// commits. Messages at or before the checkpoint are passed over.
    ///
    /// # Errors
    /// If the store cannot be read or written; then what was not committed was not applied, and the engine
    /// must be opened again.
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
        let mut next = self.progress.clone();
        let mut batch = Batch { pairs: self.pairs, ..Batch::default() };
        let mut count = 0;
        for (place, arrival) in arrivals.iter().enumerate() {
            if !take(arrival, place, &mut next, &mut batch) {
                break;
            }
            count += 1;
        }
        let Some(last) = arrivals[..count].last() else { return Ok(0) };
        next.checkpoint = Some(Checkpoint {
            stream: self.stream.clone(),
            sequence: last.sequence,
            stored_ns: last.stored_ns,
            subject_hash: last.subject_hash,
        });
        let newest_day = next.watermark.day();
        let kept_from = newest_day.saturating_sub(self.keep_days);
        next.buckets_from_day = next.buckets_from_day.max(kept_from);
        next.deleted_to_day = next.deleted_to_day.max(next.buckets_from_day);
        let keep = (newest_day.saturating_sub(SLICE_DAYS), next.buckets_from_day);

        let commit = self.store.begin()?;
        let mut changes = Changes::from_day(keep.1);
        batch.in_conversations();
        let activities = self.merge_timelines(&commit, &batch.events, &mut next, &mut changes)?;
        let mut changed_pairs = self.count_users(&commit, activities, &mut changes)?;
        commit.apply(changes.sorted(), next.deleted_to_day)?;
        {
            let registry = self.registry.read();
            changed_pairs.extend(self.pairs..batch.pairs);
            changed_pairs.sort_unstable();
            changed_pairs.dedup();
            commit.put_pairs(changed_pairs.iter().filter_map(|n| Some((*n, registry.row(*n)?))))?;
        }
        commit.put_dead_letters(&batch.dead_letters)?;
        commit.put_progress(&next)?;
        let mut long = None;
        if keep != self.deleted_before {
            commit.delete_before(keep.0, keep.1)?;
            long = Some(self.still_long(&commit, keep.0)?);
        }
        commit.commit()?;

        if let Some(long) = long {
            self.long = long;
        }
        self.days.forget_before(keep.0);
        self.identities.forget_before(keep.0);
        self.deleted_before = keep;
        self.pairs = batch.pairs;
        self.progress = next;
        Ok(count)
    }

    /// Adds the batch's events to their conversations; gives the activities of users.
    fn merge_timelines(
        &mut self,
        commit: &Commit,
        events: &[Pending<'_>],
        next: &mut Progress,
        changes: &mut Changes,
    ) -> Result<Vec<Activity>, StoreError> {
        let mut timelines = commit.timelines()?;
        let mut activities: Vec<Activity> = Vec::new();
        // By day: conversations come in the order of keys.
        let mut writes: BTreeMap<u32, Vec<Row>> = BTreeMap::new();
        let mut new: Vec<NewEvent> = Vec::new();
        let mut accepted: Vec<&Pending<'_>> = Vec::new();
        for run in events.chunk_by(|a, b| a.conversation() == b.conversation()) {
            let Some(first) = run.first() else { continue };
            let (numbers, (pair, conversation)) = (first.numbers, first.conversation());
            new.clear();
            new.extend(run.iter().map(Pending::new_event));
            accepted.clear();
            let decided = |i: usize, admission| match admission {
                Admission::Accepted => accepted.push(&run[i]),
                Admission::Duplicate => next.duplicates += 1,
                Admission::Conflict => next.conflicts += 1,
            };
            let changed =
                self.merge(&mut timelines, (pair, conversation), &new, decided, |sample| {
                    changes.add(numbers, sample);
                })?;
            next.accepted += accepted.len() as u64;
            for pending in &accepted {
                let Pending { event, place, .. } = **pending;
                let quarter = Quarter::of_ms(event.time_ms).0;
                for metric in counted(event.kind, event.flags) {
                    changes.add(numbers, Sample::new(event.time_ms, *metric, 1));
                }
                if event.kind == Kind::Received {
                    let activity = Activity { numbers, user: event.user, place, quarter };
                    // A user who says the same as just before says nothing new.
                    if activities.last().is_none_or(|last| !last.is_like(&activity)) {
                        activities.push(activity);
                    }
                }
            }
            for slice in changed {
                let prefix = keys::slice_prefix(slice.day, pair, conversation);
                let value = slice
                    .encode()
                    .map_err(|e| StoreError::Value { table: "timelines", reason: e.to_string() })?;
                let key = keys::slice_key(&prefix, slice.begins);
                writes.entry(slice.day).or_default().push((key, value));
            }
        }
        for (key, value) in writes.values().flatten() {
            timelines.put(key, value)?;
        }
        Ok(activities)
    }

    /// Adds new events to one conversation; gives the slices to write.
    ///
    /// | conversation | duplicates are found in | slices read |
    /// | --- | --- | --- |
    /// | short | its slices | all |
    /// | long | slices of days on which the identity may be | those that the change reaches |
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
            read_around(timelines, &of, new, &mut slices)?;
            let known = self.known_of_long(timelines, &of, new, &slices)?;
            let accepted = admit(new, |id| Ok::<_, StoreError>(known.get(&id).copied()), decided)?;
            self.note_identities(hash, &accepted);
            insert(&mut slices, accepted, |place| timelines.after(&of, place), emit)?
        } else {
            timelines.all(&of, &mut slices)?;
            let accepted = {
                let events = || slices.iter().flat_map(|s| &s.events);
                // For a few new events a map of all old ones would take longer to make.
                let seen: Option<FxHashMap<u64, Entry>> = (new.len() > MAX_LOOKED_UP_SINGLY)
                    .then(|| events().map(|e| (e.id, *e)).collect());
                let known = |id| match &seen {
                    Some(seen) => seen.get(&id).copied(),
                    None => events().rfind(|e| e.id == id).copied(),
                };
                admit(new, |id| Ok::<_, StoreError>(known(id)), decided)?
            };
            let changed = insert(&mut slices, accepted, |_| Ok::<_, StoreError>(None), emit)?;
            if slices.len() > MAX_SHORT_SLICES {
                timelines.put_long(pair, conversation)?;
                for slice in &slices {
                    self.note_identities(hash, &slice.events);
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

    /// The events of a long conversation that have the identity of a new one, by identity: those of the
    /// slices that are read already, and those of days on which such an identity may be.
    fn known_of_long(
        &self,
        timelines: &Timelines<'_>,
        of: &Conversation,
        new: &[NewEvent],
        slices: &[Slice],
    ) -> Result<FxHashMap<u64, Entry>, StoreError> {
        let hash = conversation_hash(of.pair, of.conversation);
        let mut wanted: FxHashSet<u64> = new.iter().map(|event| event.entry.id).collect();
        let mut known = FxHashMap::default();
        find(slices, &wanted, &mut known);
        wanted.retain(|id| !known.contains_key(id));
        let days: BTreeSet<u32> =
            wanted.iter().flat_map(|id| self.identities.of(identity_hash(hash, *id))).collect();
        let mut of_day =
            Conversation { pair: of.pair, conversation: of.conversation, days: Vec::new() };
        let mut others = Vec::new();
        for day in days {
            of_day.days = vec![day];
            others.clear();
            timelines.all(&of_day, &mut others)?;
            find(&others, &wanted, &mut known);
        }
        Ok(known)
    }

    /// Notes that accepted events are in a long conversation.
    fn note_identities(&mut self, conversation: u64, accepted: &[Entry]) {
        for entry in accepted {
            self.identities.insert(entry.day(), identity_hash(conversation, entry.id));
        }
    }

    /// The long conversations that still have slices of that day or later; others are not long any more.
    fn still_long(&self, commit: &Commit, day: u32) -> Result<FxHashSet<(u32, u128)>, StoreError> {
        let mut timelines = commit.timelines()?;
        let mut long = self.long.clone();
        for &(pair, conversation) in &self.long {
            if !self.days.of(conversation_hash(pair, conversation)).any(|d| d >= day) {
                timelines.forget_long(pair, conversation)?;
                long.remove(&(pair, conversation));
            }
        }
        Ok(long)
    }

    /// Finds or makes the users, notes when they were first seen, and marks them active; gives the pairs
    /// that have new ones.
    fn count_users(
        &mut self,
        commit: &Commit,
        mut activities: Vec<Activity>,
        changes: &mut Changes,
    ) -> Result<Vec<u32>, StoreError> {
        let mut table = commit.users()?;
        activities.sort_unstable();
        let by_user = |a: &Activity, b: &Activity| (a.numbers, a.user) == (b.numbers, b.user);
        let mut found: Vec<Option<UserRow>> = Vec::new();
        // Ordinals go in the order of the stream, whatever the batches.
        let mut newcomers: Vec<(usize, usize, u32)> = Vec::new();
        for (i, user) in activities.chunk_by(by_user).enumerate() {
            let row = table.get(keys::user_key(user[0].numbers.pair, user[0].user))?;
            if row.is_none() {
                newcomers.push((user[0].place, i, user[0].numbers.pair));
            }
            found.push(row);
        }
        newcomers.sort_unstable();
        {
            let mut registry = self.registry.write();
            for (_, i, pair) in &newcomers {
                let row = registry.row_mut(*pair).ok_or_else(|| unknown_pair(*pair))?;
                found[*i] = Some(UserRow { ordinal: row.next_user, first_seen: u32::MAX });
                row.next_user = row.next_user.checked_add(1).ok_or_else(|| unknown_pair(*pair))?;
            }
        }
        for (user, row) in activities.chunk_by(by_user).zip(found) {
            let Some(mut row) = row else { continue };
            let numbers = user[0].numbers;
            for activity in user {
                changes.user(numbers, activity.quarter, row.ordinal);
            }
            let earliest = user.iter().map(|a| a.quarter).min().unwrap_or(u32::MAX);
            if earliest < row.first_seen {
                if row.first_seen != u32::MAX {
                    changes.new_user(numbers, row.first_seen, -1);
                }
                changes.new_user(numbers, earliest, 1);
                row.first_seen = earliest;
                table.put(keys::user_key(numbers.pair, user[0].user), row)?;
            }
        }
        Ok(newcomers.into_iter().map(|(_, _, pair)| pair).collect())
    }
}

/// Takes a message into the batch. False if it may only be the first of one: it was not taken.
fn take<'a>(
    arrival: &'a Arrival,
    place: usize,
    next: &mut Progress,
    batch: &mut Batch<'a>,
) -> bool {
    match &arrival.decoded {
        Decoded::UnknownType => next.unknown_types += 1,
        Decoded::DeadLetter(rule, reason) => {
            *next.dead_letters.entry(rule.name().to_owned()).or_default() += 1;
            batch.dead_letters.push(DeadLetter {
                sequence: arrival.sequence,
                rule: *rule,
                reason: reason.clone().into_owned(),
            });
        }
        Decoded::Event(numbers, event) => {
            let stored_ms = arrival.stored_ns / NS_PER_MS;
            if next.watermark.was_wrong(stored_ms) {
                // What may be deleted changes here, so that what is deleted must not depend on batches.
                if place > 0 {
                    return false;
                }
                next.buckets_from_day = next.buckets_from_day.min(day_of_ms(stored_ms) + 1);
            }
            next.watermark.observe(event.time_ms, stored_ms);
            batch.pairs = batch.pairs.max(numbers.pair.saturating_add(1));
            let first_day = next.watermark.day().saturating_sub(SLICE_DAYS);
            batch.events.push(Pending { numbers: *numbers, event, place, first_day });
        }
    }
    true
}

/// What a batch of messages holds.
#[derive(Default)]
struct Batch<'a> {
    events: Vec<Pending<'a>>,
    dead_letters: Vec<DeadLetter>,
    /// How many pairs there are with it.
    pairs: u32,
}

impl Batch<'_> {
    /// Brings the events of each conversation together, in the order of their messages.
    fn in_conversations(&mut self) {
        self.events.sort_unstable_by(|a, b| {
            let by_conversation = a.conversation().cmp(&b.conversation());
            by_conversation.then_with(|| a.place.cmp(&b.place))
        });
    }
}

/// An event of the batch, on its way.
#[derive(Clone, Copy)]
struct Pending<'a> {
    numbers: PairNumbers,
    event: &'a Event,
    /// The message's place in the batch.
    place: usize,
    first_day: u32,
}

impl Pending<'_> {
    fn conversation(&self) -> (u32, u128) {
        (self.numbers.pair, self.event.conversation)
    }

    fn new_event(&self) -> NewEvent {
        let Event { time_ms, kind, flags, id, content, .. } = *self.event;
        NewEvent { entry: Entry { time_ms, kind, flags, id, content }, first_day: self.first_day }
    }
}

/// A user's activity in the batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Activity {
    numbers: PairNumbers,
    user: u128,
    /// The message's place in the batch.
    place: usize,
    quarter: u32,
}

impl Activity {
    /// Whether it says the same of the same user.
    fn is_like(&self, other: &Self) -> bool {
        (self.numbers, self.user, self.quarter) == (other.numbers, other.user, other.quarter)
    }
}

/// Reads the slices of a long conversation that new events fall into, and the one before or after them
/// that tells the state there.
fn read_around(
    timelines: &Timelines<'_>,
    of: &Conversation,
    new: &[NewEvent],
    slices: &mut Vec<Slice>,
) -> Result<(), StoreError> {
    let places = || new.iter().map(|e| (e.entry.day(), e.entry.place()));
    let (Some(first), Some(last)) = (places().min(), places().max()) else { return Ok(()) };
    match timelines.at_or_before(of, first)? {
        Some(slice) => slices.push(slice),
        None => slices.extend(timelines.after(of, first)?),
    }
    while let Some(end) = slices.last().map(Slice::place) {
        match timelines.after(of, end)? {
            Some(slice) if slice.place() <= last => slices.push(slice),
            _ => break,
        }
    }
    Ok(())
}

fn conversation_hash(pair: u32, conversation: u128) -> u64 {
    xxh3_64_with_seed(&conversation.to_le_bytes(), u64::from(pair))
}

/// Adds the events of the wanted identities.
fn find(slices: &[Slice], wanted: &FxHashSet<u64>, known: &mut FxHashMap<u64, Entry>) {
    let events = slices.iter().flat_map(|s| &s.events);
    known.extend(events.filter(|e| wanted.contains(&e.id)).map(|e| (e.id, *e)));
}

fn identity_hash(conversation: u64, id: u64) -> u64 {
    xxh3_64_with_seed(&id.to_le_bytes(), conversation)
}

fn unknown_pair(pair: u32) -> StoreError {
    StoreError::Value { table: "pairs", reason: format!("pair {pair} is missing or full") }
}

#[cfg(test)]
mod tests;
