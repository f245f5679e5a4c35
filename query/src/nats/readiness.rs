//! Whether this program can answer calls, checked every second: the connection, the settings of the
//! KV buckets, an ingest.

use std::time::Duration;

use botstats_common::io::nats::{self, StreamInfoError};
use botstats_common::io::readiness::Readiness;
use botstats_common::io::setup::{self, SetupError, Shape};
use botstats_common::rules::{self, Finding, StreamConfig, refusals};
use botstats_common::wire::MIN_PAYLOAD_BYTES;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Connection;
use super::claims::Claims;
use super::entries::DIRECTORY_STREAM;
use super::ingests::PING_SUBJECT;
use super::watch::LiveDirectory;

// The names of the parts in the readiness.
pub(crate) const NATS: &str = "nats";
pub(crate) const THROTTLE: &str = "throttle";
pub(crate) const DIRECTORY_SETTINGS: &str = "directory-settings";
const PAYLOAD: &str = "max_payload";
pub(crate) const INGEST: &str = "ingest";

/// The pause between two checks.
const PAUSE: Duration = Duration::from_secs(1);
/// An ingest counts as absent if it does not answer a ping within 1 s.
const PING_LIMIT: Duration = Duration::from_secs(1);

/// Checks until the token is cancelled.
///
/// # Errors
/// If the throttle's bucket has another window at the first check: no waiting mends that.
pub(crate) async fn check(
    connection: Connection,
    directory: LiveDirectory,
    claims: Option<Claims>,
    readiness: Readiness,
    stop: CancellationToken,
) -> Result<(), SetupError> {
    let buckets = async {
        let mut checks = Checks {
            connection: &connection,
            readiness: &readiness,
            made: false,
            throttle_warnings: Warnings::default(),
            directory_warnings: Warnings::default(),
        };
        loop {
            checks.connection();
            checks.directory(&directory).await;
            match &claims {
                Some(claims) => checks.throttle(claims).await?,
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
        () = log_changes(&readiness) => Ok(()),
    }
}

/// Logs when the program becomes ready, and at each change what it lacks.
async fn log_changes(readiness: &Readiness) {
    let mut logged = None;
    loop {
        let missing = readiness.all_missing();
        let parts: Vec<String> = missing.keys().cloned().collect();
        if logged.as_ref() != Some(&parts) {
            if missing.is_empty() {
                tracing::info!("ready");
            } else {
                let why: Vec<String> =
                    missing.iter().map(|(p, why)| format!("{p}: {why}")).collect();
                tracing::warn!("not ready: {}", why.join("; "));
            }
            logged = Some(parts);
        }
        sleep(PAUSE).await;
    }
}

/// Why a KV bucket is not known to be right.
enum Lack {
    /// The bucket is missing, or not as it must be.
    Wrong(String),
    /// The server did not say: the last check holds.
    Unknown(String),
}

struct Checks<'a> {
    connection: &'a Connection,
    readiness: &'a Readiness,
    /// True once the throttle's bucket was there. A bucket that went away is not made again here:
    /// the used calls of the last hour went with it, and an administrator should know.
    made: bool,
    throttle_warnings: Warnings,
    directory_warnings: Warnings,
}

impl Checks<'_> {
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
        let allowance = claims.allowance();
        let window = allowance.window();
        let looked = if !self.connection.is_up() {
            Err(Lack::Unknown("no connection to NATS".to_owned()))
        } else if self.made {
            self.look(&allowance.stream(), |config| rules::throttle(config, window)).await
        } else {
            match setup::throttle_bucket(&self.connection.js, window, Shape::default()).await {
                Ok(outcome) => {
                    self.made = true;
                    Ok(outcome.warnings().to_vec())
                }
                Err(error @ SetupError::Window { .. }) => return Err(error),
                Err(error @ SetupError::Refused { .. }) => Err(Lack::Wrong(error.to_string())),
                Err(error) => Err(Lack::Unknown(nats::explain(&error))),
            }
        };
        match looked {
            Ok(warnings) => {
                claims.set_usable(true);
                self.readiness.present(THROTTLE);
                self.throttle_warnings.log("KV bucket botstats_throttle", warnings);
            }
            Err(Lack::Wrong(why)) => {
                claims.set_usable(false);
                self.readiness.missing(THROTTLE, why);
            }
            Err(Lack::Unknown(why)) => self.readiness.missing(THROTTLE, why),
        }
        Ok(())
    }

    /// Checks the settings of the directory's bucket; [`super::watch`] makes the bucket and says if
    /// it is missing.
    async fn directory(&mut self, directory: &LiveDirectory) {
        if !self.connection.is_up() {
            return;
        }
        match self.look(DIRECTORY_STREAM, rules::directory).await {
            Ok(warnings) => {
                directory.set_refused(false);
                self.readiness.present(DIRECTORY_SETTINGS);
                self.directory_warnings.log("KV bucket botstats_directory", warnings);
            }
            Err(Lack::Wrong(why)) => {
                directory.set_refused(true);
                self.readiness.missing(DIRECTORY_SETTINGS, why);
            }
            Err(Lack::Unknown(_)) => {}
        }
    }

    /// Checks that a bucket is there and as it must be; gives warnings about its settings.
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
                    Some(why) => Err(Lack::Wrong(format!(
                        "KV bucket {bucket} cannot be used as it is: {why} (docs/configuration.md, \
                         \"Rules for stream and buckets\")"
                    ))),
                    None => Ok(findings.into_iter().map(|finding| finding.text).collect()),
                }
            }
            Err(StreamInfoError::NoStream(_)) => {
                Err(Lack::Wrong(format!("KV bucket {bucket} is missing: run `botstats setup`")))
            }
            Err(error) => Err(Lack::Unknown(nats::explain(&error))),
        }
    }
}

/// The warnings that were logged: each is logged once until it ends.
#[derive(Default)]
struct Warnings(Vec<String>);

impl Warnings {
    fn log(&mut self, what: &str, warnings: Vec<String>) {
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
