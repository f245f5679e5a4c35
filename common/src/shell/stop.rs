//! The stop signal: SIGINT or SIGTERM cancels one token; everything else watches that token.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels the token at the first SIGINT or SIGTERM. Must be called inside a runtime.
///
/// # Errors
/// If the signal handlers cannot be installed.
pub fn on_signal(token: &CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = token.clone();
    spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping");
        token.cancel();
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
