//! What it takes to turn transfers into what `send_tx` takes: build, borsh, hash, sign, base64, by transfers a transaction.
//!
//! `cargo bench -p keyshard-engine --bench signing`. Beside it the plain way with near-primitives and near-crypto, whose text
//! must be the same to the byte, and the parts by themselves. At the end the two ways by turns, and their ratio.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and may panic")]
use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use aws_lc_rs::signature::Ed25519KeyPair;
use divan::{Bencher, counter::ItemsCount};
use ed25519_dalek::{Signer as _, SigningKey};
use keyshard_engine::rig::base64;
use keyshard_shard::{CryptoHash, Signer, Transfer, TransferId, rig::Rig};
use near_crypto::{KeyType, SecretKey};
use near_primitives::{
    action::{Action, FunctionCallAction},
    serialize::to_base64,
    transaction::{SignedTransaction, Transaction, TransactionV0},
    types::{AccountId, Balance, Gas},
};
use serde::Serialize;

const SIZES: [usize; 4] = [1, 10, 50, 100];
const GAS: u64 = 2_500_000_000_000;
const NONCE: u64 = 47_000_049;
/// How long the two ways are compared, for each size.
const COMPARE: Duration = Duration::from_secs(3);

/// As the command has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    for n in SIZES {
        let (near, keyshard, transfers) = (Near::new(), rig(), transfers(n));
        assert_eq!(near.sign(&transfers), sign(&keyshard, &transfers), "{n} transfers");
    }
    divan::main();
    if std::env::args().all(|argument| argument == "--bench" || !argument.starts_with('-')) {
        compare();
    }
}

/// Everything that Keyshard does, as the shard and the courier do it.
fn sign(rig: &Rig, transfers: &[Transfer]) -> String {
    let (_, bytes) = rig.sign(NONCE, block_hash(), transfers);
    base64(&bytes)
}

fn rig() -> Rig {
    let (account, token) = accounts();
    Rig { signer: Signer::new(secret()), account, token, gas: GAS }
}

/// The plain way.
struct Near {
    secret: SecretKey,
    account: AccountId,
    token: AccountId,
}

#[derive(Serialize)]
struct Arguments<'a> {
    receiver_id: &'a AccountId,
    amount: String,
    memo: &'a str,
}

impl Near {
    fn new() -> Self {
        let (account, token) = accounts();
        Self { secret: secret(), account, token }
    }

    fn transaction(&self, transfers: &[Transfer]) -> Transaction {
        let action = |transfer: &Transfer| {
            let arguments = Arguments {
                receiver_id: &transfer.receiver,
                amount: transfer.amount.to_string(),
                memo: transfer.memo.as_deref().unwrap_or_default(),
            };
            Action::FunctionCall(Box::new(FunctionCallAction {
                method_name: "ft_transfer".to_owned(),
                args: serde_json::to_vec(&arguments).unwrap(),
                gas: Gas::from_gas(GAS),
                deposit: Balance::from_yoctonear(1),
            }))
        };
        Transaction::V0(TransactionV0 {
            signer_id: self.account.clone(),
            public_key: self.secret.public_key(),
            nonce: NONCE,
            receiver_id: self.token.clone(),
            block_hash: block_hash(),
            actions: transfers.iter().map(action).collect(),
        })
    }

    fn sign(&self, transfers: &[Transfer]) -> String {
        let transaction = self.transaction(transfers);
        let (hash, _) = transaction.get_hash_and_size();
        let signed = SignedTransaction::new(self.secret.sign(hash.as_ref()), transaction);
        to_base64(&borsh::to_vec(&signed).unwrap())
    }
}

fn transfers(n: usize) -> Vec<Transfer> {
    let transfer = |i: usize| Transfer {
        id: TransferId(i as u128),
        receiver: format!("user{i}.test.near").parse().unwrap(),
        amount: 1_000_000_000_000_000_000 + i as u128,
        memo: Some(format!("payment {i}").into()),
        key: None,
    };
    (0..n).map(transfer).collect()
}

fn accounts() -> (AccountId, AccountId) {
    ("payer.test.near".parse().unwrap(), "ft.test.near".parse().unwrap())
}

fn secret() -> SecretKey {
    SecretKey::from_seed(KeyType::ED25519, "signer")
}

fn block_hash() -> CryptoHash {
    CryptoHash::hash_bytes(b"block")
}

#[divan::bench(args = SIZES)]
fn keyshard(bencher: Bencher<'_, '_>, n: usize) {
    let (rig, transfers) = (rig(), transfers(n));
    bencher.counter(ItemsCount::new(n)).bench(|| sign(&rig, black_box(&transfers)));
}

#[divan::bench(args = SIZES)]
fn near_primitives_and_near_crypto(bencher: Bencher<'_, '_>, n: usize) {
    let (near, transfers) = (Near::new(), transfers(n));
    bencher.counter(ItemsCount::new(n)).bench(|| near.sign(black_box(&transfers)));
}

mod parts {
    use super::*;

    fn bytes(n: usize) -> Vec<u8> {
        rig().sign(NONCE, block_hash(), &transfers(n)).1.to_vec()
    }

    fn seed() -> [u8; 32] {
        secret().unwrap_as_ed25519().0[..32].try_into().unwrap()
    }

    #[divan::bench(args = SIZES)]
    fn near_build_with_json(bencher: Bencher<'_, '_>, n: usize) {
        let (near, transfers) = (Near::new(), transfers(n));
        bencher.bench(|| near.transaction(black_box(&transfers)));
    }

    #[divan::bench(args = SIZES)]
    fn sha256(bencher: Bencher<'_, '_>, n: usize) {
        let bytes = bytes(n);
        bencher.bench(|| CryptoHash::hash_bytes(black_box(&bytes)));
    }

    #[divan::bench(args = SIZES)]
    fn base64_keyshard(bencher: Bencher<'_, '_>, n: usize) {
        let bytes = bytes(n);
        bencher.bench(|| base64(black_box(&bytes)));
    }

    #[divan::bench(args = SIZES)]
    fn base64_near(bencher: Bencher<'_, '_>, n: usize) {
        let bytes = bytes(n);
        bencher.bench(|| to_base64(black_box(&bytes)));
    }

    #[divan::bench]
    fn ed25519_aws_lc(bencher: Bencher<'_, '_>) {
        let key = Ed25519KeyPair::from_seed_unchecked(&seed()).unwrap();
        bencher.bench(|| key.sign(black_box(&[7; 32])));
    }

    #[divan::bench]
    fn ed25519_dalek(bencher: Bencher<'_, '_>) {
        let key = SigningKey::from_bytes(&seed());
        bencher.bench(|| key.sign(black_box(&[7; 32])));
    }

    #[divan::bench]
    fn ed25519_near_crypto(bencher: Bencher<'_, '_>) {
        let key = secret();
        bencher.bench(|| key.sign(black_box(&[7; 32])));
    }
}

/// The two ways by turns, so that whatever else the machine does meets both.
fn compare() {
    println!("\ntransfers   keyshard us   near us   ratio (medians of turns)");
    for n in SIZES {
        let (near, keyshard, transfers) = (Near::new(), rig(), transfers(n));
        let mut turns = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < COMPARE {
            let ours = time(|| sign(&keyshard, black_box(&transfers)));
            let plain = time(|| near.sign(black_box(&transfers)));
            turns.push((ours, plain));
        }
        let median = |of: fn(&(f64, f64)) -> f64| {
            let mut values: Vec<f64> = turns.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        println!(
            "{n:>9} {:>13.2} {:>9.2} {:>7.3}",
            median(|turn| turn.0),
            median(|turn| turn.1),
            median(|turn| turn.0 / turn.1)
        );
    }
}

/// Microseconds a call.
fn time(mut call: impl FnMut() -> String) -> f64 {
    const CALLS: u32 = 20;
    let begun = Instant::now();
    for _ in 0..CALLS {
        black_box(call());
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
}
