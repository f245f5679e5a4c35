//! Runs a producer against a live installation, over a connection that breaks while it publishes,
//! and lets the model judge what query answers then.
//!
//!     cargo run -p botstats-tests --example producers -- COMMAND [ARGUMENT]...
//!
//! The command is given three more arguments, account, bot and channel, and `NATS_URL`. It must
//! publish some events, and end only when all of them are stored. The programs must have been
//! built: `cargo build --workspace --bins`.
#![expect(clippy::print_stdout, reason = "its answer")]

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use botstats_tests::harness::{Proxy, Stage, check_counts, stored, until};
use botstats_tests::model::{GroupMode, Model, Verdict};
use serde_json::Value;
use tokio::process::Command;

/// How long each piece is on its way: so long that the connection breaks before an acknowledgement
/// is there.
const DELAY: Duration = Duration::from_millis(300);
/// How long the producer may take, with its own waits for acknowledgements and reconnects.
const PRODUCER_LIMIT: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (program, arguments) = arguments.split_first().context("the command is missing")?;
    let stage = Stage::start("0s", 1).await;
    let server: u16 = stage.site.nats.url().rsplit(':').next().context("a port")?.parse()?;
    let proxy = Proxy::start(server).await;
    proxy.delay(DELAY);
    let before = stage.site.last_sequence().await;
    let mut producer = Command::new(program)
        .args(arguments)
        .args(["acct-0", "b1", "web"])
        .env("NATS_URL", proxy.url())
        .kill_on_drop(true)
        .spawn()?;

    // Stored, but not yet acknowledged.
    let at_cut = until("a first event", PRODUCER_LIMIT, async || {
        Some(stage.site.last_sequence().await).filter(|last| *last > before)
    })
    .await;
    proxy.close();
    ensure!(producer.try_wait()?.is_none(), "the producer had ended before its connection broke");
    proxy.delay(Duration::ZERO);
    proxy.open();
    let status = tokio::time::timeout(PRODUCER_LIMIT, producer.wait()).await;
    ensure!(status.context("the producer does not end")??.success(), "the producer failed");

    let messages = stored(&stage.site.js).await;
    let mut published = messages.iter().filter(|message| message.sequence > before);
    let ids: BTreeSet<String> = published
        .try_fold(BTreeSet::new(), |mut ids, message| {
            let event: Value = serde_json::from_slice(&message.payload).ok()?;
            ids.insert(event["id"].as_str()?.to_owned());
            Some(ids)
        })
        .context("an event without an id")?;
    let total = messages.iter().filter(|message| message.sequence > before).count();
    ensure!(ids.len() >= 6, "{} events of a conversation are missing", ids.len());
    // Every one is an event, and each counts once.
    let model = Model::of(&messages);
    let accepted = u64::try_from(model.count(Verdict::Accepted))?;
    let wanted = u64::try_from(ids.len())? + before;
    ensure!(accepted == wanted, "{accepted} events are accepted, {wanted} were published");
    check_counts(&stage.site, &model).await;
    stage.equals_the_model(GroupMode::Day, 2).await;
    println!(
        "{program}: {} events, stored {total} times, {} of them when the connection broke; the answer is the model's",
        ids.len(),
        at_cut - before
    );
    Ok(())
}
