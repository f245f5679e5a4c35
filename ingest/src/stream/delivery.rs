//! One consumer at work: takes its messages, decodes them, and hands them over in batches.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, Message as NatsMessage};
use futures::FutureExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::batch::{Interruption, Position};
use super::handover::ToFold;
use super::identity::StreamState;
use super::poll::Polled;
use super::pull::{Pull, PullError};
use crate::event::batch::{Batch, Taken};
use crate::event::decoder::Decoder;
use crate::event::{Headers, Message};
use crate::store::{StoreError, StreamIdentity};

/// Bounds for the time that a message waits for others to share its commit.
const WAIT: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(1);
/// Within these bounds it waits this long for each message that is still in the stream, since large
/// commits catch up soonest: with 100,000 in the stream, commits of 100,000 instead of 36,000 take
/// a fifth less CPU time of the fold, and a tenth less disk space (`docs/performance.md`).
const WAIT_FOR_EACH: Duration = Duration::from_micros(10);
/// Pause between two checks that the connection is still the consumer's.
const CONNECTION_CHECK: Duration = Duration::from_millis(100);
/// After this time without message or heartbeat (one is due every second) the consumer is given up.
const SILENCE: Duration = Duration::from_millis(2_500);
/// After this time without a message, though the stream has more, the consumer is given up.
const STALL: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
enum TakeError {
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error("a message could not be decoded")]
    Decode(#[from] StoreError),
    /// The last message of the stream for the store was taken.
    #[error("the events go on in the next stream")]
    EndOfLink,
    #[error("slots went to an unexpected stream")]
    OtherFence,
}

/// A consumer that delivers from the reader's position on.
pub(super) struct Consumer {
    pub(super) pull: Pull,
    /// The stream had no message from the reader's position up to this sequence when the consumer
    /// was made.
    pub(super) drained_to: u64,
    /// How often the client had connected when the consumer was made.
    pub(super) connects: u64,
}

/// A consumer at work.
pub(super) struct Delivery<'a> {
    client: Client,
    stream: StreamState,
    consumer: Consumer,
    /// The last sequence taken, for the poll of the stream's state.
    taken: Arc<AtomicU64>,
    decoder: &'a mut Decoder,
    batch: Batch,
    /// When the batch is handed over at the latest.
    send_at: Instant,
    /// When the server was heard last, or a batch was handed over: a full batch keeps the server
    /// waiting.
    last_arrival: Instant,
    last_message: Instant,
}

impl<'a> Delivery<'a> {
    pub(super) fn new(
        client: Client,
        stream: StreamState,
        consumer: Consumer,
        taken: Arc<AtomicU64>,
        decoder: &'a mut Decoder,
        batch: Batch,
    ) -> Self {
        let now = Instant::now();
        Self {
            client,
            batch,
            stream,
            consumer,
            taken,
            decoder,
            send_at: now,
            last_arrival: now,
            last_message: now,
        }
    }

    /// What was taken and not handed over.
    pub(super) fn into_batch(self) -> Batch {
        self.batch
    }

    /// Takes messages and hands over batches, until the consumer or the stream fails.
    pub(super) async fn run(
        &mut self,
        position: &mut Position,
        to_fold: &mut ToFold,
        mut polled: watch::Receiver<Option<Polled>>,
    ) -> Interruption {
        let mut tick = tokio::time::interval(CONNECTION_CHECK);
        loop {
            let waiting = !self.batch.is_empty();
            let due = waiting && (self.batch.is_full() || Instant::now() >= self.send_at);
            tokio::select! {
                ready = to_fold.ready(), if due => {
                    // While the fold was waited for, nothing was taken.
                    self.last_arrival = Instant::now();
                    self.last_message = self.last_arrival;
                    let handed = ready.and_then(|memory| to_fold.hand_over(self.batch.next(memory)));
                    if handed.is_err() {
                        return Interruption::Stopped;
                    }
                }
                () = sleep_until(self.send_at), if waiting && !due => {}
                next = self.consumer.pull.next(), if !self.batch.is_full() => {
                    let taken = self.take_arrived(next);
                    position.advance(&self.batch);
                    self.taken.store(position.sequence(), Ordering::Relaxed);
                    let asked = match taken {
                        Ok(()) => self.consumer.pull.ask_ahead().await.map_err(TakeError::from),
                        Err(error) => Err(error),
                    };
                    match asked {
                        Ok(()) => {}
                        Err(TakeError::EndOfLink) => {
                            return Interruption::EndOfLink(position.sequence());
                        }
                        Err(TakeError::OtherFence) => {
                            return Interruption::other_fence(&self.stream.identity.name);
                        }
                        Err(error) => return Interruption::retry(&error),
                    }
                }
                _ = tick.tick() => {
                    // The consumer may have sent messages that never arrived. A message that broke
                    // the connection would break it again.
                    if connects(&self.client) != self.consumer.connects {
                        return Interruption::Retry("the connection was lost".to_owned());
                    }
                    if !self.batch.is_full() && self.last_arrival.elapsed() > SILENCE {
                        return Interruption::Retry("the consumer sends neither messages nor heartbeats".to_owned());
                    }
                }
                changed = polled.changed() => {
                    let polled = polled.borrow_and_update().clone();
                    if let (Ok(()), Some(polled)) = (changed, polled)
                        && let Err(why) = self.compare(&polled, position)
                    {
                        return Interruption::Retry(why.to_owned());
                    }
                }
            }
        }
    }

    /// Takes a message, and all others that have arrived already, without going through the select
    /// again.
    fn take_arrived(&mut self, next: Option<NatsMessage>) -> Result<(), TakeError> {
        self.last_arrival = Instant::now();
        let mut next = Some(next);
        while let Some(arrived) = next {
            if let Some(pulled) = self.consumer.pull.accept(arrived)? {
                if self.batch.is_empty() {
                    self.send_at = self.last_arrival + wait(pulled.behind);
                }
                let taken = self.batch.take(
                    self.decoder,
                    &Message {
                        sequence: pulled.sequence,
                        stored_ns: pulled.stored_ns,
                        subject: &pulled.message.subject,
                        headers: Headers::Read(pulled.message.headers.as_ref()),
                        payload: &pulled.message.payload,
                    },
                )?;
                self.last_message = self.last_arrival;
                match taken {
                    Taken::Yes => {}
                    Taken::Last => return Err(TakeError::EndOfLink),
                    Taken::No => return Err(TakeError::OtherFence),
                }
            }
            next =
                if self.batch.is_full() { None } else { self.consumer.pull.next().now_or_never() };
        }
        Ok(())
    }

    /// Compares the state of the stream with what was taken.
    fn compare(&self, polled: &Polled, position: &Position) -> Result<(), &'static str> {
        if !is_still(&self.stream.identity, polled) {
            return Err("the stream is not the one that was read before");
        }
        if polled.state.last_sequence > position.sequence().max(self.consumer.drained_to)
            && !self.batch.is_full()
            && self.last_message.elapsed() > STALL
        {
            return Err("the stream has more messages, but the consumer does not deliver them");
        }
        Ok(())
    }
}

/// How long the first message of a batch waits at most, with that many behind it.
fn wait(behind: u64) -> Duration {
    let behind = u32::try_from(behind).unwrap_or(u32::MAX);
    WAIT_FOR_EACH.saturating_mul(behind).clamp(*WAIT.start(), *WAIT.end())
}

/// Whether the server still has the stream that is read, with all that had been taken when the
/// server was asked. What was taken since then may have been stored since then.
fn is_still(reading: &StreamIdentity, polled: &Polled) -> bool {
    polled.state.identity == *reading && polled.state.last_sequence >= polled.taken_before
}

pub(super) fn connects(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_waits_longer_for_others_while_many_are_in_the_stream() {
        for (behind, ms) in
            [(0, 50), (5_000, 50), (20_000, 200), (100_000, 1_000), (u64::MAX, 1_000)]
        {
            assert_eq!(wait(behind), Duration::from_millis(ms), "{behind}");
        }
    }

    #[test]
    fn an_older_state_beside_steady_traffic() {
        let reading = StreamIdentity { name: "S".to_owned(), created_ns: 5 };
        // Messages that are taken after the state was asked for are not in the table: they say
        // nothing about the stream.
        for (created_ns, last_sequence, taken_before, expect) in [
            (5, 100, 100, true),
            (5, 101, 100, true),
            (5, 99, 100, false),
            (5, 0, 0, true),
            (6, 100, 100, false),
            (6, 200, 100, false),
        ] {
            let identity = StreamIdentity { created_ns, ..reading.clone() };
            let state = StreamState { identity, first_sequence: 1, last_sequence };
            let polled = Polled { state, taken_before };
            let case = (created_ns, last_sequence, taken_before);
            assert_eq!(is_still(&reading, &polled), expect, "{case:?}");
        }
    }
}
