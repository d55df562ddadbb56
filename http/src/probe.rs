//! `keyshard health`: asks a running service whether it is well, for images that have no curl.
use std::{process::ExitCode, time::Duration};

use crate::{cli::say, env::Env};

const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer that is shown.
const MAX_SHOWN: usize = 2_000;

/// What to ask.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Address of the service [default: where `HOST`, `PORT` and `TLS_CERT` say, on this machine]
    url: Option<String>,
    /// Ask whether transfers can be paid now (/ready), not only whether it is alive (/health)
    #[arg(long)]
    ready: bool,
}

/// 0 if the answer is 200, else 1.
pub(crate) async fn ask(env: &Env, args: Args) -> ExitCode {
    let path = if args.ready { "ready" } else { "health" };
    // On this machine the certificate's name is that of no loopback address.
    let own = args.url.is_none();
    let base = args.url.unwrap_or_else(|| own_address(env));
    let url = format!("{}/{path}", base.trim_end_matches('/'));
    match get(&url, own).await {
        Ok((status, text)) => {
            say(&format!("{status} {}", text.chars().take(MAX_SHOWN).collect::<String>()));
            if status == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            say(&format!("{url} does not answer: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn get(url: &str, own: bool) -> reqwest::Result<(u16, String)> {
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).tls_danger_accept_invalid_certs(own).build()?;
    let answer = client.get(url).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// Where the service of these settings is reached from its own machine.
fn own_address(env: &Env) -> String {
    let scheme = if env.get("TLS_CERT").is_some() { "https" } else { "http" };
    let host = match env.get("HOST").unwrap_or("127.0.0.1") {
        "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" => "[::1]".to_owned(),
        host if host.contains(':') => format!("[{host}]"),
        host => host.to_owned(),
    };
    format!("{scheme}://{host}:{}", env.get("PORT").unwrap_or("3000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_is_reached() {
        for (settings, address) in [
            (&[][..], "http://127.0.0.1:3000"),
            (&[("HOST", "0.0.0.0"), ("PORT", "80")], "http://127.0.0.1:80"),
            (&[("HOST", "::"), ("TLS_CERT", "c")], "https://[::1]:3000"),
            (&[("HOST", "fd00::1")], "http://[fd00::1]:3000"),
            (&[("HOST", "payer.internal")], "http://payer.internal:3000"),
        ] {
            assert_eq!(own_address(&settings.iter().copied().collect()), address);
        }
    }
}
