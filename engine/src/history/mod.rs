//! The history: settled transfers on the disk, long after the journal and the board have let go of them.
//!
//! ```text
//! shard ── news ──▶ board: queue of settled ids ──▶ history thread: many groups a commit ──▶ History
//!                     ▲                                  │
//!                     └── may be evicted now ◀───────────┤
//! journal segments ◀── may be deleted now ◀──────────────┘
//! ```
//!
//! # Why redb
//!
//! One file, whole at every moment; a failed write is the answer to the commit that made it; open again at once; memory that
//! does not grow. What costs time in it is the row, not the byte: with a row and three index entries for each transfer it took
//! 4 us of CPU to save one, 8 to 14 with an idempotency key and more with every million. So transfers that settled together
//! are one row, and the indices are rows of many entries: 0.5 us, 1.0 with a key (1 million, commits of 10,000 and more, on
//! 2 vCPUs of an AMD EPYC; `benches/README.md` has the whole way through door and board).
//!
//! fjall 3.1, measured with a row for each transfer, saved faster than redb then did, but what it had not compacted grew in
//! memory (4.4 GB at 10 million; held to 100 MB it came down to 18 thousand a second at 3 million, and misses of 18 us), a
//! commit may wait for ever for a background thread that the disk has ended, and damage in its log cuts off what follows
//! without a word.
//!
//! # On the disk
//!
//! `history.redb`, with [quick repair](redb::WriteTransaction::set_quick_repair): commits in two phases, open again at once
//! after a kill. All rows but those of `about` and `numbers` are sealed by a CRC-32.
//!
//! | table | key | value |
//! |---|---|---|
//! | `groups` | place | transfers that settled at one moment, in one transaction if in any: `group.rs` |
//! | `ids` | time of ids, to 4 ms; highest place in the row | of one commit: (rest of the id, place) by id: `ids.rs` |
//! | `recent` | turn, number | of one commit: (half a hash, place) of names and transactions: `index.rs` |
//! | `sorted` | first entry | the same, merged and in order |
//! | `numbers` | `count`, `horizon`, `turn`, `keyed` | |
//! | `about` | `format`, `genesis` | |
//! | `parcels`, `due`, `dead` | | events that are to be delivered, if any are: `outbox.rs` |
//!
//! A *place* is the microsecond in which a group settled, and a number to tell apart those of one microsecond: the newest
//! groups are together and the oldest are pruned together. A place below the *horizon* is forgotten and is not given again, so
//! that index entries may outlive what they lead to: an entry that leads nowhere is old if it is below the horizon, and damage
//! if it is not.
mod error;
mod filter;
mod group;
mod ids;
mod index;
mod keeper;
mod newest;
mod outbox;
mod rows;
mod sealed;
mod store;
mod write;

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests;

pub use error::HistoryError;
pub(crate) use error::abort;
pub(crate) use keeper::Keeper;
pub use keyshard_shard::RecoveredSettled as Settled;
pub(crate) use newest::Sheet;
pub use outbox::{Due, Outboxed, Outcome, Parcel, Replay};
pub use store::{History, Iter};
