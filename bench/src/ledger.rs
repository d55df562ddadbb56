//! What became of every transfer: what its client was told, held against what the chain shows. Pure.
use serde::{Deserialize, Serialize};

/// What a client knows of a transfer in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The request was never due: the load ended before.
    NotOffered,
    /// Not accepted: it must not be paid.
    Refused,
    /// Nothing: the answer did not come. It may be paid, once.
    Nothing,
    /// Accepted: it must be paid, once.
    Accepted,
    /// Accepted, and still on its way when this was looked at.
    Open,
    /// Accepted, and then failed for good: it must not be paid.
    Failed,
    /// Part of a request that failed in part: it may be paid, once.
    PartlyFailed,
}

/// Where a transfer is on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Landed {
    /// How often it was paid, for good.
    pub finally: u8,
    /// How often it was paid, though that could still be undone.
    pub executed: u8,
}

/// Transfers, counted. `offered = accepted + refused + unanswered`, `accepted = paid + failed + open + lost`, where of those
/// that are paid some may be [`Self::doubled`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Sent to the service.
    pub offered: u64,
    /// The service said it would pay them, or that it has.
    pub accepted: u64,
    /// The service said it would not.
    pub refused: u64,
    /// It said nothing.
    pub unanswered: u64,
    /// Executed on chain, final or not.
    pub executed: u64,
    /// On chain, executed with success, at FINAL.
    pub r#final: u64,
    /// Accepted, then failed: the service said so, and the chain agrees.
    pub failed: u64,
    /// Paid more than once.
    pub doubled: u64,
    /// Payments too many: 2 for a transfer paid three times.
    pub extra_payments: u64,
    /// Accepted, not paid, and the service does not say that it failed or is still under way.
    pub lost: u64,
    /// Accepted, not paid yet, and the service says that it is under way.
    pub open: u64,
    /// Paid although the service said that it would not be, or that it had failed.
    pub paid_though_refused: u64,
    /// Paid without an answer to whoever asked for it.
    pub paid_unheard: u64,
    /// Accepted and paid exactly once: what success is.
    pub succeeded: u64,
}

impl Counts {
    /// Counts one transfer.
    pub fn add(&mut self, told: Told, landed: Landed) {
        if told == Told::NotOffered {
            return;
        }
        let paid = landed.finally > 0;
        let executed = paid || landed.executed > 0;
        self.offered += 1;
        self.executed += u64::from(executed);
        self.r#final += u64::from(paid);
        self.doubled += u64::from(landed.finally > 1);
        self.extra_payments += u64::from(landed.finally.saturating_sub(1));
        match told {
            Told::NotOffered => {}
            Told::Refused => {
                self.refused += 1;
                self.paid_though_refused += u64::from(paid);
            }
            Told::Nothing => {
                self.unanswered += 1;
                self.paid_unheard += u64::from(paid);
            }
            Told::Accepted => {
                self.accepted += 1;
                self.succeeded += u64::from(landed.finally == 1);
                // Executed but not final yet is no loss.
                self.open += u64::from(executed && !paid);
                self.lost += u64::from(!executed);
            }
            Told::Open => {
                self.accepted += 1;
                self.succeeded += u64::from(landed.finally == 1);
                self.open += u64::from(!paid);
            }
            Told::Failed => {
                self.accepted += 1;
                self.failed += u64::from(!paid);
                self.paid_though_refused += u64::from(paid);
            }
            Told::PartlyFailed => {
                self.accepted += 1;
                self.failed += u64::from(!paid);
            }
        }
    }

    /// Share of the offered transfers that were accepted and paid exactly once, 0 to 1.
    pub fn success(&self) -> f64 {
        if self.offered == 0 { 1.0 } else { self.succeeded as f64 / self.offered as f64 }
    }

    /// What must never be, in words.
    pub fn wrongs(&self) -> Vec<String> {
        let found = [
            (self.doubled, "paid more than once"),
            (self.lost, "accepted and never paid"),
            (self.paid_though_refused, "paid although said to be refused or failed"),
        ];
        found.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(told: Told, finally: u8, executed: u8) -> Counts {
        let mut counts = Counts::default();
        counts.add(told, Landed { finally, executed });
        counts
    }

    /// Doubled, lost, wrong: each is found, and only where it is.
    #[test]
    fn every_case() {
        let base = Counts { offered: 1, ..Counts::default() };
        let accepted = Counts { accepted: 1, ..base };
        let paid = Counts { executed: 1, r#final: 1, ..base };
        let accepted_paid = Counts { accepted: 1, ..paid };
        for (told, finally, executed, expected) in [
            (Told::NotOffered, 0, 0, Counts::default()),
            (Told::Accepted, 1, 0, Counts { succeeded: 1, ..accepted_paid }),
            (Told::Accepted, 0, 0, Counts { lost: 1, ..accepted }),
            (Told::Accepted, 0, 1, Counts { executed: 1, open: 1, ..accepted }),
            (Told::Accepted, 3, 0, Counts { doubled: 1, extra_payments: 2, ..accepted_paid }),
            (Told::Open, 0, 0, Counts { open: 1, ..accepted }),
            (Told::Open, 1, 0, Counts { succeeded: 1, ..accepted_paid }),
            (Told::Failed, 0, 0, Counts { failed: 1, ..accepted }),
            (Told::Failed, 1, 0, Counts { paid_though_refused: 1, ..accepted_paid }),
            (Told::PartlyFailed, 0, 0, Counts { failed: 1, ..accepted }),
            (Told::PartlyFailed, 1, 0, accepted_paid),
            (Told::PartlyFailed, 2, 0, Counts { doubled: 1, extra_payments: 1, ..accepted_paid }),
            (Told::Refused, 0, 0, Counts { refused: 1, ..base }),
            (Told::Refused, 1, 0, Counts { refused: 1, paid_though_refused: 1, ..paid }),
            (Told::Nothing, 0, 0, Counts { unanswered: 1, ..base }),
            (Told::Nothing, 1, 0, Counts { unanswered: 1, paid_unheard: 1, ..paid }),
            (Told::Nothing, 2, 0, Counts { unanswered: 1, paid_unheard: 1, doubled: 1, extra_payments: 1, ..paid }),
        ] {
            let counts = of(told, finally, executed);
            assert_eq!(counts, expected, "{told:?} paid {finally} times, executed {executed} times");
            assert_eq!(counts.offered, counts.accepted + counts.refused + counts.unanswered);
        }
    }

    #[test]
    fn success_is_accepted_and_paid_once() {
        let mut counts = Counts::default();
        for _ in 0..998 {
            counts.add(Told::Accepted, Landed { finally: 1, executed: 0 });
        }
        counts.add(Told::Refused, Landed::default());
        counts.add(Told::Accepted, Landed { finally: 2, executed: 0 });
        assert!((counts.success() - 0.998).abs() < 1e-9);
        assert_eq!(counts.wrongs(), ["1 paid more than once"]);
    }
}
