//! What has a limit in seconds ends soon after it.

use std::time::Duration;

use botstats_common::io::clock;
use botstats_tests::harness::{
    ALL, Behaviour, Peer, Query, Roles, Site, becomes, get_as, ready, turn,
};
use botstats_tests::model::Directory;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A 503 must come within two seconds and a margin, at the fastest of three calls.
const PROMPT: Duration = Duration::from_millis(2_300);
/// A program that lacks a right must report it within this time.
const DENIED: Duration = Duration::from_secs(10);

async fn unavailable(query: &Query, token: &str, case: &str) {
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        let began = clock::monotonic();
        assert_eq!(get_as(token, query.http, ALL, &[]).await.status, 503, "{case}");
        fastest = fastest.min(began.elapsed());
    }
    assert!(fastest < PROMPT, "{case}: {fastest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_cannot_be_answered_is_refused_in_time() {
    let _turn = turn().await;
    let mut site = Site::start("1h").await;
    let token = site.add_account("acme", &Directory::nameless("UTC"), &["b1"]).await.token;
    let silent = Peer::start(&site, Behaviour::Silent).await;
    let query = site.query("query").await;
    query.ready().await;
    becomes(query.http, &token, ALL, 503).await;
    unavailable(&query, &token, "an ingest that says nothing").await;
    drop(silent);
    unavailable(&query, &token, "no ingest").await;
    let refusing = Peer::start(&site, Behaviour::Refusing).await;
    unavailable(&query, &token, "an ingest that refuses").await;
    drop(refusing);
    site.nats.kill();
    unavailable(&query, &token, "no NATS").await;
}

/// Heads have five seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_to_its_end_is_closed_in_time() {
    let _turn = turn().await;
    let site = Site::start("0s").await;
    let query = site.query("query").await;
    let mut socket = TcpStream::connect(query.http).await.unwrap();
    let began = clock::monotonic();
    socket.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.unwrap();
    let took = began.elapsed();
    assert!((4..15).contains(&took.as_secs()), "{took:?} {rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_told_in_time() {
    let _turn = turn().await;
    // The claim, the read, the look at the directory: each is seen in a call.
    for missing in [
        "\"$KV.botstats_throttle.*\"",
        "\"botstats.read.v1.*.*\", \"botstats.read.v1.*\", |\"$SRV.PING",
        "\"$JS.API.STREAM.MSG.GET.KV_botstats_directory\", ",
    ] {
        let (site, _folder) = Roles::without(missing).await;
        site.json(&["setup"]);
        let token = site.json(&["account", "add", "acme"])["token"].as_str().unwrap().to_owned();
        let (_ingest, internal) = site.ingest().await;
        ready(internal).await;
        let query = site.query().await;
        ready(query.internal).await;
        let began = clock::monotonic();
        assert_eq!(query.ask_all(&token).await.status, 503, "{missing}");
        assert!(began.elapsed() < DENIED, "{missing}: {:?}", began.elapsed());
    }
    let site = Roles::start().await;
    for (user, arguments) in [
        ("query", &["setup"][..]),
        ("acme", &["status", "--nats-inbox-prefix", "_INBOX_acme"]),
        ("acme", &["deadletters", "list", "--nats-inbox-prefix", "_INBOX_acme"]),
    ] {
        let began = clock::monotonic();
        assert_eq!(site.botstats(user, arguments).status.code(), Some(1), "{arguments:?}");
        assert!(began.elapsed() < DENIED, "{arguments:?}: {:?}", began.elapsed());
    }
}
