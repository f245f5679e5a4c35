//! Reads: a question to any ingest over NATS, its chunks gathered.
//!
//! | an ingest that | is seen by | then |
//! | --- | --- | --- |
//! | is not there | the server, at once | any is asked again after a pause |
//! | refuses | its answer | the same |
//! | is silent, before it accepts or between its chunks | 0.4 s without a word, and a ping that others answer and it does not | one that answered the ping is asked, alone for a while ([`ingests`]) |
//! | works slowly | its answer to the ping | it is waited for |
//!
//! *Invariants*: one inbox a try, so that a late chunk of an earlier try is never taken for one of
//! this; what a read holds is counted and bounded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Message, StatusCode, Subscriber};
use botstats_common::ids::Account;
use botstats_common::io::clock;
use botstats_common::names::ReadSubject;
use botstats_common::wire::{self, Reply};
use futures::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout_at};

use super::ingests::{self, Found, IngestId, Ingests, look_for};
use super::{Connection, Unreachable};
use crate::answer::cells::{Cells, Collecting};

/// After so long without a word from an ingest it is asked whether it lives.
const SILENCE: Duration = Duration::from_millis(400);
/// An ingest that does not accept in that time is not waited for. Long enough for a ping to be heard to its end.
const ACCEPT_LIMIT: Duration = SILENCE.saturating_add(ingests::PING_LIMIT.saturating_mul(2));
/// Pause before another try, when an ingest refused or none was there.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// An answer that is being sent may take longer than the deadline, but no chunk longer than that.
const CHUNK_LIMIT: Duration = Duration::from_millis(500);
/// The longest that a whole answer may take beyond the deadline.
const OVERTIME_LIMIT: Duration = Duration::from_secs(8);
/// The most that all answers together may hold, in units of [`UNIT_BYTES`]: 512 MiB.
const MAX_HELD_UNITS: usize = 8 * 1024;
const UNIT_BYTES: usize = 64 * 1024;

/// Why there is no answer to read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// More than [`MAX_ANSWER_BYTES`](wire::MAX_ANSWER_BYTES).
    #[error("the answer is too large")]
    TooLarge,
    /// No ingest answered in time, or memory is short.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
}

/// Memory for answers, shared by all requests.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_HELD_UNITS)))
    }
}

/// A part of the budget; given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    permit: OwnedSemaphorePermit,
}

impl Budget {
    /// A part of no size yet; [`Held::grow`] makes it larger.
    ///
    /// # Errors
    /// If the budget is closed, which it never is.
    fn hold(&self) -> Result<Held, Unreachable> {
        let permit = Arc::clone(&self.0).try_acquire_many_owned(0);
        Ok(Held { permit: permit.map_err(|_| Self::SHORT)? })
    }

    /// What is given out, and the most that can be, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> (usize, usize) {
        let held = MAX_HELD_UNITS - self.0.available_permits();
        (held * UNIT_BYTES, MAX_HELD_UNITS * UNIT_BYTES)
    }

    const SHORT: Unreachable = Unreachable("too many large answers at the same time");

    fn grow(&self, held: &mut Held, bytes: usize) -> Result<(), Unreachable> {
        let more = bytes.div_ceil(UNIT_BYTES).saturating_sub(held.permit.num_permits());
        let more = u32::try_from(more).map_err(|_| Self::SHORT)?;
        let permit = Arc::clone(&self.0).try_acquire_many_owned(more);
        held.permit.merge(permit.map_err(|_| Self::SHORT)?);
        Ok(())
    }
}

/// Asks for an account's cells; asks again until the deadline.
///
/// # Errors
/// [`ReadError`].
pub async fn read(
    connection: &Connection,
    ingests: &Ingests,
    budget: &Budget,
    account: &Account,
    mut request: wire::Request,
    deadline: Instant,
) -> Result<(Cells, Held), ReadError> {
    let mut why = "no answer".to_owned();
    while clock::monotonic() < deadline {
        let left = deadline.saturating_duration_since(clock::monotonic());
        request.deadline_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        let asked = ingests.chosen(clock::monotonic());
        let attempt = Try { connection, budget, asked: asked.as_ref(), deadline };
        let outcome = attempt.run(account, &request).await;
        if let Some(asked) = &asked
            && matches!(outcome, Err(TryError::Again(_) | TryError::Silent(_)))
        {
            ingests.forget(asked);
        }
        match outcome {
            Ok(answer) => return Ok(answer),
            Err(TryError::Final(error)) => return Err(error),
            Err(TryError::Silent(another)) => {
                if ingests.choose(&another, clock::monotonic()) {
                    let request_id = &request.request_id;
                    tracing::warn!(
                        request_id,
                        "an ingest is silent; {another}, which answers a ping, is asked alone for a while"
                    );
                }
                "an ingest is silent".clone_into(&mut why);
            }
            Err(TryError::Again(reason)) => {
                why = reason;
                sleep(RETRY_PAUSE).await;
            }
        }
    }
    tracing::warn!(request_id = request.request_id, "no ingest answered a read: {why}");
    Err(Unreachable("the statistics cannot be reached").into())
}

enum TryError {
    /// Another try may work.
    Again(String),
    /// Another try works better with this ingest.
    Silent(IngestId),
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

struct Try<'a> {
    connection: &'a Connection,
    budget: &'a Budget,
    /// The ingest to ask; `None` is any.
    asked: Option<&'a IngestId>,
    deadline: Instant,
}

impl Try<'_> {
    async fn run(
        &self,
        account: &Account,
        request: &wire::Request,
    ) -> Result<(Cells, Held), TryError> {
        let client = &self.connection.client;
        let inbox = client.new_inbox();
        let payload = wire::encode(request).map_err(TryError::again)?;
        let accept_by = self.deadline.min(clock::monotonic() + ACCEPT_LIMIT);
        let subject = match self.asked {
            Some(ingest) => ReadSubject::default().of_account_at(ingest.as_str(), account),
            None => ReadSubject::default().of_account(account),
        };
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
        let ingest = match reply(&message)? {
            Reply::Accepted { instance } => {
                tracing::debug!(request_id = request.request_id, instance, "read accepted");
                IngestId::new(instance)
            }
            Reply::Refused(why) => return Err(TryError::again(why)),
            Reply::TooLarge => return Err(ReadError::TooLarge.into()),
            Reply::Chunk(_) => return Err(TryError::again("a chunk before the acceptance")),
        };
        self.gather(&mut answers, ingest.as_ref()).await
    }

    async fn gather(
        &self,
        answers: &mut Subscriber,
        ingest: Option<&IngestId>,
    ) -> Result<(Cells, Held), TryError> {
        let mut collecting = Collecting::default();
        let mut held = self.budget.hold().map_err(ReadError::from)?;
        let last_moment = self.deadline + OVERTIME_LIMIT;
        let mut next_by = self.deadline;
        while !collecting.is_whole() {
            let message = self.next(answers, ingest, next_by).await?;
            match reply(&message)? {
                Reply::Chunk(chunk) => collecting.add(chunk).map_err(TryError::again)?,
                Reply::Refused(why) => return Err(TryError::again(why)),
                Reply::TooLarge => return Err(ReadError::TooLarge.into()),
                Reply::Accepted { .. } => return Err(TryError::again("accepted twice")),
            }
            let size = collecting.size();
            if size.is_too_large() {
                return Err(ReadError::TooLarge.into());
            }
            self.budget.grow(&mut held, size.bytes()).map_err(ReadError::from)?;
            next_by = self.deadline.max(clock::monotonic() + CHUNK_LIMIT).min(last_moment);
        }
        Ok((collecting.finish().map_err(TryError::again)?, held))
    }

    /// The next message of an ingest; gives up on it when it is silent and another is not.
    async fn next(
        &self,
        answers: &mut Subscriber,
        ingest: Option<&IngestId>,
        by: Instant,
    ) -> Result<Message, TryError> {
        loop {
            let silent = async {
                sleep(SILENCE).await;
                look_for(&self.connection.client, ingest).await
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

fn reply(message: &Message) -> Result<Reply<'_>, TryError> {
    Reply::decode(&message.payload).map_err(TryError::again)
}
