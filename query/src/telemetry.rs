//! The metrics' names, each said once. No label names an account, a bot or a path.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Requests by `status`.
pub const REQUESTS: &str = "botstats_query_requests_total";
/// Time from a request's head to its answer's head.
pub const REQUEST_SECONDS: &str = "botstats_query_request_seconds";
/// Throttle decisions by `decision`: `granted`, `denied`, `remembered`, `unavailable`, `off`.
pub const DECISIONS: &str = "botstats_query_throttle_decisions_total";
/// Time of a read over NATS, from the first try to the last chunk.
pub const READ_SECONDS: &str = "botstats_query_read_seconds";
/// Directory entries whose newest value cannot be read.
pub const BAD_ENTRIES: &str = "botstats_query_directory_bad_entries";
/// Open client connections.
pub const CONNECTIONS: &str = "botstats_query_connections";
/// Connections refused because there were too many.
pub const REFUSED_CONNECTIONS: &str = "botstats_query_refused_connections_total";
/// Connections closed because others needed their room.
pub const DISPLACED_CONNECTIONS: &str = "botstats_query_displaced_connections_total";
/// Always 1, with the `version`.
const BUILD_INFO: &str = "botstats_build_info";

/// Describes the metrics and sets those that never change.
pub fn describe() {
    describe_counter!(REQUESTS, "HTTP requests by status");
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "Time to the head of the answer");
    describe_counter!(DECISIONS, "What the throttle decided");
    describe_histogram!(READ_SECONDS, Unit::Seconds, "Time of a read over NATS");
    describe_gauge!(BAD_ENTRIES, "Directory entries whose newest value cannot be read");
    describe_gauge!(CONNECTIONS, "Open client connections");
    describe_counter!(REFUSED_CONNECTIONS, "Connections refused because there were too many");
    describe_counter!(
        DISPLACED_CONNECTIONS,
        "Idle or stuck connections closed because others needed their room"
    );
    describe_gauge!(BUILD_INFO, "Version of the program");
    metrics::gauge!(BUILD_INFO, "program" => "query", "version" => env!("CARGO_PKG_VERSION"))
        .set(1);
}

/// Counts a decision of the throttle.
pub fn decided(decision: &'static str) {
    metrics::counter!(DECISIONS, "decision" => decision).increment(1);
}
