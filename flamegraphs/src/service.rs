//! The service as a child process: the real program, built with `--features profiling`.
use std::{
    collections::VecDeque,
    io::{self, BufRead as _, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use keyshard_sandbox::Credentials;

/// What the service is built with: an ordinary release, and the endpoint that samples it. Unwinding needs no frame pointers.
pub const BUILD: [&str; 6] = ["build", "--release", "-p", "keyshard", "--features", "profiling"];
/// Longest start, and longest end.
const PATIENCE: Duration = Duration::from_mins(1);
/// Lines of its log that are shown if it fails.
const LINES_KEPT: usize = 20;

/// A service that does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// It cannot be built. The compiler has said why.
    #[error("`cargo {}` failed", BUILD.join(" "))]
    Build,
    /// It cannot be started, spoken to or stopped.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's word.
        source: io::Error,
    },
    /// It has ended, or is not ready in time; the end of its log.
    #[error("the service {what}; its log ends with\n{log}")]
    Failed {
        /// What it did.
        what: &'static str,
        /// Lines.
        log: String,
    },
}

/// Builds the service in the workspace around `root`; the path of the program comes back.
pub fn build(root: &Path) -> Result<PathBuf, ServiceError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(BUILD)
        .arg("--message-format=json-render-diagnostics")
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| ServiceError::Io { what: "cannot start cargo", source })?;
    if !output.status.success() {
        return Err(ServiceError::Build);
    }
    String::from_utf8_lossy(&output.stdout).lines().rev().find_map(executable).ok_or(ServiceError::Build)
}

/// The program that a message of cargo tells of.
fn executable(line: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    (message["reason"] == "compiler-artifact" && message["target"]["name"] == "keyshard")
        .then(|| message["executable"].as_str().map(PathBuf::from))
        .flatten()
}

/// A running service; killed when dropped.
pub struct Service {
    child: Child,
    address: SocketAddr,
    log: Log,
}

/// The last lines that it wrote.
type Log = Arc<Mutex<VecDeque<String>>>;

impl Service {
    /// Starts it in `folder`, where its data goes, and waits until it takes transfers.
    pub fn start(program: &Path, folder: &Path, credentials: &Credentials) -> Result<Self, ServiceError> {
        let mut child = Command::new(program)
            .arg("serve")
            .current_dir(folder)
            .env_clear()
            .envs(environment(credentials))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| ServiceError::Io { what: "cannot start the service", source })?;
        let log = Log::default();
        let (sender, lines) = mpsc::channel();
        follow(child.stdout.take(), &log, sender.clone());
        follow(child.stderr.take(), &log, sender);
        // From here on whatever goes wrong kills it.
        let mut service = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), log };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains("HTTP server listening") => {
                    service.address = address(&line).ok_or_else(|| service.failed("does not tell its address"))?;
                }
                Ok(line) if line.contains("Server ready to accept requests") => return Ok(service),
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => return Err(service.failed("is not ready in time")),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(service.failed("has ended")),
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as an operator does, so that all it accepted settles.
    pub fn stop(mut self) -> Result<(), ServiceError> {
        let problem = |source| ServiceError::Io { what: "cannot stop the service", source };
        let id = self.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().map_err(problem)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().map_err(problem)? {
                Some(status) if status.success() => return Ok(()),
                Some(_) => return Err(self.failed("ended with an error")),
                None if Instant::now() > deadline => return Err(self.failed("does not end")),
                None => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn failed(&self, what: &'static str) -> ServiceError {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        ServiceError::Failed { what, log: log.iter().cloned().collect::<Vec<_>>().join("\n") }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn environment(credentials: &Credentials) -> Vec<(&'static str, String)> {
    vec![
        ("NEAR_ENV", "sandbox".into()),
        ("NODE_URL", credentials.rpc.clone()),
        ("MASTER_ACCOUNT", credentials.account.clone()),
        ("MASTER_ACCOUNT_PRIVATE_KEYS", credentials.keys.join(",")),
        ("FT_CONTRACT", credentials.ft.clone()),
        ("WAIT_UNTIL", "ExecutedOptimistic".into()),
        ("HOST", "127.0.0.1".into()),
        ("PORT", "0".into()),
        ("DATA_DIR", "data".into()),
        ("DEBUG_ENDPOINTS", "true".into()),
    ]
}

/// Reads its output to the end, so that it never waits for a reader.
fn follow(output: Option<impl Read + Send + 'static>, log: &Log, sender: mpsc::Sender<String>) {
    let Some(output) = output else { return };
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let mut kept = log.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == LINES_KEPT {
                kept.pop_front();
            }
            kept.push_back(line.clone());
            drop(kept);
            // Nobody listens any more once it is ready.
            let _ = sender.send(line);
        }
    });
}

/// The address in `.. HTTP server listening address=127.0.0.1:3000`.
fn address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("address=")?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_and_the_service_say() {
        let artifact =
            r#"{"reason":"compiler-artifact","target":{"name":"keyshard"},"executable":"/t/release/keyshard"}"#;
        assert_eq!(executable(artifact), Some("/t/release/keyshard".into()));
        let library = r#"{"reason":"compiler-artifact","target":{"name":"keyshard"},"executable":null}"#;
        assert_eq!(executable(library), None);
        assert_eq!(executable("{}"), None);
        assert_eq!(address("INFO HTTP server listening address=127.0.0.1:41 x=1"), "127.0.0.1:41".parse().ok());
        assert_eq!(address("INFO HTTP server listening"), None);
    }
}
