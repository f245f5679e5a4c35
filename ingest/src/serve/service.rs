//! Answers over NATS: reads (as a NATS service, while [`Health`] allows it); dead letters and the
//! ingest's own state (always).
//!
//! An ingest that answers for all slots listens on the subjects of reads without a slot. Where
//! streams have slots it also listens on the subjects of its slots, and its answer to a ping names
//! them.
//!
//! *Invariants*: a read of a slot that is not served is refused. Its answer would be empty, and
//! look like that of an account without events.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::service::{Service, ServiceExt as _};
use async_nats::{Client, Message, Subscriber};
use botstats_common::ids::{Account, is_request_id};
use botstats_common::io::clock::{monotonic, rfc3339_ms, whole_ms};
use botstats_common::io::logging::RateLimit;
use botstats_common::io::nats::{answer_status, chain};
use botstats_common::io::readiness::Readiness;
use botstats_common::io::stop::spawn;
use botstats_common::names::{
    READ_QUEUE, SLOTS_METADATA, all_reads, all_reads_at, all_slot_reads, slot_reads,
};
use botstats_common::slot::{Slot, Slots};
use botstats_common::status::{IngestStatus, Status};
use botstats_common::wire::{Frame, MIN_PAYLOAD_BYTES};
use futures::StreamExt as _;
use futures::stream::SelectAll;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::serve::dead_letters;
use crate::serve::health::{Health, Served};
use crate::serve::overview::Overviews;
use crate::serve::read::{CellReader, ReadError};
use crate::serve::version::{Asked, Version};
use crate::store::Store;
use crate::telemetry::METRICS;

/// This many reads are worked on at a time; more wait.
const MAX_READS: usize = 4;
/// This many reads wait or are worked on; more are refused, so that a query asks another ingest.
const MAX_WAITING: usize = 256;
/// Pause between two checks whether reads may be answered.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Pause between two log lines about the progress of a catch-up.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// The server confirms the end of a subscription within 1 s; later reads of it are not taken.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);
/// The name in the readiness of the server's limit for messages.
const PAYLOAD: &str = "max_payload";
const SERVICE_NAME: &str = "botstats-ingest";

/// Everything that is needed to answer.
#[derive(Clone)]
pub(crate) struct Context {
    /// The name of the stream.
    pub(crate) stream: String,
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
    pub(super) fn note_broken(&self) {
        if self.store.failure().is_some() {
            self.broken.cancel();
        }
    }
}

/// Answers until told to stop.
pub(crate) async fn run(client: Client, context: Context, stop: CancellationToken) {
    let asked = context.clone();
    let status = move || status(asked.clone());
    let status = spawn(answer_status(client.clone(), stop.clone(), status));
    let letters = spawn(dead_letters::serve(client.clone(), context.clone(), stop.clone()));
    let places = Places {
        waiting: Arc::new(Semaphore::new(MAX_WAITING)),
        working: Arc::new(Semaphore::new(MAX_READS)),
    };
    let mut shown = monotonic();
    while stop.run_until_cancelled(tokio::time::sleep(CHECK_INTERVAL)).await.is_some() {
        if !may_answer(&client, &context) {
            if shown.elapsed() >= PROGRESS_INTERVAL {
                shown = monotonic();
                show_progress(&context.health);
            }
            continue;
        }
        if let Err(error) = answer_reads(&client, &context, &places, &stop).await {
            context.readiness.missing("reads", format!("cannot answer reads: {error}"));
        }
    }
    // Reads that are worked on are answered before the connection is closed.
    let all = u32::try_from(MAX_WAITING).unwrap_or(u32::MAX);
    let finished = timeout(Duration::from_secs(5), places.waiting.acquire_many(all));
    if finished.await.is_err() {
        tracing::warn!("stopped, though some reads are not answered yet");
    }
    let _ended = tokio::join!(status, letters);
}

/// Answers while reads may be answered, or until told to stop. When the slots change, another
/// service is begun before the old one ends: a slot that stays is never without a subscription.
async fn answer_reads(
    client: &Client,
    context: &Context,
    places: &Places,
    stop: &CancellationToken,
) -> Result<(), async_nats::Error> {
    let mut serving = Serving::begin(client, context).await?;
    context.readiness.present("reads");
    let outcome = loop {
        if serving.serve(client, context, places, stop).await == Ended::ForGood {
            break Ok(());
        }
        match Serving::begin(client, context).await {
            Ok(next) => {
                let old = std::mem::replace(&mut serving, next);
                let (client, context, places) = (client.clone(), context.clone(), places.clone());
                spawn(async move { old.end(&client, &context, &places).await });
            }
            Err(error) => break Err(error),
        }
    };
    serving.end(client, context, places).await;
    context.readiness.missing("reads", "reads are not answered".to_owned());
    tracing::info!("not answering reads any more");
    outcome
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
    let (_, _, refused) = health.state();
    let behind = health.catch_up();
    if refused.is_none() && behind.applied < behind.messages {
        tracing::info!("catching up: {behind} ({}%)", behind.percent());
    }
}

/// Places for reads that are in the program.
#[derive(Clone)]
struct Places {
    waiting: Arc<Semaphore>,
    working: Arc<Semaphore>,
}

/// What an ingest with that id subscribes to for reads: those that it alone is asked, and those
/// that any ingest may take which answers for the account.
fn subjects(id: &str, served: Served) -> Vec<String> {
    let Served { slots, by_slot } = served;
    let mut subjects = vec![all_reads_at(id)];
    if slots == Slots::ALL {
        subjects.push(all_reads());
        subjects.extend(by_slot.then(all_slot_reads));
    } else {
        subjects.extend(slots.iter().map(slot_reads));
    }
    subjects
}

/// The service while reads are answered.
struct Serving {
    service: Service,
    id: String,
    /// The accounts for which the service was begun.
    served: Served,
    /// The subscriptions. They are not endpoints of the service: an endpoint drops the requests
    /// that arrive while it ends, and a description of 256 endpoints may exceed `max_payload`.
    reads: SelectAll<Subscriber>,
}

/// Why a service does not take reads any more.
#[derive(PartialEq)]
enum Ended {
    /// Other accounts are answered for than when it was begun.
    ServedChanged,
    ForGood,
}

impl Serving {
    async fn begin(client: &Client, context: &Context) -> Result<Self, async_nats::Error> {
        let (_, served) = context.health.served();
        let mut metadata = HashMap::from([("instance".to_owned(), context.instance.clone())]);
        if served.by_slot {
            metadata.insert(SLOTS_METADATA.to_owned(), served.slots.to_string());
        }
        let service = client
            .service_builder()
            .description("botstats: answers reads of statistics")
            .metadata(metadata)
            .start(SERVICE_NAME, env!("CARGO_PKG_VERSION"))
            .await?;
        let id = service.info().await.id;
        let mut reads = SelectAll::new();
        for subject in subjects(&id, served) {
            reads.push(client.queue_subscribe(subject, READ_QUEUE.to_owned()).await?);
        }
        let slots = served.by_slot.then(|| tracing::field::display(served.slots));
        tracing::info!(service = id, slots, "answering reads");
        Ok(Self { service, id, served, reads })
    }

    /// Takes reads while they may be answered.
    async fn serve(
        &mut self,
        client: &Client,
        context: &Context,
        places: &Places,
        stop: &CancellationToken,
    ) -> Ended {
        let mut check = tokio::time::interval(CHECK_INTERVAL);
        loop {
            let message = tokio::select! {
                () = stop.cancelled() => return Ended::ForGood,
                _ = check.tick() => {
                    if !may_answer(client, context) {
                        return Ended::ForGood;
                    }
                    if context.health.served().1 != self.served {
                        return Ended::ServedChanged;
                    }
                    continue;
                }
                message = self.reads.next() => message,
            };
            let Some(message) = message else { return Ended::ForGood };
            answer_later(client, context, places, &self.id, message);
        }
    }

    /// Ends the subscriptions, and answers what the server delivered before it heard of the end.
    async fn end(mut self, client: &Client, context: &Context, places: &Places) {
        for reads in self.reads.iter_mut() {
            // Fails only when the connection was closed for good.
            let _closed = reads.drain().await;
        }
        let delivered = async {
            while let Some(message) = self.reads.next().await {
                answer_later(client, context, places, &self.id, message);
            }
        };
        if timeout(DRAIN_LIMIT, delivered).await.is_err() {
            tracing::debug!("subscriptions of reads were ended without a word of the server");
        }
        if let Err(error) = self.service.stop().await {
            tracing::debug!("the read service of NATS did not stop cleanly: {error}");
        }
    }
}

fn answer_later(client: &Client, context: &Context, places: &Places, id: &str, message: Message) {
    let Some(reply) = message.reply.clone() else { return };
    let (client, context, working) = (client.clone(), context.clone(), Arc::clone(&places.working));
    let place = Arc::clone(&places.waiting).try_acquire_owned();
    let id = id.to_owned();
    spawn(async move {
        let asked = monotonic();
        let version = Version::of(&message.payload);
        let asker = Asker { client: &client, reply: &reply, version };
        let outcome = match place {
            Ok(_place) => answer(&asker, &context, &working, &message, id, asked).await,
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
    message: &Message,
    id: String,
    arrived: Instant,
) -> &'static str {
    let subject = message.subject.as_str();
    let account = subject.rsplit('.').next().unwrap_or_default().parse::<Account>();
    let Ok(account) = account else {
        return asker.refuse("not a read that this version understands").await;
    };
    let asked = match asker.version.decode(&message.payload) {
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
    // Both at once: a fence that gives the slot away could be applied between them.
    let (as_of_ms, Served { slots, .. }) = context.health.served();
    if !slots.contains(Slot::of(&account)) {
        return asker.refuse("this ingest does not answer for the slot of this account").await;
    }
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
            asker.refuse("the read failed").await;
            "failed"
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
            asker.refuse("the store cannot be read").await;
            return "failed";
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

async fn status(context: Context) -> Status {
    let file_bytes = tokio::fs::metadata(&context.file).await.map_or(0, |m| m.len());
    // Before the sequence: a ready ingest must not report one from before it was ready.
    let ready = context.readiness.is_ready();
    let (freshness, progress, refused) = context.health.state();
    let (_, Served { slots, by_slot }) = context.health.served();
    let events: BTreeMap<String, u64> =
        progress.by_outcome().map(|(name, n)| (name.to_owned(), n)).into();
    Status {
        program: "ingest".to_owned(),
        instance: context.instance.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready,
        missing: context.readiness.all_missing(),
        limited: context.readiness.all_limited(),
        zones: None,
        ingest: Some(IngestStatus {
            stream: context.stream.clone(),
            slots: by_slot.then_some(slots),
            reads: context.health.reads_earlier(),
            sequence: freshness.sequence(),
            stream_last_sequence: freshness.last_sequence(),
            lag_messages: freshness.last_sequence() - freshness.sequence(),
            as_of: (freshness.as_of_ms() > 0).then(|| rfc3339_ms(freshness.as_of_ms())),
            refused,
            events,
            dead_letters: progress.dead_letters,
            file_bytes,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_ingest_listens_on() {
        for (slots, by_slot, expected) in [
            ("0-255", false, &["botstats.read.v1.me.*", "botstats.read.v1.*"][..]),
            (
                "0-255",
                true,
                &["botstats.read.v1.me.*", "botstats.read.v1.*", "botstats.read.v2.*.*"],
            ),
            (
                "7,200",
                true,
                &["botstats.read.v1.me.*", "botstats.read.v2.7.*", "botstats.read.v2.200.*"],
            ),
            ("", true, &["botstats.read.v1.me.*"]),
        ] {
            let served = Served { slots: slots.parse().unwrap(), by_slot };
            assert_eq!(subjects("me", served), expected, "{slots:?}");
        }
    }
}
