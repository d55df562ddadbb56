//! What may go wrong, and how often in the life of a seed.
use crate::random::Random;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $most:literal,)*) => {
        /// A kind of misfortune.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// How often it strikes at most, in a thousand times.
            fn most(self) -> u32 {
                match self {
                    $(Self::$name => $most,)*
                }
            }
        }
    };
}

faults! {
    /// A request never reaches the node.
    LostRequest = 200,
    /// What the node answers never arrives; what it did is done.
    LostReply = 250,
    /// An answer arrives after it was given up.
    LateReply = 150,
    /// An answer arrives twice.
    DuplicateReply = 150,
    /// An answer is cut off, so that nobody can read it.
    TruncatedReply = 150,
    /// Not even a connection.
    Unreachable = 150,
    /// Bursts of 429.
    Throttled = 250,
    /// Bursts of 5xx; some of the requests were carried out.
    Failing = 250,
    /// An endpoint shows the chain as it was some blocks ago.
    Stale = 400,
    /// Answers of one endpoint come from nodes that lag differently, by a block or two.
    Mixed = 500,
    /// An endpoint goes on with a branch that was given up.
    WrongBranch = 500,
    /// A node says `InvalidNonce` of what it took.
    WrongInvalidNonce = 150,
    /// A node says `Expired` of what it took.
    WrongExpired = 150,
    /// A node says `UNKNOWN_TRANSACTION` when it is sent one.
    WrongUnknown = 150,
    /// A node refuses with any other words.
    WrongRefusal = 100,
    /// A node tells of an `InvalidTxError` on chain for a transaction that is still alive.
    InvalidOnChain = 200,
    /// A transaction vanishes from the pool.
    Dropped = 250,
    /// A transaction waits long before it gets into a block.
    Delayed = 200,
    /// Transactions overtake each other.
    Reordered = 400,
    /// Blocks that are not final are given up.
    Reorg = 120,
    /// `ShardCongested`, and blocks without room for receipts.
    Congested = 250,
    /// Calls cost several times the gas.
    OutOfGas = 200,
    /// Receivers that the token refuses to pay.
    Blocked = 300,
    /// Receivers lose their registration.
    Unregistered = 300,
    /// The paying account has too few tokens for a while.
    FewTokens = 200,
    /// The paying account has too little NEAR for a while.
    FewNear = 100,
    /// An access key is deleted, and added again a while later.
    KeyGone = 150,
    /// A node forgets old blocks and what was in them.
    Forgetful = 250,
    /// A node says that it is syncing.
    Syncing = 150,
    /// A node starts anew: its pool is gone.
    NodeRestart = 200,
    /// A node is down for a while.
    NodeDown = 200,
    /// One of several endpoints tells lies.
    Lies = 900,
    /// The clock jumps ahead; between lives it jumps anywhere.
    ClockJump = 300,
    /// The process is killed.
    Kill = 500,
    /// The process dies in the middle of carrying out what the shard wants.
    KillMidway = 400,
    /// The machine loses power.
    PowerFailure = 500,
    /// Of what was not synced, a power failure leaves pieces.
    TornWrite = 700,
    /// Of what was not synced, a power failure leaves wrong bits.
    BitFlip = 400,
    /// The machine dies inside an operation of the disk.
    CrashInWrite = 60,
    /// A sync fails.
    FailedSync = 60,
    /// A write fails: no room, or an error.
    FailedWrite = 40,
    /// The disk fails, or the machine dies, while the journal is being opened and repeated.
    CrashInStart = 250,
    /// The journal is written in small groups.
    SmallGroups = 500,
    /// Another life has other keys.
    OtherKeys = 500,
    /// Another life has another number of shards.
    OtherShards = 500,
    /// The service is stopped in good order and started again.
    CleanRestart = 500,
    /// A client does not get to see the answer.
    LostAnswer = 300,
    /// A client sends again what was answered.
    Again = 250,
    /// A client uses its key for something else.
    ReusedKey = 200,
}

/// Which kinds of faults are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Without(u64);

impl Without {
    /// Leaves out one more.
    #[must_use]
    pub fn and(self, fault: Fault) -> Self {
        Self(self.0 | 1 << fault as u32)
    }

    /// Leaves out all but these.
    pub fn all_but(faults: &[Fault]) -> Self {
        Fault::ALL.iter().filter(|fault| !faults.contains(fault)).fold(Self::default(), |out, fault| out.and(*fault))
    }

    /// Whether it is left out.
    pub fn contains(self, fault: Fault) -> bool {
        self.0 >> (fault as u32) & 1 == 1
    }
}

const _: () = assert!(Fault::ALL.len() <= 64);

/// How often each fault strikes in the life of one seed.
pub struct Faults {
    rates: Vec<u32>,
    randoms: Vec<Random>,
    /// Whether there are faults at all: in the end they stop.
    pub on: bool,
    /// Whether a liar goes on lying when the other faults have stopped.
    pub lies_stay: bool,
}

impl Faults {
    /// Draws the rates: some seeds are calm, some have a few kinds of faults, some have most of them.
    pub fn draw(seed: u64, without: Without) -> Self {
        let mut random = Random::new(seed, 1);
        let share = random.pick(&[0, 100, 200, 350, 350, 600, 800]);
        let rates = Fault::ALL
            .iter()
            .map(|fault| {
                let strikes = random.chance(share);
                let rate = fault.most() * random.pick(&[5, 15, 40, 100]) / 100;
                if strikes && !without.contains(*fault) { rate.max(1) } else { 0 }
            })
            .collect();
        let randoms = (0..Fault::ALL.len() as u64).map(|stream| Random::new(seed, 1_000 + stream)).collect();
        Self { rates, randoms, on: true, lies_stay: false }
    }

    /// Whether it strikes now.
    pub fn strikes(&mut self, fault: Fault) -> bool {
        let index = fault as usize;
        let on = self.on || (self.lies_stay && fault == Fault::Lies);
        on && self.rates[index] > 0 && self.randoms[index].chance(self.rates[index])
    }

    /// Whether it can strike in this life of the seed.
    pub fn has(&self, fault: Fault) -> bool {
        self.rates[fault as usize] > 0
    }

    /// The stream that tells how hard it strikes.
    pub(crate) fn random(&mut self, fault: Fault) -> &mut Random {
        &mut self.randoms[fault as usize]
    }

    /// The kinds that can strike, with their rates in a thousand times.
    pub fn present(&self) -> Vec<(Fault, u32)> {
        Fault::ALL.iter().map(|fault| (*fault, self.rates[*fault as usize])).filter(|(_, rate)| *rate > 0).collect()
    }
}
