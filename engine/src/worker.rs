//! One shard's thread: drains its rings, feeds the pure shard, carries out what it decides, sleeps when there is nothing.
//!
//! The loop is the root future of a current-thread runtime, and the calls to the nodes are tasks beside it on the same
//! thread. So an answer needs no hop between threads, and a door that wakes the thread takes no lock.
use std::{sync::Arc, time::Duration};

use keyshard_shard::{Input, Output, Shard};
use rtrb::Consumer;

use crate::{
    Shared,
    clock::Clock,
    courier::Courier,
    health::Report,
    ring::{Bell, Piece},
};

/// Pieces taken from one ring in one round: a busy ring does not keep the shard from its answers.
const PIECES_PER_ROUND: usize = 256;

/// Pause between two reports to the outside, when nothing else wakes the shard.
const REPORT_PAUSE: Duration = Duration::from_secs(1);

/// Everything a shard's thread owns.
pub(crate) struct Worker {
    pub(crate) shard: Shard,
    pub(crate) courier: Courier,
    /// The rings of its keys.
    pub(crate) rings: Vec<Consumer<Piece>>,
    pub(crate) bell: Bell,
    pub(crate) clock: Clock,
    pub(crate) shared: Arc<Shared>,
    /// Where it reports.
    pub(crate) report: Arc<Report>,
}

impl Worker {
    /// Runs until the engine stops.
    pub(crate) async fn run(mut self) {
        while !self.shared.is_stopped() {
            let now = self.clock.now();
            let more = self.drain_rings();
            while let Some(input) = self.courier.poll() {
                self.shard.handle(now, input);
            }
            self.shard.handle(now, Input::Tick);
            self.carry_out();
            self.report.update(&self.shard, &self.courier, now);
            if more {
                tokio::task::yield_now().await;
                continue;
            }
            let due = self.shard.next_wake().map_or(REPORT_PAUSE, |at| at.since(self.clock.now()));
            let _ = tokio::time::timeout(due.min(REPORT_PAUSE), self.bell.rung()).await;
        }
    }

    /// Returns whether a ring may hold more.
    fn drain_rings(&mut self) -> bool {
        let (now, mut more) = (self.clock.now(), false);
        for ring in &mut self.rings {
            for _ in 0..PIECES_PER_ROUND {
                match ring.pop() {
                    Ok(Piece::One(transfer)) => self.shard.handle(now, Input::Accept(transfer)),
                    Ok(Piece::Many(transfers)) => {
                        for transfer in transfers {
                            self.shard.handle(now, Input::Accept(transfer));
                        }
                    }
                    Err(_) => break,
                }
            }
            more |= !ring.is_empty();
        }
        more
    }

    fn carry_out(&mut self) {
        loop {
            let mut appended = None;
            while let Some(output) = self.shard.poll_output() {
                match output {
                    // There is no journal yet: a record counts as durable as soon as it is made.
                    Output::Append { lsn, .. } => appended = Some(lsn),
                    Output::Send { id, hash, bytes, wait, avoid } => self.courier.send(id, hash, bytes, wait, avoid),
                    Output::Query { id, query } => self.courier.query(id, query),
                    Output::Tell { transfers, news } => {
                        let told = self.shared.board.tell(&transfers, &news);
                        self.shared.uncount(told.settled);
                        told.wake();
                    }
                }
            }
            match appended {
                Some(lsn) => self.shard.handle(self.clock.now(), Input::Durable(lsn)),
                None => break,
            }
        }
    }
}
