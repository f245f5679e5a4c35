//! A set of users by their ordinals.

/// A set of ordinals that is sorted now and then.
#[derive(Default)]
pub(super) struct OrdinalSet {
    ordinals: Vec<u32>,
    /// The number of ordinals at the start that are sorted and distinct.
    distinct: usize,
}

impl OrdinalSet {
    /// Up to this many ordinals are sorted only at the end. Few in the tests of this crate, so that
    /// small cases sort more often.
    const SMALL: usize = if cfg!(test) { 2 } else { 4096 };

    #[inline]
    pub(super) fn push(&mut self, ordinal: u32) {
        // The first list is sorted already.
        if self.distinct == self.ordinals.len()
            && self.ordinals.last().is_none_or(|last| *last < ordinal)
        {
            self.distinct += 1;
        }
        self.ordinals.push(ordinal);
    }

    /// Sorts if the set has doubled. To be called after each list of ordinals.
    #[inline]
    pub(super) fn settle(&mut self) {
        if self.ordinals.len() > 2 * self.distinct.max(Self::SMALL) {
            self.count();
        }
    }

    pub(super) fn count(&mut self) -> u64 {
        if self.distinct < self.ordinals.len() {
            self.ordinals.sort_unstable();
            self.ordinals.dedup();
            self.distinct = self.ordinals.len();
        }
        self.distinct as u64
    }

    pub(super) fn clear(&mut self) {
        self.ordinals.clear();
        self.distinct = 0;
    }
}
