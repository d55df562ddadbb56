//! What an API key may be used for.
use std::fmt;

use clap::ValueEnum;

/// One kind of request. None includes another: a key that may do two things has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scope {
    /// `POST /send-ft`.
    Send,
    /// Transfers, metrics and the dashboard.
    Read,
    /// `/admin` and `/debug`.
    Admin,
}

impl Scope {
    pub(crate) const ALL: [Self; 3] = [Self::Send, Self::Read, Self::Admin];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// Some of the scopes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Scopes(u8);

impl Scopes {
    pub(crate) fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their names, in one order.
    pub(crate) fn names(self) -> Vec<&'static str> {
        Scope::ALL.into_iter().filter(|scope| self.contains(*scope)).map(Scope::as_str).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | 1 << scope as u8))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.names().join(","))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_for_itself() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
            let alone = Scopes::from_iter([scope]);
            assert_eq!(Scope::ALL.map(|other| alone.contains(other)), Scope::ALL.map(|other| other == scope));
        }
        for text in ["", "Send", "send ", "write"] {
            assert_eq!(Scope::parse(text), None, "{text}");
        }
        let two = Scopes::from_iter([Scope::Read, Scope::Send, Scope::Read]);
        assert_eq!(
            (two.to_string().as_str(), two.is_empty(), Scopes::default().is_empty()),
            ("send,read", false, true)
        );
    }
}
