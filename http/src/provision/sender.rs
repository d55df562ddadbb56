//! Sends one transaction of a key at a time, and knows its end before the next one.
//!
//! What was signed is sent again, the same bytes, until the chain shows at FINAL what became of it, or that it can never run:
//! its nonce was taken by another, or its reference block is too old. Until then no other is signed. Should this process end
//! before, the next one takes the same nonce, of which only one transaction can run.
use std::time::{Duration, Instant};

use keyshard_engine::rpc::{
    ActionErrorKind, BlockRef, Class, Error, ExecutionResult, ExecutionStatus, Fate, FunctionCallError, InvalidTx,
    Refusal, Route, SendUntil, TxStatus, WaitUntil,
};
use near_primitives::{
    action::Action,
    hash::CryptoHash,
    serialize::to_base64,
    transaction::{SignedTransaction, Transaction, TransactionV0},
    types::AccountId,
};

use super::{
    node::{Node, patiently},
    signers::Signer,
};

/// Pause before a question is repeated: about a block.
const PAUSE: Duration = Duration::from_millis(500);
/// How long nodes may say nothing of use, or refuse, before this is given up. What was signed stays as it is.
const PATIENCE: Duration = Duration::from_mins(3);
/// Pause before an overtaken nonce is believed: behind one URL there may be several nodes, and one that lags does not know a
/// transaction that another has counted.
const CONFIRM_PAUSE: Duration = Duration::from_secs(3);

/// How often a transaction is signed that never runs: somebody else uses the key, or a node lags.
const TIMES: u32 = 3;

/// How a transaction ended, proven at FINAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All its actions took effect.
    Landed,
    /// It ran and was undone as a whole; the action that failed, and why.
    Failed { index: Option<usize>, why: String },
    /// It never ran and never will.
    Never(String),
}

/// What one round of questions told.
enum Round {
    End(Ended),
    /// Nothing yet; whether a node said anything of use.
    Again {
        heard: bool,
        why: String,
    },
    /// Taken by another nonce, if asked for the first time.
    Overtaken,
}

/// Signs and sends `actions`, and waits for the end; signs again, with another nonce, what was overtaken. The error means that
/// the end is not known; it is safe to run the command again.
pub(crate) async fn send(
    node: &Node,
    signer: &Signer,
    receiver: &AccountId,
    actions: Vec<Action>,
) -> Result<Ended, String> {
    let mut times = 1;
    loop {
        match send_once(node, signer, receiver, actions.clone()).await? {
            Ended::Never(_) if times < TIMES => times += 1,
            ended => return Ok(ended),
        }
    }
}

async fn send_once(node: &Node, signer: &Signer, receiver: &AccountId, actions: Vec<Action>) -> Result<Ended, String> {
    let tx = Signed::new(node, signer, receiver, actions).await?;
    let mut last_heard = Instant::now();
    let mut why;
    let mut answer = tx.broadcast(node).await;
    loop {
        if let Err(Error { fate: Fate::Refused(Refusal::InvalidTx(reason)), message, .. }) = &answer {
            if reason.class() == Class::Permanent {
                return Err(format!("nothing was done: the node refused the transaction: {message}"));
            }
            if let Some(advice) = lacking(reason) {
                return Err(format!("transaction {} was refused: {message}. {advice}", tx.hash));
            }
        }
        match tx.round(node, answer).await {
            Round::End(ended) => return Ok(ended),
            Round::Overtaken => {
                tokio::time::sleep(CONFIRM_PAUSE).await;
                match tx.look(node).await {
                    Round::Overtaken => {
                        return Ok(Ended::Never("its nonce was taken by another transaction".to_owned()));
                    }
                    Round::End(ended) => return Ok(ended),
                    Round::Again { why: said, .. } => why = said,
                }
                last_heard = Instant::now();
            }
            Round::Again { heard, why: said } => {
                why = said;
                if heard {
                    last_heard = Instant::now();
                }
            }
        }
        if last_heard.elapsed() > PATIENCE {
            return Err(format!(
                "what became of transaction {} is not known: {why}. Run this again later: it looks at the chain first, and \
                 signs with the same nonce, so that nothing happens twice",
                tx.hash
            ));
        }
        tokio::time::sleep(PAUSE).await;
        answer = tx.broadcast(node).await;
    }
}

/// What a person can do about a transaction that a node refuses for now.
fn lacking(reason: &InvalidTx) -> Option<&'static str> {
    match reason {
        InvalidTx::NotEnoughBalance { .. } | InvalidTx::LackBalanceForState { .. } => {
            Some("Send the account NEAR, then run this again")
        }
        InvalidTx::SignerDoesNotExist { .. } => Some("Check the account and NODE_URL"),
        _ => None,
    }
}

/// A signed transaction.
struct Signed<'a> {
    signer: &'a Signer,
    name: String,
    hash: String,
    base64: String,
    nonce: u64,
    reference_height: u64,
}

impl<'a> Signed<'a> {
    async fn new(node: &Node, signer: &'a Signer, receiver: &AccountId, actions: Vec<Action>) -> Result<Self, String> {
        let (client, account, name) = (&node.client, signer.account.as_str(), signer.public_key.to_string());
        let failed = |error: Error| format!("nothing was signed: {error}");
        let key = patiently(async || client.view_access_key(Route::Any, BlockRef::Final, account, &name).await);
        let key = key.await.map_err(failed)?;
        let block = patiently(async || client.block(Route::Any, BlockRef::Final).await).await.map_err(failed)?;
        let block_hash: CryptoHash =
            block.hash.parse().map_err(|_| format!("the node's block hash is none: {}", block.hash))?;
        // A node that lags may not know yet what this key has just done.
        let nonce = key.nonce.max(signer.last_nonce.get()) + 1;
        signer.last_nonce.set(nonce);
        let transaction = Transaction::V0(TransactionV0 {
            signer_id: signer.account.clone(),
            public_key: signer.public_key.clone(),
            nonce,
            receiver_id: receiver.clone(),
            block_hash,
            actions,
        });
        let (hash, size) = transaction.get_hash_and_size();
        if size > node.limits.max_transaction_size {
            return Err(format!(
                "nothing was sent: the transaction has {size} bytes, the chain allows {}",
                node.limits.max_transaction_size
            ));
        }
        let signed = SignedTransaction::new(signer.key.expose().sign(hash.as_ref()), transaction);
        let bytes = borsh::to_vec(&signed).map_err(|error| format!("cannot serialise a transaction: {error}"))?;
        Ok(Self {
            signer,
            name,
            hash: hash.to_string(),
            base64: to_base64(&bytes),
            nonce,
            reference_height: block.height,
        })
    }

    async fn broadcast(&self, node: &Node) -> Result<TxStatus, Error> {
        node.client.send_tx(Route::Any, &self.base64, SendUntil::Final).await.map(|answer| answer.value)
    }

    /// Makes what can be made of an answer, and looks at the chain if that is not enough.
    async fn round(&self, node: &Node, answer: Result<TxStatus, Error>) -> Round {
        match answer {
            Ok(status) => match self.end_in(&status) {
                Some(ended) => Round::End(ended),
                // Known and on its way, or recorded in a way that proves nothing.
                None => self.look(node).await,
            },
            Err(error) => match self.look(node).await {
                Round::Again { heard, .. } => Round::Again {
                    // A chain that moves on shows that this will end: at the latest when the transaction is too old.
                    heard: heard && !matches!(error.fate, Fate::Refused(_)),
                    why: error.to_string(),
                },
                other => other,
            },
        }
    }

    /// Asks for the status, and for the key, at the final block.
    async fn look(&self, node: &Node) -> Round {
        let account = self.signer.account.as_str();
        let client = &node.client;
        let key = match client.view_access_key(Route::Any, BlockRef::Final, account, &self.name).await {
            Ok(key) => key,
            Err(error) => return Round::Again { heard: false, why: error.to_string() },
        };
        // The same node that showed the nonce must not know the transaction.
        let status = client.tx(Route::Only(key.endpoint), &self.hash, account, WaitUntil::None).await;
        let key = key.value;
        match status {
            Ok(answer) => match self.end_in(&answer.value) {
                Some(ended) => Round::End(ended),
                None => Round::Again { heard: true, why: answer.value.execution_status.as_str().to_owned() },
            },
            Err(Error { fate: Fate::Refused(Refusal::UnknownTransaction), .. }) => {
                if key.nonce >= self.nonce {
                    Round::Overtaken
                } else if key.block_height > self.reference_height + node.limits.transaction_validity_period {
                    Round::End(Ended::Never("it became too old before any block took it".to_owned()))
                } else {
                    Round::Again { heard: true, why: "no node knows it yet".to_owned() }
                }
            }
            Err(error) => Round::Again { heard: false, why: error.to_string() },
        }
    }

    fn end_in(&self, status: &TxStatus) -> Option<Ended> {
        let outcome = status.outcome.as_ref().filter(|outcome| outcome.transaction_hash == self.hash)?;
        if status.execution_status != ExecutionStatus::Final {
            return None;
        }
        match &outcome.result {
            ExecutionResult::Success(_) => Some(Ended::Landed),
            ExecutionResult::ActionError { index, kind } => {
                let index = index.and_then(|index| usize::try_from(index).ok());
                Some(Ended::Failed { index, why: reason(kind) })
            }
            ExecutionResult::Pending | ExecutionResult::InvalidTx(_) | ExecutionResult::OtherFailure(_) => None,
        }
    }
}

fn reason(kind: &ActionErrorKind) -> String {
    match kind {
        ActionErrorKind::FunctionCall(FunctionCallError::MethodNotFound) => {
            "the contract has no such method".to_owned()
        }
        ActionErrorKind::FunctionCall(FunctionCallError::CodeDoesNotExist) => "the account has no contract".to_owned(),
        ActionErrorKind::AccountDoesNotExist { account_id } => format!("account {account_id} does not exist"),
        ActionErrorKind::LackBalanceForState { account_id, amount } => {
            format!("{account_id} lacks {} for its storage", crate::near_amount::near(*amount))
        }
        ActionErrorKind::FunctionCall(FunctionCallError::Execution(text) | FunctionCallError::Other(text))
        | ActionErrorKind::NewReceiptValidation(text)
        | ActionErrorKind::Other(text) => text.clone(),
    }
}
