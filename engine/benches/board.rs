//! What the board takes for a transfer: on its way in, for the news of it, and for a look at it.
//!
//! `cargo bench -p keyshard-engine --bench board`. Doors and board without shards (`rig.rs`); 100,000 transfers are on the board
//! already. The way in is all that a door does: an id, the backlog, the board, the ring, and the shard's side takes it out.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]
use std::hint::black_box;

use divan::{Bencher, counter::ItemsCount};
use keyshard_engine::{Door, NewTransfer, rig::Rig};
use keyshard_shard::{BatchId, CryptoHash, Instant, Level, News, Recovered, TransferId};
use tempfile::TempDir;
use uuid::Uuid;

const ON_THE_BOARD: usize = 100_000;
const BATCH: usize = 100;

/// As the command has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

struct Board {
    rig: Rig,
    door: Door,
    ids: Vec<Uuid>,
    _directory: TempDir,
}

impl Board {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (mut rig, mut doors) = Rig::start(directory.path(), 1, 10_000_000, 0, Recovered::default()).unwrap();
        let mut door = doors.pop().unwrap();
        let mut ids = Vec::with_capacity(ON_THE_BOARD);
        for first in (0..ON_THE_BOARD).step_by(BATCH) {
            ids.extend_from_slice(door.submit(request(first, BATCH)).ok().unwrap().ids());
            rig.take();
        }
        Self { rig, door, ids, _directory: directory }
    }
}

fn request(first: usize, transfers: usize) -> Vec<NewTransfer> {
    let transfer = |i: usize| NewTransfer {
        receiver: format!("user{}.test.near", i % 1_000).parse().unwrap(),
        amount: 1_000_000 + i as u128,
        memo: Some(format!("payment {i}")),
        key: None,
    };
    (first..first + transfers).map(transfer).collect()
}

#[divan::bench(args = [1, BATCH])]
fn way_in(bencher: Bencher<'_, '_>, transfers: usize) {
    let mut board = Board::new();
    let mut first = ON_THE_BOARD;
    let requests = || {
        first += transfers;
        request(first, transfers)
    };
    bencher.counter(ItemsCount::new(transfers)).with_inputs(requests).bench_local_values(|request| {
        let ticket = board.door.submit(request).ok().unwrap();
        (ticket, board.rig.take())
    });
}

/// Durable, signed, executed: all that a transaction's transfers are told before they are final.
#[divan::bench(sample_count = 100, sample_size = 5)]
fn three_news_of_a_transaction(bencher: Bencher<'_, '_>) {
    let board = Board::new();
    let batches = board.ids.chunks(BATCH).zip(0u64..).cycle();
    let mut batches = batches.map(|(ids, number)| {
        let ids: Vec<TransferId> = ids.iter().map(|id| TransferId(id.as_u128())).collect();
        (ids, number)
    });
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(|| batches.next().unwrap()).bench_local_values(
        |(ids, number)| {
            let at = Instant::from_micros(number);
            let hash = CryptoHash::hash_bytes(&number.to_le_bytes());
            board.rig.tell(&ids, &News::Accepted);
            board.rig.tell(&ids, &News::Signed { hash, batch: BatchId { at, number }, at });
            board.rig.tell(&ids, &News::Reached { level: Level::ExecutedOptimistic });
        },
    );
}

#[divan::bench]
fn look(bencher: Bencher<'_, '_>) {
    let board = Board::new();
    // A stride that visits all of them, far from one another.
    let mut at = 0;
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        at = (at + 61_803) % ON_THE_BOARD;
        board.rig.engine().job(black_box(board.ids[at])).unwrap()
    });
}
