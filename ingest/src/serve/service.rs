//! Answers over NATS: reads (as a NATS service, while [`Health`] allows it); dead letters and the
//! ingest's own state (always).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Client;
use async_nats::service::endpoint::Endpoint;
use async_nats::service::{Service, ServiceExt as _};
use botstats_common::ids::{Account, is_request_id};
use botstats_common::io::clock::{monotonic, rfc3339_ms, whole_ms};
use botstats_common::io::logging::RateLimit;
use botstats_common::io::nats::chain;
use botstats_common::io::readiness::Readiness;
use botstats_common::io::stop::spawn;
use botstats_common::names::{DEAD_LETTERS_SUBJECT, EventSource, READ_QUEUE, STATUS_SUBJECT};
use botstats_common::status::{
    DeadLetter, DeadLettersReply, DeadLettersRequest, IngestStatus, MAX_DEAD_LETTERS_PER_ANSWER,
    Status,
};
use botstats_common::wire::{Frame, MIN_PAYLOAD_BYTES};
use futures::StreamExt as _;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::serve::health::{Health, Served};
use crate::serve::overview::Overviews;
use crate::serve::read::{CellReader, ReadError};
use crate::serve::version::{Asked, Version};
use crate::store::{Store, StoreError};
use crate::telemetry::METRICS;

/// This many reads are worked on at a time; more wait.
const MAX_READS: usize = 4;
/// This many reads wait or are worked on; more are refused, so that a query asks another ingest.
const MAX_WAITING: usize = 256;
/// Pause between two checks whether reads may be answered.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Pause between two log lines about the progress of a catch-up.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// The name in the readiness of the server's limit for messages.
const PAYLOAD: &str = "max_payload";
const SERVICE_NAME: &str = "botstats-ingest";

/// Everything that is needed to answer.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) source: EventSource,
    pub(crate) reader: CellReader,
    pub(crate) overviews: Overviews,
    pub(crate) store: Arc<Store>,
    pub(crate) health: Health,
    pub(crate) readiness: Readiness,
    /// The random id of the store.
    pub(crate) instance: String,
    pub(crate) file: PathBuf,
    /// Cancelled when the store's file failed: then nothing in the file can be read any more.
    pub(crate) broken: CancellationToken,
}

impl Context {
    /// To be called after a failed read: if the store's file failed, all reads will. A single
    /// malformed value does not stop other reads.
    fn note_broken(&self) {
        if self.store.failure().is_some() {
            self.broken.cancel();
        }
    }
}

/// Answers until told to stop.
pub(crate) async fn run(client: Client, context: Context, stop: CancellationToken) {
    let status = spawn(serve_status(client.clone(), context.clone(), stop.clone()));
    let letters = spawn(serve_dead_letters(client.clone(), context.clone(), stop.clone()));
    let slots = Slots {
        waiting: Arc::new(Semaphore::new(MAX_WAITING)),
        working: Arc::new(Semaphore::new(MAX_READS)),
    };
    let mut shown = monotonic();
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
        }
        if !may_answer(&client, &context) {
            if shown.elapsed() >= PROGRESS_INTERVAL {
                shown = monotonic();
                show_progress(&context.health);
            }
            continue;
        }
        match begin(&client, &context).await {
            Ok(mut serving) => {
                context.readiness.present("reads");
                tracing::info!(service = serving.id, "answering reads");
                serving.serve(&client, &context, &slots, &stop).await;
                // Unsubscribes; accepted reads are still answered.
                if let Err(error) = serving.service.stop().await {
                    tracing::debug!("the read service of NATS did not stop cleanly: {error}");
                }
                context.readiness.missing("reads", "reads are not answered".to_owned());
                tracing::info!("not answering reads any more");
            }
            Err(error) => {
                context.readiness.missing("reads", format!("cannot answer reads: {error}"))
            }
        }
    }
    // Reads that are worked on are answered before the connection is closed.
    let all = u32::try_from(MAX_WAITING).unwrap_or(u32::MAX);
    let finished = tokio::time::timeout(Duration::from_secs(5), slots.waiting.acquire_many(all));
    if finished.await.is_err() {
        tracing::warn!("stopped, though some reads are not answered yet");
    }
    let _ended = tokio::join!(status, letters);
}

static TOO_SMALL: RateLimit = RateLimit::new();

/// Whether reads may be answered now, and their answers fit into messages.
fn may_answer(client: &Client, context: &Context) -> bool {
    let most = client.max_payload();
    if most < MIN_PAYLOAD_BYTES {
        let why = format!(
            "nats-server takes messages of {most} bytes at most (max_payload); {MIN_PAYLOAD_BYTES} are needed"
        );
        if TOO_SMALL.due("").is_some() {
            tracing::warn!("reads are not answered: {why}");
        }
        context.readiness.missing(PAYLOAD, why);
        return false;
    }
    context.readiness.present(PAYLOAD);
    context.health.may_answer()
}

fn show_progress(health: &Health) {
    let (freshness, _, refused) = health.state();
    let (applied, last) = (freshness.sequence(), freshness.last_sequence());
    if refused.is_none() && applied < last {
        tracing::info!(
            "catching up: {applied} of {last} messages applied ({}%)",
            applied * 100 / last
        );
    }
}

#[derive(Clone)]
struct Slots {
    waiting: Arc<Semaphore>,
    working: Arc<Semaphore>,
}

async fn begin(client: &Client, context: &Context) -> Result<Serving, async_nats::Error> {
    let service = client
        .service_builder()
        .description("botstats: answers reads of statistics")
        .metadata([("instance".to_owned(), context.instance.clone())].into())
        .start(SERVICE_NAME, env!("CARGO_PKG_VERSION"))
        .await?;
    let id = service.info().await.id;
    let endpoint = |name| service.endpoint_builder().name(name).queue_group(READ_QUEUE);
    let any = endpoint("read").add(context.source.reads.all()).await?;
    let own = endpoint("read_own").add(context.source.reads.all_at(&id)).await?;
    Ok(Serving { service, id, any, own })
}

/// The service while reads are answered.
struct Serving {
    service: Service,
    id: String,
    /// Reads that any ingest may take.
    any: Endpoint,
    /// Reads that this ingest alone is asked.
    own: Endpoint,
}

impl Serving {
    /// Takes reads while they may be answered.
    async fn serve(
        &mut self,
        client: &Client,
        context: &Context,
        slots: &Slots,
        stop: &CancellationToken,
    ) {
        let mut check = tokio::time::interval(CHECK_INTERVAL);
        loop {
            let request = tokio::select! {
                () = stop.cancelled() => break,
                _ = check.tick() => {
                    if may_answer(client, context) { continue } else { break }
                }
                request = self.any.next() => request,
                request = self.own.next() => request,
            };
            let Some(request) = request else { return };
            answer_later(client, context, slots, &self.id, request);
        }
        let _stopping = tokio::join!(self.any.stop(), self.own.stop());
        // Requests that the server delivered before it heard that the subscriptions end.
        let mut delivered = futures::stream::select(&mut self.any, &mut self.own);
        while let Some(request) = delivered.next().await {
            answer_later(client, context, slots, &self.id, request);
        }
    }
}

fn answer_later(
    client: &Client,
    context: &Context,
    slots: &Slots,
    id: &str,
    request: async_nats::service::Request,
) {
    let Some(subject) = request.message.reply.clone() else { return };
    let (client, context, working) = (client.clone(), context.clone(), Arc::clone(&slots.working));
    let place = Arc::clone(&slots.waiting).try_acquire_owned();
    let id = id.to_owned();
    spawn(async move {
        let asked = monotonic();
        let version = Version::of(&request.message.payload);
        let asker = Asker { client: &client, reply: &subject, version };
        let outcome = match place {
            Ok(_place) => answer(&asker, &context, &working, &request, id, asked).await,
            Err(_) => asker.refuse("too many reads at once").await,
        };
        METRICS.reads.count(outcome);
        METRICS.read_seconds.record(asked.elapsed().as_secs_f64());
    });
}

/// Who asked, and how it is answered.
struct Asker<'a> {
    client: &'a Client,
    reply: &'a async_nats::Subject,
    version: Version,
}

impl Asker<'_> {
    async fn refuse(&self, why: &str) -> &'static str {
        self.send(&Frame::Refused(why.to_owned())).await;
        "refused"
    }

    async fn send(&self, frame: &Frame) {
        match self.version.encode(frame) {
            Ok(bytes) => {
                if let Err(error) = self.client.publish(self.reply.clone(), bytes.into()).await {
                    tracing::warn!("the answer to a read could not be sent: {error}");
                }
            }
            Err(error) => tracing::error!("the answer to a read could not be encoded: {error}"),
        }
    }
}

async fn answer(
    asker: &Asker<'_>,
    context: &Context,
    working: &Arc<Semaphore>,
    request: &async_nats::service::Request,
    id: String,
    arrived: Instant,
) -> &'static str {
    let subject = request.message.subject.as_str();
    let account = subject.rsplit('.').next().unwrap_or_default().parse::<Account>();
    let Ok(account) = account else {
        return asker.refuse("not a read that this version understands").await;
    };
    let asked = match asker.version.decode(&request.message.payload) {
        Ok(asked) => asked,
        Err(why) => return asker.refuse(why).await,
    };
    let request_id = logged_id(asked.request_id()).to_owned();
    let accepted = Frame::Accepted { instance: id };
    let (_place, waited) = match working.try_acquire() {
        Ok(place) => (place, false),
        Err(_) => {
            asker.send(&accepted).await;
            let Ok(place) = working.acquire().await else { return "stopped" };
            (place, true)
        }
    };
    let last_moment = arrived + Duration::from_millis(asked.deadline_ms().into());
    if monotonic() > last_moment {
        tracing::info!(request_id, %account, "a read was dropped: its deadline passed while it waited for its turn");
        return "too_late";
    }
    // The read may have waited, and the ingest may have fallen behind meanwhile.
    if !may_answer(asker.client, context) {
        return asker.refuse("this ingest does not answer reads now").await;
    }
    let as_of_ms = context.health.as_of_ms();
    // The limit is that of the server that the client is connected to now.
    let max_bytes = asker.client.max_payload();
    let read_for = account.clone();
    let gathering = match asked {
        Asked::Read(asked) => {
            let mut reader = context.reader.clone().until(last_moment).in_chunks_of(max_bytes);
            if asker.version == Version::One {
                reader = reader.in_version_1();
            }
            tokio::task::spawn_blocking(move || reader.gather(&read_for, &asked, as_of_ms))
        }
        Asked::Overview(asked) => {
            let overviews = context.overviews.clone();
            tokio::task::spawn_blocking(move || {
                overviews.gather(&read_for, &asked, as_of_ms, max_bytes)
            })
        }
    };
    if !waited {
        asker.send(&accepted).await;
    }
    match gathering.await {
        Ok(Ok(chunks)) => {
            let count = chunks.len();
            for chunk in chunks {
                let sent = asker.client.publish(asker.reply.clone(), chunk.into()).await;
                if let Err(error) = sent {
                    tracing::warn!(request_id, "the answer to a read could not be sent: {error}");
                    return "failed";
                }
            }
            let took_ms = whole_ms(arrived.elapsed());
            // A page asks for an overview every few seconds.
            if asker.version == Version::Three {
                tracing::debug!(request_id, %account, parts = count, took_ms, "overview answered");
            } else {
                tracing::info!(request_id, %account, chunks = count, took_ms, "read answered");
            }
            "answered"
        }
        Ok(Err(error)) => refuse(asker, context, &request_id, &account, error).await,
        Err(error) => {
            tracing::error!(request_id, "a read failed: {error}");
            asker.refuse("the read failed").await
        }
    }
}

/// Says why a read has no answer, to the asker and in the log.
async fn refuse(
    asker: &Asker<'_>,
    context: &Context,
    request_id: &str,
    account: &Account,
    error: ReadError,
) -> &'static str {
    let (frame, outcome) = match error {
        ReadError::Request(why) => return asker.refuse(why).await,
        ReadError::TooLate => {
            tracing::warn!(request_id, %account, "a read was dropped: its deadline passed while it was worked on");
            return "too_late";
        }
        ReadError::Store(error) => {
            context.note_broken();
            tracing::error!(request_id, "a read failed: {}", chain(&error));
            return asker.refuse("the store cannot be read").await;
        }
        ReadError::TooLarge => (Frame::TooLarge, "too_large"),
        ReadError::Incomplete { since_ms } => (Frame::Incomplete { since_ms }, "incomplete"),
        ReadError::TooManyPairs { pairs } => (Frame::TooManyPairs { pairs }, "too_large"),
        ReadError::TooManyNames => (Frame::TooManyNames, "too_large"),
    };
    tracing::info!(request_id, %account, "a read was refused: {error}");
    asker.send(&frame).await;
    outcome
}

/// The request's id as the log may have it: a query may ask for answers, but not write lines of
/// this log.
fn logged_id(given: &str) -> &str {
    if is_request_id(given) { given } else { "(not an id)" }
}

async fn serve_status(client: Client, context: Context, stop: CancellationToken) {
    let Ok(mut requests) = client.subscribe(STATUS_SUBJECT).await else { return };
    loop {
        let request = tokio::select! {
            () = stop.cancelled() => return,
            request = requests.next() => request,
        };
        let Some(request) = request else { return };
        if let (Some(reply), Ok(json)) = (request.reply, serde_json::to_vec(&status(&context))) {
            let _nobody_waits = client.publish(reply, json.into()).await;
        }
    }
}

fn status(context: &Context) -> Status {
    let (freshness, progress, refused) = context.health.state();
    let (_, Served { slots, by_slot }) = context.health.served();
    let events: BTreeMap<String, u64> =
        progress.by_outcome().map(|(name, n)| (name.to_owned(), n)).into();
    Status {
        program: "ingest".to_owned(),
        instance: context.instance.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: context.readiness.is_ready(),
        missing: context.readiness.all_missing(),
        limited: context.readiness.all_limited(),
        zones: None,
        ingest: Some(IngestStatus {
            stream: context.source.stream.clone(),
            slots: by_slot.then_some(slots),
            reads: None,
            sequence: freshness.sequence(),
            stream_last_sequence: freshness.last_sequence(),
            lag_messages: freshness.last_sequence() - freshness.sequence(),
            as_of: (freshness.as_of_ms() > 0).then(|| rfc3339_ms(freshness.as_of_ms())),
            refused,
            events,
            dead_letters: progress.dead_letters,
            file_bytes: std::fs::metadata(&context.file).map_or(0, |m| m.len()),
        }),
    }
}

async fn serve_dead_letters(client: Client, context: Context, stop: CancellationToken) {
    let subscribed = client.queue_subscribe(DEAD_LETTERS_SUBJECT, READ_QUEUE.to_owned()).await;
    let Ok(mut requests) = subscribed else { return };
    loop {
        let request = tokio::select! {
            () = stop.cancelled() => return,
            request = requests.next() => request,
        };
        let Some(request) = request else { return };
        let Some(reply) = request.reply else { continue };
        let Ok(asked) = serde_json::from_slice::<DeadLettersRequest>(&request.payload) else {
            continue;
        };
        let store = Arc::clone(&context.store);
        let found = tokio::task::spawn_blocking(move || dead_letters(&store, &asked)).await;
        match found {
            Ok(Ok(letters)) => {
                if let Some(json) = fitting(letters, client.max_payload()) {
                    let _nobody_waits = client.publish(reply, json.into()).await;
                }
            }
            Ok(Err(error)) => {
                context.note_broken();
                tracing::error!("dead letters cannot be read: {}", chain(&error));
            }
            Err(error) => tracing::error!("dead letters cannot be read: {error}"),
        }
    }
}

/// The newest letters that fit into a message of that size, as JSON; the asker asks again for the
/// rest.
fn fitting(mut letters: DeadLettersReply, max_bytes: usize) -> Option<Vec<u8>> {
    loop {
        let json = serde_json::to_vec(&letters).ok()?;
        if json.len() <= max_bytes || letters.letters.len() <= 1 {
            return Some(json);
        }
        letters.letters.truncate(letters.letters.len() / 2);
    }
}

fn dead_letters(store: &Store, asked: &DeadLettersRequest) -> Result<DeadLettersReply, StoreError> {
    let limit = asked.limit.min(MAX_DEAD_LETTERS_PER_ANSWER);
    let (before, limit) = match asked.sequence {
        Some(sequence) => (sequence.saturating_add(1), 1),
        None => (asked.before.unwrap_or(u64::MAX), limit),
    };
    let (kept, letters) =
        store.snapshot()?.dead_letters(before, usize::try_from(limit).unwrap_or(0))?;
    let letters = letters
        .into_iter()
        .filter(|l| asked.sequence.is_none_or(|s| s == l.sequence))
        .map(|l| DeadLetter {
            sequence: l.sequence,
            rule: l.rule.name().to_owned(),
            reason: l.reason,
        })
        .collect();
    Ok(DeadLettersReply { kept, letters })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::MAX_REASON_BYTES;

    #[test]
    fn dead_letters_fit_into_a_message() {
        let letter = |sequence| DeadLetter {
            sequence,
            rule: "envelope".to_owned(),
            reason: "x".repeat(MAX_REASON_BYTES),
        };
        let letters = (0..1_000).rev().map(letter).collect();
        let reply = DeadLettersReply { kept: 5_000, letters };
        for (max_bytes, at_least) in [(1024 * 1024, 1_000), (16 * 1024, 31), (8 * 1024, 15), (0, 1)]
        {
            let json = fitting(reply.clone(), max_bytes).unwrap();
            assert!(json.len() <= max_bytes.max(300), "{} of {max_bytes}", json.len());
            let cut: DeadLettersReply = serde_json::from_slice(&json).unwrap();
            assert!(cut.letters.len() >= at_least, "{} in {max_bytes}", cut.letters.len());
            assert_eq!(cut.kept, 5_000);
            assert_eq!(cut.letters, reply.letters[..cut.letters.len()]);
        }
    }
}
