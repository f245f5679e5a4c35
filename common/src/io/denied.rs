//! Rights that the nats-server denies, told apart from time-outs.
//!
//! The server says so beside the traffic, to nobody in particular: a denied request looks like one that
//! nobody answers, and a denied subscription is silent for good, for the server forgets it and the client
//! asks again only over a new connection. So what was denied is remembered for the texts of errors, logged
//! once a minute, and a guard makes a new connection as soon as a denied subscription is allowed.
//!
//! *Not here*: which rights are needed; see `docs/deploy/nats-server.conf`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use async_nats::{Client, ServerError};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::clock::monotonic;
use super::internal::Readiness;
use super::nats::{NatsSettings, REQUEST_TIMEOUT, Role};
use super::telemetry;

/// The part of the readiness.
pub const PART: &str = "rights";
/// The most denials that are remembered; what comes beyond them starts a new list.
const MAX_REMEMBERED: usize = 1_000;
/// The same denial is logged again after so long.
const LOG_AGAIN: Duration = Duration::from_secs(60);
/// A time-out so soon after a denial is explained by it.
const EXPLAINS: Duration = REQUEST_TIMEOUT.saturating_mul(2);
/// How often it is tried whether a denied subscription is allowed now.
const TRY_PAUSE: Duration = Duration::from_secs(5);
/// How long such a try waits for the server's no.
const TRY_WAIT: Duration = Duration::from_millis(500);
/// Denials on their way to [`guard`]; more are as good as these.
pub(super) const QUEUE: usize = 64;

/// Something that the user of the connection may not do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denied {
    /// To publish to that subject.
    Publish(String),
    /// To subscribe to that subject.
    Subscribe {
        /// The subject.
        subject: String,
        /// The queue group, if there is one.
        queue: Option<String>,
    },
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, subject) = match self {
            Denied::Publish(subject) => ("publish to", subject),
            Denied::Subscribe { subject, .. } => ("subscribe to", subject),
        };
        write!(f, "the NATS user may not {what} {}", without_random_parts(subject))
    }
}

/// How the subjects of reads begin.
const READS: &str = "botstats.read.v1.";

/// A subject with `*` or `>` for what is different each time.
fn without_random_parts(subject: &str) -> String {
    if let Some((prefix, _)) = subject.split_once('.').filter(|_| subject.starts_with("_INBOX")) {
        return format!("{prefix}.>");
    }
    // Of one ingest: its id is another at each start.
    if subject.strip_prefix(READS).is_some_and(|rest| rest.contains('.')) {
        return format!("{READS}*.*");
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

impl Denied {
    /// Reads a server's error; `None` if it is about something else.
    #[must_use]
    pub fn read(error: &ServerError) -> Option<Self> {
        let ServerError::Other(text) = error else { return None };
        let quoted = |after: &str| {
            let (_, rest) = text.split_once(after)?;
            rest.split_once('"').map(|(subject, _)| subject.to_owned())
        };
        if let Some(subject) = quoted("Permissions Violation for Publish to \"") {
            return Some(Denied::Publish(subject));
        }
        let subject = quoted("Permissions Violation for Subscription to \"")?;
        Some(Denied::Subscribe { subject, queue: quoted("using queue \"") })
    }

    /// Remembers it for those who ask why, and logs it now and then.
    pub(super) fn remember(&self) {
        let now = monotonic();
        let mut known = RECENT.known.lock();
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        let text = self.to_string();
        let logged = known.get(&text).map(|(_, times)| times.logged);
        let log = logged.is_none_or(|logged| now.duration_since(logged) >= LOG_AGAIN);
        let logged = logged.filter(|_| !log).unwrap_or(now);
        known.insert(text, (self.clone(), Times { last: now, logged }));
        drop(known);
        RECENT.changed.send_replace(());
        telemetry::denied(match self {
            Denied::Publish(_) => "publish",
            Denied::Subscribe { .. } => "subscribe",
        });
        if log {
            tracing::warn!("{self}: its permissions in nats-server lack that right");
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Times {
    last: Instant,
    logged: Instant,
}

/// What was denied to this process.
struct Recent {
    /// By the text about it: subjects with random parts are many.
    known: Mutex<BTreeMap<String, (Denied, Times)>>,
    changed: watch::Sender<()>,
}

static RECENT: LazyLock<Recent> =
    LazyLock::new(|| Recent { known: Mutex::default(), changed: watch::Sender::new(()) });

impl Recent {
    fn newest(&self, since: Instant, wanted: impl Fn(&Denied) -> bool) -> Option<Denied> {
        let known = self.known.lock();
        let fitting =
            known.values().filter(|(denied, times)| times.last >= since && wanted(denied));
        fitting.max_by_key(|(_, times)| times.last).map(|(denied, _)| denied.clone())
    }
}

/// What was denied just now, if anything: why something timed out.
#[must_use]
pub fn just_now() -> Option<Denied> {
    RECENT.newest(monotonic().checked_sub(EXPLAINS)?, |_| true)
}

/// Comes back when a publish to that subject, or any subscription, was denied since then.
pub async fn publish_since(subject: &str, since: Instant) -> Denied {
    let mut changed = RECENT.changed.subscribe();
    let wanted = |denied: &Denied| match denied {
        Denied::Publish(other) => other == subject,
        Denied::Subscribe { .. } => true,
    };
    loop {
        if let Some(denied) = RECENT.newest(since, wanted) {
            return denied;
        }
        if changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A connection whose subscriptions are looked after.
pub(super) struct Guarded {
    pub(super) settings: NatsSettings,
    pub(super) role: Role,
    pub(super) client: Client,
    /// What is denied to it.
    pub(super) denied: mpsc::Receiver<Denied>,
}

/// Says in the readiness which subscriptions are denied, and makes a new connection when they are not any
/// more. Ends when the token is cancelled.
pub(super) async fn guard(mut guarded: Guarded, readiness: Readiness, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = guarded.look_after(&readiness) => {}
    }
}

/// Denied subscriptions, by the text about them.
type Lacking = BTreeMap<String, Denied>;

fn lack(lacking: &mut Lacking, denied: Denied) {
    if matches!(denied, Denied::Subscribe { .. }) {
        lacking.insert(denied.to_string(), denied);
    }
}

impl Guarded {
    async fn look_after(&mut self, readiness: &Readiness) {
        let mut lacking = Lacking::new();
        while let Some(denied) = self.denied.recv().await {
            lack(&mut lacking, denied);
            while !lacking.is_empty() {
                let all: Vec<&str> = lacking.keys().map(String::as_str).collect();
                readiness.missing(PART, all.join("; "));
                sleep(TRY_PAUSE).await;
                while let Ok(denied) = self.denied.try_recv() {
                    lack(&mut lacking, denied);
                }
                let Some(still) = self.still_denied(&lacking).await else { continue };
                if still.len() == lacking.len() {
                    continue;
                }
                tracing::info!("subscribing over a new connection: the right is there now");
                lacking.retain(|text, _| still.contains(text));
                // What was denied meanwhile is asked for again.
                while self.denied.try_recv().is_ok() {}
                // Fails only if the connection was closed for good.
                let _closed = self.client.force_reconnect().await;
            }
            readiness.present(PART);
        }
    }

    /// Tries the subscriptions over a connection of their own, for the others of this one may be at work; none
    /// if that is not possible now. They are given up at once, so that nothing is delivered to them.
    async fn still_denied(&self, wanted: &Lacking) -> Option<BTreeSet<String>> {
        let (sender, mut denied) = mpsc::channel(QUEUE.max(wanted.len()));
        let client = self.settings.connect_telling(self.role, Some(sender)).await.ok()?;
        for one in wanted.values() {
            let Denied::Subscribe { subject, queue } = one.clone() else { continue };
            let subscribed = match queue {
                Some(queue) => client.queue_subscribe(subject, queue).await,
                None => client.subscribe(subject).await,
            };
            drop(subscribed.ok()?);
        }
        client.flush().await.ok()?;
        let mut still = BTreeSet::new();
        let collect = async {
            while let Some(denied) = denied.recv().await {
                still.insert(denied.to_string());
            }
        };
        let _until_then = timeout(TRY_WAIT, collect).await;
        Some(still)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(text: &str) -> Option<Denied> {
        Denied::read(&ServerError::Other(text.to_owned()))
    }

    #[test]
    fn what_the_server_says() {
        let subscribe = |subject: &str, queue: Option<&str>| {
            let queue = queue.map(str::to_owned);
            Some(Denied::Subscribe { subject: subject.to_owned(), queue })
        };
        for (text, expected) in [
            (r#"Permissions Violation for Publish to "a.b""#, Some(Denied::Publish("a.b".into()))),
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
            assert_eq!(denied(text), expected, "{text}");
        }
        assert_eq!(Denied::read(&ServerError::AuthorizationViolation), None);
    }

    #[test]
    fn what_people_read() {
        let text = |subject: &str| Denied::Publish(subject.to_owned()).to_string();
        for (subject, end) in [
            ("botstats.events.a.b.c", "publish to botstats.events.a.b.c"),
            ("_INBOX_query.abcdef.1", "publish to _INBOX_query.>"),
            ("botstats.read.v1.acme", "publish to botstats.read.v1.acme"),
            ("botstats.read.v1.abcdef.acme", "publish to botstats.read.v1.*.*"),
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
    async fn a_denial_explains_what_follows_it() {
        let before = monotonic();
        let subject = "only.in.this.test";
        let waiting = publish_since(subject, before);
        let mut waiting = std::pin::pin!(waiting);
        let late = timeout(Duration::from_millis(1), waiting.as_mut()).await;
        assert!(late.is_err());
        let denied = Denied::Publish(subject.to_owned());
        denied.remember();
        assert_eq!(waiting.await, denied);
        assert_eq!(just_now(), Some(denied));
    }
}
