//! Reads the stream in order, from the checkpoint, through every failure of the connection.
//!
//! An ephemeral consumer that acknowledges nothing delivers from a sequence; its own sequence must have
//! no gap. After any error, missed heartbeat or gap a new consumer goes on after the last message taken.
//! At every connect the stream must prove that it is the one the state was made from ([`crate::identity`]).
//!
//! *Why* no durable consumer: over forced reconnects durable consumers that acknowledge in bulk or not at
//! all skip messages, and the place in the stream belongs into the same transaction as the state.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::{Client, Message as NatsMessage};
use botstats_common::io::logging::RateLimit;
use botstats_common::io::nats::{NatsSettings, Role, StreamInfoError, explain};
use botstats_common::io::setup::{self, Shape};
use botstats_common::names::EVENTS_STREAM;
use botstats_common::rules::refusals;
use futures::FutureExt as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::decoder::{Arrival, Decoder, subject_hash};
use crate::event::{Headers, Message};
use crate::identity::{Refusal, Start, StreamState, WHAT_TO_DO, recognise, start};
use crate::look::{Looked, Seen, look, looks};
use crate::pull::{Pull, PullError};
use crate::rescue::message_from;
use crate::shared::Shared;
use crate::store::{Checkpoint, StoreError, StreamIdentity};

/// A batch goes to the fold when it has so many messages, whatever else.
pub const MAX_BATCH_MESSAGES: usize = 100_000;
/// A message waits at most so long for others to share its commit,
const MAX_WAIT: Duration = Duration::from_millis(50);
/// and so long while so many more wait in the stream: what is behind is caught up with soonest in large
/// commits.
const MAX_WAIT_BEHIND: Duration = Duration::from_millis(200);
/// See [`MAX_WAIT_BEHIND`].
const BEHIND_MESSAGES: u64 = 10_000;
/// How often it is checked that the connection is still the one of the consumer.
const CONNECTION_CHECK: Duration = Duration::from_millis(100);
/// Neither message nor heartbeat for so long: a new consumer.
const SILENCE: Duration = Duration::from_millis(2_500);
/// The stream has more, yet nothing comes for so long: a new consumer.
const STALL: Duration = Duration::from_secs(5);
/// Pause before the next try after an error, and after a refusal.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// After so many failures without a message taken the reader goes on one message at a time,
const FAILURES_BEFORE_RESCUE: u32 = 2;
/// and for so many messages.
const RESCUE_RUN: usize = 1_000;

/// Decoded messages on their way to the fold.
pub struct Batch {
    /// The stream that they came from.
    pub stream: StreamIdentity,
    /// In the order of the stream, without a gap.
    pub arrivals: Vec<Arrival>,
}

impl Batch {
    fn new(stream: StreamIdentity) -> Self {
        Self { stream, arrivals: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.arrivals.len() >= MAX_BATCH_MESSAGES
    }
}

/// Why a consumer is given up.
enum Gone {
    /// Told to stop, or nobody takes batches any more.
    Stopped,
    /// The stream is not what it was.
    Refused(Refusal),
    /// Try again from the last message taken.
    Retry(String),
    /// Try again at once: there was progress, or the stream was just made.
    Again,
}

/// The reader's place: the last message taken, whether applied yet or not.
struct Place {
    last: Option<Checkpoint>,
}

impl Place {
    fn sequence(&self) -> u64 {
        self.last.as_ref().map_or(0, |c| c.sequence)
    }

    /// Goes on to the last message of a batch.
    fn advance(&mut self, batch: &Batch) {
        if let Some(last) = batch.arrivals.last() {
            self.last = Some(Checkpoint {
                stream: batch.stream.clone(),
                sequence: last.sequence,
                stored_ns: last.stored_ns,
                subject_hash: last.subject_hash,
            });
        }
    }
}

/// Reads until told to stop; batches go into `batches` as fast as they are taken out. Runs best on a
/// runtime of its own with one thread, which then does nothing but take and decode messages.
///
/// Each try has a connection of its own: what the client library cannot read ends a connection, and that
/// must not touch anybody else's.
pub async fn run(
    settings: NatsSettings,
    checkpoint: Option<Checkpoint>,
    mut decoder: Decoder,
    batches: mpsc::Sender<Batch>,
    shared: Shared,
    stop: CancellationToken,
) {
    let mut place = Place { last: checkpoint };
    let mut failures = 0;
    loop {
        let before = place.sequence();
        let gone = tokio::select! {
            () = stop.cancelled() => return,
            gone = try_once(&settings, &mut place, &mut decoder, &batches, &shared, failures) => gone,
        };
        failures = if place.sequence() > before { 0 } else { failures + 1 };
        let (text, pause) = match gone {
            Gone::Stopped => return,
            Gone::Again => continue,
            Gone::Refused(refusal) => {
                shared.refuse(&refusal);
                (format!("the stream is refused: {refusal}; {WHAT_TO_DO}"), REFUSED_PAUSE)
            }
            Gone::Retry(why) => {
                shared.not_read_yet(&why);
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

/// Connects and reads; after failures without progress by the way that no message can break.
async fn try_once(
    settings: &NatsSettings,
    place: &mut Place,
    decoder: &mut Decoder,
    batches: &mpsc::Sender<Batch>,
    shared: &Shared,
    failures: u32,
) -> Gone {
    let client = match settings.connect(Role::Ingest).await {
        Ok(client) => client,
        Err(error) => {
            let why = explain(&error);
            shared.unreachable(&why);
            return Gone::Retry(why);
        }
    };
    let js = settings.jetstream(&client);
    if failures >= FAILURES_BEFORE_RESCUE {
        match rescue(&js, place, decoder, batches).await {
            Ok(0) => {}
            Ok(_) => return Gone::Again,
            Err(gone) => return gone,
        }
    }
    read_once(&client, &js, place, decoder, batches, shared).await
}

static FAILED: RateLimit = RateLimit::new();
static RESCUED: RateLimit = RateLimit::new();

/// Takes some messages one by one, past what the client library cannot read; gives their number.
///
/// Only where the stream is known to be the right one: its identity is checked, and the message at the
/// checkpoint compared, as for a consumer.
async fn rescue(
    js: &Context,
    place: &mut Place,
    decoder: &mut Decoder,
    batches: &mpsc::Sender<Batch>,
) -> Result<usize, Gone> {
    let seen = look(js).await.map_err(|e| Gone::Retry(explain(&e)))?;
    check(js, place, &seen.state).await?;
    let mut next = place.sequence() + 1;
    let mut batch = Batch::new(seen.state.identity);
    while batch.arrivals.len() < RESCUE_RUN {
        let Some(message) = message_from(js, next).await.map_err(Gone::Retry)? else { break };
        next = message.sequence + 1;
        let arrival = decoder.decode(&Message {
            sequence: message.sequence,
            stored_ns: message.stored_ns,
            subject: &message.subject,
            headers: message.headers.as_ref().map_or(Headers::Unreadable, |headers| {
                Headers::Read(Some(headers).filter(|headers| !headers.is_empty()))
            }),
            payload: &message.payload,
        });
        batch.arrivals.push(arrival.map_err(|e| Gone::Retry(explain(&e)))?);
    }
    let count = batch.arrivals.len();
    if count > 0 {
        if let Some(suppressed) = RESCUED.due("") {
            let what = "took messages one by one: reading them in bulk failed";
            tracing::info!(count, "{what}{suppressed}");
        }
        place.advance(&batch);
        batches.send(batch).await.map_err(|_| Gone::Stopped)?;
    }
    Ok(count)
}

/// Checks the stream and reads it through one consumer, until that ends.
async fn read_once(
    client: &Client,
    js: &Context,
    place: &mut Place,
    decoder: &mut Decoder,
    batches: &mpsc::Sender<Batch>,
    shared: &Shared,
) -> Gone {
    let made = connects(client);
    let seen = match look(js).await {
        Ok(seen) => seen,
        Err(StreamInfoError::NoStream(_)) if place.last.is_none() => {
            // Made here only where nothing was read yet; else it is missing, which is a finding.
            shared.no_stream("there is no stream BOTSTATS_EVENTS: run `botstats setup`");
            return match setup::events_stream(js, Shape::default()).await {
                Ok(_) => {
                    tracing::info!("made the stream {EVENTS_STREAM}");
                    Gone::Again
                }
                Err(error) => Gone::Retry(format!(
                    "there is no stream BOTSTATS_EVENTS: run `botstats setup` ({})",
                    explain(&error)
                )),
            };
        }
        Err(error) => {
            let why = explain(&error);
            match error {
                StreamInfoError::NoStream(_) => shared.no_stream(&why),
                _ => shared.unreachable(&why),
            }
            return Gone::Retry(why);
        }
    };
    shared.reached();
    let from = match start(place.last.as_ref(), &seen.state) {
        Ok(Start::From(sequence)) => sequence,
        Ok(Start::AtCheckpoint(sequence)) => sequence + 1,
        Err(refusal) => return Gone::Refused(refusal),
    };
    if place.last.is_none() && from > 1 {
        tracing::warn!(
            first = from,
            "the stream has lost its first messages: what they said is not counted"
        );
    }
    shared.doubt(&seen.findings);
    // The consumer belongs to the stream as it was when it was made; that stream is then checked.
    let (mut pull, pending) = match Pull::start(client, js, from).await {
        Ok(started) => started,
        Err(error) => return Gone::Retry(no_consumer(&error, &seen)),
    };
    if let Err(gone) = check(js, place, &seen.state).await {
        return gone;
    }
    // Only now: on a slow line those answers would come behind many messages.
    if let Err(error) = pull.ask_ahead().await {
        return Gone::Retry(explain(&error));
    }
    let (taken, end) = (place.sequence(), seen.state.last_sequence);
    let drained = match pending {
        0 if end > taken => match is_drained(js, taken).await {
            Ok(drained) => drained,
            Err(gone) => return gone,
        },
        waiting => waiting == 0,
    };
    if drained {
        shared.drained(taken, end);
    }
    shared.checked(&seen);
    let drained_to = if drained { end } else { 0 };
    let consumer = Consumer { pull, drained_to, connects: made };
    let taken = Arc::new(AtomicU64::new(taken));
    let looks = looks(js.clone(), Arc::clone(&taken), shared.clone());
    let mut delivery = Delivery {
        client: client.clone(),
        batch: Batch::new(seen.state.identity.clone()),
        stream: seen.state,
        consumer,
        taken,
        decoder,
        send_at: Instant::now(),
        last_arrival: Instant::now(),
        last_message: Instant::now(),
    };
    let gone = delivery.run(place, batches, looks.subscribe()).await;
    // What was taken is handed over in any case: the next consumer goes on after it.
    if !delivery.batch.arrivals.is_empty() && batches.send(delivery.batch).await.is_err() {
        return Gone::Stopped;
    }
    gone
}

/// Why there is no consumer; of a stream whose settings cannot work, these too.
fn no_consumer(error: &PullError, seen: &Seen) -> String {
    let why = explain(error);
    match refusals(&seen.findings) {
        Some(refused) => format!("{why} (the stream {EVENTS_STREAM}: {refused})"),
        None => why,
    }
}

/// Checks that the stream is still the same and has the message of the checkpoint, unless that
/// expired. A stream that was made at another time is then the one of this place.
async fn check(js: &Context, place: &mut Place, seen: &StreamState) -> Result<(), Gone> {
    let again = look(js).await.map_err(|e| Gone::Retry(explain(&e)))?;
    if again.state.identity != seen.identity {
        return Err(Gone::Retry("the stream was made again just now".to_owned()));
    }
    let decided = start(place.last.as_ref(), &again.state).map_err(Gone::Refused)?;
    if let (Start::AtCheckpoint(sequence), Some(checkpoint)) = (decided, &mut place.last) {
        let found = message_from(js, sequence).await.map_err(Gone::Retry)?;
        let found = found.map(|m| (m.sequence, m.stored_ns, subject_hash(&m.subject)));
        recognise(checkpoint, &seen.identity, found).map_err(Gone::Refused)?;
        if checkpoint.stream != seen.identity {
            tracing::info!(
                sequence,
                "the stream {EVENTS_STREAM} was made anew and has the message that was applied last: it was \
                 restored, counting goes on after it"
            );
            checkpoint.stream = seen.identity.clone();
        }
    }
    Ok(())
}

/// Whether the stream has no message after that sequence. A consumer that has none waiting does not prove
/// it: in a cluster it may be at a copy that is behind the stream's leader, who is asked here.
async fn is_drained(js: &Context, taken: u64) -> Result<bool, Gone> {
    let next = message_from(js, taken + 1).await.map_err(Gone::Retry)?;
    Ok(next.is_none())
}

/// A consumer from that sequence on, and how many messages it had waiting when it was made.
/// Why no more is taken from a consumer.
#[derive(Debug, thiserror::Error)]
enum TakeError {
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error("a message could not be decoded")]
    Decode(#[from] StoreError),
}

/// A consumer that was just made.
struct Consumer {
    pull: Pull,
    /// Up to there the stream had no more messages when the consumer was made.
    drained_to: u64,
    /// How often the connection had been made before.
    connects: u64,
}

/// A consumer at work.
struct Delivery<'a> {
    client: Client,
    stream: StreamState,
    consumer: Consumer,
    /// The last sequence taken, for those who look at the stream.
    taken: Arc<AtomicU64>,
    decoder: &'a mut Decoder,
    batch: Batch,
    /// When the batch goes, full or not.
    send_at: Instant,
    /// When the server was heard last, or could not be because the fold has enough to do.
    last_arrival: Instant,
    last_message: Instant,
}

impl Delivery<'_> {
    /// Takes messages and hands over batches, until the consumer or the stream fails.
    async fn run(
        &mut self,
        place: &mut Place,
        batches: &mpsc::Sender<Batch>,
        mut looked: watch::Receiver<Option<Looked>>,
    ) -> Gone {
        let mut tick = tokio::time::interval(CONNECTION_CHECK);
        loop {
            let waiting = !self.batch.arrivals.is_empty();
            let due = waiting && (self.batch.is_full() || Instant::now() >= self.send_at);
            tokio::select! {
                permit = batches.reserve(), if due => match permit {
                    Ok(permit) => {
                        self.last_arrival = Instant::now();
                        let next = Batch::new(self.stream.identity.clone());
                        permit.send(std::mem::replace(&mut self.batch, next));
                    }
                    Err(_) => return Gone::Stopped,
                },
                () = sleep_until(self.send_at), if waiting && !due => {}
                next = self.consumer.pull.next(), if !self.batch.is_full() => {
                    let taken = self.take_arrived(next);
                    place.advance(&self.batch);
                    self.taken.store(place.sequence(), Ordering::Relaxed);
                    let asked = match taken {
                        Ok(()) => self.consumer.pull.ask_ahead().await.map_err(TakeError::from),
                        Err(error) => Err(error),
                    };
                    if let Err(error) = asked {
                        return Gone::Retry(explain(&error));
                    }
                }
                _ = tick.tick() => {
                    // The consumer may have sent what never arrived; and if a message broke the
                    // connection, it will again.
                    if connects(&self.client) != self.consumer.connects {
                        return Gone::Retry("the connection was lost".to_owned());
                    }
                    if !self.batch.is_full() && self.last_arrival.elapsed() > SILENCE {
                        return Gone::Retry("the consumer is silent".to_owned());
                    }
                }
                changed = looked.changed() => {
                    let looked = looked.borrow_and_update().clone();
                    if let (Ok(()), Some(looked)) = (changed, looked)
                        && let Err(why) = self.compare(&looked, place)
                    {
                        return Gone::Retry(why.to_owned());
                    }
                }
            }
        }
    }

    /// Takes a message, and what else has arrived already: without going through the select again.
    fn take_arrived(&mut self, next: Option<NatsMessage>) -> Result<(), TakeError> {
        self.last_arrival = Instant::now();
        let before = self.batch.arrivals.len();
        let mut next = Some(next);
        while let Some(arrived) = next {
            if let Some(pulled) = self.consumer.pull.accept(arrived)? {
                if self.batch.arrivals.is_empty() {
                    let behind = pulled.behind >= BEHIND_MESSAGES;
                    let wait = if behind { MAX_WAIT_BEHIND } else { MAX_WAIT };
                    self.send_at = self.last_arrival + wait;
                }
                let arrival = self.decoder.decode(&Message {
                    sequence: pulled.sequence,
                    stored_ns: pulled.stored_ns,
                    subject: &pulled.message.subject,
                    headers: Headers::Read(pulled.message.headers.as_ref()),
                    payload: &pulled.message.payload,
                })?;
                self.batch.arrivals.push(arrival);
            }
            next =
                if self.batch.is_full() { None } else { self.consumer.pull.next().now_or_never() };
        }
        if self.batch.arrivals.len() > before {
            self.last_message = self.last_arrival;
        }
        Ok(())
    }

    /// Compares a look at the stream with what was taken.
    fn compare(&self, looked: &Looked, place: &Place) -> Result<(), &'static str> {
        if !is_still(&self.stream.identity, looked) {
            return Err("the stream is not what it was");
        }
        if looked.state.last_sequence > place.sequence().max(self.consumer.drained_to)
            && !self.batch.is_full()
            && self.last_message.elapsed() > STALL
        {
            return Err("the stream has more, but the consumer does not deliver");
        }
        Ok(())
    }
}

/// Whether a look shows the stream that is read, with all that had been taken when the look was
/// asked for. What was taken since may have been stored since.
fn is_still(reading: &StreamIdentity, looked: &Looked) -> bool {
    looked.state.identity == *reading && looked.state.last_sequence >= looked.taken_before
}

fn connects(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_look_beside_steady_traffic() {
        let reading = StreamIdentity { name: EVENTS_STREAM.to_owned(), created_ns: 5 };
        // What comes after the look was asked for is not in the table: it says nothing about the
        // stream.
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
            let looked = Looked { state, taken_before };
            let case = (created_ns, last_sequence, taken_before);
            assert_eq!(is_still(&reading, &looked), expect, "{case:?}");
        }
    }
}
