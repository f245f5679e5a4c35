//! The live stream: what goes on now, as events (`text/event-stream`).
//!
//! | what happens | the stream |
//! | --- | --- |
//! | rows changed since the last event | sends `event: now`, at most every 2 s |
//! | nothing was sent for 15 s | sends a comment, so that proxies keep it |
//! | the token is revoked or expires, its bots change, the account is removed | ends within 2 s |
//! | an ingest or NATS is away for longer than [`STALE_LIMIT`] | ends: the viewer asks again, and learns what is missing from the problem |
//! | it is 30 min old | ends |
//! | the program stops | ends at once |
//!
//! *Why* it ends when nothing can be read: a stream that only sends comments would look alive while
//! its numbers grow old, and the contract has no event for that.
//!
//! *Why* no task of its own: the connection polls the stream. A reader that takes nothing is not
//! polled, costs nothing, and is closed by the timeout of its write.

use std::sync::Arc;
use std::time::{Duration, Instant};

use botstats_common::io::clock;
use bytes::Bytes;
use futures::stream;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, Response, StatusCode};
use tokio::time::sleep_until;

use super::limits::OpenStream;
use super::now::Now;
use super::viewer::Viewer;
use super::{Dashboard, X_ACCEL_BUFFERING};
use crate::app::App;
use crate::deadlines::WAIT_LIMIT;
use crate::http::{ANSWER_LIMIT, Body, Request, endless};
use crate::problem::Problem;
use crate::respond;
use crate::telemetry::METRICS;

/// The token is checked every 500 ms: with the second in which a change of the directory arrives,
/// the stream ends within the promised 2 s.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The numbers are read every 2 s, and so sent at most every 2 s.
const READ_INTERVAL: Duration = Duration::from_secs(2);
/// A read of a stream is given up after 900 ms, so that the next check comes in time.
const READ_LIMIT: Duration = Duration::from_millis(900);
/// A comment follows 15 s of silence: shorter than the idle timeouts of proxies.
const COMMENT_INTERVAL: Duration = Duration::from_secs(15);
/// A stream without a read for 6 s ends: longer than three reads, shorter than a viewer's patience.
const STALE_LIMIT: Duration = Duration::from_secs(6);
/// A stream ends after 30 min, a moment before the limit of an answer's time would cut it off.
const LIFE: Duration = ANSWER_LIMIT.saturating_sub(Duration::from_secs(2));

const COMMENT: &[u8] = b": \n\n";

impl App {
    pub(super) async fn page_live(
        self: &Arc<Self>,
        page: &Dashboard,
        request: &Request,
    ) -> Result<Response<Body>, Problem> {
        // A stream is never compressed, whatever the client takes.
        let (viewer, ()) =
            Viewer::of(&self.directory.known(), &request.head.headers, |_, _| Ok(()))?;
        page.count(&viewer, request)?;
        let place = page.streams.open(viewer.token(), &viewer.seen.account);
        let place = place.inspect_err(|_| METRICS.page_refusals.count("streams"))?;
        let by = request.began + WAIT_LIMIT;
        let now = self.now(page, &viewer, &request.id, by).await?;
        self.check_again(&viewer)?;
        let live = Live::new(Arc::clone(self), viewer, place, request, &now);
        let events = stream::unfold(live, async |mut live| Some((live.next().await?, live)));
        let mut response = respond::with_body(StatusCode::OK, "text/event-stream", endless(events));
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
        Ok(response)
    }
}

fn event(now: &Now) -> Bytes {
    [b"event: now\ndata: ", &now.json()[..], b"\n\n"].concat().into()
}

struct Live {
    app: Arc<App>,
    /// Who looked when the stream began.
    viewer: Viewer,
    _place: OpenStream,
    request_id: String,
    first: Option<Bytes>,
    /// The rows of the last event.
    rows: Bytes,
    ends: Instant,
    next_check: Instant,
    next_read: Instant,
    last_sent: Instant,
    last_read: Instant,
}

impl Live {
    fn new(app: Arc<App>, viewer: Viewer, place: OpenStream, request: &Request, now: &Now) -> Self {
        let begun = clock::monotonic();
        Self {
            app,
            viewer,
            _place: place,
            request_id: request.id.clone(),
            first: Some(event(now)),
            rows: now.rows.clone(),
            ends: request.began + LIFE,
            next_check: begun + CHECK_INTERVAL,
            next_read: begun + READ_INTERVAL,
            last_sent: begun,
            last_read: begun,
        }
    }

    /// The next bytes; `None` is the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let app = Arc::clone(&self.app);
        let page = app.dashboard.as_ref()?;
        page.stop.run_until_cancelled(self.wait(page)).await.flatten()
    }

    /// Waits until there is something to send; `None` is the end.
    async fn wait(&mut self, page: &Dashboard) -> Option<Bytes> {
        loop {
            sleep_until(self.next_check.into()).await;
            let begun = clock::monotonic();
            self.next_check = begun + CHECK_INTERVAL;
            let viewer = self.viewer_now().filter(|_| begun < self.ends)?;
            if begun >= self.next_read {
                self.next_read = begun + READ_INTERVAL;
                let by = begun + READ_LIMIT;
                match self.app.now(page, &viewer, &self.request_id, by).await {
                    Ok(now) => {
                        // The token may have ended meanwhile.
                        self.viewer_now()?;
                        self.last_read = begun;
                        if now.rows != self.rows {
                            self.rows = now.rows.clone();
                            self.last_sent = begun;
                            return Some(event(&now));
                        }
                        // Nothing is sent, so the next read may come earlier: then streams of equal
                        // viewers read at the same time, and share what one of them reads.
                        self.next_read = self.next_read.min(now.read_at + READ_INTERVAL);
                    }
                    Err(problem) if begun - self.last_read > STALE_LIMIT => {
                        let request_id = &self.request_id;
                        tracing::debug!(request_id, "a live stream ends: {problem:?}");
                        return None;
                    }
                    Err(_) => {}
                }
            }
            if begun - self.last_sent >= COMMENT_INTERVAL {
                self.last_sent = begun;
                return Some(Bytes::from_static(COMMENT));
            }
        }
    }

    /// The viewer by the directory of now, if the token still sees the same.
    fn viewer_now(&self) -> Option<Viewer> {
        let now = self.viewer.again(&self.app.directory.known()).ok()?;
        now.sees_as_much_as(&self.viewer).then_some(now)
    }
}
