//! One line at the bottom of the terminal while transactions are under way; nothing where nobody looks.
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The line. It goes away when it is dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Of so many things.
    pub(crate) fn new(what: &str, total: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr_with_hz(5));
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:32.cyan/dim} {pos}/{len} {elapsed:.dim}") {
            bar.set_style(style.progress_chars("━━─"));
        }
        bar.set_prefix(what.to_owned());
        bar.tick();
        Self(bar)
    }

    /// So many more are done.
    pub(crate) fn add(&self, done: usize) {
        self.0.inc(done as u64);
    }

    /// Leaves a line above.
    pub(crate) fn say(&self, text: &str) {
        self.0.suspend(|| crate::cli::say(text));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
