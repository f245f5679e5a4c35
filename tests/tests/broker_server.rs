//! Servers that are not as they must be: without JetStream, too old, full, with too much to do.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use async_nats::jetstream::Context;
use botstats::server::{Options, Server, find};
use botstats_common::names::EVENTS_STREAM;
use botstats_common::shell::clock;
use botstats_tests::harness::{
    Outgoing, PATIENCE, Process, Proxy, Query, Site, Stage, event, get, publish_stubbornly, run,
    until,
};
use botstats_tests::model::GroupMode;
use serde_json::{Value, json};

/// Waits until a program is not ready and says all of that; it must live.
async fn says(name: &str, address: SocketAddr, texts: &[&str]) {
    until(&format!("{name} says {texts:?}"), PATIENCE, async || {
        let readyz = get(address, "/readyz", &[]).await;
        let said = readyz.status == 503 && texts.iter().all(|text| readyz.text().contains(text));
        said.then_some(())
    })
    .await;
    assert_eq!(get(address, "/livez", &[]).await.status, 200, "{name}");
}

async fn ready(name: &str, address: SocketAddr) {
    until(&format!("{name} is ready"), PATIENCE, async || {
        (get(address, "/readyz", &[]).await.status == 200).then_some(())
    })
    .await;
}

/// The command `setup` must fail and say all of that.
fn setup_fails(settings: &[(&str, String)], texts: &[&str]) {
    let output = run("botstats", &["setup"], settings);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{said}");
    assert!(texts.iter().all(|text| said.contains(text)), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_jetstream() {
    let folder = tempfile::tempdir().unwrap();
    let in_folder = |name: &str| folder.path().join(name);
    let program = find(|_| {}).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let arguments = ["-a", "127.0.0.1", "-p", &port.to_string()];
    let bare = Process::start_other(&program, &arguments, &[], &in_folder("bare"));

    let settings = vec![("NATS_URL", format!("nats://127.0.0.1:{port}"))];
    let mut of_ingest = settings.clone();
    of_ingest.push(("BOTSTATS_INTERNAL_ADDR", "127.0.0.1:0".to_owned()));
    of_ingest.push(("BOTSTATS_DATA", in_folder("data").display().to_string()));
    let ingest = Process::start("botstats-ingest", &[], &of_ingest, &in_folder("ingest"));
    let ingest = ingest.address("internal listener ready").await;
    let query = Query::start(&settings, "1h", &in_folder("query")).await;
    let what_to_do = ["no JetStream there", "--jetstream"];
    for (name, address) in [("ingest", ingest), ("query", query.internal)] {
        says(name, address, &what_to_do).await;
    }
    setup_fails(&settings, &what_to_do);

    // It is there: everything goes on by itself.
    drop(bare);
    let mut options = Options::new(&program, in_folder("nats"));
    options.port = Some(port);
    let _server = Server::start(options).unwrap();
    for (name, address) in [("ingest", ingest), ("query", query.internal)] {
        ready(name, address).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_old_a_server() {
    let mut site = Site::start("1h").await;
    let old = |line: &str| {
        let (before, after) = line.split_once(r#""version":""#).unwrap();
        let (_, after) = after.split_once('"').unwrap();
        format!(r#"{before}"version":"2.9.10"{after}"#)
    };
    let proxy = Proxy::greeting_as(site.nats.port(), old).await;
    site.route(Some(proxy.url()));
    let ingest = site.ingest("ingest");
    let query = site.query("query").await;
    let both_versions = ["2.9.10", "2.14"];
    let ingest_address = ingest.address("internal listener ready").await;
    for (name, address) in [("ingest", ingest_address), ("query", query.internal)] {
        says(name, address, &both_versions).await;
    }
    setup_fails(&site.settings(), &both_versions);
    for process in [&ingest, &query.process] {
        let log = process.log();
        // Said once, however often it is tried.
        let said = log.lines().filter(|l| l.contains("waiting for NATS") && l.contains("2.9.10"));
        assert_eq!(said.count(), 1, "{log}");
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// The server's queue for a stream belongs to all publishers: when it is full a message is refused that would be stored
/// a moment later.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_too_much_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(find(|_| {}).unwrap(), folder.path().join("nats"));
    let store = folder.path().join("nats/store");
    options.extra = format!(
        "jetstream {{ store_dir: {store:?}, sync_interval: always, max_buffered_msgs: 10 }}"
    );
    let nats = Server::start(options).unwrap();
    let settings = [("NATS_URL", nats.url())];
    assert!(run("botstats", &["setup"], &settings).status.success());

    // Those who do not wait are told.
    let client = async_nats::connect(nats.url()).await.unwrap();
    let mut js = async_nats::jetstream::new(client);
    js.set_timeout(PATIENCE);
    let mut acknowledgements = Vec::new();
    for n in 0..500 {
        let (subject, _, payload) = message(n);
        acknowledgements.push(js.publish(subject, payload.into()).await.unwrap());
    }
    let mut refused = 0;
    for acknowledgement in acknowledgements {
        if let Err(error) = acknowledgement.await {
            assert!(error.to_string().contains("too many requests"), "{error}");
            refused += 1;
        }
    }
    assert!(refused > 0, "the queue was never full");

    // The command goes on until all is stored.
    let file = folder.path().join("events.ndjson").display().to_string();
    let simulated = run("botstats", &["simulate", "--events", "1500", "--out", &file], &[]);
    assert!(simulated.status.success());
    let published = run("botstats", &["publish", &file, "--json"], &settings);
    assert!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
    let said: Value = serde_json::from_slice(&published.stdout).unwrap();
    assert_eq!((&said["stored"], &said["refused"]), (&json!(1_500), &json!(0)), "{said}");
}

async fn limit_bytes(js: &Context, max_bytes: i64) {
    let stream = js.get_stream(EVENTS_STREAM).await.unwrap();
    let mut config = stream.cached_info().config.clone();
    config.max_bytes = max_bytes;
    js.update_stream(config).await.unwrap();
}

fn message(n: i64) -> Outgoing {
    let data = json!({"kind": "text"});
    event(["acct-0", "b1", "web"], "message.received", clock::now_ms() - n, &format!("n{n}"), &data)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream() {
    let mut stage = Stage::start("0s", 1).await;
    let js = stage.site.js.clone();
    limit_bytes(&js, 60_000).await;
    let before = stage.site.last_sequence().await;
    // A producer that publishes one by one gets an error, and no acknowledgement.
    let mut acknowledged = 0;
    let why = loop {
        assert!(acknowledged < 1_000, "the stream never gets full");
        let (subject, _, payload) = message(acknowledged);
        match js.publish(subject, payload.into()).await.unwrap().await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error.to_string(),
        }
    };
    assert!(why.contains("maximum bytes exceeded"), "{why}");
    let stored = stage.site.last_sequence().await - before;
    assert_eq!(stored, u64::try_from(acknowledged).unwrap());

    // The command tries again for a minute; here there is room before that.
    let file = stage.site.folder("more.ndjson");
    let lines: String = (10_000..10_200)
        .map(|n| {
            let (subject, _, payload) = message(n);
            let payload: Value = serde_json::from_slice(&payload).unwrap();
            format!("{}\n", json!({"subject": subject, "payload": payload}))
        })
        .collect();
    std::fs::write(&file, lines).unwrap();
    let folder = stage.site.folder("publish");
    let arguments = ["publish", file.to_str().unwrap()];
    let mut command = Process::start("botstats", &arguments, &stage.site.settings(), &folder);
    stage.equals_the_model(GroupMode::Hour, 2).await;

    // With room again everything goes on.
    limit_bytes(&js, -1).await;
    assert!(command.ended(PATIENCE).await.success(), "{}", command.log());
    for n in 0..50 {
        publish_stubbornly(&js, &message(20_000 + n), PATIENCE).await;
    }
    // One whose acknowledgement came late is there twice.
    assert!(stage.site.last_sequence().await >= before + stored + 250);
    stage.ingest.restart();
    stage.equals_the_model(GroupMode::Hour, 2).await;
}
