//! One request, from its head to its answer.
//!
//! The order is the contract's: token, parameters, `Accept`, account and key, the used call, then
//! what needs NATS; the claim comes last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use botstats_common::io::clock;
use futures::future::maybe_done;
use http::{Response, StatusCode};

use crate::admission::checks::{Allowed, Call, Endpoint};
use crate::answer::render::Rendering;
use crate::answer::{Labels, MAX_ROWS, Names};
use crate::app::{App, Backend};
use crate::deadlines::{CHECK_AGE_LIMIT, HANDLER_LIMIT, LATE_CLAIM_LIMIT, WAIT_LIMIT};
use crate::gather::{Statistics, Subject};
use crate::http::{Body, Handler, Request, guard, pieces, whole};
use crate::openapi;
use crate::problem::{Problem, TooLarge};
use crate::request::route::Route;
use crate::respond;
use crate::telemetry::METRICS;

impl Handler for App {
    async fn answer(self: &Arc<Self>, request: &Request) -> Response<Body> {
        let page = self.dashboard.as_ref();
        let route = match Route::of(request.head.uri.path()) {
            Route::Page(_) if page.is_none() => Route::Unknown,
            route => route,
        };
        let answered = guard(HANDLER_LIMIT, async {
            request.check(route.methods())?;
            self.answer_at(route, request).await
        });
        let request_id = &request.id;
        let mut response = answered.await.unwrap_or_else(|problem| {
            if problem == Problem::Internal {
                tracing::error!(request_id, "a call got 500 by a defect of this program");
            }
            respond::problem(&problem, request_id)
        });
        match (route, page) {
            (Route::Statistics(_) | Route::BotStatistics(_), _) => {
                respond::vary(response.headers_mut());
            }
            (Route::Page(path), Some(page)) => {
                if !path.is_public() {
                    respond::vary(response.headers_mut());
                }
                page.secure(response.headers_mut());
            }
            _ => {}
        }
        count(route, response.status(), request.began.elapsed());
        response
    }

    fn refuse_connection(&self, request_id: &str) -> Response<Body> {
        respond::problem(&Problem::Unavailable("too many connections"), request_id)
    }
}

impl App {
    async fn answer_at(
        self: &Arc<Self>,
        route: Route<'_>,
        request: &Request,
    ) -> Result<Response<Body>, Problem> {
        let endpoint = match route {
            Route::Unknown => return Err(Problem::UnknownPath),
            Route::OpenApi => {
                let document = whole(openapi::json());
                return Ok(respond::with_body(StatusCode::OK, "application/json", document));
            }
            Route::Page(path) => {
                let page = self.dashboard.as_ref().ok_or(Problem::UnknownPath)?;
                return self.answer_page(page, path, request).await;
            }
            Route::Health => return Ok(respond::health(self.readiness.is_ready())),
            Route::Statistics(segments) => Endpoint::Account(segments),
            Route::BotStatistics(segments) => Endpoint::Bot(segments),
        };
        let (head, request_id) = (&request.head, &request.id);
        let throttle = self.throttle(endpoint.policy());
        let query = head.uri.query();
        let call = {
            let known = self.directory.known();
            Call::check(&known, &head.headers, endpoint, query, clock::now_ms(), |key| {
                throttle.refuse_if_used(key)
            })?
        };
        let account = call.account.clone();
        // Boxed: the future that waits for NATS is large, and a refusal need not carry it.
        let answered = Box::pin(self.statistics(call, request_id, request.began + WAIT_LIMIT));
        answered.await.inspect_err(|problem| match problem {
            // A flood of one account is for the metrics: it must not become a flood of the log.
            Problem::Unavailable(why) if *why == throttle.too_many_of_one() => {
                tracing::debug!(request_id, %account, "a call got 503: {why}");
            }
            Problem::Unavailable(why) => {
                tracing::warn!(request_id, %account, "a call got 503: {why}");
            }
            _ => {}
        })
    }

    async fn statistics(
        &self,
        call: Call,
        request_id: &str,
        deadline: Instant,
    ) -> Result<Response<Body>, Problem> {
        let throttle = self.throttle(call.policy);
        let _turn = throttle.turn(&call.key, deadline).await?;
        let (backend, _at_work) = self.begin_work(deadline).await?;

        let checked_at = clock::monotonic();
        let (revision, statistics) =
            self.check_and_gather(backend, &call, request_id, deadline).await?;
        let response = self.respond(&call, statistics);

        // An answer whose last chunks came after the deadline is worth a moment more; a call that
        // was ended by the deadline does not come here.
        let now = clock::monotonic();
        let claim_by = if now < deadline { deadline } else { now + LATE_CLAIM_LIMIT };
        if checked_at.elapsed() > CHECK_AGE_LIMIT {
            call.check_again(&backend.connection, claim_by).await?;
        }
        // From here on only the client can fail.
        let claims = backend.claims(call.policy);
        throttle.claim(claims, &call.key, revision, claim_by).await?;
        tracing::info!(request_id, account = %call.account, "answered with statistics");
        Ok(response)
    }

    /// Checks the call against NATS and gathers its answer, both at the same time where the call
    /// may be free. Gives the newest revision of the allowance's key too.
    async fn check_and_gather(
        &self,
        backend: &Backend,
        call: &Call,
        request_id: &str,
        deadline: Instant,
    ) -> Result<(u64, Statistics), Problem> {
        let throttle = self.throttle(call.policy);
        let bots = call.bot.as_ref().map(|(bot, _)| std::slice::from_ref(bot));
        let subject = Subject { account: &call.account, bots, request_id };
        let gather =
            async |zone: &str| self.gather(backend, &call.question, subject, zone, deadline).await;
        let checks = async {
            let (allowed, revision) = tokio::join!(
                call.check_again(&backend.connection, deadline),
                throttle.look(backend.claims(call.policy), &call.key, deadline),
            );
            Ok::<_, Problem>((allowed?, revision?))
        };
        let known_zone = &call.entry.timezone;
        // A call that is known to be used is not gathered for: the checks alone tell that it still
        // is.
        let ((allowed, revision), gathered) = if throttle.may_be_free(&call.key) {
            let mut gathering = std::pin::pin!(maybe_done(gather(known_zone)));
            let mut checks = std::pin::pin!(checks);
            // The read is sent first: ingest can begin while nats-server looks up the entries.
            let checked = tokio::select! {
                biased;
                () = gathering.as_mut() => checks.await,
                checked = checks.as_mut() => checked,
            }?;
            // Groups of another zone are another question.
            if checked.0.account.timezone == *known_zone {
                gathering.as_mut().await;
                (checked, gathering.take_output())
            } else {
                (checked, None)
            }
        } else {
            (checks.await?, None)
        };
        let Allowed { account, bot } = allowed;
        let gathered = match gathered {
            Some(gathered) => gathered?,
            None => gather(&account.timezone).await?,
        };
        let labels = {
            let known = self.directory.known();
            let bots = match bot {
                Some((bot, entry)) => Arc::new(Names::from([(bot, entry)])),
                None => known.directory.names(&call.account),
            };
            Labels { bots, operators: known.directory.operators(&call.account) }
        };
        let (question, too_large) = (&call.question, TooLarge::Rows);
        Ok((revision, gathered.answer(question, labels, request_id, MAX_ROWS, too_large)?))
    }

    fn respond(&self, call: &Call, statistics: Statistics) -> Response<Body> {
        let Statistics { answer, memory, last_date, as_of_ms } = statistics;
        let mut rendering = Some((Rendering::new(answer, &call.question, call.format), memory));
        // The memory is given back with the last piece.
        let rendered = std::iter::from_fn(move || {
            let piece = rendering.as_mut()?.0.next_piece();
            if piece.is_none() {
                rendering = None;
            }
            piece
        });
        let head = respond::StatisticsHead {
            format: call.format,
            coding: call.coding,
            account: &call.account,
            last_date,
            as_of: &clock::rfc3339_ms(as_of_ms),
            allowance: self.throttle(call.policy).allowance(),
        };
        respond::statistics(pieces(rendered, call.coding), &head)
    }
}

fn count(route: Route<'_>, status: StatusCode, took: Duration) {
    // Checks of load balancers come all the time and fail together with the calls: among the calls
    // they would hide how many of these fail.
    let is_check = matches!(status, StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE);
    if route == Route::Health && is_check {
        METRICS.health_checks.count(status.as_str());
    } else {
        METRICS.requests.count(status.as_str());
        METRICS.request_seconds.record(took.as_secs_f64());
    }
}
