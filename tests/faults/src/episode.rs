//! One installation that lives through some faults while events are published and calls are used.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use botstats::server::Server;
use botstats_common::io::{clock, settings, stop};
use botstats_common::names::EVENTS_STREAM;
use futures::StreamExt as _;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::callers::{Callers, WINDOW};
use super::plan::{Episode, Fault, Step, What};
use super::report::Tally;
use botstats_tests::generate::{self, Dice, Generated, Plan};
use botstats_tests::harness::{
    Login, Outgoing, PATIENCE, Process, Proxy, Query, Site, check_counts, check_dead_letters,
    connection, event, get_as, outgoing, publish_stubbornly, signal, statuses, stored, until,
};
use botstats_tests::model::{Directory, Message, Model, Verdict};

const DAY_MS: i64 = 86_400_000;
/// Accounts whose events are published.
const ACCOUNTS: u64 = 3;
/// Accounts that only call: enough that most calls are unused, and are claimed.
const CALLING_ACCOUNTS: usize = 80;
/// Messages of a publisher on their way.
const IN_FLIGHT: usize = 32;
/// How long a publisher waits for an acknowledgement before it sends the same again.
const ACK_LIMIT: Duration = Duration::from_secs(1);
/// How long a publisher tries.
const PUBLISH_LIMIT: Duration = Duration::from_secs(120);
/// Pause between two cuts of one fault.
const CUT_PAUSE: Duration = Duration::from_millis(60);
/// Pause between two looks at the checkpoint.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// The number of steps between two judgements of the model, which also judges at the end.
const JUDGED_STEPS: usize = 5;
/// Questions for each account at a judgement on the way, and at the end.
const QUESTIONS: usize = 1;
const LAST_QUESTIONS: usize = 4;
const THROTTLE_STREAM: &str = "KV_botstats_throttle";
const DIRECTORY_STREAM: &str = "KV_botstats_directory";
/// The account whose events say that everything works again.
const MARKED: [&str; 3] = ["marked", "b1", "web"];

/// Runs an episode.
pub async fn run(episode: &Episode) -> Tally {
    let mut running = Running::start(episode).await;
    let steps = episode.steps.len();
    for (number, step) in (1..).zip(&episode.steps) {
        let took = running.step(step).await;
        let faults: Vec<String> = step.faults.iter().map(|fault| format!("{fault:?}")).collect();
        eprintln!("  step {number} of {steps}: recovered in {took:.2?} from {}", faults.join(", "));
        if number % JUDGED_STEPS == 0 && number < steps {
            running.judge(QUESTIONS).await;
        }
    }
    running.finish().await
}

struct Running {
    ingest: Process,
    /// Answers without a limit.
    asked: Query,
    /// Have a throttle window; with the address that clients see.
    throttled: [(Query, watch::Sender<SocketAddr>); 2],
    callers: Callers,
    checkpoints: Checkpoints,
    publishers: Vec<jetstream::Context>,
    proxy: Proxy,
    dice: Dice,
    generated: Arc<Generated>,
    /// All steps' shares of the messages.
    shares: usize,
    /// The first message that is not published yet.
    next: usize,
    /// The sequence of each acknowledgement, with the message that it is of.
    receipts: Vec<(u64, usize)>,
    logins: BTreeMap<String, Login>,
    marked: Login,
    marks: u64,
    tally: Tally,
    // Last: the others use it.
    site: Site,
}

impl Running {
    async fn start(episode: &Episode) -> Self {
        let plan = Plan {
            seed: episode.seed,
            accounts: ACCOUNTS,
            events: episode.events(),
            start_ms: clock::now_ms() - 26 * DAY_MS,
            days: 25,
            conflicts: true,
            bad: true,
        };
        let generated = plan.generate();
        let window = settings::show_duration(WINDOW);
        let mut site = match episode.cluster {
            true => Site::start_cluster(&window).await,
            false => Site::start_with(&window, true).await,
        };
        let proxy = Proxy::start(site.nats.port()).await;
        let (direct, by_proxy) = (site.url(), proxy.url());

        let mut logins = BTreeMap::new();
        for (account, directory) in &generated.directories {
            let bots: Vec<&str> = generated.bots[account].iter().map(String::as_str).collect();
            logins.insert(account.clone(), site.add_account(account, directory, &bots).await);
        }
        let nameless = Directory::nameless("UTC");
        let marked = site.add_account(MARKED[0], &nameless, &[]).await;
        let mut calling = Vec::new();
        for number in 0..CALLING_ACCOUNTS {
            calling.push(site.add_account(&format!("calling-{number}"), &nameless, &[]).await);
        }

        let route = |proxied: bool| Some(if proxied { &by_proxy } else { &direct }.clone());
        site.route(route(episode.ingest_by_proxy));
        let ingest = site.ingest("ingest");
        site.route(route(episode.query_by_proxy));
        let asked = site.query_with("asked", "0s").await;
        let throttled = [site.query("throttled-0").await, site.query("throttled-1").await];
        for query in throttled.iter().chain([&asked]) {
            query.ready().await;
        }
        let throttled = throttled.map(|query| {
            let address = watch::Sender::new(query.http);
            (query, address)
        });
        let addresses = throttled.each_ref().map(|(_, address)| address.subscribe());
        let mut publishers = Vec::new();
        for url in [&direct, if episode.cluster { &direct } else { &by_proxy }] {
            let context = jetstream::ContextBuilder::new().ack_timeout(ACK_LIMIT);
            publishers.push(context.build(connection(url).await));
        }
        Self {
            ingest,
            asked,
            throttled,
            callers: Callers::start(episode.seed, &addresses, &calling),
            checkpoints: Checkpoints::watch(connection(&direct).await),
            publishers,
            proxy,
            dice: Dice::new(episode.seed),
            generated: Arc::new(generated),
            shares: episode.events(),
            next: 0,
            receipts: Vec::new(),
            logins,
            marked,
            marks: 0,
            tally: Tally::default(),
            site,
        }
    }

    /// Publishes, lets the faults happen meanwhile, and waits until an event is counted again.
    async fn step(&mut self, step: &Step) -> Duration {
        let publishing = self.publish(step.share);
        for fault in &step.faults {
            self.strike(fault).await;
            *self.tally.faults.entry(fault.what.name()).or_default() += 1;
        }
        let took = self.recovered().await;
        let last = step.faults.last().map_or("nothing", |fault| fault.what.name());
        self.tally.recoveries.push((last, took));
        self.receipts.extend(publishing.await.expect("publishers that do not panic"));
        took
    }

    /// Begins to publish the next messages, each until it is acknowledged.
    fn publish(&mut self, share: usize) -> JoinHandle<Vec<(u64, usize)>> {
        let messages = self.generated.messages.len();
        let end = messages.min(self.next + (share * messages).div_ceil(self.shares));
        let part: Range<usize> = std::mem::replace(&mut self.next, end)..end;
        let (generated, publishers) = (Arc::clone(&self.generated), self.publishers.clone());
        stop::spawn(async move {
            let sending = part.map(|index| {
                let message: Outgoing = outgoing(&generated.messages[index]);
                let js = publishers[index % publishers.len()].clone();
                async move { (publish_stubbornly(&js, &message, PUBLISH_LIMIT).await, index) }
            });
            futures::stream::iter(sending).buffer_unordered(IN_FLIGHT).collect().await
        })
    }

    async fn strike(&mut self, fault: &Fault) {
        // Not a wait for anything: the moment of the fault.
        sleep(Duration::from_millis(fault.after_ms)).await;
        match fault.what {
            What::KillIngest => self.ingest.restart(),
            What::KillNats { down_ms } => {
                let server = self.server().await;
                server.kill();
                sleep(Duration::from_millis(down_ms)).await;
                self.go_on_without("without the killed leader").await;
                let server = std::iter::once(&mut self.site.nats).chain(&mut self.site.others);
                let mut killed = server.filter(|server| server.pid().is_none());
                let killed = killed.next().expect("the server that was killed");
                block_in_place(|| killed.restart()).unwrap_or_else(|e| panic!("{e}"));
            }
            What::Cut { times } => {
                for _ in 0..times {
                    self.proxy.cut();
                    sleep(CUT_PAUSE).await;
                }
            }
            What::Silence { for_ms } => {
                self.proxy.pause(true);
                sleep(Duration::from_millis(for_ms)).await;
                self.proxy.pause(false);
            }
            What::Slow { by_ms, for_ms } => {
                self.proxy.delay(Duration::from_millis(by_ms));
                sleep(Duration::from_millis(for_ms)).await;
                self.proxy.delay(Duration::ZERO);
            }
            What::FreezeIngest { for_ms } => {
                self.ingest.signal("STOP");
                sleep(Duration::from_millis(for_ms)).await;
                self.ingest.signal("CONT");
            }
            What::FreezeNats { for_ms } => {
                let pid = self.server().await.pid().expect("a running server");
                signal(pid, "STOP");
                sleep(Duration::from_millis(for_ms)).await;
                self.go_on_without("without the frozen leader").await;
                signal(pid, "CONT");
            }
            What::DeleteConsumer => delete_consumers(&self.site.js).await,
            What::KillQuery { throttled: false } => self.asked.restart().await,
            What::KillQuery { throttled: true } => {
                let (query, address) = &mut self.throttled[0];
                query.restart().await;
                address.send_replace(query.http);
            }
        }
    }

    /// The server that a fault is for: the only one, or the leader of a stream that somebody needs
    /// now.
    async fn server(&mut self) -> &mut Server {
        if self.site.others.is_empty() {
            return &mut self.site.nats;
        }
        let streams = [EVENTS_STREAM, EVENTS_STREAM, THROTTLE_STREAM, DIRECTORY_STREAM];
        let stream = *self.dice.pick(&streams);
        self.site.leader(stream).await
    }

    /// A cluster has lost a server: everything must work again before that comes back.
    async fn go_on_without(&mut self, what: &'static str) {
        if !self.site.others.is_empty() {
            let took = self.recovered().await;
            eprintln!("  recovered in {took:.2?} {what}");
            self.tally.recoveries.push((what, took));
        }
    }

    /// Publishes one more event of the marked account, and waits until an answer has it.
    async fn recovered(&mut self) -> Duration {
        let started = clock::monotonic();
        self.marks += 1;
        let (id, marks) = (format!("mark-{}", self.marks), self.marks);
        let mark = event(MARKED, "message.received", clock::now_ms(), &id, &json!({}));
        let js = &self.publishers[self.dice.index(self.publishers.len())];
        publish_stubbornly(js, &mark, PATIENCE).await;
        let path = "/analytics/statistics/account/*/13/year/30";
        until("an answer with the newest event", PATIENCE, async || {
            let answer = get_as(&self.marked.token, self.asked.http, path, &[]).await;
            assert!(matches!(answer.status, 200 | 503), "{answer:?}");
            if answer.status != 200 {
                return None;
            }
            let rows = answer.json();
            let counted = rows.as_array().into_iter().flatten().filter_map(|r| r["Count"].as_u64());
            let counted: u64 = counted.sum();
            assert!(counted <= marks, "{counted} of {marks} events are counted");
            (counted == marks).then_some(())
        })
        .await;
        started.elapsed()
    }

    /// Compares everything with the model. Nothing is on its way, and everything works.
    async fn judge(&mut self, questions: usize) {
        // A copy of the stream that is read from may be behind its leader for a moment.
        let messages = until("everything that the stream holds", PATIENCE, async || {
            let mut stream = self.site.js.get_stream(EVENTS_STREAM).await.ok()?;
            let holds = stream.info().await.ok()?.state.messages;
            let messages = stored(&self.site.js).await;
            (u64::try_from(messages.len()).ok()? == holds).then_some(messages)
        })
        .await;
        self.check_receipts(&messages);
        let model = Model::of(&messages);
        check_counts(&self.site, &model).await;
        check_dead_letters(&self.site, &model).await;
        for (account, directory) in &self.generated.directories {
            for _ in 0..questions {
                let question = generate::question(&mut self.dice, &self.generated, account, 0);
                self.asked.check(&model, &self.logins[account], &question, directory).await;
                self.tally.compared += 1;
            }
        }
        self.tally.stored = messages.len();
        self.tally.accepted = model.count(Verdict::Accepted);
        self.checkpoints.hold();
    }

    /// What was acknowledged is in the stream, where the acknowledgement says.
    fn check_receipts(&self, messages: &[Message]) {
        let by_sequence: HashMap<u64, &Message> =
            messages.iter().map(|m| (m.sequence, m)).collect();
        for (sequence, index) in &self.receipts {
            let sent = &self.generated.messages[*index];
            let found = by_sequence.get(sequence);
            let same = found.is_some_and(|found| {
                found.subject == sent.subject && found.payload == sent.payload
            });
            assert!(same, "message {index} was acknowledged as {sequence}, which is {found:?}");
        }
    }

    async fn finish(mut self) -> Tally {
        assert_eq!(self.receipts.len(), self.generated.messages.len());
        self.judge(LAST_QUESTIONS).await;
        self.tally.published = self.receipts.len();
        self.tally.answers = self.callers.finish().await;
        self.tally.looks = self.checkpoints.finish().await;
        no_panics(&self.site.folder(""));
        self.tally
    }
}

/// Deletes every consumer of the stream: it has none but ingest's.
async fn delete_consumers(js: &jetstream::Context) {
    let deleted = async || {
        let stream = js.get_stream(EVENTS_STREAM).await.ok()?;
        let mut names = stream.consumer_names();
        while let Some(name) = names.next().await {
            stream.delete_consumer(&name.ok()?).await.ok()?;
        }
        Some(())
    };
    until("the consumers are deleted", PATIENCE, deleted).await;
}

/// Every log of a program must be free of panics.
fn no_panics(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder").filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            no_panics(&path);
        } else if path.extension().is_some_and(|extension| extension == "log") {
            let log = String::from_utf8_lossy(&std::fs::read(&path).expect("a log")).into_owned();
            assert!(!log.contains("panicked"), "{}:\n{log}", path.display());
        }
    }
}

/// Looks at ingest's checkpoint all the time. It must never decrease while reads are answered.
/// Ingest reads the unsynced messages again after a kill, before it answers.
struct Checkpoints {
    stop: CancellationToken,
    task: JoinHandle<usize>,
}

impl Checkpoints {
    fn watch(client: async_nats::Client) -> Self {
        let stop = CancellationToken::new();
        let told = stop.clone();
        let task = stop::spawn(async move {
            let (mut looks, mut highest) = (0, HashMap::new());
            while !told.is_cancelled() {
                for status in statuses(&client).await {
                    let Some(ingest) = status.ingest else { continue };
                    let before = highest.entry(status.instance).or_insert(0);
                    let later = ingest.sequence >= *before;
                    assert!(later || !status.ready, "{before} before {ingest:?}");
                    *before = ingest.sequence.max(*before);
                    looks += 1;
                }
                sleep(LOOK_PAUSE).await;
            }
            assert_eq!(highest.len(), 1, "one ingest, one folder: {highest:?}");
            looks
        });
        Self { stop, task }
    }

    fn hold(&self) {
        assert!(!self.task.is_finished(), "a checkpoint decreased: see above");
    }

    async fn finish(self) -> usize {
        self.stop.cancel();
        self.task.await.expect("checkpoints that never decrease")
    }
}
