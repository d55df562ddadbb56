//! What the service is told by its environment: every variable, its default, and what is wrong with a bad one.
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use keyshard_engine::{HISTORY_RETENTION_MIN, Level, Period, StoragePolicy, Trust, rpc};
use near_primitives::types::AccountId;

use crate::{access::Access, cors::Cors, env::Env, key_sources, mock, tls::Tls, webhooks::Webhooks};

/// Most front-end threads: beyond the cores of any machine this runs on, a wrong digit.
const MAX_THREADS: usize = 256;
/// Longest time-out that can be set: a day. A longer one is a wrong unit.
const MAX_MS: u64 = 86_400_000;
/// Most transfers that may be accepted and open: about 1 KiB of memory each.
const MAX_PENDING: usize = 10_000_000;
/// Smallest journal segment: every record (4 MiB at most) fits, and rotation stays rare.
const MIN_SEGMENT_BYTES: usize = 8 << 20;
const DAY: Duration = Duration::from_hours(24);
/// Default of `HISTORY_RETENTION`: longer than any client retries, and a few GB at a million transfers a day.
const HISTORY_RETENTION: Duration = Duration::from_hours(30 * 24);
/// Longest `HISTORY_RETENTION`: ten years. A longer one is a wrong unit.
const HISTORY_RETENTION_MAX: Duration = Duration::from_hours(3_650 * 24);
/// The Node service's own rule: a backlog of 10 or less was taken for a mistake.
const MIN_PENDING: usize = 11;
/// Most connections that can be asked for: beyond the ports of any address, a wrong digit.
const MAX_CONNECTIONS: usize = 1_000_000;
/// Bounds of `MAX_HEADER_BYTES`: hyper's smallest buffer, and what an idle connection may cost at the very most.
const HEADER_BYTES: [usize; 2] = [8_192, 1 << 20];

/// Variables of the Node service, of its `.env.example` and of plans for it that change nothing here. They are named in the log
/// if set.
const WITHOUT_EFFECT: [&str; 27] = [
    "BATCH_SIZE",
    "BATCH_SIZE_MAX",
    "BATCH_SIZE_MIN",
    "CLUSTER_RESPAWN",
    "CLUSTER_WORKERS",
    "COMPACT_INTERVAL_MS",
    "COMPACT_THRESHOLD",
    "CONCURRENCY_LIMIT",
    "DURATION",
    "ENABLE_NONCE_COORDINATION",
    "ENABLE_REDIS_QUEUE",
    "GLOBAL_THROTTLE_WINDOW_SEC",
    "JOB_MAX_WAIT_MS",
    "MAX_IN_FLIGHT",
    "MAX_TX_PER_KEY_PER_SECOND",
    "MAX_TX_PER_SECOND",
    "NEAR_HOME",
    "NONCE_RETRY_LIMIT",
    "PER_KEY_THROTTLE_WINDOW_SEC",
    "PINO_MIN_LENGTH",
    "PINO_SYNC",
    "QUEUE_SIZE",
    "RECONCILE_INTERVAL_MS",
    "REDIS_URL",
    "SANDBOX_CLUSTER_WORKERS",
    "TPS",
    "WORKER_COUNT",
];

/// What can be done while the service is stopped needs no keys and no front end: the chain, and the data directory.
pub struct Offline {
    /// The account that pays.
    pub account: AccountId,
    /// The token contract.
    pub token: AccountId,
    /// The nodes.
    pub rpc: rpc::Config,
    /// Whose word ends a transaction.
    pub trust: Option<Trust>,
    /// Where journal and history are.
    pub data_dir: PathBuf,
}

/// Everything the service needs. Has no `Debug`: it holds the keys.
pub struct Config {
    /// The HTTP front end.
    pub http: Http,
    /// The engine behind it.
    pub engine: keyshard_engine::Config,
    /// How long a shutdown waits for what was accepted (`DRAIN_TIMEOUT_MS`).
    pub drain_timeout: Duration,
    /// Whether the log tells the memory in use (`ENABLE_MEMORY_MONITORING`).
    pub memory_monitoring: bool,
    /// Whether the log has the numbers of the moment, every ten seconds.
    pub heartbeat: bool,
    /// Where events of what settles go, if anywhere (`WEBHOOK_URL`).
    pub webhooks: Option<Webhooks>,
    /// Where the access keys come from, in words; never a key.
    pub keys_from: String,
    /// What the operator should know about the given settings; no secrets.
    pub notes: Vec<String>,
}

/// The HTTP front end's part of the configuration.
#[derive(Debug, Clone)]
pub struct Http {
    /// Name or address to listen on (`HOST`).
    pub host: String,
    /// Port to listen on (`PORT`); 0 takes any free one.
    pub port: u16,
    /// Threads, each with its own listener (`HTTP_THREADS`).
    pub threads: usize,
    /// How long a client is kept waiting for the outcome before it is told 202 (`REQUEST_TIMEOUT_MS`).
    pub request_timeout: Duration,
    /// How long a client may stop reading its answer (`SERVER_TIMEOUT_MS`).
    pub write_timeout: Duration,
    /// How long a client may take for a header block, or to shake hands; also how long an unused connection is kept open
    /// (`HEADER_TIMEOUT_MS`).
    pub header_timeout: Duration,
    /// How long a client may take to send a body (`BODY_TIMEOUT_MS`).
    pub body_timeout: Duration,
    /// Longest header block (`MAX_HEADER_BYTES`).
    pub max_header_bytes: usize,
    /// Most connections at once (`MAX_CONNECTIONS`).
    pub max_connections: usize,
    /// What connections are encrypted with (`TLS_CERT`, `TLS_KEY`).
    pub tls: Option<Arc<Tls>>,
    /// Which origins may read the answers (`CORS_ALLOW_ORIGINS`).
    pub cors: Cors,
    /// Who may ask for what.
    pub access: Arc<Access>,
    /// The paying account: it cannot be a receiver.
    pub account: AccountId,
    /// Whether `NEAR_ENV` is `sandbox`: failures then carry a `debug` object.
    pub sandbox: bool,
    /// Most transfers accepted and open (`MAX_PENDING_JOBS`), for answers given before the engine is there.
    pub capacity: usize,
    /// `BATCH_WINDOW_MS`, for answers given before the engine is there.
    pub batch_window_ms: u64,
    /// Whether clients on this machine may ask for a profile (`DEBUG_ENDPOINTS`); needs the feature `profiling`.
    pub debug_endpoints: bool,
    /// Whether nothing is really paid: `/health` and `/metrics` say so.
    pub mock: bool,
}

/// A setting that cannot be used. The text names the variable and the accepted form, never a secret value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    variable: String,
    why: String,
}

impl ConfigError {
    pub(crate) fn new(variable: impl Into<String>, why: impl Into<String>) -> Self {
        Self { variable: variable.into(), why: why.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.variable, self.why)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads every setting; the first that cannot be used is the error.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        refuse_mock_mode(env)?;
        let sandbox = env.is_sandbox();
        let mut notes = Vec::new();
        let account = account_that_pays(env, sandbox)?;
        let token = account_of_token(env, sandbox)?;
        let keys = key_sources::served(env, &account)?;
        notes.extend(keys.notes);
        let wait_until = wait_until(env, &mut notes)?;
        let http = http(env, account.clone(), sandbox)?;

        let webhooks = Webhooks::from_env(env, &mut notes)?;
        let max_actions: Option<usize> = optional(env, "MAX_ACTIONS_PER_TX", 2, 10_000)?;
        let linger = Duration::from_millis(http.batch_window_ms);
        let engine = keyshard_engine::Config {
            account,
            token,
            keys: keys.keys.iter().map(|key| key.expose().clone()).collect(),
            rpc: endpoints(env, sandbox, &mut notes)?,
            trust: trust(env)?,
            wait_until,
            storage: storage(env)?,
            storage_deposit: optional(env, "STORAGE_MIN_DEPOSIT", 0, u128::MAX)?,
            max_pending: http.capacity,
            window: window(env, sandbox)?,
            max_actions,
            max_batch: optional(env, "MAX_BATCH_SIZE", 1, 10_000)?,
            linger,
            max_attempts: number(env, "JOB_MAX_ATTEMPTS", 5, 1, 1_000)?,
            spend_limits: spend_limits(env)?,
            retry_base: Duration::from_millis(number(env, "JOB_RETRY_BASE_MS", 500, 0, MAX_MS)?),
            doors: http.threads,
            shards: optional(env, "SHARDS", 1, MAX_THREADS)?,
            data_dir: data_dir(env),
            journal_sync: journal_sync(env, &mut notes)?,
            segment_bytes: number(env, "JOURNAL_SEGMENT_BYTES", 64 << 20, MIN_SEGMENT_BYTES, 1 << 30)?,
            settled_kept: number(env, "SETTLED_KEPT", 100_000, 0, 100_000_000)?,
            webhooks: webhooks.is_some(),
            history_retention: history_retention(env)?,
        };
        let unused: Vec<&str> = WITHOUT_EFFECT.into_iter().filter(|name| env.get(name).is_some()).collect();
        if http.debug_endpoints && !cfg!(feature = "profiling") {
            notes.push("DEBUG_ENDPOINTS has no effect: this program was built without --features profiling".into());
        }
        if !unused.is_empty() {
            notes.push(format!("settings that have no effect in Keyshard: {}", unused.join(", ")));
        }
        Ok(Self {
            http,
            engine,
            drain_timeout: Duration::from_millis(number(env, "DRAIN_TIMEOUT_MS", 30_000, 0, MAX_MS)?),
            memory_monitoring: is_true(env, "ENABLE_MEMORY_MONITORING"),
            heartbeat: true,
            webhooks,
            keys_from: keys.source,
            notes,
        })
    }
}

impl Offline {
    /// Reads the settings that matter while the service is stopped.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let sandbox = env.is_sandbox();
        Ok(Self {
            account: account_that_pays(env, sandbox)?,
            token: account_of_token(env, sandbox)?,
            rpc: endpoints(env, sandbox, &mut Vec::new())?,
            trust: trust(env)?,
            data_dir: data_dir(env),
        })
    }
}

/// The front end's part alone.
fn http(env: &Env, account: AccountId, sandbox: bool) -> Result<Http, ConfigError> {
    let server_timeout: u64 = number(env, "SERVER_TIMEOUT_MS", 60_000, 1, MAX_MS)?;
    let request_timeout: u64 = number(env, "REQUEST_TIMEOUT_MS", server_timeout.max(60_000), 1, MAX_MS)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(Http {
        host: env.get("HOST").unwrap_or("127.0.0.1").to_owned(),
        port: number(env, "PORT", 3_000, 0, u16::MAX)?,
        threads: number(env, "HTTP_THREADS", (cores / 2).clamp(1, MAX_THREADS), 1, MAX_THREADS)?,
        request_timeout: Duration::from_millis(request_timeout),
        write_timeout: Duration::from_millis(server_timeout),
        header_timeout: milliseconds(env, "HEADER_TIMEOUT_MS", Http::HEADER_TIMEOUT)?,
        body_timeout: milliseconds(env, "BODY_TIMEOUT_MS", Http::BODY_TIMEOUT)?,
        max_header_bytes: number(env, "MAX_HEADER_BYTES", Http::MAX_HEADER_BYTES, HEADER_BYTES[0], HEADER_BYTES[1])?,
        max_connections: number(env, "MAX_CONNECTIONS", Http::MAX_CONNECTIONS, 1, MAX_CONNECTIONS)?,
        tls: Tls::from_env(env)?,
        access: Arc::new(Access::from_env(env, Path::new(&data_dir(env)))?),
        cors: Cors::parse(env.get("CORS_ALLOW_ORIGINS").unwrap_or("*")),
        account,
        sandbox,
        capacity: number(env, "MAX_PENDING_JOBS", 100_000, MIN_PENDING, MAX_PENDING)?,
        batch_window_ms: number(env, "BATCH_WINDOW_MS", 100, 0, 60_000)?,
        debug_endpoints: is_true(env, "DEBUG_ENDPOINTS"),
        mock: false,
    })
}

/// Who asks for a test must not pay in earnest: `mock::start` has taken the setting away where there is a mock mode.
fn refuse_mock_mode(env: &Env) -> Result<(), ConfigError> {
    match mock::asked_for(env) {
        Some(name) => Err(ConfigError::new(name, "asks for mock mode, which only `keyshard serve` has: unset it")),
        None => Ok(()),
    }
}

fn endpoints(env: &Env, sandbox: bool, notes: &mut Vec<String>) -> Result<rpc::Config, ConfigError> {
    let default = if sandbox { "http://localhost:3030" } else { "https://rpc.testnet.fastnear.com" };
    let node_url = env.get("NODE_URL").unwrap_or(default);
    let (headers, api_key) = (env.get("RPC_HEADERS"), env.get("FASTNEAR_API_KEY"));
    let (config, warnings) = rpc::Config::from_settings(env.get("RPC_URLS"), node_url, headers, api_key)
        .map_err(|error| ConfigError::new("NODE_URL or RPC_URLS:", error.to_string()))?;
    notes.extend(warnings);
    Ok(config)
}

pub(crate) fn data_dir(env: &Env) -> PathBuf {
    env.get("DATA_DIR").unwrap_or("./data").into()
}

fn account_that_pays(env: &Env, sandbox: bool) -> Result<AccountId, ConfigError> {
    account(env, "MASTER_ACCOUNT", if sandbox { "test.near" } else { "posm.testnet" })
}

fn account_of_token(env: &Env, sandbox: bool) -> Result<AccountId, ConfigError> {
    account(env, "FT_CONTRACT", if sandbox { "ft.test.near" } else { "posm.testnet" })
}

fn account(env: &Env, name: &str, default: &str) -> Result<AccountId, ConfigError> {
    let text = env.get(name).unwrap_or(default);
    text.parse().map_err(|_| ConfigError::new(name, format!("is {text:?}, which is not a NEAR account id")))
}

fn wait_until(env: &Env, notes: &mut Vec<String>) -> Result<Level, ConfigError> {
    match env.get("WAIT_UNTIL").unwrap_or("Final") {
        "Included" => Ok(Level::Included),
        "ExecutedOptimistic" => Ok(Level::ExecutedOptimistic),
        "IncludedFinal" => Ok(Level::IncludedFinal),
        "Executed" => Ok(Level::Executed),
        "Final" => Ok(Level::Final),
        "None" => {
            notes.push("WAIT_UNTIL=None is read as Included: with None a node hides every error".into());
            Ok(Level::Included)
        }
        other => Err(ConfigError::new(
            "WAIT_UNTIL",
            format!("is {other:?}; it must be Included, ExecutedOptimistic, IncludedFinal, Executed or Final"),
        )),
    }
}

fn storage(env: &Env) -> Result<StoragePolicy, ConfigError> {
    let always = is_true(env, "SKIP_STORAGE_CHECK");
    match (env.get("STORAGE_DEPOSIT"), always) {
        (None | Some("auto"), true) => Ok(StoragePolicy::Always),
        (None | Some("auto"), false) => Ok(StoragePolicy::Auto),
        (Some("never"), false) => Ok(StoragePolicy::Never),
        (Some("never"), true) => Err(ConfigError::new(
            "STORAGE_DEPOSIT",
            "is never, but SKIP_STORAGE_CHECK=true asks for a deposit in front of every transfer: unset one of them",
        )),
        (Some(other), _) => Err(ConfigError::new("STORAGE_DEPOSIT", format!("is {other:?}; it must be auto or never"))),
    }
}

/// What may be signed in any minute and in any day, raw token units.
fn spend_limits(env: &Env) -> Result<Vec<(Period, u128)>, ConfigError> {
    let mut limits = Vec::new();
    for (name, period) in [("SPEND_LIMIT_PER_MINUTE", Period::Minute), ("SPEND_LIMIT_PER_DAY", Period::Day)] {
        limits.extend(optional(env, name, 1, u128::MAX)?.map(|limit| (period, limit)));
    }
    Ok(limits)
}

/// Whose word ends a transaction. Unset: two must agree where there are two.
fn trust(env: &Env) -> Result<Option<Trust>, ConfigError> {
    match env.get("RPC_TRUST") {
        None => Ok(None),
        Some("one") => Ok(Some(Trust::One)),
        Some("two") => Ok(Some(Trust::Two)),
        Some(other) => Err(ConfigError::new("RPC_TRUST", format!("is {other:?}; it must be one or two"))),
    }
}

/// How long settled transfers, and so their idempotency keys, stay known: `30d`, `48h`, or a number of days.
fn history_retention(env: &Env) -> Result<Duration, ConfigError> {
    let name = "HISTORY_RETENTION";
    let Some(text) = env.get(name) else { return Ok(HISTORY_RETENTION) };
    let (number, unit) = match text.strip_suffix(['d', 'h']) {
        Some(number) if text.ends_with('h') => (number, Duration::from_hours(1)),
        Some(number) => (number, DAY),
        None => (text, DAY),
    };
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    let retention = number.parse::<u32>().ok().filter(|_| digits).and_then(|number| unit.checked_mul(number));
    match retention {
        Some(retention) if retention < HISTORY_RETENTION_MIN => Err(ConfigError::new(
            name,
            format!(
                "is {text:?}; the least is 24h: whoever repeats a request within a day must find the transfer that it made, \
                 or it would be paid again"
            ),
        )),
        Some(retention) if retention <= HISTORY_RETENTION_MAX => Ok(retention),
        _ => Err(ConfigError::new(
            name,
            format!("is {text:?}; it must be a number of days or hours, like 30d or 48h, up to 3650d"),
        )),
    }
}

fn journal_sync(env: &Env, notes: &mut Vec<String>) -> Result<bool, ConfigError> {
    match env.get("JOURNAL_SYNC").unwrap_or("always") {
        "always" => Ok(true),
        "off" => {
            notes.push(
                "JOURNAL_SYNC=off: records are not synced to disk. A power loss may lose transfers or pay them twice. \
                 This is for measuring only"
                    .into(),
            );
            Ok(false)
        }
        other => Err(ConfigError::new("JOURNAL_SYNC", format!("is {other:?}; it must be always or off"))),
    }
}

/// Transactions in flight per key: the network's own variable first, then the general one.
fn window(env: &Env, sandbox: bool) -> Result<usize, ConfigError> {
    let own = if sandbox { "SANDBOX_MAX_IN_FLIGHT_PER_KEY" } else { "TESTNET_MAX_IN_FLIGHT_PER_KEY" };
    let name = if env.get(own).is_some() { own } else { "MAX_IN_FLIGHT_PER_KEY" };
    number(env, name, 8, 1, 1_000)
}

fn is_true(env: &Env, name: &str) -> bool {
    env.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn number<T>(env: &Env, name: &str, default: T, min: T, max: T) -> Result<T, ConfigError>
where
    T: FromStr + PartialOrd + fmt::Display + Copy,
{
    Ok(optional(env, name, min, max)?.unwrap_or(default))
}

fn milliseconds(env: &Env, name: &str, default: Duration) -> Result<Duration, ConfigError> {
    number(env, name, default.as_millis() as u64, 1, MAX_MS).map(Duration::from_millis)
}

fn optional<T>(env: &Env, name: &str, min: T, max: T) -> Result<Option<T>, ConfigError>
where
    T: FromStr + PartialOrd + fmt::Display + Copy,
{
    let Some(text) = env.get(name) else { return Ok(None) };
    match text.parse::<T>() {
        Ok(value) if value >= min && value <= max => Ok(Some(value)),
        _ => Err(ConfigError::new(name, format!("is {text:?}; it must be a whole number from {min} to {max}"))),
    }
}

impl Http {
    /// Default of [`Http::header_timeout`]: a little longer than the 15 s that answers promise (`Keep-Alive: timeout=15`),
    /// so that a client does not send into a connection that is just being closed.
    pub const HEADER_TIMEOUT: Duration = Duration::from_secs(20);
    /// Default of [`Http::body_timeout`]: 10 MB in 30 s is the slowest line that is still served.
    pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);
    /// Default of [`Http::max_header_bytes`]. Real ones take below 2 KiB; it is also what an idle connection may cost.
    pub const MAX_HEADER_BYTES: usize = 32 * 1024;
    /// Default of [`Http::max_connections`], as in the Node service: more would run into the limit of open files.
    pub const MAX_CONNECTIONS: usize = 50_000;
}

#[cfg(test)]
mod tests {
    use near_crypto::{KeyType, SecretKey};

    use super::*;

    fn key() -> String {
        SecretKey::from_seed(KeyType::ED25519, "a").to_string()
    }

    fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut env: Env = pairs.iter().copied().collect();
        if env.get("MASTER_ACCOUNT_PRIVATE_KEY").is_none() {
            env.set("MASTER_ACCOUNT_PRIVATE_KEY", key());
        }
        Config::from_env(&env)
    }

    #[test]
    fn defaults() {
        let testnet = read(&[]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(testnet.http.host, "127.0.0.1");
        assert_eq!(testnet.http.port, 3000);
        assert_eq!(testnet.http.request_timeout, Duration::from_mins(1));
        assert_eq!(testnet.http.cors, Cors::Any);
        assert!(!testnet.http.sandbox);
        assert_eq!(testnet.engine.account, "posm.testnet");
        assert_eq!(testnet.engine.token, "posm.testnet");
        assert_eq!(testnet.engine.wait_until, Level::Final);
        assert_eq!(testnet.engine.storage, StoragePolicy::Auto);
        assert_eq!(testnet.engine.max_pending, 100_000);
        assert_eq!(testnet.engine.window, 8);
        assert_eq!(testnet.engine.linger, Duration::from_millis(100));
        assert_eq!(testnet.engine.doors, testnet.http.threads);
        assert_eq!(testnet.drain_timeout, Duration::from_secs(30));
        assert!(testnet.notes.is_empty());
        let sandbox = read(&[("NEAR_ENV", "sandbox")]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(sandbox.engine.account, "test.near");
        assert_eq!(sandbox.engine.token, "ft.test.near");
    }

    #[test]
    fn the_longer_of_the_two_timeouts_is_the_default() {
        for (server, request) in [("1000", 60), ("90000", 90)] {
            let config = read(&[("SERVER_TIMEOUT_MS", server)]).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(config.http.request_timeout, Duration::from_secs(request));
        }
    }

    #[test]
    fn windows_by_network() {
        for (pairs, window) in [
            (&[("NEAR_ENV", "sandbox"), ("SANDBOX_MAX_IN_FLIGHT_PER_KEY", "3"), ("MAX_IN_FLIGHT_PER_KEY", "5")][..], 3),
            (&[("SANDBOX_MAX_IN_FLIGHT_PER_KEY", "3"), ("MAX_IN_FLIGHT_PER_KEY", "5")][..], 5),
            (&[("TESTNET_MAX_IN_FLIGHT_PER_KEY", "4"), ("MAX_IN_FLIGHT_PER_KEY", "5")][..], 4),
        ] {
            assert_eq!(read(pairs).map(|config| config.engine.window), Ok(window));
        }
    }

    #[test]
    fn malformed_values_are_errors_that_name_the_variable() {
        for (name, value, says) in [
            ("PORT", "70000", "a whole number from 0 to 65535"),
            ("PORT", "http", "a whole number from 0 to 65535"),
            ("MAX_PENDING_JOBS", "10", "a whole number from 11 "),
            ("MAX_PENDING_JOBS", "1e3", "a whole number"),
            ("MAX_ACTIONS_PER_TX", "1", "a whole number from 2 "),
            ("BATCH_WINDOW_MS", "-1", "a whole number from 0 "),
            ("WAIT_UNTIL", "final", "Included, ExecutedOptimistic, IncludedFinal, Executed or Final"),
            ("STORAGE_DEPOSIT", "maybe", "auto or never"),
            ("STORAGE_MIN_DEPOSIT", "0.00125", "a whole number"),
            ("MASTER_ACCOUNT", "Not An Account", "not a NEAR account id"),
            ("FT_CONTRACT", "x", "not a NEAR account id"),
            ("SKIP_NEAR_INIT", "True", "mock mode"),
            ("HTTP_THREADS", "0", "a whole number from 1 "),
            ("MAX_CONNECTIONS", "0", "a whole number from 1 "),
            ("HEADER_TIMEOUT_MS", "20s", "a whole number from 1 "),
            ("BODY_TIMEOUT_MS", "0", "a whole number from 1 "),
            ("MAX_HEADER_BYTES", "8191", "a whole number from 8192 to 1048576"),
            ("TLS_CERT", "/cert.pem", "is set and TLS_KEY is not"),
        ] {
            let error = read(&[(name, value)]).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.starts_with(name) && error.contains(says), "{name}={value}: {error}");
        }
    }

    #[test]
    fn retentions() {
        for (text, hours) in [("30d", 720), ("48h", 48), ("24h", 24), ("1", 24), ("7", 168), ("3650d", 87_600)] {
            let retention = read(&[("HISTORY_RETENTION", text)]).map(|config| config.engine.history_retention);
            assert_eq!(retention, Ok(Duration::from_hours(hours)), "{text}");
        }
        assert_eq!(read(&[]).map(|config| config.engine.history_retention), Ok(Duration::from_hours(720)));
        for (text, says) in [
            ("23h", "the least is 24h"),
            ("0", "the least is 24h"),
            ("3651d", "30d or 48h"),
            ("99999999999d", "30d or 48h"),
            ("d", "30d or 48h"),
            ("1.5d", "30d or 48h"),
            ("+2d", "30d or 48h"),
            ("30 d", "30d or 48h"),
            ("30m", "30d or 48h"),
            ("-1", "30d or 48h"),
        ] {
            let error = read(&[("HISTORY_RETENTION", text)]).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.starts_with("HISTORY_RETENTION") && error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn secrets_are_not_repeated() {
        for name in ["MASTER_ACCOUNT_PRIVATE_KEY", "MASTER_ACCOUNT_PRIVATE_KEYS"] {
            let error = read(&[(name, "ed25519:SECRET")]).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.starts_with(name) && !error.contains("SECRET"), "{error}");
        }
    }

    #[test]
    fn keys_are_required_and_the_list_wins() {
        let error = Config::from_env(&Env::default()).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with("MASTER_ACCOUNT_PRIVATE_KEYS is not set"), "{error}");
        let other = SecretKey::from_seed(KeyType::ED25519, "b");
        let list = other.to_string();
        let config = read(&[("MASTER_ACCOUNT_PRIVATE_KEYS", list.as_str())]).unwrap_or_else(|error| panic!("{error}"));
        assert!(config.engine.keys == [other]);
    }

    #[test]
    fn storage_policies() {
        for (pairs, policy) in [
            (&[][..], StoragePolicy::Auto),
            (&[("SKIP_STORAGE_CHECK", "TRUE")][..], StoragePolicy::Always),
            (&[("SKIP_STORAGE_CHECK", "false"), ("STORAGE_DEPOSIT", "never")][..], StoragePolicy::Never),
        ] {
            assert_eq!(read(pairs).map(|config| config.engine.storage), Ok(policy));
        }
        assert!(read(&[("SKIP_STORAGE_CHECK", "true"), ("STORAGE_DEPOSIT", "never")]).is_err());
    }

    #[test]
    fn settings_without_effect_are_named_once() {
        let config =
            read(&[("CONCURRENCY_LIMIT", "5"), ("TPS", "x"), ("WAIT_UNTIL", "None")]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(config.notes.len(), 2);
        assert!(config.notes[1].ends_with(": CONCURRENCY_LIMIT, TPS"), "{}", config.notes[1]);
    }
}
