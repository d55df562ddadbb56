//! Endpoints that sync, fail or lie: a second way to the sandbox that can be cut, and that can rewrite what passes.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use keyshard_engine::{Engine, JobStatus, Trust, rpc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{
    Node, config, sandbox,
    transfers::{PATIENCE, answerable, balance, transfer},
};

/// A way to the sandbox's JSON-RPC.
struct Way {
    url: String,
    /// Closed: connections end, and new ones are refused at once.
    open: watch::Sender<bool>,
    lie: Arc<Lie>,
}

/// What is replaced in answers, by something of the same length, while it is `on`.
struct Lie {
    truth: &'static str,
    instead: &'static str,
    on: AtomicBool,
    told: AtomicUsize,
}

impl Lie {
    fn tell(&self, bytes: &mut [u8]) {
        assert_eq!(self.truth.len(), self.instead.len());
        if !self.on.load(Ordering::SeqCst) {
            return;
        }
        for at in 0..bytes.len().saturating_sub(self.truth.len() - 1) {
            let place = &mut bytes[at..at + self.truth.len()];
            if place == self.truth.as_bytes() {
                place.copy_from_slice(self.instead.as_bytes());
                self.told.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

async fn way(node: &Node, truth: &'static str, lie: &'static str) -> Way {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let target = node.rpc_url().trim_start_matches("http://").trim_end_matches('/').to_owned();
    let (open, is_open) = watch::channel(true);
    let lie = Arc::new(Lie { truth, instead: lie, on: AtomicBool::new(false), told: AtomicUsize::new(0) });
    let liar = lie.clone();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let mut closed = is_open.clone();
            let (target, liar) = (target.clone(), liar.clone());
            tokio::spawn(async move {
                tokio::select! {
                    _ = closed.wait_for(|open| !open) => {}
                    _ = forward(client, &target, &liar) => {}
                }
            });
        }
    });
    Way { url, open, lie }
}

async fn forward(client: TcpStream, target: &str, lie: &Lie) -> std::io::Result<()> {
    let node = TcpStream::connect(target).await?;
    let ((mut from_client, mut to_client), (mut from_node, mut to_node)) = (client.into_split(), node.into_split());
    let answers = async {
        let mut buffer = vec![0; 1 << 20];
        loop {
            let bytes = from_node.read(&mut buffer).await?;
            if bytes == 0 {
                return Ok::<(), std::io::Error>(());
            }
            lie.tell(&mut buffer[..bytes]);
            to_client.write_all(&buffer[..bytes]).await?;
        }
    };
    let questions = async { tokio::io::copy(&mut from_client, &mut to_node).await.map(|_| ()) };
    tokio::try_join!(answers, questions).map(|_| ())
}

/// Waits for what is seen by looking again and again.
async fn until(what: &str, mut seen: impl FnMut() -> bool) {
    let wait = async {
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        while !seen() {
            pause.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}: not in time"));
}

fn endpoints(urls: &[&str]) -> rpc::Config {
    rpc::Config::new(urls.iter().map(|url| rpc::Endpoint::new(url).unwrap()).collect())
}

#[tokio::test]
async fn a_syncing_node_is_waited_for() {
    let node = sandbox(1);
    let way = way(&node, r#""syncing":false"#, r#""syncing": true"#).await;
    way.lie.on.store(true, Ordering::SeqCst);
    let mut config = config(&node);
    config.rpc = endpoints(&[&way.url]);
    let starting = Engine::start(config);
    tokio::pin!(starting);
    // More often than a silent node would be asked.
    let asked = until("questions to a syncing node", || way.lie.told.load(Ordering::SeqCst) > 6);
    tokio::select! {
        _ = &mut starting => panic!("it started on a syncing node"),
        () = asked => {}
    }
    way.lie.on.store(false, Ordering::SeqCst);
    let started = tokio::time::timeout(PATIENCE, starting).await.expect("it is synced");
    assert!(started.is_ok());
}

#[tokio::test]
async fn with_one_of_two_endpoints_down_callers_are_answered_and_nothing_is_called_final() {
    let node = sandbox(2);
    let way = way(&node, "", "").await;
    let mut config = config(&node);
    config.rpc = endpoints(&[&node.rpc_url(), &way.url]);
    let (engine, mut doors) = Engine::start(config).await.unwrap();
    let ticket = doors[0].submit(vec![transfer("user1.test.near", 5)]).unwrap();
    let first = ticket.ids()[0];
    answerable(&ticket).await;
    until("two that agree", || engine.job(first).unwrap().status == JobStatus::Finalized).await;

    way.open.send(false).unwrap();
    let ticket = doors[0].submit(vec![transfer("user1.test.near", 5)]).unwrap();
    let second = ticket.ids()[0];
    answerable(&ticket).await;
    let job = engine.job(second).unwrap();
    assert_eq!((job.status, job.execution_status), (JobStatus::Submitted, Some("FINAL")));
    assert_eq!(balance(&node, "user1.test.near").await, 10);

    way.open.send(true).unwrap();
    until("two that agree", || engine.job(second).unwrap().status == JobStatus::Finalized).await;
}

#[tokio::test]
async fn a_lying_endpoint_makes_nothing_final_and_nothing_paid_twice() {
    let node = sandbox(2);
    // Every success becomes a failure that the shard would sign again for.
    let success = r#""status":{"SuccessValue":""}"#;
    let way = way(&node, success, r#""status":{"Failure":{"x":1}}"#).await;
    way.lie.on.store(true, Ordering::SeqCst);
    let mut config = config(&node);
    config.rpc = endpoints(&[&way.url, &node.rpc_url()]);
    config.trust = Some(Trust::Two);
    let (engine, mut doors) = Engine::start(config).await.unwrap();
    let ticket = doors[0].submit((1..=20).map(|i| transfer(&format!("user{i}.test.near"), 5)).collect()).unwrap();
    until("many lies", || way.lie.told.load(Ordering::SeqCst) > 4).await;
    way.lie.on.store(false, Ordering::SeqCst);
    let settled = |id: &_| engine.job(*id).unwrap().status == JobStatus::Finalized;
    until("the end of the lies", || ticket.ids().iter().all(settled)).await;
    for user in 1..=20 {
        assert_eq!(balance(&node, &format!("user{user}.test.near")).await, 5, "user{user}");
    }
    assert_eq!(engine.batching().transfers, 20, "each was signed once");
}

#[tokio::test]
async fn endpoints_that_disagree_about_the_validity_period_are_refused() {
    let node = sandbox(1);
    let way = way(&node, r#""transaction_validity_period":1000"#, r#""transaction_validity_period":   1"#).await;
    way.lie.on.store(true, Ordering::SeqCst);
    let mut config = config(&node);
    config.rpc = endpoints(&[&node.rpc_url(), &way.url]);
    let Err(error) = Engine::start(config).await else { panic!("it started") };
    assert!(error.to_string().contains("RPC_URLS disagree about transaction_validity_period"), "{error}");
}
