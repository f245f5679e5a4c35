//! Random numbers that are the same in every release: SplitMix64.

/// A pseudorandom number generator: equal seeds give equal numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dice(u64);

impl Dice {
    /// A generator whose first state is the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator that is seeded with all these numbers, in their order.
    pub(super) fn of(seeds: &[u64]) -> Self {
        let mut dice = Self(0x5EED);
        for seed in seeds {
            dice.0 = dice.next_bits() ^ *seed;
        }
        Self(dice.next_bits())
    }

    /// The next 64 bits. Constants of Steele, Lea and Flood, "Fast splittable pseudorandom number
    /// generators" (2014).
    pub fn next_bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `[0, bound)`; 0 if the bound is 0. For small bounds the bias is negligible.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next_bits()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or_default()
    }

    /// A number in `[low, high]`.
    pub(super) fn between(&mut self, low: i64, high: i64) -> i64 {
        let range = u64::try_from(high - low + 1).unwrap_or(1);
        low + i64::try_from(self.below(range)).unwrap_or_default()
    }

    /// True with this probability, in percent.
    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One item of a list that is not empty.
    pub(super) fn pick<T: Copy, const N: usize>(&mut self, list: [T; N]) -> T {
        const { assert!(N > 0) };
        let place = self.below(u64::try_from(N).unwrap_or(1));
        list[usize::try_from(place).unwrap_or_default()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_never_change() {
        // The reference implementation's first outputs for the seed 1234567.
        let mut dice = Dice::new(1_234_567);
        assert_eq!(dice.next_bits(), 6_457_827_717_110_365_317);
        assert_eq!(dice.next_bits(), 3_203_168_211_198_807_973);
        assert_ne!(Dice::of(&[1, 2]), Dice::of(&[2, 1]));
    }

    #[test]
    fn bounds() {
        let mut dice = Dice::of(&[1]);
        assert_eq!(dice.below(0), 0);
        for _ in 0..1_000 {
            assert!(dice.below(3) < 3);
            assert!((-2..=2).contains(&dice.between(-2, 2)));
        }
    }
}
