//! `keyshard dev`: points the service at a sandbox of its own and says what to try.
use std::{fmt::Write as _, net::SocketAddr, path::Path};

use keyshard_sandbox::Credentials;
use near_primitives::serialize::to_base64;

use crate::env::Env;

/// Settings that would point the service elsewhere than at the sandbox.
const NOT_HERE: [&str; 8] = [
    "FASTNEAR_API_KEY",
    "MASTER_ACCOUNT_PRIVATE_KEY",
    "MASTER_ACCOUNT_PRIVATE_KEYS_FILE",
    "MOCK_NEAR",
    "RPC_HEADERS",
    "RPC_TRUST",
    "RPC_URLS",
    "SKIP_NEAR_INIT",
];

/// Points the settings at the sandbox. Everything else in them still counts.
pub(crate) fn configure(env: &mut Env, credentials: &Credentials) {
    for name in NOT_HERE {
        env.remove(name);
    }
    env.set("NEAR_ENV", "sandbox");
    env.set("NODE_URL", &credentials.rpc);
    env.set("MASTER_ACCOUNT", &credentials.account);
    env.set("FT_CONTRACT", &credentials.ft);
    let keys = if credentials.keys.is_empty() { credentials.secret.clone() } else { credentials.keys.join(",") };
    env.set("MASTER_ACCOUNT_PRIVATE_KEYS", keys);
    if env.get("WAIT_UNTIL").is_none() {
        env.set("WAIT_UNTIL", "ExecutedOptimistic");
    }
}

/// What to try, ready to be copied into a shell.
pub(crate) fn banner(address: SocketAddr, credentials: &Credentials) -> String {
    let Credentials { rpc, account, ft, keys, receivers, .. } = credentials;
    let receiver = receivers.first().map_or("user1.test.near", String::as_str);
    let (keys, receivers) = (keys.len().max(1), receivers.len());
    format!(
        "
  Keyshard is ready.

    API        http://{address}             (described at /docs)
    Dashboard  http://{address}/dashboard
    Node       {rpc}             (a sandbox in this process: {account} pays {ft} with {keys} keys, {receivers} receivers)

  Pay somebody:

    curl -s http://{address}/send-ft -H 'content-type: application/json' \\
      -d '{{\"receiverId\":\"{receiver}\",\"amount\":\"1000000\",\"memo\":\"hello\"}}'

  Follow it, with the jobId of the answer, until its status is finalized:

    curl -s http://{address}/transfer/JOB_ID

  Ask the chain itself what {receiver} has (the result is the answer's text, byte by byte):

    {balance}

  Ctrl-C ends both.
",
        balance = balance_request(rpc, ft, receiver),
    )
}

/// What `keyshard sandbox` says once it runs.
pub(crate) fn sandbox_banner(credentials: &Credentials, file: Option<&Path>) -> String {
    let Credentials { rpc, account, ft, keys, receivers, .. } = credentials;
    let mut text = format!(
        "
  A NEAR sandbox listens on {rpc}: {account} owns all of {ft}, {} keys, {} receivers.
",
        keys.len(),
        receivers.len(),
    );
    match file {
        Some(path) => {
            let _ = writeln!(text, "  Its accounts and keys are in {}.", path.display());
        }
        None => text.push_str("  --write-credentials FILE writes its accounts and keys to a file.\n"),
    }
    text.push_str("  Ctrl-C ends it.\n");
    text
}

/// The curl line that asks the token for a balance.
fn balance_request(rpc: &str, token: &str, account: &str) -> String {
    let args = to_base64(format!("{{\"account_id\":\"{account}\"}}").as_bytes());
    format!(
        "curl -s {rpc} -H 'content-type: application/json' \\\n      -d '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"query\",\"params\":{{\"request_type\":\"call_function\",\"finality\":\"final\",\"account_id\":\"{token}\",\"method_name\":\"ft_balance_of\",\"args_base64\":\"{args}\"}}}}'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        Credentials {
            rpc: "http://127.0.0.1:3030".into(),
            account: "test.near".into(),
            secret: "ed25519:master".into(),
            ft: "ft.test.near".into(),
            keys: vec!["ed25519:one".into(), "ed25519:two".into()],
            receivers: vec!["user1.test.near".into()],
        }
    }

    #[test]
    fn the_service_is_pointed_at_the_sandbox_alone() {
        let given = [
            ("NODE_URL", "https://elsewhere"),
            ("RPC_URLS", "https://a,https://b"),
            ("MASTER_ACCOUNT_PRIVATE_KEY", "real"),
            ("MASTER_ACCOUNT_PRIVATE_KEYS_FILE", "/real"),
            ("PORT", "1"),
        ];
        let mut env: Env = given.into_iter().collect();
        configure(&mut env, &credentials());
        for (name, value) in [
            ("NODE_URL", Some("http://127.0.0.1:3030")),
            ("RPC_URLS", None),
            ("MASTER_ACCOUNT_PRIVATE_KEY", None),
            ("MASTER_ACCOUNT_PRIVATE_KEYS_FILE", None),
            ("MASTER_ACCOUNT_PRIVATE_KEYS", Some("ed25519:one,ed25519:two")),
            ("WAIT_UNTIL", Some("ExecutedOptimistic")),
            ("PORT", Some("1")),
        ] {
            assert_eq!(env.get(name), value, "{name}");
        }
        env.set("WAIT_UNTIL", "Final");
        configure(&mut env, &credentials());
        assert_eq!(env.get("WAIT_UNTIL"), Some("Final"));
    }

    #[test]
    fn banners_show_no_secret() {
        let banner = banner("127.0.0.1:3000".parse().unwrap(), &credentials());
        let sandbox = sandbox_banner(&credentials(), None);
        assert!(!banner.contains("ed25519") && !sandbox.contains("ed25519"));
        assert!(banner.contains("\"args_base64\":\"eyJhY2NvdW50X2lkIjoidXNlcjEudGVzdC5uZWFyIn0=\""), "{banner}");
    }
}
