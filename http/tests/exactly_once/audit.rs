//! What the chain's blocks say was paid, and whether that is what clients were told.
//!
//! It knows a node's address and the token's name, nothing of the service, and speaks plain JSON-RPC, so that no mistake
//! of the service's own client is repeated here.
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    time::{Duration, Instant},
};

use near_primitives::serialize::{from_base64, to_base64};
use serde_json::{Value, json};

/// Final blocks without a transaction to the token after which the chain counts as done. What a node's pool holds comes
/// with the next block, or with one of the next few when blocks are full.
const QUIET_BLOCKS: u64 = 3;
/// Longest wait for the chain to become quiet, or for a transaction to become final.
const PATIENCE: Duration = Duration::from_mins(2);
/// Pause between two looks at the chain.
const LOOK: Duration = Duration::from_millis(50);
/// Most findings of a kind that are shown.
const SHOWN: usize = 10;

/// One `ft_transfer` in a transaction on chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) memo: String,
    pub(crate) receiver: String,
    pub(crate) amount: u128,
}

/// A transaction to the token.
#[derive(Debug, Clone)]
pub(crate) struct Transaction {
    pub(crate) hash: String,
    pub(crate) signer: String,
    pub(crate) height: u64,
    pub(crate) transfers: Vec<Transfer>,
    /// Receivers it registered.
    pub(crate) deposits: Vec<String>,
    /// Whether it succeeded as a whole, at finality: else none of its transfers has landed.
    pub(crate) landed: bool,
}

/// How a client was told that its transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Paid: it must be on chain once.
    Paid,
    /// Not accepted, or failed for good: it must never be on chain.
    Failed,
    /// Nothing, for the connection broke: it may be on chain once.
    Nothing,
}

/// A transfer as its client knows it. Its memo is its name.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) transfer: Transfer,
    pub(crate) told: Told,
}

/// The judgement. All four lists are empty where every transfer was paid exactly once and every client told the truth.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Told paid, and not on chain.
    pub(crate) lost: Vec<String>,
    /// More than once on chain.
    pub(crate) doubled: Vec<String>,
    /// On chain with another receiver or amount, or although told failed, or asked for by nobody.
    pub(crate) wrong: Vec<String>,
    /// Balances that are not what the landed transfers make them.
    pub(crate) balances: Vec<String>,
    /// Transfers on chain.
    pub(crate) landed: usize,
    /// Those of them whose client was told nothing.
    pub(crate) unheard: usize,
    /// How many landed transactions carry so many transfers.
    pub(crate) sizes: BTreeMap<usize, usize>,
    /// Transactions on chain that failed.
    pub(crate) failed_transactions: usize,
    /// Registrations in landed transactions, by account.
    pub(crate) deposits: BTreeMap<String, usize>,
}

/// Reads a chain from the block at which it was made.
pub(crate) struct Auditor {
    client: reqwest::Client,
    rpc: String,
    token: String,
    /// Balances at the start: nodes soon forget old states. An account that is not here had none.
    before: BTreeMap<String, u128>,
    walked: u64,
    transactions: Vec<Transaction>,
}

impl Auditor {
    /// Audits what comes after the present final block. `accounts` are all that have tokens already.
    pub(crate) async fn new(rpc: &str, token: &str, accounts: impl IntoIterator<Item = &String>) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        let (before, transactions) = (BTreeMap::new(), Vec::new());
        let mut auditor = Self { client, rpc: rpc.into(), token: token.into(), before, walked: 0, transactions };
        auditor.walked = auditor.height("final").await;
        for account in accounts {
            let balance = auditor.balance(account, auditor.walked).await;
            auditor.before.insert(account.clone(), balance);
        }
        auditor
    }

    /// Waits until the chain is quiet, then compares it with what clients were told.
    pub(crate) async fn report(mut self, claims: &[Claim]) -> Report {
        let end = self.finish().await;
        let mut report = judge(claims, &self.transactions);
        self.compare_balances(claims, end, &mut report).await;
        report
    }

    /// What an account has of the token after the block at this height.
    pub(crate) async fn balance(&self, account: &str, height: u64) -> u128 {
        let args = to_base64(json!({ "account_id": account }).to_string().as_bytes());
        let question = json!({
            "request_type": "call_function", "block_id": height,
            "account_id": self.token, "method_name": "ft_balance_of", "args_base64": args,
        });
        let answer = self.must("query", question).await;
        let bytes: Vec<u8> = serde_json::from_value(answer["result"].clone()).unwrap_or_else(|_| panic!("{answer}"));
        let text: String = serde_json::from_slice(&bytes).unwrap();
        text.parse().unwrap()
    }

    /// Walks until all is final and nothing more comes. Returns the height whose state holds exactly what was read.
    async fn finish(&mut self) -> u64 {
        let quiet_from = self.height("optimistic").await + QUIET_BLOCKS;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let last = self.height("final").await;
            self.walk(last).await;
            let latest = self.transactions.last().map_or(0, |transaction| transaction.height);
            if last >= quiet_from && latest + QUIET_BLOCKS <= last {
                self.conclude().await;
                // Their receipts may have been executed after `last`, but not after the block that is final now.
                let end = self.height("final").await;
                let known = self.transactions.len();
                self.walk(end).await;
                if self.transactions.len() == known {
                    return end;
                }
            }
            assert!(Instant::now() < deadline, "the chain does not become quiet");
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn walk(&mut self, last: u64) {
        while self.walked < last {
            self.walked += 1;
            let height = self.walked;
            let block = match self.call("block", json!({ "block_id": height })).await {
                Ok(block) => block,
                // Not every height has a block.
                Err(error) if error["cause"]["name"] == "UNKNOWN_BLOCK" => continue,
                Err(error) => panic!("block {height}: {error}"),
            };
            for header in block["chunks"].as_array().unwrap() {
                // A shard without a new chunk shows its last one again.
                if header["height_included"] != height {
                    continue;
                }
                let chunk = self.must("chunk", json!({ "chunk_id": header["chunk_hash"] })).await;
                for transaction in chunk["transactions"].as_array().unwrap() {
                    if transaction["receiver_id"] == self.token.as_str() {
                        self.transactions.push(read(transaction, height));
                    }
                }
            }
        }
    }

    /// Asks how every transaction ended, at finality.
    async fn conclude(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        for index in 0..self.transactions.len() {
            let Transaction { hash, signer, .. } = &self.transactions[index];
            let question = json!({ "tx_hash": hash, "sender_account_id": signer, "wait_until": "NONE" });
            let answer = loop {
                let answer = self.must("tx", question.clone()).await;
                if answer["final_execution_status"] == "FINAL" {
                    break answer;
                }
                assert!(Instant::now() < deadline, "{hash} does not become final: {answer}");
                tokio::time::sleep(LOOK).await;
            };
            let status = &answer["status"];
            let landed = status.get("SuccessValue").is_some();
            assert!(landed || status.get("Failure").is_some(), "{hash}: {status}");
            self.transactions[index].landed = landed;
        }
    }

    /// Holds every balance against the landed transfers: the receivers' and the payers'.
    async fn compare_balances(&self, claims: &[Claim], end: u64, report: &mut Report) {
        let mut changes: BTreeMap<&str, i128> = BTreeMap::new();
        for claim in claims {
            changes.entry(&claim.transfer.receiver).or_default();
        }
        for transaction in &self.transactions {
            for transfer in transaction.transfers.iter().filter(|_| transaction.landed) {
                let amount = i128::try_from(transfer.amount).unwrap();
                *changes.entry(&transfer.receiver).or_default() += amount;
                *changes.entry(&transaction.signer).or_default() -= amount;
            }
        }
        for (account, change) in changes {
            let before = i128::try_from(self.before.get(account).copied().unwrap_or_default()).unwrap();
            let after = i128::try_from(self.balance(account, end).await).unwrap();
            if after - before != change {
                let found = format!("{account} has {before}{:+} and not {before}{change:+}", after - before);
                report.balances.push(found);
            }
        }
    }

    async fn height(&self, finality: &str) -> u64 {
        let block = self.must("block", json!({ "finality": finality })).await;
        block["header"]["height"].as_u64().unwrap()
    }

    async fn must(&self, method: &str, params: Value) -> Value {
        self.call(method, params.clone()).await.unwrap_or_else(|error| panic!("{method} {params}: {error}"))
    }

    async fn call(&self, method: &str, params: Value) -> Result<Value, Value> {
        let question = json!({ "jsonrpc": "2.0", "id": "audit", "method": method, "params": params });
        let answer = self.client.post(&self.rpc).json(&question).send().await.unwrap();
        let mut answer: Value = answer.json().await.unwrap();
        match answer.get_mut("result") {
            Some(result) => Ok(result.take()),
            None => Err(answer["error"].take()),
        }
    }
}

/// A transaction as `chunk` shows it.
fn read(transaction: &Value, height: u64) -> Transaction {
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no text in {transaction}")).to_owned();
    let mut found = Transaction {
        hash: text(&transaction["hash"]),
        signer: text(&transaction["signer_id"]),
        height,
        transfers: Vec::new(),
        deposits: Vec::new(),
        landed: false,
    };
    for action in transaction["actions"].as_array().unwrap() {
        let Some(call) = action.get("FunctionCall") else { continue };
        let args = from_base64(&text(&call["args"])).unwrap();
        let args: Value = serde_json::from_slice(&args).unwrap();
        match call["method_name"].as_str() {
            Some("ft_transfer") => found.transfers.push(Transfer {
                memo: args["memo"].as_str().unwrap_or_default().to_owned(),
                receiver: text(&args["receiver_id"]),
                amount: text(&args["amount"]).parse().unwrap(),
            }),
            Some("storage_deposit") => found.deposits.push(text(&args["account_id"])),
            _ => {}
        }
    }
    found
}

/// Compares what clients were told with what is on chain. Pure.
pub(crate) fn judge(claims: &[Claim], transactions: &[Transaction]) -> Report {
    let mut report = Report::default();
    let mut on_chain: HashMap<&str, Vec<(&Transfer, &Transaction)>> = HashMap::new();
    for transaction in transactions {
        if !transaction.landed {
            report.failed_transactions += 1;
            continue;
        }
        *report.sizes.entry(transaction.transfers.len()).or_default() += 1;
        for account in &transaction.deposits {
            *report.deposits.entry(account.clone()).or_default() += 1;
        }
        for transfer in &transaction.transfers {
            report.landed += 1;
            on_chain.entry(&transfer.memo).or_default().push((transfer, transaction));
        }
    }
    let mut claimed = BTreeSet::new();
    for Claim { transfer, told } in claims {
        assert!(claimed.insert(transfer.memo.as_str()), "two claims with the memo {:?}", transfer.memo);
        let found = on_chain.get(transfer.memo.as_str()).map(Vec::as_slice).unwrap_or_default();
        match (told, found.len()) {
            (Told::Paid, 0) => report.lost.push(transfer.memo.clone()),
            (Told::Failed, 1..) => {
                report.wrong.push(format!("{} was told to have failed, and is {}", transfer.memo, places(found)));
            }
            (Told::Nothing, 1..) => report.unheard += 1,
            _ => {}
        }
        if found.len() > 1 {
            report.doubled.push(format!("{} is {}", transfer.memo, places(found)));
        }
        for (other, transaction) in found {
            if *other != transfer {
                report.wrong.push(format!("{transfer:?} is {other:?} in {}", transaction.hash));
            }
        }
    }
    for (memo, found) in &on_chain {
        if !claimed.contains(memo) {
            report.wrong.push(format!("{memo:?}, asked for by nobody, is {}", places(found)));
        }
    }
    report
}

fn places(found: &[(&Transfer, &Transaction)]) -> String {
    let all: Vec<_> = found.iter().map(|(_, at)| format!("in {} at height {}", at.hash, at.height)).collect();
    all.join(" and ")
}

impl Report {
    pub(crate) fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.wrong.is_empty() && self.balances.is_empty()
    }

    /// Landed transactions with at least one transfer.
    pub(crate) fn transactions(&self) -> usize {
        self.sizes.iter().filter(|(size, _)| **size > 0).map(|(_, count)| count).sum()
    }

    /// Transfers a landed transaction, on average.
    pub(crate) fn transfers_per_transaction(&self) -> f64 {
        self.landed as f64 / self.transactions().max(1) as f64
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transactions, each) = (self.transactions(), self.transfers_per_transaction());
        write!(f, "landed {}, lost {}, doubled {}", self.landed, self.lost.len(), self.doubled.len())?;
        write!(f, ", wrong {}, balances off {}", self.wrong.len(), self.balances.len())?;
        write!(f, ", {transactions} transactions with {each:.1} transfers each, {} failed", self.failed_transactions)?;
        for (kind, list) in
            [("lost", &self.lost), ("doubled", &self.doubled), ("wrong", &self.wrong), ("balance", &self.balances)]
        {
            for finding in list.iter().take(SHOWN) {
                write!(f, "\n  {kind}: {finding}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(memo: &str, amount: u128) -> Transfer {
        Transfer { memo: memo.into(), receiver: "user1.test.near".into(), amount }
    }

    fn transaction(landed: bool, transfers: &[Transfer]) -> Transaction {
        Transaction {
            hash: "HASH".into(),
            signer: "test.near".into(),
            height: 7,
            transfers: transfers.to_vec(),
            deposits: Vec::new(),
            landed,
        }
    }

    fn counts(claims: &[(Told, &Transfer)], transactions: &[Transaction]) -> (usize, usize, usize) {
        let claims: Vec<_> =
            claims.iter().map(|(told, transfer)| Claim { transfer: (*transfer).clone(), told: *told }).collect();
        let report = judge(&claims, transactions);
        (report.lost.len(), report.doubled.len(), report.wrong.len())
    }

    /// Lost, doubled, wrong: each is found, and only where it is.
    #[test]
    fn judgements() {
        let (a, b) = (transfer("a", 1), transfer("b", 2));
        let once = [transaction(true, &[a.clone(), b.clone()])];
        let failed = [transaction(false, std::slice::from_ref(&a))];
        let twice = [transaction(true, std::slice::from_ref(&a)), transaction(true, std::slice::from_ref(&a))];
        let twice_in_one = [transaction(true, &[a.clone(), a.clone()])];
        let retried = [transaction(false, std::slice::from_ref(&a)), transaction(true, std::slice::from_ref(&a))];
        let dearer = [transaction(true, &[transfer("a", 3)])];
        let elsewhere = [transaction(true, &[Transfer { receiver: "user2.test.near".into(), ..a.clone() }])];
        for (claims, transactions, expected) in [
            (&[(Told::Paid, &a), (Told::Paid, &b)][..], &once[..], (0, 0, 0)),
            (&[(Told::Paid, &a), (Told::Nothing, &b)], &once, (0, 0, 0)),
            (&[(Told::Paid, &a), (Told::Failed, &b)], &once, (0, 0, 1)),
            (&[(Told::Paid, &a)], &once, (0, 0, 1)),
            (&[(Told::Paid, &a)], &[], (1, 0, 0)),
            (&[(Told::Paid, &a)], &failed, (1, 0, 0)),
            (&[(Told::Failed, &a)], &failed, (0, 0, 0)),
            (&[(Told::Nothing, &a)], &[], (0, 0, 0)),
            (&[(Told::Paid, &a)], &twice, (0, 1, 0)),
            (&[(Told::Paid, &a)], &twice_in_one, (0, 1, 0)),
            (&[(Told::Nothing, &a)], &twice, (0, 1, 0)),
            (&[(Told::Failed, &a)], &twice, (0, 1, 1)),
            (&[(Told::Paid, &a)], &retried, (0, 0, 0)),
            (&[(Told::Paid, &a)], &dearer, (0, 0, 1)),
            (&[(Told::Paid, &a)], &elsewhere, (0, 0, 1)),
        ] {
            assert_eq!(counts(claims, transactions), expected, "{claims:?} on {transactions:?}");
        }
    }

    #[test]
    fn sizes_count_landed_transactions_only() {
        let (a, b) = (transfer("a", 1), transfer("b", 2));
        let transactions = [transaction(true, &[a, b]), transaction(true, &[]), transaction(false, &[])];
        let report = judge(&[], &transactions);
        assert_eq!((report.transactions(), report.landed, report.failed_transactions), (1, 2, 1));
        assert!((report.transfers_per_transaction() - 2.0).abs() < f64::EPSILON);
    }
}
