//! The metrics of a program: the recorder, and the text that Prometheus reads.
//!
//! *Invariants*: no label comes from outside (an account, a bot, a path, an id): labels are words
//! of these programs. A counter exists from the start with 0, because `increase` does not see the
//! first event of a counter that appears with it; a counter that goes on from stored state appears
//! when that state is known. Measured times take no memory that grows: they are put into their
//! buckets every second.
//!
//! *Not here*: the names of each program's metrics; they are in its own `telemetry`. The table of
//! all is in `docs/monitoring.md`.

use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

use super::process;
use super::readiness::Readiness;

/// Upper bounds of the histograms' buckets, in seconds: an answer from memory takes less than the
/// first, a call is given up after 12 s.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// The interval in which measured times are put into their buckets.
const UPKEEP: Duration = Duration::from_secs(1);

/// The metrics of this process; the first call starts collecting them.
///
/// # Panics
/// Never: the bounds are a constant that is not empty.
#[expect(clippy::expect_used, reason = "a constant that is not empty")]
pub fn recorder() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
            .expect("bounds are not empty")
            .build_recorder();
        let handle = recorder.handle();
        // Fails only if a test installed a recorder of its own.
        let _other_recorder = metrics::set_global_recorder(recorder);
        handle
    })
}

/// A counter, from 0.
pub fn counter(name: &'static str, help: &'static str) -> Counter {
    recorder();
    metrics::describe_counter!(name, help);
    metrics::counter!(name)
}

/// A gauge, from 0.
pub fn gauge(name: &'static str, help: &'static str) -> Gauge {
    recorder();
    metrics::describe_gauge!(name, help);
    metrics::gauge!(name)
}

/// A gauge that is always 1 and says something by its labels.
pub fn info(name: &'static str, help: &'static str, labels: &[(&'static str, String)]) {
    recorder();
    metrics::describe_gauge!(name, help);
    metrics::gauge!(name, labels).set(1);
}

/// A histogram of times in seconds.
pub fn seconds(name: &'static str, help: &'static str) -> Histogram {
    recorder();
    metrics::describe_histogram!(name, help);
    metrics::histogram!(name)
}

/// A counter for each value of a label, all from 0.
#[derive(Debug)]
pub struct Counters {
    name: &'static str,
    label: &'static str,
    known: Vec<(&'static str, Counter)>,
}

impl Counters {
    /// Counters for these values.
    pub fn new(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: &[&'static str],
    ) -> Self {
        recorder();
        metrics::describe_counter!(name, help);
        let known = values.iter().map(|value| (*value, metrics::counter!(name, label => *value)));
        Self { name, label, known: known.collect() }
    }

    /// The counter of a value: at once for one that was named, else it is looked up or made.
    pub fn of(&self, value: &str) -> Counter {
        match self.known.iter().find(|(known, _)| *known == value) {
            Some((_, counter)) => counter.clone(),
            None => metrics::counter!(self.name, self.label => value.to_owned()),
        }
    }

    /// Adds one.
    pub fn count(&self, value: &str) {
        self.of(value).increment(1);
    }
}

/// A gauge for each value of a label.
pub fn gauges<const N: usize>(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    values: [&'static str; N],
) -> [Gauge; N] {
    recorder();
    metrics::describe_gauge!(name, help);
    values.map(|value| metrics::gauge!(name, label => value))
}

/// What every program has.
struct Common {
    ready: Gauge,
    lines: Counters,
    dropped_lines: Counter,
    violations: Counters,
}

static COMMON: LazyLock<Common> = LazyLock::new(|| Common {
    ready: gauge("botstats_ready", "1 while /readyz answers 200, else 0"),
    lines: Counters::new(
        "botstats_log_lines_total",
        "Lines logged as warnings and errors",
        "level",
        &["error", "warn"],
    ),
    dropped_lines: counter(
        "botstats_log_dropped_lines_total",
        "Log lines dropped because standard error was not read",
    ),
    violations: Counters::new(
        "botstats_nats_denied_total",
        "Permission violations: publishes and subscriptions that nats-server denied to this program",
        "what",
        &["publish", "subscribe"],
    ),
});

/// Counts a log line.
pub(super) fn logged(level: &str) {
    COMMON.lines.count(level);
}

/// Counts dropped log lines.
pub(super) fn log_lines_dropped(lines: u64) {
    COMMON.dropped_lines.increment(lines);
}

/// Counts a permission violation.
pub(super) fn count_violation(what: &str) {
    COMMON.violations.count(what);
}

/// Sets the metric that names the program and its version.
pub fn introduce(program: &'static str, version: &'static str) {
    let labels = [("program", program.to_owned()), ("version", version.to_owned())];
    info("botstats_build_info", "Always 1, with the program and its version", &labels);
}

/// All metrics, as Prometheus reads them (text format 0.0.4).
#[must_use]
pub fn text(readiness: &Readiness) -> String {
    COMMON.ready.set(if readiness.is_ready() { 1 } else { 0 });
    let mut text = recorder().render();
    process::write(&mut text);
    text
}

/// Puts measured times into their buckets until the token is cancelled. The recorder keeps each
/// time, 24 bytes, until then, so a program that is never scraped would grow for ever.
pub(super) async fn keep(stop: CancellationToken) {
    let recorder = recorder();
    while stop.run_until_cancelled(tokio::time::sleep(UPKEEP)).await.is_some() {
        recorder.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn resident_kib() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn times_that_nobody_asks_for_take_no_memory() {
        const TIMES: u32 = 500_000;
        let histogram = seconds("test_times_seconds", "Times of a test in seconds");
        let stop = CancellationToken::new();
        let kept = super::super::stop::spawn(keep(stop.clone()));
        let mut before = 0;
        for round in 0..12 {
            (0..TIMES).for_each(|_| histogram.record(0.001));
            // The clock is the test's own: this takes no time.
            tokio::time::sleep(2 * UPKEEP).await;
            if round == 1 {
                before = resident_kib();
            }
        }
        // Each round's times have 12 MB.
        let grown = resident_kib().saturating_sub(before);
        assert!(grown < 40_000, "{grown} KiB");
        stop.cancel();
        kept.await.unwrap();
        let text = recorder().render();
        assert!(text.contains("\ntest_times_seconds_bucket{le=\"0.0005\"} 0\n"), "{text}");
        assert!(text.contains("\ntest_times_seconds_bucket{le=\"0.001\"} 6000000\n"), "{text}");
        assert!(text.contains("\ntest_times_seconds_count 6000000\n"), "{text}");
    }

    #[test]
    fn counters_begin_at_0() {
        let counters = Counters::new("test_things_total", "Things of a test", "kind", &["a", "b"]);
        counters.count("b");
        counters.count("c");
        let text = recorder().render();
        for line in ["{kind=\"a\"} 0", "{kind=\"b\"} 1", "{kind=\"c\"} 1"] {
            assert!(text.contains(&format!("\ntest_things_total{line}\n")), "{text}");
        }
    }

    #[test]
    fn ready_or_not() {
        let readiness = Readiness::waiting_for(&["nats"]);
        assert!(text(&readiness).contains("\nbotstats_ready 0\n"));
        readiness.present("nats");
        assert!(text(&readiness).contains("\nbotstats_ready 1\n"));
    }
}
