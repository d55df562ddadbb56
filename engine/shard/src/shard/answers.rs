//! What the answers to an attempt's questions lead to: progress, proof, blame.

use near_primitives::types::AccountId;

use super::{Asker, Hold, Shard, Timer, Untold};
use crate::{
    AskId, Closed, Condition, Failure, Instant, Level, News, Output, Proof, Query, Record, Refusal, Reply,
    StoragePolicy,
    attempt::{Ask, Attempt, Next, Phase, Rules},
    batch,
    blame::{self, Blame},
    limits,
    mutants::Mutant,
    replay,
    transfer::Open,
};

impl Shard {
    pub(super) fn ask(&mut self, id: u64, what: Ask) {
        let ask = self.new_ask(Asker::Attempt(id));
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return;
        };
        if let Phase::Unsynced(lsn) = attempt.phase {
            let is_durable = lsn <= self.durable || Mutant::SendBeforeSync.is_chosen();
            assert!(is_durable, "P2: transaction {} would leave before its record is durable", attempt.hash);
        }
        attempt.phase = Phase::Asking(ask, what);
        let output = match what {
            Ask::Send => Output::Send {
                id: ask,
                hash: attempt.hash,
                bytes: attempt.bytes.clone(),
                wait: Attempt::first_wait(self.settings.wait_until),
                avoid: attempt.avoid,
            },
            Ask::Status(wait) => {
                Output::Query { id: ask, query: Query::Status { hash: attempt.hash, wait, avoid: attempt.avoid } }
            }
            Ask::Fate => {
                let public_key = self.keys[attempt.key].public_key().clone();
                Output::Query { id: ask, query: Query::Fate { public_key, hash: attempt.hash, avoid: attempt.avoid } }
            }
        };
        self.put(output);
    }

    pub(super) fn attempt_answered(&mut self, now: Instant, id: u64, ask: AskId, reply: Reply) {
        let rules = Rules {
            trust: self.settings.trust,
            wait_until: self.settings.wait_until,
            validity_blocks: self.chain.validity_blocks,
            random: self.random(),
        };
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return;
        };
        let asked = match attempt.phase {
            Phase::Asking(current, asked) if current == ask => asked,
            _ => return,
        };
        let (lost, refused) = match &reply {
            Reply::Lost { why } | Reply::NotSent { why, .. } => (Some(why.clone()), false),
            other => (None, matches!(other, Reply::Refused { .. })),
        };
        let is_lost = lost.is_some();
        if !is_lost {
            self.recovering.remove(&id);
        }
        let reached = attempt.reached;
        let next = attempt.answered(asked, reply, &rules);
        let (key, nonce) = (attempt.key, attempt.nonce);
        if attempt.included && attempt.holds_slot {
            self.included(id);
        } else if self
            .head
            .is_some_and(|(head, _)| head.height > attempt.reference_height.saturating_add(self.chain.validity_blocks))
        {
            // It waits for a proof, not for a block.
            self.free_slot(id);
        }
        if self.attempts.get(&id).is_some_and(|attempt| attempt.reached != reached) {
            self.progressed(now, id, &next);
        } else if let Some(why) = lost {
            self.delayed(id, &format!("no answer from the node, asking again: {why}"));
        } else if refused {
            self.refused(now, id);
        }
        if asked != Ask::Send && is_lost && Mutant::FailedOnQueryError.is_chosen() {
            self.recovering.remove(&id);
            let attempt = self.close(now, id, Closed::Dead(Proof::Expired { final_height: 0 }));
            return attempt.transfers.iter().for_each(|open| self.fail(now, open, "no answer".into()));
        }
        match next {
            Next::Ask(what) => self.ask(id, what),
            Next::Pause(pause, then) => {
                if let Some(attempt) = self.attempts.get_mut(&id) {
                    attempt.phase = Phase::Pausing(now + pause, then);
                    self.set_timer(now + pause, Timer::Attempt(id));
                }
            }
            Next::Landed { gas_burnt } => self.landed(now, id, gas_burnt),
            Next::Failed { index, failure } => self.failed(now, id, index, &failure),
            Next::Dead(proof) => {
                match proof {
                    Proof::Overtaken { .. } => self.stats.deaths_overtaken += 1,
                    Proof::Expired { .. } => self.stats.deaths_expired += 1,
                }
                let attempt = self.close(now, id, Closed::Dead(proof));
                match attempt.permanent {
                    Some(why) => self.refused_for_good(now, attempt.transfers, &why),
                    None => {
                        self.sign_again(now, attempt.transfers, "the transaction was proven dead, signing anew");
                    }
                }
            }
        }
        // Whatever ended here may show that earlier nonces of the key are gone.
        if !self.attempts.contains_key(&id) {
            self.doubt_overtaken(key, nonce);
        }
    }

    /// It is in a block: its key works, and the account could pay for it.
    fn included(&mut self, id: u64) {
        self.free_slot(id);
        if let Some(attempt) = self.attempts.get(&id) {
            self.keys[attempt.key].works();
        }
        self.lift_near();
    }

    fn lift_near(&mut self) {
        if matches!(self.hold, Some(Hold::Near(_))) {
            self.hold = None;
        }
    }

    fn free_slot(&mut self, id: u64) {
        if let Some(attempt) = self.attempts.get_mut(&id)
            && std::mem::take(&mut attempt.holds_slot)
        {
            self.keys[attempt.key].in_flight -= 1;
        }
    }

    /// Proven dead after a node refused it for good: signed as it was, it would be refused again. Alone it may pass, or be
    /// the one to blame.
    fn refused_for_good(&mut self, now: Instant, mut transfers: Vec<Open>, why: &str) {
        if let [open] = transfers.as_mut_slice() {
            open.blamed += 1;
            if open.blamed >= self.settings.max_attempts {
                let reason = format!("Refused by the node: {}", why.chars().take(512).collect::<String>());
                let open = open.clone();
                return self.fail(now, &open, reason.into());
            }
        }
        for open in &mut transfers {
            open.alone = true;
        }
        self.sign_again(now, transfers, "the node refused the batch for good, each transfer goes alone");
    }

    /// A node saw it further than before.
    pub(super) fn progressed(&mut self, now: Instant, id: u64, next: &Next) {
        let Some(attempt) = self.attempts.get_mut(&id) else { return };
        let Some(level) = attempt.reached else { return };
        if level >= Level::ExecutedOptimistic {
            self.meter.executed(now, attempt);
        }
        let attempt = &*attempt;
        let transfers = attempt.transfers.iter().map(|open| open.transfer.id).collect();
        if level >= Level::ExecutedOptimistic {
            // What it registered is registered for the batches that follow. Should a reorganisation undo it, they fail,
            // their receivers are asked about again, and nothing is lost.
            let registered: Vec<AccountId> = attempt.registers().cloned().collect();
            for account in registered {
                self.registry.learn(account, true);
            }
        }
        if !matches!(next, Next::Landed { .. }) {
            self.tell(transfers, News::Reached { level });
        }
    }

    /// Looks at the last refusal of an attempt: it may concern the key or the account as a whole.
    pub(super) fn refused(&mut self, now: Instant, id: u64) {
        let Some(attempt) = self.attempts.get(&id) else { return };
        let Some(refusal) = attempt.refusal.clone() else { return };
        let (key, nonce) = (attempt.key, attempt.nonce);
        let needs_fence = attempt.permanent.is_some() && !attempt.is_fence();
        match &refusal {
            Refusal::InvalidNonce { key_nonce: Some(key_nonce) } if self.is_credible(*key_nonce) => {
                self.keys[key].observe(*key_nonce);
            }
            Refusal::NotEnoughNear(why) if self.hold.is_none() => self.hold = Some(Hold::Near(why.clone())),
            Refusal::Key(why) => {
                let until = self.keys[key].rest(now, why);
                self.wake(until);
            }
            Refusal::Permanent(_) if needs_fence => self.fence(now, key, nonce),
            _ => {}
        }
        self.delayed(id, &format!("refused, its fate is being asked for: {}", refusal.text()));
    }

    /// Whether a key can have this nonce yet. Believing a higher one would make the key useless.
    fn is_credible(&self, nonce: u64) -> bool {
        let Some((head, _)) = self.head else { return false };
        nonce < head.height.saturating_add(limits::HEAD_SLACK_BLOCKS).saturating_mul(limits::NONCES_PER_BLOCK)
    }

    /// Lower nonces of this key that no node has seen are most likely overtaken: ask for the proof at once.
    pub(super) fn doubt_overtaken(&mut self, key: usize, nonce: u64) {
        let doubtful: Vec<u64> = self
            .attempts
            .iter()
            .filter(|(_, attempt)| attempt.key == key && attempt.nonce < nonce && attempt.is_probably_overtaken())
            .map(|(id, _)| *id)
            .collect();
        for id in doubtful {
            self.ask(id, Ask::Fate);
        }
    }

    pub(super) fn landed(&mut self, now: Instant, id: u64, gas_burnt: Option<u64>) {
        let mut attempt = self.close(now, id, Closed::Landed);
        self.meter.landed(now, &mut attempt, gas_burnt);
        if let Some(gas) = gas_burnt {
            self.observe_gas(gas, attempt.steps.len());
        }
        if let [open] = attempt.transfers.as_slice() {
            self.suspects.remove(&open.transfer.receiver);
        }
        // Told when it is durable: what was called final once must be so after a crash, too (P7).
        let told = attempt.transfers.iter().map(|open| (self.lsn, open.transfer.id, Untold::Finalized));
        self.untold.extend(told);
    }

    /// Failure at FINAL: everything was undone, the nonce is used, so each transfer may be signed again (P4).
    pub(super) fn failed(&mut self, now: Instant, id: u64, index: Option<u64>, failure: &Failure) {
        let why = blame::text(failure);
        let mut attempt = self.close(now, id, Closed::Failed { index, why: why.clone() });
        self.meter.undone += 1;
        if attempt.is_fence() {
            return;
        }
        let blame = blame::blame(failure, &self.settings.account);
        let mut step = index.and_then(|index| attempt.steps.get(usize::try_from(index).ok()?)).copied();
        if Mutant::IndexOffByOne.is_chosen() {
            step = index.map(|index| batch::Step::Pay((index as usize).min(attempt.transfers.len() - 1)));
        }
        match blame {
            Blame::Tokens => {
                self.hold_tokens(now, &why);
                return self.sign_again(now, attempt.transfers, &why);
            }
            Blame::Token if matches!((failure, step), (Failure::MethodMissing, Some(batch::Step::Register(_)))) => {
                // The token is there but knows no `storage_deposit`: receivers need no registration.
                self.settings.storage = StoragePolicy::Auto;
                self.without_storage = true;
                return self.sign_again(now, attempt.transfers, &why);
            }
            Blame::Token => {
                self.hold_token(now, Condition::TokenUnavailable(why.clone()));
                return self.sign_again(now, attempt.transfers, &why);
            }
            Blame::Gas => match step {
                Some(batch::Step::Register(_)) => self.gas_deposit = self.more_gas(self.gas_deposit),
                _ => self.gas_transfer = self.more_gas(self.gas_transfer),
            },
            Blame::Forever | Blame::Unregistered | Blame::Unclear => {}
        }
        // The chain names no action when it could not even start: then nobody knows whose fault it is, and each travels alone.
        let position = match step {
            Some(step) => step.transfer(),
            None if attempt.transfers.len() == 1 => 0,
            None => {
                attempt.transfers.iter_mut().for_each(|open| open.alone = true);
                return self.sign_again(now, attempt.transfers, &why);
            }
        };
        let untried = attempt.transfers.split_off(position + 1);
        let Some(mut culprit) = attempt.transfers.pop() else { return };
        self.undone(now, attempt.transfers, untried);

        culprit.blamed += 1;
        if blame == Blame::Unregistered {
            self.registry.learn(culprit.transfer.receiver.clone(), false);
        }
        if blame == Blame::Forever || culprit.blamed >= self.settings.max_attempts {
            return self.fail(now, &culprit, why);
        }
        if blame == Blame::Unregistered || blame == Blame::Unclear {
            culprit.alone |= blame == Blame::Unclear;
            self.suspect(&culprit.transfer.receiver);
        }
        self.tell([culprit.transfer.id].into(), News::Delayed { reason: why });
        let at = now + self.settings.retry_base.saturating_mul(culprit.blamed);
        self.next_timer += 1;
        self.later.insert((at, self.next_timer), culprit);
        self.wake(at);
    }

    /// A batch mate failed and took these down. Those before it had run well; those after it were never tried. Once that
    /// has happened to them before, there are likely more bad ones among the untried: they go in parts, side by side.
    fn undone(&mut self, now: Instant, mut ran: Vec<Open>, mut untried: Vec<Open>) {
        let again = untried.iter().any(|open| open.undone);
        for open in ran.iter_mut().chain(&mut untried) {
            open.undone = true;
        }
        let why = "a batch mate failed on chain and undid the batch, signing anew";
        if again {
            let size = untried.len().div_ceil(limits::SPLIT);
            self.delayed_transfers(&untried, why);
            while !untried.is_empty() {
                let rest = untried.split_off(size.min(untried.len()));
                self.parts.push_back(std::mem::replace(&mut untried, rest).into());
            }
        } else {
            ran.append(&mut untried);
        }
        self.sign_again(now, ran, why);
    }

    fn delayed_transfers(&mut self, transfers: &[Open], why: &str) {
        self.tell(transfers.iter().map(|open| open.transfer.id).collect(), News::Delayed { reason: why.into() });
    }

    /// Back to the front of the queue, in their order: they have waited longest.
    pub(super) fn sign_again(&mut self, now: Instant, transfers: Vec<Open>, why: &str) {
        if transfers.is_empty() {
            return;
        }
        self.delayed_transfers(&transfers, why);
        for mut open in transfers.into_iter().rev() {
            open.since = now;
            open.alone |= self.suspects.contains(&open.transfer.receiver);
            if open.alone {
                self.lone.push_front(open);
            } else {
                self.ready.push_front(open);
            }
        }
    }

    /// The end of an attempt is known for ever. The only place where transfers leave an attempt (P4).
    pub(super) fn close(&mut self, now: Instant, id: u64, how: Closed) -> Attempt {
        #[expect(
            clippy::expect_used,
            reason = "callers have just looked it up; two ends of one attempt would be a broken promise"
        )]
        let mut attempt = self.attempts.remove(&id).expect("an open attempt");
        if attempt.holds_slot {
            self.keys[attempt.key].in_flight -= 1;
        }
        // What held for want of NEAR ends with any end: if the account is still short, the next one says so.
        self.lift_near();
        self.lone_in_flight -= usize::from(matches!(attempt.transfers.as_slice(), [open] if open.alone));
        if how != Closed::Landed {
            for open in &mut attempt.transfers {
                replay::push(&mut open.tried, attempt.hash);
            }
        }
        self.append(Record::Closed { hash: attempt.hash, how, at: now });
        attempt
    }

    pub(super) fn fail(&mut self, now: Instant, open: &Open, reason: Box<str>) {
        let id = open.transfer.id;
        self.meter.failed += 1;
        let lsn = self.append(Record::Failed { id, reason: reason.clone(), at: now });
        self.untold.push_back((lsn, id, Untold::Failed(reason)));
    }

    pub(super) fn suspect(&mut self, receiver: &AccountId) {
        if self.suspects.len() >= limits::SUSPECTS_KEPT {
            self.suspects.clear();
        }
        self.suspects.insert(receiver.clone());
    }
}

impl Attempt {
    /// Receivers that it registers.
    fn registers(&self) -> impl Iterator<Item = &AccountId> + '_ {
        self.steps.iter().filter_map(|step| match step {
            batch::Step::Register(position) => Some(&self.transfers[*position].transfer.receiver),
            batch::Step::Pay(_) => None,
        })
    }
}
