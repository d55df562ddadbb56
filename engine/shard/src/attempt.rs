//! One signed transaction, from its signature to its proven end. P4 lives here: the only ways out of an attempt are
//! [`Next::Landed`], [`Next::Failed`] (both only at FINAL) and [`Next::Dead`] (only with a [`Proof`]).
use std::{sync::Arc, time::Duration};

use near_primitives::hash::CryptoHash;

use crate::{
    AskId, BatchId, EndpointIndex, EndpointSet, Execution, Failure, Fate, Instant, Known, Level, Lsn, Refusal, Reply,
    Status, Trust, batch::Step, limits, mutants::Mutant, transfer::Open,
};

/// Why a transaction can never run (nearcore `verifier.rs`: nonces only grow, reference blocks expire).
#[derive(Debug, Clone, Copy, PartialEq, Eq, borsh::BorshSerialize, borsh::BorshDeserialize)]
pub enum Proof {
    /// At a FINAL block the key's nonce is not below the transaction's: another took it, or a later one. And a node that
    /// still holds every block since the transaction was signed does not know it, asked after it showed that block;
    /// twice, at two final blocks.
    Overtaken {
        /// Nonce of the key there.
        key_nonce: u64,
        /// Height of that block.
        final_height: u64,
    },
    /// At a FINAL block its reference block is older than the validity period, and the key's nonce is below its own; or
    /// the key is gone, and a node that holds every block since does not know it.
    Expired {
        /// Height of that block.
        final_height: u64,
    },
}

/// What an attempt asks a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// `send_tx` of the same bytes, the first time or again: safe, a node knows them by their hash.
    Send,
    /// `tx`, answered when it is this far.
    Status(Level),
    /// The questions of P4.
    Fate,
}

/// Where an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its record is not durable: no byte may leave (P2).
    Unsynced(Lsn),
    /// One question is out.
    Asking(AskId, Ask),
    /// Nothing is out until then.
    Pausing(Instant, Ask),
}

/// One signed transaction.
pub(crate) struct Attempt {
    /// Position of its key in the shard.
    pub(crate) key: usize,
    pub(crate) nonce: u64,
    pub(crate) hash: CryptoHash,
    pub(crate) bytes: Arc<[u8]>,
    /// Height of its reference block.
    pub(crate) reference_height: u64,
    /// Its name.
    pub(crate) batch: BatchId,
    /// The transfers it carries; none for a fence.
    pub(crate) transfers: Vec<Open>,
    /// What each of its actions does.
    pub(crate) steps: Vec<Step>,
    pub(crate) phase: Phase,
    /// The furthest that a node has seen it, without failure.
    pub(crate) reached: Option<Level>,
    /// A node saw it in a block.
    pub(crate) included: bool,
    /// It counts against the window of its key.
    pub(crate) holds_slot: bool,
    /// It was refused for good, by as many as must agree.
    pub(crate) permanent: Option<Box<str>>,
    /// Who refused it for good.
    refused_by: EndpointSet,
    /// By endpoint: height of the final block at which it first showed the nonce taken and did not know the transaction.
    overtaken: Vec<(EndpointIndex, u64)>,
    /// By endpoint: the end that it told of, where two must agree and do not yet.
    testimony: Vec<(EndpointIndex, Next)>,
    /// It can be proven neither paid nor dead, as far as anybody has said.
    pub(crate) unprovable: bool,
    /// Lost or useless answers since it last got further.
    tries: u32,
    /// When it was sent first, in this life.
    pub(crate) sent_at: Option<Instant>,
    /// When a node first said that it has run.
    pub(crate) executed_at: Option<Instant>,
    /// The last refusal.
    pub(crate) refusal: Option<Refusal>,
    /// Who gave it, or has given testimony: another is to be asked.
    pub(crate) avoid: EndpointSet,
}

/// What an answer means for an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask this at once.
    Ask(Ask),
    /// Ask this after a pause.
    Pause(Duration, Ask),
    /// Success at FINAL.
    Landed { gas_burnt: Option<u64> },
    /// Failure at FINAL: everything undone, the nonce used.
    Failed { index: Option<u64>, failure: Failure },
    /// It can never run.
    Dead(Proof),
}

/// What an attempt must know of its surroundings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Whose word ends it.
    pub(crate) trust: Trust,
    /// How far callers want their transfers before they are answered.
    pub(crate) wait_until: Level,
    /// `transaction_validity_period`, in blocks.
    pub(crate) validity_blocks: u64,
    /// For the jitter of a pause.
    pub(crate) random: u64,
}

impl Attempt {
    /// Just signed: nothing may leave before the record `lsn` is durable.
    pub(crate) fn new(
        key: usize,
        nonce: u64,
        signed: crate::tx::Signed,
        reference_height: u64,
        batch: BatchId,
        plan: crate::batch::Plan,
        lsn: Lsn,
    ) -> Self {
        Self {
            key,
            nonce,
            hash: signed.hash,
            bytes: signed.bytes,
            reference_height,
            batch,
            transfers: plan.transfers,
            steps: plan.steps,
            phase: Phase::Unsynced(lsn),
            reached: None,
            included: false,
            holds_slot: true,
            permanent: None,
            refused_by: EndpointSet::default(),
            overtaken: Vec::new(),
            testimony: Vec::new(),
            unprovable: false,
            tries: 0,
            sent_at: None,
            executed_at: None,
            refusal: None,
            avoid: EndpointSet::default(),
        }
    }

    /// An attempt of a former life: nobody knows how far it came, so its fate is asked for first.
    pub(crate) fn taken_over(key: usize, found: crate::RecoveredAttempt, transfers: Vec<Open>, now: Instant) -> Self {
        let crate::RecoveredAttempt { nonce, hash, bytes, reference_height, batch, steps, .. } = found;
        let signed = crate::tx::Signed { hash, bytes };
        let plan = crate::batch::Plan { transfers, steps, ..Default::default() };
        let phase = Phase::Pausing(now, Ask::Fate);
        Self { phase, ..Self::new(key, nonce, signed, reference_height, batch, plan, 0) }
    }

    /// A fence carries nothing: it only takes a nonce, so that an earlier one can be proven dead.
    pub(crate) fn is_fence(&self) -> bool {
        self.transfers.is_empty()
    }

    /// What the first send waits for. Executed is as far as the window of the key needs to know.
    pub(crate) fn first_wait(wait_until: Level) -> Level {
        wait_until.min(Level::ExecutedOptimistic)
    }

    /// Decides what follows from an answer to `asked`.
    pub(crate) fn answered(&mut self, asked: Ask, reply: Reply, rules: &Rules) -> Next {
        match reply {
            Reply::Status { status, endpoint } => {
                let wanted = match asked {
                    Ask::Send => Self::first_wait(rules.wait_until),
                    Ask::Status(wait) => wait,
                    Ask::Fate => Level::Included,
                };
                self.seen(status, endpoint, wanted, rules)
            }
            Reply::Fate(fate) => self.judged(fate, rules),
            Reply::Refused { refusal, endpoint } => {
                self.doubt(endpoint);
                let next = match refusal {
                    Refusal::InvalidNonce { .. } if Mutant::ResignOnInvalidNonce.is_chosen() => BELIEVED_DEAD,
                    Refusal::Expired if Mutant::ResignOnExpired.is_chosen() => BELIEVED_DEAD,
                    // The same bytes may still run: keep them going.
                    Refusal::NotEnoughNear(_) | Refusal::Live(_) => self.pause(Ask::Send, rules),
                    // Proves nothing, or is final in words only: ask what P4 needs.
                    Refusal::InvalidNonce { .. }
                    | Refusal::Expired
                    | Refusal::Key(_)
                    | Refusal::Permanent(_)
                    | Refusal::Other(_) => Next::Pause(self.next_pause(rules).max(limits::FATE_PAUSE), Ask::Fate),
                };
                if let Refusal::Permanent(why) = &refusal {
                    self.refused_by.insert(endpoint);
                    if rules.trust == Trust::One || self.refused_by.len() > 1 {
                        self.permanent = Some(why.clone());
                    }
                }
                self.refusal = Some(refusal);
                next
            }
            // Unknown outcome. Sending the same bytes again is safe, and needed: nodes do not retry. A node that has the
            // transaction answers with its status.
            Reply::Lost { .. } if asked == Ask::Send && Mutant::TimeoutMeansNotSent.is_chosen() => BELIEVED_DEAD,
            Reply::Lost { .. } => match asked {
                Ask::Fate => self.pause(Ask::Fate, rules),
                // It was seen, so asking again is enough; but a node may have lost it, so not for ever.
                Ask::Status(_) if self.reached.is_some() && self.tries < limits::STATUS_TRIES => {
                    self.pause(asked, rules)
                }
                Ask::Status(_) | Ask::Send => self.pause(Ask::Send, rules),
            },
            // Nothing happened, so it does not count as a try.
            Reply::NotSent { retry_after, .. } => Next::Pause(limits::not_sent_pause(retry_after), asked),
            // Answers to questions that an attempt does not ask.
            Reply::Registration(_)
            | Reply::TokenBalance(_)
            | Reply::TokenUnavailable(_)
            | Reply::Allowance(_)
            | Reply::NoAllowance { .. } => self.pause(Ask::Fate, rules),
        }
    }

    /// A later transaction of the same key is final and this one was never seen: do not wait for time-outs.
    pub(crate) fn is_probably_overtaken(&self) -> bool {
        self.reached.is_none() && matches!(self.phase, Phase::Asking(_, Ask::Send) | Phase::Pausing(_, Ask::Send))
    }

    fn seen(&mut self, status: Status, endpoint: EndpointIndex, wanted: Level, rules: &Rules) -> Next {
        let got = status.level;
        let is_final = got == Some(Level::Final) || (got.is_some() && Mutant::FinalBeforeFinal.is_chosen());
        if !matches!(status.execution, Execution::Invalid(_)) {
            self.included |= got.is_some();
            self.overtaken.clear();
            self.unprovable = false;
        }
        match status.execution {
            Execution::Success if is_final => {
                self.reach(Level::Final);
                self.ends(endpoint, Next::Landed { gas_burnt: status.gas_burnt }, rules)
            }
            Execution::Failed { index, failure } if is_final => {
                self.ends(endpoint, Next::Failed { index, failure }, rules)
            }
            // Final-looking, but not FINAL: a reorganisation may still undo it.
            Execution::Failed { .. } => self.go_on(got, wanted, Level::Final, rules),
            Execution::Success => {
                if let Some(level) = got {
                    self.reach(level);
                }
                let then = match got {
                    Some(level) if level < rules.wait_until => rules.wait_until,
                    _ => Level::Final,
                };
                self.go_on(got, wanted, then, rules)
            }
            Execution::Pending => {
                if got.is_some() {
                    self.reach(Level::Included);
                }
                self.go_on(got, wanted, Level::ExecutedOptimistic, rules)
            }
            Execution::Invalid(_) if Mutant::InvalidTxErrorIsProof.is_chosen() => BELIEVED_DEAD,
            Execution::Invalid(why) => {
                self.refusal = Some(Refusal::Other(why));
                self.pause(Ask::Fate, rules)
            }
        }
    }

    /// Waits for the next level; at once if the node kept its word, after a pause if it answered too early.
    fn go_on(&mut self, got: Option<Level>, wanted: Level, then: Level, rules: &Rules) -> Next {
        match got {
            Some(level) if level >= wanted && level < then => Next::Ask(Ask::Status(then)),
            None => self.pause(Ask::Send, rules),
            Some(_) => self.pause(Ask::Status(then), rules),
        }
    }

    fn judged(&mut self, fate: Fate, rules: &Rules) -> Next {
        let Fate { key_nonce, final_height, earliest_height, known, endpoint } = fate;
        let known = match known {
            Known::Yes(status) if !matches!(status.execution, Execution::Invalid(_)) => {
                return self.seen(status, endpoint, Level::Included, rules);
            }
            known => known,
        };
        let expired = final_height > self.reference_height.saturating_add(rules.validity_blocks);
        // Nonce and height come in one answer. Had it run by then, the nonce would be at least its own; and it cannot
        // run any more. This needs no memory of the node, and no second question.
        if expired && key_nonce.is_some_and(|nonce| nonce < self.nonce) {
            return self.ends(endpoint, Next::Dead(Proof::Expired { final_height }), rules);
        }
        // A node that no longer holds the blocks in which it could have run cannot testify that it did not.
        let remembers = earliest_height <= self.reference_height;
        match (known, key_nonce) {
            (Known::Untracked, _) => {
                self.doubt(endpoint);
                self.pause(Ask::Fate, rules)
            }
            (Known::No, Some(key_nonce)) if remembers && key_nonce >= self.nonce => {
                match self.overtaken.iter_mut().find(|(who, _)| *who == endpoint) {
                    Some((_, first)) if final_height > *first => {
                        self.ends(endpoint, Next::Dead(Proof::Overtaken { key_nonce, final_height }), rules)
                    }
                    // A height that was too high, once, must not keep it from ever being passed.
                    Some((_, first)) => {
                        *first = final_height;
                        Next::Pause(limits::CONFIRM_PAUSE, Ask::Fate)
                    }
                    None => {
                        self.overtaken.push((endpoint, final_height));
                        Next::Pause(limits::CONFIRM_PAUSE, Ask::Fate)
                    }
                }
            }
            (Known::No, None) if remembers && expired => {
                self.ends(endpoint, Next::Dead(Proof::Expired { final_height }), rules)
            }
            _ => {
                self.unprovable = expired;
                self.pause(if expired { Ask::Fate } else { Ask::Send }, rules)
            }
        }
    }

    /// An endpoint says how it ended. Where two must agree, the first one's word sends us to another.
    fn ends(&mut self, endpoint: EndpointIndex, end: Next, rules: &Rules) -> Next {
        let agrees = |(other, said): &(EndpointIndex, Next)| *other != endpoint && said.is_same_end(&end);
        if rules.trust == Trust::One || self.testimony.iter().any(agrees) {
            return end;
        }
        let again = if matches!(end, Next::Dead(_)) { Ask::Fate } else { Ask::Status(Level::Final) };
        let is_first = self.testimony.is_empty();
        // Nobody else was there to be asked: all are heard again.
        if self.testimony.iter().any(|(who, _)| *who == endpoint) {
            self.testimony.clear();
        }
        self.testimony.push((endpoint, end));
        self.avoid = self.witnesses();
        if is_first { Next::Ask(again) } else { self.pause(again, rules) }
    }

    fn witnesses(&self) -> EndpointSet {
        let mut witnesses = EndpointSet::default();
        self.testimony.iter().for_each(|(who, _)| witnesses.insert(*who));
        witnesses
    }

    /// Another endpoint is better, besides those that have given testimony.
    fn doubt(&mut self, endpoint: EndpointIndex) {
        self.avoid = self.witnesses();
        self.avoid.insert(endpoint);
    }

    fn reach(&mut self, level: Level) {
        if self.reached.is_none_or(|reached| level > reached) {
            self.reached = Some(level);
            self.tries = 0;
            self.refusal = None;
        }
    }

    fn pause(&mut self, then: Ask, rules: &Rules) -> Next {
        Next::Pause(self.next_pause(rules), then)
    }

    fn next_pause(&mut self, rules: &Rules) -> Duration {
        self.tries = self.tries.saturating_add(1);
        limits::backoff(self.tries, rules.random)
    }
}

impl Next {
    /// Whether two ends are the same. Any two proofs of death are: one of them is honest, and that is enough.
    fn is_same_end(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Landed { .. }, Self::Landed { .. }) | (Self::Dead(_), Self::Dead(_)) => true,
            (Self::Failed { .. }, Self::Failed { .. }) => self == other,
            _ => false,
        }
    }
}

/// What a known bug believes.
const BELIEVED_DEAD: Next = Next::Dead(Proof::Expired { final_height: 0 });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Transfer, TransferId, batch::Plan, tx};

    const RULES: Rules = Rules { trust: Trust::One, wait_until: Level::Final, validity_blocks: 100, random: 0 };

    fn attempt() -> Attempt {
        let open = Open::new(
            Transfer { id: TransferId(1), receiver: "user.near".parse().unwrap(), amount: 1, memo: None, key: None },
            Instant::from_micros(0),
        );
        let plan = Plan { transfers: vec![open], steps: vec![Step::Pay(0)], amount: 1, uncounted: 0 };
        let signed = tx::Signed { hash: CryptoHash::default(), bytes: Arc::from([0u8; 4]) };
        Attempt::new(0, 50, signed, 1_000, BatchId { at: Instant::from_micros(0), number: 1 }, plan, 1)
    }

    fn status(level: Option<Level>, execution: Execution) -> Reply {
        Reply::Status { status: Status { level, execution, gas_burnt: Some(7) }, endpoint: 0 }
    }

    fn failed() -> Execution {
        Execution::Failed { index: Some(0), failure: Failure::Execution("no".into()) }
    }

    fn refused(refusal: Refusal) -> Reply {
        Reply::Refused { refusal, endpoint: 3 }
    }

    fn fate(key_nonce: Option<u64>, final_height: u64, known: Known) -> Reply {
        Reply::Fate(Fate { key_nonce, final_height, earliest_height: 0, known, endpoint: 0 })
    }

    fn pauses(next: &Next) -> Option<Ask> {
        match next {
            Next::Pause(_, ask) => Some(*ask),
            _ => None,
        }
    }

    #[test]
    fn nothing_a_node_says_before_final_ends_an_attempt() {
        use Level::{Executed, ExecutedOptimistic, Included, IncludedFinal};
        for level in [None, Some(Included), Some(ExecutedOptimistic), Some(IncludedFinal), Some(Executed)] {
            for execution in
                [Execution::Pending, Execution::Success, failed(), Execution::Invalid("InvalidNonce".into())]
            {
                for asked in [Ask::Send, Ask::Status(Level::Final), Ask::Fate] {
                    let next = attempt().answered(asked, status(level, execution.clone()), &RULES);
                    assert!(matches!(next, Next::Ask(_) | Next::Pause(..)), "{level:?} {execution:?}: {next:?}");
                }
            }
        }
        for refusal in [
            Refusal::InvalidNonce { key_nonce: Some(99) },
            Refusal::Expired,
            Refusal::NotEnoughNear("".into()),
            Refusal::Key("".into()),
            Refusal::Live("".into()),
            Refusal::Permanent("".into()),
            Refusal::Other("".into()),
        ] {
            let next = attempt().answered(Ask::Send, refused(refusal.clone()), &RULES);
            assert!(pauses(&next).is_some(), "{refusal:?}: {next:?}");
        }
        let next = attempt().answered(Ask::Send, Reply::Lost { why: "timeout".into() }, &RULES);
        assert_eq!(pauses(&next), Some(Ask::Send));
    }

    #[test]
    fn an_on_chain_invalid_tx_error_is_no_proof_even_at_final() {
        let next = attempt().answered(
            Ask::Send,
            status(Some(Level::Final), Execution::Invalid("InvalidNonce".into())),
            &RULES,
        );
        assert_eq!(pauses(&next), Some(Ask::Fate));
    }

    #[test]
    fn final_ends_it() {
        let next = attempt().answered(Ask::Send, status(Some(Level::Final), Execution::Success), &RULES);
        assert_eq!(next, Next::Landed { gas_burnt: Some(7) });
        let next = attempt().answered(Ask::Send, status(Some(Level::Final), failed()), &RULES);
        assert!(matches!(next, Next::Failed { index: Some(0), .. }));
    }

    #[test]
    fn refusals_lead_to_the_same_bytes_or_to_the_question_of_fate() {
        for (refusal, then) in [
            (Refusal::InvalidNonce { key_nonce: None }, Ask::Fate),
            (Refusal::Expired, Ask::Fate),
            (Refusal::Permanent("".into()), Ask::Fate),
            (Refusal::Key("".into()), Ask::Fate),
            (Refusal::Live("".into()), Ask::Send),
            (Refusal::NotEnoughNear("".into()), Ask::Send),
        ] {
            let mut attempt = attempt();
            assert_eq!(pauses(&attempt.answered(Ask::Send, refused(refusal), &RULES)), Some(then));
            assert_eq!(attempt.avoid, EndpointSet::one(3));
        }
    }

    /// The table of P4: nonce of the attempt is 50, its reference height 1,000, validity 100 blocks.
    #[test]
    fn proofs() {
        let overtaken = |key_nonce, final_height| Some(Proof::Overtaken { key_nonce, final_height });
        let expired = |final_height| Some(Proof::Expired { final_height });
        for (key_nonce, final_height, known, expected) in [
            (Some(49), 1_050, Known::No, None),
            (Some(50), 1_050, Known::No, overtaken(50, 1_051)),
            (Some(51), 1_050, Known::No, overtaken(51, 1_051)),
            (Some(51), 1_050, Known::Untracked, None),
            (Some(49), 1_100, Known::No, None), // the last block in which it may run
            (Some(49), 1_101, Known::No, expired(1_101)),
            (None, 1_050, Known::No, None),
            (None, 1_101, Known::No, expired(1_101)),
            (Some(49), 1_101, Known::Untracked, expired(1_101)), // the nonce alone says it
            (None, 1_101, Known::Untracked, None),
        ] {
            let mut attempt = attempt();
            let mut next = attempt.answered(Ask::Fate, fate(key_nonce, final_height, known.clone()), &RULES);
            if let Some(Proof::Overtaken { .. }) = expected {
                assert_eq!(next, Next::Pause(limits::CONFIRM_PAUSE, Ask::Fate), "once is not enough");
                next = attempt.answered(Ask::Fate, fate(key_nonce, final_height, known.clone()), &RULES);
                assert_eq!(next, Next::Pause(limits::CONFIRM_PAUSE, Ask::Fate), "nor is the same block again");
                next = attempt.answered(Ask::Fate, fate(key_nonce, final_height + 1, known.clone()), &RULES);
            }
            match expected {
                Some(proof) => assert_eq!(next, Next::Dead(proof)),
                None => assert!(matches!(next, Next::Pause(..)), "{key_nonce:?} {final_height} {known:?}: {next:?}"),
            }
        }
    }

    #[test]
    fn a_node_that_forgot_the_blocks_proves_nothing() {
        let forgetful =
            Fate { key_nonce: Some(99), final_height: 9_999, earliest_height: 1_001, known: Known::No, endpoint: 0 };
        let mut attempt = attempt();
        for _ in 0..3 {
            let next = attempt.answered(Ask::Fate, Reply::Fate(forgetful.clone()), &RULES);
            assert_eq!(pauses(&next), Some(Ask::Fate), "sending what has expired would be of no use");
            assert!(attempt.unprovable);
        }
    }

    #[test]
    fn a_known_transaction_is_followed_whatever_the_nonce_says() {
        let known = Known::Yes(Status { level: Some(Level::Final), execution: Execution::Success, gas_burnt: None });
        let next = attempt().answered(Ask::Fate, fate(Some(99), 9_999, known), &RULES);
        assert_eq!(next, Next::Landed { gas_burnt: None });
    }

    #[test]
    fn levels_are_climbed_one_by_one() {
        let mut attempt = attempt();
        let next = attempt.answered(Ask::Send, status(Some(Level::ExecutedOptimistic), Execution::Success), &RULES);
        assert_eq!(next, Next::Ask(Ask::Status(Level::Final)));
        assert_eq!(attempt.reached, Some(Level::ExecutedOptimistic));

        let rules = Rules { wait_until: Level::Executed, ..RULES };
        let next = attempt.answered(Ask::Send, status(Some(Level::ExecutedOptimistic), Execution::Success), &rules);
        assert_eq!(next, Next::Ask(Ask::Status(Level::Executed)));

        let rules = Rules { wait_until: Level::Included, ..RULES };
        let next = attempt.answered(Ask::Send, status(Some(Level::Included), Execution::Pending), &rules);
        assert_eq!(next, Next::Ask(Ask::Status(Level::ExecutedOptimistic)));
    }

    #[test]
    fn a_node_that_answers_too_early_is_not_asked_in_a_hot_loop() {
        let early = status(Some(Level::ExecutedOptimistic), Execution::Success);
        let next = attempt().answered(Ask::Status(Level::Final), early, &RULES);
        assert_eq!(pauses(&next), Some(Ask::Status(Level::Final)));
    }
}
