//! `keyshard provision keys`: access keys for the service, each of them in the file before it is on the chain.
use near_primitives::{
    account::{AccessKey, AccessKeyPermission},
    action::{Action, AddKeyAction},
};

use super::{
    Context, Stop,
    args::ProvisionKeys,
    consent::Summary,
    cost::Cost,
    file_of,
    node::full_access,
    now,
    progress::Progress,
    sender::{Ended, send},
};
use crate::{cli::say, env::Env, key_file, key_file::KeyFile, key_sources, secret::Secret};

/// How often the chain is looked at again after a transaction that did not land, before this is given up.
const ROUNDS: usize = 5;

pub(super) async fn run(env: Env, args: &ProvisionKeys) -> Result<(), Stop> {
    let path = file_of(args.file.as_ref(), &env, key_sources::FILE)?;
    // A dry run makes no file.
    let mut file = if args.consent.dry_run { None } else { Some(KeyFile::lock(&path)?) };
    let context = Context::new(env).await?;
    let (node, master) = (&context.node, context.master());
    let mut asked = false;
    let mut last = String::new();
    for _ in 0..ROUNDS {
        let (payer, on_chain) = context.payer().await?;
        let known: Vec<Secret> = match &file {
            Some(file) => file.keys().to_vec(),
            None if path.exists() => key_file::read(&path).map_err(|why| format!("{} {why}", path.display()))?,
            None => Vec::new(),
        };
        let ready = known.iter().filter(|key| full_access(&on_chain, &key.public_key()) == Some(true)).count();
        if ready >= args.count {
            say(&format!("{ready} keys of {} are full-access keys of {master}: nothing is missing.", path.display()));
            return Ok(());
        }
        // Written down before, and not on the chain: an earlier run was interrupted.
        let waiting = known.iter().filter(|key| full_access(&on_chain, &key.public_key()).is_none()).cloned();
        let mut missing: Vec<Secret> = waiting.take(args.count - ready).collect();
        let left_over = missing.len();
        let fresh: Vec<Secret> = (ready + left_over..args.count).map(|_| Secret::random()).collect();
        missing.extend(fresh.iter().cloned());
        let signers = context.signers(&on_chain)?;
        let signer = &signers[0];
        if !asked {
            let batches = missing.chunks(node.actions_max());
            let mut cost = Cost::default();
            batches.clone().for_each(|batch| cost += Cost::of(node, true, &add(batch)));
            let mut lines = vec![
                context.place(),
                ("account", format!("{master}, signed with {} of {}", signer.public_key, signer.source)),
                ("file", path.display().to_string()),
                ("keys", format!("{ready} of {} are there, {} will be added", args.count, missing.len())),
                ("transactions", batches.len().to_string()),
            ];
            if left_over > 0 {
                lines.push(("of them", format!("{left_over} that the file has already, and the chain has not")));
            }
            args.consent.ask(node, Summary { lines, cost, payer: (master.as_str(), &payer) })?;
            asked = true;
        }
        if let (Some(file), false) = (&mut file, fresh.is_empty()) {
            file.add(&fresh, &format!("of {master} on {}, made {}", node.chain_id, now()))?;
        }
        let progress = Progress::new("keys", missing.len());
        for batch in missing.chunks(node.actions_max()) {
            match send(node, signer, master, add(batch)).await? {
                Ended::Landed => progress.add(batch.len()),
                // Whoever came first: the next look at the chain tells.
                Ended::Failed { why, .. } | Ended::Never(why) => {
                    last = why;
                    break;
                }
            }
        }
    }
    Err(Stop::Failed(format!(
        "not all keys could be added to {master}: {last}. Those that are missing are in {} and will be added by the next run",
        path.display()
    )))
}

fn add(keys: &[Secret]) -> Vec<Action> {
    let action = |key: &Secret| {
        // The nonce is the chain's choice: what is given here counts for nothing.
        let access_key = AccessKey { nonce: 0, permission: AccessKeyPermission::FullAccess };
        Action::AddKey(Box::new(AddKeyAction { public_key: key.public_key(), access_key }))
    };
    keys.iter().map(action).collect()
}
