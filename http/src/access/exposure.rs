//! What it means where the service listens: who can pay, and who can listen in.
use std::net::IpAddr;

use crate::{config::Http, cors::Cors};

/// What the operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Exposure {
    /// As it should be.
    Fine(String),
    /// Somebody may pay who should not.
    Risky(String),
}

/// For a service with these settings that listens on this address.
pub(crate) fn of(http: &Http, address: IpAddr) -> Exposure {
    let access = &http.access;
    // What a sandbox pays is worth nothing.
    let pages = http.cors == Cors::Any && !http.sandbox;
    judge(address, access.keys.is_some(), access.host_is_set, http.tls.is_some(), pages)
}

/// `pages`: web pages may pay, too.
#[expect(clippy::fn_params_excessive_bools, reason = "each is a setting of its own")]
fn judge(address: IpAddr, keys: bool, host_is_set: bool, tls: bool, pages: bool) -> Exposure {
    let machine = "listening on this machine only";
    match (address.to_canonical().is_loopback(), keys) {
        (true, false) if pages => Exposure::Risky(format!(
            "there are no API keys (API_KEYS_FILE): {machine}, but every program on it can pay, and so can every web page that a \
             browser on it shows, since CORS_ALLOW_ORIGINS allows any: list the origins that may, or make API keys"
        )),
        (true, false) => {
            let host = if host_is_set { "" } else { " and no HOST" };
            Exposure::Fine(format!(
                "there are no API keys (API_KEYS_FILE){host}: {machine}; every program on it can pay"
            ))
        }
        (true, true) if !host_is_set => {
            Exposure::Fine(format!("API keys are asked for; {machine}: set HOST to be reached from others"))
        }
        (true, true) => Exposure::Fine(format!("API keys are asked for; {machine}")),
        (false, false) => Exposure::Risky(format!(
            "anybody who reaches {address} can pay: there are no API keys. Make some (`keyshard api-keys add`) and set \
             API_KEYS_FILE, or keep it behind something that authenticates"
        )),
        (false, true) if !tls => Exposure::Risky(format!(
            "API keys travel unencrypted to {address}: set TLS_CERT and TLS_KEY, or keep it behind something that encrypts"
        )),
        (false, true) => Exposure::Fine(format!("API keys are asked for on {address}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_pay() {
        let risky = judge("127.0.0.1".parse().unwrap(), false, false, false, true);
        assert!(matches!(&risky, Exposure::Risky(text) if text.contains("CORS_ALLOW_ORIGINS")), "{risky:?}");
        for (address, keys, host_is_set, tls, risky, says) in [
            (
                "127.0.0.1",
                false,
                false,
                false,
                false,
                "no API keys (API_KEYS_FILE) and no HOST: listening on this machine",
            ),
            ("::1", false, true, false, false, "no API keys (API_KEYS_FILE): listening on this machine"),
            ("::ffff:127.0.0.1", false, true, true, false, "this machine"),
            ("127.0.0.1", true, false, false, false, "set HOST"),
            ("127.0.0.1", true, true, false, false, "API keys are asked for; listening on this machine only"),
            ("0.0.0.0", false, true, false, true, "anybody who reaches 0.0.0.0 can pay"),
            ("10.1.2.3", false, true, true, true, "anybody who reaches 10.1.2.3 can pay"),
            ("::", true, true, false, true, "travel unencrypted"),
            ("0.0.0.0", true, true, true, false, "asked for on 0.0.0.0"),
        ] {
            let found = judge(address.parse().unwrap(), keys, host_is_set, tls, false);
            let (Exposure::Fine(text) | Exposure::Risky(text)) = &found;
            assert!(text.contains(says) && matches!(found, Exposure::Risky(_)) == risky, "{address}: {found:?}");
        }
    }
}
