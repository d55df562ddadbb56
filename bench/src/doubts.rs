//! What to doubt about a number, said aloud by the one who made it. Pure.
use crate::{
    machine::Machine,
    report::Run,
    text::{number, percent, time_ms},
};

/// Share of a core that a thread of the load may use before it counts as what may be slow.
const BUSY: f64 = 0.8;
/// How late one request in a hundred may go out.
const LATE_MS: f64 = 25.0;
/// Cores that others may use before the machine counts as noisy: 15 % of one.
const STRANGERS: f64 = 0.15;
/// Cores that may be taken away from outside.
const STOLEN: f64 = 0.02;
/// Share of all cores from which on the machine is full.
const FULL: f64 = 0.92;
/// Shortest stretch, in seconds and blocks, that says something about a rate that is to last.
const SHORT: (f64, usize) = (20.0, 25);

/// Doubts about one run. `lasting`: whether it is to show a rate that lasts.
pub fn of_run(run: &Run, machine: &Machine, lasting: bool) -> Vec<String> {
    let mut doubts = Vec::new();
    let busiest = run.generator.busy.iter().copied().fold(0.0, f64::max);
    if busiest > BUSY {
        let share = percent(busiest);
        doubts.push(format!("a thread of the load used {share} of a core: the load may be what is slow (--threads)"));
    }
    let late = run.send_lag.percentile_ms(99.0);
    if run.generator.peak_waiting > 0 {
        let (waiting, most) = (run.generator.peak_waiting, run.generator.connections);
        doubts.push(format!(
            "up to {waiting} requests waited for one of {most} connections: their latency counts that (--connections)"
        ));
    } else if late > LATE_MS {
        let late = time_ms(late);
        doubts.push(format!("one request in a hundred went out {late} late or more: this machine is too slow for it"));
    }
    if let Some(strangers) = run.usage.strangers_cores.filter(|cores| *cores > STRANGERS) {
        doubts.push(format!("others used {} cores meanwhile: the machine is noisy", number(strangers)));
    }
    if let Some(stolen) = run.usage.stolen_cores.filter(|cores| *cores > STOLEN) {
        doubts.push(format!("{} cores were taken away from outside: the machine is not alone", number(stolen)));
    }
    if let Some(all) = run.usage.machine_cores.filter(|cores| *cores > machine.cores as f64 * FULL) {
        doubts.push(format!(
            "{} of {} cores were busy: load, service and node share them, so the number is of this machine",
            number(all),
            machine.cores
        ));
    }
    let (seconds, blocks) = (run.window_s.1 - run.window_s.0, run.trend.map_or(0, |trend| trend.blocks));
    if lasting && (seconds < SHORT.0 || blocks < SHORT.1) {
        doubts.push(format!(
            "{} s with {blocks} blocks are too short: a slow leak would not show (--duration)",
            number(seconds)
        ));
    }
    if run.generator.aborted {
        doubts.push("it was ended early, for its backlog could only grow".into());
    }
    if run.generator.not_followed > 0 {
        let count = run.generator.not_followed;
        doubts.push(format!("{count} answers were too many to keep: what they left open counts as lost"));
    }
    doubts
}

/// Doubts about everything measured by this program, on this machine.
pub fn of_build() -> Option<String> {
    cfg!(debug_assertions).then(|| "built without optimisation: use cargo run --release".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backlog::Trend, machine::Usage, report::Generator};

    fn sound() -> Run {
        let trend =
            Trend { growth_per_s: 0.0, tolerated_per_s: 1.0, executed_per_s: 100.0, offered_per_s: 100.0, blocks: 90 };
        Run { window_s: (5.0, 60.0), trend: Some(trend), ..Run::default() }
    }

    #[test]
    fn each_doubt_has_its_reason_and_a_sound_run_has_none() {
        let machine = Machine { cores: 2, ..Machine::default() };
        let doubts = |run: Run| of_run(&run, &machine, true);
        assert_eq!(doubts(sound()), [""; 0]);
        let usage = |usage: Usage| Run { usage, ..sound() };
        let generator = |generator: Generator| Run { generator, ..sound() };
        for (run, word) in [
            (generator(Generator { busy: vec![0.1, 0.95], ..Generator::default() }), "95.0 % of a core"),
            (generator(Generator { peak_waiting: 7, connections: 5, ..Generator::default() }), "7 requests waited"),
            (generator(Generator { aborted: true, ..Generator::default() }), "ended early"),
            (usage(Usage { strangers_cores: Some(0.5), ..Usage::default() }), "noisy"),
            (usage(Usage { stolen_cores: Some(0.1), ..Usage::default() }), "from outside"),
            (usage(Usage { machine_cores: Some(1.95), ..Usage::default() }), "1.95 of 2 cores"),
            (Run { window_s: (5.0, 12.0), ..sound() }, "too short"),
            (Run { trend: None, ..sound() }, "too short"),
        ] {
            let found = doubts(run);
            assert!(found.len() == 1 && found[0].contains(word), "{word}: {found:?}");
        }
        assert_eq!(of_run(&Run { window_s: (2.0, 8.0), ..sound() }, &machine, false), [""; 0]);
    }
}
