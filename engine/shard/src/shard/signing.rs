//! When a batch closes, which key carries it, and its signature.

use super::{Shard, spending::Due};
use crate::{
    Head, Instant, News, Record, StoragePolicy, TransferId,
    attempt::{Ask, Attempt},
    batch::{self, Bounds, Plan},
    limits,
    mutants::Mutant,
    transfer::{BatchId, Open},
    tx,
};

/// Where the transfers of a batch come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Lone,
    Part,
    Ready,
}

impl Shard {
    pub(super) fn close_batches(&mut self, now: Instant) {
        if !self.paused {
            self.sign_due(now);
        }
        self.give_back();
    }

    fn sign_due(&mut self, now: Instant) {
        loop {
            if self.ready.is_empty() && self.parts.is_empty() && self.lone.is_empty() {
                self.budget = None;
                return;
            }
            if self.hold.is_some() || !self.recovering.is_empty() {
                return;
            }
            let Some(head) = self.reference(now) else { return };
            let Some(key) = self.free_key(now) else { return };
            let bounds = self.bounds();
            let mut taken;
            let (queue, from) = if self.is_lone_due(now) {
                taken = self.lone.drain(..1).collect();
                (&mut taken, Source::Lone)
            } else if let Some(part) = self.parts.pop_front() {
                taken = part;
                (&mut taken, Source::Part)
            } else if self.is_batch_due(now) {
                (&mut self.ready, Source::Ready)
            } else {
                return;
            };
            let (registry, storage, without_storage) = (&self.registry, self.settings.storage, self.without_storage);
            let plan = batch::plan(queue, &bounds, |receiver| match storage {
                _ if without_storage => false,
                StoragePolicy::Always => true,
                // Unknown after all questions were lost: the token refunds a needless deposit.
                StoragePolicy::Auto => registry.is_registered(receiver) != Some(true),
                StoragePolicy::Never => false,
            });
            // What did not fit goes back to where it came from.
            match from {
                Source::Lone => {
                    let left = queue.pop_front();
                    self.lone.extend(left);
                }
                Source::Part if !queue.is_empty() => {
                    let left = std::mem::take(queue);
                    self.parts.push_front(left);
                }
                Source::Part | Source::Ready => {}
            }
            if plan.transfers.is_empty() {
                self.hold_tokens(now, "the tokens left do not cover the next transfer");
                return;
            }
            if let Some(budget) = &mut self.budget {
                *budget -= plan.amount;
            }
            if let Some(spending) = &mut self.spending {
                spending.left = spending.left.saturating_sub(plan.uncounted);
            }
            self.lone_in_flight += usize::from(from == Source::Lone);
            self.sign(now, key, head, plan);
        }
    }

    /// Whether a suspect should go now. Batches go first, but one suspect is always under way, however many batches
    /// there are: every transfer gets its turn (P9).
    pub(super) fn is_lone_due(&mut self, now: Instant) -> bool {
        let share = (self.keys.len() * self.settings.window / limits::LONE_SHARE).max(1);
        // One that the tokens at hand do not cover must not keep the others from theirs.
        let others = !self.parts.is_empty() || !self.ready.is_empty();
        let covered = |open: &Open| self.budget.is_none_or(|budget| open.transfer.amount <= budget);
        self.lone.front().is_some_and(|open| !others || covered(open))
            && (self.lone_in_flight == 0
                || (self.lone_in_flight < share && self.parts.is_empty() && !self.is_batch_due(now)))
            && self.may_spend(now, Due::of(&self.lone, 1))
    }

    /// Whether what is ready should go now. While batches wait for a block, a partial one lingers for mates. A lone transfer does
    /// not: it could miss the next block for it.
    pub(super) fn is_batch_due(&mut self, now: Instant) -> bool {
        let Some(oldest) = self.ready.front() else { return false };
        let due = oldest.since + self.settings.linger;
        // Mates whose registration is being asked for are worth a short wait, too.
        let idle = self.keys.iter().all(|key| key.in_flight == 0) && self.registry.parked() == 0;
        let full = self.bounds().full();
        if due <= now || idle || self.ready.len() >= full {
            return self.spending.is_none() || self.may_spend(now, Due::of(&self.ready, full));
        }
        self.wake(due);
        false
    }

    /// The block to sign against, if it is young enough.
    pub(super) fn reference(&self, now: Instant) -> Option<Head> {
        let (head, seen) = self.head?;
        let blocks = u32::try_from(self.chain.validity_blocks).unwrap_or(u32::MAX);
        let age_max = self.block_time.saturating_mul(blocks) / limits::REFERENCE_AGE_PART;
        (now.since(seen) <= age_max).then_some(head)
    }

    /// The free key with the fewest transactions in flight; they take turns.
    pub(super) fn free_key(&mut self, now: Instant) -> Option<usize> {
        let count = self.keys.len();
        let key = (0..count)
            .map(|i| (self.next_key + i) % count)
            .filter(|&i| self.keys[i].is_free(now, self.settings.window))
            .min_by_key(|&i| self.keys[i].in_flight)?;
        self.next_key = (key + 1) % count;
        Some(key)
    }

    /// A plan without transfers is signed as a fence.
    pub(super) fn sign(&mut self, now: Instant, key: usize, head: Head, plan: Plan) {
        let nonce = self.keys[key].next_nonce();
        self.keys[key].in_flight += 1;
        let receiver_id = if plan.transfers.is_empty() { &self.settings.account } else { &self.settings.token };
        let envelope = tx::Envelope { signer_id: &self.settings.account, receiver_id, nonce, block_hash: head.hash };
        let Some(signer) = &self.keys[key].signer else { panic!("a retired key was chosen to sign") };
        let signed = tx::sign(signer, &envelope, &plan.actions(&self.bounds()));
        let public_key = self.keys[key].public_key().clone();

        let transfers: Box<[TransferId]> = plan.transfers.iter().map(|open| open.transfer.id).collect();
        self.meter.signed(now, &plan.transfers);
        self.stats.batches_signed += 1;
        self.stats.transfers_signed += transfers.len() as u64;
        let number = self.stats.batches_signed * self.settings.shards as u64 + self.settings.index as u64;
        let batch = BatchId { at: now, number };
        let lsn = self.append(Record::Signed {
            public_key,
            nonce,
            hash: signed.hash,
            reference_height: head.height,
            bytes: signed.bytes.clone(),
            batch,
            transfers: transfers.clone(),
        });
        let news = News::Signed { hash: signed.hash, batch, at: now };
        self.tell(transfers, news);
        let id = self.next_attempt;
        self.next_attempt += 1;
        self.attempts.insert(id, Attempt::new(key, nonce, signed, head.height, batch, plan, lsn));
        if Mutant::SendBeforeSync.is_chosen() {
            return self.ask(id, Ask::Send);
        }
        self.unsynced.push_back((lsn, id));
    }

    /// Takes the key's next nonce with a transaction that moves nothing, so that the refused `nonce` before it can be
    /// proven dead within a few blocks instead of after the validity period.
    pub(super) fn fence(&mut self, now: Instant, key: usize, nonce: u64) {
        let later = |attempt: &Attempt| attempt.key == key && attempt.nonce > nonce;
        if self.attempts.values().any(later) {
            return;
        }
        if self.keys[key].may_sign()
            && self.recovering.is_empty()
            && let Some(head) = self.reference(now)
        {
            self.sign(now, key, head, Plan::default());
        }
    }

    /// Attach what was burnt a transfer, fees and all, and a third more: the fees, about half of it, are not taken from
    /// what is attached, so this is more than twice the need. Falls slowly, so that one cheap batch does not starve the next.
    pub(super) fn observe_gas(&mut self, burnt: u64, actions: usize) {
        let wanted = (burnt / actions.max(1) as u64).saturating_mul(4) / 3;
        let wanted = wanted.clamp(limits::GAS_TRANSFER_MIN, self.gas_max());
        self.gas_transfer =
            if wanted >= self.gas_transfer { wanted } else { self.gas_transfer - (self.gas_transfer - wanted) / 8 };
    }

    pub(super) fn more_gas(&self, gas: u64) -> u64 {
        (gas.saturating_mul(3) / 2).min(self.gas_max())
    }

    /// A deposit and its transfer must fit into one transaction.
    pub(super) fn gas_max(&self) -> u64 {
        self.chain.max_gas_burnt.min(self.chain.max_total_prepaid_gas / 2).max(limits::GAS_TRANSFER_MIN)
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            chain: self.chain,
            max_actions: self.settings.max_actions,
            max_transfers: self.settings.max_batch,
            gas_transfer: self.gas_transfer,
            gas_deposit: self.gas_deposit,
            deposit: self.settings.storage_deposit,
            budget: self.budget,
            allowance: self.allowance(),
        }
    }
}
