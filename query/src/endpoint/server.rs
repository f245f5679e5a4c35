//! The listener: accepts, bounds and closes connections.
//!
//! *Invariants*: connections, heads, waits for a head and for a reader are bounded; a stop lets calls
//! end, but not for ever.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use botstats_common::shell::stop::spawn;

use super::call::App;
use super::stall::Stall;
use crate::telemetry::{CONNECTIONS, REFUSED_CONNECTIONS};

/// A head that is not complete in that time ends its connection, an idle one too.
pub const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// A reader that takes nothing for that time is closed.
pub const STALL_LIMIT: Duration = Duration::from_secs(30);
/// A stop waits so long for calls that are being answered: what is stopped after it, and a busy machine,
/// need some of the 10 s that supervisors give.
pub const STOP_LIMIT: Duration = Duration::from_secs(8);
/// The most open connections.
const MAX_CONNECTIONS: usize = 8_192;
/// Pause after a failed accept, such as one without a free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The parser's own limits: a head beyond them gets a bare 431, one below them but beyond the
/// contract's limits a 431 with a problem.
const PARSER_FIELDS: usize = 256;
const PARSER_BYTES: usize = 64 * 1024;

/// What a connection too many is told.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\n\
    Content-Length: 0\r\nConnection: close\r\n\r\n";

/// Serves until the token is cancelled and the calls of that moment are answered.
pub async fn serve(listener: TcpListener, app: Arc<App>, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&free).try_acquire_owned() else {
            metrics::counter!(REFUSED_CONNECTIONS).increment(1);
            // A full buffer of a new connection is not worth waiting for.
            let _refused = stream.try_write(TOO_MANY);
            continue;
        };
        let (app, stop, cut) = (Arc::clone(&app), stop.clone(), cut.clone());
        let connection = async move {
            metrics::gauge!(CONNECTIONS).increment(1);
            tokio::select! {
                () = cut.cancelled() => {}
                served = connection(stream, app, stop) => if let Err(error) = served {
                    tracing::debug!("a connection ended: {error}");
                },
            }
            metrics::gauge!(CONNECTIONS).decrement(1);
            drop(permit);
        };
        spawn(connections.track_future(connection));
    }
    drop(listener);
    connections.close();
    if timeout(STOP_LIMIT, connections.wait()).await.is_err() {
        tracing::warn!(left = connections.len(), "connections are cut: their readers are too slow");
        cut.cancel();
        connections.wait().await;
    }
}

async fn connection(
    stream: TcpStream,
    app: Arc<App>,
    stop: CancellationToken,
) -> Result<(), hyper::Error> {
    let _faster_if_it_works: io::Result<()> = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let app = Arc::clone(&app);
        async move { Ok::<_, std::convert::Infallible>(app.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_headers(PARSER_FIELDS)
        .max_buf_size(PARSER_BYTES)
        .serve_connection(TokioIo::new(Stall::new(stream, STALL_LIMIT)), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        served = connection.as_mut() => return served,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
