//! Answers shared by equal questions: one is computed, the others wait for it or get it for a
//! moment after.
//!
//! *Invariants*: an answer is given only for the key that it was computed for. A question that
//! waits is not lost with the one that computes: if that one is given up, the next in line
//! computes. Problems that are as true for the next asker are shared too; that something cannot be
//! reached is not.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use botstats_common::io::clock;
use parking_lot::Mutex;
use tokio::time::timeout_at;

use crate::problem::Problem;
use crate::telemetry::METRICS;

/// The most that the kept answers of one kind may have, in bytes: an answer beyond it goes to those
/// who wait for it, and is not kept.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// What an answer takes in memory.
pub(super) trait Weigh {
    /// About how many bytes.
    fn bytes(&self) -> usize;
}

/// Answers of one kind.
#[derive(Debug)]
pub(super) struct Shared<K, V> {
    /// How long an answer is given to others.
    keep: Duration,
    all: Mutex<All<K, V>>,
}

#[derive(Debug)]
struct All<K, V> {
    entries: HashMap<K, Entry<V>>,
    bytes: usize,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Entry<V> {
    /// Held by the question that computes.
    turn: Arc<tokio::sync::Mutex<()>>,
    kept: Option<Kept<V>>,
}

#[derive(Debug)]
struct Kept<V> {
    at: Instant,
    answer: Result<V, Problem>,
    bytes: usize,
}

impl<K: Eq + Hash + Clone, V: Clone + Weigh> Shared<K, V> {
    /// Answers that are given to others for `keep`.
    pub(super) fn new(keep: Duration) -> Self {
        Self { keep, all: Mutex::new(All { entries: HashMap::new(), bytes: 0, swept: None }) }
    }

    /// The answer of an equal question, or the one that `compute` gives.
    pub(super) async fn get(
        &self,
        key: K,
        by: Instant,
        compute: impl Future<Output = Result<V, Problem>>,
    ) -> Result<V, Problem> {
        let turn = match self.look(&key) {
            Ok(answer) => return shared(answer),
            Err(turn) => turn,
        };
        let _turn = timeout_at(by.into(), turn.lock())
            .await
            .map_err(|_late| Problem::Unavailable("the answer took too long"))?;
        // Perhaps the one before computed it.
        if let Ok(answer) = self.look(&key) {
            return shared(answer);
        }
        let answer = compute.await;
        if matches!(answer, Ok(_) | Err(Problem::AnswerTooLarge(_) | Problem::Incomplete(_))) {
            METRICS.page_answers.count("computed");
            self.keep(key, answer.clone());
        }
        answer
    }

    /// The answer that is kept for a key, or the turn to wait for.
    fn look(&self, key: &K) -> Result<Result<V, Problem>, Arc<tokio::sync::Mutex<()>>> {
        let (mut all, now) = (self.all.lock(), clock::monotonic());
        if all.swept.is_none_or(|at| now.saturating_duration_since(at) >= self.keep) {
            all.sweep(now, self.keep);
        }
        let entry = all
            .entries
            .entry(key.clone())
            .or_insert_with(|| Entry { turn: Arc::default(), kept: None });
        match entry.kept.as_ref().filter(|kept| kept.is_fresh(now, self.keep)) {
            Some(kept) => Ok(kept.answer.clone()),
            None => Err(Arc::clone(&entry.turn)),
        }
    }

    fn keep(&self, key: K, answer: Result<V, Problem>) {
        let mut all = self.all.lock();
        let bytes = answer.as_ref().map_or(0, Weigh::bytes);
        let before = all.entries.get(&key).and_then(|entry| entry.kept.as_ref());
        let others = all.bytes - before.map_or(0, |kept| kept.bytes);
        if others.saturating_add(bytes) > MAX_BYTES {
            return;
        }
        let kept = Some(Kept { at: clock::monotonic(), answer, bytes });
        if let Some(entry) = all.entries.get_mut(&key) {
            entry.kept = kept;
            all.bytes = others + bytes;
        }
    }

    /// Drops the answers that are too old, and the keys that nobody asks for.
    pub(super) fn sweep(&self) {
        self.all.lock().sweep(clock::monotonic(), self.keep);
    }
}

impl<K: Eq + Hash, V> All<K, V> {
    fn sweep(&mut self, now: Instant, keep: Duration) {
        self.swept = Some(now);
        let mut bytes = 0;
        self.entries.retain(|_, entry| {
            entry.kept = entry.kept.take().filter(|kept| kept.is_fresh(now, keep));
            bytes += entry.kept.as_ref().map_or(0, |kept| kept.bytes);
            entry.kept.is_some() || Arc::strong_count(&entry.turn) > 1
        });
        self.bytes = bytes;
    }
}

impl<V> Kept<V> {
    fn is_fresh(&self, now: Instant, keep: Duration) -> bool {
        now.saturating_duration_since(self.at) < keep
    }
}

fn shared<V>(answer: Result<V, Problem>) -> Result<V, Problem> {
    METRICS.page_answers.count("shared");
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::join_all;
    use tokio::time::sleep;

    use super::*;
    use crate::problem::TooLarge;

    const KEEP: Duration = Duration::from_millis(200);

    impl Weigh for u32 {
        fn bytes(&self) -> usize {
            MAX_BYTES / 2
        }
    }

    fn far() -> Instant {
        clock::monotonic() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn equal_questions_are_computed_once_others_apart() {
        let (shared, computed) = (Shared::new(KEEP), AtomicU32::new(0));
        let compute = async |answer: Result<u32, Problem>| {
            computed.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(20)).await;
            answer
        };
        let ask = async |key: u8, answer| shared.get(key, far(), compute(answer)).await;
        let answers = join_all((0..10).map(|n| ask(n % 2, Ok(n.into())))).await;
        assert_eq!(computed.load(Ordering::Relaxed), 2);
        for (n, answer) in (0_u32..).zip(answers) {
            assert_eq!(answer, Ok(n % 2));
        }
        // Kept for a moment.
        assert_eq!(ask(0, Ok(7)).await, Ok(0));
        sleep(KEEP).await;
        assert_eq!(ask(0, Ok(7)).await, Ok(7));
        // A problem of the question is shared, an outage is not.
        let large = Err(Problem::AnswerTooLarge(TooLarge::Memory));
        assert_eq!(ask(2, large.clone()).await, large);
        assert_eq!(ask(2, Ok(1)).await, large);
        let away = Err(Problem::Unavailable("x"));
        assert_eq!(ask(3, away.clone()).await, away);
        assert_eq!(ask(3, Ok(3)).await, Ok(3));
    }

    #[tokio::test]
    async fn a_question_that_is_given_up_does_not_take_others_with_it() {
        let shared = Shared::new(KEEP);
        let mut first = Box::pin(shared.get(0_u8, far(), std::future::pending()));
        assert!(futures::poll!(&mut first).is_pending());
        let soon = clock::monotonic() + Duration::from_millis(20);
        let late = shared.get(0, soon, async { Ok(1_u32) }).await;
        assert_eq!(late, Err(Problem::Unavailable("the answer took too long")));
        drop(first);
        assert_eq!(shared.get(0, far(), async { Ok(2) }).await, Ok(2));
    }

    #[tokio::test]
    async fn memory_is_bounded_and_given_back() {
        let shared = Shared::new(KEEP);
        for key in 0_u8..3 {
            shared.get(key, far(), async { Ok(1_u32) }).await.unwrap();
        }
        assert_eq!(shared.all.lock().bytes, MAX_BYTES);
        assert_eq!(shared.get(2, far(), async { Ok(2_u32) }).await, Ok(2), "not kept");
        sleep(KEEP).await;
        shared.sweep();
        let all = shared.all.lock();
        assert!(all.entries.is_empty() && all.bytes == 0);
    }
}
