//! What is measured: a node, and a service that pays through it. Brought up here, or somewhere else already.
use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use keyshard_sandbox::Credentials;

use crate::{
    chain::{Node, NodeError},
    child::{Child, ChildError},
    load::{Target, TargetError},
    machine,
    roles::READY,
};

/// Pause between two looks at the chain: short for a node of our own, polite to others'.
const LOOK_HERE: Duration = Duration::from_millis(100);
const LOOK_ELSEWHERE: Duration = Duration::from_millis(400);

/// How a stand is put together. Has no `Debug`: settings may hold secrets.
#[derive(Clone)]
pub struct Plan {
    /// The program whose roles ([`crate::roles`]) are run: this one.
    pub program: PathBuf,
    /// Where logs and journals go.
    pub directory: PathBuf,
    /// The node; `None` starts a sandbox.
    pub node: Option<String>,
    /// The service; `None` starts one.
    pub target: Option<String>,
    /// A `keyshard` to start instead of the one that is built into this program.
    pub binary: Option<PathBuf>,
    /// The sandbox, if one is started.
    pub sandbox: keyshard_sandbox::Config,
    /// Settings of the service, if it is started here, over those that it is given.
    pub settings: Vec<(String, String)>,
    /// The token, where the node is not a sandbox of ours.
    pub token: Option<String>,
    /// The account that pays, likewise.
    pub payer: Option<String>,
    /// Accounts to pay, likewise.
    pub receivers: Vec<String>,
}

/// What is measured. The processes end when it is dropped. Has no `Debug`: it holds the keys.
pub struct Stand {
    /// The service; `None` if only the node is measured.
    pub service: Option<Service>,
    /// The node.
    pub node: Node,
    /// The token.
    pub token: String,
    /// The account that pays, if known.
    pub payer: Option<String>,
    /// Its keys, if known.
    pub keys: Vec<String>,
    /// Accounts that are registered with the token.
    pub receivers: Vec<String>,
    /// Whether the node has a limit of gas a block, as real ones do.
    pub metered: bool,
    /// Pause between two looks at the chain.
    pub look_every: Duration,
    /// What to doubt about this stand.
    pub doubts: Vec<String>,
    children: Vec<Child>,
    /// The service's journal, removed in the end.
    data: Option<tempfile::TempDir>,
}

/// A service.
#[derive(Debug, Clone)]
pub struct Service {
    /// `http://127.0.0.1:3000`.
    pub url: String,
    /// Where requests go.
    pub target: Target,
}

/// Why there is nothing to measure.
#[derive(Debug, thiserror::Error)]
pub enum StandError {
    /// A program does not start.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// The node does not answer.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The service's URL cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Files cannot be written.
    #[error("{0}: {1}")]
    Files(PathBuf, io::Error),
    /// Something is missing.
    #[error("{0}")]
    Missing(&'static str),
}

impl Plan {
    /// Starts the node, or finds the one that is there. Nothing pays yet: see [`Stand::serve`].
    pub async fn bring_up(&self) -> Result<Stand, StandError> {
        fs::create_dir_all(&self.directory).map_err(|error| StandError::Files(self.directory.clone(), error))?;
        let (child, own) = match (&self.node, &self.target) {
            (Some(_), _) => (None, None),
            (None, Some(_)) => {
                let why = "--target needs --node: the chain is what tells which transfers were paid";
                return Err(StandError::Missing(why));
            }
            (None, None) => {
                let (child, credentials) = self.start_sandbox()?;
                (Some(child), Some(credentials))
            }
        };
        let is_own = own.is_some();
        let own = own.unwrap_or_else(|| Credentials {
            rpc: self.node.clone().unwrap_or_default(),
            account: self.payer.clone().unwrap_or_default(),
            secret: String::new(),
            ft: self.token.clone().unwrap_or_default(),
            keys: keys_of_environment(),
            receivers: self.receivers.clone(),
        });
        let node = Node::new(&own.rpc)?;
        node.last_final().await?;
        if own.ft.is_empty() {
            return Err(StandError::Missing("--token is needed with --node: the account of the NEP-141 token"));
        }
        let is_here = is_own || own.rpc.contains("//127.0.0.1") || own.rpc.contains("//localhost");
        Ok(Stand {
            service: None,
            node,
            token: own.ft,
            payer: Some(own.account).filter(|account| !account.is_empty()),
            keys: own.keys,
            receivers: own.receivers,
            metered: !(is_own && self.sandbox.unlimited),
            look_every: if is_here { LOOK_HERE } else { LOOK_ELSEWHERE },
            doubts: Vec::new(),
            children: child.into_iter().collect(),
            data: None,
        })
    }

    fn start_sandbox(&self) -> Result<(Child, Credentials), StandError> {
        let keyshard_sandbox::Config { block_ms, keys, receivers, unlimited, .. } = &self.sandbox;
        let mut arguments = vec![
            "role-sandbox".to_owned(),
            format!("--block-ms={block_ms}"),
            format!("--keys={keys}"),
            format!("--accounts={receivers}"),
        ];
        if *unlimited {
            arguments.push("--unlimited".into());
        }
        let log = self.directory.join("sandbox.log");
        let ready = |line: &str| serde_json::from_str(line.strip_prefix(READY)?).ok();
        Ok(Child::start("sandbox", &self.program, &arguments, &[], &log, ready)?)
    }

    fn start_service(&self, stand: &Stand, data: &Path) -> Result<(Child, SocketAddr), StandError> {
        let missing = StandError::Missing;
        let payer = stand.payer.as_ref().ok_or(missing("--payer is needed with --node: the account that pays"))?;
        if stand.keys.is_empty() {
            return Err(missing("MASTER_ACCOUNT_PRIVATE_KEYS is not set: full-access keys of --payer"));
        }
        let given = [
            // This names no network here: it only makes failures carry more.
            ("NEAR_ENV", "sandbox"),
            ("NODE_URL", stand.node.url()),
            ("MASTER_ACCOUNT", payer.as_str()),
            ("MASTER_ACCOUNT_PRIVATE_KEYS", &stand.keys.join(",")),
            ("FT_CONTRACT", stand.token.as_str()),
            ("WAIT_UNTIL", "ExecutedOptimistic"),
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
            ("DATA_DIR", &data.to_string_lossy()),
            ("LOG_LEVEL", "info"),
            ("RUST_BACKTRACE", "1"),
        ];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        // What a node elsewhere asks for beside its URL.
        let access = ["FASTNEAR_API_KEY", "RPC_HEADERS"].into_iter().filter(|_| self.node.is_some());
        let access = access.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
        let environment: Vec<_> = given.into_iter().chain(access).chain(self.settings.iter().cloned()).collect();
        let (program, role) = match &self.binary {
            Some(binary) => (binary.as_path(), "serve"),
            None => (self.program.as_path(), "role-service"),
        };
        let log = self.directory.join("service.log");
        // These two lines are part of the contract: scripts wait for them.
        let listening = std::cell::Cell::new(None);
        let ready = |line: &str| {
            if line.contains("HTTP server listening") {
                listening.set(line.split("address=").nth(1).and_then(|address| address.trim().parse().ok()));
            }
            if line.contains("Server ready to accept requests") { listening.get() } else { None }
        };
        Ok(Child::start("service", program, &[role], &environment, &log, ready)?)
    }
}

/// Secrets come by the environment: command lines are for everybody to read.
fn keys_of_environment() -> Vec<String> {
    let names = ["MASTER_ACCOUNT_PRIVATE_KEYS", "MASTER_ACCOUNT_PRIVATE_KEY"];
    let text = names.into_iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    let keys = keyshard::keys::parse_many(&text).unwrap_or_default();
    keys.iter().map(|key| key.expose().to_string()).collect()
}

impl Stand {
    /// Starts the service, or takes the one that is there. Nothing else may use its keys from now on.
    pub fn serve(&mut self, plan: &Plan) -> Result<(), StandError> {
        let files = |error| StandError::Files(plan.directory.clone(), error);
        let url = if let Some(url) = &plan.target {
            url.clone()
        } else {
            let data = tempfile::Builder::new().prefix("data-").tempdir_in(&plan.directory).map_err(files)?;
            if machine::is_in_memory(data.path()) {
                let place = plan.directory.display();
                self.doubts.push(format!("{place} is in memory, where syncing the journal costs nothing (see --out)"));
            }
            let (child, address) = plan.start_service(self, data.path())?;
            self.children.push(child);
            self.data = Some(data);
            format!("http://{address}")
        };
        self.service = Some(Service { target: Target::parse(&url)?, url });
        Ok(())
    }

    /// Kills the service that was started here as a power loss would (SIGKILL), and starts it again on the same journal.
    pub fn restart_service(&mut self, plan: &Plan) -> Result<(), StandError> {
        let Some(data) = self.data.as_ref().map(|data| data.path().to_owned()) else {
            return Err(StandError::Missing("only a service that was started here can be restarted"));
        };
        self.service = None;
        // Dropped is killed.
        drop(self.children.pop());
        let (child, address) = plan.start_service(self, &data)?;
        self.children.push(child);
        let url = format!("http://{address}");
        self.service = Some(Service { target: Target::parse(&url)?, url });
        Ok(())
    }

    /// Takes a key away from the service that is yet to be started: for what is sent past it.
    pub fn spare_key(&mut self) -> Result<String, StandError> {
        let why = "two keys are needed: one of them is for what is sent past the service";
        if self.service.is_some() || self.keys.len() < 2 {
            return Err(StandError::Missing(why));
        }
        self.keys.pop().ok_or(StandError::Missing(why))
    }

    /// Process of the service, if it was started here.
    pub fn service_process(&self) -> Option<u32> {
        let mut processes = self.children.iter().map(Child::process);
        processes.find(|(name, _)| name == "service").map(|(_, id)| id)
    }

    /// Ends the service that was started here, with its journal; the node stays.
    pub fn stop_serving(&mut self) {
        if self.service.take().is_some() && self.data.is_some() {
            self.children.pop();
            self.data = None;
        }
    }

    /// Names and ids of the processes that were started.
    pub fn processes(&self) -> Vec<(String, u32)> {
        self.children.iter().map(Child::process).collect()
    }

    /// Why it can no longer be measured, if so.
    pub fn is_gone(&mut self) -> Option<String> {
        self.children.iter_mut().find_map(Child::is_gone)
    }
}
