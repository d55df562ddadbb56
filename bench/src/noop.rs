//! A server of the same shape as the service's front end that answers a constant: what is left when nothing is done.
//!
//! Threads with a listener each (`SO_REUSEPORT`), a current-thread runtime, hyper's HTTP/1 with the same settings, the body
//! read in full. What the service does beyond that is parse, hash, journal, sign and pay.
use std::{convert::Infallible, io, net::SocketAddr, thread::JoinHandle, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpListener, sync::watch, task::LocalSet};

/// What the service says to an accepted single transfer, in length and look.
const ANSWER: &[u8] = br#"{"success":true,"status":"processing","jobId":"c13eb383-9cca-4c41-bef9-badb3e2eadae","results":[{"jobId":"c13eb383-9cca-4c41-bef9-badb3e2eadae","receiverId":"user1.test.near","amount":"1","status":"queued"}],"message":"Accepted 1 transfer and still processing: do not send again, ask GET /transfer/<jobId>."}"#;
/// As the service's front end has them.
const BACKLOG: i32 = 4_096;
const MAX_HEADER_BYTES: usize = 32 * 1024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);

/// A running server. Stops when dropped.
#[derive(Debug)]
pub struct Noop {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Noop {
    /// Listens on a free port of this machine with so many threads.
    pub fn start(threads: usize) -> io::Result<Self> {
        let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
        let stop = watch::Sender::new(false);
        let mut running = Vec::new();
        for index in 0..threads.max(1) {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_port(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            let listener = std::net::TcpListener::from(socket);
            address = listener.local_addr()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let stopped = stop.subscribe();
            let serve = move || LocalSet::new().block_on(&runtime, serve(listener, stopped));
            running.push(std::thread::Builder::new().name(format!("noop-{index}")).spawn(serve)?);
        }
        Ok(Self { address, stop, threads: running })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Noop {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, mut stopped: watch::Receiver<bool>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                tokio::task::spawn_local(async move {
                    let _ = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEADER_TIMEOUT)
                        .max_buf_size(MAX_HEADER_BYTES)
                        .serve_connection(TokioIo::new(stream), service_fn(respond))
                        .await;
                });
            }
            // Out of file descriptors, say: trying again at once would spin.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn respond(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let read = request.into_body().collect().await;
    let mut response = Response::new(Full::new(Bytes::from_static(ANSWER)));
    *response.status_mut() = if read.is_ok() { StatusCode::ACCEPTED } else { StatusCode::BAD_REQUEST };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(HeaderName::from_static("keep-alive"), HeaderValue::from_static("timeout=15"));
    Ok(response)
}
