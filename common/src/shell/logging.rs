//! Logs go to standard error: readable lines, or JSON when `BOTSTATS_LOG_FORMAT=json`.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Settings of the logs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs")]
pub struct LogSettings {
    /// What is logged: a level (error, warn, info, debug, trace), also by module such as
    /// info,botstats_ingest=debug
    #[arg(long = "log", env = "BOTSTATS_LOG", default_value = "info,async_nats=warn", value_name = "FILTER", value_parser = filter, global = true)]
    pub filter: String,
    /// Log lines for people or as JSON objects
    #[arg(
        long = "log-format",
        env = "BOTSTATS_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT",
        global = true
    )]
    pub format: LogFormat,
}

fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|e| e.to_string())
}

/// Starts logging to standard error. A second call in the same process changes nothing.
pub fn start(settings: &LogSettings) {
    let filter = EnvFilter::new(&settings.filter);
    let lines = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter);
    // An error only says that logging was started before, which is fine.
    let _already_started = match settings.format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}
