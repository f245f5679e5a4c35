//! The running ingest: open the store, read the stream, fold, answer.
//!
//! One thread reads and decodes, with a runtime of its own; one folds and commits; a few blocking
//! threads answer reads. Two batches go round between reader and fold: while one is committed the
//! other grows, so commits are small under light load and large under heavy load.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use async_nats::Client;
use botstats_common::io::clock::monotonic;
use botstats_common::io::internal;
use botstats_common::io::listen::listen;
use botstats_common::io::nats::{ConnectError, Role, chain};
use botstats_common::io::readiness::Readiness;
use botstats_common::io::stop::spawn;
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::serve::health::Health;
use crate::serve::scrape;
use crate::serve::service::{self, Context};
use crate::settings::Settings;
use crate::store::{
    DAMAGED_FILE, Folder, OpenError, REBUILD_FILE, STORE_FILE, StoreError, replace,
};
use crate::stream::handover::{FromReader, handover};
use crate::stream::reader::StreamReader;
use crate::telemetry::{self, METRICS};

/// The store is synced at least this often while batches come. A longer interval means more
/// messages to read again after a crash.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// After this time without a batch the store is synced.
const IDLE_SYNC: Duration = Duration::from_millis(100);
/// Pause before the store is opened again after a failure, such as a full disk.
const REOPEN_PAUSE: Duration = Duration::from_secs(2);
/// Pause between two log lines that the store is damaged.
const DAMAGED_REMINDER: Duration = Duration::from_secs(60);
const DAMAGED_WHAT_TO_DO: &str = "no event is counted and no read answered: stop this ingest and run \
     `botstats-ingest rebuild`, or start it with BOTSTATS_REBUILD_DAMAGED=true";

/// Why an ingest ends by itself.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each is")]
pub enum RunError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot listen on {address} (BOTSTATS_INTERNAL_ADDR)")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    /// A setting is wrong: an unreachable server is waited for.
    #[error("cannot connect to NATS")]
    Connect(#[source] ConnectError),
    /// A file, thread or runtime; the text says what failed.
    #[error("{what}")]
    File { what: String, source: std::io::Error },
    #[error("the rebuild failed: {0}")]
    Rebuild(String),
    #[error("{0} ended unexpectedly (a defect of this program)")]
    Ended(&'static str),
}

impl From<StoreError> for RunError {
    fn from(error: StoreError) -> Self {
        Self::Open(error.into())
    }
}

impl RunError {
    /// True if the file is damaged or holds values that do not fit: opening the file again changes
    /// nothing.
    fn is_damage(&self) -> bool {
        let damaged =
            |error: &StoreError| matches!(error, StoreError::Damaged(_) | StoreError::Value { .. });
        matches!(self, Self::Open(OpenError::Store(error)) if damaged(error))
    }
}

/// What a program waits for until it ends.
///
/// Boxed, so that the compiler makes the service's code here, once, and not in each program that
/// runs it.
pub type Running = BoxFuture<'static, Result<(), RunError>>;

/// Runs until told to stop, on the internal listener that is given or on that of the settings.
///
/// # Errors
/// [`RunError`]: what waiting does not mend. It waits until NATS and the stream are there, and,
/// once it has opened its store, for room on the disk.
pub fn run(settings: Settings, internal: Option<TcpListener>, stop: CancellationToken) -> Running {
    Box::pin(serve(settings, internal, stop))
}

async fn serve(
    settings: Settings,
    internal: Option<TcpListener>,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let folder = Folder::lock(&settings.data)?;
    remove_if_there(&folder.file(REBUILD_FILE))?;
    let readiness = Readiness::waiting_for(&["store", "nats", "stream", "reads"]);
    let address = settings.internal_addr;
    telemetry::begin();
    let scraped = scrape::Sources::new(folder.file(STORE_FILE));
    let measured = scraped.clone();
    let listening = async {
        let listener = match internal {
            Some(listener) => listener,
            None => listen(address, |_| Ok(()))?,
        };
        let set_gauges = Arc::new(move || measured.measure());
        internal::serve(listener, readiness.clone(), set_gauges, stop.clone())
    };
    listening.await.map_err(|source| RunError::Listen { address, source })?;
    // The store is opened before the connection to NATS, so that a bad file shows at once.
    let mut engine = match open(&folder.file(STORE_FILE), settings.service.keep_days).await {
        Ok(engine) => {
            tracing::info!(folder = %settings.data.display(), "store open");
            Some(engine)
        }
        Err(error) if error.is_damage() => {
            on_damage(&error, &folder, &settings, &readiness)?;
            None
        }
        Err(error) => return Err(error),
    };
    let client = match settings.nats.connect_when_there(Role::Ingest, &readiness, &stop).await {
        Ok(client) => client,
        Err(ConnectError::Stopped) => return Ok(()),
        Err(error) => return Err(RunError::Connect(error)),
    };
    scraped.connected(client.clone());
    while !stop.is_cancelled() {
        let path = folder.file(STORE_FILE);
        let opened = match engine.take() {
            Some(engine) => Ok(engine),
            None => open(&path, settings.service.keep_days).await,
        };
        let worked = match opened {
            Ok(opened) => {
                readiness.present("store");
                METRICS.store_damaged.set(0);
                let site = Site { settings: &settings, client: &client, scraped: &scraped };
                work(opened, &site, &readiness, &path, &stop).await
            }
            Err(error) => Err(error),
        };
        let Err(error) = worked else { continue };
        if error.is_damage() {
            // The file is not opened again until an operator has decided: it would fail again.
            while !on_damage(&error, &folder, &settings, &readiness)? && !stop.is_cancelled() {
                pause(DAMAGED_REMINDER, &stop).await;
            }
            pause(REOPEN_PAUSE, &stop).await;
        } else {
            let text = chain(&error);
            let then = if stop.is_cancelled() { "ingest stops" } else { "it is opened again" };
            tracing::error!("the store failed, {then}: {text}");
            readiness.missing("store", text);
            METRICS.store_failures.increment(1);
            pause(REOPEN_PAUSE, &stop).await;
        }
    }
    // Sends what is still buffered, and closes the connection.
    let _drained = tokio::time::timeout(Duration::from_secs(1), client.drain()).await;
    tracing::info!("stopped");
    Ok(())
}

async fn pause(time: Duration, stop: &CancellationToken) {
    stop.run_until_cancelled(tokio::time::sleep(time)).await;
}

/// Moves a damaged file aside if BOTSTATS_REBUILD_DAMAGED allows it, over a file that was moved
/// before; else logs what to do. True if the store can be opened again, as a new one.
fn on_damage(
    error: &RunError,
    folder: &Folder,
    settings: &Settings,
    readiness: &Readiness,
) -> Result<bool, RunError> {
    let (file, aside) = (folder.file(STORE_FILE), folder.file(DAMAGED_FILE));
    let what = format!("{}: {}", file.display(), chain(error));
    if !settings.service.rebuild_damaged {
        METRICS.store_damaged.set(1);
        tracing::error!("{what}; {DAMAGED_WHAT_TO_DO}");
        readiness.missing("store", format!("{what}; {DAMAGED_WHAT_TO_DO}"));
        return Ok(false);
    }
    replace(&file, &aside).map_err(|source| RunError::File {
        what: format!("{} could not be moved aside", file.display()),
        source,
    })?;
    METRICS.damaged_stores.increment(1);
    tracing::error!(
        "{what}; the file was moved to {} and may be deleted, the statistics are rebuilt from the stream",
        aside.display()
    );
    readiness.missing("store", format!("{what}; the statistics are rebuilt from the stream"));
    Ok(true)
}

pub(crate) async fn open(path: &Path, keep_days: u32) -> Result<Engine, RunError> {
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || Engine::open_file(&path, keep_days)).await;
    opened.map_err(|_| RunError::Ended("the opening of the store"))?.map_err(RunError::from)
}

/// What stays the same when the store is opened again.
struct Site<'a> {
    settings: &'a Settings,
    client: &'a Client,
    scraped: &'a scrape::Sources,
}

/// Reads, folds and answers with one open engine, until told to stop or the store fails.
async fn work(
    engine: Engine,
    site: &Site<'_>,
    readiness: &Readiness,
    path: &Path,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let (progress, max_lag) = (engine.progress().clone(), site.settings.service.max_lag);
    let health = Health::new(progress, engine.memory_use(), readiness.clone(), max_lag);
    let instance = engine.store().snapshot()?.instance()?;
    site.scraped.opened(health.clone(), &instance);
    // Cancelled by `stop`, or by the failure of the fold or of a read.
    let parts = stop.child_token();
    let context = Context {
        reader: engine.reader(),
        overviews: engine.overviews(),
        store: engine.store().clone(),
        stream: site.settings.stream.clone(),
        health: health.clone(),
        readiness: readiness.clone(),
        instance,
        file: path.to_owned(),
        broken: parts.clone(),
    };
    let store = engine.store().clone();
    let service = spawn(service::run(site.client.clone(), context, parts.clone()));
    let worked = read_and_fold(engine, site.settings, &health, &parts).await;
    parts.cancel();
    if service.await.is_err() {
        return Err(RunError::Ended("the read service"));
    }
    // The first failure of the store is the cause: the errors of the other parts follow from it.
    match store.failure() {
        Some(failure) => Err(failure.into()),
        None => worked.map(|_| ()),
    }
}

/// Reads the stream and folds it, until the token is cancelled; gives the engine back.
pub(crate) async fn read_and_fold(
    engine: Engine,
    settings: &Settings,
    health: &Health,
    stop: &CancellationToken,
) -> Result<Engine, RunError> {
    let (to_fold, from_reader) = handover();
    let checkpoint = engine.progress().checkpoint.clone();
    let reading = stop.child_token();
    // Ends the reader also when the fold panics.
    let _ends_with_this = reading.clone().drop_guard();
    let reader = StreamReader::new(
        settings.nats.clone(),
        settings.stream.clone(),
        checkpoint,
        engine.decoder(),
        to_fold,
        health.clone(),
    );
    let reader = reader.run(reading.clone());
    // A runtime of its own: the connection is served by the thread that takes its messages.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|source| {
            RunError::File {
                what: "the runtime of the reader could not be started".to_owned(),
                source,
            }
        })?;
    let read = thread("reader", move || runtime.block_on(reader))?;
    let health = health.clone();
    let done = thread("fold", move || fold(engine, from_reader, &health))?;
    // The fold ends when the reader has ended, or by an error.
    let folded = done.await.map_err(|_| RunError::Ended("the fold"))?;
    reading.cancel();
    let ended = read.await;
    let engine = folded?;
    // An error here is a panic: reading again would meet the same message again, without a pause.
    ended.map_err(|_| RunError::Ended("the reader"))?;
    Ok(engine)
}

/// Runs `work` in a thread of its own. Its result comes through the channel, unless it panics.
fn thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<oneshot::Receiver<T>, RunError> {
    let (sender, done) = oneshot::channel();
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // The receiver is gone only when the whole ingest ends.
        let _gone = sender.send(work());
    });
    let what = || format!("the thread of the {name} could not be started");
    started.map(|_| done).map_err(|source| RunError::File { what: what(), source })
}

fn fold(mut engine: Engine, batches: FromReader, health: &Health) -> Result<Engine, StoreError> {
    let mut synced_at = monotonic();
    loop {
        let limit = if engine.is_synced() { Duration::MAX } else { IDLE_SYNC };
        let is_due = match batches.receive(limit) {
            Ok(batch) => {
                let begun = monotonic();
                engine.apply_batch(&batch)?;
                METRICS.commit_seconds.record(begun.elapsed().as_secs_f64());
                health.applied(engine.progress(), engine.memory_use());
                batches.applied(batch);
                synced_at.elapsed() >= SYNC_INTERVAL
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        if is_due {
            engine.sync()?;
            synced_at = monotonic();
        }
        if engine.is_synced() {
            health.synced();
        }
    }
    engine.sync()?;
    Ok(engine)
}

pub(crate) fn remove_if_there(path: &Path) -> Result<(), RunError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(RunError::File {
            what: format!("{} could not be removed", path.display()),
            source: error,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::body::BodyError;
    use crate::store::Damage;

    #[test]
    fn what_is_lasting() {
        let of = |error: StoreError| RunError::from(error).is_damage();
        assert!(of(BodyError::Negative.into()));
        assert!(of(Damage("a page".to_owned()).into()));
        assert!(!of(StoreError::Redb(redb::Error::LockPoisoned(std::panic::Location::caller()))));
        assert!(!RunError::Ended("the fold").is_damage());
    }
}
