//! Reads the stream in order, from the checkpoint, through every failure of the connection; where
//! the stream took its slots from others, first those ([`super::chain`]).
//!
//! An ephemeral consumer that acknowledges nothing delivers from a sequence; its own sequence must
//! have no gap. After any error, missed heartbeat or gap a new consumer goes on after the last
//! message taken. At every connect the stream must prove that it is the one the state was made from
//! ([`super::identity`]).
//!
//! *Why* no durable consumer: over forced reconnects durable consumers that acknowledge in bulk or
//! not at all skip messages, and the checkpoint belongs into the same transaction as the state.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::Context;
use botstats_common::io::logging::RateLimit;
use botstats_common::io::nats::{NatsSettings, Role, StreamInfoError, explain};
use botstats_common::io::setup::{self, Shape};
use botstats_common::names::EVENTS_STREAM;
use botstats_common::rules::refusals;
use tokio::task::unconstrained;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::batch::{Interruption, Position};
use super::chain::{ChainRefusal, Reading, Route, route};
use super::delivery::{Consumer, Delivery, connects};
use super::handover::ToFold;
use super::identity::{Start, recognise, start};
use super::info::{Observation, observe};
use super::poll::poll;
use super::pull::{Pull, PullError};
use super::raw_message::raw_message_from;
use crate::event::batch::{Batch, Taken};
use crate::event::decoder::{DecodedStream, Decoder, subject_hash};
use crate::event::{Headers, Message};
use crate::serve::health::Health;
use crate::store::Checkpoint;

/// Pause before the next try after an error.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Pause before a refused stream is checked again: an operator must act first.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// After this many fruitless consumers in a row the reader gets single messages.
const FRUITLESS_BEFORE_SINGLE: u32 = 2;
/// Pause between two checks whether the fold has applied a fence.
const FENCE_PAUSE: Duration = Duration::from_millis(5);
/// The most messages that are got one by one before a consumer is tried again.
const MAX_SINGLE_MESSAGES: usize = 1_000;

static FAILED: RateLimit = RateLimit::new();
static TOOK_SINGLE: RateLimit = RateLimit::new();

/// Reads one stream into batches.
pub struct StreamReader {
    settings: NatsSettings,
    /// The stream's name.
    stream: String,
    position: Position,
    decoder: Decoder,
    to_fold: ToFold,
    health: Health,
    /// The consumers since the last message taken that should have delivered one.
    fruitless: u32,
}

impl StreamReader {
    /// Reads the stream of that name, after the checkpoint.
    #[must_use]
    pub fn new(
        settings: NatsSettings,
        stream: String,
        checkpoint: Option<Checkpoint>,
        decoder: Decoder,
        to_fold: ToFold,
        health: Health,
    ) -> Self {
        let position = Position { last: checkpoint };
        Self { settings, stream, position, decoder, to_fold, health, fruitless: 0 }
    }

    /// Reads until told to stop; batches go out as fast as they are taken. Runs best on a runtime
    /// of its own with one thread, which then does nothing but take and decode messages.
    ///
    /// The task of the connection runs on that thread, too. It ends its turn after 128 reads,
    /// tokio's budget for a task; for [`Role::Ingest`] a read is short. The reader has no budget:
    /// in its turn it takes all messages that the connection has. So few messages wait in this
    /// process, and their memory stays in the processor's cache (`docs/performance.md`).
    ///
    /// Each try has a connection of its own: a message that the client library cannot read ends the
    /// connection, and other parts of the program must keep theirs.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let before = self.position.sequence();
            let interruption = tokio::select! {
                () = stop.cancelled() => return,
                interruption = unconstrained(self.try_once()) => interruption,
            };
            if self.position.sequence() > before {
                self.fruitless = 0;
            }
            let (text, pause) = match interruption {
                Interruption::Stopped => return,
                Interruption::Again | Interruption::EndOfLink(_) => continue,
                Interruption::Refused(refusal) => {
                    self.health.refuse(&refusal);
                    let what_to_do = refusal.what_to_do();
                    (format!("the stream is refused: {refusal}; {what_to_do}"), REFUSED_PAUSE)
                }
                Interruption::Retry(why) => {
                    self.health.not_read_yet(&why);
                    (format!("reading the stream again: {why}"), RETRY_PAUSE)
                }
            };
            if let Some(suppressed) = FAILED.due(&text) {
                tracing::warn!("{text}{suppressed}");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// Connects and reads; after fruitless consumers in the way that no message's bytes can break.
    async fn try_once(&mut self) -> Interruption {
        let client = match self.settings.connect(Role::Ingest).await {
            Ok(client) => client,
            Err(error) => {
                let why = explain(&error);
                self.health.unreachable(&why);
                return Interruption::Retry(why);
            }
        };
        let js = self.settings.jetstream(&client);
        if self.fruitless >= FRUITLESS_BEFORE_SINGLE {
            match self.read_single_messages(&js).await {
                Ok(0) => {}
                Ok(_) => return Interruption::Again,
                Err(interruption) => return interruption,
            }
        }
        self.read_through_consumer(&client, &js).await.unwrap_or_else(|interruption| interruption)
    }

    /// Gets some messages one by one, past what the client library cannot read; gives their number.
    ///
    /// The stream is checked first, as for a consumer.
    async fn read_single_messages(&mut self, js: &Context) -> Result<usize, Interruption> {
        let seen = observe(js, &self.stream).await.map_err(|e| Interruption::retry(&e))?;
        let route = route(js, seen, self.position.last.as_ref(), self.decoder.ownership()).await?;
        self.check(js, &route).await?;
        self.enter(&route);
        if route.reading.passed_fence.is_some() {
            // The next try finds its position in this stream, and no longer sees that a fence was
            // passed.
            self.health.checked(&route.seen, &route.reading);
        }
        let (stream, mut next) = (&route.seen.state.identity, self.position.sequence() + 1);
        let mut batch = Batch::new(stream.clone(), route.reading.ownership);
        let (mut count, mut fence) = (0, None);
        while count < MAX_SINGLE_MESSAGES && fence.is_none() {
            let message = match raw_message_from(js, &stream.name, next).await {
                Ok(Some(message)) => message,
                Ok(None) => break,
                // What was decoded is handed over: the decoder must not meet it again.
                Err(_) if count > 0 => break,
                Err(why) => return Err(Interruption::Retry(why)),
            };
            let taken = batch.take(
                &mut self.decoder,
                &Message {
                    sequence: message.sequence,
                    stored_ns: message.stored_ns,
                    subject: &message.subject,
                    headers: message.headers.as_ref().map_or(Headers::Unreadable, |headers| {
                        Headers::Read(Some(headers).filter(|headers| !headers.is_empty()))
                    }),
                    payload: &message.payload,
                },
            );
            match taken {
                Ok(Taken::Yes) => {}
                Ok(Taken::Last) => fence = Some(message.sequence),
                Ok(Taken::No) | Err(_) if count > 0 => break,
                Ok(Taken::No) => return Err(Interruption::other_fence(&stream.name)),
                Err(error) => return Err(Interruption::retry(&error)),
            }
            (next, count) = (message.sequence + 1, count + 1);
        }
        if count > 0 {
            if let Some(suppressed) = TOOK_SINGLE.due("") {
                let what = "got messages one by one: reading them through a consumer failed";
                tracing::info!(count, "{what}{suppressed}");
            }
            self.position.advance(&batch);
            self.hand_over(batch, fence).await?;
        }
        Ok(count)
    }

    /// Checks the stream and reads it through one consumer, until that ends.
    async fn read_through_consumer(
        &mut self,
        client: &Client,
        js: &Context,
    ) -> Result<Interruption, Interruption> {
        let connects = connects(client);
        let seen = match observe(js, &self.stream).await {
            Ok(seen) => seen,
            Err(error) => return Err(self.not_observed(js, &error).await),
        };
        self.health.reached();
        let route = route(js, seen, self.position.last.as_ref(), self.decoder.ownership()).await?;
        let stream = route.seen.state.identity.name.clone();
        let from = match route.start {
            Start::From(sequence) => sequence,
            Start::AtCheckpoint(sequence) => sequence + 1,
        };
        if self.position.last.is_none() && from > 1 {
            tracing::warn!(
                first = from,
                "the stream {stream} no longer has its first messages: their events are not counted"
            );
        }
        self.health.check_settings(&route.seen);
        // The consumer belongs to the stream as it was when the consumer was made: that stream is
        // then checked.
        let started = Pull::start(client, js, &stream, from).await;
        let (mut pull, pending) = started.map_err(|e| no_consumer(&e, &route.seen))?;
        self.fruitless += 1;
        self.check(js, &route).await?;
        self.enter(&route);
        // Not before: on a slow line the answers to the check would come behind many messages.
        pull.ask_ahead().await.map_err(|e| Interruption::retry(&e))?;
        let (taken, end) = (self.position.sequence(), route.seen.state.last_sequence);
        let is_drained = match pending {
            0 if end > taken => has_none_after(js, &stream, taken).await?,
            pending => pending == 0,
        };
        self.health.checked(&route.seen, &route.reading);
        if is_drained {
            self.fruitless = 0;
            self.health.drained(taken, end);
        }
        let consumer = Consumer { pull, drained_to: if is_drained { end } else { 0 }, connects };
        let taken = Arc::new(AtomicU64::new(taken));
        let polled = poll(js.clone(), stream, Arc::clone(&taken), self.health.clone());
        let Route { seen, reading: Reading { ownership, .. }, .. } = route;
        let batch = Batch::new(seen.state.identity.clone(), ownership);
        let mut delivery =
            Delivery::new(client.clone(), seen.state, consumer, taken, &mut self.decoder, batch);
        let interruption = delivery.run(&mut self.position, &mut self.to_fold, polled).await;
        // What was taken is handed over in any case: the next consumer goes on after it.
        let rest = delivery.into_batch();
        let fence = match interruption {
            Interruption::EndOfLink(fence) => Some(fence),
            _ => None,
        };
        if !rest.is_empty() || fence.is_some() {
            self.hand_over(rest, fence).await?;
        }
        Ok(interruption)
    }

    /// Decodes what comes next as messages of that stream.
    fn enter(&mut self, Route { seen, reading, ends_with, .. }: &Route) {
        let name = &seen.state.identity.name;
        self.decoder.enter(DecodedStream::new(name, ends_with.clone()));
        if self.decoder.ownership() != reading.ownership {
            self.decoder.attach(reading.ownership);
        }
        if *name != self.stream {
            tracing::info!(
                "reading the earlier stream {name}, until it has given slots to the next"
            );
        }
    }

    /// Sends a batch to the fold. If the batch ends with a fence, waits until it is applied.
    async fn hand_over(&mut self, batch: Batch, fence: Option<u64>) -> Result<(), Interruption> {
        if let Some(fence) = fence {
            self.health.ends_at(fence);
            let stream = &batch.stream.name;
            tracing::info!(fence, "the events of the stream {stream} end, the next stream follows");
        }
        let ready = self.to_fold.ready().await;
        ready.and_then(|_| self.to_fold.hand_over(batch)).map_err(|_| Interruption::Stopped)?;
        // So lag and progress are those of one stream at any time.
        while let Some(fence) = fence
            && self.health.applied_sequence() < fence
        {
            if self.to_fold.has_fold_ended() {
                return Err(Interruption::Stopped);
            }
            sleep(FENCE_PAUSE).await;
        }
        Ok(())
    }

    /// Makes the stream if it was never read; a stream that was read and is missing must be
    /// noticed.
    async fn not_observed(&self, js: &Context, error: &StreamInfoError) -> Interruption {
        let why = explain(error);
        if !matches!(error, StreamInfoError::NoStream(_)) {
            self.health.unreachable(&why);
            return Interruption::Retry(why);
        }
        let (stream, was_read) = (&self.stream, self.position.last.is_some());
        let is_main = stream == EVENTS_STREAM;
        let what_to_do = match (was_read, is_main) {
            // A new stream would be refused, and would take the name that a restored one needs.
            (true, _) => "events were counted before, restore it from a backup (docs/runbook.md)",
            (false, true) => "run `botstats setup`",
            (false, false) => "run `botstats cells split` or `botstats setup --cells`",
        };
        let missing = format!("there is no stream {stream}: {what_to_do}");
        self.health.no_stream(&missing);
        if was_read || !is_main {
            return Interruption::Retry(missing);
        }
        match setup::events_stream(js, Shape::default()).await {
            Ok(_) => {
                tracing::info!("made the stream {stream}");
                Interruption::Again
            }
            Err(error) => Interruption::Retry(format!("{missing} ({})", explain(&error))),
        }
    }

    /// Checks that the stream is still the same and has the message of the checkpoint, unless that
    /// message expired. If the stream was restored, the position is from then on in the restored
    /// stream.
    async fn check(&mut self, js: &Context, route: &Route) -> Result<(), Interruption> {
        let seen = &route.seen.state;
        let stream = &seen.identity.name;
        let again = observe(js, stream).await.map_err(|e| Interruption::retry(&e))?;
        if again.state.identity != seen.identity {
            return Err(Interruption::Retry("the stream was made again just now".to_owned()));
        }
        let last = &mut self.position.last;
        if let (Some(_), Some(before)) = (route.reading.passed_fence, &last) {
            // The position was compared when the route was chosen.
            if again.state.first_sequence > again.first {
                let (child, parent) = (stream.clone(), before.stream.name.clone());
                let refusal = ChainRefusal::Shortened { child, parent };
                return Err(Interruption::Refused(refusal.into()));
            }
            return Ok(());
        }
        let decided = start(last.as_ref(), &again.state).map_err(Interruption::Refused)?;
        if let (Start::AtCheckpoint(sequence), Some(checkpoint)) = (decided, last) {
            let found = raw_message_from(js, stream, sequence).await;
            let found = found.map_err(Interruption::Retry)?;
            let found = found.map(|m| (m.sequence, m.stored_ns, subject_hash(&m.subject)));
            recognise(checkpoint, &seen.identity, found).map_err(Interruption::Refused)?;
            if checkpoint.stream != seen.identity {
                tracing::info!(
                    sequence,
                    "the stream {stream} was made anew and has the message that was applied last: it was restored, \
                     counting goes on after that message"
                );
                checkpoint.stream = seen.identity.clone();
            }
        }
        Ok(())
    }
}

/// Why there is no consumer; if the stream's settings cannot work, they are named too.
fn no_consumer(error: &PullError, seen: &Observation) -> Interruption {
    let why = explain(error);
    Interruption::Retry(match refusals(&seen.findings) {
        Some(refused) => format!("{why} (the stream {}: {refused})", seen.state.identity.name),
        None => why,
    })
}

/// True if the stream has no message after sequence `taken`. A consumer without pending messages
/// does not prove this: in a cluster its replica may be behind the stream's leader. So this asks
/// the leader.
async fn has_none_after(js: &Context, stream: &str, taken: u64) -> Result<bool, Interruption> {
    let next = raw_message_from(js, stream, taken + 1).await;
    Ok(next.map_err(Interruption::Retry)?.is_none())
}
