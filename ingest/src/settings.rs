//! The settings of an ingest.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use botstats_common::io::nats::NatsSettings;
use botstats_common::io::settings::{address, duration, whole};
use botstats_common::names::{EVENTS_STREAM, events_stream};
use clap::Args;

/// The fewest days of buckets that may be kept: a question can ask for 30 days, and late events
/// reach further back.
const MIN_KEEP_DAYS: u32 = 40;
/// The most days of buckets that may be kept: a century.
const MAX_KEEP_DAYS: u32 = 36_600;

/// Settings of an ingest; each is an environment variable and a flag.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Folder of the store; made if it is not there
    #[arg(
        long,
        env = "BOTSTATS_DATA",
        default_value = "botstats-data",
        value_name = "DIR",
        global = true
    )]
    pub data: PathBuf,
    /// The stream of events that is counted; one for each cell
    #[arg(long, env = "BOTSTATS_STREAM", default_value = EVENTS_STREAM, value_name = "NAME", value_parser = events_stream, global = true)]
    pub stream: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment would become the heading of its flags")]
    pub service: ServiceSettings,
    /// Address of the internal listener: /livez, /readyz, /metrics
    #[arg(
        long,
        env = "BOTSTATS_INTERNAL_ADDR",
        default_value = "127.0.0.1:9101",
        value_name = "ADDR:PORT", value_parser = address, global = true
    )]
    pub internal_addr: SocketAddr,
    /// The connection to NATS
    #[command(flatten)]
    pub nats: NatsSettings,
}

/// Settings that are the same where `botstats up` runs the ingest.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct ServiceSettings {
    /// Days of statistics to keep, 40 to 36,600
    #[arg(long, env = "BOTSTATS_KEEP_DAYS", default_value = "400", value_name = "DAYS", global = true,
          value_parser = keep_days)]
    pub keep_days: u32,
    /// Reads are not answered while the oldest event that is not counted is older; 0s is off
    #[arg(long, env = "BOTSTATS_MAX_LAG", default_value = "60s", value_name = "DURATION", value_parser = duration, global = true)]
    pub max_lag: Duration,
    /// Set a damaged store aside and count everything anew from the stream, without being asked
    #[arg(long, env = "BOTSTATS_REBUILD_DAMAGED", default_value = "false", value_name = "BOOL", global = true,
          num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set,
          value_parser = clap::builder::BoolishValueParser::new())]
    pub rebuild_damaged: bool,
}

/// Reads a number of days to keep.
///
/// # Errors
/// Says what is allowed.
pub fn keep_days(text: &str) -> Result<u32, String> {
    whole(MIN_KEEP_DAYS..=MAX_KEEP_DAYS)(text)
}
