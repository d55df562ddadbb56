//! Where more cores would end: how many transfers a second the service could settle on so many of them, by what a transfer
//! costs each kind of thread here, and what would be at its limit first. Pure.
//!
//! Threads that clients or keys are divided among ([`ELASTIC`]) can be as many as there are cores; of every other kind there
//! is one, and one thread is at its limit when it is on a CPU all the time.
use crate::costs::Costs;

/// Kinds of threads of which there can be many.
pub const ELASTIC: [&str; 2] = ["http", "shard"];

/// What the model says of so many cores.
#[derive(Debug, Clone, PartialEq)]
pub struct Reach {
    /// Cores, all for the service.
    pub cores: f64,
    /// Transfers a second.
    pub per_s: f64,
    /// What is at its limit first: a kind of thread, or `all cores`.
    pub bound_by: String,
    /// Threads of each elastic kind that this takes.
    pub threads: Vec<(String, usize)>,
    /// Megabytes a second that go to the disk meanwhile.
    pub disk_mb_per_s: f64,
}

/// The most that so many cores would settle.
pub fn reach(costs: &Costs, cores: f64) -> Reach {
    let all = ("all cores".to_owned(), cores * 1e6 / costs.total_us().max(1e-9));
    let single = costs.us.iter().filter(|(role, us)| !ELASTIC.contains(&role.as_str()) && **us > 0.0);
    let single = single.map(|(role, us)| (role.clone(), 1e6 / us));
    // Of equal limits the first named counts.
    let (bound_by, per_s) = single.fold(all, |least, other| if other.1 < least.1 { other } else { least });
    let threads = ELASTIC.iter().map(|role| {
        let needed = per_s * costs.of(role) / 1e6;
        ((*role).to_owned(), (needed - 1e-9).ceil().max(1.0) as usize)
    });
    Reach { cores, per_s, bound_by, threads: threads.collect(), disk_mb_per_s: per_s * costs.written_bytes / 1e6 }
}

/// From how many cores on more of them change nothing, and what stands in the way then; `None` if nothing does.
pub fn last_useful_core(costs: &Costs) -> Option<(f64, String)> {
    let endless = reach(costs, f64::INFINITY);
    endless.per_s.is_finite().then(|| (endless.per_s * costs.total_us() / 1e6, endless.bound_by))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(us: &[(&str, f64)]) -> Costs {
        let us = us.iter().map(|(role, us)| ((*role).to_owned(), *us)).collect();
        Costs { us, written_bytes: 500.0, ..Costs::default() }
    }

    #[test]
    fn few_cores_are_shared_and_many_wait_for_the_one_thread() {
        let costs = costs(&[("http", 20.0), ("shard", 10.0), ("journal", 5.0), ("history", 4.0), ("main", 1.0)]);
        // 40 us in all: 50,000 a second on two cores.
        let two = reach(&costs, 2.0);
        assert!((two.per_s - 50_000.0).abs() < 1e-3 && two.bound_by == "all cores", "{two:?}");
        assert_eq!(two.threads, [("http".to_owned(), 1), ("shard".to_owned(), 1)]);
        assert!((two.disk_mb_per_s - 25.0).abs() < 1e-6);
        // The journal's thread writes 200,000 a second: that takes 8 cores, and 64 do not help.
        for cores in [8.0, 64.0] {
            let reach = reach(&costs, cores);
            assert!((reach.per_s - 200_000.0).abs() < 1e-3);
            assert_eq!(reach.threads, [("http".to_owned(), 4), ("shard".to_owned(), 2)]);
        }
        assert_eq!(reach(&costs, 64.0).bound_by, "journal");
        let (cores, what) = last_useful_core(&costs).unwrap();
        assert!((cores - 8.0).abs() < 1e-9 && what == "journal");
    }

    #[test]
    fn without_a_single_thread_there_is_no_end() {
        let costs = costs(&[("http", 10.0), ("history", 0.0)]);
        assert_eq!(last_useful_core(&costs), None);
        assert!((reach(&costs, 64.0).per_s - 6_400_000.0).abs() < 1e-3);
    }
}
