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
    /// Any other than this one: for a second opinion.
    Except(EndpointId),
}

impl Route {
    fn allows(self, id: EndpointId) -> bool {
        match self {
            Route::Any => true,
            Route::Only(only) => id == only,
            Route::Except(not) => id != not,
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
        Endpoints {
            slots: slots.collect(),
            preferred: 0,
            max_lag_blocks,
        }
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
        allowed
            .filter_map(|(_, slot)| slot.breaker.wait(now))
            .min()
            .filter(|wait| !wait.is_zero())
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
    /// observation, so an endpoint is never taken to lag because nobody asked it for a while.
    pub fn observe_head(&mut self, id: EndpointId, height: u64, syncing: bool) {
        let others = self.slots.iter().enumerate().filter(|(at, _)| *at != id.index());
        let best = others
            .filter(|(_, slot)| !slot.syncing)
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
