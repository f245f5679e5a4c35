//! Backups, restored elsewhere: they catch up from the stream and equal the model, or are refused.

use std::path::{Path, PathBuf};

use botstats_common::io::clock;
use botstats_tests::harness::{
    Outgoing, PATIENCE, Process, Query, Site, Stage, copy, event, not_ready, publish, run, stored,
    until,
};
use botstats_tests::model::{GroupMode, Model, Question};
use serde_json::json;

fn events(numbers: std::ops::Range<i64>) -> Vec<Outgoing> {
    let now_ms = clock::now_ms();
    let event = |n: i64| {
        let place = ["acct-0", "b1", "web"];
        event(place, "message.received", now_ms - n * 1_000, &format!("n{n}"), &json!({}))
    };
    numbers.map(event).collect()
}

/// Checks what that query service says of an account.
async fn equals_the_model(site: &Site, query: &Query, stage: &Stage, account: usize) {
    site.applied(PATIENCE).await;
    let model = Model::of(&stored(&site.js).await);
    let login = &stage.logins[account];
    query
        .check(
            &model,
            login,
            &Question::of_all(&login.account, GroupMode::Hour, 2),
            &stage.directory,
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_a_stopped_ingest() {
    let mut stage = Stage::start("0s", 1).await;
    let first = events(0..300);
    publish(&stage.site.js, first.clone()).await;
    stage.site.applied(PATIENCE).await;
    stage.ingest.stop().await;
    let restored = stage.site.folder("restored");
    std::fs::create_dir(&restored).unwrap();
    copy(&stage.site.folder("ingest").join("data"), &restored.join("data"));
    let sequence = stage.site.last_sequence().await;

    // The stream goes on; the copy does too, from where it ends.
    stage.ingest.restart();
    publish(&stage.site.js, first.into_iter().skip(250).chain(events(300..600))).await;
    stage.site.applied(PATIENCE).await;
    stage.ingest.stop().await;
    stage.ingest = stage.site.ingest("restored");
    stage.equals_the_model(GroupMode::Hour, 2).await;
    let status = stage.site.applied(PATIENCE).await;
    assert!(status.sequence > sequence, "{status:?}");
    assert_eq!(status.events["duplicate"], 50, "what came twice is known: {status:?}");
}

/// Everything that there is to restore.
struct Backup {
    nats: PathBuf,
    ingest: PathBuf,
}

/// A stage whose account `acct-0` has used its call, and copies of its folders.
async fn backed_up(events_before: i64) -> (Stage, Backup) {
    let mut stage = Stage::start("1h", 2).await;
    publish(&stage.site.js, events(0..events_before)).await;
    stage.site.applied(PATIENCE).await;
    assert_eq!(stage.ask(&stage.logins[0]).await.status, 200);
    stage.ingest.stop().await;
    stage.site.nats.stop();
    let backup =
        Backup { nats: stage.site.folder("nats.backup"), ingest: stage.site.folder("data.backup") };
    copy(&stage.site.folder("nats").join("jetstream"), &backup.nats);
    copy(&stage.site.folder("ingest").join("data"), &backup.ingest);
    (stage, backup)
}

/// An ingest of that site on a copy of the folder.
fn ingest_on(site: &Site, data: &Path) -> Process {
    let folder = site.folder("ingest");
    std::fs::create_dir(&folder).unwrap();
    copy(data, &folder.join("data"));
    site.ingest("ingest")
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_on_another_nats_server() {
    let (stage, backup) = backed_up(200).await;
    let site = Site::restored(&backup.nats, "1h").await;
    let ingest = ingest_on(&site, &backup.ingest);
    let query = site.query("query").await;
    query.ready().await;
    let checked =
        run("botstats", &["setup", "--throttle-window", "1h", "--json"], &site.settings());
    let checked: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    for made in ["stream_made", "directory_made", "throttle_made"] {
        assert_eq!(checked[made], false, "{checked}");
    }

    // Tokens work, used calls stay used, others are free.
    assert_eq!(
        query.ask(&stage.logins[0], &Question::of_all("acct-0", GroupMode::Hour, 2)).await.status,
        429
    );
    equals_the_model(&site, &query, &stage, 1).await;
    // It goes on, and all of it is exact.
    publish(&site.js, events(150..400)).await;
    let unlimited = site.query_with("unlimited", "0s").await;
    equals_the_model(&site, &unlimited, &stage, 0).await;
    assert!(!ingest.log().contains("ERROR"), "{}", ingest.log());

    // So does an ingest without a copy.
    drop(ingest);
    let _second = site.ingest("second");
    equals_the_model(&site, &unlimited, &stage, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_newer_than_the_stream() {
    let (mut stage, backup) = backed_up(100).await;
    stage.site.nats.restart().unwrap();
    until("the server is back", PATIENCE, async || {
        stage.site.js.get_stream("BOTSTATS_EVENTS").await.ok().map(|_| ())
    })
    .await;
    publish(&stage.site.js, events(100..150)).await;
    stage.ingest.restart();
    stage.site.applied(PATIENCE).await;
    stage.ingest.stop().await;

    // The stream's copy is older than the folder's.
    let site = Site::restored(&backup.nats, "1h").await;
    let mut ingest = ingest_on(&site, &stage.site.folder("ingest").join("data"));
    let address = ingest.address("internal listener ready").await;
    not_ready(address, "older copy").await;
    let query = site.query_with("query", "0s").await;
    assert_eq!(
        query.ask(&stage.logins[0], &Question::of_all("acct-0", GroupMode::Hour, 2)).await.status,
        503
    );

    // As it says: what is in the stream is counted anew.
    ingest.stop().await;
    let rebuild =
        run("botstats-ingest", &["rebuild"], &site.ingest_settings(&site.folder("ingest")));
    assert!(rebuild.status.success(), "{rebuild:?}");
    ingest.restart();
    query.ready().await;
    equals_the_model(&site, &query, &stage, 0).await;
}
