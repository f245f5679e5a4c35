//! Account calls while many people look at the page: 500 live streams of 100 accounts and a flood
//! of questions, beside the same calls without them.
//!
//! Rounds alternate: calls alone, then the streams are opened and the flood begins, and the same
//! calls are made again. In both a few events arrive every second, so the streams have something to
//! send. The flood is paced at ten times what the limits of all tokens let through: an unpaced one
//! would measure how client and server share the cores.
//!
//! *Not here*: the claim of the account's call. The throttle is off, or each account had one call
//! an hour.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use botstats_common::io::{clock, stop};
use botstats_common::secret::SecretHash;
use botstats_tests::harness::{Connection, PATIENCE, Process, Query, Site, becomes, get_as, until};
use botstats_tests::model::Directory;
use futures::future::join_all;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinHandle;

use super::load::{DAY_MS, Headers, even, fill};
use super::report::percentile;
use super::{Row, Scale, Target, say, usage};

/// Accounts, each with two view tokens.
const ACCOUNTS: u64 = 100;
/// Live streams of each account.
const STREAMS: usize = 5;
/// Live streams that one token may have.
const MAX_STREAMS: usize = 16;
/// Questions that a token may ask in a minute from one address.
const MAX_QUESTIONS: u64 = 120;
/// Events in the stream before all, of 30 days.
const EVENTS: u64 = 300_000;
/// Calls in a round, one after the other, for each side.
const CALLS: u64 = 3_000;
/// The pause between two calls.
const CALL_PAUSE: Duration = Duration::from_millis(10);
/// Questions of the flood for each account in a second: ten times what is allowed in the long run.
const QUESTIONS_A_SECOND: u32 = 20;
/// Connections of the flood.
const FLOODERS: usize = 16;
/// The pause between two events.
const EVENT_PAUSE: Duration = Duration::from_millis(50);
/// The pause before a refused stream is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long streams and flood run before the calls beside them.
const WARM_UP: Duration = Duration::from_secs(2);

/// Everything that runs.
struct Bench {
    query: Query,
    _ingest: Process,
    accounts: Vec<String>,
    // Last: the others use it.
    site: Site,
}

/// What came to the viewers of a round.
#[derive(Debug, Default)]
struct Came {
    events: AtomicU64,
    /// Answers to the flood, by status.
    answered: AtomicU64,
    too_many: AtomicU64,
    unavailable: AtomicU64,
}

impl Came {
    fn count(&self, status: u16) -> anyhow::Result<()> {
        let counter = match status {
            200 => &self.answered,
            429 => &self.too_many,
            503 => &self.unavailable,
            other => anyhow::bail!("a question of the flood got {other}"),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Tasks that end with their owner.
struct Tasks(Vec<JoinHandle<anyhow::Result<()>>>);

impl Tasks {
    /// Ends all; fails if one has failed before.
    async fn end(mut self) -> anyhow::Result<()> {
        for task in std::mem::take(&mut self.0) {
            task.abort();
            match task.await {
                Ok(ended) => ended?,
                Err(error) => anyhow::ensure!(error.is_cancelled(), "{error}"),
            }
        }
        Ok(())
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

pub(super) async fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let bench = Bench::start(scale).await?;
    let pid = bench.query.process.pid();
    let calls = usize::try_from(scale.of(CALLS).max(10))?;
    let streams = bench.accounts.len() * STREAMS;
    let room_after = bench.limits_of_streams().await?;

    let begun = clock::monotonic();
    let events = Tasks(vec![bench.publish()]);
    let [mut alone, mut beside, mut ratios, mut medians, mut quiet, mut peak] =
        [(); 6].map(|()| Vec::new());
    let [mut sent, mut answered, mut too_many, mut unavailable] = [(); 4].map(|()| Vec::new());
    // What the first calls alone find in no cache belongs to neither side.
    bench.calls(calls.min(50)).await?;
    for round in 0..scale.rounds {
        usage::reset_peak(pid);
        let took = bench.calls(calls).await?;
        let (without, middle) = (percentile(&took, 99), percentile(&took, 50));
        let memory_without = usage::peak_bytes(pid).context("query")?;
        usage::reset_peak(pid);
        let came = Arc::new(Came::default());
        let viewers = bench.open(&came).await?;
        let flood = bench.flood(&came);
        tokio::time::sleep(WARM_UP).await;
        let took = bench.calls(calls).await?;
        let with = percentile(&took, 99);
        medians.push(percentile(&took, 50) / middle);
        let memory_with = usage::peak_bytes(pid).context("query")?;
        flood.end().await?;
        viewers.end().await?;
        alone.push(without / 1e3);
        beside.push(with / 1e3);
        ratios.push(with / without);
        quiet.push(mib(memory_without));
        peak.push(mib(memory_with));
        for (list, counter) in [
            (&mut sent, &came.events),
            (&mut answered, &came.answered),
            (&mut too_many, &came.too_many),
            (&mut unavailable, &came.unavailable),
        ] {
            list.push(counter.load(Ordering::Relaxed) as f64);
        }
        say(&format!("  round {}: p99 {:.2} times that of calls alone", round + 1, with / without));
    }
    events.end().await?;
    // Everything was asked from one address.
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    let most = (bench.accounts.len() as f64) * MAX_QUESTIONS as f64 * (minutes.ceil() + 1.0);
    let all: f64 = answered.iter().sum();
    anyhow::ensure!(
        all <= most,
        "{all} questions were answered in {minutes:.1} min, at most {most} may be"
    );
    Ok(vec![
        Row::new("account calls alone: p99", "ms", alone),
        Row::new(format!("beside {streams} streams and a flood: p99"), "ms", beside),
        Row::new("beside / alone: p99", "", ratios).should_be(Target::less(1.5, None)),
        Row::new("beside / alone: p50", "", medians),
        Row::new("query's memory, calls alone", "MiB", quiet),
        Row::new("query's memory, beside streams and flood", "MiB", peak),
        Row::new("events sent to viewers", "", sent),
        Row::new("a stream that was closed makes room after", "s", vec![room_after]),
        Row::new("the flood: 200", "", answered),
        Row::new("the flood: 429", "", too_many),
        Row::new("the flood: 503", "", unavailable),
    ])
}

impl Bench {
    async fn start(scale: Scale) -> anyhow::Result<Self> {
        let count = u32::try_from(scale.of(ACCOUNTS).max(2))?;
        let site = Site::start("0s").await;
        let ingest = site.ingest("ingest");
        let now_ms = clock::now_ms();
        let history = even(count, now_ms - 30 * DAY_MS, now_ms, scale.of(EVENTS).max(500), 1);
        fill(&site.client, Headers::ContentType, history).await?;
        let directory = Directory::nameless("UTC");
        let accounts: Vec<String> = (1..=count).map(|number| format!("sim-{number}")).collect();
        for account in &accounts {
            site.add_account(account, &directory, &["bot-1", "bot-2"]).await;
            for (id, token) in [("v1", view_of(account)), ("v2", stream_of(account))] {
                let sha256 = String::from(SecretHash::of(&token));
                let view = json!({"sha256": sha256, "bots": null, "operators": true});
                site.put(&format!("view.{account}.{id}"), &view).await;
            }
        }
        let query = site.query("query").await;
        query.ready().await;
        site.applied(PATIENCE).await;
        let last = accounts.last().context("an account")?;
        becomes(query.http, &stream_of(last), "/dashboard/now", 200).await;
        Ok(Self { query, _ingest: ingest, accounts, site })
    }

    /// A token has 16 streams and no more; gives the seconds after which closed ones make room.
    async fn limits_of_streams(&self) -> anyhow::Result<f64> {
        let account = self.accounts.first().context("an account")?;
        let mut open = Vec::new();
        for _ in 0..MAX_STREAMS {
            open.push(stream(self.query.http, account).await?);
        }
        let answer = get_as(&stream_of(account), self.query.http, "/dashboard/live", &[]).await;
        anyhow::ensure!(answer.status == 429, "one stream too many got {}", answer.status);
        drop(open);
        let begun = clock::monotonic();
        stream_when_there_is_room(self.query.http, account).await;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Account calls, one after the other; gives the microseconds that each took.
    async fn calls(&self, count: usize) -> anyhow::Result<Vec<f64>> {
        let mut connection = Connection::open(self.query.http).await?;
        let mut took = Vec::with_capacity(count);
        for account in self.accounts.iter().cycle().take(count) {
            tokio::time::sleep(CALL_PAUSE).await;
            let path = "/analytics/statistics/account/*/0,1,2,3,8,10,13/day/30";
            let request = request(path, &format!("token-of-{account}"));
            let begun = clock::monotonic();
            connection.send(request.as_bytes()).await?;
            let answer = connection.answer(false).await?.context("an answer")?;
            anyhow::ensure!(answer.status == 200, "a call got {}", answer.status);
            took.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        Ok(took)
    }

    /// Opens the live streams, and counts their events.
    async fn open(&self, came: &Arc<Came>) -> anyhow::Result<Tasks> {
        let opening = self.accounts.iter().flat_map(|account| {
            let one = move || stream_when_there_is_room(self.query.http, account);
            std::iter::repeat_with(one).take(STREAMS)
        });
        let streams = join_all(opening).await;
        let read = |mut connection: Connection| {
            let came = Arc::clone(came);
            stop::spawn(async move {
                let mut buffer = vec![0; 16 * 1024];
                loop {
                    let length = connection.socket.read(&mut buffer).await?;
                    anyhow::ensure!(length > 0, "a stream ended");
                    let is_event = buffer[..length].windows(11).any(|w| w == b"event: now\n");
                    came.events.fetch_add(u64::from(is_event), Ordering::Relaxed);
                }
            })
        };
        Ok(Tasks(streams.into_iter().map(read).collect()))
    }

    /// Questions of all viewers: different ones, at a steady pace.
    fn flood(&self, came: &Arc<Came>) -> Tasks {
        let accounts = u32::try_from(self.accounts.len()).unwrap_or(1);
        let each = u32::try_from(FLOODERS).unwrap_or(1);
        let pause = Duration::from_secs(1) * each / (accounts * QUESTIONS_A_SECOND);
        let one = |place: usize| {
            let (came, accounts) = (Arc::clone(came), self.accounts.clone());
            let address = self.query.http;
            stop::spawn(async move {
                let mut connection = Connection::open(address).await?;
                let mut pace = tokio::time::interval(pause);
                pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
                for number in place.. {
                    pace.tick().await;
                    let account = &accounts[number % accounts.len()];
                    let question = ["0,1,2,3,8,10,13/day/30?by=none", "3,13/hour/7?by=channel"];
                    let question = question[number / accounts.len() % question.len()];
                    let request =
                        request(&format!("/dashboard/data/*/{question}"), &view_of(account));
                    connection.send(request.as_bytes()).await?;
                    came.count(connection.answer(false).await?.context("an answer")?.status)?;
                }
                Ok(())
            })
        };
        Tasks((0..FLOODERS).map(one).collect())
    }

    /// Publishes an event again and again, each time of another account.
    fn publish(&self) -> JoinHandle<anyhow::Result<()>> {
        let (js, accounts) = (self.site.js.clone(), self.accounts.clone());
        stop::spawn(async move {
            for (number, account) in accounts.iter().cycle().enumerate() {
                tokio::time::sleep(EVENT_PAUSE).await;
                let event = json!({
                    "specversion": "1.0", "id": format!("page-{number}"), "source": "/bench",
                    "type": "io.botstats.message.received.v1",
                    "time": clock::rfc3339_ms(clock::now_ms()),
                    "data": {"conversationid": format!("page-{number}"), "userid": "u"},
                });
                let subject = format!("botstats.events.{account}.bot-1.web");
                js.publish(subject, event.to_string().into()).await?.await?;
            }
            Ok(())
        })
    }
}

/// The token of the flood.
fn view_of(account: &str) -> String {
    format!("view-of-{account}")
}

/// The token of the streams: to open one is a question too, and the flood uses up the other's.
fn stream_of(account: &str) -> String {
    format!("stream-of-{account}")
}

fn request(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n")
}

/// Opens a live stream; fails if it is refused.
async fn stream(address: SocketAddr, account: &str) -> anyhow::Result<Connection> {
    let mut connection = Connection::open(address).await?;
    connection.send(request("/dashboard/live", &stream_of(account)).as_bytes()).await?;
    let mut head = [0; 12];
    connection.socket.read_exact(&mut head).await?;
    anyhow::ensure!(head == *b"HTTP/1.1 200", "{}", String::from_utf8_lossy(&head));
    Ok(connection)
}

/// Streams of the round before keep their places until the server sees that they were closed.
async fn stream_when_there_is_room(address: SocketAddr, account: &str) -> Connection {
    until("room for a stream", PATIENCE, async || {
        let opened = stream(address, account).await.ok();
        if opened.is_none() {
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        opened
    })
    .await
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}
