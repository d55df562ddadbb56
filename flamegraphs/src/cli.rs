//! The `flamegraphs` command line.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to its user")]
use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use crate::{
    folded::Folded,
    session::{self, Settings},
    table,
};

/// Where the threads of the running service spend their time, as pictures and a table.
#[derive(Parser)]
#[command(name = "flamegraphs", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the service, gives it work, samples it and writes pictures and tables
    ///
    /// Sandbox and load run in this process, the service beside it with GET /debug/flamegraph enabled. Without perf (or with
    /// --no-perf) everything but the kernel's part and the functions that sleep is still there.
    Session(Session),
    /// Prints the hottest functions of a file of folded stacks (GET /debug/flamegraph?format=folded)
    Table {
        /// The file
        file: PathBuf,
        /// Rows of each table
        #[arg(long, default_value_t = 15)]
        rows: usize,
    },
}

#[derive(clap::Args)]
struct Session {
    /// Seconds that each kind of sampling takes
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Requests a second, each for one transfer
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    rate: u32,
    /// Access keys of the paying account
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    keys: u64,
    /// Milliseconds between two blocks
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    block_ms: u64,
    /// Blocks of real size: then the node is what limits
    #[arg(long)]
    metered: bool,
    /// Where the results go; flamegraphs/pictures for those of a release
    #[arg(long, value_name = "FOLDER", default_value = "target/flamegraphs")]
    out: PathBuf,
    /// Sample this program instead of building one; it needs --features profiling
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Leave perf out even if it is there
    #[arg(long)]
    no_perf: bool,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Session(session) => take(session),
        Command::Table { file, rows } => print_table(&file, rows),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn take(session: Session) -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let command = format!("cargo run --release -p keyshard-flamegraphs -- {}", shown(&arguments).join(" "));
    let Session { seconds, rate, keys, block_ms, metered, out, program, no_perf } = session;
    let settings = Settings {
        time: Duration::from_secs(seconds),
        rate,
        keys: usize::try_from(keys)?,
        block_ms,
        unlimited: !metered,
        out,
        program,
        perf: !no_perf,
        command,
    };
    let text = session::run(&settings, |progress| eprintln!("{progress}"))?;
    println!("{text}\nWritten to {}.", settings.out.display());
    Ok(())
}

/// The arguments without those that say where things are on this machine.
fn shown(arguments: &[String]) -> Vec<&str> {
    let mut shown = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--out" | "--program" => _ = arguments.next(),
            argument if argument.starts_with("--out=") || argument.starts_with("--program=") => {}
            argument => shown.push(argument),
        }
    }
    shown
}

fn print_table(file: &std::path::Path, rows: usize) -> Result<(), Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let folded = Folded::parse(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    print!("{}", table::markdown(&table::hottest(&folded, rows)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn captions_name_no_folder_of_this_machine() {
        let arguments = ["session", "--out", "/x", "--seconds", "3", "--program=/y"].map(str::to_owned);
        assert_eq!(shown(&arguments), ["session", "--seconds", "3"]);
    }
}
