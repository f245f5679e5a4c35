//! The stop signals. The first one cancels a token, which all tasks watch; a second one ends the
//! process at once.
//!
//! | signal | at first | while the program stops |
//! | --- | --- | --- |
//! | INT, TERM, QUIT | stops in order | ends it at once |
//! | HUP | stops in order, unless it was ignored when the program started (`nohup`) | nothing: a terminal that closes and systemd's `SendSIGHUP` send one more |
//! | USR1, USR2, ALRM, VTALRM, PROF, IO | nothing | nothing |

use futures::future::BoxFuture;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::logging;

/// The exit code of a process that a signal ended is this plus the signal's number, as in shells.
const EXIT_SIGNALLED: i32 = 128;
/// Signals without a meaning here. They are handled, because each ends a process that does not
/// handle it.
const WITHOUT_MEANING: [Signal; 6] =
    [Signal::USR1, Signal::USR2, Signal::ALARM, Signal::VTALARM, Signal::PROF, Signal::IO];

/// Cancels the token at the first signal that stops a program, and ends the process at the second.
/// Must be called inside a runtime.
///
/// # Errors
/// If the signal handlers cannot be installed.
pub fn on_signal(token: &CancellationToken) -> std::io::Result<()> {
    // Room for the first and the second.
    let (sender, mut arrived) = mpsc::channel(2);
    let mut stops = vec![SignalKind::interrupt(), SignalKind::terminate(), SignalKind::quit()];
    if !is_ignored(SignalKind::hangup()) {
        stops.push(SignalKind::hangup());
    }
    for kind in stops {
        let (mut signals, sender) = (signal(kind)?, sender.clone());
        spawn(
            async move { while signals.recv().await.is_some() && sender.send(kind).await.is_ok() {} },
        );
    }
    for without_meaning in WITHOUT_MEANING {
        // The handler stays when this is dropped.
        drop(signal(SignalKind::from_raw(without_meaning.as_raw()))?);
    }
    let token = token.clone();
    spawn(async move {
        if arrived.recv().await.is_none() {
            return;
        }
        tracing::info!("stopping; a second signal ends this at once");
        token.cancel();
        while let Some(kind) = arrived.recv().await {
            if kind != SignalKind::hangup() {
                tracing::warn!("ended by a second signal: work in progress is not finished");
                logging::flush();
                std::process::exit(EXIT_SIGNALLED + kind.as_raw_value());
            }
        }
    });
    Ok(())
}

/// Whether this process was started with a signal ignored, as `nohup` does; false where there is no
/// `/proc`.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Bit 0 is signal 1.
    mask.is_some_and(|mask| (mask >> (kind.as_raw_value() - 1)) & 1 == 1)
}

/// Starts a task that lives as long as the program or its token; the one place for bare spawns.
/// Boxed, so that the compiler makes tokio's code about a task for each type of result, and not for
/// each task.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let task: BoxFuture<'static, T> = Box::pin(task);
    tokio::spawn(task)
}
