//! Reads the stream in order, from the checkpoint, through every failure of the connection.
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
use botstats_common::rules::refusals;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::batch::{Batch, Interruption, Position};
use super::delivery::{Consumer, Delivery, connects};
use super::identity::{Start, StreamState, WHAT_TO_DO, recognise, start};
use super::info::{Observation, observe};
use super::poll::poll;
use super::pull::{Pull, PullError};
use super::raw_message::raw_message_from;
use crate::event::decoder::{Decoder, subject_hash};
use crate::event::{Headers, Message};
use crate::serve::health::Health;
use crate::store::Checkpoint;

/// Pause before the next try after an error.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Pause before a refused stream is checked again: an operator must act first.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// After this many failures in a row without a message taken, the reader gets single messages.
const FAILURES_BEFORE_SINGLE: u32 = 2;
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
    batches: mpsc::Sender<Batch>,
    health: Health,
}

impl StreamReader {
    /// Reads the stream of that name, after the checkpoint.
    #[must_use]
    pub fn new(
        settings: NatsSettings,
        stream: String,
        checkpoint: Option<Checkpoint>,
        decoder: Decoder,
        batches: mpsc::Sender<Batch>,
        health: Health,
    ) -> Self {
        let position = Position { last: checkpoint };
        Self { settings, stream, position, decoder, batches, health }
    }

    /// Reads until told to stop; batches go out as fast as they are taken. Runs best on a runtime
    /// of its own with one thread, which then does nothing but take and decode messages.
    ///
    /// Each try has a connection of its own: a message that the client library cannot read ends the
    /// connection, and other parts of the program must keep theirs.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let before = self.position.sequence();
            let interruption = tokio::select! {
                () = stop.cancelled() => return,
                interruption = self.try_once(failures) => interruption,
            };
            failures = if self.position.sequence() > before { 0 } else { failures + 1 };
            let (text, pause) = match interruption {
                Interruption::Stopped => return,
                Interruption::Again => continue,
                Interruption::Refused(refusal) => {
                    self.health.refuse(&refusal);
                    (format!("the stream is refused: {refusal}; {WHAT_TO_DO}"), REFUSED_PAUSE)
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

    /// Connects and reads; after failures without progress in the way that no message's bytes can
    /// break.
    async fn try_once(&mut self, failures: u32) -> Interruption {
        let client = match self.settings.connect(Role::Ingest).await {
            Ok(client) => client,
            Err(error) => {
                let why = explain(&error);
                self.health.unreachable(&why);
                return Interruption::Retry(why);
            }
        };
        let js = self.settings.jetstream(&client);
        if failures >= FAILURES_BEFORE_SINGLE {
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
        self.check(js, &seen.state).await?;
        let mut next = self.position.sequence() + 1;
        let mut batch = Batch::new(seen.state.identity);
        while batch.arrivals.len() < MAX_SINGLE_MESSAGES {
            let found = raw_message_from(js, &self.stream, next).await;
            let Some(message) = found.map_err(Interruption::Retry)? else { break };
            next = message.sequence + 1;
            let arrival = self.decoder.decode(&Message {
                sequence: message.sequence,
                stored_ns: message.stored_ns,
                subject: &message.subject,
                headers: message.headers.as_ref().map_or(Headers::Unreadable, |headers| {
                    Headers::Read(Some(headers).filter(|headers| !headers.is_empty()))
                }),
                payload: &message.payload,
            });
            batch.arrivals.push(arrival.map_err(|e| Interruption::retry(&e))?);
        }
        let count = batch.arrivals.len();
        if count > 0 {
            if let Some(suppressed) = TOOK_SINGLE.due("") {
                let what = "got messages one by one: reading them through a consumer failed";
                tracing::info!(count, "{what}{suppressed}");
            }
            self.position.advance(&batch);
            self.batches.send(batch).await.map_err(|_| Interruption::Stopped)?;
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
        let from = match start(self.position.last.as_ref(), &seen.state) {
            Ok(Start::From(sequence)) => sequence,
            Ok(Start::AtCheckpoint(sequence)) => sequence + 1,
            Err(refusal) => return Err(Interruption::Refused(refusal)),
        };
        if self.position.last.is_none() && from > 1 {
            tracing::warn!(
                first = from,
                "the stream no longer has its first messages: their events are not counted"
            );
        }
        self.health.check_settings(&seen);
        // The consumer belongs to the stream as it was when the consumer was made: that stream is
        // then checked.
        let started = Pull::start(client, js, &self.stream, from).await;
        let (mut pull, pending) = started.map_err(|e| self.no_consumer(&e, &seen))?;
        self.check(js, &seen.state).await?;
        // Not before: on a slow line the answers to the check would come behind many messages.
        pull.ask_ahead().await.map_err(|e| Interruption::retry(&e))?;
        let (taken, end) = (self.position.sequence(), seen.state.last_sequence);
        let is_drained = match pending {
            0 if end > taken => self.has_none_after(js, taken).await?,
            pending => pending == 0,
        };
        if is_drained {
            self.health.drained(taken, end);
        }
        self.health.checked(&seen);
        let consumer = Consumer { pull, drained_to: if is_drained { end } else { 0 }, connects };
        let taken = Arc::new(AtomicU64::new(taken));
        let polled = poll(js.clone(), self.stream.clone(), Arc::clone(&taken), self.health.clone());
        let mut delivery =
            Delivery::new(client.clone(), seen.state, consumer, taken, &mut self.decoder);
        let interruption = delivery.run(&mut self.position, &self.batches, polled).await;
        // What was taken is handed over in any case: the next consumer goes on after it.
        let rest = delivery.into_batch();
        if !rest.arrivals.is_empty() && self.batches.send(rest).await.is_err() {
            return Err(Interruption::Stopped);
        }
        Ok(interruption)
    }

    /// Makes the stream if it was never read; a stream that was read and is missing must be
    /// noticed.
    async fn not_observed(&self, js: &Context, error: &StreamInfoError) -> Interruption {
        let why = explain(error);
        match error {
            StreamInfoError::NoStream(_) if self.position.last.is_none() => {
                let missing = format!("there is no stream {}: run `botstats setup`", self.stream);
                self.health.no_stream(&missing);
                match setup::events_stream(js, Shape::default()).await {
                    Ok(_) => {
                        tracing::info!("made the stream {}", self.stream);
                        return Interruption::Again;
                    }
                    Err(error) => {
                        return Interruption::Retry(format!("{missing} ({})", explain(&error)));
                    }
                }
            }
            StreamInfoError::NoStream(_) => self.health.no_stream(&why),
            _ => self.health.unreachable(&why),
        }
        Interruption::Retry(why)
    }

    /// Why there is no consumer; if the stream's settings cannot work, they are named too.
    fn no_consumer(&self, error: &PullError, seen: &Observation) -> Interruption {
        let why = explain(error);
        Interruption::Retry(match refusals(&seen.findings) {
            Some(refused) => format!("{why} (the stream {}: {refused})", self.stream),
            None => why,
        })
    }

    /// Checks that the stream is still the same and has the message of the checkpoint, unless that
    /// message expired. If the stream was restored, the position is from then on in the restored
    /// stream.
    async fn check(&mut self, js: &Context, seen: &StreamState) -> Result<(), Interruption> {
        let again = observe(js, &self.stream).await.map_err(|e| Interruption::retry(&e))?;
        if again.state.identity != seen.identity {
            return Err(Interruption::Retry("the stream was made again just now".to_owned()));
        }
        let last = &mut self.position.last;
        let decided = start(last.as_ref(), &again.state).map_err(Interruption::Refused)?;
        if let (Start::AtCheckpoint(sequence), Some(checkpoint)) = (decided, last) {
            let found = raw_message_from(js, &self.stream, sequence).await;
            let found = found.map_err(Interruption::Retry)?;
            let found = found.map(|m| (m.sequence, m.stored_ns, subject_hash(&m.subject)));
            recognise(checkpoint, &seen.identity, found).map_err(Interruption::Refused)?;
            if checkpoint.stream != seen.identity {
                tracing::info!(
                    sequence,
                    "the stream {} was made anew and has the message that was applied last: it was restored, \
                     counting goes on after that message",
                    self.stream
                );
                checkpoint.stream = seen.identity.clone();
            }
        }
        Ok(())
    }

    /// True if the stream has no message after sequence `taken`. A consumer without pending
    /// messages does not prove this: in a cluster its replica may be behind the stream's leader. So
    /// this asks the leader.
    async fn has_none_after(&self, js: &Context, taken: u64) -> Result<bool, Interruption> {
        let next = raw_message_from(js, &self.stream, taken + 1).await;
        Ok(next.map_err(Interruption::Retry)?.is_none())
    }
}
