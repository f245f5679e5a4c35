//! Checks `docker-compose.yml` from outside. Run by `tests/compose/run`, which makes what it needs.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use botstats::server::find;
use clap::Parser;

/// Brings the compose file up, drives it as publisher and client, kills and replaces containers,
/// and compares with the model. Ends with an error at the first check that does not hold; leaves
/// nothing behind.
#[derive(Debug, Parser)]
#[command(name = "compose")]
struct Arguments {
    /// The repository's folder
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// The compose project, which must be nobody else's: it is removed with its volumes. The names
    /// of its images begin with it too
    #[arg(long, default_value = "botstats-checked")]
    project: String,
    /// Only say where the nats-server is that tests use
    #[arg(long)]
    nats_server: bool,
    /// Only the profile `cells`
    #[arg(long)]
    cells: bool,
    /// Write the result as JSON to standard output
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.nats_server {
        let path = find(|line| eprintln!("{line}"))?;
        writeln!(std::io::stdout(), "{}", path.display())?;
        return Ok(ExitCode::SUCCESS);
    }
    let report = botstats_compose::run(&arguments.root, &arguments.project, arguments.cells).await;
    if arguments.json {
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&report)?)?;
    } else {
        for check in &report.checks {
            let word = if check.held { "ok  " } else { "FAIL" };
            writeln!(std::io::stdout(), "{word} {}: {}", check.name, check.seen)?;
        }
    }
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
