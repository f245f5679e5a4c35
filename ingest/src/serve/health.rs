//! Whether reads may be answered: how fresh the statistics are, and whether the stream is refused.
//!
//! *Invariants*: reads are answered only while [`Health::may_answer`] is true.

use std::sync::Arc;
use std::time::Duration;

use botstats_common::io::clock::monotonic;
use botstats_common::io::readiness::Readiness;
use botstats_common::slot::Slots;
use parking_lot::Mutex;

use crate::engine::MemoryUse;
use crate::serve::freshness::Freshness;
use crate::store::{Ownership, Progress, StreamIdentity};
use crate::stream::identity::{Refusal, WHAT_TO_DO};
use crate::stream::info::Observation;
use crate::telemetry::METRICS;

/// What reader, fold and service tell each other. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Health {
    inner: Arc<Mutex<Inner>>,
    readiness: Readiness,
    max_lag: Duration,
}

#[derive(Debug)]
struct Inner {
    freshness: Freshness,
    progress: Progress,
    memory: MemoryUse,
    refused: Option<String>,
    /// The settings of the stream that can keep events from being counted.
    warnings: Vec<String>,
    /// The stream whose identity was checked, and the sequence that must be applied before reads
    /// are answered.
    checked: Option<(StreamIdentity, u64)>,
    /// A stream that was read has slots. A stream with slots never gets rid of them.
    has_slots: bool,
}

/// Which accounts an ingest answers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Served {
    /// The slots of the accounts.
    pub slots: Slots,
    /// Whether reads of a slot have a subject of their own.
    pub by_slot: bool,
}

impl Health {
    /// For a store with that progress. A `max_lag` of zero switches the limit off.
    #[must_use]
    pub fn new(
        progress: Progress,
        memory: MemoryUse,
        readiness: Readiness,
        max_lag: Duration,
    ) -> Self {
        let freshness = progress.checkpoint.as_ref().map_or_else(Freshness::default, |c| {
            Freshness::of(c.sequence, c.stored_ns / 1_000_000)
        });
        let has_slots = progress.ownership != Ownership::default();
        let (refused, warnings, checked) = (None, Vec::new(), None);
        let inner = Inner { freshness, progress, memory, refused, warnings, checked, has_slots };
        Self { inner: Arc::new(Mutex::new(inner)), readiness, max_lag }
    }

    /// The stream is refused: it is not read, and reads are not answered.
    pub(crate) fn refuse(&self, refusal: &Refusal) {
        self.readiness.missing("stream", format!("refused: {refusal}; {WHAT_TO_DO}"));
        METRICS.stream_refused.set(1);
        let mut inner = self.inner.lock();
        inner.refused = Some(refusal.to_string());
        inner.checked = None;
    }

    pub(crate) fn no_stream(&self, why: &str) {
        self.readiness.missing("stream", why.to_owned());
        self.inner.lock().checked = None;
    }

    /// The stream could not be read. A stream that was checked before stays so: the lag shows the
    /// failure.
    pub(crate) fn not_read_yet(&self, why: &str) {
        if self.inner.lock().checked.is_none() {
            self.readiness.missing("stream", why.to_owned());
        }
    }

    /// The stream is the one that was counted.
    pub(crate) fn checked(&self, seen: &Observation) {
        let stream = &seen.state;
        self.readiness.present("stream");
        self.reached();
        METRICS.stream_refused.set(0);
        let mut inner = self.inner.lock();
        inner.refused = None;
        inner.has_slots |= !seen.slots.is_empty();
        // A reconnect to the same stream does not stop reads until the ingest has caught up again.
        if inner.checked.as_ref().is_none_or(|(identity, _)| *identity != stream.identity) {
            inner.checked = Some((stream.identity.clone(), stream.last_sequence));
        }
        inner.freshness.observed(seen.end, seen.asked);
    }

    /// Logs which settings of the stream can keep events from being stored. What is stored is
    /// counted and answered: no event is known to be missing.
    pub(crate) fn check_settings(&self, seen: &Observation) {
        let stream = &seen.state.identity.name;
        METRICS.stream_doubts.set(u32::try_from(seen.findings.len()).unwrap_or(u32::MAX));
        let warnings: Vec<String> = seen.findings.iter().map(|f| f.text.clone()).collect();
        let mut inner = self.inner.lock();
        // The stream is asked twice a second: only a finding that is new is logged.
        for warning in warnings.iter().filter(|warning| !inner.warnings.contains(warning)) {
            tracing::warn!("the stream {stream} may not have every event: {warning}");
        }
        if warnings.is_empty() && !inner.warnings.is_empty() {
            tracing::info!("the settings of the stream {stream} are as they must be again");
        }
        inner.warnings = warnings;
    }

    /// The stream has no messages between these two sequences.
    pub(crate) fn drained(&self, taken: u64, end: u64) {
        self.inner.lock().freshness.drained(taken, end);
    }

    /// JetStream answers.
    pub(crate) fn reached(&self) {
        self.readiness.present("nats");
    }

    /// JetStream does not answer.
    pub(crate) fn unreachable(&self, why: &str) {
        self.readiness.missing("nats", why.to_owned());
    }

    /// The stream was asked again.
    pub(crate) fn observed(&self, seen: &Observation) {
        self.reached();
        self.check_settings(seen);
        let mut inner = self.inner.lock();
        inner.has_slots |= !seen.slots.is_empty();
        if inner.checked.as_ref().is_some_and(|(identity, _)| *identity == seen.state.identity) {
            inner.freshness.observed(seen.end, seen.asked);
        }
    }

    /// A batch was committed.
    pub(crate) fn applied(&self, progress: &Progress, memory: MemoryUse) {
        let mut inner = self.inner.lock();
        if let Some(checkpoint) = &progress.checkpoint {
            inner.freshness.applied(checkpoint.sequence, checkpoint.stored_ns / 1_000_000);
        }
        inner.progress = progress.clone();
        inner.memory = memory;
    }

    /// Up to when (Unix milliseconds, the server's clock) everything is counted, and which accounts
    /// are answered for. Both belong to the same commit: an ingest that answers for a slot has all
    /// events of the slot up to that instant.
    pub(crate) fn served(&self) -> (i64, Served) {
        let inner = self.inner.lock();
        let served = Served { slots: inner.progress.ownership.owned(), by_slot: inner.has_slots };
        (inner.freshness.as_of_ms(), served)
    }

    /// What the engine held in memory after the last commit.
    pub(crate) fn memory_use(&self) -> MemoryUse {
        self.inner.lock().memory
    }

    /// Everything stored up to then (Unix milliseconds, the server's clock) is counted.
    pub(crate) fn as_of_ms(&self) -> i64 {
        self.inner.lock().freshness.as_of_ms()
    }

    /// Freshness, progress, and why the stream is refused.
    pub(crate) fn state(&self) -> (Freshness, Progress, Option<String>) {
        let inner = self.inner.lock();
        (inner.freshness.clone(), inner.progress.clone(), inner.refused.clone())
    }

    /// Whether reads may be answered now; the readiness says why not.
    pub(crate) fn may_answer(&self) -> bool {
        let inner = self.inner.lock();
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
