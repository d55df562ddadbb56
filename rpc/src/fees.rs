//! What a transaction costs, from `EXPERIMENTAL_protocol_config`: gas of sending and executing each action, storage, and the
//! price at which gas is bought.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json;
use crate::wire::{Parse, Unreadable};

/// Gas of one thing that an action does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Fee {
    /// Burnt when it is sent to another account.
    #[serde(deserialize_with = "json::u64")]
    pub send_not_sir: u64,
    /// Burnt when the sender is the receiver.
    #[serde(deserialize_with = "json::u64")]
    pub send_sir: u64,
    /// Burnt when it is executed.
    #[serde(deserialize_with = "json::u64")]
    pub execution: u64,
}

impl Fee {
    /// Sending and executing.
    pub fn total(self, sender_is_receiver: bool) -> u64 {
        let send = if sender_is_receiver { self.send_sir } else { self.send_not_sir };
        send.saturating_add(self.execution)
    }
}

/// The fees in force. They change with protocol upgrades.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fees {
    /// A receipt, whatever is in it.
    pub receipt: Fee,
    /// `CreateAccount`.
    pub create_account: Fee,
    /// `DeployContract`.
    pub deploy: Fee,
    /// Each byte of the contract.
    pub deploy_byte: Fee,
    /// `FunctionCall`, without what the contract burns.
    pub call: Fee,
    /// Each byte of its method name and arguments.
    pub call_byte: Fee,
    /// `Transfer`.
    pub transfer: Fee,
    /// `AddKey` of a full-access key.
    pub add_full_key: Fee,
    /// `DeleteKey`.
    pub delete_key: Fee,
    /// yoctoNEAR that an account must hold for each byte of its state.
    pub storage_byte: u128,
    /// Least price at which gas is bought, yoctoNEAR per gas unit; what is above the price of the block comes back. 0 before
    /// protocol 85.
    pub min_gas_purchase_price: u128,
    /// What creating an account costs at least, yoctoNEAR. 0 before protocol 85.
    pub account_creation_charge: u128,
}

impl Parse for Fees {
    fn parse(result: &RawValue) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Wire {
            runtime_config: Runtime,
        }
        #[derive(Deserialize)]
        struct Runtime {
            #[serde(deserialize_with = "json::u128")]
            storage_amount_per_byte: u128,
            transaction_costs: Costs,
            #[serde(default, deserialize_with = "json::u128")]
            min_gas_purchase_price: u128,
            #[serde(default, deserialize_with = "json::u128")]
            account_creation_charge: u128,
        }
        #[derive(Deserialize)]
        struct Costs {
            action_receipt_creation_config: Fee,
            action_creation_config: Actions,
        }
        #[derive(Deserialize)]
        struct Actions {
            create_account_cost: Fee,
            deploy_contract_cost: Fee,
            deploy_contract_cost_per_byte: Fee,
            function_call_cost: Fee,
            function_call_cost_per_byte: Fee,
            transfer_cost: Fee,
            add_key_cost: Keys,
            delete_key_cost: Fee,
        }
        #[derive(Deserialize)]
        struct Keys {
            full_access_cost: Fee,
        }
        let Wire { runtime_config } = serde_json::from_str(result.get())?;
        let costs = runtime_config.transaction_costs;
        let actions = costs.action_creation_config;
        Ok(Fees {
            receipt: costs.action_receipt_creation_config,
            create_account: actions.create_account_cost,
            deploy: actions.deploy_contract_cost,
            deploy_byte: actions.deploy_contract_cost_per_byte,
            call: actions.function_call_cost,
            call_byte: actions.function_call_cost_per_byte,
            transfer: actions.transfer_cost,
            add_full_key: actions.add_key_cost.full_access_cost,
            delete_key: actions.delete_key_cost,
            storage_byte: runtime_config.storage_amount_per_byte,
            min_gas_purchase_price: runtime_config.min_gas_purchase_price,
            account_creation_charge: runtime_config.account_creation_charge,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_configurations_are_read() {
        let fee = r#"{"send_sir":1,"send_not_sir":2,"execution":"3"}"#;
        let actions = [
            "create_account_cost",
            "deploy_contract_cost",
            "deploy_contract_cost_per_byte",
            "function_call_cost",
            "function_call_cost_per_byte",
            "transfer_cost",
            "delete_key_cost",
            "an_action_to_come",
        ]
        .map(|name| format!(r#""{name}":{fee}"#))
        .join(",");
        let config = |more: &str| {
            format!(
                r#"{{"runtime_config":{{"storage_amount_per_byte":"10","transaction_costs":{{"action_receipt_creation_config":{fee},
                "action_creation_config":{{{actions},"add_key_cost":{{"full_access_cost":{fee}}}}}}}{more}}}}}"#
            )
        };
        let read = |text: String| Fees::parse(&RawValue::from_string(text).unwrap()).map_err(|_| ());
        let old = read(config("")).unwrap();
        assert_eq!((old.receipt.total(true), old.delete_key.total(false), old.storage_byte), (4, 5, 10));
        assert_eq!((old.min_gas_purchase_price, old.account_creation_charge), (0, 0));
        let new = read(config(r#","min_gas_purchase_price":"1000","account_creation_charge":"7""#)).unwrap();
        assert_eq!((new.min_gas_purchase_price, new.account_creation_charge), (1_000, 7));
        assert_eq!(read(r#"{"runtime_config":{}}"#.to_owned()), Err(()));
    }
}
