//! The mesh of rings between doors and shards: one single-producer single-consumer ring for every (door, key).
use std::{sync::Arc, task::Poll};

use keyshard_shard::Transfer;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::sync::{
    AtomicWaker,
    atomic::{AtomicBool, Ordering},
};

/// Transfers that go through a ring together: at most one transaction's worth.
pub(crate) enum Piece {
    /// By far the most frequent: no allocation.
    One(Arc<Transfer>),
    /// At most [`PIECE_MAX`].
    Many(Box<[Arc<Transfer>]>),
}

/// Transfers in one piece: what fits into one transaction on every chain known (`max_actions_per_receipt`). Larger
/// requests are cut, so that several keys share them.
pub(crate) const PIECE_MAX: usize = 100;

/// Pieces that a ring holds. A full ring means a shard that has not run for long; 24 bytes a slot keep even 64 keys
/// and 8 doors within 50 MB, and one ring still takes the largest request that a body can hold.
pub(crate) const RING_PIECES: usize = 4_096;

/// The ends of the rings, one row for each door, one column for each key.
pub(crate) struct Mesh {
    pub(crate) producers: Vec<Vec<Producer<Piece>>>,
    /// By key: the consuming ends of all its rings.
    pub(crate) consumers: Vec<Vec<Consumer<Piece>>>,
}

pub(crate) fn mesh(doors: usize, keys: usize) -> Mesh {
    let mut consumers: Vec<Vec<Consumer<Piece>>> = (0..keys).map(|_| Vec::with_capacity(doors)).collect();
    let producers = (0..doors)
        .map(|_| {
            let ring = |column: &mut Vec<Consumer<Piece>>| {
                let (producer, consumer) = RingBuffer::new(RING_PIECES);
                column.push(consumer);
                producer
            };
            consumers.iter_mut().map(ring).collect()
        })
        .collect();
    Mesh { producers, consumers }
}

/// Wakes a shard that sleeps, once for all that happened until it looks. Clones wake the same shard.
#[derive(Clone, Default)]
pub struct Bell(Arc<BellInner>);

#[derive(Default)]
struct BellInner {
    rung: AtomicBool,
    sleeper: AtomicWaker,
}

impl Bell {
    /// Push first, ring then: the shard looks at its rings after it took the bell's mark away.
    pub fn ring(&self) {
        if !self.0.rung.swap(true, Ordering::AcqRel) {
            self.0.sleeper.wake();
        }
    }

    /// Returns when the bell was rung since the last return.
    pub async fn rung(&self) {
        std::future::poll_fn(|context| {
            if self.0.rung.swap(false, Ordering::AcqRel) {
                return Poll::Ready(());
            }
            self.0.sleeper.register(context.waker());
            // It may have been rung between the look and the registration.
            if self.0.rung.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Which key a request goes to: rendezvous hashing (Thaler and Ravishankar), so that a changed key set moves few.
/// `weights` are stable hashes of the keys.
pub(crate) fn rendezvous(weights: &[u64], id: u128) -> usize {
    let folded = mix((id >> 64) as u64 ^ mix(id as u64));
    let best = weights.iter().enumerate().max_by_key(|(_, weight)| mix(folded ^ **weight));
    best.map_or(0, |(index, _)| index)
}

/// A stable hash of a key's name.
pub(crate) fn weight(name: &str) -> u64 {
    name.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)))
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood): every input bit changes every output bit.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use super::*;

    #[test]
    fn requests_spread_evenly_and_a_new_key_moves_few() {
        let weights: Vec<u64> = (0..13).map(|i| weight(&format!("ed25519:key{i}"))).collect();
        let (requests, twelve) = (12_000u128, &weights[..12]);
        let mut counts = [0u32; 12];
        let mut moved = 0;
        for id in 0..requests {
            let key = rendezvous(twelve, id.wrapping_mul(0x1234_5678_9ABC_DEF0_1234_5678_9ABC_DEF1));
            counts[key] += 1;
            let with_one_more = rendezvous(&weights, id.wrapping_mul(0x1234_5678_9ABC_DEF0_1234_5678_9ABC_DEF1));
            if with_one_more != key {
                assert_eq!(with_one_more, 12, "only the new key takes over requests");
                moved += 1;
            }
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
        assert!((750..1_100).contains(&moved), "{moved}");
    }

    #[tokio::test]
    async fn a_bell_rung_before_or_during_the_wait_is_heard_once() {
        let bell = Bell::default();
        bell.ring();
        bell.ring();
        bell.rung().await;
        let mut again = std::pin::pin!(bell.rung());
        assert!(std::future::poll_fn(|context| Poll::Ready(again.as_mut().poll(context).is_pending())).await);
        let ringer = bell.clone();
        let thread = std::thread::spawn(move || ringer.ring());
        again.await;
        thread.join().unwrap();
    }
}
