//! The rebuild: counts the whole stream, and those before it from which it took its slots, into a
//! new store, while no ingest runs in the folder.

use std::time::Duration;

use botstats_common::io::clock::monotonic;
use botstats_common::io::nats::{ConnectError, Role};
use botstats_common::io::readiness::Readiness;
use botstats_common::io::stop::spawn;
use tokio_util::sync::CancellationToken;

use crate::run::{RunError, Running, open, read_and_fold, remove_if_there};
use crate::serve::health::Health;
use crate::settings::Settings;
use crate::store::{Folder, REBUILD_FILE, STORE_FILE, replace};
use crate::stream::info;

/// Pause between two checks whether the end is applied.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Pause between two log lines about the progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Rebuilds the state from the stream, in a second file that then replaces the first.
///
/// # Errors
/// If the folder is in use, or the stream cannot be read to its end; the old file is then
/// untouched.
pub fn rebuild(settings: Settings, stop: CancellationToken) -> Running {
    Box::pin(rebuild_store(settings, stop))
}

async fn rebuild_store(settings: Settings, stop: CancellationToken) -> Result<(), RunError> {
    let folder = Folder::lock(&settings.data)?;
    let (old, new) = (folder.file(STORE_FILE), folder.file(REBUILD_FILE));
    remove_if_there(&new)?;
    let readiness = Readiness::default();
    let client = match settings.nats.connect_when_there(Role::Ingest, &readiness, &stop).await {
        Ok(client) => client,
        Err(ConnectError::Stopped) => return Err(RunError::Rebuild("stopped".to_owned())),
        Err(error) => return Err(RunError::Connect(error)),
    };
    // A missing stream is an error: the old state may be all that is left of its events.
    match info::exists(&settings.nats.jetstream(&client), &settings.stream).await {
        Ok(true) => {}
        Ok(false) => {
            return Err(RunError::Rebuild("there is no stream to rebuild from".to_owned()));
        }
        Err(why) => return Err(RunError::Rebuild(why)),
    }
    let engine = open(&new, settings.service.keep_days).await?;
    let (progress, memory) = (engine.progress().clone(), engine.memory_use());
    let health = Health::new(progress, memory, readiness, Duration::ZERO);
    let done = stop.child_token();
    let watcher = spawn(report(health.clone(), done.clone()));
    let rebuilt = read_and_fold(engine, &settings, &health, &done).await;
    done.cancel();
    let complete = watcher.await.unwrap_or(false);
    drop(rebuilt?);
    if !complete {
        remove_if_there(&new)?;
        let (_, _, refused) = health.state();
        let why = match refused {
            Some(refusal) => format!("the stream is refused: {refusal}"),
            None => "stopped before the end of the stream".to_owned(),
        };
        return Err(RunError::Rebuild(format!("{why}; the old state is unchanged")));
    }
    replace(&new, &old).map_err(|source| RunError::File {
        what: format!("{} could not be replaced", old.display()),
        source,
    })?;
    let (_, progress, _) = health.state();
    tracing::info!(
        accepted = progress.accepted,
        sequence = progress.checkpoint.map_or(0, |c| c.sequence),
        "rebuilt; start `botstats-ingest run` to go on from here"
    );
    Ok(())
}

/// Logs progress, and ends the rebuild once the end that the stream had at the start is applied, or
/// the stream is refused; true if the end is applied. The end is that of the own stream, or of the
/// stream from which the own one will get its slots.
async fn report(health: Health, done: CancellationToken) -> bool {
    let begun = monotonic();
    let mut shown = Duration::ZERO;
    while done.run_until_cancelled(tokio::time::sleep(CHECK_INTERVAL)).await.is_some() {
        let (_, _, refused) = health.state();
        let behind = health.catch_up();
        if health.may_answer() {
            let seconds = begun.elapsed().as_secs_f64();
            tracing::info!("applied {} messages in {seconds:.1} s", behind.applied);
            done.cancel();
            return true;
        }
        // Waiting does not help here: a new store is refused for what the streams are.
        if refused.is_some() {
            done.cancel();
            return false;
        }
        if begun.elapsed() - shown >= PROGRESS_INTERVAL {
            shown = begun.elapsed();
            tracing::info!("{behind} ({}%)", behind.percent());
        }
    }
    false
}
