//! `keyshard provision` and `keyshard keys`: makes on the chain what the service needs, and what a test of it needs.
//!
//! Every command looks at the chain first, does what is missing, and can be repeated: after an interruption it goes on where
//! it ended. Before anything is signed it says what it will cost, and asks.
mod accounts;
pub(crate) mod args;
mod consent;
mod cost;
pub(crate) mod in_flight;
mod keys;
mod list;
pub(crate) mod node;
mod progress;
mod retire;
mod sender;
pub(crate) mod signers;
mod storage;
mod token;

use std::{path::PathBuf, process::ExitCode};

use keyshard_engine::rpc::{AccessKeyInfo, Account};
use near_primitives::types::AccountId;

use self::{
    args::{Keys, Provision},
    node::Node,
};
use crate::{config::Offline, env::Env};

/// Exit code when nobody agreed.
const NOT_AGREED: u8 = 3;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// There is nothing to do, or nothing may be done (a dry run).
    Done,
    /// It could not be done, or not all of it. For people.
    Failed(String),
    /// Nobody agreed.
    NotAgreed(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// What all commands begin with.
struct Context {
    env: Env,
    config: Offline,
    node: Node,
}

impl Context {
    async fn new(env: Env) -> Result<Self, Stop> {
        let config = Offline::from_env(&env).map_err(|error| error.to_string())?;
        let node = Node::connect(config.rpc.clone()).await?;
        Ok(Self { env, config, node })
    }

    fn master(&self) -> &AccountId {
        &self.config.account
    }

    /// The paying account and its keys.
    async fn payer(&self) -> Result<(Account, Vec<AccessKeyInfo>), Stop> {
        let account = self.node.needed_account(self.master()).await?;
        Ok((account, self.node.keys(self.master()).await?))
    }

    /// Full-access keys of the paying account that may sign now; at least one.
    fn signers(&self, on_chain: &[AccessKeyInfo]) -> Result<Vec<signers::Signer>, Stop> {
        Ok(signers::find(&self.env, self.master(), on_chain, Some(&self.config.data_dir), None)?)
    }

    /// The first line of a summary.
    fn place(&self) -> (&'static str, String) {
        (
            "network",
            format!("{} ({})", self.node.chain_id, self.node.client.endpoints().first().map_or("", |it| &it.name)),
        )
    }
}

/// Runs one of the commands.
pub(crate) async fn provision(env: Env, command: Provision) -> ExitCode {
    end(match command {
        Provision::Keys(args) => keys::run(env, &args).await,
        Provision::Accounts(args) => accounts::run(env, &args).await,
        Provision::Storage(args) => storage::run(env, &args).await,
        Provision::Token(args) => token::run(env, &args).await,
    })
}

/// Runs one of the commands about keys.
pub(crate) async fn keys(env: Env, command: Keys) -> ExitCode {
    end(match command {
        Keys::List(args) => list::run(env, &args).await,
        Keys::Retire(args) => retire::run(env, &args).await,
    })
}

#[expect(clippy::print_stderr, reason = "this is where a command says why it failed")]
fn end(ended: Result<(), Stop>) -> ExitCode {
    match ended {
        Ok(()) | Err(Stop::Done) => ExitCode::SUCCESS,
        Err(Stop::Failed(why)) => {
            eprintln!("keyshard: {why}");
            ExitCode::FAILURE
        }
        Err(Stop::NotAgreed(why)) => {
            eprintln!("keyshard: {why}");
            ExitCode::from(NOT_AGREED)
        }
    }
}

/// The file given as an argument, else by a variable.
fn file_of(argument: Option<&PathBuf>, env: &Env, variable: &str) -> Result<PathBuf, Stop> {
    match (argument, env.get(variable)) {
        (Some(path), _) => Ok(path.clone()),
        (None, Some(path)) => Ok(path.into()),
        (None, None) => Err(Stop::Failed(format!("no file is named: set {variable}, or give --file"))),
    }
}

/// Now, for comments in files: `2026-11-23T10:00:00Z`.
fn now() -> String {
    crate::json::Iso::now().to_string()
}
