//! Installations whose accounts are spread over several streams of events: the mapping of slots in
//! nats-server, ingests of each stream, and what all streams hold together.

use std::collections::BTreeMap;
use std::path::Path;

use async_nats::jetstream;
use botstats::server::Server;
use botstats_common::io::clock;
use botstats_common::io::nats::stream_info;
use botstats_common::lineage::{Control, Lineage, StreamIdentity};
use botstats_common::names::{
    CONTROL_PREFIX, SLOT_MAPPING, SLOT_PREFIX, control_subject, is_events_stream,
};
use botstats_common::slot::{Slot, Slots};
use botstats_common::status::IngestStatus;
use futures::TryStreamExt as _;

use super::stream::stored_in;
use super::{PATIENCE, Process, Site, signal, until};
use crate::model::{Message, Model, Rule, Verdict};

/// The file beside nats-server's configuration, which includes it: empty until slots are mapped.
const MAPPING_FILE: &str = "mapping.conf";
/// The line of the configuration that includes the file.
pub(super) const MAPPING_INCLUDE: &str = "include \"mapping.conf\"";
/// What nats-server logs after a reload.
const RELOADED: &str = "Reloaded server configuration";

/// Makes the empty file in a server's folder, unless there is a file.
pub(super) fn prepare_mapping(folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder for the server");
    let file = folder.join(MAPPING_FILE);
    if !file.exists() {
        std::fs::write(file, "# no mapping\n").expect("the file of the mapping");
    }
}

/// A message with the stream that holds it.
#[derive(Debug, Clone)]
pub struct Held {
    pub stream: String,
    pub message: Message,
}

impl Held {
    /// The message as it was published, without the slot that the server put into its subject.
    pub fn as_published(&self) -> Message {
        let mut message = self.message.clone();
        if let Some(rest) = message.subject.strip_prefix(SLOT_PREFIX) {
            let (slot, rest) = rest.split_once('.').expect("a slot");
            let account = rest.split('.').next().expect("an account");
            assert_eq!(slot, Slot::of_token(account).to_string(), "{}", self.message.subject);
            message.subject = format!("botstats.events.{rest}");
        }
        message
    }

    /// The slot of the account that the subject names.
    fn slot(&self) -> Slot {
        let subject = self.as_published().subject;
        Slot::of_token(subject.split('.').nth(2).expect("an account"))
    }
}

impl Site {
    /// A server without stream and buckets: for `botstats setup`.
    pub async fn bare(window: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::in_folder(folder, window, false).await
    }

    /// Lets every server map accounts to slots from now on, by a reload as an operator does it.
    pub async fn map_slots(&self) {
        for server in std::iter::once(&self.nats).chain(&self.others) {
            map_slots_at(server).await;
        }
    }

    /// Starts an ingest of that stream on the folder of that name, which is made if absent.
    pub fn ingest_of(&self, stream: &str, name: &str) -> Process {
        self.ingest_with(name, &[("BOTSTATS_STREAM", stream.to_owned())])
    }

    /// Waits until that number of ingests say that everything that is stored now is counted.
    pub async fn all_counted(&self, ingests: usize) -> Vec<IngestStatus> {
        let now_ms = clock::now_ms();
        let counts = |one: &IngestStatus| {
            let as_of = one.as_of.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
            as_of.is_some_and(|as_of| as_of.as_millisecond() >= now_ms)
        };
        until(&format!("{ingests} ingests that have counted all"), PATIENCE, async || {
            let found = self.ingest_statuses().await;
            (found.iter().filter(|one| counts(one)).count() >= ingests).then_some(found)
        })
        .await
    }
}

/// Lets one server map accounts to slots from now on.
pub async fn map_slots_at(server: &Server) {
    let log = server.log();
    let reloads = || std::fs::read_to_string(&log).map_or(0, |log| log.matches(RELOADED).count());
    let before = reloads();
    let folder = log.parent().expect("the server's folder");
    let (from, to) = SLOT_MAPPING;
    let mapping = format!("mappings {{ \"{from}\": \"{to}\" }}\n");
    std::fs::write(folder.join(MAPPING_FILE), mapping).expect("the file of the mapping");
    signal(server.pid().expect("a running server"), "HUP");
    until("the reload", PATIENCE, async || (reloads() > before).then_some(())).await;
}

/// The names of the streams of events, in order.
pub async fn event_streams(js: &jetstream::Context) -> Vec<String> {
    let names: Vec<String> = js.stream_names().try_collect().await.expect("the streams' names");
    let mut names: Vec<String> = names.into_iter().filter(|name| is_events_stream(name)).collect();
    names.sort();
    names
}

/// Every event that any stream holds; messages that end slots are left out.
pub async fn held(js: &jetstream::Context) -> Vec<Held> {
    let mut all = Vec::new();
    for stream in event_streams(js).await {
        let messages = stored_in(js, &stream, ">").await;
        let events = messages.into_iter().filter(|m| !m.subject.starts_with(CONTROL_PREFIX));
        all.extend(events.map(|message| Held { stream: stream.clone(), message }));
    }
    all
}

/// The messages of all streams as one stream would hold them. An account's keep their order: along
/// the chain of its streams sequences grow.
pub fn as_one(held: &[Held]) -> Vec<Message> {
    let mut messages: Vec<Message> = held.iter().map(Held::as_published).collect();
    messages.sort_by_key(|message| message.sequence);
    for (sequence, message) in (1..).zip(&mut messages) {
        message.sequence = sequence;
    }
    messages
}

/// What all streams hold of an account.
pub async fn held_of(js: &jetstream::Context, account: &str) -> Vec<Message> {
    let (plain, mapped) = (
        format!("botstats.events.{account}.>"),
        format!("{SLOT_PREFIX}{}.{account}.>", Slot::of_token(account)),
    );
    let mut all = Vec::new();
    for stream in event_streams(js).await {
        for subjects in [&plain, &mapped] {
            let messages = stored_in(js, &stream, subjects).await;
            all.extend(messages.into_iter().map(|m| Held { stream: stream.clone(), message: m }));
        }
    }
    as_one(&all)
}

/// The slots that a stream was made for, and the stream that had them before.
async fn lineage(js: &jetstream::Context, stream: &str) -> Lineage {
    stream_info(js, stream).await.expect("the stream").config.lineage().expect("a lineage")
}

/// Checks that each ingest counted each event once: those of its stream's slots, in its stream and
/// those before it.
pub async fn check_chains(js: &jetstream::Context, held: &[Held], ingests: &[IngestStatus]) {
    for ingest in ingests {
        let own = lineage(js, &ingest.stream).await;
        let mut chain = vec![ingest.stream.clone()];
        let mut parent = own.parent;
        while let Some(StreamIdentity { name, .. }) = parent {
            parent = lineage(js, &name).await.parent;
            chain.push(name);
        }
        let of_it = |one: &&Held| chain.contains(&one.stream) && own.slots.contains(one.slot());
        let messages: Vec<Held> = held.iter().filter(of_it).cloned().collect();
        let model = Model::of(&as_one(&messages));
        let count = |verdict| u64::try_from(model.count(verdict)).expect("a count");
        for (name, verdict) in [
            ("accepted", Verdict::Accepted),
            ("duplicate", Verdict::Duplicate),
            ("conflict", Verdict::Conflict),
            ("unknown_type", Verdict::UnknownType),
        ] {
            let got = ingest.events.get(name).copied().unwrap_or_default();
            assert_eq!(got, count(verdict), "{name} of {chain:?} in {ingest:?}");
        }
        // A subject that names no account is counted in the stream that holds it only.
        for rule in [Rule::Envelope, Rule::Data, Rule::Time] {
            let got = ingest.dead_letters.get(rule.name()).copied().unwrap_or_default();
            let wanted = count(Verdict::DeadLetter(rule));
            assert_eq!(got, wanted, "{rule:?} of {chain:?} in {ingest:?}");
        }
        assert_eq!(ingest.dead_letters.get("stray"), None, "{ingest:?}");
    }
}

/// The slots that a stream lists; `None` if there is no such stream or no answer.
pub(super) async fn slots_of(js: &jetstream::Context, stream: &str) -> Option<Slots> {
    Some(stream_info(js, stream).await.ok()?.config.slots())
}

/// True if a stream has the fence that gives slots to that child.
pub(super) async fn has_fence(js: &jetstream::Context, stream: &str, child: &str) -> bool {
    let messages = stored_in(js, stream, &control_subject(stream)).await;
    let ends = |Control::Moved(fence): Control| fence.to.name == child;
    messages.iter().any(|message| Control::decode(&message.payload).is_some_and(ends))
}

/// Checks that every slot is in the list of exactly one stream; gives the slots by stream.
pub async fn slots_by_stream(js: &jetstream::Context) -> BTreeMap<String, Slots> {
    let mut by_stream = BTreeMap::new();
    let mut all = Slots::NONE;
    for name in event_streams(js).await {
        let slots = slots_of(js, &name).await.expect("the stream");
        assert!(all.intersection(slots).is_empty(), "{name} has {slots}, others have {all}");
        all = all.union(slots);
        by_stream.insert(name, slots);
    }
    assert_eq!(all, Slots::ALL);
    by_stream
}
