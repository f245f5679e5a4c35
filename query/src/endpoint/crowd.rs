//! Who is connected, and who goes when there is no more room.
//!
//! *Why*: a connection costs a client nothing, so whoever opens enough of them would lock out all
//! others for as long as an idle or slow one may last. When the limit is reached, the one that can be
//! missed most makes room for the next.
//!
//! | connection | when there is no room |
//! | --- | --- |
//! | waits for a head: new, idle or slow | goes, the one that has waited longest first |
//! | its reader takes nothing just now | goes if none waits, the longest first |
//! | is being answered | stays |
//! | (none may go) | the new one is refused |
//!
//! *Invariants*: no more places than the limit; a connection whose request is being worked on is never
//! sent away.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

/// All connections of a listener.
#[derive(Debug)]
pub struct Crowd {
    limit: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    /// Counts changes; orders those of one class.
    changes: u64,
    members: HashMap<u64, Member>,
    /// Those that may go, the first of them first.
    may_go: BTreeMap<(Class, u64), u64>,
}

#[derive(Debug)]
struct Member {
    presence: Presence,
    /// Its place in `may_go`, if it may go.
    class: Option<(Class, u64)>,
}

/// What a connection that may go does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Waiting,
    Blocked,
}

/// What a connection says of itself. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Presence(Arc<State>);

#[derive(Debug)]
struct State {
    id: u64,
    crowd: Option<Arc<Crowd>>,
    answering: AtomicBool,
    blocked: AtomicBool,
    leave: CancellationToken,
}

/// A connection's place, free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    presence: Presence,
    crowd: Arc<Crowd>,
}

impl Crowd {
    /// Room for so many.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, inside: Mutex::default() })
    }

    /// A place for one more, and whether another has to go for it; `None` if there is none.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Option<(Place, bool)> {
        let mut inside = self.lock();
        let full = inside.members.len() >= self.limit;
        if full {
            let (_, id) = inside.may_go.pop_first()?;
            if let Some(gone) = inside.members.remove(&id) {
                gone.presence.0.leave.cancel();
            }
        }
        inside.changes += 1;
        let id = inside.changes;
        let presence = Presence::new(id, Some(Arc::clone(self)));
        inside.members.insert(id, Member { presence: presence.clone(), class: None });
        inside.sort(id);
        Some((Place { presence, crowd: Arc::clone(self) }, full))
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock()
    }
}

impl Inside {
    /// Puts a connection where it belongs by what it says of itself now.
    fn sort(&mut self, id: u64) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let class = member.presence.class();
        if class == member.class.map(|(class, _)| class) {
            return;
        }
        if let Some(old) = member.class.take() {
            self.may_go.remove(&old);
        }
        self.changes += 1;
        member.class = class.map(|class| (class, self.changes));
        if let Some(new) = member.class {
            self.may_go.insert(new, id);
        }
    }
}

impl Presence {
    fn new(id: u64, crowd: Option<Arc<Crowd>>) -> Self {
        let (answering, blocked) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(State { id, crowd, answering, blocked, leave: CancellationToken::new() }))
    }

    /// One of a connection without a place.
    #[must_use]
    pub fn alone() -> Self {
        Self::new(0, None)
    }

    /// Says whether a request is being answered: from its head to the last piece of the answer.
    pub fn answering(&self, yes: bool) {
        self.set(&self.0.answering, yes);
    }

    /// Says whether a write waits for the reader.
    pub fn blocked(&self, yes: bool) {
        self.set(&self.0.blocked, yes);
    }

    /// Whether nothing is half sent: a connection that ends otherwise has cut off an answer.
    #[must_use]
    pub fn is_in_order(&self) -> bool {
        self.class() == Some(Class::Waiting)
    }

    /// Waits until it has to go.
    pub async fn has_to_go(&self) {
        self.0.leave.cancelled().await;
    }

    fn set(&self, flag: &AtomicBool, yes: bool) {
        if flag.swap(yes, Ordering::Relaxed) == yes {
            return;
        }
        if let Some(crowd) = &self.0.crowd {
            crowd.lock().sort(self.0.id);
        }
    }

    fn class(&self) -> Option<Class> {
        let (blocked, answering) = (&self.0.blocked, &self.0.answering);
        match (blocked.load(Ordering::Relaxed), answering.load(Ordering::Relaxed)) {
            (true, _) => Some(Class::Blocked),
            (false, false) => Some(Class::Waiting),
            (false, true) => None,
        }
    }
}

impl Place {
    /// What the connection says of itself.
    #[must_use]
    pub fn presence(&self) -> &Presence {
        &self.presence
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.crowd.lock();
        // Absent if it had to go.
        if let Some(member) = inside.members.remove(&self.presence.0.id)
            && let Some(class) = member.class
        {
            inside.may_go.remove(&class);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(places: &[&Place]) -> Vec<usize> {
        let left = places.iter().enumerate();
        left.filter(|(_, p)| p.presence().0.leave.is_cancelled()).map(|(i, _)| i).collect()
    }

    #[test]
    fn who_goes_first() {
        let crowd = Crowd::new(4);
        let enter = || crowd.enter().map(|(place, _)| place);
        let (a, b, c, d) = (enter().unwrap(), enter().unwrap(), enter().unwrap(), enter().unwrap());
        let all = [&a, &b, &c, &d];
        assert_eq!(gone(&all), [0_usize; 0]);
        // `a` waits longest but for its answer, after which it waits anew.
        a.presence().answering(true);
        a.presence().answering(false);
        b.presence().answering(true);
        d.presence().answering(true);
        d.presence().blocked(true);
        let mut more = Vec::new();
        for expected in [&[2][..], &[0, 2], &[0, 2, 3]] {
            more.push(enter().unwrap());
            // Those that came are being answered: they stay.
            more.last().unwrap().presence().answering(true);
            assert_eq!(gone(&all), expected);
        }
        assert!(enter().is_none(), "all are being answered");
        drop(more.pop());
        assert!(enter().is_some());
        drop((a, b, c, d, more));
        let inside = crowd.lock();
        assert!(inside.members.is_empty() && inside.may_go.is_empty());
    }

    #[test]
    fn a_new_one_can_be_sent_away_only_by_another() {
        let crowd = Crowd::new(1);
        let (first, made_room) = crowd.enter().unwrap();
        assert!(!made_room);
        let (second, made_room) = crowd.enter().unwrap();
        assert!(made_room);
        assert_eq!(gone(&[&first, &second]), [0]);
        // The place of one that had to go is not freed twice.
        drop(first);
        second.presence().answering(true);
        assert!(crowd.enter().is_none());
    }

    #[test]
    fn in_order_is_nothing_half_sent() {
        let presence = Presence::alone();
        for (answering, blocked, in_order) in
            [(false, false, true), (true, false, false), (true, true, false), (false, true, false)]
        {
            presence.answering(answering);
            presence.blocked(blocked);
            assert_eq!(presence.is_in_order(), in_order, "{answering} {blocked}");
        }
    }
}
