//! What reading and checking the body of `POST /send-ft` takes.
//!
//! `cargo bench -p keyshard --bench parse`.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]
use std::hint::black_box;

use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
use keyshard::validate;
use near_primitives::types::AccountId;

/// As the command has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

fn one(i: usize, more: &str) -> String {
    format!(r#"{{"receiverId":"user{i}.test.near","amount":"{}","memo":"payment {i}"{more}}}"#, 1_000_000 + i)
}

fn read(bencher: Bencher<'_, '_>, body: &str, transfers: usize) {
    let account: AccountId = "payer.test.near".parse().unwrap();
    let body = body.as_bytes();
    bencher.counter(ItemsCount::new(transfers)).counter(BytesCount::new(body.len())).bench(|| {
        let request = validate::json(black_box(body), &account).unwrap();
        assert_eq!(request.transfers.len(), transfers);
        request
    });
}

#[divan::bench]
fn one_transfer(bencher: Bencher<'_, '_>) {
    read(bencher, &one(1, ""), 1);
}

#[divan::bench]
fn one_transfer_with_its_idempotency_key(bencher: Bencher<'_, '_>) {
    read(bencher, &one(1, r#","idempotencyKey":"2f1c7a52-6d0e-4c1a-9d5f-0a4b8c7e6d11""#), 1);
}

#[divan::bench]
fn a_hundred_transfers(bencher: Bencher<'_, '_>) {
    let transfers: Vec<String> = (0..100).map(|i| one(i, "")).collect();
    read(bencher, &format!(r#"{{"transfers":[{}]}}"#, transfers.join(",")), 100);
}
