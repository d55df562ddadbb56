//! Something to do for the service: the open load of `keyshard-bench`, one transfer a request, at a rate that stays.
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use keyshard_bench::{
    load::{self, Live, Running, Settings, Target},
    plan::{Phase, Plan},
    script::{Draw, Kind, Script, Skew},
};

/// Most connections at once. A request waits about two blocks for its answer.
pub const MAX_CONNECTIONS: usize = 10_000;
/// How long a request may take, in seconds.
const TIMEOUT_S: f64 = 60.0;

/// A running load.
pub struct Load {
    live: Arc<Live>,
    running: Running,
}

/// What became of requests so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Answered 2xx.
    pub accepted: u64,
    /// Answered anything else, or not at all.
    pub refused: u64,
}

impl Load {
    /// Begins to ask for `rate` transfers a second, for `time` at most.
    pub fn start(
        address: SocketAddr,
        rate: f64,
        time: Duration,
        receivers: &[String],
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let phase = Phase { name: "steady".into(), seconds: time.as_secs_f64(), rate, to: None, sustained: true };
        let draw = Draw { receivers: receivers.to_vec(), skew: Skew::Uniform, fresh: 0.0, amount: 1, seed: 1 };
        let script = Script::new(Plan::new(vec![phase])?, vec![Kind::of(1)], draw, "flamegraph".into())?;
        let target = Target { address, host: address.to_string(), prefix: String::new() };
        let settings =
            Settings { threads: 1, connections: MAX_CONNECTIONS, timeout_s: TIMEOUT_S, respond_async: false };
        let live = Arc::new(Live::default());
        let running = load::open(&target, &Arc::new(script), &settings, &live, Instant::now())?;
        Ok(Self { live, running })
    }

    /// What became of requests so far.
    pub fn counts(&self) -> Counts {
        let Live { accepted, refused, unanswered, .. } = &*self.live;
        Counts { accepted: accepted.load(Relaxed), refused: refused.load(Relaxed) + unanswered.load(Relaxed) }
    }

    /// No more requests; returns once the open ones have their answers.
    pub fn stop(self) -> std::io::Result<()> {
        self.live.stop.store(true, Relaxed);
        self.running.join().map(drop)
    }
}
