//! Clones are forks; the past is answered as it was; blocks without room delay receipts.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use common::{ACCOUNT, FT, ft_transfer, id, sign_as};
use keyshard_sandbox::Config;
use keyshard_sandbox::chain::{Chain, Patch};
use keyshard_sandbox::history::Progress;
use near_primitives::transaction::SignedTransaction;

const USER: &str = "user1.test.near";

fn chain() -> Chain {
    let mut chain = Chain::new(&Config::default(), 1_000);
    for height in 1..=3 {
        chain.produce_block(height * 1_000_000_000);
    }
    chain
}

fn pay(chain: &Chain, nonce: u64, receiver: &str) -> Arc<SignedTransaction> {
    let key = keyshard_sandbox::credentials::key(0, 1);
    sign_as(ACCOUNT, &key, nonce, FT, chain.final_block().hash, vec![ft_transfer(receiver, "5")])
}

#[test]
fn a_fork_goes_its_own_way() {
    let mut one = chain();
    let tx = pay(&one, 1, USER);
    one.insert(Arc::clone(&tx));
    let mut other = one.clone();
    one.produce_block(9_000_000_000);
    one.produce_block(10_000_000_000);
    other.produce_block(9_500_000_000);
    assert_ne!(one.history().block_at(4).unwrap().hash, other.history().block_at(4).unwrap().hash);
    assert_eq!(one.token_balance(&id(FT), &id(USER)), Some(5));
    assert_eq!(other.token_balance(&id(FT), &id(USER)), Some(0));
}

#[test]
fn progress_of_the_past_is_what_it_was_then() {
    let mut chain = chain();
    let txs = [pay(&chain, 1, USER), pay(&chain, 2, "nobody.test.near"), pay(&chain, 3, USER)];
    let mut seen: Vec<(u64, Vec<Progress>)> = Vec::new();
    for round in 0..10 {
        if let Some(tx) = txs.get(round) {
            chain.insert(Arc::clone(tx));
        }
        // Some blocks have no room for receipts.
        chain.limit_gas((1..=3).contains(&(round % 7)).then_some(0));
        chain.produce_block((round as u64 + 4) * 1_000_000_000);
        let progress = txs.iter().map(|tx| chain.history().progress(&tx.get_hash())).collect();
        seen.push((chain.head().height, progress));
    }
    assert!(seen.iter().any(|(_, progress)| progress.contains(&Progress::IncludedFinal)), "{seen:?}");
    assert!(seen.last().unwrap().1.iter().all(|progress| *progress == Progress::Final));
    let history = chain.history();
    for (height, progress) in seen {
        let head = history.block_at(height).unwrap();
        let then: Vec<_> = txs.iter().map(|tx| history.progress_at(&tx.get_hash(), head)).collect();
        assert_eq!(then, progress, "height {height}");
    }
    assert_eq!(history.transactions().count(), 3);
    assert!(history.on_chain(&txs[1].get_hash()).unwrap().ran.unwrap().result.is_err());
}

#[test]
fn tokens_can_be_taken_given_and_blocked() {
    let mut chain = chain();
    let run = |chain: &mut Chain, nonce: u64| {
        let tx = pay(chain, nonce, USER);
        chain.insert(Arc::clone(&tx));
        for _ in 0..3 {
            chain.produce_block(chain.head().timestamp_nanos + 1_000_000_000);
        }
        let result = chain.history().result(&tx.get_hash()).unwrap();
        result.as_ref().map(|_| ()).map_err(|error| format!("{error:?}"))
    };
    assert_eq!(run(&mut chain, 1), Ok(()));
    chain.patch(vec![Patch::TokenRefuses(id(FT), id(USER), true)]);
    assert!(run(&mut chain, 2).unwrap_err().contains("The receiver is blocked"));
    chain.patch(vec![Patch::TokenRefuses(id(FT), id(USER), false), Patch::TokenBalance(id(FT), id(USER), None)]);
    assert!(run(&mut chain, 3).unwrap_err().contains("is not registered"));
    chain
        .patch(vec![Patch::TokenBalance(id(FT), id(USER), Some(0)), Patch::TokenBalance(id(FT), id(ACCOUNT), Some(4))]);
    assert!(run(&mut chain, 4).unwrap_err().contains("doesn't have enough balance"));
    chain.patch(vec![Patch::TokenBalance(id(FT), id(ACCOUNT), Some(9))]);
    chain.price_calls(400);
    assert!(run(&mut chain, 5).unwrap_err().contains("Exceeded the prepaid gas"));
    chain.price_calls(100);
    assert_eq!(run(&mut chain, 6), Ok(()));
    let head = chain.head().height;
    assert_eq!(chain.token_balance_at(head, &id(FT), &id(ACCOUNT)), Some(4));
    assert_eq!(chain.token_balance_at(head - 3, &id(FT), &id(ACCOUNT)), Some(9));
    let key = keyshard_sandbox::credentials::key(0, 1).public_key();
    assert_eq!(chain.access_key_at(head, &id(ACCOUNT), &key).unwrap().nonce, 6);
    assert_eq!(chain.access_key_at(head - 3, &id(ACCOUNT), &key).unwrap().nonce, 5);
}
