//! `botstats-ingest`: folds the events of the stream into statistics, and answers reads of them.

use std::process::ExitCode;

use botstats_common::io::nats::chain;
use botstats_common::io::{internal, logging, settings, stop};
use botstats_common::zones;
use botstats_ingest::{OpenError, RunError, Settings};
use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

/// Folds the events of the stream BOTSTATS_EVENTS into exact statistics, and answers reads of them.
#[derive(Debug, Parser)]
#[command(name = "botstats-ingest", version = zones::version(), after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    log: logging::LogSettings,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Read the stream and answer reads (the default)
    Run,
    /// Make the state anew from the stream, then end; the folder must not be in use
    Rebuild,
    /// Ask the ingest on this machine whether it is ready; exit code 0 if so
    Healthcheck,
}

const EXAMPLES: &str = "Examples:
  botstats-ingest --data /var/lib/botstats
  BOTSTATS_DATA=/var/lib/botstats NATS_URL=nats://nats:4222 botstats-ingest
  botstats-ingest rebuild --data /var/lib/botstats
  botstats-ingest healthcheck

The password of NATS_USER is read from the variable NATS_PASSWORD or the file NATS_PASSWORD_FILE.";

/// Exit code if another ingest uses the folder: `EX_TEMPFAIL` of sysexits.h.
const EXIT_IN_USE: u8 = 75;

#[tokio::main]
async fn main() -> ExitCode {
    let cli: Cli = settings::parse_or_exit();
    let _log = logging::start(&cli.log);
    let stop = CancellationToken::new();
    if let Err(error) = stop::on_signal(&stop) {
        tracing::error!("the handlers of signals cannot be installed: {error}");
        return ExitCode::FAILURE;
    }
    let result = match cli.command.unwrap_or(Command::Run) {
        Command::Run => {
            tracing::info!("botstats-ingest {}", env!("CARGO_PKG_VERSION"));
            botstats_ingest::run(cli.settings, None, stop).await
        }
        Command::Rebuild => botstats_ingest::rebuild(cli.settings, stop).await,
        Command::Healthcheck => {
            return match internal::healthcheck(cli.settings.internal_addr).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(why) => {
                    tracing::error!("{why}");
                    ExitCode::FAILURE
                }
            };
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            match error {
                RunError::Open(OpenError::Locked { .. }) => ExitCode::from(EXIT_IN_USE),
                RunError::Connect(_) => ExitCode::from(settings::EXIT_USAGE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}
