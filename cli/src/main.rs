//! `botstats`: see `botstats --help`.

use std::process::ExitCode;

use botstats::{BadUsage, Cli};
use botstats_common::io::nats::ConnectError;
use botstats_common::io::{logging, nats, settings};

#[tokio::main]
async fn main() -> ExitCode {
    let cli: Cli = settings::parse_or_exit();
    let _log = logging::start(&cli.logs());
    let json = cli.json();
    match botstats::run(cli).await {
        Ok(answer) => answer.print(json),
        Err(error) => {
            logging::say(&format!("error: {}", nats::explain(error.as_ref())));
            let bad_file = matches!(error.downcast_ref(), Some(ConnectError::File { .. }));
            let usage = error.is::<BadUsage>() || bad_file;
            if usage { ExitCode::from(settings::EXIT_USAGE) } else { ExitCode::FAILURE }
        }
    }
}
