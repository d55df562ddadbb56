//! Transactions to the token that Keyshard knows nothing of: as the Node service, or a person, sends them.
use std::time::Duration;

use keyshard_sandbox::Credentials;
use near_crypto::SecretKey;
use near_primitives::{
    action::{Action, FunctionCallAction},
    serialize::to_base64,
    transaction::{SignedTransaction, Transaction, TransactionV0},
    types::{Balance, Gas},
};
use serde_json::{Value, json};

use super::{client, until};

/// Receiver, amount, memo.
pub(crate) type Pay<'a> = (&'a str, u128, &'a str);

/// Sends one transaction that pays these, with the account's key of this index. Returns its hash once it is FINAL,
/// whether it succeeded or failed.
pub(crate) async fn pay(credentials: &Credentials, key: usize, transfers: &[Pay<'_>]) -> String {
    let Credentials { rpc, account, ft, keys, .. } = credentials;
    let key: SecretKey = keys[key].parse().unwrap();
    let public = key.public_key();
    let question = json!({
        "request_type": "view_access_key", "finality": "optimistic",
        "account_id": account, "public_key": public.to_string(),
    });
    let access_key = call(rpc, "query", question).await;
    let call_of = |(receiver, amount, memo): &Pay<'_>| {
        let args = json!({ "receiver_id": receiver, "amount": amount.to_string(), "memo": memo }).to_string();
        Action::FunctionCall(Box::new(FunctionCallAction {
            method_name: "ft_transfer".into(),
            args: args.into_bytes(),
            gas: Gas::from_teragas(10),
            deposit: Balance::from_yoctonear(1),
        }))
    };
    let transaction = Transaction::V0(TransactionV0 {
        signer_id: account.parse().unwrap(),
        public_key: public,
        nonce: access_key["nonce"].as_u64().unwrap() + 1,
        receiver_id: ft.parse().unwrap(),
        block_hash: access_key["block_hash"].as_str().unwrap().parse().unwrap(),
        actions: transfers.iter().map(call_of).collect(),
    });
    let (hash, _) = transaction.get_hash_and_size();
    let signed = SignedTransaction::new(key.sign(hash.as_ref()), transaction);
    let bytes = to_base64(&borsh::to_vec(&signed).unwrap());
    call(rpc, "send_tx", json!({ "signed_tx_base64": bytes, "wait_until": "INCLUDED" })).await;
    until("it is final", || async {
        let question = json!({ "tx_hash": hash.to_string(), "sender_account_id": account, "wait_until": "NONE" });
        let answer = call(rpc, "tx", question).await;
        (answer["final_execution_status"] == "FINAL").then_some(())
    })
    .await;
    hash.to_string()
}

/// The genesis hash, which names the chain.
pub(crate) async fn genesis(rpc: &str) -> String {
    call(rpc, "status", json!([])).await["genesis_hash"].as_str().unwrap().to_owned()
}

async fn call(rpc: &str, method: &str, params: Value) -> Value {
    let question = json!({ "jsonrpc": "2.0", "id": "by-hand", "method": method, "params": params });
    let request = client().post(rpc).timeout(Duration::from_secs(30)).json(&question);
    let mut answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert!(answer.get("result").is_some(), "{method}: {answer}");
    answer["result"].take()
}
