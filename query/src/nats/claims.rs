//! Claims: the KV bucket's compare-and-set by which exactly one request gets an account's call.
//!
//! *Invariants*: only the server's acknowledgement of a claim, or the claim itself read back with its
//! nonce, is a yes. A claim whose outcome stays unknown is answered 503 and taken back as soon as the
//! server can be asked, so that it costs nobody an hour; a program that stops waits for that.
//!
//! *Why* a publish of our own: it is what `kv::Store::create` sends, but that reads the key back
//! without a nonce after any failure, and then takes its own claim for another's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_EXPECTED_STREAM};
use async_nats::jetstream::context::PublishErrorKind;
use botstats_common::ids::Account;
use botstats_common::io::{clock, nats};
use botstats_common::names::THROTTLE_BUCKET;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{Connection, Unreachable, kv};
use crate::throttle::{Decision, Throttle};

/// The stream of the throttle's KV bucket.
pub const THROTTLE_STREAM: &str = "KV_botstats_throttle";
/// The most claims that are taken back at the same time.
const MAX_TAKING_BACK: usize = 256;
/// How often a claim of unknown outcome is looked for.
const TAKE_BACK_PAUSE: Duration = Duration::from_secs(1);
/// After so many looks that the server answered without finding it, it never arrived.
const TAKE_BACK_LOOKS: u32 = 10;
/// The longest that a claim is looked for while the server cannot be asked.
const TAKE_BACK_LIMIT: Duration = Duration::from_secs(600);
/// The same pause in a program that stops.
const STOPPING_PAUSE: Duration = Duration::from_millis(100);
/// The longest that a program that stops looks for its claims: it ends within 10 s, of which connections may
/// take 8.
const STOPPING_LIMIT: Duration = Duration::from_millis(1_500);
/// Pause between two looks whether a claim was stored.
const READ_BACK_PAUSE: Duration = Duration::from_millis(50);
/// The most publishes for one claim: more than one only if a key went away in between.
const MAX_TRIES: u32 = 3;

/// The throttle's KV bucket.
#[derive(Debug, Clone)]
pub struct Claims {
    connection: Connection,
    throttle: Throttle,
    /// False while the bucket is missing or not as it must be.
    usable: Arc<AtomicBool>,
    taking_back: TaskTracker,
    stopping: CancellationToken,
}

/// What is known of an account's call before it is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Free as far as is known, the key's newest revision being this (0: none).
    Free(u64),
    /// Used.
    Wait {
        /// Seconds until the next call.
        retry_after_s: u64,
    },
}

/// What came of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The call is this request's.
    Won,
    /// Another request was faster.
    Lost {
        /// Seconds until the next call.
        retry_after_s: u64,
    },
}

impl Claims {
    /// Claims by that throttle; not usable until [`Claims::set_usable`].
    #[must_use]
    pub fn new(connection: Connection, throttle: Throttle) -> Self {
        Self {
            connection,
            throttle,
            usable: Arc::default(),
            taking_back: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }
    }

    /// Takes back what is still to be taken back, as far as the server can be asked; there must be no claim
    /// on its way any more.
    pub async fn finish(&self) {
        self.stopping.cancel();
        self.taking_back.close();
        if timeout(STOPPING_LIMIT, self.taking_back.wait()).await.is_err() {
            let left = self.taking_back.len();
            tracing::warn!(left, "claims of unknown outcome are left to expire");
        }
    }

    /// Says whether the bucket is there and has the window.
    pub fn set_usable(&self, usable: bool) {
        self.usable.store(usable, Ordering::Relaxed);
    }

    /// The throttle.
    #[must_use]
    pub fn throttle(&self) -> Throttle {
        self.throttle
    }

    /// Looks whether the account's call is used.
    ///
    /// # Errors
    /// If NATS does not answer by the deadline, or the bucket is not usable.
    pub async fn look(
        &self,
        account: &Account,
        deadline: Instant,
    ) -> Result<Standing, Unreachable> {
        if !self.usable.load(Ordering::Relaxed) {
            return Err(Unreachable("the throttle is not set up"));
        }
        match self.latest(account, deadline).await? {
            None => Ok(Standing::Free(0)),
            Some(kv::Latest { value: None, revision, .. }) => Ok(Standing::Free(revision)),
            Some(claim) => {
                Ok(Standing::Wait { retry_after_s: self.wait_for(&claim, deadline).await })
            }
        }
    }

    /// Claims the account's call. `revision` is the key's newest, from [`Claims::look`].
    ///
    /// # Errors
    /// If the outcome is not known by the deadline. The claim is then taken back.
    pub async fn claim(
        &self,
        account: &Account,
        mut revision: u64,
        deadline: Instant,
    ) -> Result<Outcome, Unreachable> {
        let mut pending = Pending {
            claims: self.clone(),
            account: account.clone(),
            nonce: Bytes::from(Uuid::now_v7().to_string()),
            unknown: true,
        };
        for _ in 0..MAX_TRIES {
            let published =
                timeout_at(deadline.into(), self.publish(account, &pending.nonce, revision)).await;
            let refused = match published {
                Ok(Ok(())) => {
                    pending.unknown = false;
                    return Ok(Outcome::Won);
                }
                Ok(Err(PublishErrorKind::StreamNotFound)) => {
                    pending.unknown = false;
                    return Err(Unreachable::throttle(&"no KV bucket"));
                }
                Ok(Err(kind)) => kind == PublishErrorKind::WrongLastSequence,
                Err(_late) => false,
            };
            match self.read_back(account, &pending.nonce, refused, deadline).await? {
                ReadBack::Mine => {
                    pending.unknown = false;
                    return Ok(Outcome::Won);
                }
                ReadBack::Anothers(claim) => {
                    pending.unknown = false;
                    let retry_after_s = self.wait_for(&claim, deadline).await;
                    return Ok(Outcome::Lost { retry_after_s });
                }
                ReadBack::Nobodys(newest) => revision = newest,
            }
        }
        Err(Unreachable::throttle(&"the key changed again and again"))
    }

    async fn publish(
        &self,
        account: &Account,
        nonce: &Bytes,
        revision: u64,
    ) -> Result<(), PublishErrorKind> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_STREAM, THROTTLE_STREAM);
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string().as_str());
        let subject = self.subject(account);
        let js = &self.connection.js;
        let acknowledged = match js.publish_with_headers(subject, headers, nonce.clone()).await {
            Ok(acknowledgement) => acknowledgement.await,
            Err(error) => Err(error),
        };
        acknowledged.map(|_| ()).map_err(|error| {
            tracing::debug!("a claim was not acknowledged: {error}");
            error.kind()
        })
    }

    fn subject(&self, account: &Account) -> String {
        format!("{}$KV.{THROTTLE_BUCKET}.{account}", self.connection.put_prefix)
    }

    /// Looks whose claim is stored. Unless the own one was refused for certain, a key without a claim
    /// says nothing: it may still be on its way.
    async fn read_back(
        &self,
        account: &Account,
        nonce: &Bytes,
        refused: bool,
        deadline: Instant,
    ) -> Result<ReadBack, Unreachable> {
        loop {
            match self.latest(account, deadline).await {
                Ok(Some(claim)) if claim.value.as_ref() == Some(nonce) => {
                    return Ok(ReadBack::Mine);
                }
                Ok(Some(claim)) if claim.value.is_some() => return Ok(ReadBack::Anothers(claim)),
                Ok(newest) if refused => {
                    return Ok(ReadBack::Nobodys(newest.map_or(0, |newest| newest.revision)));
                }
                Ok(_) => {}
                Err(unreachable) if clock::monotonic() >= deadline => return Err(unreachable),
                Err(_) => {}
            }
            if clock::monotonic() + READ_BACK_PAUSE >= deadline {
                return Err(Unreachable::throttle(&"the outcome of a claim is unknown"));
            }
            sleep(READ_BACK_PAUSE).await;
        }
    }

    async fn latest(
        &self,
        account: &Account,
        deadline: Instant,
    ) -> Result<Option<kv::Latest>, Unreachable> {
        let latest = kv::latest(&self.connection.js, THROTTLE_BUCKET, account.as_str());
        timeout_at(deadline.into(), latest)
            .await
            .map_err(|late| Unreachable::throttle(&late))?
            .map_err(|error| Unreachable::throttle(&error))
    }

    /// How long a stored claim makes others wait; the longest, if the server's clock cannot be read.
    async fn wait_for(&self, claim: &kv::Latest, deadline: Instant) -> u64 {
        let info = nats::stream_info(&self.connection.js, THROTTLE_STREAM);
        let decision = match timeout_at(deadline.into(), info).await {
            Ok(Ok(info)) => self.throttle.decide(Some(claim.created_ms), info.at_ms),
            _ => Decision::Wait { retry_after_s: self.throttle.longest_wait_s() },
        };
        match decision {
            Decision::Wait { retry_after_s } => retry_after_s,
            Decision::Free => 1,
        }
    }

    /// Takes back a claim of unknown outcome, once the server can be asked.
    async fn take_back(&self, account: &Account, nonce: &Bytes) {
        let gives_up = clock::monotonic() + TAKE_BACK_LIMIT.min(self.throttle.window());
        let mut looks = 0;
        while looks < TAKE_BACK_LOOKS && clock::monotonic() < gives_up {
            tokio::select! {
                () = sleep(TAKE_BACK_PAUSE.min(self.throttle.window() / 4)) => {}
                () = self.stopping.cancelled() => sleep(STOPPING_PAUSE).await,
            }
            let deadline = clock::monotonic() + nats::REQUEST_TIMEOUT;
            match self.latest(account, deadline).await {
                Ok(Some(claim)) if claim.value.as_ref() == Some(nonce) => {
                    if self.remove(account, claim.revision).await {
                        tracing::info!(%account, "took back a claim that had no answer");
                        return;
                    }
                }
                // Another's claim: the own one can't be stored any more.
                Ok(Some(claim)) if claim.value.is_some() => return,
                Ok(_) => looks += 1,
                Err(_) => {}
            }
        }
    }

    /// Marks a claim as deleted if it is still the newest.
    async fn remove(&self, account: &Account, revision: u64) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", "DEL");
        headers.insert(NATS_EXPECTED_STREAM, THROTTLE_STREAM);
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string().as_str());
        let subject = self.subject(account);
        let removed = async {
            let js = &self.connection.js;
            js.publish_with_headers(subject, headers, Bytes::new()).await?.await
        };
        matches!(timeout(nats::REQUEST_TIMEOUT, removed).await, Ok(Ok(_)))
    }
}

enum ReadBack {
    Mine,
    Anothers(kv::Latest),
    Nobodys(u64),
}

/// A claim on its way. Dropped while its outcome is unknown (a timeout, a client that went away), it
/// is taken back.
struct Pending {
    claims: Claims,
    account: Account,
    nonce: Bytes,
    unknown: bool,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.unknown || Handle::try_current().is_err() {
            return;
        }
        if self.claims.taking_back.len() >= MAX_TAKING_BACK {
            tracing::warn!("too many claims of unknown outcome: one is left to expire");
            return;
        }
        let (claims, account, nonce) =
            (self.claims.clone(), self.account.clone(), self.nonce.clone());
        self.claims.taking_back.spawn(async move { claims.take_back(&account, &nonce).await });
    }
}
