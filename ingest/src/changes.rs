//! What a commit changes in the buckets.

use botstats_common::metric::TypeCode;
use botstats_common::quarter::{QUARTERS_PER_HOUR, Quarter};
use rustc_hash::FxHashMap;

use crate::bucket::Delta;
use crate::registry::PairNumbers;
use crate::session::Sample;
use crate::store::keys::{self, BucketKey};

/// Changes of buckets, by key.
pub(crate) struct Changes {
    /// What falls before this day is dropped with it.
    first_day: u32,
    deltas: Vec<(BucketKey, Delta)>,
    places: FxHashMap<BucketKey, usize>,
    /// The place of the delta that was changed last: often it is the next one's too.
    last: usize,
}

impl Changes {
    /// None yet; those before that day are dropped.
    pub(crate) fn from_day(first_day: u32) -> Self {
        Self { first_day, deltas: Vec::new(), places: FxHashMap::default(), last: 0 }
    }

    /// Adds a sample.
    pub(crate) fn add(&mut self, numbers: PairNumbers, sample: Sample) {
        let quarter = Quarter::of_ms(sample.at_ms).0;
        if let Some((delta, place)) = self.delta(numbers, quarter) {
            delta.add(place, sample.metric, sample.value, sample.sign);
        }
    }

    /// Counts a new user in a quarter, or takes that back if `sign` is -1.
    pub(crate) fn new_user(&mut self, numbers: PairNumbers, quarter: u32, sign: i64) {
        if let Some((delta, place)) = self.delta(numbers, quarter) {
            delta.add(place, TypeCode::NewUser, 1, sign);
        }
    }

    /// Marks a user as active in a quarter.
    pub(crate) fn user(&mut self, numbers: PairNumbers, quarter: u32, ordinal: u32) {
        if let Some((delta, place)) = self.delta(numbers, quarter) {
            delta.user(place, ordinal);
        }
    }

    fn delta(&mut self, numbers: PairNumbers, quarter: u32) -> Option<(&mut Delta, usize)> {
        let day = Quarter(quarter).day();
        if day < self.first_day {
            return None;
        }
        let hour = u8::try_from(quarter / QUARTERS_PER_HOUR % 24).ok()?;
        let place = usize::try_from(quarter % QUARTERS_PER_HOUR).ok()?;
        let key = keys::bucket_key(day, numbers.account, numbers.pair, hour);
        if self.deltas.get(self.last).is_none_or(|(last, _)| *last != key) {
            self.last = *self.places.entry(key).or_insert(self.deltas.len());
            if self.last == self.deltas.len() {
                self.deltas.push((key, Delta::default()));
            }
        }
        self.deltas.get_mut(self.last).map(|(_, delta)| (delta, place))
    }

    /// Those that change something, in the order of their keys.
    pub(crate) fn sorted(mut self) -> Vec<(BucketKey, Delta)> {
        self.deltas.retain(|(_, delta)| !delta.is_empty());
        self.deltas.sort_unstable_by_key(|(key, _)| *key);
        self.deltas
    }
}
