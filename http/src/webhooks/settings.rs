//! What webhooks are told by the environment.
use std::path::Path;

use reqwest::Url;
use zeroize::Zeroizing;

use super::event::Secret;
use crate::{config::ConfigError, env::Env, private_file};

/// The variables.
const VARIABLES: [&str; 5] =
    ["WEBHOOK_URL", "WEBHOOK_SECRET", "WEBHOOK_SECRET_FILE", "WEBHOOK_ALLOW_HTTP", "WEBHOOK_CONCURRENCY"];

/// Shortest secret in bytes: with fewer it could be guessed from one signed event.
const SECRET_MIN: usize = 16;
/// Events that are sent side by side, unless said.
const AT_ONCE: usize = 32;
/// More would be a wrong digit: each has a connection.
const AT_ONCE_MAX: usize = 512;

/// Where events go. Has no `Debug`: the address may hold a password.
#[derive(Clone)]
pub struct Webhooks {
    pub(super) url: Url,
    pub(super) secret: Secret,
    /// Requests side by side.
    pub(super) at_once: usize,
}

impl Webhooks {
    /// `None` if no events are wanted.
    pub(crate) fn from_env(env: &Env, notes: &mut Vec<String>) -> Result<Option<Self>, ConfigError> {
        let [url, secret, file, allow_http, at_once] = VARIABLES;
        let Some(text) = env.get(url) else {
            let unused: Vec<&str> = VARIABLES.into_iter().filter(|name| env.get(name).is_some()).collect();
            if !unused.is_empty() {
                notes.push(format!("{} has no effect without WEBHOOK_URL", unused.join(", ")));
            }
            return Ok(None);
        };
        let allow = env.get(allow_http).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let address = address(text, allow).map_err(|why| ConfigError::new(url, why))?;
        let secret = match (env.get(secret), env.get(file)) {
            (Some(_), Some(_)) => {
                return Err(ConfigError::new(secret, format!("and {file} are both set: unset one of them")));
            }
            (Some(text), None) => key(text).map_err(|why| ConfigError::new(secret, why))?,
            (None, Some(path)) => of_file(Path::new(path)).map_err(|why| ConfigError::new(file, why))?,
            (None, None) => {
                return Err(ConfigError::new(
                    secret,
                    format!(
                        "must be set with WEBHOOK_URL ({SECRET_MIN} bytes or more, or {file}): receivers know by it that \
                         events are yours. `openssl rand -hex 32` makes one"
                    ),
                ));
            }
        };
        let at_once = match env.get(at_once).map(|text| (text, text.parse())) {
            None => AT_ONCE,
            Some((_, Ok(number))) if (1..=AT_ONCE_MAX).contains(&number) => number,
            Some((text, _)) => {
                let why = format!("is {text:?}; it must be a whole number from 1 to {AT_ONCE_MAX}");
                return Err(ConfigError::new(at_once, why));
            }
        };
        Ok(Some(Self { url: address, secret, at_once }))
    }

    /// The address without what may be secret in it.
    pub(super) fn shown(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Whether the receiver is on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(&self.url)
    }
}

/// The error never repeats the text: it may hold a password.
fn address(text: &str, allow_http: bool) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("is not an address ({error}); one is like https://example.com/hook"))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host; an address is like https://example.com/hook".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if allow_http || is_loopback(&url) => Ok(url),
        "http" => Err("is http: events could be read and held back on their way. Use https, or set \
                       WEBHOOK_ALLOW_HTTP=true if the way is safe"
            .to_owned()),
        other => Err(format!("begins with {other}:, which must be https:")),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

fn of_file(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let text: Zeroizing<String> = private_file::read(path)
        .map_err(|why| format!("{shown} {why}"))?
        .ok_or_else(|| format!("{shown} is not there"))?;
    key(text.trim()).map_err(|why| format!("{shown} {why}"))
}

fn key(text: &str) -> Result<Secret, String> {
    if text.len() < SECRET_MIN {
        return Err(format!(
            "is {} bytes long; at least {SECRET_MIN} are needed. `openssl rand -hex 32` makes one",
            text.len()
        ));
    }
    Ok(Secret::new(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const SECRET: (&str, &str) = ("WEBHOOK_SECRET", "0123456789abcdef");

    fn read(pairs: &[(&str, &str)]) -> Result<Option<Webhooks>, String> {
        let env = pairs.iter().copied().collect();
        Webhooks::from_env(&env, &mut Vec::new()).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses() {
        for (url, shown) in [
            ("https://example.com/hook?token=hidden", "https://example.com"),
            ("https://user:hidden@example.com:8443/", "https://example.com:8443"),
            ("http://127.0.0.1:9/a", "http://127.0.0.1:9"),
            ("http://localhost/", "http://localhost"),
            ("http://[::1]:80/", "http://[::1]"),
        ] {
            let read = read(&[("WEBHOOK_URL", url), SECRET]).unwrap().unwrap();
            assert_eq!(read.shown(), shown);
        }
        for bad in
            ["example.com", "http://example.com/hidden", "http://127.0.0.1.example.com/", "ftp://a/", "https://", "x"]
        {
            let why = read(&[("WEBHOOK_URL", bad), SECRET]).err().unwrap();
            assert!(why.starts_with("WEBHOOK_URL ") && !why.contains("hidden"), "{why}");
        }
        assert!(read(&[("WEBHOOK_URL", "http://example.com/"), SECRET, ("WEBHOOK_ALLOW_HTTP", "true")]).is_ok());
    }

    #[test]
    fn a_secret_is_needed_long_enough_and_never_repeated() {
        let url = ("WEBHOOK_URL", "https://example.com/");
        assert!(read(&[url]).err().unwrap().contains("must be set"));
        let short = read(&[url, ("WEBHOOK_SECRET", "0123456789abcde")]).err().unwrap();
        assert!(short.contains("15 bytes") && !short.contains("0123"), "{short}");
        assert!(read(&[url, SECRET, ("WEBHOOK_SECRET_FILE", "x")]).err().unwrap().contains("both"));

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let file = ("WEBHOOK_SECRET_FILE", path.to_str().unwrap());
        assert!(read(&[url, file]).err().unwrap().contains("is not there"));
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&[url, file]).err().unwrap().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let of_file = read(&[url, file]).unwrap().unwrap().secret.signature(1, b"a");
        assert_eq!(of_file, read(&[url, SECRET]).unwrap().unwrap().secret.signature(1, b"a"));
    }

    #[test]
    fn numbers_and_what_has_no_effect() {
        let url = ("WEBHOOK_URL", "https://example.com/");
        assert_eq!(read(&[url, SECRET]).unwrap().unwrap().at_once, 32);
        assert_eq!(read(&[url, SECRET, ("WEBHOOK_CONCURRENCY", "7")]).unwrap().unwrap().at_once, 7);
        for bad in ["0", "513", "x", "-1"] {
            let why = read(&[url, SECRET, ("WEBHOOK_CONCURRENCY", bad)]).err().unwrap();
            assert!(why.contains("from 1 to 512"), "{why}");
        }
        let mut notes = Vec::new();
        let env = [SECRET].into_iter().collect();
        assert!(Webhooks::from_env(&env, &mut notes).unwrap().is_none());
        assert_eq!(notes, ["WEBHOOK_SECRET has no effect without WEBHOOK_URL"]);
    }
}
