//! What the chain shows: read block by block over JSON-RPC, with nothing of the service in between.
pub mod node;
pub mod watch;
mod wire;

pub use node::{Node, NodeError};
pub use watch::{Block, Seen, State, Transaction, Watch};
