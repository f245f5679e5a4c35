//! The first messages of those that arrived that can share a commit.

use std::hash::BuildHasher as _;

use botstats_common::quarter::day_of_ms;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Spot;
use rustc_hash::FxBuildHasher;

use crate::event::batch::Place;
use crate::event::decoder::{Arrival, Said};
use crate::event::registry::PairNumbers;
use crate::event::{Decoded, Event};
use crate::fold::names::{NameId, Names};
use crate::fold::timeline::{Entry, SLICE_DAYS, has_operator};
use crate::store::keys::pair_key;
use crate::store::{DeadLetter, FirstMessage, Ownership, Progress, StreamIdentity};

pub(super) const NS_PER_MS: i64 = 1_000_000;

/// Messages of one commit.
pub(super) struct Batch<'a> {
    /// Events in the order of their messages.
    pub(super) events: Vec<Pending<'a>>,
    pub(super) dead_letters: Vec<DeadLetter>,
    /// The number of pairs that have an event in this batch or before.
    pub(super) pairs: u32,
    /// The progress with these messages, but for what becomes of the events.
    pub(super) progress: Progress,
    /// How many messages there are.
    pub(super) count: usize,
}

/// An event of the batch.
#[derive(Clone, Copy)]
pub(super) struct Pending<'a> {
    pub(super) numbers: PairNumbers,
    pub(super) event: &'a Event,
    pub(super) name: NameId,
    /// Events of days before this one are unknown to it, whether their slices are deleted yet or
    /// not: so the decision does not depend on when slices are deleted.
    pub(super) first_day: u32,
    /// The event of this batch that has its identity and comes first, as an index in
    /// [`Batch::events`].
    pub(super) repeats: Option<u32>,
}

impl Pending<'_> {
    pub(super) fn day(&self) -> u32 {
        day_of_ms(self.event.time_ms)
    }

    /// The key of its conversation.
    pub(super) fn conversation(&self) -> u128 {
        pair_key(self.numbers.pair, self.event.conversation.number())
    }

    /// The key of its user.
    pub(super) fn user(&self) -> u128 {
        pair_key(self.numbers.pair, self.event.user.number())
    }

    /// What no two events that count have in common.
    fn identity(&self) -> (u128, u64) {
        (self.conversation(), self.event.id)
    }

    pub(super) fn entry(&self) -> Entry {
        let Event { time_ms, kind, flags, id, content, .. } = *self.event;
        let operator = if has_operator(kind) { self.name } else { NameId::ABSENT };
        Entry { time_ms, id, content, operator, kind, flags }
    }
}

impl<'a> Batch<'a> {
    /// Takes messages of that stream, at least one if there is any, on top of `before` and `pairs`.
    /// With the last of them everything that was read is done.
    pub(super) fn first_of(
        arrivals: &'a [Arrival],
        (first, last): (Place, Place),
        stream: &StreamIdentity,
        before: &Progress,
        pairs: u32,
        names: &mut Names,
    ) -> Self {
        let (events, dead_letters) = (Vec::with_capacity(arrivals.len()), Vec::new());
        let mut batch = Self { events, dead_letters, pairs, progress: before.clone(), count: 0 };
        names.clear();
        while let Some(arrival) = arrivals.get(batch.count).filter(|a| batch.has_room_for(a)) {
            batch.take(arrival, names);
            batch.count += 1;
        }
        let last = match arrivals.get(..batch.count).and_then(<[_]>::last) {
            Some(taken) if batch.count < arrivals.len() => taken.place,
            _ => last,
        };
        let Place { sequence, stored_ns, .. } = first;
        batch.progress.first.get_or_insert(FirstMessage { sequence, stored_ns });
        batch.progress.checkpoint = Some(last.checkpoint(stream));
        batch.find_repeats();
        batch
    }

    /// False of a message before which the batch must end: a watermark that goes back changes what
    /// may be deleted, and that must not depend on how messages are cut into batches.
    fn has_room_for(&self, arrival: &Arrival) -> bool {
        self.count == 0
            || !matches!(arrival.said, Said::Event(Decoded::Event(..)))
            || !self.progress.watermark.was_wrong(arrival.place.stored_ns / NS_PER_MS)
    }

    fn take(&mut self, arrival: &'a Arrival, names: &mut Names) {
        let progress = &mut self.progress;
        let decoded = match &arrival.said {
            Said::Event(decoded) => decoded,
            Said::GivenAway(slots) => {
                let Ownership { counted, given_away } = &mut progress.ownership;
                *given_away = given_away.union(slots.intersection(*counted));
                return;
            }
        };
        match decoded {
            Decoded::UnknownType => progress.unknown_types += 1,
            Decoded::DeadLetter(rule, reason) => {
                *progress.dead_letters.entry(rule.name().to_owned()).or_default() += 1;
                self.dead_letters.push(DeadLetter {
                    sequence: arrival.place.sequence,
                    rule: *rule,
                    reason: reason.clone().into_owned(),
                });
            }
            Decoded::Event(numbers, event) => {
                let stored_ms = arrival.place.stored_ns / NS_PER_MS;
                if progress.watermark.was_wrong(stored_ms) {
                    let next_day = day_of_ms(stored_ms) + 1;
                    progress.buckets_from_day = progress.buckets_from_day.min(next_day);
                }
                progress.watermark.observe(event.time_ms, stored_ms);
                let first_day = progress.watermark.day().saturating_sub(SLICE_DAYS);
                self.pairs = self.pairs.max(numbers.pair.saturating_add(1));
                let (numbers, name) = (*numbers, names.id(event.name.as_deref()));
                self.events.push(Pending { numbers, event, name, first_day, repeats: None });
            }
        }
    }

    /// Finds the events whose identity an earlier event of the batch has. Whatever their days, only
    /// the first can count: if an event of the store refuses it, it refuses the others too.
    fn find_repeats(&mut self) {
        // The table has places alone: it stays small, and most look-ups end at an empty one.
        let mut first: HashTable<u32> = HashTable::with_capacity(self.events.len());
        // `place` is `index` as the table has it.
        for (index, place) in (0..self.events.len()).zip(0_u32..) {
            let events = &self.events;
            let identity = |place: &u32| events[*place as usize].identity();
            let hash = |place: &u32| FxBuildHasher.hash_one(identity(place));
            let same = |other: &u32| identity(other) == identity(&place);
            let mut earlier = match first.entry(hash(&place), same, hash) {
                Spot::Occupied(earlier) => earlier,
                Spot::Vacant(none) => {
                    none.insert(place);
                    continue;
                }
            };
            if events[*earlier.get() as usize].day() >= events[index].first_day {
                self.events[index].repeats = Some(*earlier.get());
            } else {
                *earlier.get_mut() = place;
            }
        }
    }
}
