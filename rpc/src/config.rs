//! What a client is configured with: endpoints, timeouts, the breaker. Credentials never show in `Debug`.

use std::fmt;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING, UPGRADE,
};

use crate::breaker;
use crate::json::bounded;

/// Endpoints of one client at most.
pub const ENDPOINTS_MAX: usize = 32;
/// Headers per endpoint at most.
const HEADERS_MAX: usize = 64;
/// Headers that the client sets itself: another value would break the exchange.
const OWN_HEADERS: [HeaderName; 7] =
    [ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TE, TRANSFER_ENCODING, UPGRADE];
/// A path segment this long is taken for a token and hidden in names: some providers put their key there.
const TOKEN_LENGTH: usize = 20;

/// Everything a [`Client`](crate::Client) needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The nodes, in order of preference. At least one, at most [`ENDPOINTS_MAX`].
    pub endpoints: Vec<Endpoint>,
    /// How long calls may take.
    pub timeouts: Timeouts,
    /// How the endpoints' breakers decide.
    pub breaker: breaker::Config,
    /// An endpoint that is this many blocks behind the best of the others is not used. Heads and final blocks are
    /// compared with one another, so it has to be well above the 2 to 3 blocks between them.
    pub max_lag_blocks: u64,
    /// A response body (decompressed) larger than this is not read further.
    pub max_response_bytes: usize,
    /// Seed of the jitter. Give each shard another.
    pub seed: u64,
}

/// How long calls may take, each including connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Establishing a connection, TLS included.
    pub connect: Duration,
    /// A call that the node answers at once.
    pub read: Duration,
    /// A call that the node answers when the transaction has come far enough. Above the 10 s after which a node
    /// gives up polling, so that its own answer is heard.
    pub wait: Duration,
    /// A call of [`Client::probe_endpoints`](crate::Client::probe_endpoints).
    pub probe: Duration,
}

/// A node's URL and the headers it wants.
#[derive(Clone)]
pub struct Endpoint {
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
}

/// Settings that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not an `http` or `https` URL with a host. Holds the position in the list, from 1, not the text: it may hold
    /// a credential.
    #[error("endpoint {position}: {reason}")]
    Url {
        /// Position in the list, from 1.
        position: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A header's name or value is not allowed in HTTP, or the client sets it itself. Values are not shown.
    #[error("header {name:?} cannot be set, or is not a valid HTTP header")]
    Header {
        /// The name.
        name: String,
    },
    /// There is no endpoint, or more than [`ENDPOINTS_MAX`].
    #[error("{0} RPC endpoints configured, 1 to {ENDPOINTS_MAX} are needed")]
    Count(usize),
    /// The HTTP client could not be built, e.g. because the system has no root certificates.
    #[error("HTTP client: {0}")]
    Http(String),
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(3),
            read: Duration::from_secs(10),
            wait: Duration::from_secs(20),
            probe: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// These endpoints with defaults for everything else.
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        Config {
            endpoints,
            timeouts: Timeouts::default(),
            breaker: breaker::Config::default(),
            max_lag_blocks: 15,
            max_response_bytes: 16 << 20,
            seed: 0,
        }
    }

    /// Reads the environment's settings, with warnings for what was ignored (for the caller to log; they hold no
    /// values).
    ///
    /// - `rpc_urls` (`RPC_URLS`): URLs separated by commas; if it names any, `node_url` is not used.
    /// - `rpc_headers` (`RPC_HEADERS`): a JSON object of headers for all of them. If it is not one, it is ignored
    ///   with a warning.
    /// - `fastnear_api_key` (`FASTNEAR_API_KEY`): sent as `Authorization: Bearer` and `x-api-key` to URLs that
    ///   contain `fastnear.com`.
    ///
    /// # Errors
    /// A URL that is not `http` or `https`, or too many of them.
    pub fn from_settings(
        rpc_urls: Option<&str>,
        node_url: &str,
        rpc_headers: Option<&str>,
        fastnear_api_key: Option<&str>,
    ) -> Result<(Config, Vec<String>), ConfigError> {
        let mut warnings = Vec::new();
        let listed = rpc_urls.unwrap_or_default().split(',').map(str::trim).filter(|url| !url.is_empty());
        let mut urls: Vec<&str> = Vec::new();
        for url in listed {
            if urls.contains(&url) {
                warnings.push("RPC_URLS names an endpoint twice; the second is ignored".to_owned());
            } else {
                urls.push(url);
            }
        }
        if urls.is_empty() {
            urls.push(node_url.trim());
        }
        if urls.len() > ENDPOINTS_MAX {
            return Err(ConfigError::Count(urls.len()));
        }
        let headers = rpc_headers.map_or_else(HeaderMap::new, |json| read_headers(json, &mut warnings));
        let key = fastnear_api_key.map(str::trim).filter(|key| !key.is_empty());
        let mut endpoints = Vec::with_capacity(urls.len());
        for (position, url) in (1..).zip(urls) {
            let mut endpoint = Endpoint::at(position, url)?;
            endpoint.headers = headers.clone();
            if let Some(key) = key.filter(|_| url.contains("fastnear.com")) {
                endpoint.insert(AUTHORIZATION, &format!("Bearer {key}"))?;
                endpoint.insert(HeaderName::from_static("x-api-key"), key)?;
                if endpoint.url.scheme() == "http" {
                    warnings.push(format!("FASTNEAR_API_KEY goes to {endpoint} unencrypted"));
                }
            }
            endpoints.push(endpoint);
        }
        Ok((Config::new(endpoints), warnings))
    }
}

impl Endpoint {
    /// An endpoint without headers. A user and password in the URL are sent as basic authentication.
    ///
    /// # Errors
    /// The URL is not `http` or `https`, or has no host.
    pub fn new(url: &str) -> Result<Self, ConfigError> {
        Endpoint::at(1, url)
    }

    /// The same endpoint with one more header, which replaces one of the same name.
    ///
    /// # Errors
    /// Name or value are not allowed in HTTP, or the client sets this header itself (`content-type` and the like).
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self, ConfigError> {
        let header = name.parse().map_err(|_| ConfigError::Header { name: bounded(name) })?;
        self.insert(header, value)?;
        Ok(self)
    }

    /// Scheme, host, port and path: how it is named everywhere. Never the user, the password or the query; path
    /// segments long enough to be a token are shown as `***`.
    pub fn name(&self) -> String {
        let segments = self.url.path().split('/');
        let segments: Vec<&str> =
            segments.map(|segment| if segment.len() >= TOKEN_LENGTH { "***" } else { segment }).collect();
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = self.url.host_str().unwrap_or_default();
        format!("{}://{host}{port}{}", self.url.scheme(), segments.join("/"))
    }

    /// Whether the host is this machine, where no proxy belongs.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.url.host_str().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
    }

    fn at(position: usize, url: &str) -> Result<Self, ConfigError> {
        let refuse = |reason: &str| ConfigError::Url { position, reason: reason.to_owned() };
        let url = Url::parse(url).map_err(|why| refuse(&why.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("the URL must begin with http:// or https://"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(refuse("the URL has no host"));
        }
        Ok(Endpoint { url, headers: HeaderMap::new() })
    }

    fn insert(&mut self, name: HeaderName, value: &str) -> Result<(), ConfigError> {
        let invalid = || ConfigError::Header { name: name.as_str().to_owned() };
        if OWN_HEADERS.contains(&name) {
            return Err(invalid());
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| invalid())?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("name", &self.name())
            .field("headers", &self.headers.len())
            .finish_non_exhaustive()
    }
}

/// The headers of a JSON object of strings, numbers and booleans. What cannot be used is left out with a warning
/// that shows at most the header's name.
fn read_headers(json: &str, warnings: &mut Vec<String>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if json.trim().is_empty() {
        return headers;
    }
    let object: serde_json::Map<String, serde_json::Value> = match serde_json::from_str(json) {
        Ok(object) => object,
        // The parser's own words may quote a value.
        Err(why) => {
            let place = format!("line {} column {}", why.line(), why.column());
            warnings.push(format!("RPC_HEADERS is ignored: not a JSON object ({place})"));
            return headers;
        }
    };
    for (name, value) in object {
        let value = match value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::Bool(flag) => flag.to_string(),
            _ => {
                warnings.push(format!("RPC_HEADERS: {:?} is ignored: its value is not text", bounded(&name)));
                continue;
            }
        };
        match (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            (Ok(header), Ok(mut value)) if headers.len() < HEADERS_MAX && !OWN_HEADERS.contains(&header) => {
                value.set_sensitive(true);
                headers.insert(header, value);
            }
            _ => warnings.push(format!(
                "RPC_HEADERS: {:?} is ignored: it cannot be set, or is not a valid HTTP header",
                bounded(&name)
            )),
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT_URL: &str = "https://rpc.testnet.fastnear.com";

    fn names(config: &Config) -> Vec<String> {
        config.endpoints.iter().map(Endpoint::name).collect()
    }

    fn header<'a>(endpoint: &'a Endpoint, name: &str) -> Option<&'a str> {
        endpoint.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn rpc_urls_override_node_url() {
        let cases: &[(Option<&str>, &[&str])] = &[
            (None, &["https://rpc.testnet.fastnear.com/"]),
            (Some(""), &["https://rpc.testnet.fastnear.com/"]),
            (Some(" , "), &["https://rpc.testnet.fastnear.com/"]),
            (Some("http://a:3030"), &["http://a:3030/"]),
            (Some(" http://a , https://b/rpc/ ,"), &["http://a/", "https://b/rpc/"]),
            (Some("http://a,http://a"), &["http://a/"]),
        ];
        for (rpc_urls, expected) in cases {
            let (config, _) = Config::from_settings(*rpc_urls, DEFAULT_URL, None, None).unwrap();
            assert_eq!(names(&config), *expected, "{rpc_urls:?}");
        }
    }

    #[test]
    fn urls_that_cannot_be_used_are_refused() {
        for url in ["", "localhost:3030", "ftp://a", "http://", "file:///etc/passwd", "/rpc", "http://a:99999"] {
            let error = Config::from_settings(Some(&format!("http://ok,{url},http://fine")), url, None, None);
            // Empty ones are skipped in a list.
            let error = if url.is_empty() { Endpoint::new(url).map(drop) } else { error.map(drop) };
            assert!(matches!(error, Err(ConfigError::Url { .. })), "{url}: {error:?}");
        }
        let many = (0..=ENDPOINTS_MAX).map(|n| format!("http://n{n}")).collect::<Vec<_>>().join(",");
        let error = Config::from_settings(Some(&many), DEFAULT_URL, None, None).map(drop);
        assert_eq!(error, Err(ConfigError::Count(ENDPOINTS_MAX + 1)));
    }

    #[test]
    fn headers_go_to_all_and_the_key_to_fastnear_only() {
        let urls = "https://rpc.mainnet.fastnear.com,http://127.0.0.1:3030";
        let json = r#"{"X-Team":"blue","X-Number":7,"Authorization":"Basic abc"}"#;
        let (config, warnings) = Config::from_settings(Some(urls), DEFAULT_URL, Some(json), Some("K3Y")).unwrap();
        assert_eq!(warnings, [""; 0]);
        let [fastnear, local] = config.endpoints.as_slice() else { panic!("two endpoints") };
        assert_eq!(header(fastnear, "authorization"), Some("Bearer K3Y"));
        assert_eq!(header(fastnear, "x-api-key"), Some("K3Y"));
        assert_eq!(header(fastnear, "x-team"), Some("blue"));
        assert_eq!(header(local, "authorization"), Some("Basic abc"));
        assert_eq!(header(local, "x-api-key"), None);
        assert_eq!(header(local, "x-number"), Some("7"));
        assert!(config.endpoints.iter().all(|endpoint| endpoint.headers.values().all(HeaderValue::is_sensitive)));
    }

    #[test]
    fn bad_headers_are_warned_about_without_their_values() {
        let cases = [
            (r#"{"a":"S3CRET""#, "not a JSON object"),
            (r#"["S3CRET"]"#, "not a JSON object"),
            (r#""S3CRET""#, "not a JSON object"),
            (r#"{"a":["S3CRET"]}"#, "not text"),
            (r#"{"a b":"S3CRET"}"#, "not a valid HTTP header"),
            ("{\"a\":\"S3CRET\\n\"}", "not a valid HTTP header"),
            (r#"{"Content-Length":"5"}"#, "cannot be set"),
        ];
        for (json, expected) in cases {
            let (config, warnings) = Config::from_settings(None, DEFAULT_URL, Some(json), None).unwrap();
            assert_eq!(warnings.len(), 1, "{json}");
            assert!(warnings[0].contains(expected) && !warnings[0].contains("S3CRET"), "{json}: {warnings:?}");
            assert!(config.endpoints[0].headers.is_empty(), "{json}");
        }
        assert!(Config::from_settings(None, DEFAULT_URL, Some(" "), Some(" ")).unwrap().1.is_empty());
        let plain = Config::from_settings(None, "http://rpc.fastnear.com", None, Some("K3Y")).unwrap();
        assert_eq!(plain.1, ["FASTNEAR_API_KEY goes to http://rpc.fastnear.com/ unencrypted"]);
        let error = Config::from_settings(None, DEFAULT_URL, None, Some("S3CRET\u{1}")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("S3CRET"));
    }

    #[test]
    fn names_hold_no_credentials() {
        let cases = [
            ("https://user:S3CRET@host:8443/rpc?key=S3CRET#S3CRET", "https://host:8443/rpc"),
            ("https://near.example/v3/S3CRET78901234567890/", "https://near.example/v3/***/"),
            ("http://127.0.0.1:3030", "http://127.0.0.1:3030/"),
            ("https://[::1]/x", "https://[::1]/x"),
        ];
        for (url, name) in cases {
            let endpoint = Endpoint::new(url).unwrap().with_header("x-api-key", "S3CRET").unwrap();
            assert_eq!(endpoint.name(), name);
            let config = Config::new(vec![endpoint.clone()]);
            let shown = format!("{endpoint} {endpoint:?} {config:?}");
            assert!(!shown.contains("S3CRET") && !shown.contains("user"), "{shown}");
        }
    }

    #[test]
    fn loopback_is_known() {
        for (url, loopback) in [
            ("http://localhost:1", true),
            ("http://node.localhost", true),
            ("http://127.0.0.1", true),
            ("http://127.8.8.8", true),
            ("http://[::1]:3030", true),
            ("http://10.0.0.1", false),
            ("https://localhost.example", false),
        ] {
            assert_eq!(Endpoint::new(url).unwrap().is_loopback(), loopback, "{url}");
        }
    }
}
