//! The page and what it asks: the statistics of a question, what goes on now, and the account, for
//! tokens of accounts and view tokens.
//!
//! | path | | module |
//! | --- | --- | --- |
//! | `/dashboard`, `/dashboard/<hash>/<file>` | the page, without a token | `assets` |
//! | `/dashboard/data/..` | the rows of the account's call | `data` |
//! | `/dashboard/now` | open conversations | `now` |
//! | `/dashboard/live` | the same as a stream of events | `live` |
//! | `/dashboard/account` | names, zone, bots and channels | `account` |
//!
//! Each question meets the modules in this order: `viewer` checks the token, `limits` counts the
//! question, `shared` gives the answer of an equal question or has it computed, and `viewer` checks
//! the token again.
//!
//! *Invariants*: nothing here looks at, uses or waits for the calls of accounts and bots
//! ([`crate::admission::throttle`]). An answer is shared only between viewers that see the same
//! bots. Nothing here writes anywhere.

mod account;
mod assets;
mod data;
mod limits;
mod live;
mod now;
mod shared;
mod viewer;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tokio_util::sync::CancellationToken;

use self::assets::Assets;
use self::data::{DataKey, Rendered};
use self::limits::{Questions, Streams};
use self::now::Now;
use self::shared::Shared;
use self::viewer::{Seen, Viewer};
use crate::admission::allowance::AllowanceKey;
use crate::admission::turns::{Turn, Turns};
use crate::answer::budget::Reservation;
use crate::app::App;
use crate::http::{Body, Coding, Request, whole_in};
use crate::problem::Problem;
use crate::request::route::PagePath;
use crate::respond;
use crate::telemetry::METRICS;

/// The most questions of an account that wait for the one that is computed; more get 503.
const MAX_WAITING: usize = 8;
/// Why a question gets 503 whose account has too many under way.
const BUSY: &str = "too many questions of the account at the same time";

/// What the page's paths share.
#[derive(Debug)]
pub(crate) struct Dashboard {
    assets: Assets,
    /// The value of `Content-Security-Policy`.
    policy: HeaderValue,
    questions: Questions,
    streams: Streams,
    turns: Turns,
    data: Shared<DataKey, Rendered>,
    now: Shared<Seen, Arc<Now>>,
    /// Ends all live streams.
    stop: CancellationToken,
}

impl Dashboard {
    /// The page, which sites of `frame` (sources of frame-ancestors) may show in a frame. Streams
    /// end when `stop` is cancelled.
    pub(crate) fn new(frame: &str, stop: CancellationToken) -> Self {
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors {frame}"
        );
        // The settings allow only sources that fit into a field.
        let safest = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
        Self {
            assets: Assets::new(),
            policy: HeaderValue::from_str(&policy).unwrap_or(safest),
            questions: Questions::default(),
            streams: Streams::default(),
            turns: Turns::new(MAX_WAITING),
            data: Shared::new(data::SHARED_FOR),
            now: Shared::new(now::SHARED_FOR),
            stop,
        }
    }

    /// Adds the fields that every answer at and below `/dashboard` has.
    pub(crate) fn secure(&self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }

    /// Gives back the memory of answers that nobody will share any more.
    pub(crate) fn sweep(&self) {
        self.data.sweep();
        self.now.sweep();
    }

    /// Counts a question of a token from the other end of a connection.
    fn count(&self, viewer: &Viewer, request: &Request) -> Result<(), Problem> {
        self.questions.count(viewer.token(), request.peer, request.began).inspect_err(|_| {
            METRICS.page_refusals.count("questions");
        })
    }

    /// Waits until nothing else is computed for the account.
    async fn turn(&self, seen: &Seen, by: Instant) -> Result<Turn, Problem> {
        self.turns.wait(&AllowanceKey::from(&seen.account), by).await.ok_or_else(|| {
            METRICS.page_refusals.count("computing");
            Problem::Unavailable(BUSY)
        })
    }
}

impl App {
    /// Answers a request at or below `/dashboard`.
    pub(crate) async fn answer_page(
        self: &Arc<Self>,
        page: &Dashboard,
        path: PagePath<'_>,
        request: &Request,
    ) -> Result<Response<Body>, Problem> {
        let headers = &request.head.headers;
        let answered = match path {
            PagePath::Index => return page.assets.index(headers),
            PagePath::Slash => return Ok(assets::without_slash()),
            PagePath::Asset([hash, name]) => return page.assets.file(hash, name, headers),
            // Boxed, as for the calls.
            PagePath::Data(segments) => Box::pin(self.page_data(page, segments, request)).await,
            PagePath::Now => Box::pin(self.page_now(page, request)).await,
            PagePath::Live => Box::pin(self.page_live(page, request)).await,
            PagePath::Account => Box::pin(self.page_account(page, request)).await,
        };
        answered.inspect_err(|problem| {
            let request_id = &request.id;
            match problem {
                // A flood of one account is for the metrics: it must not become a flood of the log.
                Problem::Unavailable(BUSY) => {
                    tracing::debug!(request_id, "the page got 503: {BUSY}");
                }
                Problem::Unavailable(why) => tracing::warn!(request_id, "the page got 503: {why}"),
                _ => {}
            }
        })
    }

    /// A viewer with the token of a request for a path without parameters.
    fn viewer(&self, request: &Request) -> Result<(Viewer, Coding), Problem> {
        let known = self.directory.known();
        Viewer::of(&known, &request.head.headers, |_, _| {
            crate::request::accept::coding(&request.head.headers).map_err(Problem::NotAcceptable)
        })
    }

    /// Checks that a token still grants what it granted when the answer was asked for.
    fn check_again(&self, viewer: &Viewer) -> Result<(), Problem> {
        let now = viewer.again(&self.directory.known())?;
        match now.sees_as_much_as(viewer) {
            true => Ok(()),
            false => Err(Problem::Unavailable("the directory changed meanwhile")),
        }
    }
}

/// Bytes that count as memory of answers until the last reader has them.
struct Held {
    bytes: Vec<u8>,
    _memory: Reservation,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn held(bytes: Vec<u8>, memory: Reservation) -> Bytes {
    Bytes::from_owner(Held { bytes, _memory: memory })
}

/// An answer in JSON that nobody may keep.
fn json(bytes: Bytes, coding: Coding) -> Response<Body> {
    let mut response =
        respond::with_body(StatusCode::OK, "application/json", whole_in(bytes, coding));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    set_coding(headers, coding);
    response
}

fn set_coding(headers: &mut HeaderMap, coding: Coding) {
    if let Some(name) = coding.name() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    }
}

/// Says to proxies that buffer answers that they shall not.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
