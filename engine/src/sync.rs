//! What the protocols between threads are built from. With the feature `loom` the same protocols run on stand-ins whose
//! every interleaving, and every stale value that a load may see, is tried: see `models.rs`.
#[cfg(not(feature = "loom"))]
mod real {
    pub(crate) use std::{sync::atomic, thread};

    pub(crate) use atomic_waker::AtomicWaker;
    pub(crate) use crossbeam::sync::{Parker, Unparker};
    pub(crate) use rtrb::{Consumer, Producer, RingBuffer};
    pub(crate) use tokio::sync::Notify;
}
#[cfg(not(feature = "loom"))]
pub(crate) use real::*;

#[cfg(feature = "loom")]
mod modelled;
#[cfg(feature = "loom")]
pub(crate) use modelled::*;
