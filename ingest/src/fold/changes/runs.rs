//! Items in the order in which they came, met in the order of their keys.

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

    /// Adds items of one key. Not after [`Runs::sort`].
    #[inline]
    pub(super) fn extend(&mut self, key: u128, items: impl IntoIterator<Item = T>) {
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

    /// Brings the first items of runs into the processor's cache: they are far apart, and so are
    /// waited for together.
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
