//! nats-server killed while events flow and ingest reads: what is acknowledged counts once, whatever was
//! on its way.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use async_nats::jetstream::stream::Stream;
use botstats_common::names::EVENTS_STREAM;
use botstats_common::shell::{clock, stop};
use botstats_tests::harness::{Outgoing, PATIENCE, Stage, event, publish, until};
use botstats_tests::model::GroupMode;
use serde_json::json;

/// Kills of the server in one run.
const KILLS: i64 = 5;
/// Events between two kills.
const PIECE: i64 = 1_500;

fn message(n: i64) -> Outgoing {
    let place = ["acct-0", "b1", "web"];
    let time_ms = clock::now_ms() - n;
    event(place, "message.received", time_ms, &format!("n{n}"), &json!({ "kind": "text" }))
}

/// Publishes as a bot does: the same bytes again until they are acknowledged.
async fn publish_stubbornly(js: &Context, (subject, headers, payload): Outgoing) {
    let headers: HeaderMap =
        headers.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
    let deadline = clock::monotonic() + PATIENCE;
    loop {
        let sent =
            js.publish_with_headers(subject.clone(), headers.clone(), payload.clone().into()).await;
        if let Ok(acknowledgement) = sent
            && acknowledgement.await.is_ok()
        {
            return;
        }
        assert!(clock::monotonic() < deadline, "waited in vain for an acknowledgement");
    }
}

async fn events_stream(js: &Context) -> Stream {
    until("the stream", PATIENCE, async || js.get_stream(EVENTS_STREAM).await.ok()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_while_ingest_reads() {
    let mut stage = Stage::start("0s", 1).await;
    for kill in 0..KILLS {
        let js = stage.site.js.clone();
        let before = stage.site.last_sequence().await;
        let publishing = stop::spawn(async move {
            for n in kill * PIECE..(kill + 1) * PIECE {
                publish_stubbornly(&js, message(n)).await;
            }
        });
        // In the middle of the piece, while ingest has some of it and not yet the rest.
        until("the middle of the piece", PATIENCE, async || {
            let stored = stage.site.last_sequence().await;
            (stored >= before + u64::try_from(PIECE / 2).unwrap()).then_some(())
        })
        .await;
        stage.site.nats.kill();
        stage.site.nats.restart().unwrap();
        publishing.await.unwrap();
    }
    stage.equals_the_model(GroupMode::Hour, 2).await;
    let status = stage.site.applied(PATIENCE).await;
    // Nothing is missing: each of them counts, some beside the events of the stage.
    assert!(status.events["accepted"] >= u64::try_from(KILLS * PIECE).unwrap(), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_messages_erased() {
    let mut stage = Stage::start("0s", 1).await;
    // A tenant is erased whose message is the newest of the stream.
    let place = ["erased", "b1", "web"];
    let other = event(place, "message.received", clock::now_ms(), "x", &json!({}));
    publish(&stage.site.js, [message(1), other]).await;
    let erase = async |stage: &Stage| {
        let stream = events_stream(&stage.site.js).await;
        stream.purge().filter("botstats.events.erased.>").await.unwrap();
    };
    stage.site.applied(PATIENCE).await;
    stage.ingest.kill();
    erase(&stage).await;

    // What was counted last can't be recognised any more: refused, not waited for.
    stage.ingest.restart();
    until("a refusal", PATIENCE, async || {
        stage.site.ingest_statuses().await.into_iter().find_map(|status| status.refused)
    })
    .await;
    stage.ingest.kill();

    // A new ingest counts what is there, and does not wait for what is not.
    let _second = stage.site.ingest("second");
    stage.equals_the_model(GroupMode::Hour, 2).await;
}
