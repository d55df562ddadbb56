//! The engine: takes transfers at its doors, lands each of them on NEAR exactly once, tells what became of them.
pub mod board;
pub mod config;
pub mod door;
pub mod health;

pub use board::{Counts, Job, JobStatus};
pub use config::{Config, StartError, StoragePolicy};
pub use door::{Door, NewTransfer, Refused, Ticket};
pub use health::{Batching, Condition, Endpoint, Health};
pub use keyshard_rpc as rpc;
pub use keyshard_shard::Level;

use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// A running engine. Cheap to clone; all clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    _inner: Arc<()>,
}

/// What [`Engine::drain`] left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    /// Transfers that had not settled when the deadline came (0 = everything settled).
    pub open: usize,
    /// Transactions that were still open: their hashes, base58, for whoever has to look them up.
    pub hashes: Vec<String>,
}

impl Engine {
    /// Checks the configuration against the node, starts the shard threads, opens one door for every
    /// front-end thread. Must run inside a tokio runtime.
    pub async fn start(config: Config) -> Result<(Engine, Vec<Door>), StartError> {
        let _ = config;
        unimplemented!()
    }

    /// A transfer by its id, while the engine still remembers it.
    pub fn job(&self, id: Uuid) -> Option<Job> {
        let _ = id;
        unimplemented!()
    }

    /// All transfers that this transaction (base58 hash) carries, in request order.
    pub fn jobs_by_hash(&self, hash: &str) -> Vec<Job> {
        let _ = hash;
        unimplemented!()
    }

    /// How many remembered transfers are in each status.
    pub fn counts(&self) -> Counts {
        unimplemented!()
    }

    /// Accepted transfers that have not settled.
    pub fn pending(&self) -> usize {
        unimplemented!()
    }

    /// What the batching achieved so far.
    pub fn batching(&self) -> Batching {
        unimplemented!()
    }

    /// What hinders the engine now, if anything, and how its endpoints are.
    pub fn health(&self) -> Health {
        unimplemented!()
    }

    /// Refuses new transfers from now on and waits until everything accepted has settled, or until `limit` is over.
    pub async fn drain(&self, limit: Duration) -> Drained {
        let _ = limit;
        unimplemented!()
    }
}
