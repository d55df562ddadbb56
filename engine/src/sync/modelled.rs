//! Stand-ins for the models: they keep what the real ones promise, and nothing more.
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

pub(crate) use loom::{sync::atomic, thread};

use atomic::{AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};

/// Waits for a token. (loom's own `park` forgets the token of a thread that has blocked on something else since.)
#[derive(Default)]
pub(crate) struct Parker(Unparker);

/// Leaves a token. Clones wake the same thread.
#[derive(Clone, Default)]
pub(crate) struct Unparker(Arc<(Mutex<bool>, Condvar)>);

impl Parker {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn unparker(&self) -> &Unparker {
        &self.0
    }

    pub(crate) fn park(&self) {
        let (token, left) = &*self.0.0;
        let mut there = lock(token);
        while !std::mem::take(&mut *there) {
            there = left.wait(there).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

impl Unparker {
    pub(crate) fn unpark(&self) {
        let (token, left) = &*self.0;
        *lock(token) = true;
        left.notify_one();
    }
}

/// The last waker that was registered, woken once.
#[derive(Default)]
pub(crate) struct AtomicWaker(Mutex<Option<Waker>>);

impl AtomicWaker {
    pub(crate) fn register(&self, waker: &Waker) {
        *lock(&self.0) = Some(waker.clone());
    }

    pub(crate) fn wake(&self) {
        let waker = lock(&self.0).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Wakes all who listen at the time, leaves nothing for those who come later.
#[derive(Default)]
pub(crate) struct Notify(Mutex<Listeners>);

#[derive(Default)]
struct Listeners {
    notified: usize,
    wakers: Vec<Waker>,
}

pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    /// How often was notified before; none as long as it does not listen.
    since: Option<usize>,
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notify_waiters(&self) {
        let mut listeners = lock(&self.0);
        listeners.notified += 1;
        let wakers = std::mem::take(&mut listeners.wakers);
        drop(listeners);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        Notified { notify: self, since: None }
    }
}

impl Notified<'_> {
    /// Listens from now on.
    pub(crate) fn enable(mut self: Pin<&mut Self>) {
        let now = lock(&self.notify.0).notified;
        self.since.get_or_insert(now);
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let notify = self.notify;
        let mut listeners = lock(&notify.0);
        if *self.since.get_or_insert(listeners.notified) < listeners.notified {
            return Poll::Ready(());
        }
        listeners.wakers.push(context.waker().clone());
        Poll::Pending
    }
}

/// Most bytes in a ring: two small records, so that a third one finds it full.
const RING_BYTES: usize = 90;

/// A ring whose ends see each other's progress as late as acquire and release allow.
pub(crate) struct RingBuffer;

struct Ring {
    /// Ordered by `pushed` and `popped` alone: this lock is never waited for.
    bytes: std::sync::Mutex<Vec<u8>>,
    pushed: AtomicUsize,
    popped: AtomicUsize,
}

pub(crate) struct Producer<T>(Arc<Ring>, std::marker::PhantomData<T>);

pub(crate) struct Consumer<T>(Arc<Ring>, std::marker::PhantomData<T>);

/// What was there to read.
pub(crate) struct Chunk<'a> {
    ring: &'a Ring,
    bytes: Vec<u8>,
}

impl RingBuffer {
    #[expect(clippy::new_ret_no_self, reason = "as rtrb has it")]
    pub(crate) fn new(_bytes: usize) -> (Producer<u8>, Consumer<u8>) {
        let ring =
            Ring { bytes: std::sync::Mutex::default(), pushed: AtomicUsize::new(0), popped: AtomicUsize::new(0) };
        let ring = Arc::new(ring);
        (Producer(ring.clone(), std::marker::PhantomData), Consumer(ring, std::marker::PhantomData))
    }
}

impl Producer<u8> {
    pub(crate) fn push_entire_slice(&mut self, slice: &[u8]) -> Result<(), ()> {
        let pushed = self.0.pushed.load(Ordering::Relaxed);
        if pushed - self.0.popped.load(Ordering::Acquire) + slice.len() > RING_BYTES {
            return Err(());
        }
        self.0.bytes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend_from_slice(slice);
        self.0.pushed.store(pushed + slice.len(), Ordering::Release);
        Ok(())
    }
}

impl Consumer<u8> {
    pub(crate) fn slots(&self) -> usize {
        self.0.pushed.load(Ordering::Acquire) - self.0.popped.load(Ordering::Relaxed)
    }

    pub(crate) fn read_chunk(&mut self, bytes: usize) -> Result<Chunk<'_>, ()> {
        let at = self.0.popped.load(Ordering::Relaxed);
        let all = self.0.bytes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let bytes = all.get(at..at + bytes).ok_or(())?.to_vec();
        drop(all);
        Ok(Chunk { ring: &self.0, bytes })
    }
}

impl Chunk<'_> {
    pub(crate) fn as_slices(&self) -> (&[u8], &[u8]) {
        (&self.bytes, &[])
    }

    pub(crate) fn commit(self, bytes: usize) {
        let popped = self.ring.popped.load(Ordering::Relaxed);
        self.ring.popped.store(popped + bytes, Ordering::Release);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> loom::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
