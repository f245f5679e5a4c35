//! Turns: one request a key at a time, so that a burst costs one read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use super::allowance::AllowanceKey;

/// The most calls of one key that wait for their turn; more get 503.
pub(super) const MAX_WAITING: usize = 1_024;

/// Who has the turn, and who waits. All clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    keys: Arc<Mutex<HashMap<AllowanceKey, Arc<Semaphore>>>>,
    /// The most requests of one key that wait for their turn.
    max_waiting: usize,
}

/// A request's turn; the next one's begins when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    key: AllowanceKey,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// Turns for which at most `max_waiting` requests of one key wait.
    pub(crate) fn new(max_waiting: usize) -> Self {
        Self { keys: Arc::default(), max_waiting }
    }

    /// Waits for a turn until `deadline`; `None` if the turn did not come in time, or too many
    /// requests wait already.
    pub(crate) async fn wait(&self, key: &AllowanceKey, deadline: Instant) -> Option<Turn> {
        let semaphore = {
            let mut all = self.keys.lock();
            let semaphore =
                all.entry(key.clone()).or_insert_with(|| Arc::new(Semaphore::new(1))).clone();
            // The map, this clone, and one clone for each request that waits or has the turn.
            if Arc::strong_count(&semaphore) > self.max_waiting + 2 {
                return None;
            }
            semaphore
        };
        // Made before the wait: its drop takes the key out of the map, also when the wait fails.
        let mut turn = Turn { turns: self.clone(), key: key.clone(), permit: None };
        let permit = timeout_at(deadline.into(), semaphore.acquire_owned()).await;
        turn.permit = Some(permit.ok()?.ok()?);
        Some(turn)
    }

    #[cfg(test)]
    fn keys(&self) -> usize {
        self.keys.lock().len()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut all = self.turns.keys.lock();
        drop(self.permit.take());
        // Only the map still has the semaphore: no request waits.
        if all.get(&self.key).is_some_and(|semaphore| Arc::strong_count(semaphore) == 1) {
            all.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use botstats_common::ids::Account;
    use botstats_common::io::clock;

    use super::*;

    fn key(name: &str) -> AllowanceKey {
        (&name.parse::<Account>().unwrap()).into()
    }

    #[tokio::test]
    async fn turns_are_one_at_a_time_and_leave_nothing_behind() {
        let turns = Turns::new(MAX_WAITING);
        let soon = || clock::monotonic() + Duration::from_millis(30);
        let far = clock::monotonic() + Duration::from_secs(60);
        let first = turns.wait(&key("a"), far).await.unwrap();
        assert!(turns.wait(&key("a"), soon()).await.is_none());
        let other = turns.wait(&key("b"), soon()).await.unwrap();
        let (a, then) = (key("a"), turns.clone());
        let next = tokio::join!(async { then.wait(&a, far).await }, async { drop(first) }).0;
        assert!(next.is_some());
        drop((next, other));
        assert_eq!(turns.keys(), 0);
    }

    #[tokio::test]
    async fn few_may_wait() {
        let turns = Turns::new(MAX_WAITING);
        let far = clock::monotonic() + Duration::from_secs(60);
        let first = turns.wait(&key("a"), far).await.unwrap();
        let wait = || {
            let turns = turns.clone();
            Box::pin(async move { turns.wait(&key("a"), far).await.map(|_| ()) })
        };
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| wait()).collect();
        for one in &mut waiting {
            assert!(futures::poll!(one).is_pending());
        }
        assert_eq!(wait().await, None);
        drop(first);
        for one in waiting {
            one.await.unwrap();
        }
        assert_eq!(turns.keys(), 0);
    }
}
