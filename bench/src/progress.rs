//! What is shown while a measurement runs: one line at the bottom, with live rates.
use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    load::Live,
    plan::Plan,
    text::{count, number, say},
};

/// Stretch of time that a live rate is of, in looks: about three seconds.
const RATE_OVER: usize = 30;

/// The line, and whether somebody wants all this to end.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    interrupted: Arc<AtomicBool>,
    /// Time and landed transfers at the last looks.
    looks: RefCell<Vec<(Duration, u64)>>,
}

impl Progress {
    /// Shows a line where somebody can see it; elsewhere nothing.
    pub fn new(interrupted: Arc<AtomicBool>) -> Self {
        Self::on(ProgressDrawTarget::stderr_with_hz(5), interrupted)
    }

    /// Shows nothing.
    pub fn hidden() -> Self {
        Self::on(ProgressDrawTarget::hidden(), Arc::default())
    }

    fn on(target: ProgressDrawTarget, interrupted: Arc<AtomicBool>) -> Self {
        let bar = ProgressBar::with_draw_target(Some(1_000), target);
        if let Ok(style) = ProgressStyle::with_template("{prefix:<12.bold} {bar:28.cyan/dim} {msg}") {
            bar.set_style(style.progress_chars("━━─"));
        }
        Self { bar, interrupted, looks: RefCell::default() }
    }

    /// Whether somebody wants it to end.
    pub fn interrupted(&self) -> bool {
        self.interrupted.load(Relaxed)
    }

    /// Something begins.
    pub fn begin(&self, name: &str) {
        self.looks.borrow_mut().clear();
        self.bar.reset();
        self.bar.set_position(0);
        self.bar.set_prefix(name.to_owned());
        self.bar.set_message("");
    }

    /// What is being done, without a measure of how far it is.
    pub fn note(&self, text: &str) {
        self.bar.set_message(text.to_owned());
        self.bar.tick();
    }

    /// How far it is, from 0 to 1, and what is being done.
    pub fn share(&self, share: f64, text: &str) {
        self.bar.set_position((share.clamp(0.0, 1.0) * 1_000.0) as u64);
        self.bar.set_message(text.to_owned());
    }

    /// How a load goes.
    pub fn load(&self, elapsed: Duration, plan: &Plan, live: &Live, landed: u64) {
        let seconds = elapsed.as_secs_f64();
        let rate = self.rate(elapsed, landed);
        let [offered, accepted] = [&live.offered, &live.accepted].map(|counter| counter.load(Relaxed));
        let bad = live.refused.load(Relaxed) + live.unanswered.load(Relaxed);
        self.bar.set_position((seconds / plan.seconds() * 1_000.0).min(1_000.0) as u64);
        let bad = if bad == 0 { String::new() } else { format!("  {} refused or failed", count(bad)) };
        self.bar.set_message(format!(
            "{:>3.0}/{:.0} s  {:>6} landed/s  {} offered  {} accepted  {} on chain{bad}",
            seconds.min(plan.seconds()),
            plan.seconds(),
            number(rate),
            count(offered),
            count(accepted),
            count(landed),
        ));
    }

    /// How many accepted transfers the chain does not show yet.
    pub fn settling(&self, missing: u64) {
        self.bar.set_position(1_000);
        self.bar.set_message(format!("settling: {} accepted and not on chain yet", count(missing)));
    }

    /// Leaves a line above.
    pub fn line(&self, text: &str) {
        self.bar.suspend(|| say(text));
    }

    /// Takes the line away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn rate(&self, elapsed: Duration, landed: u64) -> f64 {
        let mut looks = self.looks.borrow_mut();
        looks.push((elapsed, landed));
        let first = looks.len().saturating_sub(RATE_OVER);
        looks.drain(..first);
        let (then, before) = looks[0];
        let seconds = (elapsed.saturating_sub(then)).as_secs_f64();
        if seconds > 0.0 { landed.saturating_sub(before) as f64 / seconds } else { 0.0 }
    }
}
