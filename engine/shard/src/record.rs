//! What a shard writes to the journal, and its bytes: enough to know, after a crash, everything that may still be on
//! its way.
//!
//! A record is a version byte and then borsh of [`Record`]: the variant's position, then its fields in order. So the
//! order of variants and fields is the format; `the_bytes_of_version_2` holds it. A change takes a new version byte.
//!
//! What the actions of a signed transaction do is not stored: its bytes say it.
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use near_primitives::hash::CryptoHash;

use crate::{BatchId, Instant, Proof, Transfer, TransferId, limits};

/// Number of a record within its shard, from 1, without gaps.
pub type Lsn = u64;

/// One journal record.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Record {
    /// A transfer was accepted (P1).
    Accepted {
        /// The whole transfer.
        transfer: Arc<Transfer>,
        /// When.
        at: Instant,
        /// Transactions that carried it and ended without paying it, when it is repeated.
        tried: Box<[CryptoHash]>,
    },
    /// A transaction was signed; its bytes may leave once this is durable (P2, P3).
    Signed {
        /// The signing key, `ed25519:...`.
        public_key: Arc<str>,
        /// Its nonce.
        nonce: u64,
        /// Hash of the transaction.
        hash: CryptoHash,
        /// Height of its reference block.
        reference_height: u64,
        /// The signed transaction, borsh.
        bytes: Arc<[u8]>,
        /// Its name.
        batch: BatchId,
        /// The transfers it carries, in the order of their actions; none for a fence.
        transfers: Box<[TransferId]>,
    },
    /// The fate of a transaction is known for ever.
    Closed {
        /// Which.
        hash: CryptoHash,
        /// How.
        how: Closed,
        /// When that became known.
        at: Instant,
    },
    /// A transfer will never be paid (P5).
    Failed {
        /// Which.
        id: TransferId,
        /// Why.
        reason: Box<str>,
        /// When that was decided.
        at: Instant,
    },
    /// From here on, up to [`Record::End`], a shard repeats everything it has open; what it wrote before is not needed
    /// once this is complete. A life begins with it, and repeats it now and then so that old segments can go.
    Begin {
        /// Number of the life, one more than the last.
        life: u64,
        /// Shards of this life. Former lives are not needed once all of these have completed their first repetition.
        shards: u16,
        /// Genesis of the chain: a journal is of one chain only.
        genesis: CryptoHash,
    },
    /// The repetition is complete.
    End,
    /// The highest nonce ever signed with a key, whether its transactions are open or not (P3).
    Nonce {
        /// `ed25519:...`
        public_key: Arc<str>,
        /// Its nonce.
        nonce: u64,
    },
}

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Closed {
    /// Success at FINAL: all its transfers are paid.
    Landed,
    /// Failure at FINAL: none of its transfers is paid, the nonce is used.
    Failed {
        /// The action that failed.
        index: Option<u64>,
        /// Why.
        why: Box<str>,
    },
    /// It can never run.
    Dead(Proof),
}

/// First byte of every record.
const VERSION: u8 = 2;

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A later version of Keyshard wrote it, or something else did.
    #[error("a record of format {0}, this version reads format {VERSION}")]
    Version(u8),
    /// Too long, too short, or not what the format allows.
    #[error("no record: {0}")]
    Malformed(Box<str>),
}

impl Record {
    /// Appends the bytes of this record to `bytes`: at most [`limits::RECORD_BYTES_MAX`] for anything that a shard makes.
    #[expect(clippy::expect_used, reason = "writing to a Vec cannot fail, and these types have no failing serialiser")]
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(VERSION);
        self.serialize(bytes).expect("writing to memory");
    }

    /// Reads exactly what [`Self::encode`] wrote. Safe for any bytes: takes memory for no more than there is.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > limits::RECORD_BYTES_MAX {
            return Err(RecordError::Malformed(format!("{} bytes are too many", bytes.len()).into()));
        }
        match bytes {
            [VERSION, rest @ ..] => {
                borsh::from_slice(rest).map_err(|error| RecordError::Malformed(error.to_string().into()))
            }
            [version, ..] => Err(RecordError::Version(*version)),
            [] => Err(RecordError::Malformed("empty".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::IdempotencyKey;

    fn samples() -> Vec<Record> {
        let hash = CryptoHash::hash_bytes(b"transaction");
        let at = Instant::from_micros(1_795_000_000_000_001);
        let transfer = |memo: Option<&str>| {
            Arc::new(Transfer {
                id: TransferId(0x0123_4567_89AB_CDEF_0123_4567_89AB_CDEF),
                receiver: "user1.test.near".parse().unwrap(),
                amount: u128::MAX,
                memo: memo.map(Into::into),
                key: memo.map(|_| IdempotencyKey { name: "run 7#3".into(), of: 9 }),
            })
        };
        let signed = |transfers: Box<[TransferId]>| Record::Signed {
            public_key: "ed25519:DcA2MzgpJbrUATQLLceocVckhhAqrkingax4oJ9kZ847".into(),
            nonce: 47_000_049,
            hash,
            reference_height: 201_123_456,
            bytes: (0..=255).collect(),
            batch: BatchId { at, number: 7 },
            transfers,
        };
        vec![
            Record::Accepted { transfer: transfer(None), at, tried: Box::default() },
            Record::Accepted { transfer: transfer(Some("")), at, tried: Box::default() },
            Record::Accepted { transfer: transfer(Some("a memo, ünicode")), at, tried: [hash, hash].into() },
            signed(Box::default()),
            signed((1..=3).map(TransferId).collect()),
            Record::Closed { hash, how: Closed::Landed, at },
            Record::Closed { hash, how: Closed::Failed { index: Some(3), why: "On-chain failure: why".into() }, at },
            Record::Closed { hash, how: Closed::Failed { index: None, why: "".into() }, at },
            Record::Closed { hash, how: Closed::Dead(Proof::Overtaken { key_nonce: 5, final_height: 6 }), at },
            Record::Closed { hash, how: Closed::Dead(Proof::Expired { final_height: 6 }), at },
            Record::Failed { id: TransferId(9), reason: "not registered".into(), at },
            Record::Begin { life: 3, shards: 2, genesis: hash },
            Record::End,
            Record::Nonce { public_key: "ed25519:DcA2MzgpJbrUATQLLceocVckhhAqrkingax4oJ9kZ847".into(), nonce: 5 },
        ]
    }

    fn encoded(record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        bytes
    }

    #[test]
    fn records_come_back_as_they_were() {
        for record in samples() {
            assert_eq!(Record::decode(&encoded(&record)), Ok(record));
        }
    }

    #[test]
    fn a_prefix_is_no_record_and_neither_is_more() {
        for record in samples() {
            let mut bytes = encoded(&record);
            for length in 0..bytes.len() {
                assert!(Record::decode(&bytes[..length]).is_err(), "{length} bytes of {record:?}");
            }
            bytes.push(0);
            assert!(Record::decode(&bytes).is_err(), "{record:?} and a byte");
        }
    }

    #[test]
    fn a_flipped_bit_is_an_error_or_another_record() {
        for record in samples() {
            let bytes = encoded(&record);
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(Record::decode(&flipped).as_ref(), Ok(&record), "bit {bit}");
            }
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = encoded(&samples()[0]);
        bytes[0] = 1;
        assert_eq!(Record::decode(&bytes), Err(RecordError::Version(1)));
    }

    #[test]
    fn a_length_that_lies_costs_nothing() {
        // Failed, whose reason claims 4 GiB.
        let mut bytes = vec![VERSION, 3];
        bytes.extend([0; 16]);
        bytes.extend(u32::MAX.to_le_bytes());
        assert!(matches!(Record::decode(&bytes), Err(RecordError::Malformed(_))));
        assert!(matches!(Record::decode(&vec![VERSION; limits::RECORD_BYTES_MAX + 1]), Err(RecordError::Malformed(_))));
    }

    /// Journals of this version must stay readable: whoever has to change this test needs a new version byte.
    #[test]
    fn the_bytes_of_version_2() {
        let digests: Vec<String> = samples()
            .iter()
            .map(|record| CryptoHash::hash_bytes(&encoded(record)).to_string()[..8].to_owned())
            .collect();
        let expected = [
            "39eSx39x", "DmVUeoTR", "5k1LMwHn", "2aJSuMop", "7SZqVZpQ", "2mweuvRp", "3DfPSkNr", "FEH4DCjs", "Gs5h9mGz",
            "49dgfWoM", "J4uAmMzp", "CH9fxEEv", "2WprZSDh", "BdoWU9qu",
        ];
        assert_eq!(digests, expected);
        let id = TransferId(9);
        let expected = [&[2, 3], &id.0.to_le_bytes()[..], &3u32.to_le_bytes(), b"why", &7u64.to_le_bytes()].concat();
        let at = Instant::from_micros(7);
        assert_eq!(encoded(&Record::Failed { id, reason: "why".into(), at }), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_are_the_bytes_of_a_record(
            variant in 0u8..8,
            rest in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let bytes = [&[VERSION, variant][..], &rest].concat();
            if let Ok(record) = Record::decode(&bytes) {
                prop_assert_eq!(encoded(&record), bytes);
            }
        }
    }
}
