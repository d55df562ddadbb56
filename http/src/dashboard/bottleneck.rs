//! Where the bottleneck is, in words: a pure function of a snapshot.
//!
//! The rules stand in the order in which they are asked; the first that holds is the verdict. What stops transfers altogether comes
//! before what slows them down, and a cause before what follows from it: a slow node keeps keys full, full keys fill the backlog.
use serde::Serialize;

use super::snapshot::Snapshot;

/// A question that a node answers at once takes this long, at least half of the time: the node or the way to it is slow. Seconds.
const NODE_SLOW: f64 = 0.75;
/// Of so many calls, this part got no answer: the nodes are failing.
const NODE_LOSES: (u64, f64) = (5, 0.2);
/// Calls that make a latency one.
const CALLS_ENOUGH: u64 = 3;
/// Half of the syncs take this long: the disk is slow. Seconds.
const DISK_SLOW: f64 = 0.1;
/// Requests in all rings: the shards do not take them as fast as they come.
const RINGS_DEEP: usize = 1_000;
/// In this part of the last ten seconds no key was free while transfers waited.
const KEYS_FULL: f64 = 0.6;
/// From sent to run takes the chain two blocks. Beyond so many, or so many seconds where blocks are quick, it is congested.
const CHAIN_SLOW_BLOCKS: f64 = 8.0;
const CHAIN_SLOW: f64 = 4.0;
/// A chain that makes a block every 600 ms, and takes this long now. Seconds.
const BLOCKS_SLOW: f64 = 3.0;
/// This part of the backlog is in use.
const BACKLOG_FULL: f64 = 0.95;

/// What holds transfers up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Place {
    /// Nothing.
    #[default]
    None,
    /// The service is not ready yet, or looks up what a former run left open.
    Starting,
    /// Somebody ordered it: paused, or a limit on spending.
    Limit,
    /// Too few tokens, or too little NEAR.
    Balance,
    /// The nodes, or the way to them.
    Rpc,
    /// The disk.
    Journal,
    /// The way from the requests to the shards: too little CPU.
    Intake,
    /// Too few access keys.
    Keys,
    /// The chain, or the token contract.
    Chain,
    /// More is sent than may be open at a time.
    Backlog,
}

/// Where it is, why that is so, and what to do.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Verdict {
    #[serde(rename = "where")]
    pub(super) place: Place,
    /// One sentence with the numbers.
    pub(super) reason: String,
    /// One sentence; empty if there is nothing to do.
    pub(super) advice: String,
}

impl Verdict {
    fn new(place: Place, reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { place, reason: reason.into(), advice: advice.into() }
    }
}

/// Where the bottleneck is.
pub(super) fn bottleneck(now: &Snapshot) -> Verdict {
    if !now.ready {
        let reason = "The service is not ready: it looks for a node, its account, keys and token.";
        return Verdict::new(Place::Starting, reason, "Its log says what it waits for.");
    }
    let rules = [stopped, nodes, disk, intake, keys, chain, backlog];
    rules.iter().find_map(|rule| rule(now)).unwrap_or_else(|| nothing(now))
}

/// What the engine says stops it.
fn stopped(now: &Snapshot) -> Option<Verdict> {
    let places = [
        ("paused", Place::Limit, "POST /admin/resume lets transfers go on."),
        ("spend-limit", Place::Limit, "It ends by itself when the minute or the day is over."),
        ("not-enough-tokens", Place::Balance, "Send tokens to the account: what waits goes on by itself."),
        ("not-enough-near", Place::Balance, "Send NEAR to the account: what waits goes on by itself."),
        ("recovering", Place::Starting, "It ends by itself once a node has told of each of them."),
        ("no-final-block", Place::Rpc, "Check the nodes in RPC_URLS: are they up, synced, and agreed?"),
        ("token-unavailable", Place::Chain, "Check FT_CONTRACT: is the token paused or gone?"),
        ("history-behind", Place::Journal, "Put DATA_DIR on a faster disk, or send less."),
    ];
    places.into_iter().find_map(|(name, place, advice)| {
        let condition = now.conditions.iter().find(|condition| condition.name == name)?;
        Some(Verdict::new(place, sentence(&condition.detail), advice))
    })
}

fn nodes(now: &Snapshot) -> Option<Verdict> {
    let (all, open) = (now.endpoints.len(), now.endpoints.iter().filter(|it| it.breaker == "open").count());
    if all > 0 && open == all {
        let which = if all == 1 { "The node".to_owned() } else { format!("All {all} nodes") };
        let reason = format!("{which} failed so often that calls are held back.");
        return Some(Verdict::new(
            Place::Rpc,
            reason,
            "Check that it is up and reachable, or add another to RPC_URLS.",
        ));
    }
    let rpc = &now.rpc;
    if rpc.calls >= NODE_LOSES.0 && rpc.lost as f64 >= rpc.calls as f64 * NODE_LOSES.1 {
        let percent = (rpc.lost as f64 / rpc.calls as f64 * 100.0).round();
        let reason = format!("{percent} % of the calls to the nodes got no answer in the last minute.");
        return Some(Verdict::new(Place::Rpc, reason, "Use a node that is nearer or less busy: RPC_URLS."));
    }
    let slow = rpc.plain_p50.filter(|p50| rpc.plain >= CALLS_ENOUGH && *p50 >= NODE_SLOW)?;
    let reason = format!("The node takes {} to answer a simple question.", time(slow));
    Some(Verdict::new(Place::Rpc, reason, "Use a node that is nearer or less busy: RPC_URLS."))
}

fn disk(now: &Snapshot) -> Option<Verdict> {
    let slow = now.journal.sync_p50.filter(|p50| *p50 >= DISK_SLOW)?;
    let reason = format!("The disk takes {} to sync the journal, and nothing leaves before.", time(slow));
    Some(Verdict::new(Place::Journal, reason, "Put DATA_DIR on a faster disk, or one that nobody else writes to."))
}

fn intake(now: &Snapshot) -> Option<Verdict> {
    let waiting: usize = now.keys.iter().map(|key| key.ring).sum();
    (waiting >= RINGS_DEEP).then(|| {
        let reason = format!("{waiting} requests wait for the shard threads, which do not keep up.");
        Verdict::new(Place::Intake, reason, "Give the service more CPU, or more shard threads (SHARDS).")
    })
}

fn keys(now: &Snapshot) -> Option<Verdict> {
    let working = now.keys.iter().filter(|key| !["retired", "quarantined"].contains(&key.state));
    let all = working.clone().count();
    let resting = working.filter(|key| key.state == "resting").count();
    if all > 0 && resting == all {
        let detail = now.conditions.iter().find(|condition| condition.name == "key-refused");
        let reason = detail.map_or("The node refuses every access key.".to_owned(), |it| sentence(&it.detail));
        return Some(Verdict::new(Place::Keys, reason, "keyshard check says what is wrong with them."));
    }
    if now.keys_full < KEYS_FULL || is_congested(now).is_some() {
        return None;
    }
    let which = if all == 1 { "The only key is".to_owned() } else { format!("All {all} keys are") };
    let executes = now.stage("executed").and_then(|stage| stage.p50);
    let chain = executes.map_or(String::new(), |p50| format!(" while the chain executes in {}", time(p50)));
    let reason = format!("{which} full{chain}; {} transfers wait for one.", now.waiting);
    Some(Verdict::new(Place::Keys, reason, "Add keys (keyshard provision keys), or raise MAX_IN_FLIGHT_PER_KEY."))
}

fn chain(now: &Snapshot) -> Option<Verdict> {
    let reason = is_congested(now)?;
    Some(Verdict::new(Place::Chain, reason, "Wait, or send less: more keys or nodes do not help."))
}

/// Why the chain is slow, if it is.
fn is_congested(now: &Snapshot) -> Option<String> {
    if now.block_seconds >= BLOCKS_SLOW {
        return Some(format!("The chain takes {} from block to block.", time(now.block_seconds)));
    }
    let bound = CHAIN_SLOW.max(now.block_seconds * CHAIN_SLOW_BLOCKS);
    let slow = now.stage("executed")?.p50.filter(|p50| *p50 >= bound)?;
    Some(format!("The chain takes {} to run what was sent; usual is {}.", time(slow), time(now.block_seconds * 2.0)))
}

fn backlog(now: &Snapshot) -> Option<Verdict> {
    (now.pending as f64 >= now.pending_max as f64 * BACKLOG_FULL).then(|| {
        let reason = format!("{} of {} transfers are open: more get 503.", now.pending, now.pending_max);
        Verdict::new(Place::Backlog, reason, "Send less, or raise MAX_PENDING_JOBS if there is memory for it.")
    })
}

fn nothing(now: &Snapshot) -> Verdict {
    let reason = match (now.pending, now.stage("total").and_then(|stage| stage.p50)) {
        (0, _) => "Everything that was accepted is settled.".to_owned(),
        (pending, Some(p50)) => {
            format!("{} under way; half of all are final within {}.", transfers(pending), time(p50))
        }
        (pending, None) => format!("{} under way.", transfers(pending)),
    };
    Verdict::new(Place::None, reason, "")
}

fn transfers(count: usize) -> String {
    if count == 1 { "1 transfer is".to_owned() } else { format!("{count} transfers are") }
}

/// With a capital and a full stop; the name of an account stays as it is.
fn sentence(text: &str) -> String {
    let word = text.split(' ').next().unwrap_or_default();
    let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphabetic());
    let (first, rest) = text.split_at(usize::from(is_word));
    let stop = if text.ends_with('.') { "" } else { "." };
    format!("{}{rest}{stop}", first.to_ascii_uppercase())
}

/// For a person: `0.9 s`, `120 ms`.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 0.0995 => format!("{:.0} ms", s * 1e3),
        s if s < 9.95 => format!("{s:.1} s"),
        s => format!("{s:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::snapshot::{ConditionView, EndpointView, Journal, Lane, Rpc, Stage};

    fn lanes(count: usize, state: &'static str, ring: usize) -> Vec<Lane> {
        let lane = Lane { state, ring, in_flight: 8, ..Lane::default() };
        vec![lane; count]
    }

    fn stages(executed: f64, total: f64) -> Vec<Stage> {
        let stage = |name, p50| Stage { name, count: 100, p50: Some(p50), ..Stage::default() };
        vec![stage("executed", executed), stage("total", total)]
    }

    /// Twelve keys, a quick node, a quick disk, a chain of usual speed, some transfers under way.
    fn well() -> Snapshot {
        Snapshot {
            ready: true,
            pending: 500,
            pending_max: 100_000,
            waiting: 100,
            keys: lanes(12, "free", 0),
            window: 8,
            stages: stages(0.9, 2.4),
            block_seconds: 0.6,
            rpc: Rpc { calls: 900, lost: 2, plain: 240, plain_p50: Some(0.03), plain_p95: Some(0.2) },
            journal: Journal { sync_p50: Some(0.002), sync_p95: Some(0.02), syncs: 4_000, group_mean: Some(20.0) },
            endpoints: vec![EndpointView { breaker: "closed", ..EndpointView::default() }; 2],
            ..Snapshot::default()
        }
    }

    fn with_condition(name: &'static str, detail: &str) -> Snapshot {
        Snapshot { conditions: vec![ConditionView { name, detail: detail.to_owned() }], ..well() }
    }

    fn open(count: usize) -> Vec<EndpointView> {
        let endpoint =
            |at| EndpointView { breaker: if at < count { "open" } else { "closed" }, ..EndpointView::default() };
        (0..2).map(endpoint).collect()
    }

    #[test]
    fn verdicts() {
        let slow_rpc = |plain, plain_p50| Rpc { plain, plain_p50: Some(plain_p50), ..well().rpc };
        let slow_disk = Journal { sync_p50: Some(0.15), ..well().journal };
        let full = |snapshot: Snapshot| Snapshot { keys: lanes(12, "full", 0), keys_full: 0.9, ..snapshot };
        let is = |name: &str, snapshot: Snapshot, place: Place, reason: &str| {
            let verdict = bottleneck(&snapshot);
            assert_eq!((verdict.place, verdict.reason.as_str()), (place, reason), "{name}");
            assert_eq!(verdict.advice.is_empty(), place == Place::None, "{name}: {}", verdict.advice);
        };
        is("all is well", well(), Place::None, "500 transfers are under way; half of all are final within 2.4 s.");
        is(
            "one",
            Snapshot { pending: 1, ..well() },
            Place::None,
            "1 transfer is under way; half of all are final within 2.4 s.",
        );
        is("idle", Snapshot { pending: 0, ..well() }, Place::None, "Everything that was accepted is settled.");
        is(
            "not ready",
            Snapshot::default(),
            Place::Starting,
            "The service is not ready: it looks for a node, its account, keys and token.",
        );
        is(
            "recovering",
            with_condition("recovering", "3 transactions are open"),
            Place::Starting,
            "3 transactions are open.",
        );
        is(
            "tokens",
            with_condition("not-enough-tokens", "the account holds 7"),
            Place::Balance,
            "The account holds 7.",
        );
        is("near", with_condition("not-enough-near", "send NEAR."), Place::Balance, "Send NEAR.");
        is("whose", with_condition("not-enough-tokens", "pay.near is poor"), Place::Balance, "pay.near is poor.");
        is("paused", with_condition("paused", "nothing is signed"), Place::Limit, "Nothing is signed.");
        is("spending", with_condition("spend-limit", "transfers wait"), Place::Limit, "Transfers wait.");
        is("no block", with_condition("no-final-block", "no node shows one"), Place::Rpc, "No node shows one.");
        is("token", with_condition("token-unavailable", "no answer"), Place::Chain, "No answer.");
        is("history", with_condition("history-behind", "2 wait"), Place::Journal, "2 wait.");
        is(
            "a key rests",
            with_condition("key-refused", "one of twelve"),
            Place::None,
            "500 transfers are under way; half of all are final within 2.4 s.",
        );
        is(
            "one breaker",
            Snapshot { endpoints: open(1), ..well() },
            Place::None,
            "500 transfers are under way; half of all are final within 2.4 s.",
        );
        is(
            "all breakers",
            Snapshot { endpoints: open(2), ..well() },
            Place::Rpc,
            "All 2 nodes failed so often that calls are held back.",
        );
        is(
            "lost",
            Snapshot { rpc: Rpc { calls: 10, lost: 3, ..Rpc::default() }, ..well() },
            Place::Rpc,
            "30 % of the calls to the nodes got no answer in the last minute.",
        );
        is(
            "few lost",
            Snapshot { rpc: Rpc { calls: 4, lost: 4, ..Rpc::default() }, ..well() },
            Place::None,
            "500 transfers are under way; half of all are final within 2.4 s.",
        );
        is(
            "slow node",
            Snapshot { rpc: slow_rpc(50, 1.21), ..well() },
            Place::Rpc,
            "The node takes 1.2 s to answer a simple question.",
        );
        is(
            "two slow answers",
            Snapshot { rpc: slow_rpc(2, 1.21), ..well() },
            Place::None,
            "500 transfers are under way; half of all are final within 2.4 s.",
        );
        is(
            "slow node, full keys",
            full(Snapshot { rpc: slow_rpc(50, 1.21), ..well() }),
            Place::Rpc,
            "The node takes 1.2 s to answer a simple question.",
        );
        is(
            "slow disk",
            full(Snapshot { journal: slow_disk, ..well() }),
            Place::Journal,
            "The disk takes 0.1 s to sync the journal, and nothing leaves before.",
        );
        is(
            "deep rings",
            Snapshot { keys: lanes(12, "free", 100), ..well() },
            Place::Intake,
            "1200 requests wait for the shard threads, which do not keep up.",
        );
        is(
            "full keys",
            full(well()),
            Place::Keys,
            "All 12 keys are full while the chain executes in 0.9 s; 100 transfers wait for one.",
        );
        is(
            "one key",
            Snapshot { keys: lanes(1, "full", 0), keys_full: 1.0, ..well() },
            Place::Keys,
            "The only key is full while the chain executes in 0.9 s; 100 transfers wait for one.",
        );
        is(
            "full for a moment",
            Snapshot { keys_full: 0.3, ..well() },
            Place::None,
            "500 transfers are under way; half of all are final within 2.4 s.",
        );
        is(
            "all keys refused",
            Snapshot { keys: lanes(2, "resting", 0), ..with_condition("key-refused", "no such key") },
            Place::Keys,
            "No such key.",
        );
        is(
            "congested",
            full(Snapshot { stages: stages(9.0, 12.0), ..well() }),
            Place::Chain,
            "The chain takes 9.0 s to run what was sent; usual is 1.2 s.",
        );
        is(
            "slow blocks",
            full(Snapshot { block_seconds: 4.2, ..well() }),
            Place::Chain,
            "The chain takes 4.2 s from block to block.",
        );
        is(
            "backlog",
            Snapshot { pending: 99_000, ..well() },
            Place::Backlog,
            "99000 of 100000 transfers are open: more get 503.",
        );
    }

    #[test]
    fn times_are_short() {
        for (seconds, shown) in
            [(0.0004, "0 ms"), (0.0994, "99 ms"), (0.0996, "0.1 s"), (9.94, "9.9 s"), (9.96, "10 s")]
        {
            assert_eq!(time(seconds), shown);
        }
    }
}
