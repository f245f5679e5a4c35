//! The rights of each role, with a nats-server that runs with the configuration file as it is shipped:
//! what a role needs works, all else is denied, and who lacks a right says so.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::pull;
use botstats_common::names::{DIRECTORY_BUCKET, EVENTS_STREAM, THROTTLE_BUCKET};
use botstats_common::shell::clock;
use botstats_common::shell::nats::jetstream;
use botstats_tests::harness::{
    ALL, Answer, Configured, Outgoing, PATIENCE, Process, Raw, event, get, publish, run, until,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const USERS: [&str; 5] = ["acme", "ingest", "query", "admin", "operator"];
/// Enough to go as an atomic batch.
const BATCH: usize = 300;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/nats-server.conf")
}

fn password(user: &str) -> String {
    format!("password-of-{user}")
}

/// A nats-server with a configuration file, and those who use it.
struct Site {
    nats: Configured,
    folder: TempDir,
}

impl Site {
    async fn start() -> Self {
        Self::with(&shipped()).await
    }

    async fn with(config: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let variables = USERS.map(|user| {
            let name: &str = match user {
                "acme" => "ACME_PASSWORD",
                "ingest" => "INGEST_PASSWORD",
                "query" => "QUERY_PASSWORD",
                "admin" => "ADMIN_PASSWORD",
                _ => "OPERATOR_PASSWORD",
            };
            (name, password(user))
        });
        let nats = Configured::start(config, &variables, &folder.path().join("nats")).await;
        Self { nats, folder }
    }

    fn settings(&self, user: &str) -> Vec<(&'static str, String)> {
        vec![
            ("NATS_URL", self.nats.url()),
            ("NATS_USER", user.to_owned()),
            ("NATS_PASSWORD", password(user)),
        ]
    }

    /// Runs `botstats` as that user.
    fn botstats(&self, user: &str, arguments: &[&str]) -> Output {
        run("botstats", arguments, &self.settings(user))
    }

    /// Runs a command as admin; it must work, and no right be missing.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.botstats("admin", &[arguments, &["--json"]].concat());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !told.contains("may not"), "{arguments:?}: {told}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn client(&self, user: &str) -> async_nats::Client {
        async_nats::ConnectOptions::new()
            .user_and_password(user.to_owned(), password(user))
            .custom_inbox_prefix(format!("_INBOX_{user}"))
            .connect(self.nats.url())
            .await
            .unwrap()
    }

    async fn raw(&self, user: &str) -> Raw {
        Raw::connect(self.nats.port, user, &password(user)).await
    }

    fn ingest_settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = self.settings("ingest");
        settings.push(("BOTSTATS_INTERNAL_ADDR", "127.0.0.1:0".to_owned()));
        let data = self.folder.path().join("ingest/data");
        settings.push(("BOTSTATS_DATA", data.display().to_string()));
        settings
    }

    async fn ingest(&self) -> (Process, SocketAddr) {
        let folder = self.folder.path().join("ingest");
        let process = Process::start("botstats-ingest", &[], &self.ingest_settings(), &folder);
        let internal = process.address("internal listener ready").await;
        (process, internal)
    }

    async fn query(&self) -> Query {
        let mut settings = self.settings("query");
        settings.push(("BOTSTATS_HTTP_ADDR", "127.0.0.1:0".to_owned()));
        settings.push(("BOTSTATS_INTERNAL_ADDR", "127.0.0.1:0".to_owned()));
        let folder = self.folder.path().join("query");
        let process = Process::start("botstats-query", &[], &settings, &folder);
        let internal = process.address("internal listener ready").await;
        let http = process.address("http listener ready").await;
        Query { process, http, internal }
    }

    /// Waits until an ingest has applied so many messages.
    async fn applied(&self, sequence: u64) {
        until(&format!("sequence {sequence} applied"), PATIENCE, async || {
            let said = self.botstats("admin", &["status", "--json"]);
            let said: Value = serde_json::from_slice(&said.stdout).ok()?;
            let applied = |one: &Value| one["ingest"]["sequence"].as_u64().unwrap_or_default();
            said.as_array()?.iter().any(|one| applied(one) >= sequence).then_some(())
        })
        .await;
    }
}

struct Query {
    process: Process,
    http: SocketAddr,
    internal: SocketAddr,
}

impl Query {
    async fn ask(&self, token: &str) -> Answer {
        get(self.http, ALL, &[("Authorization", &format!("Bearer {token}"))]).await
    }
}

async fn ready(internal: SocketAddr) {
    until("a program that is ready", PATIENCE, async || {
        (get(internal, "/readyz", &[]).await.status == 200).then_some(())
    })
    .await;
}

/// Waits until the program is not ready for a reason with that text.
async fn not_ready(internal: SocketAddr, reason: &str) {
    let mut last = String::new();
    until(&format!("not ready: {reason}"), PATIENCE, async || {
        let answer = get(internal, "/readyz", &[]).await;
        if answer.text() != last {
            last = answer.text().to_owned();
            eprintln!("{last}");
        }
        (answer.status == 503 && answer.text().contains(reason)).then_some(())
    })
    .await;
}

fn received(account: &str, id: &str) -> Outgoing {
    event([account, "b1", "web"], "message.received", clock::now_ms(), id, &json!({}))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap()
}

/// Writes events as lines that `botstats publish` takes.
fn lines(folder: &Path, name: &str, events: &[Outgoing]) -> String {
    let lines: Vec<String> = events
        .iter()
        .map(|(subject, _, payload)| {
            let payload: Value = serde_json::from_slice(payload).unwrap();
            json!({"subject": subject, "payload": payload}).to_string()
        })
        .collect();
    let path = folder.join(name);
    std::fs::write(&path, lines.join("\n")).unwrap();
    path.display().to_string()
}

/// The number of messages received that an answer counts.
fn incoming(answer: &Answer) -> u64 {
    let rows = answer.json();
    let rows = rows.as_array().unwrap().iter().filter(|row| row["EventType"] == 13);
    rows.map(|row| row["Count"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_can_do_its_work() {
    let site = Site::start().await;
    for made in ["stream_made", "directory_made", "throttle_made"] {
        assert_eq!(site.json(&["setup"])[made], made == "stream_made", "{made}");
    }
    let (mut ingest, internal) = site.ingest().await;
    let query = site.query().await;

    let token = text(&site.json(&["account", "add", "acme"]), "token").to_owned();
    site.json(&["account", "set", "acme", "--name", "Acme"]);
    site.json(&["bot", "add", "acme", "b1", "--channel", "web=Web"]);
    site.json(&["bot", "set", "acme", "b1", "--name", "Pizza"]);
    site.json(&["key", "rotate", "acme", "b1"]);
    let second = text(&site.json(&["token", "add", "acme"]), "token").to_owned();
    assert_eq!(site.json(&["account", "list"])[0]["account"], "acme");
    assert_eq!(site.json(&["bot", "list"])[0]["bot"], "b1");
    let tokens = site.json(&["token", "list", "acme"]);

    // One by one, as an atomic batch, and pipelined by a client of its own.
    let one = lines(site.folder.path(), "one", &[received("acme", "one")]);
    let batch: Vec<_> = (0..BATCH).map(|n| received("acme", &format!("batch-{n}"))).collect();
    let batch = lines(site.folder.path(), "batch", &batch);
    for file in [one, batch] {
        let output = site.botstats("acme", &["publish", &file]);
        assert!(output.status.success(), "{output:?}");
    }
    let acme = site.client("acme").await;
    let pipelined = (0..BATCH).map(|n| received("acme", &format!("pipelined-{n}")));
    publish(&jetstream(&acme), pipelined).await;
    // What was refused is looked at and published again, corrected.
    let bad = event(["acme", "b1", "web"], "goal.reached", clock::now_ms(), "bad", &json!({}));
    publish(&jetstream(&acme), [bad]).await;
    let all = u64::try_from(2 * BATCH + 2).unwrap();
    site.applied(all).await;
    let letters = site.json(&["deadletters", "list"]);
    assert_eq!(letters["letters"][0]["sequence"], all, "{letters}");
    let letter = site.json(&["deadletters", "show", &all.to_string()]);
    assert_eq!(letter["headers"], json!([["Content-Type", "application/cloudevents+json"]]));
    let again = lines(site.folder.path(), "again", &[received("acme", "again")]);
    assert_eq!(site.json(&["publish", &again])["stored"], 1);
    site.applied(all + 1).await;

    ready(query.internal).await;
    let counted = u64::try_from(2 * BATCH + 2).unwrap();
    let answer = query.ask(&token).await;
    assert_eq!((answer.status, incoming(&answer)), (200, counted), "{answer:?}");
    assert_eq!(query.ask(&token).await.status, 429);
    site.json(&["token", "revoke", "acme", text(&tokens[0], "token_id")]);
    until("the revocation is seen", PATIENCE, async || {
        (query.ask(&token).await.status == 401).then_some(())
    })
    .await;
    assert_eq!(query.ask(&second).await.status, 429);

    // Ingest goes on after a crash, and is rebuilt.
    ingest.restart();
    let internal_again = ingest.address("internal listener ready").await;
    assert_ne!(internal, internal_again);
    ready(internal_again).await;
    ingest.signal("TERM");
    assert!(ingest.ended(PATIENCE).await.success());
    let rebuilt = run("botstats-ingest", &["rebuild"], &site.ingest_settings());
    let told = String::from_utf8_lossy(&rebuilt.stderr);
    assert!(rebuilt.status.success() && !told.contains("may not"), "{told}");
    ingest.restart();
    site.applied(all + 1).await;

    site.json(&["bot", "remove", "acme", "b1"]);
    site.json(&["account", "remove", "acme"]);
    let found = site.json(&["status"]);
    assert_eq!(found.as_array().map(Vec::len), Some(2), "{found}");
    for log in [ingest.log(), query.process.log()] {
        assert!(!log.contains("may not"), "a right is missing:\n{log}");
    }
}

/// Who may not do what. `!` before a subject is a subscription.
const DENIED: [(&str, &[&str]); 4] = [
    (
        "acme",
        &[
            "botstats.events.other.b1.web",
            "botstats.events.acme.b1",
            "botstats.events.acme.b1.web.more",
            "botstats.read.v1.acme",
            "botstats.deadletters.v1",
            "botstats.status.v1",
            "$KV.botstats_directory.account.acme",
            "$KV.botstats_throttle.acme",
            "$JS.API.INFO",
            "$JS.API.STREAM.INFO.BOTSTATS_EVENTS",
            "$JS.API.STREAM.NAMES",
            "$JS.API.STREAM.MSG.GET.BOTSTATS_EVENTS",
            "$JS.API.DIRECT.GET.BOTSTATS_EVENTS",
            "$JS.API.DIRECT.GET.KV_botstats_directory.$KV.botstats_directory.account.acme",
            "$JS.API.STREAM.MSG.GET.KV_botstats_directory",
            "$JS.API.CONSUMER.CREATE.BOTSTATS_EVENTS",
            "$JS.API.CONSUMER.CREATE.BOTSTATS_EVENTS.name.botstats.events.acme.*.*",
            "$JS.API.STREAM.PURGE.BOTSTATS_EVENTS",
            "$SRV.PING",
            "_INBOX_query.x",
            "_INBOX_acme.x",
            "!>",
            "!*.>",
            "!botstats.>",
            "!botstats.events.>",
            "!botstats.events.acme.b1.web",
            "!botstats.events.other.*.*",
            "!botstats.status.v1",
            "!botstats.read.v1.*",
            "!$KV.>",
            "!_INBOX.>",
            "!_INBOX_query.>",
            "!_INBOX_other.>",
            "!_INBOX_admin.>",
        ],
    ),
    (
        "ingest",
        &[
            "botstats.events.acme.b1.web",
            "botstats.read.v1.acme",
            "$KV.botstats_directory.account.acme",
            "$KV.botstats_throttle.acme",
            "$JS.API.STREAM.CREATE.BOTSTATS_EVENTS",
            "$JS.API.STREAM.UPDATE.BOTSTATS_EVENTS",
            "$JS.API.STREAM.DELETE.BOTSTATS_EVENTS",
            "$JS.API.STREAM.PURGE.BOTSTATS_EVENTS",
            "$JS.API.STREAM.MSG.DELETE.BOTSTATS_EVENTS",
            "$JS.API.STREAM.SNAPSHOT.BOTSTATS_EVENTS",
            "$JS.API.STREAM.INFO.KV_botstats_directory",
            "$JS.API.STREAM.MSG.GET.KV_botstats_directory",
            "$JS.API.DIRECT.GET.KV_botstats_directory.$KV.botstats_directory.account.acme",
            "$JS.API.CONSUMER.CREATE.BOTSTATS_EVENTS.named",
            "$JS.API.CONSUMER.CREATE.BOTSTATS_EVENTS.named.botstats.events.*.*.*",
            "$JS.API.CONSUMER.DURABLE.CREATE.BOTSTATS_EVENTS.durable",
            "$JS.API.CONSUMER.DELETE.BOTSTATS_EVENTS.others",
            "$JS.API.CONSUMER.PAUSE.BOTSTATS_EVENTS.others",
            "$JS.API.CONSUMER.LIST.BOTSTATS_EVENTS",
            "$JS.API.CONSUMER.CREATE.KV_botstats_directory",
            "_INBOX_ingest.x",
            "_INBOX_operator.x",
            "!>",
            "!botstats.events.>",
            "!botstats.events.acme.b1.web",
            "!$KV.>",
            "!$JS.>",
            "!_INBOX_query.>",
            "!_INBOX_admin.>",
        ],
    ),
    (
        "query",
        &[
            "botstats.events.acme.b1.web",
            "botstats.deadletters.v1",
            "$KV.botstats_directory.account.acme",
            "$KV.botstats_directory.bot.acme.b1",
            "$KV.botstats_throttle.acme.more",
            "$JS.API.STREAM.INFO.BOTSTATS_EVENTS",
            "$JS.API.STREAM.MSG.GET.BOTSTATS_EVENTS",
            "$JS.API.DIRECT.GET.BOTSTATS_EVENTS",
            "$JS.API.CONSUMER.CREATE.BOTSTATS_EVENTS",
            "$JS.API.CONSUMER.CREATE.KV_botstats_directory.named",
            "$JS.API.CONSUMER.DELETE.KV_botstats_directory.others",
            "$JS.API.STREAM.CREATE.KV_botstats_throttle",
            "$JS.API.STREAM.UPDATE.KV_botstats_throttle",
            "$JS.API.STREAM.DELETE.KV_botstats_throttle",
            "$JS.API.STREAM.PURGE.KV_botstats_throttle",
            "$JS.API.STREAM.DELETE.KV_botstats_directory",
            "$JS.API.STREAM.PURGE.KV_botstats_directory",
            "$JS.API.STREAM.MSG.DELETE.KV_botstats_directory",
            "$JS.API.STREAM.PURGE.BOTSTATS_EVENTS",
            "_INBOX_query.x",
            "_INBOX_ingest.x",
            "!>",
            "!botstats.events.>",
            "!botstats.read.v1.*",
            "!$KV.>",
            "!$KV.botstats_throttle.*",
            "!_INBOX_admin.>",
            "!_INBOX_ingest.>",
        ],
    ),
    (
        "admin",
        &[
            "$JS.API.STREAM.PURGE.BOTSTATS_EVENTS",
            "$JS.API.STREAM.DELETE.BOTSTATS_EVENTS",
            "$JS.API.STREAM.UPDATE.BOTSTATS_EVENTS",
            "$JS.API.STREAM.MSG.DELETE.BOTSTATS_EVENTS",
            "$JS.API.STREAM.RESTORE.BOTSTATS_EVENTS",
            "$JS.API.STREAM.DELETE.KV_botstats_directory",
            "$JS.API.STREAM.PURGE.KV_botstats_directory",
            "$JS.API.STREAM.UPDATE.KV_botstats_directory",
            "$JS.API.STREAM.DELETE.KV_botstats_throttle",
            "$JS.API.STREAM.PURGE.KV_botstats_throttle",
            "$JS.API.STREAM.CREATE.ANOTHER",
            "$JS.API.CONSUMER.CREATE.BOTSTATS_EVENTS",
            "$JS.API.ACCOUNT.PURGE.BOTSTATS",
            "$SYS.REQ.SERVER.PING",
            "$KV.botstats_throttle.acme",
            "$KV.botstats_directory.other",
            "botstats.read.v1.acme",
            "_INBOX_query.x",
            "!>",
            "!botstats.events.>",
            "!$KV.>",
            "!$SYS.>",
            "!_INBOX_query.>",
        ],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn all_else_is_denied() {
    let site = Site::start().await;
    site.json(&["setup"]);
    for (user, cases) in DENIED {
        let mut raw = site.raw(user).await;
        for case in cases {
            let said = match case.strip_prefix('!') {
                Some(subject) => raw.tell(&format!("SUB {subject} 7\r\nUNSUB 7\r\n")).await,
                None => raw.publish(case, &format!("_INBOX_{user}.x"), "{}").await,
            };
            assert!(said.denied(), "{user} may {case}: {said:?}");
        }
    }
    // Who gave a wrong password, or none, is nobody.
    for (user, given) in [("acme", "nonsense"), ("nobody", ""), ("", "")] {
        let options = async_nats::ConnectOptions::with_user_and_password(user.into(), given.into());
        assert!(options.connect(site.nats.url()).await.is_err(), "{user:?} {given:?}");
    }
}

/// The number of messages in each of our streams.
async fn sizes(js: &async_nats::jetstream::Context) -> Vec<u64> {
    let mut sizes = Vec::new();
    for name in [
        EVENTS_STREAM.to_owned(),
        format!("KV_{DIRECTORY_BUCKET}"),
        format!("KV_{THROTTLE_BUCKET}"),
    ] {
        let mut stream = js.get_stream(name).await.unwrap();
        sizes.push(stream.info().await.unwrap().state.messages);
    }
    sizes
}

#[tokio::test(flavor = "multi_thread")]
async fn no_publisher_reaches_beyond_its_account_by_what_it_publishes() {
    let site = Site::start().await;
    site.json(&["setup"]);
    site.json(&["account", "add", "victim"]);
    let operator = jetstream(&site.client("operator").await);
    let before = sizes(&operator).await;
    let mut acme = site.raw("acme").await;
    // The server acknowledges on whatever subject the message asks for.
    let replies = [
        "$KV.botstats_directory.account.victim",
        "$KV.botstats_throttle.victim",
        "$JS.API.STREAM.PURGE.BOTSTATS_EVENTS",
        "$JS.API.STREAM.DELETE.KV_botstats_directory",
        "$JS.API.CONSUMER.CREATE.BOTSTATS_EVENTS",
        "botstats.events.victim.b1.web",
        "botstats.read.v1.victim",
        "_INBOX_query.x",
    ];
    for reply in replies {
        // What the server says of the reply does not matter: what it does with it does.
        acme.publish("botstats.events.acme.b1.web", reply, "{}").await;
    }
    let published = u64::try_from(replies.len()).unwrap();
    let whole = vec![before[0] + published, before[1], before[2]];
    until("all is stored", PATIENCE, async || {
        (sizes(&operator).await[0] >= whole[0]).then_some(())
    })
    .await;
    // An acknowledgement that went astray would have come before the next answer.
    operator.get_stream(EVENTS_STREAM).await.unwrap();
    assert_eq!(sizes(&operator).await, whole);

    // Headers that would change what others have in the stream.
    let acme = jetstream(&site.client("acme").await);
    for (name, value) in [
        ("Nats-Rollup", "all"),
        ("Nats-Rollup", "sub"),
        ("Nats-TTL", "1s"),
        ("Nats-Schedule", "@every 1s"),
        ("Nats-Incr", "+1"),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(name, value);
        let subject = "botstats.events.acme.b1.web";
        let sent = acme.publish_with_headers(subject, headers, "{}".into()).await.unwrap();
        let answer = sent.await;
        let stored = sizes(&operator).await;
        assert!(answer.is_err() || stored[0] > whole[0], "{name}: {value}: {answer:?} {stored:?}");
        assert!(stored[0] >= whole[0], "{name}: {value} removed messages: {stored:?}");
    }
}

/// Batches that are never committed take places that all publishers share.
#[tokio::test(flavor = "multi_thread")]
async fn another_publishers_open_batches_stop_nobody() {
    let site = Site::start().await;
    site.json(&["setup"]);
    let mut hostile = site.raw("acme").await;
    for batch in 0..60 {
        let headers =
            format!("NATS/1.0\r\nNats-Batch-Id: hostile-{batch}\r\nNats-Batch-Sequence: 1\r\n\r\n");
        let (head, size) = (headers.len(), headers.len() + 2);
        hostile
            .tell(&format!("HPUB botstats.events.acme.b1.web {head} {size}\r\n{headers}{{}}\r\n"))
            .await;
    }
    let batch: Vec<_> = (0..BATCH).map(|n| received("acme", &format!("batch-{n}"))).collect();
    let file = lines(site.folder.path(), "batch", &batch);
    let published = site.botstats("acme", &["publish", &file, "--json"]);
    let answer: Value = serde_json::from_slice(&published.stdout).unwrap();
    assert_eq!(answer["stored"], BATCH, "{answer}");
}

/// What ingest and query may do with consumers: not write elsewhere, not touch others'.
#[tokio::test(flavor = "multi_thread")]
async fn consumers_write_nowhere_and_change_no_others() {
    let site = Site::start().await;
    site.json(&["setup"]);
    let operator = jetstream(&site.client("operator").await);
    let stream = operator.get_stream(EVENTS_STREAM).await.unwrap();
    let others = pull::Config { durable_name: Some("others".to_owned()), ..Default::default() };
    stream.create_consumer(others).await.unwrap();
    publish(&jetstream(&site.client("acme").await), [received("acme", "1")]).await;
    let before = sizes(&operator).await;
    let ingest = site.client("ingest").await;
    let create = async |config: Value| {
        let request = json!({"stream_name": EVENTS_STREAM, "config": config}).to_string();
        let subject = "$JS.API.CONSUMER.CREATE.BOTSTATS_EVENTS";
        let answer = ingest.request(subject, request.into()).await.unwrap();
        serde_json::from_slice::<Value>(&answer.payload).unwrap()
    };
    for target in ["$KV.botstats_directory.account.evil", "botstats.events.other.b1.web"] {
        create(json!({"deliver_subject": target, "ack_policy": "none"})).await;
    }
    for name in ["name", "durable_name"] {
        create(json!({name: "others", "ack_policy": "none", "description": "changed"})).await;
    }
    let mut consumer = stream.get_consumer::<pull::Config>("others").await.unwrap();
    assert_eq!(consumer.info().await.unwrap().config.description, None);
    assert_eq!(sizes(&operator).await, before);
}
