//! Live streams: what they send, when they end, how many there may be.

use std::net::SocketAddr;
use std::time::Duration;

use botstats_common::io::clock;
use botstats_common::secret::SecretHash;
use botstats_tests::harness::{
    PATIENCE, Site, Stage, becomes, event, get_as, head_as, metric, publish, until,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::tokens::view;

/// A stream ends within 2 s of its reason; the rest is for a slow machine.
const ENDS_IN: Duration = Duration::from_secs(4);

/// A live stream as its bytes come.
struct Live {
    socket: TcpStream,
    text: String,
}

impl Live {
    async fn open(address: SocketAddr, token: &str) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let head = head_as(token, "/dashboard/live", &[("Accept-Encoding", "gzip, zstd")]);
        socket.write_all(&head).await.unwrap();
        let mut live = Self { socket, text: String::new() };
        live.until("\r\n\r\n").await;
        live
    }

    /// Reads until this text has come.
    async fn until(&mut self, what: &str) {
        let mut buffer = [0; 4096];
        while !self.text.contains(what) {
            let read = timeout(PATIENCE, self.socket.read(&mut buffer)).await;
            let read = read.unwrap_or_else(|_| panic!("no {what} in {}", self.text)).unwrap();
            assert!(read > 0, "the stream ended before {what}: {}", self.text);
            self.text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
    }

    /// Reads to the end, which must be that of a whole answer.
    async fn end(mut self, limit: Duration) -> String {
        let mut rest = Vec::new();
        let read = timeout(limit, self.socket.read_to_end(&mut rest)).await;
        read.unwrap_or_else(|_| panic!("no end in {limit:?}: {}", self.text)).unwrap();
        self.text.push_str(std::str::from_utf8(&rest).unwrap());
        assert!(self.text.ends_with("0\r\n\r\n"), "cut off: {}", self.text);
        self.text
    }

    /// The data of the events so far.
    fn events(&self) -> Vec<Value> {
        let events = self.text.split("event: now\ndata: ").skip(1);
        events.map(|text| serde_json::from_str(text.split_once('\n').unwrap().0).unwrap()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_shows_within_three_seconds() {
    let stage = Stage::start("1h", 1).await;
    let (query, token) = (&stage.query, &stage.logins[0].token);
    let mut live = Live::open(query.http, token).await;
    live.until("\n\n").await;
    let head = live.text.to_ascii_lowercase();
    for line in [
        "http/1.1 200 ok",
        "content-type: text/event-stream\r\n",
        "cache-control: no-store\r\n",
        "x-accel-buffering: no\r\n",
        "x-content-type-options: nosniff\r\n",
        "referrer-policy: no-referrer\r\n",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert!(!head.contains("content-encoding"), "{head}");
    let now = get_as(token, query.http, "/dashboard/now", &[]).await.json();
    assert_eq!(live.events().last().unwrap()["Bots"], now["Bots"]);
    assert_eq!(metric(query.internal, "botstats_query_live_streams").await, 1.0);
    for number in 0..3 {
        // Questions are limited, those of each token apart.
        let asker = format!("asker-{number}");
        stage.site.put(&format!("view.acct-0.{asker}"), &view(&asker, &json!({}))).await;
        becomes(query.http, &asker, "/dashboard/now", 200).await;
        let channel = format!("new-{number}");
        let place = ["acct-0", "b1", &channel];
        let published = clock::monotonic();
        publish(
            &stage.site.js,
            [event(place, "message.received", clock::now_ms(), "e", &json!({}))],
        )
        .await;
        until("it is in /dashboard/now", PATIENCE, async || {
            let now = get_as(&asker, query.http, "/dashboard/now", &[]).await;
            now.text().contains(&channel).then_some(())
        })
        .await;
        assert!(published.elapsed() < Duration::from_secs(3), "{:?}", published.elapsed());
        live.until(&channel).await;
        assert!(published.elapsed() < Duration::from_secs(4), "{:?}", published.elapsed());
    }
    // Nothing else was sent: an event is a change.
    let events = live.events();
    assert!(events.windows(2).all(|two| two[0]["Bots"] != two[1]["Bots"]), "{events:?}");
    drop(live);
    until("the stream is over", PATIENCE, async || {
        (metric(query.internal, "botstats_query_live_streams").await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_what_it_was_opened_for() {
    let stage = Stage::start("1h", 1).await;
    let (address, put) = (stage.query.http, |key: &str, value: Value| {
        let (site, key) = (&stage.site, key.to_owned());
        async move { site.put(&key, &value).await }
    });
    let good = |token: &str| view(token, &json!({"bots": ["b1"]}));
    let past = json!("2026-01-01T00:00:00Z");
    for (token, ended) in [
        ("revoked", view("another", &json!({}))),
        ("expired", view("expired", &json!({"bots": ["b1"], "expires": past}))),
        ("fewer", view("fewer", &json!({"bots": []}))),
        ("more", view("more", &json!({"bots": ["b1", "b2"]}))),
        ("unclear", view("unclear", &json!({"bots": 7}))),
    ] {
        let key = format!("view.acct-0.{token}");
        put(&key, good(token)).await;
        becomes(address, token, "/dashboard/now", 200).await;
        let mut live = Live::open(address, token).await;
        live.until("\"b1\"").await;
        put(&key, ended).await;
        live.end(ENDS_IN).await;
    }
    // A token that expires while its stream is open.
    let end_ms = clock::now_ms() + 3_000;
    let entry = view("ending", &json!({"expires": clock::rfc3339_ms(end_ms)}));
    put("view.acct-0.ending", entry).await;
    becomes(address, "ending", "/dashboard/now", 200).await;
    let live = Live::open(address, "ending").await;
    live.end(Duration::from_secs(3) + ENDS_IN).await;
    assert!(clock::now_ms() >= end_ms);
    // Other changes of the directory leave a stream open, and rename its rows.
    put("view.acct-0.stays", good("stays")).await;
    becomes(address, "stays", "/dashboard/now", 200).await;
    let mut live = Live::open(address, "stays").await;
    put("bot.acct-0.b1", json!({"name": "Pasta"})).await;
    live.until("\"Pasta\"").await;
    // The removal of the account.
    let token = &stage.logins[0].token;
    let of_account = Live::open(address, token).await;
    let hash = String::from(SecretHash::of(token));
    let removed = json!({"tokens": [{"id": "t1", "sha256": hash}], "removed": true});
    put("account.acct-0", removed).await;
    live.end(ENDS_IN).await;
    of_account.end(ENDS_IN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_streams_at_once() {
    let mut stage = Stage::start("1h", 1).await;
    let token = stage.logins[0].token.clone();
    let mut live = Live::open(stage.query.http, &token).await;
    live.until("event: now").await;
    let begun = clock::monotonic();
    stage.query.process.signal("TERM");
    live.end(ENDS_IN).await;
    assert!(stage.query.process.ended(PATIENCE).await.success());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// The page must learn that its numbers are old, and why.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_an_ingest_ends() {
    let mut stage = Stage::start("1h", 1).await;
    let (address, token) = (stage.query.http, stage.logins[0].token.clone());
    let mut live = Live::open(address, &token).await;
    live.until("event: now").await;
    stage.ingest.kill();
    live.end(Duration::from_secs(8) + ENDS_IN).await;
    let refused = get_as(&token, address, "/dashboard/live", &[]).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "unavailable"));
    assert!(refused.text().contains("the statistics cannot be reached"), "{refused:?}");
    stage.ingest.restart();
    becomes(address, &token, "/dashboard/now", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_so_many_streams() {
    let stage = Stage::start("1h", 1).await;
    let (address, internal) = (stage.query.http, stage.query.internal);
    for id in 0..5 {
        let token = format!("v{id}");
        stage.site.put(&format!("view.acct-0.{token}"), &view(&token, &json!({}))).await;
    }
    becomes(address, "v4", "/dashboard/now", 200).await;
    let mut open = Vec::new();
    for id in 0..4 {
        for _ in 0..16 {
            open.push(Live::open(address, &format!("v{id}")).await);
        }
    }
    assert_eq!(metric(internal, "botstats_query_live_streams").await, 64.0);
    for token in ["v0", "v4"] {
        let refused = get_as(token, address, "/dashboard/live", &[]).await;
        assert_eq!((refused.status, refused.problem().as_str()), (429, "too-many"), "{token}");
        assert!(refused.retry_after().is_some());
    }
    // The account's call goes on beside them.
    assert_eq!(stage.ask(&stage.logins[0]).await.status, 200);
    open.pop();
    until("a place is free", PATIENCE, async || {
        (metric(internal, "botstats_query_live_streams").await == 63.0).then_some(())
    })
    .await;
    let mut live = Live::open(address, "v4").await;
    live.until("event: now").await;
}

/// Comments keep a stream for proxies, and the idle timeout of connections does not end it.
#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_stream_sends_comments() {
    let mut site = Site::start("1h").await;
    site.more.push(("BOTSTATS_HTTP_IDLE", "1s".to_owned()));
    let stage = Stage::start_in(site, 1).await;
    let mut live = Live::open(stage.query.http, &stage.logins[0].token).await;
    live.until("event: now").await;
    let begun = clock::monotonic();
    live.until("\r\n: \n\n\r\n").await;
    let silence = begun.elapsed();
    assert!((14..20).contains(&silence.as_secs()), "{silence:?}");
    assert_eq!(live.events().len(), 1, "{}", live.text);
}
