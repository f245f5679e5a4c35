//! An ingest whose stream took its slots from another one: it follows that one before the fence,
//! goes through the fence, and on in its own stream.

use std::path::Path;
use std::sync::LazyLock;

use botstats_common::io::clock;
use botstats_common::lineage::{Fence, StreamIdentity, first_sequence_after};
use botstats_common::names::EVENTS_STREAM;
use botstats_common::slot::{Slot, Slots};
use botstats_common::status::IngestStatus;
use botstats_ingest::testing::{Contents, Engine, Message as Incoming};
use botstats_tests::harness::{
    Outgoing, PATIENCE, Process, Site, copy, event, not_ready, publish, until,
};
use botstats_tests::spread::{self, listen};
use serde_json::json;

const CHILD: &str = "BOTSTATS_EVENTS_B";
/// Those whose slots the child gets.
const MOVED: [&str; 2] = ["acct-0", "acct-1"];
const ACCOUNTS: [&str; 4] = ["acct-0", "acct-1", "acct-2", "acct-3"];
const KEEP_DAYS: u32 = 400;

fn moved() -> Slots {
    MOVED.map(Slot::of_token).into_iter().collect()
}

/// An event of each account.
fn events(number: i64) -> Vec<Outgoing> {
    static TIME_MS: LazyLock<i64> = LazyLock::new(|| clock::now_ms() - 1_000);
    let of = |account: &&str| {
        let id = format!("n{number}");
        let place = [*account, "b1", "web"];
        let (subject, headers, payload) =
            event(place, "message.received", *TIME_MS, &id, &json!({}));
        let slot = Slot::of_token(account);
        (subject.replacen("events", &format!("slot.{slot}"), 1), headers, payload)
    };
    ACCOUNTS.iter().map(of).collect()
}

/// A site whose stream of events has slots.
async fn site() -> Site {
    let site = Site::start("0s").await;
    listen(&site.js, EVENTS_STREAM, Slots::ALL).await;
    site
}

async fn make_child(site: &Site, slots: Slots) -> StreamIdentity {
    spread::make_child(&site.js, EVENTS_STREAM, CHILD, slots).await
}

async fn fence(site: &Site, slots: Slots, to: StreamIdentity) {
    spread::store_fence(&site.js, EVENTS_STREAM, Fence { slots, to }).await;
}

fn child_ingest(site: &Site, name: &str) -> Process {
    site.ingest_of(CHILD, name)
}

fn rebuild(site: &Site, name: &str) -> Process {
    let folder = site.folder(name);
    let mut settings = site.ingest_settings(&folder);
    settings.push(("BOTSTATS_STREAM", CHILD.to_owned()));
    Process::start("botstats-ingest", &["rebuild"], &settings, &folder)
}

/// Waits for an ingest of the stream whose status is as wanted.
async fn status(
    site: &Site,
    what: &str,
    stream: &str,
    wanted: impl Fn(&IngestStatus) -> bool,
) -> IngestStatus {
    until(what, PATIENCE, async || {
        let all = site.statuses().await;
        let ready = all.into_iter().filter(|status| status.ready);
        ready.filter_map(|status| status.ingest).find(|s| s.stream == stream && wanted(s))
    })
    .await
}

fn accepted(status: &IngestStatus) -> u64 {
    status.events.get("accepted").copied().unwrap_or_default()
}

/// What the store in a folder holds of these accounts.
fn contents(folder: &Path) -> Contents {
    let engine = Engine::open(&folder.join("data"), KEEP_DAYS).unwrap();
    let mut contents = engine.store().snapshot().unwrap().contents().unwrap();
    contents.pairs.retain(|(account, ..), _| MOVED.contains(&account.as_str()));
    contents
}

/// What the store of one stream with these messages would hold of the moved accounts.
fn uncut(messages: &[Outgoing]) -> Contents {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::open(folder.path(), KEEP_DAYS).unwrap();
    let stored_ns = clock::now_ms() * 1_000_000;
    let is_moved = |subject: &str| MOVED.iter().any(|account| subject.contains(account));
    let messages: Vec<Incoming<'_>> = (1..)
        .zip(messages.iter().filter(|(subject, ..)| is_moved(subject)))
        .map(|(sequence, (subject, _, payload))| Incoming {
            sequence,
            stored_ns,
            subject,
            headers: None.into(),
            payload,
        })
        .collect();
    engine.apply(&messages).unwrap();
    engine.store().snapshot().unwrap().contents().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_follows_its_parent_and_goes_on_alone() {
    let site = site().await;
    let mut all = Vec::new();
    let mut say = async |numbers: std::ops::Range<i64>| {
        let said: Vec<Outgoing> = numbers.flat_map(events).collect();
        all.extend(said.clone());
        publish(&site.js, said).await;
        all.clone()
    };
    say(0..10).await;
    let mut parent = site.ingest("parent");
    let of_all = status(&site, "the parent's ingest", EVENTS_STREAM, |s| accepted(s) == 40).await;
    assert_eq!((of_all.slots, of_all.reads), (Some(Slots::ALL), None));

    // Before the fence: the child's ingest counts its slots in the parent.
    let child = make_child(&site, moved()).await;
    let mut ingest = child_ingest(&site, "child");
    let follows = |number| {
        move |s: &IngestStatus| s.reads.as_deref() == Some(EVENTS_STREAM) && accepted(s) == number
    };
    let of_child = status(&site, "it follows", CHILD, follows(20)).await;
    assert_eq!((of_child.slots, of_child.lag_messages), (Some(moved()), 0));
    // The last message is a foreign one: it is done, too.
    assert_eq!(of_child.sequence, 40);
    ingest.restart();
    say(10..12).await;
    status(&site, "it follows after a restart", CHILD, follows(24)).await;

    // A copy of the parent's store is a store of the child.
    parent.stop().await;
    std::fs::create_dir(site.folder("copied")).unwrap();
    copy(&site.folder("parent").join("data"), &site.folder("copied").join("data"));
    parent.restart();
    let mut copied = child_ingest(&site, "copied");
    status(&site, "the copy follows", CHILD, |s| accepted(s) == 48).await;

    // The split, with one event that a defect lets through behind the fence.
    fence(&site, moved(), child).await;
    say(12..13).await;
    listen(&site.js, EVENTS_STREAM, Slots::ALL.difference(moved())).await;
    listen(&site.js, CHILD, moved()).await;
    let stays = status(&site, "the parent gave the slots away", EVENTS_STREAM, |s| {
        s.slots == Some(Slots::ALL.difference(moved())) && accepted(s) == 50
    })
    .await;
    assert_eq!(stays.dead_letters.get("stray"), Some(&2), "{stays:?}");
    let alone = |s: &IngestStatus| s.reads.is_none() && s.lag_messages == 0;
    let of_child =
        status(&site, "the child's stream is read", CHILD, |s| alone(s) && accepted(s) == 24).await;
    assert_eq!(of_child.sequence, first_sequence_after(1) - 1, "an empty stream is no lag");
    assert_eq!(of_child.slots, Some(moved()));
    // At the fence a restart is nothing special.
    ingest.restart();
    status(&site, "an empty stream after a restart", CHILD, |s| alone(s) && accepted(s) == 24)
        .await;

    // The strays again, as an operator publishes them, and more; all twice.
    say(12..20).await;
    let said = say(12..20).await;
    status(&site, "the child goes on", CHILD, |s| alone(s) && accepted(s) == 40).await;
    ingest.restart();
    status(&site, "it goes on after a restart", CHILD, |s| alone(s) && accepted(s) == 40).await;
    status(&site, "so does the copy", CHILD, |s| alone(s) && accepted(s) == 64).await;

    // A new ingest, and a rebuild, read both streams.
    let mut late = child_ingest(&site, "late");
    late.logged("answering reads").await;
    for process in [&mut ingest, &mut copied, &mut late] {
        process.stop().await;
    }
    let wanted = uncut(&said);
    for name in ["child", "copied", "late"] {
        assert!(contents(&site.folder(name)) == wanted, "{name}");
    }
    let mut rebuild = rebuild(&site, "late");
    assert!(rebuild.ended(PATIENCE).await.success(), "{}", rebuild.log());
    assert!(contents(&site.folder("late")) == wanted);
}

/// Waits until the ingest is not ready for that reason.
async fn refuses(ingest: &Process, because: &str) {
    not_ready(ingest.address("internal listener ready").await, because).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_went_elsewhere_are_refused() {
    let site = site().await;
    publish(&site.js, events(0)).await;
    make_child(&site, moved()).await;
    let follower = child_ingest(&site, "child");
    status(&site, "the child's ingest", CHILD, |s| accepted(s) == 2).await;
    let other = StreamIdentity { name: "BOTSTATS_EVENTS_C".to_owned(), created_ns: 5 };
    fence(&site, moved(), other).await;
    refuses(&follower, "gave the slots").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_chain_is_refused() {
    let site = site().await;
    publish(&site.js, events(0)).await;
    let none = child_ingest(&site, "none");
    refuses(&none, "botstats cells split").await;
    drop(none);
    assert!(site.js.get_stream(CHILD).await.is_err(), "an ingest makes no other stream");

    let child = make_child(&site, moved()).await;
    let mut parent = site.ingest("parent");
    status(&site, "the parent's ingest", EVENTS_STREAM, |s| accepted(s) == 4).await;
    let mut follower = child_ingest(&site, "child");
    status(&site, "the child's ingest", CHILD, |s| accepted(s) == 2).await;

    // The store of the child is none of the parent's.
    follower.stop().await;
    let wrong = site.ingest_of(EVENTS_STREAM, "child");
    refuses(&wrong, "only events of the slots").await;
    drop(wrong);

    // The parent's store past the fence is none of the child's.
    fence(&site, moved(), child).await;
    publish(&site.js, events(2).split_off(MOVED.len())).await;
    status(&site, "the parent is past the fence", EVENTS_STREAM, |s| accepted(s) == 6).await;
    parent.stop().await;
    std::fs::create_dir(site.folder("copied")).unwrap();
    copy(&site.folder("parent").join("data"), &site.folder("copied").join("data"));
    let copied = child_ingest(&site, "copied");
    refuses(&copied, "past the message").await;
    drop(copied);

    // The parent was made again: neither the store nor a rebuild goes on.
    site.js.delete_stream(EVENTS_STREAM).await.unwrap();
    let missing = child_ingest(&site, "child");
    refuses(&missing, "which is missing").await;
    drop(missing);
    site.make_stream().await;
    let again = child_ingest(&site, "child");
    refuses(&again, "another stream BOTSTATS_EVENTS").await;
    drop(again);
    let mut rebuild = rebuild(&site, "child");
    assert!(!rebuild.ended(PATIENCE).await.success());
    assert!(rebuild.log().contains("the stream is refused"), "{}", rebuild.log());
}
