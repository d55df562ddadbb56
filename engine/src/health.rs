//! What the engine says about itself.

/// Numbers of the batching since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Batching {
    /// Transfers that went into transactions, again-sent ones included.
    pub transfers: u64,
    /// Transactions signed.
    pub batches: u64,
    /// Transfers that wait for a batch now.
    pub waiting: usize,
    /// The bounds in force: most transfers in one transaction.
    pub max_batch: usize,
    /// Longest wait for batch mates, in milliseconds.
    pub linger_ms: u64,
}

/// Something that keeps transfers from going out. They stay accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// A stable word: `not-enough-tokens`, `not-enough-near`, `token-unavailable`, `no-final-block`, `key-refused`, ...
    pub name: &'static str,
    /// For a person: what it is and what to do.
    pub detail: String,
}

/// One endpoint, seen from its circuit breakers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Scheme, host, port and path; never a secret.
    pub name: String,
    /// `closed`, `open` or `half-open`, the worst of all shards.
    pub breaker: &'static str,
    /// Height of its last final block that was seen.
    pub height: u64,
}

/// The state of the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// What hinders it; empty is well.
    pub conditions: Vec<Condition>,
    /// The nodes it uses.
    pub endpoints: Vec<Endpoint>,
    /// Height of the last final block it knows.
    pub final_height: u64,
}
