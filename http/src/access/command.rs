//! `keyshard api-keys`: makes, lists and removes the keys in the file that `API_KEYS_FILE` names.
#![expect(clippy::doc_markdown, reason = "shown in a terminal as help")]

use std::{
    io::{self, Write as _},
    num::NonZeroU32,
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    API_KEYS_FILE,
    api_key::{self, Digest},
    keys_file::{self, Entry, KeysFile, MAX_RATE},
    scope::Scope,
};
use crate::{cli::say, env::Env};

const AFTER_HELP: &str = "\
Clients send a key as Authorization: Bearer ks_... A running service reads the file again on SIGHUP.

Exit code: 0 done, 1 not done: the message says why.";

/// Makes, lists and removes API keys: who may use the service
#[derive(Subcommand)]
pub(crate) enum ApiKeys {
    /// Makes a key and prints it, this once; the file gets its hash
    ///
    /// Scopes: send (POST /send-ft), read (transfers, metrics, dashboard), admin (/admin, /debug). None includes another.
    #[command(after_long_help = AFTER_HELP)]
    Add(Add),
    /// Lists the keys: names, scopes and limits; never a key
    #[command(after_long_help = AFTER_HELP)]
    List(List),
    /// Takes a key out of the file
    #[command(after_long_help = AFTER_HELP)]
    Remove(Remove),
}

#[derive(Args)]
pub(crate) struct InFile {
    /// The file of API keys [default: API_KEYS_FILE]
    #[arg(long)]
    file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Add {
    /// Whose key it is, as metrics and answers show it: a-z, 0-9, - and _
    #[arg(long, value_parser = keys_file::parse_name)]
    name: Box<str>,
    /// What it may do, comma-separated
    #[arg(long, required = true, value_delimiter = ',')]
    scopes: Vec<Scope>,
    /// Raw token units that it may send in 24 hours [default: no limit]
    #[arg(long, value_name = "UNITS", value_parser = parse_units)]
    daily_limit: Option<u128>,
    /// Requests a second [default: no limit]
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_RATE)))]
    rate: Option<u32>,
    #[command(flatten)]
    file: InFile,
}

#[derive(Args)]
pub(crate) struct List {
    /// Print one JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: InFile,
}

#[derive(Args)]
pub(crate) struct Remove {
    /// Its name
    name: String,
    #[command(flatten)]
    file: InFile,
}

/// Does what the command says.
pub(crate) fn run(env: &Env, command: ApiKeys) -> ExitCode {
    let done = match command {
        ApiKeys::Add(args) => add(env, args),
        ApiKeys::List(args) => list(env, &args),
        ApiKeys::Remove(args) => remove(env, &args),
    };
    done.map_or_else(
        |why| {
            note(&format!("keyshard: {why}"));
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn add(env: &Env, args: Add) -> Result<(), String> {
    let path = args.file.path(env)?;
    let mut file = KeysFile::lock(&path)?;
    let key = api_key::generate()?;
    let entry = Entry {
        name: args.name,
        digest: Digest::of(key.as_bytes()),
        scopes: args.scopes.into_iter().collect(),
        daily_limit: args.daily_limit,
        rate: args.rate.and_then(NonZeroU32::new),
    };
    let (name, scopes) = (entry.name.clone(), entry.scopes);
    file.add(entry)?;
    // Standard output is the key alone, so that it can be piped to where it belongs.
    let mut out = io::stdout().lock();
    let printed = out.write_all(key.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    printed.map_err(|error| {
        format!("the key cannot be printed, and nobody knows it: {error}. Run `keyshard api-keys remove {name}`")
    })?;
    note(&format!(
        "The key of {name:?} ({scopes}) is shown this once. {} has its hash; send SIGHUP to a running service.",
        path.display()
    ));
    Ok(())
}

fn list(env: &Env, args: &List) -> Result<(), String> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Listed {
        name: Box<str>,
        scopes: Vec<&'static str>,
        daily_limit: Option<String>,
        rate_per_second: Option<NonZeroU32>,
    }
    let path = args.file.path(env)?;
    let entries = keys_file::read(&path).map_err(|why| format!("{} {why}", path.display()))?;
    if args.json {
        let listed: Vec<Listed> = entries
            .into_iter()
            .map(|entry| Listed {
                scopes: entry.scopes.names(),
                daily_limit: entry.daily_limit.map(|units| units.to_string()),
                rate_per_second: entry.rate,
                name: entry.name,
            })
            .collect();
        say(&serde_json::to_string(&listed).map_err(|error| error.to_string())?);
        return Ok(());
    }
    say(&format!("{} API keys in {}:", entries.len(), path.display()));
    for Entry { name, scopes, daily_limit, rate, .. } in entries {
        let daily = daily_limit.map_or("no daily limit".to_owned(), |units| format!("{units} units in 24 hours"));
        let rate = rate.map_or("any rate".to_owned(), |rate| format!("{rate} requests a second"));
        say(&format!("{name:<24}  {scopes:<16}  {daily}, {rate}"));
    }
    Ok(())
}

fn remove(env: &Env, args: &Remove) -> Result<(), String> {
    let path = args.file.path(env)?;
    // To lock makes the file; nothing is made where nothing can be removed.
    keys_file::read(&path).map_err(|why| format!("{} {why}", path.display()))?;
    if !KeysFile::lock(&path)?.remove(&args.name)? {
        let known = "`keyshard api-keys list` shows those that there are";
        return Err(format!("{} has no key {:?}: {known}", path.display(), args.name));
    }
    note(&format!("{:?} is gone from {}; send SIGHUP to a running service.", args.name, path.display()));
    Ok(())
}

impl InFile {
    fn path(&self, env: &Env) -> Result<PathBuf, String> {
        let named = self.file.clone().or_else(|| env.get(API_KEYS_FILE).map(PathBuf::from));
        named.ok_or_else(|| format!("no file is named: set {API_KEYS_FILE}, or give --file"))
    }
}

fn parse_units(text: &str) -> Result<u128, String> {
    keys_file::units(text).ok_or_else(|| "must be raw token units, a whole number above zero".to_owned())
}

/// What goes beside the output.
#[expect(clippy::print_stderr, reason = "standard output is the key alone")]
fn note(text: &str) {
    eprintln!("{text}");
}
