//! The engine without shards and nodes: doors, board and history. Whoever holds it plays the shards. For tests and
//! benchmarks of what lies around the shards.
use std::{path::Path, sync::Arc, time::Duration};

use keyshard_shard::{CryptoHash, Level, News, Recovered, Transfer, TransferId};
use rtrb::Consumer;

pub use crate::base64::base64;
use crate::{
    Door, Engine, Orders, Place, Running, Shared, StartError,
    clock::Clock,
    history::{History, Keeper},
    journal::{Journal, Options},
    ring::{self, Bell, Piece},
    start,
    steering::Steering,
};

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests;

/// Bytes of a slot of a ring.
pub const PIECE_BYTES: usize = size_of::<Piece>();
/// Slots of a ring.
pub const RING_PIECES: usize = ring::RING_PIECES;

/// An engine whose one shard is whoever holds this.
pub struct Rig {
    engine: Engine,
    rings: Vec<Consumer<Piece>>,
}

impl Rig {
    /// Opens the history of this directory, puts what `recovered` says, and opens so many doors.
    pub fn start(
        directory: &Path,
        doors: usize,
        max_pending: usize,
        settled_kept: usize,
        mut recovered: Recovered,
    ) -> Result<(Self, Vec<Door>), StartError> {
        // Never started: there is nobody who would write to it. It keeps others out.
        let options = Options { segment_bytes: 8192, ..Options::default() };
        let (journal, _) = Journal::open(directory, options)?;
        let history = History::open(&directory.join("history"), CryptoHash::default())?;
        start::save(&history, &mut recovered)?;
        let clock = Clock::new();
        let shared = Arc::new(Shared::new(Level::ExecutedOptimistic, max_pending, clock, history, 1, &recovered));
        let mesh = ring::mesh(doors, 1);
        let bell = Bell::default();
        let door = |producers| Door::new(shared.clone(), producers, vec![1], vec![bell.clone()]);
        let doors = mesh.producers.into_iter().map(door).collect();
        let journal = Arc::new(journal);
        let month = Duration::from_hours(720);
        let keeper = Keeper::start(shared.clone(), journal.clone(), clock, month, settled_kept)?;
        let account = |name: &str| name.parse().map_err(|_| StartError::Config(format!("{name} is no account")));
        let place =
            Place { account: account("test.near")?, token: account("ft.test.near")?, chain_id: "localnet".into() };
        let running = Running {
            shared,
            keys: Vec::new(),
            reports: Vec::new(),
            bells: Vec::new(),
            threads: Vec::new(),
            linger: Duration::ZERO,
            purse: Arc::default(),
            place,
            keeper: Some(keeper),
            steering: Steering::new(directory.join("orders.json"), Orders::default(), &[]),
            journal,
        };
        let rings = mesh.consumers.into_iter().flatten().collect();
        Ok((Self { engine: Engine(Arc::new(running)), rings }, doors))
    }

    /// The engine, for its lookups.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Everything that has come through the doors since the last call.
    pub fn take(&mut self) -> Vec<Arc<Transfer>> {
        let mut transfers = Vec::new();
        for ring in &mut self.rings {
            while let Ok(piece) = ring.pop() {
                match piece {
                    Piece::One(transfer) => transfers.push(transfer),
                    Piece::Many(many) => transfers.extend(many),
                }
            }
        }
        transfers
    }

    /// News of a shard.
    pub fn tell(&self, transfers: &[TransferId], news: &News) {
        self.engine.0.shared.tell(transfers, news);
    }

    /// Transfers that have settled and are not in the history yet.
    pub fn unsaved(&self) -> usize {
        self.engine.0.shared.unsaved.len()
    }

    /// Whether a transfer is on the board.
    pub fn is_on_board(&self, id: TransferId) -> bool {
        self.engine.0.shared.board.job(id).is_some()
    }
}
