//! The new events of a batch in the order in which they are met: by day, then by the key of their
//! conversation, then as they came.
//!
//! *Why*: that order is not the order in memory, so a loop over sorted places would wait for memory
//! at each event. So events are copied, in the order of memory, into *partitions*. A partition
//! covers a range of days and keys, fits in a processor's cache, and is sorted there. This is a
//! sample sort: a sample of the events says where partitions begin.

use std::hash::BuildHasher as _;

use rustc_hash::FxBuildHasher;

use super::batch::Pending;
use crate::event::registry::PairNumbers;
use crate::fold::day_masks::DayMasks;
use crate::fold::names::NameId;
use crate::fold::timeline::Entry;

/// A partition has about this many events (more if one conversation has more on a day), so that it
/// fits in a processor's cache. Few in the tests of this crate, so that small batches have many
/// partitions.
const PARTITION_EVENTS: usize = if cfg!(test) { 8 } else { 1_024 };
/// The sample has this many events for each partition, so that partitions have similar sizes.
const SAMPLED_EVENTS: usize = if cfg!(test) { 2 } else { 8 };

/// A new event of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct New {
    pub(super) day: u32,
    /// The key of its conversation.
    pub(super) key: u128,
    /// The key of its user.
    pub(super) user: u128,
    pub(super) entry: Entry,
    /// Its place in the batch.
    pub(super) place: u32,
    pub(super) numbers: PairNumbers,
    pub(super) name: NameId,
    pub(super) duration_ms: Option<u32>,
    /// As [`Pending::first_day`].
    pub(super) first_day: u32,
}

/// The events that are still to be met, but for those that repeat another one of the batch.
pub(super) struct Upcoming {
    partitions: std::vec::IntoIter<Vec<New>>,
    /// Events of the present partition, in order.
    sorted: Vec<New>,
    /// For each event of `sorted`, up to the end of the present day: the days that its conversation
    /// may have ([`DayMasks::mask`]). Masks of a later day are made when that day begins, because
    /// this day adds itself to conversations.
    masks: Vec<u64>,
    /// How many events of `sorted` were met.
    met: usize,
    /// Kept from partition to partition, so that none allocates: day, key, place in the partition.
    order: Vec<(u32, u128, u32)>,
}

impl Upcoming {
    pub(super) fn of(events: &[Pending<'_>]) -> Self {
        let begins = begins(events);
        let new = || (0..).zip(events).filter(|(_, event)| event.repeats.is_none());
        let mut counts = vec![0; begins.len() + 1];
        let mut partition_of = Vec::with_capacity(events.len());
        for (_, event) in new() {
            let at = order_of(event);
            let partition = begins.partition_point(|begin| *begin <= at);
            partition_of.push(partition);
            counts[partition] += 1;
        }
        let mut partitions: Vec<Vec<New>> = counts.into_iter().map(Vec::with_capacity).collect();
        for ((place, event), partition) in new().zip(partition_of) {
            partitions[partition].push(New::of(event, place));
        }
        let (sorted, masks, order) = (Vec::new(), Vec::new(), Vec::new());
        Self { partitions: partitions.into_iter(), sorted, masks, met: 0, order }
    }

    /// Day and key of the next event, if there is one.
    pub(super) fn peek(&mut self, days: &DayMasks) -> Option<(u32, u128)> {
        while self.met == self.sorted.len() {
            let events = self.partitions.next()?;
            self.order.clear();
            self.order.extend((0..).zip(&events).map(|(place, new)| (new.day, new.key, place)));
            self.order.sort_unstable();
            self.sorted.clear();
            self.sorted.extend(self.order.iter().map(|(.., place)| events[*place as usize]));
            self.masks.clear();
            self.met = 0;
        }
        let next = self.sorted.get(self.met)?;
        if self.met == self.masks.len() {
            let of_day = self.sorted[self.met..].iter().take_while(|new| new.day == next.day);
            self.masks.extend(of_day.map(|new| days.mask(new.key)));
        }
        Some((next.day, next.key))
    }

    /// After [`Upcoming::peek`]: takes all events of the conversation and day that it gave, with
    /// the days that the conversation may have ([`DayMasks::mask`]).
    pub(super) fn take(&mut self) -> (&[New], u64) {
        let rest = &self.sorted[self.met..];
        let mask = self.masks.get(self.met).copied().unwrap_or_default();
        let events = rest.chunk_by(|a, b| (a.day, a.key) == (b.day, b.key)).next();
        let events = events.unwrap_or_default();
        self.met += events.len();
        (events, mask)
    }
}

impl New {
    fn of(event: &Pending<'_>, place: u32) -> Self {
        let (day, key) = order_of(event);
        let Pending { numbers, name, first_day, .. } = *event;
        let (user, entry, duration_ms) = (event.user(), event.entry(), event.event.duration_ms);
        Self { day, key, user, entry, place, numbers, name, duration_ms, first_day }
    }
}

fn order_of(event: &Pending<'_>) -> (u32, u128) {
    (event.day(), event.conversation())
}

/// Where partitions begin, but for the first one.
fn begins(events: &[Pending<'_>]) -> Vec<(u32, u128)> {
    let partitions = events.len() / PARTITION_EVENTS;
    if partitions < 2 {
        return Vec::new();
    }
    // One event of each stretch, but not always the same one: publishers may take turns.
    let step = events.len() / (partitions * SAMPLED_EVENTS);
    let any = |n: usize| usize::try_from(FxBuildHasher.hash_one(n) >> 32).unwrap_or(0) % step;
    let stretches = events.chunks_exact(step).enumerate();
    let mut sample: Vec<_> = stretches.map(|(n, events)| order_of(&events[any(n)])).collect();
    sample.sort_unstable();
    let mut begins: Vec<_> = sample.into_iter().step_by(SAMPLED_EVENTS).skip(1).collect();
    begins.dedup();
    begins
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;
    use crate::event::{Event, HashKey, Kind};

    fn event(n: u64, conversation: u64, time_ms: i64) -> Event {
        let key = HashKey::new([7; 16]);
        Event {
            conversation: key.conversation(&conversation.to_string()),
            id: xxh3_64(&n.to_le_bytes()),
            content: 0,
            time_ms,
            kind: Kind::Received,
            flags: 0,
            user: key.user(&n.to_string()),
            name: None,
            duration_ms: None,
        }
    }

    #[test]
    fn events_are_met_in_order_whatever_the_partitions() {
        // One day or several, many conversations or one that has most events.
        for (days, conversations) in [(1, 1), (1, 40), (3, 7), (9, 300), (40, 2)] {
            for count in [0_u64, 1, 7, 8, 16, 17, 100, 1_000] {
                let events: Vec<Event> = (0..count)
                    .map(|n| {
                        let random = xxh3_64(&n.to_be_bytes());
                        let conversation = (random % (2 * conversations)).min(conversations);
                        let day = i64::try_from(random / 1_000 % days).unwrap();
                        event(n, conversation, day * 86_400_000)
                    })
                    .collect();
                let pending: Vec<Pending<'_>> = (0..)
                    .zip(&events)
                    .map(|(place, event)| Pending {
                        numbers: PairNumbers { account: 0, pair: u32::from(event.id % 3 == 0) },
                        event,
                        name: NameId::ABSENT,
                        first_day: 0,
                        repeats: (place % 10 == 9).then(|| place - 1),
                    })
                    .collect();
                let places = (0_u32..).zip(&pending).filter(|(_, event)| event.repeats.is_none());
                let mut wanted: Vec<_> =
                    places.map(|(place, event)| (order_of(event), place)).collect();
                wanted.sort_unstable();

                let (mut days_of, mut before) = (DayMasks::default(), Vec::new());
                let mut upcoming = Upcoming::of(&pending);
                let mut met = Vec::new();
                while let Some(next) = upcoming.peek(&days_of) {
                    assert_eq!(upcoming.peek(&days_of), Some(next));
                    let (events, mask) = upcoming.take();
                    let (day, key) = next;
                    let of_key = before.iter().filter(|(_, other)| *other == key);
                    for (earlier, _) in of_key {
                        assert!(days_of.may_have(*earlier, key, mask), "{earlier} and {day}");
                    }
                    days_of.insert(day, key, mask);
                    before.push(next);
                    for new in events {
                        assert_eq!(*new, New::of(&pending[new.place as usize], new.place));
                        met.push((next, new.place));
                    }
                    // All of them, so that a slice is written once.
                    assert_ne!(upcoming.peek(&days_of), Some(next));
                }
                assert_eq!(
                    met, wanted,
                    "{count} events, {conversations} conversations, {days} days"
                );
            }
        }
    }

    #[test]
    fn partitions_of_many_conversations_have_about_the_same_size() {
        let events: Vec<Event> =
            (0..10_000).map(|n| event(n, n, i64::try_from(n % 5).unwrap() * 86_400_000)).collect();
        let pending: Vec<Pending<'_>> = events
            .iter()
            .map(|event| Pending {
                numbers: PairNumbers { account: 0, pair: 0 },
                event,
                name: NameId::ABSENT,
                first_day: 0,
                repeats: None,
            })
            .collect();
        let largest = Upcoming::of(&pending).partitions.map(|events| events.len()).max();
        assert!(largest.is_some_and(|largest| largest <= 10 * PARTITION_EVENTS), "{largest:?}");
    }
}
