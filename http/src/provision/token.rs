//! `keyshard provision token`: a token contract where `FT_CONTRACT` says, initialised, with tokens for the paying account.
use std::path::Path;

use keyshard_engine::rpc::{Account, Refusal};
use near_primitives::{
    account::{AccessKey, AccessKeyPermission},
    action::{Action, AddKeyAction, CreateAccountAction, DeployContractAction, FunctionCallAction, TransferAction},
    hash::{CryptoHash, hash},
    types::{Balance, Gas},
};
use serde_json::Value;

use super::{
    Context, Stop,
    args::ProvisionToken,
    consent::Summary,
    cost::Cost,
    node::full_access,
    sender::{Ended, send},
    signers::{self, Signer},
};
use crate::{cli::say, env::Env, near_amount::near};

/// Gas for initialising, and for minting: below what every protocol version allows a transaction.
const GAS: u64 = 100_000_000_000_000;
/// Largest contract that is read: nearcore's `max_contract_size`.
const WASM_MAX: u64 = 4 << 20;
/// How a compiled contract begins.
const MAGIC: &[u8] = b"\0asm";
/// How often the chain is looked at again after a transaction that never ran.
const ROUNDS: usize = 5;

/// What is at the token's account.
enum There {
    /// No account.
    Nothing,
    /// No contract, or one that is not initialised.
    Account { account: Account, code: bool },
    /// A token that works, and what the paying account has of it.
    Token { account: Account, balance: u128 },
}

pub(super) async fn run(env: Env, args: &ProvisionToken) -> Result<(), Stop> {
    let wasm = args.wasm.as_deref().map(read).transpose()?;
    let context = Context::new(env).await?;
    let (node, master, token) = (&context.node, context.master(), &context.config.token);
    let mut asked = false;
    let mut last = String::new();
    for _ in 0..ROUNDS {
        let there = look(&context).await?;
        let (payer, on_chain) = context.payer().await?;
        let signer = context.signers(&on_chain)?.remove(0);
        let (actions, done) = plan(&context, args, wasm.as_deref(), &there, &signer)?;
        if actions.is_empty() {
            say(&done);
            return Ok(());
        }
        let signer = if call_of_master(&actions) || matches!(there, There::Nothing) || token == master {
            signer
        } else {
            of_contract(&context).await?
        };
        let owner = if signer.account == *master { &payer } else { account_of(&there).unwrap_or(&payer) };
        if !asked {
            let cost = Cost::of(node, signer.account == *token, &actions);
            let lines = vec![
                context.place(),
                ("token", token.to_string()),
                ("will", actions.iter().map(describe).collect::<Vec<_>>().join(", ")),
                ("signed with", format!("{} of {}", signer.public_key, signer.source)),
            ];
            args.consent.ask(node, Summary { lines, cost, payer: (signer.account.as_str(), owner) })?;
            // What is minted after a deployment belongs to the same plan.
            asked = true;
        }
        match send(node, &signer, token, actions).await? {
            Ended::Landed => {}
            Ended::Failed { why, .. } if last == why => return Err(Stop::Failed(format!("{token}: {why}"))),
            Ended::Failed { why, .. } | Ended::Never(why) => last = why,
        }
    }
    Err(Stop::Failed(format!("{token} is not as it should be: {last}")))
}

/// What is missing, as the actions of one transaction, or what to say if nothing is.
fn plan(
    context: &Context,
    args: &ProvisionToken,
    wasm: Option<&[u8]>,
    there: &There,
    signer: &Signer,
) -> Result<(Vec<Action>, String), Stop> {
    let (master, token) = (context.master(), &context.config.token);
    let fill = |text: &str| text.replace("$ACCOUNT", master.as_str()).replace("$SUPPLY", &args.supply.to_string());
    let needed = || wasm.ok_or_else(|| format!("there is no contract at {token}: give one with --wasm"));
    let deploy = |code: &[u8]| Action::DeployContract(DeployContractAction { code: code.to_vec() });
    let init = || -> Result<Option<Action>, String> {
        if args.init == "none" {
            return Ok(None);
        }
        call(&args.init, &fill(&args.init_args), "--init-args", 0).map(Some)
    };
    let mut actions = Vec::new();
    match there {
        There::Nothing => {
            if !token.is_sub_account_of(&**master) {
                return Err(Stop::Failed(format!(
                    "account {token} does not exist, and only its parent can make it: {master} can make X.{master}. Set \
                     FT_CONTRACT to such a name, or make the account with a NEAR tool"
                )));
            }
            let access_key = AccessKey { nonce: 0, permission: AccessKeyPermission::FullAccess };
            let key = Action::AddKey(Box::new(AddKeyAction { public_key: signer.public_key.clone(), access_key }));
            let deposit = Balance::from_yoctonear(args.balance);
            actions.push(Action::CreateAccount(CreateAccountAction {}));
            actions.push(Action::Transfer(TransferAction { deposit }));
            actions.push(key);
            actions.push(deploy(needed()?));
            actions.extend(init()?);
        }
        There::Account { account, code: false } => {
            let code = needed()?;
            let storage = u128::from(account.storage_usage + code.len() as u64) * context.node.fees.storage_byte;
            if account.amount.saturating_add(account.locked) < storage {
                let missing = near(storage - account.amount - account.locked);
                return Err(Stop::Failed(format!("{token} must hold {missing} more for the contract's storage")));
            }
            actions.push(deploy(code));
            actions.extend(init()?);
        }
        There::Account { code: true, .. } => match init()? {
            Some(init) => actions.push(init),
            None => {
                return Ok((actions, format!("{token} has a contract; it is not initialised, as --init none asks")));
            }
        },
        There::Token { account, balance } => {
            if let Some(wasm) = wasm
                && account.code_hash != hash(wasm).to_string()
            {
                say(&format!("{token} has another contract than --wasm: it is left as it is"));
            }
            match (&args.mint, args.hold) {
                (Some(mint), Some(hold)) if hold > *balance => {
                    let arguments = fill(&args.mint_args).replace("$AMOUNT", &(hold - balance).to_string());
                    actions.push(call(mint, &arguments, "--mint-args", args.mint_deposit)?);
                }
                _ => {
                    return Ok((
                        actions,
                        format!("{token} is a token, {master} holds {balance} of it: nothing is missing"),
                    ));
                }
            }
        }
    }
    Ok((actions, String::new()))
}

/// Whether this is one call alone, which anybody may sign.
fn call_of_master(actions: &[Action]) -> bool {
    matches!(actions, [Action::FunctionCall(_)])
}

/// Who may deploy at the token's account: a key of it that is known here.
async fn of_contract(context: &Context) -> Result<Signer, Stop> {
    let token = &context.config.token;
    let on_chain = context.node.keys(token).await?;
    // The contract's account has the key that made it, or one of its own among the NEAR tools' files.
    let own = signers::find(&context.env, context.master(), &on_chain, None, None);
    let found = match own {
        Ok(found) => found,
        Err(_) => signers::find(&context.env, token, &on_chain, None, None)?,
    };
    let signer = found.into_iter().find(|signer| full_access(&on_chain, &signer.public_key) == Some(true));
    let signer = signer.ok_or_else(|| format!("no full-access key of {token} is known here"))?;
    Ok(Signer { account: token.clone(), ..signer })
}

async fn look(context: &Context) -> Result<There, Stop> {
    let (node, token) = (&context.node, &context.config.token);
    let Some(account) = node.account(token).await? else { return Ok(There::Nothing) };
    if account.code_hash == CryptoHash::default().to_string() {
        return Ok(There::Account { account, code: false });
    }
    let args = format!(r#"{{"account_id":"{}"}}"#, context.master());
    match node.view(token, "ft_balance_of", &args).await? {
        Ok(balance) => {
            let balance = serde_json::from_slice::<String>(&balance).ok().and_then(|text| text.parse().ok());
            let balance = balance.ok_or_else(|| format!("{token}: ft_balance_of did not answer an amount"))?;
            Ok(There::Token { account, balance })
        }
        // The words of the standard contract and of its macros.
        Err(Refusal::ContractError(text)) if text.contains("not initialized") => {
            Ok(There::Account { account, code: true })
        }
        Err(refusal) => Err(Stop::Failed(format!(
            "{token} has a contract that is no token ({}): it is left as it is. Check FT_CONTRACT",
            match &refusal {
                Refusal::ContractError(text) => text.as_str(),
                other => other.name(),
            }
        ))),
    }
}

fn account_of(there: &There) -> Option<&Account> {
    match there {
        There::Nothing => None,
        There::Account { account, .. } | There::Token { account, .. } => Some(account),
    }
}

fn call(method: &str, args: &str, flag: &str, deposit: u128) -> Result<Action, String> {
    let value: Value = serde_json::from_str(args).map_err(|error| format!("{flag} is not JSON: {error}"))?;
    Ok(Action::FunctionCall(Box::new(FunctionCallAction {
        method_name: method.to_owned(),
        args: value.to_string().into_bytes(),
        gas: Gas::from_gas(GAS),
        deposit: Balance::from_yoctonear(deposit),
    })))
}

fn describe(action: &Action) -> String {
    match action {
        Action::CreateAccount(_) => "make the account".to_owned(),
        Action::Transfer(transfer) => format!("give it {}", near(transfer.deposit.as_yoctonear())),
        Action::AddKey(_) => "give it the signing key".to_owned(),
        Action::DeployContract(deploy) => format!("deploy {} bytes of wasm", deploy.code.len()),
        Action::FunctionCall(call) => {
            format!("call {} with {}", call.method_name, String::from_utf8_lossy(&call.args))
        }
        _ => "something else".to_owned(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let name = path.display();
    let size = std::fs::metadata(path).map_err(|error| format!("{name} cannot be read: {error}"))?.len();
    if size > WASM_MAX {
        return Err(format!("{name} has {size} bytes, a contract has at most {WASM_MAX}"));
    }
    let code = std::fs::read(path).map_err(|error| format!("{name} cannot be read: {error}"))?;
    if !code.starts_with(MAGIC) {
        return Err(format!("{name} is not a compiled contract (wasm)"));
    }
    Ok(code)
}
