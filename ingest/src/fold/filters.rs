//! A Bloom filter a day, in memory: on which days a conversation may have slices, and a long
//! conversation an event of some identity.
//!
//! *Why*: most conversations are new and have no slice on any of the last 37 days; 37 look-ups in
//! the store that find nothing would cost more than the rest of the work for them. A false positive
//! costs a look-up in vain; there are no false negatives.
//!
//! Memory: about 2 bytes a conversation and day, 4 an event of a long conversation.

use std::collections::BTreeMap;

/// The least number of keys for which the first layer of a day is made; each further layer is made
/// for twice as many. A day begins with room for as many keys as the day before had, so that most
/// days have one layer.
const FIRST_LAYER: usize = 1024;
/// The largest number of keys for which a first layer is made: the next day may have fewer.
const MAX_FIRST_LAYER: usize = 1 << 20;
/// The rate of false positives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FalsePositives {
    /// About one in 100 a day: where a false positive costs one look-up.
    OneInHundred,
    /// About one in 10,000 a day: where a false positive costs reading all slices of a conversation
    /// on a day.
    OneInTenThousand,
}

impl FalsePositives {
    fn bits_per_key(self) -> usize {
        match self {
            FalsePositives::OneInHundred => 10,
            FalsePositives::OneInTenThousand => 20,
        }
    }

    fn probes(self) -> u32 {
        match self {
            FalsePositives::OneInHundred => 4,
            FalsePositives::OneInTenThousand => 10,
        }
    }
}

/// The filters of all days that have slices.
#[derive(Debug)]
pub(crate) struct DayFilters {
    false_positives: FalsePositives,
    days: BTreeMap<u32, Vec<BloomLayer>>,
}

#[derive(Debug)]
struct BloomLayer {
    words: Vec<u64>,
    probes: u32,
    /// The number of keys for which it is made.
    room: usize,
    /// The number of keys for which there is room still.
    left: usize,
}

impl DayFilters {
    #[must_use]
    pub(crate) fn new(false_positives: FalsePositives) -> Self {
        Self { false_positives, days: BTreeMap::new() }
    }

    /// Adds a key (the hash of a conversation or of an identity) to a day.
    pub(crate) fn insert(&mut self, day: u32, hash: u64) {
        if !self.days.contains_key(&day) {
            let before = self.days.range(..day).next_back();
            let keys = before.map_or(0, |(_, layers)| layers.iter().map(BloomLayer::keys).sum());
            let first = keys.next_power_of_two().clamp(FIRST_LAYER, MAX_FIRST_LAYER);
            self.days.insert(day, vec![BloomLayer::new(first, self.false_positives)]);
        }
        let Some(layers) = self.days.get_mut(&day) else { return };
        if layers.iter().any(|l| l.contains(hash)) {
            return;
        }
        if let Some(full) = layers.last().filter(|l| l.left == 0) {
            layers.push(BloomLayer::new(2 * full.room, self.false_positives));
        }
        if let Some(layer) = layers.last_mut() {
            layer.insert(hash);
        }
    }

    /// The days that may have the key, ascending.
    pub(crate) fn of(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        self.days.iter().filter(move |(_, ls)| ls.iter().any(|l| l.contains(hash))).map(|(d, _)| *d)
    }

    /// Forgets all days before that one.
    pub(crate) fn forget_before(&mut self, day: u32) {
        self.days = self.days.split_off(&day);
    }

    /// Memory held by the filters, in bytes.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.days.values().flatten().map(|l| l.words.len() * 8).sum()
    }
}

impl BloomLayer {
    fn new(keys: usize, false_positives: FalsePositives) -> Self {
        let words = (keys * false_positives.bits_per_key()).div_ceil(64).next_power_of_two();
        Self { words: vec![0; words], probes: false_positives.probes(), room: keys, left: keys }
    }

    fn keys(&self) -> usize {
        self.room - self.left
    }

    fn places(&self, hash: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let mask = self.words.len() as u64 * 64 - 1;
        let step = hash.rotate_left(32) | 1;
        (0..self.probes).map(move |i| {
            let bit = hash.wrapping_add(step.wrapping_mul(u64::from(i))) & mask;
            (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
        })
    }

    fn contains(&self, hash: u64) -> bool {
        self.places(hash).all(|(word, bit)| self.words[word] & bit != 0)
    }

    fn insert(&mut self, hash: u64) {
        for (word, bit) in self.places(hash) {
            self.words[word] |= bit;
        }
        self.left = self.left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    #[test]
    fn no_false_negatives() {
        let mut days = DayFilters::new(FalsePositives::OneInHundred);
        let hash = |i: u64| xxh3_64(&i.to_le_bytes());
        for i in 0..50_000 {
            days.insert(20_000 + u32::try_from(i % 3).unwrap(), hash(i));
        }
        for i in 0..50_000 {
            assert!(days.of(hash(i)).any(|d| d == 20_000 + u32::try_from(i % 3).unwrap()), "{i}");
        }
        let wrong: usize = (50_000..100_000).map(|i| days.of(hash(i)).count()).sum();
        assert!(wrong < 15_000, "{wrong} of 150,000 are false");
        assert!(days.bytes() < 300_000, "{}", days.bytes());
        days.forget_before(20_002);
        assert!((0..50_000).all(|i| days.of(hash(i)).all(|d| d >= 20_002)));
    }

    #[test]
    fn few_false_positives() {
        let hash = |i: u64| xxh3_64(&i.to_le_bytes());
        for (false_positives, most) in
            [(FalsePositives::OneInHundred, 3_000), (FalsePositives::OneInTenThousand, 60)]
        {
            let mut days = DayFilters::new(false_positives);
            (0..50_000).for_each(|i| days.insert(1, hash(i)));
            assert!((0..50_000).all(|i| days.of(hash(i)).count() == 1));
            let wrong = (50_000..150_000).filter(|i| days.of(hash(*i)).count() > 0).count();
            assert!(wrong < most, "{false_positives:?}: {wrong} of 100,000");
        }
    }
}
