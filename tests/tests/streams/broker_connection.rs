//! Connections that break while many messages are in flight, and an ingest that is frozen for long.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use botstats_common::io::clock;
use botstats_tests::harness::{Outgoing, PATIENCE, Proxy, Stage, event, get, publish, until};
use botstats_tests::model::GroupMode;
use serde_json::json;

/// Cuts of the connection in one run.
const CUTS: u64 = 40;
/// Messages between two cuts.
const BETWEEN: u64 = 3_000;
/// So slow is the network that the cuts come while much of what the reader asks for ahead is on its
/// way.
const DELAY: Duration = Duration::from_millis(8);

fn messages(numbers: Range<u64>) -> impl Iterator<Item = Outgoing> {
    let now_ms = clock::now_ms();
    numbers.map(move |n| {
        let time_ms = now_ms - 3_600_000 + i64::try_from(n).unwrap();
        let place = ["acct-0", "b1", "web"];
        event(place, "message.received", time_ms, &format!("n{n}"), &json!({}))
    })
}

/// The last sequence that ingest has applied, as its metrics say.
async fn applied(address: SocketAddr) -> u64 {
    let metrics = get(address, "/metrics", &[]).await;
    let line = metrics.text().lines().find_map(|l| l.strip_prefix("botstats_ingest_sequence "));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_cuts_while_draining() {
    let mut stage = Stage::start("0s", 1).await;
    stage.ingest.kill();
    let first = stage.site.last_sequence().await;
    let count = BETWEEN * (CUTS + 1);
    publish(&stage.site.js, messages(0..count)).await;

    let proxy = Proxy::start(stage.site.nats.port()).await;
    proxy.delay(DELAY);
    stage.ingest.set("NATS_URL", proxy.url());
    stage.ingest.restart();
    let address = stage.ingest.address("internal listener ready").await;
    for cut in 0..CUTS {
        until(&format!("the moment of cut {cut}"), PATIENCE, async || {
            (applied(address).await >= first + cut * BETWEEN).then_some(())
        })
        .await;
        proxy.cut();
    }
    assert!(applied(address).await < first + count, "the last cut was not while draining");
    proxy.delay(Duration::ZERO);
    stage.equals_the_model(GroupMode::Hour, 2).await;
    let status = stage.site.applied(PATIENCE).await;
    // Nothing is missing, and nothing came twice.
    let events = (status.events["accepted"], status.events["duplicate"]);
    assert_eq!(events, (first + count, 0), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_that_stands_still_while_events_flow() {
    let stage = Stage::start("0s", 1).await;
    let first = stage.site.last_sequence().await;
    let frozen = clock::monotonic();
    stage.ingest.signal("STOP");
    let mut published = 0;
    // Longer than a server waits for a client that does not read (its write deadline is 10 s), and
    // than a heartbeat, a consumer's request or two pings of the connection last.
    while frozen.elapsed() < Duration::from_secs(12) {
        publish(&stage.site.js, messages(published..published + 2_000)).await;
        published += 2_000;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stage.ingest.signal("CONT");
    stage.equals_the_model(GroupMode::Hour, 2).await;
    let status = stage.site.applied(PATIENCE).await;
    assert_eq!(status.events["accepted"], first + published, "{status:?}");
    let server = std::fs::read_to_string(stage.site.nats.log()).expect("the server's log");
    assert!(!server.contains("Slow Consumer"), "{server}");
    let log = stage.ingest.log();
    let again = log.lines().filter(|line| line.contains("reading the stream again")).count();
    assert!(again <= 3, "{again} new starts: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_a_consumer_brings_what_waits() {
    let mut stage = Stage::start("0s", 1).await;
    let first = stage.site.last_sequence().await;
    stage.ingest.signal("STOP");
    publish(&stage.site.js, messages(0..BETWEEN)).await;
    stage.site.nats.kill();
    stage.ingest.signal("CONT");
    let lost = "reading the stream again";
    until("several tries to connect", PATIENCE, async || {
        let address = stage.ingest.address("internal listener ready").await;
        let readyz = get(address, "/readyz", &[]).await;
        (readyz.status == 503 && stage.ingest.log().contains(lost)).then_some(())
    })
    .await;
    // Four tries, 250 ms apart.
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.site.nats.restart().unwrap();
    stage.equals_the_model(GroupMode::Hour, 2).await;
    let status = stage.site.applied(PATIENCE).await;
    assert_eq!(status.events["accepted"], first + BETWEEN, "{status:?}");
    // Reading single messages costs a round trip each.
    let log = stage.ingest.log();
    assert!(!log.contains("got messages one by one"), "{log}");
}
