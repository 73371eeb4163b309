//! The texts that the program compares.

const WORDS: [&str; 16] = [
    "process", "thread", "worker", "master", "lock", "core", "queue", "batch", "signal", "socket",
    "pipe", "stream", "result", "error", "input", "output",
];

/// Returns `count` pairs of texts of 60 words. The second text of a pair has about a third of its
/// words replaced. The texts are the same in every run.
pub(crate) fn pairs(count: usize) -> Vec<(String, String)> {
    let mut random = Random(17);
    (0..count).map(|_| pair(&mut random)).collect()
}

fn pair(random: &mut Random) -> (String, String) {
    let first: Vec<&str> = (0..60).map(|_| random.word()).collect();
    let second: Vec<&str> =
        first.iter().map(|word| if random.below(3) == 0 { random.word() } else { word }).collect();
    (first.join(" "), second.join(" "))
}

/// A linear congruential generator.
struct Random(u64);

impl Random {
    fn word(&mut self) -> &'static str {
        WORDS[self.below(WORDS.len())]
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % end
    }
}
