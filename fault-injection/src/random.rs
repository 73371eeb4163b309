//! Random numbers that follow from a seed, and stay the same in every later version.

/// A splitmix64 generator: short, and good enough for choices.
pub(crate) struct Random(u64);

impl Random {
    /// Returns the generator of one round under one seed.
    pub(crate) fn new(seed: u64, round: u64) -> Self {
        let mut random = Self(seed);
        let seed = random.next();
        Self(seed ^ round.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Returns an index into a non-empty list of length `len`.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// Returns true with a probability of `percent` %.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Returns one of the choices, with a probability in proportion to its weight.
    pub(crate) fn weighted<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
        let total = choices.iter().map(|(weight, _)| weight).sum();
        let mut remaining = self.below(total);
        for (weight, choice) in choices {
            if remaining < *weight {
                return *choice;
            }
            remaining -= weight;
        }
        unreachable!("the random number is below the sum of all weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_and_round_determine_the_numbers() {
        let mut random = Random::new(7, 3);

        let numbers = [random.below(1000), random.below(1000), random.below(1000)];

        assert_eq!(numbers, [485, 416, 370]);
    }

    #[test]
    fn rounds_of_one_seed_differ() {
        let [mut one, mut other] = [Random::new(7, 3), Random::new(7, 4)];

        assert_ne!(one.next(), other.next());
    }

    #[test]
    fn choice_of_weight_zero_is_never_chosen() {
        let mut random = Random::new(1, 1);

        let chosen: Vec<_> = (0..100).map(|_| random.weighted(&[(0, 'a'), (1, 'b')])).collect();

        assert!(chosen.iter().all(|it| *it == 'b'), "{chosen:?}");
    }
}
