//! When each request is due: phases of a rate that stands or ramps, and the instant of every request in them. Pure.
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Requests that a plan may have: each costs about 40 bytes of memory while it runs.
pub const MAX_REQUESTS: u64 = 20_000_000;

/// A stretch of time with a rate of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// What it is for: `Warm-up`.
    pub name: String,
    /// How long it takes.
    pub seconds: f64,
    /// Requests a second at its beginning.
    pub rate: f64,
    /// Requests a second at its end; the rate changes linearly. Default: stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<f64>,
    /// Whether this is the phase that the profile is about.
    #[serde(default)]
    pub sustained: bool,
}

impl Phase {
    fn end_rate(&self) -> f64 {
        self.to.unwrap_or(self.rate)
    }

    fn requests(&self) -> f64 {
        f64::midpoint(self.rate, self.end_rate()) * self.seconds
    }

    /// When the cumulative count within this phase reaches `count`, in seconds since its beginning.
    fn instant(&self, count: f64) -> f64 {
        let change = (self.end_rate() - self.rate) / self.seconds;
        // a t + c t^2 / 2 = n, in the form that stays exact where c is small or a is zero.
        let root = (self.rate * self.rate + 2.0 * change * count).max(0.0).sqrt();
        if self.rate + root > 0.0 { 2.0 * count / (self.rate + root) } else { 0.0 }
    }
}

/// Phases one after the other, with the instant of each request.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    phases: Vec<Phase>,
    /// For each phase: when it begins, and how many requests are due before it.
    begins: Vec<(f64, f64)>,
    seconds: f64,
    requests: u64,
}

/// Why phases make no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing to do.
    #[error("there is no phase with a request in it")]
    Empty,
    /// A number that means nothing.
    #[error("phase {0:?}: seconds must be above 0, rates 0 or more, and both below a million")]
    Number(String),
    /// More than can be remembered.
    #[error("{0} requests are more than the {MAX_REQUESTS} that fit into memory: shorten it or lower the rate")]
    TooLong(u64),
}

impl Plan {
    /// Puts phases one after the other.
    pub fn new(phases: Vec<Phase>) -> Result<Self, PlanError> {
        let (mut seconds, mut count) = (0.0, 0.0);
        let mut begins = Vec::with_capacity(phases.len());
        for phase in &phases {
            let rates = [phase.rate, phase.end_rate()];
            let usable = |number: f64| (0.0..1e6).contains(&number);
            if !(rates.into_iter().all(usable) && usable(phase.seconds) && phase.seconds > 0.0) {
                return Err(PlanError::Number(phase.name.clone()));
            }
            begins.push((seconds, count));
            seconds += phase.seconds;
            count += phase.requests();
        }
        // The i-th request is due when the count reaches i, so one more fits if the count does not end on a whole number.
        let requests = (count - 1e-6).ceil().max(0.0) as u64;
        match requests {
            0 => Err(PlanError::Empty),
            1..=MAX_REQUESTS => Ok(Self { phases, begins, seconds, requests }),
            more => Err(PlanError::TooLong(more)),
        }
    }

    /// One rate for so long.
    pub fn steady(rate: f64, seconds: f64) -> Result<Self, PlanError> {
        Self::new(vec![Phase { name: "Steady".into(), seconds, rate, to: None, sustained: true }])
    }

    /// The same rates for other times: `0.1` makes ten minutes one.
    pub fn scaled(mut phases: Vec<Phase>, time: f64) -> Result<Self, PlanError> {
        for phase in &mut phases {
            phase.seconds *= time;
        }
        Self::new(phases)
    }

    /// The phases.
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// All phases together.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// How many requests are due altogether.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// When a request is due, since the beginning. They are numbered from 0 and due in this order.
    pub fn instant(&self, request: u64) -> Duration {
        let count = request as f64;
        let at = self.begins.partition_point(|(_, before)| *before <= count).saturating_sub(1);
        // A phase without requests begins with the same count as the next: the next is the one meant.
        let (begin, before) = self.begins[at];
        let phase = &self.phases[at];
        Duration::from_secs_f64(begin + phase.instant(count - before).min(phase.seconds))
    }

    /// From when until when the phases that the plan is about run: all of them if none is marked.
    pub fn sustained(&self) -> (f64, f64) {
        let marked: Vec<_> = (0..self.phases.len()).filter(|at| self.phases[*at].sustained).collect();
        match (marked.first(), marked.last()) {
            (Some(first), Some(last)) => (self.begins[*first].0, self.begins[*last].0 + self.phases[*last].seconds),
            _ => (0.0, self.seconds),
        }
    }

    /// The rate at this time, in requests a second.
    pub fn rate_at(&self, seconds: f64) -> f64 {
        let at = self.begins.partition_point(|(begin, _)| *begin <= seconds).saturating_sub(1);
        let phase = &self.phases[at];
        let share = ((seconds - self.begins[at].0) / phase.seconds).clamp(0.0, 1.0);
        phase.rate + (phase.end_rate() - phase.rate) * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(seconds: f64, rate: f64, to: Option<f64>) -> Phase {
        Phase { name: "p".into(), seconds, rate, to, sustained: false }
    }

    fn instants(plan: &Plan) -> Vec<f64> {
        (0..plan.requests()).map(|request| plan.instant(request).as_secs_f64()).collect()
    }

    #[test]
    fn a_steady_rate_is_evenly_spaced() {
        let plan = Plan::steady(4.0, 1.5).unwrap();
        assert_eq!(instants(&plan), [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]);
    }

    #[test]
    fn a_ramp_has_the_rate_it_says_everywhere() {
        let plan =
            Plan::new(vec![phase(100.0, 10.0, Some(30.0)), phase(50.0, 30.0, None), phase(100.0, 30.0, Some(0.0))]);
        let plan = plan.unwrap();
        assert_eq!(plan.requests(), 2_000 + 1_500 + 1_500);
        let instants = instants(&plan);
        assert!(instants.windows(2).all(|pair| pair[0] <= pair[1]) && *instants.last().unwrap() <= 250.0);
        for (from, until) in [(0.0, 10.0), (45.0, 55.0), (110.0, 120.0), (190.0, 200.0)] {
            let found = instants.iter().filter(|at| (from..until).contains(*at)).count() as f64;
            let expected = plan.rate_at(f64::midpoint(from, until)) * (until - from);
            assert!((found - expected).abs() <= 1.0, "{from}..{until}: {found}, not {expected}");
        }
    }

    #[test]
    fn silent_phases_only_take_time() {
        let plan = Plan::new(vec![phase(5.0, 0.0, None), phase(1.0, 2.0, None), phase(5.0, 0.0, None)]).unwrap();
        assert_eq!(instants(&plan), [5.0, 5.5]);
        assert!((plan.seconds() - 11.0).abs() < 1e-9);
    }

    #[test]
    fn only_the_time_is_scaled() {
        let plan = Plan::scaled(vec![phase(60.0, 10.0, Some(30.0)), phase(600.0, 50.0, None)], 0.1).unwrap();
        assert_eq!(plan.requests(), 120 + 3_000);
        assert!((plan.rate_at(30.0) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn the_sustained_part_is_the_marked_one() {
        let marked = Phase { sustained: true, ..phase(600.0, 50.0, None) };
        let plan = Plan::new(vec![phase(60.0, 10.0, Some(30.0)), marked, phase(60.0, 10.0, None)]).unwrap();
        assert_eq!(plan.sustained(), (60.0, 660.0));
        assert_eq!(Plan::steady(1.0, 9.0).unwrap().sustained(), (0.0, 9.0));
    }

    #[test]
    fn what_makes_no_plan_is_refused() {
        for (phases, error) in [
            (vec![], PlanError::Empty),
            (vec![phase(5.0, 0.0, None)], PlanError::Empty),
            (vec![phase(0.0, 5.0, None)], PlanError::Number("p".into())),
            (vec![phase(1.0, -5.0, None)], PlanError::Number("p".into())),
            (vec![phase(1.0, f64::NAN, None)], PlanError::Number("p".into())),
            (vec![phase(1.0, 1.0, Some(f64::INFINITY))], PlanError::Number("p".into())),
            (vec![phase(100.0, 500_000.0, None)], PlanError::TooLong(50_000_000)),
        ] {
            assert_eq!(Plan::new(phases).unwrap_err(), error);
        }
    }
}
