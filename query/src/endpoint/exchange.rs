//! One request and its answer, whoever works it out: what every answer has, and that there is one.
//!
//! *Invariants*: whatever the handler does (fail, panic, not end) there is an answer, and the next
//! request finds nothing broken. A body that panics ends its connection in a reset.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use botstats_common::io::clock::{self, whole_ms};
use bytes::Bytes;
use futures::FutureExt as _;
use http::header::{CONNECTION, EXPECT};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{timeout, timeout_at};

use super::body::Body;
use super::crowd::Presence;
use super::head::{self, HeadSize};
use super::respond;
use crate::problem::Problem;
use crate::question::Methods;

/// The most time for all work before the head of the answer, an answer that is large included.
const CALL_LIMIT: Duration = Duration::from_secs(12);
/// The most time from a request to the last piece of its answer: what a slow reader holds is held no
/// longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30 * 60);
/// A body that nobody asked for is taken up to here, so that the answer can be read, and no further.
const MAX_IGNORED_BODY_BYTES: usize = 64 * 1024;
/// And no longer than this.
const IGNORED_BODY_LIMIT: Duration = Duration::from_millis(500);

/// What works out answers.
pub trait Handler: Send + Sync + 'static {
    /// Answers a request whose head is proper. `began` is when the request was there.
    fn handle(
        &self,
        head: &Parts,
        request_id: &str,
        began: Instant,
    ) -> impl Future<Output = Result<Response<Body>, Problem>> + Send;

    /// The methods that are allowed for that head's path.
    fn methods(&self, head: &Parts) -> Methods;

    /// Counts an answer that took so long.
    fn count(&self, head: &Parts, status: StatusCode, took: Duration);

    /// Adds the headers that every answer to this request has, a refusal too.
    fn dress(&self, head: &Parts, response: &mut Response<Body>);
}

/// Answers a request, whatever happens.
pub async fn answer(
    handler: &impl Handler,
    request: Request<Incoming>,
    size: Option<HeadSize>,
    presence: Presence,
) -> Response<AnswerBody> {
    let began = clock::monotonic();
    presence.answering(true);
    let (head, unwanted) = request.into_parts();
    let request_id = respond::request_id(&head.headers);
    let has_body = !unwanted.is_end_stream();
    // One that asks before it sends its body is answered at once.
    if has_body && !head.headers.contains_key(EXPECT) {
        ignore(unwanted).await;
    }
    let answered = guard(async {
        head::check(&head, size, handler.methods(&head))?;
        handler.handle(&head, &request_id, began).await
    });
    let mut response = answered.await.unwrap_or_else(|problem| {
        if problem == Problem::Internal {
            tracing::error!(request_id, "a call failed by a defect of this program");
        }
        respond::problem(&problem, &request_id)
    });
    handler.dress(&head, &mut response);
    let headers = response.headers_mut();
    respond::insert(headers, respond::X_REQUEST_ID, &request_id);
    if has_body {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let (status, took) = (response.status(), began.elapsed());
    tracing::debug!(request_id, status = status.as_u16(), took_ms = whole_ms(took), "answered");
    handler.count(&head, status, took);
    // The body of an answer to HEAD is never sent.
    let ended = head.method == Method::HEAD;
    let last_moment = began + ANSWER_LIMIT;
    response.map(|body| AnswerBody { body, presence, request_id, last_moment, ended })
}

/// Ends a call that takes too long, and survives one that panics.
async fn guard<T>(call: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    match timeout(CALL_LIMIT, AssertUnwindSafe(call).catch_unwind()).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(_panic)) => Err(Problem::Internal),
        Err(_late) => Err(Problem::Unavailable("the answer took too long")),
    }
}

/// Takes a little of a body that nobody asked for.
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

/// An answer's body, that says when it has come to its end.
#[derive(Debug)]
pub struct AnswerBody {
    body: Body,
    presence: Presence,
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
            tracing::debug!(self.request_id, "an answer was cut off: its reader is too slow");
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        }
        let body = Pin::new(&mut self.body);
        let polled = catch_unwind(AssertUnwindSafe(|| body.poll_frame(context)));
        let Ok(polled) = polled else {
            tracing::error!(self.request_id, "an answer was cut off by a defect of this program");
            return Poll::Ready(Some(Err(io::Error::other("the answer can't be made"))));
        };
        let frame = ready!(polled);
        if let Some(Err(error)) = &frame {
            tracing::error!(self.request_id, "an answer was cut off by a defect: {error}");
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
        // Dropped before its end it leaves the connection as it is: being answered.
        if self.ended || self.body.is_end_stream() {
            self.presence.answering(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_whatever_it_does() {
        assert_eq!(guard(async { Ok(1) }).await, Ok(1));
        assert_eq!(guard::<u8>(async { Err(Problem::NotFound) }).await, Err(Problem::NotFound));
        assert_eq!(guard::<u8>(async { panic!("in a test") }).await, Err(Problem::Internal));
        let late = guard::<u8>(std::future::pending()).await;
        assert!(matches!(late, Err(Problem::Unavailable(_))));
    }
}
