//! Transfers that settled together as bytes: sealed; a version, what they share, then each by itself.
//!
//! Shared is the moment, and the last transaction that carried them, if any did. Borsh of the fields in the order in which
//! they stand here; each transfer is preceded by its length, so that one is found without reading the others.
use borsh::{BorshDeserialize, BorshSerialize};
use keyshard_shard::{BatchId, Carried, CryptoHash, IdempotencyKey, Instant, Transfer, TransferId};
use near_primitives::types::AccountId;

use super::{Settled, sealed};

const VERSION: u8 = 2;

/// Transfers in a group at most. A transaction has at most 100 actions.
pub(super) const MEMBERS_MAX: usize = 128;

/// Bytes of an id, with which every transfer begins.
const ID_BYTES: usize = 16;

/// What all of a group have in common.
#[derive(BorshSerialize, BorshDeserialize, PartialEq, Eq, Clone, Copy)]
struct Shared {
    settled_at: Instant,
    carried: Option<(CryptoHash, BatchId)>,
}

/// One of a group. By what comes first it is found without reading the rest.
#[derive(BorshDeserialize)]
struct Member {
    id: TransferId,
    key: Option<IdempotencyKey>,
    receiver: AccountId,
    amount: u128,
    memo: Option<Box<str>>,
    accepted_at: Instant,
    /// Why it failed; `None` if it is paid.
    failed: Option<Box<str>>,
    /// Its position in the transaction; 0 if there was none.
    position: u16,
    tried: Vec<CryptoHash>,
}

/// A group on the disk, opened.
pub(super) struct Group<'a> {
    shared: Shared,
    count: u32,
    members: &'a [u8],
}

impl Shared {
    fn of(settled: &Settled) -> Self {
        let carried = settled.carried.map(|carried| (carried.hash, carried.batch));
        Self { settled_at: settled.settled_at, carried }
    }
}

/// Cuts these into groups, in their order.
pub(super) fn cut<'a, 'b>(settled: &'b [&'a Settled]) -> impl Iterator<Item = &'b [&'a Settled]> {
    settled.chunk_by(|a, b| Shared::of(a) == Shared::of(b)).flat_map(|together| together.chunks(MEMBERS_MAX))
}

/// The bytes of one group: of at least one transfer, all of which share what a group shares.
#[expect(clippy::expect_used, reason = "writing to a Vec cannot fail, and these types have no failing serialiser")]
pub(super) fn encode(members: &[&Settled]) -> Vec<u8> {
    const EACH: usize = 160;
    let written = "writing to memory";
    let mut bytes = sealed::begin(EACH * (members.len() + 1));
    bytes.push(VERSION);
    Shared::of(members[0]).serialize(&mut bytes).expect(written);
    (members.len() as u32).serialize(&mut bytes).expect(written);
    for member in members {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        let failed = member.outcome.as_ref().err();
        let position = member.carried.map_or(0, |carried| carried.position);
        let Transfer { id, receiver, amount, memo, key } = &member.transfer;
        let fields = (id, key, receiver, amount, memo, member.accepted_at, failed, position, &member.tried);
        fields.serialize(&mut bytes).expect(written);
        let length = (bytes.len() - start - 4) as u32;
        bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }
    sealed::finish(&mut bytes);
    bytes
}

impl<'a> Group<'a> {
    /// Reads what [`encode`] wrote; safe for any bytes.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let Some((version, mut body)) = sealed::open(bytes)?.split_first() else {
            return Err("a group without a word".to_owned());
        };
        if *version != VERSION {
            return Err(format!("a group of format {version}, this version reads format {VERSION}"));
        }
        let head = <(Shared, u32)>::deserialize(&mut body);
        let (shared, count) = head.map_err(|error| format!("a group that cannot be read: {error}"))?;
        if count == 0 {
            return Err("a group of none".to_owned());
        }
        Ok(Self { shared, count, members: body })
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.count.into()
    }

    /// The ids of all.
    pub(super) fn ids(&self) -> Result<Vec<u128>, String> {
        self.members().map(|member| id(member?)).collect()
    }

    /// The one with this id.
    pub(super) fn find(&self, wanted: u128) -> Result<Option<Settled>, String> {
        for member in self.members() {
            let member = member?;
            if id(member)? == wanted {
                return self.decode(member).map(Some);
            }
        }
        Ok(None)
    }

    /// The last one with this name.
    pub(super) fn named(&self, name: &str) -> Result<Option<Settled>, String> {
        let mut found = None;
        for member in self.members() {
            let member = member?;
            if is_named(member, name) {
                found = Some(self.decode(member)?);
            }
        }
        Ok(found)
    }

    /// All, in their order.
    pub(super) fn all(&self) -> Result<Vec<Settled>, String> {
        self.members().map(|member| self.decode(member?)).collect()
    }

    fn members(&self) -> impl Iterator<Item = Result<&'a [u8], String>> {
        let (mut rest, mut left) = (self.members, self.count);
        std::iter::from_fn(move || {
            if left == 0 {
                let surplus = std::mem::take(&mut rest).len();
                return (surplus > 0).then(|| Err(format!("a group with {surplus} bytes too many")));
            }
            left -= 1;
            let member = rest.split_first_chunk().and_then(|(length, after)| {
                let (member, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                rest = after;
                Some(member)
            });
            if member.is_none() {
                (left, rest) = (0, &[]);
            }
            Some(member.ok_or_else(|| "a group that ends too early".to_owned()))
        })
    }

    fn decode(&self, member: &[u8]) -> Result<Settled, String> {
        let member: Member =
            borsh::from_slice(member).map_err(|error| format!("a transfer that cannot be read: {error}"))?;
        let Member { id, key, receiver, amount, memo, position, .. } = member;
        if self.shared.carried.is_none() && position > 0 {
            return Err("a transfer with a position in no transaction".to_owned());
        }
        Ok(Settled {
            transfer: Transfer { id, receiver, amount, memo, key },
            accepted_at: member.accepted_at,
            settled_at: self.shared.settled_at,
            outcome: member.failed.map_or(Ok(()), Err),
            carried: self.shared.carried.map(|(hash, batch)| Carried { hash, batch, position }),
            tried: member.tried,
        })
    }
}

fn id(member: &[u8]) -> Result<u128, String> {
    let bytes = member.first_chunk::<ID_BYTES>().ok_or("a transfer without an id")?;
    Ok(u128::from_le_bytes(*bytes))
}

fn is_named(member: &[u8], name: &str) -> bool {
    // After the id: whether there is a key, the length of its name, its name.
    let key = member.get(ID_BYTES..).and_then(|rest| rest.strip_prefix(&[1]));
    let named = key.and_then(|key| key.split_first_chunk());
    named.is_some_and(|(length, rest)| {
        u32::from_le_bytes(*length) as usize == name.len() && rest.starts_with(name.as_bytes())
    })
}
