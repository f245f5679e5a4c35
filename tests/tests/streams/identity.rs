//! Ingest refuses a stream that is not the one it has counted, explains why, and skips nothing.

use std::time::Duration;

use async_nats::jetstream::stream::Config;
use botstats_common::io::clock;
use botstats_common::names::EVENTS_STREAM;
use botstats_common::status::IngestStatus;
use botstats_tests::harness::{
    Login, Outgoing, PATIENCE, Process, Snapshot, Stage, copy, event, get, not_ready, outgoing,
    publish, run, stored, until,
};
use botstats_tests::model::GroupMode;
use serde_json::json;

/// Events that differ by number.
fn events(numbers: std::ops::Range<i64>) -> Vec<Outgoing> {
    let now_ms = clock::now_ms();
    numbers
        .map(|n| {
            let place = ["acct-0", "b1", "web"];
            event(place, "message.received", now_ms - n * 1_000, &format!("n{n}"), &json!({}))
        })
        .collect()
}

/// Waits until ingest refuses the stream, and checks that nobody gets an answer from it.
async fn refuses(stage: &Stage, login: &Login, because: &str) -> IngestStatus {
    let status = until(&format!("a refusal: {because}"), PATIENCE, async || {
        stage.site.ingest_statuses().await.into_iter().find(|status| status.refused.is_some())
    })
    .await;
    let why = status.refused.clone().unwrap_or_default();
    assert!(why.contains(because), "{why}");
    let address = stage.ingest.address("internal listener ready").await;
    let readyz = get(address, "/readyz", &[]).await;
    assert_eq!(readyz.status, 503);
    assert!(readyz.text().contains(because), "{}", readyz.text());
    assert!(readyz.text().contains("botstats-ingest rebuild"), "{}", readyz.text());
    assert!(stage.ingest.log().contains("botstats-ingest rebuild"), "it says what to do");
    assert_eq!(get(address, "/livez", &[]).await.status, 200);
    let metrics = get(address, "/metrics", &[]).await;
    let refused = "\nbotstats_ingest_stream_refused 1\n";
    assert!(metrics.text().contains(refused), "{}", metrics.text());
    let answer = stage.ask(login).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    status
}

/// Runs `rebuild`, starts ingest, and checks that it answers what the stream holds now.
async fn rebuilt(stage: &mut Stage) {
    stage.ingest.stop().await;
    let folder = stage.site.folder("ingest");
    let settings = stage.site.ingest_settings(&folder);
    let mut rebuild =
        Process::start("botstats-ingest", &["rebuild"], &settings, &stage.site.folder("rebuild"));
    assert!(rebuild.ended(PATIENCE).await.success(), "{}", rebuild.log());
    stage.ingest.restart();
    stage.equals_the_model(GroupMode::Day, 3).await;
}

/// Messages that are published before the stream changes; they make its sequences reach further.
async fn stage_with(number: i64) -> (Stage, Login) {
    let stage = Stage::start("0s", 1).await;
    publish(&stage.site.js, events(0..number)).await;
    stage.site.applied(PATIENCE).await;
    let login = stage.logins[0].clone();
    assert_eq!(stage.ask(&login).await.status, 200);
    (stage, login)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_made_again() {
    let (mut stage, login) = stage_with(10).await;
    // While ingest runs.
    stage.site.js.delete_stream(EVENTS_STREAM).await.unwrap();
    stage.site.make_stream().await;
    publish(&stage.site.js, events(100..150)).await;
    refuses(&stage, &login, "made again").await;
    // A restart changes nothing about it.
    stage.ingest.restart();
    refuses(&stage, &login, "made again").await;
    rebuilt(&mut stage).await;

    // And while it does not.
    stage.ingest.stop().await;
    stage.site.js.delete_stream(EVENTS_STREAM).await.unwrap();
    stage.site.make_stream().await;
    stage.ingest.restart();
    refuses(&stage, &login, "made again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_gone() {
    let (mut stage, login) = stage_with(3).await;
    stage.site.js.delete_stream(EVENTS_STREAM).await.unwrap();
    let says_so = async |stage: &Stage| {
        let address = stage.ingest.address("internal listener ready").await;
        let missing = format!("there is no stream {EVENTS_STREAM}: events were counted before");
        not_ready(address, &missing).await;
        assert_eq!(stage.ask(&login).await.status, 503);
        // One that was counted is not made again in silence: what it had is missing.
        assert!(stage.site.js.get_stream(EVENTS_STREAM).await.is_err());
    };
    says_so(&stage).await;
    stage.ingest.restart();
    says_so(&stage).await;
}

/// Changes settings of the stream while everything runs.
async fn edit(stage: &Stage, change: impl FnOnce(&mut Config)) {
    let stream = stage.site.js.get_stream(EVENTS_STREAM).await.unwrap();
    let mut config = stream.cached_info().config.clone();
    change(&mut config);
    stage.site.js.update_stream(config).await.unwrap();
}

/// Waits until ingest reports `number` doubts about the stream's settings.
async fn doubts(stage: &Stage, number: u32) {
    let address = stage.ingest.address("internal listener ready").await;
    until(&format!("{number} doubts"), PATIENCE, async || {
        let metrics = get(address, "/metrics", &[]).await;
        let line = format!("\nbotstats_ingest_stream_doubts {number}\n");
        metrics.text().contains(&line).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_by_which_a_stream_may_lack_events() {
    let mut stage = Stage::start("0s", 1).await;
    let texts = ["expire after 1d", "stores botstats.events.acct-0.*.*, not all of"];
    let said = |stage: &Stage| texts.map(|text| stage.ingest.log().matches(text).count());
    let setup = |stage: &Stage| {
        let output = run("botstats", &["setup", "--json"], &stage.site.settings());
        (
            output.status.code(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    // While ingest runs: said at once and once, and gone when it is mended.
    doubts(&stage, 0).await;
    edit(&stage, |config| config.max_age = Duration::from_secs(86_400)).await;
    doubts(&stage, 1).await;
    let (code, text) = setup(&stage);
    assert!(code == Some(0) && text.contains("expire after 1d"), "{code:?} {text}");
    edit(&stage, |config| config.subjects = vec!["botstats.events.acct-0.*.*".to_owned()]).await;
    doubts(&stage, 2).await;
    assert_eq!(said(&stage), [1, 1]);
    let (code, text) = setup(&stage);
    assert!(
        code == Some(1) && text.contains("not all of botstats.events.*.*.*"),
        "{code:?} {text}"
    );
    edit(&stage, |config| {
        config.max_age = Duration::ZERO;
        config.subjects = vec!["botstats.events.>".to_owned(), "old.>".to_owned()];
    })
    .await;
    doubts(&stage, 0).await;
    assert!(stage.ingest.log().contains("are as they must be again"));
    let (code, text) = setup(&stage);
    assert!(code == Some(0) && text.contains("\"warnings\":[]"), "{code:?} {text}");

    // And at a start. What is there is counted, and answered.
    edit(&stage, |config| config.no_ack = true).await;
    stage.ingest.restart();
    doubts(&stage, 1).await;
    assert!(stage.ingest.log().contains("no acknowledgements"));
    stage.equals_the_model(GroupMode::Day, 2).await;
    let (code, text) = setup(&stage);
    assert!(code == Some(1) && text.contains("no acknowledgements"), "{code:?} {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_restored_by_nats() {
    let (mut stage, login) = stage_with(10).await;
    let client = stage.site.client.clone();
    let restorations = |stage: &Stage| stage.ingest.log().matches("it was restored").count();
    let goes_on = async |stage: &Stage, numbers: std::ops::Range<i64>| {
        publish(&stage.site.js, events(numbers)).await;
        stage.equals_the_model(GroupMode::Hour, 2).await;
    };
    let older = Snapshot::of(&client, EVENTS_STREAM).await;

    // Under an ingest that runs.
    older.put_back(&client, EVENTS_STREAM).await;
    until("the stream is known again", PATIENCE, async || {
        (restorations(&stage) == 1).then_some(())
    })
    .await;
    goes_on(&stage, 100..110).await;
    // The checkpoint has the new identity: a restart is nothing special.
    stage.ingest.restart();
    goes_on(&stage, 110..120).await;
    assert_eq!(restorations(&stage), 0);

    // While ingest is stopped; the copy has more than was counted.
    stage.ingest.stop().await;
    publish(&stage.site.js, events(120..130)).await;
    let newer = Snapshot::of(&client, EVENTS_STREAM).await;
    newer.put_back(&client, EVENTS_STREAM).await;
    stage.ingest.restart();
    goes_on(&stage, 130..140).await;
    assert_eq!(restorations(&stage), 1);
    let newest = Snapshot::of(&client, EVENTS_STREAM).await;

    // An older copy lacks what was counted, and goes on lacking it when others take the sequences.
    older.put_back(&client, EVENTS_STREAM).await;
    refuses(&stage, &login, "restored from an older copy").await;
    stage.ingest.stop().await;
    publish(&stage.site.js, events(200..260)).await;
    stage.ingest.restart();
    refuses(&stage, &login, "does not have the message that was applied").await;
    // The right one is brought back.
    newest.put_back(&client, EVENTS_STREAM).await;
    goes_on(&stage, 260..270).await;
    assert_eq!(restorations(&stage), 1);

    // Published again in their order all events have the same sequences, but another time.
    let messages = stored(&stage.site.js).await;
    stage.ingest.stop().await;
    stage.site.js.delete_stream(EVENTS_STREAM).await.unwrap();
    stage.site.make_stream().await;
    publish(&stage.site.js, messages.iter().map(outgoing)).await;
    stage.ingest.restart();
    refuses(&stage, &login, "made again").await;
    rebuilt(&mut stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_stream() {
    let (mut stage, login) = stage_with(10).await;
    let purge = async |stage: &Stage| {
        let stream = stage.site.js.get_stream(EVENTS_STREAM).await.unwrap();
        stream.purge().await.unwrap();
    };

    // Everything was counted before it went: nothing is missed, the numbers stay.
    let before = stage.ask(&login).await.json();
    purge(&stage).await;
    stage.ingest.stop().await;
    stage.ingest.restart();
    until("an answer after the purge", PATIENCE, async || {
        let answer = stage.ask(&login).await;
        (answer.status == 200).then(|| assert_eq!(answer.json(), before))
    })
    .await;
    publish(&stage.site.js, events(20..30)).await;
    stage.site.applied(PATIENCE).await;
    let after = stage.ask(&login).await.json();
    assert_ne!(before, after, "what came after the purge is counted");

    // Something went before it was counted: refuse.
    stage.ingest.stop().await;
    publish(&stage.site.js, events(30..40)).await;
    purge(&stage).await;
    publish(&stage.site.js, events(40..50)).await;
    stage.ingest.restart();
    refuses(&stage, &login, "deleted or expired").await;
    rebuilt(&mut stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_restored_from_an_older_copy() {
    let (mut stage, login) = stage_with(10).await;
    let store = stage.site.folder("nats").join("jetstream");
    let backup = stage.site.folder("backup");
    stage.site.nats.stop();
    copy(&store, &backup);
    let put_back = |stage: &mut Stage| {
        stage.site.nats.stop();
        std::fs::remove_dir_all(&store).unwrap();
        copy(&backup, &store);
        stage.site.nats.restart().unwrap();
    };
    stage.site.nats.restart().unwrap();
    connected(&stage).await;
    publish(&stage.site.js, events(100..120)).await;
    stage.site.applied(PATIENCE).await;

    // The stream is shorter than what was counted.
    put_back(&mut stage);
    connected(&stage).await;
    refuses(&stage, &login, "older copy").await;

    // It has grown again, past the sequence that was counted, with other messages.
    stage.ingest.stop().await;
    publish(&stage.site.js, events(200..260)).await;
    stage.ingest.restart();
    refuses(&stage, &login, "is not the message that was applied").await;
    rebuilt(&mut stage).await;
}

async fn connected(stage: &Stage) {
    until("the client is connected again", PATIENCE, async || {
        stage.site.js.get_stream(EVENTS_STREAM).await.ok().map(|_| ())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_messages_erased() {
    let (mut stage, login) = stage_with(10).await;
    // A tenant is erased whose message is the newest of the stream.
    let place = ["erased", "b1", "web"];
    let newest = event(place, "message.received", clock::now_ms(), "x", &json!({}));
    publish(&stage.site.js, [newest]).await;
    stage.site.applied(PATIENCE).await;
    stage.ingest.stop().await;
    let stream = stage.site.js.get_stream(EVENTS_STREAM).await.unwrap();
    stream.purge().filter("botstats.events.erased.>").await.unwrap();

    // What was counted last can't be recognised any more: refused, not waited for.
    stage.ingest.restart();
    refuses(&stage, &login, "is not the message that was applied").await;
    stage.ingest.stop().await;

    // A new ingest counts what is there, and does not wait for what is not.
    let _second = stage.site.ingest("second");
    stage.equals_the_model(GroupMode::Hour, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_folder_has_one_ingest() {
    let (mut stage, _) = stage_with(3).await;
    let settings = stage.site.ingest_settings(&stage.site.folder("ingest"));
    for arguments in [&[][..], &["rebuild"]] {
        let folder = stage.site.folder("intruder");
        let mut second = Process::start("botstats-ingest", arguments, &settings, &folder);
        let status = second.ended(PATIENCE).await;
        assert!(!status.success(), "{arguments:?}");
        assert!(second.log().contains("ERROR"), "{}", second.log());
    }
    stage.equals_the_model(GroupMode::Day, 3).await;
    // The lock goes with the process, even if that is killed.
    stage.ingest.restart();
    stage.equals_the_model(GroupMode::Day, 3).await;
}
