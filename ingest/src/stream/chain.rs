//! The streams that hold the events of a store's slots, one after the other, and which of them is
//! read now.
//!
//! A stream that took its slots from another one says so in its metadata. So from the store's own
//! stream back there is a chain: the root, perhaps others, the own stream. The events of the slots
//! are in the root up to its fence, then in the next stream, and so on. Before the fence is there,
//! a store of the new stream follows the earlier stream: both streams' ingests count the same.
//!
//! *Invariants*: sequences only grow along a chain, so one checkpoint says what is applied. A
//! stream without a parent is a chain of one: the server is asked nothing more about it. What does
//! not fit is refused, never guessed.

use async_nats::jetstream::Context;
use botstats_common::io::nats::StreamInfoError;
use botstats_common::lineage::{Control, Fence, LineageError, first_sequence_after};
use botstats_common::names::control_subject;
use botstats_common::slot::Slots;

use super::batch::Interruption;
use super::identity::{Refusal, Start, StreamState, recognise, start};
use super::info::{Observation, observe};
use super::raw_message::next_of_subject;
use crate::event::batch::Place;
use crate::event::decoder::subject_hash;
use crate::store::{Checkpoint, Ownership, StreamIdentity};

/// The most streams of a chain: each split of an account's slot adds one.
const MAX_LINKS: usize = 64;
/// The most control messages of a stream: it gives each of its slots away once at most, and an
/// operator may repeat some.
const MAX_CONTROL_MESSAGES: usize = 4_096;

/// Why a chain is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChainRefusal {
    #[error("the stream {stream} cannot be used: {error}")]
    Metadata { stream: String, error: LineageError },
    #[error("the stream {child} took its slots from the stream {parent}, which is missing")]
    NoParent { child: String, parent: String },
    #[error(
        "the stream {child} took its slots from another stream {parent} than the one that there is now, which was \
         made later or restored"
    )]
    OtherParent { child: String, parent: String },
    #[error("the stream {child} was made for the slots {slots}, which {parent} does not have")]
    ForeignSlots { child: String, parent: String, slots: Slots },
    #[error(
        "the first sequence of the stream {child} is {first}, but must be {needed}, so that its sequences come after \
         those of {parent}"
    )]
    Order { child: String, parent: String, first: u64, needed: u64 },
    #[error("the streams before {stream} are more than {MAX_LINKS}")]
    TooLong { stream: String },
    #[error(
        "the stream {parent} gave the slots {slots} to {to} at sequence {sequence}; {child} was made for other slots, or \
         at another time"
    )]
    OtherFence { child: String, parent: String, sequence: u64, slots: Slots, to: String },
    #[error(
        "the stream {child} has events, but {parent} does not have the message by which it gave the slots to {child}"
    )]
    NoFence { child: String, parent: String },
    #[error(
        "the stream {child} no longer has its first message: events after those of {parent} are lost"
    )]
    Shortened { child: String, parent: String },
    #[error(
        "the store has counted the stream {counted}, which is not one of those before {stream}"
    )]
    NotInChain { stream: String, counted: String },
    #[error(
        "the store has only events of the slots {counted}, but the stream {stream} is made for the slots {slots}"
    )]
    NotCounted { stream: String, counted: Slots, slots: Slots },
    #[error(
        "the store has counted the stream {parent} past the message by which that gave the slots of {child} away: it \
         belongs to an ingest of {parent}"
    )]
    PastFence { child: String, parent: String },
}

impl ChainRefusal {
    pub(crate) fn what_to_do(&self) -> &'static str {
        match self {
            Self::NotInChain { .. } | Self::NotCounted { .. } | Self::PastFence { .. } => {
                "no event is counted until an operator acts: set BOTSTATS_STREAM to the stream that the store has \
                 counted, or run `botstats-ingest rebuild` to count all streams of the chain"
            }
            Self::Shortened { .. } => {
                "no event is counted until an operator acts: bring the right stream back, or run \
                 `botstats-ingest rebuild` to count the events that the streams have now"
            }
            _ => {
                "no event is counted until an operator acts: bring the right stream back; a rebuild does not help, it \
                 reads the same streams"
            }
        }
    }
}

/// What is read, once it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The store's own stream.
    pub own: StreamIdentity,
    /// The slots of the store.
    pub ownership: Ownership,
    /// The sequence that must be applied before reads are answered.
    pub must_apply: u64,
    /// The sequence of the fence at the position, if the stream that is read comes after it.
    pub passed_fence: Option<u64>,
    /// The sequence at which the stream that is read ends for the store, if it does.
    pub fence: Option<u64>,
}

/// The stream to read now.
#[derive(Debug)]
pub(super) struct Route {
    pub seen: Observation,
    pub start: Start,
    pub reading: Reading,
    /// The fence behind which the next stream is read; none in the own stream.
    pub ends_with: Option<Fence>,
}

/// A stream of the chain.
#[derive(Debug, Clone)]
struct Link {
    state: StreamState,
    /// The first sequence that it ever had.
    first: u64,
    /// The slots that it was made for.
    slots: Slots,
    parent: Option<StreamIdentity>,
    /// It had a subject of a slot, or a message, when it was asked. Then its parent had the fence.
    is_used: bool,
    /// Its message that gave the next link's slots away.
    fence: Option<Place>,
}

impl Link {
    fn of(seen: &Observation) -> Result<Self, ChainRefusal> {
        let state = seen.state.clone();
        let lineage = seen.lineage.clone().map_err(|error| ChainRefusal::Metadata {
            stream: state.identity.name.clone(),
            error,
        })?;
        Ok(Self {
            first: seen.first,
            slots: lineage.slots,
            parent: lineage.parent,
            is_used: !seen.slots.is_empty() || state.last_sequence >= seen.first,
            fence: None,
            state,
        })
    }

    fn name(&self) -> String {
        self.state.identity.name.clone()
    }

    /// Its first message expired or was deleted.
    fn is_shortened(&self) -> bool {
        self.state.first_sequence > self.first
    }

    /// The fence that gives it its slots.
    fn expected_fence(&self) -> Fence {
        Fence { slots: self.slots, to: self.state.identity.clone() }
    }
}

/// Finds the stream to read now: the own one, whose state was just asked for, or an earlier one of
/// its chain.
pub(super) async fn route(
    js: &Context,
    own: Observation,
    position: Option<&Checkpoint>,
    ownership: Ownership,
) -> Result<Route, Interruption> {
    let refuse = |refusal: ChainRefusal| Interruption::Refused(refusal.into());
    let (mut links, mut observations) = (vec![Link::of(&own).map_err(refuse)?], vec![own]);
    while let Some(child) = links.last()
        && let Some(parent) = child.parent.clone()
        && needs_parent(child, position)
    {
        let child = child.name();
        if links.len() == MAX_LINKS {
            return Err(refuse(ChainRefusal::TooLong { stream: child }));
        }
        let seen = observe(js, &parent.name).await.map_err(|error| match error {
            StreamInfoError::NoStream(parent) => refuse(ChainRefusal::NoParent { child, parent }),
            error => Interruption::retry(&error),
        })?;
        links.push(Link::of(&seen).map_err(refuse)?);
        observations.push(seen);
    }
    links.reverse();
    observations.reverse();
    fits(&links).map_err(refuse)?;
    for at in 1..links.len() {
        links[at - 1].fence = find_fence(js, &links[at - 1], &links[at]).await?;
    }
    let placed = place(&links, position).map_err(Interruption::Refused)?;
    let last = links.len() - 1;
    let ownership = attach(&links[last], position, placed.passed_fence.is_some(), ownership);
    let reading = Reading {
        own: links[last].state.identity.clone(),
        ownership: ownership.map_err(refuse)?,
        must_apply: must_apply(&links[placed.index..]),
        passed_fence: placed.passed_fence,
        fence: links[placed.index].fence.map(|fence| fence.sequence),
    };
    Ok(Route {
        seen: observations.swap_remove(placed.index),
        start: placed.start,
        reading,
        ends_with: links.get(placed.index + 1).map(Link::expected_fence),
    })
}

/// Whether streams before this one may have to be read.
fn needs_parent(link: &Link, position: Option<&Checkpoint>) -> bool {
    match position {
        Some(position) => position.stream.name != link.state.identity.name,
        // Counting begins here at the earliest.
        None => !link.is_shortened(),
    }
}

/// Checks that each stream comes after the one before.
fn fits(links: &[Link]) -> Result<(), ChainRefusal> {
    for (before, link) in links.iter().zip(&links[1..]) {
        let (parent, child) = (before.name(), link.name());
        if link.parent.as_ref() != Some(&before.state.identity) {
            return Err(ChainRefusal::OtherParent { child, parent });
        }
        if !link.slots.is_subset(before.slots) {
            let slots = link.slots.difference(before.slots);
            return Err(ChainRefusal::ForeignSlots { child, parent, slots });
        }
        let (first, needed) = (link.first, first_sequence_after(before.first));
        if first != needed {
            return Err(ChainRefusal::Order { child, parent, first, needed });
        }
    }
    Ok(())
}

/// The message by which the parent gave the child's slots away, if there is one yet.
async fn find_fence(
    js: &Context,
    parent: &Link,
    child: &Link,
) -> Result<Option<Place>, Interruption> {
    let (stream, expected) = (parent.name(), child.expected_fence());
    let subject = control_subject(&stream);
    let mut from = 1;
    for _ in 0..MAX_CONTROL_MESSAGES {
        let found = next_of_subject(js, &stream, &subject, from).await;
        let Some(message) = found.map_err(Interruption::Retry)? else { return Ok(None) };
        let place = Place {
            sequence: message.sequence,
            stored_ns: message.stored_ns,
            subject_hash: subject_hash(&message.subject),
        };
        if let Some(Control::Moved(fence)) = Control::decode(&message.payload)
            && is_fence(&fence, &expected, &place, &stream).map_err(Interruption::Refused)?
        {
            return Ok(Some(place));
        }
        from = message.sequence + 1;
    }
    Err(Interruption::Retry(format!(
        "the stream {stream} has more than {MAX_CONTROL_MESSAGES} messages on {subject}"
    )))
}

/// | slots | to | result |
/// | --- | --- | --- |
/// | the same | the same | it is |
/// | others | another | it is not |
/// | some of them, or more | any | refuse |
/// | any | the same | refuse, unless all is the same |
fn is_fence(fence: &Fence, expected: &Fence, at: &Place, parent: &str) -> Result<bool, Refusal> {
    let shares_slots = !fence.slots.intersection(expected.slots).is_empty();
    if fence == expected {
        return Ok(true);
    }
    if !shares_slots && fence.to != expected.to {
        return Ok(false);
    }
    Err(ChainRefusal::OtherFence {
        child: expected.to.name.clone(),
        parent: parent.to_owned(),
        sequence: at.sequence,
        slots: fence.slots,
        to: fence.to.name.clone(),
    }
    .into())
}

/// Where to begin in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Placed {
    index: usize,
    start: Start,
    /// The sequence of the fence at the position, if reading goes on in the next stream.
    passed_fence: Option<u64>,
}

/// Decides which stream of the chain is read, and from where. The first one is the root, or the one
/// that has the position; the last one is the own stream.
///
/// | position | chain | result |
/// | --- | --- | --- |
/// | none | whole, or the root shortened | as [`start`] in the first |
/// | none | a later stream shortened | as [`start`] in the last one of those |
/// | none | the root shortened, past its fence | as [`start`] in the second |
/// | none | the fence is missing, but not expired | refuse |
/// | in the own stream | any | as [`start`] there |
/// | in no stream of the chain | any | refuse |
/// | before the fence, or there is none yet | any | as [`start`] in that stream |
/// | at the fence | next stream has its first message | from that message, once the fence is compared |
/// | at the fence | next stream shortened | refuse |
/// | behind the fence | any | refuse |
/// | any | no fence, and the next stream is used | refuse |
fn place(links: &[Link], position: Option<&Checkpoint>) -> Result<Placed, Refusal> {
    let Some(position) = position else {
        let index = first_whole(links)?;
        let start = start(None, &links[index].state)?;
        return Ok(Placed { index, start, passed_fence: None });
    };
    let (link, own) = (&links[0], &links[links.len() - 1]);
    if link.state.identity.name != position.stream.name {
        let (stream, counted) = (own.name(), position.stream.name.clone());
        return Err(ChainRefusal::NotInChain { stream, counted }.into());
    }
    let begin = start(Some(position), &link.state)?;
    let here = Placed { index: 0, start: begin, passed_fence: None };
    let Some(next) = links.get(1) else { return Ok(here) };
    let (child, parent) = (next.name(), link.name());
    match link.fence {
        None if next.is_used => Err(ChainRefusal::NoFence { child, parent }.into()),
        Some(fence) if position.sequence > fence.sequence => {
            Err(ChainRefusal::PastFence { child, parent }.into())
        }
        Some(Place { sequence, stored_ns, subject_hash }) if position.sequence == sequence => {
            let found = Some((sequence, stored_ns, subject_hash));
            recognise(position, &link.state.identity, found)?;
            if next.is_shortened() {
                return Err(ChainRefusal::Shortened { child, parent }.into());
            }
            Ok(Placed { index: 1, start: Start::From(next.first), passed_fence: Some(sequence) })
        }
        _ => Ok(here),
    }
}

/// The stream with which a new store begins: the last one whose past is gone, else the root.
fn first_whole(links: &[Link]) -> Result<usize, Refusal> {
    for (at, link) in links.iter().enumerate().skip(1).rev() {
        let before = &links[at - 1];
        if link.is_shortened() {
            return Ok(at);
        }
        if before.fence.is_none() && link.is_used {
            if before.is_shortened() {
                return Ok(at);
            }
            let (child, parent) = (link.name(), before.name());
            return Err(ChainRefusal::NoFence { child, parent }.into());
        }
    }
    Ok(0)
}

/// The end of the last stream that can be reached: behind it there is no fence yet.
fn must_apply(links: &[Link]) -> u64 {
    let last = links.iter().find(|link| link.fence.is_none()).or(links.last());
    last.map_or(0, |link| link.state.last_sequence)
}

/// The slots that a store has for a stream.
///
/// | position | store | result |
/// | --- | --- | --- |
/// | none | new | the stream's slots |
/// | in the own stream | has them | the stream's slots, less what the stream gave away |
/// | in an earlier stream | has them | the stream's slots |
/// | in an earlier stream, not its fence | gave some of them away | refuse |
/// | any | lacks some of them | refuse |
fn attach(
    own: &Link,
    position: Option<&Checkpoint>,
    is_at_fence: bool,
    ownership: Ownership,
) -> Result<Ownership, ChainRefusal> {
    let slots = own.slots;
    let all = Ownership { counted: slots, given_away: Slots::NONE };
    let Some(position) = position else { return Ok(all) };
    let Ownership { counted, given_away } = ownership;
    if !slots.is_subset(counted) {
        return Err(ChainRefusal::NotCounted { stream: own.name(), counted, slots });
    }
    let given_away = given_away.intersection(slots);
    if position.stream.name == own.state.identity.name {
        return Ok(Ownership { counted: slots, given_away });
    }
    if !given_away.is_empty() && !is_at_fence {
        let (child, parent) = (own.name(), position.stream.name.clone());
        return Err(ChainRefusal::PastFence { child, parent });
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
