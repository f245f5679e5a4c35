//! On which days a conversation may have slices, in memory: a Bloom filter whose cells are not bits
//! but masks of days, so that one look-up answers for all days.
//!
//! *Invariants*: no false negatives. A bit stands for one day at a time: days that are a multiple
//! of 64 apart, which only wrong clocks can bring together, share a bit, and the later comer goes
//! into filters of its own. When a day is forgotten its bit is cleared in all cells.
//!
//! *Why*: most conversations are new and have no slice on any of the last days. A filter a day
//! would cost a few cache misses for each of 37 days; this one costs three for each layer.
//!
//! A layer takes 64 bytes for each conversation of a day that it has room for (8 cells of 8 bytes).
//! A new conversation has a false positive on 3 of 100 days that are full, on 1 of 200 days that
//! are half full. A full day gets another layer of twice the size, which is also used for all days
//! from then on. A day for which the filter grew several times has that rate for each of its
//! layers.

use super::identities::{Identities, halves};

/// Cells for each conversation for which a layer has room.
const CELLS_PER_CONVERSATION: usize = 8;
const PROBES: u64 = 3;
/// The number of conversations a day for which the first layer is made: it takes 1 MB.
const FIRST_LAYER: usize = 16_384;

/// Which days a conversation may have slices on.
#[derive(Debug)]
pub(crate) struct DayMasks {
    /// Ascending by size. The last one takes new conversations.
    layers: Vec<MaskLayer>,
    /// The bits that stand for a day.
    used: u64,
    /// The day of each used bit: the day's number modulo 64 is the bit's.
    days: [u32; 64],
    /// Conversations of days whose bit stands for another day.
    far: Identities,
}

#[derive(Debug)]
struct MaskLayer {
    cells: Vec<u64>,
    /// The number of conversations a day for which it is made.
    room: usize,
    /// The number of conversations that it has, for each bit.
    counts: [usize; 64],
}

impl Default for DayMasks {
    fn default() -> Self {
        Self {
            layers: vec![MaskLayer::new(FIRST_LAYER)],
            used: 0,
            days: [0; 64],
            far: Identities::default(),
        }
    }
}

impl DayMasks {
    /// What the filter has of a conversation: the other functions take it as `mask`. A mask does
    /// not know days that the conversation gets later, and is not good any more once days are
    /// forgotten.
    ///
    /// Many calls in a row, one for each conversation, wait for memory at the same time.
    pub(crate) fn mask(&self, conversation: u128) -> u64 {
        self.layers.iter().fold(0, |mask, layer| mask | layer.mask(conversation))
    }

    /// Adds a conversation to a day.
    pub(crate) fn insert(&mut self, day: u32, conversation: u128, mask: u64) {
        let bit = bit_of(day);
        if self.used >> bit & 1 == 0 {
            self.used |= 1 << bit;
            self.days[bit] = day;
        }
        if self.days[bit] != day {
            if !self.far.may_have(day, conversation, 0) {
                self.far.insert(day, conversation, 0);
            }
            return;
        }
        if mask >> bit & 1 != 0 {
            return;
        }
        if let Some(full) = self.layers.last().filter(|layer| layer.counts[bit] >= layer.room) {
            self.layers.push(MaskLayer::new(2 * full.room));
        }
        if let Some(layer) = self.layers.last_mut() {
            layer.insert(bit, conversation);
        }
    }

    /// Replaces `days` by the days on which the conversation may have slices, ascending.
    pub(crate) fn of(&self, conversation: u128, mut mask: u64, days: &mut Vec<u32>) {
        days.clear();
        while mask != 0 {
            days.push(self.days[bit_of(mask.trailing_zeros())]);
            mask &= mask - 1;
        }
        days.extend(self.far.days().filter(|day| self.far.may_have(*day, conversation, 0)));
        days.sort_unstable();
        days.dedup();
    }

    /// False if the conversation has no slice on that day.
    pub(crate) fn may_have(&self, day: u32, conversation: u128, mask: u64) -> bool {
        let bit = bit_of(day);
        let own = self.used & mask & 1 << bit != 0 && self.days[bit] == day;
        own || self.far.may_have(day, conversation, 0)
    }

    /// Forgets all days before that one. If there are such days, that is a pass over all cells.
    pub(crate) fn forget_before(&mut self, day: u32) {
        self.far.forget_before(day);
        let old = (0..64).filter(|bit| self.used >> bit & 1 != 0 && self.days[*bit] < day);
        let old = old.fold(0, |mask, bit| mask | 1 << bit);
        if old == 0 {
            return;
        }
        self.used &= !old;
        self.layers.iter_mut().for_each(|layer| layer.clear(old));
        // A layer that was too small for later days goes with its last day.
        let last = self.layers.len().saturating_sub(1);
        let mut place = 0..;
        self.layers.retain(|layer| place.next() == Some(last) || layer.counts != [0; 64]);
    }

    /// Memory held by the filter, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let cells: usize = self.layers.iter().map(|layer| layer.cells.len() * 8).sum();
        cells + self.far.bytes()
    }
}

/// The bit of a day.
fn bit_of(day: u32) -> usize {
    day as usize % 64
}

impl MaskLayer {
    fn new(conversations: usize) -> Self {
        let cells = (conversations * CELLS_PER_CONVERSATION).next_power_of_two();
        Self { cells: vec![0; cells], room: conversations, counts: [0; 64] }
    }

    fn places(&self, conversation: u128) -> impl Iterator<Item = usize> + use<> {
        // The first 32 bits are those of the pair, which many conversations share. Only low bits of
        // `first` and `step` are used: all of these are bits of the hash.
        let (step, first) = halves(conversation);
        let last = self.cells.len() as u64 - 1;
        (0..PROBES).map(move |probe| {
            let place = first.wrapping_add((step | 1).wrapping_mul(probe)) & last;
            usize::try_from(place).unwrap_or(0)
        })
    }

    /// The bits of the days that may have the conversation.
    fn mask(&self, conversation: u128) -> u64 {
        self.places(conversation).fold(u64::MAX, |mask, place| mask & self.cells[place])
    }

    fn insert(&mut self, bit: usize, conversation: u128) {
        for place in self.places(conversation) {
            self.cells[place] |= 1 << bit;
        }
        self.counts[bit] += 1;
    }

    fn clear(&mut self, old: u64) {
        self.cells.iter_mut().for_each(|cell| *cell &= !old);
        for (bit, count) in self.counts.iter_mut().enumerate() {
            if old >> bit & 1 != 0 {
                *count = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_128;

    use super::*;
    use crate::store::keys::pair_key;

    /// A conversation; all are of one pair.
    fn hash(n: u64) -> u128 {
        pair_key(7, xxh3_128(&n.to_le_bytes()))
    }

    fn insert(masks: &mut DayMasks, day: u32, conversation: u128) {
        masks.insert(day, conversation, masks.mask(conversation));
    }

    fn may_have(masks: &DayMasks, day: u32, conversation: u128) -> bool {
        masks.may_have(day, conversation, masks.mask(conversation))
    }

    fn days_of(masks: &DayMasks, conversation: u128) -> Vec<u32> {
        let mut days = vec![1, 2, 3];
        masks.of(conversation, masks.mask(conversation), &mut days);
        days
    }

    #[test]
    fn few_false_positives_of_full_days() {
        let mut masks = DayMasks::default();
        let room = FIRST_LAYER as u64;
        for n in 0..room * 38 {
            insert(&mut masks, 20_000 + u32::try_from(n % 38).unwrap(), hash(n));
        }
        for n in 0..room * 38 {
            let day = 20_000 + u32::try_from(n % 38).unwrap();
            assert!(days_of(&masks, hash(n)).contains(&day) && may_have(&masks, day, hash(n)));
        }
        assert_eq!(masks.bytes(), FIRST_LAYER * 64);
        let others = room * 38..room * 38 + 10_000;
        let wrong: usize = others.map(|n| days_of(&masks, hash(n)).len()).sum();
        assert!(wrong < 10_000 * 38 * 33 / 1_000, "{wrong} of 380,000");
    }

    #[test]
    fn grows_in_layers() {
        let mut masks = DayMasks::default();
        let (first, later) = (100, 101);
        for n in 0..FIRST_LAYER as u64 * 4 {
            insert(&mut masks, first, hash(n));
        }
        assert!(masks.layers.len() > 2, "{}", masks.layers.len());
        let layers = masks.layers.len();
        for n in 0..FIRST_LAYER as u64 * 4 {
            insert(&mut masks, later, hash(n));
        }
        assert_eq!(masks.layers.len(), layers, "the last layer has room for the next day");
        assert!((0..FIRST_LAYER as u64 * 4).all(|n| days_of(&masks, hash(n)) == [first, later]));
        let others = 1_000_000..1_100_000;
        let wrong = others.filter(|n| may_have(&masks, first, hash(*n))).count();
        assert!(wrong < 8_000, "{wrong} of 100,000");
        masks.forget_before(later);
        assert!((0..FIRST_LAYER as u64 * 4).all(|n| days_of(&masks, hash(n)) == [later]));
        assert_eq!(masks.layers.len(), 1, "small layers go with their last day");
        masks.forget_before(later + 1);
        assert!((0..FIRST_LAYER as u64 * 4).all(|n| days_of(&masks, hash(n)).is_empty()));
    }

    /// A mask that was taken early is as good for its conversation as a new one.
    #[test]
    fn a_mask_taken_before_others_came() {
        let mut masks = DayMasks::default();
        let all = 0..FIRST_LAYER as u64 + 1_000;
        let early: Vec<u64> = all.clone().map(|n| masks.mask(hash(n))).collect();
        for (n, mask) in all.clone().zip(early) {
            masks.insert(100, hash(n), mask);
        }
        assert_eq!(masks.layers.len(), 2);
        assert!(all.clone().all(|n| days_of(&masks, hash(n)) == [100]));
        let before: Vec<u64> = all.clone().map(|n| masks.mask(hash(n))).collect();
        for (n, mask) in all.clone().zip(before) {
            assert!(masks.may_have(100, hash(n), mask));
            masks.insert(101, hash(n), mask);
        }
        assert!(all.clone().all(|n| days_of(&masks, hash(n)) == [100, 101]));
    }

    #[test]
    fn days_far_apart() {
        let mut masks = DayMasks::default();
        insert(&mut masks, 100, hash(1));
        insert(&mut masks, 164, hash(2));
        insert(&mut masks, 100 + 6_400, hash(1));
        assert_eq!(days_of(&masks, hash(1)), [100, 6_500]);
        assert_eq!(days_of(&masks, hash(2)), [164]);
        assert!(may_have(&masks, 164, hash(2)) && !may_have(&masks, 100, hash(2)));
        masks.forget_before(101);
        // The bit is free: a day can be in both.
        insert(&mut masks, 164, hash(3));
        insert(&mut masks, 164, hash(2));
        assert_eq!(days_of(&masks, hash(1)), [6_500]);
        assert_eq!(days_of(&masks, hash(2)), [164]);
        assert_eq!(days_of(&masks, hash(3)), [164]);
        insert(&mut masks, 100, hash(1));
        assert_eq!(days_of(&masks, hash(1)), [100, 6_500]);
        masks.forget_before(6_501);
        assert!((1..4).all(|n| days_of(&masks, hash(n)).is_empty()));
        assert_eq!(masks.used, 0);
    }

    proptest! {
        /// With few conversations there are hardly any false positives: all days are right.
        #[test]
        fn like_sets(
            steps in prop::collection::vec(
                (0_u64..40, 0_u32..300, prop::bool::weighted(0.03)),
                0..300,
            ),
        ) {
            let mut masks = DayMasks::default();
            let mut model: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
            for (n, day, forget) in steps {
                if forget {
                    masks.forget_before(day);
                    model.values_mut().for_each(|days| *days = days.split_off(&day));
                } else {
                    insert(&mut masks, day, hash(n));
                    model.entry(n).or_default().insert(day);
                }
            }
            for n in 0..40 {
                let known = model.remove(&n).unwrap_or_default();
                let found = days_of(&masks, hash(n));
                prop_assert!(found.is_sorted_by(|a, b| a < b));
                prop_assert!(known.iter().all(|day| found.contains(day)));
                prop_assert!(known.iter().all(|day| may_have(&masks, *day, hash(n))));
                prop_assert!(found.len() <= known.len() + 1, "{:?} {:?}", found, known);
            }
        }
    }
}
