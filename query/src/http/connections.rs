//! The limit of open connections, and which one is evicted for a new one.
//!
//! *Why*: a connection costs a client nothing. Without eviction a client that opens enough of them
//! locks out all others for as long as an idle or slow connection may last.
//!
//! | a connection | when the limit is reached |
//! | --- | --- |
//! | waits for a head: new, idle or slow | is evicted, the one that has waited longest first |
//! | has a write that waits for its reader | is evicted if no connection waits for a head, the longest first |
//! | is being answered | stays |
//! | is new, and no other can be evicted | is refused |
//!
//! *Invariants*: there are never more slots than the limit; a connection whose request is being
//! worked on is never evicted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use metrics::{Counter, Gauge};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// What is measured of a listener's connections.
#[derive(Clone)]
pub(crate) struct ConnectionMetrics {
    /// Open connections.
    pub(crate) open: Gauge,
    /// Connections refused at the limit.
    pub(crate) refused: Counter,
    /// Connections evicted for another.
    pub(crate) evicted: Counter,
}

/// The open connections of a listener, bounded.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    limit: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// Counts changes; orders the connections of one class.
    changes: u64,
    connections: HashMap<u64, Connection>,
    /// The connections that may be evicted, the first of them first.
    evictable: BTreeMap<(Class, u64), u64>,
}

#[derive(Debug)]
struct Connection {
    state: ConnectionState,
    /// Its key in `evictable`, if it may be evicted.
    class: Option<(Class, u64)>,
}

/// Why a connection may be evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    AwaitsHead,
    WriteBlocked,
}

/// What a connection does just now. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(super) struct ConnectionState(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: u64,
    limit: Option<Arc<ConnectionLimit>>,
    answering: AtomicBool,
    write_blocked: AtomicBool,
    evicted: CancellationToken,
}

/// One of the connections that the limit allows; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    state: ConnectionState,
    limit: Arc<ConnectionLimit>,
}

impl ConnectionLimit {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, open: Mutex::default() })
    }

    /// A slot for a new connection, and whether another is evicted for it; `None` if the new one
    /// has to be refused.
    pub(super) fn admit(self: &Arc<Self>) -> Option<(Slot, bool)> {
        let mut open = self.open.lock();
        let full = open.connections.len() >= self.limit;
        if full {
            let (_, id) = open.evictable.pop_first()?;
            if let Some(evicted) = open.connections.remove(&id) {
                evicted.state.0.evicted.cancel();
            }
        }
        open.changes += 1;
        let id = open.changes;
        let state = ConnectionState::new(id, Some(Arc::clone(self)));
        open.connections.insert(id, Connection { state: state.clone(), class: None });
        open.classify(id);
        Some((Slot { state, limit: Arc::clone(self) }, full))
    }
}

impl Open {
    /// Puts a connection into the class of its present state.
    fn classify(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let class = connection.state.class();
        if class == connection.class.map(|(class, _)| class) {
            return;
        }
        if let Some(old) = connection.class.take() {
            self.evictable.remove(&old);
        }
        self.changes += 1;
        connection.class = class.map(|class| (class, self.changes));
        if let Some(new) = connection.class {
            self.evictable.insert(new, id);
        }
    }
}

impl ConnectionState {
    fn new(id: u64, limit: Option<Arc<ConnectionLimit>>) -> Self {
        Self(Arc::new(Shared {
            id,
            limit,
            answering: AtomicBool::new(false),
            write_blocked: AtomicBool::new(false),
            evicted: CancellationToken::new(),
        }))
    }

    /// The state of a connection without a slot.
    pub(super) fn without_slot() -> Self {
        Self::new(0, None)
    }

    /// Says whether a request is being answered: from its head to the last piece of the answer.
    pub(super) fn set_answering(&self, yes: bool) {
        self.set(&self.0.answering, yes);
    }

    /// Says whether a write waits for the reader.
    pub(super) fn set_write_blocked(&self, yes: bool) {
        self.set(&self.0.write_blocked, yes);
    }

    /// True if the connection waits for a head. A connection that ends in another state has cut off
    /// an answer.
    pub(super) fn awaits_head(&self) -> bool {
        self.class() == Some(Class::AwaitsHead)
    }

    /// Waits until the connection is evicted.
    pub(super) async fn evicted(&self) {
        self.0.evicted.cancelled().await;
    }

    fn set(&self, flag: &AtomicBool, yes: bool) {
        if flag.swap(yes, Ordering::Relaxed) == yes {
            return;
        }
        if let Some(limit) = &self.0.limit {
            limit.open.lock().classify(self.0.id);
        }
    }

    fn class(&self) -> Option<Class> {
        let (blocked, answering) = (&self.0.write_blocked, &self.0.answering);
        match (blocked.load(Ordering::Relaxed), answering.load(Ordering::Relaxed)) {
            (true, _) => Some(Class::WriteBlocked),
            (false, false) => Some(Class::AwaitsHead),
            (false, true) => None,
        }
    }
}

impl Slot {
    pub(super) fn state(&self) -> &ConnectionState {
        &self.state
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.limit.open.lock();
        // Absent if the connection was evicted.
        if let Some(connection) = open.connections.remove(&self.state.0.id)
            && let Some(class) = connection.class
        {
            open.evictable.remove(&class);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evicted(slots: &[&Slot]) -> Vec<usize> {
        let all = slots.iter().enumerate();
        all.filter(|(_, slot)| slot.state().0.evicted.is_cancelled()).map(|(i, _)| i).collect()
    }

    #[test]
    fn the_order_of_eviction() {
        let limit = ConnectionLimit::new(4);
        let admit = || limit.admit().map(|(slot, _)| slot);
        let (a, b, c, d) = (admit().unwrap(), admit().unwrap(), admit().unwrap(), admit().unwrap());
        let all = [&a, &b, &c, &d];
        assert_eq!(evicted(&all), [0_usize; 0]);
        // `a` has waited longest, but its answer starts its wait anew.
        a.state().set_answering(true);
        a.state().set_answering(false);
        b.state().set_answering(true);
        d.state().set_answering(true);
        d.state().set_write_blocked(true);
        let mut more = Vec::new();
        for expected in [&[2][..], &[0, 2], &[0, 2, 3]] {
            more.push(admit().unwrap());
            // The new ones are being answered: they stay.
            more.last().unwrap().state().set_answering(true);
            assert_eq!(evicted(&all), expected);
        }
        assert!(admit().is_none(), "all are being answered");
        drop(more.pop());
        assert!(admit().is_some());
        drop((a, b, c, d, more));
        let open = limit.open.lock();
        assert!(open.connections.is_empty() && open.evictable.is_empty());
    }

    #[test]
    fn a_new_connection_can_be_evicted_only_for_another() {
        let limit = ConnectionLimit::new(1);
        let (first, evicts) = limit.admit().unwrap();
        assert!(!evicts);
        let (second, evicts) = limit.admit().unwrap();
        assert!(evicts);
        assert_eq!(evicted(&[&first, &second]), [0]);
        // The slot of an evicted connection is not freed twice.
        drop(first);
        second.state().set_answering(true);
        assert!(limit.admit().is_none());
    }

    #[test]
    fn a_connection_awaits_a_head_when_nothing_is_half_sent() {
        let state = ConnectionState::without_slot();
        for (answering, blocked, awaits_head) in
            [(false, false, true), (true, false, false), (true, true, false), (false, true, false)]
        {
            state.set_answering(answering);
            state.set_write_blocked(blocked);
            assert_eq!(state.awaits_head(), awaits_head, "{answering} {blocked}");
        }
    }
}
