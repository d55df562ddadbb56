//! `keyshard keys retire`: takes an access key away, if nothing needs it.
use keyshard_engine::rpc::Permission;
use near_primitives::action::{Action, DeleteKeyAction};

use super::{
    Context, Stop,
    args::RetireKey,
    consent::Summary,
    cost::Cost,
    in_flight::{Look, look},
    node::full_access,
    now,
    sender::{Ended, send},
    signers,
};
use crate::{cli::say, env::Env, key_file::KeyFile, key_sources};

/// Most hashes that a refusal names.
const SHOWN: usize = 10;
/// How often the chain is looked at again.
const ROUNDS: usize = 5;

pub(super) async fn run(env: Env, args: &RetireKey) -> Result<(), Stop> {
    let key = &args.public_key;
    let path = args.file.clone().or_else(|| env.get(key_sources::FILE).map(Into::into)).filter(|path| path.exists());
    let mut file = match &path {
        Some(path) if !args.consent.dry_run => Some(KeyFile::lock(path)?),
        _ => None,
    };
    let context = Context::new(env).await?;
    let (node, master, data_dir) = (&context.node, context.master(), &context.config.data_dir);
    // Held to the end: no service may sign with the key meanwhile.
    let look = look(data_dir, node.genesis)?;
    match &look {
        Look::Running => {
            return Err(Stop::Failed(format!(
                "a service runs on {}: stop it first (SIGTERM settles what is accepted), or transactions of this key could \
                 be in flight",
                data_dir.display()
            )));
        }
        Look::Nothing if !args.without_data_dir => {
            return Err(Stop::Failed(format!(
                "there is no data directory {}: run this where the service runs, or set DATA_DIR; --without-data-dir if no \
                 service has anything in flight with this key",
                data_dir.display()
            )));
        }
        Look::Nothing => {}
        Look::Stopped(in_flight) => {
            if let Some(open) = in_flight.by_key.get(&key.to_string()) {
                let shown: Vec<_> = open.iter().take(SHOWN).map(ToString::to_string).collect();
                return Err(Stop::Failed(format!(
                    "{} transactions of this key are in flight: {}. Start the service with this key, let it settle them, stop \
                     it, and run this again",
                    open.len(),
                    shown.join(", ")
                )));
            }
        }
    }
    let mut asked = false;
    let mut last = String::new();
    for _ in 0..ROUNDS {
        let (payer, on_chain) = context.payer().await?;
        let Some(full) = full_access(&on_chain, key) else {
            let removed = match &mut file {
                Some(file) => file.remove(key, &format!("{key} was retired {}", now()))?,
                None => false,
            };
            let place = path.as_ref().filter(|_| removed);
            let place = place.map(|path| format!("; it was taken out of {}", path.display())).unwrap_or_default();
            say(&format!("{key} is no key of {master} on {}{place}", node.chain_id));
            return Ok(());
        };
        let others = on_chain.iter().filter(|info| info.permission == Permission::FullAccess).count();
        if full && others == 1 {
            return Err(Stop::Failed(format!(
                "{key} is the last full-access key of {master}: without one, nobody can ever sign for it again"
            )));
        }
        let signer = signers::find(&context.env, master, &on_chain, None, Some(key))?.remove(0);
        let actions = vec![Action::DeleteKey(Box::new(DeleteKeyAction { public_key: key.clone() }))];
        if !asked {
            let lines = vec![
                context.place(),
                ("account", format!("{master}, signed with {} of {}", signer.public_key, signer.source)),
                ("retires", key.to_string()),
                ("left", format!("{} full-access keys", others - usize::from(full))),
            ];
            let cost = Cost::of(node, true, &actions);
            args.consent.ask(node, Summary { lines, cost, payer: (master.as_str(), &payer) })?;
            asked = true;
        }
        match send(node, &signer, master, actions).await? {
            Ended::Landed => {}
            Ended::Failed { why, .. } | Ended::Never(why) => last = why,
        }
    }
    Err(Stop::Failed(format!("{key} could not be retired: {last}")))
}
