//! Batches of transfers, built and signed beforehand with plain near-primitives and near-crypto, and sent straight at a node.
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use near_crypto::SecretKey;
use near_primitives::{
    action::{Action, FunctionCallAction},
    hash::CryptoHash,
    transaction::{SignedTransaction, Transaction, TransactionV0},
    types::{AccountId, Balance, Gas},
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    load::Answer,
    script::{Script, Transfer},
    stand::Stand,
    trial::TrialError,
};

/// Gas attached to each transfer: more than it burns, and 100 of them are within what a transaction may attach.
const GAS: u64 = 2_500_000_000_000;

/// A batch, ready to be sent.
pub struct Ready {
    /// The request of the script that it is.
    pub number: u64,
    /// Which of the keys signed it.
    pub key: usize,
    /// The body of a `send_tx`.
    pub body: Bytes,
}

/// Signs a batch for each request of the script, the keys in turn; the node is asked to wait for `until`. Also the keys'
/// nonces before them.
pub async fn sign(
    stand: &Stand,
    payer: &str,
    secrets: &[String],
    script: &Script,
    until: &str,
) -> Result<(Vec<Ready>, Vec<u64>), TrialError> {
    #[derive(Deserialize)]
    struct Key {
        nonce: u64,
    }
    let failed = |why: String| TrialError::System(std::io::Error::other(why));
    let account: AccountId = payer.parse().map_err(|_| failed(format!("{payer:?} is not an account")))?;
    let token: AccountId = stand.token.parse().map_err(|_| failed(format!("{:?} is not an account", stand.token)))?;
    let block = stand.node.last_final().await?;
    let block_hash: CryptoHash = block.hash.parse().map_err(|_| failed("the node's block hash is none".into()))?;
    let mut keys = Vec::new();
    for text in secrets {
        let secret: SecretKey = text.parse().map_err(|_| failed("a key cannot be read".into()))?;
        let question = json!({
            "request_type": "view_access_key", "finality": "optimistic",
            "account_id": payer, "public_key": secret.public_key().to_string(),
        });
        let Key { nonce } = stand.node.call("query", question).await?;
        keys.push((secret, nonce));
    }
    let nonces = keys.iter().map(|(_, nonce)| *nonce).collect();
    let mut ready = Vec::with_capacity(script.requests() as usize);
    for number in 0..script.requests() {
        let key = number as usize % keys.len();
        let (secret, nonce) = &mut keys[key];
        *nonce += 1;
        let actions = script.numbers(number).zip(0..).map(|(transfer, place)| action(script, number, transfer, place));
        let transaction = Transaction::V0(TransactionV0 {
            signer_id: account.clone(),
            public_key: secret.public_key(),
            nonce: *nonce,
            receiver_id: token.clone(),
            block_hash,
            actions: actions.collect(),
        });
        let (hash, _) = transaction.get_hash_and_size();
        let signed = SignedTransaction::new(secret.sign(hash.as_ref()), transaction);
        let bytes = borsh::to_vec(&signed)?;
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":"bench","method":"send_tx","params":{{"signed_tx_base64":"{}","wait_until":"{until}"}}}}"#,
            STANDARD.encode(&bytes)
        );
        ready.push(Ready { number, key, body: body.into() });
    }
    Ok((ready, nonces))
}

fn action(script: &Script, request: u64, number: u64, place: u32) -> Action {
    let Transfer { receiver, amount } = script.transfer(request, place);
    let memo = script.memo(number);
    Action::FunctionCall(Box::new(FunctionCallAction {
        method_name: "ft_transfer".into(),
        args: format!(r#"{{"receiver_id":"{receiver}","amount":"{amount}","memo":"{memo}"}}"#).into_bytes(),
        gas: Gas::from_gas(GAS),
        deposit: Balance::from_yoctonear(1),
    }))
}

/// Sends one: how it was answered, and what the node says if it refuses. A node that stops waiting is a time-out.
pub async fn send(client: &reqwest::Client, url: &str, body: Bytes) -> (Answer, Option<String>) {
    #[derive(Deserialize)]
    struct Reply {
        error: Option<serde_json::Value>,
    }
    let request = client.post(url).header(http::header::CONTENT_TYPE, "application/json").body(body).send();
    let reply = async { request.await?.json::<Reply>().await }.await;
    match reply {
        Ok(Reply { error: None }) => (Answer::Status(200), None),
        // It goes on after the node stopped waiting for it.
        Ok(Reply { error: Some(error) }) if error["cause"]["name"] == "TIMEOUT_ERROR" => (Answer::TimedOut, None),
        Ok(Reply { error: Some(error) }) => (Answer::Status(500), Some(error.to_string())),
        Err(error) => (Answer::Broken, Some(error.without_url().to_string())),
    }
}
