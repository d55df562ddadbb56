//! `keyshard webhooks`: what is in the outbox of a stopped service, and what is to be sent once more.
use std::process::ExitCode;

use clap::Subcommand;
use keyshard_engine::history::{Outboxed, Replay};
use serde_json::json;
use uuid::Uuid;

use super::replay::Since;
use crate::{cli::say, config, data_dir::DataDir, env::Env, json::Iso};

/// Events of settled transfers (`WEBHOOK_URL`): what waits, and what is to be sent once more
///
/// For a stopped service, which delivers what is asked for here after its next start. A running one is asked by
/// POST /admin/webhooks/replay, and /metrics has its numbers (`keyshard_webhook_*`).
#[derive(Subcommand)]
pub(crate) enum Args {
    /// How many events wait for their delivery, and how many were given up
    Status {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Puts events into the outbox once more, under their old ids
    #[command(group(clap::ArgGroup::new("which").required(true)))]
    Replay {
        /// Of all that settled since then: 2026-11-24T10:00:00Z, or like 36h or 2d for that long ago
        #[arg(long, value_name = "TIME", group = "which", value_parser = Since::parse)]
        since: Option<Since>,
        /// Of one transfer
        #[arg(long, value_name = "JOB_ID", group = "which")]
        id: Option<Uuid>,
        /// Those that were given up after 24 h
        #[arg(long, group = "which")]
        dead: bool,
    },
}

/// Does what the command says.
pub(crate) fn webhooks(env: &Env, args: &Args) -> ExitCode {
    match run(env, args) {
        Ok(text) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(why) => {
            complain(&why);
            ExitCode::FAILURE
        }
    }
}

fn run(env: &Env, args: &Args) -> Result<String, String> {
    let path = config::data_dir(env);
    if !path.exists() {
        return Err(format!("there is no data directory {}: check DATA_DIR", path.display()));
    }
    let directory = DataDir::lock(&path)
        .map_err(|why| format!("{why}. A running service is asked by POST /admin/webhooks/replay"))?;
    if !directory.has_history() {
        return Err(format!("{} holds no history: check DATA_DIR", path.display()));
    }
    let history = directory.history_of_any_chain()?;
    let now = Iso::now().0;
    let which = match args {
        Args::Status { json } => {
            let outboxed = history.outboxed().map_err(|error| error.to_string())?;
            return Ok(if *json { as_json(&outboxed) } else { as_text(&outboxed, now) });
        }
        Args::Replay { id: Some(id), .. } => Replay::Of(*id),
        Args::Replay { since: Some(since), .. } => Replay::Since(since.ms(now)),
        Args::Replay { .. } => Replay::Dead,
    };
    match history.replay(which, now).map_err(|error| error.to_string())? {
        0 => Err(match which {
            Replay::Dead => "there are no dead events".to_owned(),
            Replay::Since(ms) => format!("nothing has settled since {}", Iso(ms)),
            Replay::Of(id) => format!("the history knows no settled transfer {id}"),
        }),
        events => Ok(format!("{events} events will be delivered when the service is started with WEBHOOK_URL")),
    }
}

fn as_json(outboxed: &Outboxed) -> String {
    json!({
        "waiting": outboxed.waiting,
        "dead": outboxed.dead,
        "oldestSettledAt": outboxed.oldest_ms.map(Iso),
        "failingSince": outboxed.failing_since_ms.map(Iso),
    })
    .to_string()
}

fn as_text(outboxed: &Outboxed, now_ms: u64) -> String {
    let Outboxed { waiting, dead, oldest_ms, failing_since_ms } = *outboxed;
    let oldest = oldest_ms.map(|oldest| {
        let minutes = now_ms.saturating_sub(oldest) / 60_000;
        format!(", the oldest since {} ({} h {} min)", Iso(oldest), minutes / 60, minutes % 60)
    });
    let failing = failing_since_ms.map(|since| format!("\nthe receiver has taken nothing since {}", Iso(since)));
    let hint = if dead > 0 { ": `keyshard webhooks replay --dead` sends them again" } else { "" };
    format!(
        "{waiting} events wait for their delivery{}{}\n{dead} events were given up{hint}",
        oldest.unwrap_or_default(),
        failing.unwrap_or_default()
    )
}

#[expect(clippy::print_stderr, reason = "this is where the command says why it failed")]
fn complain(why: &str) {
    eprintln!("keyshard: {why}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_the_outbox_in_words() {
        let outboxed = Outboxed { waiting: 2, dead: 0, oldest_ms: Some(1_760_381_234_567), failing_since_ms: None };
        assert_eq!(
            as_text(&outboxed, 1_760_381_234_567 + 3_725_000),
            "2 events wait for their delivery, the oldest since 2025-10-13T18:47:14.567Z (1 h 2 min)\n0 events were given up"
        );
        assert_eq!(
            as_json(&Outboxed { dead: 3, failing_since_ms: Some(0), ..outboxed }),
            r#"{"dead":3,"failingSince":"1970-01-01T00:00:00.000Z","oldestSettledAt":"2025-10-13T18:47:14.567Z","waiting":2}"#
        );
    }
}
