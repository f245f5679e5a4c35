//! What a slice becomes with its new events, and what that changes.

use super::{Buffers, Carried, Pass, Place};
use crate::engine::open::has_session;
use crate::fold::names::Names;
use crate::fold::session::SessionState;
use crate::fold::timeline::{
    Entry, MAX_PART_EVENTS, PartStart, StoredSlice, begin_ms, decode_slice, encode_long,
    encode_slice, fold_part, pass_over,
};
use crate::store::keys::day_bytes;
use crate::store::{Parts, StoreError};

impl Pass<'_> {
    /// Folds a short slice, stored or new (`old` is none), with its incoming events.
    pub(super) fn fold_short(
        &mut self,
        place: Place,
        old: Option<SessionState>,
        entry: SessionState,
    ) -> Result<(), StoreError> {
        let Place { day, key, numbers, .. } = place;
        let Buffers { before, incoming, after, body, .. } = &mut self.buffers;
        let changes = &mut self.effects.changes;
        let mut emit = |sample| changes.sample(numbers, sample);
        let is_stored = old.is_some();
        let mut old = old.unwrap_or_default();
        let mut new = entry.clone();
        // What was open on entry is taken back: the day before has counted it.
        SessionState::open_change(&new, &old, &mut emit);
        fold_part((before, incoming), after, (&mut old, &mut new), self.names, &mut emit);
        SessionState::open_change(&old, &new, &mut emit);
        body.clear();
        if after.len() <= MAX_PART_EVENTS {
            encode_slice(day, &entry, after, self.names, body);
        } else {
            let mut next = 0;
            let part_numbers = (None, &mut next);
            let parts = &mut self.parts;
            let starts = put_parts(parts, (day, key), part_numbers, &entry, after, self.names)?;
            encode_long(day, next, &starts, self.names, body);
        }
        self.changed.put(key, body);
        let of_session = has_session(after);
        self.carry(place, is_stored.then_some(&old), &new, of_session)
    }

    /// Folds a long slice with its incoming events, from the first part that changes until the old
    /// and the new state agree again.
    pub(super) fn fold_long(
        &mut self,
        place: Place,
        mut next_number: u32,
        starts: Vec<PartStart>,
        carried: Option<&SessionState>,
    ) -> Result<(), StoreError> {
        let Place { day, key, numbers, .. } = place;
        let incoming = std::mem::take(&mut self.buffers.incoming);
        let names = &mut *self.names;
        let part_of = |event: &Entry, names: &Names| {
            starts.partition_point(|s| s.first.compare(event, names).is_le()).saturating_sub(1)
        };
        let first = match (carried, incoming.first()) {
            (Some(_), _) => 0,
            (None, Some(event)) => part_of(event, names),
            (None, None) => return Ok(()),
        };
        let last = incoming.last().map_or(0, |event| part_of(event, names));
        let mut rest = &incoming[..];
        let mut all: Vec<PartStart> = starts[..first].to_vec();
        // The old and the new state after the part before; none if they agreed before the end.
        let mut states: Option<(SessionState, SessionState)> = None;
        let changes = &mut self.effects.changes;
        let mut emit = |sample| changes.sample(numbers, sample);
        for (i, start) in starts.iter().enumerate().skip(first) {
            let Buffers { before, after, .. } = &mut self.buffers;
            before.clear();
            let stored = self.parts.read((day, key, start.number), None, names, before)?;
            let (mut old, mut new) = states.take().unwrap_or_else(|| {
                let new = carried.filter(|_| i == 0).unwrap_or(&stored).clone();
                SessionState::open_change(&new, &stored, &mut emit);
                (stored.clone(), new)
            });
            let entry = new.clone();
            let end = match starts.get(i + 1) {
                Some(next) => rest.partition_point(|e| e.compare(&next.first, names).is_lt()),
                None => rest.len(),
            };
            let (mine, later) = rest.split_at(end);
            rest = later;
            fold_part((before, mine), after, (&mut old, &mut new), names, &mut emit);
            if mine.is_empty() && entry == stored {
                all.push(*start);
            } else {
                let part_numbers = (Some(start.number), &mut next_number);
                let parts = &mut self.parts;
                all.extend(put_parts(parts, (day, key), part_numbers, &entry, after, names)?);
            }
            let later = &starts[i + 1..];
            if i >= last && old == new && !later.is_empty() {
                all.extend_from_slice(later);
                break;
            }
            states = Some((old, new));
        }
        let body = &mut self.buffers.body;
        body.clear();
        encode_long(day, next_number, &all, names, body);
        self.changed.put(key, body);
        self.buffers.incoming = incoming;
        // Else the state at the end is what it was.
        let Some((old, new)) = states else { return Ok(()) };
        let changes = &mut self.effects.changes;
        SessionState::open_change(&old, &new, &mut |sample| changes.sample(numbers, sample));
        self.carry(place, Some(&old), &new, true)
    }

    /// Notes what the next midnight and the open conversations must know of the state after a
    /// slice. `old` is none of a new slice. A slice without events of a session changes nothing for
    /// the open conversations.
    fn carry(
        &mut self,
        Place { day, key, numbers, mask }: Place,
        old: Option<&SessionState>,
        new: &SessionState,
        of_session: bool,
    ) -> Result<(), StoreError> {
        let midnight = begin_ms(day + 1);
        let old = old.filter(|state| state.alive_at(midnight));
        let alive = Some(new).filter(|state| state.alive_at(midnight));
        if old != alive {
            let state = alive.cloned().unwrap_or_default();
            self.carried.push(Carried { key, numbers, state });
        }
        if !of_session {
            return Ok(());
        }
        let (Buffers { other, days, elsewhere, .. }, known) = (&mut self.buffers, &self.known);
        let (slices, names) = (&self.slices, &mut *self.names);
        self.effects.open.note(key, new, || {
            known.days.of(key, mask, days);
            for later in days.iter().copied().filter(|later| *later > day) {
                let Some(body) = slices.get(&day_bytes(later), key, other)? else { continue };
                elsewhere.clear();
                match decode_slice(later, body, names, elsewhere)? {
                    StoredSlice::Short(_) if !has_session(elsewhere) => {}
                    StoredSlice::Short(_) | StoredSlice::Long { .. } => return Ok(true),
                }
            }
            Ok::<_, StoreError>(false)
        })
    }
}

/// Stores events as parts of a long slice, the first of them under `first_number` if that is given;
/// gives their beginnings.
fn put_parts(
    table: &mut Parts<'_>,
    (day, key): (u32, u128),
    (first_number, next_number): (Option<u32>, &mut u32),
    entry: &SessionState,
    events: &[Entry],
    names: &Names,
) -> Result<Vec<PartStart>, StoreError> {
    let count = events.len().div_ceil(MAX_PART_EVENTS).max(1);
    let size = events.len().div_ceil(count).max(1);
    let mut number = first_number;
    let mut state = entry.clone();
    let mut starts = Vec::with_capacity(count);
    for part in events.chunks(size) {
        let Some(first) = part.first() else { continue };
        let number = number.take().unwrap_or_else(|| {
            *next_number += 1;
            *next_number - 1
        });
        table.put((day, key, number), &state, part, names)?;
        starts.push(PartStart { number, first: *first });
        pass_over(&mut state, part);
    }
    Ok(starts)
}
