//! A small mutator with a fixed seed.

/// Makes inputs out of seeds.
pub(crate) struct Mutator<'a> {
    state: u64,
    seeds: &'a [&'a [u8]],
    words: &'a [&'a str],
}

/// Longest input, bytes.
const LONGEST: usize = 4096;

impl<'a> Mutator<'a> {
    pub(crate) fn new(seed: u64, seeds: &'a [&'a [u8]], words: &'a [&'a str]) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, seeds, words }
    }

    /// xorshift64 (Marsaglia 2003).
    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random() >> 16).unwrap() % bound.max(1)
    }

    /// A seed with one to six changes.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut bytes = self.seeds[self.below(self.seeds.len())].to_vec();
        for _ in 0..=self.below(6) {
            self.change(&mut bytes);
            bytes.truncate(LONGEST);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let end = at + self.below((bytes.len() - at).min(32) + 1);
        match self.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => {
                bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b' ', b'\n', b'9'][self.below(8)];
            }
            2 => drop(bytes.drain(at..end)),
            3 => {
                let part = bytes[at..end].to_vec();
                for _ in 0..=self.below(4) {
                    bytes.splice(at..at, part.iter().copied());
                }
            }
            4 => {
                let byte = self.below(256).to_le_bytes()[0];
                bytes.insert(at, byte);
            }
            5 => {
                let word = self.words[self.below(self.words.len())].bytes();
                bytes.splice(at..end, word);
            }
            6 => {
                // The beginning of this one, the end of another.
                let other = self.seeds[self.below(self.seeds.len())];
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => bytes.truncate(at),
        }
    }
}
