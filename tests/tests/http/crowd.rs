//! Slow clients, many clients, floods: they are bounded, cost NATS nothing, and good clients are
//! served. (How soon: the program `timing`.)

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use botstats_common::io::{clock, stop};
use botstats_tests::harness::{
    ALL, Answer, Login, PATIENCE, Query, Stage, allow_connections, flood, get, hammer, head_as,
    large, open, read_answer, turn, until,
};
use botstats_tests::setting;
use futures::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

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
/// How late a busy machine may be.
const SLACK: Duration = Duration::from_secs(15);
/// A good client's answer.
fn served(answer: &Answer) {
    assert!(answer.status == 200 && answer.whole, "{answer:?}");
}

fn rss_bytes(query: &Query) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", query.process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
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

/// Takes 10 KiB every half second for longer than a reader may take nothing, then the rest.
async fn steady(address: SocketAddr, login: Login) -> Answer {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(&head_as(&login.token, &large(), &[])).await.unwrap();
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
async fn slow_and_many_are_closed_and_good_clients_are_served() {
    let _turn = turn().await;
    let had = allow_connections(TOO_MANY);
    let stage = Stage::start("0s", 3).await;
    let address = stage.query.http;
    for login in &stage.logins[1..] {
        stage.add_channels(&login.account, 12).await;
    }
    let good = async || served(&stage.ask(&stage.logins[0]).await);
    let steady = stop::spawn(steady(address, stage.logins[2].clone()));
    good().await;

    let began = clock::monotonic();
    let ask = head_as(&stage.logins[1].token, &large(), &[]);
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(&ask).await.unwrap();
        // The head is there: it is being answered.
        socket.readable().await.unwrap();
        readers.push(socket);
    }
    let readers_from = clock::monotonic();
    good().await;

    let slow = SLOW.min(had / 4);
    let from = clock::monotonic();
    let mut waiting = open(address, slow, b"GET /openapi.json HTTP/1.1\r\nHost: a\r\nx-").await;
    waiting.extend(open(address, slow, b"").await);
    good().await;
    let bytes = all_closed(waiting, HEAD_LIMIT + SLACK).await;
    eprintln!("closed {:?} after the first was opened; {bytes} bytes came", from.elapsed());

    // More than there is room for, again and again for a while: who only waits makes room.
    let crowd = open(address, had, b"GET /").await;
    good().await;
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
    good().await;
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

/// Requests of the required flood; the others have a fifth. `BOTSTATS_TEST_FLOOD` makes it more (or
/// fewer).
const FLOOD: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn floods_cost_nats_nothing_and_no_call() {
    let _turn = turn().await;
    let stage = Stage::start("1h", 5).await;
    let tap = Tap::start(&stage.site.nats.url()).await;
    let settings = [("NATS_URL", format!("nats://{}", tap.address))];
    let query = Query::start(&settings, "1h", &stage.site.folder("tapped")).await;
    query.ready().await;

    let [target, used, fresh @ ..] = &stage.logins[..] else { panic!("accounts") };
    let mut fresh = fresh.iter();
    assert_eq!(query.ask_all(&used.token).await.status, 200);
    assert!(tap.asked().keys().any(|subject| subject.starts_with("$KV.")), "{:?}", tap.asked());

    let request = |method: &str, path: &str, token: &str, more: &str| {
        let token = if token.is_empty() {
            String::new()
        } else {
            format!("Authorization: Bearer {token}\r\n")
        };
        format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{token}{more}\r\n").into_bytes()
    };
    let statistics = |tail: &str| format!("/analytics/statistics/account/{tail}");
    let size = setting("BOTSTATS_TEST_FLOOD", FLOOD);
    let small = size / 5;
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
            request("GET", &statistics("*/none/day/1"), &target.token, ""),
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
            assert_eq!(query.ask_all(&used.token).await.status, 429);
        }
        let asked = tap.asked();
        let began = clock::monotonic();
        flood(query.http, &request, count, status).await;
        eprintln!("{what}: {count} requests in {:?}", began.elapsed());
        // Nothing at all, and nothing late.
        assert_eq!(tap.asked(), asked, "{what}");
    }
    for (token, status) in [("", 401), (used.token.as_str(), 429)] {
        let request = request("GET", ALL, token, "");
        let address = query.http;
        let flooding = stop::spawn(async move { flood(address, &request, size, status).await });
        served(&query.ask_all(&fresh.next().unwrap().token).await);
        flooding.await.unwrap();
    }
    let rss = rss_bytes(&query);
    eprintln!("memory {} KiB before the floods, {} KiB after", rss_before / 1024, rss / 1024);
    assert!(rss < rss_before + 24 * 1024 * 1024, "it grew from {rss_before} to {rss} bytes");
    assert_eq!(query.ask_all(&target.token).await.status, 200, "none of it used the call");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_hammers_does_not_lock_another_out() {
    let _turn = turn().await;
    let stage = Stage::start("0s", 2).await;
    let ended = CancellationToken::new();
    let hammering = hammer(stage.query.http, &stage.logins[0].token, ended.clone());
    for _ in 0..10 {
        served(&stage.ask(&stage.logins[1]).await);
    }
    ended.cancel();
    eprintln!("{} answers to the account that hammers", hammering.await.unwrap());
}
