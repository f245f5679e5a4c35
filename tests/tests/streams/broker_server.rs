//! nats-servers that botstats cannot use, or only in part: without JetStream, too old, full,
//! overloaded, with limits.

use std::net::SocketAddr;
use std::path::Path;

use async_nats::ConnectOptions;
use async_nats::jetstream::Context;
use botstats::server::{Options, Server, find};
use botstats_common::io::{clock, nats};
use botstats_common::names::EVENTS_STREAM;
use botstats_tests::harness::{
    ALL, Answer, Outgoing, PATIENCE, Process, Proxy, Query, Site, Stage, event, free_ports, get,
    get_as, publish, publish_stubbornly, ready, run, until,
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
    let [port] = free_ports();
    let arguments = ["-a", "127.0.0.1", "-p", &port.to_string()];
    let bare = Process::start_other(&program, &arguments, &[], &in_folder("bare"));

    let settings = [("NATS_URL", format!("nats://127.0.0.1:{port}"))];
    let ingest = Process::ingest(&settings, &in_folder("ingest"));
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
    ready(ingest).await;
    query.ready().await;
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

/// The server's queue for a stream belongs to all publishers: when it is full a message is refused
/// that would be stored a moment later.
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

/// The command `setup` as that user of the server.
fn setup_as(nats: &Server, user: &str, arguments: &[&str]) -> (bool, String) {
    let url = nats.url().replace("nats://", &format!("nats://{user}:{user}@"));
    let output = run("botstats", &[&["setup"][..], arguments].concat(), &[("NATS_URL", url)]);
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_with_limits() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(find(|_| {}).unwrap(), folder.path().join("nats"));
    let account = |name: &str, jetstream: &str| {
        format!("{name} {{ {jetstream}, users: [{{user: {name}, password: {name}}}] }}\n")
    };
    options.extra = format!(
        "accounts {{ {} {} {} {} }}",
        account("bounded", "jetstream { max_file: 1GB, max_bytes_required: true }"),
        account("two", "jetstream { max_file: 1GB, max_streams: 2 }"),
        account("memory", "jetstream { max_mem: 1GB, max_file: 0 }"),
        account("none", "mappings {}"),
    );
    let nats = Server::start(options).unwrap();
    for (user, arguments, texts) in [
        ("bounded", &[][..], &["max bytes", "run `botstats setup --max-bytes SIZE`"][..]),
        ("bounded", &["--max-bytes", "2GB"], &["too little file storage", "--max-bytes SIZE"]),
        ("two", &[], &["room for four streams"]),
        ("memory", &[], &["too little file storage"]),
        ("none", &[], &["no JetStream there", "this user's account has none"]),
    ] {
        let (done, said) = setup_as(&nats, user, arguments);
        let all = texts.iter().all(|text| said.contains(text));
        assert!(!done && all, "{user} {arguments:?}: {said}");
    }
    assert_eq!(setup_as(&nats, "bounded", &["--max-bytes", "800MB"]), (true, String::new()));
    let options = ConnectOptions::with_user_and_password("bounded".into(), "bounded".into());
    let js = async_nats::jetstream::new(options.connect(nats.url()).await.unwrap());
    for (stream, max_bytes) in [
        (EVENTS_STREAM, 800 * 1024 * 1024),
        ("KV_botstats_directory", 64 * 1024 * 1024),
        ("KV_botstats_throttle", 64 * 1024 * 1024),
        ("KV_botstats_throttle_bot", 64 * 1024 * 1024),
    ] {
        let found = js.get_stream(stream).await.unwrap().cached_info().config.max_bytes;
        assert_eq!(found, max_bytes, "{stream}");
    }
}

/// Programs of a site that `botstats` made itself, with the token of its account `acme`.
struct Programs {
    token: String,
    ingest: Process,
    query: Query,
}

impl Programs {
    async fn start(settings: &[(&'static str, String)], window: &str, folder: &Path) -> Self {
        let done = |arguments: &[&str]| {
            let output = run("botstats", &[arguments, &["--json"]].concat(), settings);
            assert!(output.status.success(), "{arguments:?}: {output:?}");
            serde_json::from_slice::<Value>(&output.stdout).unwrap()
        };
        done(&["setup", "--throttle-window", "1h"]);
        let token = done(&["account", "add", "acme"])["token"].as_str().unwrap().to_owned();
        let ingest = Process::ingest(settings, &folder.join("ingest"));
        let query = Query::start(settings, window, &folder.join("query")).await;
        query.ready().await;
        Self { token, ingest, query }
    }

    async fn ask(&self) -> Answer {
        get_as(&self.token, self.query.http, ALL, &[]).await
    }

    /// The rows of the first answer that has this many.
    async fn rows(&self, number: usize) -> Vec<Value> {
        until(&format!("{number} rows"), PATIENCE, async || {
            let answer = self.ask().await;
            assert!(matches!(answer.status, 200 | 503), "{answer:?}");
            let rows = (answer.status == 200).then(|| answer.json().as_array().unwrap().clone());
            rows.filter(|rows| rows.len() == number)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jetstream_domain_over_a_leaf_node() {
    let folder = tempfile::tempdir().unwrap();
    let in_folder = |name: &str| folder.path().join(name);
    let program = find(|_| {}).unwrap();
    let [leaf_port, hub_port] = free_ports();
    let mut options = Options::new(&program, in_folder("hub"));
    let store = in_folder("hub/store");
    options.extra = format!(
        "server_name: hub\njetstream {{ store_dir: {store:?}, domain: hub }}\n\
         leafnodes {{ listen: \"127.0.0.1:{hub_port}\" }}"
    );
    let _hub = Server::start(options).unwrap();
    let config = in_folder("leaf.conf");
    let remote = format!(
        "server_name: leaf\nleafnodes {{ remotes [ {{ url: \"nats-leaf://127.0.0.1:{hub_port}\" }} ] }}\n"
    );
    std::fs::write(&config, remote).unwrap();
    let port = leaf_port.to_string();
    let arguments = ["-c", config.to_str().unwrap(), "-a", "127.0.0.1", "-p", &port];
    let leaf = Process::start_other(&program, &arguments, &[], &in_folder("leaf"));
    leaf.logged("Leafnode connection created").await;

    let url = format!("nats://127.0.0.1:{leaf_port}");
    setup_fails(&[("NATS_URL", url.clone())], &["no JetStream there", "NATS_JS_DOMAIN"]);
    let settings = [("NATS_URL", url.clone()), ("NATS_JS_DOMAIN", "hub".to_owned())];
    let programs = Programs::start(&settings, "1h", folder.path()).await;
    let client = async_nats::connect(&url).await.unwrap();
    let bad = ("botstats.events.acme.b1.web".to_owned(), vec![], b"{".to_vec());
    let good =
        event(["acme", "b1", "web"], "goal.reached", clock::now_ms(), "1", &json!({"goal": "x"}));
    publish(&nats::jetstream(&client, Some("hub")), [good, bad]).await;
    // The bad one came last: when it is a dead letter the good one is counted.
    until("the dead letter", PATIENCE, async || {
        let listed = run("botstats", &["deadletters", "list", "--json"], &settings);
        let listed: Value = serde_json::from_slice(&listed.stdout).ok()?;
        (listed["kept"] == 1).then_some(())
    })
    .await;
    let shown = run("botstats", &["deadletters", "show", "2"], &settings);
    assert!(shown.status.success(), "{shown:?}");
    let answer = programs.ask().await;
    assert_eq!((answer.status, answer.json().as_array().unwrap().len()), (200, 1));
    assert_eq!(programs.ask().await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_small_messages_only() {
    const BOTS: usize = 400;
    let folder = tempfile::tempdir().unwrap();
    let server = |port, max_payload: &str| {
        let mut options = Options::new(find(|_| {}).unwrap(), folder.path().join("nats"));
        options.port = port;
        options.extra = format!("max_payload: {max_payload}");
        Server::start(options).unwrap()
    };
    let nats = server(None, "16384");
    let settings = [("NATS_URL", nats.url())];
    let programs = Programs::start(&settings, "0s", folder.path()).await;
    let client = async_nats::connect(nats.url()).await.unwrap();
    let js = nats::jetstream(&client, None);
    let bot = |n: usize| format!("{n:064}");
    let bad = |n: usize| (format!("botstats.events.acme.{}.web", bot(n)), vec![], b"{}".to_vec());
    publish(&js, (0..BOTS).map(bad)).await;
    let good = |n: usize| {
        event(["acme", &bot(n), "web"], "goal.reached", clock::now_ms(), "1", &json!({"goal": "x"}))
    };
    publish(&js, (0..BOTS).map(good)).await;
    let rows = programs.rows(BOTS).await;
    assert_eq!(rows.last().unwrap()["BotId"], bot(BOTS - 1));
    let listed = run("botstats", &["deadletters", "list", "--limit", "1000", "--json"], &settings);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["letters"].as_array().unwrap().len(), BOTS);

    // Another server takes less than what is needed, then enough again.
    let port = nats.port();
    drop(nats);
    let nats = server(Some(port), "4096");
    let ingest = programs.ingest.address("internal listener ready").await;
    for (name, address) in [("ingest", ingest), ("query", programs.query.internal)] {
        says(name, address, &["max_payload", "4096 bytes", "8192"]).await;
    }
    assert_eq!(programs.ask().await.status, 503);
    drop(nats);
    let _nats = server(Some(port), "8192");
    assert_eq!(programs.rows(BOTS).await, rows);
}
