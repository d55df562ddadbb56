//! What a shard writes so that another life can go on, and how it goes on: ask first, then send the same bytes again, and
//! sign nothing new before every open transaction has been asked about once.
use std::sync::Arc;

use foldhash::HashMap;

use super::{Shard, Timer};
use crate::{Instant, Record, Recovered, TransferId, attempt::Attempt, mutants::Mutant, transfer::Open};

impl Shard {
    /// Takes over this shard's part of what the journal left open ([`Recovered::split`]), and repeats it in the journal.
    /// To be called once, before any input, even if nothing is open.
    ///
    /// Keys of open transactions that are no longer configured must be among the shard's keys as
    /// [`AccessKey::retired`](crate::AccessKey::retired).
    pub fn take_over(&mut self, now: Instant, recovered: Recovered) {
        let (mut carried, mut waiting) = (HashMap::<TransferId, Open>::default(), Vec::new());
        for found in recovered.transfers {
            let open = Open { accepted_at: found.accepted_at, tried: found.tried, ..Open::new(found.transfer, now) };
            match found.carried_by {
                Some(_) if !Mutant::RequeueInFlight.is_chosen() => {
                    carried.insert(open.transfer.id, open);
                }
                _ => waiting.push(open),
            }
        }
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
        for open in waiting {
            self.queue(now, open);
        }
    }

    /// Repeats everything that is open, so that older records are not needed any more.
    pub(super) fn checkpoint(&mut self) {
        self.repeat(&[]);
    }

    /// `more` is open besides what is in the queues and attempts.
    fn repeat(&mut self, more: &[Open]) {
        let shards = u16::try_from(self.settings.shards).unwrap_or(u16::MAX);
        self.append(Record::Begin { life: self.settings.life, shards, genesis: self.settings.genesis });
        let queued = self.ready.iter().chain(self.parts.iter().flatten()).chain(&self.lone).chain(self.later.values());
        // Whoever waits to know of a receiver stands in no order.
        let mut parked: Vec<&Open> = self.registry.iter().collect();
        parked.sort_unstable_by_key(|open| (open.accepted_at, open.transfer.id));
        let carried = self.attempts.values().flat_map(|attempt| &attempt.transfers);
        let mut records: Vec<Record> = queued.chain(parked).chain(carried).chain(more).map(accepted).collect();
        records.extend(self.attempts.values().map(|attempt| Record::Signed {
            public_key: self.keys[attempt.key].public_key().clone(),
            nonce: attempt.nonce,
            hash: attempt.hash,
            reference_height: attempt.reference_height,
            bytes: attempt.bytes.clone(),
            batch: attempt.batch,
            transfers: attempt.transfers.iter().map(|open| open.transfer.id).collect(),
        }));
        for key in &self.keys {
            self.nonces.insert(key.public_key().clone(), key.nonce());
        }
        let nonce = |(key, nonce): (&Arc<str>, &u64)| Record::Nonce { public_key: key.clone(), nonce: *nonce };
        records.extend(self.nonces.iter().map(nonce));
        for record in records {
            self.append(record);
        }
        self.append(Record::End);
    }
}

fn accepted(open: &Open) -> Record {
    Record::Accepted { transfer: open.transfer.clone(), at: open.accepted_at, tried: open.tried.as_slice().into() }
}
