//! `keyshard provision storage`: registers accounts with the token (NEP-145), those that are not registered.
use std::{collections::BTreeSet, io::Read as _, rc::Rc};

use keyshard_engine::rpc::Refusal;
use near_primitives::{
    action::{Action, FunctionCallAction},
    types::{AccountId, Balance, Gas},
};
use serde::Deserialize;

use super::{
    Context, Stop,
    accounts::each,
    args::{ACCOUNTS_MAX, ProvisionStorage, account},
    consent::Summary,
    cost::Cost,
    progress::Progress,
    sender::{Ended, send},
};
use crate::{cli::say, env::Env};

/// Gas first attached to a registration: the standard contract burns 0.6 Tgas, and 100 of these fit into a transaction of
/// every protocol version.
const GAS: u64 = 3_000_000_000_000;
/// Most gas tried for one.
const GAS_MAX: u64 = 48_000_000_000_000;
/// What the virtual machine says when it was too little (nearcore `FunctionCallError`).
const OUT_OF_GAS: &str = "Exceeded the prepaid gas";
/// Longest list that is read.
const LIST_MAX: u64 = 64 << 20;
/// Most accounts in the list of what went wrong.
const SHOWN: usize = 10;
/// Transactions in a row that never ran, after which this is given up.
const NEVER_MAX: usize = 5;

/// Of NEP-145: what a registration costs at least, yoctoNEAR.
#[derive(Deserialize)]
struct Bounds {
    min: String,
}

pub(super) async fn run(env: Env, args: &ProvisionStorage) -> Result<(), Stop> {
    let accounts = read(args)?;
    let context = Rc::new(Context::new(env).await?);
    let (node, master, token) = (&context.node, context.master(), &context.config.token);
    let deposit = match node.view(token, "storage_balance_bounds", "{}").await? {
        Ok(bounds) => serde_json::from_slice::<Bounds>(&bounds)
            .ok()
            .and_then(|bounds| bounds.min.parse::<u128>().ok())
            .ok_or_else(|| {
                format!("{token} did not answer storage_balance_bounds as NEP-145 says: check FT_CONTRACT")
            })?,
        Err(Refusal::ContractError(text)) if text.contains("MethodNotFound") => {
            say(&format!("{token} has no NEP-145: nobody needs to be registered"));
            return Ok(());
        }
        Err(refusal) => {
            return Err(Stop::Failed(format!("{token} is no token: {}. Check FT_CONTRACT", refusal.name())));
        }
    };
    let count = accounts.len();
    let looked = each(&context, accounts, "accounts looked at", async |context, id| {
        let registered = is_registered(&context, &id).await?;
        Ok((id, registered))
    })
    .await?;
    let mut todo: Vec<AccountId> = looked.into_iter().filter(|(_, known)| !known).map(|(id, _)| id).collect();
    if todo.is_empty() {
        say(&format!("all {count} accounts are registered with {token}: nothing is missing"));
        return Ok(());
    }
    let (payer, on_chain) = context.payer().await?;
    let signers = context.signers(&on_chain)?;
    let signer = &signers[0];
    let mut gas = GAS;
    let mut cost = Cost::default();
    let batches = todo.chunks(batch_size(&context, gas));
    batches.clone().for_each(|batch| cost += Cost::of(node, false, &register(batch, deposit, gas)));
    let lines = vec![
        context.place(),
        ("token", token.to_string()),
        ("accounts", format!("{} of {count} will be registered, the others are", todo.len())),
        ("signed with", format!("{} of {}", signer.public_key, signer.source)),
        ("transactions", batches.len().to_string()),
    ];
    args.consent.ask(node, Summary { lines, cost, payer: (master.as_str(), &payer) })?;

    let total = todo.len();
    let progress = Progress::new("registrations", total);
    let (mut bad, mut never) = (Vec::new(), 0);
    while !todo.is_empty() {
        let size = batch_size(&context, gas).min(todo.len());
        match send(node, signer, token, register(&todo[..size], deposit, gas)).await? {
            Ended::Landed => {
                todo.drain(..size);
                progress.add(size);
                never = 0;
            }
            Ended::Failed { why, .. } if why.contains(OUT_OF_GAS) && gas < GAS_MAX => {
                gas = (gas * 2).min(GAS_MAX);
                progress.say(&format!(
                    "{} Tgas are too little for a registration: trying {}",
                    gas / 2_000_000_000_000,
                    gas / 1_000_000_000_000
                ));
            }
            // It was undone as a whole: without the one that failed it is tried again.
            Ended::Failed { index: Some(index), why } if index < size => {
                let id = todo.remove(index);
                bad.push(format!("{id}: {why}"));
            }
            Ended::Failed { why, .. } => return Err(Stop::Failed(format!("{} are not registered: {why}", todo.len()))),
            Ended::Never(why) => {
                never += 1;
                if never == NEVER_MAX {
                    return Err(Stop::Failed(format!("{} are not registered: {why}", todo.len())));
                }
            }
        }
    }
    drop(progress);
    if bad.is_empty() {
        say(&format!("{total} accounts registered with {token}"));
        return Ok(());
    }
    let shown: Vec<_> = bad.iter().take(SHOWN).cloned().collect();
    Err(Stop::Failed(format!("{} of {total} accounts could not be registered: {}", bad.len(), shown.join("; "))))
}

/// Whether `storage_balance_of` says that there is one.
async fn is_registered(context: &Context, id: &AccountId) -> Result<bool, String> {
    let args = format!(r#"{{"account_id":"{id}"}}"#);
    match context.node.view(&context.config.token, "storage_balance_of", &args).await? {
        Ok(balance) => Ok(balance.trim_ascii() != b"null"),
        Err(refusal) => Err(format!("storage_balance_of of {id} failed: {}", refusal.name())),
    }
}

/// How many registrations a transaction can carry.
fn batch_size(context: &Context, gas: u64) -> usize {
    let by_gas = usize::try_from(context.node.limits.max_total_prepaid_gas / gas).unwrap_or(usize::MAX);
    context.node.actions_max().min(by_gas).max(1)
}

fn register(accounts: &[AccountId], deposit: u128, gas: u64) -> Vec<Action> {
    let action = |id: &AccountId| {
        Action::FunctionCall(Box::new(FunctionCallAction {
            method_name: "storage_deposit".to_owned(),
            args: format!(r#"{{"account_id":"{id}","registration_only":true}}"#).into_bytes(),
            gas: Gas::from_gas(gas),
            deposit: Balance::from_yoctonear(deposit),
        }))
    };
    accounts.iter().map(action).collect()
}

/// The accounts in the list, each once.
fn read(args: &ProvisionStorage) -> Result<Vec<AccountId>, Stop> {
    let name = args.accounts.display();
    let mut text = String::new();
    let read = if args.accounts.as_os_str() == "-" {
        std::io::stdin().lock().take(LIST_MAX + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(&args.accounts).and_then(|file| file.take(LIST_MAX + 1).read_to_string(&mut text))
    };
    read.map_err(|error| format!("{name} cannot be read: {error}"))?;
    // The list may be the file that `provision accounts` has written: the keys in it are of no use here.
    let text = zeroize::Zeroizing::new(text);
    if text.len() as u64 > LIST_MAX {
        return Err(Stop::Failed(format!("{name} is longer than {LIST_MAX} bytes")));
    }
    Ok(parse(&text).map_err(|why| format!("{name}, {why}"))?)
}

fn parse(text: &str) -> Result<Vec<AccountId>, String> {
    #[derive(Deserialize)]
    struct Line {
        account_id: String,
    }
    let (mut accounts, mut seen) = (Vec::new(), BTreeSet::new());
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim().trim_end_matches(',');
        if line.is_empty() {
            continue;
        }
        let id = if line.starts_with('{') {
            let line: Line = serde_json::from_str(line).map_err(|_| format!("line {number}: no account_id in it"))?;
            account(&line.account_id)
        } else if line.contains(':') {
            // Not repeated: it may be a key.
            Err("that is no NEAR account id".to_owned())
        } else {
            account(line)
        };
        let id = id.map_err(|why| format!("line {number}: {why}"))?;
        if seen.insert(id.clone()) {
            accounts.push(id);
        }
        if accounts.len() > ACCOUNTS_MAX {
            return Err(format!("there are more than {ACCOUNTS_MAX} accounts"));
        }
    }
    if accounts.is_empty() {
        return Err("there is no account in it".to_owned());
    }
    Ok(accounts)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn lists() {
        let text = "# receivers\na.near\n\n  b.near # two\n{\"account_id\":\"c.near\",\"private_key\":\"x\"}\na.near\n";
        assert_eq!(parse(text).unwrap(), ["a.near", "b.near", "c.near"]);
        for (text, says) in [
            ("", "no account"),
            ("a.near\nA B\n", "line 2: \"A B\""),
            ("{}", "line 1: no account_id"),
            ("a.near\ned25519:3xk2", "line 2: that is no"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says) && !error.contains("3xk2"), "{error}");
        }
    }
}
