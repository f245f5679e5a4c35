//! Random choices whose sequence will never change: SplitMix64, from the simulator of `botstats`.

use botstats::simulate;

#[derive(Debug, Clone)]
pub struct Dice(simulate::Dice);

impl Dice {
    /// Dice that fall the same way for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(simulate::Dice::new(seed))
    }

    pub fn bits(&mut self) -> u64 {
        self.0.next_bits()
    }

    /// A number of `[0, limit)`; `limit` must be positive. Its tiny bias does not matter here.
    pub fn below(&mut self, limit: i64) -> i64 {
        let limit = u64::try_from(limit).expect("a positive limit");
        i64::try_from(self.bits() % limit).expect("below an i64")
    }

    pub fn one_in(&mut self, times: i64) -> bool {
        self.below(times) == 0
    }

    /// A place in a list of that length.
    pub fn index(&mut self, length: usize) -> usize {
        let limit = i64::try_from(length).expect("a length");
        usize::try_from(self.below(limit)).expect("below a length")
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }

    /// At least one of them, in their order.
    pub fn some_of<T: Clone>(&mut self, items: &[T]) -> Vec<T> {
        let mask = self.bits();
        let sure = self.index(items.len());
        let chosen = items.iter().enumerate();
        chosen.filter(|(i, _)| *i == sure || mask >> i & 1 == 1).map(|(_, t)| t.clone()).collect()
    }

    /// Another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.index(i + 1));
        }
    }
}
