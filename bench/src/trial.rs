//! One load from beginning to end: offer it, wait until the chain has settled, and say what became of every transfer.
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    chain::{Node, NodeError, Seen, State, Watch, watch::Scope},
    jobs::{self, Job},
    ledger::{Counts, Landed, Told},
    load::{self, Answer, Live, Log, Running, Settings},
    machine::Clocks,
    measure,
    progress::Progress,
    report::{Generator, Run},
    script::Script,
    stand::{Service, Stand},
};

/// From the decision to begin until the first request: threads have to start.
const LEAD: Duration = Duration::from_millis(200);
/// Pause between two looks at how it goes.
const LOOK: Duration = Duration::from_millis(100);
/// Final blocks without anything new after which what has landed is taken for all: one more than it takes a transaction
/// from a node's pool into a block.
const QUIET: u64 = 2;
/// Final blocks without anything new after which the service is asked what became of the rest.
const ASK_AFTER: u64 = 6;
/// A load is hopeless once its backlog has grown by this share of all that was offered, for so long.
const HOPELESS: (f64, Duration) = (0.08, Duration::from_secs(20));

/// A load to be run.
#[derive(Debug)]
pub struct Trial {
    /// Its name in the report.
    pub name: String,
    /// What it offers.
    pub script: Arc<Script>,
    /// How it is made.
    pub settings: Settings,
    /// How long to wait for the chain after the last answer.
    pub settle: Duration,
    /// Seconds for which connections send one request after the other, instead of when requests are due.
    pub closed_s: Option<f64>,
    /// Whether to end early when the backlog can only grow.
    pub give_up: bool,
    /// Whether the chain is read while the load runs, or only afterwards.
    pub watch_live: bool,
}

/// Why a load has no result.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The chain cannot be read.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Something of this machine failed.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// The chain could not be read any more.
    #[error("the chain cannot be read: {0}")]
    Chain(String),
    /// What is measured is no longer there.
    #[error("{0}")]
    Gone(String),
    /// Somebody wants it to end.
    #[error("interrupted")]
    Interrupted,
}

impl Trial {
    /// Runs it.
    pub async fn run(&self, stand: &mut Stand, progress: &Progress) -> Result<Run, TrialError> {
        let service = stand.service.clone().ok_or_else(|| TrialError::Gone("there is no service".into()))?;
        let live = Arc::new(Live::default());
        let after = stand.node.last_final().await?.height;
        let (start, unix_ns) = beginning();
        let watch = self.watch(stand, unix_ns, after)?;
        let processes = stand.processes();
        let clocks = Clocks::now(&processes);
        let clocked = Instant::now();
        let running = match self.closed_s {
            None => load::open(&service.target, &self.script, &self.settings, &live, start)?,
            Some(seconds) => load::closed(&service.target, &self.script, &self.settings, &live, start, seconds)?,
        };
        let aborted = self.follow(stand, &running, &live, &watch, progress).await?;
        let usage = Clocks::now(&processes).since(&clocks, clocked.elapsed().as_secs_f64(), &processes);
        let log = running.join()?;

        let over = Instant::now();
        watch.look();
        let jobs = self.settle(&service, &log, &watch, progress).await?;
        let settling_s = over.elapsed().as_secs_f64();
        let seen = watch.end();
        if let Some(failure) = seen.failure {
            return Err(TrialError::Chain(failure));
        }
        let transfers = count(&self.script, &log, &seen, &jobs);
        let mut run = measure::run(&self.script, &log, &seen, self.closed_s);
        run.name.clone_from(&self.name);
        run.transfers = transfers;
        run.settling_s = settling_s;
        run.usage = usage;
        run.generator = Generator {
            threads: self.settings.threads,
            connections: self.settings.connections,
            opened: log.opened,
            peak_open: log.peak_open,
            peak_waiting: log.peak_waiting,
            busy: log.busy_s.iter().map(|busy| busy / log.seconds.max(1e-9)).collect(),
            not_followed: log.not_kept,
            aborted,
        };
        Ok(run)
    }

    fn watch(&self, stand: &Stand, began_unix_ns: u64, after: u64) -> Result<Watch, TrialError> {
        let scope =
            Scope { token: stand.token.clone(), payer: stand.payer.clone(), began_unix_ns, every: stand.look_every };
        Ok(Watch::start(Node::clone(&stand.node), scope, &self.script, after, self.watch_live)?)
    }

    /// Shows how it goes until every request has ended. Whether it was ended early.
    async fn follow(
        &self,
        stand: &mut Stand,
        running: &Running,
        live: &Live,
        watch: &Watch,
        progress: &Progress,
    ) -> Result<bool, TrialError> {
        let mut aborted = false;
        let mut at_first: Option<(Duration, f64)> = None;
        while !running.is_over() {
            tokio::time::sleep(LOOK).await;
            if progress.interrupted() {
                live.stop.store(true, Relaxed);
                return Err(TrialError::Interrupted);
            }
            if let Some(gone) = stand.is_gone() {
                live.stop.store(true, Relaxed);
                return Err(TrialError::Gone(gone));
            }
            let landed = watch.seen().landed;
            let elapsed = running.start().elapsed();
            progress.load(elapsed, self.script.plan(), live, landed);
            if self.give_up && self.watch_live && !aborted {
                let offered = live.offered.load(Relaxed) as f64;
                let gone = (live.refused.load(Relaxed) + live.unanswered.load(Relaxed)) as f64;
                let backlog = offered - gone - landed as f64;
                let (share, patience) = HOPELESS;
                match at_first {
                    // By then everything runs at its usual pace.
                    None if elapsed >= patience / 3 => at_first = Some((elapsed, backlog)),
                    Some((then, before)) if elapsed >= patience => {
                        let meanwhile = offered * elapsed.saturating_sub(then).as_secs_f64() / elapsed.as_secs_f64();
                        if backlog - before > share * meanwhile {
                            live.stop.store(true, Relaxed);
                            aborted = true;
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(aborted)
    }

    /// Waits until everything accepted has landed or is known to have failed. What the service says of what has not.
    async fn settle(
        &self,
        service: &Service,
        log: &Log,
        watch: &Watch,
        progress: &Progress,
    ) -> Result<jobs::Jobs, TrialError> {
        let deadline = Instant::now() + self.settle;
        let mut jobs = jobs::Jobs::default();
        let mut asked_at = 0;
        loop {
            if progress.interrupted() {
                return Err(TrialError::Interrupted);
            }
            let (missing, quiet, ask, walked) = {
                let seen = watch.seen();
                if let Some(failure) = &seen.failure {
                    return Err(TrialError::Chain(failure.clone()));
                }
                let missing = missing(&self.script, log, &seen, &jobs);
                (missing, seen.is_quiet_for(QUIET), seen.is_quiet_for(ASK_AFTER), seen.walked)
            };
            progress.settling(missing.len() as u64);
            if missing.is_empty() && quiet {
                return Ok(jobs);
            }
            let late = Instant::now() >= deadline;
            if late || (ask && walked >= asked_at + ASK_AFTER) {
                asked_at = walked;
                jobs::ask(service, &self.script, log, &missing, &mut jobs).await;
            }
            if late {
                return Ok(jobs);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// When the load begins, by both clocks: the second in nanoseconds since 1970.
pub fn beginning() -> (Instant, u64) {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + LEAD;
    (Instant::now() + LEAD, u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX))
}

/// A name for a load that no other on the same chain has.
pub fn tag() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("kb{:x}x{:x}", unix.as_micros(), COUNT.fetch_add(1, Relaxed))
}

/// Waits until everything accepted has landed and the chain is quiet, with no service to ask.
pub async fn settle_chain(
    script: &Script,
    log: &Log,
    watch: &Watch,
    progress: &Progress,
    limit: Duration,
    quiet: u64,
) -> Result<jobs::Jobs, TrialError> {
    let deadline = Instant::now() + limit;
    let jobs = jobs::Jobs::default();
    loop {
        if progress.interrupted() {
            return Err(TrialError::Interrupted);
        }
        let (missing, is_quiet) = {
            let seen = watch.seen();
            if let Some(failure) = &seen.failure {
                return Err(TrialError::Chain(failure.clone()));
            }
            (missing(script, log, &seen, &jobs), seen.is_quiet_for(quiet))
        };
        progress.settling(missing.len() as u64);
        if (missing.is_empty() && is_quiet) || Instant::now() >= deadline {
            return Ok(jobs);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Numbers of the transfers that were accepted and have neither landed nor failed.
fn missing(script: &Script, log: &Log, seen: &Seen, jobs: &jobs::Jobs) -> Vec<u64> {
    let accepted = (0..).zip(&log.records).filter(|(_, record)| matches!(record.answer, Answer::Status(200..=299)));
    accepted
        .flat_map(|(request, _)| script.numbers(request))
        .filter(|number| seen.landings[*number as usize] == 0 && jobs.of(*number) != Some(Job::Failed))
        .collect()
}

/// What became of every transfer.
pub(crate) fn count(script: &Script, log: &Log, seen: &Seen, jobs: &jobs::Jobs) -> Counts {
    // Executed, and not yet final when it was looked at last.
    let mut executed = std::collections::HashMap::new();
    for transaction in seen.transactions.iter().filter(|transaction| transaction.state == State::Executed(true)) {
        for number in &transaction.numbers {
            *executed.entry(*number).or_insert(0_u8) += 1;
        }
    }
    let mut counts = Counts::default();
    for (request, record) in (0..).zip(&log.records) {
        let ids = log.kept.get(&request).is_some_and(|body| jobs::has_ids(body));
        let told = told(record.answer, ids);
        for number in script.numbers(request) {
            let told = match (told, jobs.of(number)) {
                (Told::Accepted, Some(Job::Failed)) => Told::Failed,
                (Told::Accepted, Some(Job::Open)) => Told::Open,
                (told, _) => told,
            };
            let executed = executed.get(&number).copied().unwrap_or(0);
            counts.add(told, Landed { finally: seen.landings[number as usize], executed });
        }
    }
    counts
}

/// What an answer says of the transfers of its request. `ids`: whether a failure names its jobs, so that they were accepted.
fn told(answer: Answer, ids: bool) -> Told {
    match answer {
        Answer::Never => Told::NotOffered,
        Answer::Status(200..=299) => Told::Accepted,
        Answer::Status(500) if ids => Told::PartlyFailed,
        // From something in front of the service, which does not know; or 408, which a service says half way.
        Answer::Status(408 | 502 | 504) | Answer::TimedOut | Answer::Reset | Answer::Broken => Told::Nothing,
        Answer::Status(_) | Answer::Refused => Told::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_what_they_say() {
        for (answer, ids, expected) in [
            (Answer::Never, false, Told::NotOffered),
            (Answer::Status(200), false, Told::Accepted),
            (Answer::Status(202), false, Told::Accepted),
            (Answer::Status(500), true, Told::PartlyFailed),
            (Answer::Status(500), false, Told::Refused),
            (Answer::Status(503), false, Told::Refused),
            (Answer::Status(400), false, Told::Refused),
            (Answer::Status(504), false, Told::Nothing),
            (Answer::TimedOut, false, Told::Nothing),
            (Answer::Reset, false, Told::Nothing),
            (Answer::Refused, false, Told::Refused),
        ] {
            assert_eq!(told(answer, ids), expected, "{answer}");
        }
    }
}
