//! Start-up refuses what cannot work, and says what to do about it.
use keyshard_engine::{Engine, StartError, rpc};
use near_crypto::{KeyType, SecretKey};
use near_primitives::{
    account::{AccessKey, AccessKeyPermission, FunctionCallPermission},
    action::{Action, AddKeyAction},
    transaction::{SignedTransaction, Transaction, TransactionV0},
};

use crate::{config, sandbox};

async fn refusal(config: keyshard_engine::Config) -> StartError {
    match Engine::start(config).await {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn an_unreachable_node() {
    let sandbox = sandbox(1);
    let mut config = config(&sandbox);
    // A port that was free a moment ago: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    config.rpc = rpc::Config::new(vec![rpc::Endpoint::new(&format!("http://127.0.0.1:{port}")).unwrap()]);
    let error = refusal(config).await;
    assert!(matches!(error, StartError::Unreachable(_)), "{error}");
    assert!(error.to_string().contains("NODE_URL"), "{error}");
}

#[tokio::test]
async fn an_account_that_does_not_exist() {
    let sandbox = sandbox(1);
    let mut config = config(&sandbox);
    config.account = "nobody.near".parse().unwrap();
    let error = refusal(config).await;
    assert!(matches!(error, StartError::NoAccount { .. }), "{error}");
    assert!(error.to_string().contains("nobody.near does not exist on localnet"), "{error}");
}

#[tokio::test]
async fn a_key_that_is_not_on_chain_and_no_key_at_all() {
    let sandbox = sandbox(1);
    let stranger = SecretKey::from_seed(KeyType::ED25519, "stranger");
    let mut config_with_stranger = config(&sandbox);
    config_with_stranger.keys = vec![stranger.clone()];
    let error = refusal(config_with_stranger).await.to_string();
    assert!(error.contains("no matching public keys registered on-chain"), "{error}");
    assert!(error.contains(&stranger.public_key().to_string()), "{error}");
    assert!(!error.contains(&stranger.to_string()), "a secret in an error");

    let mut without_keys = config(&sandbox);
    without_keys.keys.clear();
    assert!(refusal(without_keys).await.to_string().contains("none is configured"));
}

#[tokio::test]
async fn a_function_call_key() {
    let sandbox = sandbox(1);
    let credentials = sandbox.credentials();
    let limited = SecretKey::from_seed(KeyType::ED25519, "limited");
    let master: SecretKey = credentials.secret.parse().unwrap();
    let client = rpc::Client::new(config(&sandbox).rpc).unwrap();
    let key = client
        .view_access_key(rpc::Route::Any, rpc::BlockRef::Final, &credentials.account, &master.public_key().to_string())
        .await
        .unwrap();
    let permission = AccessKeyPermission::FunctionCall(FunctionCallPermission {
        allowance: None,
        receiver_id: credentials.ft.clone(),
        method_names: vec!["ft_transfer".into()],
    });
    let account: near_primitives::types::AccountId = credentials.account.parse().unwrap();
    let add_key = AddKeyAction { public_key: limited.public_key(), access_key: AccessKey { nonce: 0, permission } };
    let transaction = Transaction::V0(TransactionV0 {
        signer_id: account.clone(),
        public_key: master.public_key(),
        nonce: key.value.nonce + 1,
        receiver_id: account,
        block_hash: key.value.block_hash.parse().unwrap(),
        actions: vec![Action::AddKey(Box::new(add_key))],
    });
    let (hash, _) = transaction.get_hash_and_size();
    let add_key = SignedTransaction::new(master.sign(hash.as_ref()), transaction);
    let bytes = near_primitives::serialize::to_base64(&borsh::to_vec(&add_key).unwrap());
    client.send_tx(rpc::Route::Any, &bytes, rpc::SendUntil::Final).await.unwrap();

    let mut config = config(&sandbox);
    config.keys = vec![limited];
    let error = refusal(config).await;
    assert!(matches!(error, StartError::NoKeys(_)), "{error}");
    assert!(error.to_string().contains("function-call key"), "{error}");
}

#[tokio::test]
async fn a_token_that_is_none() {
    let sandbox = sandbox(1);
    for (token, why) in [("user1.test.near", "holds no contract"), ("nobody.near", "does not exist")] {
        let mut config = config(&sandbox);
        config.token = token.parse().unwrap();
        let error = refusal(config).await;
        assert!(matches!(error, StartError::NoToken { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(why) && text.contains("FT_CONTRACT"), "{text}");
    }
}
