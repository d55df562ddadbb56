//! What the tests share: a server on a free port, a client, and connections that speak byte by byte.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests; not every test uses each")]

pub(crate) mod by_hand;
pub(crate) mod chain;
pub(crate) mod odd_node;
pub(crate) mod program;
pub(crate) mod serving;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use keyshard::{config::Http, cors::Cors, server::Server};

/// Longest wait for anything that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A front end without an engine, on any free port.
pub(crate) fn http() -> Http {
    Http {
        host: "127.0.0.1".into(),
        port: 0,
        threads: 2,
        request_timeout: PATIENCE,
        // Longer than any test: what happens within it happens for another reason.
        write_timeout: PATIENCE * 10,
        header_timeout: Http::HEADER_TIMEOUT,
        body_timeout: Http::BODY_TIMEOUT,
        max_header_bytes: Http::MAX_HEADER_BYTES,
        max_connections: 1_000,
        tls: None,
        access: std::sync::Arc::default(),
        cors: Cors::Any,
        account: "test.near".parse().unwrap(),
        sandbox: true,
        capacity: 1_000,
        batch_window_ms: 100,
        debug_endpoints: false,
        mock: false,
    }
}

pub(crate) fn start(http: Http) -> (Server, String) {
    let server = Server::start(http).unwrap();
    let base = format!("http://{}", server.address());
    (server, base)
}

pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

/// Posts a JSON body; status and body come back.
pub(crate) async fn send(base: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
    let request = client().post(format!("{base}/send-ft")).header("content-type", "application/json").body(body);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

pub(crate) async fn get(base: &str, path: &str) -> (u16, String) {
    let answer = client().get(format!("{base}{path}")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// A connection whose bytes the test chooses.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    pub(crate) fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// Everything until the server closes the connection. A reset counts as closed; silence does not.
    pub(crate) fn read_to_end(&mut self) -> String {
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            match self.0.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("the connection was neither answered nor closed: {error}"),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Asks until the answer is right, at most for [`PATIENCE`].
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("never: {what}"))
}
