//! Where a bucket stands in its packed table.
//!
//! *Format*: the group is the day (3 bytes) and the account (4); the key of an item is the pair (4)
//! and a slot (1), most significant byte first. Slots 0 to 23 are the hours of the UTC day,
//! [`NAMES`] has the names of the day.

use crate::event::registry::PairNumbers;
use crate::store::packed::Shape;

/// Bytes of a group.
pub(crate) const GROUP: usize = 7;
/// Bytes of an item's key.
pub(crate) const ITEM: usize = 5;
/// The packed table of buckets.
pub(crate) const SHAPE: Shape = Shape { name: "buckets", group: GROUP, key: ITEM };
/// The slot of the names of the day.
pub(crate) const NAMES: u8 = 24;

const SLOT_BITS: u32 = 8;
const ITEM_BITS: u32 = 40;
const ACCOUNT_BITS: u32 = 32;
/// Bits of a [`PairDay`].
const PAIR_DAY_BITS: u32 = 88;

/// A pair on a day; ordered as its items are in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PairDay(u128);

impl PairDay {
    /// `None` for a day beyond those that a key can have.
    #[inline]
    pub(crate) fn new(day: u32, numbers: PairNumbers) -> Option<Self> {
        let account = u128::from(numbers.account) << (ITEM_BITS - SLOT_BITS);
        let day = u128::from(day).checked_shl(ITEM_BITS - SLOT_BITS + ACCOUNT_BITS)?;
        let all = day | account | u128::from(numbers.pair);
        (all >> PAIR_DAY_BITS == 0).then_some(Self(all))
    }

    pub(crate) fn of_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// [`PAIR_DAY_BITS`] bits.
    pub(crate) fn bits(self) -> u128 {
        self.0
    }

    pub(crate) fn day(self) -> u32 {
        u32::try_from(self.0 >> (ITEM_BITS - SLOT_BITS + ACCOUNT_BITS)).unwrap_or(u32::MAX)
    }

    pub(crate) fn group(self) -> [u8; GROUP] {
        let bytes = (self.0 >> (ITEM_BITS - SLOT_BITS)).to_be_bytes();
        bytes.last_chunk().copied().unwrap_or_default()
    }

    /// The key of an item.
    pub(crate) fn item(self, slot: u8) -> u128 {
        let pair = self.0 & u128::from(u32::MAX);
        pair << SLOT_BITS | u128::from(slot)
    }
}

/// The group of an account's buckets of a day.
pub(crate) fn group(day: u32, account: u32) -> [u8; GROUP] {
    let all = u64::from(day) << ACCOUNT_BITS | u64::from(account);
    all.to_be_bytes().last_chunk().copied().unwrap_or_default()
}

/// Day and account of a group.
pub(crate) fn of_group(group: &[u8]) -> Option<(u32, u32)> {
    let [d0, d1, d2, account @ ..] = *<&[u8; GROUP]>::try_from(group).ok()?;
    Some((u32::from_be_bytes([0, d0, d1, d2]), u32::from_be_bytes(account)))
}

/// The key of an item.
pub(crate) fn item(pair: u32, slot: u8) -> u128 {
    u128::from(pair) << SLOT_BITS | u128::from(slot)
}

/// Pair and slot of an item's key; `None` if it is too long.
#[inline]
pub(crate) fn of_item(key: u128) -> Option<(u32, u8)> {
    let pair = u32::try_from(key >> SLOT_BITS).ok()?;
    Some((pair, u8::try_from(key & 0xff).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_as_cases() {
        let at = PairDay::new(20_000, PairNumbers { account: 3, pair: 7 }).unwrap();
        assert_eq!(at.group(), [0, 0x4e, 0x20, 0, 0, 0, 3]);
        assert_eq!(at.group(), group(20_000, 3));
        assert_eq!((at.day(), of_group(&at.group())), (20_000, Some((20_000, 3))));
        assert_eq!(at.item(24), 0x718);
        assert_eq!((at.item(5), of_item(at.item(5))), (item(7, 5), Some((7, 5))));
        assert_eq!(PairDay::of_bits(at.bits()), at);
        assert!(at < PairDay::new(20_000, PairNumbers { account: 4, pair: 0 }).unwrap());
        assert!(at < PairDay::new(20_001, PairNumbers { account: 0, pair: 0 }).unwrap());
        assert_eq!(PairDay::new(1 << 24, PairNumbers { account: 0, pair: 0 }), None);
        assert_eq!((of_item(1 << 40), of_group(&[0; 6])), (None, None));
    }
}
