//! Runs a command beside a live installation, and ends as the command does.
//!
//!     cargo run -p botstats-tests --example live -- WINDOW COMMAND [ARGUMENT]...
//!
//! The throttle has that window (`0s` is off). The command finds in its environment `BOTSTATS_URL`,
//! and of an account that has events `BOTSTATS_TOKEN` and `BOTSTATS_BOT_KEY`. The programs must
//! have been built: `cargo build --workspace`.

use std::process::ExitCode;

use anyhow::Context as _;
use botstats_tests::harness::Stage;
use tokio::process::Command;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let window = arguments.next().context("the throttle's window is missing")?;
    let program = arguments.next().context("the command is missing")?;
    let stage = Stage::start(&window, 2).await;
    let login = stage.logins.first().context("an account")?;
    let status = Command::new(program)
        .args(arguments)
        .env("BOTSTATS_URL", format!("http://{}", stage.query.http))
        .env("BOTSTATS_TOKEN", &login.token)
        .env("BOTSTATS_BOT_KEY", login.keys.get("b1").context("a key")?)
        .status()
        .await?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}
