//! A node's JSON-RPC, as far as looking at it needs: plain questions, no cleverness.
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::wire;
use crate::text::without_secrets;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Root of a chunk without transactions: 32 zero bytes.
const NO_TRANSACTIONS: &str = "11111111111111111111111111111111";

/// A node. Has no `Debug`: its URL may hold a key.
#[derive(Clone)]
pub struct Node {
    client: reqwest::Client,
    url: String,
}

/// What a node did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NodeError {
    /// No answer, or none that can be read.
    #[error("{method} at {url}: {why}")]
    Failed {
        /// The node.
        url: String,
        /// What it was asked.
        method: &'static str,
        /// What went wrong.
        why: String,
    },
    /// The node says why not.
    #[error("{method}: the node answers {name}: {text}")]
    Refused {
        /// What it was asked.
        method: &'static str,
        /// `error.cause.name`.
        name: String,
        /// All it said.
        text: String,
    },
}

/// A block's place and time, and where its transactions are.
#[derive(Debug, Clone)]
pub struct Header {
    /// Its height.
    pub height: u64,
    /// Its hash.
    pub hash: String,
    /// When it was made, in nanoseconds since 1970.
    pub unix_ns: u64,
    /// Hashes of its own chunks that hold transactions.
    pub chunks: Vec<String>,
}

/// A transaction to the token.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its hash.
    pub hash: String,
    /// Who signed it.
    pub signer: String,
    /// Its transfers: receiver, amount if it is a number, memo.
    pub transfers: Vec<(String, Option<u128>, String)>,
    /// How many receivers it registers.
    pub deposits: u32,
}

/// How a transaction has ended so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Whether it can no longer be undone.
    pub is_final: bool,
    /// Whether it succeeded; `None` while that is open.
    pub succeeded: Option<bool>,
    /// The block in which the token executed it.
    pub executed_in: Option<String>,
}

impl Node {
    /// A node at `http://..` or `https://..`. Nothing is asked yet.
    pub fn new(url: &str) -> Result<Self, NodeError> {
        let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).timeout(TIMEOUT).build();
        let failed = |why: String| NodeError::Failed { url: without_secrets(url), method: "connect", why };
        Ok(Self { client: client.map_err(|error| failed(error.to_string()))?, url: url.into() })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The last final block.
    pub async fn last_final(&self) -> Result<Header, NodeError> {
        header(&self.ask("block", json!({ "finality": "final" })).await?).map_err(|why| self.failed("block", why))
    }

    /// The block at this height; `None` if there is none at it.
    pub async fn block(&self, height: u64) -> Result<Option<Header>, NodeError> {
        match self.ask("block", json!({ "block_id": height })).await {
            Ok(answer) => header(&answer).map(Some).map_err(|why| self.failed("block", why)),
            Err(NodeError::Refused { name, .. }) if name == "UNKNOWN_BLOCK" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The transactions to `token` in a chunk, in its order.
    pub async fn transactions(&self, chunk: &str, token: &str) -> Result<Vec<Found>, NodeError> {
        let answer = self.ask("chunk", json!({ "chunk_id": chunk })).await?;
        let chunk: wire::Chunk<'_> = result(&answer).map_err(|why| self.failed("chunk", why))?;
        Ok(chunk.transactions.iter().filter(|transaction| transaction.receiver_id == token).map(found).collect())
    }

    /// How a transaction has ended so far. The node does not wait.
    pub async fn ending(&self, hash: &str, signer: &str, token: &str) -> Result<Ending, NodeError> {
        let question = json!({ "tx_hash": hash, "sender_account_id": signer, "wait_until": "NONE" });
        let answer = self.ask("tx", question).await?;
        let outcome: wire::Outcome<'_> = result(&answer).map_err(|why| self.failed("tx", why))?;
        let executed = outcome.receipts.iter().find(|receipt| receipt.outcome.executor_id == token);
        Ok(Ending {
            is_final: outcome.final_execution_status == "FINAL",
            succeeded: outcome.status.and_then(wire::succeeded),
            executed_in: executed.map(|receipt| receipt.block_hash.clone().into_owned()),
        })
    }

    /// Any method, its result as it is.
    pub async fn call<T: DeserializeOwned>(&self, method: &'static str, params: Value) -> Result<T, NodeError> {
        let answer = self.ask(method, params).await?;
        let envelope: wire::Envelope<'_> =
            serde_json::from_slice(&answer).map_err(|error| self.failed(method, error.to_string()))?;
        let raw = envelope.result.map_or("null", |raw| raw.get());
        serde_json::from_str(raw).map_err(|error| self.failed(method, error.to_string()))
    }

    async fn ask(&self, method: &'static str, params: Value) -> Result<Bytes, NodeError> {
        let question = json!({ "jsonrpc": "2.0", "id": "bench", "method": method, "params": params });
        let failed = |error: reqwest::Error| self.failed(method, error.without_url().to_string());
        let answer = self.client.post(&self.url).json(&question).send().await.map_err(failed)?;
        let bytes = answer.bytes().await.map_err(failed)?;
        let envelope: wire::Envelope<'_> =
            serde_json::from_slice(&bytes).map_err(|error| self.failed(method, error.to_string()))?;
        match (envelope.result, envelope.error) {
            (Some(_), None) => Ok(bytes),
            (_, Some(error)) => {
                let cause = serde_json::from_str::<wire::Error<'_>>(error.get()).ok().and_then(|error| error.cause);
                let name = cause.map(|cause| cause.name.into_owned()).unwrap_or_default();
                Err(NodeError::Refused { method, name, text: error.get().to_owned() })
            }
            (None, None) => Err(self.failed(method, "neither result nor error".into())),
        }
    }

    fn failed(&self, method: &'static str, why: String) -> NodeError {
        NodeError::Failed { url: without_secrets(&self.url), method, why }
    }
}

/// The result of an answer that has one.
fn result<'a, T: serde::Deserialize<'a>>(answer: &'a [u8]) -> Result<T, String> {
    let envelope: wire::Envelope<'a> = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    let raw = envelope.result.ok_or("no result")?;
    serde_json::from_str(raw.get()).map_err(|error| error.to_string())
}

fn header(answer: &[u8]) -> Result<Header, String> {
    let wire::Block { header, chunks } = result(answer)?;
    let own = chunks.into_iter().filter(|chunk| {
        // A shard without a new chunk shows its last one again.
        chunk.height_included == header.height && chunk.tx_root != NO_TRANSACTIONS
    });
    let chunks = own.map(|chunk| chunk.chunk_hash.into_owned()).collect();
    Ok(Header { height: header.height, hash: header.hash, unix_ns: header.timestamp, chunks })
}

fn found(transaction: &wire::Transaction<'_>) -> Found {
    let mut found = Found {
        hash: transaction.hash.clone().into_owned(),
        signer: transaction.signer_id.clone().into_owned(),
        transfers: Vec::new(),
        deposits: 0,
    };
    for action in &transaction.actions {
        match wire::effect(action) {
            wire::Effect::Transfer { receiver, amount, memo } => found.transfers.push((receiver, amount, memo)),
            wire::Effect::Deposit => found.deposits += 1,
            wire::Effect::Other => {}
        }
    }
    found
}
