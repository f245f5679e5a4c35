//! The query service beside a peer that speaks an ingest's part of the wire, well or badly: what a
//! call costs, and what it gets when the peer, NATS or the throttle's bucket is not there.

use std::time::Duration;

use async_nats::jetstream::kv::Operation;
use botstats_common::ids::Account;
use botstats_common::io::clock;
use botstats_common::io::setup::{self, Shape};
use botstats_common::names::{DIRECTORY_BUCKET, THROTTLE_BUCKET};
use botstats_common::secret::SecretHash;
use botstats_query::{Allowance, AllowanceKey, Claims, Connection, Outcome, Standing};
use botstats_tests::harness::{
    Answer, Behaviour, PATIENCE, Peer, Process, Query, Site, account_entry, becomes, get_as,
    not_ready, signal, until,
};
use futures::future::join_all;
use serde_json::{Value, json};

/// The messages of all bots in one day.
const PATH: &str = "/analytics/statistics/account/*/13/day/1";

/// Asks with the token of the account `acme`.
async fn ask(query: &Query, path: &str) -> Answer {
    get_as("token-of-acme", query.http, path, &[]).await
}

async fn ask_other(query: &Query) -> Answer {
    get_as("token-of-other", query.http, PATH, &[]).await
}

fn removed(mut entry: Value) -> Value {
    entry["removed"] = true.into();
    entry
}

/// Writes the directory: `acme` (bots b1 with key key-of-b1, b2 with key-of-b2) and `other`.
async fn fill_directory(site: &Site) {
    let bot = |name, key| json!({"name": name, "key_sha256": String::from(SecretHash::of(key))});
    for (key, entry) in [
        ("account.acme", account_entry("token-of-acme")),
        ("bot.acme.b1", bot("Pizza", "key-of-b1")),
        ("bot.acme.b2", bot("Taxi", "key-of-b2")),
        // The last: whoever knows it knows the others.
        ("account.other", account_entry("token-of-other")),
    ] {
        site.put(key, &entry).await;
    }
}

/// A query service that is ready.
async fn ready(site: &Site, name: &str) -> Query {
    let query = site.query(name).await;
    query.ready().await;
    query
}

/// A server with a directory, a peer, and a query that is ready and knows the directory.
async fn all(window: &str, behaviour: Behaviour) -> (Query, Peer, Site) {
    let site = Site::start(window).await;
    let peer = Peer::start(&site, behaviour).await;
    fill_directory(&site).await;
    let query = ready(&site, "first").await;
    becomes(query.http, "token-of-other", "/analytics/statistics/account/!/x/x/x", 400).await;
    (query, peer, site)
}

async fn stopped(process: &mut Process) {
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_an_account_a_window() {
    let (mut query, _peer, site) = all("5s", Behaviour::Good).await;
    let mut second = ready(&site, "second").await;

    let first = ask(&query, PATH).await;
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
        assert_eq!(first.header(name).as_deref(), Some(value), "{name}");
    }

    // The same replica remembers; another one asks NATS. Both tell a wait that is long enough.
    let refused = async |query: &Query| {
        let refused = ask(query, PATH).await;
        assert_eq!((refused.status, refused.problem().as_str()), (429, "throttled"));
        let wait = refused.retry_after().unwrap();
        assert!((1..=6).contains(&wait), "{wait}");
        let limit = refused.header("ratelimit").unwrap();
        assert_eq!(limit, format!("\"account\";r=0;t={wait}"));
        wait
    };
    for query in [&query, &second, &query] {
        refused(query).await;
    }
    let wait = refused(&second).await;
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(ask(&second, PATH).await.status, 200);
    assert_eq!(ask(&query, PATH).await.status, 429);

    // Another account has its own.
    assert_eq!(ask_other(&query).await.status, 200);
    stopped(&mut query.process).await;
    stopped(&mut second.process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_call_costs_a_replica_one_read_at_most() {
    let (first, peer, site) = all("1h", Behaviour::Good).await;
    let second = ready(&site, "second").await;
    assert_eq!(ask(&first, PATH).await.status, 200);
    assert_eq!(peer.reads(), 1);
    for _ in 0..20 {
        for query in [&second, &first] {
            assert_eq!(ask(query, PATH).await.status, 429);
        }
    }
    assert!(peer.reads() <= 2, "{} reads", peer.reads());
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_those_of_the_zone_that_stands_in_nats() {
    let (query, peer, site) = all("0s", Behaviour::Good).await;
    // What is in memory may be older at each of them: a read was then sent for other groups.
    for (asked, (zone, midnight)) in
        (1..).zip([("Asia/Tokyo", "T15:00:00Z"), ("UTC", "T00:00:00Z")].repeat(15))
    {
        let mut entry = account_entry("token-of-acme");
        entry["timezone"] = zone.into();
        site.put("account.acme", &entry).await;
        let answer = ask(&query, PATH).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let start = answer.json()[0]["GroupStart"].as_str().unwrap().to_owned();
        assert!(start.ends_with(midnight), "{start} in {zone}");
        assert!(peer.reads() >= asked);
    }
    println!("{} reads for 30 answers", peer.reads());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_calls_exactly_one_is_served() {
    let (first, _peer, site) = all("1h", Behaviour::Good).await;
    let second = ready(&site, "second").await;
    let racing = (0..40).map(|i| ask(if i % 2 == 0 { &first } else { &second }, PATH));
    let mut statuses: Vec<u16> =
        join_all(racing).await.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    let mut expected = vec![429; 40];
    expected[0] = 200;
    assert_eq!(statuses, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_costs_no_call() {
    let (query, silent, site) = all("1h", Behaviour::Silent).await;
    let unavailable = async || {
        let answer = ask(&query, PATH).await;
        assert_eq!((answer.status, answer.problem().as_str()), (503, "unavailable"));
        assert_eq!(answer.retry_after(), Some(2));
    };
    unavailable().await;
    drop(silent);
    unavailable().await;
    not_ready(query.internal, "ingest").await;
    let refusing = Peer::start(&site, Behaviour::Refusing).await;
    unavailable().await;
    drop(refusing);
    // The first ingest sends too much; the second counts the size and announces `TooLarge` at once.
    for behaviour in [Behaviour::Endless, Behaviour::TooLarge] {
        let _peer = Peer::start(&site, behaviour).await;
        let hours = "/analytics/statistics/account/*/13/hour/30";
        let answer =
            until(&format!("an answer of one that is {behaviour:?}"), PATIENCE, async || {
                Some(ask(&query, hours).await).filter(|answer| answer.status != 503)
            })
            .await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "answer-too-large"));
    }
    // A lost chunk is asked for again.
    let _losing = Peer::start(&site, Behaviour::Losing).await;
    query.ready().await;
    let served = until("an answer", PATIENCE, async || {
        Some(ask(&query, PATH).await).filter(|answer| answer.status != 503)
    });
    assert_eq!(served.await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_is_read_again_before_an_answer() {
    let (query, _peer, site) = all("0s", Behaviour::Good).await;
    let key = "/analytics/statistics/account/key-of-b1/13/day/1";
    let served = ask(&query, key).await;
    let rows = served.json();
    assert_eq!((rows.as_array().unwrap().len(), &rows[0]["BotName"]), (1, &json!("Pizza")));
    // Not one answer after the write is acknowledged.
    let another = String::from(SecretHash::of("a-new-key"));
    site.put("bot.acme.b1", &json!({"name": "Pizza", "key_sha256": another})).await;
    assert_eq!(ask(&query, key).await.status, 404);
    let good = account_entry("token-of-acme");
    site.put("account.acme", &account_entry("another")).await;
    let revoked = ask(&query, PATH).await;
    assert_eq!(revoked.status, 401);
    let invalid = "Bearer realm=\"botstats\", error=\"invalid_token\"";
    assert_eq!(revoked.header("www-authenticate").as_deref(), Some(invalid));
    site.put("account.acme", &good).await;
    becomes(query.http, "token-of-acme", PATH, 200).await;
    // A bad value leaves the last good one.
    site.put("account.acme", &json!("nonsense")).await;
    assert_eq!(ask(&query, PATH).await.status, 200);
    let second = ready(&site, "second").await;
    assert_eq!(ask(&second, PATH).await.status, 200, "a replica that starts later");
    site.put("account.acme", &removed(good)).await;
    assert_eq!(ask(&query, PATH).await.status, 404);
    let directory = site.js.get_key_value(DIRECTORY_BUCKET).await.unwrap();
    directory.delete("account.acme").await.unwrap();
    // The copy in memory may still have the tombstone for a moment.
    becomes(query.http, "token-of-acme", PATH, 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_throttles_bucket_nobody_is_served() {
    let (query, _peer, site) = all("1h", Behaviour::Good).await;
    site.js.delete_stream("KV_botstats_throttle").await.unwrap();
    assert_eq!(ask(&query, PATH).await.status, 503);
    not_ready(query.internal, "throttle").await;
    assert_eq!(ask(&query, PATH).await.status, 503);
    let hour = Duration::from_secs(3_600);
    setup::calls_bucket(&site.js, THROTTLE_BUCKET, hour, Shape::default()).await.unwrap();
    query.ready().await;
    assert_eq!(ask(&query, PATH).await.status, 200);
    assert_eq!(ask(&query, PATH).await.status, 429);
    // An administrator gives the call back: another replica serves it.
    site.js.get_key_value(THROTTLE_BUCKET).await.unwrap().delete("acme").await.unwrap();
    let second = ready(&site, "second").await;
    assert_eq!(ask(&second, PATH).await.status, 200);
    assert_eq!(ask(&second, PATH).await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_unknown_outcome_is_taken_back() {
    let site = Site::start("1h").await;
    let allowance = Allowance::of_accounts(Duration::from_secs(3_600)).unwrap();
    let claims = Claims::new(Connection::new(site.client.clone(), None), allowance);
    claims.set_usable(true);
    let acme = AllowanceKey::from(&"acme".parse::<Account>().unwrap());
    let soon = || clock::monotonic() + Duration::from_millis(500);
    let server = site.nats.pid().unwrap();
    let stands_still = async || {
        signal(server, "STOP");
        until("the server to stand still", PATIENCE, async || {
            claims.look(&acme, soon()).await.err()
        })
        .await;
    };
    assert_eq!(claims.look(&acme, soon()).await, Ok(Standing::Free(0)));
    stands_still().await;
    assert!(claims.claim(&acme, 0, soon()).await.is_err());
    signal(server, "CONT");
    // It arrives after all, and goes.
    let kv = site.js.get_key_value(THROTTLE_BUCKET).await.unwrap();
    let revision = until("the claim taken back", PATIENCE, async || {
        let entry = kv.entry("acme").await.ok()??;
        (entry.operation == Operation::Delete).then_some(entry.revision)
    })
    .await;
    let standing = claims.look(&acme, soon()).await.unwrap();
    assert_eq!(standing, Standing::Free(revision));
    // A program that stops does it before it ends.
    stands_still().await;
    assert!(claims.claim(&acme, revision, soon()).await.is_err());
    signal(server, "CONT");
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
    let mut site = Site::start("1h").await;
    fill_directory(&site).await;
    site.nats.kill();
    // Started before there is a server at all.
    let mut query = site.query("query").await;
    not_ready(query.internal, "nats").await;
    assert_eq!(get_as("", query.http, PATH, &[]).await.status, 401);
    assert_eq!(ask(&query, PATH).await.status, 503);
    site.nats.restart().unwrap();
    let peer = Peer::start(&site, Behaviour::Good).await;
    query.ready().await;
    let status = site.statuses().await.pop().unwrap();
    assert_eq!((status.program.as_str(), status.ready), ("query", true));
    becomes(query.http, "token-of-acme", PATH, 200).await;

    drop(peer);
    site.nats.kill();
    not_ready(query.internal, "nats").await;
    assert_eq!(ask(&query, PATH).await.status, 429, "still remembered");
    assert_eq!(ask_other(&query).await.status, 503);
    site.nats.restart().unwrap();
    let _peer = Peer::start(&site, Behaviour::Good).await;
    query.ready().await;
    // What was asked while NATS was away did not use the call.
    until("an answer", PATIENCE, async || {
        let status = ask_other(&query).await.status;
        assert_ne!(status, 429);
        (status == 200).then_some(())
    })
    .await;
    stopped(&mut query.process).await;
}
