//! The JSON of transactions, receipts and their outcomes, borrowed from the chain and written straight into the response.

use near_primitives::action::Action;
use near_primitives::errors::ActionError;
use near_primitives::hash::CryptoHash;
use near_primitives::transaction::SignedTransaction;
use near_primitives::views::ActionView;
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Serialize, Serializer};
use serde_json::json;

use crate::chain::Chain;
use crate::gas::GAS_PRICE;
use crate::history::{Details, Outcome, Progress, ReceiptRecord, Record};

impl Serialize for Progress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::None => "NONE",
            Self::Included => "INCLUDED",
            Self::ExecutedOptimistic => "EXECUTED_OPTIMISTIC",
            Self::IncludedFinal => "INCLUDED_FINAL",
            Self::Executed => "EXECUTED",
            Self::Final => "FINAL",
        })
    }
}

/// A decimal string, for balances.
struct Text<T>(T);

impl<T: std::fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::display::Base64Display;
        use base64::engine::general_purpose::STANDARD;
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

/// A sequence whose items are made while writing.
struct Each<'a, T, F>(&'a [T], F);

impl<'a, T, F, V> Serialize for Each<'a, T, F>
where
    F: Fn(&'a T) -> V,
    V: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_seq(Some(self.0.len()))?;
        for item in self.0 {
            out.serialize_element(&(self.1)(item))?;
        }
        out.end()
    }
}

struct ActionJson<'a>(&'a Action);

impl Serialize for ActionJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Call<'a> {
            args: Base64<'a>,
            deposit: Text<u128>,
            gas: u64,
            method_name: &'a str,
        }
        match self.0 {
            Action::FunctionCall(call) => {
                let mut out = serializer.serialize_map(Some(1))?;
                let view = Call {
                    args: Base64(&call.args),
                    deposit: Text(call.deposit.as_yoctonear()),
                    gas: call.gas.as_gas(),
                    method_name: &call.method_name,
                };
                out.serialize_entry("FunctionCall", &view)?;
                out.end()
            }
            other => ActionView::from(other.clone()).serialize(serializer),
        }
    }
}

/// A signed transaction, as inside a status or a chunk.
pub(crate) struct TxJson<'a>(pub(crate) &'a SignedTransaction, pub(crate) CryptoHash);

impl Serialize for TxJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tx = self.0;
        let mut out = serializer.serialize_map(Some(8))?;
        out.serialize_entry("signer_id", tx.transaction.signer_id())?;
        out.serialize_entry("public_key", tx.transaction.public_key())?;
        out.serialize_entry("nonce", &tx.transaction.nonce().nonce())?;
        out.serialize_entry("receiver_id", tx.transaction.receiver_id())?;
        out.serialize_entry("actions", &Each(tx.transaction.actions(), ActionJson))?;
        out.serialize_entry("priority_fee", &0)?;
        out.serialize_entry("signature", &tx.signature)?;
        out.serialize_entry("hash", &self.1)?;
        out.end()
    }
}

struct StatusJson<'a>(&'a Result<Vec<u8>, ActionError>);

impl Serialize for StatusJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Failure<'a> {
            #[serde(rename = "ActionError")]
            error: &'a ActionError,
        }
        let mut out = serializer.serialize_map(Some(1))?;
        match self.0 {
            Ok(value) => out.serialize_entry("SuccessValue", &Base64(value))?,
            Err(error) => out.serialize_entry("Failure", &Failure { error })?,
        }
        out.end()
    }
}

#[derive(Serialize)]
struct GasEntry {
    cost: &'static str,
    cost_category: &'static str,
    gas_used: Text<u64>,
}

#[derive(Serialize)]
struct Metadata {
    version: u32,
    gas_profile: Option<Vec<GasEntry>>,
}

#[derive(Serialize)]
struct OutcomeJson<'a, S> {
    block_hash: CryptoHash,
    id: CryptoHash,
    outcome: OutcomeBody<'a, S>,
    /// Merkle proofs are not made here.
    proof: [(); 0],
}

#[derive(Serialize)]
struct OutcomeBody<'a, S> {
    executor_id: &'a str,
    gas_burnt: u64,
    logs: &'a [String],
    metadata: Metadata,
    receipt_ids: &'a [CryptoHash],
    status: S,
    tokens_burnt: Text<u128>,
}

#[derive(Serialize)]
struct SuccessReceiptId {
    #[serde(rename = "SuccessReceiptId")]
    id: CryptoHash,
}

fn receipt_outcome<'a>(
    chain: &Chain,
    receipt: &'a ReceiptRecord,
    outcome: &'a Outcome,
) -> OutcomeJson<'a, StatusJson<'a>> {
    // A real node splits this by host function; nothing is metered here, so it is one entry.
    let profile = (outcome.contract_gas > 0).then_some(GasEntry {
        cost: "WASM_INSTRUCTION",
        cost_category: "WASM_HOST_COST",
        gas_used: Text(outcome.contract_gas),
    });
    OutcomeJson {
        block_hash: block_hash(chain, outcome.height),
        id: receipt.id,
        outcome: OutcomeBody {
            executor_id: receipt.receiver.as_str(),
            gas_burnt: outcome.gas_burnt,
            logs: &outcome.logs,
            metadata: Metadata { version: 3, gas_profile: Some(profile.into_iter().collect()) },
            receipt_ids: &outcome.receipt_ids,
            status: StatusJson(&outcome.result),
            tokens_burnt: Text(outcome.tokens_burnt),
        },
        proof: [],
    }
}

fn block_hash(chain: &Chain, height: u64) -> CryptoHash {
    chain.history.block_at(height).map(|block| block.hash).unwrap_or_default()
}

/// A receipt, as inside a chunk or a status.
pub(crate) struct ReceiptJson<'a>(pub(crate) &'a SignedTransaction, pub(crate) &'a ReceiptRecord);

impl Serialize for ReceiptJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(tx, receipt) = self;
        let actions = match receipt.transfer {
            None => {
                serde_json::to_value(Each(tx.transaction.actions(), ActionJson)).map_err(serde::ser::Error::custom)?
            }
            Some(amount) => json!([{"Transfer": {"deposit": amount.to_string()}}]),
        };
        json!({
            "predecessor_id": receipt.predecessor,
            "priority": 0,
            "receipt": {"Action": {
                "actions": actions,
                "gas_price": receipt.gas_price.to_string(),
                "input_data_ids": [],
                "is_promise_yield": false,
                "output_data_receivers": [],
                "signer_id": tx.transaction.signer_id(),
                "signer_public_key": tx.transaction.public_key(),
            }},
            "receipt_id": receipt.id,
            "receiver_id": receipt.receiver,
        })
        .serialize(serializer)
    }
}

/// The answer to `tx` and `send_tx` for a transaction on chain; `receipts` as `EXPERIMENTAL_tx_status` adds them.
pub(crate) struct TxStatus<'a> {
    pub(crate) chain: &'a Chain,
    pub(crate) record: &'a Record,
    pub(crate) details: &'a Details,
    pub(crate) receipts: bool,
}

impl Serialize for TxStatus<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { chain, record, details, receipts } = *self;
        let progress = chain.history.progress_of(record, details);
        let mut out = serializer.serialize_map(None)?;
        out.serialize_entry("final_execution_status", &progress)?;
        // Seen in the head's chunk, but the chunk counts as not yet applied: a real node knows no outcome then.
        if progress == Progress::Included && record.height == chain.head().height {
            return out.end();
        }
        let tx = &*details.tx;
        match details.receipts.first().and_then(|receipt| receipt.outcome.as_ref()) {
            Some(outcome) => out.serialize_entry("status", &StatusJson(&outcome.result))?,
            None => out.serialize_entry("status", "Started")?,
        }
        out.serialize_entry("transaction", &TxJson(tx, record.hash))?;
        let first = details.receipts.first().map(|receipt| receipt.id).unwrap_or_default();
        let outcome = OutcomeJson {
            block_hash: block_hash(chain, record.height),
            id: record.hash,
            outcome: OutcomeBody {
                executor_id: tx.transaction.signer_id().as_str(),
                gas_burnt: details.send_gas,
                logs: &[],
                metadata: Metadata { version: 1, gas_profile: None },
                receipt_ids: &[first],
                status: SuccessReceiptId { id: first },
                tokens_burnt: Text(u128::from(details.send_gas) * GAS_PRICE),
            },
            proof: [],
        };
        out.serialize_entry("transaction_outcome", &outcome)?;
        let outcomes: Vec<_> = details
            .receipts
            .iter()
            .filter_map(|receipt| Some(receipt_outcome(chain, receipt, receipt.outcome.as_ref()?)))
            .collect();
        out.serialize_entry("receipts_outcome", &outcomes)?;
        if receipts {
            out.serialize_entry("receipts", &Each(&details.receipts, |receipt| ReceiptJson(tx, receipt)))?;
        }
        out.end()
    }
}
