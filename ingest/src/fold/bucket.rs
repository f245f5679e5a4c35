//! A bucket: what one (bot, channel) has in one UTC hour, by quarter.
//!
//! *Format* of a stored bucket (version 1): the version byte; for each of the four quarters a
//! varint mask of the fields that are not zero, then these fields as varints; then the number of
//! active users as a varint and, ascending by ordinal, for each user one varint: difference to the
//! previous ordinal times 16, plus the mask of the quarters in which the user was active.
//!
//! *Why* an hour and not a quarter a row: a user who is active all hour is stored once.

use botstats_common::metric::TypeCode;
use botstats_common::wire::Samples;

use crate::fold::metrics::{FIELDS, Field, Source, source};
use botstats_common::varint;

pub(crate) const QUARTERS: usize = 4;
const VERSION: u8 = 1;

/// The identity of a bucket, in the order in which buckets are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BucketId {
    /// UTC day since 1970.
    pub(crate) day: u32,
    pub(crate) account: u32,
    pub(crate) pair: u32,
    /// 0 to 23.
    pub(crate) hour: u8,
}

/// The fields of one quarter, as changes or as totals.
pub(crate) type Fields = [i64; FIELDS];

/// What a commit changes in a bucket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Delta {
    quarters: [Fields; QUARTERS],
    /// (ordinal, mask of quarters), in any order, with repeats.
    users: Vec<(u32, u8)>,
}

impl Delta {
    /// Adds a sample of a metric to a quarter (0 to 3), or takes it back if `sign` is -1. `value`
    /// counts only where a sum of values is stored. Active users are no samples: [`Delta::user`]
    /// adds them.
    pub(crate) fn add(&mut self, quarter: usize, metric: TypeCode, value: i64, sign: i64) {
        let fields = &mut self.quarters[quarter];
        match source(metric) {
            Source::Count(count) => fields[count as usize] += sign,
            Source::Pair { count, sum } => {
                fields[count as usize] += sign;
                fields[sum as usize] += sign * value;
            }
            Source::Active | Source::ActiveBut(_) => {}
        }
    }

    /// A user was active in a quarter.
    pub(crate) fn user(&mut self, quarter: usize, ordinal: u32) {
        self.users.push((ordinal, 1 << quarter));
    }

    /// True if nothing changes.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty() && self.quarters.iter().flatten().all(|n| *n == 0)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// Totals by quarter; never negative.
    pub quarters: [[u64; FIELDS]; QUARTERS],
    /// (ordinal, mask of quarters), ascending by ordinal, no mask 0.
    pub users: Vec<(u32, u8)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// A version that this program does not know.
    #[error("a bucket has version {0}, this program knows version {VERSION}")]
    Version(u8),
    #[error("the bytes of a bucket are malformed")]
    Damaged,
    /// A change would make a total negative.
    #[error("a change would make a total of a bucket negative")]
    Negative,
}

impl Bucket {
    /// Applies a change. `is_whole` is false if a part of the bucket may have been deleted: then no
    /// total falls below 0.
    ///
    /// # Errors
    /// [`BucketError::Negative`] if a total of a whole bucket would fall below 0: then the stored
    /// state is wrong.
    pub(crate) fn apply(&mut self, delta: &mut Delta, is_whole: bool) -> Result<(), BucketError> {
        let changes = delta.quarters.iter().flatten();
        for (total, change) in self.quarters.iter_mut().flatten().zip(changes) {
            *total = match total.checked_add_signed(*change) {
                Some(sum) => sum,
                None if is_whole => return Err(BucketError::Negative),
                None => 0,
            };
        }
        if !delta.users.is_empty() {
            delta.users.sort_unstable();
            self.users = union(&self.users, &delta.users);
        }
        Ok(())
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        for fields in &self.quarters {
            let mask =
                fields.iter().enumerate().fold(0_u64, |m, (i, n)| m | (u64::from(*n != 0) << i));
            varint::write(out, mask);
            for n in fields.iter().filter(|n| **n != 0) {
                varint::write(out, *n);
            }
        }
        varint::write(out, self.users.len() as u64);
        let mut previous = 0;
        for &(ordinal, mask) in &self.users {
            varint::write(out, (u64::from(ordinal - previous) << 4) | u64::from(mask));
            previous = ordinal;
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BucketError> {
        let (version, mut rest) = bytes.split_first().ok_or(BucketError::Damaged)?;
        if *version != VERSION {
            return Err(BucketError::Version(*version));
        }
        Self::decode_body(&mut rest).filter(|_| rest.is_empty()).ok_or(BucketError::Damaged)
    }

    fn decode_body(rest: &mut &[u8]) -> Option<Self> {
        let mut bucket = Self::default();
        for fields in &mut bucket.quarters {
            let mut mask = varint::read(rest)?;
            if mask >> FIELDS != 0 {
                return None;
            }
            while mask != 0 {
                let field = mask.trailing_zeros() as usize;
                fields[field] = varint::read(rest)?;
                mask &= mask - 1;
            }
        }
        let count = usize::try_from(varint::read(rest)?).ok().filter(|n| *n <= rest.len())?;
        bucket.users.reserve(count);
        let mut ordinal = 0_u32;
        for i in 0..count {
            let entry = varint::read(rest)?;
            let step = u32::try_from(entry >> 4).ok()?;
            let mask = u8::try_from(entry & 15).ok()?;
            if mask == 0 || (i > 0 && step == 0) {
                return None;
            }
            ordinal = ordinal.checked_add(step)?;
            bucket.users.push((ordinal, mask));
        }
        Some(bucket)
    }
}

/// The users of a stored bucket, before they are decoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredUsers<'a> {
    count: usize,
    rest: &'a [u8],
}

impl StoredUsers<'_> {
    /// True if the bucket has no users.
    #[must_use]
    pub(crate) fn is_empty(self) -> bool {
        self.count == 0
    }

    /// Gives each user's ordinal, ascending.
    ///
    /// # Errors
    /// If the bytes are damaged.
    pub(crate) fn for_each(mut self, mut user: impl FnMut(u32)) -> Result<(), BucketError> {
        let mut next = |ordinal: Option<u32>| {
            let entry = varint::read(&mut self.rest)?;
            let step = u32::try_from(entry >> 4).ok()?;
            let is_good = entry & 15 != 0 && (ordinal.is_none() || step != 0);
            ordinal.unwrap_or(0).checked_add(step).filter(|_| is_good)
        };
        let mut ordinal = None;
        for _ in 0..self.count {
            ordinal = Some(next(ordinal).ok_or(BucketError::Damaged)?);
            ordinal.into_iter().for_each(&mut user);
        }
        if self.rest.is_empty() { Ok(()) } else { Err(BucketError::Damaged) }
    }
}

/// Merges two lists that are sorted by ordinal; the second may repeat ordinals.
fn union(a: &[(u32, u8)], b: &[(u32, u8)]) -> Vec<(u32, u8)> {
    let mut merged: Vec<(u32, u8)> = Vec::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        let from_a = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) => x.0 <= y.0,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return merged,
        };
        let next = if from_a { a.next() } else { b.next() };
        let Some(&(ordinal, mask)) = next else { return merged };
        match merged.last_mut() {
            Some(last) if last.0 == ordinal => last.1 |= mask,
            _ => merged.push((ordinal, mask)),
        }
    }
}

/// Totals of one group, as samples of the metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals(pub [u64; FIELDS]);

impl Totals {
    pub(crate) fn add(&mut self, quarter: &[u64; FIELDS]) {
        for (total, n) in self.0.iter_mut().zip(quarter) {
            *total += n;
        }
    }

    /// Adds all four quarters of a stored bucket, without decoding it to a value. Gives the
    /// bucket's users, and whether any field was not zero.
    ///
    /// # Errors
    /// [`BucketError`] if the version is unknown or the bytes are damaged; then these totals are
    /// unspecified.
    pub(crate) fn add_stored<'a>(
        &mut self,
        bytes: &'a [u8],
    ) -> Result<(bool, StoredUsers<'a>), BucketError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => self.add_body(rest).ok_or(BucketError::Damaged),
            Some((&version, _)) => Err(BucketError::Version(version)),
            None => Err(BucketError::Damaged),
        }
    }

    fn add_body<'a>(&mut self, mut rest: &'a [u8]) -> Option<(bool, StoredUsers<'a>)> {
        let mut any = 0;
        for _ in 0..QUARTERS {
            let mut mask = varint::read(&mut rest)?;
            any |= mask;
            while mask != 0 {
                let field = self.0.get_mut(mask.trailing_zeros() as usize)?;
                *field = field.checked_add(varint::read(&mut rest)?)?;
                mask &= mask - 1;
            }
        }
        let count = usize::try_from(varint::read(&mut rest)?).ok().filter(|n| *n <= rest.len())?;
        Some((any != 0, StoredUsers { count, rest }))
    }

    /// The samples of a metric, given the number of distinct active users of the group.
    #[must_use]
    pub(crate) fn samples(&self, code: TypeCode, active: u64) -> Samples {
        let get = |field: Field| self.0[field as usize];
        let (count, sum) = match source(code) {
            Source::Count(count) => (get(count), get(count)),
            Source::Pair { count, sum } => (get(count), get(sum)),
            Source::Active => (active, active),
            Source::ActiveBut(others) => {
                let rest = active.saturating_sub(get(others));
                (rest, rest)
            }
        };
        Samples { code, count, sum }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_of_version_1_do_not_change() {
        let mut bucket = Bucket::default();
        let mut delta = Delta::default();
        delta.add(0, TypeCode::NewUser, 1, 1);
        delta.add(0, TypeCode::NewUser, 1, 1);
        delta.quarters[0][Field::FirstMessageSum as usize] = 300;
        delta.add(3, TypeCode::TagHit, 1, 1);
        delta.user(0, 5);
        delta.user(3, 5);
        delta.user(1, 200);
        bucket.apply(&mut delta, true).unwrap();
        let mut bytes = Vec::new();
        bucket.encode(&mut bytes);
        assert_eq!(
            bytes,
            [1, 0x81, 0x80, 0x80, 1, 2, 0xac, 2, 0, 0, 0x80, 0x10, 1, 2, 0x59, 0xb2, 0x18]
        );
        assert_eq!(Bucket::decode(&bytes), Ok(bucket.clone()));
        delta = Delta::default();
        (0..3).for_each(|_| delta.add(0, TypeCode::NewUser, 1, -1));
        let before = bucket.clone();
        assert_eq!(bucket.clone().apply(&mut delta, true), Err(BucketError::Negative));
        assert_eq!(bucket.apply(&mut delta, false), Ok(()));
        assert_ne!(bucket, before);
    }

    #[test]
    fn what_is_no_bucket_is_refused() {
        assert_eq!(Bucket::decode(&[]), Err(BucketError::Damaged));
        assert_eq!(Bucket::decode(&[2, 0, 0, 0, 0, 0]), Err(BucketError::Version(2)));
        for bytes in [
            &[1, 0, 0, 0, 0][..],
            &[1, 0, 0, 0, 0, 1],
            &[1, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 1, 0x10],
        ] {
            assert_eq!(Bucket::decode(bytes), Err(BucketError::Damaged), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(
            fields in prop::collection::vec((0..QUARTERS, 0..FIELDS, any::<u64>()), 0..20),
            users in prop::collection::btree_map(any::<u32>(), 1..16_u8, 0..50),
        ) {
            let mut bucket = Bucket { users: users.into_iter().collect(), ..Bucket::default() };
            for (quarter, field, n) in fields {
                bucket.quarters[quarter][field] = n;
            }
            let mut bytes = Vec::new();
            bucket.encode(&mut bytes);
            prop_assert_eq!(Bucket::decode(&bytes), Ok(bucket));
        }

        #[test]
        fn added_as_decoded(
            fields in prop::collection::vec((0..QUARTERS, 0..FIELDS, 0..1_u64 << 60), 0..20),
            users in prop::collection::btree_map(any::<u32>(), 1..16_u8, 0..50),
            (at, byte, cut) in (any::<usize>(), any::<u8>(), any::<bool>()),
        ) {
            let mut bucket = Bucket { users: users.into_iter().collect(), ..Bucket::default() };
            for (quarter, field, n) in fields {
                bucket.quarters[quarter][field] = n;
            }
            let mut bytes = Vec::new();
            bucket.encode(&mut bytes);
            let length = bytes.len();
            let mut damaged = bytes.clone();
            damaged[at % length] = byte;
            damaged.truncate(if cut { at / 7 % length } else { length });
            for bytes in [bytes, damaged] {
                let mut expected = Totals::default();
                let decoded = Bucket::decode(&bytes);
                let (mut totals, mut ordinals) = (Totals::default(), Vec::new());
                let added = totals.add_stored(&bytes).and_then(|(any, users)| {
                    users.for_each(|ordinal| ordinals.push(ordinal))?;
                    assert_eq!(users.is_empty(), ordinals.is_empty());
                    Ok(any)
                });
                // Sums that do not fit are refused.
                let fits = decoded.as_ref().is_ok_and(|b| {
                    (0..FIELDS).all(|f| {
                        b.quarters.iter().try_fold(0_u64, |sum, q| sum.checked_add(q[f])).is_some()
                    })
                });
                match decoded {
                    Ok(bucket) if fits => {
                        bucket.quarters.iter().for_each(|quarter| expected.add(quarter));
                        let listed: Vec<u32> = bucket.users.iter().map(|(user, _)| *user).collect();
                        prop_assert_eq!(totals, expected);
                        prop_assert_eq!(ordinals, listed);
                        let any = bucket.quarters.iter().flatten().any(|n| *n != 0);
                        prop_assert!(added == Ok(any));
                    }
                    _ => prop_assert!(added.is_err()),
                }
            }
        }

        #[test]
        fn decode_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _any = Bucket::decode(&bytes);
        }
    }
}
