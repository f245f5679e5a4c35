//! The rights of each role, on a nats-server with the shipped configuration file: what a role needs
//! works, all else is denied, and a program without a right names that right.

use std::path::Path;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::pull;
use botstats_common::io::clock;
use botstats_common::io::nats::jetstream;
use botstats_common::names::{
    BOT_THROTTLE_BUCKET, DIRECTORY_BUCKET, EVENTS_STREAM, SLOT_MAPPING, THROTTLE_BUCKET,
};
use botstats_tests::harness::{
    ALL, Answer, Outgoing, PATIENCE, Roles, becomes, event, get, get_as, not_ready, publish, ready,
    run, shipped_configuration, until,
};
use futures::future::join_all;
use serde_json::{Value, json};

/// Enough to go as an atomic batch.
const BATCH: usize = 300;

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
    let site = Roles::start().await;
    for made in ["stream_made", "directory_made", "throttle_made", "bot_throttle_made"] {
        assert_eq!(site.json(&["setup"])[made], made == "stream_made", "{made}");
    }
    let (mut ingest, _) = site.ingest().await;
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
    let of_bot = text(&site.json(&["token", "add", "acme", "--bot", "b1"]), "token").to_owned();
    let view = site.json(&["token", "add", "acme", "--view", "--only", "b1"]);
    site.json(&["token", "revoke", "acme", text(&view, "token_id")]);
    site.json(&["operator", "set", "acme", "o1", "Ann"]);
    site.json(&["operator", "set", "acme", "o2", "Bob"]);
    site.json(&["operator", "remove", "acme", "o1"]);
    let operators = json!([{"operator": "o2", "name": "Bob"}]);
    assert_eq!(site.json(&["operator", "list", "acme"]), operators);

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
    publish(&jetstream(&acme, None), pipelined).await;
    // What was refused is looked at and published again, corrected.
    let bad = event(["acme", "b1", "web"], "goal.reached", clock::now_ms(), "bad", &json!({}));
    publish(&jetstream(&acme, None), [bad]).await;
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
    let answer = query.ask_all(&token).await;
    assert_eq!((answer.status, incoming(&answer)), (200, counted), "{answer:?}");
    assert_eq!(query.ask_all(&token).await.status, 429);
    let path = ALL.replace("account/*/", "");
    for status in [200, 429] {
        assert_eq!(get_as(&of_bot, query.http, &path, &[]).await.status, status);
    }
    let users = site.folder.path().join("users");
    std::fs::write(&users, "u1\nu2\n").unwrap();
    let users = users.display().to_string();
    let forget = ["forget", "acme", "b1", "web", "--user-file", &users, "--json"];
    for user in ["acme", "admin"] {
        let output = site.botstats(user, &forget);
        assert!(output.status.success(), "{output:?}");
    }
    site.json(&["token", "revoke", "acme", text(&tokens[0], "token_id")]);
    becomes(query.http, &token, ALL, 401).await;
    assert_eq!(query.ask_all(&second).await.status, 429);

    // Ingest goes on after a crash, and is rebuilt.
    ingest.restart();
    let internal_again = ingest.address("internal listener ready").await;
    ready(internal_again).await;
    ingest.stop().await;
    let rebuilt = run("botstats-ingest", &["rebuild"], &site.ingest_settings());
    let told = String::from_utf8_lossy(&rebuilt.stderr);
    assert!(rebuilt.status.success() && !told.contains("may not"), "{told}");
    ingest.restart();
    site.applied(all + 5).await;
    ready(ingest.address("internal listener ready").await).await;

    site.json(&["bot", "remove", "acme", "b1"]);
    site.json(&["account", "remove", "acme"]);
    until("both in the status", PATIENCE, async || {
        (site.json(&["status"]).as_array()?.len() == 2).then_some(())
    })
    .await;
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
            // The slots of acme and of another account.
            "botstats.slot.175.acme.b1.web",
            "botstats.slot.245.other.b1.web",
            "botstats.slot.7.acme.b1.web",
            "botstats.cell.BOTSTATS_EVENTS",
            "botstats.read.v1.acme",
            "botstats.read.v1.ingest.acme",
            "botstats.read.v2.175.acme",
            "botstats.deadletters.v1",
            "botstats.status.v1",
            "$KV.botstats_directory.account.acme",
            "$KV.botstats_throttle.acme",
            "$KV.botstats_throttle_bot.acme.b1",
            "$KV.botstats_directory.view.acme.v1",
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
            "!botstats.read.v1.*.*",
            "!botstats.read.v2.*.*",
            "!botstats.slot.>",
            "!botstats.slot.175.acme.*.*",
            "!botstats.cell.>",
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
            "botstats.slot.175.acme.b1.web",
            "botstats.cell.BOTSTATS_EVENTS",
            "botstats.read.v2.175.acme",
            "$JS.API.STREAM.INFO.BOTSTATS_EVENTS_B",
            "$JS.API.STREAM.NAMES",
            "!botstats.slot.>",
            "!botstats.read.v2.>",
            "botstats.read.v1.acme",
            "botstats.read.v1.ingest.acme",
            "$KV.botstats_directory.account.acme",
            "$KV.botstats_throttle.acme",
            "$KV.botstats_throttle_bot.acme.b1",
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
            "botstats.slot.175.acme.b1.web",
            "botstats.cell.BOTSTATS_EVENTS",
            "!botstats.slot.>",
            "!botstats.read.v2.*.*",
            "botstats.deadletters.v1",
            "$KV.botstats_directory.account.acme",
            "$KV.botstats_directory.bot.acme.b1",
            "$KV.botstats_directory.view.acme.v1",
            "$KV.botstats_directory.operators.acme",
            "$KV.botstats_throttle.acme.more",
            "$KV.botstats_throttle_bot.acme",
            "$KV.botstats_throttle_bot.acme.b1.more",
            "$JS.API.STREAM.CREATE.KV_botstats_throttle_bot",
            "$JS.API.STREAM.UPDATE.KV_botstats_throttle_bot",
            "$JS.API.STREAM.PURGE.KV_botstats_throttle_bot",
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
            "botstats.cell.BOTSTATS_EVENTS",
            "botstats.slot.175.acme.b1",
            "botstats.read.v2.175.acme",
            "$JS.API.STREAM.NAMES",
            "$JS.API.STREAM.CREATE.BOTSTATS_EVENTS_B",
            "!botstats.slot.>",
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
            "$JS.API.STREAM.DELETE.KV_botstats_throttle_bot",
            "$JS.API.STREAM.PURGE.KV_botstats_throttle_bot",
            "$JS.API.STREAM.CREATE.ANOTHER",
            "$JS.API.CONSUMER.CREATE.BOTSTATS_EVENTS",
            "$JS.API.ACCOUNT.PURGE.BOTSTATS",
            "$SYS.REQ.SERVER.PING",
            "$KV.botstats_throttle.acme",
            "$KV.botstats_throttle_bot.acme.b1",
            "$KV.botstats_directory.view.acme",
            "$KV.botstats_directory.operators.acme.o1",
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
    let site = Roles::start().await;
    site.json(&["setup"]);
    denied(&site).await;
    // Who gave a wrong password, or none, is nobody.
    for (user, given) in [("acme", "nonsense"), ("nobody", ""), ("", "")] {
        let options = async_nats::ConnectOptions::with_user_and_password(user.into(), given.into());
        assert!(options.connect(site.nats.url()).await.is_err(), "{user:?} {given:?}");
    }
}

/// The shipped file with its mapping of slots, which is a comment there.
fn with_mapping() -> tempfile::TempDir {
    let whole = std::fs::read_to_string(shipped_configuration()).unwrap();
    let (from, to) = SLOT_MAPPING;
    let mapping = format!("mappings {{ \"{from}\": \"{to}\" }}");
    let comment = format!("# {mapping}");
    assert!(whole.contains(&comment), "the file has no comment {comment}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nats-server.conf");
    std::fs::write(file, whole.replacen(&comment, &mapping, 1)).unwrap();
    folder
}

/// With cells publishers publish as without, the operator changes streams, and no other right
/// changes.
#[tokio::test(flavor = "multi_thread")]
async fn rights_with_cells() {
    let folder = with_mapping();
    let site = Roles::with(&folder.path().join("nats-server.conf")).await;
    let as_operator = |arguments: &[&str]| {
        let output = site.botstats("operator", &[arguments, &["--json"]].concat());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !told.contains("may not"), "{arguments:?}: {told}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(as_operator(&["setup", "--cells", "2"])["streams_made"], 2);
    assert_eq!(as_operator(&["cells", "check"])["mapped"], true);
    let split = ["cells", "split", "BOTSTATS_EVENTS_2", "BOTSTATS_EVENTS_ACME", "--slots", "175"];
    as_operator(&[&split[..], &["--without-ingest"]].concat());
    denied(&site).await;

    // Slot 175 is acme's.
    let one = lines(site.folder.path(), "one", &[received("acme", "one")]);
    let batch: Vec<_> = (0..BATCH).map(|n| received("acme", &format!("batch-{n}"))).collect();
    let batch = lines(site.folder.path(), "batch", &batch);
    for (user, file) in [("acme", &one), ("acme", &batch), ("admin", &one)] {
        let output = site.botstats(user, &["publish", file]);
        assert!(output.status.success(), "{user}: {output:?}");
    }
    let operator = jetstream(&site.client("operator").await, None);
    let stored = async |name: &str| {
        let mut stream = operator.get_stream(name).await.unwrap();
        stream.info().await.unwrap().state.messages
    };
    assert_eq!(stored("BOTSTATS_EVENTS_ACME").await, u64::try_from(BATCH + 2).unwrap());
    assert_eq!(stored(EVENTS_STREAM).await, 0);

    // Admin may not change streams, and says which right is missing.
    for (arguments, reason) in [
        (&["cells", "list"][..], "$JS.API.STREAM.NAMES"),
        (&["setup", "--cells", "2"], "may not publish to $JS.API.STREAM.INFO.BOTSTATS_EVENTS_2"),
    ] {
        let output = site.botstats("admin", arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
        assert!(told.contains(reason), "{arguments:?}: {told}");
    }
}

async fn denied(site: &Roles) {
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
}

/// The number of messages in each of our streams.
async fn sizes(js: &async_nats::jetstream::Context) -> Vec<u64> {
    let mut sizes = Vec::new();
    for name in [
        EVENTS_STREAM.to_owned(),
        format!("KV_{DIRECTORY_BUCKET}"),
        format!("KV_{THROTTLE_BUCKET}"),
        format!("KV_{BOT_THROTTLE_BUCKET}"),
    ] {
        let mut stream = js.get_stream(name).await.unwrap();
        sizes.push(stream.info().await.unwrap().state.messages);
    }
    sizes
}

#[tokio::test(flavor = "multi_thread")]
async fn no_publisher_reaches_beyond_its_account_by_what_it_publishes() {
    let site = Roles::start().await;
    site.json(&["setup"]);
    site.json(&["account", "add", "victim"]);
    let operator = jetstream(&site.client("operator").await, None);
    let before = sizes(&operator).await;
    let mut acme = site.raw("acme").await;
    // The server acknowledges on whatever subject the message asks for.
    let replies = [
        "$KV.botstats_directory.account.victim",
        "$KV.botstats_throttle.victim",
        "$KV.botstats_throttle_bot.victim.b1",
        "$KV.botstats_directory.view.victim.v1",
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
    let whole = [vec![before[0] + published], before[1..].to_vec()].concat();
    until("all is stored", PATIENCE, async || {
        (sizes(&operator).await[0] >= whole[0]).then_some(())
    })
    .await;
    // An acknowledgement that went astray would have come before the next answer.
    operator.get_stream(EVENTS_STREAM).await.unwrap();
    assert_eq!(sizes(&operator).await, whole);

    // Headers that would change what others have in the stream.
    let acme = jetstream(&site.client("acme").await, None);
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
    let site = Roles::start().await;
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
    let site = Roles::start().await;
    site.json(&["setup"]);
    let operator = jetstream(&site.client("operator").await, None);
    let stream = operator.get_stream(EVENTS_STREAM).await.unwrap();
    let others = pull::Config { durable_name: Some("others".to_owned()), ..Default::default() };
    stream.create_consumer(others).await.unwrap();
    publish(&jetstream(&site.client("acme").await, None), [received("acme", "1")]).await;
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

async fn give_all_rights(site: &Roles, folder: &tempfile::TempDir) {
    let whole = std::fs::read_to_string(shipped_configuration()).unwrap();
    std::fs::write(folder.path().join("nats-server.conf"), whole).unwrap();
    site.nats.reload().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_without_its_rights_says_so_and_goes_on_when_it_has_them() {
    // At once: each waits most of the time.
    join_all([
        ingest_without("\"$JS.API.STREAM.INFO.BOTSTATS_EVENTS\", ", "STREAM.INFO"),
        ingest_without("\"$JS.API.CONSUMER.CREATE.BOTSTATS_EVENTS\"", "CONSUMER.CREATE"),
        ingest_without(
            "\"$JS.API.CONSUMER.MSG.NEXT.BOTSTATS_EVENTS.*\"",
            "0 of 1 messages applied",
        ),
        ingest_without("\"botstats.read.v1.*\", ", "may not subscribe to botstats.read.v1.*"),
        ingest_without("\"botstats.read.v1.*.*\", ", "may not subscribe to botstats.read.v1.*.*"),
        ingest_without(
            "\"botstats.deadletters.v1\", ",
            "may not subscribe to botstats.deadletters",
        ),
        ingest_without("\"_INBOX_ingest.>\"", "may not subscribe to _INBOX_ingest.>"),
    ])
    .await;
}

async fn ingest_without(missing: &str, reason: &str) {
    let (site, folder) = Roles::without(missing).await;
    site.json(&["setup"]);
    publish(&jetstream(&site.client("acme").await, None), [received("acme", "1")]).await;
    let (ingest, internal) = site.ingest().await;
    not_ready(internal, reason).await;
    // The reason may be there before the server's word about the right is.
    ingest.logged("may not").await;
    let metrics = get(internal, "/metrics", &[]).await;
    let denied = ["publish", "subscribe"].iter().any(|what| {
        let series = format!("\nbotstats_nats_denied_total{{what=\"{what}\"}} ");
        let count = metrics.text().split_once(&series).unwrap().1.lines().next();
        count.is_some_and(|count| count != "0")
    });
    assert!(denied, "{missing}: {}", metrics.text());
    give_all_rights(&site, &folder).await;
    ready(internal).await;
    site.applied(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_without_its_rights_says_so_and_goes_on_when_it_has_them() {
    // Those without a reason are seen when they are needed: in a call.
    join_all([
        query_without("\"$KV.botstats_throttle.*\"", ""),
        query_without("\"botstats.read.v1.*.*\", \"botstats.read.v1.*\", |\"$SRV.PING", ""),
        query_without(
            "\"$JS.API.STREAM.MSG.GET.KV_botstats_directory\", ",
            "MSG.GET.KV_botstats_directory",
        ),
        query_without("\"$JS.API.CONSUMER.CREATE.KV_botstats_directory\"", "CONSUMER.CREATE"),
        query_without(
            ", \"$JS.API.STREAM.INFO.KV_botstats_throttle\"",
            "INFO.KV_botstats_throttle",
        ),
        query_without(", \"_INBOX_query.>\"", "may not subscribe to _INBOX_query.>"),
        query_without("\"botstats.status.v1\", |\"_INBOX_query", "subscribe to botstats.status.v1"),
    ])
    .await;
}

/// A site that was not given the new rights yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_without_the_rights_for_bots_calls_answers_all_others() {
    for missing in [
        "\"$JS.API.STREAM.INFO.KV_botstats_throttle_bot\"",
        "\"$JS.API.STREAM.MSG.GET.KV_botstats_throttle_bot\"",
        "\"$KV.botstats_throttle_bot.*.*\"",
    ] {
        let (site, folder) = Roles::without(missing).await;
        site.json(&["setup"]);
        let token = text(&site.json(&["account", "add", "acme"]), "token").to_owned();
        site.json(&["bot", "add", "acme", "b1"]);
        let of_bot = text(&site.json(&["token", "add", "acme", "--bot", "b1"]), "token").to_owned();
        publish(&jetstream(&site.client("acme").await, None), [received("acme", "1")]).await;
        let (_ingest, internal) = site.ingest().await;
        ready(internal).await;
        let query = site.query().await;
        ready(query.internal).await;
        let path = ALL.replace("account/*/", "");
        let answer = get_as(&of_bot, query.http, &path, &[]).await;
        assert_eq!(answer.status, 503, "{missing}: {answer:?}");
        assert_eq!(query.ask_all(&token).await.status, 200, "{missing}");
        query.process.logged("may not").await;
        give_all_rights(&site, &folder).await;
        until("a 200 once the right is there", PATIENCE, async || {
            let answer = get_as(&of_bot, query.http, &path, &[]).await;
            assert!(matches!(answer.status, 200 | 503), "{missing}: {answer:?}");
            (answer.status == 200).then_some(())
        })
        .await;
    }
}

async fn query_without(missing: &str, reason: &str) {
    let (site, folder) = Roles::without(missing).await;
    site.json(&["setup"]);
    let token = text(&site.json(&["account", "add", "acme"]), "token").to_owned();
    publish(&jetstream(&site.client("acme").await, None), [received("acme", "1")]).await;
    let (_ingest, internal) = site.ingest().await;
    ready(internal).await;
    let query = site.query().await;
    if reason.is_empty() {
        ready(query.internal).await;
        let answer = query.ask_all(&token).await;
        assert_eq!(answer.status, 503, "{missing}: {answer:?}");
    } else {
        not_ready(query.internal, reason).await;
    }
    assert!(query.process.log().contains("may not"), "{missing}: {}", query.process.log());
    give_all_rights(&site, &folder).await;
    ready(query.internal).await;
    // The call that failed was not used up.
    until("a 200 once the right is there", PATIENCE, async || {
        let answer = query.ask_all(&token).await;
        assert!(matches!(answer.status, 200 | 503), "{missing}: {answer:?}");
        (answer.status == 200).then_some(())
    })
    .await;
}

#[test]
fn user_and_password_may_stand_in_the_url() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let site = runtime.block_on(Roles::start());
    site.json(&["setup"]);
    let own = lines(site.folder.path(), "own", &[received("acme", "1")]);
    let stored = |more: &[(&str, String)]| {
        let with = |password: &str| format!("acme:{password}@127.0.0.1");
        let url = |password| site.nats.url().replacen("127.0.0.1", &with(password), 1);
        let (right, wrong) = (url("password%2Dof-acme"), url("wrong"));
        [right, wrong].map(|url| {
            let settings = [&[("NATS_URL", url)], more].concat();
            let output = run("botstats", &["publish", &own], &settings);
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!told.contains("acme:"), "{told}");
            output.status.success()
        })
    };
    // The inbox is the user's too.
    assert_eq!(stored(&[]), [true, false]);
    // A setting wins over the URL.
    assert_eq!(stored(&[("NATS_PASSWORD", Roles::password("acme"))]), [true, true]);
    assert_eq!(stored(&[("NATS_PASSWORD", "wrong".to_owned())]), [false, false]);
}

#[test]
fn commands_without_their_rights_name_them() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let site = runtime.block_on(Roles::start());
    site.json(&["setup"]);
    let foreign = lines(site.folder.path(), "foreign", &[received("other", "1")]);
    let many: Vec<_> = (0..BATCH).map(|n| received("other", &n.to_string())).collect();
    let many = lines(site.folder.path(), "many", &many);
    let own = lines(site.folder.path(), "own", &[received("acme", "1")]);
    for (user, arguments, reason) in [
        ("query", &["setup"][..], "may not subscribe to _INBOX_admin.>"),
        ("acme", &["setup", "--nats-inbox-prefix", "_INBOX_acme"], "$JS.API.STREAM.INFO.BOTSTATS"),
        ("acme", &["account", "add", "x", "--nats-inbox-prefix", "_INBOX_acme"], "may not publish"),
        (
            "query",
            &["account", "add", "x", "--nats-inbox-prefix", "_INBOX_query"],
            "may not publish",
        ),
        ("acme", &["status", "--nats-inbox-prefix", "_INBOX_acme"], "botstats.status.v1"),
        ("acme", &["deadletters", "list", "--nats-inbox-prefix", "_INBOX_acme"], "deadletters.v1"),
        ("acme", &["publish", &foreign], "may not publish to botstats.events.other.b1.web"),
        ("acme", &["publish", &many], "may not publish to botstats.events.other.b1.web"),
        ("acme", &["publish", &own, "--nats-inbox-prefix", "_INBOX_x"], "NATS_INBOX_PREFIX"),
    ] {
        let output = site.botstats(user, arguments);
        let told = [&output.stdout[..], &output.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
        assert!(told.contains(reason), "{arguments:?}: {told}");
    }
}
