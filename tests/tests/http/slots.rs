//! Reads where streams have slots: whom a query asks, and what the accounts of a slot get whose
//! ingest is away, while the others ask.

use std::time::Duration;

use botstats_common::io::{clock, stop};
use botstats_common::names::{DIRECTORY_BUCKET, read_subject_at};
use botstats_common::slot::{Slot, Slots};
use botstats_common::wire::{self, Frame, overview};
use botstats_tests::harness::{
    Answer, Behaviour, PATIENCE, Peer, Query, Site, account_entry, becomes, event, get, get_as,
    metric, publish, statuses, until,
};
use botstats_tests::spread::{Spread, name};
use futures::StreamExt as _;
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The messages of all bots in one day.
const PATH: &str = "/analytics/statistics/account/*/13/day/1";
/// What the page shows first of an account.
const PAGE: &str = "/dashboard/now";
const ABSENT: &str = "botstats_query_absent_slots";
/// A 503 is promised within this time.
const SOON: Duration = Duration::from_secs(2);
/// What a loaded machine may add to it.
const SLACK: Duration = Duration::from_millis(500);

/// An account with a slot among these.
fn account_in(slots: &str, number: usize) -> String {
    let slots: Slots = slots.parse().unwrap();
    let names = (0..).map(|n| format!("acct-{n}"));
    let mut fitting = names.filter(|name| slots.contains(Slot::of_token(name)));
    fitting.nth(number).unwrap()
}

fn token(account: &str) -> String {
    format!("token-of-{account}")
}

async fn ask(query: &Query, account: &str) -> Answer {
    get_as(&token(account), query.http, PATH, &[]).await
}

/// Asks for the account, which must get 503 in time.
async fn gets_503(query: &Query, account: &str) {
    let began = clock::monotonic();
    let answer = ask(query, account).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "unavailable"), "{answer:?}");
    assert_eq!(answer.retry_after(), Some(2));
    assert!(began.elapsed() < SOON + SLACK, "{:?}", began.elapsed());
}

/// Waits until this number of slots have no ingest.
async fn absent(query: &Query, slots: u32) {
    until(&format!("{slots} slots without an ingest"), PATIENCE, async || {
        (metric(query.internal, ABSENT).await == f64::from(slots)).then_some(())
    })
    .await;
}

/// A query that knows these accounts, and does not throttle.
async fn query_of(site: &Site, accounts: &[String]) -> Query {
    for account in accounts {
        site.put(&format!("account.{account}"), &account_entry(&token(account))).await;
    }
    for bot in ["b1", "b2"] {
        site.put(&format!("bot.{}.{bot}", accounts[0]), &json!({})).await;
    }
    let query = site.query("query").await;
    query.ready().await;
    // Whoever knows the last one knows the others.
    let last = accounts.last().unwrap();
    becomes(query.http, &token(last), &PATH.replace("/13/", "/x/"), 400).await;
    query
}

/// A client that asks for an account all the time, and must get a 200 each time.
struct Asking {
    stop: CancellationToken,
    task: JoinHandle<usize>,
}

impl Asking {
    fn start(query: &Query, account: &str) -> Self {
        let (stop, http, token) = (CancellationToken::new(), query.http, token(account));
        let stopped = stop.clone();
        let task = stop::spawn(async move {
            let mut answers = 0;
            while !stopped.is_cancelled() {
                let answer = get_as(&token, http, PATH, &[]).await;
                assert_eq!(answer.status, 200, "{token}: {answer:?}");
                answers += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            answers
        });
        Self { stop, task }
    }

    async fn finish(self) {
        self.stop.cancel();
        let answers = self.task.await.unwrap();
        assert!(answers >= 10, "{answers} answers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subject_follows_what_ingests_say() {
    let site = Site::start("0s").await;
    let old = Peer::start(&site, Behaviour::Good).await;
    let query = query_of(&site, &["acme".to_owned()]).await;
    for _ in 0..5 {
        assert_eq!(ask(&query, "acme").await.status, 200);
    }
    let without_slot = |peer: &Peer| peer.subjects().iter().all(|s| s == "botstats.read.v1.acme");
    assert!(without_slot(&old) && old.reads() == 5, "{:?}", old.subjects());
    assert_eq!(metric(query.internal, ABSENT).await, 0.0);

    // An ingest that names slots comes, and takes over while somebody asks.
    let asking = Asking::start(&query, "acme");
    let new = Peer::start_for(&site, Behaviour::Good, "0-255").await;
    let with_slot = "botstats.read.v2.175.acme";
    until("reads with a slot", PATIENCE, async || {
        new.subjects().iter().any(|s| s == with_slot).then_some(())
    })
    .await;
    let (before, taken) = (new.reads(), old.reads());
    until("many reads with a slot", PATIENCE, async || (new.reads() >= before + 50).then_some(()))
        .await;
    assert!(new.subjects()[before..].iter().all(|s| s == with_slot), "{:?}", new.subjects());
    assert!(old.reads() <= taken + 1, "{} of {taken}", old.reads());
    assert!(without_slot(&old), "{:?}", old.subjects());
    drop(old);
    // Its slots go to two.
    let halves = [
        Peer::start_for(&site, Behaviour::Good, "0-127").await,
        Peer::start_for(&site, Behaviour::Good, "128-255").await,
    ];
    drop(new);
    until("reads of the half", PATIENCE, async || (halves[1].reads() >= 20).then_some(())).await;
    asking.finish().await;
    assert_eq!(halves[0].reads(), 0);
    absent(&query, 0).await;

    // An older version of the ingest is put back.
    drop(halves);
    let old = Peer::start(&site, Behaviour::Good).await;
    becomes(query.http, &token("acme"), PATH, 200).await;
    assert!(without_slot(&old), "{:?}", old.subjects());
    absent(&query, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_without_an_ingest_are_told_and_cost_others_nothing() {
    let site = Site::start("0s").await;
    let (here, gone) = (account_in("0-63", 0), account_in("64-255", 0));
    // More than may ask NATS at the same time.
    let crowd: Vec<String> = (1..=300).map(|n| account_in("64-255", n)).collect();
    let _one = Peer::start_for(&site, Behaviour::Good, "0-63").await;
    let other = Peer::start_for(&site, Behaviour::Good, "64-255").await;
    let accounts = [vec![here.clone(), gone.clone()], crowd.clone()].concat();
    let query = query_of(&site, &accounts).await;
    for account in [&here, &gone] {
        assert_eq!(ask(&query, account).await.status, 200);
    }
    assert_eq!(metric(query.internal, ABSENT).await, 0.0);

    let asking = Asking::start(&query, &here);
    drop(other);
    gets_503(&query, &gone).await;
    absent(&query, 192).await;
    let statuses = site.statuses().await;
    let status = statuses.iter().find(|status| status.program == "query").unwrap();
    assert!(status.ready && status.missing.is_empty(), "{status:?}");
    assert_eq!(status.limited["slots"], "no ingest answers for the slots 64-255");
    assert_eq!(get(query.internal, "/readyz", &[]).await.status, 200);
    assert_eq!(get(query.http, "/healthz", &[]).await.status, 200);
    for _ in 0..3 {
        join_all(crowd.iter().map(|account| gets_503(&query, account))).await;
    }
    asking.finish().await;

    let _another = Peer::start_for(&site, Behaviour::Good, "64-255").await;
    becomes(query.http, &token(&gone), PATH, 200).await;
    absent(&query, 0).await;
    query.process.logged("slots is there").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_ingest_is_replaced_only_by_one_with_its_slots() {
    let site = Site::start("0s").await;
    let (low, high) = (account_in("0-127", 0), account_in("128-255", 0));
    let one = Peer::start_for(&site, Behaviour::Good, "0-127").await;
    let _frozen = Peer::start_for(&site, Behaviour::Frozen, "128-255").await;
    let query = query_of(&site, &[low.clone(), high.clone()]).await;
    let asking = Asking::start(&query, &low);
    gets_503(&query, &high).await;
    absent(&query, 128).await;
    gets_503(&query, &high).await;
    assert!(one.subjects().iter().all(|s| s.ends_with(&low)), "{:?}", one.subjects());
    assert!(!query.process.log().contains("an ingest is silent"));

    // A twin of the frozen one is asked alone, about its slots only.
    let twin = Peer::start_for(&site, Behaviour::Good, "128-255").await;
    until("reads that only the twin is asked", PATIENCE, async || {
        assert_eq!(ask(&query, &high).await.status, 200);
        twin.subjects().iter().any(|s| s.starts_with("botstats.read.v1.peer")).then_some(())
    })
    .await;
    let before = one.reads();
    until("reads of the other", PATIENCE, async || (one.reads() > before + 5).then_some(())).await;
    asking.finish().await;
    assert!(one.subjects()[before..].iter().all(|s| s.starts_with("botstats.read.v2.")));
    absent(&query, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_ingest_refuses_is_never_empty() {
    let site = Site::start("1h").await;
    let refusing = Peer::start_for(&site, Behaviour::Refusing, "0-255").await;
    let query = query_of(&site, &["acme".to_owned()]).await;
    gets_503(&query, "acme").await;
    drop(refusing);
    // The call was not used.
    let _good = Peer::start_for(&site, Behaviour::Good, "0-255").await;
    until("an answer", PATIENCE, async || {
        let answer = ask(&query, "acme").await;
        assert_ne!(answer.status, 429);
        (answer.status == 200).then_some(())
    })
    .await;
}

/// Streams of 64 slots each, and a server that spreads events over them.
struct Streams(Spread);

/// The slots of each stream.
const SLOTS: [&str; 4] = ["0-63", "64-127", "128-191", "192-255"];

impl Streams {
    async fn start() -> Self {
        Self(Spread::start(SLOTS.len(), false).await)
    }

    /// Waits until each ingest has applied what its stream holds.
    async fn applied(&self) {
        for (number, slots) in (1..).zip(SLOTS) {
            let name = name(number);
            let mut stream = self.0.js.get_stream(&name).await.unwrap();
            let last = stream.info().await.unwrap().state.last_sequence;
            until(&format!("sequence {last} of {name} applied"), PATIENCE, async || {
                let statuses = statuses(&self.0.client).await;
                let mut ingests = statuses.into_iter().filter(|s| s.ready);
                ingests.find(|status| {
                    let Some(ingest) = &status.ingest else { return false };
                    let slots = slots.parse::<Slots>().unwrap();
                    ingest.stream == name && ingest.slots == Some(slots) && ingest.sequence >= last
                })
            })
            .await;
        }
    }

    /// Puts an account into the directory, and publishes events of it.
    async fn add(&self, account: &str, events: usize) {
        let bucket = self.0.js.get_key_value(DIRECTORY_BUCKET).await.unwrap();
        let entry = account_entry(&token(account)).to_string();
        bucket.put(format!("account.{account}"), entry.into()).await.unwrap();
        bucket.put(format!("bot.{account}.b1"), "{}".into()).await.unwrap();
        let event = |n: usize| {
            let place = [account, "b1", "web"];
            event(place, "message.received", clock::now_ms(), &n.to_string(), &json!({}))
        };
        publish(&self.0.js, (0..events).map(event)).await;
    }

    /// The ids of the NATS services of all ingests, with their slots.
    async fn ids(&self) -> Vec<(String, Slots)> {
        let inbox = self.0.client.new_inbox();
        let mut pongs = self.0.client.subscribe(inbox.clone()).await.unwrap();
        let ping = "$SRV.PING.botstats-ingest";
        self.0.client.publish_with_reply(ping, inbox, "".into()).await.unwrap();
        let mut all = Vec::new();
        while let Ok(Some(pong)) = timeout(Duration::from_millis(500), pongs.next()).await {
            let pong: Value = serde_json::from_slice(&pong.payload).unwrap();
            let slots = pong["metadata"]["slots"].as_str().unwrap().parse().unwrap();
            all.push((pong["id"].as_str().unwrap().to_owned(), slots));
        }
        all
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_four_is_killed() {
    let streams = Streams::start().await;
    let accounts = SLOTS.map(|slots| account_in(slots, 0));
    for account in &accounts {
        streams.add(account, 3).await;
    }
    let mut ingests = [1, 2, 3, 4].map(name).map(|name| streams.0.ingest(&name, &name));
    streams.applied().await;
    let settings = [("NATS_URL", streams.0.nats.url())];
    let query = Query::start(&settings, "0s", &streams.0.folder.path().join("query")).await;
    query.ready().await;
    for account in &accounts {
        let answer = becomes(query.http, &token(account), PATH, 200).await;
        assert_eq!(answer.json()[0]["Value"], 3);
    }
    absent(&query, 0).await;

    // A stranger refuses, whatever the subject.
    let ids = streams.ids().await;
    assert_eq!(ids.len(), 4, "{ids:?}");
    for (id, slots) in &ids {
        for account in &accounts {
            let frames = asked_alone(&streams.0.client, id, account).await;
            let owned = slots.contains(Slot::of_token(account));
            let refused = matches!(&frames[..], [Frame::Refused(why)] if why.contains("slot"));
            assert_eq!(refused, !owned, "{id} of {slots:?} about {account}: {frames:?}");
        }
    }

    // The others are asked all the time while one is killed.
    let others = [0, 1, 3].map(|n| &accounts[n]);
    let asking = others.map(|account| Asking::start(&query, account));
    ingests[2].kill();
    for _ in 0..5 {
        gets_503(&query, &accounts[2]).await;
        let page = async |account: &str| get_as(&token(account), query.http, PAGE, &[]).await;
        assert_eq!(page(&accounts[2]).await.status, 503);
        for account in others {
            let page = page(account).await;
            assert_eq!(page.status, 200, "{page:?}");
        }
        assert_eq!(get(query.internal, "/readyz", &[]).await.status, 200);
    }
    absent(&query, 64).await;
    ingests[2].restart();
    until("an answer", PATIENCE, async || {
        let answer = ask(&query, &accounts[2]).await;
        assert!(answer.status != 200 || answer.json()[0]["Value"] == 3, "{answer:?}");
        (answer.status == 200).then_some(())
    })
    .await;
    absent(&query, 0).await;
    for one in asking {
        one.finish().await;
    }
}

/// Asks one ingest what the account has; gives its frames up to the last.
async fn asked_alone(client: &async_nats::Client, id: &str, account: &str) -> Vec<Frame> {
    let request = overview::Request {
        request_id: "alone".to_owned(),
        bots: None,
        now_ms: clock::now_ms(),
        deadline_ms: 5_000,
    };
    let subject = read_subject_at(id, &account.parse().unwrap());
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.unwrap();
    let payload = wire::encode_as(overview::VERSION, &request).unwrap();
    client.publish_with_reply(subject, inbox, payload.into()).await.unwrap();
    let mut frames = Vec::new();
    loop {
        let message = timeout(PATIENCE, answers.next()).await.unwrap().unwrap();
        let frame = wire::decode(&message.payload).unwrap();
        let goes_on = match &frame {
            Frame::Accepted { .. } => true,
            Frame::Overview(part) => !part.last,
            _ => false,
        };
        frames.push(frame);
        if !goes_on {
            return frames;
        }
    }
}
