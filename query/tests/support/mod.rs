//! What the tests of the running service need: a nats-server, an ingest's part of the wire, a client.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use async_nats::jetstream::Context;
use botstats::server::{Options, Server, find};
use botstats_common::ids::{Account, Bot};
use botstats_common::io::nats::{self, NatsSettings, Role, Servers};
use botstats_common::io::{clock, stop};
use botstats_common::metric::TypeCode;
use botstats_common::names::{READ_QUEUE, ReadSubject};
use botstats_common::secret::SecretHash;
use botstats_common::wire::{self, Cell, Chunk, Frame, Pair, Samples};
use botstats_query::{RunError, ServiceSettings, Settings, run};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Whatever is waited for comes within this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A nats-server of the test's own; stopped when it is dropped.
pub(crate) struct Nats {
    server: Server,
    _folder: tempfile::TempDir,
}

/// A port that nobody listens on: below those that the system gives to clients, and another one at
/// each call.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % 500).unwrap();
    loop {
        let port = 12_000 + process * 40 + NEXT.fetch_add(1, Ordering::Relaxed) % 500;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Nats {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = find(|line| eprintln!("{line}")).unwrap();
        let server = Server::start(Options::new(program, folder.path())).unwrap();
        Self { server, _folder: folder }
    }

    pub(crate) fn restart(&mut self) {
        self.server.restart().unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.server.kill();
    }

    /// Freezes the server (`STOP`) or lets it go on (`CONT`).
    pub(crate) fn signal(&self, name: &str) {
        let id = self.server.pid().unwrap().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    pub(crate) fn settings(&self) -> NatsSettings {
        let url = Servers::parse(&self.server.url()).unwrap();
        NatsSettings::at(url)
    }

    pub(crate) async fn client(&self) -> async_nats::Client {
        let settings = self.settings();
        until("a connection to NATS", async || settings.connect(Role::Admin).await.ok()).await
    }

    pub(crate) async fn js(&self) -> Context {
        nats::jetstream(&self.client().await, None)
    }
}

/// Asks again and again until there is something.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = clock::monotonic() + DEADLINE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(clock::monotonic() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A running query service.
pub(crate) struct Query {
    pub(crate) http: SocketAddr,
    pub(crate) internal: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) ended: JoinHandle<Result<(), RunError>>,
}

impl Query {
    pub(crate) fn start(nats: &Nats, window: Duration) -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (http, internal) = (local(free_port()), local(free_port()));
        let settings = Settings {
            service: ServiceSettings {
                http_addr: http,
                throttle_window: window,
                http_idle: Duration::from_secs(75),
            },
            internal_addr: internal,
            nats: nats.settings(),
        };
        let stop = CancellationToken::new();
        let ended = stop::spawn(run(settings, stop.clone()));
        Self { http, internal, stop, ended }
    }

    pub(crate) async fn ready(nats: &Nats, window: Duration) -> Self {
        let query = Self::start(nats, window);
        query.becomes_ready().await;
        query
    }

    pub(crate) async fn becomes_ready(&self) {
        let internal = self.internal;
        until("readiness", async || {
            botstats_common::io::internal::healthcheck(internal).await.ok()
        })
        .await;
    }

    pub(crate) async fn becomes_unready(&self, part: &str) {
        let internal = self.internal;
        until("unreadiness", async || {
            let missing = botstats_common::io::internal::healthcheck(internal).await.err()?;
            missing.contains(part).then_some(())
        })
        .await;
    }

    /// Asks with the token of the account `acme`.
    pub(crate) async fn ask(&self, path: &str) -> Answer {
        self.ask_with(path, &[("Authorization", "Bearer token-of-acme")]).await
    }

    pub(crate) async fn ask_with(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let fields: String =
            fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        // HTTP/1.0: the body ends with the connection.
        self.raw(format!("GET {path} HTTP/1.0\r\n{fields}\r\n").as_bytes()).await
    }

    pub(crate) async fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut bytes = Vec::new();
        tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
        Answer::parse(&bytes)
    }

    pub(crate) async fn stopped(self) -> Result<(), RunError> {
        self.stop.cancel();
        self.ended.await.unwrap()
    }
}

/// What a client got.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        Self { status, headers, body: bytes[end + 4..].to_vec() }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The last part of the problem's type.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.header("cache-control"), "no-store");
        let json = self.json();
        assert_eq!(json["status"], self.status);
        assert_eq!(json["request_id"], self.header("x-request-id"));
        json["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned()
    }
}

/// Writes the directory: `acme` (bots b1 with key key-of-b1, b2 with key-of-b2) and `other`.
pub(crate) async fn fill_directory(js: &Context) {
    put(js, "account.acme", &account_json("token-of-acme", false)).await;
    put(js, "bot.acme.b1", &bot_json("Pizza", "key-of-b1", false)).await;
    put(js, "bot.acme.b2", &bot_json("Taxi", "key-of-b2", false)).await;
    put(js, "bot.other.b1", &bot_json("Other", "key-of-other", false)).await;
    // The last: whoever knows it knows the others.
    put(js, "account.other", &account_json("token-of-other", false)).await;
}

pub(crate) fn account_json(token: &str, removed: bool) -> String {
    let hash = String::from(SecretHash::of(token));
    serde_json::json!({"tokens": [{"id": "t", "sha256": hash}], "removed": removed}).to_string()
}

/// `acme` in a time zone.
pub(crate) fn account_in(timezone: &str) -> String {
    let mut entry: serde_json::Value =
        serde_json::from_str(&account_json("token-of-acme", false)).unwrap();
    entry["timezone"] = timezone.into();
    entry.to_string()
}

pub(crate) fn bot_json(name: &str, key: &str, removed: bool) -> String {
    let hash = String::from(SecretHash::of(key));
    serde_json::json!({"name": name, "key_sha256": hash, "removed": removed}).to_string()
}

pub(crate) async fn put(js: &Context, key: &str, value: &str) {
    let kv = js.get_key_value("botstats_directory").await.unwrap();
    kv.put(key, Bytes::from(value.to_owned())).await.unwrap();
}

/// How an [`Ingest`] behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Answers.
    Good,
    /// Accepts and says nothing more.
    Silent,
    /// Refuses.
    Refusing,
    /// Loses a chunk at the first try of each request.
    Losing,
    /// Sends more than any request may hold.
    Endless,
    /// Says that it would send more than any request may hold.
    TooLarge,
}

/// The other end of the wire: answers reads with 3 received messages of each bot on `web` in the last
/// group, in two chunks; answers the ping of an ingest.
pub(crate) struct Ingest {
    stop: CancellationToken,
    reads: Arc<AtomicU32>,
}

impl Ingest {
    pub(crate) async fn start(nats: &Nats, behaviour: Behaviour) -> Self {
        let client = nats.client().await;
        let mut reads = client
            .queue_subscribe(ReadSubject::default().all(), READ_QUEUE.to_owned())
            .await
            .unwrap();
        let mut pings = client.subscribe("$SRV.PING.botstats-ingest").await.unwrap();
        client.flush().await.unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let reads_counted = Arc::new(AtomicU32::new(0));
        let counting = Arc::clone(&reads_counted);
        stop::spawn(async move {
            loop {
                let message = tokio::select! {
                    () = stopped.cancelled() => return,
                    Some(ping) = pings.next() => {
                        client.publish(ping.reply.unwrap(), "{}".into()).await.unwrap();
                        continue;
                    }
                    Some(message) = reads.next() => message,
                };
                let request: wire::Request = wire::decode(&message.payload).unwrap();
                let tries = counting.fetch_add(1, Ordering::SeqCst);
                for frame in frames(&request, behaviour, tries) {
                    let bytes = wire::encode(&frame).unwrap();
                    client.publish(message.reply.clone().unwrap(), bytes.into()).await.unwrap();
                }
            }
        });
        Self { stop, reads: reads_counted }
    }

    /// How many reads came.
    pub(crate) fn reads(&self) -> u32 {
        self.reads.load(Ordering::SeqCst)
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The frames of an answer; made while they are sent, so that the first is there at once.
fn frames(
    request: &wire::Request,
    behaviour: Behaviour,
    tries: u32,
) -> Box<dyn Iterator<Item = Frame> + Send> {
    let group = u32::try_from(request.boundaries.len()).unwrap() - 2;
    let all: Vec<Bot> = vec!["b1".parse().unwrap(), "b2".parse().unwrap()];
    let bots = request.bots.clone().unwrap_or(all);
    let accepted = Frame::Accepted { instance: "test".to_owned() };
    let chunk = |number, last, pairs: Vec<Pair>, cells| {
        Frame::Chunk(Chunk { number, last, as_of_ms: 1_800_000_000_123, pairs, cells })
    };
    let pairs: Vec<Pair> =
        bots.into_iter().map(|bot| Pair { bot, channel: "web".parse().unwrap() }).collect();
    let samples = vec![Samples { code: TypeCode::IncomingMessage, count: 3, sum: 3 }];
    let cell = |pair| Cell { group, pair, samples: samples.clone() };
    let cells = (0..u32::try_from(pairs.len()).unwrap()).map(cell).collect();
    let few = match behaviour {
        Behaviour::Silent => vec![accepted],
        Behaviour::Refusing => vec![Frame::Refused("behind".to_owned())],
        Behaviour::TooLarge => vec![accepted, Frame::TooLarge],
        Behaviour::Losing if tries.is_multiple_of(2) => {
            vec![accepted, chunk(1, true, pairs, Vec::new())]
        }
        Behaviour::Endless => {
            // As bytes, which is how an answer is held, about 80 MB in all.
            let many = 1 << 48;
            let wide = TypeCode::ALL.map(|code| Samples { code, count: many, sum: many }).to_vec();
            let big: Vec<Cell> =
                (0..700).map(|group| Cell { group, pair: 0, samples: wide.clone() }).collect();
            let chunks = (0..400).map(move |number| {
                let channel = format!("c{number}").parse().unwrap();
                let bot = "b1".parse().unwrap();
                let cells = big.iter().map(|c| Cell { pair: number, ..c.clone() }).collect();
                chunk(number, number == 399, vec![Pair { bot, channel }], cells)
            });
            return Box::new(std::iter::once(accepted).chain(chunks));
        }
        _ => vec![accepted, chunk(0, false, pairs, Vec::new()), chunk(1, true, Vec::new(), cells)],
    };
    Box::new(few.into_iter())
}

/// The statistics of all bots in one day.
pub(crate) const PATH: &str = "/analytics/statistics/account/*/13/day/1";

pub(crate) fn account(name: &str) -> Account {
    name.parse().unwrap()
}
