//! `keyshard provision accounts`: sub-accounts of the paying account, each with a key that is written down before.
use std::{cell::RefCell, collections::VecDeque, path::PathBuf, rc::Rc};

use near_primitives::{
    account::{AccessKey, AccessKeyPermission},
    action::{Action, AddKeyAction, CreateAccountAction, TransferAction},
    types::{AccountId, Balance},
};
use serde::{Deserialize, Serialize};
use tokio::task::{JoinSet, LocalSet};
use zeroize::{Zeroize, Zeroizing};

use super::{
    Context, Stop,
    args::{ProvisionAccounts, account},
    consent::Summary,
    cost::Cost,
    progress::Progress,
    sender::{Ended, send},
    signers::Signer,
};
use crate::{cli::say, env::Env, keys::parse_one, private_file, private_file::PrivateFile, secret::Secret};

/// Questions to the node under way at once: public nodes refuse much more.
pub(super) const CONCURRENCY: usize = 16;
/// Most names in the list of what went wrong.
const SHOWN: usize = 10;

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    account_id: AccountId,
    public_key: String,
    private_key: String,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.private_key.zeroize();
    }
}

pub(super) async fn run(env: Env, args: &ProvisionAccounts) -> Result<(), Stop> {
    let path = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{}.keys.jsonl", args.prefix)));
    let mut file = if args.consent.dry_run { None } else { Some(PrivateFile::lock(&path)?) };
    let context = Rc::new(Context::new(env).await?);
    let (node, master) = (&context.node, context.master());
    let names: Vec<AccountId> = (1..=args.count)
        .map(|number| account(&format!("{}-{number}.{master}", args.prefix)))
        .collect::<Result<_, _>>()
        .map_err(|why| format!("{why}: choose another --prefix"))?;
    let known = match &file {
        Some(file) => read(file.text()),
        None => private_file::read(&path).and_then(|text| read(text.as_deref().map_or("", String::as_str))),
    };
    let mut known = known.map_err(|why| format!("{} {why}", path.display()))?;

    let looked = each(&context, names, "accounts looked at", async |context, name| {
        let there = context.node.account(&name).await?.is_some();
        Ok((name, there))
    })
    .await?;
    let (there, missing): (Vec<_>, Vec<_>) = looked.into_iter().partition(|(_, there)| *there);
    let strangers = there.iter().filter(|(name, _)| !known.iter().any(|(id, _)| id == name)).count();
    if strangers > 0 {
        say(&format!("{strangers} of the accounts are there and their keys are not in {}", path.display()));
    }
    if missing.is_empty() {
        say(&format!("all {} accounts {}-*.{master} are there: nothing is missing", args.count, args.prefix));
        return Ok(());
    }
    let (payer, on_chain) = context.payer().await?;
    let signers = context.signers(&on_chain)?;
    let mut todo: VecDeque<(AccountId, Secret)> = VecDeque::new();
    let mut fresh = Vec::new();
    for (name, _) in missing {
        let key = if let Some(index) = known.iter().position(|(id, _)| *id == name) {
            known.swap_remove(index).1
        } else {
            let key = Secret::random();
            fresh.push((name.clone(), key.clone()));
            key
        };
        todo.push_back((name, key));
    }
    let mut cost = Cost::default();
    for (_, key) in &todo {
        cost += Cost::of(node, false, &create(key, args.balance));
    }
    let total = todo.len();
    let lines = vec![
        context.place(),
        (
            "accounts",
            format!("{total} of {} {}-*.{master} will be made, the others are there", args.count, args.prefix),
        ),
        ("signed with", signed_with(&signers)),
        ("file", path.display().to_string()),
        ("transactions", total.to_string()),
    ];
    args.consent.ask(node, Summary { lines, cost, payer: (master.as_str(), &payer) })?;
    if let Some(file) = &mut file {
        write(file, &fresh)?;
    }
    let failed = make(&context, signers, todo, args.balance).await?;
    if failed.is_empty() {
        say(&format!("{total} accounts made; their keys are in {}", path.display()));
        return Ok(());
    }
    let shown: Vec<_> = failed.iter().take(SHOWN).cloned().collect();
    Err(Stop::Failed(format!("{} of {total} accounts could not be made: {}", failed.len(), shown.join("; "))))
}

pub(super) fn signed_with(signers: &[Signer]) -> String {
    match signers {
        [one] => format!("{} of {}", one.public_key, one.source),
        more => format!("{} keys of {}, one transaction of each at a time", more.len(), more[0].account),
    }
}

/// Makes the accounts, one transaction of each key at a time. Returns those that could not be made, with the reason.
async fn make(
    context: &Rc<Context>,
    signers: Vec<Signer>,
    todo: VecDeque<(AccountId, Secret)>,
    balance: u128,
) -> Result<Vec<String>, Stop> {
    let progress = Rc::new(Progress::new("accounts", todo.len()));
    let todo = Rc::new(RefCell::new(todo));
    let failed = Rc::new(RefCell::new(Vec::new()));
    let worker = |signer: Signer| {
        let (context, todo, failed, progress) = (context.clone(), todo.clone(), failed.clone(), progress.clone());
        async move {
            loop {
                let Some((name, key)) = todo.borrow_mut().pop_front() else { return Ok(()) };
                match send(&context.node, &signer, &name, create(&key, balance)).await? {
                    Ended::Landed => progress.add(1),
                    Ended::Failed { why, .. } | Ended::Never(why) => {
                        // An earlier run may have been first.
                        if context.node.account(&name).await?.is_some() {
                            progress.add(1);
                        } else {
                            failed.borrow_mut().push(format!("{name}: {why}"));
                        }
                    }
                }
            }
        }
    };
    side_by_side(signers.into_iter().map(worker), || todo.borrow_mut().clear()).await?;
    Ok(failed.take())
}

/// Runs these until each has ended. If one fails, `stop` is called, so that the others end what they have begun and begin
/// nothing; the first failure is told.
async fn side_by_side<W: Future<Output = Result<(), String>> + 'static>(
    workers: impl Iterator<Item = W>,
    stop: impl Fn(),
) -> Result<(), String> {
    let all = async {
        let mut running = JoinSet::new();
        for worker in workers {
            running.spawn_local(worker);
        }
        let mut ended: Result<(), String> = Ok(());
        while let Some(one) = running.join_next().await {
            let one = one.unwrap_or_else(|error| Err(error.to_string()));
            if one.is_err() {
                stop();
            }
            ended = ended.and(one);
        }
        ended
    };
    LocalSet::new().run_until(all).await
}

fn create(key: &Secret, balance: u128) -> Vec<Action> {
    let access_key = AccessKey { nonce: 0, permission: AccessKeyPermission::FullAccess };
    let mut actions = vec![
        Action::CreateAccount(CreateAccountAction {}),
        Action::AddKey(Box::new(AddKeyAction { public_key: key.public_key(), access_key })),
    ];
    if balance > 0 {
        actions.push(Action::Transfer(TransferAction { deposit: Balance::from_yoctonear(balance) }));
    }
    actions
}

/// Asks about each of these, several at a time; results in the order of the questions.
pub(super) async fn each<C: 'static, T: 'static, R: 'static>(
    context: &Rc<C>,
    items: Vec<T>,
    what: &str,
    ask: impl AsyncFn(Rc<C>, T) -> Result<R, String> + Clone + 'static,
) -> Result<Vec<R>, Stop> {
    let progress = Rc::new(Progress::new(what, items.len()));
    let results: Rc<RefCell<Vec<Option<R>>>> = Rc::new(RefCell::new(items.iter().map(|_| None).collect()));
    let todo: Rc<RefCell<VecDeque<(usize, T)>>> = Rc::new(RefCell::new(items.into_iter().enumerate().collect()));
    let worker = |_| {
        let (context, todo, results, progress) = (context.clone(), todo.clone(), results.clone(), progress.clone());
        let ask = ask.clone();
        async move {
            loop {
                let Some((index, item)) = todo.borrow_mut().pop_front() else { return Ok(()) };
                let result = ask(context.clone(), item).await?;
                results.borrow_mut()[index] = Some(result);
                progress.add(1);
            }
        }
    };
    side_by_side((0..CONCURRENCY).map(worker), || todo.borrow_mut().clear()).await?;
    Ok(results.take().into_iter().flatten().collect())
}

fn read(text: &str) -> Result<Vec<(AccountId, Secret)>, String> {
    let mut known = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let line: Line = serde_json::from_str(line)
            .map_err(|_| format!("line {number} is not an object with account_id, public_key and private_key"))?;
        let key = parse_one(&line.private_key).map_err(|why| format!("line {number}: its private_key {why}"))?;
        known.push((line.account_id.clone(), key));
    }
    Ok(known)
}

/// Adds keys; they are on the disk when this returns.
fn write(file: &mut PrivateFile, fresh: &[(AccountId, Secret)]) -> Result<(), String> {
    if fresh.is_empty() {
        return Ok(());
    }
    // A line has less: two keys, a name of at most 64 bytes, and the names of the fields.
    let mut text = Zeroizing::new(String::with_capacity(file.text().len() + 1 + fresh.len() * 400));
    text.push_str(file.text());
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for (account_id, key) in fresh {
        let line = Line {
            account_id: account_id.clone(),
            public_key: key.public_key().to_string(),
            private_key: key.expose().to_string(),
        };
        let line = Zeroizing::new(serde_json::to_string(&line).map_err(|error| error.to_string())?);
        text.push_str(&line);
        text.push('\n');
    }
    file.replace(text)
}
