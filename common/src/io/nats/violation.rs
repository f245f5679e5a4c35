//! Permission violations: rights that the nats-server denies to this process.
//!
//! The server reports a violation beside the traffic, without naming the request: a denied request
//! looks like one that no server answers. So violations are kept for a few seconds for the texts of
//! errors, and logged.
//!
//! *Not here*: which rights are needed; see `docs/deploy/nats-server.conf`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use async_nats::ServerError;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::request::REQUEST_TIMEOUT;
use crate::io::clock::monotonic;
use crate::io::logging::RateLimit;
use crate::io::telemetry;
use crate::names::{SLOT_READ_PREFIX, all_slot_reads};

/// The most different violations that are kept; one more starts a new list. Subjects have random
/// parts, so there is no natural limit.
const MAX_KEPT: usize = 1_000;
/// A violation that is at most this old explains why a request timed out.
const EXPLAINS: Duration = REQUEST_TIMEOUT.saturating_mul(2);

static LOGGED: RateLimit = RateLimit::new();

/// Something that the user of the connection may not do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// Publishing to that subject.
    Publish(String),
    /// Subscribing.
    Subscribe {
        /// The subject.
        subject: String,
        /// The queue group, if there is one.
        queue: Option<String>,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, subject) = match self {
            Violation::Publish(subject) => ("publish to", subject),
            Violation::Subscribe { subject, .. } => ("subscribe to", subject),
        };
        write!(f, "the NATS user may not {what} {}", without_random_parts(subject))
    }
}

/// The prefix of the subjects of reads without a slot.
const READS: &str = "botstats.read.v1.";

/// A subject with `*` or `>` in place of its random parts.
fn without_random_parts(subject: &str) -> String {
    if let Some((prefix, _)) = subject.split_once('.').filter(|_| subject.starts_with("_INBOX")) {
        return format!("{prefix}.>");
    }
    // The subject of one ingest; each start of an ingest has a new id.
    if subject.strip_prefix(READS).is_some_and(|rest| rest.contains('.')) {
        return format!("{READS}*.*");
    }
    // An ingest subscribes to up to 256 slots: one line of the log is enough.
    if subject.strip_prefix(SLOT_READ_PREFIX).is_some_and(|rest| rest.starts_with('.')) {
        return all_slot_reads();
    }
    match subject.rsplit_once('.') {
        // The name of a JetStream domain may stand before API.
        Some((of_stream, _))
            if subject.starts_with("$JS.") && subject.contains(".API.CONSUMER.MSG.NEXT.") =>
        {
            format!("{of_stream}.*")
        }
        _ => subject.to_owned(),
    }
}

impl Violation {
    /// Parses an error of the server; `None` if the error is no violation.
    pub(super) fn parse(error: &ServerError) -> Option<Self> {
        let ServerError::Other(text) = error else { return None };
        let quoted = |after: &str| {
            let (_, rest) = text.split_once(after)?;
            rest.split_once('"').map(|(subject, _)| subject.to_owned())
        };
        if let Some(subject) = quoted("Permissions Violation for Publish to \"") {
            return Some(Violation::Publish(subject));
        }
        let subject = quoted("Permissions Violation for Subscription to \"")?;
        Some(Violation::Subscribe { subject, queue: quoted("using queue \"") })
    }

    /// Keeps the violation for errors that follow, counts it, and logs it.
    pub(super) fn record(&self) {
        let text = self.to_string();
        if let Some(suppressed) = LOGGED.due(&text) {
            tracing::warn!("{text}: its permissions in nats-server lack that right{suppressed}");
        }
        let mut kept = RECENT.kept.lock();
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(text, (self.clone(), monotonic()));
        drop(kept);
        RECENT.changed.send_replace(());
        telemetry::count_violation(match self {
            Violation::Publish(_) => "publish",
            Violation::Subscribe { .. } => "subscribe",
        });
    }
}

/// The violations of this process.
struct Recent {
    /// By text, with the time of the last one: the text has no random parts of subjects.
    kept: Mutex<BTreeMap<String, (Violation, Instant)>>,
    changed: watch::Sender<()>,
}

static RECENT: LazyLock<Recent> =
    LazyLock::new(|| Recent { kept: Mutex::default(), changed: watch::Sender::new(()) });

impl Recent {
    fn newest(&self, wanted: impl Fn(&Violation, Instant) -> bool) -> Option<Violation> {
        let kept = self.kept.lock();
        let fitting = kept.values().filter(|(violation, at)| wanted(violation, *at));
        fitting.max_by_key(|(_, at)| at).map(|(violation, _)| violation.clone())
    }
}

/// The newest violation of the last seconds: the likely reason if a request timed out.
#[must_use]
pub fn recent_violation() -> Option<Violation> {
    let since = monotonic().checked_sub(EXPLAINS)?;
    RECENT.newest(|_, at| at >= since)
}

/// Waits for a violation that is `wanted`, by itself and the time of the last such one: it explains
/// why a message has no acknowledgement.
pub(in crate::io) async fn violation_of(wanted: impl Fn(&Violation, Instant) -> bool) -> Violation {
    let mut changed = RECENT.changed.subscribe();
    loop {
        if let Some(violation) = RECENT.newest(&wanted) {
            return violation;
        }
        if changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn parsed(text: &str) -> Option<Violation> {
        Violation::parse(&ServerError::Other(text.to_owned()))
    }

    #[test]
    fn what_the_server_says() {
        let subscribe = |subject: &str, queue: Option<&str>| {
            let queue = queue.map(str::to_owned);
            Some(Violation::Subscribe { subject: subject.to_owned(), queue })
        };
        for (text, expected) in [
            (
                r#"Permissions Violation for Publish to "a.b""#,
                Some(Violation::Publish("a.b".into())),
            ),
            (r#"Permissions Violation for Subscription to "a.*""#, subscribe("a.*", None)),
            (
                r#"Permissions Violation for Subscription to "a.*" using queue "q""#,
                subscribe("a.*", Some("q")),
            ),
            (
                r#"Permissions Violation for Subscription to "a.>" (sid "7")"#,
                subscribe("a.>", None),
            ),
            ("Maximum Payload Violation", None),
            ("", None),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
        assert_eq!(Violation::parse(&ServerError::AuthorizationViolation), None);
    }

    #[test]
    fn what_people_read() {
        let text = |subject: &str| Violation::Publish(subject.to_owned()).to_string();
        for (subject, end) in [
            ("botstats.events.a.b.c", "publish to botstats.events.a.b.c"),
            ("_INBOX_query.abcdef.1", "publish to _INBOX_query.>"),
            ("botstats.read.v1.acme", "publish to botstats.read.v1.acme"),
            ("botstats.read.v1.abcdef.acme", "publish to botstats.read.v1.*.*"),
            ("botstats.read.v2.175.acme", "publish to botstats.read.v2.*.*"),
            (
                "$JS.API.CONSUMER.MSG.NEXT.BOTSTATS_EVENTS.xyz",
                "publish to $JS.API.CONSUMER.MSG.NEXT.BOTSTATS_EVENTS.*",
            ),
            (
                "$JS.hub.API.CONSUMER.MSG.NEXT.BOTSTATS_EVENTS.xyz",
                "publish to $JS.hub.API.CONSUMER.MSG.NEXT.BOTSTATS_EVENTS.*",
            ),
        ] {
            assert!(text(subject).ends_with(end), "{}", text(subject));
        }
    }

    #[tokio::test]
    async fn a_violation_explains_what_follows_it() {
        let before = monotonic();
        let subject = "only.in.this.test";
        let of_subject = Violation::Publish(subject.to_owned());
        let waiting = violation_of(|violation, at| at >= before && *violation == of_subject);
        let mut waiting = std::pin::pin!(waiting);
        let late = timeout(Duration::from_millis(1), waiting.as_mut()).await;
        assert!(late.is_err());
        let violation = Violation::Publish(subject.to_owned());
        violation.record();
        assert_eq!(waiting.await, violation);
        assert_eq!(recent_violation(), Some(violation));
    }
}
