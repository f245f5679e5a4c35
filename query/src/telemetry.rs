//! This program's metrics: each name said once, with what it means. `docs/monitoring.md` lists them all.
//!
//! What is measured while a call is answered goes through handles that are made once. What is only looked at
//! is looked at when somebody asks: [`look`].

use std::sync::LazyLock;

use botstats_common::io::telemetry::{
    Counters, counter, gauge, gauges, introduce, recorder, seconds,
};
use metrics::{Counter, Gauge, Histogram};

use crate::endpoint::call::App;

/// The program's metrics.
pub struct Metrics {
    /// Requests by `status`.
    pub requests: Counters,
    /// Time from a request's head to its answer's head.
    pub request_seconds: Histogram,
    /// Checks of load balancers by `status`.
    pub health_checks: Counters,
    /// Throttle decisions by `decision`.
    pub decisions: Counters,
    /// Time of a read over NATS, from the first try to the last chunk.
    pub read_seconds: Histogram,
    /// Reads that had no answer.
    pub failed_reads: Counter,
    /// Open client connections,
    pub connections: Gauge,
    /// and how many there may be.
    pub most_connections: Gauge,
    /// Connections refused because there were too many.
    pub refused_connections: Counter,
    /// Connections closed because others needed their room.
    pub displaced_connections: Counter,
    nats_connected: Gauge,
    /// Accounts and bots.
    directory_entries: [Gauge; 2],
    bad_entries: Gauge,
    clock_skew: Gauge,
    calls_at_work: Gauge,
    held_bytes: Gauge,
    most_held_bytes: Gauge,
}

/// The metrics; made when they are first needed.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    requests: Counters::new(
        "botstats_query_requests_total",
        "HTTP requests answered, by status",
        "status",
        &["200", "429", "401", "400", "404", "503", "405", "406", "431", "500"],
    ),
    request_seconds: seconds(
        "botstats_query_request_seconds",
        "Time from a request's head to its answer's head, in seconds",
    ),
    health_checks: Counters::new(
        "botstats_query_health_checks_total",
        "Answers of /healthz on the public listener, by status; other requests do not count here, nor these there",
        "status",
        &["200", "503"],
    ),
    decisions: Counters::new(
        "botstats_query_throttle_decisions_total",
        "What the throttle decided",
        "decision",
        &["remembered", "denied", "granted", "off", "unavailable"],
    ),
    read_seconds: seconds(
        "botstats_query_read_seconds",
        "Time of an answered read over NATS, from the first try to the last chunk, in seconds",
    ),
    failed_reads: counter(
        "botstats_query_failed_reads_total",
        "Reads over NATS that no ingest answered in time",
    ),
    connections: gauge("botstats_query_connections", "Open client connections"),
    most_connections: gauge(
        "botstats_query_connections_limit",
        "Client connections that there is room for",
    ),
    refused_connections: counter(
        "botstats_query_refused_connections_total",
        "Connections refused because all others were at work",
    ),
    displaced_connections: counter(
        "botstats_query_displaced_connections_total",
        "Idle or stuck connections closed because others needed their room",
    ),
    nats_connected: gauge(
        "botstats_nats_connected",
        "1 while the program has its connection to NATS, else 0",
    ),
    directory_entries: gauges(
        "botstats_query_directory_entries",
        "Entries of the directory in memory, those removed included",
        "kind",
        ["account", "bot"],
    ),
    bad_entries: gauge(
        "botstats_query_directory_bad_entries",
        "Directory entries whose newest value cannot be read, or whose secrets stand twice",
    ),
    clock_skew: gauge(
        "botstats_query_clock_skew_seconds",
        "By how much this machine's clock is ahead of the NATS server's, in seconds; NaN before they were compared",
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
});

/// Has all metrics from the start.
pub fn begin() {
    recorder();
    LazyLock::force(&METRICS);
    introduce("query", env!("CARGO_PKG_VERSION"));
}

/// Counts a decision of the throttle.
pub fn decided(decision: &'static str) {
    METRICS.decisions.count(decision);
}

/// Sets what is looked at only when somebody asks.
#[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
pub fn look(app: &App) {
    let is_up = app.backend.get().is_some_and(|backend| backend.connection.is_up());
    METRICS.nats_connected.set(if is_up { 1 } else { 0 });
    let known = app.directory.known();
    let [accounts, bots] = &METRICS.directory_entries;
    let (account_entries, bot_entries) = known.directory.sizes();
    accounts.set(account_entries as f64);
    bots.set(bot_entries as f64);
    METRICS.bad_entries.set(known.directory.bad_entries() as f64);
    drop(known);
    METRICS.clock_skew.set(app.clocks.skew_s().unwrap_or(f64::NAN));
    METRICS.calls_at_work.set(app.calls_at_work() as f64);
    let (held, most) = app.held_bytes();
    METRICS.held_bytes.set(held as f64);
    METRICS.most_held_bytes.set(most as f64);
}
