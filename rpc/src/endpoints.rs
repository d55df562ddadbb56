//! Which endpoint a call goes to: pure, time is an argument.
//!
//! Selection is sticky: calls stay on one endpoint, so that the transactions of an access key reach one node in
//! nonce order, until its breaker opens, it syncs or it lags. Then the next usable endpoint becomes the preferred
//! one and stays so; there is no automatic way back.

use std::time::Duration;

use crate::breaker::{self, Breaker, BreakerState, Permit, Verdict};

/// An endpoint of one [`Client`](crate::Client): its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(u16);

impl EndpointId {
    /// The endpoint at this place of [`Config::endpoints`](crate::Config).
    pub const fn new(index: u16) -> Self {
        EndpointId(index)
    }

    /// Its place in [`Config::endpoints`](crate::Config), from 0.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a call may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Route {
    /// The preferred endpoint, or another usable one.
    #[default]
    Any,
    /// This endpoint only: for proofs whose parts must come from one node. It is used even while it lags or syncs
    /// (the proof compares heights itself), but not against its breaker.
    Only(EndpointId),
    /// Any but these, for a second opinion: bit `i` stands for endpoint `i`.
    Except(u32),
}

impl Route {
    fn allows(self, id: EndpointId) -> bool {
        match self {
            Route::Any => true,
            Route::Only(only) => id == only,
            Route::Except(not) => not.checked_shr(u32::from(id.0)).unwrap_or_default() & 1 == 0,
        }
    }
}

/// One endpoint as seen from outside, for `/health` and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointHealth {
    /// Its place in the configuration.
    pub id: EndpointId,
    /// Scheme, host, port and path; never credentials.
    pub name: String,
    /// The breaker's state.
    pub breaker: BreakerState,
    /// Whether a call with [`Route::Any`] could go there now.
    pub usable: bool,
    /// Whether it is the one calls stick to.
    pub preferred: bool,
    /// Height of the latest block it told of.
    pub latest_height: Option<u64>,
    /// Blocks it was behind the best of the others when it told.
    pub lag: u64,
    /// Whether it said that it is syncing.
    pub syncing: bool,
    /// Calls made.
    pub calls: u64,
    /// Calls that counted as failures (throttled ones included).
    pub failures: u64,
}

/// The endpoints of one client: their breakers, heads and the current preference.
#[derive(Debug)]
pub struct Endpoints {
    slots: Vec<Slot>,
    preferred: usize,
    max_lag_blocks: u64,
}

#[derive(Debug)]
struct Slot {
    name: String,
    breaker: Breaker,
    height: Option<u64>,
    lag: u64,
    syncing: bool,
    calls: u64,
    failures: u64,
}

impl Endpoints {
    /// Endpoints in the operator's order; the first is preferred at the start.
    pub fn new(names: Vec<String>, breaker: breaker::Config, max_lag_blocks: u64, seed: u64) -> Self {
        let slots = names.into_iter().zip(0u64..).map(|(name, index)| Slot {
            name,
            breaker: Breaker::new(breaker, seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            height: None,
            lag: 0,
            syncing: false,
            calls: 0,
            failures: 0,
        });
        Endpoints { slots: slots.collect(), preferred: 0, max_lag_blocks }
    }

    /// Chooses an endpoint that `route` allows, is not in `tried` and may be used, and takes a permit of its
    /// breaker. `any_head` admits endpoints that sync or lag: asking for the head is how they come back.
    ///
    /// A healthy endpoint comes before one that would be probed; among equals the preferred one, then the
    /// operator's order. With [`Route::Any`] the choice becomes the preference.
    pub fn select(
        &mut self,
        now: Duration,
        route: Route,
        tried: &[EndpointId],
        any_head: bool,
    ) -> Option<(EndpointId, Permit)> {
        let any_head = any_head || matches!(route, Route::Only(_));
        let count = self.slots.len();
        let usable = |at: &usize| {
            let (id, slot) = (id_of(*at), &self.slots[*at]);
            route.allows(id) && !tried.contains(&id) && slot.breaker.ready(now) && (any_head || self.head_ok(slot))
        };
        let order = (0..count).map(|step| (self.preferred + step) % count).filter(usable);
        let chosen = order.min_by_key(|&at| self.slots[at].breaker.state(now) != BreakerState::Closed)?;
        let slot = &mut self.slots[chosen];
        let permit = slot.breaker.admit(now)?;
        slot.calls += 1;
        if route == Route::Any && !any_head {
            self.preferred = chosen;
        }
        Some((id_of(chosen), permit))
    }

    /// How long until an endpoint that `route` allows may be tried again, if a breaker is all that holds it.
    pub fn wait(&self, now: Duration, route: Route) -> Option<Duration> {
        let allowed = self.slots.iter().enumerate().filter(|(at, _)| route.allows(id_of(*at)));
        allowed.filter_map(|(_, slot)| slot.breaker.wait(now)).min().filter(|wait| !wait.is_zero())
    }

    /// Takes the verdict of a call; returns the breaker's state before and after it.
    pub fn record(
        &mut self,
        now: Duration,
        id: EndpointId,
        permit: Permit,
        verdict: Verdict,
    ) -> (BreakerState, BreakerState) {
        let Some(slot) = self.slots.get_mut(id.index()) else {
            return (BreakerState::Closed, BreakerState::Closed);
        };
        if matches!(verdict, Verdict::Failure | Verdict::Throttled(_)) {
            slot.failures += 1;
        }
        let before = slot.breaker.state(now);
        slot.breaker.record(now, permit, verdict);
        (before, slot.breaker.state(now))
    }

    /// Takes an endpoint's head: `height` of its latest block and whether it is syncing.
    ///
    /// The lag is counted here, against what the others have told so far: that can only be older than this
    /// observation, so an endpoint is never taken to lag because nobody asked it for a while. Those that sync, or
    /// whose breaker is not closed, do not count: what a dead endpoint last said must not rule out a live one.
    pub fn observe_head(&mut self, id: EndpointId, height: u64, syncing: bool) {
        let others = self.slots.iter().enumerate().filter(|(at, _)| *at != id.index());
        let best = others
            .filter(|(_, slot)| !slot.syncing && slot.breaker.is_closed())
            .filter_map(|(_, slot)| slot.height)
            .max()
            .unwrap_or(0);
        if let Some(slot) = self.slots.get_mut(id.index()) {
            slot.height = Some(height);
            slot.syncing = syncing;
            slot.lag = best.saturating_sub(height);
        }
    }

    /// Takes the height of a block an endpoint answered with, which says nothing about syncing.
    pub fn observe_height(&mut self, id: EndpointId, height: u64) {
        let syncing = self.slots.get(id.index()).is_some_and(|slot| slot.syncing);
        self.observe_head(id, height, syncing);
    }

    /// Number of endpoints.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// All ids, in the operator's order.
    pub fn ids(&self) -> impl Iterator<Item = EndpointId> + use<> {
        (0..self.slots.len()).map(id_of)
    }

    /// The endpoint's name, free of credentials.
    pub fn name(&self, id: EndpointId) -> &str {
        self.slots.get(id.index()).map_or("?", |slot| &slot.name)
    }

    /// Every endpoint as seen at `now`.
    pub fn health(&self, now: Duration) -> Vec<EndpointHealth> {
        let health = |(at, slot): (usize, &Slot)| EndpointHealth {
            id: id_of(at),
            name: slot.name.clone(),
            breaker: slot.breaker.state(now),
            usable: slot.breaker.ready(now) && self.head_ok(slot),
            preferred: at == self.preferred,
            latest_height: slot.height,
            lag: slot.lag,
            syncing: slot.syncing,
            calls: slot.calls,
            failures: slot.failures,
        };
        self.slots.iter().enumerate().map(health).collect()
    }

    fn head_ok(&self, slot: &Slot) -> bool {
        !slot.syncing && slot.lag <= self.max_lag_blocks
    }
}

/// [`Config`](crate::Config) bounds the number of endpoints far below `u16::MAX`.
fn id_of(at: usize) -> EndpointId {
    EndpointId(at as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: EndpointId = EndpointId::new(0);
    const B: EndpointId = EndpointId::new(1);
    const C: EndpointId = EndpointId::new(2);

    fn three() -> Endpoints {
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        let breaker = breaker::Config { consecutive_failures: 1, jitter: 0.0, ..breaker::Config::default() };
        Endpoints::new(names, breaker, 10, 1)
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Selects, and gives the permit back as a call that was given up.
    fn chosen(endpoints: &mut Endpoints, now: Duration, route: Route) -> Option<EndpointId> {
        let (id, permit) = endpoints.select(now, route, &[], false)?;
        endpoints.record(now, id, permit, Verdict::Abandoned);
        Some(id)
    }

    fn fail(endpoints: &mut Endpoints, now: Duration, id: EndpointId) {
        let (selected, permit) = endpoints.select(now, Route::Only(id), &[], false).unwrap();
        endpoints.record(now, selected, permit, Verdict::Failure);
    }

    #[test]
    fn chooses_as_the_table_says() {
        type Setup = fn(&mut Endpoints);
        let table: &[(&str, Setup, Route, Option<EndpointId>)] = &[
            ("the first is preferred", |_| {}, Route::Any, Some(A)),
            ("only one", |_| {}, Route::Only(C), Some(C)),
            ("all but the preferred", |_| {}, Route::Except(0b001), Some(B)),
            ("all but two", |_| {}, Route::Except(0b101), Some(B)),
            ("all but all", |_| {}, Route::Except(0b111), None),
            ("an unknown endpoint", |_| {}, Route::Only(EndpointId::new(9)), None),
            ("an open breaker is passed over", |e| fail(e, at(0), A), Route::Any, Some(B)),
            ("Only does not get past an open breaker", |e| fail(e, at(0), A), Route::Only(A), None),
            (
                "two open",
                |e| {
                    fail(e, at(0), A);
                    fail(e, at(0), B);
                },
                Route::Any,
                Some(C),
            ),
            ("all open", |e| [A, B, C].map(|id| fail(e, at(0), id)).into_iter().collect(), Route::Any, None),
            ("syncing is passed over", |e| e.observe_head(A, 100, true), Route::Any, Some(B)),
            ("Only gets a syncing one", |e| e.observe_head(A, 100, true), Route::Only(A), Some(A)),
            (
                "lagging is passed over",
                |e| {
                    e.observe_head(B, 111, false);
                    e.observe_head(A, 100, false);
                },
                Route::Any,
                Some(B),
            ),
            (
                "a lag within bounds is none",
                |e| {
                    e.observe_head(B, 110, false);
                    e.observe_head(A, 100, false);
                },
                Route::Any,
                Some(A),
            ),
            (
                "an old observation is no lag",
                |e| {
                    e.observe_head(A, 100, false);
                    e.observe_head(B, 5000, false);
                },
                Route::Any,
                Some(A),
            ),
            (
                "the height of a syncing node does not count",
                |e| {
                    e.observe_head(B, 5000, true);
                    e.observe_head(A, 100, false);
                },
                Route::Any,
                Some(A),
            ),
            (
                "what a dead node said does not count",
                |e| {
                    e.observe_head(B, 5000, false);
                    fail(e, at(0), B);
                    e.observe_head(A, 100, false);
                },
                Route::Any,
                Some(A),
            ),
            (
                "a chain that began anew",
                |e| {
                    e.observe_head(A, 5000, false);
                    e.observe_head(A, 1, false);
                },
                Route::Any,
                Some(A),
            ),
        ];
        for (name, setup, route, expected) in table {
            let mut endpoints = three();
            setup(&mut endpoints);
            assert_eq!(chosen(&mut endpoints, at(0), *route), *expected, "{name}");
        }
    }

    #[test]
    fn sticks_to_its_choice() {
        let mut endpoints = three();
        fail(&mut endpoints, at(0), A);
        assert_eq!(chosen(&mut endpoints, at(0), Route::Any), Some(B));
        // A could be probed by now: B stays, and a call on another route changes nothing.
        assert_eq!(chosen(&mut endpoints, at(100), Route::Only(C)), Some(C));
        assert_eq!(chosen(&mut endpoints, at(100), Route::Any), Some(B));
        endpoints.observe_head(B, 7, true);
        assert_eq!(chosen(&mut endpoints, at(100), Route::Any), Some(C), "healthy before half-open");
        endpoints.observe_head(B, 8, false);
        assert_eq!(chosen(&mut endpoints, at(100), Route::Any), Some(C));
    }

    #[test]
    fn the_last_resort_is_a_probe() {
        let mut endpoints = three();
        for id in [A, B, C] {
            fail(&mut endpoints, at(0), id);
        }
        assert_eq!(endpoints.wait(at(0), Route::Any), Some(at(1)));
        let (first, _held) = endpoints.select(at(2), Route::Any, &[], false).unwrap();
        let (second, _held) = endpoints.select(at(2), Route::Any, &[], false).unwrap();
        assert_ne!(first, second, "one probe each");
        assert_eq!(endpoints.wait(at(2), Route::Only(first)), None, "a probe is under way");
    }

    #[test]
    fn tried_ones_are_not_tried_again() {
        let mut endpoints = three();
        let mut tried = Vec::new();
        while let Some((id, permit)) = endpoints.select(at(0), Route::Any, &tried, false) {
            endpoints.record(at(0), id, permit, Verdict::Failure);
            tried.push(id);
        }
        assert_eq!(tried, [A, B, C]);
    }

    #[test]
    fn asking_for_the_head_reaches_those_that_lag() {
        let mut endpoints = three();
        for id in [A, B, C] {
            endpoints.observe_head(id, 1, true);
        }
        assert_eq!(chosen(&mut endpoints, at(0), Route::Any), None);
        assert!(endpoints.select(at(0), Route::Any, &[], true).is_some());
        endpoints.observe_height(A, 2);
        assert_eq!(chosen(&mut endpoints, at(0), Route::Any), None, "a block says nothing about syncing");
        endpoints.observe_head(A, 3, false);
        assert_eq!(chosen(&mut endpoints, at(0), Route::Any), Some(A));
    }

    #[test]
    fn health_tells_what_happened() {
        let mut endpoints = three();
        fail(&mut endpoints, at(0), A);
        endpoints.observe_head(C, 50, false);
        endpoints.observe_head(B, 30, false);
        assert_eq!(chosen(&mut endpoints, at(0), Route::Any), Some(C));
        let health = endpoints.health(at(0));
        let row = |id: EndpointId| {
            let h = &health[id.index()];
            (h.name.as_str(), h.breaker, h.usable, h.preferred, h.latest_height, h.lag, h.calls, h.failures)
        };
        assert_eq!(row(A), ("a", BreakerState::Open, false, false, None, 0, 1, 1));
        assert_eq!(row(B), ("b", BreakerState::Closed, false, false, Some(30), 20, 0, 0));
        assert_eq!(row(C), ("c", BreakerState::Closed, true, true, Some(50), 0, 1, 0));
    }
}
