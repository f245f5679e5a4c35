//! A rate limit for log lines that others can cause at any rate, such as a server that refuses.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use super::super::clock::monotonic;
use parking_lot::Mutex;

/// The interval in which lines of the same text are logged once.
const AGAIN: Duration = Duration::from_secs(60);
/// The most different texts that one [`RateLimit`] logs in that interval; there are fewer causes
/// than that.
const MAX_TEXTS: usize = 16;

/// Lets each text pass once a minute, and counts the suppressed lines.
#[derive(Debug)]
pub struct RateLimit(Mutex<BTreeMap<String, Known>>);

#[derive(Debug)]
struct Known {
    logged: Instant,
    suppressed: u64,
}

/// The number of suppressed lines of the same text, to be shown at the end of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suppressed(u64);

impl Suppressed {
    /// True if no line was suppressed.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " (and {count} times more since this was logged last)"),
        }
    }
}

impl RateLimit {
    /// A limit that has seen no line yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// `None` if a line of that text must not be logged now; else that text is not due again for a
    /// minute.
    #[must_use]
    pub fn due(&self, text: &str) -> Option<Suppressed> {
        let now = monotonic();
        let is_new = |known: &Known| now.duration_since(known.logged) < AGAIN;
        let mut texts = self.0.lock();
        if let Some(known) = texts.get_mut(text) {
            if is_new(known) {
                known.suppressed += 1;
                return None;
            }
            let suppressed = Suppressed(known.suppressed);
            *known = Known { logged: now, suppressed: 0 };
            return Some(suppressed);
        }
        if texts.len() >= MAX_TEXTS {
            texts.retain(|_, known| is_new(known));
        }
        if texts.len() >= MAX_TEXTS {
            return None;
        }
        texts.insert(text.to_owned(), Known { logged: now, suppressed: 0 });
        Some(Suppressed(0))
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minute later.
    fn pass(line: &RateLimit) {
        for known in line.0.lock().values_mut() {
            known.logged = known.logged.checked_sub(AGAIN).unwrap();
        }
    }

    #[test]
    fn a_text_is_due_once_a_minute_and_counted_between() {
        let line = RateLimit::new();
        let said = |text| line.due(text).map(|suppressed| suppressed.to_string());
        assert_eq!(said("refused"), Some(String::new()));
        assert_eq!(said("timed out"), Some(String::new()));
        for _ in 0..59 {
            assert_eq!(said("refused"), None);
        }
        pass(&line);
        let counted = " (and 59 times more since this was logged last)".to_owned();
        assert_eq!(said("refused"), Some(counted));
        assert_eq!(said("refused"), None);
        assert_eq!(said("timed out"), Some(String::new()));
    }

    #[test]
    fn texts_that_are_always_new_are_no_flood() {
        let line = RateLimit::new();
        let due = |from: usize| {
            (from..from + 1_000).filter(|n| line.due(&format!("text {n}")).is_some()).count()
        };
        assert_eq!(due(0), MAX_TEXTS);
        pass(&line);
        assert_eq!(due(1_000), MAX_TEXTS);
    }
}
