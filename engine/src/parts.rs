//! What the transfers of a request turn out to be, by what their client calls them: new ones, or known ones (P6).
use std::collections::hash_map::Entry;

use foldhash::HashMap;
use keyshard_shard::{IdempotencyKey, TransferId};

use crate::{
    Shared,
    door::{NewTransfer, Refused},
    history,
    names::{Locked, Meaning},
};

/// What a transfer of a request turns out to be.
pub(crate) enum Part {
    New,
    /// Known, and on the board.
    Join(TransferId),
    /// Known, and only in the history: it has settled.
    Past(TransferId),
    /// The same name as an earlier one of this request, at this position.
    Again(usize),
}

impl Shared {
    /// What the transfers of a request are, by their names. Returned with all these names locked, so that it stays so.
    pub(crate) fn parts(&self, transfers: &[NewTransfer]) -> Result<(Option<Locked<'_>>, Vec<Part>), Refused> {
        let mut parts: Vec<Part> = transfers.iter().map(|_| Part::New).collect();
        if transfers.iter().all(|new| new.key.is_none()) {
            return Ok((None, parts));
        }
        let reused = |name: &str| Err(Refused::KeyReused { name: name.into() });
        // Its own names, and for each the one that the other form of the same request would have.
        let mut first: HashMap<&str, usize> = HashMap::default();
        let mut named: Vec<(usize, &IdempotencyKey, Option<Box<str>>)> = Vec::new();
        for (position, new) in transfers.iter().enumerate() {
            let Some(key) = &new.key else { continue };
            match first.entry(&key.name) {
                Entry::Vacant(entry) => {
                    entry.insert(position);
                    named.push((position, key, other_form(key)));
                }
                Entry::Occupied(entry) => {
                    if *new != transfers[*entry.get()] {
                        return reused(&key.name);
                    }
                    parts[position] = Part::Again(*entry.get());
                }
            }
        }
        let mut others: Vec<&str> = named.iter().filter_map(|(_, _, other)| other.as_deref()).collect();
        others.sort_unstable();
        others.dedup();
        let names: Vec<&str> = named.iter().map(|(_, key, _)| &*key.name).chain(others.iter().copied()).collect();
        let (locked, mut meanings) =
            self.names.look(&names, &self.history).unwrap_or_else(|error| history::abort(&error));
        let other_meanings = meanings.split_off(named.len());
        for ((position, key, _), meaning) in named.iter().zip(meanings) {
            let new = &transfers[*position];
            parts[*position] = match meaning {
                Meaning::Free => continue,
                Meaning::OnBoard(id) if self.board.is_same(id, new) == Some(true) => Part::Join(id),
                Meaning::Past(settled) if new.is_same_as(&settled.transfer) => Part::Past(settled.transfer.id),
                Meaning::OnBoard(_) | Meaning::Past(_) => return reused(&key.name),
            };
        }
        // What is known under the other form's name, for as many as that form would have.
        let of = |name: &str, meaning: &Meaning| match meaning {
            Meaning::Free => first.get(name).and_then(|first| transfers[*first].key.as_ref()).map(|key| key.of),
            Meaning::OnBoard(id) => self.board.of(*id),
            Meaning::Past(settled) => settled.transfer.key.as_ref().map(|key| key.of),
        };
        let ofs: HashMap<&str, u32> = others
            .iter()
            .zip(&other_meanings)
            .filter_map(|(name, meaning)| Some((*name, of(name, meaning)?)))
            .collect();
        for (_, key, other) in &named {
            let known = other.as_deref().and_then(|other| ofs.get(other));
            if known.is_some_and(|known| (*known == 1) != (key.of == 1)) {
                return reused(&key.name);
            }
        }
        Ok((Some(locked), parts))
    }
}

/// The name under which the same key would be known, had it been used for one instead of many, or for many instead of one.
fn other_form(key: &IdempotencyKey) -> Option<Box<str>> {
    if key.of == 1 {
        return Some(format!("{}#0", key.name).into());
    }
    key.name.rsplit_once('#').map(|(whole, _)| whole.into())
}
