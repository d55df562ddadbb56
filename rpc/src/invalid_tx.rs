//! Why a node calls a transaction invalid, and what that proves (nearcore `core/primitives/src/errors.rs`).

use std::fmt;

use serde::{Deserialize, Deserializer};

use crate::json;

/// nearcore's `InvalidTxError`. Amounts are yoctoNEAR.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(remote = "Self")]
#[expect(missing_docs, reason = "names and fields are the protocol's own; what they mean for a caller is class()")]
pub enum InvalidTx {
    /// The access key does not exist or may not do this.
    InvalidAccessKeyError(Box<AccessKeyError>),
    InvalidSignerId {
        signer_id: String,
    },
    SignerDoesNotExist {
        signer_id: String,
    },
    /// The nonce is not above the key's. Also said when *this* transaction consumed it.
    InvalidNonce {
        #[serde(deserialize_with = "json::u64")]
        tx_nonce: u64,
        #[serde(deserialize_with = "json::u64")]
        ak_nonce: u64,
    },
    /// The nonce is above `block height * 1_000_000`.
    NonceTooLarge {
        #[serde(deserialize_with = "json::u64")]
        tx_nonce: u64,
        #[serde(deserialize_with = "json::u64")]
        upper_bound: u64,
    },
    InvalidReceiverId {
        receiver_id: String,
    },
    InvalidSignature,
    NotEnoughBalance {
        signer_id: String,
        #[serde(deserialize_with = "json::u128")]
        balance: u128,
        #[serde(deserialize_with = "json::u128")]
        cost: u128,
    },
    LackBalanceForState {
        signer_id: String,
        #[serde(deserialize_with = "json::u128")]
        amount: u128,
    },
    CostOverflow,
    /// The reference block is on another fork, or ahead of the node.
    InvalidChain,
    /// The reference block is too old, or unknown to the node.
    Expired,
    ActionsValidation(ActionsValidationError),
    TransactionSizeExceeded {
        #[serde(deserialize_with = "json::u64")]
        size: u64,
        #[serde(deserialize_with = "json::u64")]
        limit: u64,
    },
    InvalidTransactionVersion,
    /// The node could not read its own state. Raw JSON text.
    #[serde(deserialize_with = "json::raw_text")]
    StorageError(String),
    /// The receiver's shard takes no new transactions for now.
    ShardCongested {
        #[serde(deserialize_with = "json::u64")]
        shard_id: u64,
        /// Between 0 and 1, as the node wrote it.
        #[serde(default, deserialize_with = "json::raw_text")]
        congestion_level: String,
    },
    ShardStuck {
        #[serde(deserialize_with = "json::u64")]
        shard_id: u64,
        #[serde(deserialize_with = "json::u64")]
        missed_chunks: u64,
    },
    /// Gas keys only.
    InvalidNonceIndex {
        tx_nonce_index: Option<u64>,
        num_nonces: u64,
    },
    /// Gas keys only.
    NotEnoughGasKeyBalance {
        signer_id: String,
        #[serde(deserialize_with = "json::u128")]
        balance: u128,
        #[serde(deserialize_with = "json::u128")]
        cost: u128,
    },
    /// Gas keys only; the gas was charged and the nonce consumed.
    NotEnoughBalanceForDeposit {
        signer_id: String,
        #[serde(deserialize_with = "json::u128")]
        balance: u128,
        #[serde(deserialize_with = "json::u128")]
        cost: u128,
        reason: DepositShortfall,
    },
    /// A variant this version does not know: raw JSON text, bounded.
    #[serde(skip)]
    Other(String),
}

/// nearcore's `InvalidAccessKeyError`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(remote = "Self")]
#[expect(missing_docs, reason = "names and fields are the protocol's own")]
pub enum AccessKeyError {
    AccessKeyNotFound {
        account_id: String,
        public_key: String,
    },
    ReceiverMismatch {
        tx_receiver: String,
        ak_receiver: String,
    },
    MethodNameMismatch {
        method_name: String,
    },
    /// A function-call key signed for something other than exactly one function call.
    RequiresFullAccess,
    NotEnoughAllowance {
        account_id: String,
        public_key: String,
        #[serde(deserialize_with = "json::u128")]
        allowance: u128,
        #[serde(deserialize_with = "json::u128")]
        cost: u128,
    },
    /// A function-call key signed an attached deposit, which `ft_transfer` needs (1 yoctoNEAR).
    DepositWithFunctionCall,
    /// A variant this version does not know: raw JSON text, bounded.
    #[serde(skip)]
    Other(String),
}

/// nearcore's `ActionsValidationError`, as far as a transaction of function calls can meet it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(remote = "Self")]
#[expect(missing_docs, reason = "names and fields are the protocol's own")]
pub enum ActionsValidationError {
    DeleteActionMustBeFinal,
    TotalPrepaidGasExceeded {
        #[serde(deserialize_with = "json::u64")]
        total_prepaid_gas: u64,
        #[serde(deserialize_with = "json::u64")]
        limit: u64,
    },
    TotalNumberOfActionsExceeded {
        #[serde(deserialize_with = "json::u64")]
        total_number_of_actions: u64,
        #[serde(deserialize_with = "json::u64")]
        limit: u64,
    },
    AddKeyMethodNamesNumberOfBytesExceeded {
        total_number_of_bytes: u64,
        limit: u64,
    },
    AddKeyMethodNameLengthExceeded {
        length: u64,
        limit: u64,
    },
    IntegerOverflow,
    InvalidAccountId {
        account_id: String,
    },
    ContractSizeExceeded {
        size: u64,
        limit: u64,
    },
    FunctionCallMethodNameLengthExceeded {
        length: u64,
        limit: u64,
    },
    FunctionCallArgumentsLengthExceeded {
        length: u64,
        limit: u64,
    },
    UnsuitableStakingKey {
        public_key: String,
    },
    FunctionCallZeroAttachedGas,
    DelegateActionMustBeOnlyOne,
    UnsupportedProtocolFeature {
        protocol_feature: String,
        version: u64,
    },
    InvalidDeterministicStateInitReceiver {
        receiver_id: String,
        derived_id: String,
    },
    DeterministicStateInitKeyLengthExceeded {
        length: u64,
        limit: u64,
    },
    DeterministicStateInitValueLengthExceeded {
        length: u64,
        limit: u64,
    },
    GasKeyInvalidNumNonces {
        requested_nonces: u64,
        limit: u64,
    },
    AddGasKeyWithNonZeroBalance {
        #[serde(deserialize_with = "json::u128")]
        balance: u128,
    },
    GasKeyFunctionCallAllowanceNotAllowed,
    FunctionCallEmptyMethodName,
    /// A variant this version does not know: raw JSON text, bounded.
    #[serde(skip)]
    Other(String),
}

/// Why a gas-key transaction could not pay its deposit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "names are the protocol's own")]
pub enum DepositShortfall {
    NotEnoughBalance,
    LackBalanceForState,
    /// A reason this version does not know.
    #[serde(other)]
    Other,
}

/// What the node's saying so proves about the signed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// These bytes cannot execute on any node that follows the same rules. (Limits of actions and size may change
    /// with a protocol upgrade, so it holds within an epoch.)
    Permanent,
    /// The same bytes may still execute later, once the account is funded, the key exists, the shard recovers or
    /// the height has grown. A copy may already sit in a pool.
    Live,
    /// Says nothing by itself. `InvalidNonce` is also the answer when this very transaction consumed the nonce, and
    /// is judged at a head that may be forked away; `Expired` is also the answer of a node that lacks the reference
    /// block's header, and is checked before the node looks whether the transaction was executed; `InvalidChain` is
    /// also the answer of a node that is behind. Only a FINAL view of the chain decides.
    ProvesNothing,
}

impl InvalidTx {
    /// What this reason proves.
    pub fn class(&self) -> Class {
        match self {
            InvalidTx::InvalidAccessKeyError(error) => error.class(),
            InvalidTx::InvalidSignerId { .. }
            | InvalidTx::InvalidReceiverId { .. }
            | InvalidTx::InvalidSignature
            | InvalidTx::CostOverflow
            | InvalidTx::ActionsValidation(_)
            | InvalidTx::TransactionSizeExceeded { .. }
            | InvalidTx::InvalidTransactionVersion => Class::Permanent,
            InvalidTx::SignerDoesNotExist { .. }
            | InvalidTx::NonceTooLarge { .. }
            | InvalidTx::NotEnoughBalance { .. }
            | InvalidTx::LackBalanceForState { .. }
            | InvalidTx::StorageError(_)
            | InvalidTx::ShardCongested { .. }
            | InvalidTx::ShardStuck { .. }
            | InvalidTx::NotEnoughGasKeyBalance { .. } => Class::Live,
            InvalidTx::InvalidNonce { .. }
            | InvalidTx::Expired
            | InvalidTx::InvalidChain
            | InvalidTx::InvalidNonceIndex { .. }
            | InvalidTx::NotEnoughBalanceForDeposit { .. }
            | InvalidTx::Other(_) => Class::ProvesNothing,
        }
    }
}

impl AccessKeyError {
    /// What this reason proves.
    pub fn class(&self) -> Class {
        match self {
            AccessKeyError::ReceiverMismatch { .. }
            | AccessKeyError::MethodNameMismatch { .. }
            | AccessKeyError::RequiresFullAccess
            | AccessKeyError::DepositWithFunctionCall => Class::Permanent,
            // The key may be added (again), its allowance raised by a new key of the same name.
            AccessKeyError::AccessKeyNotFound { .. } | AccessKeyError::NotEnoughAllowance { .. } => Class::Live,
            AccessKeyError::Other(_) => Class::ProvesNothing,
        }
    }
}

impl fmt::Display for InvalidTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidTx::InvalidNonce { tx_nonce, ak_nonce } => {
                write!(f, "nonce {tx_nonce} is not above the access key's {ak_nonce}")
            }
            InvalidTx::NotEnoughBalance { signer_id, balance, cost } => {
                write!(f, "{signer_id} has {balance} yoctoNEAR, the transaction costs {cost}")
            }
            InvalidTx::Other(raw) => f.write_str(raw),
            known => f.write_str(&json::bounded(&format!("{known:?}"))),
        }
    }
}

impl<'de> Deserialize<'de> for InvalidTx {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::known_or(deserializer, |known| Self::deserialize(known), InvalidTx::Other)
    }
}

impl<'de> Deserialize<'de> for AccessKeyError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::known_or(deserializer, |known| Self::deserialize(known), AccessKeyError::Other)
    }
}

impl<'de> Deserialize<'de> for ActionsValidationError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::known_or(deserializer, |known| Self::deserialize(known), ActionsValidationError::Other)
    }
}
