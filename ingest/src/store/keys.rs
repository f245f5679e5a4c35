//! The layout of keys: the one place that knows it.
//!
//! *Format*: numbers most significant byte first, so that keys order like the values in them.
//!
//! | table | group | item key | bytes |
//! | --- | --- | --- | --- |
//! | slices | day | conversation | 3, 16 |
//! | users | | user | 0, 16 |
//! | buckets | day, account | pair, slot | 7, 5 (`fold::bucket_key`) |
//! | parts (not packed) | | day, conversation, number | 23 |
//! | forgotten (not packed) | | user | 16 |
//! | counts (not packed) | | pair / 512 | 4 |
//!
//! A conversation and a user are the 32 bits of their pair, then 96 bits of the hash of their id:
//! so the pair is known, and ids of different pairs never meet.
//!
//! *Why* the pair comes first: a commit goes through conversations and users in this order, and so
//! notes the changes of a pair's buckets one after the other, which are then found together.
//!
//! *Why* the day comes first: a commit touches neighbouring blocks, and all rows that are too old
//! are one range.

use std::ops::RangeInclusive;

/// Bytes of a day in a key: enough for 45,000 years.
pub(crate) const DAY: usize = 3;
const PAIR_BITS: u32 = u32::BITS;
const HASH_BITS: u32 = u128::BITS - PAIR_BITS;

pub(crate) fn day_bytes(day: u32) -> [u8; DAY] {
    let [_, a, b, c] = day.to_be_bytes();
    [a, b, c]
}

/// The day in a key that begins with it.
pub(crate) fn day_of(bytes: &[u8]) -> Option<u32> {
    let [a, b, c] = *bytes.first_chunk()?;
    Some(u32::from_be_bytes([0, a, b, c]))
}

/// The key of a conversation or a user: its pair, with the hash of its id.
pub(crate) fn pair_key(pair: u32, hash: u128) -> u128 {
    u128::from(pair) << HASH_BITS | hash >> PAIR_BITS
}

/// The pair of a conversation or a user.
pub(crate) fn pair_of(key: u128) -> u32 {
    u32::try_from(key >> HASH_BITS).unwrap_or(u32::MAX)
}

/// All conversations and users of a pair.
pub(crate) fn of_pair(pair: u32) -> RangeInclusive<u128> {
    pair_key(pair, 0)..=pair_key(pair, u128::MAX)
}

/// The key of a part of a long slice.
pub(crate) fn part_key(day: u32, conversation: u128, number: u32) -> [u8; DAY + 16 + 4] {
    let mut key = [0; DAY + 16 + 4];
    key[..DAY].copy_from_slice(&day_bytes(day));
    key[DAY..DAY + 16].copy_from_slice(&conversation.to_be_bytes());
    key[DAY + 16..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Day, conversation and number of a part's key; `None` for a malformed key.
pub(crate) fn part_of(key: &[u8]) -> Option<(u32, u128, u32)> {
    let (conversation, number) = key.get(DAY..)?.split_first_chunk()?;
    let number = u32::from_be_bytes(number.try_into().ok()?);
    Some((day_of(key)?, u128::from_be_bytes(*conversation), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_like_their_values_and_can_be_read() {
        let key = pair_key(7, 0x1234_5678_9abc_def0_1122_3344_5566_7788);
        assert_eq!(key, 0x0000_0007_1234_5678_9abc_def0_1122_3344);
        assert_eq!(pair_of(key), 7);
        assert!(of_pair(7).contains(&key));
        assert_eq!(pair_of(*of_pair(7).start()), 7);
        assert_eq!(of_pair(7).end() + 1, *of_pair(8).start());
        assert_eq!(pair_of(u128::MAX), u32::MAX);
        assert!(day_bytes(255) < day_bytes(256));
        assert_eq!(day_of(&day_bytes(20_700)), Some(20_700));
        let part = part_key(20_700, 9, 3);
        assert_eq!(part_of(&part), Some((20_700, 9, 3)));
        assert_eq!(part_of(&part[..22]), None);
    }
}
