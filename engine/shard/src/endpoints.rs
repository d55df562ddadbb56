//! Which of the driver's endpoints: a position, and a set of positions.

/// Position of an endpoint in the driver's list; below 32.
pub type EndpointIndex = u16;

/// Some of the endpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointSet(u32);

impl EndpointSet {
    /// Only this one.
    pub fn one(endpoint: EndpointIndex) -> Self {
        let mut set = Self::default();
        set.insert(endpoint);
        set
    }

    /// Adds one. A position that no driver has is not kept.
    pub fn insert(&mut self, endpoint: EndpointIndex) {
        self.0 |= 1u32.checked_shl(u32::from(endpoint)).unwrap_or_default();
    }

    /// Whether it is in the set.
    pub fn contains(self, endpoint: EndpointIndex) -> bool {
        self.0.checked_shr(u32::from(endpoint)).unwrap_or_default() & 1 == 1
    }

    /// How many are in the set.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether none is.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Bit `i` stands for endpoint `i`.
    pub fn bits(self) -> u32 {
        self.0
    }
}

/// Whose word a shard takes for what cannot be taken back: the end of a transaction, the height of a reference block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// There is one endpoint, and what it says of FINAL blocks is believed.
    One,
    /// There are several, and any one of them may be plain wrong: two must say the same.
    Two,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set = EndpointSet::one(0);
        set.insert(31);
        set.insert(32);
        let held: Vec<EndpointIndex> = (0..100).filter(|endpoint| set.contains(*endpoint)).collect();
        assert_eq!(held, [0, 31]);
        assert!(EndpointSet::default().is_empty() && EndpointSet::one(40).is_empty() && !set.is_empty());
    }
}
