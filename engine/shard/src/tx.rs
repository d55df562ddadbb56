//! Builds, serialises, hashes and signs a transaction: values in, bytes out.
use std::{io::Write, sync::Arc};

use near_crypto::{PublicKey, SecretKey};
use near_primitives::{
    action::{Action, FunctionCallAction, TransferAction},
    hash::CryptoHash,
    transaction::{Transaction, TransactionV0},
    types::{AccountId, Balance, Gas},
};

use crate::Transfer;

/// A secret key that signs and never shows itself: it has no `Debug`, no `Display` and no `Clone`.
pub struct Signer {
    secret: SecretKey,
    public: PublicKey,
    name: Arc<str>,
}

impl Signer {
    /// Takes over a secret key.
    pub fn new(secret: SecretKey) -> Self {
        let public = secret.public_key();
        let name = public.to_string().into();
        Self { secret, public, name }
    }

    /// The public key, `ed25519:...`.
    pub fn public_key(&self) -> &Arc<str> {
        &self.name
    }
}

/// A signed transaction.
#[derive(Debug)]
pub(crate) struct Signed {
    /// Its id: sha256 of the unsigned borsh bytes (near-primitives `Transaction::get_hash_and_size`).
    pub(crate) hash: CryptoHash,
    /// Unsigned bytes, then the signature: what `send_tx` takes, in base64.
    pub(crate) bytes: Arc<[u8]>,
}

/// What every transaction of a shard has in common.
pub(crate) struct Envelope<'a> {
    pub(crate) signer_id: &'a AccountId,
    pub(crate) receiver_id: &'a AccountId,
    pub(crate) nonce: u64,
    pub(crate) block_hash: CryptoHash,
}

/// Signs `actions`. One serialisation: the hash is taken of the bytes that are sent.
pub(crate) fn sign(signer: &Signer, envelope: &Envelope<'_>, actions: Vec<Action>) -> Signed {
    let transaction = Transaction::V0(TransactionV0 {
        signer_id: envelope.signer_id.clone(),
        public_key: signer.public.clone(),
        nonce: envelope.nonce,
        receiver_id: envelope.receiver_id.clone(),
        block_hash: envelope.block_hash,
        actions,
    });
    let mut bytes = Vec::with_capacity(16 * 1024);
    to_memory(&mut bytes, &transaction);
    let hash = CryptoHash::hash_bytes(&bytes);
    to_memory(&mut bytes, &signer.secret.sign(hash.as_ref()));
    Signed { hash, bytes: bytes.into() }
}

#[expect(clippy::expect_used, reason = "writing to a Vec cannot fail, and these types have no failing serialiser")]
fn to_memory(bytes: &mut Vec<u8>, value: &impl borsh::BorshSerialize) {
    borsh::to_writer(bytes, value).expect("writing to memory");
}

/// `ft_transfer` (NEP-141), with the 1 yoctoNEAR that it demands.
pub(crate) fn ft_transfer(transfer: &Transfer, gas: u64) -> Action {
    call("ft_transfer", transfer_args(transfer), gas, 1)
}

/// `storage_deposit` (NEP-145) that registers `account` and nothing more.
pub(crate) fn storage_deposit(account: &AccountId, deposit: u128, gas: u64) -> Action {
    let args = format!(r#"{{"account_id":"{account}","registration_only":true}}"#);
    call("storage_deposit", args.into_bytes(), gas, deposit)
}

/// A transfer of nothing to oneself: it only moves the nonce.
pub(crate) fn nothing() -> Action {
    Action::Transfer(TransferAction { deposit: Balance::ZERO })
}

fn call(method: &str, args: Vec<u8>, gas: u64, deposit: u128) -> Action {
    Action::FunctionCall(Box::new(FunctionCallAction {
        method_name: method.to_owned(),
        args,
        gas: Gas::from_gas(gas),
        deposit: Balance::from_yoctonear(deposit),
    }))
}

/// `{"receiver_id","amount","memo"}` in this order, the memo `""` when absent: what the Node service sends.
/// Account ids need no escaping: their alphabet has nothing that JSON escapes.
#[expect(clippy::expect_used, reason = "writing to a Vec cannot fail")]
fn transfer_args(transfer: &Transfer) -> Vec<u8> {
    let memo = transfer.memo.as_deref().unwrap_or_default();
    let mut args = Vec::with_capacity(64 + transfer.receiver.len() + memo.len());
    write!(args, r#"{{"receiver_id":"{}","amount":"{}","memo":"#, transfer.receiver, transfer.amount)
        .and_then(|()| serde_json::to_writer(&mut args, memo).map_err(Into::into))
        .and_then(|()| args.write_all(b"}"))
        .expect("writing to memory");
    args
}

/// Most bytes that [`ft_transfer`] adds to a transaction: the action's frame, and its arguments with a memo in which
/// every byte may be escaped to six.
pub(crate) fn transfer_bytes_max(transfer: &Transfer) -> usize {
    44 + 96 + transfer.receiver.len() + 6 * transfer.memo.as_deref().map_or(0, str::len)
}

/// Most bytes that [`storage_deposit`] adds to a transaction.
pub(crate) fn deposit_bytes_max(account: &AccountId) -> usize {
    48 + 48 + account.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TransferId;
    use near_crypto::KeyType;
    use near_primitives::transaction::SignedTransaction;

    fn transfer(memo: Option<&str>) -> Transfer {
        Transfer {
            id: TransferId(1),
            receiver: "user1.test.near".parse().unwrap(),
            amount: u128::MAX,
            memo: memo.map(Into::into),
            key: None,
        }
    }

    #[test]
    fn the_bytes_are_those_of_near_primitives() {
        let secret = SecretKey::from_seed(KeyType::ED25519, "signer");
        let (signer_id, receiver_id): (AccountId, AccountId) =
            ("test.near".parse().unwrap(), "ft.test.near".parse().unwrap());
        let actions = vec![
            storage_deposit(&"user1.test.near".parse().unwrap(), 1_250_000_000_000_000_000_000, 3),
            ft_transfer(&transfer(Some("a \"memo\" \n with ünicode")), 2_500_000_000_000),
            nothing(),
        ];
        let envelope = Envelope {
            signer_id: &signer_id,
            receiver_id: &receiver_id,
            nonce: 47_000_049,
            block_hash: CryptoHash::hash_bytes(b"block"),
        };
        let signed = sign(&Signer::new(secret.clone()), &envelope, actions.clone());
        let transaction = Transaction::V0(TransactionV0 {
            signer_id: signer_id.clone(),
            public_key: secret.public_key(),
            nonce: 47_000_049,
            receiver_id: receiver_id.clone(),
            block_hash: envelope.block_hash,
            actions,
        });
        let (hash, _) = transaction.get_hash_and_size();
        let canonical = SignedTransaction::new(secret.sign(hash.as_ref()), transaction);
        assert_eq!(signed.hash, hash);
        assert_eq!(signed.bytes.as_ref(), borsh::to_vec(&canonical).unwrap());
    }

    #[test]
    fn arguments_are_the_node_services_to_the_byte() {
        let text = |memo| String::from_utf8(transfer_args(&transfer(memo))).unwrap();
        let amount = u128::MAX;
        assert_eq!(text(None), format!(r#"{{"receiver_id":"user1.test.near","amount":"{amount}","memo":""}}"#));
        assert_eq!(
            text(Some("say \"hi\"\u{1}")),
            format!(r#"{{"receiver_id":"user1.test.near","amount":"{amount}","memo":"say \"hi\"\u0001"}}"#)
        );
    }

    #[test]
    fn size_estimates_are_upper_bounds() {
        for memo in [None, Some(""), Some("plain"), Some("\u{1}\u{1}\u{1}\u{1}"), Some("\"\"\"\"\"")] {
            let transfer = transfer(memo);
            let size = borsh::to_vec(&ft_transfer(&transfer, 1)).unwrap().len();
            assert!(size <= transfer_bytes_max(&transfer), "{memo:?}: {size}");
        }
        let account: AccountId = "a".repeat(64).parse().unwrap();
        assert!(borsh::to_vec(&storage_deposit(&account, 1, 1)).unwrap().len() <= deposit_bytes_max(&account));
    }
}
