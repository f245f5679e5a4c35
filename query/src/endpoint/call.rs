//! One call, from its head to its answer.
//!
//! The order is the contract's: token, parameters, `Accept`, account and key, the used call, then what
//! needs NATS; the claim comes last.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use botstats_common::directory::{AccountEntry, BotEntry, time_zone};
use botstats_common::ids::{Account, Bot};
use botstats_common::io::clock;
use botstats_common::io::internal::Readiness;
use botstats_common::secret::SecretHash;
use botstats_common::wire;
use futures::future::maybe_done;
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

use super::body::{self, Body};
use super::exchange::Handler;
use super::{auth, respond};
use crate::accept::{self, Coding};
use crate::answer::cells::Cells;
use crate::answer::render::{Format, Rendering};
use crate::answer::{Answer, Names};
use crate::nats::claims::{Claims, Outcome, Standing};
use crate::nats::clocks::Clocks;
use crate::nats::ingests::Ingests;
use crate::nats::read::{Budget, Held, ReadError, read};
use crate::nats::watch::Shared;
use crate::nats::{Connection, Unreachable, entries};
use crate::openapi;
use crate::problem::{Problem, TooLarge};
use crate::question::{Asked, Methods, Question, Route};
use crate::telemetry::{METRICS, decided};
use crate::throttle::{Remembered, Throttle, Turns};
use crate::window::Window;

/// The most time that a call waits for what cannot be reached. A little less than is promised: the
/// answer has to be sent too.
const WAIT_LIMIT: Duration = Duration::from_millis(1_900);
/// The time that a claim gets when a large answer was still being received at the end of the call's.
const CLAIM_LIMIT: Duration = Duration::from_millis(500);
/// A token and a key were looked at so long ago at most when the call is claimed, or they are looked
/// at again: an answer that took its time is not given to who was shut out meanwhile.
const LOOK_AGE_LIMIT: Duration = Duration::from_millis(50);
/// Why a call of an account is refused that has too many under way.
const TOO_MANY_OF_ONE: &str = "too many calls of the account at the same time";
/// The most calls that ask NATS at the same time; others wait for their turn.
const MAX_AT_WORK: usize = 256;

/// All that calls share.
#[derive(Debug)]
pub struct App {
    /// The directory in memory.
    pub directory: Shared,
    /// The throttle; `None` if it is off.
    pub throttle: Option<Throttle>,
    /// What needs NATS; empty until there is a connection.
    pub backend: OnceLock<Backend>,
    /// Whether this machine's clock can be trusted.
    pub clocks: Clocks,
    readiness: Readiness,
    remembered: Remembered,
    turns: Turns,
    at_work: Semaphore,
    budget: Budget,
}

/// The connection to NATS and what is made of it.
#[derive(Debug)]
pub struct Backend {
    /// The connection.
    pub connection: Connection,
    /// Which ingests answer.
    pub ingests: Ingests,
    /// The throttle's KV bucket; `None` if the throttle is off.
    pub claims: Option<Claims>,
}

/// A call that passed every check that needs no NATS.
struct Admitted {
    question: Question,
    token: SecretHash,
    format: Format,
    coding: Coding,
    account: Account,
    /// The account's entry in memory.
    known: AccountEntry,
    /// The bot asked for, with its entry in memory.
    bot: Option<(Bot, BotEntry)>,
}

/// What stands in NATS about a call that may be answered.
struct Seen {
    account: AccountEntry,
    bot: Option<(Bot, BotEntry)>,
    /// The newest revision of the throttle's key.
    revision: u64,
}

impl Handler for App {
    async fn handle(
        &self,
        head: &Parts,
        request_id: &str,
        began: Instant,
    ) -> Result<Response<Body>, Problem> {
        match Route::of(head.uri.path()) {
            Route::Unknown => Err(Problem::UnknownPath),
            Route::OpenApi => Ok(respond::with_body(
                StatusCode::OK,
                "application/json",
                body::whole(openapi::json()),
            )),
            Route::Health => Ok(respond::health(self.readiness.is_ready())),
            Route::Statistics(segments) => {
                let admitted = self.admit(&head.headers, segments, head.uri.query())?;
                // Boxed: what waits for NATS is large, and a refusal would carry its room around.
                let account = admitted.account.clone();
                let answered = Box::pin(self.statistics(admitted, request_id, began + WAIT_LIMIT));
                answered.await.inspect_err(|problem| match problem {
                    // A flood is for the metrics: it must not become one of the log.
                    Problem::Unavailable(TOO_MANY_OF_ONE) => {
                        tracing::debug!(request_id, %account, "a call got 503: {TOO_MANY_OF_ONE}");
                    }
                    Problem::Unavailable(why) => {
                        tracing::warn!(request_id, %account, "a call got 503: {why}");
                    }
                    _ => {}
                })
            }
        }
    }

    fn methods(&self, head: &Parts) -> Methods {
        Route::of(head.uri.path()).methods()
    }

    fn count(&self, head: &Parts, status: StatusCode, took: Duration) {
        // Checks come all the time and fail together with the calls: among these they would hide
        // how many calls fail.
        let is_check = Route::of(head.uri.path()) == Route::Health;
        if is_check && matches!(status, StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE) {
            METRICS.health_checks.count(status.as_str());
        } else {
            METRICS.requests.count(status.as_str());
            METRICS.request_seconds.record(took.as_secs_f64());
        }
    }

    fn dress(&self, head: &Parts, response: &mut Response<Body>) {
        if matches!(Route::of(head.uri.path()), Route::Statistics(_)) {
            respond::vary(response.headers_mut());
        }
    }
}

impl App {
    /// Shared state without a connection yet.
    #[must_use]
    pub fn new(directory: Shared, throttle: Option<Throttle>, readiness: Readiness) -> Self {
        Self {
            directory,
            throttle,
            backend: OnceLock::new(),
            clocks: Clocks::default(),
            readiness,
            remembered: Remembered::default(),
            turns: Turns::default(),
            at_work: Semaphore::new(MAX_AT_WORK),
            budget: Budget::default(),
        }
    }

    /// How many calls are asking NATS.
    #[must_use]
    pub fn calls_at_work(&self) -> usize {
        MAX_AT_WORK - self.at_work.available_permits()
    }

    /// The memory that answers hold, and the most that they may, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> (usize, usize) {
        self.budget.held_bytes()
    }

    /// The checks that need no NATS.
    fn admit(
        &self,
        headers: &HeaderMap,
        segments: [&str; 4],
        query: Option<&str>,
    ) -> Result<Admitted, Problem> {
        let token = auth::token(headers)?;
        let known = self.directory.known();
        if !known.loaded {
            return Err(Problem::Unavailable("the directory cannot be reached"));
        }
        if known.refused {
            return Err(Problem::Unavailable("the directory is not as it must be"));
        }
        let directory = &known.directory;
        let account =
            directory.holder(&token).ok_or(Problem::Unauthorized { token_given: true })?;
        let question = Question::parse(segments, query).map_err(Problem::Parameter)?;
        let format = accept::format(headers).map_err(Problem::NotAcceptable)?;
        let coding = accept::coding(headers).map_err(Problem::NotAcceptable)?;
        let entry = directory.account(account).filter(|entry| !entry.removed);
        let entry = entry.ok_or(Problem::NotFound)?;
        let bot = match &question.asked {
            Asked::AllBots => None,
            Asked::Key(key) => {
                let bot = directory.bot_of(account, key).ok_or(Problem::NotFound)?;
                let entry = directory.bot(account, bot).ok_or(Problem::NotFound)?;
                Some((bot.clone(), entry.clone()))
            }
        };
        // The most frequent refusal, before anything is copied for the way to NATS.
        self.refuse_if_remembered(account)?;
        let (account, known) = (account.clone(), entry.clone());
        Ok(Admitted { question, token, format, coding, account, known, bot })
    }

    async fn statistics(
        &self,
        call: Admitted,
        request_id: &str,
        deadline: Instant,
    ) -> Result<Response<Body>, Problem> {
        let turn = self.turns.wait(&call.account, deadline).await;
        // The turn before may have used the call.
        self.refuse_if_remembered(&call.account)?;
        let _turn = turn.map_err(|_| Problem::Unavailable(TOO_MANY_OF_ONE))?;

        let backend = self.backend.get().ok_or(Problem::Unavailable("NATS cannot be reached"))?;
        backend.connection.up_by(deadline).await?;
        let _at_work = timeout_at(deadline.into(), self.at_work.acquire())
            .await
            .map_err(|_| Problem::Unavailable("too many calls at the same time"))?;
        let looked = clock::monotonic();
        let looking = self.look(backend, &call, deadline);
        let read = |zone: String| self.read(backend, &call, zone, request_id, deadline);
        // A call that may be free is read for while it is looked at. One that is known to have been used is
        // not: the look alone tells that it still is.
        let may_be_free =
            self.throttle.is_none() || self.remembered.may_be_free(&call.account, looked);
        let (seen, gathered) = if may_be_free {
            let mut ahead = std::pin::pin!(maybe_done(read(call.known.timezone.clone())));
            let mut looking = std::pin::pin!(looking);
            // The read is sent first: ingest can begin while nats-server looks up the entries.
            let seen = tokio::select! {
                biased;
                () = ahead.as_mut() => looking.await,
                seen = looking.as_mut() => seen,
            }?;
            // Groups of another zone are another question.
            if seen.account.timezone == call.known.timezone {
                ahead.as_mut().await;
                (seen, ahead.take_output())
            } else {
                (seen, None)
            }
        } else {
            (looking.await?, None)
        };
        let Seen { account, bot, revision } = seen;
        let (window, cells, held) = match gathered {
            Some(gathered) => gathered?,
            None => read(account.timezone).await?,
        };
        let names = match bot {
            Some((bot, entry)) => Arc::new(Names::from([(bot, entry)])),
            None => self.directory.known().directory.names(&call.account),
        };
        let as_of = clock::rfc3339_ms(cells.as_of_ms);
        let answer = Answer::new(&call.question, &window, names, cells).map_err(|malformed| {
            tracing::error!(request_id, "an ingest's answer can't be used: {malformed}");
            Problem::Unavailable("the statistics cannot be reached")
        })?;
        if let Some(rows) = answer.too_many_rows() {
            return Err(Problem::AnswerTooLarge(TooLarge::Rows(rows)));
        }
        let body = body::pieces(rendered(answer, call.format, held), call.coding);
        let told = respond::Told {
            format: call.format,
            coding: call.coding,
            account: &call.account,
            last_date: window.last_date,
            as_of: &as_of,
            throttle: self.throttle,
        };
        let response = respond::statistics(body, &told);

        // An answer that was still being received then is worth a moment more; what did not come in
        // time is not.
        let now = clock::monotonic();
        let claim_by = if now < deadline { deadline } else { now + CLAIM_LIMIT };
        if looked.elapsed() > LOOK_AGE_LIMIT {
            fresh(&backend.connection, &call, claim_by).await?;
        }
        // From here on only the client can fail.
        self.claim(backend, &call.account, revision, claim_by).await?;
        tracing::info!(request_id, account = %call.account, "answered with statistics");
        Ok(response)
    }

    /// Looks at the entries and whether the call is used.
    async fn look(
        &self,
        backend: &Backend,
        call: &Admitted,
        deadline: Instant,
    ) -> Result<Seen, Problem> {
        let (entries, standing) = tokio::join!(
            fresh(&backend.connection, call, deadline),
            look(backend, &call.account, deadline),
        );
        let (account, bot) = entries?;
        match standing? {
            Standing::Free(revision) => Ok(Seen { account, bot, revision }),
            Standing::Wait { retry_after_s } => Err(self.throttled(&call.account, retry_after_s)),
        }
    }

    /// Asks an ingest, with the groups of that time zone.
    async fn read(
        &self,
        backend: &Backend,
        call: &Admitted,
        zone: String,
        request_id: &str,
        deadline: Instant,
    ) -> Result<(Window, Cells, Held), Problem> {
        let zone = time_zone(&zone).map_err(|_| Problem::Internal)?;
        let Question { days, mode, types, .. } = call.question;
        let window = Window::new(self.clocks.now_ms()?, &zone, days, mode);
        let request = wire::Request {
            request_id: request_id.to_owned(),
            bots: call.bot.as_ref().map(|(bot, _)| vec![bot.clone()]),
            types,
            boundaries: window.boundaries.clone(),
            deadline_ms: 0,
        };
        let Backend { connection, ingests, .. } = backend;
        let began = clock::monotonic();
        let answered = read(connection, ingests, &self.budget, &call.account, request, deadline);
        let (cells, held) = answered.await.inspect_err(|error| {
            if matches!(error, ReadError::Unreachable(_)) {
                METRICS.failed_reads.increment(1);
            }
        })?;
        METRICS.read_seconds.record(began.elapsed().as_secs_f64());
        Ok((window, cells, held))
    }

    async fn claim(
        &self,
        backend: &Backend,
        account: &Account,
        revision: u64,
        deadline: Instant,
    ) -> Result<(), Problem> {
        let Some(claims) = &backend.claims else {
            decided("off");
            return Ok(());
        };
        match claims.claim(account, revision, deadline).await {
            Ok(Outcome::Won) => {
                decided("granted");
                let longest_s = claims.throttle().longest_wait_s();
                self.remembered.used(account, longest_s, clock::monotonic());
                Ok(())
            }
            Ok(Outcome::Lost { retry_after_s }) => Err(self.throttled(account, retry_after_s)),
            Err(unreachable) => {
                decided("unavailable");
                Err(unreachable.into())
            }
        }
    }

    fn throttled(&self, account: &Account, retry_after_s: u64) -> Problem {
        decided("denied");
        self.remembered.used(account, retry_after_s, clock::monotonic());
        self.used(retry_after_s)
    }

    fn refuse_if_remembered(&self, account: &Account) -> Result<(), Problem> {
        match self.remembered.retry_after_s(account, clock::monotonic()) {
            Some(retry_after_s) => {
                decided("remembered");
                Err(self.used(retry_after_s))
            }
            None => Ok(()),
        }
    }

    fn used(&self, retry_after_s: u64) -> Problem {
        let window_s = self.throttle.map_or(0, Throttle::window_s);
        Problem::Throttled { retry_after_s, window_s }
    }
}

impl From<Unreachable> for Problem {
    fn from(unreachable: Unreachable) -> Self {
        Problem::Unavailable(unreachable.0)
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::TooLarge => Problem::AnswerTooLarge(TooLarge::Memory),
            ReadError::Unreachable(unreachable) => unreachable.into(),
        }
    }
}

/// The entries as they are now in NATS, which alone make an answer possible.
async fn fresh(
    connection: &Connection,
    call: &Admitted,
    deadline: Instant,
) -> Result<(AccountEntry, Option<(Bot, BotEntry)>), Problem> {
    let (account, bot) = tokio::join!(
        entries::account(&connection.js, &call.account, deadline),
        fresh_bot(connection, call, deadline),
    );
    let account = check_account(account?.in_force(Some(call.known.clone())), call)?;
    Ok((account, bot?))
}

/// The account's entry as it is now: the token must still be in it, and the account not removed.
fn check_account(entry: Option<AccountEntry>, call: &Admitted) -> Result<AccountEntry, Problem> {
    let entry = entry
        .filter(|entry| entry.tokens.iter().any(|token| token.sha256 == call.token))
        .ok_or(Problem::Unauthorized { token_given: true })?;
    if entry.removed { Err(Problem::NotFound) } else { Ok(entry) }
}

/// The entry of the bot asked for as it is now: the key must still be its.
async fn fresh_bot(
    connection: &Connection,
    call: &Admitted,
    deadline: Instant,
) -> Result<Option<(Bot, BotEntry)>, Problem> {
    let (Some((bot, known)), Asked::Key(key)) = (&call.bot, &call.question.asked) else {
        return Ok(None);
    };
    let entry = entries::bot(&connection.js, &call.account, bot, deadline).await?;
    let entry = entry
        .in_force(Some(known.clone()))
        .filter(|entry| !entry.removed && entry.key_sha256.as_ref() == Some(key))
        .ok_or(Problem::NotFound)?;
    Ok(Some((bot.clone(), entry)))
}

async fn look(
    backend: &Backend,
    account: &Account,
    deadline: Instant,
) -> Result<Standing, Unreachable> {
    match &backend.claims {
        Some(claims) => {
            claims.look(account, deadline).await.inspect_err(|_| decided("unavailable"))
        }
        None => Ok(Standing::Free(0)),
    }
}

/// The answer's pieces; what it holds is given back with the last one.
fn rendered(
    answer: Answer<Arc<Names>>,
    format: Format,
    held: Held,
) -> impl Iterator<Item = Vec<u8>> + Send {
    let mut rendering = Some((Rendering::new(answer, format), held));
    std::iter::from_fn(move || {
        let piece = rendering.as_mut()?.0.next_piece();
        if piece.is_none() {
            rendering = None;
        }
        piece
    })
}
