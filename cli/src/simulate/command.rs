//! `botstats simulate`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::thread;

use anyhow::Context as _;
use botstats_common::io::clock;
use botstats_common::io::nats::{NatsSettings, Role};
use botstats_common::io::producer::{Message, Publisher};
use botstats_common::io::settings::whole;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::{MAX_DAYS, Params, Simulation};
use crate::output::{Answer, counted};
use crate::publish::with_progress;
use crate::{demo, stats};

/// The most events that wait in memory for the publisher.
const MADE_AHEAD: usize = 4_000;

#[derive(Debug, Args)]
#[command(
    after_long_help = "The accounts are sim-1, sim-2, .. with one to five bots bot-1, .. each. To ask for their \
    statistics they need an entry: botstats account add sim-1.\n\n\
    EXAMPLES\n  \
    botstats simulate --accounts 10 --days 30 --events 100000\n  \
    botstats simulate --events 1000000 --seed 7 --out events.ndjson\n  \
    botstats publish events.ndjson                                    what the line before made\n  \
    botstats simulate --now 2026-11-20T12:00:00Z --out -              the same bytes each time\n  \
    botstats simulate --live                                          account demo, until Ctrl-C"
)]
pub(crate) struct Simulate {
    /// How many accounts
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = whole::<u32>(1..=100_000))]
    accounts: u32,
    /// How many days back; older events would be refused
    #[arg(long, default_value_t = 7, value_name = "DAYS", value_parser = whole::<u32>(1..=MAX_DAYS))]
    days: u32,
    /// How many events in all
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = whole::<u64>(0..=u64::MAX))]
    events: u64,
    /// Seed of the traffic: another seed gives other events
    #[arg(long, default_value_t = 1, value_name = "SEED", value_parser = whole::<u64>(0..=u64::MAX))]
    seed: u64,
    /// The end of the traffic, RFC 3339 [default: now]; with it the same seed gives the same bytes
    #[arg(long, value_name = "TIME")]
    now: Option<jiff::Timestamp>,
    /// Write lines for `botstats publish` to a file instead of to NATS; - is standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Make the account demo with two bots and a month of history, and keep its traffic coming;
    /// prints a link to the page and a curl line
    #[arg(long, conflicts_with_all = ["accounts", "days", "events", "seed", "now", "out"])]
    live: bool,
    /// With --live: where statistics are asked, for the link and the curl line
    #[arg(long = "url", env = "BOTSTATS_URL", default_value = stats::DEFAULT_URL, value_name = "URL", value_parser = stats::base_url)]
    endpoint: String,
}

#[derive(Serialize)]
struct Line<'a> {
    subject: &'a str,
    payload: &'a RawValue,
}

pub(crate) async fn run(
    simulate: Simulate,
    nats: &NatsSettings,
    as_json: bool,
) -> anyhow::Result<Answer> {
    if simulate.live {
        return demo::live(nats, &simulate.endpoint, as_json).await;
    }
    let params = Params {
        accounts: simulate.accounts,
        days: simulate.days,
        events: simulate.events,
        seed: simulate.seed,
        now_ms: simulate.now.map_or_else(clock::now_ms, jiff::Timestamp::as_millisecond),
    };
    match simulate.out {
        None => to_nats(params, nats).await,
        Some(path) if path.as_os_str() == "-" => {
            write(params, io::stdout().lock())?;
            // The events on standard output are the whole answer.
            Ok(Answer::new("", serde_json::Value::Null).silent())
        }
        Some(path) => {
            let shown = path.display();
            let file = File::create(&path).with_context(|| format!("{shown}"))?;
            write(params, file).with_context(|| format!("{shown}"))?;
            let text = format!(
                "{} written to {shown}; publish them with `botstats publish {shown}`",
                counted(params.events, "event"),
            );
            Ok(Answer::new(text, json!({"events": params.events, "file": path})))
        }
    }
}

async fn to_nats(params: Params, nats: &NatsSettings) -> anyhow::Result<Answer> {
    let client = nats.connect(Role::Producer).await?;
    let (sender, receiver) = mpsc::channel(MADE_AHEAD);
    thread::spawn(move || {
        for (tag, event) in (0..).zip(Simulation::new(params)) {
            let message = Message { tag, subject: event.subject, payload: event.payload };
            if sender.blocking_send(message).is_err() {
                break;
            }
        }
    });
    let counts = with_progress(&Publisher::new(client), receiver, |_| {}).await?;
    let text = format!(
        "{} stored, {} refused; the accounts are sim-1 to sim-{}",
        counted(counts.stored, "event"),
        counts.refused,
        params.accounts
    );
    let json = json!({"stored": counts.stored, "refused": counts.refused});
    Ok(Answer::new(text, json).ok_if(counts.refused == 0))
}

fn write(params: Params, out: impl Write) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(256 * 1024, out);
    for event in Simulation::new(params) {
        let payload: &RawValue = serde_json::from_slice(&event.payload)?;
        serde_json::to_writer(&mut out, &Line { subject: &event.subject, payload })?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}
