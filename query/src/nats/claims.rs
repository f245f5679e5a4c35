//! Claims: the KV bucket's compare-and-set by which exactly one request gets the call of a key.
//!
//! *Invariants*: a claim is won only by the server's acknowledgement, or when it is read back with
//! its nonce. A claim whose outcome stays unknown is answered 503 and taken back as soon as the
//! server can be asked, so that it costs no client its call; a program that stops waits for that.
//!
//! *Why* a publish of our own and not `kv::Store::create`: after any failure that reads the key
//! back without a nonce, and then takes its own claim for another's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_EXPECTED_STREAM};
use async_nats::jetstream::context::PublishErrorKind;
use botstats_common::io::{clock, nats};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{Connection, Unreachable, kv};
use crate::admission::allowance::{Allowance, AllowanceKey};
use crate::deadlines::{
    CLAIMS_STOP_LIMIT, CLAIMS_STOP_PAUSE, READ_BACK_PAUSE, TAKE_BACK_LIMIT, TAKE_BACK_LOOKS,
    TAKE_BACK_PAUSE,
};

/// The most claims that are taken back at the same time.
const MAX_TAKING_BACK: usize = 256;
/// The most publishes for one claim. A second one is needed only if the key was deleted in between.
const MAX_TRIES: u32 = 3;

/// The claims of an allowance's calls, in its KV bucket. All clones are one.
#[derive(Debug, Clone)]
pub struct Claims {
    connection: Connection,
    allowance: Allowance,
    /// False while the bucket is missing or not as it must be.
    usable: Arc<AtomicBool>,
    taking_back: TaskTracker,
    stopping: CancellationToken,
}

/// Whether a call can be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No claim is stored. The newest revision of the key is this; 0 if it has none.
    Free(u64),
    /// The call is used.
    Wait {
        /// Seconds until the next call.
        retry_after_s: u64,
    },
}

/// The outcome of a claim.
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
    /// Claims of an allowance; not usable until [`Claims::set_usable`].
    #[must_use]
    pub fn new(connection: Connection, allowance: Allowance) -> Self {
        Self {
            connection,
            allowance,
            usable: Arc::default(),
            taking_back: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }
    }

    /// Takes back the claims of unknown outcome, if the server answers in time. No request may
    /// claim any more.
    pub async fn finish(&self) {
        self.stopping.cancel();
        self.taking_back.close();
        if timeout(CLAIMS_STOP_LIMIT, self.taking_back.wait()).await.is_err() {
            let left = self.taking_back.len();
            tracing::warn!(
                left,
                "claims of unknown outcome are left to expire: NATS did not answer before the stop"
            );
        }
    }

    /// Says whether the bucket is there and has the allowance's window.
    pub fn set_usable(&self, usable: bool) {
        self.usable.store(usable, Ordering::Relaxed);
    }

    pub(crate) fn allowance(&self) -> Allowance {
        self.allowance
    }

    /// Looks whether the call of a key is used.
    ///
    /// # Errors
    /// If NATS does not answer by the deadline, or the bucket is not usable.
    pub async fn look(
        &self,
        key: &AllowanceKey,
        deadline: Instant,
    ) -> Result<Standing, Unreachable> {
        if !self.usable.load(Ordering::Relaxed) {
            return Err(Unreachable("the throttle is not set up"));
        }
        match self.latest(key, deadline).await? {
            None => Ok(Standing::Free(0)),
            Some(kv::Latest { value: None, revision, .. }) => Ok(Standing::Free(revision)),
            Some(claim) => {
                Ok(Standing::Wait { retry_after_s: self.wait_for(&claim, deadline).await })
            }
        }
    }

    /// Claims the call of a key. `revision` is the key's newest, from [`Claims::look`].
    ///
    /// # Errors
    /// If the outcome is not known by the deadline. The claim is then taken back.
    pub async fn claim(
        &self,
        key: &AllowanceKey,
        mut revision: u64,
        deadline: Instant,
    ) -> Result<Outcome, Unreachable> {
        let mut pending = Pending {
            claims: self.clone(),
            key: key.clone(),
            nonce: Bytes::from(Uuid::now_v7().to_string()),
            unknown: true,
        };
        for _ in 0..MAX_TRIES {
            let published =
                timeout_at(deadline.into(), self.publish(key, &pending.nonce, revision)).await;
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
            match self.read_back(key, &pending.nonce, refused, deadline).await? {
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
        Err(Unreachable::throttle(&"the key changed at every try"))
    }

    async fn publish(
        &self,
        key: &AllowanceKey,
        nonce: &Bytes,
        revision: u64,
    ) -> Result<(), PublishErrorKind> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_STREAM, self.allowance.stream());
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string().as_str());
        let subject = self.subject(key);
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

    fn subject(&self, key: &AllowanceKey) -> String {
        format!("{}$KV.{}.{key}", self.connection.put_prefix, self.allowance.bucket())
    }

    /// Looks whose claim is stored. A key without a claim says nothing unless the own claim was
    /// refused for certain: it may still be on its way.
    async fn read_back(
        &self,
        key: &AllowanceKey,
        nonce: &Bytes,
        refused: bool,
        deadline: Instant,
    ) -> Result<ReadBack, Unreachable> {
        loop {
            match self.latest(key, deadline).await {
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
        key: &AllowanceKey,
        deadline: Instant,
    ) -> Result<Option<kv::Latest>, Unreachable> {
        let key = key.to_string();
        let latest = kv::latest(&self.connection.js, self.allowance.bucket(), &key);
        timeout_at(deadline.into(), latest)
            .await
            .map_err(|late| Unreachable::throttle(&late))?
            .map_err(|error| Unreachable::throttle(&error))
    }

    /// How long a stored claim makes others wait, in seconds; the longest wait if the server's
    /// clock cannot be read.
    async fn wait_for(&self, claim: &kv::Latest, deadline: Instant) -> u64 {
        let stream = self.allowance.stream();
        let info = nats::stream_info(&self.connection.js, &stream);
        match timeout_at(deadline.into(), info).await {
            Ok(Ok(info)) => self.allowance.wait_s(claim.created_ms, info.at_ms),
            _ => self.allowance.longest_wait_s(),
        }
    }

    /// Takes back a claim of unknown outcome, once the server can be asked.
    async fn take_back(&self, key: &AllowanceKey, nonce: &Bytes) {
        let gives_up = clock::monotonic() + TAKE_BACK_LIMIT.min(self.allowance.window());
        let mut looks = 0;
        while looks < TAKE_BACK_LOOKS && clock::monotonic() < gives_up {
            tokio::select! {
                () = sleep(TAKE_BACK_PAUSE.min(self.allowance.window() / 4)) => {}
                () = self.stopping.cancelled() => sleep(CLAIMS_STOP_PAUSE).await,
            }
            let deadline = clock::monotonic() + nats::REQUEST_TIMEOUT;
            match self.latest(key, deadline).await {
                Ok(Some(claim)) if claim.value.as_ref() == Some(nonce) => {
                    if self.remove(key, claim.revision).await {
                        tracing::info!(%key, "took back a claim of unknown outcome: its call is free again");
                        return;
                    }
                }
                // Another's claim is stored: the own one can't be any more.
                Ok(Some(claim)) if claim.value.is_some() => return,
                Ok(_) => looks += 1,
                Err(_) => {}
            }
        }
    }

    /// Marks a claim as deleted if it is still the newest.
    async fn remove(&self, key: &AllowanceKey, revision: u64) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", "DEL");
        headers.insert(NATS_EXPECTED_STREAM, self.allowance.stream());
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string().as_str());
        let subject = self.subject(key);
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

/// A claim on its way. It is taken back if it is dropped while its outcome is unknown (a timeout, a
/// client that went away).
struct Pending {
    claims: Claims,
    key: AllowanceKey,
    nonce: Bytes,
    unknown: bool,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.unknown || Handle::try_current().is_err() {
            return;
        }
        if self.claims.taking_back.len() >= MAX_TAKING_BACK {
            tracing::warn!(
                "a claim of unknown outcome is left to expire: {MAX_TAKING_BACK} others are being taken back"
            );
            return;
        }
        let (claims, key, nonce) = (self.claims.clone(), self.key.clone(), self.nonce.clone());
        self.claims.taking_back.spawn(async move { claims.take_back(&key, &nonce).await });
    }
}
