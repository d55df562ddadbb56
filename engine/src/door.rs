//! The way in: one door for each front-end thread.
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use atomic_waker::AtomicWaker;
use keyshard_shard::{Transfer, TransferId};
use near_primitives::types::AccountId;
use rtrb::Producer;
use uuid::Uuid;

use crate::{
    Shared,
    ring::{self, Bell, PIECE_MAX, Piece},
};

/// One transfer as a client asks for it, already validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTransfer {
    /// Who receives; never the paying account itself.
    pub receiver: AccountId,
    /// Raw token units, more than zero.
    pub amount: u128,
    /// Passed on to the token.
    pub memo: Option<String>,
}

/// Why a door refuses. Nothing of the request was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The backlog is full.
    Full {
        /// Transfers accepted and not settled now.
        pending: usize,
        /// Transfers in the request.
        requested: usize,
        /// The bound, `Config::max_pending`.
        limit: usize,
    },
    /// The engine is draining.
    Draining,
}

/// The way in for one front-end thread. Owns the producing ends of that thread's rings, hence `&mut` and not `Clone`.
pub struct Door {
    shared: Arc<Shared>,
    /// One ring a key.
    producers: Vec<Producer<Piece>>,
    /// By key: its weight in the rendezvous, and the bell of its shard.
    weights: Vec<u64>,
    bells: Vec<Bell>,
    /// By key: pieces of the request at hand. Kept to spare the allocation.
    wanted: Vec<usize>,
}

impl Door {
    pub(crate) fn new(
        shared: Arc<Shared>,
        producers: Vec<Producer<Piece>>,
        weights: Vec<u64>,
        bells: Vec<Bell>,
    ) -> Self {
        let wanted = vec![0; producers.len()];
        Self { shared, producers, weights, bells, wanted }
    }

    /// Accepts all transfers of one request, or none of them.
    pub fn submit(&mut self, transfers: Vec<NewTransfer>) -> Result<Ticket, Refused> {
        let requested = transfers.len();
        let pending = self.shared.backlog.admit(requested)?;
        let ids: Vec<Uuid> = transfers.iter().map(|_| Uuid::new_v4()).collect();
        // A request goes to one key, whole; a larger one is cut into pieces that are hashed one by one.
        let keys: Vec<usize> =
            ids.chunks(PIECE_MAX).map(|piece| ring::rendezvous(&self.weights, piece[0].as_u128())).collect();
        self.wanted.fill(0);
        for key in &keys {
            self.wanted[*key] += 1;
        }
        // Only this door pushes into its rings, so the room that is seen here stays.
        if self.wanted.iter().zip(&self.producers).any(|(wanted, producer)| *wanted > producer.slots()) {
            self.shared.backlog.settled(requested);
            return Err(self.shared.backlog.full(pending, requested));
        }

        let ticket = Ticket { ids, waiting: Arc::new(Waiting::new(requested)) };
        let mut transfers = ticket.ids.iter().zip(transfers).map(|(id, new)| {
            self.shared.board.accepted(*id, &new, &ticket.waiting);
            let memo = new.memo.map(String::into_boxed_str);
            Transfer { id: TransferId(id.as_u128()), receiver: new.receiver, amount: new.amount, memo, key: None }
        });
        for key in &keys {
            let piece = if requested == 1 {
                transfers.next().map(Piece::One)
            } else {
                Some(Piece::Many(transfers.by_ref().take(PIECE_MAX).collect()))
            };
            if let Some(piece) = piece {
                assert!(self.producers[*key].push(piece).is_ok(), "a ring lost the room it had shown");
            }
        }
        for (key, wanted) in self.wanted.iter().enumerate() {
            if *wanted > 0 {
                self.bells[key].ring();
            }
        }
        drop(transfers);
        Ok(ticket)
    }
}

/// What a request holds while its transfers are on their way. Dropping it changes nothing for the transfers.
pub struct Ticket {
    ids: Vec<Uuid>,
    waiting: Arc<Waiting>,
}

impl Ticket {
    /// The ids of the transfers, in request order.
    pub fn ids(&self) -> &[Uuid] {
        &self.ids
    }

    /// Returns when every transfer of the request is answerable: executed as far as `Config::wait_until` asks, or
    /// settled. Cancel-safe, so it may be raced against a time-out and awaited again; one task at a time.
    pub async fn answerable(&self) {
        self.waiting.until_none(&self.waiting.open).await;
    }

    /// Returns when the acceptance of every transfer is on disk (P1): from then on a 202 is no lie. As cancel-safe as
    /// [`Self::answerable`].
    pub async fn durable(&self) {
        self.waiting.until_none(&self.waiting.volatile).await;
    }
}

/// How far the transfers of a request are, and who waits for that.
pub(crate) struct Waiting {
    /// Transfers that are not answerable yet.
    open: AtomicUsize,
    /// Transfers whose acceptance is not durable yet.
    volatile: AtomicUsize,
    waker: AtomicWaker,
}

impl Waiting {
    fn new(open: usize) -> Self {
        Self { open: AtomicUsize::new(open), volatile: AtomicUsize::new(open), waker: AtomicWaker::new() }
    }

    async fn until_none(&self, count: &AtomicUsize) {
        std::future::poll_fn(|context| {
            self.waker.register(context.waker());
            if count.load(Ordering::Acquire) == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// The acceptance of one more is durable. The board calls this once a transfer.
    pub(crate) fn one_is_durable(&self) {
        if self.volatile.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.waker.wake();
        }
    }

    /// One more is answerable. The board calls this once a transfer.
    pub(crate) fn one_is_answerable(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.waker.wake();
        }
    }
}
