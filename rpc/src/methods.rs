//! One function per JSON-RPC method.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::chain::{Block, Empty, GasPrice, ProtocolConfig, Status, TxHash};
use crate::client::{Answer, Client, Plan};
use crate::endpoints::{EndpointId, Route};
use crate::fate::{Error, Fate};
use crate::fees::Fees;
use crate::query::{AccessKey, AccessKeyChanges, AccessKeyList, Account, CallResult};
use crate::request::{AccessKeyChangesAt, BlockRef, Query, SendUntil, TxByBytes, TxByHash, WaitUntil};
use crate::transaction::TxDetails;
use crate::tx::TxStatus;

impl Client {
    /// `status`: who the node is and how far it has come. Also asks endpoints that sync or lag: the answer is how
    /// their state becomes known.
    pub async fn status(&self, route: Route) -> Result<Answer<Status>, Error> {
        self.status_by(Plan { any_head: true, ..self.at_once(route) }).await
    }

    /// `health`: an answer means that the node thinks it is well.
    pub async fn health(&self, route: Route) -> Result<Answer<()>, Error> {
        let plan = Plan { any_head: true, ..self.at_once(route) };
        let answer: Answer<Empty> = self.call(plan, "health", &[(); 0]).await?;
        Ok(Answer { value: (), endpoint: answer.endpoint })
    }

    /// `block`.
    pub async fn block(&self, route: Route, at: BlockRef<'_>) -> Result<Answer<Block>, Error> {
        let answer: Answer<Block> = self.call(self.at_once(route), "block", &at).await?;
        if at.is_head() {
            self.observe_height(answer.endpoint, answer.value.height);
        }
        Ok(answer)
    }

    /// `gas_price` at the head, yoctoNEAR per gas unit.
    pub async fn gas_price(&self, route: Route) -> Result<Answer<u128>, Error> {
        let answer: Answer<GasPrice> = self.call(self.at_once(route), "gas_price", &[None::<u64>]).await?;
        Ok(Answer { value: answer.value.gas_price, endpoint: answer.endpoint })
    }

    /// `EXPERIMENTAL_protocol_config` at the final block.
    pub async fn protocol_config(&self, route: Route) -> Result<Answer<ProtocolConfig>, Error> {
        self.call(self.at_once(route), "EXPERIMENTAL_protocol_config", &BlockRef::Final).await
    }

    /// The fees in `EXPERIMENTAL_protocol_config` at the final block.
    pub async fn fees(&self, route: Route) -> Result<Answer<Fees>, Error> {
        self.call(self.at_once(route), "EXPERIMENTAL_protocol_config", &BlockRef::Final).await
    }

    /// `query view_account`. [`Refusal::UnknownAccount`](crate::Refusal) if there is none.
    pub async fn view_account(
        &self,
        route: Route,
        at: BlockRef<'_>,
        account_id: &str,
    ) -> Result<Answer<Account>, Error> {
        let query = Query { at, request_type: "view_account", account_id, more: &[] };
        self.call(self.at_once(route), "query", &query).await
    }

    /// `query view_access_key`. [`Refusal::UnknownAccessKey`](crate::Refusal) if there is none.
    pub async fn view_access_key(
        &self,
        route: Route,
        at: BlockRef<'_>,
        account_id: &str,
        public_key: &str,
    ) -> Result<Answer<AccessKey>, Error> {
        let query = Query { at, request_type: "view_access_key", account_id, more: &[("public_key", public_key)] };
        self.call(self.at_once(route), "query", &query).await
    }

    /// `query view_access_key_list`: all keys of an account, with their nonces, at one block.
    pub async fn view_access_key_list(
        &self,
        route: Route,
        at: BlockRef<'_>,
        account_id: &str,
    ) -> Result<Answer<AccessKeyList>, Error> {
        let query = Query { at, request_type: "view_access_key_list", account_id, more: &[] };
        self.call(self.at_once(route), "query", &query).await
    }

    /// `query call_function`: runs a view method. A panic of the contract is
    /// [`Refusal::ContractError`](crate::Refusal), an account without contract
    /// [`Refusal::NoContractCode`](crate::Refusal).
    pub async fn call_function(
        &self,
        route: Route,
        at: BlockRef<'_>,
        account_id: &str,
        method_name: &str,
        args: &[u8],
    ) -> Result<Answer<CallResult>, Error> {
        let args = BASE64.encode(args);
        let more = [("method_name", method_name), ("args_base64", args.as_str())];
        let query = Query { at, request_type: "call_function", account_id, more: &more };
        self.call(self.at_once(route), "query", &query).await
    }

    /// `send_tx`: sends a signed transaction (borsh, base64) and waits until it has come as far as `until`, or the
    /// node's 10 s are over (`TIMEOUT_ERROR`, [`Fate::Unknown`](crate::Fate)).
    ///
    /// Sending the same bytes again is always safe: the pool knows them by hash and a used nonce is refused. It is
    /// also needed: nodes drop transactions silently. See [`SendUntil`] for why there is no `NONE`.
    ///
    /// The client does not decode the transaction: compare [`TxOutcome::transaction_hash`](crate::TxOutcome) with
    /// your own hash before acting on the outcome.
    pub async fn send_tx(
        &self,
        route: Route,
        signed_tx_base64: &str,
        until: SendUntil,
    ) -> Result<Answer<TxStatus>, Error> {
        let params = TxByBytes { signed_tx_base64, wait_until: until.into() };
        self.call(self.waiting(route), "send_tx", &params).await
    }

    /// `broadcast_tx_async`: hands the bytes over and returns the hash. Nothing is checked: an invalid transaction
    /// gets the same answer and vanishes.
    pub async fn broadcast_tx_async(&self, route: Route, signed_tx_base64: &str) -> Result<Answer<String>, Error> {
        let params = [signed_tx_base64];
        let answer: Answer<TxHash> = self.call(self.at_once(route), "broadcast_tx_async", &params).await?;
        Ok(Answer { value: answer.value.0, endpoint: answer.endpoint })
    }

    /// `tx` by hash (base58). With [`WaitUntil::None`] the answer comes at once and an unknown hash is
    /// [`Refusal::UnknownTransaction`](crate::Refusal); with any other the node polls for 10 s and then answers
    /// `TIMEOUT_ERROR` ([`Fate::Unknown`](crate::Fate)) for it.
    ///
    /// An answer about another transaction is taken for garbage.
    pub async fn tx(
        &self,
        route: Route,
        tx_hash: &str,
        sender_account_id: &str,
        wait_until: WaitUntil,
    ) -> Result<Answer<TxStatus>, Error> {
        let params = TxByHash { tx_hash, sender_account_id, wait_until };
        let answer: Answer<TxStatus> = self.call(self.patience(route, wait_until), "tx", &params).await?;
        match &answer.value.outcome {
            Some(outcome) if outcome.transaction_hash != tx_hash => Err(of_another(answer.endpoint)),
            _ => Ok(answer),
        }
    }

    /// As [`Client::tx`] with [`WaitUntil::None`], and what the transaction does.
    pub async fn tx_details(
        &self,
        route: Route,
        tx_hash: &str,
        sender_account_id: &str,
    ) -> Result<Answer<TxDetails>, Error> {
        let params = TxByHash { tx_hash, sender_account_id, wait_until: WaitUntil::None };
        let answer: Answer<TxDetails> = self.call(self.at_once(route), "tx", &params).await?;
        let TxDetails { status, transaction } = &answer.value;
        let named = [
            status.outcome.as_ref().map(|outcome| &outcome.transaction_hash),
            transaction.as_ref().map(|transaction| &transaction.hash),
        ];
        let is_it = named.into_iter().flatten().all(|name| name == tx_hash);
        if is_it { Ok(answer) } else { Err(of_another(answer.endpoint)) }
    }

    /// `tx` by the signed bytes (borsh, base64). With [`WaitUntil::None`] it is the best probe of a transaction's
    /// fate: its status, or why this node would not take it, or
    /// [`Refusal::UnknownTransaction`](crate::Refusal); it never sends.
    pub async fn tx_by_bytes(
        &self,
        route: Route,
        signed_tx_base64: &str,
        wait_until: WaitUntil,
    ) -> Result<Answer<TxStatus>, Error> {
        let params = TxByBytes { signed_tx_base64, wait_until };
        self.call(self.patience(route, wait_until), "tx", &params).await
    }

    /// `changes` of one access key in one block. The cause names the transaction that moved the nonce.
    pub async fn access_key_changes(
        &self,
        route: Route,
        at: BlockRef<'_>,
        account_id: &str,
        public_key: &str,
    ) -> Result<Answer<AccessKeyChanges>, Error> {
        let params = AccessKeyChangesAt { at, account_id, public_key };
        self.call(self.at_once(route), "changes", &params).await
    }

    fn patience(&self, route: Route, wait_until: WaitUntil) -> Plan {
        if wait_until == WaitUntil::None { self.at_once(route) } else { self.waiting(route) }
    }
}

fn of_another(endpoint: EndpointId) -> Error {
    Error {
        fate: Fate::Unknown,
        endpoint: Some(endpoint),
        message: "the answer is about another transaction".to_owned(),
        retry_after: None,
    }
}
