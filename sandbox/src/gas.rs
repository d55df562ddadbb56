//! What everything costs: action fees, the measured gas of the token's methods, and the compute that fills a block.
//!
//! Fees are those of protocol 84, as the recorded `EXPERIMENTAL_protocol_config` states them (a test compares the two).
//! A contract call here runs no wasm, so its gas is not metered but looked up: what the standard NEP-141 contract (205 KB
//! wasm) burnt in the recorded exchanges of a real node, corrected for the length of its arguments and log.

use near_primitives::account::AccessKeyPermission;
use near_primitives::action::Action;

/// yoctoNEAR for one gas; constant here (the real price rises up to 20-fold under load).
pub const GAS_PRICE: u128 = 100_000_000;
/// Gas and compute of one block's chunk.
pub const CHUNK_GAS_LIMIT: u64 = 1_000_000_000_000_000;
/// Most gas that turning transactions into receipts may take in a chunk (`congestion_control_config.max_tx_gas`).
pub(crate) const MAX_TX_GAS: u64 = 500_000_000_000_000;
/// The same while the shard has a backlog as large as it accepts (`min_tx_gas`); in between it shrinks linearly.
pub(crate) const MIN_TX_GAS: u64 = 20_000_000_000_000;
/// Most transaction bytes a chunk (`witness_config.combined_transactions_size_limit`).
pub(crate) const MAX_CHUNK_TX_BYTES: u64 = 4_194_304;
/// Backlog of gas at which the shard counts as fully congested (`max_congestion_incoming_gas`).
pub(crate) const MAX_BACKLOG_GAS: u128 = 400_000_000_000_000_000;
/// Congestion above which new transactions are refused (`reject_tx_congestion_threshold`).
pub(crate) const REJECT_CONGESTION: f64 = 0.8;
/// Most actions in a transaction.
pub(crate) const MAX_ACTIONS: u64 = 100;
/// Most gas that a transaction may attach to its calls altogether.
pub(crate) const MAX_PREPAID_GAS: u64 = 300_000_000_000_000;
/// Largest transaction, without its signature, in bytes.
pub(crate) const MAX_TX_BYTES: u64 = 1_572_864;
/// Longest method name of a call, in bytes.
pub(crate) const MAX_METHOD_NAME: u64 = 256;
/// Longest arguments of a call, in bytes.
pub(crate) const MAX_ARGUMENTS: u64 = 4_194_304;
/// Largest contract, in bytes.
pub(crate) const MAX_CONTRACT: u64 = 4_194_304;
/// Most bytes of method names in a function-call key.
pub(crate) const MAX_KEY_METHOD_NAMES: u64 = 2_000;
/// Most bytes that one call may log.
pub(crate) const MAX_LOG_BYTES: usize = 16_384;
/// yoctoNEAR that an account must hold for a byte of state.
pub(crate) const STORAGE_PRICE: u128 = 10_000_000_000_000_000_000;
/// Accounts this small need no balance (zero-balance accounts, NEP-448).
pub(crate) const FREE_STORAGE: u64 = 770;
/// Bytes of state of a full-access key: 33 key + 9 value + 40 record.
pub(crate) const KEY_STORAGE: u64 = 82;
/// Share of the gas burnt inside a contract that its account is paid.
pub(crate) const CONTRACT_REWARD: (u128, u128) = (3, 10);

/// The same for sending and executing a receipt, whatever is in it.
pub(crate) const RECEIPT: u64 = 108_059_500_000;
const CREATE_ACCOUNT: u64 = 3_850_000_000_000;
const DEPLOY_SEND: u64 = 184_765_750_000;
const DEPLOY_EXEC: u64 = 184_765_750_000;
const DEPLOY_BYTE_SEND_SIR: u64 = 6_812_999;
const DEPLOY_BYTE_SEND: u64 = 47_683_715;
const DEPLOY_BYTE_EXEC: u64 = 64_572_944;
const CALL_SEND: u64 = 200_000_000_000;
const CALL_EXEC: u64 = 780_000_000_000;
const CALL_BYTE: u64 = 2_235_934;
const CALL_BYTE_SEND: u64 = 47_683_715;
/// Sending or executing a transfer.
pub(crate) const TRANSFER: u64 = 115_123_062_500;
const ADD_FULL_KEY: u64 = 101_765_125_000;
const ADD_CALL_KEY: u64 = 102_217_625_000;
const ADD_CALL_KEY_BYTE: u64 = 1_925_331;
const ADD_CALL_KEY_BYTE_SEND: u64 = 47_683_715;
const DELETE_KEY: u64 = 94_946_625_000;

/// Gas and compute. They differ for storage: a read or write takes the node longer than its gas says, and the block's
/// limit is on compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) gas: u64,
    pub(crate) compute: u64,
}

/// Fee for sending `action`; `sir` (sender is receiver) is cheaper.
pub(crate) fn send_fee(action: &Action, sir: bool) -> u64 {
    match action {
        Action::CreateAccount(_) => CREATE_ACCOUNT,
        Action::DeployContract(deploy) => {
            DEPLOY_SEND + deploy.code.len() as u64 * if sir { DEPLOY_BYTE_SEND_SIR } else { DEPLOY_BYTE_SEND }
        }
        Action::FunctionCall(call) => {
            let bytes = (call.method_name.len() + call.args.len()) as u64;
            CALL_SEND + bytes * if sir { CALL_BYTE } else { CALL_BYTE_SEND }
        }
        Action::AddKey(add) => {
            key_fee(&add.access_key.permission, if sir { ADD_CALL_KEY_BYTE } else { ADD_CALL_KEY_BYTE_SEND })
        }
        Action::DeleteKey(_) => DELETE_KEY,
        _ => TRANSFER,
    }
}

/// Fee for executing `action`, without what a contract burns in it.
pub(crate) fn exec_fee(action: &Action) -> u64 {
    match action {
        Action::CreateAccount(_) => CREATE_ACCOUNT,
        Action::DeployContract(deploy) => DEPLOY_EXEC + deploy.code.len() as u64 * DEPLOY_BYTE_EXEC,
        Action::FunctionCall(call) => CALL_EXEC + (call.method_name.len() + call.args.len()) as u64 * CALL_BYTE,
        Action::AddKey(add) => key_fee(&add.access_key.permission, ADD_CALL_KEY_BYTE),
        Action::DeleteKey(_) => DELETE_KEY,
        _ => TRANSFER,
    }
}

fn key_fee(permission: &AccessKeyPermission, per_byte: u64) -> u64 {
    match permission {
        AccessKeyPermission::FunctionCall(limits) => {
            // Each name counts with a terminating byte.
            let bytes: usize = limits.method_names.iter().map(|name| name.len() + 1).sum();
            ADD_CALL_KEY + bytes as u64 * per_byte
        }
        _ => ADD_FULL_KEY,
    }
}

/// What a call of the token came to; each burns a different amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// `ft_transfer` that moved tokens.
    Transfer,
    /// `ft_transfer`, sender or receiver not registered.
    NotRegistered,
    /// `ft_transfer` to oneself.
    SelfTransfer,
    /// `ft_transfer` of more than there is.
    NotEnough,
    /// `ft_transfer` of nothing.
    NotPositive,
    /// One yocto was not attached, or the contract refused for another reason at once.
    Refused,
    /// The arguments did not parse.
    BadArguments,
    /// `storage_deposit` that registered an account.
    Registered,
    /// `storage_deposit` of a registered account.
    AlreadyRegistered,
    /// Reading methods and the rest.
    Other,
}

/// A log byte is read from memory, checked as UTF-8 and logged: 3,801,333 + 291,580,479 + 13,198,791 gas.
const LOG_BYTE: u64 = 308_580_603;
/// An argument byte is copied into a register, from there to memory: 3,801,564 + 98,562 + 2,723,772 gas.
const ARGUMENT_BYTE: u64 = 6_623_898;
/// What a second and later transfer in one receipt saves by finding trie nodes in the cache: from recording 048,
/// (100 calls of 037 minus 048) / 99.
const LATER_TRANSFER_SAVES: u64 = 43_120_000_000;
/// A storage read takes 159 Gcompute for 56.357 Ggas, a write 200 for 64.197 (near-parameters, protocol 84).
const READ_EXTRA_COMPUTE: u64 = 159_000_000_000 - 56_356_845_749;
const WRITE_EXTRA_COMPUTE: u64 = 200_000_000_000 - 64_196_736_000;
/// A trie node takes 4 Gcompute for 2.28 Ggas; recording 048 touched 724 of them for 100 transfers.
const TRANSFER_NODES_EXTRA_COMPUTE: u64 = (4_000_000_000 - 2_280_000_000) * 724 / 100;

impl Work {
    /// Gas, argument bytes and log bytes of the recorded call, and its storage reads (`has_key` counts as one) and
    /// writes.
    const fn recorded(self) -> (u64, u64, u64, u64, u64) {
        match self {
            // 037
            Self::Transfer => (831_996_663_790, 56, 166, 3, 3),
            // 051, second action: its receipt's gas minus that of 037
            Self::NotRegistered => (556_945_060_934, 63, 0, 3, 1),
            // 052, second action
            Self::SelfTransfer => (337_543_130_357, 50, 0, 1, 0),
            // 053
            Self::NotEnough => (415_117_180_368, 92, 0, 2, 0),
            // 054. The rest was not recorded inside a transaction; it costs about as much as this: one read.
            Self::NotPositive | Self::Other => (337_460_498_477, 56, 0, 1, 0),
            // 057
            Self::Refused => (329_840_047_829, 46, 0, 1, 0),
            // 055
            Self::BadArguments => (277_865_137_168, 58, 0, 0, 0),
            // 049, first action: its receipt's gas minus a later transfer
            Self::Registered => (617_889_781_494, 58, 0, 3, 2),
            // 050, without the refund it sends
            Self::AlreadyRegistered => (573_593_401_736, 57, 56, 3, 1),
        }
    }

    /// What the call burns inside the contract. `later`: it is not the first transfer of its receipt.
    pub(crate) fn cost(self, argument_bytes: usize, log_bytes: usize, later: bool) -> Cost {
        let (gas, arguments, logs, reads, writes) = self.recorded();
        let gas = gas + argument_bytes as u64 * ARGUMENT_BYTE + log_bytes as u64 * LOG_BYTE;
        let mut gas = gas.saturating_sub(arguments * ARGUMENT_BYTE + logs * LOG_BYTE);
        if later && self == Self::Transfer {
            gas -= LATER_TRANSFER_SAVES;
        }
        let mut compute = gas + reads * READ_EXTRA_COMPUTE + writes * WRITE_EXTRA_COMPUTE;
        if self == Self::Transfer {
            compute += TRANSFER_NODES_EXTRA_COMPUTE;
        }
        Cost { gas, compute }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn fees_are_those_of_the_recorded_protocol_config() {
        let config: Value = serde_json::from_str(include_str!("protocol_config.json")).unwrap();
        let runtime = &config["runtime_config"];
        let costs = &runtime["transaction_costs"];
        let actions = &costs["action_creation_config"];
        let keys = &actions["add_key_cost"];
        let limits = &runtime["wasm_config"]["limit_config"];
        let congestion = &runtime["congestion_control_config"];
        for (ours, theirs) in [
            (RECEIPT, &costs["action_receipt_creation_config"]["execution"]),
            (RECEIPT, &costs["action_receipt_creation_config"]["send_not_sir"]),
            (CREATE_ACCOUNT, &actions["create_account_cost"]["execution"]),
            (DEPLOY_EXEC, &actions["deploy_contract_cost"]["execution"]),
            (DEPLOY_SEND, &actions["deploy_contract_cost"]["send_sir"]),
            (DEPLOY_BYTE_EXEC, &actions["deploy_contract_cost_per_byte"]["execution"]),
            (DEPLOY_BYTE_SEND, &actions["deploy_contract_cost_per_byte"]["send_not_sir"]),
            (DEPLOY_BYTE_SEND_SIR, &actions["deploy_contract_cost_per_byte"]["send_sir"]),
            (CALL_EXEC, &actions["function_call_cost"]["execution"]),
            (CALL_SEND, &actions["function_call_cost"]["send_not_sir"]),
            (CALL_BYTE, &actions["function_call_cost_per_byte"]["execution"]),
            (CALL_BYTE, &actions["function_call_cost_per_byte"]["send_sir"]),
            (CALL_BYTE_SEND, &actions["function_call_cost_per_byte"]["send_not_sir"]),
            (TRANSFER, &actions["transfer_cost"]["execution"]),
            (TRANSFER, &actions["transfer_cost"]["send_not_sir"]),
            (ADD_FULL_KEY, &keys["full_access_cost"]["execution"]),
            (ADD_CALL_KEY, &keys["function_call_cost"]["execution"]),
            (ADD_CALL_KEY_BYTE, &keys["function_call_cost_per_byte"]["execution"]),
            (ADD_CALL_KEY_BYTE_SEND, &keys["function_call_cost_per_byte"]["send_not_sir"]),
            (DELETE_KEY, &actions["delete_key_cost"]["execution"]),
            (CHUNK_GAS_LIMIT, &config["gas_limit"]),
            (MAX_TX_GAS, &congestion["max_tx_gas"]),
            (MIN_TX_GAS, &congestion["min_tx_gas"]),
            (MAX_CHUNK_TX_BYTES, &runtime["witness_config"]["combined_transactions_size_limit"]),
            (MAX_ACTIONS, &limits["max_actions_per_receipt"]),
            (MAX_PREPAID_GAS, &limits["max_total_prepaid_gas"]),
            (MAX_TX_BYTES, &limits["max_transaction_size"]),
            (MAX_METHOD_NAME, &limits["max_length_method_name"]),
            (MAX_ARGUMENTS, &limits["max_arguments_length"]),
            (MAX_CONTRACT, &limits["max_contract_size"]),
            (MAX_KEY_METHOD_NAMES, &limits["max_number_bytes_method_names"]),
            (MAX_LOG_BYTES as u64, &limits["max_total_log_length"]),
        ] {
            assert_eq!(Some(ours), theirs.as_u64());
        }
        assert_eq!(config["min_gas_price"], GAS_PRICE.to_string());
        assert_eq!(runtime["storage_amount_per_byte"], STORAGE_PRICE.to_string());
        assert_eq!(congestion["max_congestion_incoming_gas"].as_u64().map(u128::from), Some(MAX_BACKLOG_GAS));
        assert_eq!(congestion["reject_tx_congestion_threshold"].as_f64(), Some(REJECT_CONGESTION));
    }

    #[test]
    fn transfers_of_a_batch_cost_what_was_recorded() {
        // 048: 100 transfers, 16,774 log bytes altogether, 78,984,455,192,746 gas inside the contract.
        let mut gas = 0;
        for index in 0..100_usize {
            gas += Work::Transfer.cost(56, if index < 74 { 168 } else { 167 }, index > 0).gas;
        }
        let recorded = 78_984_455_192_746_u64;
        assert!(gas.abs_diff(recorded) < recorded / 2_000, "{gas} against {recorded}");
    }
}
