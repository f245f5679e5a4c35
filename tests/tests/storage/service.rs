//! The real ingest on a damaged file and on a full disk.

use std::path::{Path, PathBuf};
use std::process::Command;

use botstats_common::io::clock;
use botstats_tests::harness::{
    Outgoing, PATIENCE, Process, Stage, Traffic, event, get, publish, run, stored, until,
};
use botstats_tests::in_process::Product;
use botstats_tests::model::GroupMode;
use serde_json::json;

fn events(from: i64, count: i64) -> Vec<Outgoing> {
    let now_ms = clock::now_ms();
    let one = |n: i64| {
        let place = ["acct-0", ["b1", "b2"][usize::try_from(n % 2).unwrap()], "web"];
        // Many conversations and users, so that the file grows.
        let data = json!({"conversationid": format!("c{n}"), "userid": format!("u{n}")});
        event(place, "message.received", now_ms - n % 10_000, &format!("n{n}"), &data)
    };
    (from..from + count).map(one).collect()
}

/// Flips a bit in every page that has something, but for the first three.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    for page in bytes.chunks_mut(4_096).skip(3) {
        if let Some(byte) = page.iter_mut().find(|byte| **byte != 0) {
            *byte ^= 16;
        }
    }
    std::fs::write(file, bytes).unwrap();
}

/// What the internal listener says of readiness, once it has that word.
async fn readiness(ingest: &Process, word: &str) -> String {
    let address = ingest.address("internal listener ready").await;
    until(&format!("readiness with {word:?}"), PATIENCE, async || {
        let answer = get(address, "/readyz", &[]).await;
        answer.text().contains(word).then(|| answer.text().to_owned())
    })
    .await
}

fn data_of(stage: &Stage) -> PathBuf {
    stage.site.folder("ingest").join("data")
}

/// What a crash would lose: an event comes every 10 ms meanwhile, so that it is never quiet.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_soon_on_the_disk() {
    let stage = Stage::start("0s", 1).await;
    let file = data_of(&stage).join("botstats.redb");
    let on_disk = |sequence: u64| {
        let file = file.clone();
        async move || {
            // A copy that is taken during a sync may not open.
            let mut copy = Product::of_file(&file, 400).ok()?;
            copy.sequence().ok().filter(|found| *found >= sequence)
        }
    };
    // For longer than the three syncs may take.
    let traffic = Traffic::start(&stage.site.js, events(0, 20_000), 100);
    for _ in 0..3 {
        let applied = stage.site.ingest_statuses().await[0].sequence;
        // In this time come fewer messages than bring about a sync by their number.
        until("a sync under load", PATIENCE / 2, on_disk(applied + 1)).await;
    }
    traffic.finish().await;
    let last = stage.site.applied(PATIENCE).await.sequence;
    until("the last sync", PATIENCE, on_disk(last)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_not_used() {
    let mut stage = Stage::start("1h", 1).await;
    publish(&stage.site.js, events(0, 2_000)).await;
    stage.site.applied(PATIENCE).await;
    let data = data_of(&stage);
    let file = data.join("botstats.redb");
    stage.ingest.stop().await;
    damage(&file);

    // It lives, says what is wrong and what to do, answers nothing and keeps the file.
    stage.ingest.restart();
    let why = readiness(&stage.ingest, "damaged").await;
    for word in ["botstats-ingest rebuild", "BOTSTATS_REBUILD_DAMAGED=true"] {
        assert!(why.contains(word), "{why}");
    }
    let address = stage.ingest.address("internal listener ready").await;
    assert_eq!(get(address, "/livez", &[]).await.status, 200);
    let metrics = get(address, "/metrics", &[]).await;
    for line in ["\nbotstats_ingest_store_damaged 1\n", "\nbotstats_ready 0\n"] {
        assert!(metrics.text().contains(line), "{}", metrics.text());
    }
    assert_eq!(stage.ask(&stage.logins[0]).await.status, 503);
    assert!(file.is_file() && !data.join("damaged.redb").exists());

    // On command: made anew from the stream. The call of before was not used up.
    stage.ingest.kill();
    let settings = stage.site.ingest_settings(&stage.site.folder("ingest"));
    let rebuilt = run("botstats-ingest", &["rebuild"], &settings);
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    stage.ingest.restart();
    stage.equals_the_model(GroupMode::Hour, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_set_aside_if_that_is_allowed() {
    let mut stage = Stage::start("0s", 1).await;
    publish(&stage.site.js, events(0, 2_000)).await;
    stage.site.applied(PATIENCE).await;
    let data = data_of(&stage);
    let file = data.join("botstats.redb");
    stage.ingest.set("BOTSTATS_REBUILD_DAMAGED", "true".to_owned());
    let garbage = |file: &Path| std::fs::write(file, "no store at all ".repeat(999)).unwrap();
    let empty = |file: &Path| std::fs::write(file, "").unwrap();
    let ways: [&dyn Fn(&Path); 3] = [&damage, &garbage, &empty];
    for (times, spoil) in (1..).zip(ways) {
        stage.ingest.stop().await;
        spoil(&file);
        stage.ingest.restart();
        stage.equals_the_model(GroupMode::Hour, 2).await;
        assert!(data.join("damaged.redb").is_file());
        let address = stage.ingest.address("internal listener ready").await;
        let metrics = get(address, "/metrics", &[]).await;
        let counted = "botstats_ingest_damaged_stores_total 1";
        assert!(metrics.text().contains(counted), "round {times}: {}", metrics.text());
        assert!(stage.ingest.log().contains("may be deleted"), "{}", stage.ingest.log());
    }
}

/// How a shell of its own mounts gets its mounts: as root, or as somebody.
fn shell_with_mounts() -> Option<Vec<&'static str>> {
    [vec!["unshare", "-m", "sh"], vec!["unshare", "-rm", "sh"]].into_iter().find(|shell| {
        let folder = tempfile::tempdir().unwrap();
        let mount = format!("mount -t tmpfs tmpfs {}", folder.path().display());
        let done = Command::new(shell[0]).args(&shell[1..]).args(["-c", &mount]).output();
        done.is_ok_and(|done| done.status.success())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_for() {
    let Some(shell) = shell_with_mounts() else {
        // The same is tried in process, at every write, in `storage.rs`.
        println!("skipped: nothing can be mounted here");
        return;
    };
    let mut stage = Stage::start("0s", 1).await;
    stage.ingest.kill();
    // A disk of its own for the ingest.
    let folder = stage.site.folder("small-disk");
    let data = folder.join("data");
    std::fs::create_dir_all(&data).unwrap();
    let script =
        format!("mount -t tmpfs -o size=8m tmpfs {} && exec \"$0\" \"$@\"", data.display());
    let settings = stage.site.ingest_settings(&folder);
    stage.ingest = Process::start_after(&shell, &script, "botstats-ingest", &settings, &folder);
    stage.equals_the_model(GroupMode::Hour, 2).await;

    // Fill it up, as seen from inside.
    let inside = PathBuf::from(format!("/proc/{}/root{}", stage.ingest.pid(), data.display()));
    let ballast = inside.join("ballast");
    let filled = Command::new("dd")
        .args(["if=/dev/zero", "bs=4k", &format!("of={}", ballast.display())])
        .output()
        .unwrap();
    assert!(!filled.status.success(), "it never filled up");
    publish(&stage.site.js, events(0, 4_000)).await;
    let why = readiness(&stage.ingest, "No space left").await;
    assert!(why.contains("store"), "{why}");
    assert_eq!(stage.ask(&stage.logins[0]).await.status, 503);
    // Still so, and alive, after it was tried again.
    let log = stage.ingest.log();
    until("another try", PATIENCE, async || (stage.ingest.log().len() > log.len()).then_some(()))
        .await;
    let address = stage.ingest.address("internal listener ready").await;
    let metrics = get(address, "/metrics", &[]).await;
    for (line, there) in [
        ("\nbotstats_ingest_store_failures_total 0\n", false),
        ("\nbotstats_ingest_store_damaged 0\n", true),
        ("\nbotstats_ingest_disk_free_bytes 0\n", true),
        ("\nbotstats_ingest_disk_size_bytes 8388608\n", true),
    ] {
        assert_eq!(metrics.text().contains(line), there, "{line}{}", metrics.text());
    }

    std::fs::remove_file(&ballast).unwrap();
    let status = stage.site.applied(PATIENCE).await;
    let all = stored(&stage.site.js).await.len() as u64;
    assert_eq!(status.events.values().sum::<u64>(), all, "{status:?}");
    stage.equals_the_model(GroupMode::Hour, 2).await;
    stage.ingest.stop().await;
}
