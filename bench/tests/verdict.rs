//! A service that pays twice, or never, or what it was not asked for, is found out by the chain.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    cell::Cell,
    convert::Infallible,
    path::PathBuf,
    rc::Rc,
    sync::{Arc, mpsc},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use keyshard_bench::{
    chain::Node,
    ledger::Counts,
    load::Settings,
    plan::Plan,
    progress::Progress,
    script::{Draw, Kind, Script, Skew},
    stand,
    trial::{self, Trial},
};
use keyshard_sandbox::{Config, Sandbox};
use near_crypto::SecretKey;
use near_primitives::{
    action::{Action, FunctionCallAction},
    transaction::{SignedTransaction, Transaction, TransactionV0},
    types::{Balance, Gas},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Mutex, task::LocalSet};

#[test]
fn every_kind_of_wrong_is_counted_once_and_nothing_else_is() {
    let sandbox = Sandbox::start(Config { block_ms: 100, receivers: 10, ..Config::default() }).unwrap();
    let service = service(&sandbox);
    let credentials = sandbox.credentials().clone();
    let run = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let plan = stand::Plan {
            program: PathBuf::new(),
            directory: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("verdict"),
            node: Some(credentials.rpc.clone()),
            target: Some(service),
            binary: None,
            sandbox: Config::default(),
            settings: Vec::new(),
            token: Some(credentials.ft.clone()),
            payer: Some(credentials.account.clone()),
            receivers: credentials.receivers.clone(),
        };
        let mut stand = plan.bring_up().await.unwrap();
        stand.serve(&plan).unwrap();
        let draw = Draw { receivers: credentials.receivers, skew: Skew::Uniform, fresh: 0.0, amount: 100, seed: 1 };
        let script = Script::new(Plan::steady(20.0, 2.0).unwrap(), vec![Kind::of(1)], draw, trial::tag()).unwrap();
        let settings = Settings { threads: 1, connections: 100, timeout_s: 60.0, respond_async: false };
        let trial = Trial {
            name: "verdict".into(),
            script: Arc::new(script),
            settings,
            settle: Duration::from_secs(6),
            closed_s: None,
            give_up: false,
            watch_live: true,
        };
        trial.run(&mut stand, &Progress::hidden()).await.unwrap()
    });
    // Four of each kind in forty requests: see `respond`.
    let expected = Counts {
        offered: 40,
        accepted: 36,
        refused: 4,
        executed: 28,
        r#final: 28,
        failed: 4,
        doubled: 4,
        extra_payments: 4,
        lost: 4,
        open: 4,
        paid_though_refused: 4,
        succeeded: 20,
        ..Counts::default()
    };
    assert_eq!(run.transfers, expected);
    // Four transfers paid one unit too much.
    assert_eq!(run.wrong.len(), 4, "{:?}", run.wrong);
    let answers: Vec<_> = run.requests.answers.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(answers, [("200", 28), ("202", 8), ("503", 4)]);
    assert_eq!(run.transactions.landed, 32);
    assert_eq!(run.blocks.iter().map(|block| block.landed).sum::<u64>(), 32);
}

/// A service that is wrong in every way, depending on the number of the transfer.
fn service(sandbox: &Sandbox) -> String {
    let (rpc, account, token) = {
        let credentials = sandbox.credentials();
        (credentials.rpc.clone(), credentials.account.clone(), credentials.ft.clone())
    };
    let key: SecretKey = sandbox.credentials().keys[0].parse().unwrap();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(format!("http://{}", listener.local_addr().unwrap())).unwrap();
            let payer = Rc::new(Payer {
                node: Node::new(&rpc).unwrap(),
                account,
                token,
                key,
                nonce: Cell::new(0),
                turn: Mutex::new(()),
            });
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let payer = Rc::clone(&payer);
                tokio::task::spawn_local(async move {
                    let respond = service_fn(move |request| respond(Rc::clone(&payer), request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), respond).await;
                });
            }
        });
    });
    receiver.recv().unwrap()
}

async fn respond(payer: Rc<Payer>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if let Some(id) = request.uri().path().strip_prefix("/transfer/") {
        let status = if id.starts_with("failed") { "failed" } else { "processing" };
        return Ok(answer(200, &json!({ "success": true, "job": { "id": id, "status": status } })));
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let number: u64 = asked["memo"].as_str().unwrap().rsplit_once('-').unwrap().1.parse().unwrap();
    let done = json!({ "success": true, "jobId": format!("done-{number}"), "status": "FINAL" });
    let open = |word: &str| json!({ "success": true, "jobId": format!("{word}-{number}"), "status": "processing" });
    Ok(match number % 10 {
        // Says that it has paid, and has not.
        3 => answer(200, &done),
        // Pays twice.
        4 => {
            payer.pay(&asked, 0).await;
            payer.pay(&asked, 0).await;
            answer(200, &done)
        }
        // Says that it will not pay, and does.
        5 => {
            payer.pay(&asked, 0).await;
            answer(503, &json!({ "error": "Service overloaded, please retry later" }))
        }
        // Accepts, then fails.
        6 => answer(202, &open("failed")),
        // Accepts, and is still at it.
        7 => answer(202, &open("slow")),
        // Pays more than it was asked to.
        8 => {
            payer.pay(&asked, 1).await;
            answer(200, &done)
        }
        _ => {
            payer.pay(&asked, 0).await;
            answer(200, &done)
        }
    })
}

fn answer(status: u16, body: &Value) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(body.to_string().into())).unwrap()
}

/// Pays one transfer with one transaction.
struct Payer {
    node: Node,
    account: String,
    token: String,
    key: SecretKey,
    nonce: Cell<u64>,
    turn: Mutex<()>,
}

impl Payer {
    async fn pay(&self, asked: &Value, too_much: u128) {
        let amount = asked["amount"].as_str().unwrap().parse::<u128>().unwrap() + too_much;
        let args = json!({ "receiver_id": asked["receiverId"], "amount": amount.to_string(), "memo": asked["memo"] });
        let signed = {
            // One after the other into the pool, in the order of their nonces.
            let _turn = self.turn.lock().await;
            if self.nonce.get() == 0 {
                let question = json!({
                    "request_type": "view_access_key", "finality": "optimistic",
                    "account_id": self.account, "public_key": self.key.public_key().to_string(),
                });
                let found: Value = self.node.call("query", question).await.unwrap();
                self.nonce.set(found["nonce"].as_u64().unwrap());
            }
            self.nonce.set(self.nonce.get() + 1);
            let transaction = Transaction::V0(TransactionV0 {
                signer_id: self.account.parse().unwrap(),
                public_key: self.key.public_key(),
                nonce: self.nonce.get(),
                receiver_id: self.token.parse().unwrap(),
                block_hash: self.node.last_final().await.unwrap().hash.parse().unwrap(),
                actions: vec![Action::FunctionCall(Box::new(FunctionCallAction {
                    method_name: "ft_transfer".into(),
                    args: args.to_string().into_bytes(),
                    gas: Gas::from_gas(5_000_000_000_000),
                    deposit: Balance::from_yoctonear(1),
                }))],
            });
            let hash = transaction.get_hash_and_size().0;
            let signed = SignedTransaction::new(self.key.sign(hash.as_ref()), transaction);
            let signed = STANDARD.encode(borsh::to_vec(&signed).unwrap());
            let sent = json!({ "signed_tx_base64": signed, "wait_until": "NONE" });
            let _: Value = self.node.call("send_tx", sent).await.unwrap();
            signed
        };
        let waited = json!({ "signed_tx_base64": signed, "wait_until": "INCLUDED" });
        let _: Value = self.node.call("send_tx", waited).await.unwrap();
    }
}
