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

/// Reads what [`encode`] wrote; safe for any bytes.
pub(super) fn decode<const N: usize>(bytes: &[u8]) -> Result<impl ExactSizeIterator<Item = [u64; N]> + '_, String> {
    let body = sealed::open(bytes)?;
    if !body.len().is_multiple_of(N * 8) {
        return Err(format!("a row of {} bytes, with entries of {}", body.len(), N * 8));
    }
    Ok(body.chunks_exact(N * 8).map(|entry| {
        let mut numbers = entry.chunks_exact(8).map(|number| number.try_into().map_or(0, u64::from_le_bytes));
        std::array::from_fn(|_| numbers.next().unwrap_or_default())
    }))
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written_or_not_at_all() {
        for entries in [vec![], vec![[1, 2]], (0..100).map(|n| [n, u64::MAX - n]).collect()] {
            let bytes = encode(&entries);
            assert_eq!(decode::<2>(&bytes).unwrap().collect::<Vec<_>>(), entries);
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 4;
                assert!(decode::<2>(&damaged).is_err(), "byte {at}");
                assert!(decode::<2>(&bytes[..at]).is_err(), "{at} bytes");
            }
        }
        assert!(decode::<3>(&encode(&[[1, 2]])).is_err(), "another size");
    }
}
