//! What a journal says is still open, and how a new life of a shard takes it over.
use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use near_primitives::{action::Action, hash::CryptoHash, transaction::SignedTransaction};

use crate::{BatchId, Closed, Instant, Record, Transfer, TransferId, batch::Step};

/// Everything that the records of former lives leave open.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Accepted and not settled, in the order they were accepted.
    pub transfers: Vec<RecoveredTransfer>,
    /// Signed, and their end not known.
    pub attempts: Vec<RecoveredAttempt>,
    /// The highest nonce signed with each key, `ed25519:...`.
    pub nonces: HashMap<Arc<str>, u64>,
}

/// A transfer that has not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredTransfer {
    /// As it was accepted.
    pub transfer: Transfer,
    /// When.
    pub accepted_at: Instant,
    /// The open transaction that carries it, if any.
    pub carried_by: Option<CryptoHash>,
}

/// A transaction whose end is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredAttempt {
    /// The signing key.
    pub public_key: Arc<str>,
    /// Its nonce.
    pub nonce: u64,
    /// Hash of the transaction.
    pub hash: CryptoHash,
    /// Height of its reference block.
    pub reference_height: u64,
    /// The signed transaction, borsh.
    pub bytes: Arc<[u8]>,
    /// Its name.
    pub batch: BatchId,
    /// The transfers it carries; none for a fence.
    pub transfers: Box<[TransferId]>,
    /// What each of its actions does.
    pub(crate) steps: Vec<Step>,
}

impl Recovered {
    /// Divides it among the shards of a new life: a transaction goes to the shard of its key, its transfers with it,
    /// and what waits is spread.
    pub fn split(
        self,
        shards: usize,
        shard_of_key: impl Fn(&str) -> usize,
        shard_of_transfer: impl Fn(TransferId) -> usize,
    ) -> Vec<Recovered> {
        let mut parts: Vec<Recovered> =
            (0..shards).map(|_| Recovered { nonces: self.nonces.clone(), ..Recovered::default() }).collect();
        let mut shard_of_attempt = HashMap::default();
        for attempt in self.attempts {
            let shard = shard_of_key(&attempt.public_key);
            shard_of_attempt.insert(attempt.hash, shard);
            parts[shard].attempts.push(attempt);
        }
        for transfer in self.transfers {
            let shard = match transfer.carried_by {
                Some(hash) => shard_of_attempt[&hash],
                None => shard_of_transfer(transfer.transfer.id),
            };
            parts[shard].transfers.push(transfer);
        }
        parts
    }
}

/// Records that contradict each other: the journal is damaged, or was written by something else. Going on could pay twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the journal contradicts itself: {0}")]
pub struct Contradiction(String);

/// Where a transfer is while records are read.
enum Place {
    Waiting,
    Carried(CryptoHash),
}

/// Reads records in the order they were written.
#[derive(Default)]
pub struct Replay {
    /// In the order of acceptance.
    accepted: Vec<TransferId>,
    open: HashMap<TransferId, (Transfer, Instant, Place)>,
    settled: HashSet<TransferId>,
    attempts: HashMap<CryptoHash, RecoveredAttempt>,
    closed: HashSet<CryptoHash>,
    nonces: HashMap<Arc<str>, u64>,
    taken: HashMap<(Arc<str>, u64), CryptoHash>,
}

impl Replay {
    /// Reads one more record. A record may come twice: a new life repeats what it took over.
    pub fn read(&mut self, record: Record) -> Result<(), Contradiction> {
        match record {
            Record::Accepted { transfer, at } => {
                let id = transfer.id;
                if self.settled.contains(&id) {
                    return Err(Contradiction(format!("transfer {id:?} is accepted after it has settled")));
                }
                if !self.open.contains_key(&id) {
                    self.accepted.push(id);
                    self.open.insert(id, (transfer, at, Place::Waiting));
                }
                Ok(())
            }
            Record::Signed { public_key, nonce, hash, reference_height, bytes, batch, transfers } => {
                if self.closed.contains(&hash) {
                    return Err(Contradiction(format!("transaction {hash} is signed after its end")));
                }
                let highest = self.nonces.entry(public_key.clone()).or_default();
                *highest = nonce.max(*highest);
                if *self.taken.entry((public_key.clone(), nonce)).or_insert(hash) != hash {
                    return Err(Contradiction(format!("nonce {nonce} of {public_key} was signed twice")));
                }
                if self.attempts.contains_key(&hash) {
                    return Ok(());
                }
                for id in &transfers {
                    match self.open.get_mut(id) {
                        Some((_, _, place @ Place::Waiting)) => *place = Place::Carried(hash),
                        Some((_, _, Place::Carried(other))) => {
                            return Err(Contradiction(format!("transfer {id:?} is in {hash} and in {other}")));
                        }
                        None => return Err(Contradiction(format!("{hash} carries {id:?}, which is not open"))),
                    }
                }
                let steps = steps(&bytes, hash, transfers.len())?;
                let attempt =
                    RecoveredAttempt { public_key, nonce, hash, reference_height, bytes, batch, transfers, steps };
                self.attempts.insert(hash, attempt);
                Ok(())
            }
            Record::Closed { hash, how } => {
                let Some(attempt) = self.attempts.remove(&hash) else {
                    return Err(Contradiction(format!("the end of {hash}, which was never signed")));
                };
                self.closed.insert(hash);
                for id in attempt.transfers {
                    match how {
                        Closed::Landed => self.settle(id),
                        Closed::Failed { .. } | Closed::Dead(_) => {
                            if let Some((_, _, place)) = self.open.get_mut(&id) {
                                *place = Place::Waiting;
                            }
                        }
                    }
                }
                Ok(())
            }
            Record::Failed { id, .. } => match self.open.get(&id) {
                Some((_, _, Place::Waiting)) => {
                    self.settle(id);
                    Ok(())
                }
                Some((_, _, Place::Carried(hash))) => {
                    Err(Contradiction(format!("transfer {id:?} has failed, but {hash} carries it")))
                }
                None => Err(Contradiction(format!("transfer {id:?} has failed, but is not open"))),
            },
        }
    }

    fn settle(&mut self, id: TransferId) {
        self.open.remove(&id);
        self.settled.insert(id);
    }

    /// What is open after the last record.
    pub fn finish(mut self) -> Recovered {
        let transfers = self
            .accepted
            .into_iter()
            .filter_map(|id| self.open.remove(&id))
            .map(|(transfer, accepted_at, place)| {
                let carried_by = match place {
                    Place::Waiting => None,
                    Place::Carried(hash) => Some(hash),
                };
                RecoveredTransfer { transfer, accepted_at, carried_by }
            })
            .collect();
        let mut attempts: Vec<_> = self.attempts.into_values().collect();
        attempts.sort_unstable_by(|a, b| (&a.public_key, a.nonce).cmp(&(&b.public_key, b.nonce)));
        Recovered { transfers, attempts, nonces: self.nonces }
    }
}

/// What the actions of a signed transaction do, read from its bytes: a `storage_deposit` stands right before the first
/// transfer to its receiver.
fn steps(bytes: &[u8], hash: CryptoHash, transfers: usize) -> Result<Vec<Step>, Contradiction> {
    let signed: SignedTransaction = borsh::from_slice(bytes)
        .map_err(|error| Contradiction(format!("the bytes of {hash} are no transaction: {error}")))?;
    if signed.get_hash() != hash {
        return Err(Contradiction(format!("the bytes of {hash} are another transaction's, {}", signed.get_hash())));
    }
    let mut position = 0;
    let mut steps = Vec::new();
    for action in signed.transaction.actions() {
        if let Action::FunctionCall(call) = action {
            if call.method_name == "ft_transfer" {
                steps.push(Step::Pay(position));
                position += 1;
            } else {
                steps.push(Step::Register(position));
            }
        }
    }
    if position != transfers {
        return Err(Contradiction(format!("{hash} pays {position} transfers, its record names {transfers}")));
    }
    Ok(steps)
}
