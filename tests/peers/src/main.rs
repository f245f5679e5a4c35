//! The worker in front of each peer of `tests/peers/run`, as an expert would write it: one thread
//! decodes and adds up, another hands batches over, so that the peer's work and this work overlap.
//!
//! ```text
//! feed serve SHAPE EVENTS FILE      # a nats-server with the events of that shape, until EOF
//! feed take FORM URL EVENTS BATCH   # batches on standard output, each after the last one's "ok"
//! ```
//!
//! *Format* of a batch: a line with four numbers (events so far, replies that Redis will give,
//! bytes of the first part, bytes of the second), then the two parts.

mod batch;

use std::io::{BufRead as _, BufWriter, Write as _};
use std::sync::mpsc::sync_channel;

use anyhow::Context as _;
use async_nats::jetstream::stream::Config;
use botstats::simulate::Event;
use botstats_bench::load::{Headers, fill};
use botstats_bench::null::Pull;
use botstats_bench::shapes::{Detail, Shape, Traffic};
use botstats_common::io::clock;
use botstats_tests::harness::{Site, connection};
use clap::Parser;

use batch::{Adder, Batch, Form};

/// The stream of flat events, which the peers read.
const STREAM: &str = "PEERS";
const SUBJECT: &str = "peers.events";
const SEED: u64 = 42;
/// Batches that wait while the peer works.
const AHEAD: usize = 2;

#[derive(Debug, Parser)]
enum Command {
    /// Be a nats-server that has the events twice: as CloudEvents, and as flat objects
    Serve { shape: Shape, events: u64, flat: std::path::PathBuf },
    /// Take the flat events, in batches
    Take { form: Form, url: String, events: u64, batch: usize },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Serve { shape, events, flat } => serve(shape, events, &flat).await,
        Command::Take { form, url, events, batch } => take(form, &url, events, batch).await,
    }
}

async fn serve(shape: Shape, count: u64, file: &std::path::Path) -> anyhow::Result<()> {
    let end_ms = clock::now_ms();
    let traffic = || Traffic::until(shape, count, SEED, end_ms);
    let mut lines = BufWriter::new(std::fs::File::create(file)?);
    traffic().try_for_each(|event| writeln!(lines, "{}", event.flat()))?;
    lines.flush()?;

    let site = Site::start("0s").await;
    let events = traffic().cloud_events(Detail::Named).map(|(_, event)| event);
    fill(&site.client, Headers::ContentType, events).await?;
    let config =
        Config { name: STREAM.into(), subjects: vec![SUBJECT.into()], ..Config::default() };
    site.js.create_stream(config).await?;
    let flat = traffic().map(|event| Event {
        subject: SUBJECT.to_owned(),
        payload: event.flat().into(),
        time_ms: event.stored_ms,
    });
    fill(&site.client, Headers::None, flat).await?;
    writeln!(std::io::stdout(), "{}", site.nats.url())?;
    std::io::stdout().flush()?;
    // The server ends with this program, which ends with the one that started it.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await??;
    Ok(())
}

async fn take(form: Form, url: &str, count: u64, batch: usize) -> anyhow::Result<()> {
    let (sender, batches) = sync_channel::<Batch>(AHEAD);
    let handing = std::thread::spawn(move || -> anyhow::Result<()> {
        let (mut to, mut from) = (std::io::stdout().lock(), std::io::stdin().lock());
        for batch in batches {
            let Batch { events, replies, first, second } = batch;
            writeln!(to, "{events} {replies} {} {}", first.len(), second.len())?;
            to.write_all(&first)?;
            to.write_all(&second)?;
            to.flush()?;
            let mut said = String::new();
            from.read_line(&mut said)?;
            anyhow::ensure!(said.trim() == "ok", "instead of ok: {said}");
        }
        Ok(())
    });
    let mut pull = Pull::open(&connection(url).await, STREAM).await?;
    let mut adder = Adder::new(form);
    let taken = pull.take(count, |message| {
        adder.add(&message.payload)?;
        if adder.pending() == batch || adder.events() == count {
            sender.send(adder.take()).ok().context("nobody takes the batches")?;
        }
        Ok(())
    });
    let taken = taken.await;
    drop(sender);
    handing
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that hands batches over panicked"))??;
    taken
}
