//! Logs go to standard error: readable lines, or JSON when `BOTSTATS_LOG_FORMAT=json`.
//!
//! A panic is a log line too, so that with JSON every line is an object. (Errors of the command
//! line and of settings are plain text: logging starts after they are read.)
//!
//! *Invariants*: below `info` only modules of botstats are logged, whatever the filter says. At
//! these levels libraries log the data that they carry: async-nats the password and whole messages,
//! ureq the request's path. A thread that logs never waits for a reader of standard error (module
//! `lines`).

mod filter;
mod lines;
mod rate_limit;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::{Args, ValueEnum};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{fmt, registry};

use super::telemetry;
pub use filter::{BadFilter, Filter};
use lines::Lines;
pub use rate_limit::{RateLimit, Suppressed};

/// The prefix of the targets of our own modules.
const OWN: &str = "botstats";
/// The time that the end of a program waits for its last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);
/// The time that a panic waits for its line to be written; short, because the thread may hold up
/// others.
const PANIC_LINE: Duration = Duration::from_millis(100);

/// The lines of this process, once logging was started.
static LINES: OnceLock<Arc<Lines>> = OnceLock::new();

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
    /// What is logged: a level (error, warn, info, debug, trace; off is nothing at all), also by
    /// module such as info,botstats_ingest=debug; debug and trace show modules of botstats only
    #[arg(
        long = "log",
        env = "BOTSTATS_LOG",
        default_value = "info",
        value_name = "FILTER",
        global = true
    )]
    pub filter: Filter,
    /// Log lines for people or as JSON objects
    #[arg(
        long = "log-format",
        env = "BOTSTATS_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT",
        ignore_case = true,
        global = true
    )]
    pub format: LogFormat,
}

/// Waits at its end, for a second at most, until the last lines of the log are written.
#[derive(Debug)]
#[must_use = "the last lines are written when this is dropped"]
pub struct Log(());

impl Drop for Log {
    fn drop(&mut self) {
        flush();
    }
}

/// Starts logging to standard error. A second call in the same process changes nothing.
pub fn start(settings: &LogSettings) -> Log {
    let lines = LINES.get_or_init(|| {
        Lines::start(std::io::stderr(), |dropped| {
            tracing::warn!(
                dropped,
                "log lines were dropped: standard error was not read, and the buffer was full"
            );
        })
    });
    let shown =
        fmt::layer().with_writer(Arc::clone(lines)).with_ansi(std::io::stderr().is_terminal());
    let shown = match settings.format {
        LogFormat::Text => shown.with_target(false).boxed(),
        LogFormat::Json => shown.json().flatten_event(true).boxed(),
    };
    let all = registry()
        .with(shown)
        .with(LineCounter)
        .with(RepeatLimit)
        .with(filter_fn(holds_no_secret))
        .with(settings.filter.targets());
    // An error only says that logging was started before, which is fine.
    if all.try_init().is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
    Log(())
}

/// Waits, for a second at most, until the lines so far are written. For those who end the process.
pub(super) fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(LAST_LINES);
    }
}

/// Writes a line to standard error as it is, behind the lines of the log, and does not wait for a
/// reader.
pub fn say(text: &str) {
    match LINES.get() {
        Some(lines) => lines.push(format!("{text}\n").as_bytes()),
        None => eprintln!("{text}"),
    }
}

/// Logs a panic, with a backtrace if `RUST_BACKTRACE` asks for one.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("(no text)");
    let trace = Backtrace::capture();
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
    tracing::error!(place, trace, "a defect of this program: it panicked: {text}");
    // A panic while another one unwinds ends the process at once.
    if let Some(lines) = LINES.get() {
        lines.flush(PANIC_LINE);
    }
}

/// Counts warnings and errors.
struct LineCounter;

impl<S: Subscriber> Layer<S> for LineCounter {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        match *event.metadata().level() {
            Level::ERROR => telemetry::logged("error"),
            Level::WARN => telemetry::logged("warn"),
            _ => {}
        }
    }
}

/// True for lines that hold no secret: those of our own modules, and those of libraries from `info`
/// up.
fn holds_no_secret(line: &Metadata<'_>) -> bool {
    *line.level() <= Level::INFO || line.target().starts_with(OWN)
}

/// The prefix of the targets of async-nats.
const NATS_LIBRARY: &str = "async_nats";

static NATS_LINES: RateLimit = RateLimit::new();

/// Suppresses repeated lines of async-nats, which logs each try while a server refuses.
struct RepeatLimit;

impl<S: Subscriber> Layer<S> for RepeatLimit {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if !metadata.target().starts_with(NATS_LIBRARY) {
            return true;
        }
        // The name is the file and line of the log call in async-nats.
        match NATS_LINES.due(metadata.name()) {
            Some(suppressed) if !suppressed.is_none() => {
                tracing::info!("the NATS client repeats the next line{suppressed}");
                true
            }
            due => due.is_some(),
        }
    }
}
