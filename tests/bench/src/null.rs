//! Consumers that take a stream and drop it: what ingest would cost if it did nothing.
//!
//! Each runs in a process of its own, so that its CPU time is measured as ingest's is: the
//! benchmark's program starts itself again with a hidden option.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::{Client, Subscriber};
use botstats_common::io::nats::{NatsSettings, jetstream};
use botstats_common::io::readiness::Readiness;
use botstats_common::io::{clock, stop};
use botstats_common::names::EVENTS_STREAM;
use botstats_ingest::testing::Engine;
use botstats_ingest::testing::MemoryUse;
use botstats_ingest::testing::Progress;
use botstats_ingest::testing::{Health, StreamReader, handover};
use clap::{Parser, ValueEnum};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::usage;
use botstats_tests::harness::{binary, connection};

/// Messages of one pull request. The next request is sent when at most this many messages are
/// outstanding. With more, messages would wait in this process, and each would cost more.
const BATCH: u64 = 500;
/// How long a pull request waits for messages, in nanoseconds.
const EXPIRES_NS: u64 = 30_000_000_000;

/// Who takes the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Null {
    /// Pull requests and one subscription, on one thread: the least that a consumer can do.
    Raw,
    /// Our reader, which decodes; its batches are dropped.
    Reader,
}

/// What taking a stream took, from the first request on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Drained {
    /// Seconds until the last message was there.
    pub seconds: f64,
    /// CPU time of the process, all threads, in microseconds.
    pub cpu_us: f64,
}

/// Takes `count` messages in another process.
pub fn run(null: Null, url: &str, count: u64) -> anyhow::Result<Drained> {
    let name = null.to_possible_value().context("a name")?;
    let output = Command::new(binary("bench"))
        .args(["--null", name.get_name(), "--null-url", url, "--null-count", &count.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    anyhow::ensure!(output.status.success(), "the null consumer ended with {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Takes the first `count` messages in this process.
pub async fn take(null: Null, url: &str, count: u64) -> anyhow::Result<Drained> {
    match null {
        Null::Raw => raw(&connection(url).await, count).await,
        Null::Reader => by_reader(url, count).await,
    }
}

async fn raw(client: &Client, count: u64) -> anyhow::Result<Drained> {
    let mut pull = Pull::open(client, EVENTS_STREAM).await?;
    let (begun, cpu) = (clock::monotonic(), usage::own_cpu());
    pull.take(count, |_| Ok(())).await?;
    let (wall, cpu) = (begun.elapsed(), usage::own_cpu() - cpu);
    Ok(Drained { seconds: wall.as_secs_f64(), cpu_us: cpu.as_secs_f64() * 1e6 })
}

/// One subscription and pull requests, without acknowledgements.
pub struct Pull {
    client: Client,
    ask: String,
    inbox: String,
    messages: Subscriber,
}

impl Pull {
    /// Makes a consumer that begins at the stream's first message.
    pub async fn open(client: &Client, stream: &str) -> anyhow::Result<Self> {
        let config = pull::Config {
            ack_policy: AckPolicy::None,
            deliver_policy: DeliverPolicy::All,
            memory_storage: true,
            ..pull::Config::default()
        };
        let consumer = jetstream(client, None).create_consumer_on_stream(config, stream).await;
        let consumer = consumer.map_err(|e| anyhow::anyhow!("no consumer: {e}"))?;
        let name = &consumer.cached_info().name;
        let ask = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}");
        let inbox = client.new_inbox();
        let messages = client.subscribe(inbox.clone()).await?;
        Ok(Self { client: client.clone(), ask, inbox, messages })
    }

    /// Takes that many messages.
    pub async fn take(
        &mut self,
        count: u64,
        mut each: impl FnMut(async_nats::Message) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (mut asked, mut taken) = (0, 0);
        while taken < count {
            while asked < count && asked - taken <= BATCH {
                let batch = BATCH.min(count - asked);
                let request = format!(r#"{{"batch":{batch},"expires":{EXPIRES_NS}}}"#);
                let (ask, inbox) = (self.ask.clone(), self.inbox.clone());
                self.client.publish_with_reply(ask, inbox, request.into()).await?;
                asked += batch;
            }
            let message = self.messages.next().await.context("the subscription ended")?;
            if let Some(status) = message.status {
                anyhow::bail!("instead of a message: {status}");
            }
            taken += 1;
            each(message)?;
        }
        Ok(())
    }
}

/// The settings of a connection, as programs read them.
#[derive(Debug, Parser)]
struct Connection {
    #[command(flatten)]
    nats: NatsSettings,
}

async fn by_reader(url: &str, count: u64) -> anyhow::Result<Drained> {
    let settings = Connection::try_parse_from(["null", "--nats-url", url])?.nats;
    let health = Health::new(
        Progress::default(),
        MemoryUse::default(),
        Readiness::default(),
        Duration::ZERO,
    );
    let (to_fold, batches) = handover();
    let end = CancellationToken::new();
    let folder = tempfile::tempdir()?;
    let decoder = Engine::open(folder.path(), super::in_process::KEEP_DAYS)?.decoder();
    let (begun, cpu) = (clock::monotonic(), usage::own_cpu());
    let stream = EVENTS_STREAM.to_owned();
    let reader = StreamReader::new(settings, stream, None, decoder, to_fold, health);
    let reading = stop::spawn(reader.run(end.clone()));
    // In a thread of its own, as the fold.
    let dropping = tokio::task::spawn_blocking(move || {
        let mut taken = 0;
        while taken < count {
            let Ok(batch) = batches.receive(Duration::MAX) else { break };
            taken += u64::try_from(batch.arrivals.len()).unwrap_or_default();
            batches.applied(batch);
        }
        taken
    });
    let taken = dropping.await?;
    let (wall, cpu) = (begun.elapsed(), usage::own_cpu() - cpu);
    end.cancel();
    reading.await?;
    anyhow::ensure!(taken >= count, "the reader ended after {taken} messages");
    Ok(Drained { seconds: wall.as_secs_f64(), cpu_us: cpu.as_secs_f64() * 1e6 })
}
