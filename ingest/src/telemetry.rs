//! This program's metrics: each name stands here once, with its HELP text. `docs/monitoring.md`
//! lists them all.
//!
//! *Not here*: the gauges that are set only when somebody asks for the metrics
//! ([`crate::serve::scrape`] sets them).

use std::sync::LazyLock;

use botstats_common::io::telemetry::{
    Counters, counter, gauge, gauges, introduce, recorder, seconds,
};
use metrics::{Counter, Gauge, Histogram};

use crate::event::Rule;
use crate::event::registry::MANY_PAIRS;

pub(crate) struct Metrics {
    pub(crate) commit_seconds: Histogram,
    pub(crate) sync_seconds: Histogram,
    /// By `outcome`.
    pub(crate) reads: Counters,
    pub(crate) read_seconds: Histogram,
    pub(crate) accounts_with_many_pairs: Counter,
    pub(crate) damaged_stores: Counter,
    pub(crate) store_damaged: Gauge,
    pub(crate) store_failures: Counter,
    pub(crate) stream_refused: Gauge,
    pub(crate) stream_doubts: Gauge,
    pub(crate) sequence: Gauge,
    pub(crate) stream_sequence: Gauge,
    pub(crate) lag_messages: Gauge,
    pub(crate) lag_seconds: Gauge,
    pub(crate) nats_connected: Gauge,
    pub(crate) file_bytes: Gauge,
    pub(crate) file_disk_bytes: Gauge,
    pub(crate) disk_free_bytes: Gauge,
    pub(crate) disk_size_bytes: Gauge,
    /// Of the filters and of the registry.
    pub(crate) memory_bytes: [Gauge; 2],
    pub(crate) pairs: Gauge,
    pub(crate) open_conversations: Gauge,
}

pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    commit_seconds: seconds(
        "botstats_ingest_commit_seconds",
        "Time to fold and commit one batch, in seconds",
    ),
    sync_seconds: seconds(
        "botstats_ingest_sync_seconds",
        "Time to write the changes of commits to the disk, in seconds",
    ),
    reads: Counters::new(
        "botstats_ingest_reads_total",
        "Reads that were asked for, by outcome",
        "outcome",
        &["answered", "refused", "too_large", "incomplete", "too_late", "failed", "stopped"],
    ),
    read_seconds: seconds(
        "botstats_ingest_read_seconds",
        "Time from a read's arrival to its answer, in seconds",
    ),
    accounts_with_many_pairs: counter(
        "botstats_ingest_accounts_with_many_pairs_total",
        "Accounts that were found to have more than 10,000 pairs of bot and channel",
    ),
    damaged_stores: counter(
        "botstats_ingest_damaged_stores_total",
        "Damaged store files that were set aside; their statistics were rebuilt from the stream",
    ),
    store_damaged: gauge(
        "botstats_ingest_store_damaged",
        "1 while the store's file is damaged and waits for an operator, else 0",
    ),
    store_failures: counter(
        "botstats_ingest_store_failures_total",
        "Failures of the store other than damage, such as a full disk; after each the store is opened again",
    ),
    stream_refused: gauge(
        "botstats_ingest_stream_refused",
        "1 while the stream is refused because it is not the stream that was counted, else 0",
    ),
    stream_doubts: gauge(
        "botstats_ingest_stream_doubts",
        "Settings of the stream that can keep events from being stored; the log names them",
    ),
    sequence: gauge(
        "botstats_ingest_sequence",
        "Sequence of the last message applied: the checkpoint",
    ),
    stream_sequence: gauge(
        "botstats_ingest_stream_sequence",
        "Last sequence of the stream, when it was last asked for",
    ),
    lag_messages: gauge(
        "botstats_ingest_lag_messages",
        "Sequences of the stream that are not applied yet",
    ),
    lag_seconds: gauge(
        "botstats_ingest_lag_seconds",
        "Upper bound for the age of the oldest unapplied message, in seconds; NaN before the stream was first asked",
    ),
    nats_connected: gauge(
        "botstats_nats_connected",
        "1 while the program is connected to NATS, else 0",
    ),
    file_bytes: gauge("botstats_ingest_file_bytes", "Length of the store's file, in bytes"),
    file_disk_bytes: gauge(
        "botstats_ingest_file_disk_bytes",
        "Disk space that the store's file takes, in bytes",
    ),
    disk_free_bytes: gauge(
        "botstats_ingest_disk_free_bytes",
        "Free space for this program on the file system of its folder, in bytes",
    ),
    disk_size_bytes: gauge(
        "botstats_ingest_disk_size_bytes",
        "Size of the file system of its folder, in bytes",
    ),
    memory_bytes: gauges(
        "botstats_ingest_memory_bytes",
        "Memory beside the page cache (filters of conversations, names of pairs), in bytes",
        "of",
        ["filters", "pairs"],
    ),
    pairs: gauge("botstats_ingest_pairs", "Pairs of bot and channel that ever had an event"),
    open_conversations: gauge(
        "botstats_ingest_open_conversations",
        "Conversations that may be open, and some that have ended since they were last searched",
    ),
});

/// Counts that are stored, over all starts of the program.
pub(crate) struct Counted {
    /// Messages by `outcome`.
    pub(crate) events: Counters,
    /// By `rule`.
    pub(crate) dead_letters: Counters,
}

/// Made when a store was read. A 0 before that would look like a counter that starts again, and all
/// that is stored like an increase.
pub(crate) static COUNTED: LazyLock<Counted> = LazyLock::new(|| Counted {
    events: Counters::new(
        "botstats_ingest_events_total",
        "Messages of the stream by outcome, since the folder was made",
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

/// Registers all metrics but those of [`COUNTED`].
pub(crate) fn begin() {
    recorder();
    LazyLock::force(&METRICS);
    METRICS.lag_seconds.set(f64::NAN);
    introduce("ingest", env!("CARGO_PKG_VERSION"));
}

/// Says that an account passes [`MANY_PAIRS`].
pub(crate) fn many_pairs(account: impl std::fmt::Display) {
    METRICS.accounts_with_many_pairs.increment(1);
    tracing::warn!(%account, "an account has more than {MANY_PAIRS} pairs of bot and channel");
}
