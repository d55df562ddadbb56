//! What a shard takes for the whole life of a transfer: accepted, durable, batched, signed, sent, seen executed, final, told.
//!
//! `cargo bench -p keyshard-shard --bench shard`. A driver answers at once what the journal and a node would answer; its own
//! work, and dropping what the shard has said, is in the numbers. By transfers a transaction, 1,000 transfers at a time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark may panic")]
use std::time::Duration;

use divan::{Bencher, counter::ItemsCount};
use keyshard_shard::{
    AccessKey, AskId, ChainLimits, CryptoHash, Execution, Head, Input, Instant, Level, News, Output, Query, Recovered,
    Reply, Settings, Shard, Signer, Status, StoragePolicy, Transfer, TransferId, Trust,
};
use near_crypto::{KeyType, SecretKey};

const KEYS: usize = 12;
const TRANSFERS: usize = 1_000;
const TICK: Duration = Duration::from_millis(10);

/// As the command has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 10, 100])]
fn whole_life(bencher: Bencher<'_, '_>, transfers_a_transaction: usize) {
    let mut driver = Driver::new(transfers_a_transaction);
    let mut next = 0;
    let transfers = || {
        next += TRANSFERS;
        (next - TRANSFERS..next).map(transfer).collect::<Vec<_>>()
    };
    bencher
        .counter(ItemsCount::new(TRANSFERS))
        .with_inputs(transfers)
        .bench_local_values(|transfers| driver.settle(transfers));
}

struct Driver {
    shard: Shard,
    now: Instant,
    height: u64,
    /// Answers under way.
    replies: Vec<(AskId, Reply)>,
}

impl Driver {
    fn new(max_batch: usize) -> Self {
        let key = |i| AccessKey::new(Signer::new(SecretKey::from_seed(KeyType::ED25519, &format!("key{i}"))), 1_000);
        let mut shard = Shard::new(settings(max_batch), LIMITS, (0..KEYS).map(key).collect());
        let now = Instant::from_micros(1_000_000_000);
        shard.take_over(now, Recovered::default());
        Self { shard, now, height: 1_000, replies: Vec::new() }
    }

    /// Accepts these and goes on until all are final.
    fn settle(&mut self, transfers: Vec<Transfer>) {
        self.now = self.now + TICK;
        self.height += 1;
        let head = Head {
            height: self.height,
            hash: CryptoHash::default(),
            timestamp_nanos: self.now.as_millis() * 1_000_000,
        };
        let mut open = transfers.len();
        self.shard.handle(self.now, Input::Head { head, endpoint: 0 });
        for transfer in transfers {
            self.shard.handle(self.now, Input::Accept(transfer.into()));
        }
        while open > 0 {
            self.shard.handle(self.now, Input::Tick);
            let (mut durable, mut quiet) = (None, true);
            while let Some(output) = self.shard.poll_output() {
                quiet = false;
                match output {
                    Output::Append { lsn, .. } => durable = Some(lsn),
                    Output::Send { id, .. } => self.replies.push((id, success(Level::ExecutedOptimistic))),
                    Output::Query { id, query } => self.replies.push((id, answer(&query))),
                    Output::GiveBack { .. } => panic!("nothing limits it"),
                    Output::Tell { transfers, news: News::Finalized } => open -= transfers.len(),
                    Output::Tell { .. } => {}
                }
            }
            assert!(!quiet, "{open} transfers are open, and the shard wants nothing");
            if let Some(lsn) = durable {
                self.shard.handle(self.now, Input::Durable(lsn));
            }
            for (id, reply) in self.replies.drain(..) {
                self.shard.handle(self.now, Input::Reply { id, reply });
            }
        }
    }
}

fn success(level: Level) -> Reply {
    let status = Status { level: Some(level), execution: Execution::Success, gas_burnt: Some(1_000_000_000_000) };
    Reply::Status { status, endpoint: 0 }
}

fn answer(query: &Query) -> Reply {
    match query {
        Query::Status { wait, .. } => success(*wait),
        Query::Registration { .. } => Reply::Registration(true),
        Query::TokenBalance => Reply::TokenBalance(u128::MAX),
        Query::Allowance { most, .. } => Reply::Allowance(*most),
        Query::Fate { .. } => panic!("nothing is in doubt"),
    }
}

fn transfer(i: usize) -> Transfer {
    Transfer {
        id: TransferId(i as u128),
        receiver: format!("user{}.test.near", i % 100).parse().unwrap(),
        amount: 1_000_000_000_000_000_000 + i as u128,
        memo: Some(format!("payment {i}").into()),
        key: None,
    }
}

const LIMITS: ChainLimits = ChainLimits {
    max_actions: 100,
    max_total_prepaid_gas: 1_000_000_000_000_000,
    max_gas_burnt: 1_000_000_000_000_000,
    max_transaction_size: 1_572_864,
    validity_blocks: 86_400,
};

fn settings(max_batch: usize) -> Settings {
    Settings {
        account: "payer.test.near".parse().unwrap(),
        token: "ft.test.near".parse().unwrap(),
        trust: Trust::One,
        wait_until: Level::ExecutedOptimistic,
        storage: StoragePolicy::Auto,
        storage_deposit: 1_250_000_000_000_000_000_000,
        window: 8,
        max_actions: 100,
        max_batch,
        linger: Duration::ZERO,
        max_attempts: 5,
        retry_base: Duration::from_secs(1),
        spend_limited: false,
        index: 0,
        shards: 1,
        seed: 7,
        life: 1,
        genesis: CryptoHash::default(),
    }
}
