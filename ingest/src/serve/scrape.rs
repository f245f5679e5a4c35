//! What is measured only when somebody asks for the metrics.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_nats::Client;
use async_nats::connection::State;
use botstats_common::io::clock::monotonic;
use botstats_common::io::telemetry::info;
use parking_lot::Mutex;

use crate::serve::health::Health;
use crate::store::disk_usage;
use crate::telemetry::{COUNTED, METRICS};

/// Where the values come from. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    file: Arc<Path>,
    parts: Arc<Mutex<Parts>>,
}

#[derive(Debug, Default)]
struct Parts {
    client: Option<Client>,
    /// Stays after the store failed: the lag goes on.
    health: Option<Health>,
    instance: Option<String>,
}

impl Sources {
    pub(crate) fn new(file: PathBuf) -> Self {
        Self { file: file.into(), parts: Arc::default() }
    }

    pub(crate) fn connected(&self, client: Client) {
        self.parts.lock().client = Some(client);
    }

    /// Takes the random id of a store that was opened.
    pub(crate) fn opened(&self, health: Health, instance: &str) {
        let name = "botstats_ingest_instance_info";
        let help = "1, with the random id of the open store (0 for a store that was open before)";
        let mut parts = self.parts.lock();
        parts.health = Some(health);
        let before = parts.instance.replace(instance.to_owned());
        if let Some(before) = before.filter(|before| before != instance) {
            metrics::gauge!(name, "id" => before).set(0);
        }
        info(name, help, &[("id", instance.to_owned())]);
    }

    /// Sets the gauges and stored counters.
    pub(crate) fn measure(&self) {
        let (state, health) = {
            let parts = self.parts.lock();
            (parts.client.as_ref().map(Client::connection_state), parts.health.clone())
        };
        METRICS.nats_connected.set(if state == Some(State::Connected) { 1 } else { 0 });
        self.measure_disk();
        if let Some(health) = health {
            measure_health(&health);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
    fn measure_disk(&self) {
        // Between two files the last values stand. A disk that does not answer keeps the scrape
        // waiting.
        if let Ok(usage) = disk_usage(&self.file) {
            METRICS.file_bytes.set(usage.file_bytes as f64);
            METRICS.file_disk_bytes.set(usage.file_disk_bytes as f64);
            METRICS.disk_free_bytes.set(usage.free_bytes as f64);
            METRICS.disk_size_bytes.set(usage.size_bytes as f64);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
fn measure_health(health: &Health) {
    // A counter that goes back looks like one that began again.
    let progress = health.synced_progress();
    for (outcome, n) in progress.by_outcome() {
        COUNTED.events.of(outcome).absolute(n);
    }
    for (rule, n) in progress.dead_letters {
        COUNTED.dead_letters.of(&rule).absolute(n);
    }
    let (freshness, ..) = health.state();
    let lag = freshness.last_sequence() - freshness.sequence();
    METRICS.sequence.set(freshness.sequence() as f64);
    METRICS.stream_sequence.set(freshness.last_sequence() as f64);
    METRICS.lag_messages.set(lag as f64);
    let lag_ms = freshness.lag_ms(monotonic());
    METRICS.lag_seconds.set(lag_ms.map_or(f64::NAN, |ms| ms as f64 / 1_000.0));
    let memory = health.memory_use();
    let [filters, pairs] = &METRICS.memory_bytes;
    filters.set(memory.filter_bytes as f64);
    pairs.set(memory.pair_bytes as f64);
    METRICS.pairs.set(memory.pairs);
    METRICS.open_conversations.set(memory.open_conversations as f64);
}
