//! Delivers what is in the outbox: many events side by side, and one at a time while the receiver takes none.
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use keyshard_engine::{
    Outbox,
    history::{Due, Outcome, Parcel, Settled},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep_until, timeout},
};

use super::{
    Clock, Stats,
    endpoint::Endpoint,
    event::Event,
    post::{Failure, Post},
    schedule,
};

/// Parcels that are read at once: at most some 2,000 events.
const LOAD: usize = 16;
/// Pause between two commits of what was delivered: each takes the disk from the journal for a while.
const SAVE_PAUSE_MS: u64 = 250;
/// Parcels whose outcome may wait for that.
const UNSAVED_MAX: usize = 1_000;
/// Pause between two looks at how full the outbox is.
const GAUGE_PAUSE_MS: u64 = 1_000;
/// How long the end waits for what is under way.
const GRACE: Duration = Duration::from_secs(2);
/// Longest sleep: nothing relies on it.
const LONGEST_SLEEP_MS: u64 = 60_000;
/// Why what was never tried itself is given up.
const NOBODY: &str = "the receiver took nothing for 24 h";

/// The life of the deliverer.
pub(super) struct Deliverer<P> {
    outbox: Outbox,
    receiver: Arc<P>,
    clock: Clock,
    at_once: usize,
    stats: Arc<Stats>,
    endpoint: Endpoint,
    /// Parcels that are being delivered.
    active: BTreeMap<u64, Active>,
    /// Their events that are not tried yet in this round: parcel, and place in it.
    ready: VecDeque<(u64, usize)>,
    running: JoinSet<Tried>,
    /// What became of parcels, and is not on the disk yet.
    outcomes: Vec<Outcome>,
    /// When the outbox has more; `None`: when it says so.
    look_ms: Option<u64>,
    saved_ms: u64,
    /// Whether the disk knows how the receiver is.
    endpoint_saved: bool,
    gauged_ms: u64,
    gauged: bool,
    /// Whether it is to be found out what had its day.
    sweep: bool,
    seed: u64,
}

/// A parcel in its round: each of its events is tried once.
struct Active {
    parcel: Parcel,
    delivered: Vec<bool>,
    /// Events that are not tried yet, or are being tried.
    open: usize,
    running: usize,
    /// Why one was not taken, the last time.
    why: Option<Failure>,
}

/// One try: of which event, and how it ended.
type Tried = (u64, usize, Result<(), Failure>);

impl<P: Post> Deliverer<P> {
    pub(super) fn new(outbox: Outbox, receiver: Arc<P>, clock: Clock, at_once: usize, stats: Arc<Stats>) -> Self {
        let now = clock.now_ms();
        let endpoint = Endpoint::new(outbox.fill().failing_since_ms, now);
        Self {
            outbox,
            receiver,
            clock,
            at_once,
            stats,
            endpoint,
            active: BTreeMap::new(),
            ready: VecDeque::new(),
            running: JoinSet::new(),
            outcomes: Vec::new(),
            look_ms: Some(0),
            saved_ms: 0,
            endpoint_saved: true,
            gauged_ms: 0,
            gauged: false,
            sweep: false,
            seed: now,
        }
    }

    /// Until it is told to stop; then what is known is put down.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let now = self.clock.now_ms();
            if std::mem::take(&mut self.sweep) {
                self.sweep(now).await;
            }
            self.load(now);
            self.start(now);
            self.save_if_due(now);
            self.gauge(now);
            let wake = self.clock.at(self.wake_ms(now));
            tokio::select! {
                biased;
                changed = stop.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
                Some(tried) = self.running.join_next() => {
                    self.tried(tried);
                    while let Some(tried) = self.running.try_join_next() {
                        self.tried(tried);
                    }
                }
                () = self.outbox.announced() => {
                    (self.look_ms, self.gauged) = (Some(0), false);
                }
                () = sleep_until(wake) => {}
            }
        }
        self.end().await;
    }

    fn is_failing(&self) -> bool {
        self.endpoint.failing_since_ms().is_some()
    }

    /// Whether more may be read: what waits waits on the disk.
    fn may_load(&self) -> bool {
        if self.is_failing() { self.ready.is_empty() } else { self.ready.len() < self.at_once }
    }

    fn load(&mut self, now: u64) {
        if !self.may_load() || self.look_ms.is_none_or(|look| look > now) {
            return;
        }
        let limit = if self.is_failing() { 1 } else { LOAD };
        let Due { parcels, next_ms } = self.outbox.due(now, &self.known(), limit);
        self.look_ms = next_ms;
        for parcel in parcels {
            let count = parcel.settled.len();
            self.ready.extend((0..count).map(|index| (parcel.number, index)));
            let active = Active { delivered: vec![false; count], open: count, running: 0, why: None, parcel };
            self.active.insert(active.parcel.number, active);
        }
    }

    /// Parcels that are in memory.
    fn known(&self) -> BTreeSet<u64> {
        self.active.keys().copied().chain(self.outcomes.iter().map(|outcome| outcome.number)).collect()
    }

    fn start(&mut self, now: u64) {
        while self.endpoint.room(self.running.len(), self.at_once, now) > 0
            && let Some((number, index)) = self.ready.pop_front()
        {
            let Some(active) = self.active.get_mut(&number) else { continue };
            active.running += 1;
            active.parcel.first_try_ms.get_or_insert(now);
            let event = Event::of(active.parcel.settled[index].clone());
            let receiver = Arc::clone(&self.receiver);
            self.endpoint.tries();
            self.running.spawn(async move { (number, index, receiver.post(&event, now / 1_000).await) });
        }
    }

    fn tried(&mut self, tried: Result<Tried, tokio::task::JoinError>) {
        let (number, index, result) = match tried {
            Ok(tried) => tried,
            // The next life of the deliverer begins with what is on the disk.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let now = self.clock.now_ms();
        self.stats.tried(&result);
        let is_first_try = self.active.get(&number).is_some_and(|active| active.parcel.attempts == 0);
        let is_there = result.as_ref().map_or_else(Failure::is_of_the_event, |()| true);
        match &result {
            _ if is_there => {
                if self.endpoint.takes() {
                    tracing::info!("the receiver of webhooks takes events again");
                    self.endpoint_saved = false;
                    self.look_ms = Some(0);
                }
            }
            Ok(()) => {}
            Err(why) => {
                if self.endpoint.fails(is_first_try, now, schedule::random(self.seed, now)) {
                    tracing::warn!(
                        "webhooks are not taken: {why}. One event at a time is tried from now on, the rest waits"
                    );
                    self.endpoint_saved = false;
                }
                self.sweep = true;
            }
        }
        let Some(active) = self.active.get_mut(&number) else { return };
        active.running -= 1;
        active.open -= 1;
        match result {
            Ok(()) => active.delivered[index] = true,
            Err(why) => active.why = Some(why),
        }
        if active.open == 0
            && let Some(active) = self.active.remove(&number)
        {
            self.conclude(active, now);
        }
    }

    /// Each event of the parcel was tried.
    fn conclude(&mut self, active: Active, now: u64) {
        let first_ms = active.parcel.first_try_ms.unwrap_or(now);
        let attempts = active.parcel.attempts.saturating_add(1);
        let random = schedule::random(self.seed, active.parcel.number.wrapping_mul(64) + u64::from(attempts));
        let next = schedule::next_ms(first_ms, attempts, now, random);
        let why = active.why.as_ref().map(ToString::to_string);
        let dead = if next.is_none() { why.or_else(|| Some(NOBODY.to_owned())) } else { None };
        let mut outcome = active.outcome(next.unwrap_or(now));
        outcome.attempts = attempts;
        if !outcome.left.is_empty() {
            if let Some(why) = &dead {
                report_dead(outcome.left.len() as u64, why);
            }
            outcome.dead = dead;
        }
        self.outcomes.push(outcome);
    }

    /// While the receiver takes nothing, each try speaks for all events that wait: those that waited for a day are given up.
    async fn sweep(&mut self, now: u64) {
        let Some(until) = self.endpoint.given_up_ms(now) else { return };
        let idle = |active: &Active| active.running == 0 && active.parcel.due_ms <= until;
        let old: Vec<u64> = self.active.iter().filter(|(_, active)| idle(active)).map(|(number, _)| *number).collect();
        let mut events = 0;
        for number in old {
            if let Some(active) = self.active.remove(&number) {
                self.ready.retain(|(other, _)| *other != number);
                let outcome = Outcome { dead: Some(NOBODY.to_owned()), ..active.outcome(now) };
                events += outcome.left.len() as u64;
                self.outcomes.push(outcome);
            }
        }
        self.save(now);
        loop {
            let (buried, more) = self.outbox.bury(until, &self.known(), NOBODY, now);
            events += buried;
            if !more {
                break;
            }
            tokio::task::yield_now().await;
        }
        if events > 0 {
            report_dead(events, NOBODY);
            self.gauged = false;
        }
    }

    fn save_if_due(&mut self, now: u64) {
        let is_due = now >= self.saved_ms + SAVE_PAUSE_MS || self.outcomes.len() >= UNSAVED_MAX;
        if is_due && self.is_unsaved() {
            self.save(now);
        }
    }

    fn is_unsaved(&self) -> bool {
        !self.outcomes.is_empty() || !self.endpoint_saved
    }

    fn save(&mut self, now: u64) {
        self.outbox.dispatched(&self.outcomes, self.endpoint.failing_since_ms());
        let later = self.outcomes.drain(..).filter(|outcome| !outcome.left.is_empty() && outcome.dead.is_none());
        if let Some(next) = later.map(|outcome| outcome.at_ms).min() {
            self.look_ms = Some(self.look_ms.map_or(next, |look| look.min(next)));
        }
        (self.saved_ms, self.endpoint_saved, self.gauged) = (now, true, false);
    }

    fn gauge(&mut self, now: u64) {
        if !self.gauged && now >= self.gauged_ms + GAUGE_PAUSE_MS {
            self.stats.fill(&self.outbox.fill(), self.is_failing());
            (self.gauged, self.gauged_ms) = (true, now);
        }
    }

    /// When there is something to do if nothing happens before.
    fn wake_ms(&self, now: u64) -> u64 {
        let look = self.look_ms.filter(|_| self.may_load());
        let probe = self.endpoint.next_ms().filter(|_| !self.ready.is_empty() && self.running.is_empty());
        let save = self.is_unsaved().then_some(self.saved_ms + SAVE_PAUSE_MS);
        let gauge = (!self.gauged).then_some(self.gauged_ms + GAUGE_PAUSE_MS);
        [look, probe, save, gauge].into_iter().flatten().min().unwrap_or(u64::MAX).min(now + LONGEST_SLEEP_MS)
    }

    async fn end(mut self) {
        let _ = timeout(GRACE, async {
            while let Some(tried) = self.running.join_next().await {
                self.tried(tried);
            }
        })
        .await;
        let begun = std::mem::take(&mut self.active).into_values().filter(|active| active.delivered.contains(&true));
        for active in begun {
            let due_ms = active.parcel.due_ms;
            self.outcomes.push(active.outcome(due_ms));
        }
        if self.is_unsaved() {
            let now = self.clock.now_ms();
            self.save(now);
        }
    }
}

impl Active {
    /// What is left of the parcel, due again at this time.
    fn outcome(self, at_ms: u64) -> Outcome {
        let Parcel { number, attempts, first_try_ms, settled, .. } = self.parcel;
        let left: Vec<Settled> = settled
            .into_iter()
            .zip(self.delivered)
            .filter(|(_, delivered)| !delivered)
            .map(|(settled, _)| settled)
            .collect();
        Outcome { number, left, at_ms, attempts, first_try_ms, dead: None }
    }
}

fn report_dead(events: u64, why: &str) {
    tracing::error!(
        events,
        "webhook events were given up after 24 h: {why}. They are kept: `keyshard webhooks replay --dead` sends them again"
    );
}

#[cfg(test)]
mod tests;
