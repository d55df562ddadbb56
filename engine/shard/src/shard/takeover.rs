//! What a shard writes so that another life can go on, and how it goes on: ask first, then send the same bytes again, and
//! sign nothing new before every open transaction has been asked about once.
use std::sync::Arc;

use foldhash::HashMap;

use super::{Pending, Shard, Timer};
use crate::{
    CryptoHash, Instant, Lsn, Record, Recovered, RecoveredTransfer, Transfer, TransferId, attempt::Attempt,
    mutants::Mutant, transfer::Open,
};

impl Shard {
    /// Takes over this shard's part of what the journal left open ([`Recovered::split`]), and repeats it in the journal.
    /// To be called once, before any input, even if nothing is open.
    ///
    /// Keys of open transactions that are no longer configured must be among the shard's keys as
    /// [`AccessKey::retired`](crate::AccessKey::retired).
    pub fn take_over(&mut self, now: Instant, recovered: Recovered) {
        let mut waiting = recovered.transfers;
        let is_carried =
            |found: &mut RecoveredTransfer| found.carried_by.is_some() && !Mutant::RequeueInFlight.is_chosen();
        let mut carried: HashMap<TransferId, Open> =
            waiting.extract_if(.., is_carried).map(|found| (found.transfer.id, Open::found(found, now))).collect();
        for found in recovered.attempts {
            let key = self.keys.iter().position(|key| *key.public_key() == found.public_key);
            let Some(key) = key else { panic!("{} is open and its key is not among the shard's", found.hash) };
            if Mutant::RequeueInFlight.is_chosen() {
                continue;
            }
            if !Mutant::NonceReused.is_chosen() {
                self.keys[key].observe(found.nonce);
            }
            self.keys[key].in_flight += 1;
            let transfers = found.transfers.iter().filter_map(|id| carried.remove(id)).collect();
            let id = self.next_attempt;
            self.next_attempt += 1;
            self.attempts.insert(id, Attempt::taken_over(key, found, transfers, now));
            self.recovering.insert(id);
            self.set_timer(now, Timer::Attempt(id));
        }
        assert!(carried.is_empty(), "transfers are carried by transactions of another shard");
        self.nonces = recovered.nonces.into_iter().collect();
        for key in &mut self.keys {
            if let Some(nonce) = self.nonces.get(key.public_key())
                && !Mutant::NonceReused.is_chosen()
            {
                key.observe(*nonce);
            }
        }
        self.repeat(&waiting);
        for found in waiting {
            self.queue(now, Open::found(found, now));
        }
    }

    /// Repeats everything that is open, so that older records are not needed any more.
    pub(super) fn checkpoint(&mut self) {
        self.repeat(&[]);
    }

    /// `more` is open besides what is in the queues and attempts.
    fn repeat(&mut self, more: &[RecoveredTransfer]) {
        let shards = u16::try_from(self.settings.shards).unwrap_or(u16::MAX);
        self.append(Record::Begin { life: self.settings.life, shards, genesis: self.settings.genesis });
        let queued = self.ready.iter().chain(self.parts.iter().flatten()).chain(&self.lone).chain(self.later.values());
        // Whoever waits to know of a receiver stands in no order.
        let mut parked: Vec<&Open> = self.registry.iter().collect();
        parked.sort_unstable_by_key(|open| (open.accepted_at, open.transfer.id));
        let carried = self.attempts.values().flat_map(|attempt| &attempt.transfers);
        let mut open = Vec::with_capacity(more.len() + self.stats().waiting);
        open.extend(queued.chain(parked).chain(carried).map(Standing::of));
        open.extend(more.iter().map(Standing::found));
        let repeated = Repeated { lsn: self.lsn, open: open.into_iter() };
        self.lsn += repeated.open.len() as Lsn;
        self.outputs.push_back(Pending::Repeated(repeated));
        let signed: Vec<Record> = self
            .attempts
            .values()
            .map(|attempt| Record::Signed {
                public_key: self.keys[attempt.key].public_key().clone(),
                nonce: attempt.nonce,
                hash: attempt.hash,
                reference_height: attempt.reference_height,
                bytes: attempt.bytes.clone(),
                batch: attempt.batch,
                transfers: attempt.transfers.iter().map(|open| open.transfer.id).collect(),
            })
            .collect();
        for key in &self.keys {
            self.nonces.insert(key.public_key().clone(), key.nonce());
        }
        let nonce = |(key, nonce): (&Arc<str>, &u64)| Record::Nonce { public_key: key.clone(), nonce: *nonce };
        let nonces: Vec<Record> = self.nonces.iter().map(nonce).collect();
        for record in signed.into_iter().chain(nonces) {
            self.append(record);
        }
        self.append(Record::End);
    }
}

/// Records of all that is open at one moment, made as they are taken: a million of them at once would take as much memory
/// as what they tell of.
pub(super) struct Repeated {
    /// Number of the last record before the next one.
    lsn: Lsn,
    open: std::vec::IntoIter<Standing>,
}

/// What is repeated of a transfer.
struct Standing {
    transfer: Arc<Transfer>,
    accepted_at: Instant,
    tried: Box<[CryptoHash]>,
}

impl Iterator for Repeated {
    type Item = (Lsn, Record);

    fn next(&mut self) -> Option<Self::Item> {
        let Standing { transfer, accepted_at, tried } = self.open.next()?;
        self.lsn += 1;
        Some((self.lsn, Record::Accepted { transfer, at: accepted_at, tried }))
    }
}

impl Standing {
    fn of(open: &Open) -> Self {
        Self { transfer: open.transfer.clone(), accepted_at: open.accepted_at, tried: open.tried.clone() }
    }

    fn found(found: &RecoveredTransfer) -> Self {
        Self { transfer: found.transfer.clone(), accepted_at: found.accepted_at, tried: found.tried.clone() }
    }
}

impl Open {
    /// One that a former life left open.
    fn found(found: RecoveredTransfer, now: Instant) -> Self {
        let counted = found.carried_by.is_some() || !found.tried.is_empty();
        Self { accepted_at: found.accepted_at, tried: found.tried, counted, ..Self::new(found.transfer, now) }
    }
}
