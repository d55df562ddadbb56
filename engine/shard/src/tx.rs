//! Builds, serialises, hashes and signs a transaction: values in, bytes out.
//!
//! The bytes are written straight from the transfers: borsh of near-primitives' `TransactionV0` is fields one after the other,
//! numbers little-endian, texts and lists behind a `u32` of their length. The tests hold them to near-primitives' own.
use std::sync::Arc;

use aws_lc_rs::signature::Ed25519KeyPair;
use borsh::BorshSerialize;
use near_crypto::{PublicKey, SecretKey};
use near_primitives::{hash::CryptoHash, types::AccountId};
use zeroize::Zeroize as _;

use crate::{Transfer, limits};

/// A secret key that signs and never shows itself: it has no `Debug`, no `Display` and no `Clone`.
pub struct Signer {
    secret: Secret,
    public: PublicKey,
    name: Arc<str>,
}

enum Secret {
    /// Held ready to sign, where near-crypto would derive the public key anew for every signature. Wiped when dropped.
    Ed25519(Ed25519KeyPair),
    Other(SecretKey),
}

impl Signer {
    /// Takes over a secret key.
    ///
    /// # Panics
    /// If the two halves of an ed25519 key do not belong together: every signature would be refused.
    pub fn new(mut secret: SecretKey) -> Self {
        let public = secret.public_key();
        let name = public.to_string().into();
        let secret = if let SecretKey::ED25519(pair) = &mut secret {
            let (seed, public) = pair.0.split_at(32);
            let ready = Ed25519KeyPair::from_seed_and_public_key(seed, public);
            pair.0.zeroize();
            // Its text says only that they differ.
            Secret::Ed25519(ready.unwrap_or_else(|why| panic!("the ed25519 key of {name} is damaged: {why}")))
        } else {
            Secret::Other(secret)
        };
        Self { secret, public, name }
    }

    /// The public key, `ed25519:...`.
    pub fn public_key(&self) -> &Arc<str> {
        &self.name
    }

    /// Appends the signature of `hash`, as borsh has it: the curve's number, then the signature.
    fn sign(&self, hash: &CryptoHash, bytes: &mut Vec<u8>) {
        match &self.secret {
            Secret::Ed25519(pair) => {
                bytes.push(0);
                bytes.extend_from_slice(pair.sign(hash.as_ref()).as_ref());
            }
            Secret::Other(secret) => to_memory(bytes, &secret.sign(hash.as_ref())),
        }
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

/// What one action of a transaction does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action<'a> {
    /// `ft_transfer` (NEP-141), with the 1 yoctoNEAR that it demands.
    Pay { transfer: &'a Transfer, gas: u64 },
    /// `storage_deposit` (NEP-145) that registers an account and nothing more.
    Register { account: &'a AccountId, deposit: u128, gas: u64 },
    /// A transfer of nothing to oneself: it only moves the nonce.
    Nothing,
}

/// Signs `actions`. The hash is taken of the bytes that are sent.
pub(crate) fn sign(signer: &Signer, envelope: &Envelope<'_>, actions: &[Action<'_>]) -> Signed {
    let size: usize = actions.iter().map(Action::bytes_usual).sum();
    let mut bytes = Vec::with_capacity(limits::TX_OVERHEAD_BYTES + size + SIGNATURE_BYTES);
    put_text(&mut bytes, envelope.signer_id.as_str());
    to_memory(&mut bytes, &signer.public);
    bytes.extend_from_slice(&envelope.nonce.to_le_bytes());
    put_text(&mut bytes, envelope.receiver_id.as_str());
    bytes.extend_from_slice(envelope.block_hash.as_ref());
    bytes.extend_from_slice(&length(actions.len()));
    for action in actions {
        action.put(&mut bytes);
    }
    let hash = CryptoHash::hash_bytes(&bytes);
    signer.sign(&hash, &mut bytes);
    Signed { hash, bytes: bytes.into() }
}

/// Of ed25519, and its curve's number.
const SIGNATURE_BYTES: usize = 1 + 64;

/// Variants of near-primitives' `Action`.
const FUNCTION_CALL: u8 = 2;
const TRANSFER: u8 = 3;

impl Action<'_> {
    fn put(&self, bytes: &mut Vec<u8>) {
        match *self {
            Self::Pay { transfer, gas } => put_call(bytes, "ft_transfer", gas, 1, |args| put_payment(args, transfer)),
            Self::Register { account, deposit, gas } => put_call(bytes, "storage_deposit", gas, deposit, |args| {
                args.extend_from_slice(br#"{"account_id":""#);
                args.extend_from_slice(account.as_bytes());
                args.extend_from_slice(br#"","registration_only":true}"#);
            }),
            Self::Nothing => {
                bytes.push(TRANSFER);
                bytes.extend_from_slice(&0u128.to_le_bytes());
            }
        }
    }

    /// Its size, when nothing in a memo has to be escaped.
    fn bytes_usual(&self) -> usize {
        match self {
            Self::Pay { transfer, .. } => PAYMENT_BYTES + transfer.receiver.len() + memo(transfer).len(),
            Self::Register { account, .. } => deposit_bytes_max(account),
            Self::Nothing => 1 + 16,
        }
    }
}

/// A `FunctionCallAction`.
fn put_call(bytes: &mut Vec<u8>, method: &str, gas: u64, deposit: u128, put_args: impl FnOnce(&mut Vec<u8>)) {
    bytes.push(FUNCTION_CALL);
    put_text(bytes, method);
    let at = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    put_args(bytes);
    let args = length(bytes.len() - at - 4);
    bytes[at..at + 4].copy_from_slice(&args);
    bytes.extend_from_slice(&gas.to_le_bytes());
    bytes.extend_from_slice(&deposit.to_le_bytes());
}

/// `{"receiver_id","amount","memo"}` in this order, the memo `""` when absent: what the Node service sends.
/// Account ids need no escaping: their alphabet has nothing that JSON escapes.
fn put_payment(args: &mut Vec<u8>, transfer: &Transfer) {
    args.extend_from_slice(br#"{"receiver_id":""#);
    args.extend_from_slice(transfer.receiver.as_bytes());
    args.extend_from_slice(br#"","amount":""#);
    args.extend_from_slice(itoa::Buffer::new().format(transfer.amount).as_bytes());
    args.extend_from_slice(br#"","memo":"#);
    put_json_text(args, memo(transfer));
    args.push(b'}');
}

fn memo(transfer: &Transfer) -> &str {
    transfer.memo.as_deref().unwrap_or_default()
}

#[expect(clippy::expect_used, reason = "writing to a Vec cannot fail")]
fn put_json_text(bytes: &mut Vec<u8>, text: &str) {
    // Counted, not searched for: without an early end, many bytes are looked at at once.
    let escaped = text.bytes().filter(|byte| matches!(byte, ..b' ' | b'"' | b'\\')).count();
    if escaped > 0 {
        return serde_json::to_writer(bytes, text).expect("writing to memory");
    }
    bytes.push(b'"');
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(b'"');
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&length(text.len()));
    bytes.extend_from_slice(text.as_bytes());
}

/// As borsh has it. Far below 4 GiB: a transaction has at most 1.5 MiB.
fn length(length: usize) -> [u8; 4] {
    (length as u32).to_le_bytes()
}

#[expect(clippy::expect_used, reason = "writing to a Vec cannot fail, and these types have no failing serialiser")]
fn to_memory(bytes: &mut Vec<u8>, value: &impl BorshSerialize) {
    borsh::to_writer(bytes, value).expect("writing to memory");
}

/// Bytes of a payment besides receiver and memo: the action's frame, the names of its arguments, and 39 digits.
const PAYMENT_BYTES: usize = 44 + 96;

/// Most bytes that [`Action::Pay`] adds to a transaction: in a memo every byte may be escaped to six.
pub(crate) fn transfer_bytes_max(transfer: &Transfer) -> usize {
    PAYMENT_BYTES + transfer.receiver.len() + 6 * memo(transfer).len()
}

/// Most bytes that [`Action::Register`] adds to a transaction.
pub(crate) fn deposit_bytes_max(account: &AccountId) -> usize {
    48 + 48 + account.len()
}

#[cfg(test)]
mod tests {
    use near_crypto::KeyType;
    use near_primitives::{
        action::{Action as NearAction, FunctionCallAction, TransferAction},
        transaction::{SignedTransaction, Transaction, TransactionV0},
        types::{Balance, Gas},
    };
    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;
    use crate::TransferId;

    /// The arguments of `ft_transfer`, as serde writes them.
    #[derive(Serialize)]
    struct Payment<'a> {
        receiver_id: &'a str,
        amount: String,
        memo: &'a str,
    }

    #[derive(Serialize)]
    struct Registration<'a> {
        account_id: &'a str,
        registration_only: bool,
    }

    /// The same with nothing of this file.
    fn near_action(action: &Action<'_>) -> NearAction {
        let call = |method: &str, args: Vec<u8>, gas: u64, deposit: u128| {
            NearAction::FunctionCall(Box::new(FunctionCallAction {
                method_name: method.to_owned(),
                args,
                gas: Gas::from_gas(gas),
                deposit: Balance::from_yoctonear(deposit),
            }))
        };
        match *action {
            Action::Pay { transfer: Transfer { receiver, amount, memo, .. }, gas } => {
                let memo = memo.as_deref().unwrap_or("");
                let args = Payment { receiver_id: receiver.as_str(), amount: amount.to_string(), memo };
                call("ft_transfer", serde_json::to_vec(&args).unwrap(), gas, 1)
            }
            Action::Register { account, deposit, gas } => {
                let args = Registration { account_id: account.as_str(), registration_only: true };
                call("storage_deposit", serde_json::to_vec(&args).unwrap(), gas, deposit)
            }
            Action::Nothing => NearAction::Transfer(TransferAction { deposit: Balance::ZERO }),
        }
    }

    /// What near-primitives and near-crypto make of it.
    fn near_signed(secret: &SecretKey, envelope: &Envelope<'_>, actions: &[Action<'_>]) -> (CryptoHash, Vec<u8>) {
        let transaction = Transaction::V0(TransactionV0 {
            signer_id: envelope.signer_id.clone(),
            public_key: secret.public_key(),
            nonce: envelope.nonce,
            receiver_id: envelope.receiver_id.clone(),
            block_hash: envelope.block_hash,
            actions: actions.iter().map(near_action).collect(),
        });
        let (hash, _) = transaction.get_hash_and_size();
        let signed = SignedTransaction::new(secret.sign(hash.as_ref()), transaction);
        assert!(signed.signature.verify(hash.as_ref(), signed.transaction.public_key()));
        (hash, borsh::to_vec(&signed).unwrap())
    }

    fn transfer(memo: Option<&str>) -> Transfer {
        Transfer {
            id: TransferId(1),
            receiver: "user1.test.near".parse().unwrap(),
            amount: u128::MAX,
            memo: memo.map(Into::into),
            key: None,
        }
    }

    fn bytes_of(action: Action<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        action.put(&mut bytes);
        bytes
    }

    #[test]
    fn every_kind_of_key_and_action_is_signed_as_near_does() {
        let (signer_id, receiver_id) = ("test.near".parse().unwrap(), "ft.test.near".parse().unwrap());
        let block_hash = CryptoHash::hash_bytes(b"block");
        let envelope = Envelope { signer_id: &signer_id, receiver_id: &receiver_id, nonce: 47_000_049, block_hash };
        let (account, transfer) = ("user1.test.near".parse().unwrap(), transfer(Some("a \"memo\" \n with ünicode")));
        let register = Action::Register { account: &account, deposit: 1_250_000_000_000_000_000_000, gas: 3 };
        let actions = [register, Action::Pay { transfer: &transfer, gas: 2_500_000_000_000 }, Action::Nothing];
        for kind in [KeyType::ED25519, KeyType::SECP256K1] {
            let secret = SecretKey::from_seed(kind, "signer");
            for actions in [&actions[..], &[]] {
                let signed = sign(&Signer::new(secret.clone()), &envelope, actions);
                let (hash, bytes) = near_signed(&secret, &envelope, actions);
                assert_eq!(signed.hash, hash);
                assert_eq!(signed.bytes.as_ref(), bytes);
            }
        }
    }

    #[test]
    #[should_panic(expected = "is damaged")]
    fn halves_that_do_not_belong_together_are_no_key() {
        let mut secret = SecretKey::from_seed(KeyType::ED25519, "signer");
        if let SecretKey::ED25519(pair) = &mut secret {
            pair.0[63] ^= 1;
        }
        Signer::new(secret);
    }

    #[test]
    fn arguments_are_the_node_services_to_the_byte() {
        let text = |memo| {
            let mut args = Vec::new();
            put_payment(&mut args, &transfer(memo));
            String::from_utf8(args).unwrap()
        };
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
            let size = bytes_of(Action::Pay { transfer: &transfer, gas: u64::MAX }).len();
            assert!(size <= transfer_bytes_max(&transfer), "{memo:?}: {size}");
        }
        let account: AccountId = "a".repeat(64).parse().unwrap();
        let register = Action::Register { account: &account, deposit: u128::MAX, gas: u64::MAX };
        assert!(bytes_of(register).len() <= deposit_bytes_max(&account));
    }

    /// What JSON escapes, beside what it does not.
    fn any_memo() -> impl Strategy<Value = Option<Box<str>>> {
        let letters = prop_oneof![
            any::<char>(),
            (0u8..=0x80).prop_map(char::from),
            Just('"'),
            Just('\\'),
            Just('\u{2028}'),
            proptest::char::range('a', 'z'),
        ];
        let odd = proptest::collection::vec(letters, 0..80).prop_map(String::from_iter);
        proptest::option::of(prop_oneof![odd, "[a-z0-9 #:-]{0,80}"].prop_map(String::into_boxed_str))
    }

    fn any_transfer() -> impl Strategy<Value = (Transfer, bool)> {
        let amount = prop_oneof![any::<u128>(), any::<u64>().prop_map(u128::from), 0u128..1_000];
        let receiver = prop_oneof!["[a-z0-9]{2,20}([-_.][a-z0-9]{1,10}){0,3}", "[0-9a-f]{64}", "0x[0-9a-f]{40}"];
        (receiver, amount, any_memo(), any::<bool>()).prop_map(|(receiver, amount, memo, registers)| {
            let receiver = receiver.parse().unwrap();
            (Transfer { id: TransferId(1), receiver, amount, memo, key: None }, registers)
        })
    }

    proptest! {
        #[test]
        fn bytes_hash_and_signature_are_those_of_near(
            transfers in proptest::collection::vec(any_transfer(), 0..12),
            seed in "[a-z]{1,8}",
            nonce in any::<u64>(),
            block in any::<[u8; 32]>(),
            (gas, deposit) in any::<(u64, u128)>(),
        ) {
            let secret = SecretKey::from_seed(KeyType::ED25519, &seed);
            let (signer_id, receiver_id) = ("a-rather-long-name.test.near".parse().unwrap(), "ft.near".parse().unwrap());
            let block_hash = CryptoHash(block);
            let envelope = Envelope { signer_id: &signer_id, receiver_id: &receiver_id, nonce, block_hash };
            let mut actions = Vec::new();
            for (transfer, registers) in &transfers {
                if *registers {
                    actions.push(Action::Register { account: &transfer.receiver, deposit, gas });
                }
                actions.push(Action::Pay { transfer, gas });
            }
            let signed = sign(&Signer::new(secret.clone()), &envelope, &actions);
            let (hash, bytes) = near_signed(&secret, &envelope, &actions);
            prop_assert_eq!(signed.hash, hash);
            prop_assert_eq!(signed.bytes.as_ref(), bytes.as_slice());
            let bounds = transfers.iter().map(|(transfer, registers)| {
                transfer_bytes_max(transfer) + if *registers { deposit_bytes_max(&transfer.receiver) } else { 0 }
            });
            prop_assert!(bytes.len() - SIGNATURE_BYTES <= limits::TX_OVERHEAD_BYTES + bounds.sum::<usize>());
        }
    }
}
