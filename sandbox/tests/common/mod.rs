//! A small client for the tests: signs transactions and talks JSON-RPC.
#![allow(dead_code, unreachable_pub, reason = "each test file includes this and uses its own part")]
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "a test helper may stop the test")]

use std::sync::Arc;

use keyshard_sandbox::{Config, Sandbox};
use near_crypto::{PublicKey, SecretKey};
use near_primitives::account::{AccessKey, AccessKeyPermission, FunctionCallPermission};
use near_primitives::action::{
    Action, AddKeyAction, CreateAccountAction, DeleteKeyAction, FunctionCallAction, TransferAction,
};
use near_primitives::hash::CryptoHash;
use near_primitives::serialize::to_base64;
use near_primitives::transaction::{SignedTransaction, Transaction, TransactionV0};
use near_primitives::types::{AccountId, Balance, Gas};
use serde_json::{Value, json};

pub const ACCOUNT: &str = "test.near";
pub const FT: &str = "ft.test.near";
pub const TGAS: u64 = 1_000_000_000_000;

pub fn id(text: &str) -> AccountId {
    text.parse().unwrap()
}

pub fn call(method: &str, args: Value, gas: u64, deposit: u128) -> Action {
    call_bytes(method, args.to_string().into_bytes(), gas, deposit)
}

pub fn call_bytes(method: &str, args: Vec<u8>, gas: u64, deposit: u128) -> Action {
    Action::FunctionCall(Box::new(FunctionCallAction {
        method_name: method.into(),
        args,
        gas: Gas::from_gas(gas),
        deposit: Balance::from_yoctonear(deposit),
    }))
}

/// As the recorded ones: 2.5 Tgas, an empty memo.
pub fn ft_transfer(receiver: &str, amount: &str) -> Action {
    let args = format!(r#"{{"receiver_id":"{receiver}","amount":"{amount}","memo":""}}"#);
    call_bytes("ft_transfer", args.into_bytes(), 2_500_000_000_000, 1)
}

pub fn storage_deposit(account: &str, deposit: u128) -> Action {
    call("storage_deposit", json!({"account_id": account, "registration_only": true}), 5 * TGAS, deposit)
}

pub fn transfer(yocto: u128) -> Action {
    Action::Transfer(TransferAction { deposit: Balance::from_yoctonear(yocto) })
}

pub fn create_account() -> Action {
    Action::CreateAccount(CreateAccountAction {})
}

pub fn add_key(public_key: PublicKey, permission: AccessKeyPermission) -> Action {
    Action::AddKey(Box::new(AddKeyAction { public_key, access_key: AccessKey { nonce: 0, permission } }))
}

pub fn delete_key(public_key: PublicKey) -> Action {
    Action::DeleteKey(Box::new(DeleteKeyAction { public_key }))
}

pub fn function_call_key(receiver: &str, methods: &[&str], allowance: Option<u128>) -> AccessKeyPermission {
    AccessKeyPermission::FunctionCall(FunctionCallPermission {
        allowance: allowance.map(Balance::from_yoctonear),
        receiver_id: receiver.into(),
        method_names: methods.iter().map(|name| (*name).to_owned()).collect(),
    })
}

pub fn sign_as(
    signer: &str,
    key: &SecretKey,
    nonce: u64,
    receiver: &str,
    block_hash: CryptoHash,
    actions: Vec<Action>,
) -> Arc<SignedTransaction> {
    let tx = Transaction::V0(TransactionV0 {
        signer_id: id(signer),
        public_key: key.public_key(),
        nonce,
        receiver_id: id(receiver),
        block_hash,
        actions,
    });
    let (hash, _) = tx.get_hash_and_size();
    Arc::new(SignedTransaction::new(key.sign(hash.as_ref()), tx))
}

pub fn encoded(tx: &SignedTransaction) -> String {
    to_base64(&borsh::to_vec(tx).unwrap())
}

/// A running sandbox and a client for it.
pub struct Node {
    pub sandbox: Sandbox,
    pub keys: Vec<SecretKey>,
    client: reqwest::Client,
}

/// What came back: HTTP status, content type, body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: Option<String>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }
}

impl Node {
    pub fn start(config: Config) -> Self {
        let sandbox = Sandbox::start(config).unwrap();
        let keys = sandbox.credentials().keys.iter().map(|key| key.parse().unwrap()).collect();
        Self { sandbox, keys, client: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    /// Blocks every 50 ms.
    pub fn fast() -> Self {
        Self::start(Config { block_ms: 50, ..Config::default() })
    }

    pub async fn http(&self, method: &str, path: &str, content_type: Option<&str>, body: Vec<u8>) -> Answer {
        let url = format!("{}{path}", self.sandbox.rpc_url());
        let mut request = self.client.request(method.parse().unwrap(), url).body(body);
        if let Some(kind) = content_type {
            request = request.header("content-type", kind);
        }
        let reply = request.send().await.unwrap();
        Answer {
            status: reply.status().as_u16(),
            content_type: reply.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned()),
            body: reply.text().await.unwrap(),
        }
    }

    pub async fn rpc_full(&self, method: &str, params: Value) -> Answer {
        let body = json!({"jsonrpc": "2.0", "id": "dontcare", "method": method, "params": params});
        self.http("POST", "/", Some("application/json"), body.to_string().into_bytes()).await
    }

    /// The result, or the error, of a call.
    pub async fn rpc(&self, method: &str, params: Value) -> Result<Value, Value> {
        let mut answer = self.rpc_full(method, params).await.json();
        match answer.get_mut("result") {
            Some(result) => Ok(result.take()),
            None => Err(answer["error"].take()),
        }
    }

    pub async fn final_hash(&self) -> CryptoHash {
        let block = self.rpc("block", json!({"finality": "final"})).await.unwrap();
        block["header"]["hash"].as_str().unwrap().parse().unwrap()
    }

    pub async fn nonce(&self, key: usize) -> u64 {
        let params = json!({"request_type": "view_access_key", "finality": "optimistic", "account_id": ACCOUNT,
            "public_key": self.keys[key].public_key().to_string()});
        self.rpc("query", params).await.unwrap()["nonce"].as_u64().unwrap()
    }

    /// Signs with the next nonce of a key at the head.
    pub async fn sign(&self, key: usize, receiver: &str, actions: Vec<Action>) -> Arc<SignedTransaction> {
        let nonce = self.nonce(key).await + 1;
        sign_as(ACCOUNT, &self.keys[key], nonce, receiver, self.final_hash().await, actions)
    }

    pub async fn send(&self, tx: &SignedTransaction, wait: &str) -> Result<Value, Value> {
        self.rpc("send_tx", json!({"signed_tx_base64": encoded(tx), "wait_until": wait})).await
    }

    pub async fn view(&self, method: &str, args: Value) -> Value {
        let params = json!({"request_type": "call_function", "finality": "final", "account_id": FT,
            "method_name": method, "args_base64": to_base64(args.to_string().as_bytes())});
        let result = self.rpc("query", params).await.unwrap();
        let bytes: Vec<u8> =
            serde_json::from_value(result["result"].clone()).unwrap_or_else(|_| panic!("no result: {result}"));
        serde_json::from_slice(&bytes).unwrap()
    }

    pub async fn balance(&self, account: &str) -> u128 {
        self.view("ft_balance_of", json!({"account_id": account})).await.as_str().unwrap().parse().unwrap()
    }
}

/// Runs them all and keeps their order.
pub async fn join<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut ready = true;
        for (future, output) in &mut all {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => ready = false,
                }
            }
        }
        if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    all.into_iter().map(|(_, output)| output.unwrap()).collect()
}
