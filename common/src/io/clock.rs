//! The local clock. No other module reads it.
//!
//! *Invariants*: no count depends on the local clock: events are accepted by the stream's
//! timestamp. The local clock decides only when requests are sent, how long a program waits, and
//! what is shown.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Unix milliseconds now.
#[expect(clippy::disallowed_methods, reason = "the one place that asks the wall clock")]
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A point on the monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the one place that asks the monotonic clock")]
#[must_use]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// A duration in milliseconds, in a type that is a number in a log of JSON objects.
#[must_use]
pub fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An instant as RFC 3339 in UTC with milliseconds, such as `2026-11-20T10:52:00.000Z`.
#[must_use]
pub fn rfc3339_ms(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |t| format!("{t:.3}"))
}
