//! What is shown before anything is signed, and whether somebody agrees.
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use keyshard_engine::rpc::Account;

use super::{Stop, cost::Cost, node::Node};
use crate::{cli::say, near_amount::near};

/// How much is asked.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct Consent {
    /// Say what would be done and what it would cost; sign nothing, write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask before signing; needed where nobody can answer
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// What is about to happen.
pub(crate) struct Summary<'a> {
    /// Name and value, one a line.
    pub(crate) lines: Vec<(&'a str, String)>,
    pub(crate) cost: Cost,
    /// Who pays it, and its name.
    pub(crate) payer: (&'a str, &'a Account),
}

impl Consent {
    /// Shows the summary. Goes on if the account has enough and somebody agrees, or `--yes` was given. A dry run stops.
    pub(crate) fn ask(self, node: &Node, summary: Summary<'_>) -> Result<(), Stop> {
        let Summary { mut lines, cost, payer: (name, account) } = summary;
        let spendable = node.spendable(account);
        lines.extend(cost.lines());
        lines.push(("from", format!("{name}, which can spend {}", near(spendable))));
        say("");
        for (name, value) in lines {
            say(&format!("  {name:<14}{value}"));
        }
        say("");
        if cost.needed() > spendable {
            let missing = near(cost.needed() - spendable);
            return Err(Stop::Failed(format!(
                "{name} has too little NEAR: send it {missing} more, then run this again"
            )));
        }
        if self.dry_run {
            say("Dry run: nothing was signed, nothing was written.");
            return Err(Stop::Done);
        }
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Stop::NotAgreed("nobody can be asked here: run it with --yes (or --dry-run)".to_owned()));
        }
        if question("Go on? [y/N] ") { Ok(()) } else { Err(Stop::NotAgreed("nothing was done".to_owned())) }
    }
}

#[expect(clippy::print_stderr, reason = "a question is no output")]
fn question(text: &str) -> bool {
    eprint!("{text}");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer).is_ok();
    read && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}
