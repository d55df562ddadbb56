//! A settled transfer as bytes: a version, a checksum over the rest, borsh of the fields in this order.
use borsh::{BorshDeserialize, BorshSerialize};
use keyshard_shard::{BatchId, Carried, CryptoHash, Instant, Transfer};

use super::Settled;

const VERSION: u8 = 1;
/// Version and CRC-32.
const HEADER_BYTES: usize = 1 + 4;

/// What is stored. The order of the fields is the format: a change takes a new version.
#[derive(BorshSerialize, BorshDeserialize)]
struct Stored {
    transfer: Transfer,
    accepted_at: Instant,
    settled_at: Instant,
    /// Why it failed; `None` if it is paid.
    failed: Option<Box<str>>,
    carried: Option<(CryptoHash, BatchId, u16)>,
    tried: Vec<CryptoHash>,
}

#[expect(clippy::expect_used, reason = "writing to a Vec cannot fail, and these types have no failing serialiser")]
pub(super) fn encode(settled: &Settled) -> Vec<u8> {
    let stored = Stored {
        transfer: settled.transfer.clone(),
        accepted_at: settled.accepted_at,
        settled_at: settled.settled_at,
        failed: settled.outcome.as_ref().err().cloned(),
        carried: settled.carried.map(|carried| (carried.hash, carried.batch, carried.position)),
        tried: settled.tried.clone(),
    };
    let mut bytes = vec![0; HEADER_BYTES];
    stored.serialize(&mut bytes).expect("writing to memory");
    bytes[0] = VERSION;
    let crc = crc32fast::hash(&bytes[HEADER_BYTES..]);
    bytes[1..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads exactly what [`encode`] wrote; safe for any bytes.
pub(super) fn decode(bytes: &[u8]) -> Result<Settled, String> {
    let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(format!("a record of {} bytes", bytes.len()));
    };
    if header[0] != VERSION {
        return Err(format!("a record of format {}, this version reads format {VERSION}", header[0]));
    }
    if header[1..] != crc32fast::hash(body).to_le_bytes() {
        return Err("a record whose checksum is wrong".to_owned());
    }
    let stored: Stored = borsh::from_slice(body).map_err(|error| format!("a record that cannot be read: {error}"))?;
    Ok(Settled {
        transfer: stored.transfer,
        accepted_at: stored.accepted_at,
        settled_at: stored.settled_at,
        outcome: stored.failed.map_or(Ok(()), Err),
        carried: stored.carried.map(|(hash, batch, position)| Carried { hash, batch, position }),
        tried: stored.tried,
    })
}
