//! Bytes with a checksum before them. The store takes its pages as they are; what is read here is right, or an error.

/// CRC-32 of the rest.
const SEAL_BYTES: usize = 4;

/// Room for the seal, to be followed by what is sealed.
pub(super) fn begin(capacity: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SEAL_BYTES + capacity);
    bytes.resize(SEAL_BYTES, 0);
    bytes
}

/// Seals what was appended since [`begin`].
pub(super) fn finish(bytes: &mut [u8]) {
    let (seal, body) = bytes.split_at_mut(SEAL_BYTES);
    seal.copy_from_slice(&crc32fast::hash(body).to_le_bytes());
}

/// What was sealed; safe for any bytes.
pub(super) fn open(bytes: &[u8]) -> Result<&[u8], String> {
    match bytes.split_at_checked(SEAL_BYTES) {
        Some((seal, body)) if seal == crc32fast::hash(body).to_le_bytes() => Ok(body),
        Some(_) => Err(format!("{} bytes whose checksum is wrong", bytes.len())),
        None => Err(format!("{} bytes where more must be", bytes.len())),
    }
}
