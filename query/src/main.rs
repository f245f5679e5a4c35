//! The query service's program: the public HTTP endpoint.

use std::process::ExitCode;

use botstats_common::io::logging::{self, LogSettings};
use botstats_common::io::nats::chain;
use botstats_common::io::zoneinfo::ZoneSettings;
use botstats_common::io::{internal, settings, stop};
use botstats_common::zones;
use botstats_query::{RunError, Settings, run};
use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

const EXAMPLES: &str = "Examples:
  botstats-query
  BOTSTATS_HTTP_ADDR=0.0.0.0:8080 NATS_URL=nats://nats:4222 botstats-query run
  botstats-query --throttle-window 10s
  botstats-query healthcheck";

/// Answers the statistics of chatbot accounts over HTTP
#[derive(Debug, Parser)]
#[command(name = "botstats-query", version = zones::version(), after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    zones: ZoneSettings,
    #[command(flatten)]
    logs: LogSettings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the service (the default)
    Run,
    /// Asks the program that runs on this machine whether it is ready
    Healthcheck,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli: Cli = settings::parse_or_exit();
    let _log = logging::start(&cli.logs);
    match cli.command.unwrap_or(Command::Run) {
        Command::Run => {
            cli.zones.start();
            serve(cli.settings).await
        }
        Command::Healthcheck => match internal::healthcheck(cli.settings.internal_addr).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                logging::say(&why);
                ExitCode::FAILURE
            }
        },
    }
}

async fn serve(settings: Settings) -> ExitCode {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "botstats-query starts");
    let stop = CancellationToken::new();
    let ended = match stop::on_signal(&stop) {
        Ok(()) => run(settings, None, stop).await,
        Err(error) => {
            tracing::error!("cannot set up the handling of stop signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    match ended {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{}", chain(&error));
            ExitCode::from(RunError::exit_code(&error))
        }
    }
}
