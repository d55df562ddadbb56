//! The way in: one door for each front-end thread.
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
};

use atomic_waker::AtomicWaker;
use keyshard_shard::{IdempotencyKey, Transfer, TransferId};
use near_primitives::types::AccountId;
use rtrb::Producer;
use uuid::Uuid;

use crate::{
    Shared,
    allowance::{Allowance, Denied},
    parts::Part,
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
    /// What the client calls it (P6): the same name again is the same transfer. The name of a lone transfer, and a
    /// transfer's own, is for 1; item `i` of a request of `n` that was named `K` as a whole is `K#i` for `n`.
    pub key: Option<IdempotencyKey>,
}

impl NewTransfer {
    /// Whether a client that asks for this means that one, when they have the same name.
    pub(crate) fn is_same_as(&self, other: &Transfer) -> bool {
        let of = |key: &Option<IdempotencyKey>| key.as_ref().map(|key| key.of);
        self.receiver == other.receiver
            && self.amount == other.amount
            && self.memo.as_deref() == other.memo.as_deref()
            && of(&self.key) == of(&other.key)
    }

    pub(crate) fn accepted_as(self, id: Uuid) -> Transfer {
        let memo = self.memo.map(String::into_boxed_str);
        Transfer { id: TransferId(id.as_u128()), receiver: self.receiver, amount: self.amount, memo, key: self.key }
    }
}

/// Settled transfers that may wait for the history: some 400 MB of the board at most. Seconds of what the history can save,
/// so that a burst, or a disk that halts for a moment, refuses nobody; reached, the disk is too slow.
pub(crate) const UNSAVED_MAX: usize = 1_000_000;

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
    /// An idempotency key was used before for another transfer, or for a request of another size (P6).
    KeyReused {
        /// The key of the transfer that differs.
        name: Box<str>,
    },
    /// One that is new goes to somebody who must not be paid.
    Unwanted {
        /// Who that is.
        receiver: AccountId,
        /// Why, as the caller of the door said.
        why: &'static str,
    },
    /// Whoever asks may not spend so much now.
    Denied(Denied),
    /// One of the amounts is more than the limit on spending ([`Config::spend_limits`](crate::Config::spend_limits)) ever
    /// lets out: it would be held for ever.
    TooLarge {
        /// Its receiver.
        receiver: AccountId,
        /// Raw token units.
        amount: u128,
        /// The most that one transfer can be.
        limit: u128,
    },
}

/// The way in for one front-end thread. Owns the producing ends of that thread's rings, hence `&mut` and not `Clone`.
pub struct Door {
    shared: Arc<Shared>,
    ways: Ways,
}

/// The ways from a door to the shards.
struct Ways {
    /// One ring a key.
    producers: Vec<Producer<Piece>>,
    /// By key: its weight in the rendezvous, and the bell of its shard.
    weights: Vec<u64>,
    bells: Vec<Bell>,
    /// Keys to whose shards pieces were pushed since their bells rang.
    unannounced: Vec<usize>,
    /// By key: pieces of the request at hand. Kept to spare the allocation, as is the next.
    wanted: Vec<usize>,
    /// The keys of its pieces, in their order.
    keys: Vec<usize>,
}

impl Door {
    pub(crate) fn new(
        shared: Arc<Shared>,
        producers: Vec<Producer<Piece>>,
        weights: Vec<u64>,
        bells: Vec<Bell>,
    ) -> Self {
        let wanted = vec![0; producers.len()];
        Self { shared, ways: Ways { producers, weights, bells, unannounced: Vec::new(), wanted, keys: Vec::new() } }
    }

    /// As [`Self::submit_unannounced`], to anybody and charged to nobody, and wakes the shards at once.
    pub fn submit(&mut self, transfers: Vec<NewTransfer>) -> Result<Ticket, Refused> {
        let ticket = self.submit_unannounced(transfers, |_| Ok(()), |_| Ok(()));
        self.announce();
        ticket
    }

    /// Wakes the shards for everything submitted since the last call: once for all requests at hand, not once a request.
    pub fn announce(&mut self) {
        for key in self.ways.unannounced.drain(..) {
            self.ways.bells[key].ring();
        }
    }

    /// Accepts all transfers of one request, or none of them. Call [`Self::announce`] soon: until then shards may sleep.
    /// Those whose idempotency key is known are joined instead: the
    /// ticket has their ids and waits for them, whoever asked for them first.
    ///
    /// For transfers with a key this may read the disk, once a name, if the history holds any names and the board does not
    /// know this one; other work of the calling thread waits for that.
    ///
    /// `wanted` is asked whether each of those that are new may be paid. `charge` is given the sum of their amounts, once
    /// nothing else can refuse them, and may. What was accepted before is joined whatever they say.
    pub fn submit_unannounced(
        &mut self,
        transfers: Vec<NewTransfer>,
        wanted: impl Fn(&AccountId) -> Result<(), &'static str>,
        charge: impl FnOnce(u128) -> Result<(), Denied>,
    ) -> Result<Ticket, Refused> {
        let Self { shared, ways } = self;
        let (mut names, parts) = shared.parts(&transfers)?;
        for (transfer, _) in transfers.iter().zip(&parts).filter(|(_, part)| matches!(part, Part::New)) {
            let receiver = &transfer.receiver;
            wanted(receiver).map_err(|why| Refused::Unwanted { receiver: receiver.clone(), why })?;
        }
        shared.check_amounts(&transfers, &parts)?;
        let new = parts.iter().filter(|part| matches!(part, Part::New)).count();
        let joined = parts.iter().filter(|part| matches!(part, Part::Join(_))).count();
        let now = shared.clock.now().as_millis();
        let mut ids: Vec<Uuid> = Vec::with_capacity(parts.len());
        for part in &parts {
            ids.push(match part {
                Part::New => new_id(now),
                Part::Join(id) | Part::Past(id) => Uuid::from_u128(id.0),
                Part::Again(first) => ids[*first],
            });
        }
        let new_ids = || ids.iter().zip(&parts).filter(|(_, part)| matches!(part, Part::New)).map(|(id, _)| *id);
        let is_new = |part: &Part| matches!(part, Part::New);
        let amount = || {
            let new = transfers.iter().zip(&parts).filter(|(_, part)| is_new(part));
            new.fold(0u128, |sum, (transfer, _)| sum.saturating_add(transfer.amount))
        };
        shared.reserve(new, || ways.plan(new_ids()), || charge(amount()))?;

        // Nothing can refuse it from here on.
        let waiting = Arc::new(Waiting::new(new + joined));
        let mut accepted: Vec<Arc<Transfer>> = Vec::with_capacity(new);
        for ((id, asked), part) in ids.iter().zip(transfers).zip(&parts) {
            match part {
                Part::New => accepted.push(Arc::new(asked.accepted_as(*id))),
                Part::Join(id) => shared.board.join(*id, &waiting),
                Part::Past(_) | Part::Again(_) => {}
            }
        }
        shared.board.accepted(&accepted, &waiting);
        if let Some(names) = &mut names {
            accepted.iter().filter(|transfer| transfer.key.is_some()).for_each(|transfer| names.claim(transfer));
        }
        // Whoever finds one of these names from now on finds its transfer on the board.
        drop(names);
        ways.push(new, accepted.into_iter());
        Ok(Ticket { replayed: new == 0 && !ids.is_empty(), ids, waiting })
    }
}

impl Ways {
    /// Plans the way of new transfers with these ids. Returns whether there is room for all of them: only this door pushes
    /// into its rings, so the room that is seen here stays.
    fn plan(&mut self, mut ids: impl Iterator<Item = Uuid>) -> bool {
        self.keys.clear();
        self.wanted.fill(0);
        // A request goes to one key, whole; a larger one is cut into pieces that are hashed one by one.
        while let Some(first) = ids.next() {
            let key = ring::rendezvous(&self.weights, first.as_u128());
            self.keys.push(key);
            self.wanted[key] += 1;
            ids.by_ref().take(PIECE_MAX - 1).for_each(drop);
        }
        self.wanted.iter().zip(&self.producers).all(|(wanted, producer)| *wanted <= producer.slots())
    }

    /// Sends so many transfers on the way that was planned.
    fn push(&mut self, count: usize, mut transfers: impl Iterator<Item = Arc<Transfer>>) {
        for key in &self.keys {
            let piece = if count == 1 {
                transfers.next().map(Piece::One)
            } else {
                Some(Piece::Many(transfers.by_ref().take(PIECE_MAX).collect()))
            };
            if let Some(piece) = piece {
                assert!(self.producers[*key].push(piece).is_ok(), "a ring lost the room it had shown");
            }
        }
        self.unannounced.append(&mut self.keys);
        self.wanted.fill(0);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.announce();
    }
}

/// An id that nobody can guess, whose first bits are the time (RFC 9562, version 7): the history keeps neighbours in time
/// together.
fn new_id(now_ms: u64) -> Uuid {
    let random = Uuid::new_v4().into_bytes();
    let mut bits = [0; 10];
    // Without the bytes that hold version and variant.
    bits[..6].copy_from_slice(&random[..6]);
    bits[6..].copy_from_slice(&random[12..]);
    uuid::Builder::from_unix_timestamp_millis(now_ms, &bits).into_uuid()
}

impl Shared {
    fn check_amounts(&self, transfers: &[NewTransfer], parts: &[Part]) -> Result<(), Refused> {
        let Some(limit) = self.spending.as_ref().map(Allowance::largest) else { return Ok(()) };
        let is_too_large = |(new, part): &(&NewTransfer, &Part)| matches!(part, Part::New) && new.amount > limit;
        transfers.iter().zip(parts).find(is_too_large).map_or(Ok(()), |(NewTransfer { receiver, amount, .. }, _)| {
            Err(Refused::TooLarge { receiver: receiver.clone(), amount: *amount, limit })
        })
    }

    /// Counts new transfers against the backlog if there is room for them, also where `plan` looks, and `charge` agrees.
    fn reserve(
        &self,
        new: usize,
        plan: impl FnOnce() -> bool,
        charge: impl FnOnce() -> Result<(), Denied>,
    ) -> Result<(), Refused> {
        if new == 0 {
            return Ok(());
        }
        // What has settled and is not saved yet takes memory just as what has not settled.
        let unsaved = self.unsaved.len();
        if unsaved > UNSAVED_MAX {
            return Err(self.backlog.full(self.backlog.open() + unsaved, new));
        }
        let pending = self.backlog.admit(new)?;
        let charged = if plan() { charge().map_err(Refused::Denied) } else { Err(self.backlog.full(pending, new)) };
        charged.inspect_err(|_| self.backlog.settled(new))
    }
}

/// What a request holds while its transfers are on their way. Dropping it changes nothing for the transfers.
pub struct Ticket {
    ids: Vec<Uuid>,
    waiting: Arc<Waiting>,
    replayed: bool,
}

impl Ticket {
    /// The ids of the transfers, in request order.
    pub fn ids(&self) -> &[Uuid] {
        &self.ids
    }

    /// Whether every transfer of the request was known before, by its idempotency key: nothing new was accepted.
    pub fn replayed(&self) -> bool {
        self.replayed
    }

    /// Returns when every transfer of the request is answerable: executed as far as `Config::wait_until` asks, or
    /// settled. Cancel-safe, so it may be raced against a time-out and awaited again; one task at a time.
    pub async fn answerable(&self) {
        self.waiting.answerable().await;
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
    open: AtomicU32,
    /// Transfers whose acceptance is not durable yet.
    volatile: AtomicU32,
    waker: AtomicWaker,
}

impl Waiting {
    pub(crate) fn new(open: usize) -> Self {
        // A body holds far fewer.
        let open = open as u32;
        Self { open: AtomicU32::new(open), volatile: AtomicU32::new(open), waker: AtomicWaker::new() }
    }

    /// Of a request that nobody waits for.
    #[cfg(all(test, not(feature = "loom")))]
    pub(crate) fn nobody() -> Arc<Self> {
        Arc::new(Self::new(1))
    }

    /// Returns when all are answerable.
    pub(crate) async fn answerable(&self) {
        self.until_none(&self.open).await;
    }

    async fn until_none(&self, count: &AtomicU32) {
        std::future::poll_fn(|context| {
            self.waker.register(context.waker());
            if count.load(Ordering::Acquire) == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// The acceptance of so many more is durable. The board counts each transfer once.
    pub(crate) fn are_durable(&self, transfers: u32) {
        if self.volatile.fetch_sub(transfers, Ordering::AcqRel) == transfers {
            self.waker.wake();
        }
    }

    /// So many more are answerable. The board counts each transfer once.
    pub(crate) fn are_answerable(&self, transfers: u32) {
        if self.open.fetch_sub(transfers, Ordering::AcqRel) == transfers {
            self.waker.wake();
        }
    }
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use std::slice;

    use keyshard_shard::{CryptoHash, Level, Recovered};

    use super::*;
    use crate::{clock::Clock, history::History};

    #[test]
    fn a_history_that_falls_behind_closes_the_doors_until_it_has_caught_up() {
        let directory = tempfile::tempdir().unwrap();
        let history = History::open(directory.path(), CryptoHash::default()).unwrap();
        // Nobody saves here.
        let shared = Shared::new(Level::Final, 10, Clock::new(), history, 1, &Recovered::default());
        let shared = Arc::new(shared);
        let mut mesh = ring::mesh(1, 1);
        let mut door = Door::new(shared.clone(), mesh.producers.remove(0), vec![1], vec![Bell::default()]);
        let key = Some(IdempotencyKey { name: "a".into(), of: 1 });
        let new = NewTransfer { receiver: "user.near".parse().unwrap(), amount: 1, memo: None, key };
        let known = door.submit(vec![new.clone()]).unwrap().ids().to_vec();
        shared.unsaved.push(&vec![TransferId(0); UNSAVED_MAX]);
        let other = NewTransfer { key: None, ..new.clone() };
        assert!(door.submit(vec![other.clone()]).is_ok(), "it may be that far behind");
        shared.unsaved.push(slice::from_ref(&TransferId(0)));
        let refused = door.submit(vec![other.clone()]).err();
        assert_eq!(refused, Some(Refused::Full { pending: UNSAVED_MAX + 3, requested: 1, limit: 10 }));
        assert_eq!(shared.backlog.open(), 2, "what is refused is not counted");
        let joined = door.submit(vec![new]).unwrap();
        assert_eq!((joined.ids(), joined.replayed()), (&known[..], true), "to join takes no room");
        shared.unsaved.saved(1);
        assert!(door.submit(vec![other]).is_ok());
    }
}
