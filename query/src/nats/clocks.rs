//! Whether this machine's clock and the NATS server's agree.
//!
//! *Why*: only this machine's clock says which day and which quarter of an hour it is. With a wrong
//! clock an answer has the wrong groups, or lacks the newest events, and would use up the account's
//! call.
//!
//! *Invariants*: a clock is called wrong only if that is certain. The server reads its clock at
//! some moment between a request and its reply, so half of that time is taken off the difference.
//! Between two comparisons the monotonic clock goes on, so the next call notices a step of this
//! machine's clock.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use botstats_common::io::logging::RateLimit;
use botstats_common::io::readiness::Readiness;
use botstats_common::io::{clock, nats};
use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::entries::DIRECTORY_STREAM;
use super::{Connection, Unreachable};

/// The name of this part in the readiness.
pub(crate) const PART: &str = "clock";
/// The clocks may differ by a minute, in milliseconds. Machines that keep their time by NTP differ
/// by milliseconds; with a clock that is a minute off, one call in fifteen gets the wrong quarter
/// of an hour.
const MAX_SKEW_MS: i64 = 60_000;
/// The pause between two comparisons.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause until the first comparison succeeds: at the start the KV bucket may only just be made.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

static TOO_LARGE: RateLimit = RateLimit::new();

/// A moment by both clocks of this machine.
#[derive(Debug, Clone, Copy)]
struct Moment {
    wall_ms: i64,
    at: Instant,
}

/// The server's clock, which the server read between a request and its reply.
#[derive(Debug, Clone, Copy)]
struct Comparison {
    server_ms: i64,
    asked: Instant,
    answered: Instant,
}

/// By how much this machine's clock is ahead of the server's, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Skew {
    ms: i64,
    /// The most by which the difference may be wrong, either way.
    uncertain_ms: i64,
}

/// The last comparison. All clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clocks(Arc<Mutex<Option<Comparison>>>);

impl Moment {
    fn now() -> Self {
        Self { wall_ms: clock::now_ms(), at: clock::monotonic() }
    }
}

impl Comparison {
    fn skew_at(self, now: Moment) -> Skew {
        let half_ms = ms(self.answered.saturating_duration_since(self.asked)) / 2;
        let since_ms = ms(now.at.saturating_duration_since(self.asked)) - half_ms;
        Skew { ms: now.wall_ms - (self.server_ms + since_ms), uncertain_ms: half_ms }
    }
}

impl Skew {
    /// True if the clocks certainly differ by more than is allowed.
    fn is_too_large(self) -> bool {
        self.ms.saturating_abs() - self.uncertain_ms > MAX_SKEW_MS
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.ms < 0 { "behind" } else { "ahead of" };
        let (s, most_s) = (self.ms.saturating_abs() / 1000, MAX_SKEW_MS / 1000);
        write!(
            f,
            "this machine's clock is {s} s {way} the NATS server's; at most {most_s} s are allowed: correct the one \
             that is wrong"
        )
    }
}

impl Clocks {
    /// Unix milliseconds now, by this machine's clock.
    ///
    /// # Errors
    /// If this clock differs from the server's by too much, or was not compared with it yet.
    pub(crate) fn now_ms(&self) -> Result<i64, Unreachable> {
        let now = Moment::now();
        match self.skew(now) {
            None => Err(Unreachable("the clock has not been compared with the NATS server's yet")),
            Some(skew) if skew.is_too_large() => Err(Unreachable(
                "the clocks of this service and of NATS differ by more than a minute",
            )),
            Some(_) => Ok(now.wall_ms),
        }
    }

    /// By how much this machine's clock is ahead of the server's, in seconds; `None` before they
    /// were compared.
    #[expect(clippy::cast_precision_loss, reason = "for a gauge, which is floating point")]
    pub(crate) fn skew_s(&self) -> Option<f64> {
        self.skew(Moment::now()).map(|skew| skew.ms as f64 / 1000.0)
    }

    fn skew(&self, now: Moment) -> Option<Skew> {
        let compared = *self.0.lock();
        compared.map(|comparison| comparison.skew_at(now))
    }

    async fn compare_with(&self, connection: &Connection) -> Result<(), String> {
        if !connection.is_up() {
            return Err("no connection to NATS".to_owned());
        }
        let asked = clock::monotonic();
        let info = nats::stream_info(&connection.js, DIRECTORY_STREAM).await;
        let server_ms = info.map_err(|error| nats::explain(&error))?.at_ms;
        let comparison = Comparison { server_ms, asked, answered: clock::monotonic() };
        *self.0.lock() = Some(comparison);
        Ok(())
    }
}

/// Compares the clocks until the token is cancelled.
pub(crate) async fn compare(
    connection: Connection,
    clocks: Clocks,
    readiness: Readiness,
    stop: CancellationToken,
) {
    while let Some(compared) = stop.run_until_cancelled(clocks.compare_with(&connection)).await {
        let mut pause = PAUSE;
        match (clocks.skew(Moment::now()), compared) {
            (Some(skew), _) if skew.is_too_large() => {
                if TOO_LARGE.due("").is_some() {
                    tracing::warn!("calls get 503: {skew}");
                }
                readiness.missing(PART, skew.to_string());
            }
            // Another part of the readiness says that the server is away; the last comparison
            // holds.
            (Some(_), _) => readiness.present(PART),
            (None, Err(why)) => {
                readiness.missing(PART, format!("not compared with the NATS server's yet: {why}"));
                pause = FIRST_PAUSE;
            }
            (None, Ok(())) => {}
        }
        sleep(pause).await;
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose monotonic clock begins at `start` when the server's clock shows 1,000,000 s.
    const SERVER_MS: i64 = 1_000_000_000;

    fn comparison(start: Instant, round_trip_ms: u64, read_after_ms: i64) -> Comparison {
        let answered = start + Duration::from_millis(round_trip_ms);
        Comparison { server_ms: SERVER_MS + read_after_ms, asked: start, answered }
    }

    #[test]
    fn only_what_is_certain_counts() {
        let start = clock::monotonic();
        // How far this machine is ahead, how long the server took, when in that time it read its
        // clock.
        for (ahead_ms, round_trip_ms, read_after_ms, too_large) in [
            (0, 2, 1, false),
            (59_990, 2, 1, false),
            (-59_990, 2, 1, false),
            (60_010, 2, 1, true),
            (-60_010, 2, 1, true),
            (16 * 60_000, 2, 1, true),
            (-2 * 86_400_000, 2, 1, true),
            // A slow answer is no skew, whenever in it the clock was read; nor is a program that
            // was frozen.
            (0, 2_000, 0, false),
            (0, 2_000, 2_000, false),
            (59_000, 2_000, 0, false),
            (-59_000, 2_000, 2_000, false),
            (0, 600_000, 0, false),
            (0, 600_000, 600_000, false),
            // A skew that a slow answer can't explain is one.
            (62_100, 2_000, 2_000, true),
            (62_100, 2_000, 0, true),
        ] {
            let compared = comparison(start, round_trip_ms, read_after_ms);
            // At the answer, and a day later without another.
            for later_s in [0, 86_400] {
                let since_ms = round_trip_ms + later_s * 1_000;
                let at = start + Duration::from_millis(since_ms);
                let wall_ms = SERVER_MS + ahead_ms + i64::try_from(since_ms).unwrap();
                let skew = compared.skew_at(Moment { wall_ms, at });
                let case = (ahead_ms, round_trip_ms, read_after_ms, later_s);
                assert_eq!(skew.is_too_large(), too_large, "{case:?}: {skew:?}");
            }
        }
    }

    #[test]
    fn a_step_of_this_machines_clock_is_seen_without_the_server() {
        let start = clock::monotonic();
        let compared = comparison(start, 2, 1);
        let at = |ms: i64, stepped_ms: i64| {
            let at = start + Duration::from_millis(u64::try_from(ms).unwrap());
            compared.skew_at(Moment { wall_ms: SERVER_MS + ms + stepped_ms, at })
        };
        assert_eq!(at(500, 0), Skew { ms: 0, uncertain_ms: 1 });
        assert!(at(501, 3_600_000).is_too_large() && at(501, -61_000).is_too_large());
        assert!(!at(502, 0).is_too_large());
    }

    #[test]
    fn it_says_which_way_they_differ() {
        let text = |ms| Skew { ms, uncertain_ms: 0 }.to_string();
        assert!(
            text(-960_400).starts_with("this machine's clock is 960 s behind the NATS server's;")
        );
        assert!(text(10_800_000).starts_with("this machine's clock is 10800 s ahead of the NATS"));
    }

    #[test]
    fn without_a_comparison_there_is_no_now() {
        let clocks = Clocks::default();
        assert!(clocks.now_ms().is_err() && clocks.skew_s().is_none());
    }
}
