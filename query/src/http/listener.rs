//! Accepts connections, up to a limit, and closes them.
//!
//! *Invariants*: a stop lets answers end, but not for ever; a client that opens many connections
//! does not lock out others ([`super::connections`]).

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use botstats_common::io::listen;
use botstats_common::io::logging::RateLimit;
use botstats_common::io::stop::spawn;
use http::Response;
use http_body_util::BodyExt as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::Body;
use super::connections::{ConnectionLimit, ConnectionMetrics, Slot};
use super::head::HeadMeter;
use super::head_timeout::HEAD_LIMIT;
use super::service::{self, Handler, X_REQUEST_ID, new_id};
use super::socket::Socket;

/// The most open connections, if the system allows enough file descriptors.
const MAX_CONNECTIONS: usize = 8_192;
/// File descriptors that are not for connections: NATS, the internal listener, connections that are
/// about to end.
const OTHER_DESCRIPTORS: usize = 256;
/// The send buffer of a connection, in bytes. Without a limit the kernel's buffers of thousands of
/// slow readers grow to megabytes each. A write goes on only when a third of the buffer is free, so
/// with a larger buffer a reader that takes 20 KiB a second would look like one that takes nothing.
const SEND_BUFFER_BYTES: u32 = 256 * 1024;
/// The pause after a failed accept: the cause, such as no free file descriptor, lasts a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The most refusals that are being sent at the same time; beyond them a connection is just closed.
const MAX_REFUSING: usize = 64;
/// hyper's own limit of a head, in bytes; hyper also has one of 100 fields (a limit that is set
/// costs two allocations a request). A head beyond hyper's limits gets a bare 431, one between the
/// contract's limits and hyper's a 431 with a problem. hyper may read twice this size before it
/// refuses; with 24 KiB it never meets its own limit of a path, which has another status.
const PARSER_BYTES: usize = 24 * 1024;

static ACCEPT_FAILED: RateLimit = RateLimit::new();

/// Listens at an address. Must be called inside a runtime.
///
/// # Errors
/// If the address cannot be listened on.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    listen::listen(address, |socket| socket.set_send_buffer_size(SEND_BUFFER_BYTES))
}

/// The number of connections that this process can have. Raises the process' limit of file
/// descriptors first, as far as that is needed and allowed.
pub(crate) fn connection_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let needed = u64::try_from(MAX_CONNECTIONS + OTHER_DESCRIPTORS).unwrap_or(u64::MAX);
    let mut allowed = current;
    if current.is_some_and(|current| current < needed) {
        let raised = Some(maximum.unwrap_or(needed).min(needed));
        if setrlimit(Resource::Nofile, Rlimit { current: raised, maximum }).is_ok() {
            allowed = raised;
        }
    }
    let limit = limit_within(allowed);
    if limit < MAX_CONNECTIONS {
        tracing::warn!(
            limit,
            "the system allows few file descriptors: fewer than {MAX_CONNECTIONS} connections may be open"
        );
    }
    limit
}

/// The limit of connections with this number of file descriptors; at least half of them.
fn limit_within(descriptors: Option<u64>) -> usize {
    let all = descriptors.and_then(|all| usize::try_from(all).ok()).unwrap_or(usize::MAX);
    all.saturating_sub(OTHER_DESCRIPTORS).max(all / 2).clamp(1, MAX_CONNECTIONS)
}

/// The limits of a listener that its caller sets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The most open connections.
    pub(crate) connections: usize,
    /// A connection that has been answered is closed when it has been idle for this time.
    pub(crate) idle: Duration,
    /// A stop waits this long for answers that are being sent.
    pub(crate) stop: Duration,
}

/// Serves until the token is cancelled and the requests of that moment are answered.
pub(crate) async fn serve<H: Handler>(
    listener: TcpListener,
    handler: Arc<H>,
    limits: Limits,
    metrics: ConnectionMetrics,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    let limit = ConnectionLimit::new(limits.connections);
    let refusing = Arc::new(Semaphore::new(MAX_REFUSING));
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            // An IPv4 address has one form, whatever the listener's.
            Ok((stream, peer)) => (stream, peer.ip().to_canonical()),
            Err(error) => {
                if let Some(suppressed) = ACCEPT_FAILED.due(&error.to_string()) {
                    tracing::warn!(
                        "cannot accept a connection, will try again: {error}{suppressed}"
                    );
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some((slot, evicts)) = limit.admit() else {
            metrics.refused.increment(1);
            if let Ok(permit) = Arc::clone(&refusing).try_acquire_owned() {
                let handler = Arc::clone(&handler);
                spawn(connections.track_future(async move {
                    refuse(stream, &*handler).await;
                    drop(permit);
                }));
            }
            continue;
        };
        if evicts {
            metrics.evicted.increment(1);
        }
        let counted = Counted::new(&metrics);
        let (handler, stop, cut) = (Arc::clone(&handler), stop.clone(), cut.clone());
        spawn(connections.track_future(async move {
            let _counted = counted;
            let state = slot.state();
            tokio::select! {
                () = cut.cancelled() => {}
                () = state.evicted() => {}
                served = connection(stream, peer, handler, &slot, limits.idle, stop) => if let Err(error) = served {
                    tracing::debug!("a connection ended: {error}");
                },
            }
        }));
    }
    drop(listener);
    connections.close();
    if timeout(limits.stop, connections.wait()).await.is_err() {
        let left = connections.len();
        tracing::warn!(left, "connections whose readers are too slow are cut off by the stop");
        cut.cancel();
        connections.wait().await;
    }
}

/// Counts an open connection until it is dropped.
struct Counted(metrics::Gauge);

impl Counted {
    fn new(metrics: &ConnectionMetrics) -> Self {
        metrics.open.increment(1);
        Self(metrics.open.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

async fn connection<H: Handler>(
    stream: TcpStream,
    peer: IpAddr,
    handler: Arc<H>,
    slot: &Slot,
    idle: Duration,
    stop: CancellationToken,
) -> Result<(), hyper::Error> {
    let _faster_if_it_works: io::Result<()> = stream.set_nodelay(true);
    let (state, meter) = (slot.state().clone(), HeadMeter::default());
    let socket = Socket::new(stream, meter.clone(), state.clone(), idle);
    let service = service_fn(move |request| {
        let (handler, state, size) = (Arc::clone(&handler), state.clone(), meter.next());
        async move { Ok::<_, Infallible>(service::answer(&handler, request, size, peer, state).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The socket ends every wait for a head before this. But only with a limit of its own does
        // hyper read again after an answer, and so let the socket see that the wait has begun.
        .header_read_timeout(idle + HEAD_LIMIT * 2)
        .max_buf_size(PARSER_BYTES)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        served = connection.as_mut() => return served,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// Answers a connection that is refused. Its request is not waited for.
async fn refuse(stream: TcpStream, handler: &impl Handler) {
    let request_id = new_id();
    let response = handler.refuse_connection(&request_id);
    let Some(bytes) = written(response, &request_id).await else { return };
    let mut socket = Socket::without_slot(stream);
    // The answer fits a new connection's buffer; a client that is gone already misses nothing.
    let _sent = socket.write_all(&bytes).await;
    let _closed = socket.shutdown().await;
}

/// A whole response as bytes of HTTP/1.1, for a connection that ends with it.
async fn written(response: Response<Body>, request_id: &str) -> Option<Vec<u8>> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    let mut bytes = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
    for (name, value) in &head.headers {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    let rest = format!(
        "{X_REQUEST_ID}: {request_id}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    bytes.extend([rest.as_bytes(), &body].concat());
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use botstats_common::io::clock;
    use bytes::Bytes;
    use futures::future::join_all;
    use futures::stream::{self, StreamExt as _};
    use http::StatusCode;
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};
    use tokio::io::AsyncReadExt as _;
    use tokio_util::sync::DropGuard;

    use super::super::body::{self, Coding};
    use super::super::service::{Failure, Request, guard};
    use super::*;

    #[test]
    fn the_limit_of_connections() {
        for (descriptors, expected) in [
            (None, MAX_CONNECTIONS),
            (Some(u64::MAX), MAX_CONNECTIONS),
            (Some(8_448), MAX_CONNECTIONS),
            (Some(1_024), 768),
            (Some(300), 150),
            (Some(0), 1),
        ] {
            assert_eq!(limit_within(descriptors), expected, "{descriptors:?}");
        }
    }

    /// Does what its path says.
    struct Doing;

    fn response(status: u16, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    }

    impl Doing {
        async fn at(path: &str) -> Result<Body, Failure> {
            let pieces = |pieces: usize, coding| {
                let all = (0..).map(move |n| {
                    assert!(n < pieces, "in a test");
                    vec![b'x'; 100_000]
                });
                Ok(body::pieces(all, coding))
            };
            match path {
                "/panic" => panic!("in a test"),
                "/for-ever" => {
                    let first = Ok::<_, io::Error>(Frame::data(Bytes::from("x")));
                    let pieces = stream::once(async { first }).chain(stream::pending());
                    Ok(BodyExt::boxed_unsync(StreamBody::new(pieces)))
                }
                "/panic-first" => pieces(0, Coding::Identity),
                "/panic-later" => pieces(3, Coding::Identity),
                "/panic-gzip" => pieces(3, Coding::Gzip),
                "/panic-zstd" => pieces(3, Coding::Zstd),
                _ => Ok(body::whole("fine")),
            }
        }
    }

    impl Handler for Doing {
        async fn answer(self: &Arc<Self>, request: &Request) -> Response<Body> {
            let work = Doing::at(request.head.uri.path());
            match guard(Duration::from_secs(60), work).await {
                Ok(body) => response(200, body),
                Err(failure) => response(500, body::whole(format!("{failure:?}"))),
            }
        }

        fn refuse_connection(&self, request_id: &str) -> Response<Body> {
            response(503, body::whole(request_id.to_owned()))
        }
    }

    async fn start(connections: usize) -> (SocketAddr, DropGuard) {
        start_with(connections, Duration::from_secs(75)).await
    }

    async fn start_with(connections: usize, idle: Duration) -> (SocketAddr, DropGuard) {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let limits = Limits { connections, idle, stop: Duration::from_secs(8) };
        let metrics = ConnectionMetrics {
            open: metrics::Gauge::noop(),
            refused: metrics::Counter::noop(),
            evicted: metrics::Counter::noop(),
        };
        spawn(serve(listener, Arc::new(Doing), limits, metrics, stop.clone()));
        (address, stop.drop_guard())
    }

    /// What comes back, and whether the connection ended in order.
    async fn exchange(address: SocketAddr, bytes: &str) -> (String, bool) {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(bytes.as_bytes()).await.unwrap();
        rest(socket).await
    }

    async fn rest(mut socket: TcpStream) -> (String, bool) {
        let mut got = Vec::new();
        let ended = socket.read_to_end(&mut got).await.is_ok();
        (String::from_utf8_lossy(&got).into_owned(), ended)
    }

    #[tokio::test]
    async fn a_panic_is_a_500_and_the_connection_goes_on() {
        let (address, _stop) = start(100).await;
        let bytes = "GET /panic HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        for (text, ended) in join_all((0..20).map(|_| exchange(address, bytes))).await {
            assert!(text.starts_with("HTTP/1.1 500 ") && ended, "{text}");
            assert!(text.contains("Panicked"), "{text}");
            assert!(text.ends_with("fine") && text.contains("HTTP/1.1 200"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_panic_in_a_body_never_leaves_a_whole_looking_answer() {
        let (address, _stop) = start(10).await;
        for version in ["HTTP/1.0", "HTTP/1.1"] {
            let asked =
                |path| format!("GET {path} {version}\r\nHost: a\r\nConnection: close\r\n\r\n");
            // The first piece is made before anything is sent.
            let (text, ended) = exchange(address, &asked("/panic-first")).await;
            assert!(text.contains(" 500 ") && ended, "{text}");
            for path in ["/panic-later", "/panic-gzip", "/panic-zstd"] {
                let (text, ended) = exchange(address, &asked(path)).await;
                assert!(!ended, "{path} {version}: an orderly close");
                assert!(!text.ends_with("0\r\n\r\n"), "{path} {version}");
            }
        }
        let (text, ended) = exchange(address, "GET / HTTP/1.0\r\n\r\n").await;
        assert!(text.ends_with("fine") && ended, "{text}");
    }

    #[tokio::test]
    async fn waiting_connections_are_evicted_and_working_ones_are_not() {
        let (address, _stop) = start(3).await;
        let connect = async |bytes: &str| {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(bytes.as_bytes()).await.unwrap();
            socket
        };
        let good = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        // However many hold on to a half head, a good client is served.
        let mut slow = Vec::new();
        for _ in 0..20 {
            slow.push(connect("GET / HT").await);
            let (text, ended) = exchange(address, good).await;
            assert!(text.ends_with("fine") && ended, "{text}");
        }
        let mut served = 0;
        for socket in slow.drain(..17) {
            let (text, ended) = rest(socket).await;
            assert!(text.is_empty() && ended, "{text}");
            served += 1;
        }
        assert_eq!(served, 17);
        drop(slow);
        // All are being answered: the next is told to come back.
        let mut busy = Vec::new();
        for _ in 0..3 {
            busy.push(connect("GET /for-ever HTTP/1.1\r\nHost: a\r\n\r\n").await);
            busy.last().unwrap().readable().await.unwrap();
        }
        for _ in 0..3 {
            let (text, ended) = exchange(address, good).await;
            assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
            // The body of this test's handler is the request's id.
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(ended && head.contains(&format!("\r\nx-request-id: {body}\r\n")), "{text}");
            assert!(head.contains("\r\ncontent-length: 36\r\n"), "{text}");
        }
        busy.pop();
        let again = clock::monotonic() + Duration::from_secs(10);
        while !exchange(address, good).await.0.ends_with("fine") {
            assert!(clock::monotonic() < again, "no room again");
        }
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_after_the_limit_of_the_setting() {
        let idle = Duration::from_millis(1_500);
        let (address, _stop) = start_with(10, idle).await;
        for (name, answers) in [("after one answer", 1), ("after three", 3)] {
            let mut socket = TcpStream::connect(address).await.unwrap();
            for _ in 0..answers {
                socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
                let mut got = Vec::new();
                while !got.ends_with(b"fine") {
                    assert!(socket.read_buf(&mut got).await.unwrap() > 0, "{name}: closed");
                }
            }
            let answered = clock::monotonic();
            let (text, ended) = rest(socket).await;
            assert!(text.is_empty() && ended, "{name}: {text}");
            // Neither at once nor by the parser's own limit, which is 10 s later.
            let took = answered.elapsed();
            assert!(took > idle / 2 && took < idle + HEAD_LIMIT, "{name}: {took:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_sends_too_much_still_reads_its_answer() {
        let (address, _stop) = start(3).await;
        let mut socket = TcpStream::connect(address).await.unwrap();
        let head = "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&[b'x'; 500_000]).await.unwrap();
        let (text, ended) = rest(socket).await;
        assert!(text.ends_with("fine") && ended, "{text}");
    }
}
