//! Publishes events to the stream; each is acknowledged, and sent again until it is.
//!
//! An [`Event`] becomes a [`Message`], a [`Publisher`] gets it stored; `common/examples/publish.rs`
//! shows it.
//!
//! Messages go one by one, many of them in flight, or in atomic batches, which have one
//! acknowledgement and one sync of the server's disk. `way` measures which is faster and takes
//! that one; nobody has to set it. A message is sent again with the same bytes until the server has
//! stored or refused it; ingest removes the duplicates that this makes. The messages of a refused
//! batch are sent again one by one, so a bad message does not take its neighbours with it. A batch
//! must lie within one stream, so `homes` remembers which stream stores the events of which slot,
//! and `waiting` forms batches by that; what is not known goes one by one, which teaches. While
//! the server is overloaded (its queue belongs to all publishers) the publisher backs off: it sends
//! fewer messages at once.
//!
//! *Invariants*: a message is counted once, as stored or as refused. At most [`BATCHES_IN_FLIGHT`]
//! times [`MAX_BATCH`] messages are under way, and [`BATCHES_IN_FLIGHT`] times `WINDOW` one by
//! one. Messages of one slot may overtake those of another, never their own.
//!
//! *Format*: a message on its own has no headers: a body without them is read as structured
//! (`docs/events.md`). In a batch it has the headers of the protocol alone: `Nats-Batch-Id`,
//! `Nats-Batch-Sequence` from 1, and on the last one `Nats-Batch-Commit: 1` with a reply subject
//! (NATS ADR-50). No `Nats-Msg-Id`: one repeated id would refuse the whole batch.

mod answer;
mod homes;
mod lane;
mod waiting;
mod way;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, connection};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{clock, stop};
use crate::event::{Event, InvalidEvent};
use crate::ids::{Account, Bot, Channel};
use crate::names;
use crate::slot::Slot;
use answer::Judgement;
use homes::{Homes, slot_of};
use lane::Lane;
use waiting::{Taken, Waiting};
use way::{Chooser, TRIAL_MESSAGES, Way};

/// The most messages of a batch: the server's own limit.
pub const MAX_BATCH: usize = 1_000;
/// The most bytes of a batch: a slow line must carry a batch in less than the server's limit of 10
/// s.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Fewer messages than this are sent one by one.
const MIN_BATCH: usize = 8;
/// The most batches in flight; the server allows 50 a stream, for all publishers together. Messages
/// that go one by one are sent in as many parts at once.
pub const BATCHES_IN_FLIGHT: usize = 4;
/// The most messages of one part that go one by one. All parts together have 2,000 in flight: a
/// distant server needs that many, a near one stores no more a second with more, and the server
/// refuses messages beyond 10,000 of all publishers.
const WINDOW: usize = 500;
/// The publisher gives up after it has tried one message for this time; with an overloaded server,
/// after no message was stored for this time.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
/// The publisher gives up after no stream has listened for this time: a stream that changes its
/// leader is back sooner.
const NO_STREAM_LIMIT: Duration = Duration::from_secs(8);
/// Pause before a retry.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Pause before the first retry of a message on whose subject no stream listened; each further
/// pause is twice as long, up to [`MAX_GAP_PAUSE`]. While slots move between streams none of them
/// listens for 20 to 100 ms, on a server at its limit for half a second.
const FIRST_GAP_PAUSE: Duration = Duration::from_millis(4);
/// The longest of these pauses: it is what an event waits at most after its stream is back.
const MAX_GAP_PAUSE: Duration = Duration::from_millis(64);
/// Bytes of the server's `max_payload` that are kept free for headers.
const HEADER_BYTES: usize = 1024;

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The number that [`Refused`] repeats, such as a line's.
    pub tag: u64,
    /// The subject in NATS.
    pub subject: String,
    /// The bytes, which are sent unchanged.
    pub payload: Bytes,
}

impl Message {
    /// An event of that bot on that channel.
    ///
    /// # Errors
    /// [`InvalidEvent`], if ingest would refuse it.
    pub fn of(
        tag: u64,
        (account, bot, channel): (&Account, &Bot, &Channel),
        event: &Event<'_>,
    ) -> Result<Self, InvalidEvent> {
        let subject = names::event_subject(account, bot, channel);
        Ok(Self { tag, subject, payload: event.render()? })
    }
}

/// An id for an event that happens now: a UUID of version 7, which no other event has.
#[must_use]
pub fn new_id() -> String {
    Uuid::now_v7().to_string()
}

/// A message that the server will not store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The tag of the message.
    pub tag: u64,
    /// The server's reason, for people.
    pub reason: String,
}

/// The outcome of some messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The number of stored messages.
    pub stored: u64,
    /// The refused messages.
    pub refused: Vec<Refused>,
}

/// How many messages were stored and refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Acknowledged by the stream.
    pub stored: u64,
    /// Refused for good.
    pub refused: u64,
}

/// Why a publisher stopped before its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No stream listens on the subject.
    #[error("no stream takes these subjects: make it with `botstats setup`")]
    NoStream,
    /// The server did not acknowledge.
    #[error(
        "not acknowledged after {} s of tries ({reason}); publishing the same again is safe",
        GIVE_UP_AFTER.as_secs()
    )]
    GaveUp {
        /// The outcome of the last try.
        reason: String,
    },
    /// The client was closed.
    #[error("the connection to NATS is closed")]
    Closed,
    /// Acknowledgements can't be received.
    #[error(
        "no acknowledgement can come: {0}; set NATS_INBOX_PREFIX to an inbox that this user may have"
    )]
    NoInbox(String),
    /// A task of the publisher ended early.
    #[error("a task of the publisher ended early: {0}")]
    Task(String),
}

/// Publishes the messages of a channel.
#[derive(Debug, Clone)]
pub struct Publisher {
    client: Client,
    homes: Arc<Homes>,
}

impl Publisher {
    /// A publisher on that connection.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, homes: Arc::new(Homes::new()) }
    }

    /// Publishes all messages until the channel closes; calls `report` with the outcome of each
    /// part.
    ///
    /// # Errors
    /// [`PublishError`]; what was reported until then is stored.
    pub async fn publish(
        &self,
        mut messages: mpsc::Receiver<Message>,
        mut report: impl FnMut(&Progress),
    ) -> Result<Counts, PublishError> {
        let mut counts = Counts::default();
        let mut chooser = Chooser::new();
        let mut idle = Vec::new();
        let mut under_way = FuturesUnordered::new();
        let mut waiting = Waiting::new();
        let mut open = true;
        while open || !waiting.is_empty() || !under_way.is_empty() {
            let mut is_free = under_way.len() < BATCHES_IN_FLIGHT;
            if is_free {
                let groups = self.homes.groups();
                let (mut way, mut most) = match chooser.way() {
                    Way::OneByOne => (Way::OneByOne, WINDOW),
                    Way::Batches => (Way::Batches, MAX_BATCH),
                };
                open = open && waiting.fill(&mut messages, way, &groups, most);
                let trial = chooser.trial(clock::monotonic());
                if let Some(of_trial) = trial {
                    open = open && waiting.fill(&mut messages, of_trial, &groups, TRIAL_MESSAGES);
                }
                let trial = trial.filter(|way| waiting.has(TRIAL_MESSAGES, *way, &groups));
                if let Some(of_trial) = trial {
                    (way, most) = (of_trial, TRIAL_MESSAGES);
                    is_free = under_way.is_empty();
                }
                if is_free && let Some(taken) = waiting.take(way, &groups, most) {
                    let Taken { messages, one_stream, full } = taken;
                    let way = if one_stream { way } else { Way::OneByOne };
                    let part = Part { messages, way, is_trial: trial == Some(way) && full };
                    let lane = match idle.pop() {
                        Some(lane) => lane,
                        None => Lane::open(&self.client).await.map_err(|_| PublishError::Closed)?,
                    };
                    // A separate task goes on while this one waits for messages.
                    under_way.push(stop::spawn(self.clone().deliver(lane, part)));
                    continue;
                }
            }
            tokio::select! {
                message = messages.recv(), if open && is_free => match message {
                    Some(message) => waiting.add(message),
                    None => open = false,
                },
                Some(delivered) = under_way.next() => {
                    let delivered = delivered.map_err(|e| PublishError::Task(e.to_string()))??;
                    let Delivered { lane, progress, trial } = delivered;
                    if let Some(Trial { way, messages, time }) = trial {
                        chooser.measured(way, messages, time, clock::monotonic());
                    }
                    idle.push(lane);
                    counts.stored += progress.stored;
                    counts.refused += u64::try_from(progress.refused.len()).unwrap_or(u64::MAX);
                    report(&progress);
                }
                // The channel has just closed.
                else => break,
            }
        }
        Ok(counts)
    }

    /// Publishes all messages of a list.
    ///
    /// # Errors
    /// [`PublishError`]; what was reported until then is stored.
    pub async fn publish_all(
        &self,
        messages: impl IntoIterator<Item = Message>,
        report: impl FnMut(&Progress),
    ) -> Result<Counts, PublishError> {
        let (sender, receiver) = mpsc::channel(BATCHES_IN_FLIGHT * MAX_BATCH);
        let feeding = async move {
            for message in messages {
                // The channel is closed: the publisher gave up, and returns why.
                if sender.send(message).await.is_err() {
                    break;
                }
            }
        };
        tokio::join!(self.publish(receiver, report), feeding).0
    }

    /// Sends the messages of a part until each is stored or refused.
    async fn deliver(self, mut lane: Lane, part: Part) -> Result<Delivered, PublishError> {
        let Part { way, is_trial, messages: mut waiting } = part;
        let (begun, messages) = (clock::monotonic(), waiting.len());
        let mut progress = Progress::default();
        let most = self.client.max_payload();
        waiting.retain(|message| {
            let fits = message.payload.len() + HEADER_BYTES <= most;
            if !fits {
                let reason = format!("larger than the server takes ({most} bytes)");
                progress.refused.push(Refused { tag: message.tag, reason });
            }
            fits
        });
        if way == Way::Batches && waiting.len() >= MIN_BATCH {
            let mut tries = Tries::start();
            loop {
                match lane.send_batch(&waiting).await {
                    Judgement::Stored(stream) => {
                        self.homes.learn(slots(&waiting).map(|slot| (slot, &stream)));
                        progress.stored += u64::try_from(waiting.len()).unwrap_or(u64::MAX);
                        waiting.clear();
                        break;
                    }
                    // A batch is too much at once for an overloaded server.
                    Judgement::Refused(reason) | Judgement::Busy(reason) => {
                        tracing::debug!(
                            "a batch was refused, so its messages are sent one by one: {reason}"
                        );
                        break;
                    }
                    // Some of its slots have moved, or are just moving.
                    lost @ (Judgement::Incomplete(_) | Judgement::NoStream) => {
                        tracing::debug!(
                            "a batch is not in one stream, so its messages are sent one by one: \
                             {lost:?}"
                        );
                        self.homes.forget(slots(&waiting));
                        break;
                    }
                    again => self.wait_to_retry(&mut tries, again).await?,
                }
            }
        }
        self.deliver_singly(&mut lane, waiting, &mut progress).await?;
        let trial = is_trial.then(|| Trial { way, messages, time: begun.elapsed() });
        Ok(Delivered { lane, progress, trial })
    }

    /// Sends messages one by one, half as many at once whenever the server is overloaded.
    async fn deliver_singly(
        &self,
        lane: &mut Lane,
        mut waiting: Vec<Message>,
        progress: &mut Progress,
    ) -> Result<(), PublishError> {
        let mut at_once = WINDOW;
        let mut tries = Tries::start();
        while !waiting.is_empty() {
            let later = waiting.split_off(at_once.min(waiting.len()));
            let judgements = lane.send(&waiting).await;
            let sent = std::mem::replace(&mut waiting, later);
            let (mut is_busy, mut retry, mut done) = (false, None, false);
            let mut homes = Vec::with_capacity(sent.len());
            for (message, judgement) in sent.into_iter().zip(judgements) {
                match judgement {
                    Judgement::Stored(stream) => {
                        progress.stored += 1;
                        homes.extend(slot_of(&message.subject).map(|slot| (slot, stream)));
                    }
                    Judgement::Refused(reason) => {
                        progress.refused.push(Refused { tag: message.tag, reason });
                    }
                    again => {
                        is_busy |= matches!(again, Judgement::Busy(_));
                        retry = Some(again);
                        waiting.push(message);
                        continue;
                    }
                }
                done = true;
            }
            self.homes.learn(homes.iter().map(|(slot, stream)| (*slot, stream)));
            if done {
                tries = Tries::start();
            }
            at_once = if is_busy { (at_once / 2).max(1) } else { (at_once + 1).min(WINDOW) };
            if let Some(outcome) = retry {
                self.wait_to_retry(&mut tries, outcome).await?;
            }
        }
        Ok(())
    }

    /// Waits before a retry; an error if it is time to give up.
    async fn wait_to_retry(
        &self,
        tries: &mut Tries,
        outcome: Judgement,
    ) -> Result<(), PublishError> {
        let mut pause = RETRY_PAUSE;
        let reason = match outcome {
            Judgement::NoStream if tries.over(NO_STREAM_LIMIT) => {
                return Err(PublishError::NoStream);
            }
            Judgement::NoStream => {
                pause = tries.gap_pause();
                "no stream".to_owned()
            }
            Judgement::NoInbox(why) => return Err(PublishError::NoInbox(why)),
            Judgement::Again(reason)
            | Judgement::Busy(reason)
            | Judgement::Refused(reason)
            | Judgement::Incomplete(reason) => reason,
            Judgement::Stored(_) => return Ok(()),
        };
        tokio::time::sleep(pause).await;
        // Without a connection a retry would only fill the client's queue.
        while self.client.connection_state() != connection::State::Connected {
            if tries.over(GIVE_UP_AFTER) {
                return Err(PublishError::GaveUp { reason: "no connection to NATS".to_owned() });
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        if tries.over(GIVE_UP_AFTER) { Err(PublishError::GaveUp { reason }) } else { Ok(()) }
    }
}

/// Messages that are sent together.
struct Part {
    messages: Vec<Message>,
    way: Way,
    /// Nothing else is in flight, and [`Chooser`] wants to know how long it takes.
    is_trial: bool,
}

/// A part whose messages are stored or refused.
struct Delivered {
    lane: Lane,
    progress: Progress,
    trial: Option<Trial>,
}

/// How long a trial took.
struct Trial {
    way: Way,
    messages: usize,
    time: Duration,
}

/// The tries of a message or batch.
struct Tries {
    first: Instant,
    /// The pause if no stream listens now.
    gap_pause: Duration,
}

impl Tries {
    fn start() -> Self {
        Self { first: clock::monotonic(), gap_pause: FIRST_GAP_PAUSE }
    }

    fn over(&self, limit: Duration) -> bool {
        self.first.elapsed() >= limit
    }

    /// The pause before the next retry while no stream listens.
    fn gap_pause(&mut self) -> Duration {
        let pause = self.gap_pause;
        self.gap_pause = (pause * 2).min(MAX_GAP_PAUSE);
        pause
    }
}

/// The slots of messages.
fn slots(messages: &[Message]) -> impl Iterator<Item = Slot> {
    messages.iter().filter_map(|message| slot_of(&message.subject))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_in_a_gap_grow() {
        let mut tries = Tries::start();
        let pauses: Vec<u128> = (0..8).map(|_| tries.gap_pause().as_millis()).collect();
        assert_eq!(pauses, [4, 8, 16, 32, 64, 64, 64, 64]);
    }
}
