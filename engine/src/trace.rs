//! The log of single transactions and transfers, at level `debug`: signed, sent, executed, final, dead. The names of its fields are
//! the API's: `jobId`, `txHash`, `key`, `nonce`, `attempt`.
use keyshard_shard::{Closed, CryptoHash, Level, News, Record, TransferId};
use uuid::Uuid;

use crate::board::Board;

/// A record is on its way to the disk.
pub(crate) fn appended(record: &Record) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    match record {
        Record::Signed { public_key, nonce, hash, batch, transfers, .. } => {
            tracing::debug!(
                txHash = %hash, key = &**public_key, nonce, batchId = %batch, transfers = transfers.len(), "transaction signed"
            );
        }
        Record::Closed { hash, how, .. } => match how {
            Closed::Landed => tracing::debug!(txHash = %hash, "transaction final"),
            Closed::Failed { index, why } => {
                tracing::debug!(txHash = %hash, action = index, "transaction failed on chain: {why}");
            }
            Closed::Dead(proof) => tracing::debug!(txHash = %hash, ?proof, "transaction dead"),
        },
        _ => {}
    }
}

/// A transaction leaves, the first time or again.
pub(crate) fn sent(hash: &CryptoHash) {
    tracing::debug!(txHash = %hash, "transaction sent");
}

/// There is news of these transfers, and the board has it.
pub(crate) fn told(board: &Board, transfers: &[TransferId], news: &News) {
    let what = match news {
        News::Signed { .. } => "transfer signed",
        News::Reached { level } if *level >= Level::ExecutedOptimistic => "transfer executed",
        News::Finalized => "transfer final",
        News::Failed { .. } => "transfer failed for good",
        News::Accepted | News::Reached { .. } | News::Delayed { .. } => return,
    };
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    for id in transfers {
        let Some(job) = board.job(*id) else { continue };
        tracing::debug!(
            jobId = %Uuid::from_u128(id.0),
            txHash = job.tx_hash.as_deref(),
            attempt = job.attempts,
            status = job.status.as_str(),
            reason = if matches!(news, News::Failed { .. }) { job.last_error.as_deref() } else { None },
            "{what}"
        );
    }
}
