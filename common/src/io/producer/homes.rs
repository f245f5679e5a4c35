//! Which stream stores the events of which slot, learned from acknowledgements.
//!
//! A publisher does not know how slots are spread over streams, and slots move. But each
//! acknowledgement names its stream, so the publisher remembers the last one of each slot. Slots
//! with the same stream are a *group*: only messages of one group can be a batch.
//!
//! *Invariants*: what is remembered decides how messages are sent, never whether they are stored.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::names::EVENTS_PREFIX;
use crate::slot::{SLOT_COUNT, Slot};

/// The stream that stores the events of each slot, as far as it is known; shared by all clones of a
/// publisher.
#[derive(Debug)]
pub(super) struct Homes(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    streams: [Option<Arc<str>>; SLOT_COUNT],
    /// Made of `streams` whenever these change, which is seldom.
    groups: Groups,
}

/// A group is named by its lowest slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group(Slot);

impl Group {
    /// The slot that names the group.
    pub(super) fn slot(self) -> Slot {
        self.0
    }
}

/// The group of each slot; absent while its stream is unknown.
#[derive(Debug, Clone)]
pub(super) struct Groups([Option<Group>; SLOT_COUNT]);

impl Groups {
    /// The group of a slot.
    pub(super) fn of(&self, Slot(slot): Slot) -> Option<Group> {
        self.0[usize::from(slot)]
    }

    fn from_streams(streams: &[Option<Arc<str>>; SLOT_COUNT]) -> Self {
        let mut seen: Vec<(&Arc<str>, Group)> = Vec::new();
        let mut groups = [None; SLOT_COUNT];
        for slot in Slot::all() {
            let place = usize::from(slot.0);
            let Some(stream) = &streams[place] else { continue };
            let known = seen.iter().find(|(other, _)| *other == stream);
            let group = known.map_or(Group(slot), |(_, group)| *group);
            if known.is_none() {
                seen.push((stream, group));
            }
            groups[place] = Some(group);
        }
        Self(groups)
    }
}

impl Homes {
    pub(super) fn new() -> Self {
        let streams = [const { None }; SLOT_COUNT];
        let groups = Groups::from_streams(&streams);
        Self(Mutex::new(Inner { streams, groups }))
    }

    /// The groups at this moment.
    pub(super) fn groups(&self) -> Groups {
        self.0.lock().groups.clone()
    }

    /// Remembers which stream has stored an event of a slot.
    pub(super) fn learn<'a>(&self, stored: impl IntoIterator<Item = (Slot, &'a Arc<str>)>) {
        let mut inner = self.0.lock();
        let mut changed = false;
        for (Slot(slot), stream) in stored {
            let known = &mut inner.streams[usize::from(slot)];
            if known.as_ref() != Some(stream) {
                *known = Some(stream.clone());
                changed = true;
            }
        }
        inner.regroup_if(changed);
    }

    /// Forgets the streams of slots that are perhaps moving.
    pub(super) fn forget(&self, slots: impl IntoIterator<Item = Slot>) {
        let mut inner = self.0.lock();
        let mut changed = false;
        for Slot(slot) in slots {
            changed |= inner.streams[usize::from(slot)].take().is_some();
        }
        inner.regroup_if(changed);
    }
}

impl Inner {
    fn regroup_if(&mut self, changed: bool) {
        if changed {
            self.groups = Groups::from_streams(&self.streams);
        }
    }
}

/// The slot that decides which stream stores a message on that subject; `None` if it is no subject
/// of events.
pub(super) fn slot_of(subject: &str) -> Option<Slot> {
    let tokens = subject.strip_prefix(EVENTS_PREFIX)?;
    let (account, rest) = tokens.split_once('.')?;
    let (bot, channel) = rest.split_once('.')?;
    let is_event = ![account, bot, channel].contains(&"") && !channel.contains('.');
    is_event.then(|| Slot::of_token(account))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_subjects() {
        for (subject, slot) in [
            ("botstats.events.acme.b1.web", Some(Slot(175))),
            ("botstats.events.other.b.c", Some(Slot(245))),
            ("botstats.events.acme.b1", None),
            ("botstats.events.acme.b1.web.more", None),
            ("botstats.events.acme..web", None),
            ("botstats.events..b1.web", None),
            ("botstats.slot.175.acme.b1.web", None),
            ("", None),
        ] {
            assert_eq!(slot_of(subject), slot, "{subject}");
        }
    }

    #[test]
    fn slots_of_the_same_stream_are_a_group() {
        let homes = Homes::new();
        // Two names with the same text are one stream.
        let [a, again, b] = ["A", "A", "B"].map(Arc::<str>::from);
        let groups = |homes: &Homes| [1, 2, 3, 4].map(|slot| homes.groups().of(Slot(slot)));
        let group = |slot| Some(Group(Slot(slot)));
        assert_eq!(groups(&homes), [None; 4]);
        homes.learn([(Slot(2), &a), (Slot(4), &again), (Slot(3), &b)]);
        assert_eq!(groups(&homes), [None, group(2), group(3), group(2)]);
        homes.learn([(Slot(2), &b)]);
        assert_eq!(groups(&homes), [None, group(2), group(2), group(4)]);
        homes.forget([Slot(2), Slot(4)]);
        assert_eq!(groups(&homes), [None, None, group(3), None]);
    }
}
