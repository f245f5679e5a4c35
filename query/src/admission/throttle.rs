//! An allowance at work: refuses used calls, gives turns, looks and claims. Another endpoint with
//! an allowance of its own has a throttle of its own.

use std::time::Instant;

use botstats_common::io::clock;

use super::allowance::{Allowance, AllowanceKey, Policy};
use super::turns::{MAX_WAITING, Turn, Turns};
use super::used_calls::UsedCalls;
use crate::nats::claims::{Claims, Outcome, Standing};
use crate::problem::Problem;
use crate::telemetry::METRICS;

/// What this process knows of an allowance's calls.
#[derive(Debug)]
pub(crate) struct Throttle {
    policy: Policy,
    /// `None` if there is no limit.
    allowance: Option<Allowance>,
    used: UsedCalls,
    turns: Turns,
}

impl Throttle {
    pub(crate) fn new(policy: Policy, allowance: Option<Allowance>) -> Self {
        Self { policy, allowance, used: UsedCalls::default(), turns: Turns::new(MAX_WAITING) }
    }

    /// Why a call is refused whose key has too many under way.
    pub(crate) fn too_many_of_one(&self) -> &'static str {
        match self.policy {
            Policy::Account => "too many calls of the account at the same time",
            Policy::Bot => "too many calls of the bot at the same time",
        }
    }

    pub(crate) fn allowance(&self) -> Option<Allowance> {
        self.allowance
    }

    /// Refuses a call that is known to be used, without NATS.
    pub(crate) fn refuse_if_used(&self, key: &AllowanceKey) -> Result<(), Problem> {
        match self.used.retry_after_s(key, clock::monotonic()) {
            Some(retry_after_s) => {
                self.decided("remembered");
                Err(self.throttled(retry_after_s))
            }
            None => Ok(()),
        }
    }

    /// True if nothing known here rules out an answer.
    pub(crate) fn may_be_free(&self, key: &AllowanceKey) -> bool {
        self.allowance.is_none() || self.used.may_be_free(key, clock::monotonic())
    }

    /// Waits until no other request of the key is under way.
    pub(crate) async fn turn(&self, key: &AllowanceKey, by: Instant) -> Result<Turn, Problem> {
        let turn = self.turns.wait(key, by).await;
        // The turn before may have used the call.
        self.refuse_if_used(key)?;
        turn.ok_or_else(|| Problem::Unavailable(self.too_many_of_one()))
    }

    /// Looks whether the call is free; gives the newest revision of its key.
    pub(crate) async fn look(
        &self,
        claims: Option<&Claims>,
        key: &AllowanceKey,
        deadline: Instant,
    ) -> Result<u64, Problem> {
        let Some(claims) = claims else {
            return Ok(0);
        };
        match claims.look(key, deadline).await.inspect_err(|_| self.decided("unavailable"))? {
            Standing::Free(revision) => Ok(revision),
            Standing::Wait { retry_after_s } => Err(self.denied(key, retry_after_s)),
        }
    }

    /// Claims the call. `revision` is the newest of its key, from [`Throttle::look`].
    pub(crate) async fn claim(
        &self,
        claims: Option<&Claims>,
        key: &AllowanceKey,
        revision: u64,
        deadline: Instant,
    ) -> Result<(), Problem> {
        let Some(claims) = claims else {
            self.decided("off");
            return Ok(());
        };
        match claims.claim(key, revision, deadline).await {
            Ok(Outcome::Won) => {
                self.decided("granted");
                let longest_s = claims.allowance().longest_wait_s();
                self.used.remember(key, longest_s, clock::monotonic());
                Ok(())
            }
            Ok(Outcome::Lost { retry_after_s }) => Err(self.denied(key, retry_after_s)),
            Err(unreachable) => {
                self.decided("unavailable");
                Err(unreachable.into())
            }
        }
    }

    fn denied(&self, key: &AllowanceKey, retry_after_s: u64) -> Problem {
        self.decided("denied");
        self.used.remember(key, retry_after_s, clock::monotonic());
        self.throttled(retry_after_s)
    }

    fn throttled(&self, retry_after_s: u64) -> Problem {
        Problem::Throttled {
            retry_after_s,
            window_s: self.allowance.map_or(0, Allowance::window_s),
            policy: self.policy,
        }
    }

    fn decided(&self, decision: &'static str) {
        let decisions = match self.policy {
            Policy::Account => &METRICS.decisions,
            Policy::Bot => &METRICS.bot_decisions,
        };
        decisions.count(decision);
    }
}
