//! Who can pay: API keys, lists of receivers, and where the service listens.
use std::net::ToSocketAddrs as _;

use super::Report;
use crate::{
    access::exposure::{self, Exposure},
    config::Http,
};

/// The files were read with the other settings.
pub(super) fn look(http: &Http, report: &mut Report) {
    for (good, text) in http.access.told() {
        if good { report.ok("access", text) } else { report.warn("access", text) }
    }
    // One that is no address is found out with the port.
    let address = (http.host.as_str(), http.port).to_socket_addrs().ok().and_then(|mut all| all.next());
    match address.map(|address| exposure::of(http, address.ip())) {
        Some(Exposure::Fine(text)) => report.ok("access", text),
        Some(Exposure::Risky(text)) => report.warn("access", text),
        None => {}
    }
}
