//! What a commit changes in the buckets.

use botstats_common::metric::TypeCode;
use botstats_common::quarter::{QUARTERS_PER_HOUR, Quarter};
use rustc_hash::FxHashMap;

use crate::event::registry::PairNumbers;
use crate::fold::bucket::{BucketId, Delta};
use crate::fold::session::Sample;

/// BucketDeltas of buckets, by key.
pub(crate) struct BucketDeltas {
    /// Buckets of days before this one are deleted: their changes are dropped.
    first_day: u32,
    deltas: Vec<(BucketId, Delta)>,
    /// The index of each bucket in `deltas`.
    indexes: FxHashMap<BucketId, usize>,
    /// The index of the delta that was changed last: the next change is often to the same bucket.
    last: usize,
}

impl BucketDeltas {
    pub(crate) fn from_day(first_day: u32) -> Self {
        Self { first_day, deltas: Vec::new(), indexes: FxHashMap::default(), last: 0 }
    }

    pub(crate) fn add(&mut self, numbers: PairNumbers, sample: Sample) {
        let quarter = Quarter::of_ms(sample.at_ms).0;
        if let Some((delta, quarter)) = self.delta(numbers, quarter) {
            delta.add(quarter, sample.metric, sample.value, sample.sign);
        }
    }

    /// Counts a new user in a quarter, or takes that back if `sign` is -1.
    pub(crate) fn new_user(&mut self, numbers: PairNumbers, quarter: u32, sign: i64) {
        if let Some((delta, quarter)) = self.delta(numbers, quarter) {
            delta.add(quarter, TypeCode::NewUser, 1, sign);
        }
    }

    pub(crate) fn user(&mut self, numbers: PairNumbers, quarter: u32, ordinal: u32) {
        if let Some((delta, quarter)) = self.delta(numbers, quarter) {
            delta.user(quarter, ordinal);
        }
    }

    fn delta(&mut self, numbers: PairNumbers, quarter: u32) -> Option<(&mut Delta, usize)> {
        let day = Quarter(quarter).day();
        if day < self.first_day {
            return None;
        }
        let hour = u8::try_from(quarter / QUARTERS_PER_HOUR % 24).ok()?;
        let quarter_of_hour = usize::try_from(quarter % QUARTERS_PER_HOUR).ok()?;
        let id = BucketId { day, account: numbers.account, pair: numbers.pair, hour };
        if self.deltas.get(self.last).is_none_or(|(last, _)| *last != id) {
            self.last = *self.indexes.entry(id).or_insert(self.deltas.len());
            if self.last == self.deltas.len() {
                self.deltas.push((id, Delta::default()));
            }
        }
        self.deltas.get_mut(self.last).map(|(_, delta)| (delta, quarter_of_hour))
    }

    /// The deltas that change something, in the order of their buckets.
    pub(crate) fn sorted(mut self) -> Vec<(BucketId, Delta)> {
        self.deltas.retain(|(_, delta)| !delta.is_empty());
        self.deltas.sort_unstable_by_key(|(id, _)| *id);
        self.deltas
    }
}
