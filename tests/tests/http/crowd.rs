//! Slow clients, many clients, floods: they are bounded, cost NATS nothing, and good clients hardly
//! notice.
//!
//! Times are compared with those of the same client just before, never with a fixed number.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use botstats_common::io::{clock, settings, stop};
use botstats_tests::harness::{
    ALL, Answer, Login, PATIENCE, Process, Query, Stage, ask_all, event, get, head_of, publish,
    read_answer, until,
};
use futures::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};

/// Connections that send a part of a head; as many idle ones.
const SLOW: usize = 2_000;
/// More than a query has room for.
const TOO_MANY: usize = 9_000;
/// Readers that take nothing of a large answer.
const READERS: usize = 200;
/// Heads, and new connections that send nothing, end after 5 s.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// Readers that take nothing end after 30 s.
const STALL_LIMIT: Duration = Duration::from_secs(30);
/// A busy machine may be so late.
const SLACK: Duration = Duration::from_secs(15);
/// A good client's median may grow so much.
const RATIO: u32 = 8;
/// What is faster than that is not compared: it is noise on a busy machine.
const FLOOR: Duration = Duration::from_millis(20);

/// Allows as many open files as there may be, and says how many connections of that number can be had.
fn connections(wanted: usize) -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let allowed = maximum.map_or(usize::MAX, |all| usize::try_from(all).unwrap_or(usize::MAX));
    let had = wanted.min(allowed.saturating_sub(500));
    if had < wanted {
        eprintln!("only {had} of {wanted} connections: the system allows no more open files");
    }
    had
}

/// A good client's time for each of its answers.
async fn times(asks: usize, mut ask: impl AsyncFnMut(usize) -> Answer) -> Duration {
    let mut times = Vec::new();
    for number in 0..asks {
        let began = clock::monotonic();
        let answer = ask(number).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.whole);
        times.push(began.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

fn hardly_slower(what: &str, before: Duration, during: Duration) {
    eprintln!("{what}: a good client's median {before:?} before, {during:?} meanwhile");
    assert!(during < before.max(FLOOR) * RATIO, "{what}: {before:?} before, {during:?} meanwhile");
}

fn rss_bytes(query: &Query) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", query.process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

/// Opens connections that have sent these bytes.
async fn open(address: SocketAddr, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let mut socket = TcpStream::connect(address).await.unwrap();
        // One that was displaced already can't be written to.
        let _sent = socket.write_all(bytes).await;
        sockets.push(socket);
    }
    sockets
}

/// Waits until all are closed; how many bytes came meanwhile.
async fn all_closed(sockets: Vec<TcpStream>, limit: Duration) -> usize {
    let rest = sockets.into_iter().map(|mut socket| async move {
        let mut scratch = [0; 4096];
        let mut bytes = 0;
        while let Ok(1..) = socket.read(&mut scratch).await.inspect(|read| bytes += read) {}
        bytes
    });
    let all = tokio::time::timeout(limit, join_all(rest)).await;
    all.unwrap_or_else(|_| panic!("not all were closed within {limit:?}")).into_iter().sum()
}

/// Every hour of thirty days for every channel and metric: tens of megabytes.
fn large() -> String {
    format!("{}?fill=zero", ALL.replace("/day/2", "/hour/30"))
}

/// Takes 10 KiB every half second for longer than a reader may take nothing, then the rest.
async fn steady(address: SocketAddr, login: Login) -> Answer {
    let bearer = format!("Bearer {}", login.token);
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(&head_of(&large(), &[("Authorization", &bearer)])).await.unwrap();
    let mut taken = vec![0; 10 * 1024];
    let mut head = Vec::new();
    let began = clock::monotonic();
    while began.elapsed() < STALL_LIMIT + Duration::from_secs(8) {
        socket.read_exact(&mut taken).await.unwrap();
        if head.is_empty() {
            head = taken.clone();
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // What follows is looked at as one answer: the head again, then chunks from anywhere.
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.unwrap();
    let whole = rest.ends_with(b"\r\n0\r\n\r\n") && head.starts_with(b"HTTP/1.1 200");
    Answer { status: if whole { 200 } else { 0 }, headers: Vec::new(), body: Vec::new(), whole }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_many_are_closed_and_good_clients_do_not_notice() {
    let had = connections(TOO_MANY);
    let stage = Stage::start("0s", 3).await;
    let address = stage.query.http;
    for login in &stage.logins[1..] {
        let events = (0..12).map(|channel| {
            let place = [login.account.as_str(), "b1", &format!("channel-{channel}")];
            event(place, "message.received", clock::now_ms(), "slow", &json!({}))
        });
        publish(&stage.site.js, events.collect::<Vec<_>>()).await;
    }
    stage.site.applied(PATIENCE).await;
    let good = async |asks| times(asks, async |_| stage.ask(&stage.logins[0]).await).await;
    let steady = stop::spawn(steady(address, stage.logins[2].clone()));
    let before = good(60).await;

    let began = clock::monotonic();
    let bearer = format!("Bearer {}", stage.logins[1].token);
    let ask = head_of(&large(), &[("Authorization", &bearer)]);
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(&ask).await.unwrap();
        // The head is there: it is being answered.
        socket.readable().await.unwrap();
        readers.push(socket);
    }
    let readers_from = clock::monotonic();
    hardly_slower(&format!("{READERS} slow readers"), before, good(40).await);

    let slow = SLOW.min(had / 4);
    let from = clock::monotonic();
    let partial = open(address, slow, b"GET /openapi.json HTTP/1.1\r\nHost: a\r\nx-").await;
    let idle = open(address, slow, b"").await;
    hardly_slower(&format!("{slow} slow heads, {slow} idle"), before, good(40).await);
    let bytes = all_closed([partial, idle].concat_all(), HEAD_LIMIT + SLACK).await;
    eprintln!("closed {:?} after the first was opened; {bytes} bytes came", from.elapsed());

    // More than there is room for, again and again for a while: who only waits makes room.
    let crowd = open(address, had, b"GET /").await;
    hardly_slower(&format!("{had} slow heads"), before, good(40).await);
    let metrics = get(stage.query.internal, "/metrics", &[]).await;
    let of_connections = metrics.text().lines().filter(|line| line.contains("_connections"));
    of_connections.filter(|line| !line.starts_with('#')).for_each(|line| eprintln!("{line}"));
    all_closed(crowd, HEAD_LIMIT + SLACK).await;

    // Those that take nothing are closed in their time, and only then.
    let still = readers.iter().filter(|socket| socket.try_write(b"").is_ok()).count();
    assert_eq!(still, READERS);
    let limit = STALL_LIMIT + SLACK;
    until("the end of the slow readers", limit, async || {
        let metrics = get(stage.query.internal, "/metrics", &[]).await;
        let open =
            metrics.text().lines().find_map(|l| l.strip_prefix("botstats_query_connections "));
        // The steady one may go on.
        (open?.parse::<f64>().ok()? <= 1.0).then_some(())
    })
    .await;
    eprintln!("slow readers closed {:?} after the last of them came", readers_from.elapsed());
    assert!(began.elapsed() > STALL_LIMIT.mul_f64(0.9), "they were closed too early");
    let cut = readers.into_iter().map(|mut socket| async move {
        tokio::time::timeout(PATIENCE, read_answer(&mut socket, false)).await.unwrap()
    });
    for answer in join_all(cut).await {
        assert!(
            answer.is_err() || answer.is_ok_and(|answer| !answer.whole),
            "cut, but it looks whole"
        );
    }
    assert!(steady.await.unwrap().whole, "a reader that takes a little is served to the end");
    good(5).await;
}

/// So that vectors of sockets, which can't be cloned, become one.
trait ConcatAll {
    fn concat_all(self) -> Vec<TcpStream>;
}

impl<const N: usize> ConcatAll for [Vec<TcpStream>; N] {
    fn concat_all(self) -> Vec<TcpStream> {
        self.into_iter().flatten().collect()
    }
}

/// A proxy before a nats-server that counts what a program publishes and subscribes to.
struct Tap {
    address: SocketAddr,
    counts: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Tap {
    async fn start(nats_url: &str) -> Self {
        let server: SocketAddr = nats_url.trim_start_matches("nats://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::<Mutex<BTreeMap<String, u64>>>::default();
        let counting = Arc::clone(&counts);
        stop::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server).await.unwrap();
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let (from_client, mut to_client) = client.into_split();
                let (mut from_server, to_server) = server.into_split();
                stop::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
                stop::spawn(tap(from_client, to_server, Arc::clone(&counting)));
            }
        });
        Self { address, counts }
    }

    /// What was sent so far on behalf of requests: all but what a program does by itself.
    fn asked(&self) -> BTreeMap<String, u64> {
        // The looks at stream and bucket, the pings for an ingest, the watch of the directory.
        let own = ["$JS.API.STREAM.INFO.", "$SRV.PING.", "$JS.API.CONSUMER.", "SUB", "UNSUB"];
        let counts = self.counts.lock().unwrap();
        let asked =
            counts.iter().filter(|(subject, _)| !own.iter().any(|own| subject.starts_with(own)));
        asked.map(|(subject, count)| (subject.clone(), *count)).collect()
    }
}

/// Passes on what a client of NATS sends, counting it by subject.
async fn tap(
    mut from: OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    counts: Arc<Mutex<BTreeMap<String, u64>>>,
) {
    let mut bytes: Vec<u8> = Vec::new();
    let mut seen = 0;
    loop {
        let had = bytes.len();
        match from.read_buf(&mut bytes).await {
            Ok(1..) => {}
            _ => return,
        }
        if to.write_all(&bytes[had..]).await.is_err() {
            return;
        }
        while let Some(end) = bytes[seen..].windows(2).position(|two| two == b"\r\n") {
            let line = String::from_utf8_lossy(&bytes[seen..seen + end]).into_owned();
            let mut words = line.split(' ');
            let (verb, subject) =
                (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let mut next = seen + end + 2;
            let what = match verb {
                "PUB" | "HPUB" => {
                    next += line.rsplit(' ').next().unwrap().parse::<usize>().unwrap() + 2;
                    subject
                }
                other => other,
            };
            if next > bytes.len() {
                break;
            }
            if !["PING", "PONG", "CONNECT"].contains(&what) {
                *counts.lock().unwrap().entry(what.to_owned()).or_default() += 1;
            }
            seen = next;
        }
        bytes.drain(..seen);
        seen = 0;
    }
}

/// Sends the request over so many connections, one after the other on each, until so many are answered.
async fn flood(address: SocketAddr, request: &[u8], total: usize, expected: u16) {
    const CONNECTIONS: usize = 64;
    let clients = (0..CONNECTIONS).map(|_| {
        let request = request.to_vec();
        stop::spawn(async move {
            let mut socket = TcpStream::connect(address).await.unwrap();
            let mut bytes = Vec::new();
            for _ in 0..total.div_ceil(CONNECTIONS) {
                socket.write_all(&request).await.unwrap();
                bytes.clear();
                loop {
                    assert!(socket.read_buf(&mut bytes).await.unwrap() > 0, "closed");
                    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                        continue;
                    };
                    let text = std::str::from_utf8(&bytes[..head]).unwrap();
                    assert!(text.starts_with(&format!("HTTP/1.1 {expected} ")), "{text}");
                    let length = text.lines().find_map(|l| l.strip_prefix("content-length: "));
                    let length: usize = length.unwrap().parse().unwrap();
                    if request.starts_with(b"HEAD") || bytes.len() >= head + 4 + length {
                        break;
                    }
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

/// How many requests the required flood has; the others have a fifth. `BOTSTATS_TEST_FLOOD` makes it
/// more (or fewer).
fn flood_size() -> usize {
    let asked_for = settings::variable("BOTSTATS_TEST_FLOOD");
    asked_for.and_then(|n| n.to_str()?.parse().ok()).unwrap_or(20_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_cost_nats_nothing_and_good_clients_little() {
    let stage = Stage::start("1h", 80).await;
    let tap = Tap::start(&stage.site.nats.url()).await;
    let mut all = stage.site.settings();
    all.retain(|(name, _)| *name != "NATS_URL");
    all.extend([
        ("NATS_URL", format!("nats://{}", tap.address)),
        ("BOTSTATS_HTTP_ADDR", "127.0.0.1:0".to_owned()),
        ("BOTSTATS_INTERNAL_ADDR", "127.0.0.1:0".to_owned()),
        ("BOTSTATS_THROTTLE_WINDOW", "1h".to_owned()),
    ]);
    let process = Process::start("botstats-query", &[], &all, &stage.site.folder("tapped"));
    let internal = process.address("internal listener ready").await;
    let http = process.address("http listener ready").await;
    let query = Query { process, http, internal };
    query.ready().await;

    let [target, used, fresh @ ..] = &stage.logins[..] else { panic!("accounts") };
    let mut fresh = fresh.iter();
    let mut good = async |asks| {
        times(asks, async |_| ask_all(&query, fresh.next().expect("enough accounts")).await).await
    };
    assert_eq!(ask_all(&query, used).await.status, 200);
    assert!(tap.asked().keys().any(|subject| subject.starts_with("$KV.")), "{:?}", tap.asked());
    let before = good(24).await;

    let request = |method: &str, path: &str, token: &str, more: &str| {
        let token = if token.is_empty() {
            String::new()
        } else {
            format!("Authorization: Bearer {token}\r\n")
        };
        format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{token}{more}\r\n").into_bytes()
    };
    let statistics = |tail: &str| format!("/analytics/statistics/account/{tail}");
    let (size, small) = (flood_size(), flood_size() / 5);
    let foreign = statistics(&format!("{}/1/day/1", used.keys["b1"]));
    let absent = statistics("no_such_key/1/day/1");
    let not_accepted = "Accept: image/png\r\n";
    flood(query.http, &request("GET", ALL, "nobody", ""), small, 401).await;
    let rss_before = rss_bytes(&query);
    for (what, request, count, status) in [
        ("no token", request("GET", ALL, "", ""), size, 401),
        ("an unknown token", request("GET", ALL, "bst_nobodys", ""), small, 401),
        (
            "a bad parameter",
            request("GET", &statistics("*/19/day/1"), &target.token, ""),
            small,
            400,
        ),
        ("not accepted", request("GET", ALL, &target.token, not_accepted), small, 406),
        ("a foreign key", request("GET", &foreign, &target.token, ""), small, 404),
        ("an absent key", request("GET", &absent, &target.token, ""), small, 404),
        ("no such path", request("GET", "/x", &target.token, ""), small, 404),
        ("another method", request("HEAD", ALL, &target.token, ""), small, 405),
        ("a used call", request("GET", ALL, &used.token, ""), small, 429),
    ] {
        if status == 429 {
            // It is remembered for a minute.
            assert_eq!(ask_all(&query, used).await.status, 429);
        }
        let asked = tap.asked();
        let began = clock::monotonic();
        flood(query.http, &request, count, status).await;
        eprintln!("{what}: {count} requests in {:?}", began.elapsed());
        // Nothing at all, and nothing late.
        assert_eq!(tap.asked(), asked, "{what}");
    }
    for (what, request, status) in [
        ("a flood without a token", request("GET", ALL, "", ""), 401),
        ("a flood with a used call", request("GET", ALL, &used.token, ""), 429),
    ] {
        let address = query.http;
        let flooding = stop::spawn(async move { flood(address, &request, size, status).await });
        hardly_slower(what, before, good(24).await);
        flooding.await.unwrap();
    }
    let rss = rss_bytes(&query);
    eprintln!("memory {} KiB before the floods, {} KiB after", rss_before / 1024, rss / 1024);
    assert!(rss < rss_before + 24 * 1024 * 1024, "it grew from {rss_before} to {rss} bytes");
    assert_eq!(ask_all(&query, target).await.status, 200, "none of it used the call");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_hammers_hardly_delays_another() {
    let stage = Stage::start("0s", 2).await;
    let good = async |asks| times(asks, async |_| stage.ask(&stage.logins[1]).await).await;
    let before = good(60).await;
    let bearer = format!("Bearer {}", stage.logins[0].token);
    let request = head_of(ALL, &[("Authorization", &bearer)]);
    let ended = tokio_util::sync::CancellationToken::new();
    let hammering: Vec<_> = (0..64)
        .map(|_| {
            let (request, ended, address) = (request.clone(), ended.clone(), stage.query.http);
            stop::spawn(async move {
                let mut answered = 0;
                while !ended.is_cancelled() {
                    let mut socket = TcpStream::connect(address).await.unwrap();
                    socket.write_all(&request).await.unwrap();
                    let answer = read_answer(&mut socket, false).await.unwrap();
                    assert!(matches!(answer.status, 200 | 503), "{answer:?}");
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    let during = good(60).await;
    ended.cancel();
    let mut answered = 0;
    for client in hammering {
        answered += client.await.unwrap();
    }
    eprintln!("{answered} answers to the account that hammers");
    hardly_slower("an account that hammers", before, during);
}
