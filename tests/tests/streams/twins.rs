//! Two ingests on one stream: clients do not notice what happens to one of them, so programs can be
//! replaced while clients ask.

use std::net::SocketAddr;
use std::time::Duration;

use async_nats::service::ServiceExt as _;
use botstats_common::io::{clock, stop};
use botstats_common::names::{READ_QUEUE, all_reads};
use botstats_common::wire::{self, Chunk, Frame};
use botstats_tests::harness::{
    PATIENCE, Process, Readers, Site, Stage, event, get, publish, run, until,
};
use botstats_tests::model::GroupMode;
use futures::StreamExt as _;
use serde_json::json;
use tokio::sync::mpsc;

/// Answers in each state of the two ingests.
const ANSWERS: usize = 150;
/// The longest that an ingest which answers may lag, where that is tested.
const MAX_LAG_MS: i64 = 2_000;

async fn internal(ingest: &Process) -> SocketAddr {
    ingest.address("internal listener ready").await
}

/// Waits as operators do.
async fn healthy(ingest: &Process) {
    let address = internal(ingest).await.to_string();
    until("a healthy ingest", PATIENCE, async || {
        let asked = run("botstats-ingest", &["healthcheck", "--internal-addr", &address], &[]);
        asked.status.success().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_either_are_not_seen() {
    let site = Site::start("0s").await;
    let mut ingests = [site.ingest("first"), site.ingest("second")];
    let query = site.query("query").await;
    for ingest in &ingests {
        healthy(ingest).await;
    }
    let readers = Readers::start(&site, &query).await;
    for fault in ["KILL", "STOP", "TERM"] {
        for ingest in &mut ingests {
            readers.more(ANSWERS).await;
            match fault {
                "KILL" => ingest.kill(),
                "STOP" => ingest.signal("STOP"),
                _ => {
                    ingest.stop().await;
                }
            }
            readers.more(ANSWERS).await;
            if fault == "STOP" {
                ingest.signal("CONT");
            } else {
                ingest.restart();
            }
            healthy(ingest).await;
        }
    }
    let answers = readers.finish().await;
    assert!(answers.len() >= 1_000, "{} answers", answers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_lags_does_not_answer() {
    let site = Site::start("0s").await;
    let limit = [("BOTSTATS_MAX_LAG", format!("{MAX_LAG_MS}ms"))];
    let [first, second] = ["first", "second"].map(|name| site.ingest_with(name, &limit));
    let query = site.query("query").await;
    for ingest in [&first, &second] {
        healthy(ingest).await;
    }
    let readers = Readers::start(&site, &query).await;
    readers.more(ANSWERS).await;
    second.signal("STOP");
    let stopped_ms = clock::now_ms();
    // Of another account: what they ask about does not change.
    let backlog = (0..20_000).map(|n| {
        let place = ["backlog", "b1", "web"];
        event(place, "message.received", clock::now_ms(), &n.to_string(), &json!({}))
    });
    publish(&site.js, backlog).await;
    until("a lag", PATIENCE, async || {
        (clock::now_ms() - stopped_ms > 2 * MAX_LAG_MS).then_some(())
    })
    .await;
    second.signal("CONT");
    // It sees by itself that it lags, and answers again when it does not any more.
    for line in ["not answering reads any more", "answering reads"] {
        until(line, PATIENCE, async || {
            let log = second.log();
            let (_, since) = log.split_once("not answering reads any more")?;
            (line.starts_with("not") || since.contains(line)).then_some(())
        })
        .await;
    }
    healthy(&second).await;
    readers.more(ANSWERS).await;
    for seen in readers.finish().await {
        assert!(seen.as_of_ms >= seen.asked_ms - MAX_LAG_MS, "{seen:?} lags");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_are_replaced_while_clients_ask() {
    let site = Site::start("0s").await;
    let mut old = site.ingest("old");
    let mut old_query = site.query("query").await;
    let readers = Readers::start(&site, &old_query).await;
    readers.more(ANSWERS).await;

    // The ingest: another on an empty folder, and when it is there, the end of the old one.
    let new = site.ingest("new");
    healthy(&new).await;
    until("two that are ready", PATIENCE, async || {
        let status = run("botstats", &["status", "--json"], &site.settings());
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).ok()?;
        let ingests = status.as_array()?.iter().filter(|one| one["program"] == "ingest");
        (ingests.filter(|one| one["ready"] == true).count() == 2).then_some(())
    })
    .await;
    readers.more(ANSWERS).await;
    old.stop().await;
    readers.more(ANSWERS).await;

    // The query: another, to which clients are sent, and then the end of the old one.
    let new_query = site.query("new-query").await;
    new_query.ready().await;
    readers.ask(&new_query);
    readers.more(ANSWERS).await;
    old_query.process.stop().await;
    readers.more(ANSWERS).await;
    readers.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_asked_alone_may_freeze_too() {
    let site = Site::start("0s").await;
    let ingests = [site.ingest("first"), site.ingest("second")];
    let query = site.query("query").await;
    for ingest in &ingests {
        healthy(ingest).await;
    }
    let readers = Readers::start(&site, &query).await;
    // Whoever is asked alone when the last one freezes was chosen because the other was frozen
    // before.
    for frozen in [0, 1, 0] {
        ingests[frozen].signal("STOP");
        readers.more(ANSWERS).await;
        ingests[frozen].signal("CONT");
    }
    readers.finish().await;
    let chosen = query.process.log().matches("an ingest is silent: reads go to").count();
    assert!(chosen >= 3, "{chosen} times");
}

/// How an ingest falls silent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Silent {
    Before,
    Accepted,
    Answering,
    /// The ingest is slow: it answers after this time.
    For(Duration),
}

/// An ingest of the test's own beside the real one, that takes reads and falls silent. Tells of
/// each read.
async fn takes_reads(site: &Site, silent: Silent) -> mpsc::UnboundedReceiver<()> {
    let client = site.client.clone();
    let mut reads = client.queue_subscribe(all_reads(), READ_QUEUE.to_owned()).await.unwrap();
    let service = client.service_builder().start("botstats-ingest", "0.1.0").await.unwrap();
    let instance = service.info().await.id;
    if !matches!(silent, Silent::For(_)) {
        service.stop().await.unwrap();
        client.flush().await.unwrap();
    }
    let (taken, told) = mpsc::unbounded_channel();
    let chunk = |last| Frame::Chunk(Chunk { last, ..Chunk::default() });
    stop::spawn(async move {
        while let Some(read) = reads.next().await {
            let _nobody_listens = taken.send(());
            let frames = match silent {
                Silent::Before => vec![],
                Silent::Accepted => vec![Frame::Accepted { instance: instance.clone() }],
                Silent::Answering => {
                    vec![Frame::Accepted { instance: instance.clone() }, chunk(false)]
                }
                Silent::For(_) => vec![Frame::Accepted { instance: instance.clone() }, chunk(true)],
            };
            for frame in frames {
                if let (Silent::For(pause), Frame::Chunk(_)) = (silent, &frame) {
                    tokio::time::sleep(pause).await;
                }
                let bytes = wire::encode(&frame).unwrap();
                client.publish(read.reply.clone().unwrap(), bytes.into()).await.unwrap();
            }
        }
    });
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_falls_silent_is_replaced_at_every_point_of_a_read() {
    for silent in [Silent::Before, Silent::Accepted, Silent::Answering] {
        let stage = Stage::start("0s", 1).await;
        let mut taken = takes_reads(&stage.site, silent).await;
        // The server chooses whom to ask.
        until("a read that the silent one took", PATIENCE, async || {
            assert_eq!(stage.ask(&stage.logins[0]).await.status, 200, "{silent:?}");
            stage.query.process.log().contains("an ingest is silent").then_some(())
        })
        .await;
        assert!(taken.try_recv().is_ok(), "{silent:?}");
        while taken.try_recv().is_ok() {}
        // From now on the other is asked.
        for _ in 0..20 {
            assert_eq!(stage.ask(&stage.logins[0]).await.status, 200, "{silent:?}");
        }
        assert!(taken.try_recv().is_err(), "{silent:?}");
        stage.equals_the_model(GroupMode::Hour, 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_works_slowly_is_waited_for() {
    let stage = Stage::start("0s", 1).await;
    let mut taken = takes_reads(&stage.site, Silent::For(Duration::from_millis(900))).await;
    let answer = until("a read that the slow one took", PATIENCE, async || {
        let answer = stage.query.ask_all(&stage.logins[0].token).await;
        assert_eq!(answer.status, 200);
        taken.try_recv().ok().map(|()| answer)
    })
    .await;
    // It counts nothing: that answer is its own.
    assert_eq!(answer.json(), json!([]));
    assert!(taken.try_recv().is_err(), "it was asked once");
    assert!(!stage.query.process.log().contains("an ingest is silent"));
    assert_eq!(get(stage.query.internal, "/readyz", &[]).await.status, 200);
}
