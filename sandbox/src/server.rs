//! The only part with sockets, threads and a clock: HTTP in front of the chain, and a block every `block_ms`.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use near_crypto::PublicKey;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::LocalSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::chain::Chain;
use crate::config::Config;
use crate::credentials::{self, Credentials, derive_key};
use crate::history::MAX_VALIDITY_PERIOD;
use crate::methods;
use crate::rpc_error::RpcError;

/// Largest request body, in bytes: what a real node's HTTP layer takes in the end.
pub const MAX_BODY: usize = 2 * 1024 * 1024;
/// How much more of a too large body is read before its refusal, in bytes, and for how long.
const MAX_DISCARD: usize = 4 * MAX_BODY;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
/// Most connections at the same time; more wait to be accepted. A connection carries one request at a time, so this is
/// also the bound on requests that wait for a transaction, and on bodies in memory.
pub const MAX_CONNECTIONS: usize = 2_048;
/// How long a connection may be silent between requests, or take for a request's head: longer than HTTP clients keep
/// idle connections (90 s), so that they close first.
const HEAD_TIMEOUT: Duration = Duration::from_mins(2);
/// How long a request's body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A running sandbox node. Stops when dropped.
pub struct Sandbox {
    credentials: Credentials,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot work.
    #[error("sandbox configuration: {0}")]
    Config(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// No thread, or no runtime for it.
    #[error("cannot start the sandbox thread: {0}")]
    Thread(std::io::Error),
}

impl Sandbox {
    /// Starts a node in a thread of its own. When this returns, it listens.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(config: Config) -> Result<Self, StartError> {
        if let Some(problem) = config.problem() {
            return Err(StartError::Config(problem));
        }
        if config.transaction_validity_period > MAX_VALIDITY_PERIOD {
            return Err(StartError::Config(format!(
                "transaction_validity_period must be at most {MAX_VALIDITY_PERIOD}"
            )));
        }
        let wanted = SocketAddr::new(config.host, config.rpc_port);
        let listen = |source| StartError::Listen { address: wanted, source };
        let listener = StdListener::bind(wanted).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let credentials = Credentials {
            rpc: format!("http://{address}"),
            account: credentials::ACCOUNT.to_owned(),
            secret: derive_key(config.seed, "master").to_string(),
            ft: credentials::FT.to_owned(),
            keys: (1..=config.keys).map(|index| derive_key(config.seed, &format!("key{index}")).to_string()).collect(),
            receivers: (1..=config.receivers).map(|index| format!("user{index}.{}", credentials::ACCOUNT)).collect(),
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("sandbox".into())
            .spawn(move || {
                let local = LocalSet::new();
                runtime.block_on(local.run_until(async move {
                    if let Err(error) = run(&config, listener, address, stopped).await {
                        tracing::error!(%error, "the sandbox stopped");
                    }
                }));
            })
            .map_err(StartError::Thread)?;
        Ok(Self { credentials, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens, as `http://127.0.0.1:3030`.
    pub fn rpc_url(&self) -> String {
        self.credentials.rpc.clone()
    }

    /// Accounts and keys of this chain.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Stops the node: connections are cut, the chain is gone.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("rpc", &self.credentials.rpc).finish_non_exhaustive()
    }
}

/// What all requests of a node share; it lives on one thread.
pub(crate) struct Node {
    pub(crate) chain: RefCell<Chain>,
    /// Height of the head: whoever waits for a block watches it.
    pub(crate) head: watch::Sender<u64>,
    pub(crate) public_key: PublicKey,
    pub(crate) address: SocketAddr,
    started: Instant,
}

impl Node {
    fn produce_block(&self) {
        let height = {
            let mut chain = self.chain.borrow_mut();
            chain.produce_block(now_nanos());
            chain.head().height
        };
        self.head.send_replace(height);
    }

    /// Makes a block `delta` heights above the head at once.
    pub(crate) fn fast_forward(&self, delta: u64) -> Result<(), &'static str> {
        let height = {
            let mut chain = self.chain.borrow_mut();
            chain.fast_forward(delta, now_nanos())?;
            chain.head().height
        };
        self.head.send_replace(height);
        Ok(())
    }

    pub(crate) fn uptime_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}

/// Blocks until the first one has a final ancestor above genesis.
const UNTIL_FINAL: u64 = 3;

/// The chain at its start.
fn chain(config: &Config, now_nanos: u64) -> Chain {
    let Some(since) = config.since else { return Chain::new(config, now_nanos) };
    let since = since.as_nanos() as u64;
    let mut chain = Chain::new(config, since);
    let height = now_nanos.saturating_sub(since) / (config.block_ms * 1_000_000);
    if let Err(error) = chain.fast_forward(height.max(1), now_nanos) {
        tracing::warn!(error, height, "the chain begins at its genesis");
    }
    // Else the last final block would be genesis for a while, and what is signed against that is expired.
    (0..UNTIL_FINAL).for_each(|_| chain.produce_block(now_nanos));
    chain
}

fn now_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

async fn run(
    config: &Config,
    listener: StdListener,
    address: SocketAddr,
    mut stopped: oneshot::Receiver<()>,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let node = Rc::new(Node {
        chain: RefCell::new(chain(config, now_nanos())),
        head: watch::Sender::new(0),
        public_key: derive_key(config.seed, "validator").public_key(),
        address,
        started: Instant::now(),
    });
    let mut clock = tokio::time::interval(Duration::from_millis(config.block_ms));
    // A block that took long delays the next one: blocks are never made in a hurry.
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock.tick().await;
    let slots = Rc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => return Ok(()),
            _ = clock.tick() => node.produce_block(),
            accepted = accept(&listener, &slots) => {
                let (stream, slot) = accepted;
                let _ = stream.set_nodelay(true);
                let node = Rc::clone(&node);
                tokio::task::spawn_local(async move {
                    let service = service_fn(move |request| {
                        let node = Rc::clone(&node);
                        async move { Ok::<_, Infallible>(respond(&node, request).await) }
                    });
                    let served = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD_TIMEOUT)
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                    if let Err(error) = served {
                        tracing::debug!(%error, "connection ended");
                    }
                    drop(slot);
                });
            }
        }
    }
}

async fn accept(listener: &TcpListener, slots: &Rc<tokio::sync::Semaphore>) -> (tokio::net::TcpStream, SlotGuard) {
    loop {
        // The semaphore is never closed.
        let Ok(permit) = slots.acquire().await else { continue };
        match listener.accept().await {
            Ok((stream, _)) => {
                permit.forget();
                return (stream, SlotGuard(Rc::clone(slots)));
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                // Out of file descriptors, say: trying again at once would spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

struct SlotGuard(Rc<tokio::sync::Semaphore>);

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

type Reply = Response<Full<Bytes>>;

async fn respond(node: &Node, request: Request<Incoming>) -> Reply {
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/") => post(node, request).await,
        (&Method::GET | &Method::HEAD, "/status") => match serde_json::to_vec(&methods::status(node)) {
            Ok(body) => json(StatusCode::OK, body),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        (&Method::GET | &Method::HEAD, "/health") => json(StatusCode::OK, b"null".to_vec()),
        (&Method::GET | &Method::HEAD, "/metrics") => text(StatusCode::OK, metrics(node)),
        (_, "/" | "/status" | "/health" | "/metrics") => {
            let mut reply = Response::new(Full::default());
            *reply.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            let allowed = if request.uri().path() == "/" { "POST" } else { "GET,HEAD" };
            reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            reply
        }
        _ => {
            let mut reply = Response::new(Full::default());
            *reply.status_mut() = StatusCode::NOT_FOUND;
            reply
        }
    }
}

async fn post(node: &Node, request: Request<Incoming>) -> Reply {
    let is_json = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        let kind = value.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json")
    });
    if !is_json {
        let reason = "Expected request with `Content-Type: application/json`";
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason.into());
    }
    let body = match tokio::time::timeout(BODY_TIMEOUT, read_body(request.into_body())).await {
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the request body took too long".into()),
        Ok(Err(error)) => return text(StatusCode::BAD_REQUEST, format!("Failed to buffer the request body: {error}")),
        Ok(Ok(None)) => {
            let reason = "Failed to buffer the request body: length limit exceeded";
            return text(StatusCode::PAYLOAD_TOO_LARGE, reason.into());
        }
        Ok(Ok(Some(body))) => body,
    };
    rpc(node, &body).await
}

/// The whole body, or none if it is too large.
async fn read_body(mut body: Incoming) -> Result<Option<Vec<u8>>, hyper::Error> {
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if all.len() + data.len() > MAX_BODY {
                let _ = tokio::time::timeout(DISCARD_TIMEOUT, discard(body)).await;
                return Ok(None);
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(Some(all))
}

/// Reads what is left of a body, up to a point: a client that is still writing when its connection closes would not see
/// the answer.
async fn discard(mut body: Incoming) {
    let mut left = MAX_DISCARD;
    while let Some(Ok(frame)) = body.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
        }
    }
}

/// A JSON-RPC request. Unlike JSON-RPC, a node wants an id and knows no batches.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow)]
    jsonrpc: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    method: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

async fn rpc(node: &Node, body: &[u8]) -> Reply {
    let envelope = match serde_json::from_slice::<Envelope<'_>>(body) {
        Ok(envelope) if envelope.jsonrpc == "2.0" => envelope,
        _ => {
            // A real node parses to a generic value first: its error texts are that parser's.
            return match serde_json::from_slice::<serde_json::Value>(body) {
                Err(error) => {
                    text(StatusCode::BAD_REQUEST, format!("Failed to parse the request body as JSON: {error}"))
                }
                Ok(_) => envelope_reply(Err(RpcError::parse("JSON RPC Request format was expected")), "null"),
            };
        }
    };
    envelope_reply(methods::call(node, &envelope.method, envelope.params).await, envelope.id.get())
}

fn envelope_reply(result: Result<Vec<u8>, RpcError>, id: &str) -> Reply {
    let (status, field, value) = match result {
        Ok(value) => (StatusCode::OK, "result", value),
        Err(error) => {
            let status = StatusCode::from_u16(error.http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, "error", serde_json::to_vec(&error).unwrap_or_else(|_| b"null".to_vec()))
        }
    };
    let mut body = Vec::with_capacity(value.len() + id.len() + 40);
    body.extend_from_slice(br#"{"jsonrpc":"2.0",""#);
    body.extend_from_slice(field.as_bytes());
    body.extend_from_slice(br#"":"#);
    body.extend_from_slice(&value);
    body.extend_from_slice(br#","id":"#);
    body.extend_from_slice(id.as_bytes());
    body.push(b'}');
    json(status, body)
}

fn json(status: StatusCode, body: Vec<u8>) -> Reply {
    reply(status, "application/json", body)
}

fn text(status: StatusCode, body: String) -> Reply {
    reply(status, "text/plain; charset=utf-8", body.into_bytes())
}

fn reply(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

/// A few of a real node's gauges, in the Prometheus text format.
fn metrics(node: &Node) -> String {
    let chain = node.chain.borrow();
    format!(
        "# TYPE near_block_height_head gauge\nnear_block_height_head {}\n\
         # TYPE near_final_block_height gauge\nnear_final_block_height {}\n\
         # TYPE near_transaction_pool_entries gauge\nnear_transaction_pool_entries {}\n\
         # TYPE keyshard_sandbox_delayed_receipts gauge\nkeyshard_sandbox_delayed_receipts {}\n",
        chain.head().height,
        chain.final_block().height,
        chain.pool_len(),
        chain.delayed_receipts(),
    )
}
