//! Reads over NATS: asks an ingest, and collects the parts of its answer.
//!
//! | an ingest that | is seen by | then |
//! | --- | --- | --- |
//! | is not there | the server, at once | any ingest is asked again after a pause, unless no ingest that lives answers for the slot |
//! | refuses | its answer | any ingest is asked again after a pause |
//! | is silent, before it accepts or between its chunks | 0.4 s without a message, and a ping that others answer and it does not | an ingest that answered the ping is asked, alone for a while ([`super::ingests`]) |
//! | works slowly | its answer to the ping | is waited for |
//!
//! *Invariants*: each try has an inbox of its own, so that a late chunk of an earlier try is never
//! taken for one of this try; the memory of a read is counted and bounded.

use std::time::Instant;

use async_nats::{Message, StatusCode, Subscriber};
use botstats_common::ids::Account;
use botstats_common::io::clock;
use botstats_common::names::read_subject_at;
use botstats_common::slot::Slot;
use botstats_common::wire::{self, Reply, overview};
use futures::StreamExt as _;
use tokio::time::{sleep, timeout_at};

use super::ingests::{Found, IngestId, Ingests, Live};
use super::{Connection, Unreachable};
use crate::answer::budget::{Budget, BudgetSpent, Reservation};
use crate::answer::cells::Collecting;
use crate::answer::collect::{Collect, Part};
use crate::answer::overview::CollectingOverview;
use crate::deadlines::{
    ACCEPT_LIMIT, CHUNK_LIMIT, OVERTIME_LIMIT, READ_RETRY_PAUSE, SILENCE_LIMIT,
};

/// Why a read has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadError {
    /// More than [`MAX_ANSWER_BYTES`](wire::MAX_ANSWER_BYTES).
    #[error("the answer is too large")]
    TooLarge,
    /// A window reaches further back than the ingest can answer completely: what lies at or after
    /// this instant (Unix ms) is complete.
    #[error("the answer would not be complete")]
    Incomplete(i64),
    /// Dates times pairs are too many.
    #[error("too many dates for {0} pairs")]
    TooManyPairs(u32),
    /// More than [`MAX_NAMES`](wire::MAX_NAMES).
    #[error("too many names")]
    TooManyNames,
    /// No ingest answered in time, or memory is short.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
}

impl From<BudgetSpent> for ReadError {
    fn from(spent: BudgetSpent) -> Self {
        Unreachable::from(spent).into()
    }
}

/// What is read of an account: cells, or an overview.
#[derive(Debug)]
pub(crate) struct Read<'a, R> {
    pub(crate) account: &'a Account,
    /// The request; each try sets its deadline.
    pub(crate) request: R,
}

/// A request to an ingest, and what collects its answer.
pub(crate) trait Ask: Sync {
    /// Collects the answer.
    type Collecting: Collect + Send;

    /// The id of the HTTP request.
    fn request_id(&self) -> &str;

    /// The bytes of the request for an answer that is waited for this long.
    fn encode(&self, deadline_ms: u32) -> Result<Vec<u8>, TryError>;

    /// An answer of which nothing is there yet.
    fn collecting(&self) -> Self::Collecting;
}

impl Ask for wire::Request {
    type Collecting = Collecting;

    fn request_id(&self) -> &str {
        &self.request_id
    }

    fn encode(&self, deadline_ms: u32) -> Result<Vec<u8>, TryError> {
        let request = wire::Request { deadline_ms, ..self.clone() };
        wire::encode(&request).map_err(TryError::again)
    }

    fn collecting(&self) -> Collecting {
        Collecting::new(self.stats.len())
    }
}

impl Ask for overview::Request {
    type Collecting = CollectingOverview;

    fn request_id(&self) -> &str {
        &self.request_id
    }

    fn encode(&self, deadline_ms: u32) -> Result<Vec<u8>, TryError> {
        let request = overview::Request { deadline_ms, ..self.clone() };
        wire::encode_as(overview::VERSION, &request).map_err(TryError::again)
    }

    fn collecting(&self) -> CollectingOverview {
        CollectingOverview::default()
    }
}

/// What a read gives: the answer, and the memory that it takes.
type Answered<R> = (<<R as Ask>::Collecting as Collect>::Whole, Reservation);

/// Reads from the ingests.
#[derive(Debug)]
pub(crate) struct Reader {
    connection: Connection,
    ingests: Ingests,
    budget: Budget,
}

impl Reader {
    pub(crate) fn new(connection: Connection, ingests: Ingests, budget: Budget) -> Self {
        Self { connection, ingests, budget }
    }

    /// Asks for what is read of an account; asks again until the deadline.
    pub(crate) async fn read<R: Ask>(
        &self,
        read: &Read<'_, R>,
        deadline: Instant,
    ) -> Result<Answered<R>, ReadError> {
        let request_id = read.request.request_id();
        let slot = Slot::of(read.account);
        let mut why = "no answer".to_owned();
        while clock::monotonic() < deadline {
            let asked = self.ingests.alone(slot, clock::monotonic());
            let attempt = Try { reader: self, read, slot, asked: asked.as_ref(), deadline };
            let outcome = attempt.run().await;
            if let Some(asked) = &asked
                && matches!(outcome, Err(TryError::Again(_) | TryError::Silent(_)))
            {
                self.ingests.forget(asked);
            }
            match outcome {
                Ok(answer) => return Ok(answer),
                Err(TryError::Final(error)) => return Err(error),
                Err(TryError::Silent(another)) => {
                    if self.ingests.ask_alone(&another, clock::monotonic()) {
                        let another = &another.id;
                        tracing::warn!(
                            request_id,
                            "an ingest is silent: reads go to {another}, which answers a ping, for a while"
                        );
                    }
                    "an ingest is silent".clone_into(&mut why);
                }
                Err(TryError::Again(reason)) => {
                    why = reason;
                    // Else the calls for such slots would keep the places of all others.
                    if self.ingests.is_absent(slot) {
                        tracing::warn!(
                            request_id,
                            "no ingest answers for slot {slot}; a read of it failed: {why}"
                        );
                        return Err(Unreachable("the statistics cannot be reached").into());
                    }
                    sleep(READ_RETRY_PAUSE).await;
                }
            }
        }
        tracing::warn!(request_id, "no ingest answered a read in time; the last try: {why}");
        Err(Unreachable("the statistics cannot be reached").into())
    }
}

pub(crate) enum TryError {
    /// Another try may work.
    Again(String),
    /// Another try works better with this ingest.
    Silent(Live),
    Final(ReadError),
}

impl TryError {
    fn again(why: impl std::fmt::Display) -> Self {
        TryError::Again(why.to_string())
    }
}

impl From<ReadError> for TryError {
    fn from(error: ReadError) -> Self {
        TryError::Final(error)
    }
}

struct Try<'a, R> {
    reader: &'a Reader,
    read: &'a Read<'a, R>,
    /// The account's.
    slot: Slot,
    /// The ingest to ask; `None` is any.
    asked: Option<&'a IngestId>,
    deadline: Instant,
}

impl<R: Ask> Try<'_, R> {
    async fn run(&self) -> Result<Answered<R>, TryError> {
        let Reader { connection: Connection { client, .. }, ingests, .. } = self.reader;
        let now = clock::monotonic();
        let left = self.deadline.saturating_duration_since(now).as_millis();
        let payload = self.read.request.encode(u32::try_from(left).unwrap_or(u32::MAX))?;
        let accept_by = self.deadline.min(now + ACCEPT_LIMIT);
        let account = self.read.account;
        let subject = match self.asked {
            Some(ingest) => read_subject_at(ingest.as_str(), account),
            None => ingests.subject(account),
        };
        let inbox = client.new_inbox();
        let asked = async {
            let answers = client.subscribe(inbox.clone()).await.map_err(TryError::again)?;
            let sent = client.publish_with_reply(subject, inbox, payload.into());
            sent.await.map_err(TryError::again)?;
            Ok::<_, TryError>(answers)
        };
        let mut answers = timeout_at(accept_by.into(), asked)
            .await
            .map_err(|_| TryError::again("the request could not be sent"))??;
        let message = self.next(&mut answers, self.asked, accept_by).await?;
        let Step::Accepted(instance) = Step::of(&message)? else {
            return Err(TryError::again("a part of the answer before the acceptance"));
        };
        let request_id = self.read.request.request_id();
        tracing::debug!(request_id, instance, "an ingest accepted the read");
        let ingest = IngestId::new(instance);
        self.collect(&mut answers, ingest.as_ref()).await
    }

    async fn collect(
        &self,
        answers: &mut Subscriber,
        ingest: Option<&IngestId>,
    ) -> Result<Answered<R>, TryError> {
        let mut collecting = self.read.request.collecting();
        let mut memory = self.reader.budget.reserve().map_err(ReadError::from)?;
        let last_moment = self.deadline + OVERTIME_LIMIT;
        let mut next_by = self.deadline;
        while !collecting.is_whole() {
            let message = self.next(answers, ingest, next_by).await?;
            let Step::Part(part) = Step::of(&message)? else {
                return Err(TryError::again("accepted twice"));
            };
            collecting.add(part).map_err(TryError::again)?;
            let size = collecting.size();
            if size.is_too_large() {
                return Err(ReadError::TooLarge.into());
            }
            memory.grow_to(size.bytes()).map_err(ReadError::from)?;
            next_by = self.deadline.max(clock::monotonic() + CHUNK_LIMIT).min(last_moment);
        }
        Ok((collecting.finish().map_err(TryError::again)?, memory))
    }

    /// The next message of an ingest; gives up when the ingest is silent and another is not.
    async fn next(
        &self,
        answers: &mut Subscriber,
        ingest: Option<&IngestId>,
        by: Instant,
    ) -> Result<Message, TryError> {
        loop {
            let silent = async {
                sleep(SILENCE_LIMIT).await;
                let Reader { connection, ingests, .. } = self.reader;
                ingests.look_for(&connection.client, ingest, self.slot).await
            };
            tokio::select! {
                biased;
                message = next(answers, by) => return message,
                found = silent => if let Found::Another(ingest) = found {
                    return Err(TryError::Silent(ingest));
                }
            }
        }
    }
}

async fn next(answers: &mut Subscriber, by: Instant) -> Result<Message, TryError> {
    let message: Message = match timeout_at(by.into(), answers.next()).await {
        Ok(Some(message)) => message,
        Ok(None) => return Err(TryError::again("the connection was closed")),
        Err(_) => return Err(TryError::again("no answer in time")),
    };
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(TryError::again("no ingest is there"));
    }
    Ok(message)
}

/// A message of an answer that goes on.
enum Step<'a> {
    /// The id of the ingest that works on it.
    Accepted(&'a str),
    Part(Part<'a>),
}

impl<'a> Step<'a> {
    fn of(message: &'a Message) -> Result<Self, TryError> {
        Err(match Reply::decode(&message.payload).map_err(TryError::again)? {
            Reply::Accepted { instance } => return Ok(Step::Accepted(instance)),
            Reply::Chunk(chunk) => return Ok(Step::Part(Part::Chunk(chunk))),
            Reply::Overview(part) => return Ok(Step::Part(Part::Overview(part))),
            Reply::Refused(why) => TryError::again(why),
            Reply::TooLarge => ReadError::TooLarge.into(),
            Reply::Incomplete { since_ms } => ReadError::Incomplete(since_ms).into(),
            Reply::TooManyPairs { pairs } => ReadError::TooManyPairs(pairs).into(),
            Reply::TooManyNames => ReadError::TooManyNames.into(),
        })
    }
}
