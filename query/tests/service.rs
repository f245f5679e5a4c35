//! The running service, against a real nats-server and a peer that speaks an ingest's part of the
//! wire.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use async_nats::jetstream::kv::Operation;
use botstats_common::io::clock;
use botstats_common::io::setup::{self, Shape};
use botstats_common::names::THROTTLE_BUCKET;
use botstats_query::{Allowance, AllowanceKey, Claims, Connection, Outcome, RunError, Standing};
use futures::future::join_all;
use support::{
    Behaviour, Ingest, Nats, PATH, Query, account, account_in, account_json, bot_json,
    fill_directory, put, until,
};

const HOUR: Duration = Duration::from_secs(3600);
const OFF: Duration = Duration::ZERO;

/// A server with a directory, an ingest, and a query that is ready.
async fn all(window: Duration, behaviour: Behaviour) -> (Nats, Ingest, Query) {
    let nats = Nats::start();
    let ingest = Ingest::start(&nats, behaviour).await;
    let query = Query::ready(&nats, window).await;
    fill_directory(&nats.js().await).await;
    until("the directory", async || {
        (query
            .ask_with(
                "/analytics/statistics/account/!/x/x/x",
                &[("Authorization", "Bearer token-of-other")],
            )
            .await
            .status
            == 400)
            .then_some(())
    })
    .await;
    (nats, ingest, query)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_an_account_a_window() {
    let window = Duration::from_secs(5);
    let (nats, _ingest, query) = all(window, Behaviour::Good).await;
    let second = Query::ready(&nats, window).await;

    let first = query.ask(PATH).await;
    assert_eq!(first.status, 200, "{first:?}");
    let rows = first.json();
    assert_eq!(rows[0]["BotName"], "Pizza");
    assert_eq!(rows[1]["BotName"], "Taxi");
    assert_eq!((rows[0]["Value"].as_u64(), rows.as_array().unwrap().len()), (Some(3), 2));
    for (name, value) in [
        ("content-type", "application/json"),
        ("data-as-of", "2027-01-15T08:00:00.123Z"),
        ("cache-control", "private, max-age=5"),
        ("ratelimit-policy", "\"account\";q=1;w=5"),
        ("ratelimit", "\"account\";r=0;t=6"),
        ("vary", "Authorization, Accept, Accept-Encoding"),
    ] {
        assert_eq!(first.header(name), value, "{name}");
    }

    // The same replica remembers; another one asks NATS. Both tell a wait that is long enough.
    let mut longest = 0;
    for query in [&query, &second, &query, &second] {
        let refused = query.ask(PATH).await;
        assert_eq!((refused.status, refused.problem().as_str()), (429, "throttled"));
        let wait: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=6).contains(&wait), "{wait}");
        assert_eq!(refused.header("ratelimit"), format!("\"account\";r=0;t={wait}"));
        longest = longest.max(wait);
    }
    let wait: u64 = second.ask(PATH).await.header("retry-after").parse().unwrap();
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(second.ask(PATH).await.status, 200);
    assert_eq!(query.ask(PATH).await.status, 429);

    // Another account has its own.
    let other = [("Authorization", "Bearer token-of-other")];
    assert_eq!(query.ask_with(PATH, &other).await.status, 200);
    query.stopped().await.unwrap();
    second.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_call_costs_a_replica_one_read_at_most() {
    let (nats, ingest, first) = all(HOUR, Behaviour::Good).await;
    let second = Query::ready(&nats, HOUR).await;
    assert_eq!(first.ask(PATH).await.status, 200);
    assert_eq!(ingest.reads(), 1);
    for _ in 0..20 {
        for query in [&second, &first] {
            assert_eq!(query.ask(PATH).await.status, 429);
        }
    }
    assert!(ingest.reads() <= 2, "{} reads", ingest.reads());
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_those_of_the_zone_that_stands_in_nats() {
    let (nats, ingest, query) = all(OFF, Behaviour::Good).await;
    let js = nats.js().await;
    // What is in memory may be older at each of them: a read was then sent for other groups.
    for (asked, (zone, midnight)) in
        (1..).zip([("Asia/Tokyo", "T15:00:00Z"), ("UTC", "T00:00:00Z")].repeat(15))
    {
        put(&js, "account.acme", &account_in(zone)).await;
        let answer = query.ask(PATH).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let start = answer.json()[0]["GroupStart"].as_str().unwrap().to_owned();
        assert!(start.ends_with(midnight), "{start} in {zone}");
        assert!(ingest.reads() >= asked);
    }
    println!("{} reads for 30 answers", ingest.reads());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_calls_exactly_one_is_served() {
    let (nats, _ingest, first) = all(HOUR, Behaviour::Good).await;
    let second = Query::ready(&nats, HOUR).await;
    let racing = join_all((0..40).map(|i| if i % 2 == 0 { &first } else { &second }.ask(PATH)));
    let mut statuses: Vec<u16> = racing.await.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    let mut expected = vec![429; 40];
    expected[0] = 200;
    assert_eq!(statuses, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_in_order_and_nothing_of_them_costs_a_call() {
    let (_nats, _ingest, query) = all(HOUR, Behaviour::Good).await;
    let token = ("Authorization", "Bearer token-of-acme");
    let html = ("Accept", "text/html");
    let statistics = |rest: &str| format!("/analytics/statistics/account/{rest}");
    for (path, fields, status, problem) in [
        // Every fault at once: the token comes first, then the parameters, then Accept, then the key.
        (statistics("unknown-key/x/day/1"), vec![html], 401, "unauthorized"),
        (
            statistics("unknown-key/x/day/1"),
            vec![html, ("Authorization", "Bearer nobodys")],
            401,
            "unauthorized",
        ),
        (statistics("unknown-key/x/day/1"), vec![html, token], 400, "bad-parameter"),
        (statistics("unknown-key/0/day/1"), vec![html, token], 406, "not-acceptable"),
        (statistics("unknown-key/0/day/1"), vec![token], 404, "not-found"),
        (statistics("key-of-other/0/day/1"), vec![token], 404, "not-found"),
        (statistics("*/0/day/"), vec![token], 400, "bad-parameter"),
        (statistics("*/0/day/1?fill=one"), vec![token], 400, "bad-parameter"),
        (statistics("*/0/day/1/"), vec![token], 404, "unknown-path"),
        (
            statistics("*/0/day/1"),
            vec![token, ("Accept-Encoding", "identity;q=0")],
            406,
            "not-acceptable",
        ),
        ("/".to_owned(), vec![token], 404, "unknown-path"),
    ] {
        let answer = query.ask_with(&path, &fields).await;
        let got = (answer.status, answer.problem());
        assert_eq!(got, (status, problem.to_owned()), "{path} {fields:?}");
        let endpoint = path.matches('/').count() == 7;
        let vary = if endpoint { "Authorization, Accept, Accept-Encoding" } else { "" };
        assert_eq!(answer.header("vary"), vary, "{path}");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(!text.contains("key-of") && !text.contains("token-of"), "{text}");
    }
    let unauthorized = query.ask_with(PATH, &[]).await;
    assert_eq!(unauthorized.header("www-authenticate"), "Bearer realm=\"botstats\"");
    let fields = [token, ("X-Request-Id", "mine-1")];
    let served = query.ask_with(&statistics("key-of-b2/13/day/1"), &fields).await;
    assert_eq!((served.status, served.header("x-request-id")), (200, "mine-1"));
    assert_eq!(served.json().as_array().unwrap().len(), 1);
    assert_eq!(served.json()[0]["BotName"], "Taxi");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_as_it_must_not_be() {
    let (_nats, _ingest, query) = all(HOUR, Behaviour::Good).await;
    let close = "Connection: close\r\n\r\n";
    let many = |n: usize| (0..n).map(|i| format!("X-{i}: 1\r\n")).collect::<String>();
    let large = |bytes: usize| format!("X-Large: {}\r\n", "x".repeat(bytes));
    for (request, status) in [
        (format!("GET /openapi.json HTTP/1.1\r\nHost: a\r\n{close}"), 200),
        (format!("GET http://a/openapi.json HTTP/1.1\r\nHost: a\r\n{close}"), 200),
        (format!("GET /openapi.json HTTP/1.1\r\n{close}"), 400),
        (format!("GET /openapi.json HTTP/1.1\r\nHost: a\r\nHost: a\r\n{close}"), 400),
        (format!("HEAD {PATH} HTTP/1.1\r\nHost: a\r\n{close}"), 405),
        (format!("POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n{close}{{}}"), 405),
        (format!("DELETE /openapi.json HTTP/1.1\r\nHost: a\r\n{close}"), 405),
        (format!("PUT /nowhere HTTP/1.1\r\nHost: a\r\n{close}"), 405),
        (format!("GET /openapi.json HTTP/1.1\r\nHost: a\r\n{}{close}", many(62)), 200),
        (format!("GET /openapi.json HTTP/1.1\r\nHost: a\r\n{}{close}", many(63)), 431),
        (format!("GET /openapi.json HTTP/1.1\r\nHost: a\r\n{}{close}", many(500)), 431),
        (format!("GET /openapi.json HTTP/1.1\r\nHost: a\r\n{}{close}", large(15_000)), 200),
        (format!("GET /openapi.json HTTP/1.1\r\nHost: a\r\n{}{close}", large(16_384)), 431),
        (format!("GET /openapi.json HTTP/1.1\r\nHost: a\r\n{}{close}", large(200_000)), 431),
        ("nonsense\r\n\r\n".to_owned(), 400),
    ] {
        let line = request.lines().next().unwrap().to_owned();
        let answer = query.raw(request.as_bytes()).await;
        assert_eq!(answer.status, status, "{line} of {} bytes", request.len());
        if status == 405 {
            assert_eq!(answer.header("allow"), "GET", "{line}");
        }
    }
    // A body that never comes: the answer does, and the connection ends.
    let body = format!("GET {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    let answer = query.raw(body.as_bytes()).await;
    assert_eq!((answer.status, answer.header("connection")), (401, "close"));
    // A head that is never complete: closed without an answer.
    let start = clock::monotonic();
    let mut stream = tokio::net::TcpStream::connect(query.http).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    let mut rest = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await.unwrap();
    assert!((4..15).contains(&start.elapsed().as_secs()), "{:?} {rest:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn formats_and_codings() {
    let (_nats, _ingest, query) = all(OFF, Behaviour::Good).await;
    let token = ("Authorization", "Bearer token-of-acme");
    let csv = query.ask_with(PATH, &[token, ("Accept", "text/csv")]).await;
    let text = String::from_utf8(csv.body.clone()).unwrap();
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(text.split("\r\n").count(), 4, "{text}");
    assert_eq!(csv.header("cache-control"), "no-store");
    assert_eq!(csv.header("ratelimit"), "");
    let plain = query.ask_with(PATH, &[token, ("Accept", "application/x-ndjson")]).await;
    assert_eq!(plain.body.iter().filter(|byte| **byte == b'\n').count(), 2);
    for coding in ["gzip", "zstd"] {
        let fields = [token, ("Accept", "text/csv"), ("Accept-Encoding", coding)];
        let packed = query.ask_with(PATH, &fields).await;
        assert_eq!(packed.header("content-encoding"), coding);
        let mut read = Vec::new();
        let mut source = &packed.body[..];
        match coding {
            "gzip" => {
                let mut reader = async_compression::tokio::bufread::GzipDecoder::new(&mut source);
                tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut read).await.unwrap();
            }
            _ => {
                let mut reader = async_compression::tokio::bufread::ZstdDecoder::new(&mut source);
                tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut read).await.unwrap();
            }
        }
        assert_eq!(read, csv.body, "{coding}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_costs_no_call() {
    let (nats, ingest, query) = all(HOUR, Behaviour::Silent).await;
    let unavailable = async || {
        let mut fastest = Duration::MAX;
        for _ in 0..3 {
            let start = clock::monotonic();
            let answer = query.ask(PATH).await;
            fastest = fastest.min(start.elapsed());
            assert_eq!((answer.status, answer.problem().as_str()), (503, "unavailable"));
            assert_eq!(answer.header("retry-after"), "2");
        }
        assert!(fastest < Duration::from_millis(2_300), "{fastest:?}");
    };
    unavailable().await;
    drop(ingest);
    unavailable().await;
    query.becomes_unready("ingest").await;
    let refusing = Ingest::start(&nats, Behaviour::Refusing).await;
    unavailable().await;
    drop(refusing);
    let endless = Ingest::start(&nats, Behaviour::Endless).await;
    let hours = "/analytics/statistics/account/*/13/hour/30";
    let answer = until("an answer of the endless one", async || {
        Some(query.ask(hours).await).filter(|answer| answer.status != 503)
    })
    .await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "answer-too-large"));
    drop(endless);
    // An ingest that counts says so at once.
    let counting = Ingest::start(&nats, Behaviour::TooLarge).await;
    let answer = until("an answer of the counting one", async || {
        Some(query.ask(hours).await).filter(|answer| answer.status != 503)
    })
    .await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "answer-too-large"));
    drop(counting);
    // A lost chunk is asked for again.
    let _losing = Ingest::start(&nats, Behaviour::Losing).await;
    query.becomes_ready().await;
    let served =
        until("an answer", async || Some(query.ask(PATH).await).filter(|a| a.status != 503));
    assert_eq!(served.await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_is_read_again_before_an_answer() {
    let (nats, _ingest, query) = all(OFF, Behaviour::Good).await;
    let js = nats.js().await;
    let key = "/analytics/statistics/account/key-of-b1/13/day/1";
    assert_eq!(query.ask(key).await.status, 200);
    // Not one answer after the write is acknowledged.
    put(&js, "bot.acme.b1", &bot_json("Pizza", "a-new-key", false)).await;
    assert_eq!(query.ask(key).await.status, 404);
    put(&js, "account.acme", &account_json("another", false)).await;
    let revoked = query.ask(PATH).await;
    assert_eq!(revoked.status, 401);
    assert_eq!(
        revoked.header("www-authenticate"),
        "Bearer realm=\"botstats\", error=\"invalid_token\""
    );
    put(&js, "account.acme", &account_json("token-of-acme", false)).await;
    until("the token's return", async || (query.ask(PATH).await.status == 200).then_some(())).await;
    // A bad value leaves the last good one.
    put(&js, "account.acme", "nonsense").await;
    assert_eq!(query.ask(PATH).await.status, 200);
    let second = Query::ready(&nats, OFF).await;
    assert_eq!(second.ask(PATH).await.status, 200, "a replica that starts later");
    put(&js, "account.acme", &account_json("token-of-acme", true)).await;
    assert_eq!(query.ask(PATH).await.status, 404);
    js.get_key_value("botstats_directory").await.unwrap().delete("account.acme").await.unwrap();
    // The copy in memory may still have the tombstone for a moment.
    until("no such token", async || (query.ask(PATH).await.status == 401).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_throttles_bucket_nobody_is_served() {
    let (nats, _ingest, query) = all(HOUR, Behaviour::Good).await;
    let js = nats.js().await;
    js.delete_stream("KV_botstats_throttle").await.unwrap();
    assert_eq!(query.ask(PATH).await.status, 503);
    query.becomes_unready("throttle").await;
    assert_eq!(query.ask(PATH).await.status, 503);
    setup::throttle_bucket(&js, HOUR, Shape::default()).await.unwrap();
    query.becomes_ready().await;
    assert_eq!(query.ask(PATH).await.status, 200);
    assert_eq!(query.ask(PATH).await.status, 429);
    // An administrator gives the call back: another replica serves it.
    let kv = js.get_key_value(THROTTLE_BUCKET).await.unwrap();
    kv.delete(account("acme").as_str()).await.unwrap();
    let second = Query::ready(&nats, HOUR).await;
    assert_eq!(second.ask(PATH).await.status, 200);
    assert_eq!(second.ask(PATH).await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_unknown_outcome_is_taken_back() {
    let nats = Nats::start();
    let client = nats.client().await;
    let js = nats.js().await;
    setup::throttle_bucket(&js, HOUR, Shape::default()).await.unwrap();
    let allowance = Allowance::of_accounts(HOUR).unwrap();
    let claims = Claims::new(Connection::new(client, None), allowance);
    claims.set_usable(true);
    let acme = AllowanceKey::from(&account("acme"));
    let soon = || clock::monotonic() + Duration::from_millis(500);
    assert_eq!(claims.look(&acme, soon()).await, Ok(Standing::Free(0)));
    nats.signal("STOP");
    until("the server to stand still", async || claims.look(&acme, soon()).await.err()).await;
    assert!(claims.claim(&acme, 0, soon()).await.is_err());
    nats.signal("CONT");
    // It arrives after all, and goes.
    let kv = js.get_key_value(THROTTLE_BUCKET).await.unwrap();
    let revision = until("the claim taken back", async || {
        let entry = kv.entry("acme").await.ok()??;
        (entry.operation == Operation::Delete).then_some(entry.revision)
    })
    .await;
    let standing = claims.look(&acme, soon()).await.unwrap();
    assert_eq!(standing, Standing::Free(revision));
    // A program that stops does it before it ends.
    nats.signal("STOP");
    until("the server to stand still", async || claims.look(&acme, soon()).await.err()).await;
    assert!(claims.claim(&acme, revision, soon()).await.is_err());
    nats.signal("CONT");
    claims.finish().await;
    let entry = kv.entry("acme").await.unwrap().unwrap();
    assert!(entry.operation == Operation::Delete && entry.revision > revision, "{entry:?}");
    let revision = entry.revision;
    assert_eq!(claims.claim(&acme, revision, soon()).await, Ok(Outcome::Won));
    // A revision that is not the newest is no claim.
    let lost = claims.claim(&acme, revision, soon()).await.unwrap();
    assert!(matches!(lost, Outcome::Lost { retry_after_s: 3600..=3601 }), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_goes_and_comes_back() {
    let mut nats = Nats::start();
    nats.kill();
    // Started before there is a server at all.
    let query = Query::start(&nats, HOUR);
    query.becomes_unready("nats").await;
    assert_eq!(query.ask_with(PATH, &[]).await.status, 401);
    assert_eq!(query.ask(PATH).await.status, 503);
    nats.restart();
    let ingest = Ingest::start(&nats, Behaviour::Good).await;
    query.becomes_ready().await;
    fill_directory(&nats.js().await).await;
    until("the directory", async || (query.ask(PATH).await.status == 200).then_some(())).await;

    drop(ingest);
    nats.kill();
    query.becomes_unready("nats").await;
    assert_eq!(query.ask(PATH).await.status, 429, "still remembered");
    let other = [("Authorization", "Bearer token-of-other")];
    let start = clock::monotonic();
    assert_eq!(query.ask_with(PATH, &other).await.status, 503);
    assert!(start.elapsed() < Duration::from_millis(2_300), "{:?}", start.elapsed());
    nats.restart();
    let _ingest = Ingest::start(&nats, Behaviour::Good).await;
    query.becomes_ready().await;
    // What was asked while NATS was away did not use the call.
    until("an answer", async || {
        let status = query.ask_with(PATH, &other).await.status;
        assert_ne!(status, 429);
        (status == 200).then_some(())
    })
    .await;
    query.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_window_than_the_buckets_is_refused() {
    let nats = Nats::start();
    setup::throttle_bucket(&nats.js().await, HOUR, Shape::default()).await.unwrap();
    let query = Query::start(&nats, Duration::from_secs(600));
    let error = query.ended.await.unwrap().unwrap_err();
    assert!(matches!(error, RunError::Window(_)));
    assert_eq!(error.exit_code(), 64);
    let text = botstats_common::io::nats::chain(&error);
    assert!(text.contains("1h") && text.contains("10m"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_in_order_and_says_its_state_until_then() {
    let (nats, _ingest, query) = all(HOUR, Behaviour::Good).await;
    let client = nats.client().await;
    let answer = client.request("botstats.status.v1", "".into()).await.unwrap();
    let status: botstats_common::status::Status = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!((status.program.as_str(), status.ready), ("query", true));
    // An idle connection does not hold up the stop for long.
    let _idle = tokio::net::TcpStream::connect(query.http).await.unwrap();
    let start = clock::monotonic();
    let http = query.http;
    query.stopped().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(tokio::net::TcpStream::connect(http).await.is_err());
}
