//! What this program is when it runs as one of the measured ones: the sandbox, the service, or the constant server.
use std::{error::Error, io::Read as _};

use keyshard::{config::Config, env::Env, log, run::run};
use keyshard_sandbox::Sandbox;

use crate::{noop::Noop, text::say};

/// What stands before the address, or the credentials, once a program is ready.
pub const READY: &str = "ready ";

/// `keyshard serve`, configured by the environment.
pub fn service() -> Result<(), Box<dyn Error>> {
    std::thread::Builder::new().name("parent".into()).spawn(|| {
        wait_for_parent();
        std::process::exit(0);
    })?;
    let env = Env::of_process();
    log::start(&env)?;
    let config = Config::from_env(&env)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(config, |_| {}))?;
    Ok(())
}

/// The sandbox: says its credentials, then runs until nobody needs it.
pub fn sandbox(config: keyshard_sandbox::Config) -> Result<(), Box<dyn Error>> {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let sandbox = Sandbox::start(config)?;
    say(&format!("{READY}{}", serde_json::to_string(sandbox.credentials())?));
    wait_for_parent();
    Ok(())
}

/// The constant server: says its address, then runs until nobody needs it.
pub fn noop(threads: usize) -> Result<(), Box<dyn Error>> {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let noop = Noop::start(threads)?;
    say(&format!("{READY}http://{}", noop.address()));
    wait_for_parent();
    Ok(())
}

/// Returns when whoever started this process is gone.
fn wait_for_parent() {
    let mut nothing = [0; 64];
    while matches!(std::io::stdin().read(&mut nothing), Ok(1..)) {}
}
