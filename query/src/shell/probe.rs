//! What this program needs to answer, looked at about every second: the connection, the throttle's KV
//! bucket, an ingest.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::GetStreamErrorKind;
use botstats_common::shell::internal::Readiness;
use botstats_common::shell::nats;
use botstats_common::shell::settings::show_duration;
use botstats_common::shell::setup::{self, SetupError};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Connection;
use super::claims::{Claims, THROTTLE_STREAM};
use super::ingests::PING_SUBJECT;

/// The parts of the readiness beside [`super::watch::PART`].
pub const NATS: &str = "nats";
/// The throttle's KV bucket.
pub const THROTTLE: &str = "throttle";
/// An ingest that answers reads.
pub const INGEST: &str = "ingest";

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// An ingest that does not answer a ping in that time is not there.
const PING_LIMIT: Duration = Duration::from_secs(1);

/// Looks until the token is cancelled.
///
/// # Errors
/// If the throttle's bucket has another window at the first look: no waiting mends that.
pub async fn keep(
    connection: Connection,
    claims: Option<Claims>,
    readiness: Readiness,
    stop: CancellationToken,
) -> Result<(), SetupError> {
    let buckets = async {
        let mut probe = Probe { connection: &connection, readiness: &readiness, made: false };
        loop {
            probe.connection();
            match &claims {
                Some(claims) => probe.throttle(claims).await?,
                None => readiness.present(THROTTLE),
            }
            sleep(PAUSE).await;
        }
    };
    let ingest = async {
        loop {
            match ping(&connection).await {
                Ok(()) => readiness.present(INGEST),
                Err(why) => readiness.missing(INGEST, why.to_owned()),
            }
            sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        failed = buckets => failed,
        () = ingest => Ok(()),
        () = tell(&readiness) => Ok(()),
    }
}

/// Logs when the program becomes ready and when it is not any more; of what is missing, at each change.
async fn tell(readiness: &Readiness) {
    let mut told = None;
    loop {
        let missing = readiness.all_missing();
        let parts: Vec<String> = missing.keys().cloned().collect();
        if told.as_ref() != Some(&parts) {
            if missing.is_empty() {
                tracing::info!("ready");
            } else {
                let why: Vec<String> =
                    missing.iter().map(|(p, why)| format!("{p}: {why}")).collect();
                tracing::warn!("not ready: {}", why.join("; "));
            }
            told = Some(parts);
        }
        sleep(PAUSE).await;
    }
}

/// What is wrong with the bucket.
enum Lack {
    /// It was seen not to be there, or not as it must be.
    Seen(String),
    /// It could not be looked at: what was seen last holds, and a claim will show.
    NotSeen(String),
}

struct Probe<'a> {
    connection: &'a Connection,
    readiness: &'a Readiness,
    /// Whether the bucket was there before. One that went away is not made again here: the calls of
    /// the last hour went with it, and an administrator should know.
    made: bool,
}

impl Probe<'_> {
    fn connection(&self) {
        if self.connection.is_up() {
            self.readiness.present(NATS);
        } else {
            self.readiness.missing(NATS, "the connection is lost".to_owned());
        }
    }

    async fn throttle(&mut self, claims: &Claims) -> Result<(), SetupError> {
        let looked = if !self.connection.is_up() {
            Err(Lack::NotSeen("no connection to NATS".to_owned()))
        } else if self.made {
            self.check(claims.throttle().window()).await
        } else {
            match setup::throttle_bucket(&self.connection.js, claims.throttle().window(), 1).await {
                Ok(_) => {
                    self.made = true;
                    Ok(())
                }
                Err(error @ SetupError::Differs { .. }) => return Err(error),
                Err(error) => Err(Lack::NotSeen(nats::chain(&error))),
            }
        };
        match looked {
            Ok(()) => {
                claims.set_usable(true);
                self.readiness.present(THROTTLE);
            }
            Err(Lack::Seen(why)) => {
                claims.set_usable(false);
                self.readiness.missing(THROTTLE, why);
            }
            Err(Lack::NotSeen(why)) => self.readiness.missing(THROTTLE, why),
        }
        Ok(())
    }

    /// Whether the bucket is still there, with the window.
    async fn check(&self, window: Duration) -> Result<(), Lack> {
        match self.connection.js.get_stream(THROTTLE_STREAM).await {
            Ok(stream) if stream.cached_info().config.max_age == window => Ok(()),
            Ok(stream) => Err(Lack::Seen(format!(
                "KV bucket botstats_throttle has the window {} now; this program has {}",
                show_duration(stream.cached_info().config.max_age),
                show_duration(window)
            ))),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(e)
                    if e.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    let why = "KV bucket botstats_throttle is missing: run `botstats setup`";
                    Err(Lack::Seen(why.to_owned()))
                }
                _ => Err(Lack::NotSeen(nats::chain(&error))),
            },
        }
    }
}

async fn ping(connection: &Connection) -> Result<(), &'static str> {
    if !connection.is_up() {
        return Err("no connection to NATS");
    }
    match timeout(PING_LIMIT, connection.client.request(PING_SUBJECT, "".into())).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err("no ingest answers reads"),
    }
}
