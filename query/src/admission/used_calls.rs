//! Used calls in memory: they answer repeated calls without NATS.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::allowance::AllowanceKey;

/// The most keys whose used call is remembered, some 10 MB; beyond them the KV bucket is asked.
const MAX_REMEMBERED: usize = 100_000;
/// The KV bucket is asked again 60 s after a used call was remembered: a call that was given back
/// (an administrator deleted its key, or a claim without an answer was taken back) is free again by
/// then.
const MEMORY_LIMIT: Duration = Duration::from_secs(60);

/// The used calls of an allowance, by key.
#[derive(Debug, Default)]
pub(crate) struct UsedCalls(Mutex<HashMap<AllowanceKey, Memory>>);

#[derive(Debug, Clone, Copy)]
struct Memory {
    /// When the next call is allowed.
    until: Instant,
    /// When the KV bucket is asked again.
    asked_again: Instant,
}

impl UsedCalls {
    /// Remembers that a key's next call is allowed `retry_after_s` seconds from `now`.
    pub(crate) fn remember(&self, key: &AllowanceKey, retry_after_s: u64, now: Instant) {
        let mut known = self.0.lock();
        if known.len() >= MAX_REMEMBERED {
            known.retain(|_, memory| memory.until.min(memory.asked_again) > now);
        }
        let until = now.checked_add(Duration::from_secs(retry_after_s));
        if let Some(until) = until.filter(|_| known.len() < MAX_REMEMBERED) {
            known.insert(key.clone(), Memory { until, asked_again: now + MEMORY_LIMIT });
        }
    }

    /// Seconds after which the key's next call is allowed; `None` if the cache does not know, or
    /// the KV bucket has to be asked again.
    pub(crate) fn retry_after_s(&self, key: &AllowanceKey, now: Instant) -> Option<u64> {
        let mut known = self.0.lock();
        let Memory { until, asked_again } = *known.get(key)?;
        let left = until.saturating_duration_since(now);
        if left.is_zero() {
            known.remove(key);
        }
        if left.is_zero() || asked_again <= now {
            return None;
        }
        Some(left.as_secs() + u64::from(left.subsec_nanos() > 0))
    }

    /// True if the cache does not rule out an answer: it has no used call for this key and has not
    /// overflowed.
    pub(crate) fn may_be_free(&self, key: &AllowanceKey, now: Instant) -> bool {
        let known = self.0.lock();
        match known.get(key) {
            Some(memory) => memory.until <= now,
            None => known.len() < MAX_REMEMBERED,
        }
    }
}

#[cfg(test)]
mod tests {
    use botstats_common::ids::Account;
    use botstats_common::io::clock;

    use super::*;

    fn key(name: &str) -> AllowanceKey {
        (&name.parse::<Account>().unwrap()).into()
    }

    #[test]
    fn a_used_call_is_remembered_as_long_as_its_client_was_told() {
        let used = UsedCalls::default();
        let start = clock::monotonic();
        let at = |ms| start + Duration::from_millis(ms);
        used.remember(&key("a"), 10, start);
        for (name, ms, expected) in [
            ("a", 0, Some(10)),
            ("a", 1, Some(10)),
            ("a", 1_000, Some(9)),
            ("a", 9_999, Some(1)),
            ("b", 0, None),
        ] {
            let left = used.retry_after_s(&key(name), at(ms));
            assert_eq!(left, expected, "{name} {ms}");
        }
        // Never 0 seconds while it is used, however little is left.
        let end = at(10_000);
        let last = end.checked_sub(Duration::from_nanos(1)).unwrap();
        assert_eq!(used.retry_after_s(&key("a"), last), Some(1));
        assert_eq!(used.retry_after_s(&key("a"), end), None);
    }

    #[test]
    fn the_bucket_is_asked_again() {
        let used = UsedCalls::default();
        let start = clock::monotonic();
        let (a, at) = (key("a"), |ms| start + Duration::from_millis(ms));
        assert!(used.may_be_free(&a, start));
        used.remember(&a, 3_600, start);
        assert_eq!(used.retry_after_s(&a, at(59_999)), Some(3_541));
        assert_eq!(used.retry_after_s(&a, at(60_000)), None);
        // The bucket is asked again, but the cache still rules out an answer.
        assert!(!used.may_be_free(&a, at(60_000)));
        assert!(used.may_be_free(&a, at(3_600_000)));
        used.remember(&a, 3_540, at(60_001));
        assert_eq!(used.retry_after_s(&a, at(60_001)), Some(3_540));
    }

    #[test]
    fn memory_is_bounded() {
        let used = UsedCalls::default();
        let start = clock::monotonic();
        for i in 0..MAX_REMEMBERED {
            used.remember(&key(&format!("a{i}")), 5, start);
        }
        used.remember(&key("late"), 5, start);
        assert_eq!(used.retry_after_s(&key("late"), start), None);
        assert!(!used.may_be_free(&key("late"), start));
        // Once the others are over the cache has room again.
        let later = start + Duration::from_secs(6);
        used.remember(&key("late"), 5, later);
        assert_eq!(used.retry_after_s(&key("late"), later), Some(5));
        assert_eq!(used.0.lock().len(), 1);
    }
}
