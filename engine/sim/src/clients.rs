//! Clients: what they ask for, when, and what they do when no answer comes.
use keyshard_shard::{AccountId, TransferId};

use crate::{
    chain::{self, REGISTERED},
    faults::{Fault, Faults},
    promises::{Payment, Promises},
    random::Random,
};

/// Where a request is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// To be sent (again).
    ToSend,
    /// Sent; the service has it.
    Waiting {
        /// The life that took it.
        life: u64,
        /// The ids it gave.
        ids: Vec<TransferId>,
        /// An answer is on its way.
        answered: bool,
    },
    /// Answered, or given up.
    Done,
}

/// One request of a client: one transfer or a batch.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Its items: positions in [`Promises::payments`].
    pub(crate) payments: Vec<usize>,
    /// Whether it has an idempotency key.
    pub(crate) named: bool,
    /// It wants its answer as soon as it is durable.
    pub(crate) respond_async: bool,
    /// When it is first sent, in microseconds.
    pub(crate) at: u64,
    /// It is sent again after it was answered.
    pub(crate) again: bool,
    pub(crate) state: State,
    /// How often it was sent.
    pub(crate) tries: u32,
}

/// Draws what clients will ask for within `span` microseconds: at most `most` requests.
pub(crate) fn draw(seed: u64, span: u64, most: usize, faults: &mut Faults, promises: &mut Promises) -> Vec<Request> {
    let mut random = Random::new(seed, 3);
    let count = random.among(2..=16).min(most as u64) as usize;
    let named_share = random.pick(&[0, 300, 700, 1_000]);
    let strangers_share = random.pick(&[0, 100, 300, 800]);
    let same_time = random.chance(300);
    let mut requests: Vec<Request> = Vec::new();
    for number in 0..count {
        let named = random.chance(named_share);
        let items = random.pick(&[1, 1, 1, 2, 3, 5]);
        let at = if same_time { random.below(2_000_000) } else { random.below(span) };
        let respond_async = random.chance(500);
        let mut payments = Vec::new();
        for item in 0..items {
            let name = named.then(|| if items == 1 { format!("key{number}") } else { format!("key{number}#{item}") });
            let amount = random.among(1..=1_000).into();
            let receiver = receiver(&mut random, strangers_share);
            payments.push(promises.payments.len());
            promises.payments.push(Payment::new(receiver, amount, name.map(|name| (name, items))));
        }
        let again = named && faults.strikes(Fault::Again);
        requests.push(Request { payments, named, respond_async, at, again, state: State::ToSend, tries: 0 });
        if named && faults.strikes(Fault::ReusedKey) {
            let payments = (0..items as usize).map(|item| {
                let position = promises.payments.len() - items as usize + item;
                let Payment { receiver, amount, name, .. } = promises.payments[position].clone();
                Payment::new(receiver, amount + 7, name)
            });
            let payments: Vec<Payment> = payments.collect();
            let first = promises.payments.len();
            promises.payments.extend(payments);
            let payments = (first..promises.payments.len()).collect();
            let at = at + faults.random(Fault::ReusedKey).below(60_000_000);
            requests.push(Request { payments, named, respond_async, at, again: false, state: State::ToSend, tries: 0 });
        }
    }
    requests
}

fn receiver(random: &mut Random, strangers_share: u32) -> AccountId {
    if random.chance(strangers_share) {
        chain::account(&format!("stranger{}.near", random.below(4)))
    } else {
        chain::account(&format!("user{}.test.near", random.among(1..=REGISTERED as u64)))
    }
}
