//! What the parts of a running ingest tell each other: how fresh it is, what was counted, whether the
//! stream is refused.
//!
//! *Invariants*: reads are answered only while [`Shared::may_answer`] says so.

use std::sync::Arc;
use std::time::Duration;

use botstats_common::io::clock::monotonic;
use botstats_common::io::internal::Readiness;
use botstats_common::rules::Finding;
use parking_lot::{Mutex, MutexGuard};

use crate::freshness::Freshness;
use crate::identity::{Refusal, WHAT_TO_DO};
use crate::look::Seen;
use crate::store::{Progress, StreamIdentity};
use crate::telemetry::{Held, METRICS};

/// Shared by reader, fold and service. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Shared {
    inner: Arc<Mutex<Inner>>,
    readiness: Readiness,
    max_lag: Duration,
}

#[derive(Debug)]
struct Inner {
    freshness: Freshness,
    progress: Progress,
    held: Held,
    refused: Option<String>,
    /// What about the stream's settings can keep events from being counted.
    doubts: Vec<String>,
    /// The stream that was checked, and the sequence that must be applied before reads are answered.
    checked: Option<(StreamIdentity, u64)>,
}

impl Shared {
    /// For a store with that progress. A `max_lag` of zero switches the limit off.
    #[must_use]
    pub fn new(progress: Progress, held: Held, readiness: Readiness, max_lag: Duration) -> Self {
        let freshness = progress.checkpoint.as_ref().map_or_else(Freshness::default, |c| {
            Freshness::of(c.sequence, c.stored_ns / 1_000_000)
        });
        let (refused, doubts, checked) = (None, Vec::new(), None);
        let inner = Inner { freshness, progress, held, refused, doubts, checked };
        Self { inner: Arc::new(Mutex::new(inner)), readiness, max_lag }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// The stream is not read, and reads are not answered.
    pub fn refuse(&self, refusal: &Refusal) {
        self.readiness.missing("stream", format!("refused: {refusal}; {WHAT_TO_DO}"));
        METRICS.stream_refused.set(1);
        let mut inner = self.lock();
        inner.refused = Some(refusal.to_string());
        inner.checked = None;
    }

    /// There is no stream to read.
    pub fn no_stream(&self, why: &str) {
        self.readiness.missing("stream", why.to_owned());
        self.lock().checked = None;
    }

    /// The stream could not be read. One that was already checked stays so: its lag will tell.
    pub fn not_read_yet(&self, why: &str) {
        if self.lock().checked.is_none() {
            self.readiness.missing("stream", why.to_owned());
        }
    }

    /// The stream is the right one, and was looked at.
    pub(crate) fn checked(&self, seen: &Seen) {
        let stream = &seen.state;
        self.readiness.present("stream");
        self.reached();
        METRICS.stream_refused.set(0);
        let mut inner = self.lock();
        inner.refused = None;
        // What was caught up with once is not waited for again after a mere reconnect.
        if inner.checked.as_ref().is_none_or(|(identity, _)| *identity != stream.identity) {
            inner.checked = Some((stream.identity.clone(), stream.last_sequence));
        }
        inner.freshness.looked(seen.look, seen.asked);
    }

    /// The stream's settings can keep events from being counted, for these reasons. What is there is
    /// counted and answered: nothing is known to be missing.
    pub fn doubt(&self, findings: &[Finding]) {
        let count = u32::try_from(findings.len()).unwrap_or(u32::MAX);
        METRICS.stream_doubts.set(count);
        let doubts: Vec<String> = findings.iter().map(|finding| finding.text.clone()).collect();
        let mut inner = self.lock();
        // At each look they are the same; a line for each that is new.
        for doubt in doubts.iter().filter(|doubt| !inner.doubts.contains(doubt)) {
            tracing::warn!("the stream BOTSTATS_EVENTS may not have every event: {doubt}");
        }
        if doubts.is_empty() && !inner.doubts.is_empty() {
            tracing::info!("the settings of the stream BOTSTATS_EVENTS are as they must be again");
        }
        inner.doubts = doubts;
    }

    /// The stream has no messages between these two sequences.
    pub fn drained(&self, taken: u64, end: u64) {
        self.lock().freshness.drained(taken, end);
    }

    /// JetStream answers.
    pub fn reached(&self) {
        self.readiness.present("nats");
    }

    /// The stream could not be looked at.
    pub fn unreachable(&self, why: &str) {
        self.readiness.missing("nats", why.to_owned());
    }

    /// The stream was looked at again.
    pub(crate) fn looked(&self, seen: &Seen) {
        self.reached();
        self.doubt(&seen.findings);
        let mut inner = self.lock();
        if inner.checked.as_ref().is_some_and(|(identity, _)| *identity == seen.state.identity) {
            inner.freshness.looked(seen.look, seen.asked);
        }
    }

    /// A batch was committed.
    pub fn applied(&self, progress: &Progress, held: Held) {
        let mut inner = self.lock();
        if let Some(checkpoint) = &progress.checkpoint {
            inner.freshness.applied(checkpoint.sequence, checkpoint.stored_ns / 1_000_000);
        }
        inner.progress = progress.clone();
        inner.held = held;
    }

    /// What the engine held in memory after the last commit.
    #[must_use]
    pub fn held(&self) -> Held {
        self.lock().held
    }

    /// Everything stored up to then (Unix milliseconds, the server's clock) is counted.
    #[must_use]
    pub fn as_of_ms(&self) -> i64 {
        self.lock().freshness.as_of_ms()
    }

    /// A copy of freshness, progress and refusal.
    #[must_use]
    pub fn state(&self) -> (Freshness, Progress, Option<String>) {
        let inner = self.lock();
        (inner.freshness.clone(), inner.progress.clone(), inner.refused.clone())
    }

    /// Whether reads may be answered now; says in the readiness why not.
    #[must_use]
    pub fn may_answer(&self) -> bool {
        let inner = self.lock();
        let Some((_, must_apply)) = &inner.checked else { return false };
        let applied = inner.freshness.sequence();
        if applied < *must_apply {
            let behind = format!("catching up: {applied} of {must_apply} messages applied");
            self.readiness.missing("catch-up", behind);
            return false;
        }
        let lag = inner.freshness.lag_ms(monotonic()).unwrap_or(i64::MAX);
        let max = i64::try_from(self.max_lag.as_millis()).unwrap_or(i64::MAX);
        if max > 0 && lag > max {
            self.readiness.missing("catch-up", format!("behind the stream by {} s", lag / 1000));
            return false;
        }
        self.readiness.present("catch-up");
        true
    }
}
