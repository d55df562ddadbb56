//! TLS for the front end: certificate and key from PEM files, read again when they have been renewed.
use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{config::ConfigError, env::Env, private_file};

/// Largest certificate file that is read: a chain takes a few KB.
const MAX_BYTES: u64 = 1 << 20;
/// A certificate that ends sooner than this should have been renewed by now.
pub(crate) const RENEW_WITHIN: Duration = Duration::from_hours(14 * 24);
/// The only protocol that is spoken.
const ALPN: &[u8] = b"http/1.1";
const DAY: u64 = 24 * 3_600;

/// The two files, and what new connections are encrypted with.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    served: Arc<Served>,
    config: Arc<ServerConfig>,
}

/// What is shown to clients from now on.
struct Served(RwLock<Pair>);

/// A chain with its key.
#[derive(Clone)]
struct Pair {
    certified: Arc<CertifiedKey>,
    validity: Validity,
}

/// When all certificates of a chain are valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    from: i64,
    to: i64,
}

impl Tls {
    /// As `TLS_CERT` and `TLS_KEY` say; `None` if neither is set.
    pub(crate) fn from_env(env: &Env) -> Result<Option<Arc<Self>>, ConfigError> {
        let missing = |name, other| ConfigError::new(name, format!("is set and {other} is not: TLS needs both"));
        match (env.get("TLS_CERT"), env.get("TLS_KEY")) {
            (None, None) => Ok(None),
            (Some(_), None) => Err(missing("TLS_CERT", "TLS_KEY")),
            (None, Some(_)) => Err(missing("TLS_KEY", "TLS_CERT")),
            (Some(certificate), Some(key)) => Self::load(certificate.into(), key.into()).map(Arc::new).map(Some),
        }
    }

    fn load(certificate: PathBuf, key: PathBuf) -> Result<Self, ConfigError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pair = read(&certificate, &key, &provider)?;
        let served = Arc::new(Served(RwLock::new(pair)));
        let problem = |error: rustls::Error| ConfigError::new("TLS_CERT", format!("cannot be used: {error}"));
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.map_err(problem)?.with_no_client_auth().with_cert_resolver(Arc::clone(&served) as _);
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A client that comes back shakes hands without a signature.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(problem)?;
        Ok(Self { certificate, key, served, config: Arc::new(config) })
    }

    /// Reads both files again. If they cannot be used, those that were read before stay in use.
    pub(crate) fn reload(&self) -> Result<Validity, ConfigError> {
        let pair = read(&self.certificate, &self.key, self.config.crypto_provider())?;
        let validity = pair.validity;
        *self.served.0.write().unwrap_or_else(PoisonError::into_inner) = pair;
        Ok(validity)
    }

    /// When what is served now is valid.
    pub(crate) fn validity(&self) -> Validity {
        self.served.pair().validity
    }

    /// What connections are accepted with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

impl Validity {
    /// Whether clients refuse it.
    pub(crate) fn is_refused(self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
        !(self.from..=self.to).contains(&now)
    }

    /// What is wrong, or soon will be; `None` if nothing is.
    pub(crate) fn problem(self, now: SystemTime) -> Option<String> {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
        let days = |seconds: i64| seconds.unsigned_abs() / DAY;
        if now > self.to {
            Some(format!("expired {} days ago: clients refuse it. Renew it, then send SIGHUP", days(now - self.to)))
        } else if now < self.from {
            Some(format!("is valid in {} days only: clients refuse it. Is the clock right?", days(self.from - now)))
        } else if now + RENEW_WITHIN.as_secs().cast_signed() > self.to {
            Some(format!("expires in {} days: renew it, then send SIGHUP", days(self.to - now)))
        } else {
            None
        }
    }

    /// Whole days that are left.
    pub(crate) fn days_left(self, now: SystemTime) -> u64 {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        u64::try_from(self.to).unwrap_or_default().saturating_sub(now) / DAY
    }
}

impl Served {
    fn pair(&self) -> Pair {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.pair().certified)
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Served")
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("certificate", &self.certificate).field("key", &self.key).finish_non_exhaustive()
    }
}

/// Reads both files and holds them against each other.
fn read(certificate: &Path, key: &Path, provider: &CryptoProvider) -> Result<Pair, ConfigError> {
    let of_certificate = |why: &str| ConfigError::new("TLS_CERT", format!("{} {why}", certificate.display()));
    let of_key = |why: &str| ConfigError::new("TLS_KEY", format!("{} {why}", key.display()));

    let pem = read_bounded(certificate).map_err(|error| of_certificate(&format!("cannot be read: {error}")))?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| of_certificate(&format!("is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(of_certificate("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"));
    }
    let validity = validity(&chain).map_err(|why| of_certificate(&why))?;

    let pem = private_file::read(key).map_err(|why| of_key(&why))?.ok_or_else(|| of_key("is not there"))?;
    let secret = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
        of_key("holds no private key in PEM form (-----BEGIN PRIVATE KEY-----); one with a password is not read")
    })?;
    let certified = CertifiedKey::from_der(chain, secret, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            of_key(&format!("is not the key of the first certificate in {}", certificate.display()))
        }
        error => of_key(&format!("cannot be used: {error}")),
    })?;
    Ok(Pair { certified: Arc::new(certified), validity })
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

/// When all of them are valid.
fn validity(chain: &[CertificateDer<'_>]) -> Result<Validity, String> {
    let mut whole = Validity { from: i64::MIN, to: i64::MAX };
    for (index, der) in chain.iter().enumerate() {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|error| format!("holds something else than a certificate at place {}: {error}", index + 1))?;
        let validity = certificate.validity();
        whole.from = whole.from.max(validity.not_before.timestamp());
        whole.to = whole.to.min(validity.not_after.timestamp());
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// A self-signed certificate and its key.
    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2040, 1, 1);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn what_is_wrong_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        let load = || {
            let env: Env =
                [("TLS_CERT", cert.to_str().unwrap()), ("TLS_KEY", key.to_str().unwrap())].into_iter().collect();
            Tls::from_env(&env).map(|_| ()).map_err(|error| error.to_string())
        };
        let put = |path: &Path, text: &str| {
            fs::write(path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        };
        let ((one, one_key), (_, two_key)) = (pair(), pair());
        let fails = |says: &str| {
            let why = load().unwrap_err();
            assert!(why.contains(says), "{why}");
            assert!(!why.contains("PRIVATE KEY-----\nM"), "{why}");
        };
        fails("TLS_CERT");
        fails("cannot be read: No such file");
        put(&cert, "nonsense");
        fails("holds no certificate in PEM form");
        put(&cert, "-----BEGIN CERTIFICATE-----\n$$$\n-----END CERTIFICATE-----\n");
        fails("is not PEM");
        put(&cert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        fails("something else than a certificate at place 1");
        put(&cert, &one);
        fails("key.pem is not there");
        put(&key, &one);
        fails("holds no private key in PEM form");
        put(&key, &two_key);
        fails("key.pem is not the key of the first certificate");
        put(&key, &one_key);
        assert_eq!(load(), Ok(()));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        fails("(mode 640): run chmod 600");
    }

    #[test]
    fn both_or_neither() {
        for (given, other) in [("TLS_CERT", "TLS_KEY"), ("TLS_KEY", "TLS_CERT")] {
            let env: Env = [(given, "/x")].into_iter().collect();
            let why = Tls::from_env(&env).unwrap_err().to_string();
            assert_eq!(why, format!("{given} is set and {other} is not: TLS needs both"));
        }
        assert!(Tls::from_env(&Env::default()).unwrap().is_none());
    }

    #[test]
    fn the_end_is_told_in_time() {
        let day = |days: i64| days * DAY.cast_signed();
        let validity = Validity { from: day(100), to: day(200) };
        for (now, says) in [
            (99, Some("valid in 1 days only")),
            (100, None),
            (185, None),
            (187, Some("expires in 13 days")),
            (203, Some("expired 3 days ago")),
        ] {
            let problem = validity.problem(UNIX_EPOCH + Duration::from_hours(24 * now));
            assert_eq!(problem.is_some(), says.is_some(), "{now}: {problem:?}");
            assert!(problem.is_none_or(|problem| problem.contains(says.unwrap_or_default())));
        }
        assert_eq!(validity.days_left(UNIX_EPOCH + Duration::from_hours(24 * 187)), 13);
    }

    #[test]
    fn a_broken_renewal_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        let put = |(one, other): &(String, String)| {
            fs::write(&cert, one).unwrap();
            fs::write(&key, other).unwrap();
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        };
        let (first, second) = (pair(), pair());
        put(&first);
        let tls = Tls::load(cert.clone(), key.clone()).unwrap();
        let served = |tls: &Tls| tls.served.pair().certified.cert[0].to_vec();
        let before = served(&tls);
        put(&(second.0.clone(), first.1.clone()));
        assert!(tls.reload().is_err());
        assert_eq!(served(&tls), before);
        put(&second);
        assert!(tls.reload().is_ok());
        assert_ne!(served(&tls), before);
    }
}
