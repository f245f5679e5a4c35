//! The timeline of one conversation: its events in order, kept as day slices, and what a commit
//! changes in the metrics by adding events to it.
//!
//! What a conversation contributes is a function of its sorted events. Adding events therefore changes
//! the buckets by `contributions(after) - contributions(before)`; that telescopes, so it does not
//! matter how events are cut into commits, in which order they come, or how late.
//!
//! A slice holds the events of one UTC day (or a part of a crowded one) and the fold's state on entry.
//! [`insert`] folds from the first slice that is touched until old and new state agree again.
//!
//! *Invariants*: pure; an event is a duplicate exactly if the conversation has one with the same
//! source and id, as far back as a duplicate could still be accepted.
//!
//! *Format* of a stored slice (version 1): the version byte; the state on entry (postcard); the number
//! of events as a varint; for each event the milliseconds since the previous one (the first: since the
//! day began) as a varint, one byte number of the kind * 16 + flags, 8 bytes hash of source and id, 4 bytes hash of the
//! content, both least significant byte first.

use botstats_common::quarter::{DAY_MS, day_of_ms};
use rustc_hash::FxHashMap;

use crate::event::Kind;
use crate::session::{Sample, State, Step};
use botstats_common::varint;

/// A slice that grows beyond so many events is split. Few in the tests of this crate, so that small cases
/// have many slices.
pub const MAX_SLICE_EVENTS: usize = if cfg!(test) { 8 } else { 256 };
/// A slice goes so many days after its day ended: 35 for late events, 1 that a session reaches back,
/// 1 for clocks.
pub const SLICE_DAYS: u32 = 37;
const VERSION: u8 = 1;
/// In so many events one is looked for by going through them: a map would take longer to make.
pub(crate) const MAX_LOOKED_THROUGH: usize = 32;

/// An event in a timeline. Ordered by time, then kind; what follows only makes the order total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// When it happened.
    pub time_ms: i64,
    /// What it is.
    pub kind: Kind,
    /// Bits of [`crate::event::flag`].
    pub flags: u8,
    /// Hash of source and id.
    pub id: u64,
    /// Hash of the other content.
    pub content: u32,
}

impl Entry {
    fn step(&self) -> Step {
        Step { time_ms: self.time_ms, kind: self.kind, flags: self.flags }
    }

    /// The UTC day that it belongs to.
    #[must_use]
    pub fn day(&self) -> u32 {
        day_of_ms(self.time_ms)
    }

    /// Its place within its day: orders like the entries themselves, but for the content.
    #[must_use]
    pub fn place(&self) -> Place {
        let ms = self.time_ms.rem_euclid(DAY_MS);
        Place {
            ms: u32::try_from(ms).unwrap_or(u32::MAX),
            rank: self.kind.rank(),
            flags: self.flags,
            id: self.id,
        }
    }
}

/// A place within a day of a timeline. The default is the day's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Milliseconds since the day began.
    pub ms: u32,
    /// Rank of the event's kind.
    pub rank: u8,
    /// Its flags.
    pub flags: u8,
    /// Hash of source and id.
    pub id: u64,
}

/// Events of one conversation from one day, or from a place of that day on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The UTC day.
    pub day: u32,
    /// Where in the day it begins; the day's first slice begins at the default.
    pub begins: Place,
    /// The fold's state before its first event.
    pub entry: State,
    /// Its events, in order.
    pub events: Vec<Entry>,
}

/// What became of a new event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It counts.
    Accepted,
    /// The same event is there already.
    Duplicate,
    /// Another event of the same identity is there already.
    Conflict,
}

/// A new event, and the first day whose slices it may see.
#[derive(Debug, Clone, Copy)]
pub struct NewEvent {
    /// The event.
    pub entry: Entry,
    /// Slices of days before this are gone for it, whether deleted yet or not: so what is a duplicate
    /// does not depend on when slices are deleted.
    pub first_day: u32,
}

/// Decides about new events, in their order, given the event of the same identity that is there already,
/// if any. What is accepted is there for the next.
///
/// # Errors
/// What `known` says.
pub fn admit<E>(
    new: &[NewEvent],
    mut known: impl FnMut(u64) -> Result<Option<Entry>, E>,
    mut decided: impl FnMut(usize, Admission),
) -> Result<Vec<Entry>, E> {
    let mut accepted: Vec<Entry> = Vec::with_capacity(new.len());
    // Places in `accepted`, once looking through it would take longer.
    let mut places: FxHashMap<u64, usize> = FxHashMap::default();
    for (i, event) in new.iter().enumerate() {
        let entry = event.entry;
        let of_batch = if accepted.len() <= MAX_LOOKED_THROUGH {
            accepted.iter().rposition(|other| other.id == entry.id)
        } else {
            for (place, other) in accepted.iter().enumerate().skip(places.len()) {
                places.insert(other.id, place);
            }
            places.get(&entry.id).copied()
        };
        let other = match of_batch {
            Some(place) => Some(accepted[place]),
            None => known(entry.id)?,
        };
        let admission = match other {
            Some(other) if other.day() >= event.first_day => {
                if other == entry {
                    Admission::Duplicate
                } else {
                    Admission::Conflict
                }
            }
            _ => {
                accepted.push(entry);
                Admission::Accepted
            }
        };
        decided(i, admission);
    }
    Ok(accepted)
}

/// Adds accepted events to a conversation.
///
/// `slices` are stored ones, in order and without a gap: from the last that begins at or before the first
/// accepted event (or the first after it, if there is none such) to at least the last that begins at or
/// before the last accepted event. They become those to store: the places of changed ones come back.
/// `more` gives the stored slice after a place, as far as the change reaches; `emit` gets the changes of the
/// metrics that come from sessions.
///
/// # Errors
/// What `more` says.
pub fn insert<E>(
    slices: &mut Vec<Slice>,
    mut accepted: Vec<Entry>,
    more: impl FnMut((u32, Place)) -> Result<Option<Slice>, E>,
    mut emit: impl FnMut(Sample),
) -> Result<Vec<usize>, E> {
    if accepted.is_empty() {
        return Ok(Vec::new());
    }
    accepted.sort_unstable();
    let mut units = units(std::mem::take(slices), &accepted);
    fold(&mut units, more, &mut emit)?;
    let mut changed = Vec::new();
    for unit in units {
        if unit.changed {
            let parts = split(Slice { events: unit.after, ..unit.slice });
            changed.extend(slices.len()..slices.len() + parts.len());
            slices.extend(parts);
        } else {
            slices.push(Slice { events: unit.before, ..unit.slice });
        }
    }
    Ok(changed)
}

/// A slice on its way from before to after. `slice.events` is not used.
struct Unit {
    slice: Slice,
    is_new: bool,
    before: Vec<Entry>,
    /// Events that come in, in order; folded into `after`.
    incoming: Vec<Entry>,
    after: Vec<Entry>,
    changed: bool,
}

impl Unit {
    fn of(mut slice: Slice, is_new: bool) -> Self {
        Self {
            before: std::mem::take(&mut slice.events),
            slice,
            is_new,
            incoming: Vec::new(),
            after: Vec::new(),
            changed: false,
        }
    }
}

/// Finds the slice of each accepted event, making those that are missing.
fn units(slices: Vec<Slice>, accepted: &[Entry]) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::with_capacity(slices.len() + 1);
    let mut accepted = accepted.iter().peekable();
    let mut slices = slices.into_iter().peekable();
    loop {
        let next = match (slices.peek(), accepted.peek()) {
            (None, None) => return units,
            (Some(slice), event) => {
                // A day without a slice before this one needs a new one first.
                match event {
                    Some(e) if e.day() < slice.day => None,
                    _ => slices.next(),
                }
            }
            (None, Some(_)) => None,
        };
        let mut unit = match next {
            Some(slice) => Unit::of(slice, false),
            None => {
                let day = accepted.peek().map_or(0, |e| e.day());
                let entry = State::default();
                Unit::of(Slice { day, begins: Place::default(), entry, events: Vec::new() }, true)
            }
        };
        let end = slices.peek().map(|s| (s.day, s.begins));
        while let Some(e) = accepted.next_if(|e| {
            e.day() == unit.slice.day && end.is_none_or(|end| (e.day(), e.place()) < end)
        }) {
            unit.incoming.push(*e);
        }
        units.push(unit);
    }
}

/// Folds old and new timeline side by side and emits the difference.
fn fold<E>(
    units: &mut Vec<Unit>,
    mut more: impl FnMut((u32, Place)) -> Result<Option<Slice>, E>,
    emit: &mut impl FnMut(Sample),
) -> Result<(), E> {
    let touched = |unit: &Unit| !unit.incoming.is_empty();
    let Some(first) = units.iter().position(touched) else { return Ok(()) };
    let Some(last) = units.iter().rposition(touched) else { return Ok(()) };
    let mut old = entry_state(units, first);
    let mut new = old.clone();
    // Wrong clocks may have deleted what an event of theirs comes before: then it begins a conversation.
    if units[first].incoming.first().is_some_and(|event| !old.is_before(event.time_ms)) {
        new = State::default();
    }
    let mut i = first;
    loop {
        if i == units.len() {
            let end = units.last().map(|u| (u.slice.day, u.slice.begins)).unwrap_or_default();
            match more(end)? {
                Some(slice) => units.push(Unit::of(slice, false)),
                None => break,
            }
        }
        units[i].fold(&mut old, &mut new, emit);
        if i >= last && old == new {
            return Ok(());
        }
        i += 1;
    }
    old.open_samples(&mut |s| emit(s.taken_back()));
    new.open_samples(emit);
    Ok(())
}

impl Unit {
    /// Takes both states from before the slice to after it.
    fn fold(&mut self, old: &mut State, new: &mut State, emit: &mut impl FnMut(Sample)) {
        self.changed = self.is_new || !self.incoming.is_empty() || self.slice.entry != *new;
        self.slice.entry = new.clone();
        let incoming = std::mem::take(&mut self.incoming);
        let mut same = self.before.len();
        if let Some(entry) = incoming.first() {
            same = self.before.partition_point(|e| e < entry);
        }
        self.after = merged(&self.before, incoming, same);
        if old != new {
            same = 0;
        }
        // Where both are the same nothing changes.
        for event in &self.before[..same] {
            old.step(event.step(), &mut |_| {});
        }
        if same > 0 {
            new.clone_from(old);
        }
        for event in &self.before[same..] {
            old.step(event.step(), &mut |s| emit(s.taken_back()));
        }
        for event in &self.after[same..] {
            new.step(event.step(), emit);
        }
    }
}

/// The state before the first touched slice.
///
/// | the slice | its state on entry |
/// | --- | --- |
/// | is stored | stored with it |
/// | is new, after a stored one | what that one leaves |
/// | is new, before all stored ones | the entry state of the next: what deleted slices left |
/// | is the only one | a conversation's start |
fn entry_state(units: &[Unit], first: usize) -> State {
    let unit = &units[first];
    if !unit.is_new {
        return unit.slice.entry.clone();
    }
    match first.checked_sub(1).map(|i| &units[i]) {
        Some(previous) => {
            let mut state = previous.slice.entry.clone();
            for event in &previous.before {
                state.step(event.step(), &mut |_| {});
            }
            state
        }
        None => {
            units.iter().find(|u| !u.is_new).map_or_else(State::default, |u| u.slice.entry.clone())
        }
    }
}

/// Both lists in order; the first `same` of `before` come before all of `incoming`.
fn merged(before: &[Entry], incoming: Vec<Entry>, same: usize) -> Vec<Entry> {
    let mut all = Vec::with_capacity(before.len() + incoming.len());
    all.extend_from_slice(&before[..same]);
    let mut rest = before[same..].iter().copied().peekable();
    for entry in incoming {
        while let Some(e) = rest.next_if(|e| *e < entry) {
            all.push(e);
        }
        all.push(entry);
    }
    all.extend(rest);
    all
}

fn split(mut slice: Slice) -> Vec<Slice> {
    let count = slice.events.len().div_ceil(MAX_SLICE_EVENTS);
    if count <= 1 {
        return vec![slice];
    }
    let size = slice.events.len().div_ceil(count);
    let events = std::mem::take(&mut slice.events);
    let mut state = slice.entry.clone();
    let mut begins = slice.begins;
    let mut parts = Vec::with_capacity(count);
    for (i, part) in events.chunks(size).enumerate() {
        if let (true, Some(first)) = (i > 0, part.first()) {
            begins = first.place();
        }
        parts.push(Slice { day: slice.day, begins, entry: state.clone(), events: part.to_vec() });
        for event in part {
            state.step(event.step(), &mut |_| {});
        }
    }
    parts
}

/// Why a stored slice cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SliceError {
    /// A version that this program does not know.
    #[error("a timeline slice of version {0}; this program knows {VERSION}")]
    Version(u8),
    /// Bytes that are no slice.
    #[error("a damaged timeline slice")]
    Damaged,
}

impl Slice {
    /// Where it begins.
    #[must_use]
    pub fn place(&self) -> (u32, Place) {
        (self.day, self.begins)
    }

    /// The stored form; day and place are in the key.
    ///
    /// # Errors
    /// Only if memory runs out.
    pub fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        let mut out = Vec::with_capacity(16 + 16 * self.events.len());
        out.push(VERSION);
        out = postcard::to_extend(&self.entry, out)?;
        varint::write(&mut out, self.events.len() as u64);
        let mut previous = i64::from(self.day) * DAY_MS;
        for event in &self.events {
            varint::write(&mut out, event.time_ms.abs_diff(previous));
            previous = event.time_ms;
            out.push(event.kind.number() << 4 | event.flags);
            out.extend_from_slice(&event.id.to_le_bytes());
            out.extend_from_slice(&event.content.to_le_bytes());
        }
        Ok(out)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`SliceError`] if the version is unknown or the bytes are damaged.
    pub fn decode(day: u32, begins: Place, bytes: &[u8]) -> Result<Self, SliceError> {
        let (version, rest) = bytes.split_first().ok_or(SliceError::Damaged)?;
        if *version != VERSION {
            return Err(SliceError::Version(*version));
        }
        let (entry, rest) = postcard::take_from_bytes(rest).map_err(|_| SliceError::Damaged)?;
        let events = decode_events(day, rest).ok_or(SliceError::Damaged)?;
        Ok(Self { day, begins, entry, events })
    }
}

fn decode_events(day: u32, mut rest: &[u8]) -> Option<Vec<Entry>> {
    const MIN_EVENT_BYTES: usize = 14;
    let count = usize::try_from(varint::read(&mut rest)?).ok()?;
    if count > rest.len() / MIN_EVENT_BYTES {
        return None;
    }
    let mut events = Vec::with_capacity(count);
    let mut time_ms = i64::from(day) * DAY_MS;
    for _ in 0..count {
        time_ms = time_ms.checked_add_unsigned(varint::read(&mut rest)?)?;
        let (kind_flags, tail) = rest.split_first()?;
        let (id, tail) = tail.split_first_chunk()?;
        let (content, tail) = tail.split_first_chunk()?;
        rest = tail;
        events.push(Entry {
            time_ms,
            kind: Kind::of_number(kind_flags >> 4)?,
            flags: kind_flags & 15,
            id: u64::from_le_bytes(*id),
            content: u32::from_le_bytes(*content),
        });
    }
    rest.is_empty().then_some(events)
}

#[cfg(test)]
mod tests;
