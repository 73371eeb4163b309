//! The hash of a long content, such as a file.

use super::id::{FNV_OFFSET, FNV_PRIME, fnv1a};

/// The number of lanes. A processor computes them at the same time, because they are independent.
const LANES: usize = 8;

/// A hash of bytes: 64-bit FNV-1a in lanes, of which each takes every eighth byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ContentHash([u64; LANES]);

impl Default for ContentHash {
    fn default() -> Self {
        Self([FNV_OFFSET; LANES])
    }
}

impl ContentHash {
    /// Continues the hash. The number of bytes must be a multiple of eight, except in the last call.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        for group in bytes.chunks(LANES) {
            for (lane, byte) in self.0.iter_mut().zip(group) {
                *lane = (*lane ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
            }
        }
    }

    pub(crate) fn finish(self) -> u64 {
        self.0.iter().fold(FNV_OFFSET, |hash, lane| fnv1a(hash, &lane.to_le_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(pieces: &[&[u8]]) -> u64 {
        let mut hash = ContentHash::default();
        pieces.iter().for_each(|it| hash.update(it));
        hash.finish()
    }

    #[test]
    fn hash_depends_on_every_byte_and_on_length() {
        let content: Vec<u8> = (0..100).collect();

        let whole = hash(&[&content]);

        assert_eq!(whole, hash(&[&content[..64], &content[64..]]));
        assert_ne!(whole, hash(&[&content[..99]]));
        assert_ne!(whole, hash(&[&content, &[0]]));
        for position in 0..content.len() {
            let mut changed = content.clone();
            changed[position] ^= 0x80;
            assert_ne!(whole, hash(&[&changed]), "{position}");
        }
    }
}
