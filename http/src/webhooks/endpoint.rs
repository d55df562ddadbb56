//! Whether the receiver is there at all. While it is not, one event at a time is tried, at growing pauses.
use super::schedule::{GIVE_UP_MS, pause_ms};

/// Failures in a row that speak for the receiver rather than for an event.
const FAILURES: u32 = 5;
/// Longest pause between two tries while it fails: so long do events wait for a receiver that is back.
const PROBE_MAX_MS: u64 = 60_000;

/// What is known of the receiver.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Of events that were tried for the first time, since it last took any.
    failures: u32,
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    since_ms: u64,
    probes: u32,
    /// When the next event may be tried; `None` while one is.
    next_ms: Option<u64>,
}

impl Endpoint {
    /// As a former life has left it.
    pub(super) fn new(failing_since_ms: Option<u64>, now_ms: u64) -> Self {
        let failing =
            failing_since_ms.map(|since| Failing { since_ms: since.min(now_ms), probes: 0, next_ms: Some(now_ms) });
        Self { failures: 0, failing }
    }

    /// How many events more may be tried now, if so many are being tried.
    pub(super) fn room(&self, running: usize, at_once: usize, now_ms: u64) -> usize {
        match &self.failing {
            None => at_once.saturating_sub(running),
            Some(failing) => usize::from(running == 0 && failing.next_ms.is_some_and(|next| next <= now_ms)),
        }
    }

    /// An event is being tried.
    pub(super) fn tries(&mut self) {
        if let Some(failing) = &mut self.failing {
            failing.next_ms = None;
        }
    }

    /// An event was taken. Returns whether it is there again.
    pub(super) fn takes(&mut self) -> bool {
        self.failures = 0;
        self.failing.take().is_some()
    }

    /// An event was not taken. Returns whether it fails from now on. That events which were not taken before are not taken
    /// again says little: they may be to blame.
    pub(super) fn fails(&mut self, is_first_try: bool, now_ms: u64, random: u64) -> bool {
        self.failures = self.failures.saturating_add(u32::from(is_first_try));
        match &mut self.failing {
            // Others, which were under way already, say nothing new.
            Some(failing) if failing.next_ms.is_some() => false,
            Some(failing) => {
                failing.probes = failing.probes.saturating_add(1);
                failing.next_ms = Some(now_ms + pause_ms(failing.probes, random).min(PROBE_MAX_MS));
                false
            }
            None if self.failures >= FAILURES => {
                self.failing =
                    Some(Failing { since_ms: now_ms, probes: 1, next_ms: Some(now_ms + pause_ms(1, random)) });
                true
            }
            None => false,
        }
    }

    /// Since when it fails.
    pub(super) fn failing_since_ms(&self) -> Option<u64> {
        self.failing.as_ref().map(|failing| failing.since_ms)
    }

    /// When the next event may be tried, if it fails and none is.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.failing.as_ref()?.next_ms
    }

    /// What has been due since this moment or longer had its day: all that time the receiver failed.
    pub(super) fn given_up_ms(&self, now_ms: u64) -> Option<u64> {
        let until = now_ms.checked_sub(GIVE_UP_MS)?;
        (self.failing.as_ref()?.since_ms <= until).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_failures_do_not_stop_the_rest() {
        let mut endpoint = Endpoint::new(None, 0);
        for _ in 0..10 {
            for _ in 1..FAILURES {
                assert!(!endpoint.fails(true, 0, 0));
                assert!(!endpoint.fails(false, 0, 0), "it failed before");
            }
            assert_eq!(endpoint.room(3, 8, 0), 5);
            assert!(!endpoint.takes());
        }
        assert_eq!(endpoint.room(9, 8, 0), 0);
    }

    #[test]
    fn while_it_fails_one_is_tried_at_a_time_at_growing_pauses() {
        let mut endpoint = Endpoint::new(None, 0);
        for n in 1..=FAILURES {
            assert_eq!(endpoint.fails(true, 100, 0), n == FAILURES);
        }
        let mut now = 100;
        let mut pauses = Vec::new();
        for _ in 0..14 {
            assert_eq!(endpoint.room(0, 8, now), 0);
            // What was under way comes back and changes nothing.
            assert!(!endpoint.fails(true, now, 0));
            let next = endpoint.next_ms().unwrap();
            assert_eq!(endpoint.room(1, 8, next), 0, "not beside another");
            assert_eq!(endpoint.room(0, 8, next), 1);
            endpoint.tries();
            assert_eq!((endpoint.room(0, 8, next), endpoint.next_ms()), (0, None));
            pauses.push(next - now);
            now = next + 10_000;
            assert!(!endpoint.fails(false, now, 0));
        }
        assert!(pauses.is_sorted() && pauses[0] == 800 && pauses[13] == PROBE_MAX_MS, "{pauses:?}");
        assert_eq!(endpoint.failing_since_ms(), Some(100));
        assert_eq!(endpoint.given_up_ms(99 + GIVE_UP_MS), None);
        assert_eq!(endpoint.given_up_ms(150 + GIVE_UP_MS), Some(150));
        endpoint.tries();
        assert!(endpoint.takes());
        assert_eq!((endpoint.room(0, 8, now), endpoint.failing_since_ms()), (8, None));
    }

    #[test]
    fn the_next_life_knows() {
        let endpoint = Endpoint::new(Some(50), 100);
        assert_eq!((endpoint.failing_since_ms(), endpoint.room(0, 8, 100)), (Some(50), 1));
        assert_eq!(Endpoint::new(Some(500), 100).failing_since_ms(), Some(100), "a clock that was put back");
    }
}
