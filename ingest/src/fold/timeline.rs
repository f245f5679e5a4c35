//! The timeline of one conversation: its events in order, stored as slices of UTC days.
//!
//! What a conversation contributes is a function of its sorted events, and this sum is made day by
//! day: a slice contributes what its state on entry had open, taken back, then what its events
//! emit, then what is open after them. A slice's state on entry is the state after the day before,
//! if that state is alive at midnight; so a slice two days back can't matter. Adding events
//! therefore changes the buckets by `contributions(after) - contributions(before)` of the slices
//! that they touch; that telescopes, so it does not matter how events are cut into commits, in
//! which order they come, or how late.
//!
//! *Invariants*: pure. Events of one instant and kind are ordered by what was sent (the operator),
//! never by numbers that this store gave.
//!
//! *Format* of a stored slice (in a block of `store::packed`): one byte, 0 if nothing was open on
//! entry, 1 if the state on entry follows ([`SessionState::encode`]), 2 for a long slice; then its
//! events up to the end. An event: milliseconds since the previous one (the first: since the day
//! began) as a varint; one byte number of the kind * 16 + flags; for a join or a message of an
//! operator the operator; 8 bytes hash of source and id, 4 bytes hash of the content, both least
//! significant byte first. An operator is a varint: 0 for none, n for the n-th that this slice
//! names, and one more than it names so far for a new one, whose length (varint) and text follow.
//!
//! A slice of more than [`MAX_PART_EVENTS`] events is long: it is cut into parts, which have rows
//! of their own in the form of a slice. The block then has 2, the number for the next part
//! (varint), the number of parts (varint), and for each part its number (varint) and its first
//! event as above, the milliseconds counted from the day's beginning.

use std::cmp::Ordering;

use botstats_common::quarter::DAY_MS;
use botstats_common::varint;
use memchr::memmem;

use crate::event::Kind;
use crate::fold::names::{NameId, Names};
use crate::fold::session::{Sample, SessionState, Step};

/// A slice, and a part of a long one, with more events than this is cut. Few in the tests of this
/// crate, so that small cases have many parts.
pub(crate) const MAX_PART_EVENTS: usize = if cfg!(test) { 8 } else { 256 };
/// A slice is deleted this many days after its day: 35 for late events, 1 because a session reaches
/// back, 1 for wrong clocks.
pub(crate) const SLICE_DAYS: u32 = 37;
/// First bytes of a stored slice.
const NOTHING_OPEN: u8 = 0;
const STATE_FOLLOWS: u8 = 1;
const LONG: u8 = 2;

/// An event in a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// When it happened.
    pub(crate) time_ms: i64,
    /// Hash of source and id.
    pub(crate) id: u64,
    /// Hash of the other content.
    pub(crate) content: u32,
    /// The operator of a join or an operator's message.
    pub(crate) operator: NameId,
    /// Its type.
    pub(crate) kind: Kind,
    /// Bits of [`crate::event::flag`].
    pub(crate) flags: u8,
}

impl Entry {
    pub(crate) fn step(&self) -> Step {
        Step { time_ms: self.time_ms, kind: self.kind, flags: self.flags, operator: self.operator }
    }

    /// The order of a timeline. Of events of one instant, kind and operator it does not matter
    /// which comes first; the last fields only make the order total.
    pub(crate) fn compare(&self, other: &Self, names: &Names) -> Ordering {
        let place = |entry: &Self| (entry.time_ms, entry.kind.rank());
        place(self)
            .cmp(&place(other))
            .then_with(|| names.compare(self.operator, other.operator))
            .then_with(|| (self.flags, self.id).cmp(&(other.flags, other.id)))
    }
}

/// The beginning of a part of a long slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartStart {
    /// Its number among the parts of the slice: its row's key.
    pub(crate) number: u32,
    pub(crate) first: Entry,
}

/// A slice as its block has it. The events of a short one are decoded into a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoredSlice {
    /// With its state on entry.
    Short(SessionState),
    Long {
        next_number: u32,
        parts: Vec<PartStart>,
    },
}

/// Bytes that are no slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes of a timeline slice are malformed")]
pub struct SliceError;

/// Appends a short slice, or a part of a long one.
pub(crate) fn encode_slice(
    day: u32,
    entry: &SessionState,
    events: &[Entry],
    names: &Names,
    out: &mut Vec<u8>,
) {
    if *entry == SessionState::default() {
        out.push(NOTHING_OPEN);
    } else {
        out.push(STATE_FOLLOWS);
        entry.encode(begin_ms(day), names, out);
    }
    let mut operators = Operators::default();
    let mut previous = begin_ms(day);
    for event in events {
        put_event(event, previous, &mut operators, names, out);
        previous = event.time_ms;
    }
}

/// Appends a long slice without its parts.
pub(crate) fn encode_long(
    day: u32,
    next_number: u32,
    parts: &[PartStart],
    names: &Names,
    out: &mut Vec<u8>,
) {
    out.push(LONG);
    varint::write(out, next_number.into());
    varint::write(out, parts.len() as u64);
    let mut operators = Operators::default();
    for part in parts {
        varint::write(out, part.number.into());
        put_event(&part.first, begin_ms(day), &mut operators, names, out);
    }
}

/// Decodes a slice; appends the events of a short one.
pub(crate) fn decode_slice(
    day: u32,
    bytes: &[u8],
    names: &mut Names,
    events: &mut Vec<Entry>,
) -> Result<StoredSlice, SliceError> {
    decode_slice_for(None, day, bytes, names, events)
}

/// As [`decode_slice`]. With an identity it leaves out the events if none of them has it.
pub(crate) fn decode_slice_for(
    wanted: Option<u64>,
    day: u32,
    bytes: &[u8],
    names: &mut Names,
    events: &mut Vec<Entry>,
) -> Result<StoredSlice, SliceError> {
    try_decode(wanted, day, bytes, names, events).ok_or(SliceError)
}

fn try_decode(
    wanted: Option<u64>,
    day: u32,
    bytes: &[u8],
    names: &mut Names,
    events: &mut Vec<Entry>,
) -> Option<StoredSlice> {
    let (form, mut rest) = bytes.split_first()?;
    let mut operators = Operators::default();
    let entry = match *form {
        NOTHING_OPEN => SessionState::default(),
        STATE_FOLLOWS => SessionState::decode(&mut rest, begin_ms(day), names)?,
        LONG => {
            let next_number = read_u32(&mut rest)?;
            let count = read_u32(&mut rest)?;
            let mut parts = Vec::new();
            for _ in 0..count {
                let number = read_u32(&mut rest).filter(|number| *number < next_number)?;
                let first = take_event(&mut rest, begin_ms(day), &mut operators, names)?;
                parts.push(PartStart { number, first });
            }
            return rest.is_empty().then_some(StoredSlice::Long { next_number, parts });
        }
        _ => return None,
    };
    // A search through the bytes takes a tenth of the time.
    if wanted.is_some_and(|id| memmem::find(rest, &id.to_le_bytes()).is_none()) {
        return Some(StoredSlice::Short(entry));
    }
    let mut previous = begin_ms(day);
    while !rest.is_empty() {
        let event = take_event(&mut rest, previous, &mut operators, names)?;
        previous = event.time_ms;
        events.push(event);
    }
    Some(StoredSlice::Short(entry))
}

/// The instant at which a UTC day begins, in Unix milliseconds.
pub(crate) fn begin_ms(day: u32) -> i64 {
    i64::from(day) * DAY_MS
}

fn read_u32(rest: &mut &[u8]) -> Option<u32> {
    u32::try_from(varint::read(rest)?).ok()
}

/// The operators that a slice has named so far.
#[derive(Default)]
struct Operators(Vec<NameId>);

/// True for the kinds that are stored with an operator.
pub(crate) fn has_operator(kind: Kind) -> bool {
    matches!(kind, Kind::Joined | Kind::OperatorMessage)
}

fn put_event(
    event: &Entry,
    previous: i64,
    operators: &mut Operators,
    names: &Names,
    out: &mut Vec<u8>,
) {
    varint::write(out, event.time_ms.abs_diff(previous));
    out.push(event.kind.number() << 4 | event.flags);
    if has_operator(event.kind) {
        let known = &mut operators.0;
        match (names.text(event.operator), known.iter().position(|id| *id == event.operator)) {
            (None, _) => varint::write(out, 0),
            (Some(_), Some(place)) => varint::write(out, place as u64 + 1),
            (Some(text), None) => {
                known.push(event.operator);
                varint::write(out, known.len() as u64);
                varint::write(out, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
    out.extend_from_slice(&event.id.to_le_bytes());
    out.extend_from_slice(&event.content.to_le_bytes());
}

#[inline]
fn take_event(
    rest: &mut &[u8],
    previous: i64,
    operators: &mut Operators,
    names: &mut Names,
) -> Option<Entry> {
    let time_ms = previous.checked_add_unsigned(varint::read(rest)?)?;
    let (kind_flags, tail) = rest.split_first()?;
    *rest = tail;
    let kind = Kind::of_number(kind_flags >> 4)?;
    let operator =
        if has_operator(kind) { take_operator(rest, operators, names)? } else { NameId::ABSENT };
    let (id, tail) = rest.split_first_chunk()?;
    let (content, tail) = tail.split_first_chunk()?;
    *rest = tail;
    Some(Entry {
        time_ms,
        id: u64::from_le_bytes(*id),
        content: u32::from_le_bytes(*content),
        operator,
        kind,
        flags: kind_flags & 15,
    })
}

fn take_operator(rest: &mut &[u8], operators: &mut Operators, names: &mut Names) -> Option<NameId> {
    let Some(place) = usize::try_from(varint::read(rest)?).ok()?.checked_sub(1) else {
        return Some(NameId::ABSENT);
    };
    let known = &mut operators.0;
    if place == known.len() {
        let length = usize::try_from(varint::read(rest)?).ok()?;
        let (text, tail) = rest.split_at_checked(length)?;
        *rest = tail;
        let id = names.id(Some(str::from_utf8(text).ok()?));
        if known.contains(&id) {
            return None;
        }
        known.push(id);
    }
    known.get(place).copied()
}

/// Folds events into a state without a look at what they contribute.
pub(crate) fn pass_over(state: &mut SessionState, events: &[Entry]) {
    for event in events {
        state.step(event.step(), &mut |_| {});
    }
}

/// Merges new events into those of a slice or a part, and folds both into states: `old` through
/// `before`, `new` through all. Emits what changes. All lists are in the order of the timeline;
/// `after` is replaced.
pub(crate) fn fold_part(
    (before, incoming): (&[Entry], &[Entry]),
    after: &mut Vec<Entry>,
    (old, new): (&mut SessionState, &mut SessionState),
    names: &Names,
    emit: &mut impl FnMut(Sample),
) {
    let precedes = |a: &Entry, b: &Entry| a.compare(b, names).is_lt();
    let first_new =
        incoming.first().map_or(before.len(), |new| before.partition_point(|e| precedes(e, new)));
    after.clear();
    after.reserve(before.len() + incoming.len());
    after.extend_from_slice(&before[..first_new]);
    let mut rest = before[first_new..].iter().peekable();
    for entry in incoming {
        while let Some(e) = rest.next_if(|e| precedes(e, entry)) {
            after.push(*e);
        }
        after.push(*entry);
    }
    after.extend(rest);
    // Nothing changes up to the first new event, unless the states differ.
    let same = if old == new { first_new } else { 0 };
    pass_over(old, &before[..same]);
    if same > 0 {
        new.clone_from(old);
    }
    for event in &before[same..] {
        old.step(event.step(), &mut |s| emit(s.taken_back()));
    }
    for event in &after[same..] {
        new.step(event.step(), &mut *emit);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u32 = 20_700;

    fn entry(ms: i64, kind: Kind, operator: NameId, id: u64) -> Entry {
        Entry { time_ms: begin_ms(DAY) + ms, id, content: 7, operator, kind, flags: 1 }
    }

    #[test]
    fn the_bytes_of_a_slice_do_not_change() {
        let mut names = Names::default();
        let (ann, bob) = (names.id(Some("ann")), names.id(Some("bob")));
        let events = [
            entry(1, Kind::Received, NameId::ABSENT, 0x0102),
            entry(1, Kind::Joined, ann, 3),
            entry(300, Kind::OperatorMessage, ann, 4),
            entry(300, Kind::OperatorMessage, bob, 5),
            entry(301, Kind::OperatorMessage, NameId::ABSENT, 6),
        ];
        let mut bytes = Vec::new();
        encode_slice(DAY, &SessionState::default(), &events, &names, &mut bytes);
        let expected = [
            &[0][..],
            &[1, 0x01, 2, 1, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0],
            &[0, 0x51, 1, 3, b'a', b'n', b'n', 3, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0],
            &[0xab, 2, 0x61, 1, 4, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0],
            &[0, 0x61, 2, 3, b'b', b'o', b'b', 5, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0],
            &[1, 0x61, 0, 6, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0],
        ]
        .concat();
        assert_eq!(bytes, expected);
        let mut again = Vec::new();
        let stored = decode_slice(DAY, &bytes, &mut names, &mut again);
        assert_eq!(stored, Ok(StoredSlice::Short(SessionState::default())));
        assert_eq!(again, events);
        for (id, count) in [(0x0102, 5), (2, 0), (3, 5), (6, 5), (7, 0)] {
            again.clear();
            let stored = decode_slice_for(Some(id), DAY, &bytes, &mut names, &mut again);
            assert_eq!(stored, Ok(StoredSlice::Short(SessionState::default())));
            assert_eq!(again, events[..count], "{id}");
        }

        let parts =
            [PartStart { number: 0, first: events[0] }, PartStart { number: 2, first: events[3] }];
        bytes.clear();
        encode_long(DAY, 3, &parts, &names, &mut bytes);
        assert_eq!(bytes[..4], [2, 3, 2, 0]);
        let stored = decode_slice(DAY, &bytes, &mut names, &mut Vec::new());
        assert_eq!(stored, Ok(StoredSlice::Long { next_number: 3, parts: parts.to_vec() }));
    }

    #[test]
    fn events_are_ordered_by_what_was_sent() {
        let mut names = Names::default();
        let (zoe, ann) = (names.id(Some("zoe")), names.id(Some("ann")));
        let sorted = [
            entry(1, Kind::OperatorMessage, NameId::ABSENT, 9),
            entry(1, Kind::OperatorMessage, ann, 8),
            entry(1, Kind::OperatorMessage, zoe, 1),
            entry(1, Kind::Goal, NameId::ABSENT, 0),
            entry(1, Kind::Ended, NameId::ABSENT, 0),
            entry(2, Kind::Received, NameId::ABSENT, 0),
        ];
        assert!(sorted.is_sorted_by(|a, b| a.compare(b, &names).is_lt()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let (mut names, mut events) = (Names::default(), Vec::new());
            if let Ok(stored) = decode_slice(DAY, &bytes, &mut names, &mut events) {
                let mut again = Vec::new();
                match &stored {
                    StoredSlice::Short(entry) => {
                        encode_slice(DAY, entry, &events, &names, &mut again);
                    }
                    StoredSlice::Long { next_number, parts } => {
                        encode_long(DAY, *next_number, parts, &names, &mut again);
                    }
                }
                let mut same = Vec::new();
                prop_assert_eq!(decode_slice(DAY, &again, &mut names, &mut same), Ok(stored));
                prop_assert_eq!(same, events);
            }
        }
    }
}
