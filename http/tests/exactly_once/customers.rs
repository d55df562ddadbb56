//! Clients of a service that keeps being killed. What one of them was told stays true, whoever is asked again.
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    audit::{Claim, Told, Transfer},
    random::Random,
    stage::every,
};

/// Pause before a request is sent again.
const AGAIN: Duration = Duration::from_millis(30);
/// After this a client is stuck: no start takes so long.
const STUCK: Duration = Duration::from_secs(90);
/// Those who only ask what became of transfers.
const ASKERS: u64 = 3;

/// What one client wants, and how it goes about it.
#[derive(Debug, Clone)]
struct Order {
    transfers: Vec<Transfer>,
    /// It then sends the same until it is answered, and sometimes once more.
    key: Option<String>,
    /// `Prefer: respond-async`
    impatient: bool,
}

/// A transfer that was accepted, as its clients know it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    /// Once it was said to be final: the transaction.
    settled: Option<String>,
    key: Option<String>,
}

/// What was seen besides the claims.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) orders: AtomicUsize,
    /// Connections that broke without an answer, and requests that met nobody.
    pub(crate) broken: AtomicUsize,
    pub(crate) unsent: AtomicUsize,
    /// Answers that said that the request was known.
    pub(crate) replayed: AtomicUsize,
    /// Other requests under a name that was taken.
    pub(crate) refused: AtomicUsize,
    /// Answers about single transfers.
    pub(crate) asked: AtomicUsize,
}

/// All clients, and where the service is.
#[derive(Clone)]
pub(crate) struct Customers {
    inner: Arc<Inner>,
    /// None while it is down.
    base: watch::Receiver<Option<String>>,
}

struct Inner {
    client: reqwest::Client,
    known: Mutex<HashMap<String, Known>>,
    seen: Seen,
}

enum Answer {
    Status(u16, Value, bool),
    Unsent,
    Broken,
}

impl Customers {
    pub(crate) fn new(base: watch::Receiver<Option<String>>) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(STUCK).build().unwrap();
        Self { inner: Arc::new(Inner { client, known: Mutex::default(), seen: Seen::default() }), base }
    }

    pub(crate) fn seen(&self) -> &Seen {
        &self.inner.seen
    }

    /// Makes so many orders a second until it is told to stop; returns when every client is done. Their names begin with
    /// `name`.
    pub(crate) async fn run(
        &self,
        name: &str,
        receivers: &[String],
        rate: u64,
        mut random: Random,
        stop: watch::Receiver<bool>,
    ) -> Vec<Claim> {
        let askers: Vec<_> = (0..ASKERS)
            .map(|_| tokio::spawn(self.clone().ask_around(Random::new(random.next()), stop.clone())))
            .collect();
        let start = Instant::now();
        let mut clients = Vec::new();
        for index in 0.. {
            sleep_until(start + every(rate) * index).await;
            if *stop.borrow() {
                break;
            }
            let order = order(&format!("{name}-{index}"), receivers, &mut random);
            self.seen().orders.fetch_add(1, Relaxed);
            let (me, random) = (self.clone(), Random::new(random.next()));
            clients.push(tokio::spawn(async move { me.place(order, random).await }));
        }
        let mut claims = Vec::new();
        for client in clients {
            claims.extend(client.await.unwrap());
        }
        for asker in askers {
            asker.await.unwrap();
        }
        claims
    }

    /// Asks for every transfer that was accepted, by its id and by its key. Nothing may be open any more.
    pub(crate) async fn ask_for_all(&self) -> usize {
        let all: Vec<(String, Known)> = self.known().iter().map(|(id, known)| (id.clone(), known.clone())).collect();
        let count = all.len();
        let mut parts = Vec::new();
        for part in all.chunks(count.div_ceil(16).max(1)) {
            let (me, part) = (self.clone(), part.to_vec());
            parts.push(tokio::spawn(async move {
                for (id, known) in part {
                    assert!(me.ask(&format!("/transfer/{id}"), &id).await, "{id} is open");
                    if let Some(key) = &known.key {
                        assert!(
                            me.ask(&format!("/transfer/key/{}", key.replace('#', "%23")), &id).await,
                            "{key} is open"
                        );
                    }
                }
            }));
        }
        for part in parts {
            part.await.unwrap();
        }
        count
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.inner.known.lock().unwrap()
    }

    /// One client, from its order to what it knows in the end.
    async fn place(mut self, order: Order, mut random: Random) -> Vec<Claim> {
        let told = match &order.key {
            None => match self.send(&order).await {
                Answer::Status(200 | 202, body, replayed) => {
                    assert!(!replayed, "{body}");
                    self.learn(&order, &accepted(&body));
                    Told::Paid
                }
                Answer::Status(503, ..) | Answer::Unsent => Told::Failed,
                Answer::Broken => Told::Nothing,
                Answer::Status(status, body, _) => panic!("{status} {body} to {order:?}"),
            },
            Some(key) => {
                // Some send it twice at once, from the start.
                let twin = random.chance(0.1).then(|| tokio::spawn(self.clone().insist(order.clone())));
                let first = self.clone().insist(order.clone()).await;
                if let Some(twin) = twin {
                    assert_eq!(twin.await.unwrap(), first, "two answers to {order:?}");
                }
                // Or once more later, as if the answer had been lost after it came.
                if random.chance(0.25) {
                    sleep(Duration::from_millis(random.below(3_000) as u64)).await;
                    assert_eq!(self.clone().insist(order.clone()).await, first, "another answer to {order:?}");
                }
                if random.chance(0.1) {
                    self.misuse(key, &order).await;
                }
                Told::Paid
            }
        };
        order.transfers.into_iter().map(|transfer| Claim { transfer, told }).collect()
    }

    /// Sends the same until it is accepted. Returns the ids of its transfers.
    async fn insist(mut self, order: Order) -> Vec<String> {
        loop {
            match self.send(&order).await {
                Answer::Status(200 | 202, body, replayed) => {
                    self.seen().replayed.fetch_add(usize::from(replayed), Relaxed);
                    let accepted = accepted(&body);
                    self.learn(&order, &accepted);
                    return accepted.into_iter().map(|(id, _)| id).collect();
                }
                Answer::Status(503, ..) | Answer::Unsent | Answer::Broken => sleep(AGAIN).await,
                Answer::Status(status, body, _) => panic!("{status} {body} to {order:?}"),
            }
        }
    }

    /// Another payment under the same name is refused, always.
    async fn misuse(&mut self, key: &str, order: &Order) {
        let mut other = order.clone();
        other.transfers[0].amount += 1;
        other.key = Some(key.to_owned());
        loop {
            match self.send(&other).await {
                Answer::Status(422, ..) => break,
                Answer::Status(503, ..) | Answer::Unsent | Answer::Broken => sleep(AGAIN).await,
                Answer::Status(status, body, _) => panic!("{status} {body} to another {order:?}"),
            }
        }
        self.seen().refused.fetch_add(1, Relaxed);
    }

    /// What became of transfers that somebody was told of: again and again, over all lives.
    async fn ask_around(self, mut random: Random, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow_and_update() {
            let one = {
                let known = self.known();
                (!known.is_empty()).then(|| known.keys().nth(random.below(known.len())).unwrap().clone())
            };
            if let Some(id) = one {
                self.ask(&format!("/transfer/{id}"), &id).await;
            }
            let _ = timeout(Duration::from_millis(10), stop.changed()).await;
        }
    }

    /// Returns whether the transfer has settled. It must be known, and what was final must be so still.
    async fn ask(&self, path: &str, id: &str) -> bool {
        let mut base = self.base.clone();
        let before = self.known().get(id).cloned().unwrap_or_default();
        loop {
            let url = format!("{}{path}", up(&mut base).await);
            let Ok(answer) = self.inner.client.get(url).send().await else {
                sleep(AGAIN).await;
                continue;
            };
            let status = answer.status().as_u16();
            let Ok(mut body) = answer.json::<Value>().await else { continue };
            if status == 503 {
                continue;
            }
            assert_eq!(status, 200, "{path}: {body}");
            let job = body["job"].take();
            assert_eq!(job["id"], id, "{path}");
            self.seen().asked.fetch_add(1, Relaxed);
            let settled = match job["status"].as_str().unwrap() {
                "finalized" => Some(job["txHash"].as_str().unwrap().to_owned()),
                "queued" | "processing" | "submitted" => None,
                other => panic!("{other}: {job}"),
            };
            if before.settled.is_some() {
                assert_eq!(settled, before.settled, "it was final already: {job}");
            }
            if let Some(hash) = &settled {
                self.settled(id, hash);
            }
            return settled.is_some();
        }
    }

    /// These transfers were accepted, and some are final.
    fn learn(&self, order: &Order, accepted: &[(String, Option<String>)]) {
        assert_eq!(accepted.len(), order.transfers.len(), "{order:?}");
        for (index, (id, hash)) in accepted.iter().enumerate() {
            let one = accepted.len() == 1;
            let key = order.key.as_ref().map(|key| if one { key.clone() } else { format!("{key}#{index}") });
            self.known().entry(id.clone()).or_default().key = key;
            if let Some(hash) = hash {
                self.settled(id, hash);
            }
        }
    }

    /// This transfer is final, in this transaction. It stays there.
    fn settled(&self, id: &str, hash: &str) {
        if let Some(known) = self.known().get_mut(id) {
            assert_eq!(known.settled.get_or_insert_with(|| hash.to_owned()), hash, "{id}");
        }
    }

    async fn send(&mut self, order: &Order) -> Answer {
        let one = |Transfer { memo, receiver, amount }: &Transfer| json!({ "receiverId": receiver, "amount": amount.to_string(), "memo": memo });
        let body = match &order.transfers[..] {
            [transfer] => one(transfer),
            all => json!({ "transfers": all.iter().map(one).collect::<Vec<_>>() }),
        };
        let base = up(&mut self.base).await;
        let mut request = self.inner.client.post(format!("{base}/send-ft")).json(&body);
        if let Some(key) = &order.key {
            request = request.header("idempotency-key", key);
        }
        if order.impatient {
            request = request.header("prefer", "respond-async");
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => {
                self.seen().unsent.fetch_add(1, Relaxed);
                return Answer::Unsent;
            }
            Err(error) => return self.broken(&error),
        };
        let status = answer.status().as_u16();
        let replayed = answer.headers().contains_key("idempotency-replayed");
        match answer.json().await {
            Ok(body) => Answer::Status(status, body, replayed),
            Err(error) => self.broken(&error),
        }
    }

    fn broken(&self, error: &reqwest::Error) -> Answer {
        assert!(!error.is_timeout(), "a request hangs: {error:?}");
        self.seen().broken.fetch_add(1, Relaxed);
        Answer::Broken
    }
}

/// Where the service is, once it is up.
async fn up(base: &mut watch::Receiver<Option<String>>) -> String {
    let up = timeout(STUCK, base.wait_for(Option::is_some)).await.expect("the service comes back");
    up.unwrap().clone().unwrap()
}

/// Some send one transfer and some several; most have a name to send them again by; some wait, some do not.
fn order(name: &str, receivers: &[String], random: &mut Random) -> Order {
    let count = if random.chance(0.15) { 2 + random.below(4) } else { 1 };
    // Long ones fill the journal, so that its segments turn over while the service is killed.
    let padding = if random.chance(0.3) { "·".repeat(random.below(450)) } else { String::new() };
    let transfers = (0..count).map(|item| Transfer {
        memo: format!("{name}.{item}{padding}"),
        receiver: receivers[random.below(receivers.len())].clone(),
        amount: 1 + random.below(1_000_000) as u128,
    });
    let transfers = transfers.collect();
    Order { transfers, key: random.chance(0.6).then(|| name.to_owned()), impatient: random.chance(0.4) }
}

/// The ids that an answer gives, in request order, and the transactions of those that it calls final.
fn accepted(body: &Value) -> Vec<(String, Option<String>)> {
    let one = |job: &Value| {
        let is_final = job["status"] == "FINAL";
        let hash = is_final.then(|| job["transactionHash"].as_str().unwrap().to_owned());
        (job["jobId"].as_str().unwrap_or_else(|| panic!("no id in {body}")).to_owned(), hash)
    };
    match (&body["results"], &body["jobIds"]) {
        (Value::Array(results), _) => results.iter().map(one).collect(),
        (_, Value::Array(ids)) => ids.iter().map(|id| (id.as_str().unwrap().to_owned(), None)).collect(),
        _ => vec![one(body)],
    }
}
