//! A whole service on a sandbox of its own.
use std::path::Path;

use keyshard::{config::Config, env::Env, server::Server};
use keyshard_engine::Engine;
use keyshard_sandbox::Sandbox;
use serde_json::{Value, json};

use super::{client, get, until};

/// Sandbox, engine and front end in this process.
pub(crate) struct Service {
    pub(crate) base: String,
    pub(crate) sandbox: Sandbox,
    pub(crate) engine: Engine,
    /// Serves while it lives.
    pub(crate) server: Server,
    _data: tempfile::TempDir,
}

impl Service {
    /// Starts all three. `settings` are environment variables over those that point at the sandbox.
    pub(crate) async fn start(block_ms: u64, settings: &[(&str, &str)]) -> Self {
        let sandbox = Sandbox::start(keyshard_sandbox::Config {
            block_ms,
            keys: 4,
            receivers: 20,
            ..keyshard_sandbox::Config::default()
        })
        .unwrap();
        let credentials = sandbox.credentials();
        let keys = credentials.keys.join(",");
        let data = tempfile::tempdir().unwrap();
        let own = [
            ("DATA_DIR", data.path().to_str().unwrap()),
            ("JOURNAL_SEGMENT_BYTES", "8388608"),
            ("NEAR_ENV", "sandbox"),
            ("NODE_URL", credentials.rpc.as_str()),
            ("MASTER_ACCOUNT", credentials.account.as_str()),
            ("MASTER_ACCOUNT_PRIVATE_KEYS", keys.as_str()),
            ("FT_CONTRACT", credentials.ft.as_str()),
            ("WAIT_UNTIL", "ExecutedOptimistic"),
            ("PORT", "0"),
            ("HTTP_THREADS", "2"),
        ];
        let env: Env = own.iter().chain(settings).copied().collect();
        let config = Config::from_env(&env).unwrap_or_else(|error| panic!("{error}"));
        let mut server = Server::start(config.http).unwrap();
        let (engine, doors) = Engine::start(config.engine).await.unwrap_or_else(|error| panic!("{error}"));
        server.attach(engine.clone(), doors).await;
        let base = format!("http://{}", server.address());
        Self { base, sandbox, engine, server, _data: data }
    }

    /// What an account has, as the chain says it.
    pub(crate) async fn balance(&self, account: &str) -> u128 {
        balance(&self.sandbox.credentials().rpc, &self.sandbox.credentials().ft, account).await
    }
}

/// `ft_balance_of` at the last block that has been made.
pub(crate) async fn balance(rpc: &str, token: &str, account: &str) -> u128 {
    let args = near_primitives::serialize::to_base64(json!({ "account_id": account }).to_string().as_bytes());
    let question = json!({
        "jsonrpc": "2.0", "id": 1, "method": "query",
        "params": {
            "request_type": "call_function", "finality": "optimistic",
            "account_id": token, "method_name": "ft_balance_of", "args_base64": args,
        },
    });
    let answer = client().post(rpc).json(&question).send().await.unwrap();
    amount_in(&answer.json().await.unwrap())
}

/// The nonce of an access key at the last block that has been made.
pub(crate) async fn key_nonce(rpc: &str, account: &str, public_key: &str) -> u64 {
    let question = json!({
        "jsonrpc": "2.0", "id": 1, "method": "query",
        "params": {
            "request_type": "view_access_key", "finality": "optimistic", "account_id": account, "public_key": public_key,
        },
    });
    let answer: Value = client().post(rpc).json(&question).send().await.unwrap().json().await.unwrap();
    answer["result"]["nonce"].as_u64().unwrap_or_else(|| panic!("{answer}"))
}

/// The amount in the answer to a `ft_balance_of` query: a JSON string, as bytes.
pub(crate) fn amount_in(answer: &Value) -> u128 {
    let bytes = answer["result"]["result"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let text: String = bytes.iter().map(|byte| char::from(byte.as_u64().unwrap() as u8)).collect();
    text.trim_matches('"').parse().unwrap()
}

/// Waits until a transfer has this status.
pub(crate) async fn reaches(base: &str, id: &str, wanted: &str) -> Value {
    until(&format!("{id} is {wanted}"), || async {
        let (status, body) = get(base, &format!("/transfer/{id}")).await;
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["success"], true);
        let job = body["job"].clone();
        let settled = matches!(job["status"].as_str(), Some("finalized" | "failed"));
        assert!(!settled || job["status"] == wanted, "{job}");
        (job["status"] == wanted).then_some(job)
    })
    .await
}

/// A directory of this test run, empty.
pub(crate) fn directory(name: &str) -> std::path::PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}
