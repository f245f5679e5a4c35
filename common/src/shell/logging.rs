//! Logs go to standard error: readable lines, or JSON when `BOTSTATS_LOG_FORMAT=json`.
//!
//! A panic is a line of the log too, so that with JSON every line is an object. (What is wrong with the command
//! line or a setting is said in plain text: before they are read there is no log.)
//!
//! *Invariants*: below `info` only modules of botstats are heard, whatever the filter says. Libraries
//! write there what they carry: async-nats the password and whole messages, ureq the request's path.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, registry};

use super::clock::monotonic;
use super::telemetry;

/// A line that somebody else could repeat at will is logged once in this time.
const SELDOM: Duration = Duration::from_secs(60);
/// How the targets of our own modules begin.
const OWN: &str = "botstats";

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
    /// info,botstats_ingest=debug; debug and trace show modules of botstats only
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
    let lines =
        fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match settings.format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let lines = lines.and_then(Counted).with_filter(filter_fn(may_be_told));
    // An error only says that logging was started before, which is fine.
    if registry().with(filter).with(lines).try_init().is_ok() {
        std::panic::set_hook(Box::new(tell));
    }
}

/// Logs a panic, with a backtrace if `RUST_BACKTRACE` asks for one.
fn tell(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("(no text)");
    let trace = Backtrace::capture();
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
    tracing::error!(place, trace, "a defect of this program, it panicked: {text}");
}

/// Counts warnings and errors.
struct Counted;

impl<S: Subscriber> Layer<S> for Counted {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        match *event.metadata().level() {
            Level::ERROR => telemetry::logged("error"),
            Level::WARN => telemetry::logged("warn"),
            _ => {}
        }
    }
}

/// Whether what is logged there can be trusted to tell no secret.
fn may_be_told(line: &Metadata<'_>) -> bool {
    *line.level() <= Level::INFO || line.target().starts_with(OWN)
}

/// Says when a line is due that is to be logged at most once a minute.
#[derive(Debug)]
pub struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Due at once.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether the line is due; then it is not again for a minute.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let now = monotonic();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.duration_since(last) >= SELDOM);
        if due {
            *last = Some(now);
        }
        due
    }
}

impl Default for Seldom {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_once() {
        let line = Seldom::new();
        assert!(line.is_due() && !line.is_due() && !line.is_due());
        let long_ago = monotonic().checked_sub(SELDOM).unwrap();
        *line.0.lock().unwrap() = Some(long_ago);
        assert!(line.is_due() && !line.is_due());
    }
}
