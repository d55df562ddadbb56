//! The history: settled transfers on the disk, long after the journal and the board have let go of them.
//!
//! ```text
//! shard ── news ──▶ board: queue of settled ids ──▶ history thread: one transaction a group ──▶ History
//!                     ▲                                  │
//!                     └── may be evicted now ◀───────────┤
//! journal segments ◀── may be deleted now ◀──────────────┘
//! ```
//!
//! # Why redb
//!
//! Measured on two shared cores with 1,000 transfers a commit, every one synced, each with a random id, a hash and a random
//! idempotency key. redb 4.6 held 71 MB at any size, answered a miss by key in 2-9 us, saved 13-25 thousand a second and was
//! open again at once; a failed write is the answer to the commit that made it. fjall 3.1 saved 46-85 thousand a second,
//! but what it had not compacted grew in memory (4.4 GB at 10 million; held to 100 MB it came down to 18 thousand at 3
//! million, and misses of 18 us), a commit may wait for ever for a background thread that the disk has ended, and damage in
//! its log cuts off what follows without a word. NEAR executes under a thousand transfers of one token a second.
//! `benches/history.rs` measures the whole way through door and board.
//!
//! # On the disk
//!
//! `history.redb`, with [quick repair](redb::WriteTransaction::set_quick_repair): commits in two phases, open again at once
//! after a kill. Tables, numbers big-endian where they are part of a key of bytes:
//!
//! | table | key | value |
//! |---|---|---|
//! | `records` | (settled at, in microseconds; id) | version, CRC-32, borsh: `record.rs` |
//! | `ids` | id | settled at |
//! | `hashes` | hash, position among the transfers of that transaction, id | settled at |
//! | `keys` | a name, or its hash if it is very long | (settled at, id) |
//! | `about` | `format`, `genesis` | |
//!
//! Records lie in the order in which they settled, so that the newest are together and the oldest are pruned together.
mod error;
mod keeper;
mod record;
mod store;

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests;

pub use error::HistoryError;
pub(crate) use error::abort;
pub(crate) use keeper::Keeper;
pub use keyshard_shard::RecoveredSettled as Settled;
pub use store::{History, Iter};
