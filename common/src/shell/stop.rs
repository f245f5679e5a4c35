//! The stop signal: SIGINT or SIGTERM cancels one token; everything else watches that token. A second
//! signal ends the process at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that a second signal ended: 128 and the signal's number, as shells have it.
const EXIT_INTERRUPTED: i32 = 128 + 2;
/// See [`EXIT_INTERRUPTED`].
const EXIT_TERMINATED: i32 = 128 + 15;

/// Cancels the token at the first SIGINT or SIGTERM, and ends the process at the second. Must be called
/// inside a runtime.
///
/// # Errors
/// If the signal handlers cannot be installed.
pub fn on_signal(token: &CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = token.clone();
    spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => EXIT_INTERRUPTED,
                _ = terminate.recv() => EXIT_TERMINATED,
            }
        };
        next().await;
        tracing::info!("stopping; a second signal ends this at once");
        token.cancel();
        let code = next().await;
        tracing::warn!("ended by a second signal: what was under way is left");
        std::process::exit(code);
    });
    Ok(())
}

/// Starts a task that lives as long as the program or its token; the one place for bare spawns.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub fn spawn<F>(task: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(task)
}
