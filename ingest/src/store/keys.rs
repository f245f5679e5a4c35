//! The layout of keys: the one place that knows it.
//!
//! *Format*: numbers most significant byte first, so that keys order like what they say.
//!
//! | table | key | bytes |
//! | --- | --- | --- |
//! | timelines | day, pair, conversation, and for all but a day's first slice the place where it begins | 27 or 41 |
//! | buckets | day, account, pair, hour | 12 |
//! | users | pair, user | 20 |
//! | long | pair, conversation | 20 |
//!
//! *Why* the day comes first: a commit touches neighbouring pages, and what is too old is one range.

use crate::timeline::Place;

/// Bytes of a day in a key: enough for 45,000 years.
const DAY: usize = 3;
const SLICE: usize = DAY + 4 + 16;
const PLACE: usize = 4 + 1 + 1 + 8;

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

/// A key that no slice with that prefix is above.
pub(crate) fn slice_end(prefix: &SlicePrefix) -> [u8; SLICE + PLACE] {
    let mut end = [0xff; SLICE + PLACE];
    end[..SLICE].copy_from_slice(prefix);
    end
}

/// The key of a slice; of one size where most are.
pub(crate) fn slice_key(prefix: &SlicePrefix, begins: Place) -> Vec<u8> {
    let mut key = prefix.to_vec();
    if begins != Place::default() {
        key.extend_from_slice(&begins.ms.to_be_bytes());
        key.extend_from_slice(&[begins.rank, begins.flags]);
        key.extend_from_slice(&begins.id.to_be_bytes());
    }
    key
}

/// Where the slice of that key begins; `None` if it is no such key.
pub(crate) fn slice_place(key: &[u8]) -> Option<Place> {
    let rest = key.get(SLICE..)?;
    if rest.is_empty() {
        return Some(Place::default());
    }
    let (ms, rest) = rest.split_first_chunk()?;
    let ([rank, flags], rest) = rest.split_first_chunk()?;
    let id: [u8; 8] = rest.try_into().ok()?;
    Some(Place {
        ms: u32::from_be_bytes(*ms),
        rank: *rank,
        flags: *flags,
        id: u64::from_be_bytes(id),
    })
}

/// (day, pair, conversation) of a slice's key.
pub(crate) fn slice_conversation(key: &[u8]) -> Option<(u32, u32, u128)> {
    let (pair, rest) = key.get(DAY..)?.split_first_chunk()?;
    Some((day_of(key)?, u32::from_be_bytes(*pair), u128::from_be_bytes(*rest.first_chunk()?)))
}

/// The first key of any slice of that day.
pub(crate) fn slices_from(day: u32) -> [u8; DAY] {
    day_bytes(day)
}

/// The key of a bucket; the hour is 0 to 23.
pub(crate) fn bucket_key(day: u32, account: u32, pair: u32, hour: u8) -> BucketKey {
    let mut key = [0; 12];
    key[..DAY].copy_from_slice(&day_bytes(day));
    key[3..7].copy_from_slice(&account.to_be_bytes());
    key[7..11].copy_from_slice(&pair.to_be_bytes());
    key[11] = hour;
    key
}

/// (day, pair, hour) of a bucket's key.
pub(crate) fn bucket_place(key: &BucketKey) -> (u32, u32, u8) {
    let [d0, d1, d2, _, _, _, _, p0, p1, p2, p3, hour] = *key;
    (u32::from_be_bytes([0, d0, d1, d2]), u32::from_be_bytes([p0, p1, p2, p3]), hour)
}

/// The key of a user.
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
    fn keys_order_like_what_they_say() {
        let first = slice_prefix(20_000, 7, 9);
        let place = Place { ms: 5, rank: 3, flags: 1, id: 0xff };
        let keys = [
            slice_key(&slice_prefix(19_999, u32::MAX, u128::MAX), Place::default()),
            slice_key(&first, Place::default()),
            slice_key(&first, place),
            slice_key(&first, Place { ms: 6, ..Place::default() }),
            slice_end(&first).to_vec(),
            slice_key(&slice_prefix(20_000, 7, 10), Place::default()),
            slice_key(&slice_prefix(20_000, 8, 0), Place::default()),
            slices_from(20_001).to_vec(),
        ];
        assert!(keys.is_sorted_by(|a, b| a < b));
        assert_eq!(
            keys[1],
            [0, 0x4e, 0x20, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]
        );
        assert_eq!(slice_place(&keys[1]), Some(Place::default()));
        assert_eq!(slice_place(&keys[2]), Some(place));
        assert_eq!(slice_conversation(&keys[2]), Some((20_000, 7, 9)));
        assert_eq!(slice_place(&keys[2][..30]), None);
        assert_eq!(bucket_place(&bucket_key(20_000, 3, 7, 23)), (20_000, 7, 23));
        assert!(bucket_key(20_000, 3, 7, 23) < bucket_key(20_000, 4, 0, 0));
        assert!(user_key(3, u128::MAX) < user_key(4, 0));
        assert_eq!(long_conversation(&long_key(7, 9)), (7, 9));
    }
}
