//! The log: lines for people, or the Node service's JSON lines; on stdout, or appended to a file.
mod node_lines;

use std::{
    fs::{File, OpenOptions},
    io::{IsTerminal as _, stdout},
    path::Path,
    sync::Arc,
};

use tracing_subscriber::{
    EnvFilter,
    fmt::{MakeWriter, fmt},
};

use self::node_lines::NodeLines;
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

/// The crates whose events `LOG_LEVEL` is about.
const OWN: [&str; 5] = ["keyshard", "keyshard_engine", "keyshard_shard", "keyshard_rpc", "keyshard_sandbox"];

/// Starts logging for this process. Libraries are heard from `warn` on; `LOG_LEVEL` sets Keyshard's own level. Each line is
/// written at once and whole.
pub fn start(env: &Env) -> Result<(), ConfigError> {
    let filter = filter(env)?;
    let json = env.get("NODE_ENV") == Some("production")
        || env.get("PINO_PRETTY").is_some_and(|pretty| pretty.eq_ignore_ascii_case("false"));
    let destination = ["PINO_DESTINATION", "PINO_LOG_PATH"].into_iter().find_map(|name| Some((name, env.get(name)?)));
    match destination {
        // Colours only for a person: a log file has none.
        None => install(filter, json, stdout().is_terminal(), stdout),
        Some((name, path)) => {
            let file = open(Path::new(path))
                .map_err(|error| ConfigError::new(name, format!("names {path}, which cannot be written: {error}")))?;
            install(filter, json, false, Arc::new(file))
        }
    }
}

fn filter(env: &Env) -> Result<EnvFilter, ConfigError> {
    let text = env.get("LOG_LEVEL").unwrap_or("info");
    let level = LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, level)| *level);
    let Some(level) = level else {
        let names = LEVELS.map(|(name, _)| name).join(", ");
        return Err(ConfigError::new("LOG_LEVEL", format!("is {text:?}; it must be one of {names}")));
    };
    let others = if matches!(level, "off" | "error") { level } else { "warn" };
    Ok(EnvFilter::new(OWN.iter().fold(others.to_owned(), |filter, name| format!("{filter},{name}={level}"))))
}

/// Appends; directories that are not there are made.
fn open(path: &Path) -> std::io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

fn install<W>(filter: EnvFilter, json: bool, colours: bool, writer: W) -> Result<(), ConfigError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = fmt().with_env_filter(filter).with_target(false).with_ansi(colours).with_writer(writer);
    let started = if json { builder.event_format(NodeLines).try_init() } else { builder.try_init() };
    started.map_err(|error| ConfigError::new("LOG_LEVEL", format!("cannot start logging: {error}")))
}
