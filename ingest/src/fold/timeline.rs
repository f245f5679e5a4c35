//! The timeline of one conversation: its events in order, stored as slices of days, and what new
//! events change in the metrics.
//!
//! What a conversation contributes is a function of its sorted events. Adding events therefore
//! changes the buckets by `contributions(after) - contributions(before)`; that telescopes, so it
//! does not matter how events are cut into commits, in which order they come, or how late.
//!
//! A slice holds the events of one UTC day (or a part of a crowded one) and the fold's state on
//! entry. [`super::insertion`] folds from the first slice that is touched until old and new state
//! agree again.
//!
//! *Invariants*: pure; an event is a duplicate exactly if the conversation has one with the same
//! source and id, as far back as a duplicate could still be accepted.
//!
//! *Format* of a stored slice (version 1): the version byte; the state on entry (postcard); the
//! number of events as a varint; for each event the milliseconds since the previous one (the first:
//! since the day began) as a varint, one byte number of the kind * 16 + flags, 8 bytes hash of
//! source and id, 4 bytes hash of the content, both least significant byte first.

use botstats_common::quarter::{DAY_MS, day_of_ms};
use botstats_common::varint;
use rustc_hash::FxHashMap;

use crate::event::Kind;
use crate::fold::session::{SessionState, Step};

/// A slice with more events than this is split. Few in the tests of this crate, so that small cases
/// have many slices.
pub(crate) const MAX_SLICE_EVENTS: usize = if cfg!(test) { 8 } else { 256 };
/// A slice is deleted this many days after its day: 35 for late events, 1 because a session reaches
/// back, 1 for wrong clocks.
pub(crate) const SLICE_DAYS: u32 = 37;
const VERSION: u8 = 1;
/// Up to this many look-ups go through the events of all slices: an index takes longer to make.
const MAX_SCANS: usize = 8;
/// Up to this many accepted events are gone through to find one: an index takes longer to make.
const MAX_SCANNED_EVENTS: usize = 32;

/// An event in a timeline. Ordered by time, then kind; the other fields only make the order total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// When it happened.
    pub time_ms: i64,
    /// Its type.
    pub kind: Kind,
    /// Bits of [`crate::event::flag`].
    pub flags: u8,
    /// Hash of source and id.
    pub id: u64,
    /// Hash of the other content.
    pub content: u32,
}

impl Entry {
    pub(super) fn step(&self) -> Step {
        Step { time_ms: self.time_ms, kind: self.kind, flags: self.flags }
    }

    /// The UTC day of its time.
    #[must_use]
    pub fn day(&self) -> u32 {
        day_of_ms(self.time_ms)
    }

    /// Orders the entries of a day as they are ordered themselves, but for the content.
    #[must_use]
    pub fn sort_key(&self) -> SortKey {
        let ms = self.time_ms.rem_euclid(DAY_MS);
        SortKey {
            ms: u32::try_from(ms).unwrap_or(u32::MAX),
            rank: self.kind.rank(),
            flags: self.flags,
            id: self.id,
        }
    }
}

/// Where an event stands within its day. The default comes before all events of the day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SortKey {
    /// Milliseconds since the day began.
    pub ms: u32,
    /// Rank of the event's kind.
    pub rank: u8,
    /// Its flags.
    pub flags: u8,
    /// Hash of source and id.
    pub id: u64,
}

/// Events of one conversation on one day, or a part of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The UTC day.
    pub day: u32,
    /// The sort key of its first event; the default for the day's first slice.
    pub begins: SortKey,
    /// The fold's state before its first event.
    pub entry: SessionState,
    /// Its events, in order.
    pub events: Vec<Entry>,
}

/// The decision about a new event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It counts.
    Accepted,
    /// The conversation has the same event already.
    Duplicate,
    /// The conversation has another event with the same source and id.
    Conflict,
}

/// A new event.
#[derive(Debug, Clone, Copy)]
pub struct NewEvent {
    /// The event as the timeline has it.
    pub entry: Entry,
    /// Events of days before this one are unknown to it, whether their slices are deleted yet or
    /// not: so the decision does not depend on when slices are deleted.
    pub first_day: u32,
}

/// The events that a conversation has, to look up those of the same identity as new ones.
pub enum Known<'a> {
    /// In slices, which are gone through at each look-up.
    Scanned(&'a [Slice]),
    /// By identity.
    Indexed(FxHashMap<u64, Entry>),
}

impl<'a> Known<'a> {
    /// All events of these slices, for that many look-ups.
    #[must_use]
    pub fn of(slices: &'a [Slice], lookups: usize) -> Self {
        if lookups <= MAX_SCANS {
            return Self::Scanned(slices);
        }
        Self::Indexed(slices.iter().flat_map(|s| &s.events).map(|e| (e.id, *e)).collect())
    }

    fn get(&self, id: u64) -> Option<Entry> {
        match self {
            Self::Scanned(slices) => {
                slices.iter().flat_map(|s| &s.events).rfind(|e| e.id == id).copied()
            }
            Self::Indexed(by_id) => by_id.get(&id).copied(),
        }
    }
}

/// What was decided about new events.
pub struct Admitted {
    /// One for each new event, in their order.
    pub admissions: Vec<Admission>,
    /// Those that are accepted.
    pub accepted: Vec<Entry>,
}

/// Decides about new events, in their order. An accepted event is known to those after it.
#[must_use]
pub fn admit(new: &[NewEvent], known: &Known<'_>) -> Admitted {
    let mut accepted: Vec<Entry> = Vec::with_capacity(new.len());
    // Indexes into `accepted`, once going through it would take longer.
    let mut indexes: FxHashMap<u64, usize> = FxHashMap::default();
    let mut admissions = Vec::with_capacity(new.len());
    for NewEvent { entry, first_day } in new {
        let of_batch = if accepted.len() <= MAX_SCANNED_EVENTS {
            accepted.iter().rposition(|other| other.id == entry.id)
        } else {
            for (index, other) in accepted.iter().enumerate().skip(indexes.len()) {
                indexes.insert(other.id, index);
            }
            indexes.get(&entry.id).copied()
        };
        let other = match of_batch {
            Some(index) => Some(accepted[index]),
            None => known.get(entry.id),
        };
        admissions.push(match other {
            Some(other) if other.day() >= *first_day && other == *entry => Admission::Duplicate,
            Some(other) if other.day() >= *first_day => Admission::Conflict,
            _ => {
                accepted.push(*entry);
                Admission::Accepted
            }
        });
    }
    Admitted { admissions, accepted }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SliceError {
    /// A version that this program does not know.
    #[error("a timeline slice has version {0}, this program knows version {VERSION}")]
    Version(u8),
    /// Bytes that are no slice.
    #[error("the bytes of a timeline slice are malformed")]
    Damaged,
}

impl Slice {
    /// The day and where in it the slice begins.
    #[must_use]
    pub fn start(&self) -> (u32, SortKey) {
        (self.day, self.begins)
    }

    /// The stored form; the key has day and start.
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

    /// Decodes the stored form.
    ///
    /// # Errors
    /// An error if the version is unknown or the bytes are damaged.
    pub fn decode(day: u32, begins: SortKey, bytes: &[u8]) -> Result<Self, SliceError> {
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
