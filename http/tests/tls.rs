//! HTTPS: paid over it, renewed while it runs, and what others than TLS clients get.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use common::{
    PATIENCE, Raw,
    serving::{Serving, Stage},
    until,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::{Certificate, Client};
use serde_json::{Value, json};

const SETTINGS: [(&str, &str); 3] = [("TLS_CERT", "cert.pem"), ("TLS_KEY", "key.pem"), ("WAIT_UNTIL", "Included")];

/// Who signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Puts a certificate of this machine, and its key, where the settings say. It is valid for so many more days.
    fn issue(&self, directory: &Path, days: i32) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let now = std::time::SystemTime::now();
        let end = now + std::time::Duration::from_hours(24) * days.unsigned_abs();
        let start = now - std::time::Duration::from_hours(24 * 30);
        params.not_before = start.into();
        params.not_after = if days < 0 {
            (now - std::time::Duration::from_hours(24) * days.unsigned_abs()).into()
        } else {
            end.into()
        };
        let certificate = params.signed_by(&key, &self.0).unwrap();
        fs::write(directory.join("cert.pem"), certificate.pem()).unwrap();
        fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
        fs::set_permissions(directory.join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A client that trusts this authority alone.
    fn client(&self) -> Client {
        let root = Certificate::from_pem(self.0.pem().as_bytes()).unwrap();
        Client::builder().no_proxy().timeout(PATIENCE).tls_certs_only([root]).build().unwrap()
    }
}

/// The service with a certificate that this authority has signed.
fn serve(name: &str, authority: &Authority, more: &[(&str, &str)]) -> (Stage, Serving, String) {
    let stage = Stage::new(name, 100, &SETTINGS);
    authority.issue(&stage.directory, 90);
    let service = stage.serve_with(more);
    let base = service.base.replace("http://127.0.0.1", "https://localhost");
    (stage, service, base)
}

#[tokio::test]
async fn paid_over_https() {
    let authority = Authority::new();
    let (stage, service, base) = serve("tls-paid", &authority, &[]);
    let client = authority.client();
    let body = json!({ "receiverId": "user1.test.near", "amount": "7" });
    let answer = client.post(format!("{base}/send-ft")).json(&body).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_11));
    let answer: Value = answer.json().await.unwrap();
    let url = format!("{base}/transfer/{}", answer["jobId"].as_str().unwrap());
    until("it is final", || async {
        let job: Value = client.get(&url).send().await.unwrap().json().await.unwrap();
        (job["job"]["status"] == "finalized").then_some(())
    })
    .await;
    assert_eq!(stage.balance("user1.test.near").await, 7);

    let stranger = Authority::new().client();
    let error = stranger.get(format!("{base}/health")).send().await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");

    // The service's own word, for container health checks.
    let port = base.rsplit(':').next().unwrap();
    for (arguments, code, says) in [
        (&["health"][..], 0, r#"200 {"status":"ok""#),
        (&["health", "--ready"], 0, r#"200 {"status":"ready","reasons":[]}"#),
        (&["health", &base], 1, "does not answer"),
    ] {
        let (ended, output) = stage.run_with(arguments, &[("PORT", port)]).end_with_output();
        assert!(ended == Some(code) && output.contains(says), "{arguments:?}: {ended:?} {output}");
    }
    service.stop();
}

#[tokio::test]
async fn who_does_not_speak_tls_is_told_or_ended() {
    let authority = Authority::new();
    let (_stage, service, base) = serve("tls-plain", &authority, &[("HEADER_TIMEOUT_MS", "500")]);
    let address = service.base.strip_prefix("http://").unwrap().parse().unwrap();
    let mut plain = Raw::connect(address);
    plain.write("GET /health HTTP/1.1\r\nhost: x\r\n\r\n");
    let answer = plain.read_to_end();
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.ends_with(r#"{"error":"This port speaks HTTPS only: use https://"}"#), "{answer}");
    // Silence, half a handshake, and nonsense that begins like one.
    for begin in ["", "\u{16}\u{3}\u{1}", "\u{16}\u{3}\u{1}\u{2}\0\u{1}nonsense nonsense"] {
        let mut raw = Raw::connect(address);
        raw.write(begin);
        assert!(!raw.read_to_end().contains("HTTP"), "{begin:?}");
    }
    let page = authority.client().get(format!("{base}/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("\nkeyshard_tls_handshakes_failed_total 4\n"), "{page}");
    service.stop();
}

#[tokio::test]
async fn a_renewed_certificate_is_served_after_sighup() {
    let old = Authority::new();
    let (stage, mut service, base) = serve("tls-renewed", &old, &[]);
    let health = format!("{base}/health");
    let asks = async |authority: &Authority| {
        authority.client().get(&health).send().await.map(|answer| answer.status().as_u16())
    };
    let kept = old.client();
    assert_eq!(kept.get(&health).send().await.unwrap().status(), 200);

    let new = Authority::new();
    new.issue(&stage.directory, 90);
    service.program.signal("HUP");
    service.program.line_with("TLS certificate read again");
    assert_eq!(asks(&new).await.unwrap(), 200);
    assert!(asks(&old).await.unwrap_err().is_connect());
    // Connections that were open stay so.
    assert_eq!(kept.get(&health).send().await.unwrap().status(), 200);

    // A broken one is named, and changes nothing.
    for (text, says) in [("nonsense", "no certificate in PEM form"), ("", "no certificate in PEM form")] {
        fs::write(stage.directory.join("cert.pem"), text).unwrap();
        service.program.signal("HUP");
        let line = service.program.line_with("the TLS certificate is not changed");
        assert!(line.contains(says), "{line}");
        assert_eq!(asks(&new).await.unwrap(), 200);
    }
    // One that ends soon is served, and said.
    new.issue(&stage.directory, 5);
    service.program.signal("HUP");
    service.program.line_with("TLS certificate read again, but it expires in");
    assert_eq!(asks(&new).await.unwrap(), 200);
    service.stop();
}

#[tokio::test]
async fn what_is_wrong_is_said_at_the_start_and_by_check() {
    let authority = Authority::new();
    let stage = Stage::new("tls-wrong", 100, &SETTINGS);
    let ends = |says: &str| {
        let (code, output) = stage.run(&["serve"]).end_with_output();
        assert!(code == Some(1) && output.contains(says), "{code:?} {output}");
    };
    ends("TLS_CERT cert.pem cannot be read");
    authority.issue(&stage.directory, 90);
    fs::set_permissions(stage.directory.join("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    ends("TLS_KEY key.pem can be read by others than its owner (mode 644): run chmod 600 key.pem");
    fs::write(stage.directory.join("key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    fs::set_permissions(stage.directory.join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    ends("TLS_KEY key.pem is not the key of the first certificate in cert.pem");

    for (days, line) in [
        (90, "ok    tls          the certificate is valid for"),
        (10, "warn  tls          the certificate expires in"),
        (-2, "FAIL  tls          the certificate expired"),
    ] {
        authority.issue(&stage.directory, days);
        let (_, output) = stage.run(&["check"]).end_with_output();
        assert!(output.contains(line), "{output}");
    }
    // An expired one is served all the same: transfers in flight must be settled, whoever can ask.
    let mut service = stage.serve();
    assert!(service.program.output().contains("TLS_CERT expired"), "{}", service.program.output());
    service.program.signal("TERM");
    assert!(service.program.end().success());
}
