//! A nats-server that puts the slot of its account into the subject of each event, and streams that
//! share the slots, made and changed without a command of the product.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::{self, stream};
use botstats::server::{Options, Server, find};
use botstats_common::io::{clock, nats, setup};
use botstats_common::lineage::{Control, Fence, Lineage, StreamIdentity, first_sequence_after};
use botstats_common::names::{EVENTS_STREAM, SLOT_MAPPING, control_subject};
use botstats_common::slot::Slots;
use futures::StreamExt as _;
use tempfile::TempDir;

use crate::harness::{Process, connection};

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

/// Which stream of that name it is.
pub async fn identity(js: &jetstream::Context, stream: &str) -> StreamIdentity {
    let info = nats::stream_info(js, stream).await.expect("the stream");
    StreamIdentity { name: stream.to_owned(), created_ns: info.created_ns }
}

/// Lets a stream listen on these slots, and on no others.
pub async fn listen(js: &jetstream::Context, stream: &str, slots: Slots) {
    let mut config = config(js, stream).await;
    config.subjects = setup::cell_subjects(stream, slots);
    js.update_stream(config).await.expect("another list");
}

/// Makes the stream that will have slots of a parent, without them.
pub async fn make_child(
    js: &jetstream::Context,
    parent: &str,
    child: &str,
    slots: Slots,
) -> StreamIdentity {
    let lineage = Lineage { slots, parent: Some(identity(js, parent).await) };
    let mut made = config(js, parent).await;
    made.name = child.to_owned();
    made.subjects = setup::cell_subjects(child, Slots::NONE);
    made.metadata = lineage.metadata().into_iter().collect();
    made.first_sequence = Some(first_sequence_after(made.first_sequence.unwrap_or_default()));
    js.create_stream(made).await.expect("a stream");
    identity(js, child).await
}

/// Stores a fence in a stream.
pub async fn store_fence(js: &jetstream::Context, stream: &str, fence: Fence) {
    let sent = js.publish(control_subject(stream), Control::Moved(fence).encode().into()).await;
    sent.expect("the fence is sent").await.expect("the fence is stored");
}

async fn config(js: &jetstream::Context, stream: &str) -> stream::Config {
    js.get_stream(stream).await.expect("the stream").cached_info().config.clone()
}

impl Spread {
    /// Starts a server and makes that number of streams with the same number of slots; the server
    /// may sync each message before it acknowledges it.
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
        let shape = setup::Shape::default();
        setup::directory_bucket(&js, shape).await.expect("the directory");
        setup::events_cells(&js, shape, streams).await.expect("streams");
        Self { nats, client, js, folder }
    }

    /// Moves slots from a stream to a child that is made already.
    pub async fn move_slots(&self, parent: &str, child: &str, slots: Slots) -> Moved {
        let (js, to) = (&self.js, identity(&self.js, child).await);
        let begun = clock::monotonic();
        let left = nats::stream_info(js, parent).await.expect("the parent").config.slots();
        listen(js, parent, left.difference(slots)).await;
        let removed = begun.elapsed();
        store_fence(js, parent, Fence { slots, to }).await;
        let fenced = begun.elapsed() - removed;
        listen(js, child, slots).await;
        Moved { removed, fenced, added: begun.elapsed() - removed - fenced }
    }

    /// Starts an ingest of that stream on the folder of that name, which is made if absent.
    pub fn ingest(&self, stream: &str, folder: &str) -> Process {
        let settings = [("NATS_URL", self.nats.url()), ("BOTSTATS_STREAM", stream.to_owned())];
        Process::ingest(&settings, &self.folder.path().join(folder))
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
}
