//! Which block a request means, and the methods about blocks: `chunk` and `changes` (`block` itself is a view).

use std::collections::HashSet;

use near_crypto::PublicKey;
use near_primitives::hash::CryptoHash;
use near_primitives::types::AccountId;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::chain::Chain;
use crate::history::Block;
use crate::methods::{Answer, MAX_ITEMS, answer, from_params};
use crate::rpc_error::RpcError;
use crate::views;

/// Which block a request means.
#[derive(Clone, Debug)]
pub(crate) enum BlockRef {
    Finality(Finality),
    Height(u64),
    Hash(CryptoHash),
    /// `sync_checkpoint`: genesis, or the earliest that is here.
    Earliest,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Finality {
    Optimistic,
    NearFinal,
    Final,
}

fn block_id(value: &Value) -> Result<BlockRef, RpcError> {
    match value {
        Value::Number(height) => match height.as_u64() {
            Some(height) => Ok(BlockRef::Height(height)),
            None => Err(RpcError::args(format!("invalid block height {height}"))),
        },
        Value::String(hash) => Ok(BlockRef::Hash(hash.parse().map_err(RpcError::args)?)),
        _ => Err(RpcError::args("block_id must be a height or a hash")),
    }
}

/// The block that named parameters refer to.
pub(crate) fn block_ref(params: &Value) -> Result<BlockRef, RpcError> {
    if let Some(id) = params.get("block_id").filter(|id| !id.is_null()) {
        return block_id(id);
    }
    if let Some(finality) = params.get("finality") {
        return Finality::deserialize(finality).map(BlockRef::Finality).map_err(RpcError::args);
    }
    match params.get("sync_checkpoint").and_then(Value::as_str) {
        Some("genesis" | "earliest_available") => Ok(BlockRef::Earliest),
        _ => Err(RpcError::args("no variant of enum BlockReference found in flattened data")),
    }
}

pub(crate) fn block_params(params: Option<&RawValue>) -> Result<BlockRef, RpcError> {
    match &from_params::<Value>(params)? {
        Value::Array(items) => match items.as_slice() {
            [id] => block_id(id),
            _ => Err(RpcError::args("expected one block id")),
        },
        named => block_ref(named),
    }
}

pub(crate) fn locate<'a>(chain: &'a Chain, reference: &BlockRef) -> Option<&'a Block> {
    match reference {
        BlockRef::Finality(Finality::Optimistic) => Some(chain.head()),
        BlockRef::Finality(Finality::NearFinal) => Some(chain.history.near_final_block()),
        BlockRef::Finality(Finality::Final) => Some(chain.final_block()),
        BlockRef::Height(height) => chain.history.block_at(*height),
        BlockRef::Hash(hash) => chain.history.block_by_hash(hash),
        BlockRef::Earliest => Some(chain.history.earliest_block()),
    }
}

pub(crate) fn find_block<'a>(chain: &'a Chain, reference: &BlockRef) -> Result<&'a Block, RpcError> {
    locate(chain, reference).ok_or_else(|| unknown_block(chain, reference))
}

fn unknown_block(chain: &Chain, reference: &BlockRef) -> RpcError {
    let what = match reference {
        BlockRef::Height(height) => format!("BLOCK HEIGHT: {height}"),
        BlockRef::Hash(hash) => format!("BLOCK: {hash}"),
        _ => "BLOCK".into(),
    };
    let text = format!("DB Not Found Error: {what} \n Cause: Unknown");
    let mut error = RpcError::handler("UNKNOWN_BLOCK", &json!({}), text);
    // Below the head it will never be there.
    if matches!(reference, BlockRef::Height(height) if *height < chain.head().height) {
        error.http_status = 422;
    }
    error
}

pub(crate) fn chunk(chain: &Chain, params: Option<&RawValue>) -> Answer {
    let params: Value = from_params(params)?;
    let (hash, place) = match &params {
        Value::Array(items) => match items.as_slice() {
            [Value::String(hash)] => (Some(hash.as_str()), None),
            [Value::Array(place)] if place.len() == 2 => (None, Some((&place[0], &place[1]))),
            _ => return Err(RpcError::args("expected [chunk_id] or [[block_id, shard_id]]")),
        },
        named => (named.get("chunk_id").and_then(Value::as_str), named.get("block_id").zip(named.get("shard_id"))),
    };
    let unknown = |hash: &CryptoHash| {
        let text = format!("Chunk Missing (unavailable on the node): ChunkHash(`{hash}`) \n Cause: Unknown");
        RpcError::handler("UNKNOWN_CHUNK", &json!({"chunk_hash": hash}), text)
    };
    let block = match (hash, place) {
        (Some(hash), _) => {
            let hash = hash.parse().map_err(RpcError::args)?;
            chain.history.block_by_chunk(&hash).ok_or_else(|| unknown(&hash))?
        }
        (None, Some((block, shard))) => {
            let block = find_block(chain, &block_id(block)?)?;
            if shard.as_u64() != Some(0) {
                let text = format!("Shard id {shard} does not exist");
                return Err(RpcError::handler("INVALID_SHARD_ID", &json!({"shard_id": shard}), text));
            }
            block
        }
        (None, None) => return Err(RpcError::args("expected chunk_id, or block_id and shard_id")),
    };
    if !block.detailed {
        return Err(unknown(&block.chunk_hash));
    }
    answer(&views::chunk(chain, block, hash.is_some()))
}

pub(crate) fn changes(chain: &Chain, params: Option<&RawValue>) -> Answer {
    #[derive(Deserialize)]
    struct Key {
        account_id: AccountId,
        public_key: PublicKey,
    }
    let params: Value = from_params(params)?;
    let reference = block_ref(&params)?;
    let block = find_block(chain, &reference)?;
    if !block.detailed {
        return Err(garbage_collected(block));
    }
    let kind = params.get("changes_type").and_then(Value::as_str).unwrap_or_default();
    match kind {
        "single_access_key_changes" => {
            let keys = params.get("keys").cloned().unwrap_or_default();
            let keys: Vec<Key> = serde_json::from_value(keys).map_err(RpcError::args)?;
            if keys.len() > MAX_ITEMS {
                return Err(RpcError::args(format!("at most {MAX_ITEMS} keys")));
            }
            let wanted: HashSet<_> = keys.into_iter().map(|key| (key.account_id, key.public_key)).collect();
            answer(&views::key_changes(block, |id| wanted.contains(id)))
        }
        "all_access_key_changes" => {
            let accounts = params.get("account_ids").cloned().unwrap_or_default();
            let accounts: Vec<AccountId> = serde_json::from_value(accounts).map_err(RpcError::args)?;
            if accounts.len() > MAX_ITEMS {
                return Err(RpcError::args(format!("at most {MAX_ITEMS} accounts")));
            }
            let wanted: HashSet<_> = accounts.into_iter().collect();
            answer(&views::key_changes(block, |(account, _)| wanted.contains(account)))
        }
        _ => Err(RpcError::args(format!("changes_type `{kind}` is not supported by the sandbox"))),
    }
}

pub(crate) fn garbage_collected(block: &Block) -> RpcError {
    let info = json!({"block_hash": block.hash, "block_height": block.height});
    let text = format!(
        "The data for block #{} is garbage collected on this node, use an archival node to fetch historical data",
        block.height
    );
    RpcError::handler("GARBAGE_COLLECTED_BLOCK", &info, text)
}
