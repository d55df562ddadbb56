//! Whether a request comes from this very machine.
use std::net::SocketAddr;

use http::HeaderMap;

/// Headers of a proxy: who asks is then not who is connected.
const FORWARDED: [&str; 4] = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];

/// Whether this peer, who sent these headers, is on this machine, as far as anybody can tell.
pub(crate) fn is_local(peer: SocketAddr, headers: &HeaderMap) -> bool {
    peer.ip().to_canonical().is_loopback() && !FORWARDED.iter().any(|name| headers.contains_key(*name))
}
