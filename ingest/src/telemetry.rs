//! This program's metrics: each name said once, with what it means. `docs/monitoring.md` lists them all.
//!
//! What is measured while it works goes through handles that are made once. What is only looked at is looked
//! at when somebody asks: [`Watched::look`].

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use async_nats::Client;
use async_nats::connection::State;
use botstats_common::io::clock::monotonic;
use botstats_common::io::telemetry::{
    Counters, counter, gauge, gauges, info, introduce, recorder, seconds,
};
use metrics::{Counter, Gauge, Histogram};
use parking_lot::Mutex;

use crate::event::Rule;
use crate::shared::Shared;
use crate::store::disk_room;

/// The program's metrics.
pub struct Metrics {
    /// Time to fold and commit one batch.
    pub commit_seconds: Histogram,
    /// Reads by `outcome`.
    pub reads: Counters,
    /// Time from a read's arrival to its answer.
    pub read_seconds: Histogram,
    /// Accounts seen to pass a number of pairs.
    pub accounts_with_many_pairs: Counter,
    /// Damaged files that were set aside.
    pub damaged_stores: Counter,
    /// 1 while the file is damaged and nobody has decided.
    pub store_damaged: Gauge,
    /// How often the store failed and was opened again.
    pub store_failures: Counter,
    /// 1 while the stream is refused.
    pub stream_refused: Gauge,
    /// Settings of the stream by which it may not have every event.
    pub stream_doubts: Gauge,
    sequence: Gauge,
    stream_sequence: Gauge,
    lag_messages: Gauge,
    lag_seconds: Gauge,
    nats_connected: Gauge,
    file_bytes: Gauge,
    file_disk_bytes: Gauge,
    disk_free_bytes: Gauge,
    disk_size_bytes: Gauge,
    /// Filters and the registry.
    memory_bytes: [Gauge; 2],
    pairs: Gauge,
    long_conversations: Gauge,
}

/// The metrics; made when they are first needed.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    commit_seconds: seconds(
        "botstats_ingest_commit_seconds",
        "Time to fold and commit one batch, in seconds",
    ),
    reads: Counters::new(
        "botstats_ingest_reads_total",
        "Reads asked for, by outcome",
        "outcome",
        &["answered", "refused", "too_large", "too_late", "failed", "stopped"],
    ),
    read_seconds: seconds(
        "botstats_ingest_read_seconds",
        "Time from a read's arrival to its answer, in seconds",
    ),
    accounts_with_many_pairs: counter(
        "botstats_ingest_accounts_with_many_pairs_total",
        "Accounts seen to pass 10,000 pairs of bot and channel",
    ),
    damaged_stores: counter(
        "botstats_ingest_damaged_stores_total",
        "Damaged files that were set aside, their state counted anew",
    ),
    store_damaged: gauge(
        "botstats_ingest_store_damaged",
        "1 while the file is damaged and it was not decided what to do, else 0",
    ),
    store_failures: counter(
        "botstats_ingest_store_failures_total",
        "How often the store failed without being damaged (a full disk) and was opened again",
    ),
    stream_refused: gauge(
        "botstats_ingest_stream_refused",
        "1 while the stream is refused, because it is not the one that was counted, else 0",
    ),
    stream_doubts: gauge(
        "botstats_ingest_stream_doubts",
        "Settings of the stream by which it may not have every event; the log says which",
    ),
    sequence: gauge("botstats_ingest_sequence", "Last stream sequence applied: the checkpoint"),
    stream_sequence: gauge(
        "botstats_ingest_stream_sequence",
        "Last sequence of the stream, as far as known",
    ),
    lag_messages: gauge(
        "botstats_ingest_lag_messages",
        "Sequences of the stream that are not applied yet",
    ),
    lag_seconds: gauge(
        "botstats_ingest_lag_seconds",
        "At most so old is the oldest message not applied, in seconds; NaN before the first look",
    ),
    nats_connected: gauge(
        "botstats_nats_connected",
        "1 while the program has its connection to NATS, else 0",
    ),
    file_bytes: gauge("botstats_ingest_file_bytes", "Length of the store's file, in bytes"),
    file_disk_bytes: gauge(
        "botstats_ingest_file_disk_bytes",
        "What the store's file takes on the disk, in bytes",
    ),
    disk_free_bytes: gauge(
        "botstats_ingest_disk_free_bytes",
        "Free for this program on the file system of its folder, in bytes",
    ),
    disk_size_bytes: gauge(
        "botstats_ingest_disk_size_bytes",
        "Size of the file system of its folder, in bytes",
    ),
    memory_bytes: gauges(
        "botstats_ingest_memory_bytes",
        "Memory held beside the page cache: filters of conversations, names of pairs, in bytes",
        "of",
        ["filters", "pairs"],
    ),
    pairs: gauge("botstats_ingest_pairs", "Pairs of bot and channel that ever had an event"),
    long_conversations: gauge(
        "botstats_ingest_long_conversations",
        "Conversations so long that they are not read whole any more",
    ),
});

/// What the state has counted, over all starts.
struct Counted {
    /// Messages by `outcome`.
    events: Counters,
    /// Dead letters by `rule`.
    dead_letters: Counters,
}

/// Made when there is a state: a 0 from before it was read would be taken for a count that began anew, and all that the
/// state has for new.
static COUNTED: LazyLock<Counted> = LazyLock::new(|| Counted {
    events: Counters::new(
        "botstats_ingest_events_total",
        "Messages of the stream by what became of them, since the folder was made",
        "outcome",
        &["accepted", "duplicate", "conflict", "unknown_type", "dead_letter"],
    ),
    dead_letters: Counters::new(
        "botstats_ingest_dead_letters_total",
        "Refused messages by the rule that they broke, since the folder was made",
        "rule",
        &Rule::ALL.map(Rule::name),
    ),
});

/// Has all metrics from the start, but for those that only a state has.
pub fn begin() {
    recorder();
    LazyLock::force(&METRICS);
    METRICS.lag_seconds.set(f64::NAN);
    introduce("ingest", env!("CARGO_PKG_VERSION"));
}

/// What an engine holds in memory beside redb's page cache, which is bounded by a constant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes of the filters of conversations' days and of identities.
    pub filter_bytes: usize,
    /// About the bytes of the names of accounts and pairs.
    pub pair_bytes: usize,
    /// How many pairs there are.
    pub pairs: u32,
    /// How many conversations are long.
    pub long_conversations: usize,
}

/// What is looked at when somebody asks for the metrics. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Watched {
    file: Arc<Path>,
    parts: Arc<Mutex<Parts>>,
}

#[derive(Debug, Default)]
struct Parts {
    client: Option<Client>,
    /// Stays after the store failed: the lag goes on.
    shared: Option<Shared>,
    instance: Option<String>,
}

impl Watched {
    /// Only the store's file, and what is known without it.
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        Self { file: file.into(), parts: Arc::default() }
    }

    /// There is a connection.
    pub fn connection(&self, client: Client) {
        self.change(|parts| parts.client = Some(client));
    }

    /// A store is open; its random id is `instance`.
    pub fn opened(&self, shared: Shared, instance: &str) {
        let name = "botstats_ingest_instance_info";
        let help = "1, with the random id of the store that is in use (0 for one that was)";
        self.change(|parts| {
            parts.shared = Some(shared);
            let before = parts.instance.replace(instance.to_owned());
            if let Some(before) = before.filter(|before| before != instance) {
                metrics::gauge!(name, "id" => before).set(0);
            }
            info(name, help, &[("id", instance.to_owned())]);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Parts)) {
        change(&mut self.parts.lock());
    }

    /// Sets what is looked at only when somebody asks.
    pub fn look(&self) {
        let (mut connected, mut shared) = (false, None);
        self.change(|parts| {
            let state = parts.client.as_ref().map(Client::connection_state);
            connected = state == Some(State::Connected);
            shared = parts.shared.clone();
        });
        METRICS.nats_connected.set(if connected { 1 } else { 0 });
        self.look_at_disk();
        if let Some(shared) = shared {
            look_at(&shared);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
    fn look_at_disk(&self) {
        // Between two files the last values stand. A disk that does not answer keeps the asker waiting.
        if let Ok(room) = disk_room(&self.file) {
            METRICS.file_bytes.set(room.file_bytes as f64);
            METRICS.file_disk_bytes.set(room.file_disk_bytes as f64);
            METRICS.disk_free_bytes.set(room.free_bytes as f64);
            METRICS.disk_size_bytes.set(room.size_bytes as f64);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
fn look_at(shared: &Shared) {
    let (freshness, progress, _) = shared.state();
    for (outcome, n) in progress.by_outcome() {
        COUNTED.events.of(outcome).absolute(n);
    }
    for (rule, n) in progress.dead_letters {
        COUNTED.dead_letters.of(&rule).absolute(n);
    }
    let lag = freshness.last_sequence() - freshness.sequence();
    METRICS.sequence.set(freshness.sequence() as f64);
    METRICS.stream_sequence.set(freshness.last_sequence() as f64);
    METRICS.lag_messages.set(lag as f64);
    let lag_ms = freshness.lag_ms(monotonic());
    METRICS.lag_seconds.set(lag_ms.map_or(f64::NAN, |ms| ms as f64 / 1_000.0));
    let held = shared.held();
    let [filters, pairs] = &METRICS.memory_bytes;
    filters.set(held.filter_bytes as f64);
    pairs.set(held.pair_bytes as f64);
    METRICS.pairs.set(held.pairs);
    METRICS.long_conversations.set(held.long_conversations as f64);
}
