//! What a failure on chain says about the transfer that it names.
use near_primitives::types::AccountId;

use crate::Failure;

/// Whose fault a failed action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// This transfer can never succeed.
    Forever,
    /// The receiver is not registered with the token.
    Unregistered,
    /// The paying account has too few tokens: no fault of the transfer.
    Tokens,
    /// Too little gas was attached: ours to mend.
    Gas,
    /// The token contract is gone: no fault of the transfer.
    Token,
    /// Unclear. It may pass, it may not.
    Unclear,
}

/// Reads the texts of the standard contract (near-contract-standards `fungible_token/core_impl.rs`) and of the VM
/// (nearcore `FunctionCallError::ExecutionError`, near-facts section 1).
pub(crate) fn blame(failure: &Failure, payer: &AccountId) -> Blame {
    let text = match failure {
        Failure::Execution(text) => text,
        Failure::TokenMissing(_) | Failure::MethodMissing => return Blame::Token,
        Failure::Other(_) => return Blame::Unclear,
    };
    let panic = text.strip_prefix("Smart contract panicked: ").unwrap_or(text);
    if let Some(account) = panic.strip_prefix("The account ").and_then(|rest| rest.strip_suffix(" is not registered")) {
        return if account == payer.as_str() { Blame::Tokens } else { Blame::Unregistered };
    }
    match panic {
        _ if panic.starts_with("The account doesn't have enough balance") => Blame::Tokens,
        _ if panic.starts_with("Sender and receiver should be different")
            || panic.starts_with("The amount should be a positive number")
            || panic.starts_with("Balance overflow") =>
        {
            Blame::Forever
        }
        _ if panic.starts_with("Exceeded the prepaid gas")
            || panic.starts_with("Exceeded the maximum amount of gas allowed to burn per contract") =>
        {
            Blame::Gas
        }
        _ => Blame::Unclear,
    }
}

/// For a person: what the chain said, bounded.
pub(crate) fn text(failure: &Failure) -> Box<str> {
    let text = match failure {
        Failure::Execution(text) | Failure::TokenMissing(text) | Failure::Other(text) => text,
        Failure::MethodMissing => "the token has no such method",
    };
    format!("On-chain failure: {}", text.chars().take(512).collect::<String>()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_the_standard_contract() {
        let payer = "test.near".parse().unwrap();
        for (text, expected) in [
            ("Smart contract panicked: The account user1.near is not registered", Blame::Unregistered),
            ("Smart contract panicked: The account test.near is not registered", Blame::Tokens),
            ("Smart contract panicked: The account doesn't have enough balance", Blame::Tokens),
            ("Smart contract panicked: Sender and receiver should be different", Blame::Forever),
            ("Smart contract panicked: The amount should be a positive number", Blame::Forever),
            ("Smart contract panicked: Balance overflow", Blame::Forever),
            ("Exceeded the prepaid gas.", Blame::Gas),
            ("Exceeded the maximum amount of gas allowed to burn per contract.", Blame::Gas),
            ("Smart contract panicked: Transfers are paused", Blame::Unclear),
            ("WebAssembly trap: unreachable", Blame::Unclear),
        ] {
            assert_eq!(blame(&Failure::Execution(text.into()), &payer), expected, "{text}");
        }
        assert_eq!(blame(&Failure::TokenMissing("AccountDoesNotExist".into()), &payer), Blame::Token);
        assert_eq!(blame(&Failure::Other("LackBalanceForState".into()), &payer), Blame::Unclear);
    }
}
