//! The front-end threads: each has its own listener, runtime and way into the engine.
use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs as _},
    pin::pin,
    rc::Rc,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioTimer;
use keyshard_engine::{Door, Engine};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::{JoinSet, LocalSet, spawn_local},
    time::{sleep, timeout},
};

use crate::{
    config::Http,
    io::Connection,
    json::Iso,
    metrics::Stats,
    router,
    service::{Phase, Place, Service, Shared},
};

/// Connections that the kernel may hold until they are accepted (it caps this at `net.core.somaxconn`).
const BACKLOG: i32 = 4_096;
/// Longest header block. Real ones take below 2 KiB; it is also what an idle connection may cost.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// How long connections may take to end once whoever waited has been answered.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// Pause after a failed accept: out of file descriptors, and retrying at once would only burn the core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
        let shared = Arc::new(Shared {
            http,
            engine: OnceLock::new(),
            stats,
            connections: AtomicUsize::new(0),
            body_bytes: AtomicUsize::new(0),
            started: Instant::now(),
            started_at: Iso::now(),
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

/// Serves a connection, or closes it at once if there are too many.
fn welcome(service: &Rc<Service>, connections: &mut JoinSet<()>, stream: TcpStream, peer: SocketAddr) {
    if let Some(place) = Place::take(&service.shared) {
        connections.spawn_local(connection(Rc::clone(service), place, stream, peer));
    }
}

/// The life of one connection.
async fn connection(service: Rc<Service>, _place: Place, stream: TcpStream, peer: SocketAddr) {
    let http = service.http();
    // Without it an answer in two segments waits for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let io = Connection::new(stream, http.write_timeout);
    let handler = service_fn({
        let service = Rc::clone(&service);
        move |request| router::respond(Rc::clone(&service), peer, request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(http.header_timeout)
        .max_buf_size(MAX_HEADER_BYTES)
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
