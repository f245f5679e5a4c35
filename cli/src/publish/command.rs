//! `botstats publish`.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use botstats_common::io::nats::{NatsSettings, Role};
use botstats_common::io::producer::{
    BATCHES_IN_FLIGHT, Counts, MAX_BATCH, Message, Progress, PublishError, Publisher,
};
use clap::Args;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use super::lines::Lines;
use crate::output::{Answer, MAX_NAMED, counted, published};

/// The most messages that are read ahead of those in flight.
const READ_AHEAD: usize = BATCHES_IN_FLIGHT * MAX_BATCH;
/// The interval of the progress line.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
#[command(
    after_long_help = "A line is {\"subject\": \"botstats.events.<account>.<bot>.<channel>\", \
    \"payload\": {..}}; an array of such objects is read as lines. The payload is sent as it stands \
    there, and nothing else of the line is. Stored means acknowledged by the \
    stream; whether it keeps the rules of an event is ingest's to say (`botstats deadletters list`). \
    Publishing the same file again changes no statistics. Exit code 1 if anything was refused.\n\n\
    EXAMPLES\n  \
    botstats publish events.ndjson\n  \
    zcat old.ndjson.gz | botstats publish -"
)]
pub(crate) struct Publish {
    /// File with one event a line; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// The refusals to show: the first few, and the count of all.
#[derive(Debug, Default)]
struct Refusals {
    named: Vec<(u64, String)>,
    count: u64,
}

impl Refusals {
    fn add(&mut self, line: u64, reason: String) {
        self.count += 1;
        if self.named.len() < MAX_NAMED {
            self.named.push((line, reason));
        }
    }
}

pub(crate) async fn run(publish: Publish, nats: &NatsSettings) -> anyhow::Result<Answer> {
    let input: Box<dyn Read + Send> = if publish.file.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        let shown = publish.file.display();
        let file = File::open(&publish.file).with_context(|| format!("{shown}"))?;
        let is_folder = file.metadata().with_context(|| format!("{shown}"))?.is_dir();
        anyhow::ensure!(!is_folder, "{shown} is a folder; give a file, or - for standard input");
        Box::new(file)
    };
    let client = nats.connect(Role::Producer).await?;
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    let reader = thread::spawn(move || read(input, &sender));

    let mut refused = Refusals::default();
    let published = with_progress(&Publisher::new(client), receiver, |progress| {
        for refusal in &progress.refused {
            refused.add(refusal.tag, refusal.reason.clone());
        }
    })
    .await?;
    let bad_lines = reader.join().map_err(|_| anyhow::anyhow!("the reader ended early"))??;
    Ok(answer(published.stored, refused, bad_lines))
}

/// Publishes the messages of a channel, with a progress line on standard error.
pub(crate) async fn with_progress(
    publisher: &Publisher,
    messages: mpsc::Receiver<Message>,
    mut report: impl FnMut(&Progress),
) -> Result<Counts, PublishError> {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} in {elapsed}, {per_sec}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    let mut refused = 0_u64;
    let published = publisher
        .publish(messages, |progress| {
            refused += u64::try_from(progress.refused.len()).unwrap_or(u64::MAX);
            bar.inc(progress.stored);
            let stored = HumanCount(bar.position());
            bar.set_message(format!("{stored} stored, {} refused", HumanCount(refused)));
            report(progress);
        })
        .await;
    bar.finish_and_clear();
    published
}

/// Reads all lines into the channel; returns the bad lines. Ends early if the publisher has ended.
fn read(input: impl Read, sender: &mpsc::Sender<Message>) -> anyhow::Result<Refusals> {
    const UNREADABLE: &str = "the input can't be read to its end";
    let mut lines = Lines::new(BufReader::with_capacity(256 * 1024, input)).context(UNREADABLE)?;
    let mut bad = Refusals::default();
    while let Some(line) = lines.next().context(UNREADABLE)? {
        match line {
            Ok(message) => {
                if sender.blocking_send(message).is_err() {
                    break;
                }
            }
            Err(reason) => bad.add(lines.number(), reason),
        }
    }
    Ok(bad)
}

fn answer(stored: u64, mut refused: Refusals, bad: Refusals) -> Answer {
    refused.count += bad.count;
    refused.named.extend(bad.named);
    refused.named.sort();
    refused.named.truncate(MAX_NAMED);
    let count = refused.count;
    let text = format!("{} stored, {} refused", counted(stored, "event"), counted(count, "line"));
    published(text, stored, count, &refused.named)
}
