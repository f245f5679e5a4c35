//! Messages that wait for their turn, and the parts that are formed of them.
//!
//! The messages of a batch must be in one stream. So a batch takes the messages of one group of
//! slots ([`super::homes`]) and passes over those of other groups, which keep waiting.
//!
//! | way | the next part |
//! | --- | --- |
//! | one by one | the messages that wait longest, of any slot |
//! | batches | of the group with the most messages |
//! | batches, and messages of unknown slots are the most | one of each of these slots, and all without a slot: they go one by one, and the others wait for what they teach |
//! | batches, and [`MAX_PASSED_OVER`] messages went before the one that waits longest | of that one's group |
//!
//! *Invariants*: messages of a slot keep their order. Nothing here waits for more messages: more
//! are taken from the channel only if they are there already, up to [`MAX_WAITING`] messages and
//! [`MAX_WAITING_BYTES`], and only while they do not fill a part.

use std::collections::VecDeque;

use tokio::sync::mpsc::{Receiver, error::TryRecvError};

use super::homes::{Group, Groups, slot_of};
use super::way::Way;
use super::{BATCHES_IN_FLIGHT, MAX_BATCH, MAX_BATCH_BYTES, Message};
use crate::slot::{SLOT_COUNT, Slot, Slots};

/// The most messages that wait: batches of events that are spread over 16 streams are still full.
const MAX_WAITING: usize = 16 * MAX_BATCH;
/// The most bytes that wait, give or take a message.
const MAX_WAITING_BYTES: usize = BATCHES_IN_FLIGHT * MAX_BATCH_BYTES;
/// The most messages that go before one that waits longer than they do.
const MAX_PASSED_OVER: usize = 2 * MAX_WAITING;

/// Messages that were taken from the channel, in their order.
#[derive(Debug)]
pub(super) struct Waiting {
    queue: VecDeque<(Option<Slot>, Message)>,
    /// The number of messages of each slot; the last place has those without a slot.
    of_slots: [usize; SLOT_COUNT + 1],
    bytes: usize,
    /// The number of messages that went before the first one in the queue.
    passed_over: usize,
}

/// Messages to be sent together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) messages: Vec<Message>,
    /// They are known to be of one stream.
    pub(super) one_stream: bool,
    /// No more messages fit.
    pub(super) full: bool,
}

impl Waiting {
    pub(super) fn new() -> Self {
        let (queue, of_slots) = (VecDeque::new(), [0; SLOT_COUNT + 1]);
        Self { queue, of_slots, bytes: 0, passed_over: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn add(&mut self, message: Message) {
        let slot = slot_of(&message.subject);
        self.of_slots[place(slot)] += 1;
        self.bytes += message.payload.len();
        self.queue.push_back((slot, message));
    }

    /// Takes messages from the channel until a part of `most` messages can be formed, or no message
    /// is there, or too much waits; false once the channel is closed and empty.
    pub(super) fn fill(
        &mut self,
        from: &mut Receiver<Message>,
        way: Way,
        groups: &Groups,
        most: usize,
    ) -> bool {
        let mut counts = self.counts(groups);
        let mut largest = match way {
            Way::OneByOne => self.queue.len(),
            Way::Batches => counts.iter().copied().max().unwrap_or(0),
        };
        while largest < most && self.queue.len() < MAX_WAITING && self.bytes < MAX_WAITING_BYTES {
            let message = match from.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            };
            self.add(message);
            let (slot, _) = &self.queue[self.queue.len() - 1];
            let count = &mut counts[place_of_group(groups, *slot)];
            *count += 1;
            largest = match way {
                Way::OneByOne => self.queue.len(),
                Way::Batches => largest.max(*count),
            };
        }
        true
    }

    /// True if `count` messages can go that way together.
    pub(super) fn has(&self, count: usize, way: Way, groups: &Groups) -> bool {
        match way {
            Way::OneByOne => self.queue.len() >= count,
            Way::Batches => self.counts(groups)[..SLOT_COUNT].iter().any(|n| *n >= count),
        }
    }

    /// Takes at most `most` messages that go that way together; `None` if no message waits.
    pub(super) fn take(&mut self, way: Way, groups: &Groups, most: usize) -> Option<Taken> {
        let (first, _) = self.queue.front()?;
        match way {
            Way::OneByOne => Some(self.take_where(|_| true, false, most)),
            Way::Batches => {
                let mut chosen = group_of(groups, *first);
                if self.passed_over < MAX_PASSED_OVER {
                    let counts = self.counts(groups);
                    let largest = (0..counts.len()).max_by_key(|place| counts[*place])?;
                    chosen = group_at(groups, largest);
                }
                let mut taught = Slots::NONE;
                let wanted = |slot| match (group_of(groups, slot), slot) {
                    (None, Some(slot)) if chosen.is_none() => {
                        let is_first = !taught.contains(slot);
                        taught.insert(slot);
                        is_first
                    }
                    (group, _) => group == chosen,
                };
                Some(self.take_where(wanted, chosen.is_some(), most))
            }
        }
    }

    /// Takes the first messages whose slot is wanted.
    fn take_where(
        &mut self,
        mut wanted: impl FnMut(Option<Slot>) -> bool,
        one_stream: bool,
        most: usize,
    ) -> Taken {
        let (mut messages, mut bytes, mut full) = (Vec::new(), 0, false);
        let mut passed: Vec<(Option<Slot>, Message)> = Vec::new();
        let mut first_goes = None;
        while let Some((slot, message)) = self.queue.pop_front() {
            let goes = wanted(slot);
            first_goes.get_or_insert(goes);
            if !goes {
                passed.push((slot, message));
                continue;
            }
            let size = message.payload.len();
            if !messages.is_empty() && bytes + size > MAX_BATCH_BYTES {
                self.queue.push_front((slot, message));
                full = true;
                break;
            }
            bytes += size;
            self.bytes -= size;
            self.of_slots[place(slot)] -= 1;
            messages.push(message);
            if messages.len() == most {
                full = true;
                break;
            }
        }
        self.passed_over =
            if first_goes == Some(true) { 0 } else { self.passed_over + messages.len() };
        passed.into_iter().rev().for_each(|message| self.queue.push_front(message));
        Taken { messages, one_stream, full }
    }

    /// The number of messages of each group, at the place of the slot that names the group; the
    /// last place has those of no group.
    fn counts(&self, groups: &Groups) -> [usize; SLOT_COUNT + 1] {
        let mut counts = [0; SLOT_COUNT + 1];
        for slot in Slot::all().map(Some).chain([None]) {
            counts[place_of_group(groups, slot)] += self.of_slots[place(slot)];
        }
        counts
    }
}

fn place(slot: Option<Slot>) -> usize {
    slot.map_or(SLOT_COUNT, |Slot(slot)| usize::from(slot))
}

fn group_of(groups: &Groups, slot: Option<Slot>) -> Option<Group> {
    slot.and_then(|slot| groups.of(slot))
}

fn place_of_group(groups: &Groups, slot: Option<Slot>) -> usize {
    place(group_of(groups, slot).map(Group::slot))
}

/// The group whose messages are counted at that place.
fn group_at(groups: &Groups, place: usize) -> Option<Group> {
    u8::try_from(place).ok().and_then(|slot| groups.of(Slot(slot)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use tokio::sync::mpsc;

    use super::super::WINDOW;
    use super::super::homes::Homes;
    use super::*;

    const ACCOUNTS: u64 = 1_000;

    /// A message of one of [`ACCOUNTS`] accounts.
    fn message(tag: u64, size: usize) -> Message {
        let subject = format!("botstats.events.a{}.b.c", tag % ACCOUNTS);
        Message { tag, subject, payload: Bytes::from(vec![b'x'; size]) }
    }

    /// All slots, spread evenly over that number of streams.
    fn groups(streams: u8) -> Groups {
        let homes = Homes::new();
        let names: Vec<Arc<str>> = (0..streams).map(|number| number.to_string().into()).collect();
        homes.learn(Slot::all().map(|slot| (slot, &names[usize::from(slot.0 % streams)])));
        homes.groups()
    }

    /// Takes all parts of the messages as the publisher does that is faster than its input is long.
    fn parts(
        messages: impl IntoIterator<Item = Message>,
        way: Way,
        groups: &Groups,
        most: usize,
    ) -> Vec<Taken> {
        let messages: Vec<Message> = messages.into_iter().collect();
        let (sender, mut receiver) = mpsc::channel(messages.len());
        messages.into_iter().for_each(|message| sender.try_send(message).unwrap());
        drop(sender);
        let mut waiting = Waiting::new();
        std::iter::from_fn(|| {
            waiting.fill(&mut receiver, way, groups, most);
            waiting.take(way, groups, most)
        })
        .collect()
    }

    fn sizes(parts: &[Taken]) -> Vec<usize> {
        parts.iter().map(|part| part.messages.len()).collect()
    }

    #[test]
    fn parts_keep_their_limits() {
        let small = (0..2_500).map(|tag| message(tag, 1));
        let big = (2_500..2_503).map(|tag| message(tag, MAX_BATCH_BYTES / 2));
        for way in [Way::OneByOne, Way::Batches] {
            let parts = parts(small.clone().chain(big.clone()), way, &groups(1), MAX_BATCH);
            assert_eq!(sizes(&parts), [1_000, 1_000, 501, 2]);
            assert_eq!([0, 1, 2, 3].map(|at: usize| parts[at].full), [true, true, true, false]);
            assert!(parts.iter().all(|part| part.one_stream == (way == Way::Batches)));
            let tags = parts.iter().flat_map(|part| &part.messages).map(|message| message.tag);
            assert!(tags.eq(0..2_503));
        }
    }

    #[test]
    fn a_batch_is_of_one_stream_and_full() {
        for (streams, full) in [(1, 20), (2, 19), (4, 18), (16, 8)] {
            let groups = groups(streams);
            let parts =
                parts((0..20_000).map(|tag| message(tag, 1)), Way::Batches, &groups, MAX_BATCH);
            let is_full = sizes(&parts).iter().filter(|size| **size == MAX_BATCH).count();
            assert!(is_full >= full, "{streams} streams: {:?}", sizes(&parts));
            let mut tags = Vec::new();
            for part in &parts {
                assert!(part.one_stream);
                let of = |message: &Message| groups.of(slot_of(&message.subject).unwrap());
                assert!(part.messages.iter().all(|message| of(message) == of(&part.messages[0])));
                let of_part = part.messages.iter().map(|message| message.tag);
                assert!(of_part.clone().is_sorted(), "an account's messages changed places");
                tags.extend(of_part);
            }
            tags.sort_unstable();
            assert!(tags.into_iter().eq(0..20_000));
        }
    }

    #[test]
    fn what_is_not_known_goes_one_by_one() {
        let unknown = Homes::new().groups();
        let messages: Vec<Message> = (0..600).map(|tag| message(tag, 1)).collect();
        let slots: Slots = messages.iter().filter_map(|m| slot_of(&m.subject)).collect();
        let all = parts(messages, Way::Batches, &unknown, MAX_BATCH);
        let of_slots = usize::try_from(slots.len()).unwrap();
        assert_eq!((sizes(&all)[0], sizes(&all).iter().sum()), (of_slots, 600));
        for part in all {
            let mut taught = Slots::NONE;
            for slot in part.messages.iter().filter_map(|m| slot_of(&m.subject)) {
                assert!(!taught.contains(slot) && !part.one_stream);
                taught.insert(slot);
            }
        }

        // No events: another subject than that of an event has no slot.
        let other = (0..600).map(|tag| Message { subject: "other".to_owned(), ..message(tag, 1) });
        let known = (600..800).map(|tag| message(tag, 1));
        let all = parts(other.chain(known), Way::Batches, &groups(1), MAX_BATCH);
        assert_eq!(sizes(&all), [600, 200]);
        assert_eq!([all[0].one_stream, all[1].one_stream], [false, true]);
    }

    #[test]
    fn an_input_that_pauses_lets_nothing_wait() {
        let (sender, mut receiver) = mpsc::channel(10);
        let (mut waiting, groups) = (Waiting::new(), groups(4));
        assert!(waiting.take(Way::Batches, &groups, MAX_BATCH).is_none());
        for tag in 0..3 {
            sender.try_send(message(tag, 1)).unwrap();
        }
        assert!(waiting.fill(&mut receiver, Way::Batches, &groups, MAX_BATCH));
        let mut taken = 0;
        while let Some(part) = waiting.take(Way::Batches, &groups, MAX_BATCH) {
            taken += part.messages.len();
            assert!(!part.full);
        }
        assert_eq!(taken, 3);
        drop(sender);
        assert!(!waiting.fill(&mut receiver, Way::Batches, &groups, MAX_BATCH));
        assert!(waiting.is_empty());
    }

    /// One account has much more than the server takes; the message of another is not left behind.
    #[test]
    fn a_rare_account_gets_its_turn() {
        let groups = groups(2);
        let of = |account: &str| format!("botstats.events.{account}.b.c");
        let group = |account: &str| groups.of(slot_of(&of(account)).unwrap());
        let rare = (0..).map(|number| format!("r{number}")).find(|name| group(name) != group("a"));
        let rare = Message { subject: of(&rare.unwrap()), ..message(0, 1) };
        let mut waiting = Waiting::new();
        waiting.add(rare.clone());
        let (sender, mut receiver) = mpsc::channel(2 * MAX_BATCH);
        let mut before = 0;
        loop {
            while sender.try_send(Message { subject: of("a"), ..message(1, 1) }).is_ok() {}
            waiting.fill(&mut receiver, Way::Batches, &groups, MAX_BATCH);
            let part = waiting.take(Way::Batches, &groups, MAX_BATCH).unwrap();
            if part.messages.contains(&rare) {
                break;
            }
            before += part.messages.len();
            assert!(before <= MAX_PASSED_OVER + MAX_BATCH);
        }
        assert!(before >= MAX_PASSED_OVER);
    }

    #[test]
    fn what_waits_is_bounded() {
        let unknown = Homes::new().groups();
        for (size, way, groups, most_waiting) in [
            (1, Way::OneByOne, unknown.clone(), WINDOW),
            (1, Way::Batches, groups(1), MAX_BATCH),
            (1, Way::Batches, groups(255), MAX_WAITING),
            (64 * 1024, Way::Batches, groups(255), MAX_WAITING_BYTES / (64 * 1024)),
        ] {
            let (sender, mut receiver) = mpsc::channel(2 * MAX_WAITING);
            (0..).map(|tag| message(tag, size)).take(2 * most_waiting).for_each(|message| {
                let _kept = sender.try_send(message);
            });
            let mut waiting = Waiting::new();
            let most = if way == Way::OneByOne { WINDOW } else { MAX_BATCH };
            assert!(waiting.fill(&mut receiver, way, &groups, most));
            assert_eq!(waiting.queue.len(), most_waiting);
        }
    }

    #[test]
    fn trials_are_full_or_none() {
        let mut waiting = Waiting::new();
        (0..64).for_each(|tag| waiting.add(message(tag, 1)));
        let unknown = Homes::new().groups();
        for (way, groups, has) in [
            (Way::OneByOne, groups(1), true),
            (Way::Batches, groups(1), true),
            (Way::Batches, groups(2), false),
            (Way::OneByOne, unknown.clone(), true),
            (Way::Batches, unknown, false),
        ] {
            assert_eq!(waiting.has(64, way, &groups), has);
        }
        assert!(!waiting.has(65, Way::OneByOne, &groups(1)));
    }
}
