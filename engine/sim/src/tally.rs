//! Counts what was met, so that a run shows what it has tried.
use std::collections::BTreeMap;

/// How often each thing happened.
#[derive(Debug, Clone, Default)]
pub struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    /// It happened once more.
    pub fn met(&mut self, what: &'static str) {
        self.met_times(what, 1);
    }

    /// It happened so many more times.
    pub fn met_times(&mut self, what: &'static str, times: u64) {
        if times > 0 {
            *self.0.entry(what).or_default() += times;
        }
    }

    /// All that another has counted happened, too.
    pub fn add(&mut self, other: &Self) {
        for (what, times) in other.iter() {
            self.met_times(what, times);
        }
    }

    /// What happened how often, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(what, times)| (*what, *times))
    }
}
