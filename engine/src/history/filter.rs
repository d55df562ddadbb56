//! Tells of most hashes that are not in a slice of the sorted rows that they are not, without a look at the disk (a Bloom
//! filter of one word an entry).
use super::index::{Entry, Half};

/// Bits for each entry: one in thirty that are not there is looked for in vain.
const BITS: usize = 12;

/// Words of a slice at most, 16 MiB for all slices. What is more than they can tell apart is looked for on the disk.
const WORDS_MAX: usize = 8192;

/// Of one slice.
pub(super) struct Filter {
    words: Box<[u64]>,
}

impl Filter {
    pub(super) fn of(entries: &[Entry]) -> Self {
        let words = (entries.len() * BITS).div_ceil(u64::BITS as usize).min(WORDS_MAX);
        let mut filter = Self { words: vec![0; words].into() };
        for [a, b, _] in entries {
            if let Some(at) = filter.word([*a, *b]) {
                filter.words[at] |= mask([*a, *b]);
            }
        }
        filter
    }

    /// Whether it may be there. If not, it is not there.
    pub(super) fn may_have(&self, half: Half) -> bool {
        self.word(half).is_some_and(|at| self.words[at] & mask(half) == mask(half))
    }

    /// Which word has its bits; none has if nothing is there.
    fn word(&self, [_, b]: Half) -> Option<usize> {
        let at = (u128::from(b) * self.words.len() as u128) >> u64::BITS;
        (!self.words.is_empty()).then_some(at as usize)
    }
}

/// Four bits of a word, by other bits of the hash than those that choose slice and word.
fn mask([a, _]: Half) -> u64 {
    (0..4).fold(0, |mask, n| mask | 1 << ((a >> (6 * n)) & 63))
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use keyshard_shard::CryptoHash;

    use super::*;

    fn entry(n: u64) -> Entry {
        let hash = CryptoHash::hash_bytes(&n.to_le_bytes());
        let number = |at: usize| u64::from_le_bytes(hash.0[at..at + 8].try_into().unwrap());
        [number(0), number(8), n]
    }

    #[test]
    fn what_is_there_may_be_there_and_of_the_rest_little() {
        for count in [0, 1, 5, 40_000] {
            let entries: Vec<Entry> = (0..count).map(entry).collect();
            let filter = Filter::of(&entries);
            assert!(entries.iter().all(|[a, b, _]| filter.may_have([*a, *b])));
            let others = (1_000_000..1_010_000).map(entry).filter(|[a, b, _]| filter.may_have([*a, *b])).count();
            assert!(others < 500, "{others} of 10,000 that are not among {count}");
        }
    }

    #[test]
    fn one_that_is_too_small_says_nothing_wrong() {
        let entries: Vec<Entry> = (0..200_000).map(entry).collect();
        let filter = Filter::of(&entries);
        assert_eq!(filter.words.len(), WORDS_MAX);
        assert!(entries.iter().all(|[a, b, _]| filter.may_have([*a, *b])));
    }
}
