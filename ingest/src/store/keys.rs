//! The layout of keys: the one place that knows it.
//!
//! *Format*: numbers most significant byte first, so that keys order like the values in them.
//!
//! | table | key | bytes |
//! | --- | --- | --- |
//! | timelines | day, pair, conversation, and for all but a day's first slice the sort key at which it begins | 23 or 37 |
//! | buckets | day, account, pair, hour | 12 |
//! | users | pair, user | 20 |
//! | long | pair, conversation | 20 |
//!
//! *Why* the day comes first: a commit touches neighbouring pages, and all rows that are too old
//! are one range.

use crate::fold::bucket::BucketId;
use crate::fold::timeline::SortKey;

/// Bytes of a day in a key: enough for 45,000 years.
const DAY: usize = 3;
const SLICE: usize = DAY + 4 + 16;
const SORT_KEY: usize = 4 + 1 + 1 + 8;

/// A conversation on a day: the start of the keys of its slices.
pub(crate) type SlicePrefix = [u8; SLICE];
/// The key of a bucket.
pub(crate) type BucketKey = [u8; 12];
/// The key of a user.
pub(crate) type UserKey = [u8; 20];

fn day_bytes(day: u32) -> [u8; DAY] {
    let [_, a, b, c] = day.to_be_bytes();
    [a, b, c]
}

fn day_of(bytes: &[u8]) -> Option<u32> {
    let [a, b, c] = *bytes.first_chunk()?;
    Some(u32::from_be_bytes([0, a, b, c]))
}

/// The key of a long conversation.
pub(crate) type LongKey = [u8; 20];

/// All slices of a conversation on a day have keys in `prefix..=slice_end(prefix)`.
pub(crate) fn slice_prefix(day: u32, pair: u32, conversation: u128) -> SlicePrefix {
    let mut key = [0; SLICE];
    key[..DAY].copy_from_slice(&day_bytes(day));
    key[DAY..DAY + 4].copy_from_slice(&pair.to_be_bytes());
    key[DAY + 4..].copy_from_slice(&conversation.to_be_bytes());
    key
}

/// The highest key with that prefix.
pub(crate) fn slice_end(prefix: &SlicePrefix) -> [u8; SLICE + SORT_KEY] {
    let mut end = [0xff; SLICE + SORT_KEY];
    end[..SLICE].copy_from_slice(prefix);
    end
}

/// The key of a slice. The first slice of a day, which most are, has the short form.
pub(crate) fn slice_key(prefix: &SlicePrefix, begins: SortKey) -> Vec<u8> {
    let mut key = prefix.to_vec();
    if begins != SortKey::default() {
        key.extend_from_slice(&begins.ms.to_be_bytes());
        key.extend_from_slice(&[begins.rank, begins.flags]);
        key.extend_from_slice(&begins.id.to_be_bytes());
    }
    key
}

/// Where the slice begins; `None` for a malformed key.
pub(crate) fn slice_begins(key: &[u8]) -> Option<SortKey> {
    let rest = key.get(SLICE..)?;
    if rest.is_empty() {
        return Some(SortKey::default());
    }
    let (ms, rest) = rest.split_first_chunk()?;
    let ([rank, flags], rest) = rest.split_first_chunk()?;
    let id: [u8; 8] = rest.try_into().ok()?;
    Some(SortKey {
        ms: u32::from_be_bytes(*ms),
        rank: *rank,
        flags: *flags,
        id: u64::from_be_bytes(id),
    })
}

/// (day, pair, conversation) of a slice's key; `None` for a malformed key.
pub(crate) fn slice_conversation(key: &[u8]) -> Option<(u32, u32, u128)> {
    let (pair, rest) = key.get(DAY..)?.split_first_chunk()?;
    Some((day_of(key)?, u32::from_be_bytes(*pair), u128::from_be_bytes(*rest.first_chunk()?)))
}

/// The first key of any slice of that day.
pub(crate) fn slices_from(day: u32) -> [u8; DAY] {
    day_bytes(day)
}

pub(crate) fn bucket_key(id: &BucketId) -> BucketKey {
    let mut key = [0; 12];
    key[..DAY].copy_from_slice(&day_bytes(id.day));
    key[3..7].copy_from_slice(&id.account.to_be_bytes());
    key[7..11].copy_from_slice(&id.pair.to_be_bytes());
    key[11] = id.hour;
    key
}

pub(crate) fn bucket_id(key: &BucketKey) -> BucketId {
    let [d0, d1, d2, a0, a1, a2, a3, p0, p1, p2, p3, hour] = *key;
    BucketId {
        day: u32::from_be_bytes([0, d0, d1, d2]),
        account: u32::from_be_bytes([a0, a1, a2, a3]),
        pair: u32::from_be_bytes([p0, p1, p2, p3]),
        hour,
    }
}

/// The first key of any bucket of that day.
pub(crate) fn buckets_from(day: u32) -> BucketKey {
    bucket_key(&BucketId { day, account: 0, pair: 0, hour: 0 })
}

pub(crate) fn user_key(pair: u32, user: u128) -> UserKey {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&pair.to_be_bytes());
    key[4..].copy_from_slice(&user.to_be_bytes());
    key
}

/// The key of a long conversation.
pub(crate) fn long_key(pair: u32, conversation: u128) -> LongKey {
    user_key(pair, conversation)
}

/// (pair, conversation) of a long conversation's key.
pub(crate) fn long_conversation(key: &LongKey) -> (u32, u128) {
    let [a, b, c, d, conversation @ ..] = *key;
    (u32::from_be_bytes([a, b, c, d]), u128::from_be_bytes(conversation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_like_their_values() {
        let first = slice_prefix(20_000, 7, 9);
        let place = SortKey { ms: 5, rank: 3, flags: 1, id: 0xff };
        let keys = [
            slice_key(&slice_prefix(19_999, u32::MAX, u128::MAX), SortKey::default()),
            slice_key(&first, SortKey::default()),
            slice_key(&first, place),
            slice_key(&first, SortKey { ms: 6, ..SortKey::default() }),
            slice_end(&first).to_vec(),
            slice_key(&slice_prefix(20_000, 7, 10), SortKey::default()),
            slice_key(&slice_prefix(20_000, 8, 0), SortKey::default()),
            slices_from(20_001).to_vec(),
        ];
        assert!(keys.is_sorted_by(|a, b| a < b));
        assert_eq!(
            keys[1],
            [0, 0x4e, 0x20, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]
        );
        assert_eq!(slice_begins(&keys[1]), Some(SortKey::default()));
        assert_eq!(slice_begins(&keys[2]), Some(place));
        assert_eq!(slice_conversation(&keys[2]), Some((20_000, 7, 9)));
        assert_eq!(slice_begins(&keys[2][..30]), None);
        let bucket = BucketId { day: 20_000, account: 3, pair: 7, hour: 23 };
        let next = BucketId { account: 4, pair: 0, hour: 0, ..bucket };
        assert_eq!(bucket_id(&bucket_key(&bucket)), bucket);
        assert!(bucket < next && bucket_key(&bucket) < bucket_key(&next));
        assert!(buckets_from(20_000) < bucket_key(&bucket));
        assert!(bucket_key(&next) < buckets_from(20_001));
        assert!(user_key(3, u128::MAX) < user_key(4, 0));
        assert_eq!(long_conversation(&long_key(7, 9)), (7, 9));
    }
}
