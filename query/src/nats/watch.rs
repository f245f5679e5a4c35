//! Follows the directory's KV bucket and keeps its entries in memory.
//!
//! *Invariants*: the values of each key are applied in order and without a gap; a gap starts a full
//! read. While NATS is away the last directory stays.
//!
//! *Why* a consumer of our own and not a KV watch: a watch of an empty bucket never says that it is
//! complete, and a watch over a restart of the server stalls for many seconds. Here a short
//! heartbeat notices the restart.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use botstats_common::io::logging::RateLimit;
use botstats_common::io::readiness::Readiness;
use botstats_common::io::setup::{self, Shape};
use botstats_common::io::{clock, nats};
use botstats_common::names::{DIRECTORY_BUCKET, bucket_stream};
use botstats_common::rules::CONSUMER_LIFE;
use futures::StreamExt as _;
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Connection, Unreachable, kv};
use crate::admission::clashes::Clash;
use crate::admission::directory::{Change, Directory};

/// The name of this part in the readiness.
pub(crate) const PART: &str = "directory";
/// The messages of one pull request: the entries of a usual directory.
const BATCH: usize = 500;
/// The server sends a heartbeat every second; two seconds of silence are an error.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A reconnection is noticed within 250 ms.
const RECONNECT_POLL: Duration = Duration::from_millis(250);
/// The pause before a full read, so that a bucket that cannot be read costs the server little.
const RESTART_PAUSE: Duration = Duration::from_millis(500);
/// A full read that makes no progress for 10 s starts again.
const LOAD_LIMIT: Duration = Duration::from_secs(10);

/// The directory as it is followed. All clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct LiveDirectory(Arc<RwLock<Known>>);

/// The directory, and whether it can be relied on.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// True once the directory was read in full.
    pub(crate) loaded: bool,
    /// True while the KV bucket has settings by which entries may be missing.
    pub(crate) refused: bool,
    pub(crate) directory: Directory,
    /// Counts the changes of all of this: equal numbers mean the same state.
    pub(crate) generation: u64,
}

impl Known {
    /// Checks that the directory can be relied on.
    ///
    /// # Errors
    /// [`Unreachable`] says why not.
    pub(crate) fn check(&self) -> Result<(), Unreachable> {
        match (self.loaded, self.refused) {
            (false, _) => Err(Unreachable("the directory cannot be reached")),
            (true, true) => Err(Unreachable("the directory is not as it must be")),
            (true, false) => Ok(()),
        }
    }
}

impl LiveDirectory {
    pub(crate) fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read()
    }

    /// Says whether the settings of the KV bucket are refused.
    pub(crate) fn set_refused(&self, refused: bool) {
        if self.known().refused != refused {
            self.change(|known| known.refused = refused);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.0.write();
        change(&mut known);
        known.generation += 1;
    }
}

static ENDED: RateLimit = RateLimit::new();

/// Keeps the directory up to date until the token is cancelled.
pub(crate) async fn follow(
    connection: Connection,
    directory: LiveDirectory,
    readiness: Readiness,
    stop: CancellationToken,
) {
    let logged = BTreeSet::new();
    let mut watch = Watch { connection, directory, readiness, made: false, logged };
    while let Some(ended) = stop.run_until_cancelled(watch.follow()).await {
        watch.readiness.missing(PART, ended.clone());
        if let Some(suppressed) = ENDED.due(&ended) {
            tracing::warn!("the directory is read again in full: {ended}{suppressed}");
        }
        sleep(RESTART_PAUSE).await;
    }
}

struct Watch {
    connection: Connection,
    directory: LiveDirectory,
    readiness: Readiness,
    /// True once the bucket was there. A bucket that went away is not made again in silence.
    made: bool,
    /// The clashes that were logged and are still there: another full read does not log them again.
    logged: BTreeSet<Clash>,
}

impl Watch {
    /// Reads all entries, then follows their changes until something goes wrong; says what.
    async fn follow(&mut self) -> String {
        if !self.connection.is_up() {
            return "no connection to NATS".to_owned();
        }
        if !self.made {
            // One replica: an administrator's `setup` makes more.
            if let Err(error) = setup::directory_bucket(&self.connection.js, Shape::default()).await
            {
                return nats::explain(&error);
            }
            self.made = true;
        }
        match self.read().await {
            Ok(never) => match never {},
            Err(why) => why,
        }
    }

    async fn read(&mut self) -> Result<std::convert::Infallible, String> {
        let statistics = self.connection.client.statistics();
        let connects = statistics.connects.load(Ordering::Relaxed);
        let prefix = format!("$KV.{DIRECTORY_BUCKET}.");
        let stream = self.connection.js.get_stream_no_info(bucket_stream(DIRECTORY_BUCKET));
        let stream = stream.await.map_err(|e| nats::explain(&e))?;
        let consumer = stream.create_consumer(Config {
            ack_policy: AckPolicy::None,
            deliver_policy: DeliverPolicy::All,
            filter_subject: format!("{prefix}>"),
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: CONSUMER_LIFE,
            ..Config::default()
        });
        let no_answer = |_| "the KV bucket botstats_directory did not answer".to_owned();
        let consumer = timeout(nats::REQUEST_TIMEOUT, consumer)
            .await
            .map_err(no_answer)?
            .map_err(|e| format!("KV bucket botstats_directory: {}", nats::explain(&e)))?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(BATCH)
            .heartbeat(HEARTBEAT)
            .expires(CONSUMER_LIFE)
            .messages();
        let mut messages = messages.await.map_err(|e| nats::explain(&e))?;

        // The consumer may be on a server of a cluster that does not have all entries yet.
        let newest = kv::latest(&self.connection.js, DIRECTORY_BUCKET, ">");
        let newest = timeout(nats::REQUEST_TIMEOUT, newest).await.map_err(no_answer)?;
        let newest = newest.map_err(|e| nats::explain(&e))?.map_or(0, |entry| entry.revision);
        let mut loading = Some(Directory::default());
        let mut progress = clock::monotonic();
        if newest == 0 && consumer.cached_info().num_pending == 0 {
            self.install(loading.take().unwrap_or_default());
        }
        let mut expected = 1;
        loop {
            let message = match timeout(RECONNECT_POLL, messages.next()).await {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(error))) => return Err(nats::explain(&error)),
                Ok(None) => return Err("the watch ended".to_owned()),
                Err(_quiet) if statistics.connects.load(Ordering::Relaxed) != connects => {
                    return Err("the connection to NATS was lost and is back".to_owned());
                }
                Err(_quiet) if loading.is_some() && progress.elapsed() > LOAD_LIMIT => {
                    return Err("the full read made no progress for 10 s".to_owned());
                }
                Err(_quiet) => continue,
            };
            let info = message.info().map_err(|e| e.to_string())?;
            if info.consumer_sequence != expected {
                return Err("a change of an entry was missed".to_owned());
            }
            expected += 1;
            progress = clock::monotonic();
            let Some(key) = message.subject.strip_prefix(&prefix) else {
                continue;
            };
            let deleted = message.headers.as_ref().is_some_and(kv::is_tombstone);
            let change = if deleted { Change::Delete } else { Change::Put(&message.payload) };
            if let Some(directory) = &mut loading {
                // Bad values that a later one replaces are of no interest; install() logs the
                // others.
                let _bad = directory.apply(key, change);
                if info.pending == 0 && info.stream_sequence >= newest {
                    self.install(loading.take().unwrap_or_default());
                }
                continue;
            }
            self.directory.change(|known| {
                if let Err(error) = known.directory.apply(key, change) {
                    tracing::error!(key, "a bad directory entry is left out, the last good one stays in force: {error}");
                }
            });
            self.log_clashes();
        }
    }

    fn install(&mut self, mut fresh: Directory) {
        for (key, why) in fresh.bad() {
            tracing::error!(
                key,
                "a bad directory entry is left out, the last good one stays in force: {why}"
            );
        }
        self.directory.change(|known| {
            fresh.keep_last_good(&known.directory);
            known.loaded = true;
            known.directory = fresh;
        });
        self.log_clashes();
        self.readiness.present(PART);
    }

    /// Logs the clashes that are new, and those that are gone.
    fn log_clashes(&mut self) {
        let clashes = self.directory.known().directory.clashes();
        for clash in clashes.difference(&self.logged) {
            tracing::warn!("directory: {clash}");
        }
        for clash in self.logged.difference(&clashes) {
            tracing::info!("directory: this ended: {clash}");
        }
        self.logged = clashes;
    }
}
