//! One hop through a ring between a door and a shard: what a push and a pop take, within a thread and across two.
//!
//! `cargo bench -p keyshard-engine --bench ring`. The ring is as the engine has it, in slots and bytes a slot.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]
use std::{hint::black_box, thread};

use divan::{Bencher, counter::ItemsCount};
use keyshard_engine::rig::{PIECE_BYTES, RING_PIECES};
use rtrb::{Consumer, Producer, RingBuffer};

type Piece = [u8; PIECE_BYTES];

/// Across threads, so many at a time: the start of a thread is nothing beside them.
const HOPS: usize = 1_000_000;

fn main() {
    divan::main();
}

#[divan::bench]
fn within_a_thread(bencher: Bencher<'_, '_>) {
    let (mut producer, mut consumer) = RingBuffer::<Piece>::new(RING_PIECES);
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        producer.push(black_box([7; PIECE_BYTES])).unwrap();
        consumer.pop().unwrap()
    });
}

/// A door that pushes 100 before the shard drains them.
#[divan::bench]
fn within_a_thread_by_the_hundred(bencher: Bencher<'_, '_>) {
    let (mut producer, mut consumer) = RingBuffer::<Piece>::new(RING_PIECES);
    bencher.counter(ItemsCount::new(100usize)).bench_local(|| {
        for _ in 0..100 {
            producer.push(black_box([7; PIECE_BYTES])).unwrap();
        }
        while let Ok(piece) = consumer.pop() {
            black_box(piece);
        }
    });
}

/// A door and a shard that never sleep.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn across_threads(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(HOPS)).with_inputs(|| RingBuffer::<Piece>::new(RING_PIECES)).bench_local_values(
        |(producer, consumer)| {
            thread::scope(|scope| {
                scope.spawn(|| push(producer));
                drain(consumer);
            });
        },
    );
}

fn push(mut producer: Producer<Piece>) {
    for _ in 0..HOPS {
        while producer.push(black_box([7; PIECE_BYTES])).is_err() {
            std::hint::spin_loop();
        }
    }
}

fn drain(mut consumer: Consumer<Piece>) {
    let mut left = HOPS;
    while left > 0 {
        match consumer.pop() {
            Ok(piece) => {
                black_box(piece);
                left -= 1;
            }
            Err(_) => std::hint::spin_loop(),
        }
    }
}
