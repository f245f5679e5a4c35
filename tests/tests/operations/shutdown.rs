//! Stopping: in order, in time, at any moment, with nothing lost or counted twice.
//!
//! `BOTSTATS_TEST_STOPS=100` makes the stops under load more than 20.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use botstats_common::io::settings::variable;
use botstats_common::io::{clock, stop};
use botstats_tests::harness::{
    ALL, Outgoing, PATIENCE, Process, Site, Stage, event, free_ports, get, head_as, large, publish,
    read_answer, unready, until,
};
use botstats_tests::model::GroupMode;
use botstats_tests::setting;
use futures::StreamExt as _;
use futures::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What the contract allows from the signal to the end.
const LIMIT: Duration = Duration::from_secs(10);
/// Stops under load, of ingest and query in turn.
const STOPS: usize = 20;
/// Events that are published at a time while programs are stopped, and how often.
const LOAD: usize = 100;
/// See [`LOAD`].
const LOAD_PAUSE: Duration = Duration::from_millis(50);
/// Calls under way when query is stopped.
const IN_FLIGHT: usize = 200;
/// Channels that make an answer larger than what sockets hold for a client.
const CHANNELS: usize = 12;

fn received(account: &str, channel: &str, id: &str) -> Outgoing {
    event([account, "b1", channel], "message.received", clock::now_ms(), id, &json!({}))
}

/// Signals, and checks that it ends in order and in time.
async fn stops_in_order(process: &mut Process, signal: &str) {
    process.signal(signal);
    let status = process.ended(LIMIT).await;
    assert_eq!(status.code(), Some(0), "after {signal}: {}", process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_nothing_is_lost_or_counted_twice() {
    let mut stage = Stage::start("0s", 2).await;
    let loading = Arc::new(AtomicBool::new(true));
    let (js, still) = (stage.site.js.clone(), Arc::clone(&loading));
    let load = stop::spawn(async move {
        let mut pace = tokio::time::interval(LOAD_PAUSE);
        for round in 0.. {
            pace.tick().await;
            if !still.load(Ordering::Relaxed) {
                return;
            }
            let channel = format!("channel-{}", round % 40);
            let event = |n| received("acct-0", &channel, &format!("{round}-{n}"));
            let mut events: Vec<_> = (0..LOAD).map(event).collect();
            // One comes twice: an event counts once however often it is stored.
            events.extend(events.first().cloned());
            publish(&js, events).await;
        }
    });
    for round in 0..setting("BOTSTATS_TEST_STOPS", STOPS) {
        let signal = ["TERM", "INT", hangup(), "QUIT"][round / 2 % 4];
        let before = stage.site.last_sequence().await;
        let asking = join_all((0..8).map(|n| ask(stage.query.http, &stage.logins[n % 2].token)));
        if round % 2 == 0 {
            let (_, answers) = tokio::join!(stops_in_order(&mut stage.ingest, signal), asking);
            // Without an ingest there is a 503; what comes is whole.
            assert!(answers.iter().all(|a| matches!(a, Ok(200 | 503))), "{answers:?}");
            stage.ingest.restart();
        } else {
            let stopping = stops_in_order(&mut stage.query.process, signal);
            let (_, answers) = tokio::join!(stopping, asking);
            // One that was not taken yet is refused; none is broken off.
            let fine = |a: &io::Result<u16>| matches!(a, Ok(200 | 503)) || !broken_off(a);
            assert!(answers.iter().all(fine), "{answers:?}");
            stage.query = stage.site.query("query").await;
        }
        until("more events", PATIENCE, async || {
            (stage.site.last_sequence().await > before).then_some(())
        })
        .await;
        stage.query.ready().await;
    }
    loading.store(false, Ordering::Relaxed);
    load.await.unwrap();
    stage.equals_the_model(GroupMode::Hour, 3).await;
}

async fn ask(http: SocketAddr, token: &str) -> io::Result<u16> {
    let mut socket = TcpStream::connect(http).await?;
    socket.write_all(&head_as(token, ALL, &[])).await?;
    let answer = tokio::time::timeout(PATIENCE, read_answer(&mut socket, false)).await??;
    if answer.whole { Ok(answer.status) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Whether an answer began and did not end.
fn broken_off(answer: &io::Result<u16>) -> bool {
    answer.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidData)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_calls_under_way_are_answered() {
    let mut stage = Stage::start("0s", IN_FLIGHT).await;
    // Frozen until all have asked it.
    stage.ingest.signal("STOP");
    let mut reads = stage.site.client.subscribe("botstats.read.v1.*").await.unwrap();
    let calls: Vec<_> = stage
        .logins
        .iter()
        .map(|login| {
            let (http, token) = (stage.query.http, login.token.clone());
            stop::spawn(async move { ask(http, &token).await })
        })
        .collect();
    let mut asked = std::collections::BTreeSet::new();
    while asked.len() < IN_FLIGHT {
        asked.insert(reads.next().await.unwrap().subject);
    }
    stage.query.process.signal("TERM");
    stage.ingest.signal("CONT");
    let status = stage.query.process.ended(LIMIT).await;
    assert_eq!(status.code(), Some(0));
    let answers: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
    let good = answers.iter().filter(|answer| matches!(answer, Ok(200))).count();
    // A machine that is busy may need more than the two seconds that a call has.
    assert!(answers.iter().all(|answer| matches!(answer, Ok(200 | 503))), "{answers:?}");
    assert!(good > 0, "{answers:?}");
}

/// Asks for every hour of thirty days of many channels, and reads the first bytes of the answer.
async fn large_answer(stage: &Stage) -> (TcpStream, Vec<u8>) {
    let account = stage.logins[0].account.as_str();
    stage.add_channels(account, CHANNELS).await;
    let mut socket = TcpStream::connect(stage.query.http).await.unwrap();
    socket.write_all(&head_as(&stage.logins[0].token, &large(), &[])).await.unwrap();
    let mut first = vec![0; 1_000];
    socket.read_exact(&mut first).await.unwrap();
    assert!(first.starts_with(b"HTTP/1.1 200 "));
    (socket, first)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_all_and_idle_connections_are_closed() {
    let mut stage = Stage::start("0s", 1).await;
    let (mut slow, mut answer) = large_answer(&stage).await;
    let mut idle = TcpStream::connect(stage.query.http).await.unwrap();
    idle.write_all(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert_eq!(read_answer(&mut idle, false).await.unwrap().status, 200);

    let signalled = clock::monotonic();
    stage.query.process.signal("TERM");
    // Not ready before anything else ends.
    let readyz = unready(stage.query.internal).await;
    assert!(readyz.text().contains("stopping"), "{}", readyz.text());
    let closed = tokio::time::timeout(LIMIT / 3, idle.read(&mut [0; 1])).await.unwrap();
    assert_eq!(closed.unwrap(), 0, "an idle connection is closed, while the slow one is served");
    until("no new connections are taken", LIMIT / 3, async || {
        TcpStream::connect(stage.query.http).await.err().map(|_| ())
    })
    .await;
    // Within the limit, with pauses.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut piece = vec![0; 100_000];
        let read = slow.read(&mut piece).await.unwrap();
        answer.extend_from_slice(&piece[..read]);
    }
    slow.read_to_end(&mut answer).await.unwrap();
    assert!(answer.ends_with(b"0\r\n\r\n"), "the whole body came");
    assert_eq!(stage.query.process.ended(LIMIT).await.code(), Some(0));
    assert!(signalled.elapsed() < LIMIT, "{:?}", signalled.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_does_not_hold_the_stop_and_a_second_signal_ends_at_once() {
    let mut stage = Stage::start("0s", 1).await;
    let (_stuck, _) = large_answer(&stage).await;
    stage.query.process.signal(hangup());
    tokio::time::timeout(LIMIT, stage.query.process.logged("stopping")).await.unwrap();
    // A terminal that closes sends it twice: that is no second signal.
    if hangup() == "HUP" {
        stage.query.process.signal("HUP");
    }
    assert_eq!(stage.query.process.ended(LIMIT).await.code(), Some(0));

    stage.query = stage.site.query("query").await;
    stage.query.ready().await;
    let (_stuck, _) = large_answer(&stage).await;
    stage.query.process.signal("TERM");
    tokio::time::timeout(LIMIT, stage.query.process.logged("stopping")).await.unwrap();
    let second = clock::monotonic();
    stage.query.process.signal("TERM");
    let status = stage.query.process.ended(LIMIT).await;
    assert_eq!(status.code(), Some(143));
    assert!(second.elapsed() < LIMIT / 3, "{:?}", second.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_stops_taking_reads_before_it_ends() {
    let mut stage = Stage::start("0s", 1).await;
    assert_eq!(stage.query.ask_all(&stage.logins[0].token).await.status, 200);
    stops_in_order(&mut stage.ingest, "TERM").await;
    let log = stage.ingest.log();
    let place = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text} in {log}"));
    assert!(place("stopping") < place("not answering reads any more"));
    assert!(place("not answering reads any more") < place("\"stopped\""));
    let ping = stage.site.client.request("$SRV.PING.botstats-ingest", "".into()).await;
    assert!(ping.is_err(), "{ping:?}");
}

/// Signals that must change nothing, and one that stops: each of the first would end a program that
/// does not handle it, with no exit code.
const WITHOUT_MEANING: [&str; 8] = ["USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PIPE", "TERM"];

/// Starts a program, waits for that line of its log, sends the signals; gives its exit code.
async fn stopped_by(
    signals: &[&str],
    program: &str,
    arguments: &[&str],
    settings: &[(&str, String)],
    folder: &Path,
    line: &str,
) -> Option<i32> {
    let mut process = Process::start(program, arguments, settings, folder);
    process.logged(line).await;
    signals.iter().for_each(|signal| process.signal(signal));
    process.ended(LIMIT).await.code()
}

/// Whether that process ignores SIGHUP, whose number is 1.
fn ignores_hangup(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & 1 == 1
}

/// The signal of a terminal that closes; TERM if these tests run under `nohup`, as all children
/// then ignore it.
fn hangup() -> &'static str {
    if ignores_hangup(std::process::id()) { "TERM" } else { "HUP" }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_that_was_ignored_at_the_start_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("NATS_URL", "nats://127.0.0.1:9".to_owned()),
        ("BOTSTATS_DATA", folder.path().join("data").display().to_string()),
        ("BOTSTATS_INTERNAL_ADDR", "127.0.0.1:0".to_owned()),
    ];
    for (trap, ignored) in [("trap '' HUP; ", true), ("", hangup() != "HUP")] {
        let script = format!("{trap}exec \"$0\" \"$@\"");
        let program = "botstats-ingest";
        let mut ingest = Process::start_after(&["sh"], &script, program, &settings, folder.path());
        ingest.logged("waiting for NATS").await;
        assert_eq!(ignores_hangup(ingest.pid()), ignored);
        stops_in_order(&mut ingest, "TERM").await;
    }
}

/// As much as a pipe holds.
const PIPE_BYTES: usize = 64 * 1024;

/// A pipe that is full and that nobody reads. Whoever writes to it waits.
struct Stuck {
    path: PathBuf,
    pipe: File,
}

impl Stuck {
    fn new(path: PathBuf) -> Self {
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        // Both ends are open from the start, so that no program waits for the other one.
        let mut pipe = File::options().read(true).write(true).open(&path).unwrap();
        pipe.write_all(&[b'.'; PIPE_BYTES]).unwrap();
        Self { path, pipe }
    }

    /// Reads on until the text has come.
    async fn read_until(self, text: &str) {
        let read = Arc::new(Mutex::new(Vec::new()));
        let (mut pipe, into) = (self.pipe, Arc::clone(&read));
        // It waits for more until this test's process ends.
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length) = pipe.read(&mut piece) {
                into.lock().unwrap().extend_from_slice(&piece[..length]);
            }
        });
        until(text, PATIENCE, async || {
            String::from_utf8_lossy(&read.lock().unwrap()).contains(text).then_some(())
        })
        .await;
    }

    /// Starts a program whose standard output and error go there.
    fn start(&self, arguments: &str, program: &str, settings: &[(&str, String)]) -> Process {
        let script = format!("exec \"$0\" {arguments} >\"$STUCK\" 2>&1");
        let mut settings = settings.to_vec();
        settings.push(("STUCK", self.path.display().to_string()));
        let folder = self.path.parent().unwrap();
        Process::start_after(&["sh"], &script, program, &settings, folder)
    }
}

/// Addresses for a program whose log, which would name them, nobody reads.
fn free_addresses() -> [SocketAddr; 2] {
    free_ports().map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_up_nothing() {
    let mut stage = Stage::start("0s", 1).await;
    stops_in_order(&mut stage.ingest, "TERM").await;
    stops_in_order(&mut stage.query.process, "TERM").await;
    let of_ingest = stage.site.ingest_settings(&stage.site.folder("ingest"));
    let [http, internal] = free_addresses();
    let mut of_query = stage.site.settings();
    of_query.push(("BOTSTATS_HTTP_ADDR", http.to_string()));
    of_query.push(("BOTSTATS_INTERNAL_ADDR", internal.to_string()));
    of_query.push(("BOTSTATS_THROTTLE_WINDOW", "0s".to_owned()));
    for read_on in [false, true] {
        let name = |of: &str| stage.site.folder(&format!("{of}-{read_on}"));
        let stuck = |of: &str| {
            std::fs::create_dir_all(name(of)).unwrap();
            Stuck::new(name(of).join("pipe"))
        };
        let (log_of_ingest, log_of_query) = (stuck("ingest"), stuck("query"));
        let mut ingest = log_of_ingest.start("", "botstats-ingest", &of_ingest);
        let mut query = log_of_query.start("", "botstats-query", &of_query);
        // Each answer is a line in both logs.
        let token = stage.logins[0].token.clone();
        until("an answer", PATIENCE, async || {
            matches!(ask(http, &token).await, Ok(200)).then_some(())
        })
        .await;
        if read_on {
            log_of_ingest.read_until("read answered").await;
            log_of_query.read_until("answered with statistics").await;
            stops_in_order(&mut query, "TERM").await;
            stops_in_order(&mut ingest, "TERM").await;
        } else {
            stops_in_order(&mut query, "TERM").await;
            stops_in_order(&mut ingest, "TERM").await;
            drop((log_of_ingest, log_of_query));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn up_ends_though_nobody_reads_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let stuck = Stuck::new(folder.path().join("pipe"));
    let [http, ready] = free_addresses();
    let mut settings = of_up(&folder.path().join("data"));
    settings.retain(|(name, _)| *name != "BOTSTATS_HTTP_ADDR");
    settings.push(("BOTSTATS_HTTP_ADDR", http.to_string()));
    let arguments = format!(
        "up --nats-port 0 --ingest-internal-addr 127.0.0.1:0 --query-internal-addr {ready}"
    );
    for signals in [&["TERM"][..], &[hangup()], &["TERM", "INT"]] {
        let mut up = stuck.start(&arguments, "botstats", &settings);
        until("readiness", PATIENCE * 2, async || {
            TcpStream::connect(ready).await.ok()?;
            (get(ready, "/readyz", &[]).await.status == 200).then_some(())
        })
        .await;
        signals.iter().for_each(|signal| up.signal(signal));
        let code = up.ended(LIMIT).await.code();
        let by_the_second = signals.len() > 1 && matches!(code, Some(130 | 143));
        assert!(by_the_second || code == Some(0), "{signals:?}: {code:?}");
    }
}

/// Settings of `botstats up`, with what it needs to find a nats-server.
fn of_up(data: &Path) -> Vec<(&'static str, String)> {
    let cache = ["HOME", "XDG_CACHE_HOME", "PATH", "NATS_SERVER_BIN"];
    let mut settings: Vec<(&str, String)> = cache
        .into_iter()
        .filter_map(|name| Some((name, variable(name)?.into_string().unwrap())))
        .collect();
    settings.push(("BOTSTATS_LOG", "info".to_owned()));
    settings.push(("BOTSTATS_DATA", data.display().to_string()));
    settings.push(("BOTSTATS_HTTP_ADDR", "127.0.0.1:0".to_owned()));
    settings.push(("BOTSTATS_THROTTLE_WINDOW", "0s".to_owned()));
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn while_starting() {
    // A port that nobody listens on.
    let dead = ("NATS_URL", "nats://127.0.0.1:9".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let any = |name: &'static str| (name, "127.0.0.1:0".to_owned());
    let data = ("BOTSTATS_DATA", folder.join("data").display().to_string());
    let of_ingest = [dead.clone(), data.clone(), any("BOTSTATS_INTERNAL_ADDR")];
    let of_query = [dead.clone(), any("BOTSTATS_HTTP_ADDR"), any("BOTSTATS_INTERNAL_ADDR")];
    let of_up =
        [dead.clone(), data, any("BOTSTATS_HTTP_ADDR"), ("BOTSTATS_LOG", "info".to_owned())];
    let up =
        ["up", "--ingest-internal-addr", "127.0.0.1:0", "--query-internal-addr", "127.0.0.1:0"];
    let live = ["simulate", "--live"];
    let of_live = [dead.clone(), ("BOTSTATS_LOG", "info".to_owned())];
    for (program, arguments, settings, code) in [
        ("botstats-ingest", &[][..], &of_ingest[..], 0),
        ("botstats-query", &[], &of_query, 0),
        ("botstats", &up, &of_up, 0),
        ("botstats", &live, &of_live, 0),
        // What was asked for was not done.
        ("botstats-ingest", &["rebuild"], &of_ingest, 1),
    ] {
        for signals in [&["TERM"][..], &[hangup()], &["INT"], &["QUIT"], &WITHOUT_MEANING] {
            let line = "waiting for NATS";
            let ended = stopped_by(signals, program, arguments, settings, folder, line).await;
            assert_eq!(ended, Some(code), "{program} {arguments:?} {signals:?}");
        }
    }

    // While it catches up, and while it rebuilds: the next start goes on, and the old file is
    // whole.
    let site = Site::start("0s").await;
    let events = |from: usize| {
        let events = (from..from + 30_000).map(|n| received("acct-0", "web", &n.to_string()));
        events.collect::<Vec<_>>()
    };
    publish(&site.js, events(0)).await;
    let folder = site.folder("ingest");
    let settings = site.ingest_settings(&folder);
    let line = "store open";
    let ended = stopped_by(&["TERM"], "botstats-ingest", &[], &settings, &folder, line).await;
    assert_eq!(ended, Some(0));
    let mut ingest = site.ingest("ingest");
    site.applied(PATIENCE).await;
    stops_in_order(&mut ingest, "TERM").await;
    let mut rebuild = Process::start("botstats-ingest", &["rebuild"], &settings, &folder);
    let second_file = folder.join("data/rebuild.redb");
    until("the rebuild", PATIENCE, async || {
        (second_file.exists() || rebuild.log().contains("rebuilt;")).then_some(())
    })
    .await;
    rebuild.signal("INT");
    let code = rebuild.ended(LIMIT).await.code();
    assert!(code == Some(1) || code == Some(0), "{code:?}: {}", rebuild.log());
    ingest.restart();
    let status = site.applied(PATIENCE).await;
    assert_eq!(status.events.get("accepted"), Some(&30_000), "{status:?}");
    assert!(!second_file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn up_stops_all_of_it_in_time_while_it_is_read_slowly() {
    let folder = tempfile::tempdir().unwrap();
    let settings = of_up(&folder.path().join("data"));
    let arguments =
        [["up", "--nats-port", "0"], ["--demo", "--ingest-internal-addr", "127.0.0.1:0"]].concat();
    let arguments = [&arguments[..], &["--query-internal-addr", "127.0.0.1:0"]].concat();
    let mut up = Process::start("botstats", &arguments, &settings, folder.path());
    let http = up.address("http listener ready").await;
    until("reads are answered", PATIENCE * 2, async || {
        up.log().contains("answering reads").then_some(())
    })
    .await;
    let children = children_of(up.pid());
    assert!(!children.is_empty(), "a nats-server and its watcher");
    // A connection that keeps the stop waiting as long as it may: a head, and nothing more of a
    // body.
    let mut stuck = TcpStream::connect(http).await.unwrap();
    stuck.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let signalled = clock::monotonic();
    up.signal("TERM");
    assert_eq!(up.ended(LIMIT).await.code(), Some(0), "{}", up.log());
    assert!(signalled.elapsed() < LIMIT, "{:?}", signalled.elapsed());
    until("the end of its children", LIMIT, async || {
        children.iter().all(|pid| !is_alive(*pid)).then_some(())
    })
    .await;
}

fn children_of(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let lists =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()
        })
        .collect()
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name in brackets; Z is a zombie.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
