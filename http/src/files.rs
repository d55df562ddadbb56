//! The limit of open files, shared out: clients must not take the connections to the nodes.

/// Kept back from clients: connections to nodes (a key's transactions in flight may each take one), listeners, wake-ups,
/// and in `keyshard dev` the sandbox's side of the same connections.
const RESERVED: usize = 512;

/// Raises the soft limit of open files as far as it goes and returns how many connections clients may have:
/// `wanted`, or fewer if the limit is too low. Half of a very low limit stays reserved.
pub(crate) fn client_connections(wanted: usize) -> usize {
    let limit = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        Err(error) => {
            tracing::warn!(%error, "cannot read or raise the limit of open files");
            return wanted;
        }
    };
    let allowed = share(limit, wanted);
    if allowed < wanted {
        tracing::warn!(limit, connections = allowed, "a low limit of open files (ulimit -n) allows few connections");
    }
    allowed
}

/// Connections that clients may have of a limit of open files, if so many are wanted.
pub(crate) fn share(limit: usize, wanted: usize) -> usize {
    wanted.min((limit / 2).max(limit.saturating_sub(RESERVED)))
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn clients_get_what_is_left() {
        for (limit, wanted, allowed) in [
            (1_000_000, 50_000, 50_000),
            (50_512, 50_000, 50_000),
            (20_000, 50_000, 19_488),
            (1_024, 50_000, 512),
            (256, 50_000, 128),
            (256, 100, 100),
        ] {
            assert_eq!(share(limit, wanted), allowed, "{limit} {wanted}");
        }
    }
}
