//! One call an account a window: what is known, what it means, what is remembered.
//!
//! *Invariants*: only the KV bucket's compare-and-set decides who may have an answer (see
//! [`crate::nats::claims`]); everything here can only refuse. `Retry-After` is never too short: a
//! client that waits just that long is served.
//!
//! *Why* one second more: the bucket lets go of a key up to about a quarter of a second late, never
//! early (measured on nats-server 2.15).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use botstats_common::ids::Account;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

/// Added to every wait, in seconds.
const MARGIN_S: u64 = 1;
/// The most accounts whose used call is remembered; beyond them the KV bucket is asked.
const MAX_REMEMBERED: usize = 100_000;
/// What is remembered is asked again after so long: a call that was given back (an administrator deleted
/// its key, or a claim that had no answer was taken back) is seen by then.
const MEMORY_LIMIT: Duration = Duration::from_secs(60);
/// The most requests of one account that wait for their turn.
const MAX_WAITING: usize = 1_024;

/// The throttle's window: how long a call counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    window: Duration,
}

/// What a stored claim means for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nobody used the call: it may be claimed.
    Free,
    /// It is used; the next is allowed after so many seconds.
    Wait {
        /// Whole seconds, at least 1.
        retry_after_s: u64,
    },
}

impl Throttle {
    /// A throttle with that window; `None` for a window of zero, which switches it off.
    #[must_use]
    pub fn with_window(window: Duration) -> Option<Self> {
        (!window.is_zero()).then_some(Self { window })
    }

    /// The window.
    #[must_use]
    pub fn window(self) -> Duration {
        self.window
    }

    /// The window in whole seconds, rounded up.
    #[must_use]
    pub fn window_s(self) -> u64 {
        self.window.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
    }

    /// The longest wait that a client is ever told, in seconds.
    #[must_use]
    pub fn longest_wait_s(self) -> u64 {
        self.window_s() + MARGIN_S
    }

    /// What a claim stored at `created_ms` means at `now_ms`, both by the server's clock.
    #[must_use]
    pub fn decide(self, created_ms: Option<i64>, now_ms: i64) -> Decision {
        let Some(created_ms) = created_ms else {
            return Decision::Free;
        };
        let window_ms = i64::try_from(self.window.as_millis()).unwrap_or(i64::MAX);
        let left_ms = created_ms.saturating_add(window_ms).saturating_sub(now_ms).max(0);
        let left_s = u64::try_from(left_ms).unwrap_or_default().div_ceil(1000);
        Decision::Wait { retry_after_s: (left_s + MARGIN_S).clamp(1, self.longest_wait_s()) }
    }
}

/// Accounts whose call is known to be used, until when: answers repeats without NATS.
#[derive(Debug, Default)]
pub struct Remembered(Mutex<HashMap<Account, Memory>>);

#[derive(Debug, Clone, Copy)]
struct Memory {
    /// When the next call is allowed.
    until: Instant,
    /// When NATS is asked again.
    asked_again: Instant,
}

impl Remembered {
    /// Remembers that an account's next call is allowed `retry_after_s` seconds from `now`.
    pub fn used(&self, account: &Account, retry_after_s: u64, now: Instant) {
        let mut known = self.0.lock();
        if known.len() >= MAX_REMEMBERED {
            known.retain(|_, memory| memory.until.min(memory.asked_again) > now);
        }
        let until = now.checked_add(Duration::from_secs(retry_after_s));
        if let Some(until) = until.filter(|_| known.len() < MAX_REMEMBERED) {
            known.insert(account.clone(), Memory { until, asked_again: now + MEMORY_LIMIT });
        }
    }

    /// Seconds after which the account's next call is allowed, if it is known to be used and need not be
    /// asked again.
    #[must_use]
    pub fn retry_after_s(&self, account: &Account, now: Instant) -> Option<u64> {
        let mut known = self.0.lock();
        let Memory { until, asked_again } = *known.get(account)?;
        let left = until.saturating_duration_since(now);
        if left.is_zero() {
            known.remove(account);
        }
        if left.is_zero() || asked_again <= now {
            return None;
        }
        Some(left.as_secs() + u64::from(left.subsec_nanos() > 0))
    }
}

impl Remembered {
    /// Whether nothing is remembered that speaks against an answer: neither a used call, though it be asked
    /// again, nor that there was no room to remember one.
    #[must_use]
    pub fn may_be_free(&self, account: &Account, now: Instant) -> bool {
        let known = self.0.lock();
        match known.get(account) {
            Some(memory) => memory.until <= now,
            None => known.len() < MAX_REMEMBERED,
        }
    }
}

/// Turns: one request an account at a time, so that a burst costs one read.
#[derive(Debug, Default, Clone)]
pub struct Turns(Arc<Mutex<HashMap<Account, Arc<Semaphore>>>>);

/// Why there was no turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// A request's turn; the next one's begins when it is dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Turns,
    account: Account,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// Waits for the account's turn until `deadline`.
    ///
    /// # Errors
    /// [`Busy`] if it did not come in time, or too many wait already.
    pub async fn wait(&self, account: &Account, deadline: Instant) -> Result<Turn, Busy> {
        let semaphore = {
            let mut all = self.0.lock();
            let semaphore =
                all.entry(account.clone()).or_insert_with(|| Arc::new(Semaphore::new(1))).clone();
            // The map, this clone, and one each that waits or has the turn.
            if Arc::strong_count(&semaphore) > MAX_WAITING + 2 {
                return Err(Busy);
            }
            semaphore
        };
        // Made before the wait: dropped at its end, it takes the account out of the map.
        let mut turn = Turn { turns: self.clone(), account: account.clone(), permit: None };
        match timeout_at(deadline.into(), semaphore.acquire_owned()).await {
            Ok(Ok(permit)) => {
                turn.permit = Some(permit);
                Ok(turn)
            }
            _ => Err(Busy),
        }
    }

    #[cfg(test)]
    fn accounts(&self) -> usize {
        self.0.lock().len()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut all = self.turns.0.lock();
        drop(self.permit.take());
        // Only the map still has it: nobody waits.
        if all.get(&self.account).is_some_and(|semaphore| Arc::strong_count(semaphore) == 1) {
            all.remove(&self.account);
        }
    }
}

#[cfg(test)]
mod tests {
    use botstats_common::io::clock;

    use super::*;

    fn account(name: &str) -> Account {
        name.parse().unwrap()
    }

    #[test]
    fn decisions() {
        let hour = Throttle::with_window(Duration::from_secs(3600)).unwrap();
        let short = Throttle::with_window(Duration::from_millis(1500)).unwrap();
        assert_eq!(Throttle::with_window(Duration::ZERO), None);
        let t = 1_800_000_000_000;
        for (throttle, created_ms, now_ms, wait) in [
            (hour, None, t, None),
            // Just used.
            (hour, Some(t), t, Some(3601)),
            (hour, Some(t), t + 1, Some(3601)),
            (hour, Some(t), t + 1_000, Some(3600)),
            (hour, Some(t), t + 1_001, Some(3600)),
            (hour, Some(t), t + 3_599_999, Some(2)),
            // Over, but the bucket has not let go yet.
            (hour, Some(t), t + 3_600_000, Some(1)),
            (hour, Some(t), t + 99_000_000, Some(1)),
            // A read that is older than the claim.
            (hour, Some(t), t - 500, Some(3601)),
            (hour, Some(i64::MAX), i64::MIN, Some(3601)),
            (hour, Some(i64::MIN), i64::MAX, Some(1)),
            (short, Some(t), t, Some(3)),
            (short, Some(t), t + 600, Some(2)),
        ] {
            let expected =
                wait.map_or(Decision::Free, |retry_after_s| Decision::Wait { retry_after_s });
            assert_eq!(throttle.decide(created_ms, now_ms), expected, "{created_ms:?} {now_ms}");
        }
    }

    #[test]
    fn a_used_call_is_remembered_just_as_long_as_it_was_said() {
        let remembered = Remembered::default();
        let start = clock::monotonic();
        let at = |ms| start + Duration::from_millis(ms);
        remembered.used(&account("a"), 10, start);
        for (account_name, ms, expected) in [
            ("a", 0, Some(10)),
            ("a", 1, Some(10)),
            ("a", 1_000, Some(9)),
            ("a", 9_999, Some(1)),
            ("b", 0, None),
        ] {
            let left = remembered.retry_after_s(&account(account_name), at(ms));
            assert_eq!(left, expected, "{account_name} {ms}");
        }
        // Never 0 seconds while it is used, however little is left.
        let end = at(10_000);
        let last = end.checked_sub(Duration::from_nanos(1)).unwrap();
        assert_eq!(remembered.retry_after_s(&account("a"), last), Some(1));
        assert_eq!(remembered.retry_after_s(&account("a"), end), None);
    }

    #[test]
    fn what_is_remembered_is_asked_again() {
        let remembered = Remembered::default();
        let start = clock::monotonic();
        let (a, at) = (account("a"), |ms| start + Duration::from_millis(ms));
        assert!(remembered.may_be_free(&a, start));
        remembered.used(&a, 3_600, start);
        assert_eq!(remembered.retry_after_s(&a, at(59_999)), Some(3_541));
        assert_eq!(remembered.retry_after_s(&a, at(60_000)), None);
        // Asked again, but not as one of which nothing is known.
        assert!(!remembered.may_be_free(&a, at(60_000)));
        assert!(remembered.may_be_free(&a, at(3_600_000)));
        remembered.used(&a, 3_540, at(60_001));
        assert_eq!(remembered.retry_after_s(&a, at(60_001)), Some(3_540));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let remembered = Remembered::default();
        let start = clock::monotonic();
        for i in 0..MAX_REMEMBERED {
            remembered.used(&account(&format!("a{i}")), 5, start);
        }
        remembered.used(&account("late"), 5, start);
        assert_eq!(remembered.retry_after_s(&account("late"), start), None);
        assert!(!remembered.may_be_free(&account("late"), start));
        // Once the others are over there is room again.
        let later = start + Duration::from_secs(6);
        remembered.used(&account("late"), 5, later);
        assert_eq!(remembered.retry_after_s(&account("late"), later), Some(5));
        assert_eq!(remembered.0.lock().len(), 1);
    }

    #[tokio::test]
    async fn turns_are_one_at_a_time_and_leave_nothing_behind() {
        let turns = Turns::default();
        let soon = || clock::monotonic() + Duration::from_millis(30);
        let far = clock::monotonic() + Duration::from_secs(60);
        let first = turns.wait(&account("a"), far).await.unwrap();
        assert!(turns.wait(&account("a"), soon()).await.is_err());
        let other = turns.wait(&account("b"), soon()).await.unwrap();
        let (a, then) = (account("a"), turns.clone());
        let next = tokio::join!(async { then.wait(&a, far).await }, async { drop(first) }).0;
        assert!(next.is_ok());
        drop((next, other));
        assert_eq!(turns.accounts(), 0);
    }

    #[tokio::test]
    async fn few_may_wait() {
        let turns = Turns::default();
        let far = clock::monotonic() + Duration::from_secs(60);
        let first = turns.wait(&account("a"), far).await.unwrap();
        let wait = || {
            let turns = turns.clone();
            Box::pin(async move { turns.wait(&account("a"), far).await.map(|_| ()) })
        };
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| wait()).collect();
        for one in &mut waiting {
            assert!(futures::poll!(one).is_pending());
        }
        assert_eq!(wait().await, Err(Busy));
        drop(first);
        for one in waiting {
            one.await.unwrap();
        }
        assert_eq!(turns.accounts(), 0);
    }
}
