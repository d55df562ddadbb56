//! The token: a contract of NEP-141, with some of it for the paying account, and what a registration costs.
use keyshard_engine::{StoragePolicy, rpc::Refusal};
use serde::Deserialize;

use super::{Report, Wanted};
use crate::{near_amount::near, provision::node::Node};

/// The error means that no node answers any more.
pub(super) async fn look(wanted: &Wanted, node: &Node, report: &mut Report) -> Result<(), String> {
    let (token, account) = (&wanted.offline.token, &wanted.offline.account);
    let of_account = format!(r#"{{"account_id":"{account}"}}"#);
    let balance = match node.view(token, "ft_balance_of", &of_account).await? {
        Ok(balance) => text(&balance).and_then(|text| text.parse::<u128>().ok()),
        Err(refusal) => {
            let why = match refusal {
                Refusal::UnknownAccount => "the account does not exist".to_owned(),
                Refusal::NoContractCode => "the account holds no contract".to_owned(),
                Refusal::ContractError(text) => format!("ft_balance_of failed: {text}"),
                other => other.name().to_owned(),
            };
            report.fail(
                "token",
                format!(
                    "{token} is not a fungible token: {why}. Check FT_CONTRACT (keyshard provision token deploys one)"
                ),
            );
            return Ok(());
        }
    };
    let metadata = node.view(token, "ft_metadata", "{}").await?.ok();
    match metadata.and_then(|metadata| serde_json::from_slice::<Metadata>(&metadata).ok()) {
        Some(Metadata { name, symbol, decimals }) => {
            report.ok("token", format!("{token} is {name:?} ({symbol:?}, {decimals} decimals)"));
        }
        None => report.warn("token", format!("{token} has no ft_metadata (NEP-148): is it the right contract?")),
    }
    let registered = node.view(token, "storage_balance_of", &of_account).await?;
    if registered.as_ref().is_ok_and(|balance| balance.trim_ascii() == b"null") && balance == Some(0) {
        report.fail(
            "sender",
            format!("{account} is not registered with {token}: it can hold and send nothing. Register it (storage_deposit), then send it tokens"),
        );
    }
    match balance {
        None => report.fail("token", format!("{token} did not answer ft_balance_of with an amount: check FT_CONTRACT")),
        Some(0) => report.warn("tokens", format!("{account} holds no {token}: transfers wait until it does")),
        Some(balance) => report.ok("tokens", format!("{account} holds {balance} units of {token}")),
    }
    storage(wanted, node, report).await
}

async fn storage(wanted: &Wanted, node: &Node, report: &mut Report) -> Result<(), String> {
    let token = &wanted.offline.token;
    if wanted.storage == StoragePolicy::Never {
        report.ok("storage", "receivers are never registered (STORAGE_DEPOSIT=never): transfers to new ones fail");
        return Ok(());
    }
    let bounds = match node.view(token, "storage_balance_bounds", "{}").await? {
        Ok(bounds) => serde_json::from_slice::<Bounds>(&bounds).ok().and_then(|bounds| bounds.min.parse::<u128>().ok()),
        Err(Refusal::ContractError(text)) if text.contains("MethodNotFound") => {
            report.ok("storage", format!("{token} has no NEP-145: receivers need no registration"));
            return Ok(());
        }
        Err(_) => None,
    };
    match (bounds, wanted.storage_deposit) {
        (None, _) => report.fail("storage", format!("{token} did not answer storage_balance_bounds as NEP-145 says")),
        (Some(min), Some(deposit)) if deposit < min => report.fail(
            "storage",
            format!(
                "STORAGE_MIN_DEPOSIT is {deposit} yoctoNEAR, {token} asks for {min}: registrations would fail. Unset it"
            ),
        ),
        (Some(min), deposit) => {
            let each = deposit.unwrap_or(min);
            report.ok(
                "storage",
                format!("each new receiver costs {}, a thousand of them {}", near(each), near(each * 1_000)),
            );
        }
    }
    Ok(())
}

/// A JSON string.
fn text(bytes: &[u8]) -> Option<String> {
    serde_json::from_slice(bytes).ok()
}

/// Of NEP-148: what is shown.
#[derive(Deserialize)]
struct Metadata {
    name: String,
    symbol: String,
    decimals: u8,
}

/// Of NEP-145: what a registration costs at least, yoctoNEAR.
#[derive(Deserialize)]
struct Bounds {
    min: String,
}
