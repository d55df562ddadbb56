//! The parameters of requests: which block, how long to wait, and the JSON bodies.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// Which block a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockRef<'a> {
    /// The last final block: it can no longer be undone.
    Final,
    /// The last block that is one step from final.
    NearFinal,
    /// The node's head, which may still be undone.
    Optimistic,
    /// A height.
    Height(u64),
    /// A block hash, base58.
    Hash(&'a str),
}

impl BlockRef<'_> {
    /// Whether the answer shows how far the node has come.
    pub(crate) fn is_head(self) -> bool {
        matches!(self, BlockRef::Final | BlockRef::NearFinal | BlockRef::Optimistic)
    }

    fn entry<M: SerializeMap>(self, map: &mut M) -> Result<(), M::Error> {
        match self {
            BlockRef::Final => map.serialize_entry("finality", "final"),
            BlockRef::NearFinal => map.serialize_entry("finality", "near-final"),
            BlockRef::Optimistic => map.serialize_entry("finality", "optimistic"),
            BlockRef::Height(height) => map.serialize_entry("block_id", &height),
            BlockRef::Hash(hash) => map.serialize_entry("block_id", hash),
        }
    }
}

impl Serialize for BlockRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        self.entry(&mut map)?;
        map.end()
    }
}

/// How far a transaction must have come before a node answers `tx` (nearcore `TxExecutionStatus`). A node polls for
/// about 10 s, then answers `TIMEOUT_ERROR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WaitUntil {
    /// Answer at once with what is known.
    None,
    /// In a chunk this node has seen (which may never land).
    Included,
    /// In a block, and all receipts but refunds executed; nothing final.
    ExecutedOptimistic,
    /// In a final block; receipts perhaps not executed.
    IncludedFinal,
    /// In a final block, and all receipts but refunds executed; their blocks perhaps not final.
    Executed,
    /// The transaction and all its receipts are in final blocks.
    Final,
}

/// How far a *sent* transaction must have come before a node answers `send_tx`.
///
/// There is no `None`: with `wait_until: NONE` a node answers before it has checked anything, so that an old nonce,
/// a wrong signature or too many actions look like success and the transaction vanishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendUntil {
    /// See [`WaitUntil::Included`].
    Included,
    /// See [`WaitUntil::ExecutedOptimistic`].
    ExecutedOptimistic,
    /// See [`WaitUntil::IncludedFinal`].
    IncludedFinal,
    /// See [`WaitUntil::Executed`].
    Executed,
    /// See [`WaitUntil::Final`].
    Final,
}

impl From<SendUntil> for WaitUntil {
    fn from(until: SendUntil) -> Self {
        match until {
            SendUntil::Included => WaitUntil::Included,
            SendUntil::ExecutedOptimistic => WaitUntil::ExecutedOptimistic,
            SendUntil::IncludedFinal => WaitUntil::IncludedFinal,
            SendUntil::Executed => WaitUntil::Executed,
            SendUntil::Final => WaitUntil::Final,
        }
    }
}

/// The body of a request. The id is constant: one HTTP exchange carries one call, and a constant body lets gateways
/// cache reads.
pub(crate) fn body(method: &str, params: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct Request<'a, P> {
        jsonrpc: &'static str,
        id: &'static str,
        method: &'a str,
        params: &'a P,
    }
    serde_json::to_vec(&Request { jsonrpc: "2.0", id: "keyshard", method, params })
}

/// `query` parameters: the block and the kind of question side by side.
pub(crate) struct Query<'a> {
    pub(crate) at: BlockRef<'a>,
    pub(crate) request_type: &'static str,
    pub(crate) account_id: &'a str,
    /// What else this kind of question needs.
    pub(crate) more: &'a [(&'static str, &'a str)],
}

impl Serialize for Query<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.at.entry(&mut map)?;
        map.serialize_entry("request_type", self.request_type)?;
        map.serialize_entry("account_id", self.account_id)?;
        for (name, value) in self.more {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// `tx` parameters by hash.
#[derive(Serialize)]
pub(crate) struct TxByHash<'a> {
    pub(crate) tx_hash: &'a str,
    pub(crate) sender_account_id: &'a str,
    pub(crate) wait_until: WaitUntil,
}

/// `send_tx` parameters, and those of `tx` by bytes.
#[derive(Serialize)]
pub(crate) struct TxByBytes<'a> {
    pub(crate) signed_tx_base64: &'a str,
    pub(crate) wait_until: WaitUntil,
}

/// `changes` parameters for one access key.
pub(crate) struct AccessKeyChangesAt<'a> {
    pub(crate) at: BlockRef<'a>,
    pub(crate) account_id: &'a str,
    pub(crate) public_key: &'a str,
}

impl Serialize for AccessKeyChangesAt<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Key<'a> {
            account_id: &'a str,
            public_key: &'a str,
        }
        let mut map = serializer.serialize_map(None)?;
        self.at.entry(&mut map)?;
        map.serialize_entry("changes_type", "single_access_key_changes")?;
        map.serialize_entry("keys", &[Key { account_id: self.account_id, public_key: self.public_key }])?;
        map.end()
    }
}
