//! New events into the conversations that they belong to: which stored slices are read, and what
//! becomes of the events.
//!
//! A long conversation is not read whole: filters in memory say on which days one of its events may
//! have the identity of a new one.

use std::collections::BTreeSet;

use rustc_hash::{FxHashMap, FxHashSet};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::fold::filters::{DayFilters, FalsePositives};
use crate::fold::insertion::Insertion;
use crate::fold::session::Sample;
use crate::fold::timeline::{Admission, Admitted, Entry, Known, NewEvent, Slice, admit};
use crate::store::{Commit, Conversation, Snapshot, StoreError, Timelines};

/// A conversation with more slices than this is long.
pub(super) const MAX_SHORT_SLICES: usize = 4;

/// What is known in memory of all stored conversations.
pub(super) struct Conversations {
    /// On which days a conversation may have slices.
    days: DayFilters,
    /// On which days a long conversation may have an event of an identity.
    identities: DayFilters,
    /// Long conversations: (pair, conversation).
    pub(super) long: FxHashSet<(u32, u128)>,
}

/// What new events change in one conversation.
pub(super) struct Merged {
    /// One for each new event, in their order.
    pub(super) admissions: Vec<Admission>,
    /// Changes of the metrics that come from sessions.
    pub(super) samples: Vec<Sample>,
    /// Slices to write.
    pub(super) slices: Vec<Slice>,
}

impl Conversations {
    pub(super) fn load(snapshot: &Snapshot) -> Result<Self, StoreError> {
        let mut days = DayFilters::new(FalsePositives::OneInHundred);
        let mut identities = DayFilters::new(FalsePositives::OneInTenThousand);
        let long: FxHashSet<(u32, u128)> = snapshot.long_conversations()?.into_iter().collect();
        let is_long = |conversation| long.contains(&conversation);
        snapshot.slices(is_long, |day, (pair, conversation), slice| {
            let hash = conversation_hash(pair, conversation);
            days.insert(day, hash);
            for entry in slice.iter().flat_map(|s| &s.events) {
                identities.insert(day, identity_hash(hash, entry.id));
            }
        })?;
        Ok(Self { days, identities, long })
    }

    /// Memory held by the filters, in bytes.
    pub(super) fn filter_bytes(&self) -> usize {
        self.days.bytes() + self.identities.bytes()
    }

    /// Forgets the days before that one, and which conversations were long but are not any more.
    pub(super) fn forget_before(&mut self, day: u32, still_long: Option<FxHashSet<(u32, u128)>>) {
        self.days.forget_before(day);
        self.identities.forget_before(day);
        if let Some(long) = still_long {
            self.long = long;
        }
    }

    /// Adds new events to a conversation (of a pair).
    ///
    /// | conversation | duplicates are found in | slices read |
    /// | --- | --- | --- |
    /// | short | its slices | all |
    /// | long | slices of days on which the identity may be | those that the change reaches |
    pub(super) fn merge(
        &mut self,
        timelines: &mut Timelines<'_>,
        (pair, conversation): (u32, u128),
        new: &[NewEvent],
    ) -> Result<Merged, StoreError> {
        let hash = conversation_hash(pair, conversation);
        let of = Conversation { pair, conversation, days: self.days.of(hash).collect() };
        let is_long = self.long.contains(&(pair, conversation));
        let (slices, Admitted { admissions, accepted }) = if is_long {
            let slices = read_around(timelines, &of, new)?;
            let admitted = admit(new, &self.known_of_long(timelines, &of, hash, new, &slices)?);
            self.note_identities(hash, &admitted.accepted);
            (slices, admitted)
        } else {
            let mut slices = Vec::new();
            timelines.all(&of, &mut slices)?;
            let admitted = admit(new, &Known::of(&slices, new.len()));
            (slices, admitted)
        };
        let mut insertion = Insertion::begin(slices, accepted);
        while let Some(start) = insertion.needs_after() {
            // All slices of a short one are there already.
            insertion.give(if is_long { timelines.after(&of, start)? } else { None });
        }
        let mut inserted = insertion.finish();
        if !is_long && inserted.slices.len() > MAX_SHORT_SLICES {
            timelines.put_long(pair, conversation)?;
            for slice in &inserted.slices {
                self.note_identities(hash, &slice.events);
            }
            self.long.insert((pair, conversation));
        }
        let samples = std::mem::take(&mut inserted.samples);
        let slices = inserted.into_changed();
        for slice in &slices {
            self.days.insert(slice.day, hash);
        }
        Ok(Merged { admissions, samples, slices })
    }

    /// The events of a long conversation that have the identity of a new one: those of the slices
    /// that are read already, and those of days on which such an identity may be. `hash` is that of
    /// the conversation.
    fn known_of_long(
        &self,
        timelines: &Timelines<'_>,
        of: &Conversation,
        hash: u64,
        new: &[NewEvent],
        slices: &[Slice],
    ) -> Result<Known<'static>, StoreError> {
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
        Ok(Known::Indexed(known))
    }

    /// Notes that a long conversation has these events.
    fn note_identities(&mut self, conversation: u64, entries: &[Entry]) {
        for entry in entries {
            self.identities.insert(entry.day(), identity_hash(conversation, entry.id));
        }
    }

    /// The long conversations that still have slices of that day or later; others are not long any
    /// more.
    pub(super) fn still_long(
        &self,
        commit: &Commit,
        day: u32,
    ) -> Result<FxHashSet<(u32, u128)>, StoreError> {
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
}

/// Reads the slices of a long conversation that new events fall into, and the one before them
/// (without one, the one after them), which tells the state there.
fn read_around(
    timelines: &Timelines<'_>,
    of: &Conversation,
    new: &[NewEvent],
) -> Result<Vec<Slice>, StoreError> {
    let mut slices = Vec::new();
    let starts = || new.iter().map(|e| (e.entry.day(), e.entry.sort_key()));
    let (Some(first), Some(last)) = (starts().min(), starts().max()) else { return Ok(slices) };
    match timelines.at_or_before(of, first)? {
        Some(slice) => slices.push(slice),
        None => slices.extend(timelines.after(of, first)?),
    }
    while let Some(start) = slices.last().map(Slice::start) {
        match timelines.after(of, start)? {
            Some(slice) if slice.start() <= last => slices.push(slice),
            _ => break,
        }
    }
    Ok(slices)
}

/// Adds the events of the wanted identities.
fn find(slices: &[Slice], wanted: &FxHashSet<u64>, known: &mut FxHashMap<u64, Entry>) {
    let events = slices.iter().flat_map(|s| &s.events);
    known.extend(events.filter(|e| wanted.contains(&e.id)).map(|e| (e.id, *e)));
}

fn conversation_hash(pair: u32, conversation: u128) -> u64 {
    xxh3_64_with_seed(&conversation.to_le_bytes(), u64::from(pair))
}

fn identity_hash(conversation: u64, id: u64) -> u64 {
    xxh3_64_with_seed(&id.to_le_bytes(), conversation)
}
