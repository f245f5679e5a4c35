//! What this program needs to answer, looked at about every second: the connection, the KV buckets'
//! settings, an ingest.

use std::time::Duration;

use botstats_common::io::internal::Readiness;
use botstats_common::io::nats::{self, StreamInfoError};
use botstats_common::io::setup::{self, SetupError, Shape};
use botstats_common::rules::{self, Finding, StreamConfig, refusals};
use botstats_common::wire::MIN_PAYLOAD_BYTES;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Connection;
use super::claims::{Claims, THROTTLE_STREAM};
use super::entries::DIRECTORY_STREAM;
use super::ingests::PING_SUBJECT;
use super::watch::Shared;

/// The parts of the readiness beside [`super::watch::PART`].
pub const NATS: &str = "nats";
/// The throttle's KV bucket.
pub const THROTTLE: &str = "throttle";
/// The settings of the directory's KV bucket.
pub const DIRECTORY_SETTINGS: &str = "directory-settings";
/// The size of messages that the server takes.
const PAYLOAD: &str = "max_payload";
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
    directory: Shared,
    claims: Option<Claims>,
    readiness: Readiness,
    stop: CancellationToken,
) -> Result<(), SetupError> {
    let buckets = async {
        let mut probe = Probe {
            connection: &connection,
            readiness: &readiness,
            made: false,
            throttle_warnings: Warned::default(),
            directory_warnings: Warned::default(),
        };
        loop {
            probe.connection();
            probe.directory(&directory).await;
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
    throttle_warnings: Warned,
    directory_warnings: Warned,
}

impl Probe<'_> {
    fn connection(&self) {
        let most = self.connection.client.max_payload();
        if most < MIN_PAYLOAD_BYTES {
            let why = format!(
                "nats-server takes messages of {most} bytes at most (max_payload); {MIN_PAYLOAD_BYTES} are \
                 needed"
            );
            self.readiness.missing(PAYLOAD, why);
        } else {
            self.readiness.present(PAYLOAD);
        }
        if self.connection.is_up() {
            self.readiness.present(NATS);
        } else {
            self.readiness.missing(NATS, "the connection is lost".to_owned());
        }
    }

    async fn throttle(&mut self, claims: &Claims) -> Result<(), SetupError> {
        let window = claims.throttle().window();
        let looked = if !self.connection.is_up() {
            Err(Lack::NotSeen("no connection to NATS".to_owned()))
        } else if self.made {
            self.look(THROTTLE_STREAM, |config| rules::throttle(config, window)).await
        } else {
            match setup::throttle_bucket(&self.connection.js, window, Shape::default()).await {
                Ok(outcome) => {
                    self.made = true;
                    Ok(outcome.warnings().to_vec())
                }
                Err(error @ SetupError::Window { .. }) => return Err(error),
                Err(error @ SetupError::Refused { .. }) => Err(Lack::Seen(error.to_string())),
                Err(error) => Err(Lack::NotSeen(nats::explain(&error))),
            }
        };
        match looked {
            Ok(warnings) => {
                claims.set_usable(true);
                self.readiness.present(THROTTLE);
                self.throttle_warnings.tell("KV bucket botstats_throttle", warnings);
            }
            Err(Lack::Seen(why)) => {
                claims.set_usable(false);
                self.readiness.missing(THROTTLE, why);
            }
            Err(Lack::NotSeen(why)) => self.readiness.missing(THROTTLE, why),
        }
        Ok(())
    }

    /// Whether the directory's bucket can be relied on; [`super::watch`] makes it and says if it is
    /// missing.
    async fn directory(&mut self, directory: &Shared) {
        if !self.connection.is_up() {
            return;
        }
        match self.look(DIRECTORY_STREAM, rules::directory).await {
            Ok(warnings) => {
                directory.set_refused(false);
                self.readiness.present(DIRECTORY_SETTINGS);
                self.directory_warnings.tell("KV bucket botstats_directory", warnings);
            }
            Err(Lack::Seen(why)) => {
                directory.set_refused(true);
                self.readiness.missing(DIRECTORY_SETTINGS, why);
            }
            Err(Lack::NotSeen(_)) => {}
        }
    }

    /// Whether a bucket is there and as it must be; gives the settings that may lose something.
    async fn look(
        &self,
        stream: &str,
        judge: impl Fn(&StreamConfig) -> Vec<Finding>,
    ) -> Result<Vec<String>, Lack> {
        let bucket = stream.trim_start_matches("KV_");
        match nats::stream_info(&self.connection.js, stream).await {
            Ok(info) => {
                let findings = judge(&info.config);
                match refusals(&findings) {
                    Some(why) => Err(Lack::Seen(format!(
                        "KV bucket {bucket} cannot be used as it is: {why} (docs/operations.md, \
                         \"Rules for stream and buckets\")"
                    ))),
                    None => Ok(findings.into_iter().map(|finding| finding.text).collect()),
                }
            }
            Err(StreamInfoError::NoStream(_)) => {
                Err(Lack::Seen(format!("KV bucket {bucket} is missing: run `botstats setup`")))
            }
            Err(error) => Err(Lack::NotSeen(nats::explain(&error))),
        }
    }
}

/// What was warned of: each once, until it changes.
#[derive(Default)]
struct Warned(Vec<String>);

impl Warned {
    fn tell(&mut self, what: &str, warnings: Vec<String>) {
        for warning in warnings.iter().filter(|warning| !self.0.contains(warning)) {
            tracing::warn!("{what}: {warning}");
        }
        self.0 = warnings;
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
