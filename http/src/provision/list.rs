//! `keyshard keys list`: every access key of the paying account, on chain or configured.
use keyshard_engine::rpc::Permission;
use serde::Serialize;

use super::{
    Context, Stop,
    args::ListKeys,
    in_flight::{Look, look},
};
use crate::{cli::say, env::Env, key_sources};

/// One key.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Listed {
    public_key: String,
    /// `full-access`, `function-call`, or what else the chain says; `None` if it is not on the chain.
    permission: Option<String>,
    nonce: Option<u64>,
    /// Where it is configured.
    configured: Option<String>,
    /// Whether `serve` pays with it.
    pays: bool,
    /// Transactions in flight; `None` if a service runs, which knows.
    in_flight: Option<usize>,
}

pub(super) async fn run(env: Env, args: &ListKeys) -> Result<(), Stop> {
    let context = Context::new(env).await?;
    let (_, on_chain) = context.payer().await?;
    let look = look(&context.config.data_dir, context.node.genesis)?;
    let in_flight = |key: &str| match &look {
        Look::Nothing => Some(0),
        Look::Running => None,
        Look::Stopped(in_flight) => Some(in_flight.by_key.get(key).map_or(0, Vec::len)),
    };
    let (places, problems) = key_sources::all(&context.env, context.master());
    let served = key_sources::served(&context.env, context.master());
    let pays = |key: &str| {
        served.as_ref().is_ok_and(|place| place.keys.iter().any(|secret| secret.public_key().to_string() == key))
    };
    let mut configured: Vec<(String, String)> = Vec::new();
    for place in places {
        for key in place.keys {
            let key = key.public_key().to_string();
            if !configured.iter().any(|(known, _)| *known == key) {
                configured.push((key, place.source.clone()));
            }
        }
    }
    let mut keys: Vec<Listed> = on_chain
        .into_iter()
        .map(|key| Listed {
            permission: Some(match key.permission {
                Permission::FullAccess => "full-access".to_owned(),
                Permission::FunctionCall { .. } => "function-call".to_owned(),
                Permission::Other(text) => text,
            }),
            nonce: Some(key.nonce),
            configured: configured.iter().find(|(known, _)| *known == key.public_key).map(|(_, source)| source.clone()),
            pays: pays(&key.public_key),
            in_flight: in_flight(&key.public_key),
            public_key: key.public_key,
        })
        .collect();
    for (key, source) in configured {
        if !keys.iter().any(|listed| listed.public_key == key) {
            let (pays, in_flight) = (pays(&key), in_flight(&key));
            keys.push(Listed {
                public_key: key,
                permission: None,
                nonce: None,
                configured: Some(source),
                pays,
                in_flight,
            });
        }
    }
    if args.json {
        say(&serde_json::to_string(&keys).map_err(|error| error.to_string())?);
        return Ok(());
    }
    say(&format!("{} access keys of {} on {}:", keys.len(), context.master(), context.node.chain_id));
    for key in &keys {
        say(&line(key));
    }
    if matches!(look, Look::Running) {
        say(&format!("in flight is not told: a service runs on {}", context.config.data_dir.display()));
    }
    for problem in &problems {
        say(&format!("not read: {problem}"));
    }
    Ok(())
}

fn line(key: &Listed) -> String {
    let permission = key.permission.as_deref().unwrap_or("NOT ON CHAIN");
    let nonce = key.nonce.map_or_else(|| "-".to_owned(), |nonce| nonce.to_string());
    let in_flight = key.in_flight.map_or_else(|| "?".to_owned(), |count| count.to_string());
    let configured = match (&key.configured, key.pays) {
        (Some(source), true) => format!("pays, {source}"),
        (Some(source), false) => format!("known, {source}"),
        (None, _) => "not configured".to_owned(),
    };
    format!("{}  {permission:<13}  nonce {nonce:<16}  in flight {in_flight:<3}  {configured}", key.public_key)
}
