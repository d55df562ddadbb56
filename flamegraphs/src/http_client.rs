//! A single GET.
use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// Largest answer that is read: the stacks of a minute.
const MAX_BYTES: usize = 256 << 20;

/// Status and body of a GET, from a thread without a runtime.
pub fn get(address: SocketAddr, path: &str, limit: Duration) -> io::Result<(u16, Bytes)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime
        .block_on(async { timeout(limit, exchange(address, path)).await })
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn exchange(address: SocketAddr, path: &str) -> io::Result<(u16, Bytes)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Ends with the sender; what goes wrong shows in the answer.
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await.map_err(io::Error::other)?;
    Ok((status, body.to_bytes()))
}
