//! How fast the chain itself is, without a server; printed, not judged: run it by hand, optimised.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Instant;

use common::{ACCOUNT, FT, ft_transfer, sign_as};
use keyshard_sandbox::Config;
use keyshard_sandbox::chain::Chain;
use keyshard_sandbox::credentials;

#[test]
#[ignore = "a measurement"]
fn transfers_a_second_unlimited() {
    let config = Config { unlimited: true, ..Config::default() };
    let mut chain = Chain::new(&config, 0);
    for block in 1..4 {
        chain.produce_block(block);
    }
    let keys: Vec<_> = (1..=config.keys).map(|index| credentials::key(config.seed, index)).collect();
    let base = chain.final_block().hash;
    let mut txs = Vec::new();
    for nonce in 1..=200 {
        for key in &keys {
            let actions = (1..=100).map(|user| ft_transfer(&format!("user{user}.test.near"), "1")).collect();
            txs.push(sign_as(ACCOUNT, key, nonce, FT, base, actions));
        }
    }
    let transfers = txs.len() * 100;
    let started = Instant::now();
    for tx in &txs {
        chain.submit(tx.clone()).unwrap();
    }
    let submitted = started.elapsed();
    let started = Instant::now();
    for block in 4..10 {
        chain.produce_block(block);
    }
    let produced = started.elapsed();
    println!(
        "{transfers} transfers: submit {submitted:?} ({:.0} a second), blocks {produced:?} ({:.0} a second)",
        transfers as f64 / submitted.as_secs_f64(),
        transfers as f64 / produced.as_secs_f64()
    );
}
