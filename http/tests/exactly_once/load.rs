//! An open-loop load: every request has its instant, whether earlier ones were answered or not.
//!
//! Latency is measured from that instant, so that a service (or a client) that falls behind cannot hide it.
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{audit::Transfer, random::Random};

/// Most requests in flight: more would run into the limit of open files, and the load would no longer be open.
const MAX_IN_FLIGHT: usize = 10_000;
/// After this a request counts as hanging: the service answers 202 after 60 s.
const HANGING: Duration = Duration::from_secs(100);

/// How a request ended.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// With this status and body.
    Answered(u16, Value),
    /// Nobody listened: it was never sent.
    Unsent,
    /// The connection ended without a whole answer.
    Broken(String),
}

/// A request that was made, with its end.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// What it asked for: one for a single request, several for a batch.
    pub(crate) transfers: Vec<Transfer>,
    pub(crate) outcome: Outcome,
    /// From the instant at which it was due to the last byte of its answer.
    pub(crate) latency: Duration,
}

impl Sent {
    /// The status of its answer; 0 without one.
    pub(crate) fn status(&self) -> u16 {
        match self.outcome {
            Outcome::Answered(status, _) => status,
            _ => 0,
        }
    }
}

/// `count` transfers with memos of their own, to receivers drawn evenly. Their amounts are all different.
pub(crate) fn transfers(name: &str, count: usize, receivers: &[String], random: &mut Random) -> Vec<Transfer> {
    let one = |index: usize| Transfer {
        memo: format!("{name}-{index}"),
        receiver: receivers[random.below(receivers.len())].clone(),
        amount: 1_000 + index as u128,
    };
    (0..count).map(one).collect()
}

/// One request for each transfer.
pub(crate) fn singles(transfers: Vec<Transfer>) -> Vec<Vec<Transfer>> {
    transfers.into_iter().map(|transfer| vec![transfer]).collect()
}

/// Sends one request after the other, `every` apart (zero: all at once), and waits for all. `answered` is told how many
/// have ended.
pub(crate) async fn run(
    base: &str,
    requests: Vec<Vec<Transfer>>,
    every: Duration,
    answered: &watch::Sender<usize>,
) -> Vec<Sent> {
    let builder = reqwest::Client::builder().no_proxy().timeout(HANGING).pool_max_idle_per_host(MAX_IN_FLIGHT);
    let client = builder.build().unwrap();
    let url = format!("{base}/send-ft");
    let in_flight = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let mut tasks = Vec::with_capacity(requests.len());
    for (index, transfers) in (0..).zip(requests) {
        let due = start + every * index;
        if !every.is_zero() {
            sleep_until(due).await;
        }
        let now_in_flight = in_flight.fetch_add(1, Relaxed) + 1;
        assert!(now_in_flight <= MAX_IN_FLIGHT, "{now_in_flight} requests in flight: the load is no longer open");
        let (client, url, in_flight, answered) = (client.clone(), url.clone(), in_flight.clone(), answered.clone());
        tasks.push(tokio::spawn(async move {
            let outcome = send(&client, &url, &transfers).await;
            let latency = due.elapsed();
            in_flight.fetch_sub(1, Relaxed);
            answered.send_modify(|count| *count += 1);
            Sent { transfers, outcome, latency }
        }));
    }
    let mut all = Vec::with_capacity(tasks.len());
    for task in tasks {
        all.push(task.await.unwrap());
    }
    all
}

async fn send(client: &reqwest::Client, url: &str, transfers: &[Transfer]) -> Outcome {
    let one = |transfer: &Transfer| {
        let Transfer { memo, receiver, amount } = transfer;
        json!({ "receiverId": receiver, "amount": amount.to_string(), "memo": memo })
    };
    let body = match transfers {
        [transfer] => one(transfer),
        all => json!({ "transfers": all.iter().map(one).collect::<Vec<_>>() }),
    };
    let answer = match client.post(url).json(&body).send().await {
        Ok(answer) => answer,
        Err(error) if error.is_connect() => return Outcome::Unsent,
        Err(error) => return broken(&error),
    };
    let status = answer.status().as_u16();
    match answer.text().await {
        Ok(text) => {
            let body =
                serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} with a body that is no JSON: {text}"));
            Outcome::Answered(status, body)
        }
        Err(error) => broken(&error),
    }
}

fn broken(error: &reqwest::Error) -> Outcome {
    assert!(!error.is_timeout(), "a request hangs: {error:?}");
    Outcome::Broken(format!("{error:?}"))
}

/// The latency that this share of the answers does not exceed, in milliseconds.
pub(crate) fn percentile_ms(sent: &[Sent], share: f64) -> f64 {
    let mut all: Vec<_> = sent.iter().filter(|sent| sent.status() != 0).map(|sent| sent.latency).collect();
    all.sort_unstable();
    let rank = (all.len() as f64 * share).ceil() as usize;
    all.get(rank.saturating_sub(1)).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1_000.0)
}

/// `p50 1 p95 2 p99 3 ms`
pub(crate) fn percentiles(sent: &[Sent]) -> String {
    let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|share| percentile_ms(sent, share));
    format!("p50 {p50:.0} p95 {p95:.0} p99 {p99:.0} ms")
}
