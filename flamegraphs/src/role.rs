//! What a thread is for, by its name.
use std::fmt;

/// The kinds of threads of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `http-0`, `http-1`, ..: requests and answers.
    Http,
    /// `shard-0`, `shard-1`, ..: decisions, signatures, calls to nodes.
    Shard,
    /// `journal`, and `journal-prefill` which prepares its next segment.
    Journal,
    /// `history`: settled transfers to the disk.
    History,
    /// The main thread, the sampler itself, helpers of libraries.
    Other,
}

impl Role {
    /// All of them, in the order in which a transfer meets them.
    pub const ALL: [Self; 5] = [Self::Http, Self::Shard, Self::Journal, Self::History, Self::Other];

    /// The role of a thread with this name (the kernel keeps its first 15 bytes).
    pub fn of_thread(name: &str) -> Self {
        let numbered = |prefix: &str| {
            name.strip_prefix(prefix)
                .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        match name {
            "journal" | "journal-prefill" => Self::Journal,
            "history" => Self::History,
            _ if numbered("http-") => Self::Http,
            _ if numbered("shard-") => Self::Shard,
            _ => Self::Other,
        }
    }

    /// As in file names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Shard => "shard",
            Self::Journal => "journal",
            Self::History => "history",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_by_name() {
        for (name, role) in [
            ("http-0", Role::Http),
            ("http-255", Role::Http),
            ("shard-12", Role::Shard),
            ("journal", Role::Journal),
            ("journal-prefill", Role::Journal),
            ("history", Role::History),
            ("keyshard", Role::Other),
            ("profiler", Role::Other),
            ("tokio-runtime-w", Role::Other),
            ("http-", Role::Other),
            ("http-x", Role::Other),
            ("shards-1", Role::Other),
            ("", Role::Other),
        ] {
            assert_eq!(Role::of_thread(name), role, "{name}");
        }
    }
}
