//! This program's metrics, each with its name and meaning. `docs/monitoring.md` lists them all.
//!
//! A call records its metrics through these handles, which are made once. The gauges of the
//! service's state are set when the internal listener is asked: [`crate::app::App::observe`].

use std::sync::LazyLock;

use botstats_common::io::telemetry::{
    Counters, counter, gauge, gauges, introduce, recorder, seconds,
};
use metrics::{Counter, Gauge, Histogram};

use crate::http::ConnectionMetrics;

pub(crate) struct Metrics {
    pub(crate) requests: Counters,
    pub(crate) request_seconds: Histogram,
    pub(crate) health_checks: Counters,
    pub(crate) decisions: Counters,
    pub(crate) bot_decisions: Counters,
    pub(crate) bot_calls_possible: Gauge,
    pub(crate) read_seconds: Histogram,
    pub(crate) failed_reads: Counter,
    pub(crate) absent_slots: Gauge,
    pub(crate) connections: ConnectionMetrics,
    pub(crate) connection_limit: Gauge,
    pub(crate) nats_connected: Gauge,
    /// Of accounts and of bots.
    pub(crate) directory_entries: [Gauge; 2],
    pub(crate) bad_entries: Gauge,
    pub(crate) clock_skew: Gauge,
    pub(crate) calls_at_work: Gauge,
    pub(crate) held_bytes: Gauge,
    pub(crate) most_held_bytes: Gauge,
    pub(crate) page_answers: Counters,
    pub(crate) page_refusals: Counters,
    pub(crate) live_streams: Gauge,
}

/// What a throttle decides about a call.
const DECISIONS: [&str; 5] = ["remembered", "denied", "granted", "off", "unavailable"];

pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    requests: Counters::new(
        "botstats_query_requests_total",
        "HTTP requests answered, by status",
        "status",
        &["200", "429", "401", "403", "400", "404", "503", "405", "406", "431", "500"],
    ),
    request_seconds: seconds(
        "botstats_query_request_seconds",
        "Time from a request's head to its answer's head, in seconds",
    ),
    health_checks: Counters::new(
        "botstats_query_health_checks_total",
        "Answers of /healthz on the public listener, by status; botstats_query_requests_total does not count them",
        "status",
        &["200", "503"],
    ),
    decisions: Counters::new(
        "botstats_query_throttle_decisions_total",
        "Decisions of the throttle of accounts' calls, by decision",
        "decision",
        &DECISIONS,
    ),
    bot_decisions: Counters::new(
        "botstats_query_bot_throttle_decisions_total",
        "Decisions of the throttle of bots' calls, by decision",
        "decision",
        &DECISIONS,
    ),
    bot_calls_possible: gauge(
        "botstats_query_bot_calls_possible",
        "1 while bots' calls can be answered, 0 while their KV bucket is missing or not as it must be",
    ),
    read_seconds: seconds(
        "botstats_query_read_seconds",
        "Time of an answered read over NATS, from the first try to the last chunk, in seconds",
    ),
    failed_reads: counter(
        "botstats_query_failed_reads_total",
        "Reads over NATS that no ingest answered in time",
    ),
    absent_slots: gauge(
        "botstats_query_absent_slots",
        "Slots for which no ingest answered the last ping; 0 where streams have no slots",
    ),
    connections: ConnectionMetrics {
        open: gauge("botstats_query_connections", "Open client connections"),
        refused: counter(
            "botstats_query_refused_connections_total",
            "Connections refused at the limit, because all open ones were being answered",
        ),
        evicted: counter(
            "botstats_query_displaced_connections_total",
            "Idle or stuck connections closed at the limit to make room for new ones",
        ),
    },
    connection_limit: gauge(
        "botstats_query_connections_limit",
        "The most client connections that may be open",
    ),
    nats_connected: gauge(
        "botstats_nats_connected",
        "1 while the program has its connection to NATS, else 0",
    ),
    directory_entries: gauges(
        "botstats_query_directory_entries",
        "Entries of the directory in memory, removed ones included",
        "kind",
        ["account", "bot"],
    ),
    bad_entries: gauge(
        "botstats_query_directory_bad_entries",
        "Directory entries whose newest value cannot be read, or whose secrets another entry has too",
    ),
    clock_skew: gauge(
        "botstats_query_clock_skew_seconds",
        "How far this machine's clock is ahead of the NATS server's, in seconds; NaN before the first comparison",
    ),
    calls_at_work: gauge("botstats_query_calls_at_work", "Calls that are asking NATS now"),
    held_bytes: gauge(
        "botstats_query_answers_held_bytes",
        "Memory for answers that are being made or sent, in bytes",
    ),
    most_held_bytes: gauge(
        "botstats_query_answers_held_limit_bytes",
        "The most memory for answers, in bytes; beyond it calls get 503",
    ),
    page_answers: Counters::new(
        "botstats_query_page_answers_total",
        "Answers to questions of the page and its streams, by how each was had: computed, or shared with an equal question",
        "how",
        &["computed", "shared"],
    ),
    page_refusals: Counters::new(
        "botstats_query_page_refusals_total",
        "Requests of the page refused by one of its limits, by limit",
        "limit",
        &["questions", "computing", "streams"],
    ),
    live_streams: gauge("botstats_query_live_streams", "Open live streams of the page"),
});

/// Makes all metrics, so that each has a value from the start.
pub(crate) fn begin() {
    recorder();
    LazyLock::force(&METRICS);
    introduce("query", env!("CARGO_PKG_VERSION"));
}
