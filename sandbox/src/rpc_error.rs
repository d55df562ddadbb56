//! The errors that JSON-RPC methods answer with, in nearcore's shapes.

use near_primitives::errors::InvalidTxError;
use near_primitives::hash::CryptoHash;
use serde::Serialize;
use serde_json::{Value, json};

/// A JSON-RPC error with its HTTP status.
#[derive(Debug)]
pub(crate) struct RpcError {
    pub(crate) http_status: u16,
    name: &'static str,
    cause: Value,
    code: i32,
    message: &'static str,
    data: Value,
}

impl Serialize for RpcError {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json!({"name": self.name, "cause": self.cause, "code": self.code, "message": self.message, "data": self.data})
            .serialize(serializer)
    }
}

impl RpcError {
    /// The request cannot be understood.
    pub(crate) fn parse(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            http_status: 400,
            name: "REQUEST_VALIDATION_ERROR",
            cause: json!({"name": "PARSE_ERROR", "info": {"error_message": text}}),
            code: -32_700,
            message: "Parse error",
            data: json!(text),
        }
    }

    pub(crate) fn args(text: impl std::fmt::Display) -> Self {
        Self::parse(format!("Failed parsing args: {text}"))
    }

    pub(crate) fn method_not_found(method: &str) -> Self {
        Self {
            http_status: 400,
            name: "REQUEST_VALIDATION_ERROR",
            cause: json!({"name": "METHOD_NOT_FOUND", "info": {"method_name": method}}),
            code: -32_601,
            message: "Method not found",
            data: json!(method),
        }
    }

    pub(crate) fn handler(cause: &'static str, info: &Value, data: impl Into<Value>) -> Self {
        Self {
            http_status: 200,
            name: "HANDLER_ERROR",
            cause: json!({"name": cause, "info": info}),
            code: -32_000,
            message: "Server error",
            data: data.into(),
        }
    }

    pub(crate) fn internal(text: &str) -> Self {
        Self {
            http_status: 500,
            name: "INTERNAL_ERROR",
            cause: json!({"name": "INTERNAL_ERROR", "info": {"error_message": text}}),
            code: -32_000,
            message: "Server error",
            data: json!(text),
        }
    }

    pub(crate) fn timeout() -> Self {
        Self {
            http_status: 408,
            name: "HANDLER_ERROR",
            cause: json!({"name": "TIMEOUT_ERROR"}),
            code: -32_000,
            message: "Server error",
            data: json!("Timeout"),
        }
    }

    pub(crate) fn invalid_transaction(error: &InvalidTxError) -> Self {
        let data = json!({"TxExecutionError": {"InvalidTxError": error}});
        Self::handler("INVALID_TRANSACTION", &json!({}), data)
    }

    pub(crate) fn unknown_transaction(hash: &CryptoHash) -> Self {
        let info = json!({"requested_transaction_hash": hash});
        Self::handler("UNKNOWN_TRANSACTION", &info, format!("Transaction {hash} doesn't exist"))
    }
}
