//! What it takes to turn transfers into what `send_tx` takes (build, borsh, hash, sign, base64), beside the plain way with
//! near-primitives and near-crypto. Both must come to the same text; they take turns, so that whatever else the machine does
//! meets both.
use std::{
    hint::black_box,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use keyshard_engine::rig::base64;
use keyshard_shard::{Signer, Transfer, TransferId, rig::Rig};
use near_crypto::{KeyType, SecretKey};
use near_primitives::{
    action::{Action, FunctionCallAction},
    hash::CryptoHash,
    serialize::to_base64,
    transaction::{SignedTransaction, Transaction, TransactionV0},
    types::{AccountId, Balance, Gas},
};
use serde::Serialize;

use crate::{
    doubts,
    machine::Machine,
    report::{Check, FORMAT, Files, Report, Table, table},
    session::Error,
    text::{self, number, say},
};

/// At most this share of what the plain way takes, for [`FULL`] transfers.
pub const TARGET: f64 = 0.35;
/// Transfers in a full transaction.
pub const FULL: usize = 100;
/// Transfers a transaction that are measured.
const SIZES: [usize; 4] = [1, 10, 50, FULL];
/// Calls of a turn: long enough for the clock.
const CALLS: u32 = 20;
const GAS: u64 = 2_500_000_000_000;

/// The plain way.
struct Plain {
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

/// Measures each size for so long, and writes the report.
pub fn run(directory: &Path, seconds: f64) -> Result<(Report, Files), Error> {
    let mut report = Report {
        format: FORMAT,
        command: text::command(std::env::args()),
        version: env!("CARGO_PKG_VERSION").into(),
        unix_s: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        doubts: doubts::of_build().into_iter().collect(),
        machine: Machine::this(),
        ..Report::default()
    };
    let mut rows = Vec::new();
    for size in SIZES {
        let turns = turns(size, Duration::from_secs_f64(seconds))?;
        let [ours, plain, ratio] = [
            median(turns.iter().map(|turn| turn.0).collect()),
            median(turns.iter().map(|turn| turn.1).collect()),
            median(turns.iter().map(|turn| turn.0 / turn.1).collect()),
        ];
        rows.push(vec![size.to_string(), number(ours), number(plain), format!("{ratio:.3}")]);
        if size == FULL {
            report.title =
                format!("A transaction of {FULL} transfers is signed in {ratio:.2} of what the plain way takes");
            report.add("keyshard", ours, "us a transaction", Some(false));
            report.add("near-primitives and near-crypto", plain, "us a transaction", None);
            report.add("median of the turns' ratios", ratio, "times", Some(false));
            let name = format!("time for a transaction of {FULL} transfers");
            report.checks.push(Check::at_most(&name, ratio, TARGET, "of the plain way"));
        }
    }
    report.tables.push(Table {
        title: "Build, borsh, hash, sign, base64: microseconds a transaction".into(),
        columns: ["transfers", "keyshard", "plain", "ratio"].map(str::to_owned).to_vec(),
        rows,
        note: "Medians. Both ways came to the same text before they were timed.".into(),
    });
    let files = report.write(directory)?;
    say(&table::report(&report));
    say(&format!("Report  {}\nRaw     {}", files.html.display(), files.json.display()));
    Ok((report, files))
}

/// Microseconds that both take, by turns.
fn turns(size: usize, time: Duration) -> Result<Vec<(f64, f64)>, Error> {
    let bad = |name: &str| Error::Other(format!("{name} is not an account"));
    let account = |name: &str| name.parse::<AccountId>().map_err(|_| bad(name));
    let secret = || SecretKey::from_seed(KeyType::ED25519, "signer");
    let (payer, token) = (account("payer.test.near")?, account("ft.test.near")?);
    let plain = Plain { secret: secret(), account: payer.clone(), token: token.clone() };
    let rig = Rig { signer: Signer::new(secret()), account: payer, token, gas: GAS };
    let transfer = |number: usize| {
        Ok::<_, Error>(Transfer {
            id: TransferId(number as u128),
            receiver: account(&format!("user{number}.test.near"))?,
            amount: 1_000_000_000_000_000_000 + number as u128,
            memo: Some(format!("payment {number}").into()),
            key: None,
        })
    };
    let transfers = (0..size).map(transfer).collect::<Result<Vec<_>, _>>()?;
    let block = CryptoHash::hash_bytes(b"block");
    let ours = || base64(&rig.sign(1, block, black_box(&transfers)).1);
    let theirs = || plain.sign(1, block, black_box(&transfers));
    if ours() != theirs()? {
        return Err(Error::Other(format!("{size} transfers: the two ways come to different transactions")));
    }
    let mut turns = Vec::new();
    let begun = Instant::now();
    while turns.is_empty() || begun.elapsed() < time {
        let first = each_us(ours);
        turns.push((first, each_us(|| theirs().unwrap_or_default())));
    }
    Ok(turns)
}

fn each_us(mut call: impl FnMut() -> String) -> f64 {
    let begun = Instant::now();
    for _ in 0..CALLS {
        black_box(call());
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
}

impl Plain {
    fn sign(&self, nonce: u64, block_hash: CryptoHash, transfers: &[Transfer]) -> Result<String, Error> {
        let action = |transfer: &Transfer| {
            let arguments = Arguments {
                receiver_id: &transfer.receiver,
                amount: transfer.amount.to_string(),
                memo: transfer.memo.as_deref().unwrap_or_default(),
            };
            Ok::<_, std::io::Error>(Action::FunctionCall(Box::new(FunctionCallAction {
                method_name: "ft_transfer".to_owned(),
                args: serde_json::to_vec(&arguments)?,
                gas: Gas::from_gas(GAS),
                deposit: Balance::from_yoctonear(1),
            })))
        };
        let transaction = Transaction::V0(TransactionV0 {
            signer_id: self.account.clone(),
            public_key: self.secret.public_key(),
            nonce,
            receiver_id: self.token.clone(),
            block_hash,
            actions: transfers.iter().map(action).collect::<Result<_, _>>()?,
        });
        let (hash, _) = transaction.get_hash_and_size();
        let signed = SignedTransaction::new(self.secret.sign(hash.as_ref()), transaction);
        Ok(to_base64(&borsh::to_vec(&signed)?))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_ways_come_to_the_same_text_at_every_size() {
        for size in SIZES {
            let turns = turns(size, Duration::ZERO).unwrap();
            assert!(turns.len() == 1 && turns[0].0 > 0.0 && turns[0].1 > 0.0);
        }
    }
}
