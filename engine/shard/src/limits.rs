//! Every bound of a shard, with its reason.
use std::time::Duration;

/// Accounts whose registration is remembered. At about 100 bytes each: 100 MB at the very most. When full, all are
/// forgotten and asked for again, which costs one view call each.
pub const REGISTRATIONS_KEPT: usize = 1_000_000;

/// Registration questions in flight per shard: enough to hide the round trip, few enough not to crowd out sends.
pub const REGISTRATION_QUERIES: usize = 32;

/// After this many lost answers the shard stops asking whether a receiver is registered and pays the deposit, which the
/// token refunds if it was needless.
pub const REGISTRATION_TRIES: u32 = 4;

/// Receivers remembered for having failed. When full, all are forgotten: a batch may fail again, nothing worse.
pub const SUSPECTS_KEPT: usize = 10_000;

/// Of the free slots, one in this many may carry a lone (suspect) transfer, so that a flood of bad receivers cannot
/// hold up the good ones.
pub const LONE_SHARE: usize = 4;

/// Gas first attached to one `ft_transfer`. The standard contract burns 0.8 Tgas in the call itself (near-facts section 7);
/// 100 of these fit under the 300 Tgas that older protocols allow a transaction.
pub const GAS_TRANSFER_START: u64 = 2_500_000_000_000;

/// Least gas attached to one `ft_transfer`, however little was burnt: the cost of a call varies with the receiver's trie path.
pub const GAS_TRANSFER_MIN: u64 = 2_000_000_000_000;

/// Gas first attached to one `storage_deposit`: 0.6 Tgas in the call, plus the refund of a needless deposit.
pub const GAS_DEPOSIT_START: u64 = 3_000_000_000_000;

/// Pause before a question is asked again: doubles from the first to the last, with jitter.
pub const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// See [`BACKOFF_MIN`]. Short enough that what a node forgets is sent again within a few blocks.
pub const BACKOFF_MAX: Duration = Duration::from_secs(8);

/// Longest pause after something could not even be sent: nodes are back when their circuit breakers say so, not later.
pub const NOT_SENT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Lost answers to the status of a transaction that was seen, after which its bytes are sent again.
pub const STATUS_TRIES: u32 = 3;

/// Parts that the untried rest of a batch is split into once it has been undone before: several bad transfers in one batch
/// are then found side by side instead of one after the other.
pub const SPLIT: usize = 4;

/// Pause before the first question about the fate of a refused transaction: finality lags by about two blocks, so an
/// earlier answer would seldom be a proof.
pub const FATE_PAUSE: Duration = Duration::from_secs(1);

/// How long a refused key rests, times the refusals in a row, up to [`KEY_REST_MAX`].
pub const KEY_REST: Duration = Duration::from_secs(5);
/// See [`KEY_REST`].
pub const KEY_REST_MAX: Duration = Duration::from_mins(1);

/// Pause between two looks at the token balance while the queue is held for want of tokens.
pub const HOLD_PAUSE: Duration = Duration::from_secs(2);
/// See [`HOLD_PAUSE`]; doubles up to here.
pub const HOLD_PAUSE_MAX: Duration = Duration::from_secs(15);

/// Shortest and longest pause until the limit on spending is looked at again once it is used up.
pub const ALLOWANCE_PAUSE_MIN: Duration = Duration::from_millis(100);
/// See [`ALLOWANCE_PAUSE_MIN`].
pub const ALLOWANCE_PAUSE_MAX: Duration = Duration::from_mins(1);

/// A transaction is not signed against a block older than the validity period divided by this: what is signed must have
/// most of its life before it.
pub const REFERENCE_AGE_PART: u32 = 4;

/// How long the highest final block is believed if only lower ones follow.
pub const HEAD_BELIEVED: Duration = Duration::from_secs(30);

/// Pause before an overtaken nonce is asked about a second time. Behind one URL there may be several nodes, and one that
/// lags does not know a transaction that another has already counted: by now it has caught up.
pub const CONFIRM_PAUSE: Duration = Duration::from_secs(3);

/// Nonces are below the block height times this (nearcore `ACCESS_KEY_NONCE_RANGE_MULTIPLIER`).
pub const NONCES_PER_BLOCK: u64 = 1_000_000;

/// A node may be this many blocks ahead of the final block that the shard knows; what it says of nonces beyond is not believed.
/// A lie within it makes a key wait until the chain is there.
pub const HEAD_SLACK_BLOCKS: u64 = 100;

/// Hashes that a condition names.
pub const HASHES_SHOWN: usize = 10;

/// Block time assumed until two heads have told.
pub const BLOCK_TIME_DEFAULT: Duration = Duration::from_millis(600);
/// Block times are believed between these: a sandbox that is moved forward by hand jumps, a halted chain stands.
pub const BLOCK_TIME_MIN: Duration = Duration::from_millis(10);
/// See [`BLOCK_TIME_MIN`].
pub const BLOCK_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of a transaction besides its actions: two account ids of at most 64 bytes, key, nonce, block hash, lengths.
pub const TX_OVERHEAD_BYTES: usize = 64 + 64 + 4 + 4 + 33 + 8 + 32 + 4 + 8;

/// Largest record of the journal: a signed transaction of the largest size that protocols allow (1.5 MiB), the ids of its
/// transfers, and room for larger ones to come.
pub const RECORD_BYTES_MAX: usize = 4 * 1024 * 1024;

const _: () = assert!(GAS_TRANSFER_MIN <= GAS_TRANSFER_START);
const _: () = assert!(BACKOFF_MIN.as_millis() < BACKOFF_MAX.as_millis());
const _: () = assert!(FATE_PAUSE.as_millis() <= BACKOFF_MAX.as_millis());
const _: () = assert!(HOLD_PAUSE.as_millis() < HOLD_PAUSE_MAX.as_millis());
const _: () = assert!(ALLOWANCE_PAUSE_MIN.as_millis() < ALLOWANCE_PAUSE_MAX.as_millis());
const _: () = assert!(LONE_SHARE > 1);
const _: () = assert!(BACKOFF_MIN.as_millis() <= NOT_SENT_PAUSE_MAX.as_millis());

/// The pause after something could not be sent, when `wanted` is what the client thinks.
pub(crate) fn not_sent_pause(wanted: Duration) -> Duration {
    wanted.clamp(BACKOFF_MIN, NOT_SENT_PAUSE_MAX)
}

/// The pause before try number `tries` (from 1), with a jitter of up to a quarter taken from `random`.
pub(crate) fn backoff(tries: u32, random: u64) -> Duration {
    let doubled = BACKOFF_MIN.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(BACKOFF_MAX);
    doubled.mul_f64(1.0 - (random % 1_000) as f64 / 4_000.0)
}
