//! What a journal says is still open, and how a new life takes it over.
use std::{cmp::Ordering, hash::BuildHasher as _, sync::Arc};

use foldhash::{HashMap, HashSet, fast::RandomState};
use hashbrown::{HashTable, hash_table::Entry};
use near_primitives::{action::Action, hash::CryptoHash, transaction::SignedTransaction};

use crate::{BatchId, Closed, Instant, Record, RecoveredSettled, Transfer, TransferId, batch::Step, settled::settled};

/// Everything that the records of former lives leave open.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The last life; 0 if there was none.
    pub life: u64,
    /// The chain that the journal is of; `None` if it is empty.
    pub genesis: Option<CryptoHash>,
    /// Accepted and not settled, in the order they were accepted.
    pub transfers: Vec<RecoveredTransfer>,
    /// Signed, and their end not known.
    pub attempts: Vec<RecoveredAttempt>,
    /// The highest nonce signed with each key, `ed25519:...`.
    pub nonces: HashMap<Arc<str>, u64>,
    /// What has settled in these records. The history may lack it.
    pub settled: Vec<RecoveredSettled>,
}

/// A transfer that has not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredTransfer {
    /// As it was accepted.
    pub transfer: Arc<Transfer>,
    /// When.
    pub accepted_at: Instant,
    /// The open transaction that carries it, if any.
    pub carried_by: Option<Box<CryptoHash>>,
    /// Transactions that carried it before and ended without paying it.
    pub tried: Box<[CryptoHash]>,
}

const _: () = assert!(size_of::<Option<RecoveredTransfer>>() <= 40, "there may be a million");

/// A transaction whose end is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredAttempt {
    /// The signing key.
    pub public_key: Arc<str>,
    /// Its nonce.
    pub nonce: u64,
    /// Hash of the transaction.
    pub hash: CryptoHash,
    /// Height of its reference block.
    pub reference_height: u64,
    /// The signed transaction, borsh.
    pub bytes: Arc<[u8]>,
    /// Its name.
    pub batch: BatchId,
    /// The transfers it carries; none for a fence.
    pub transfers: Box<[TransferId]>,
    /// What each of its actions does.
    pub(crate) steps: Vec<Step>,
}

impl Recovered {
    /// Divides it among the shards of a new life: a transaction goes to the shard of its key, its transfers with it,
    /// and what waits is spread. What has settled concerns no shard: take it out first.
    pub fn split(
        self,
        shards: usize,
        shard_of_key: impl Fn(&str) -> usize,
        shard_of_transfer: impl Fn(TransferId) -> usize,
    ) -> Vec<Recovered> {
        let mut parts: Vec<Recovered> = (0..shards)
            .map(|_| Recovered {
                life: self.life,
                genesis: self.genesis,
                nonces: self.nonces.clone(),
                transfers: Vec::with_capacity(self.transfers.len() / shards),
                ..Recovered::default()
            })
            .collect();
        let mut shard_of_attempt = HashMap::default();
        for attempt in self.attempts {
            let shard = shard_of_key(&attempt.public_key);
            shard_of_attempt.insert(attempt.hash, shard);
            parts[shard].attempts.push(attempt);
        }
        for transfer in self.transfers {
            let shard = match &transfer.carried_by {
                Some(hash) => shard_of_attempt[&**hash],
                None => shard_of_transfer(transfer.transfer.id),
            };
            parts[shard].transfers.push(transfer);
        }
        parts
    }
}

/// Records that contradict each other: the journal is damaged, or was written by something else. Going on could pay twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the journal contradicts itself: {0}")]
pub struct Contradiction(String);

/// What the records of a whole journal, in the order they were written and each with its shard, leave open.
pub fn recover(records: impl IntoIterator<Item = (u16, Record)>) -> Result<Recovered, Contradiction> {
    let mut recovery = Recovery::default();
    for (shard, record) in records {
        recovery.push(shard, record);
    }
    recovery.finish()
}

/// Gathers the records of a whole journal, to see what they leave open.
///
/// A repetition ([`Record::Begin`] to [`Record::End`]) replaces what its shard wrote before in the same life; the first
/// repetitions of all shards of a life replace all former lives. Incomplete ones replace nothing: a life that died while
/// it took over leaves two accounts of the same things, which agree. Which records count is known only at the end.
#[derive(Default)]
pub struct Recovery {
    /// In pieces, which neither move as more come nor stay when they are read.
    pieces: Vec<Vec<(u16, Kept)>>,
    /// How many of them are acceptances.
    acceptances: usize,
}

/// Records in a piece.
const PIECE: usize = 16 * 1024;

/// A record, kept small: of a million, most are acceptances.
pub(crate) enum Kept {
    /// [`Record::Accepted`]
    Accepted { transfer: Arc<Transfer>, at: Instant, tried: Box<[CryptoHash]> },
    /// Any other.
    Other(Box<Record>),
}

const _: () = assert!(size_of::<(u16, Kept)>() <= 40, "there may be millions");

impl Recovery {
    /// The next record, and the shard that wrote it.
    pub fn push(&mut self, shard: u16, record: Record) {
        let kept = match record {
            Record::Accepted { transfer, at, tried } => {
                self.acceptances += 1;
                Kept::Accepted { transfer, at, tried }
            }
            other => Kept::Other(Box::new(other)),
        };
        if self.pieces.last().is_none_or(|piece| piece.len() == PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        if let Some(piece) = self.pieces.last_mut() {
            piece.push((shard, kept));
        }
    }

    /// What they leave open.
    pub fn finish(self) -> Result<Recovered, Contradiction> {
        let plan = Plan::read(self.iter())?;
        let settled = settled(|| self.iter().map(|(_, kept)| kept));
        replay(self, &plan, settled)
    }

    fn iter(&self) -> impl DoubleEndedIterator<Item = (u16, &Kept)> {
        self.pieces.iter().flatten().map(|(shard, kept)| (*shard, kept))
    }
}

fn replay(records: Recovery, plan: &Plan, settled: Vec<RecoveredSettled>) -> Result<Recovered, Contradiction> {
    let mut replay = Replay::new(records.acceptances);
    let mut lives: HashMap<u16, u64> = HashMap::default();
    let mut genesis = None;
    for (index, (shard, record)) in records.pieces.into_iter().flatten().enumerate() {
        if let Kept::Other(record) = &record
            && let Record::Begin { life, genesis: of, .. } = **record
        {
            lives.insert(shard, life);
            genesis = Some(of);
        }
        // Records before a shard's first beginning are what deleted segments have left of older accounts.
        let Some(&life) = lives.get(&shard) else { continue };
        let replaced = match life.cmp(&plan.first_life) {
            Ordering::Less => true,
            Ordering::Equal => index < plan.starts.get(&shard).copied().unwrap_or_default(),
            // Former lives are read besides a life that is not complete, so the ends of what they left open count.
            Ordering::Greater => false,
        };
        if !replaced {
            match record {
                Kept::Accepted { transfer, at, tried } => replay.accepted(transfer, at, tried)?,
                Kept::Other(record) => replay.read(*record)?,
            }
        }
    }
    Ok(Recovered { life: plan.last_life, genesis, settled, ..replay.finish() })
}

/// Which records count.
#[derive(Default)]
struct Plan {
    /// Lives before this one are replaced.
    first_life: u64,
    last_life: u64,
    /// By shard of the first life that counts: where its last complete repetition begins.
    starts: HashMap<u16, usize>,
}

impl Plan {
    fn read<'a>(records: impl Iterator<Item = (u16, &'a Kept)>) -> Result<Self, Contradiction> {
        let mut plan = Self::default();
        // By shard: its life, and where a repetition that is not complete yet begins.
        let mut now: HashMap<u16, (u64, Option<usize>)> = HashMap::default();
        // By life: where the last complete repetition of each shard begins.
        let mut complete: HashMap<u64, HashMap<u16, usize>> = HashMap::default();
        // In their order: every life that begins, and of how many shards.
        let mut begun = Vec::new();
        let mut chain = None;
        let mut beheaded = None;
        for (index, (shard, kept)) in records.enumerate() {
            let record = match kept {
                Kept::Other(record) => Some(&**record),
                Kept::Accepted { .. } => None,
            };
            match record {
                Some(Record::Begin { life, genesis, shards }) => {
                    if *chain.get_or_insert(*genesis) != *genesis {
                        return Err(Contradiction(format!("it tells of two chains, {chain:?} and {genesis}")));
                    }
                    if now.get(&shard).is_some_and(|(before, _)| before > life) {
                        return Err(Contradiction(format!("life {life} of shard {shard} comes after a later one")));
                    }
                    plan.last_life = plan.last_life.max(*life);
                    now.insert(shard, (*life, Some(index)));
                    begun.push((*life, *shards));
                }
                Some(Record::End) => {
                    let Some((life, begin)) = now.get_mut(&shard) else {
                        beheaded.get_or_insert(shard);
                        continue;
                    };
                    let Some(begin) = begin.take() else { return Err(headless(shard)) };
                    complete.entry(*life).or_default().insert(shard, begin);
                }
                _ if !now.contains_key(&shard) => {
                    beheaded.get_or_insert(shard);
                }
                _ => {}
            }
        }
        for (life, shards) in begun {
            if life > plan.first_life
                && complete.get(&life).is_some_and(|complete| complete.len() == usize::from(shards))
            {
                plan.first_life = life;
            }
        }
        plan.starts = complete.remove(&plan.first_life).unwrap_or_default();
        // Segments are deleted only when a whole life stands without them.
        match beheaded {
            Some(shard) if plan.first_life == 0 => Err(headless(shard)),
            _ => Ok(plan),
        }
    }
}

fn headless(shard: u16) -> Contradiction {
    Contradiction(format!("shard {shard} goes on without having begun"))
}

/// Follows records in the order they were written.
#[derive(Default)]
struct Replay {
    /// In the order of acceptance; those that settled are gone.
    accepted: Vec<Option<RecoveredTransfer>>,
    /// Their places there, by id. A million of them are looked up one by one: what is looked at is kept small.
    open: HashTable<u32>,
    hasher: RandomState,
    settled: HashSet<TransferId>,
    attempts: HashMap<CryptoHash, RecoveredAttempt>,
    closed: HashSet<CryptoHash>,
    nonces: HashMap<Arc<str>, u64>,
    taken: HashMap<(Arc<str>, u64), CryptoHash>,
}

impl Replay {
    /// With room for so many transfers.
    fn new(transfers: usize) -> Self {
        let mut replay = Self { accepted: Vec::with_capacity(transfers), ..Self::default() };
        let (accepted, hasher) = (&replay.accepted, &replay.hasher);
        replay.open.reserve(transfers, |place| hasher.hash_one(id_at(accepted, *place)));
        replay
    }

    /// Reads one more record. A record may come twice: repetitions repeat what is open.
    fn read(&mut self, record: Record) -> Result<(), Contradiction> {
        match record {
            Record::Accepted { transfer, at, tried } => self.accepted(transfer, at, tried),
            Record::Begin { .. } | Record::End => Ok(()),
            Record::Nonce { public_key, nonce } => {
                let highest = self.nonces.entry(public_key).or_default();
                *highest = nonce.max(*highest);
                Ok(())
            }
            Record::Signed { public_key, nonce, hash, reference_height, bytes, batch, transfers } => {
                if self.closed.contains(&hash) {
                    return Err(Contradiction(format!("transaction {hash} is signed after its end")));
                }
                let highest = self.nonces.entry(public_key.clone()).or_default();
                *highest = nonce.max(*highest);
                if *self.taken.entry((public_key.clone(), nonce)).or_insert(hash) != hash {
                    return Err(Contradiction(format!("nonce {nonce} of {public_key} was signed twice")));
                }
                if self.attempts.contains_key(&hash) {
                    return Ok(());
                }
                for id in &transfers {
                    match self.open(*id).map(|open| &mut open.carried_by) {
                        Some(place @ None) => *place = Some(Box::new(hash)),
                        Some(Some(other)) => {
                            return Err(Contradiction(format!("transfer {id:?} is in {hash} and in {other}")));
                        }
                        None => return Err(Contradiction(format!("{hash} carries {id:?}, which is not open"))),
                    }
                }
                let steps = steps(&bytes, hash, transfers.len())?;
                let attempt =
                    RecoveredAttempt { public_key, nonce, hash, reference_height, bytes, batch, transfers, steps };
                self.attempts.insert(hash, attempt);
                Ok(())
            }
            Record::Closed { hash, how, .. } => {
                let Some(attempt) = self.attempts.remove(&hash) else {
                    return Err(Contradiction(format!("the end of {hash}, which was never signed")));
                };
                self.closed.insert(hash);
                for id in attempt.transfers {
                    match how {
                        Closed::Landed => self.settle(id),
                        Closed::Failed { .. } | Closed::Dead(_) => {
                            if let Some(open) = self.open(id) {
                                open.carried_by = None;
                                push(&mut open.tried, hash);
                            }
                        }
                    }
                }
                Ok(())
            }
            Record::Failed { id, .. } => match self.open(id).map(|open| open.carried_by.clone()) {
                Some(None) => {
                    self.settle(id);
                    Ok(())
                }
                Some(Some(hash)) => Err(Contradiction(format!("transfer {id:?} has failed, but {hash} carries it"))),
                None => Err(Contradiction(format!("transfer {id:?} has failed, but is not open"))),
            },
        }
    }

    fn accepted(
        &mut self,
        transfer: Arc<Transfer>,
        at: Instant,
        tried: Box<[CryptoHash]>,
    ) -> Result<(), Contradiction> {
        let id = transfer.id;
        if self.settled.contains(&id) {
            return Err(Contradiction(format!("transfer {id:?} is accepted after it has settled")));
        }
        let Self { accepted, open, hasher, .. } = self;
        let is_it = |place: &u32| id_at(accepted, *place) == Some(id);
        if let Entry::Vacant(entry) =
            open.entry(hasher.hash_one(Some(id)), is_it, |place| hasher.hash_one(id_at(accepted, *place)))
        {
            entry.insert(accepted.len() as u32);
            accepted.push(Some(RecoveredTransfer { transfer, accepted_at: at, carried_by: None, tried }));
        }
        Ok(())
    }

    fn open(&mut self, id: TransferId) -> Option<&mut RecoveredTransfer> {
        let place =
            self.open.find(self.hasher.hash_one(Some(id)), |place| id_at(&self.accepted, *place) == Some(id))?;
        self.accepted[*place as usize].as_mut()
    }

    fn settle(&mut self, id: TransferId) {
        let is_it = |place: &u32| id_at(&self.accepted, *place) == Some(id);
        if let Ok(entry) = self.open.find_entry(self.hasher.hash_one(Some(id)), is_it) {
            let place = entry.remove().0;
            self.accepted[place as usize] = None;
        }
        self.settled.insert(id);
    }

    /// What is open after the last record.
    fn finish(self) -> Recovered {
        let transfers = self.accepted.into_iter().flatten().collect();
        let mut attempts: Vec<_> = self.attempts.into_values().collect();
        attempts.sort_unstable_by(|a, b| (&a.public_key, a.nonce).cmp(&(&b.public_key, b.nonce)));
        Recovered { transfers, attempts, nonces: self.nonces, ..Recovered::default() }
    }
}

/// The id of the transfer at this place; none if it has settled.
fn id_at(accepted: &[Option<RecoveredTransfer>], place: u32) -> Option<TransferId> {
    accepted.get(place as usize)?.as_ref().map(|open| open.transfer.id)
}

/// Adds one at the end, which is rare.
pub(crate) fn push(tried: &mut Box<[CryptoHash]>, hash: CryptoHash) {
    let mut longer = std::mem::take(tried).into_vec();
    longer.push(hash);
    *tried = longer.into();
}

/// What the actions of a signed transaction do, read from its bytes: a `storage_deposit` stands right before the first
/// transfer to its receiver.
fn steps(bytes: &[u8], hash: CryptoHash, transfers: usize) -> Result<Vec<Step>, Contradiction> {
    let signed: SignedTransaction = borsh::from_slice(bytes)
        .map_err(|error| Contradiction(format!("the bytes of {hash} are no transaction: {error}")))?;
    if signed.get_hash() != hash {
        return Err(Contradiction(format!("the bytes of {hash} are another transaction's, {}", signed.get_hash())));
    }
    let mut position = 0;
    let mut steps = Vec::new();
    for action in signed.transaction.actions() {
        if let Action::FunctionCall(call) = action {
            if call.method_name == "ft_transfer" {
                steps.push(Step::Pay(position));
                position += 1;
            } else {
                steps.push(Step::Register(position));
            }
        }
    }
    if position != transfers {
        return Err(Contradiction(format!("{hash} pays {position} transfers, its record names {transfers}")));
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AccountId, Signer, tx};
    use near_crypto::{KeyType, SecretKey};

    fn begin(life: u64, shards: u16) -> Record {
        Record::Begin { life, shards, genesis: CryptoHash::default() }
    }

    fn transfer(id: u128) -> Transfer {
        Transfer { id: TransferId(id), receiver: "user.near".parse().unwrap(), amount: 1, memo: None, key: None }
    }

    fn accepted(id: u128) -> Record {
        Record::Accepted { transfer: transfer(id).into(), at: Instant::from_micros(1), tried: Box::default() }
    }

    /// A transaction that pays these transfers; another `block`, another hash.
    fn signed(nonce: u64, block: u8, ids: &[u128]) -> (CryptoHash, Record) {
        let signer = Signer::new(SecretKey::from_seed(KeyType::ED25519, "key"));
        let account: AccountId = "test.near".parse().unwrap();
        let block_hash = CryptoHash::hash_bytes(&[block]);
        let envelope = tx::Envelope { signer_id: &account, receiver_id: &account, nonce, block_hash };
        let transfers: Vec<Transfer> = ids.iter().map(|id| transfer(*id)).collect();
        let actions: Vec<_> = transfers.iter().map(|transfer| tx::Action::Pay { transfer, gas: 1 }).collect();
        let tx::Signed { hash, bytes } = tx::sign(&signer, &envelope, &actions);
        let record = Record::Signed {
            public_key: signer.public_key().clone(),
            nonce,
            hash,
            reference_height: 1,
            bytes,
            batch: BatchId { at: Instant::from_micros(1), number: 1 },
            transfers: ids.iter().map(|id| TransferId(*id)).collect(),
        };
        (hash, record)
    }

    fn landed(hash: CryptoHash) -> Record {
        Record::Closed { hash, how: Closed::Landed, at: Instant::from_micros(9) }
    }

    fn read(records: &[Record]) -> Result<Recovered, Contradiction> {
        let life = [begin(1, 1), Record::End];
        recover(life.iter().chain(records).map(|record| (0, record.clone())))
    }

    #[test]
    fn many_are_found_again_in_their_order_without_those_that_have_settled() {
        let count = 2 * PIECE as u128 + 9;
        let (hash, sign) = signed(5, 1, &[7, PIECE as u128]);
        let settled = [
            sign,
            landed(hash),
            Record::Failed { id: TransferId(count), reason: "so".into(), at: Instant::from_micros(9) },
        ];
        // The second half comes twice, as in a repetition.
        let all = (1..=count).chain(count / 2..=count).map(accepted).chain(settled).collect::<Vec<_>>();
        let recovered = read(&all).unwrap();
        let ids: Vec<u128> = recovered.transfers.iter().map(|open| open.transfer.id.0).collect();
        let expected: Vec<u128> = (1..count).filter(|id| ![7, PIECE as u128].contains(id)).collect();
        assert_eq!(ids, expected);
        assert!(recovered.transfers.iter().all(|open| open.carried_by.is_none() && open.tried.is_empty()));
        assert_eq!(recovered.settled.len(), 3);
    }

    #[test]
    fn contradictions_stop_a_start() {
        let ((one, sign_one), (two, sign_two)) = (signed(5, 1, &[1]), signed(5, 2, &[1]));
        let (_, sign_next) = signed(6, 1, &[1]);
        let failed = Record::Failed { id: TransferId(1), reason: "".into(), at: Instant::from_micros(9) };
        let dead = |hash| Record::Closed {
            hash,
            how: Closed::Dead(crate::Proof::Expired { final_height: 1 }),
            at: Instant::from_micros(8),
        };
        for (records, says) in [
            (vec![accepted(1), sign_one.clone(), dead(one), sign_two], "signed twice"),
            (vec![accepted(1), sign_one.clone(), sign_next], "is in"),
            (vec![sign_one.clone()], "not open"),
            (vec![accepted(1), sign_one.clone(), landed(one), accepted(1)], "after it has settled"),
            (vec![accepted(1), sign_one.clone(), landed(one), sign_one.clone()], "after its end"),
            (vec![landed(two)], "never signed"),
            (vec![accepted(1), sign_one.clone(), failed.clone()], "has failed, but"),
            (vec![failed], "not open"),
            (vec![Record::End], "without having begun"),
            (vec![Record::Begin { life: 2, shards: 1, genesis: CryptoHash::hash_bytes(b"x") }], "two chains"),
        ] {
            let error = read(&records).unwrap_err().to_string();
            assert!(error.contains(says), "{error:?} should say {says:?}");
        }
        assert!(recover(vec![(0, accepted(1))]).is_err(), "headless");
    }

    #[test]
    fn bytes_that_are_not_what_the_record_says_stop_a_start() {
        let (_, sign_one) = signed(5, 1, &[1]);
        let (other, _) = signed(6, 1, &[1]);
        let Record::Signed { public_key, nonce, reference_height, bytes, batch, transfers, hash } = sign_one else {
            panic!()
        };
        let with = |hash, bytes: Arc<[u8]>, transfers: &[TransferId]| Record::Signed {
            public_key: public_key.clone(),
            nonce,
            hash,
            reference_height,
            bytes,
            batch,
            transfers: transfers.into(),
        };
        for (record, says) in [
            (with(other, bytes.clone(), &transfers), "another transaction's"),
            (with(hash, bytes[..9].into(), &transfers), "no transaction"),
            (with(hash, bytes.clone(), &[TransferId(1), TransferId(2)]), "pays 1 transfers"),
        ] {
            let error = read(&[accepted(1), accepted(2), record]).unwrap_err().to_string();
            assert!(error.contains(says), "{error:?} should say {says:?}");
        }
    }

    #[test]
    fn a_life_that_is_not_complete_replaces_nothing_even_if_one_shard_repeats_twice() {
        let (hash, sign) = signed(5, 1, &[1]);
        let records = vec![
            (0, begin(1, 1)),
            (0, Record::End),
            (0, accepted(1)),
            (1, begin(2, 2)),
            (0, begin(2, 2)),
            (0, accepted(1)),
            (0, Record::End),
            (0, sign),
            (0, landed(hash)),
            (0, begin(2, 2)),
            (0, Record::End),
        ];
        assert!(recover(records).unwrap().transfers.is_empty(), "it was paid");
    }

    #[test]
    fn a_life_replaces_the_former_ones_only_when_all_its_shards_have_taken_over() {
        // Life 1 had one shard, life 2 has two. Transfer 1 is carried, 2 waits; they move to shards 0 and 1.
        let (hash, sign) = signed(5, 1, &[1]);
        let first = [begin(1, 1), Record::End, accepted(1), accepted(2), sign.clone()];
        let shard_0 = [begin(2, 2), accepted(1), sign, Record::End];
        let shard_1 = [begin(2, 2), accepted(2), Record::End];
        let all: Vec<(u16, Record)> = first
            .into_iter()
            .map(|record| (0, record))
            .chain(shard_0.into_iter().map(|record| (0, record)))
            .chain([(0, landed(hash))])
            .chain(shard_1.into_iter().map(|record| (1, record)))
            .collect();
        for cut in 5..=all.len() {
            let recovered = recover(all[..cut].to_vec()).unwrap();
            let ids: Vec<_> = recovered.transfers.iter().map(|open| open.transfer.id.0).collect();
            let paid = cut > 9;
            assert_eq!(ids, if paid { vec![2] } else { vec![1, 2] }, "cut {cut}");
            assert_eq!(recovered.attempts.len(), usize::from(!paid), "cut {cut}");
        }
        // Complete, it stands alone: the segments of life 1 may go, all of them or some.
        for cut in 1..=5 {
            let recovered = recover(all[cut..].to_vec()).unwrap();
            assert_eq!((recovered.life, recovered.transfers.len()), (2, 1), "from {cut}");
        }
        // Incomplete, it does not.
        assert!(recover(all[1..all.len() - 1].to_vec()).is_err());
    }

    #[test]
    fn what_settled_is_told_with_all_that_carried_it_also_if_a_repetition_replaced_it() {
        let ((one, sign_one), (two, sign_two)) = (signed(5, 1, &[1, 2]), signed(6, 1, &[2, 1]));
        let dead = |hash| Record::Closed {
            hash,
            how: Closed::Dead(crate::Proof::Expired { final_height: 1 }),
            at: Instant::from_micros(8),
        };
        let failed = Record::Failed { id: TransferId(3), reason: "no".into(), at: Instant::from_micros(7) };
        let records = [
            vec![begin(1, 1), Record::End, accepted(1), accepted(2), accepted(3), failed],
            vec![sign_one, dead(one), sign_two, landed(two)],
            vec![begin(1, 1), Record::End, accepted(4)],
        ]
        .concat();
        let records: Vec<(u16, Record)> = records.into_iter().map(|record| (0, record)).collect();
        let recovered = recover(records.clone()).unwrap();
        assert_eq!(recovered.transfers.len(), 1);
        let told: Vec<_> = recovered
            .settled
            .into_iter()
            .map(|settled| (settled.transfer.id.0, settled.outcome, settled.tried, settled.carried))
            .collect();
        let batch = BatchId { at: Instant::from_micros(1), number: 1 };
        let paid = |position| Some(crate::Carried { hash: two, batch, position });
        let expected =
            [(3, Err("no".into()), vec![], None), (1, Ok(()), vec![one], paid(1)), (2, Ok(()), vec![one], paid(0))];
        assert_eq!(told, expected);
        // What was accepted in a segment that is gone is in the history already.
        assert!(recover(records[9..].to_vec()).unwrap().settled.is_empty());
    }
}
