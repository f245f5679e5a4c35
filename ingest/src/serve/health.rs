//! Whether reads may be answered: how fresh the statistics are, and whether the stream is refused.
//!
//! *Invariants*: reads are answered only while [`Health::may_answer`] is true.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use botstats_common::io::clock::monotonic;
use botstats_common::io::readiness::Readiness;
use botstats_common::slot::Slots;
use parking_lot::Mutex;

use crate::engine::MemoryUse;
use crate::serve::freshness::Freshness;
use crate::store::{Ownership, Progress, StreamIdentity};
use crate::stream::chain::Reading;
use crate::stream::identity::Refusal;
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
    /// The progress as of the last sync.
    synced: Progress,
    memory: MemoryUse,
    refused: Option<String>,
    /// The settings of the stream that can keep events from being counted.
    warnings: Vec<String>,
    checked: Option<Checked>,
    /// The store's slots were compared with those of its stream.
    is_attached: bool,
    /// A stream that was read has slots. A stream with slots never gets rid of them.
    has_slots: bool,
}

/// The stream whose identity was checked.
#[derive(Debug)]
struct Checked {
    /// The store's own stream.
    own: StreamIdentity,
    /// The one that is read: an earlier one of the chain, or the own one.
    read: StreamIdentity,
    /// The first sequence that the stream which is read ever had.
    first: u64,
    /// The sequence that must be applied before reads are answered.
    must_apply: u64,
}

impl Checked {
    /// A sequence as a number of messages of the stream that is read.
    fn messages(&self, sequence: u64) -> u64 {
        (sequence + 1).saturating_sub(self.first)
    }

    /// The name of the stream that is read, if that is not the store's own one.
    fn earlier(&self) -> Option<&str> {
        (self.read.name != self.own.name).then_some(self.read.name.as_str())
    }
}

/// How far the stream that is read is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CatchUp {
    pub applied: u64,
    pub messages: u64,
    /// The name of the stream, if that is not the store's own one.
    pub earlier: Option<String>,
}

impl CatchUp {
    pub(crate) fn percent(&self) -> u64 {
        self.applied * 100 / self.messages.max(1)
    }
}

impl fmt::Display for CatchUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { applied, messages, earlier } = self;
        match earlier {
            None => write!(f, "{applied} of {messages} messages applied"),
            Some(name) => {
                write!(f, "{applied} of {messages} messages of the earlier stream {name} applied")
            }
        }
    }
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
        let inner = Inner {
            freshness,
            synced: progress.clone(),
            progress,
            memory,
            refused: None,
            warnings: Vec::new(),
            checked: None,
            is_attached: false,
            has_slots,
        };
        Self { inner: Arc::new(Mutex::new(inner)), readiness, max_lag }
    }

    /// The stream is refused: it is not read, and reads are not answered.
    pub(crate) fn refuse(&self, refusal: &Refusal) {
        self.readiness.missing("stream", format!("refused: {refusal}; {}", refusal.what_to_do()));
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

    /// The stream is the one that was counted, or the next one of the chain.
    pub(crate) fn checked(&self, seen: &Observation, reading: &Reading) {
        let stream = &seen.state;
        self.readiness.present("stream");
        self.reached();
        METRICS.stream_refused.set(0);
        let mut inner = self.inner.lock();
        inner.refused = None;
        if !inner.is_attached {
            (inner.is_attached, inner.progress.ownership) = (true, reading.ownership);
        }
        inner.has_slots |= !seen.slots.is_empty() || reading.ownership != Ownership::default();
        // A reconnect to the same stream, or the next stream of the chain, does not stop reads
        // until the ingest has caught up again.
        let before = inner.checked.take().filter(|before| before.own == reading.own);
        let must_apply = before.map_or(reading.must_apply, |before| before.must_apply);
        let (own, read, first) = (reading.own.clone(), stream.identity.clone(), seen.first);
        inner.checked = Some(Checked { own, read, first, must_apply });
        let freshness = &mut inner.freshness;
        match reading.passed_fence {
            Some(fence) => freshness.next_stream(fence, first),
            None if freshness.sequence() + 1 < first => {
                freshness.drained(freshness.sequence(), first - 1)
            }
            None => {}
        }
        if let Some(fence) = reading.fence {
            freshness.ends_at(fence);
        }
        freshness.observed(seen.end, seen.asked);
    }

    /// The events go on in the next stream behind the message with this sequence. To be called
    /// before that message is applied.
    pub(crate) fn ends_at(&self, fence: u64) {
        self.inner.lock().freshness.ends_at(fence);
    }

    /// The sequence of the last message applied.
    pub(crate) fn applied_sequence(&self) -> u64 {
        self.inner.lock().progress.checkpoint.as_ref().map_or(0, |c| c.sequence)
    }

    /// The name of the stream that is read, if that is an earlier one of the chain.
    pub(crate) fn reads_earlier(&self) -> Option<String> {
        self.inner.lock().checked.as_ref()?.earlier().map(str::to_owned)
    }

    /// How far the stream that is read is applied.
    pub(crate) fn catch_up(&self) -> CatchUp {
        let inner = self.inner.lock();
        inner.catch_up(inner.freshness.last_sequence())
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
        if inner.checked.as_ref().is_some_and(|checked| checked.read == seen.state.identity) {
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

    /// Everything that was applied is on the disk.
    pub(crate) fn synced(&self) {
        let mut inner = self.inner.lock();
        inner.synced = inner.progress.clone();
    }

    /// The progress as of the last sync: no crash takes it back.
    pub(crate) fn synced_progress(&self) -> Progress {
        self.inner.lock().synced.clone()
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

    /// Freshness, progress, and why the stream is refused.
    pub(crate) fn state(&self) -> (Freshness, Progress, Option<String>) {
        let inner = self.inner.lock();
        (inner.freshness.clone(), inner.progress.clone(), inner.refused.clone())
    }

    /// Whether reads may be answered now; the readiness says why not.
    pub(crate) fn may_answer(&self) -> bool {
        let inner = self.inner.lock();
        let Some(Checked { must_apply, .. }) = inner.checked else { return false };
        if inner.freshness.sequence() < must_apply {
            let behind = inner.catch_up(inner.freshness.within(must_apply));
            self.readiness.missing("catch-up", format!("catching up: {behind}"));
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

impl Inner {
    fn catch_up(&self, last: u64) -> CatchUp {
        let applied = self.freshness.sequence();
        match &self.checked {
            None => CatchUp { applied, messages: last, earlier: None },
            Some(checked) => CatchUp {
                applied: checked.messages(applied),
                messages: checked.messages(last),
                earlier: checked.earlier().map(str::to_owned),
            },
        }
    }
}
