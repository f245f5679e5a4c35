//! A nats-server that puts the slot of its account into the subject of each event, and streams that
//! share the slots, made and changed without a command of the product.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::{self, stream};
use botstats::server::{Options, Server, find};
use botstats_common::io::{clock, nats, setup};
use botstats_common::lineage::{Control, Fence, Lineage, StreamIdentity, first_sequence_after};
use botstats_common::names::{EVENTS_STREAM, SLOT_MAPPING, control_subject, slot_subjects};
use botstats_common::slot::{SLOT_COUNT, Slot, Slots};
use futures::StreamExt as _;
use tempfile::TempDir;

use crate::harness::connection;

/// A server and its streams.
pub struct Spread {
    pub nats: Server,
    pub client: Client,
    pub js: jetstream::Context,
    // Last: the folder goes after those who use it.
    pub folder: TempDir,
}

/// How long each step of a move took.
#[derive(Debug, Clone, Copy)]
pub struct Moved {
    /// Until the parent's list was without the slots.
    pub removed: Duration,
    /// Until the fence was acknowledged.
    pub fenced: Duration,
    /// Until the child's list had the slots.
    pub added: Duration,
}

impl Moved {
    /// How long no stream listened, at most.
    pub fn whole(&self) -> Duration {
        self.removed + self.fenced + self.added
    }
}

/// The name of the stream of that number, from 1 on.
pub fn name(number: usize) -> String {
    if number == 1 { EVENTS_STREAM.to_owned() } else { format!("{EVENTS_STREAM}_{number}") }
}

/// The slots of each of so many streams: ranges of the same length.
pub fn ranges(streams: usize) -> Vec<Slots> {
    let each = SLOT_COUNT / streams.max(1);
    let of = |number: usize| Slot::all().skip(number * each).take(each).collect();
    (0..streams).map(of).collect()
}

impl Spread {
    /// Starts a server and makes so many streams with the same number of slots; the server may sync
    /// each message before it acknowledges it.
    pub async fn start(streams: usize, sync_always: bool) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let program = find(|_| {}).unwrap_or_else(|e| panic!("{e}"));
        let mut options = Options::new(program, folder.path().join("nats"));
        options.sync_always = sync_always;
        let (from, to) = SLOT_MAPPING;
        options.extra = format!("mappings {{ \"{from}\": \"{to}\" }}");
        let nats = Server::start(options).unwrap_or_else(|e| panic!("{e}"));
        let client = connection(&nats.url()).await;
        let js = nats::jetstream(&client, None);
        setup::directory_bucket(&js, setup::Shape::default()).await.expect("the directory");
        let spread = Self { nats, client, js, folder };
        for (number, slots) in (1..).zip(ranges(streams)) {
            spread.make(&name(number), Lineage { slots, parent: None }, slots, 0).await;
        }
        spread
    }

    /// Makes the stream that will have slots of a parent, without them.
    pub async fn make_child(&self, child: &str, parent: &str, slots: Slots) {
        let (config, identity) = self.info(parent).await;
        let first = first_sequence_after(config.first_sequence.unwrap_or_default());
        let lineage = Lineage { slots, parent: Some(identity) };
        self.make(child, lineage, Slots::NONE, first).await;
    }

    /// Moves slots from a stream to a child that is made already.
    pub async fn move_slots(&self, parent: &str, child: &str, slots: Slots) -> Moved {
        let (_, to) = self.info(child).await;
        let begun = clock::monotonic();
        self.listen(parent, Slots::difference, slots).await;
        let removed = begun.elapsed();
        let fence = Control::Moved(Fence { slots, to }).encode();
        let sent = self.js.publish(control_subject(parent), fence.into()).await;
        sent.expect("the fence is sent").await.expect("the fence is stored");
        let fenced = begun.elapsed() - removed;
        self.listen(child, Slots::union, slots).await;
        Moved { removed, fenced, added: begun.elapsed() - removed - fenced }
    }

    /// The number of messages of a stream.
    pub async fn messages(&self, stream: &str) -> u64 {
        let mut stream = self.js.get_stream(stream).await.expect("the stream");
        stream.info().await.expect("the stream's info").state.messages
    }

    /// The subject and payload of each event of a stream.
    pub async fn events(&self, stream: &str) -> Vec<(String, Vec<u8>)> {
        let left = self.messages(stream).await;
        let found = self.js.get_stream(stream).await.expect("the stream");
        let config = jetstream::consumer::pull::OrderedConfig::default();
        let consumer = found.create_consumer(config).await.expect("a consumer");
        let messages = consumer.messages().await.expect("messages");
        let count = usize::try_from(left).expect("few messages");
        let all = messages.take(count).map(|message| message.expect("a message"));
        let all = all.map(|message| (message.subject.to_string(), message.payload.to_vec()));
        let control = control_subject(stream);
        all.filter(|(subject, _)| std::future::ready(*subject != control)).collect().await
    }

    async fn make(&self, stream: &str, lineage: Lineage, listens: Slots, first_sequence: u64) {
        let config = stream::Config {
            name: stream.to_owned(),
            subjects: subjects(stream, listens),
            metadata: lineage.metadata().into_iter().collect(),
            first_sequence: (first_sequence > 0).then_some(first_sequence),
            discard: stream::DiscardPolicy::New,
            deny_delete: true,
            max_message_size: 72 * 1024,
            allow_direct: true,
            allow_atomic_publish: true,
            compression: Some(stream::Compression::S2),
            ..stream::Config::default()
        };
        self.js.create_stream(config).await.expect("a stream");
    }

    async fn info(&self, stream: &str) -> (stream::Config, StreamIdentity) {
        let mut found = self.js.get_stream(stream).await.expect("the stream");
        let info = found.info().await.expect("the stream's info");
        let created_ns = info.created.unix_timestamp_nanos().try_into().expect("a time of our age");
        let identity = StreamIdentity { name: stream.to_owned(), created_ns };
        (info.config.clone(), identity)
    }

    /// Changes the slots that a stream listens on.
    async fn listen(&self, stream: &str, with: impl Fn(Slots, Slots) -> Slots, slots: Slots) {
        let (mut config, _) = self.info(stream).await;
        let has = |slot: &Slot| config.subjects.contains(&slot_subjects(*slot));
        let now: Slots = Slot::all().filter(has).collect();
        config.subjects = subjects(stream, with(now, slots));
        self.js.update_stream(config).await.expect("another list");
    }
}

/// What a stream listens on.
fn subjects(stream: &str, slots: Slots) -> Vec<String> {
    [control_subject(stream)].into_iter().chain(slots.iter().map(slot_subjects)).collect()
}
