//! Adds events to a timeline, and finds what that changes in the metrics.

use crate::fold::session::{Sample, SessionState};
use crate::fold::timeline::{Entry, MAX_SLICE_EVENTS, Slice, SortKey};

/// Accepted events on their way into a conversation: old and new timeline are folded side by side.
///
/// While [`Insertion::needs_after`] names a start, the next stored slice after it must be given.
pub struct Insertion {
    units: Vec<Unit>,
    /// The first unit that is not folded yet.
    next: usize,
    /// The last unit with an incoming event.
    last: usize,
    old: SessionState,
    new: SessionState,
    samples: Vec<Sample>,
    is_done: bool,
}

/// What an [`Insertion`] gives.
pub struct Inserted {
    /// All slices that were given or made, in order.
    pub slices: Vec<Slice>,
    /// Indexes of those to store, ascending.
    pub changed: Vec<usize>,
    /// What changes in the metrics that come from sessions.
    pub samples: Vec<Sample>,
}

impl Inserted {
    /// The slices to store.
    #[must_use]
    pub fn into_changed(mut self) -> Vec<Slice> {
        let mut changed = self.changed.into_iter().peekable();
        let mut index = 0;
        self.slices.retain(|_| {
            let is_changed = changed.next_if_eq(&index).is_some();
            index += 1;
            is_changed
        });
        self.slices
    }
}

impl Insertion {
    /// Adds events to stored slices, which come in order and without a gap: from the last that
    /// begins at or before the first event (without one, from the first after it) to at least the
    /// last that begins at or before the last event.
    #[must_use]
    pub fn begin(slices: Vec<Slice>, mut accepted: Vec<Entry>) -> Self {
        accepted.sort_unstable();
        let units = units(slices, &accepted);
        let touched = |unit: &Unit| !unit.incoming.is_empty();
        let (first, last) = (units.iter().position(touched), units.iter().rposition(touched));
        let old = first.map(|first| entry_state(&units, first)).unwrap_or_default();
        let mut new = old.clone();
        // Wrong clocks may have deleted what an event of theirs comes before: then it begins a
        // conversation.
        if accepted.first().is_some_and(|event| !old.is_before(event.time_ms)) {
            new = SessionState::default();
        }
        let mut insertion = Self {
            units,
            next: first.unwrap_or_default(),
            last: last.unwrap_or_default(),
            old,
            new,
            samples: Vec::new(),
            is_done: first.is_none(),
        };
        insertion.fold();
        insertion
    }

    /// The beginning of the last slice so far, if the change reaches beyond that slice.
    #[must_use]
    pub fn needs_after(&self) -> Option<(u32, SortKey)> {
        let last = self.units.last().filter(|_| !self.is_done)?;
        Some(last.slice.start())
    }

    /// Gives the stored slice after [`Insertion::needs_after`]; `None` if there is none.
    pub fn give(&mut self, slice: Option<Slice>) {
        if let Some(slice) = slice {
            self.units.push(Unit::of(slice, false));
            return self.fold();
        }
        let samples = &mut self.samples;
        self.old.open_samples(&mut |s| samples.push(s.taken_back()));
        self.new.open_samples(&mut |s| samples.push(s));
        self.is_done = true;
    }

    /// Folds what is there, until old and new state agree behind the last incoming event.
    fn fold(&mut self) {
        while !self.is_done && self.next < self.units.len() {
            let samples = &mut self.samples;
            self.units[self.next].fold(&mut self.old, &mut self.new, samples);
            self.is_done = self.next >= self.last && self.old == self.new;
            self.next += 1;
        }
    }

    /// What is to be stored and counted, once nothing more is needed.
    #[must_use]
    pub fn finish(self) -> Inserted {
        let mut slices = Vec::with_capacity(self.units.len());
        let mut changed = Vec::new();
        for unit in self.units {
            if unit.changed {
                let parts = split(Slice { events: unit.after, ..unit.slice });
                changed.extend(slices.len()..slices.len() + parts.len());
                slices.extend(parts);
            } else {
                slices.push(Slice { events: unit.before, ..unit.slice });
            }
        }
        Inserted { slices, changed, samples: self.samples }
    }
}

/// A slice before and after the insertion. `slice.events` is not used.
struct Unit {
    slice: Slice,
    is_new: bool,
    before: Vec<Entry>,
    /// New events of the slice, in order; moved into `after` when the slice is folded.
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

/// Finds the slice of each accepted event, and makes the missing ones.
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
                let entry = SessionState::default();
                Unit::of(Slice { day, begins: SortKey::default(), entry, events: Vec::new() }, true)
            }
        };
        let end = slices.peek().map(|s| (s.day, s.begins));
        while let Some(e) = accepted.next_if(|e| {
            e.day() == unit.slice.day && end.is_none_or(|end| (e.day(), e.sort_key()) < end)
        }) {
            unit.incoming.push(*e);
        }
        units.push(unit);
    }
}

impl Unit {
    /// Folds the slice into both states.
    fn fold(&mut self, old: &mut SessionState, new: &mut SessionState, samples: &mut Vec<Sample>) {
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
        // Nothing changes up to the first new event, unless the states differ.
        for event in &self.before[..same] {
            old.step(event.step(), &mut |_| {});
        }
        if same > 0 {
            new.clone_from(old);
        }
        for event in &self.before[same..] {
            old.step(event.step(), &mut |s| samples.push(s.taken_back()));
        }
        for event in &self.after[same..] {
            new.step(event.step(), &mut |s| samples.push(s));
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
fn entry_state(units: &[Unit], first: usize) -> SessionState {
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
        None => units
            .iter()
            .find(|u| !u.is_new)
            .map_or_else(SessionState::default, |u| u.slice.entry.clone()),
    }
}

/// Merges two sorted lists; the first `same` entries of `before` come before all of `incoming`.
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
            begins = first.sort_key();
        }
        parts.push(Slice { day: slice.day, begins, entry: state.clone(), events: part.to_vec() });
        for event in part {
            state.step(event.step(), &mut |_| {});
        }
    }
    parts
}

#[cfg(test)]
mod tests;
