//! One request and its answer: what every answer has, and that there always is one.
//!
//! *Invariants*: a handler that fails, panics or does not end within its [`guard`] gives an answer,
//! and the next request finds nothing broken. A body that panics ends its connection in a reset.

use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use botstats_common::ids::is_request_id;
use botstats_common::io::clock::{self, whole_ms};
use bytes::Bytes;
use futures::FutureExt as _;
use http::header::{CONNECTION, EXPECT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{timeout, timeout_at};
use uuid::Uuid;

use super::body::Body;
use super::connections::ConnectionState;
use super::head::{self, BadHead, HeadSize, Methods};

/// Names a request in logs, answers and whatever it causes.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// An answer is sent for at most 30 min from its request on: a slow reader holds its memory no
/// longer.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(30 * 60);
/// The most bytes of a request's body that are read and dropped, so that the client reads its
/// answer.
const MAX_IGNORED_BODY_BYTES: usize = 64 * 1024;
/// The longest time for that: the body of a client that is slow is not waited for.
const IGNORED_BODY_LIMIT: Duration = Duration::from_millis(500);

/// A request that has to be answered. Its body is ignored.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: Parts,
    /// The client's own id if it sent a proper one, else a new one.
    pub(crate) id: String,
    /// When the head was there.
    pub(crate) began: Instant,
    /// The address of the other end of the connection: the client's, or its proxy's.
    pub(crate) peer: IpAddr,
    size: Option<HeadSize>,
}

impl Request {
    /// Checks the limits of the head, `Host`, the method and `Transfer-Encoding`.
    ///
    /// # Errors
    /// The first of them that is wrong.
    pub(crate) fn check(&self, methods: Methods) -> Result<(), BadHead> {
        head::check(&self.head, self.size, methods)
    }
}

/// What answers requests.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers a request. What may panic or take long belongs inside [`guard`].
    fn answer(self: &Arc<Self>, request: &Request) -> impl Future<Output = Response<Body>> + Send;

    /// The answer to a connection that is refused at the limit of connections.
    fn refuse_connection(&self, request_id: &str) -> Response<Body>;
}

/// What [`guard`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Panicked,
    TimedOut,
}

/// Ends work that takes longer than `limit`, and survives a panic in it.
pub(crate) async fn guard<T, E: From<Failure>>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match timeout(limit, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(done)) => done,
        Ok(Err(_panic)) => Err(Failure::Panicked.into()),
        Err(_late) => Err(Failure::TimedOut.into()),
    }
}

/// Answers a request.
pub(super) async fn answer(
    handler: &Arc<impl Handler>,
    request: http::Request<Incoming>,
    size: Option<HeadSize>,
    peer: IpAddr,
    state: ConnectionState,
) -> Response<AnswerBody> {
    let began = clock::monotonic();
    state.set_answering(true);
    let (head, unwanted) = request.into_parts();
    let has_body = !unwanted.is_end_stream();
    // A client that asks before it sends its body is answered at once.
    if has_body && !head.headers.contains_key(EXPECT) {
        ignore(unwanted).await;
    }
    let request = Request { id: request_id(&head.headers), head, began, peer, size };
    let mut response = handler.answer(&request).await;
    let Request { id: request_id, head, .. } = request;
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        headers.insert(X_REQUEST_ID, id);
    }
    if has_body {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let (status, took) = (response.status(), began.elapsed());
    tracing::debug!(request_id, status = status.as_u16(), took_ms = whole_ms(took), "answered");
    // The body of an answer to HEAD is never sent.
    let ended = head.method == Method::HEAD;
    let last_moment = began + ANSWER_LIMIT;
    response.map(|body| AnswerBody { body, state, request_id, last_moment, ended })
}

fn request_id(headers: &HeaderMap) -> String {
    let mut given = headers.get_all(X_REQUEST_ID).iter();
    match (given.next().and_then(|value| value.to_str().ok()), given.next()) {
        (Some(id), None) if is_request_id(id) => id.to_owned(),
        _ => new_id(),
    }
}

/// A new id: the time, and a counter that starts at this process' first random number. Not a
/// secret.
///
/// *Why* nothing is drawn for each id: a system call an answer is a tenth of the cost of a refusal.
pub(super) fn new_id() -> String {
    static DRAWN: OnceLock<u128> = OnceLock::new();
    static MADE: AtomicU64 = AtomicU64::new(0);
    let drawn = *DRAWN.get_or_init(|| Uuid::now_v7().as_u128());
    let counted = drawn.wrapping_add(MADE.fetch_add(1, Ordering::Relaxed).into());
    let [.., a, b, c, d, e, f, g, h, i, j] = counted.to_be_bytes();
    let now_ms = u64::try_from(clock::now_ms()).unwrap_or_default();
    let random = [a, b, c, d, e, f, g, h, i, j];
    uuid::Builder::from_unix_timestamp_millis(now_ms, &random).into_uuid().to_string()
}

/// Reads and drops a little of a body.
async fn ignore(mut body: Incoming) {
    let deadline = clock::monotonic() + IGNORED_BODY_LIMIT;
    let mut left = MAX_IGNORED_BODY_BYTES;
    while let Ok(Some(Ok(frame))) = timeout_at(deadline.into(), body.frame()).await {
        let taken = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(taken) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// The body of an answer. It tells the connection's state when it has come to its end.
#[derive(Debug)]
pub(super) struct AnswerBody {
    body: Body,
    state: ConnectionState,
    request_id: String,
    last_moment: Instant,
    ended: bool,
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if clock::monotonic() > self.last_moment {
            tracing::debug!(
                self.request_id,
                "an answer is cut off after 30 min: its reader is too slow"
            );
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        }
        let body = Pin::new(&mut self.body);
        let polled = catch_unwind(AssertUnwindSafe(|| body.poll_frame(context)));
        let Ok(polled) = polled else {
            tracing::error!(
                self.request_id,
                "an answer is cut off: making it panicked, which is a defect of this program"
            );
            return Poll::Ready(Some(Err(io::Error::other("making the answer panicked"))));
        };
        let frame = ready!(polled);
        if let Some(Err(error)) = &frame {
            tracing::error!(
                self.request_id,
                "an answer is cut off by a defect of this program: {error}"
            );
        }
        self.ended |= frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        // A body that is dropped before its end leaves the connection as one that is being
        // answered.
        if self.ended || self.body.is_end_stream() {
            self.state.set_answering(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_ends_whatever_it_does() {
        let limit = Duration::from_secs(12);
        let guarded = async |work| guard::<u8, Failure>(limit, work).await;
        assert_eq!(guarded(std::future::ready(Ok(1)).boxed()).await, Ok(1));
        let panics = async { panic!("in a test") };
        assert_eq!(guarded(panics.boxed()).await, Err(Failure::Panicked));
        assert_eq!(guarded(std::future::pending().boxed()).await, Err(Failure::TimedOut));
    }

    #[test]
    fn request_ids() {
        let longest = "x".repeat(128);
        let too_long = "x".repeat(129);
        for (given, taken) in [
            (&["abc-1._Z"][..], true),
            (&[longest.as_str()], true),
            (&[too_long.as_str()], false),
            (&[""], false),
            (&["a b"], false),
            (&["a", "a"], false),
            (&[], false),
        ] {
            let headers: HeaderMap =
                given.iter().map(|id| (X_REQUEST_ID, id.parse().unwrap())).collect();
            assert_eq!(given.first() == Some(&request_id(&headers).as_str()), taken, "{given:?}");
        }
        let made: BTreeSet<String> = (0..10_000).map(|_| request_id(&HeaderMap::new())).collect();
        assert_eq!(made.len(), 10_000);
        let first = Uuid::parse_str(made.first().unwrap()).unwrap();
        assert_eq!(first.get_version_num(), 7);
    }
}
