//! A whole installation: nats-server, stream and buckets, and the programs on top.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream;
use botstats::server::{Options, Server, find};
use botstats_common::io::setup::{self, Shape};
use botstats_common::io::{clock, nats, settings};
use botstats_common::names::{DIRECTORY_BUCKET, EVENTS_STREAM, THROTTLE_BUCKET};
use botstats_common::secret::SecretHash;
use botstats_common::status::{IngestStatus, Status};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cluster::start_servers;
use super::slots::{MAPPING_INCLUDE, prepare_mapping};
use super::status::statuses;
use super::{ALL, Answer, PATIENCE, Process, get_as, ready, run, until};
use crate::model::{Directory, GroupMode, Model, Question, text_of};

/// Milliseconds in a quarter of an hour.
const QUARTER_MS: i64 = 15 * 60_000;
/// How often a test's own connection is tried, and how long a new one may take.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// A nats-server with stream and buckets, and a client connected to it.
pub struct Site {
    /// The server; in a cluster the first.
    pub nats: Server,
    /// The other servers of a cluster.
    pub others: Vec<Server>,
    pub client: async_nats::Client,
    /// JetStream through that client.
    pub js: jetstream::Context,
    window: String,
    /// Where programs connect, if not to the server itself.
    route: Option<String>,
    /// Settings of all programs that are started from now on.
    pub more: Vec<(&'static str, String)>,
    // Last: the folder goes after those who use it.
    folder: TempDir,
}

/// What an account's owner knows.
#[derive(Debug, Clone)]
pub struct Login {
    pub account: String,
    pub token: String,
    pub keys: BTreeMap<String, String>,
    /// Tokens of single bots, by bot.
    pub bot_tokens: BTreeMap<String, String>,
}

pub struct Query {
    pub process: Process,
    /// Where it answers clients.
    pub http: SocketAddr,
    /// Where it says whether it is ready.
    pub internal: SocketAddr,
}

impl Site {
    /// Starts a nats-server and makes stream and buckets, with that throttle window (such as `0s`).
    pub async fn start(window: &str) -> Self {
        // What a crash of the machine would lose is not tested here, and syncing takes minutes.
        Self::start_with(window, false).await
    }

    /// The same; the server may sync each message before it acknowledges it, as it should in
    /// earnest.
    pub async fn start_with(window: &str, sync_always: bool) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let site = Self::in_folder(folder, window, sync_always).await;
        site.make_stream().await;
        setup::directory_bucket(&site.js, Shape::default()).await.expect("the directory");
        let window = settings::duration(window).expect("a window");
        if !window.is_zero() {
            setup::calls_bucket(&site.js, THROTTLE_BUCKET, window, Shape::default())
                .await
                .expect("the throttle");
        }
        site
    }

    pub(super) async fn in_folder(folder: TempDir, window: &str, sync_always: bool) -> Self {
        let program = find(|_| {}).unwrap_or_else(|e| panic!("{e}"));
        let mut options = Options::new(program, folder.path().join("nats"));
        options.sync_always = sync_always;
        options.extra = MAPPING_INCLUDE.to_owned();
        prepare_mapping(&options.folder);
        let nats = Server::start(options).unwrap_or_else(|e| panic!("{e}"));
        let client = connection(&nats.url()).await;
        let js = nats::jetstream(&client, None);
        let (window, others) = (window.to_owned(), Vec::new());
        Self { nats, others, client, js, window, route: None, more: Vec::new(), folder }
    }

    /// Starts three servers, and lets the command `setup` make stream and buckets with a copy on
    /// each.
    pub async fn start_cluster(window: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let program = find(|_| {}).unwrap_or_else(|e| panic!("{e}"));
        let mut servers = start_servers(&program, folder.path());
        let urls: Vec<String> = servers.iter().map(Server::url).collect();
        let route = urls.join(",");
        let client = connection(&route).await;
        let js = nats::jetstream(&client, None);
        let (nats, others) = (servers.remove(0), servers);
        let (window, route) = (window.to_owned(), Some(route));
        let site = Self { nats, others, client, js, window, route, more: Vec::new(), folder };
        // Until the servers have found each other it can't.
        until("a cluster with stream and buckets", PATIENCE, async || {
            let arguments = ["setup", "--replicas", "3", "--throttle-window", &site.window];
            run("botstats", &arguments, &site.settings()).status.success().then_some(())
        })
        .await;
        site
    }

    /// The server that leads this stream now.
    pub async fn leader(&mut self, stream: &str) -> &mut Server {
        let number = until(&format!("a leader of {stream}"), PATIENCE, async || {
            let mut stream = self.js.get_stream(stream).await.ok()?;
            let leader = stream.info().await.ok()?.cluster.as_ref()?.leader.clone()?;
            leader.strip_prefix('n')?.parse::<usize>().ok()
        })
        .await;
        if number == 0 { &mut self.nats } else { &mut self.others[number - 1] }
    }

    /// Makes the stream of events, or checks it.
    pub async fn make_stream(&self) {
        setup::events_stream(&self.js, Shape::default()).await.expect("the stream");
    }

    /// A folder of that name in the site's own.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Programs that are started from now on connect there; `None` is the server itself.
    pub fn route(&mut self, url: Option<String>) {
        self.route = url;
    }

    /// Where programs connect that are started now.
    pub fn url(&self) -> String {
        self.route.clone().unwrap_or_else(|| self.nats.url())
    }

    /// Settings that every program needs.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        [vec![("NATS_URL", self.url())], self.more.clone()].concat()
    }

    pub fn ingest_settings(&self, folder: &Path) -> Vec<(&'static str, String)> {
        let mut settings = self.settings();
        settings.push(("BOTSTATS_INTERNAL_ADDR", "127.0.0.1:0".to_owned()));
        settings.push(("BOTSTATS_DATA", folder.join("data").display().to_string()));
        // As in the image.
        settings.push(("GLIBC_TUNABLES", "glibc.malloc.mxfast=0".to_owned()));
        settings
    }

    /// Starts an ingest on the folder of that name, which is made if absent.
    pub fn ingest(&self, name: &str) -> Process {
        self.ingest_with(name, &[])
    }

    /// The same with further settings.
    pub fn ingest_with(&self, name: &str, more: &[(&'static str, String)]) -> Process {
        let folder = self.folder(name);
        let settings = [&self.ingest_settings(&folder)[..], more].concat();
        Process::start("botstats-ingest", &[], &settings, &folder)
    }

    /// Starts a query service and waits until it listens (which is before it is ready).
    pub async fn query(&self, name: &str) -> Query {
        self.query_with(name, &self.window).await
    }

    /// The same with a throttle window of its own: `0s` answers without a limit beside others that
    /// have one.
    pub async fn query_with(&self, name: &str, window: &str) -> Query {
        Query::start(&self.settings(), window, &self.folder(name)).await
    }

    /// Puts a value into the directory.
    pub async fn put(&self, key: &str, value: &Value) {
        let bucket = self.js.get_key_value(DIRECTORY_BUCKET).await.expect("the directory");
        bucket.put(key, value.to_string().into()).await.expect("the entry is stored");
    }

    /// Makes an account with a token, and a key for each of the bots.
    pub async fn add_account(&self, account: &str, directory: &Directory, bots: &[&str]) -> Login {
        let token = format!("token-of-{account}");
        let entry = json!({
            "timezone": directory.timezone,
            "tokens": [{"id": "t1", "sha256": hash(&token), "created": "2026-01-01T00:00:00Z"}],
        });
        self.put(&format!("account.{account}"), &entry).await;
        let (mut keys, mut bot_tokens) = (BTreeMap::new(), BTreeMap::new());
        for bot in bots {
            let key = format!("key_{account}_{}", bot.get(..8).unwrap_or(bot));
            let of_bot = directory.channels.iter().filter(|((b, _), _)| b == bot);
            let channels: BTreeMap<&str, &str> =
                of_bot.map(|((_, c), name)| (c.as_str(), name.as_str())).collect();
            let bot_token = format!("token-of-{account}-{bot}");
            let tokens = [
                json!({"id": "b1", "sha256": hash(&bot_token), "created": "2026-01-01T00:00:00Z"}),
            ];
            let mut entry =
                json!({"channels": channels, "key_sha256": hash(&key), "tokens": tokens});
            if let Some(name) = directory.bots.get(*bot) {
                entry["name"] = name.as_str().into();
            }
            self.put(&format!("bot.{account}.{bot}"), &entry).await;
            keys.insert((*bot).to_owned(), key);
            bot_tokens.insert((*bot).to_owned(), bot_token);
        }
        Login { account: account.to_owned(), token, keys, bot_tokens }
    }

    /// The last sequence of the stream.
    pub async fn last_sequence(&self) -> u64 {
        let mut stream = self.js.get_stream(EVENTS_STREAM).await.expect("the stream");
        stream.info().await.expect("the stream's info").state.last_sequence
    }

    /// What every program says of itself.
    pub async fn statuses(&self) -> Vec<Status> {
        statuses(&self.client).await
    }

    /// What the ingests say of themselves.
    pub async fn ingest_statuses(&self) -> Vec<IngestStatus> {
        self.statuses().await.into_iter().filter_map(|status| status.ingest).collect()
    }

    /// Waits until an ingest has applied everything that the stream holds now.
    pub async fn applied(&self, limit: Duration) -> IngestStatus {
        let last = self.last_sequence().await;
        until(&format!("sequence {last} applied"), limit, async || {
            self.ingest_statuses().await.into_iter().find(|status| status.sequence >= last)
        })
        .await
    }
}

impl Query {
    /// Starts a query service and waits until it listens (which is before it is ready).
    pub async fn start(settings: &[(&str, String)], window: &str, folder: &Path) -> Self {
        let mut settings = settings.to_vec();
        settings.push(("BOTSTATS_HTTP_ADDR", "127.0.0.1:0".to_owned()));
        settings.push(("BOTSTATS_INTERNAL_ADDR", "127.0.0.1:0".to_owned()));
        settings.push(("BOTSTATS_THROTTLE_WINDOW", window.to_owned()));
        let process = Process::start("botstats-query", &[], &settings, folder);
        let (internal, http) = Self::addresses(&process).await;
        Query { process, http, internal }
    }

    pub(super) async fn addresses(process: &Process) -> (SocketAddr, SocketAddr) {
        let internal = process.address("internal listener ready").await;
        (internal, process.address("http listener ready").await)
    }

    /// Kills it and starts it again, on other ports.
    pub async fn restart(&mut self) {
        self.process.restart();
        (self.internal, self.http) = Self::addresses(&self.process).await;
    }

    pub async fn ready(&self) {
        ready(self.internal).await;
    }

    /// Asks until there is a 200 that was asked for and given in the same quarter of an hour, on
    /// which alone an answer depends; gives that moment with it.
    pub async fn answer(
        &self,
        login: &Login,
        question: &Question,
        limit: Duration,
    ) -> (i64, Answer) {
        let quarter = |ms: i64| ms.div_euclid(QUARTER_MS);
        until(&format!("a 200 for {question:?}"), limit, async || {
            let before_ms = clock::now_ms();
            let answer = self.ask(login, question).await;
            let same_quarter = quarter(before_ms) == quarter(clock::now_ms());
            (answer.status == 200 && same_quarter).then_some((before_ms, answer))
        })
        .await
    }

    /// Asks, and checks that the answer is the model's to the byte.
    pub async fn check(
        &self,
        model: &Model,
        login: &Login,
        question: &Question,
        directory: &Directory,
    ) {
        let (now_ms, answer) = self.answer(login, question, PATIENCE).await;
        let wanted = text_of(&model.rows(&Question { now_ms, ..question.clone() }, directory));
        let got = answer.text();
        let same = got.bytes().zip(wanted.bytes()).take_while(|(a, b)| a == b).count();
        let from_there = |text: &str| {
            String::from_utf8_lossy(&text.as_bytes()[same.saturating_sub(300)..]).into_owned()
        };
        assert!(
            got == wanted,
            "{question:?} in {} at {now_ms}: from byte {same}\n{}\nthe model says\n{}",
            directory.timezone,
            from_there(got),
            from_there(&wanted),
        );
    }

    /// Asks for all metrics of all bots of the last two days.
    pub async fn ask_all(&self, token: &str) -> Answer {
        get_as(token, self.http, ALL, &[]).await
    }

    /// Asks with the account's token.
    pub async fn ask(&self, login: &Login, question: &Question) -> Answer {
        get_as(&login.token, self.http, &login.path(question), &[]).await
    }
}

impl Login {
    /// The path of a question: about one bot, or all.
    pub fn path(&self, question: &Question) -> String {
        let key = match question.bots.as_deref() {
            None => "*",
            Some([bot]) => self.keys[bot].as_str(),
            Some(_) => panic!("a path names one bot or all"),
        };
        let types: Vec<String> = question.types.iter().map(ToString::to_string).collect();
        let mode: GroupMode = question.mode;
        let fill = if question.fill { "?fill=zero" } else { "" };
        format!(
            "/analytics/statistics/account/{key}/{}/{}/{}{fill}",
            types.join(","),
            mode.name(),
            question.days
        )
    }
}

/// A connection to these servers, separated by commas; tried until it is made.
pub async fn connection(url: &str) -> async_nats::Client {
    let options = async_nats::ConnectOptions::new()
        .retry_on_initial_connect()
        // So that a frozen server of a cluster is left soon.
        .ping_interval(PING_INTERVAL)
        .connection_timeout(PING_INTERVAL);
    let servers: Vec<&str> = url.split(',').collect();
    options.connect(servers).await.expect("a connection")
}

fn hash(secret: &str) -> String {
    SecretHash::of(secret).into()
}
