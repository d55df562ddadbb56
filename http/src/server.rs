//! The front-end threads: each has its own listener, runtime and way into the engine.
use std::{
    convert::Infallible,
    fmt, io,
    io::{Read as _, Write as _},
    net::{SocketAddr, ToSocketAddrs as _},
    pin::pin,
    rc::Rc,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::header;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioTimer;
use keyshard_engine::{Door, Engine};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::{JoinSet, LocalSet, spawn_local},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    config::Http,
    connections::{Room, Seat},
    dashboard::Viewers,
    io::Connection,
    json::Iso,
    metrics::Stats,
    router,
    service::{Phase, Place, Service, Shared},
};

/// Connections that the kernel may hold until they are accepted (it caps this at `net.core.somaxconn`).
const BACKLOG: i32 = 4_096;
/// How long connections may take to end once whoever waited has been answered.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// Pause after a failed accept: out of file descriptors, and retrying at once would only burn the core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What TLS begins with.
const TLS_HANDSHAKE: u8 = 0x16;
/// A running front end. It listens from the start; transfers are accepted once an engine is attached.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    threads: Vec<Thread>,
}

struct Thread {
    door: Option<oneshot::Sender<Delivery>>,
    ended: oneshot::Receiver<()>,
}

/// A door on its way to its thread, and whom to tell that it has arrived.
type Delivery = (Door, oneshot::Sender<()>);

/// Why the front end does not start.
#[derive(Debug)]
pub struct BindError {
    address: String,
    source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, source } = self;
        match source.kind() {
            io::ErrorKind::AddrInUse => {
                write!(f, "{address} is taken by another program: choose another port with PORT (or --port)")
            }
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "{address} is not an address of this machine: check HOST")
            }
            io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "{address} needs privileges that this process does not have: choose a port above 1023 with PORT"
                )
            }
            _ => write!(f, "cannot listen on {address}: {source} (check HOST and PORT)"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Server {
    /// Binds one listener for each thread and starts them. `/health` answers from now on.
    pub fn start(http: Http) -> Result<Self, BindError> {
        let address = format!("{}:{}", http.host, http.port);
        let problem = |source| BindError { address: address.clone(), source };
        let listeners = listeners(&http).map_err(problem)?;
        let address = listeners[0].local_addr().map_err(problem)?;
        let stats = listeners.iter().map(|_| Arc::new(Stats::new())).collect();
        let rooms = listeners.iter().map(|_| Arc::<Room>::default()).collect();
        let shared = Arc::new(Shared {
            http,
            engine: OnceLock::new(),
            stats,
            rooms,
            connections: AtomicUsize::new(0),
            body_bytes: AtomicUsize::new(0),
            started: Instant::now(),
            started_at: Iso::now(),
            webhooks: Arc::default(),
            viewers: Viewers::default(),
        });
        let phase = watch::Sender::new(Phase::Serving);
        let mut threads = Vec::with_capacity(listeners.len());
        for (index, listener) in listeners.into_iter().enumerate() {
            let (door, doors) = oneshot::channel();
            let (end, ended) = oneshot::channel();
            let (shared, phase) = (Arc::clone(&shared), phase.subscribe());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(problem)?;
            std::thread::Builder::new()
                .name(format!("http-{index}"))
                .spawn(move || {
                    let service = Rc::new(Service::new(shared, index));
                    let served = LocalSet::new().block_on(&runtime, serve(service, listener, doors, phase));
                    if let Err(error) = served {
                        tracing::error!(%error, thread = index, "a front-end thread cannot listen");
                    }
                    let _ = end.send(());
                })
                .map_err(problem)?;
            threads.push(Thread { door: Some(door), ended });
        }
        Ok(Self { address, shared, phase, threads })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its threads share.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Once this returns, every thread accepts transfers. `doors` holds one for each thread ([`Http::threads`]).
    pub async fn attach(&mut self, engine: Engine, doors: Vec<Door>) {
        // First the engine: a thread that has a door must find it.
        let _ = self.shared.engine.set(engine);
        for (thread, door) in self.threads.iter_mut().zip(doors) {
            let (arrived, arrival) = oneshot::channel();
            if let Some(sender) = thread.door.take() {
                let _ = sender.send((door, arrived));
                let _ = arrival.await;
            }
        }
    }

    /// No connection is accepted any more; open ones are closed after the request that they are at.
    pub fn stop_accepting(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    /// Answers whoever still waits, closes every connection and ends the threads. Takes two seconds at most.
    pub async fn close(self) {
        self.phase.send_replace(Phase::Closing);
        for thread in self.threads {
            let _ = thread.ended.await;
        }
    }
}

/// One listener for each thread, all on the same port.
fn listeners(http: &Http) -> io::Result<Vec<std::net::TcpListener>> {
    let mut address = (http.host.as_str(), http.port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?;
    if address.port() != 0 {
        // With SO_REUSEPORT a second service of the same user would share the port and take half of the requests.
        // A socket without it finds out whether anybody is there.
        bind(address, false)?;
    }
    let mut listeners = Vec::with_capacity(http.threads);
    for _ in 0..http.threads.max(1) {
        let socket = bind(address, true)?;
        socket.listen(BACKLOG)?;
        let listener = std::net::TcpListener::from(socket);
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// The life of one thread.
async fn serve(
    service: Rc<Service>,
    listener: std::net::TcpListener,
    doors: oneshot::Receiver<Delivery>,
    mut phase: watch::Receiver<Phase>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    // It ends with this thread.
    spawn_local(Rc::clone(&service).announce());
    let mut connections = JoinSet::new();
    let mut doors = pin!(doors);
    let mut waiting_for_door = true;
    let mut failing = false;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    failing = false;
                    welcome(&service, &mut connections, stream, peer);
                }
                Err(error) => {
                    if !failing && !is_of_the_client(&error) {
                        tracing::warn!(%error, "cannot accept connections (is the limit of open files too low?)");
                        failing = true;
                    }
                    if failing {
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            },
            door = &mut doors, if waiting_for_door => {
                waiting_for_door = false;
                if let Ok((door, arrived)) = door {
                    service.open(door);
                    let _ = arrived.send(());
                }
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            wanted = service.connections.room().asked() => {
                for _ in 0..wanted {
                    service.connections.close_oldest();
                }
            }
            changed = phase.changed() => {
                if changed.is_err() || *phase.borrow() != Phase::Serving {
                    break;
                }
            }
        }
    }
    // Whoever the kernel has already taken in is served, not reset.
    while let Ok(Ok((stream, peer))) = timeout(Duration::ZERO, listener.accept()).await {
        welcome(&service, &mut connections, stream, peer);
    }
    drop(listener);
    service.phase.send_replace(Phase::Draining);
    tokio::select! {
        () = all_ended(&mut connections) => return Ok(()),
        // An error means that the server is gone.
        _ = phase.wait_for(|phase| *phase == Phase::Closing) => {}
    }
    service.phase.send_replace(Phase::Closing);
    let _ = timeout(CLOSE_GRACE, all_ended(&mut connections)).await;
    Ok(())
}

async fn all_ended(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

/// Serves a connection, or refuses it if there is no room.
fn welcome(service: &Rc<Service>, connections: &mut JoinSet<()>, stream: TcpStream, peer: SocketAddr) {
    let Some(place) = Place::take(service) else { return refuse(service, stream) };
    let seat = service.connections.open();
    let index = seat.index();
    let task = connections.spawn_local(connection(Rc::clone(service), place, seat, stream, peer));
    service.connections.set_task(index, task);
}

/// Says why, if that can be had without waiting.
fn refuse(service: &Service, stream: TcpStream) {
    if service.http().tls.is_none()
        && let Ok(mut stream) = stream.into_std()
    {
        let _ =
            stream.write(&early_answer("503 Service Unavailable", "Too many connections are busy, please retry later"));
        // What has come already would turn the close into a reset.
        let _ = stream.read(&mut [0; 4_096]);
    }
}

/// An answer to somebody who is not served.
fn early_answer(status: &str, error: &str) -> Vec<u8> {
    let body = format!("{{\"error\":\"{error}\"}}");
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: {length}\r\nconnection: \
         close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The life of one connection.
async fn connection(service: Rc<Service>, _place: Place, seat: Seat, stream: TcpStream, peer: SocketAddr) {
    // Without it an answer in two segments waits for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    match service.http().tls.as_ref().map(|tls| tls.config()) {
        None => exchange(service, seat, stream, peer).await,
        // In a box: connections without TLS need not have room for it.
        Some(config) => {
            Box::pin(async move {
                if let Some(stream) = shake_hands(&service, config, stream).await {
                    exchange(service, seat, stream, peer).await;
                }
            })
            .await;
        }
    }
}

/// The TLS handshake, as long as a header block may take.
async fn shake_hands(
    service: &Service,
    config: Arc<rustls::ServerConfig>,
    mut stream: TcpStream,
) -> Option<TlsStream<TcpStream>> {
    let handshake = async {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first[0] != TLS_HANDSHAKE {
            let answer = early_answer("400 Bad Request", "This port speaks HTTPS only: use https://");
            stream.write_all(&answer).await?;
            let _ = stream.try_read(&mut [0; 4_096]);
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no TLS"));
        }
        TlsAcceptor::from(config).accept(stream).await
    };
    let limit = service.http().header_timeout;
    let ended = tokio::select! {
        ended = timeout(limit, handshake) => ended.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        () = service.closing() => return None,
    };
    ended
        .inspect_err(|error| {
            service.stats.handshakes_failed.fetch_add(1, Relaxed);
            tracing::debug!(%error, "a TLS handshake failed");
        })
        .ok()
}

/// Requests and answers, until either side ends it.
async fn exchange<S>(service: Rc<Service>, seat: Seat, stream: S, peer: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let http = service.http();
    let seat = Rc::new(seat);
    let io = Connection::new(stream, http.write_timeout, Rc::clone(&seat));
    let handler = service_fn({
        let service = Rc::clone(&service);
        move |request| {
            let (service, seat) = (Rc::clone(&service), Rc::clone(&seat));
            async move {
                let working = seat.work();
                let answer = router::respond(service, peer, request).await?;
                drop(working);
                // It may leave a body that nobody reads.
                seat.set_unread(answer.headers().get(header::CONNECTION).is_some_and(|value| value == "close"));
                Ok::<_, Infallible>(answer)
            }
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(http.header_timeout)
        .max_header_size(http.max_header_bytes)
        .max_buf_size(http.max_header_bytes.max(Http::MAX_HEADER_BYTES))
        .serve_connection(io, handler);
    let mut serving = pin!(serving);
    let mut phase = service.phase.subscribe();
    tokio::select! {
        ended = serving.as_mut() => return log_end(ended),
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => {}
    }
    serving.as_mut().graceful_shutdown();
    log_end(serving.await);
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Errors of `accept` that concern the one connection only.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = self.shared.connections.load(Relaxed);
        f.debug_struct("Server")
            .field("address", &self.address)
            .field("connections", &connections)
            .finish_non_exhaustive()
    }
}
