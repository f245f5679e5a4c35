//! The first messages of those that arrived that can share a commit.

use botstats_common::quarter::day_of_ms;

use crate::event::decoder::Arrival;
use crate::event::registry::PairNumbers;
use crate::event::{Decoded, Event};
use crate::fold::timeline::{Entry, NewEvent, SLICE_DAYS};
use crate::store::{Checkpoint, DeadLetter, Progress, StreamIdentity};

pub(super) const NS_PER_MS: i64 = 1_000_000;

/// Messages of one commit.
pub(super) struct Batch<'a> {
    /// Events by conversation, those of a conversation in the order of their messages.
    events: Vec<Pending<'a>>,
    pub(super) dead_letters: Vec<DeadLetter>,
    /// The number of pairs that have an event in this batch or before.
    pub(super) pairs: u32,
    /// The progress with these messages, but for what becomes of the events.
    pub(super) progress: Progress,
    /// How many messages there are.
    pub(super) count: usize,
}

/// An event of the batch.
#[derive(Clone, Copy)]
pub(super) struct Pending<'a> {
    pub(super) numbers: PairNumbers,
    pub(super) event: &'a Event,
    /// The message's index in the batch.
    pub(super) index: usize,
    first_day: u32,
}

impl Pending<'_> {
    /// Pair and conversation.
    pub(super) fn conversation(&self) -> (u32, u128) {
        (self.numbers.pair, self.event.conversation)
    }

    pub(super) fn new_event(&self) -> NewEvent {
        let Event { time_ms, kind, flags, id, content, .. } = *self.event;
        NewEvent { entry: Entry { time_ms, kind, flags, id, content }, first_day: self.first_day }
    }
}

impl<'a> Batch<'a> {
    /// Takes messages of that stream, at least one if there is any, on top of `before` and `pairs`.
    pub(super) fn first_of(
        arrivals: &'a [Arrival],
        stream: &StreamIdentity,
        before: &Progress,
        pairs: u32,
    ) -> Self {
        let (events, dead_letters) = (Vec::new(), Vec::new());
        let mut batch = Self { events, dead_letters, pairs, progress: before.clone(), count: 0 };
        while let Some(arrival) = arrivals.get(batch.count).filter(|a| batch.has_room_for(a)) {
            batch.take(arrival);
            batch.count += 1;
        }
        if let Some(last) = arrivals[..batch.count].last() {
            batch.progress.checkpoint = Some(Checkpoint {
                stream: stream.clone(),
                sequence: last.sequence,
                stored_ns: last.stored_ns,
                subject_hash: last.subject_hash,
            });
        }
        batch.events.sort_unstable_by(|a, b| {
            let by_conversation = a.conversation().cmp(&b.conversation());
            by_conversation.then_with(|| a.index.cmp(&b.index))
        });
        batch
    }

    /// The events of each conversation.
    pub(super) fn conversations(&self) -> impl Iterator<Item = &[Pending<'a>]> {
        self.events.chunk_by(|a, b| a.conversation() == b.conversation())
    }

    /// False of a message before which the batch must end: a watermark that goes back changes what
    /// may be deleted, and that must not depend on how messages are cut into batches.
    fn has_room_for(&self, arrival: &Arrival) -> bool {
        self.count == 0
            || !matches!(arrival.decoded, Decoded::Event(..))
            || !self.progress.watermark.was_wrong(arrival.stored_ns / NS_PER_MS)
    }

    fn take(&mut self, arrival: &'a Arrival) {
        let progress = &mut self.progress;
        match &arrival.decoded {
            Decoded::UnknownType => progress.unknown_types += 1,
            Decoded::DeadLetter(rule, reason) => {
                *progress.dead_letters.entry(rule.name().to_owned()).or_default() += 1;
                self.dead_letters.push(DeadLetter {
                    sequence: arrival.sequence,
                    rule: *rule,
                    reason: reason.clone().into_owned(),
                });
            }
            Decoded::Event(numbers, event) => {
                let stored_ms = arrival.stored_ns / NS_PER_MS;
                if progress.watermark.was_wrong(stored_ms) {
                    let next_day = day_of_ms(stored_ms) + 1;
                    progress.buckets_from_day = progress.buckets_from_day.min(next_day);
                }
                progress.watermark.observe(event.time_ms, stored_ms);
                let first_day = progress.watermark.day().saturating_sub(SLICE_DAYS);
                self.pairs = self.pairs.max(numbers.pair.saturating_add(1));
                let index = self.count;
                self.events.push(Pending { numbers: *numbers, event, index, first_day });
            }
        }
    }
}
