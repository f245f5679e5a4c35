//! The listener: accepts, bounds and closes connections.
//!
//! *Invariants*: connections, heads, waits for a head and for a reader are bounded; whoever opens many
//! connections can't keep others out ([`super::crowd`]); a stop lets calls end, but not for ever.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

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
use uuid::Uuid;

use botstats_common::io::stop::spawn;
use botstats_common::io::{clock, listen};

use super::crowd::{Crowd, Place, Presence};
use super::exchange::{self, Handler};
use super::head::Meter;
use super::patience::{HEAD_LIMIT, Patience};
use super::respond::PROBLEM_JSON;
use super::socket::Socket;
use super::stall::Stall;
use crate::problem::Problem;
use crate::telemetry::METRICS;

/// A reader that takes nothing for that time is closed.
pub const STALL_LIMIT: Duration = Duration::from_secs(30);
/// A stop waits so long for calls that are being answered: what is stopped after it, and a busy machine,
/// need some of the 10 s that supervisors give.
pub const STOP_LIMIT: Duration = Duration::from_secs(8);
/// The most open connections.
const MAX_CONNECTIONS: usize = 8_192;
/// File descriptors that are not for connections: NATS, the internal listener, connections that are
/// about to end.
const OTHER_DESCRIPTORS: usize = 256;
/// What the system holds for a slow reader. Without a limit it grows to megabytes, which is much memory
/// for thousands of them; and as a write goes on only when a third is free, a reader that takes 20 KiB
/// a second would look like one that takes nothing.
const SEND_BUFFER_BYTES: u32 = 256 * 1024;
/// Pause after a failed accept, such as one without a free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Failed accepts are logged no more often.
const ACCEPT_LOG_PAUSE: Duration = Duration::from_secs(10);
/// The most refusals that are being said at the same time; beyond them a connection is just closed.
const MAX_REFUSING: usize = 64;
/// The parser's own limit of a head; another is its 100 fields (one that is set costs two allocations a
/// request). A head beyond them gets a bare 431, one below them but beyond the contract's limits a 431 with
/// a problem. The parser may read twice as much before it refuses; with 24 KiB it never meets its own limit
/// of a path, which is another status.
const PARSER_BYTES: usize = 24 * 1024;

/// Listens at an address. Must be called inside a runtime.
///
/// # Errors
/// If the address cannot be listened on.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    listen::listen(address, |socket| socket.set_send_buffer_size(SEND_BUFFER_BYTES))
}

/// How many connections this process can have, after it has asked for as many file descriptors as it
/// needs and may have.
#[must_use]
pub fn room() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let needed = u64::try_from(MAX_CONNECTIONS + OTHER_DESCRIPTORS).unwrap_or(u64::MAX);
    let mut allowed = current;
    if current.is_some_and(|current| current < needed) {
        let raised = Some(maximum.unwrap_or(needed).min(needed));
        if setrlimit(Resource::Nofile, Rlimit { current: raised, maximum }).is_ok() {
            allowed = raised;
        }
    }
    let room = room_within(allowed);
    if room < MAX_CONNECTIONS {
        tracing::warn!(room, "few file descriptors are allowed: fewer connections than usual");
    }
    room
}

/// The room for connections with so many file descriptors; at least half of them.
fn room_within(descriptors: Option<u64>) -> usize {
    let all = descriptors.and_then(|all| usize::try_from(all).ok()).unwrap_or(usize::MAX);
    all.saturating_sub(OTHER_DESCRIPTORS).max(all / 2).clamp(1, MAX_CONNECTIONS)
}

/// How many connections there may be, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most open connections.
    pub room: usize,
    /// A connection that has been answered is closed when it has been idle for so long.
    pub idle: Duration,
}

/// Serves until the token is cancelled and the calls of that moment are answered.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    handler: Arc<H>,
    limits: Limits,
    stop: CancellationToken,
) {
    let Limits { room, idle } = limits;
    let connections = TaskTracker::new();
    let crowd = Crowd::new(room);
    METRICS.most_connections.set(u32::try_from(room).unwrap_or(u32::MAX));
    let refusing = Arc::new(Semaphore::new(MAX_REFUSING));
    let cut = CancellationToken::new();
    let mut logged = None;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                let now = clock::monotonic();
                if logged.is_none_or(|last| now.duration_since(last) > ACCEPT_LOG_PAUSE) {
                    tracing::warn!("a connection could not be accepted: {error}");
                    logged = Some(now);
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some((place, displaced)) = crowd.enter() else {
            METRICS.refused_connections.increment(1);
            if let Ok(permit) = Arc::clone(&refusing).try_acquire_owned() {
                spawn(connections.track_future(async move {
                    refuse(stream).await;
                    drop(permit);
                }));
            }
            continue;
        };
        if displaced {
            METRICS.displaced_connections.increment(1);
        }
        let (handler, stop, cut) = (Arc::clone(&handler), stop.clone(), cut.clone());
        spawn(connections.track_future(async move {
            let _counted = Counted::new();
            let presence = place.presence();
            tokio::select! {
                () = cut.cancelled() => {}
                () = presence.has_to_go() => {}
                served = connection(stream, handler, &place, idle, stop) => if let Err(error) = served {
                    tracing::debug!("a connection ended: {error}");
                },
            }
        }));
    }
    drop(listener);
    connections.close();
    if timeout(STOP_LIMIT, connections.wait()).await.is_err() {
        tracing::warn!(left = connections.len(), "connections are cut: their readers are too slow");
        cut.cancel();
        connections.wait().await;
    }
}

/// Counts an open connection, until it is dropped.
struct Counted;

impl Counted {
    fn new() -> Self {
        METRICS.connections.increment(1);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        METRICS.connections.decrement(1);
    }
}

async fn connection<H: Handler>(
    stream: TcpStream,
    handler: Arc<H>,
    place: &Place,
    idle: Duration,
    stop: CancellationToken,
) -> Result<(), hyper::Error> {
    let _faster_if_it_works: io::Result<()> = stream.set_nodelay(true);
    let (presence, meter) = (place.presence().clone(), Meter::default());
    let socket = Socket::new(stream, meter.clone(), presence.clone());
    let socket = Patience::new(socket, meter.clone(), presence.clone(), idle);
    let socket = Stall::new(socket, STALL_LIMIT, presence.clone());
    let service = service_fn(move |request| {
        let (handler, presence, size) = (Arc::clone(&handler), presence.clone(), meter.next());
        async move {
            let answer = exchange::answer(&*handler, request, size, presence).await;
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // `Patience` ends every wait for a head before this. But only with a limit of its own does
        // the parser read again after an answer, and so let `Patience` see that the wait has begun.
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

/// Tells a connection for which there is no room to come back.
async fn refuse(stream: TcpStream) {
    let problem = Problem::Unavailable("too many connections");
    // Plain strings and numbers always serialize.
    let request_id = Uuid::now_v7().to_string();
    let body = serde_json::to_string(&problem.body(&request_id)).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: {PROBLEM_JSON}\r\nRetry-After: {}\r\n\
         X-Request-Id: {request_id}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        problem.retry_after_s().unwrap_or_default(),
        body.len()
    );
    let mut socket = Socket::new(stream, Meter::default(), Presence::alone());
    // It fits a new connection's buffer; a client that is gone already misses nothing.
    let _told = socket.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await;
    let _closed = socket.shutdown().await;
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use futures::future::join_all;
    use futures::stream::{self, StreamExt as _};
    use http::{Response, StatusCode};
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};
    use tokio::io::AsyncReadExt as _;

    use super::super::body::{self, Body};
    use super::*;
    use crate::accept::Coding;
    use crate::endpoint::respond;
    use crate::question::Methods;

    #[test]
    fn room_for_connections() {
        for (descriptors, expected) in [
            (None, MAX_CONNECTIONS),
            (Some(u64::MAX), MAX_CONNECTIONS),
            (Some(8_448), MAX_CONNECTIONS),
            (Some(1_024), 768),
            (Some(300), 150),
            (Some(0), 1),
        ] {
            assert_eq!(room_within(descriptors), expected, "{descriptors:?}");
        }
    }

    /// Does what its path says.
    struct Doing;

    impl Handler for Doing {
        async fn handle(
            &self,
            head: &http::request::Parts,
            _request_id: &str,
            _began: Instant,
        ) -> Result<Response<Body>, Problem> {
            let pieces = |pieces: usize, coding| {
                let all = (0..).map(move |n| {
                    assert!(n < pieces, "in a test");
                    vec![b'x'; 100_000]
                });
                respond::with_body(StatusCode::OK, "text/csv", body::pieces(all, coding))
            };
            match head.uri.path() {
                "/panic" => panic!("in a test"),
                "/for-ever" => {
                    let first = Ok::<_, io::Error>(Frame::data(Bytes::from("x")));
                    let pieces = stream::once(async { first }).chain(stream::pending());
                    let body = BodyExt::boxed_unsync(StreamBody::new(pieces));
                    Ok(respond::with_body(StatusCode::OK, "text/plain", body))
                }
                "/panic-first" => Ok(pieces(0, Coding::Identity)),
                "/panic-later" => Ok(pieces(3, Coding::Identity)),
                "/panic-gzip" => Ok(pieces(3, Coding::Gzip)),
                "/panic-zstd" => Ok(pieces(3, Coding::Zstd)),
                _ => Ok(respond::with_body(StatusCode::OK, "text/plain", body::whole("fine"))),
            }
        }

        fn methods(&self, _: &http::request::Parts) -> Methods {
            Methods::Get
        }

        fn count(&self, _: &http::request::Parts, _: StatusCode, _: Duration) {}

        fn dress(&self, _: &http::request::Parts, _: &mut Response<Body>) {}
    }

    async fn start(room: usize) -> (SocketAddr, tokio_util::sync::DropGuard) {
        start_with(room, Duration::from_secs(75)).await
    }

    async fn start_with(room: usize, idle: Duration) -> (SocketAddr, tokio_util::sync::DropGuard) {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let limits = Limits { room, idle };
        spawn(serve(listener, Arc::new(Doing), limits, stop.clone()));
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
            assert!(text.contains("urn:botstats:problem:internal"), "{text}");
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
    async fn those_that_wait_make_room_and_those_at_work_do_not() {
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
            assert!(ended && text.contains("\r\nRetry-After: 2\r\n"), "{text}");
            assert!(text.contains("urn:botstats:problem:unavailable"), "{text}");
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
