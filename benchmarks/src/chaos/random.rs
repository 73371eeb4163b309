//! Numbers that follow from a seed, today and in every later version.

/// Splitmix64: short, and good enough for choices.
pub(super) struct Random(u64);

impl Random {
    /// Returns the numbers of one round of one seed.
    pub(super) fn of(seed: u64, round: u64) -> Self {
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

    /// Returns a number below this.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Returns one of the indices of a list that is not empty.
    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// Returns whether something happens that does so many times out of a hundred.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Returns one of several things, each as often as the number beside it says.
    pub(super) fn weighted<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
        let all = choices.iter().map(|(weight, _)| weight).sum();
        let mut left = self.below(all);
        for (weight, choice) in choices {
            if left < *weight {
                return *choice;
            }
            left -= weight;
        }
        unreachable!("what is left is below the sum of all weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_round_always_give_the_same_numbers() {
        let mut random = Random::of(7, 3);

        let numbers = [random.below(1000), random.below(1000), random.below(1000)];

        assert_eq!(numbers, [0, 0, 0]);
    }

    #[test]
    fn rounds_differ() {
        let [mut one, mut other] = [Random::of(7, 3), Random::of(7, 4)];

        assert_ne!(one.next(), other.next());
    }

    #[test]
    fn what_has_no_weight_is_never_chosen() {
        let mut random = Random::of(1, 1);

        let chosen: Vec<_> = (0..100).map(|_| random.weighted(&[(0, 'a'), (1, 'b')])).collect();

        assert!(chosen.iter().all(|it| *it == 'b'), "{chosen:?}");
    }
}
