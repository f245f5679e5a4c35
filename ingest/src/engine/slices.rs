//! New events into the slices of their conversations: which of them count, and what that changes.
//!
//! One pass over the days of the batch, and on each day over the blocks in the order of their keys,
//! so each block is read and written once. Other days of a conversation are read only if the day
//! masks and the identities in memory say that they may matter:
//!
//! | read | when |
//! | --- | --- |
//! | the slice of an event's own day | always |
//! | the slice of the day before | if the slice of this day is new: for its state on entry |
//! | slices of other days | if an event with the identity of the new one may be there |
//! | the slice of the day after | if the state at midnight has changed: it is folded again |

mod fold;

use rustc_hash::FxHashMap;

use super::batch::{Batch, Pending};
use super::open::{LastSlices, OpenUpdates};
use super::upcoming::{New, Upcoming};
use super::users::Activities;
use crate::event::registry::PairNumbers;
use crate::fold::changes::Changes;
use crate::fold::day_masks::DayMasks;
use crate::fold::identities::{Arriving, Identities};
use crate::fold::names::Names;
use crate::fold::session::SessionState;
use crate::fold::timeline::{
    Entry, StoredSlice, begin_ms, decode_slice, decode_slice_for, pass_over,
};
use crate::serve::open::OpenConversations;
use crate::store::keys::day_bytes;
use crate::store::packed::{Block, Changed};
use crate::store::{PackedTable, Parts, Snapshot, StoreError};

/// Up to this many look-ups go through the events of a slice: an index takes longer to make.
const MAX_SCANS: usize = 8;

/// What is known in memory of all stored conversations.
pub(super) struct Conversations {
    /// On which days a conversation may have a slice.
    days: DayMasks,
    /// Which identities the events of a conversation may have on a day.
    identities: Identities,
}

/// Which slice it is, and whose.
#[derive(Clone, Copy)]
struct Place {
    day: u32,
    key: u128,
    numbers: PairNumbers,
    /// The days that its conversation may have ([`DayMasks::mask`]), as before this slice: the day
    /// of a new slice may be missing.
    mask: u64,
}

/// How many events of the batch ended in which way.
#[derive(Default)]
pub(super) struct Outcomes {
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    pub(super) conflicts: u64,
}

/// What the events of a batch change. The memory of one batch serves the next.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) changes: Changes,
    pub(super) activities: Activities,
    pub(super) open: OpenUpdates,
}

impl Effects {
    /// Begins a batch. Buckets of days before `first_day` are deleted; the batch's last message was
    /// stored at `stored_ms`.
    pub(super) fn begin(&mut self, first_day: u32, open: &OpenConversations, stored_ms: i64) {
        self.changes.clear(first_day);
        self.activities.clear();
        self.open.begin(open, stored_ms);
    }
}

impl Conversations {
    /// Reads all slices; gives the conversations that may be open to `open`.
    pub(super) fn load(
        snapshot: &Snapshot,
        open: &mut OpenConversations,
        stored_ms: i64,
    ) -> Result<Self, StoreError> {
        let mut known = Self { days: DayMasks::default(), identities: Identities::default() };
        let (mut names, mut events) = (Names::default(), Vec::new());
        let mut arriving = Arriving::default();
        let mut last = LastSlices::new(stored_ms);
        snapshot.slices(|day, key, body| {
            names.clear();
            events.clear();
            let stored = decode_slice(day, body, &mut names, &mut events)?;
            known.days.insert(day, key, known.days.mask(key));
            known.note(&mut arriving, (day, key), &events);
            last.slice(day, key, &stored, &events);
            Ok(())
        })?;
        snapshot.parts(|(day, key, number), body| {
            names.clear();
            events.clear();
            if let StoredSlice::Short(entry) = decode_slice(day, body, &mut names, &mut events)? {
                known.note(&mut arriving, (day, key), &events);
                last.part((day, key, number), &entry, &events);
            }
            Ok(())
        })?;
        arriving.finish(&mut known.identities);
        last.finish().apply(open);
        Ok(known)
    }

    fn note(&mut self, arriving: &mut Arriving, (day, key): (u32, u128), events: &[Entry]) {
        for event in events {
            arriving.insert(&mut self.identities, day, key, event.id);
        }
    }

    /// Memory held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.days.bytes() + self.identities.bytes()
    }

    pub(super) fn forget_before(&mut self, day: u32) {
        self.days.forget_before(day);
        self.identities.forget_before(day);
    }

    /// Adds the events of a batch to their slices, in the order and the memory of `upcoming`.
    pub(super) fn add(
        &mut self,
        batch: &Batch<'_>,
        upcoming: &mut Upcoming,
        names: &mut Names,
        (slices, parts): (PackedTable<'_>, Parts<'_>),
        effects: &mut Effects,
    ) -> Result<Outcomes, StoreError> {
        let events = &batch.events;
        upcoming.fill(events);
        let mut pass = Pass {
            known: self,
            names,
            slices,
            parts,
            effects,
            events,
            stored: FxHashMap::default(),
            changed: Changed::default(),
            arriving: Arriving::default(),
            carried: Vec::new(),
            buffers: Buffers::default(),
        };
        pass.run(upcoming)?;
        Ok(pass.outcomes())
    }
}

/// One pass over the days of a batch.
struct Pass<'a> {
    known: &'a mut Conversations,
    names: &'a mut Names,
    slices: PackedTable<'a>,
    parts: Parts<'a>,
    effects: &'a mut Effects,
    events: &'a [Pending<'a>],
    /// By the place of a new event: the stored event that has its identity, if there is one.
    stored: FxHashMap<u32, Entry>,
    /// Slices of the present block to write.
    changed: Changed,
    /// Identities of events that count. Events of one batch never need to find each other in the
    /// filter: the batch itself knows which of them have the same identity.
    arriving: Arriving,
    /// Conversations whose state at the coming midnight has changed, by key.
    carried: Vec<Carried>,
    buffers: Buffers,
}

/// The state of a conversation at a midnight.
struct Carried {
    key: u128,
    numbers: PairNumbers,
    state: SessionState,
}

/// Kept from slice to slice, so that none allocates.
#[derive(Default)]
struct Buffers {
    other: Vec<u8>,
    /// The days on which the identity of a new event may be, besides the slice at hand.
    days: Vec<u32>,
    before: Vec<Entry>,
    incoming: Vec<Entry>,
    after: Vec<Entry>,
    elsewhere: Vec<Entry>,
    body: Vec<u8>,
}

impl Pass<'_> {
    fn run(&mut self, upcoming: &mut Upcoming) -> Result<(), StoreError> {
        let mut next = upcoming.peek(&self.known.days).map(|(day, _)| day);
        while let Some(day) = next {
            let carried = std::mem::take(&mut self.carried);
            self.run_day(day, upcoming, &carried)?;
            next = match self.carried.is_empty() {
                true => upcoming.peek(&self.known.days).map(|(day, _)| day),
                false => Some(day + 1),
            };
        }
        self.arriving.finish(&mut self.known.identities);
        Ok(())
    }

    fn run_day(
        &mut self,
        day: u32,
        upcoming: &mut Upcoming,
        carried: &[Carried],
    ) -> Result<(), StoreError> {
        let group = day_bytes(day);
        let mut block = Block::default();
        let mut carried = carried.iter().peekable();
        loop {
            let next = upcoming.peek(&self.known.days).filter(|(other, _)| *other == day);
            let next = next.map(|(_, key)| key);
            let Some(key) = next.into_iter().chain(carried.peek().map(|c| c.key)).min() else {
                break;
            };
            let carried = carried.next_if(|carried| carried.key == key);
            let (events, mask) = match next {
                Some(next) if next == key => upcoming.take(),
                _ => (&[][..], self.known.days.mask(key)),
            };
            let numbers = match (events.first(), carried) {
                (Some(event), _) => event.numbers,
                (None, Some(carried)) => carried.numbers,
                (None, None) => continue,
            };
            if events.is_empty() && !self.known.days.may_have(day, key, mask) {
                continue;
            }
            self.slices.seek(&group, key, &mut block, &mut self.changed)?;
            let state = carried.map(|carried| &carried.state);
            self.run_slice(Place { day, key, numbers, mask }, &block, events, state)?;
        }
        self.slices.put(&mut block, &mut self.changed)
    }

    /// Adds events to one slice, and folds it with a new state on entry if there is one.
    fn run_slice(
        &mut self,
        place: Place,
        block: &Block,
        events: &[New],
        carried: Option<&SessionState>,
    ) -> Result<(), StoreError> {
        let Place { day, key, mask, .. } = place;
        self.buffers.before.clear();
        let stored = match block.get(key) {
            Some(body) => Some(decode_slice(day, body, self.names, &mut self.buffers.before)?),
            None => None,
        };
        self.admit(place, stored.as_ref(), events)?;
        match stored {
            None if self.buffers.incoming.is_empty() => Ok(()),
            None => {
                let entry = match carried {
                    Some(state) => state.clone(),
                    None => self.state_before(place)?.unwrap_or_default(),
                };
                self.known.days.insert(day, key, mask);
                self.fold_short(place, None, entry)
            }
            Some(StoredSlice::Short(old)) => {
                let new = carried.unwrap_or(&old).clone();
                if self.buffers.incoming.is_empty() && new == old {
                    return Ok(());
                }
                self.fold_short(place, Some(old), new)
            }
            Some(StoredSlice::Long { next_number, parts }) => {
                if self.buffers.incoming.is_empty() && carried.is_none() {
                    return Ok(());
                }
                self.fold_long(place, next_number, parts, carried)
            }
        }
    }

    /// Decides about new events of a slice; those that count are in `incoming` then, in order, and
    /// are counted by themselves.
    fn admit(
        &mut self,
        Place { day, key, mask, .. }: Place,
        stored: Option<&StoredSlice>,
        events: &[New],
    ) -> Result<(), StoreError> {
        self.buffers.incoming.clear();
        let is_long = matches!(stored, Some(StoredSlice::Long { .. }));
        if !events.is_empty() {
            self.known.days.of(key, mask, &mut self.buffers.days);
            self.buffers.days.retain(|other| *other != day || is_long);
        }
        let index: Option<FxHashMap<u64, Entry>> = (events.len() > MAX_SCANS)
            .then(|| self.buffers.before.iter().map(|e| (e.id, *e)).collect());
        for event in events {
            let entry = event.entry;
            let mut known = match &index {
                _ if day < event.first_day => None,
                Some(index) => index.get(&entry.id).copied(),
                None => self.buffers.before.iter().rfind(|e| e.id == entry.id).copied(),
            };
            if known.is_none() {
                known = self.find_elsewhere(key, entry.id, event.first_day)?;
            }
            if let Some(known) = known {
                self.stored.insert(event.place, known);
                continue;
            }
            self.arriving.insert(&mut self.known.identities, day, key, entry.id);
            self.buffers.incoming.push(entry);
            let effects = &mut self.effects;
            let New { numbers, name, duration_ms, .. } = *event;
            let Entry { time_ms, kind, flags, .. } = entry;
            effects.changes.counted(numbers, time_ms, kind, flags, name, duration_ms);
            effects.activities.add(event);
        }
        let names = &*self.names;
        self.buffers.incoming.sort_unstable_by(|a, b| a.compare(b, names));
        Ok(())
    }

    /// The stored event of an identity on one of `days` from `first_day` on.
    fn find_elsewhere(
        &mut self,
        key: u128,
        id: u64,
        first_day: u32,
    ) -> Result<Option<Entry>, StoreError> {
        for place in (0..self.buffers.days.len()).rev() {
            let day = self.buffers.days[place];
            if day >= first_day && self.known.identities.may_have(day, key, id) {
                self.read_elsewhere(day, key, Some(id))?;
                if let Some(entry) = self.buffers.elsewhere.iter().rfind(|e| e.id == id) {
                    return Ok(Some(*entry));
                }
            }
        }
        Ok(None)
    }

    /// Reads the events of a stored slice into `elsewhere`: all of them, or with an identity at
    /// least those that have it. Gives its state on entry.
    fn read_elsewhere(
        &mut self,
        day: u32,
        key: u128,
        wanted: Option<u64>,
    ) -> Result<Option<SessionState>, StoreError> {
        let Buffers { other, elsewhere, .. } = &mut self.buffers;
        elsewhere.clear();
        let Some(body) = self.slices.get(&day_bytes(day), key, other)? else { return Ok(None) };
        match decode_slice_for(wanted, day, body, self.names, elsewhere)? {
            StoredSlice::Short(entry) => Ok(Some(entry)),
            StoredSlice::Long { parts, .. } => {
                let mut first = None;
                for part in parts {
                    let place = (day, key, part.number);
                    let entry = self.parts.read(place, wanted, self.names, elsewhere)?;
                    first.get_or_insert(entry);
                }
                Ok(first)
            }
        }
    }

    /// The state after the slice of the day before, if there is one and it is alive at midnight.
    fn state_before(&mut self, place: Place) -> Result<Option<SessionState>, StoreError> {
        let Place { day, key, mask, .. } = place;
        let before = day.saturating_sub(1);
        if !self.known.days.may_have(before, key, mask) {
            return Ok(None);
        }
        let Some(mut state) = self.read_elsewhere(before, key, None)? else { return Ok(None) };
        pass_over(&mut state, &self.buffers.elsewhere);
        Ok(Some(state).filter(|state| state.alive_at(begin_ms(day))))
    }

    fn outcomes(&self) -> Outcomes {
        let mut outcomes = Outcomes::default();
        for (place, event) in (0..).zip(self.events) {
            let first = event.repeats.map(|first| self.events[first as usize].entry());
            let stored = self.stored.get(&event.repeats.unwrap_or(place)).copied();
            match stored.or(first) {
                None => outcomes.accepted += 1,
                Some(known) if known == event.entry() => outcomes.duplicates += 1,
                Some(_) => outcomes.conflicts += 1,
            }
        }
        outcomes
    }
}
