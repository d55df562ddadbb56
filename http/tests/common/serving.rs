//! `keyshard serve` as a child process at a sandbox: started, killed and started again in the same directory.
use std::path::{Path, PathBuf};

use keyshard_sandbox::{Config, Credentials, Sandbox};
use serde_json::Value;

use super::{chain, client, program::Program};

/// A sandbox, a directory, and the service between two kills.
pub(crate) struct Stage {
    pub(crate) sandbox: Sandbox,
    pub(crate) directory: PathBuf,
    settings: Vec<(String, String)>,
}

/// A running service.
pub(crate) struct Serving {
    pub(crate) program: Program,
    pub(crate) base: String,
}

/// What a request was answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answered {
    /// The header as text; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The ids of the transfers, in request order.
    pub(crate) fn ids(&self) -> Vec<String> {
        let one = self.body["jobId"].as_str().map(str::to_owned);
        let many = self.body["jobIds"].as_array().into_iter().flatten().map(|id| id.as_str().unwrap().to_owned());
        one.into_iter().chain(many).collect()
    }

    pub(crate) fn is_replayed(&self) -> bool {
        self.header("idempotency-replayed") == "true"
    }
}

impl Stage {
    /// A fresh chain and an empty directory. `settings` are environment variables of every start.
    pub(crate) fn new(name: &str, block_ms: u64, settings: &[(&str, &str)]) -> Self {
        let sandbox = Sandbox::start(Config { block_ms, keys: 2, receivers: 20, ..Config::default() }).unwrap();
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { sandbox, directory: chain::directory(name), settings }
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        self.sandbox.credentials()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Runs `keyshard` with these arguments and this stage's settings.
    pub(crate) fn run(&self, arguments: &[&str]) -> Program {
        self.run_with(arguments, &[])
    }

    /// The same with settings of this start alone, which win.
    pub(crate) fn run_with(&self, arguments: &[&str], more: &[(&str, &str)]) -> Program {
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings: Vec<_> = self.settings.iter().cloned().chain(more).collect();
        run(&self.directory, self.credentials(), arguments, &settings)
    }

    /// `keyshard serve`, once it takes transfers.
    pub(crate) fn serve(&self) -> Serving {
        self.serve_with(&[])
    }

    /// The same with settings of this start alone, which win.
    pub(crate) fn serve_with(&self, more: &[(&str, &str)]) -> Serving {
        let mut program = self.run_with(&["serve"], more);
        let line = program.line_with("HTTP server listening");
        let address = line.split("address=").nth(1).unwrap_or_else(|| panic!("{line}")).trim().to_owned();
        program.line_with("Server ready to accept requests");
        Serving { program, base: format!("http://{address}") }
    }

    /// What an account has of the token.
    pub(crate) async fn balance(&self, account: &str) -> u128 {
        chain::balance(&self.credentials().rpc, &self.credentials().ft, account).await
    }
}

fn run(directory: &Path, credentials: &Credentials, arguments: &[&str], more: &[(String, String)]) -> Program {
    let keys = serde_json::to_string(&credentials.keys).unwrap();
    let own = [
        ("NEAR_ENV", "sandbox"),
        ("NODE_URL", credentials.rpc.as_str()),
        ("MASTER_ACCOUNT_PRIVATE_KEYS", keys.as_str()),
        ("PORT", "0"),
        ("DATA_DIR", "data"),
        ("JOURNAL_SEGMENT_BYTES", "8388608"),
    ];
    let more = more.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let environment: Vec<_> = own.into_iter().chain(more).collect();
    Program::start(directory, arguments, &environment)
}

impl Serving {
    /// `POST /send-ft` with these headers beside the content type.
    pub(crate) async fn send(&self, body: &Value, headers: &[(&'static str, &str)]) -> Answered {
        post(&self.base, body, headers).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = super::get(&self.base, path).await;
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body}")))
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.program.signal("KILL");
        assert!(!self.program.end().success());
    }

    /// Ends it with SIGTERM.
    pub(crate) fn stop(mut self) {
        self.program.signal("TERM");
        assert!(self.program.end().success(), "{}", self.program.output());
    }
}

/// Posts transfers.
pub(crate) async fn post(base: &str, body: &Value, headers: &[(&'static str, &str)]) -> Answered {
    let request = client().post(format!("{base}/send-ft")).json(body);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} {text}"));
    Answered { status, headers, body }
}
