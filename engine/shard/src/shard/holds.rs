//! What may keep transfers waiting: unknown registrations, too few tokens, a token that does not answer.

use near_primitives::types::AccountId;

use super::{Asker, Hold, Shard, Timer};
use crate::{Condition, Instant, Output, Query, Reply, limits, registry::Lost};

impl Shard {
    pub(super) fn ask_registrations(&mut self) {
        while let Some(account) = self.registry.next_question() {
            let id = self.new_ask(Asker::Registration(account.clone()));
            self.put(Output::Query { id, query: Query::Registration { account } });
        }
    }

    pub(super) fn registration_answered(&mut self, now: Instant, account: AccountId, reply: &Reply) {
        if let Reply::Registration(registered) = reply {
            for open in self.registry.answered(&account, *registered) {
                self.queue(now, open);
            }
            return;
        }
        if let Reply::NotSent { retry_after, .. } = reply {
            self.registry.not_asked();
            let at = now + limits::not_sent_pause(*retry_after);
            return self.set_timer(at, Timer::Registration(account));
        }
        match self.registry.lost(&account) {
            Lost::Again(times) => {
                let at = now + limits::backoff(times, self.random());
                self.set_timer(at, Timer::Registration(account));
            }
            Lost::GiveUp(transfers) => {
                for mut open in transfers {
                    open.since = now;
                    self.enqueue(open);
                }
            }
        }
    }

    pub(super) fn hold_tokens(&mut self, now: Instant, why: &str) {
        let why = format!("{} holds too few tokens of {}: {why}", self.settings.account, self.settings.token);
        self.hold_token(now, Condition::NotEnoughTokens(why.into()));
    }

    pub(super) fn hold_token(&mut self, now: Instant, condition: Condition) {
        if matches!(self.hold, Some(Hold::Token { .. })) {
            return;
        }
        let pause = limits::HOLD_PAUSE;
        self.hold = Some(Hold::Token { condition, pause, asking: false });
        self.set_timer(now + pause, Timer::Hold);
    }

    pub(super) fn ask_balance(&mut self) {
        if let Some(Hold::Token { asking, .. }) = &mut self.hold
            && !*asking
        {
            *asking = true;
            let id = self.new_ask(Asker::Hold);
            self.put(Output::Query { id, query: Query::TokenBalance });
        }
    }

    pub(super) fn hold_answered(&mut self, now: Instant, reply: &Reply) {
        let queues = [self.parts.front().and_then(|part| part.front()), self.ready.front(), self.lone.front()];
        let first = queues.into_iter().flatten().next().map(|open| open.transfer.amount);
        let Some(Hold::Token { condition, pause, asking }) = &mut self.hold else {
            return;
        };
        match reply {
            Reply::TokenBalance(balance) if first.is_none_or(|first| first <= *balance) => {
                self.budget = Some(*balance);
                self.hold = None;
                return;
            }
            Reply::TokenBalance(balance) => {
                let why = format!(
                    "{} holds {balance} of {}, the next transfer needs {}: send tokens to it",
                    self.settings.account,
                    self.settings.token,
                    first.unwrap_or_default()
                );
                *condition = Condition::NotEnoughTokens(why.into());
            }
            Reply::TokenUnavailable(why) => *condition = Condition::TokenUnavailable(why.clone()),
            _ => {}
        }
        *asking = false;
        *pause = (*pause * 2).min(limits::HOLD_PAUSE_MAX);
        let at = now + *pause;
        self.set_timer(at, Timer::Hold);
    }
}
