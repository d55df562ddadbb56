//! The log: lines on stdout, for people, or as JSON where `NODE_ENV` is `production`.
use tracing_subscriber::{EnvFilter, fmt};

use crate::{config::ConfigError, env::Env};

/// The Node service's levels and what they are here.
const LEVELS: [(&str, &str); 7] = [
    ("trace", "trace"),
    ("debug", "debug"),
    ("info", "info"),
    ("warn", "warn"),
    ("error", "error"),
    ("fatal", "error"),
    ("silent", "off"),
];

/// Starts logging for this process. Libraries are heard from `warn` on; `LOG_LEVEL` sets Keyshard's own level.
pub fn start(env: &Env) -> Result<(), ConfigError> {
    let text = env.get("LOG_LEVEL").unwrap_or("info");
    let level = LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, level)| *level);
    let Some(level) = level else {
        let names = LEVELS.map(|(name, _)| name).join(", ");
        return Err(ConfigError::new("LOG_LEVEL", format!("is {text:?}; it must be one of {names}")));
    };
    let others = if matches!(level, "off" | "error") { level } else { "warn" };
    let crates = ["keyshard", "keyshard_engine", "keyshard_shard", "keyshard_rpc", "keyshard_sandbox"];
    let filter = crates.iter().fold(others.to_owned(), |filter, name| format!("{filter},{name}={level}"));
    let builder = fmt().with_env_filter(EnvFilter::new(filter)).with_target(false);
    let started = if env.get("NODE_ENV") == Some("production") {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        // Colours only for a person: a log file has none.
        builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stdout())).try_init()
    };
    started.map_err(|error| ConfigError::new("LOG_LEVEL", format!("cannot start logging: {error}")))
}
