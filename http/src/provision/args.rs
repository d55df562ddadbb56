//! What the commands are told on the command line.
#![expect(clippy::doc_markdown, reason = "shown in a terminal as help")]

use std::path::PathBuf;

use clap::{Args, Subcommand};
use near_crypto::PublicKey;
use near_primitives::types::AccountId;

use super::consent::Consent;
use crate::{keys::MAX_KEYS, near_amount};

/// Most accounts that one command makes or registers.
pub(crate) const ACCOUNTS_MAX: usize = 100_000;

/// Where settings come from and what exit codes mean: below the help of every command here.
pub(crate) const AFTER_HELP: &str = "\
Can be repeated: it looks at the chain first and does what is missing. Says what it will cost before it asks.

Settings, from the environment and .env files as for serve: MASTER_ACCOUNT, FT_CONTRACT, NODE_URL or RPC_URLS, DATA_DIR. A
full-access key of MASTER_ACCOUNT signs: that of MASTER_ACCOUNT_PRIVATE_KEY, else one in ~/.near-credentials, else one that
the service pays with (those are left alone while a service runs on DATA_DIR). Costs are for one network's prices of this
moment; what is not used comes back.

Exit code: 0 done, also if there was nothing to do; 1 not done, or not all of it: the message says why, and it can be run
again; 3 nobody agreed: answered with no, or no terminal to ask on and no --yes.";

/// Makes on the chain what is needed
#[derive(Subcommand)]
pub(crate) enum Provision {
    /// Adds full-access keys to MASTER_ACCOUNT until the key file has so many: more keys, more transactions at a time
    ///
    /// New secret keys are written to the file (mode 600) and synced to the disk before anything is sent, so no key is ever
    /// on the chain without its secret here. `serve` reads the file if MASTER_ACCOUNT_PRIVATE_KEYS_FILE names it.
    #[command(after_long_help = AFTER_HELP)]
    Keys(ProvisionKeys),
    /// Makes sub-accounts PREFIX-1.MASTER_ACCOUNT, PREFIX-2.MASTER_ACCOUNT, ..: receivers for tests
    ///
    /// Each gets a key of its own, written to a file (mode 600) before the account is made: one JSON object a line with
    /// account_id, public_key and private_key. `provision storage --accounts` takes the same file.
    #[command(after_long_help = AFTER_HELP)]
    Accounts(ProvisionAccounts),
    /// Registers accounts with the token (storage_deposit of NEP-145), those that are not
    #[command(after_long_help = AFTER_HELP)]
    Storage(ProvisionStorage),
    /// Deploys a token contract, initialises it, and sees to it that MASTER_ACCOUNT holds some
    ///
    /// The contract's account is FT_CONTRACT. If it is a sub-account of MASTER_ACCOUNT that is not there, it is made, with the
    /// signing key as its key. A contract that is there is never replaced. The sandbox runs no wasm: whatever file it is
    /// given, the account behaves as the standard token there, with `new` and `new_default_meta` and without a mint method.
    #[command(after_long_help = AFTER_HELP)]
    Token(ProvisionToken),
}

/// Tells of access keys, and takes them away
#[derive(Subcommand)]
pub(crate) enum Keys {
    /// Lists the access keys of MASTER_ACCOUNT: on chain, configured, and what is in flight with them
    ///
    /// What is in flight is read from the journal in DATA_DIR; while a service runs on it, that is not told.
    #[command(after_long_help = LIST_HELP)]
    List(ListKeys),
    /// Takes an access key away from MASTER_ACCOUNT (DeleteKey), and out of the key file
    ///
    /// Never the last full-access key, never the one that signs, and never one with transactions in flight: the journal in
    /// DATA_DIR is read, so the service on it must be stopped.
    #[command(after_long_help = AFTER_HELP)]
    Retire(RetireKey),
}

const LIST_HELP: &str = "\
Settings, from the environment and .env files as for serve: MASTER_ACCOUNT, its keys, NODE_URL or RPC_URLS, DATA_DIR.

Exit code: 0 listed, 1 it could not be done.";

#[derive(Args)]
pub(crate) struct ProvisionKeys {
    /// How many keys the file shall have that are on the chain
    #[arg(long, default_value_t = 12, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=MAX_KEYS as u64))]
    pub(crate) count: usize,
    /// The key file [default: MASTER_ACCOUNT_PRIVATE_KEYS_FILE]
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Args)]
pub(crate) struct ProvisionAccounts {
    /// How many
    #[arg(long, default_value_t = 100, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=ACCOUNTS_MAX as u64))]
    pub(crate) count: usize,
    /// What their names begin with
    #[arg(long, default_value = "benchmark-user")]
    pub(crate) prefix: String,
    /// NEAR that each gets. One that only receives tokens needs none
    #[arg(long, value_name = "NEAR", default_value = "0", value_parser = near_amount::parse)]
    pub(crate) balance: u128,
    /// Where their keys are written [default: PREFIX.keys.jsonl]
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Args)]
pub(crate) struct ProvisionStorage {
    /// File with the accounts, or - for standard input (then with --yes): one a line, or JSON objects with an account_id
    #[arg(long, value_name = "FILE|-")]
    pub(crate) accounts: PathBuf,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Args)]
pub(crate) struct ProvisionToken {
    /// The compiled contract. Not needed if the contract is there
    #[arg(long, value_name = "FILE")]
    pub(crate) wasm: Option<PathBuf>,
    /// NEAR for the contract's account, if it has to be made: it pays for the contract's storage, about 1 NEAR for 100 KB
    #[arg(long, value_name = "NEAR", default_value = "5", value_parser = near_amount::parse)]
    pub(crate) balance: u128,
    /// Method that initialises the contract; "none" leaves it
    #[arg(long, value_name = "METHOD", default_value = "new_default_meta")]
    pub(crate) init: String,
    /// Its arguments: JSON, in which $ACCOUNT stands for MASTER_ACCOUNT and $SUPPLY for --supply
    #[arg(long, value_name = "JSON", default_value = r#"{"owner_id":"$ACCOUNT","total_supply":"$SUPPLY"}"#)]
    pub(crate) init_args: String,
    /// Total supply for the arguments above, in the token's smallest unit
    #[arg(long, value_name = "UNITS", default_value_t = 1_000_000_000_000_000_000_000_000_000_000_000)]
    pub(crate) supply: u128,
    /// What MASTER_ACCOUNT shall hold, in the token's smallest unit: the rest is minted, if the contract has a method for it
    #[arg(long, value_name = "UNITS", requires = "mint")]
    pub(crate) hold: Option<u128>,
    /// Method that mints
    #[arg(long, value_name = "METHOD", requires = "hold")]
    pub(crate) mint: Option<String>,
    /// Its arguments: JSON, in which $ACCOUNT stands for MASTER_ACCOUNT and $AMOUNT for what is missing
    #[arg(long, value_name = "JSON", default_value = r#"{"account_id":"$ACCOUNT","amount":"$AMOUNT"}"#)]
    pub(crate) mint_args: String,
    /// yoctoNEAR attached to the mint method
    #[arg(long, value_name = "YOCTO", default_value_t = 0)]
    pub(crate) mint_deposit: u128,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Args)]
pub(crate) struct ListKeys {
    /// Print one JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct RetireKey {
    /// The public key, ed25519:...
    pub(crate) public_key: PublicKey,
    /// DATA_DIR is not on this machine: the operator vouches that nothing is in flight with this key
    #[arg(long)]
    pub(crate) without_data_dir: bool,
    /// The key file to take it out of [default: MASTER_ACCOUNT_PRIVATE_KEYS_FILE, if set]
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

/// `ACCOUNT`, checked.
pub(crate) fn account(text: &str) -> Result<AccountId, String> {
    text.parse().map_err(|_| format!("{text:?} is not a NEAR account id"))
}
