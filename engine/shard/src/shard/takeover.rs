//! How a new life takes over what former lives left open: ask first, then send the same bytes again, and sign nothing
//! new before every open transaction has been asked about once.
use foldhash::HashMap;

use super::{Shard, Timer};
use crate::{Instant, Record, Recovered, TransferId, attempt::Attempt, transfer::Open};

impl Shard {
    /// Takes over this shard's part of what the journal left open ([`Recovered::split`]). To be called once, before any
    /// input. Everything is appended again, so that older records are not needed once these are durable.
    ///
    /// Keys of open transactions that are no longer configured must be among the shard's keys as
    /// [`AccessKey::retired`](crate::AccessKey::retired).
    pub fn take_over(&mut self, now: Instant, recovered: Recovered) {
        let mut carried: HashMap<TransferId, Open> = HashMap::default();
        for found in recovered.transfers {
            let id = found.transfer.id;
            self.append(Record::Accepted { transfer: found.transfer.clone(), at: found.accepted_at });
            let open = Open::new(found.transfer, now);
            match found.carried_by {
                Some(_) => {
                    carried.insert(id, open);
                }
                None => self.queue(now, open),
            }
        }
        for found in recovered.attempts {
            let key = self.keys.iter().position(|key| *key.public_key() == found.public_key);
            let Some(key) = key else { panic!("{} is open and its key is not among the shard's", found.hash) };
            self.keys[key].observe(found.nonce);
            self.keys[key].in_flight += 1;
            self.append(Record::Signed {
                public_key: found.public_key.clone(),
                nonce: found.nonce,
                hash: found.hash,
                reference_height: found.reference_height,
                bytes: found.bytes.clone(),
                batch: found.batch,
                transfers: found.transfers.clone(),
            });
            let transfers = found.transfers.iter().filter_map(|id| carried.remove(id)).collect();
            let id = self.next_attempt;
            self.next_attempt += 1;
            self.attempts.insert(id, Attempt::taken_over(key, found, transfers, now));
            self.recovering.insert(id);
            self.set_timer(now, Timer::Attempt(id));
        }
        assert!(carried.is_empty(), "transfers are carried by transactions of another shard");
        for key in &mut self.keys {
            if let Some(nonce) = recovered.nonces.get(key.public_key()) {
                key.observe(*nonce);
            }
        }
    }
}
