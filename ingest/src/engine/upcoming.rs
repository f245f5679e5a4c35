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

/// How many of the most significant bits of a conversation's key are in [`order_of`]. Few in the
/// tests of this crate, so that several conversations have one order.
const ORDER_BITS: u32 = if cfg!(test) { 40 } else { 64 };

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

/// The events of a batch that are still to be met, but for those that repeat another one. The
/// memory of one batch serves the next.
#[derive(Default)]
pub(super) struct Upcoming {
    /// Events of all partitions, one partition after the other; then events of an earlier batch,
    /// which are never read.
    events: Vec<New>,
    /// Where the partitions end in `events`.
    ends: Vec<usize>,
    /// How many partitions were sorted.
    partitions_sorted: usize,
    /// Events of the present partition, in order.
    sorted: Vec<New>,
    /// For each event of `sorted`, up to the end of the present day: the days that its conversation
    /// may have ([`DayMasks::mask`]). Masks of a later day are made when that day begins, because
    /// this day adds itself to conversations.
    masks: Vec<u64>,
    /// How many events of `sorted` were met.
    met: usize,
    /// One number for each event of the present partition: [`order_of`], and in its low 32 bits the
    /// event's place in the partition.
    order: Vec<u128>,
    /// The partition of each event of the batch.
    partition_of: Vec<usize>,
}

impl Upcoming {
    /// Takes the new events of a batch, and forgets those of the batch before.
    pub(super) fn fill(&mut self, events: &[Pending<'_>]) {
        let begins = begins(events);
        let new = || (0..).zip(events).filter(|(_, event)| event.repeats.is_none());
        self.partition_of.clear();
        self.ends.clear();
        self.ends.resize(begins.len() + 1, 0);
        for (_, event) in new() {
            let order = order_of_pending(event);
            let partition = begins.partition_point(|begin| *begin <= order);
            self.partition_of.push(partition);
            self.ends[partition] += 1;
        }
        let mut count = 0;
        for end in &mut self.ends {
            // Here `end` is where the partition begins; below each event moves it on by one.
            count += std::mem::replace(end, count);
        }
        if let Some(any) = events.first().filter(|_| self.events.len() < count) {
            self.events.reserve_exact(count - self.events.len());
            self.events.resize(count, New::of(any, 0));
        }
        for ((place, event), partition) in new().zip(&self.partition_of) {
            let end = &mut self.ends[*partition];
            self.events[*end] = New::of(event, place);
            *end += 1;
        }
        self.sorted.clear();
        (self.partitions_sorted, self.met) = (0, 0);
    }

    /// Sorts the next partition; false if there is none.
    fn sort_next(&mut self) -> bool {
        let Some(end) = self.ends.get(self.partitions_sorted).copied() else { return false };
        let begin = self.partitions_sorted.checked_sub(1).map_or(0, |before| self.ends[before]);
        let events = &self.events[begin..end];
        let order = |(place, new): (u32, &New)| order_of(new.day, new.key) | u128::from(place);
        self.order.clear();
        self.order.extend((0..).zip(events).map(order));
        self.order.sort_unstable();
        let place = |order: &u128| usize::try_from(order & u128::from(u32::MAX)).unwrap_or(0);
        self.sorted.clear();
        self.sorted.extend(self.order.iter().map(|order| events[place(order)]));
        // Events of one order are mixed so far: the whole key decides.
        let all = |new: &New| (new.day, new.key, new.place);
        if !self.sorted.is_sorted_by_key(all) {
            self.sorted.sort_unstable_by_key(all);
        }
        self.masks.clear();
        self.met = 0;
        self.partitions_sorted += 1;
        true
    }

    /// Day and key of the next event, if there is one.
    pub(super) fn peek(&mut self, days: &DayMasks) -> Option<(u32, u128)> {
        while self.met == self.sorted.len() {
            if !self.sort_next() {
                return None;
            }
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
        let (day, key) = (event.day(), event.conversation());
        let Pending { numbers, name, first_day, .. } = *event;
        let (user, entry, duration_ms) = (event.user(), event.entry(), event.event.duration_ms);
        Self { day, key, user, entry, place, numbers, name, duration_ms, first_day }
    }
}

/// Orders events by day and key, but two events of a day whose conversations' keys begin alike have
/// one order. The low 32 bits are 0.
fn order_of(day: u32, key: u128) -> u128 {
    let key = key >> (u128::BITS - ORDER_BITS) << (u64::BITS - ORDER_BITS);
    u128::from(day) << 96 | key << 32
}

fn order_of_pending(event: &Pending<'_>) -> u128 {
    order_of(event.day(), event.conversation())
}

/// Where partitions begin, but for the first one: by [`order_of`].
fn begins(events: &[Pending<'_>]) -> Vec<u128> {
    let partitions = events.len() / PARTITION_EVENTS;
    if partitions < 2 {
        return Vec::new();
    }
    // One event of each stretch, but not always the same one: publishers may take turns.
    let step = events.len() / (partitions * SAMPLED_EVENTS);
    let any = |n: usize| usize::try_from(FxBuildHasher.hash_one(n) >> 32).unwrap_or(0) % step;
    let stretches = events.chunks_exact(step).enumerate();
    let sample = stretches.map(|(n, events)| order_of_pending(&events[any(n)]));
    let mut sample: Vec<_> = sample.collect();
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
        let mut upcoming = Upcoming::default();
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
                let mut wanted: Vec<_> = places
                    .map(|(place, event)| ((event.day(), event.conversation()), place))
                    .collect();
                wanted.sort_unstable();

                let (mut days_of, mut before) = (DayMasks::default(), Vec::new());
                // Of a batch that is left midway nothing stays.
                upcoming.fill(&pending[pending.len() / 3..]);
                if upcoming.peek(&days_of).is_some() {
                    upcoming.take();
                }
                upcoming.fill(&pending);
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
        let mut upcoming = Upcoming::default();
        upcoming.fill(&pending);
        let begins = [0].into_iter().chain(upcoming.ends.iter().copied());
        let largest = upcoming.ends.iter().zip(begins).map(|(end, begin)| end - begin).max();
        assert!(largest.is_some_and(|largest| largest <= 10 * PARTITION_EVENTS), "{largest:?}");
    }
}
