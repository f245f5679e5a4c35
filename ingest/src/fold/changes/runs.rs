//! Lists of items that are read in the order of their keys.

/// Items, cut into *runs*: items that follow one another and have one key. Of a long list only the
/// runs are sorted.
#[derive(Debug)]
pub(super) struct Runs<T> {
    items: Vec<T>,
    runs: Vec<Run>,
    /// Where each run begins in `items`, by its number.
    begins: Vec<u32>,
}

/// Ordered by key, then as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run(u128);

impl Run {
    /// Bits of the number of a run; a key has the others, at most 96.
    const NUMBER_BITS: u32 = 32;

    pub(super) fn key(self) -> u128 {
        self.0 >> Self::NUMBER_BITS
    }

    fn number(self) -> usize {
        usize::try_from(self.0 & u128::from(u32::MAX)).unwrap_or(usize::MAX)
    }
}

impl<T> Default for Runs<T> {
    fn default() -> Self {
        let (items, runs, begins) = Default::default();
        Self { items, runs, begins }
    }
}

impl<T> Runs<T> {
    /// Forgets all items and keeps their memory.
    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.runs.clear();
        self.begins.clear();
    }

    /// Adds items of one key. Not between [`Runs::sort`] and [`Runs::clear`]: the last run is then
    /// not the one that came last.
    #[inline]
    pub(super) fn extend(&mut self, key: u128, items: impl IntoIterator<Item = T>) {
        debug_assert!(self.runs.last().is_none_or(|last| last.number() + 1 == self.runs.len()));
        debug_assert!(key >> (u128::BITS - Run::NUMBER_BITS) == 0);
        if self.runs.last().is_none_or(|last| last.key() != key) {
            self.runs.push(Run(key << Run::NUMBER_BITS | self.runs.len() as u128));
            self.begins.push(u32::try_from(self.items.len()).unwrap_or(u32::MAX));
        }
        self.items.extend(items);
    }

    pub(super) fn sort(&mut self) {
        self.runs.sort_unstable();
    }

    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Reads the first item of each run, so that the processor waits for all of them at once.
    pub(super) fn fetch(&self, runs: &[Run])
    where
        T: Copy,
    {
        for run in runs {
            std::hint::black_box(self.of(*run).first().copied());
        }
    }

    /// The items of a run.
    pub(super) fn of(&self, run: Run) -> &[T] {
        let number = run.number();
        let begin = self.begins.get(number).map_or(0, |begin| *begin as usize);
        let end = self.begins.get(number + 1).map_or(self.items.len(), |end| *end as usize);
        self.items.get(begin..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_a_key_stay_in_order_and_nothing_is_left_of_a_round_before() {
        let mut runs = Runs::default();
        let last = (1 << 96) - 1;
        for round in 0..2 {
            for (key, items) in [(5, &[1, 2][..]), (3, &[3]), (5, &[4]), (5, &[5]), (last, &[6])] {
                runs.extend(key, items.iter().map(|item| item + round));
            }
            runs.sort();
            runs.fetch(runs.runs());
            let met: Vec<_> =
                runs.runs().iter().map(|run| (run.key(), runs.of(*run).to_vec())).collect();
            let items = |items: &[u64]| items.iter().map(|item| item + round).collect::<Vec<_>>();
            let wanted =
                [(3, items(&[3])), (5, items(&[1, 2])), (5, items(&[4, 5])), (last, items(&[6]))];
            assert_eq!(met, wanted);
            runs.clear();
            assert_eq!(runs.runs(), []);
        }
    }
}
