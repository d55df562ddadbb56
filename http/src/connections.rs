//! The connections of one thread. When all places are taken, the one that has been without a request for longest makes room.
//!
//! A connection is idle from its start until its first request has come in whole, and from each answer to the next request;
//! so whoever sends a header block slowly, or shakes hands slowly, is idle as well, and so is whoever reads a stream.
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{sync::Notify, task::AbortHandle};

/// The ends of the list of idle connections.
const ENDS: usize = 0;

/// What other threads may know and ask of a thread's connections. A cache line of its own.
#[repr(align(128))]
#[derive(Default)]
pub(crate) struct Room {
    /// Idle connections.
    idle: AtomicUsize,
    /// How many of them other threads want closed.
    wanted: AtomicUsize,
    asked: Notify,
}

impl Room {
    /// Idle connections, a moment ago.
    pub(crate) fn idle(&self) -> usize {
        self.idle.load(Relaxed)
    }

    /// Asks its thread to close an idle connection. `false` if it has none to spare.
    pub(crate) fn ask(&self) -> bool {
        let wanted = self.wanted.fetch_add(1, Relaxed);
        if wanted < self.idle() {
            self.asked.notify_one();
            return true;
        }
        self.wanted.fetch_sub(1, Relaxed);
        false
    }

    /// Waits until connections are to be closed. Returns how many.
    pub(crate) async fn asked(&self) -> usize {
        self.asked.notified().await;
        self.wanted.swap(0, Relaxed)
    }
}

/// All connections of a thread; the idle ones in the order in which they became so.
pub(crate) struct Connections {
    list: RefCell<List>,
    room: Arc<Room>,
}

/// A circle through `entries[ENDS]`, whose `after` is the oldest.
struct List {
    entries: Vec<Entry>,
    free: Vec<usize>,
    idle: usize,
}

struct Entry {
    before: usize,
    after: usize,
    /// Ends the connection's task.
    task: Option<AbortHandle>,
}

impl Connections {
    pub(crate) fn new(room: Arc<Room>) -> Rc<Self> {
        let ends = Entry { before: ENDS, after: ENDS, task: None };
        Rc::new(Self { list: RefCell::new(List { entries: vec![ends], free: Vec::new(), idle: 0 }), room })
    }

    /// What other threads see of it.
    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    /// A new connection, which is idle.
    pub(crate) fn open(self: &Rc<Self>) -> Seat {
        let mut list = self.list.borrow_mut();
        let index = list.free.pop().unwrap_or_else(|| {
            list.entries.push(Entry { before: ENDS, after: ENDS, task: None });
            list.entries.len() - 1
        });
        list.link(index);
        self.room.idle.store(list.idle, Relaxed);
        drop(list);
        Seat {
            connections: Rc::clone(self),
            index,
            working: Cell::new(false),
            stalled: Cell::new(false),
            unread: Cell::new(false),
        }
    }

    /// From now on it can be ended.
    pub(crate) fn set_task(&self, index: usize, task: AbortHandle) {
        self.list.borrow_mut().entries[index].task = Some(task);
    }

    /// Ends the connection that has been idle for longest. `false` if none is.
    pub(crate) fn close_oldest(&self) -> bool {
        let mut list = self.list.borrow_mut();
        let oldest = list.entries[ENDS].after;
        if oldest == ENDS {
            return false;
        }
        // Not again, before its task has noticed.
        list.unlink(oldest);
        self.room.idle.store(list.idle, Relaxed);
        if let Some(task) = &list.entries[oldest].task {
            task.abort();
        }
        true
    }
}

impl List {
    /// Whether it is among the idle.
    fn is_linked(&self, index: usize) -> bool {
        self.entries[index].after != index
    }

    fn link(&mut self, index: usize) {
        let newest = self.entries[ENDS].before;
        (self.entries[index].before, self.entries[index].after) = (newest, ENDS);
        self.entries[newest].after = index;
        self.entries[ENDS].before = index;
        self.idle += 1;
    }

    /// Leaves it pointing at itself.
    fn unlink(&mut self, index: usize) {
        let Entry { before, after, .. } = self.entries[index];
        self.entries[before].after = after;
        self.entries[after].before = before;
        (self.entries[index].before, self.entries[index].after) = (index, index);
        self.idle -= 1;
    }
}

/// A connection's place in the list, left when dropped.
pub(crate) struct Seat {
    connections: Rc<Connections>,
    index: usize,
    /// A request is being worked on.
    working: Cell<bool>,
    /// An answer waits for its client to read.
    stalled: Cell<bool>,
    /// The client has sent something that nobody will look at.
    unread: Cell<bool>,
}

impl Seat {
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// A whole header block is here. Idle again once this is dropped.
    pub(crate) fn work(&self) -> Working<'_> {
        self.unread.set(false);
        self.working.set(true);
        self.settle();
        Working(self)
    }

    /// Whether an answer stands still.
    pub(crate) fn set_stalled(&self, stalled: bool) {
        if self.stalled.replace(stalled) != stalled {
            self.settle();
        }
    }

    /// Whether the client has sent something that no answer is about.
    pub(crate) fn unread(&self) -> bool {
        self.unread.get()
    }

    pub(crate) fn set_unread(&self, unread: bool) {
        self.unread.set(unread);
    }

    fn settle(&self) {
        let idle = !self.working.get() && !self.stalled.get();
        let mut list = self.connections.list.borrow_mut();
        match (list.is_linked(self.index), idle) {
            (false, true) => list.link(self.index),
            (true, false) => list.unlink(self.index),
            _ => return,
        }
        self.connections.room.idle.store(list.idle, Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut list = self.connections.list.borrow_mut();
        if list.is_linked(self.index) {
            list.unlink(self.index);
            self.connections.room.idle.store(list.idle, Relaxed);
        }
        list.entries[self.index].task = None;
        list.free.push(self.index);
    }
}

/// A request that is being worked on.
pub(crate) struct Working<'a>(&'a Seat);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.working.set(false);
        // What came in meanwhile was its body.
        self.0.unread.set(false);
        self.0.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The idle ones, oldest first.
    fn idle(connections: &Connections) -> Vec<usize> {
        let list = connections.list.borrow();
        let mut found = Vec::new();
        let mut at = list.entries[ENDS].after;
        while at != ENDS {
            found.push(at);
            at = list.entries[at].after;
        }
        assert_eq!((found.len(), found.len()), (list.idle, connections.room().idle()));
        let mut backwards = Vec::new();
        at = list.entries[ENDS].before;
        while at != ENDS {
            backwards.push(at);
            at = list.entries[at].before;
        }
        backwards.reverse();
        assert_eq!(found, backwards);
        found
    }

    #[test]
    fn the_oldest_idle_one_makes_room() {
        let connections = Connections::new(Arc::default());
        assert!(!connections.close_oldest());
        let seats: Vec<Seat> = (0..4).map(|_| connections.open()).collect();
        assert_eq!(idle(&connections), [1, 2, 3, 4]);
        let working = seats[0].work();
        seats[2].set_stalled(true);
        assert_eq!(idle(&connections), [2, 4]);
        drop(working);
        assert_eq!(idle(&connections), [2, 4, 1]);
        // A stalled answer keeps it out, whatever else happens.
        drop(seats[2].work());
        assert_eq!(idle(&connections), [2, 4, 1]);
        seats[2].set_stalled(false);
        assert_eq!(idle(&connections), [2, 4, 1, 3]);
        assert!(connections.close_oldest());
        assert_eq!(idle(&connections), [4, 1, 3]);
        drop(seats);
        assert_eq!(idle(&connections), [0; 0]);
        assert!(!connections.close_oldest());
        // Entries are used again.
        let again: Vec<Seat> = (0..4).map(|_| connections.open()).collect();
        assert_eq!((again.len(), connections.list.borrow().entries.len()), (4, 5));
    }

    #[test]
    fn other_threads_get_no_more_than_is_there() {
        let connections = Connections::new(Arc::default());
        let room = connections.room();
        assert!(!room.ask());
        let _seats = [connections.open(), connections.open()];
        assert_eq!([room.ask(), room.ask(), room.ask()], [true, true, false]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(room.asked()), 2);
        assert!(room.ask());
    }

    #[test]
    fn what_was_sent_after_a_request_is_unread() {
        let connections = Connections::new(Arc::default());
        let seat = connections.open();
        seat.set_unread(true);
        let working = seat.work();
        assert!(!seat.unread());
        seat.set_unread(true);
        drop(working);
        assert!(!seat.unread());
    }
}
