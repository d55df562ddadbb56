//! Rows of the indices as bytes: sealed; entries of `N` numbers each, little-endian.
use super::sealed;

/// The bytes of a row.
pub(super) fn encode<const N: usize>(entries: &[[u64; N]]) -> Vec<u8> {
    let mut bytes = sealed::begin(entries.len() * N * 8);
    for number in entries.iter().flatten() {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    sealed::finish(&mut bytes);
    bytes
}

/// A row on the disk, opened.
pub(super) struct Row<'a, const N: usize> {
    body: &'a [u8],
}

impl<'a, const N: usize> Row<'a, N> {
    /// Reads what [`encode`] wrote; safe for any bytes.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let body = sealed::open(bytes)?;
        if body.len().is_multiple_of(N * 8) {
            return Ok(Self { body });
        }
        Err(format!("a row of {} bytes, with entries of {}", body.len(), N * 8))
    }

    /// All entries.
    pub(super) fn entries(&self) -> impl ExactSizeIterator<Item = [u64; N]> + 'a {
        self.body.chunks_exact(N * 8).map(entry)
    }

    /// Of a row in order: the entries that begin with these numbers.
    pub(super) fn beginning_with(&self, prefix: &[u64]) -> impl Iterator<Item = [u64; N]> + 'a {
        let body = self.body;
        let (mut first, mut end) = (0, body.len() / (N * 8));
        let at = move |index: usize| entry::<N>(&body[index * N * 8..(index + 1) * N * 8]);
        while first < end {
            let middle = usize::midpoint(first, end);
            if at(middle)[..prefix.len()] < *prefix {
                first = middle + 1;
            } else {
                end = middle;
            }
        }
        let prefix = prefix.to_vec();
        (first..body.len() / (N * 8)).map(at).take_while(move |entry| entry[..prefix.len()] == prefix)
    }
}

fn entry<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut numbers = bytes.as_chunks().0.iter().map(|number| u64::from_le_bytes(*number));
    std::array::from_fn(|_| numbers.next().unwrap_or_default())
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written_or_not_at_all() {
        for entries in [vec![], vec![[1, 2]], (0..100).map(|n| [n, u64::MAX - n]).collect()] {
            let bytes = encode(&entries);
            assert_eq!(Row::<2>::open(&bytes).unwrap().entries().collect::<Vec<_>>(), entries);
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 4;
                assert!(Row::<2>::open(&damaged).is_err(), "byte {at}");
                assert!(Row::<2>::open(&bytes[..at]).is_err(), "{at} bytes");
            }
        }
        assert!(Row::<3>::open(&encode(&[[1, 2]])).is_err(), "another size");
    }

    #[test]
    fn entries_are_found_by_what_they_begin_with() {
        let entries: Vec<[u64; 3]> = (0..60).map(|n| [n / 12, n / 4, n]).collect();
        let bytes = encode(&entries);
        let row = Row::<3>::open(&bytes).unwrap();
        for (a, b) in (0..7).flat_map(|a| (0..17).map(move |b| (a, b))) {
            let expected: Vec<_> = entries.iter().filter(|entry| entry[..2] == [a, b]).copied().collect();
            assert_eq!(row.beginning_with(&[a, b]).collect::<Vec<_>>(), expected);
        }
        assert_eq!(row.beginning_with(&[4]).count(), 12);
        assert_eq!(Row::<3>::open(&encode::<3>(&[])).unwrap().beginning_with(&[0]).count(), 0);
    }
}
