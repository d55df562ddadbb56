//! The pure state machine of Keyshard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Included,
    ExecutedOptimistic,
    IncludedFinal,
    Executed,
    Final,
}
impl Level {
    /// The word on the wire, e.g. `EXECUTED_OPTIMISTIC`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Included => "INCLUDED",
            Self::ExecutedOptimistic => "EXECUTED_OPTIMISTIC",
            Self::IncludedFinal => "INCLUDED_FINAL",
            Self::Executed => "EXECUTED",
            Self::Final => "FINAL",
        }
    }
}
