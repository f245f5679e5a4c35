//! Whether this program can answer calls, checked every second: the connection, the settings of the
//! KV buckets, the ingests.

use std::collections::BTreeMap;
use std::time::Duration;

use botstats_common::io::clock;
use botstats_common::io::nats::{self, StreamInfoError};
use botstats_common::io::readiness::Readiness;
use botstats_common::io::setup::{self, SetupError, Shape};
use botstats_common::rules::{self, Finding, StreamConfig, refusals};
use botstats_common::wire::MIN_PAYLOAD_BYTES;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::Connection;
use super::claims::Claims;
use super::entries::DIRECTORY_STREAM;
use super::ingests::{Ingests, Pongs};
use super::watch::LiveDirectory;
use crate::admission::allowance::Policy;
use crate::telemetry::METRICS;

// The names of the parts in the readiness.
pub(crate) const NATS: &str = "nats";
pub(crate) const THROTTLE: &str = "throttle";
/// Only bots' calls need this part.
pub(crate) const BOT_THROTTLE: &str = "bot-throttle";
pub(crate) const DIRECTORY_SETTINGS: &str = "directory-settings";
const PAYLOAD: &str = "max_payload";
pub(crate) const INGEST: &str = "ingest";
/// Only calls for accounts of slots without an ingest need this part.
const SLOTS: &str = "slots";

/// The pause between two checks.
const PAUSE: Duration = Duration::from_secs(1);
/// An ingest counts as absent if it does not answer a ping within 1 s.
const PING_LIMIT: Duration = PAUSE;

/// A bucket of calls has another window than the setting: no waiting mends that.
#[derive(Debug)]
pub(crate) struct WrongWindow {
    /// The setting.
    pub(crate) variable: &'static str,
    /// Names the bucket and both windows.
    pub(crate) source: SetupError,
}

/// What is checked.
pub(crate) struct Checked {
    pub(crate) connection: Connection,
    pub(crate) directory: LiveDirectory,
    pub(crate) claims: [Option<Claims>; 2],
    pub(crate) ingests: Ingests,
}

/// Checks until the token is cancelled.
///
/// # Errors
/// If a bucket of calls has another window at the first check.
pub(crate) async fn check(
    checked: Checked,
    readiness: Readiness,
    stop: CancellationToken,
) -> Result<(), WrongWindow> {
    let Checked { connection, directory, claims: [of_accounts, of_bots], ingests } = &checked;
    let readiness = &readiness;
    let buckets = async {
        let mut checks = Checks { connection, readiness, warnings: Warnings::default() };
        let mut throttle = ThrottleChecks::new(connection, readiness);
        loop {
            checks.connection();
            checks.directory(directory).await;
            throttle.check(of_accounts.as_ref(), Policy::Account).await?;
            sleep(PAUSE).await;
        }
    };
    // Apart from the others: a server that does not answer about this bucket, because a right is
    // missing, must not delay them.
    let bucket_of_bots = async {
        let mut throttle = ThrottleChecks::new(connection, readiness);
        loop {
            throttle.check(of_bots.as_ref(), Policy::Bot).await?;
            sleep(PAUSE).await;
        }
    };
    let pings = async {
        let mut each_pause = interval(PAUSE);
        each_pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            each_pause.tick().await;
            ping(connection, ingests, readiness).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        failed = buckets => failed,
        failed = bucket_of_bots => failed,
        () = pings => Ok(()),
        () = log_changes(readiness) => Ok(()),
    }
}

/// Logs when the program becomes ready, and at each change what it lacks.
async fn log_changes(readiness: &Readiness) {
    let mut logged = None;
    let mut limited: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let now = readiness.all_limited();
        for (part, why) in now.iter().filter(|(part, _)| !limited.contains_key(*part)) {
            tracing::warn!("some calls are not answered: {part}: {why}");
        }
        for part in limited.keys().filter(|part| !now.contains_key(*part)) {
            tracing::info!("{part} is there: its calls are answered");
        }
        limited = now;
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
    /// About the directory's bucket.
    warnings: Warnings,
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

    /// Checks the settings of the directory's bucket; [`super::watch`] makes the bucket and says if
    /// it is missing.
    async fn directory(&mut self, directory: &LiveDirectory) {
        if !self.connection.is_up() {
            return;
        }
        match look(self.connection, DIRECTORY_STREAM, rules::directory).await {
            Ok(warnings) => {
                directory.set_refused(false);
                self.readiness.present(DIRECTORY_SETTINGS);
                self.warnings.log("KV bucket botstats_directory", warnings);
            }
            Err(Lack::Wrong(why)) => {
                directory.set_refused(true);
                self.readiness.missing(DIRECTORY_SETTINGS, why);
            }
            Err(Lack::Unknown(_)) => {}
        }
    }
}

/// Checks a bucket of calls.
struct ThrottleChecks<'a> {
    connection: &'a Connection,
    readiness: &'a Readiness,
    /// True once the bucket was there. A bucket that went away is not made again here: the used
    /// calls of the last window went with it, and an administrator should know.
    made: bool,
    warnings: Warnings,
}

impl<'a> ThrottleChecks<'a> {
    fn new(connection: &'a Connection, readiness: &'a Readiness) -> Self {
        Self { connection, readiness, made: false, warnings: Warnings::default() }
    }

    /// Looks at the bucket of that policy's calls; without claims there is nothing to look at.
    async fn check(&mut self, claims: Option<&Claims>, policy: Policy) -> Result<(), WrongWindow> {
        let Some(claims) = claims else {
            self.present(policy);
            return Ok(());
        };
        let window = claims.allowance().window();
        let (js, bucket) = (&self.connection.js, policy.bucket());
        let looked = if !self.connection.is_up() {
            Err(Lack::Unknown("no connection to NATS".to_owned()))
        } else if self.made {
            let stream = claims.allowance().stream();
            look(self.connection, &stream, |config| rules::calls(config, bucket, window)).await
        } else {
            match setup::calls_bucket(js, bucket, window, Shape::default()).await {
                Ok(outcome) => {
                    self.made = true;
                    Ok(outcome.warnings().to_vec())
                }
                Err(source @ SetupError::Window { .. }) => {
                    let variable = match policy {
                        Policy::Account => "BOTSTATS_THROTTLE_WINDOW",
                        Policy::Bot => "BOTSTATS_BOT_THROTTLE_WINDOW",
                    };
                    return Err(WrongWindow { variable, source });
                }
                Err(error @ SetupError::Refused { .. }) => Err(Lack::Wrong(error.to_string())),
                Err(error) => Err(Lack::Unknown(nats::explain(&error))),
            }
        };
        match looked {
            Ok(warnings) => {
                claims.set_usable(true);
                self.present(policy);
                self.warnings.log(&format!("KV bucket {bucket}"), warnings);
            }
            Err(Lack::Wrong(why)) => {
                claims.set_usable(false);
                self.lacks(policy, why);
            }
            Err(Lack::Unknown(why)) => self.lacks(policy, why),
        }
        Ok(())
    }

    fn present(&self, policy: Policy) {
        match policy {
            Policy::Account => self.readiness.present(THROTTLE),
            Policy::Bot => {
                self.readiness.present(BOT_THROTTLE);
                METRICS.bot_calls_possible.set(1);
            }
        }
    }

    fn lacks(&self, policy: Policy, why: String) {
        match policy {
            Policy::Account => self.readiness.missing(THROTTLE, why),
            Policy::Bot => {
                self.readiness.limited(BOT_THROTTLE, why);
                METRICS.bot_calls_possible.set(0);
            }
        }
    }
}

/// Checks that a bucket is there and as it must be; gives warnings about its settings.
async fn look(
    connection: &Connection,
    stream: &str,
    judge: impl Fn(&StreamConfig) -> Vec<Finding>,
) -> Result<Vec<String>, Lack> {
    let bucket = stream.trim_start_matches("KV_");
    match nats::stream_info(&connection.js, stream).await {
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

/// Pings all ingests, and takes their answers as they come.
async fn ping(connection: &Connection, ingests: &Ingests, readiness: &Readiness) {
    if !connection.is_up() {
        return readiness.missing(INGEST, "no connection to NATS".to_owned());
    }
    let mut pongs = Pongs::ask(&connection.client, clock::monotonic() + PING_LIMIT).await;
    let mut heard = Vec::new();
    while let Some(pong) = pongs.next().await {
        ingests.heard(&pong);
        readiness.present(INGEST);
        heard.push(pong);
    }
    if heard.is_empty() {
        readiness.missing(INGEST, "no ingest answers reads".to_owned());
    }
    let absent = ingests.all_heard(&heard);
    METRICS.absent_slots.set(absent.len());
    if absent.is_empty() {
        readiness.present(SLOTS);
    } else {
        readiness.limited(SLOTS, format!("no ingest answers for the slots {absent}"));
    }
}
