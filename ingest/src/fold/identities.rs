//! A Bloom filter a day, in memory: whether a conversation may have an event of some identity on a
//! day.
//!
//! *Invariants*: no false negatives, whatever the order of the days. A day that was forgotten and
//! gets events again is a new day.
//!
//! *Why*: an event is a duplicate only of an event that the conversation has on one of the last
//! days. Most new events are not duplicates, and the slices of those days need not be read to know
//! it.
//!
//! A look-up touches one block of 512 bits for each layer of the day: one cache miss. A layer that
//! is full gives a false positive for about 1 in 1,800 look-ups, and takes 2.25 bytes an event. A
//! day has one layer if it has at most a quarter more events than the day before. Otherwise it gets
//! another layer, and the room of the day doubles.

use std::collections::BTreeMap;

/// A 64-byte cache line.
type BloomBlock = [u64; 8];

const BLOCK_BITS: usize = 512;
/// Bits of memory for each event that a layer has room for.
const BITS_PER_EVENT: usize = 18;
/// Bits set for an event. Each is chosen by 9 bits of a 64-bit hash, so 7 is also the most.
const PROBES: u32 = 7;
/// The least number of events for which the first layer of a day is made.
const FIRST_LAYER: usize = 1024;
/// The largest number of events for which a first layer is made: the day may have fewer than the
/// day before. Such a layer takes 9 MB.
const MAX_FIRST_LAYER: usize = 1 << 22;

/// About this many events of a day go into their filter together ([`Arriving`]).
const ARRIVING_EVENTS: usize = 1_024;
/// The blocks of this many events are waited for together. They are 4 KiB, a small part of the
/// nearest cache of a processor.
const FETCHED_EVENTS: usize = 64;

/// The filters of all days that have events.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    days: BTreeMap<u32, Vec<BloomLayer>>,
}

#[derive(Debug)]
struct BloomLayer {
    blocks: Vec<BloomBlock>,
    /// The number of events for which it is made.
    room: usize,
    /// The number of events for which there is room still.
    left: usize,
}

/// Where the bits of an event are.
#[derive(Debug, Clone, Copy)]
struct Bits {
    block: u64,
    in_block: u64,
}

/// Events on their way into the filters: together, so that they wait for memory at the same time.
#[derive(Debug, Default)]
pub(crate) struct Arriving {
    day: u32,
    events: Vec<(u128, u64)>,
}

impl Arriving {
    /// As [`Identities::insert`], but the filters may not know the event before
    /// [`Arriving::finish`].
    pub(crate) fn insert(
        &mut self,
        identities: &mut Identities,
        day: u32,
        conversation: u128,
        id: u64,
    ) {
        if self.day != day || self.events.len() >= ARRIVING_EVENTS {
            self.finish(identities);
            self.day = day;
        }
        self.events.push((conversation, id));
    }

    pub(crate) fn finish(&mut self, identities: &mut Identities) {
        identities.insert_all(self.day, &self.events);
        self.events.clear();
    }
}

impl Identities {
    /// Adds an event of a conversation to a day. One that is there already takes room again.
    pub(crate) fn insert(&mut self, day: u32, conversation: u128, id: u64) {
        self.insert_all(day, &[(conversation, id)]);
    }

    /// As [`Identities::insert`], for many events of a day, which wait for memory at the same time.
    fn insert_all(&mut self, day: u32, events: &[(u128, u64)]) {
        if events.is_empty() {
            return;
        }
        let layers = match self.days.get_mut(&day) {
            Some(layers) => layers,
            None => {
                let before = self.days.range(..day).next_back();
                let events: usize =
                    before.map_or(0, |(_, layers)| layers.iter().map(|l| l.room - l.left).sum());
                let first = (events + events / 4).clamp(FIRST_LAYER, MAX_FIRST_LAYER);
                self.days.entry(day).or_insert_with(|| vec![BloomLayer::new(first)])
            }
        };
        for events in events.chunks(FETCHED_EVENTS) {
            if let Some(layer) = layers.last().filter(|_| events.len() > 1) {
                layer.fetch(events);
            }
            for (conversation, id) in events {
                if layers.last().is_some_and(|layer| layer.left == 0) {
                    layers.push(BloomLayer::new(layers.iter().map(|layer| layer.room).sum()));
                }
                if let Some(layer) = layers.last_mut() {
                    layer.insert(Bits::of(*conversation, *id));
                }
            }
        }
    }

    /// False if the conversation has no such event on that day.
    pub(crate) fn may_have(&self, day: u32, conversation: u128, id: u64) -> bool {
        let bits = Bits::of(conversation, id);
        self.days.get(&day).is_some_and(|layers| layers.iter().any(|layer| layer.has(bits)))
    }

    /// The days that have events, ascending.
    pub(crate) fn days(&self) -> impl Iterator<Item = u32> + '_ {
        self.days.keys().copied()
    }

    /// Forgets all days before that one.
    pub(crate) fn forget_before(&mut self, day: u32) {
        self.days = self.days.split_off(&day);
    }

    /// Memory held by the filters, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.days.values().flatten().map(|layer| size_of_val(&layer.blocks[..])).sum()
    }
}

impl BloomLayer {
    fn new(events: usize) -> Self {
        let blocks = (events * BITS_PER_EVENT).div_ceil(BLOCK_BITS);
        Self { blocks: vec![[0; 8]; blocks], room: events, left: events }
    }

    fn place(&self, bits: Bits) -> usize {
        let place = (u128::from(bits.block) * self.blocks.len() as u128) >> 64;
        usize::try_from(place).unwrap_or(0)
    }

    /// Brings the blocks of events into the processor's cache.
    fn fetch(&self, events: &[(u128, u64)]) {
        let words = events
            .iter()
            .map(|(conversation, id)| self.blocks[self.place(Bits::of(*conversation, *id))][0]);
        std::hint::black_box(words.fold(0, |all, word| all ^ word));
    }

    fn has(&self, bits: Bits) -> bool {
        let block = self.blocks[self.place(bits)];
        bits.words().all(|(word, bit)| block[word] & bit != 0)
    }

    fn insert(&mut self, bits: Bits) {
        let place = self.place(bits);
        let block = &mut self.blocks[place];
        for (word, bit) in bits.words() {
            block[word] |= bit;
        }
        self.left = self.left.saturating_sub(1);
    }
}

impl Bits {
    fn of(conversation: u128, id: u64) -> Self {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let (high, low) = halves(conversation);
        // `low` is all hash. `high` has the pair, which many conversations share.
        let block = folded(high ^ id, low);
        Self { block, in_block: folded(block ^ id, ODD) }
    }

    /// Words of a block, with one bit each.
    fn words(self) -> impl Iterator<Item = (usize, u64)> {
        (0..PROBES).map(move |probe| {
            let bit = self.in_block >> (9 * probe);
            (usize::try_from(bit >> 6 & 7).unwrap_or(0), 1 << (bit & 63))
        })
    }
}

/// The more and the less significant 64 bits.
pub(super) fn halves(hash: u128) -> (u64, u64) {
    let half = |n: u128| u64::try_from(n & u128::from(u64::MAX)).unwrap_or(0);
    (half(hash >> 64), half(hash))
}

/// Both halves of the product, folded into one.
fn folded(a: u64, b: u64) -> u64 {
    let (high, low) = halves(u128::from(a) * u128::from(b));
    high ^ low
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

    use super::*;
    use crate::store::keys::pair_key;

    fn event(n: u64) -> (u128, u64) {
        // Conversations of seven events, all of one pair.
        (pair_key(7, xxh3_128(&(n / 7).to_le_bytes())), xxh3_64(&n.to_le_bytes()))
    }

    #[test]
    fn what_arrives_in_any_order_of_days_is_known_at_the_end() {
        let (mut identities, mut arriving) = (Identities::default(), Arriving::default());
        // Several lists of a day, then days in turn.
        let day = |n: u64| if n < 5_000 { 20_000 } else { 20_000 + u32::try_from(n % 3).unwrap() };
        for n in 0..6_000 {
            let (conversation, id) = event(n);
            arriving.insert(&mut identities, day(n), conversation, id);
        }
        arriving.finish(&mut identities);
        for n in 0..6_000 {
            let (conversation, id) = event(n);
            assert!(identities.may_have(day(n), conversation, id), "event {n}");
        }
        assert_eq!(identities.days().collect::<Vec<_>>(), [20_000, 20_001, 20_002]);
    }

    #[test]
    fn no_false_negatives_and_few_false_positives() {
        let mut identities = Identities::default();
        // In lists, in many of which a layer gets full, and one by one.
        let events: Vec<_> = (0..100_000).map(event).collect();
        for events in events.chunks(1_000) {
            identities.insert_all(20_000, events);
        }
        for (conversation, id) in &events {
            identities.insert(20_001, *conversation, *id);
        }
        for (day, most) in [(20_000, 400), (20_001, 100)] {
            let has = |n| {
                let (conversation, id) = event(n);
                identities.may_have(day, conversation, id)
            };
            assert!((0..100_000).all(has));
            let wrong = (100_000..200_000).filter(|n| has(*n)).count();
            assert!(wrong < most, "day {day}: {wrong} of 100,000");
        }
        assert!(!(0..100).map(event).any(|(c, id)| identities.may_have(19_999, c, id)));
        identities.insert_all(19_999, &[]);
        assert!(identities.days().eq([20_000, 20_001]));
        // The first day doubled its room until 131,072.
        let expected = (131_072 + 125_000) * BITS_PER_EVENT / 8;
        assert!(identities.bytes().abs_diff(expected) < 1_000, "{}", identities.bytes());
    }

    #[test]
    fn a_full_layer() {
        let mut identities = Identities::default();
        identities.days.insert(7, vec![BloomLayer::new(100_000)]);
        for (conversation, id) in (0..100_000).map(event) {
            identities.insert(7, conversation, id);
        }
        let wrong =
            (100_000..1_100_000).map(event).filter(|(c, id)| identities.may_have(7, *c, *id));
        let wrong = wrong.count();
        assert!((300..800).contains(&wrong), "{wrong} of 1,000,000");
        assert_eq!(identities.days[&7].len(), 1);
    }

    #[test]
    fn other_identities_of_one_conversation() {
        let mut identities = Identities::default();
        let (conversation, _) = event(0);
        for n in 0..20_000 {
            identities.insert(7, conversation, event(n).1);
        }
        let wrong =
            (20_000..120_000).filter(|n| identities.may_have(7, conversation, event(*n).1)).count();
        assert!(wrong < 400, "{wrong} of 100,000");
    }

    #[test]
    fn forgotten_days() {
        let mut identities = Identities::default();
        for day in [5, 6, 7, 100_000] {
            identities.insert(day, 1, 2);
        }
        identities.forget_before(7);
        assert_eq!(identities.days().collect::<Vec<_>>(), [7, 100_000]);
        assert!([5, 6].iter().all(|day| !identities.may_have(*day, 1, 2)));
        assert!([7, 100_000].iter().all(|day| identities.may_have(*day, 1, 2)));
        identities.insert(5, 3, 4);
        assert!(identities.may_have(5, 3, 4) && !identities.may_have(5, 1, 2));
        identities.forget_before(u32::MAX);
        assert_eq!(identities.bytes(), 0);
    }
}
