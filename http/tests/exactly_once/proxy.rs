//! A reverse proxy between service and node that loses, cuts, delays and refuses, by a seed.
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::JoinSet,
};

use crate::random::Random;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1_024;
/// Longest that a node may take: above the 10 s after which it gives up polling.
const NODE_TIMEOUT: Duration = Duration::from_secs(30);

/// A way to lose the answer to a request that the node has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// The node answers, then the connection closes without a byte.
    CloseAfterAnswer,
    /// The connection closes at once; the node goes on.
    CloseAtOnce,
    /// The node answers, and the client gets a 504.
    GatewayTimeout,
    /// The node answers, and the client gets half of it.
    Truncate,
}

pub(crate) const WAYS: [Way; 4] = [Way::CloseAfterAnswer, Way::CloseAtOnce, Way::GatewayTimeout, Way::Truncate];

/// Which faults are on. All shares are of requests, from 0 to 1; at most one fault hits a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// The node gets these; their answers are lost in each of [`Faults::ways`] in turn.
    pub(crate) lose_answers: f64,
    pub(crate) ways: Vec<Way>,
    /// The node never gets these; their connection closes.
    pub(crate) lose_requests: f64,
    /// With these, refusals begin: for [`Faults::burst`] everything is answered 429 with `Retry-After: 1`.
    pub(crate) throttle: f64,
    pub(crate) burst: Duration,
    /// The answers to these are held back for [`Faults::delay`].
    pub(crate) delay_answers: f64,
    pub(crate) delay: Duration,
    /// The node says of every account that it is registered with the token, as if it had been until just now.
    pub(crate) pretend_registered: bool,
    /// Faults hit `send_tx` alone.
    pub(crate) sends_only: bool,
}

/// What was done to the requests of one JSON-RPC method.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// All that came.
    pub(crate) requests: usize,
    /// Answers that were lost although the node had given them, by way.
    pub(crate) swallowed: BTreeMap<Way, usize>,
    pub(crate) lost_requests: usize,
    pub(crate) throttled: usize,
    pub(crate) delayed: usize,
}

/// A running proxy. Ends when dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Whether anybody listens.
    open: watch::Sender<bool>,
    /// Whether that has come into effect.
    listening: watch::Receiver<bool>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    node: String,
    client: reqwest::Client,
    state: Mutex<State>,
}

struct State {
    faults: Faults,
    random: Random,
    counts: BTreeMap<String, Counts>,
    /// How many answers of a method have been taken, to take turns.
    turns: BTreeMap<String, usize>,
    /// Until when everything is refused.
    refusing: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum Plan {
    Pass,
    Lose(Way),
    LoseRequest,
    Throttle,
    Delay(Duration),
    Pretend,
}

impl Proxy {
    /// Listens in front of this node, at first without faults.
    pub(crate) async fn start(node: &str, seed: u64) -> Self {
        // Bound and never listening: it keeps the port while nobody listens.
        let keeper = bind("127.0.0.1:0".parse().unwrap());
        let address = keeper.local_addr().unwrap();
        let client = reqwest::Client::builder().no_proxy().timeout(NODE_TIMEOUT).build().unwrap();
        let state = State {
            faults: Faults::default(),
            random: Random::new(seed),
            counts: BTreeMap::new(),
            turns: BTreeMap::new(),
            refusing: None,
        };
        let shared = Arc::new(Shared { node: node.into(), client, state: Mutex::new(state) });
        let (open, gate) = watch::channel(true);
        let (report, mut listening) = watch::channel(false);
        let task = tokio::spawn(serve(Arc::clone(&shared), keeper, gate, report));
        listening.wait_for(|listening| *listening).await.unwrap();
        Self { address, shared, open, listening, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn set(&self, faults: Faults) {
        self.shared.state.lock().unwrap().faults = faults;
    }

    pub(crate) fn counts(&self, method: &str) -> Counts {
        self.shared.state.lock().unwrap().counts.get(method).cloned().unwrap_or_default()
    }

    /// Everything that was done to anybody.
    pub(crate) fn faults(&self) -> usize {
        let state = self.shared.state.lock().unwrap();
        let of = |counts: &Counts| {
            counts.swallowed.values().sum::<usize>() + counts.lost_requests + counts.throttled + counts.delayed
        };
        state.counts.values().map(of).sum()
    }

    /// Resets every connection and refuses new ones, or takes them again; returns once that is so.
    pub(crate) async fn set_open(&mut self, open: bool) {
        self.open.send_replace(open);
        self.listening.wait_for(|listening| *listening == open).await.unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

async fn serve(shared: Arc<Shared>, keeper: TcpSocket, mut gate: watch::Receiver<bool>, report: watch::Sender<bool>) {
    let address = keeper.local_addr().unwrap();
    loop {
        let listener = bind(address).listen(BACKLOG).unwrap();
        report.send_replace(true);
        let mut connections = JoinSet::new();
        tokio::select! {
            () = accept(&shared, &listener, &mut connections) => {}
            closed = gate.wait_for(|open| !*open) => if closed.is_err() { return },
        }
        drop(listener);
        // Ends every connection in the middle of whatever it was doing.
        connections.shutdown().await;
        report.send_replace(false);
        if gate.wait_for(|open| *open).await.is_err() {
            return;
        }
    }
}

async fn accept(shared: &Arc<Shared>, listener: &TcpListener, connections: &mut JoinSet<()>) {
    let mut resets = false;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        resets = !resets;
        if resets {
            // Every second one ends with a reset, the others in order.
            let _ = stream.set_zero_linger();
        }
        let shared = Arc::clone(shared);
        connections.spawn(async move {
            let service = service_fn(move |request| handle(Arc::clone(&shared), request));
            // An error is how a connection is closed without an answer.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Reply>, io::Error> {
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    let question: Value = serde_json::from_slice(&body).unwrap_or_default();
    let method = question["method"].as_str().unwrap_or("other").to_owned();
    match shared.plan(&method, &question) {
        Plan::Pass => Ok(reply(shared.forward(body).await?)),
        Plan::Pretend => {
            let (status, answer) = shared.forward(body).await?;
            let mut answer: Value = serde_json::from_slice(&answer)?;
            answer["result"]["result"] = json!(br#"{"total":"1","available":"0"}"#.to_vec());
            Ok(reply((status, answer.to_string().into())))
        }
        Plan::Delay(delay) => {
            let answer = shared.forward(body).await?;
            tokio::time::sleep(delay).await;
            shared.count(&method, |counts| counts.delayed += 1);
            Ok(reply(answer))
        }
        Plan::LoseRequest => {
            shared.count(&method, |counts| counts.lost_requests += 1);
            Err(closed())
        }
        Plan::Throttle => {
            shared.count(&method, |counts| counts.throttled += 1);
            let mut refusal = reply((StatusCode::TOO_MANY_REQUESTS, Bytes::from_static(b"too many requests")));
            refusal.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            Ok(refusal)
        }
        Plan::Lose(Way::CloseAtOnce) => {
            // A task of its own: it outlives the connection.
            tokio::spawn(async move {
                if shared.forward(body).await.is_ok() {
                    shared.swallowed(&method, Way::CloseAtOnce);
                }
            });
            Err(closed())
        }
        Plan::Lose(way) => {
            let (status, answer) = shared.forward(body).await?;
            shared.swallowed(&method, way);
            match way {
                Way::GatewayTimeout => {
                    Ok(reply((StatusCode::GATEWAY_TIMEOUT, Bytes::from_static(b"upstream timed out"))))
                }
                Way::Truncate => {
                    let mut response = reply((status, answer.clone()));
                    *response.body_mut() = Reply::truncated(&answer);
                    Ok(response)
                }
                Way::CloseAfterAnswer | Way::CloseAtOnce => Err(closed()),
            }
        }
    }
}

impl Shared {
    fn plan(&self, method: &str, question: &Value) -> Plan {
        let mut state = self.state.lock().unwrap();
        let State { faults, random, counts, turns, refusing } = &mut *state;
        counts.entry(method.to_owned()).or_default().requests += 1;
        if refusing.is_some_and(|until| Instant::now() < until) {
            return Plan::Throttle;
        }
        if faults.sends_only && method != "send_tx" {
            return Plan::Pass;
        }
        if random.chance(faults.lose_answers) && !faults.ways.is_empty() {
            let turn = turns.entry(method.to_owned()).or_default();
            *turn += 1;
            Plan::Lose(faults.ways[(*turn - 1) % faults.ways.len()])
        } else if random.chance(faults.lose_requests) {
            Plan::LoseRequest
        } else if random.chance(faults.throttle) {
            *refusing = Some(Instant::now() + faults.burst);
            Plan::Throttle
        } else if random.chance(faults.delay_answers) {
            Plan::Delay(faults.delay)
        } else if faults.pretend_registered && question["params"]["method_name"] == "storage_balance_of" {
            Plan::Pretend
        } else {
            Plan::Pass
        }
    }

    async fn forward(&self, body: Bytes) -> Result<(StatusCode, Bytes), io::Error> {
        let request = self.client.post(&self.node).header(header::CONTENT_TYPE, "application/json").body(body);
        let answer = request.send().await.map_err(io::Error::other)?;
        let status = answer.status();
        Ok((status, answer.bytes().await.map_err(io::Error::other)?))
    }

    fn count(&self, method: &str, change: impl FnOnce(&mut Counts)) {
        change(self.state.lock().unwrap().counts.entry(method.to_owned()).or_default());
    }

    fn swallowed(&self, method: &str, way: Way) {
        self.count(method, |counts| *counts.swallowed.entry(way).or_default() += 1);
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "closed on purpose")
}

fn reply((status, body): (StatusCode, Bytes)) -> Response<Reply> {
    let mut response = Response::new(Reply { promised: body.len() as u64, bytes: Some(body), breaks: Break::Never });
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A body that may break off.
struct Reply {
    promised: u64,
    bytes: Option<Bytes>,
    breaks: Break,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Break {
    Never,
    /// After one more turn, in which the bytes go out.
    Soon,
    Now,
}

impl Reply {
    fn truncated(whole: &Bytes) -> Self {
        Self { promised: whole.len() as u64, bytes: Some(whole.slice(..whole.len() / 2)), breaks: Break::Soon }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(bytes) = self.bytes.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match self.breaks {
            Break::Never => Poll::Ready(None),
            Break::Soon => {
                self.breaks = Break::Now;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Break::Now => Poll::Ready(Some(Err(closed()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none() && self.breaks == Break::Never
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.promised)
    }
}

#[cfg(test)]
mod tests {
    use keyshard_sandbox::Sandbox;

    use super::*;

    async fn ask(client: &reqwest::Client, url: &str) -> Result<(u16, Option<Value>), reqwest::Error> {
        let question = json!({ "jsonrpc": "2.0", "id": 1, "method": "status", "params": [] });
        let answer = client.post(url).json(&question).send().await?;
        let (status, length) = (answer.status().as_u16(), answer.content_length());
        assert!(length.is_some_and(|length| length > 0));
        Ok((status, serde_json::from_slice(&answer.bytes().await?).ok()))
    }

    /// Each fault is what it says, as a client sees it.
    #[tokio::test]
    async fn faults() {
        let sandbox = Sandbox::start(keyshard_sandbox::Config::default()).unwrap();
        let mut proxy = Proxy::start(&sandbox.rpc_url(), 1).await;
        let url = proxy.url();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        let (status, body) = ask(&client, &url).await.unwrap();
        assert!(status == 200 && body.unwrap()["result"]["chain_id"].is_string());

        proxy.set(Faults { lose_answers: 1.0, ways: WAYS.to_vec(), ..Faults::default() });
        for way in WAYS {
            let answer = ask(&client, &url).await;
            match way {
                Way::CloseAfterAnswer | Way::CloseAtOnce => assert!(answer.unwrap_err().is_request()),
                Way::GatewayTimeout => assert_eq!(answer.unwrap(), (504, None)),
                Way::Truncate => {
                    // The head came, so that the answer had begun; its end did not.
                    let error = answer.unwrap_err();
                    assert!(error.is_body() || error.is_decode(), "{error:?}");
                }
            }
        }
        // The node has answered them all; that of the second may be on its way.
        while proxy.counts("status").swallowed.len() < WAYS.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }

        proxy.set(Faults { lose_requests: 1.0, ..Faults::default() });
        assert!(ask(&client, &url).await.unwrap_err().is_request());
        proxy.set(Faults { throttle: 1.0, burst: Duration::from_mins(1), ..Faults::default() });
        assert_eq!(ask(&client, &url).await.unwrap().0, 429);
        proxy.set(Faults::default());
        assert_eq!(ask(&client, &url).await.unwrap().0, 429, "the burst goes on");
        proxy.shared.state.lock().unwrap().refusing = None;
        proxy.set(Faults { delay_answers: 1.0, delay: Duration::from_millis(200), ..Faults::default() });
        let asked = Instant::now();
        assert_eq!(ask(&client, &url).await.unwrap().0, 200);
        assert!(asked.elapsed() >= Duration::from_millis(200));

        proxy.set_open(false).await;
        assert!(ask(&client, &url).await.unwrap_err().is_connect());
        proxy.set_open(true).await;
        assert_eq!(ask(&client, &url).await.unwrap().0, 200);
        let Counts { requests, lost_requests, throttled, delayed, .. } = proxy.counts("status");
        assert_eq!((requests, lost_requests, throttled, delayed), (10, 1, 2, 2));
    }
}
