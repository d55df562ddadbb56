//! Mock mode, for `SKIP_NEAR_INIT=true` or `MOCK_NEAR=true`: the service as it is, on a chain of its own in this process.
//!
//! No network, no keys, nothing is paid. Everything else is real: transfers are journalled, signed, executed and followed to
//! FINAL, and a restart finishes what it finds open. The chain itself is gone at the end. The next one has the same name and
//! begins above it, so that what was signed for the old one is soon proven expired, and is signed anew.
use std::{path::Path, time::Duration};

use keyshard_sandbox::{Config, Sandbox, StartError};

use crate::{dev, env::Env};

/// The settings that ask for it.
const ASKING: [&str; 2] = ["SKIP_NEAR_INIT", "MOCK_NEAR"];
/// Settings that name the real chain, and are not looked at.
const UNUSED: [&str; 10] = [
    "FASTNEAR_API_KEY",
    "FT_CONTRACT",
    "MASTER_ACCOUNT",
    "MASTER_ACCOUNT_PRIVATE_KEY",
    "MASTER_ACCOUNT_PRIVATE_KEYS",
    "MASTER_ACCOUNT_PRIVATE_KEYS_FILE",
    "NODE_URL",
    "RPC_HEADERS",
    "RPC_TRUST",
    "RPC_URLS",
];
/// Its journal and history are apart from those of real payments.
const DIRECTORY: &str = "mock";
const BLOCK_MS: u64 = 100;
/// Blocks in which a transaction may be included: a restart after a crash waits as long. Short, and still many times
/// what a busy machine may pause.
const VALIDITY_PERIOD: u64 = 60;
/// When its chain began: 2025-01-01.
const SINCE: Duration = Duration::from_hours(24 * 20_089);
/// What `/health` says.
pub(crate) const NOTICE: &str = "mock mode: a chain inside this process, nothing is paid";

/// The setting that asks for mock mode, if one does.
pub(crate) fn asked_for(env: &Env) -> Option<&'static str> {
    ASKING.into_iter().find(|name| env.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true")))
}

/// Starts its chain and points the settings at it, if they ask for that.
pub(crate) fn start(env: &mut Env) -> Result<Option<Sandbox>, StartError> {
    let Some(name) = asked_for(env) else { return Ok(None) };
    let sandbox = Sandbox::start(Config {
        block_ms: BLOCK_MS,
        transaction_validity_period: VALIDITY_PERIOD,
        since: Some(SINCE),
        receivers: 0,
        unlimited: true,
        ..Config::default()
    })?;
    let unused: Vec<&str> = UNUSED.into_iter().filter(|name| env.get(name).is_some()).collect();
    let waits = env.get("WAIT_UNTIL").is_some();
    let network = env.get("NEAR_ENV").unwrap_or("testnet").to_owned();
    let data = Path::new(env.get("DATA_DIR").unwrap_or("./data")).join(DIRECTORY);
    dev::configure(env, sandbox.credentials());
    // These are the user's, and the Node service waits for what it is told to, mock or not.
    env.set("NEAR_ENV", network);
    if !waits {
        env.remove("WAIT_UNTIL");
    }
    env.set("DATA_DIR", data.to_string_lossy());
    tracing::warn!(
        mock = true,
        "{name}=true: mock mode. Transfers settle on a chain inside this process: NOTHING IS PAID"
    );
    if !unused.is_empty() {
        tracing::warn!("settings that are not used in mock mode: {}", unused.join(", "));
    }
    Ok(Some(sandbox))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn true_in_any_case_asks_for_it() {
        for (name, value, asked) in [
            ("SKIP_NEAR_INIT", "true", true),
            ("SKIP_NEAR_INIT", "True", true),
            ("MOCK_NEAR", "TRUE", true),
            ("SKIP_NEAR_INIT", "1", false),
            ("SKIP_NEAR_INIT", "false", false),
            ("MOCK_NEAR", "", false),
        ] {
            let env: Env = [(name, value)].into_iter().collect();
            assert_eq!(asked_for(&env), asked.then_some(name), "{name}={value}");
        }
    }

    #[test]
    fn nothing_of_the_real_chain_is_left() {
        let mut env: Env = UNUSED.into_iter().chain(["SKIP_NEAR_INIT"]).map(|name| (name, "true")).collect();
        env.set("DATA_DIR", "/somewhere");
        env.set("NEAR_ENV", "mainnet");
        let sandbox = start(&mut env).unwrap().unwrap();
        let credentials = sandbox.credentials();
        assert_eq!(env.get("NODE_URL"), Some(credentials.rpc.as_str()));
        assert_eq!(env.get("MASTER_ACCOUNT_PRIVATE_KEYS"), Some(credentials.keys.join(",").as_str()));
        for (name, value) in [("MASTER_ACCOUNT", "test.near"), ("FT_CONTRACT", "ft.test.near"), ("NEAR_ENV", "mainnet")]
        {
            assert_eq!(env.get(name), Some(value));
        }
        assert_eq!(env.get("DATA_DIR"), Some("/somewhere/mock"));
        for name in
            ["RPC_URLS", "RPC_HEADERS", "RPC_TRUST", "FASTNEAR_API_KEY", "MASTER_ACCOUNT_PRIVATE_KEY", "WAIT_UNTIL"]
        {
            assert_eq!(env.get(name), None, "{name}");
        }
        assert_eq!(asked_for(&env), None);
        assert!(start(&mut env).unwrap().is_none());
    }
}
