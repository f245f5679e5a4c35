//! An allowance: one call a window for each key, counted in a KV bucket.
//!
//! *Invariants*: only the KV bucket's compare-and-set decides which request gets a call (see
//! [`crate::nats::claims`]); everything here can only refuse. `Retry-After` is never too short: a
//! client that waits that long is served.
//!
//! *Why* one second more: the bucket lets go of a key up to about a quarter of a second late, never
//! early (measured on nats-server 2.15).

use std::fmt;
use std::time::Duration;

use botstats_common::ids::{Account, Bot};
use botstats_common::names::{BOT_THROTTLE_BUCKET, THROTTLE_BUCKET, bucket_stream};

/// Added to every wait that a client is told, in seconds.
const MARGIN_S: u64 = 1;

/// One call a window for each key of a KV bucket, whose `max_age` is the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    policy: Policy,
    window: Duration,
}

/// Who has one call a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Each account.
    Account,
    /// Each bot.
    Bot,
}

impl Policy {
    /// The name in the header fields `RateLimit` and `RateLimit-Policy`, and in texts.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Policy::Account => "account",
            Policy::Bot => "bot",
        }
    }

    /// The KV bucket of the used calls.
    pub(crate) fn bucket(self) -> &'static str {
        match self {
            Policy::Account => THROTTLE_BUCKET,
            Policy::Bot => BOT_THROTTLE_BUCKET,
        }
    }
}

/// A key of an allowance's KV bucket: whose calls are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AllowanceKey(String);

impl From<&Account> for AllowanceKey {
    fn from(account: &Account) -> Self {
        Self(account.as_str().to_owned())
    }
}

impl From<(&Account, &Bot)> for AllowanceKey {
    fn from((account, bot): (&Account, &Bot)) -> Self {
        Self(format!("{account}.{bot}"))
    }
}

impl fmt::Display for AllowanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Allowance {
    /// One call a window for each account; `None` for a window of zero, which switches it off.
    #[must_use]
    pub fn of_accounts(window: Duration) -> Option<Self> {
        Self::of(Policy::Account, window)
    }

    /// One call a window for each bot; `None` for a window of zero, which switches it off.
    #[must_use]
    pub fn of_bots(window: Duration) -> Option<Self> {
        Self::of(Policy::Bot, window)
    }

    fn of(policy: Policy, window: Duration) -> Option<Self> {
        (!window.is_zero()).then_some(Self { policy, window })
    }

    pub(crate) fn policy(self) -> Policy {
        self.policy
    }

    pub(crate) fn bucket(self) -> &'static str {
        self.policy.bucket()
    }

    /// The name of the KV bucket's stream.
    pub(crate) fn stream(self) -> String {
        bucket_stream(self.bucket())
    }

    pub(crate) fn window(self) -> Duration {
        self.window
    }

    /// The window in whole seconds, rounded up.
    pub(crate) fn window_s(self) -> u64 {
        self.window.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
    }

    /// The longest wait that a client is ever told, in seconds.
    pub(crate) fn longest_wait_s(self) -> u64 {
        self.window_s() + MARGIN_S
    }

    /// How long a claim stored at `created_ms` makes others wait at `now_ms`, both by the server's
    /// clock: whole seconds, at least 1.
    pub(crate) fn wait_s(self, created_ms: i64, now_ms: i64) -> u64 {
        let window_ms = i64::try_from(self.window.as_millis()).unwrap_or(i64::MAX);
        let left_ms = created_ms.saturating_add(window_ms).saturating_sub(now_ms).max(0);
        let left_s = u64::try_from(left_ms).unwrap_or_default().div_ceil(1000);
        (left_s + MARGIN_S).min(self.longest_wait_s())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_has_its_bucket_and_keys() {
        let window = Duration::from_secs(60);
        let (account, bot) = ("a".parse().unwrap(), "b".parse().unwrap());
        for (allowance, key, expected) in [
            (
                Allowance::of_accounts(window),
                AllowanceKey::from(&account),
                ("account", "KV_botstats_throttle", "a"),
            ),
            (
                Allowance::of_bots(window),
                AllowanceKey::from((&account, &bot)),
                ("bot", "KV_botstats_throttle_bot", "a.b"),
            ),
        ] {
            let allowance = allowance.unwrap();
            let (stream, key) = (allowance.stream(), key.to_string());
            assert_eq!((allowance.policy().name(), stream.as_str(), key.as_str()), expected);
        }
        assert_eq!(Allowance::of_bots(Duration::ZERO), None);
    }

    #[test]
    fn waits() {
        let hour = Allowance::of_accounts(Duration::from_secs(3600)).unwrap();
        let short = Allowance::of_accounts(Duration::from_millis(1500)).unwrap();
        assert_eq!(Allowance::of_accounts(Duration::ZERO), None);
        let t = 1_800_000_000_000;
        for (allowance, created_ms, now_ms, wait) in [
            // Just used.
            (hour, t, t, 3601),
            (hour, t, t + 1, 3601),
            (hour, t, t + 1_000, 3600),
            (hour, t, t + 1_001, 3600),
            (hour, t, t + 3_599_999, 2),
            // Over, but the bucket has not let go yet.
            (hour, t, t + 3_600_000, 1),
            (hour, t, t + 99_000_000, 1),
            // A read that is older than the claim.
            (hour, t, t - 500, 3601),
            (hour, i64::MAX, i64::MIN, 3601),
            (hour, i64::MIN, i64::MAX, 1),
            (short, t, t, 3),
            (short, t, t + 600, 2),
        ] {
            assert_eq!(allowance.wait_s(created_ms, now_ms), wait, "{created_ms} {now_ms}");
        }
    }
}
