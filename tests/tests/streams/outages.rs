//! While ingest, NATS or a bucket is missing, a call gets a 503 and is not used.

use std::time::Duration;

use async_nats::jetstream::kv;
use async_nats::jetstream::stream::{Config, DiscardPolicy};

use botstats_common::io::setup::{self, Shape};
use botstats_common::names::{DIRECTORY_BUCKET, THROTTLE_BUCKET};
use botstats_tests::harness::{
    Answer, Login, PATIENCE, Proxy, Stage, get, metric, not_ready, ready, signal, unready, until,
};

const WINDOW: &str = "1h";

/// Checks that the answer is a 503 that says when to come back. (How soon it comes: the program
/// `timing`.)
async fn unavailable(stage: &Stage, login: &Login, case: &str) {
    let answer = stage.ask(login).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "unavailable"), "{case}");
    assert!(answer.retry_after().is_some_and(|s| s > 0), "{case}: {answer:?}");
}

/// Waits for the first 200: it must come, because no call was used, and the next must be a 429.
async fn answers_once(stage: &Stage, login: &Login, case: &str) -> Answer {
    let answer = until(&format!("a 200: {case}"), PATIENCE, async || {
        let answer = stage.ask(login).await;
        assert!(matches!(answer.status, 200 | 503), "{case}: {answer:?}");
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(stage.ask(login).await.status, 429, "{case}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn without_ingest() {
    let mut stage = Stage::start(WINDOW, 2).await;
    stage.ingest.kill();
    unavailable(&stage, &stage.logins[0], "ingest is dead").await;
    stage.ingest.restart();
    answers_once(&stage, &stage.logins[0], "ingest is back").await;

    stage.ingest.signal("STOP");
    unavailable(&stage, &stage.logins[1], "ingest is frozen").await;
    stage.ingest.signal("CONT");
    answers_once(&stage, &stage.logins[1], "ingest goes on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nats() {
    let mut stage = Stage::start(WINDOW, 2).await;
    assert_eq!(stage.ask(&stage.logins[1]).await.status, 200);
    stage.site.nats.kill();
    unavailable(&stage, &stage.logins[0], "NATS is down").await;
    let readyz = unready(stage.query.internal).await;
    assert!(readyz.text().contains("nats"), "{}", readyz.text());
    assert_eq!(get(stage.query.internal, "/livez", &[]).await.status, 200);
    stage.site.nats.restart().unwrap();
    answers_once(&stage, &stage.logins[0], "NATS is back").await;
    // The call stays used through restarts of everything: a new replica remembers nothing itself.
    let fresh = stage.site.query("fresh").await;
    fresh.ready().await;
    assert_eq!(fresh.ask_all(&stage.logins[1].token).await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_frozen_nats() {
    let stage = Stage::start(WINDOW, 1).await;
    let pid = stage.site.nats.pid().unwrap();
    signal(pid, "STOP");
    unavailable(&stage, &stage.logins[0], "NATS is frozen").await;
    signal(pid, "CONT");
    answers_once(&stage, &stage.logins[0], "NATS goes on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_bucket() {
    let stage = Stage::start(WINDOW, 2).await;
    stage.site.js.delete_key_value(THROTTLE_BUCKET).await.unwrap();
    unavailable(&stage, &stage.logins[0], "no throttle bucket").await;
    let (js, hour) = (&stage.site.js, Duration::from_secs(3_600));
    setup::calls_bucket(js, THROTTLE_BUCKET, hour, Shape::default()).await.unwrap();
    answers_once(&stage, &stage.logins[0], "the throttle bucket is back").await;

    let bucket = stage.site.js.get_key_value(DIRECTORY_BUCKET).await.unwrap();
    let entries = entries(&bucket, "acct-1").await;
    stage.site.js.delete_key_value(DIRECTORY_BUCKET).await.unwrap();
    unavailable(&stage, &stage.logins[1], "no directory bucket").await;
    setup::directory_bucket(&stage.site.js, Shape::default()).await.unwrap();
    for (key, value) in entries {
        stage.site.put(&key, &serde_json::from_slice(&value).unwrap()).await;
    }
    until("a 200 with the new directory", PATIENCE, async || {
        let answer = stage.ask(&stage.logins[1]).await;
        // While the new bucket is empty the token is unknown.
        assert!(matches!(answer.status, 200 | 401 | 503), "{answer:?}");
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_buckets_that_are_not_as_they_must_be() {
    let stage = Stage::start(WINDOW, 2).await;
    let edit = async |bucket: &str, change: fn(&mut Config)| {
        let stream = stage.site.js.get_stream(format!("KV_{bucket}")).await.unwrap();
        let mut config = stream.cached_info().config.clone();
        change(&mut config);
        stage.site.js.update_stream(config).await.unwrap();
    };
    // Entries that expire are not entries that were removed: no tenant is told 401.
    edit(DIRECTORY_BUCKET, |config| config.max_age = Duration::from_secs(3_600)).await;
    not_ready(stage.query.internal, "its entries expire after 1h").await;
    unavailable(&stage, &stage.logins[0], "a directory that expires").await;
    let fresh = stage.site.query("fresh").await;
    not_ready(fresh.internal, "its entries expire after 1h").await;
    edit(DIRECTORY_BUCKET, |config| config.max_age = Duration::ZERO).await;
    fresh.ready().await;
    answers_once(&stage, &stage.logins[0], "a directory that lasts").await;

    edit(THROTTLE_BUCKET, |config| {
        config.discard = DiscardPolicy::Old;
        config.max_messages = 1_000;
    })
    .await;
    not_ready(stage.query.internal, "it drops its oldest values").await;
    unavailable(&stage, &stage.logins[1], "a throttle that forgets").await;
    edit(THROTTLE_BUCKET, |config| {
        config.discard = DiscardPolicy::New;
        config.max_messages = -1;
    })
    .await;
    answers_once(&stage, &stage.logins[1], "a throttle that remembers").await;
}

async fn entries(bucket: &kv::Store, account: &str) -> Vec<(String, Vec<u8>)> {
    let mut entries = Vec::new();
    for key in [format!("account.{account}"), format!("bot.{account}.b1")] {
        let value = bucket.get(&key).await.unwrap().unwrap();
        entries.push((key, value.to_vec()));
    }
    entries
}

#[tokio::test(flavor = "multi_thread")]
async fn with_purged_buckets() {
    let stage = Stage::start(WINDOW, 5).await;
    let second = stage.site.query("second").await;
    second.ready().await;
    for login in &stage.logins {
        assert_eq!(stage.ask(login).await.status, 200);
    }
    // What was used is forgotten with the bucket's values: one more call, not two.
    let stream = stage.site.js.get_stream(format!("KV_{THROTTLE_BUCKET}")).await.unwrap();
    stream.purge().await.unwrap();
    for login in &stage.logins {
        let mut given = 0;
        for _ in 0..5 {
            for query in [&stage.query, &second] {
                let answer = query.ask_all(&login.token).await;
                assert!(matches!(answer.status, 200 | 429), "{answer:?}");
                given += usize::from(answer.status == 200);
            }
        }
        assert!(given <= 1, "{given} calls after the purge");
    }

    // Nobody is known any more; nothing that was remembered lets them in.
    let bucket = stage.site.js.get_key_value(DIRECTORY_BUCKET).await.unwrap();
    let entries = entries(&bucket, "acct-4").await;
    bucket.stream.purge().await.unwrap();
    let fresh = stage.site.query("fresh").await;
    fresh.ready().await;
    for login in &stage.logins {
        for query in [&stage.query, &second, &fresh] {
            let answer = query.ask_all(&login.token).await;
            assert!(matches!(answer.status, 401 | 429), "{answer:?}");
        }
    }
    for (key, value) in entries {
        stage.site.put(&key, &serde_json::from_slice(&value).unwrap()).await;
    }
    until("the account is known again", PATIENCE, async || {
        let answer = fresh.ask_all(&stage.logins[4].token).await;
        assert!(matches!(answer.status, 401 | 429), "{answer:?}");
        (answer.status == 429).then_some(())
    })
    .await;
    for query in [&stage.query, &second, &fresh] {
        assert!(!query.process.log().contains("panicked"), "{}", query.process.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_logs_when_it_gets_ready_and_when_it_is_not() {
    let mut stage = Stage::start("0s", 1).await;
    // What it said of that so far, in order.
    let said = |stage: &Stage| -> Vec<bool> {
        let log = stage.query.process.log();
        log.lines()
            .filter_map(|line| {
                let ready = line.contains(r#""message":"ready""#);
                (ready || line.contains("not ready: ")).then_some(ready)
            })
            .collect()
    };
    let last = async |stage: &Stage, ready: bool| {
        until(&format!("the last word is {ready}"), PATIENCE, async || {
            (said(stage).last() == Some(&ready)).then_some(())
        })
        .await;
    };
    last(&stage, true).await;
    let before = said(&stage).len();
    stage.ingest.kill();
    last(&stage, false).await;
    assert!(stage.query.process.log().contains("not ready: ingest: "));
    stage.ingest.restart();
    last(&stage, true).await;
    assert_eq!(said(&stage)[before..], [false, true], "once at each change");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_start_in_any_order_and_stop_in_order() {
    let mut stage = Stage::start(WINDOW, 1).await;
    stage.ingest.kill();
    stage.query.process.kill();
    stage.site.nats.stop();

    // First those that need the others.
    let query = stage.site.query("late-query").await;
    stage.ingest.restart();
    let ingest = stage.ingest.address("internal listener ready").await;
    for (name, address) in [("query", query.internal), ("ingest", ingest)] {
        let readyz = get(address, "/readyz", &[]).await;
        assert_eq!(readyz.status, 503, "{name}");
        assert!(readyz.text().contains("nats"), "{name}: {}", readyz.text());
        assert_eq!(get(address, "/livez", &[]).await.status, 200, "{name}");
    }
    assert_eq!(query.ask_all(&stage.logins[0].token).await.status, 503);
    stage.site.nats.restart().unwrap();
    query.ready().await;
    ready(ingest).await;
    stage.query = query;
    answers_once(&stage, &stage.logins[0], "all are there").await;

    let limit = Duration::from_secs(15);
    stage.query.process.signal("TERM");
    assert!(stage.query.process.ended(limit).await.success(), "query stops in order");
    stage.ingest.signal("TERM");
    assert!(stage.ingest.ended(limit).await.success(), "ingest stops in order");
}

/// The metric of the two clocks.
const SKEW: &str = "botstats_query_clock_skew_seconds";

#[tokio::test(flavor = "multi_thread")]
async fn with_a_clock_that_is_not_the_servers() {
    let mut stage = Stage::start(WINDOW, 3).await;
    let proxy = Proxy::start(stage.site.nats.port()).await;
    stage.site.route(Some(proxy.url()));
    let query = stage.site.query("off").await;
    query.ready().await;
    let is_about = |found: f64, expected: f64| (found - expected).abs() < 10.0;
    assert!(is_about(metric(query.internal, SKEW).await, 0.0));

    // Less than a minute: measured, and answered all the same.
    proxy.server_ahead(-40);
    until("a skew of 40 s", PATIENCE, async || {
        is_about(metric(query.internal, SKEW).await, 40.0).then_some(())
    })
    .await;
    assert_eq!(get(query.internal, "/readyz", &[]).await.status, 200);
    assert_eq!(query.ask_all(&stage.logins[0].token).await.status, 200);

    // More, either way, also by days: not ready, prompt 503s, no call used; then all is well by
    // itself.
    for (ahead_s, way) in [(16 * 60, "behind"), (-3 * 3_600, "ahead of"), (2 * 86_400, "behind")] {
        proxy.server_ahead(i64::from(ahead_s));
        let readyz = unready(query.internal).await;
        let text = readyz.text();
        assert!(text.contains("clock: this machine's clock is") && text.contains(way), "{text}");
        assert!(is_about(metric(query.internal, SKEW).await, -f64::from(ahead_s)), "{ahead_s}");
        assert_eq!(get(query.http, "/healthz", &[]).await.status, 503);
        for _ in 0..3 {
            let answer = query.ask_all(&stage.logins[1].token).await;
            assert_eq!(answer.status, 503, "{answer:?}");
            assert!(answer.text().contains("clocks"), "{}", answer.text());
            assert!(answer.retry_after().is_some_and(|s| s > 0));
        }
        proxy.server_ahead(0);
        query.ready().await;
    }
    let log = query.process.log();
    assert!(log.contains("WARN") && log.contains("calls get 503: this machine's clock"), "{log}");
    // Another account's call was used before; this one's was not.
    assert_eq!(query.ask_all(&stage.logins[1].token).await.status, 200);
    assert_eq!(query.ask_all(&stage.logins[1].token).await.status, 429);
    // A refusal needs no clock: a used call is a 429 whatever the time.
    proxy.server_ahead(16 * 60);
    unready(query.internal).await;
    assert_eq!(query.ask_all(&stage.logins[0].token).await.status, 429);
}
