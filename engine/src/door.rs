//! The way in: one door for each front-end thread.
use near_primitives::types::AccountId;
use uuid::Uuid;

/// One transfer as a client asks for it, already validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTransfer {
    /// Who receives; never the paying account itself.
    pub receiver: AccountId,
    /// Raw token units, more than zero.
    pub amount: u128,
    /// Passed on to the token.
    pub memo: Option<String>,
}

/// Why a door refuses. Nothing of the request was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The backlog is full.
    Full {
        /// Transfers accepted and not settled now.
        pending: usize,
        /// Transfers in the request.
        requested: usize,
        /// The bound, `Config::max_pending`.
        limit: usize,
    },
    /// The engine is draining.
    Draining,
}

/// The way in for one front-end thread. Owns the producing ends of that thread's rings, hence `&mut` and not `Clone`.
pub struct Door {
    _private: (),
}

impl Door {
    /// Accepts all transfers of one request, or none of them.
    pub fn submit(&mut self, transfers: Vec<NewTransfer>) -> Result<Ticket, Refused> {
        let _ = transfers;
        unimplemented!()
    }
}

/// What a request holds while its transfers are on their way. Dropping it changes nothing for the transfers.
pub struct Ticket {
    ids: Vec<Uuid>,
}

impl Ticket {
    /// The ids of the transfers, in request order.
    pub fn ids(&self) -> &[Uuid] {
        &self.ids
    }

    /// Returns when every transfer of the request is answerable: executed as far as `Config::wait_until` asks, or
    /// settled. Cancel-safe, so it may be raced against a time-out and awaited again.
    pub async fn answerable(&self) {
        unimplemented!()
    }
}
