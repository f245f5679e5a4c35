//! Streams that share the accounts by slots: how an installation gets them, splits that are
//! interrupted anywhere, and what is found wrong.

use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use botstats_common::io::nats::jetstream;
use botstats_common::io::stop::spawn;
use botstats_common::names::{
    DEAD_LETTERS_SUBJECT, EVENTS_STREAM, SLOT_MAPPING, STATUS_SUBJECT, slot_subjects,
};
use botstats_common::slot::{Slot, Slots};
use botstats_common::status::{
    DeadLetter, DeadLettersReply, DeadLettersRequest, IngestStatus, Status,
};
use botstats_tests::harness::{
    Configured, KilledSplit, PATIENCE, Process, SplitStep, connection, free_ports, run, until,
};
use futures::StreamExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;

const B: &str = "BOTSTATS_EVENTS_B";

/// A nats-server whose mapping can be changed.
struct Site {
    nats: Configured,
    client: async_nats::Client,
    js: Context,
    config: PathBuf,
    // Last: the folder goes after those who use it.
    folder: TempDir,
}

/// The configuration of a server.
fn configuration(folder: &TempDir, mapped: bool, more: &str) -> String {
    let (from, to) = SLOT_MAPPING;
    let mapping =
        if mapped { format!("mappings {{ \"{from}\": \"{to}\" }}\n") } else { String::new() };
    let store = folder.path().join("streams").display().to_string();
    // In an account as in the shipped file: the global account keeps a mapping that a reload
    // removes.
    format!(
        "jetstream {{ store_dir: \"{store}\" }}\nno_auth_user: all\n\
         accounts {{ A {{ jetstream: enabled, users: [{{ user: all, password: all }}]\n{mapping} }} }}\n{more}\n"
    )
}

impl Site {
    async fn start(mapped: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("nats-server.conf");
        std::fs::write(&config, configuration(&folder, mapped, "")).unwrap();
        let nats = Configured::start(&config, &[], &folder.path().join("nats")).await;
        let client = connection(&nats.url()).await;
        let js = jetstream(&client, None);
        Self { nats, client, js, config, folder }
    }

    /// Adds the mapping, or removes it.
    async fn map(&self, mapped: bool) {
        std::fs::write(&self.config, configuration(&self.folder, mapped, "")).unwrap();
        self.nats.reload().await;
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![("NATS_URL", self.nats.url())]
    }

    fn botstats(&self, arguments: &[&str]) -> Output {
        run("botstats", arguments, &self.settings())
    }

    /// Runs a command that must exit with this code; gives its answer and what it wrote to standard
    /// error.
    fn ends(&self, code: i32, arguments: &[&str]) -> (Value, String) {
        let output = self.botstats(&[arguments, &["--json"]].concat());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told} {answer}");
        (answer, told)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        self.ends(0, arguments).0
    }

    fn refuses(&self, arguments: &[&str], why: &str) {
        let (answer, told) = self.ends(1, arguments);
        assert!(told.contains(why), "{arguments:?}: {told} {answer}");
    }

    /// Publishes an event of an account; the stream that stored it, or what the server said.
    async fn publish(&self, account: &str) -> Result<String, String> {
        let subject = format!("botstats.events.{account}.b1.web");
        let sent = self.js.publish(subject, "{}".into()).await.unwrap();
        sent.await.map(|ack| ack.stream).map_err(|error| error.to_string())
    }

    /// Configuration and state of a stream as the server gives them.
    async fn info(&self, stream: &str) -> Value {
        self.js.request(format!("STREAM.INFO.{stream}"), &json!({})).await.unwrap()
    }

    async fn subjects(&self, stream: &str) -> Vec<String> {
        serde_json::from_value(self.info(stream).await["config"]["subjects"].clone()).unwrap()
    }

    /// The configuration of a stream but its subjects.
    async fn rest(&self, stream: &str) -> Value {
        let mut config = self.info(stream).await["config"].clone();
        config["subjects"] = Value::Null;
        config
    }

    /// The subjects of all messages of a stream.
    async fn stored(&self, stream: &str) -> Vec<String> {
        let stream = self.js.get_stream(stream).await.unwrap();
        let state = stream.get_info().await.unwrap().state;
        let mut subjects = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            subjects.push(stream.get_raw_message(sequence).await.unwrap().subject.to_string());
        }
        subjects
    }

    fn split(&self, parent: &str, child: &str, slots: &str) {
        self.json(&["cells", "split", parent, child, "--slots", slots, "--without-ingest"]);
    }

    /// Answers status requests as these ingests would.
    async fn ingests(&self, ingests: &[(&str, &str)]) -> Arc<Mutex<Vec<Status>>> {
        let statuses = Arc::new(Mutex::new(statuses(ingests)));
        let (client, answered) = (self.client.clone(), Arc::clone(&statuses));
        let mut requests = client.subscribe(STATUS_SUBJECT).await.unwrap();
        client.flush().await.unwrap();
        spawn(async move {
            while let Some(request) = requests.next().await {
                let all = answered.lock().clone();
                for status in all {
                    let payload = serde_json::to_vec(&status).unwrap();
                    client.publish(request.reply.clone().unwrap(), payload.into()).await.unwrap();
                }
            }
        });
        statuses
    }
}

/// What ingests of these streams say, which answer for these slots.
fn statuses(ingests: &[(&str, &str)]) -> Vec<Status> {
    let of = |(stream, slots): &(&str, &str)| Status {
        program: "ingest".to_owned(),
        instance: format!("of-{stream}"),
        ready: true,
        ingest: Some(IngestStatus {
            stream: (*stream).to_owned(),
            slots: slots.parse().ok(),
            ..IngestStatus::default()
        }),
        ..Status::default()
    };
    ingests.iter().map(of).collect()
}

/// An account of that slot.
fn account_of(slot: u8) -> String {
    let mut names = (0..).map(|number| format!("a{number}"));
    names.find(|name| Slot::of_token(name) == Slot(slot)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_one_stream_to_slots() {
    let site = Site::start(false).await;
    let split = ["cells", "split", EVENTS_STREAM, B, "--slots", "128-255", "--without-ingest"];
    site.refuses(&["cells", "init"], "botstats setup");
    site.json(&["setup"]);
    assert_eq!(site.info(EVENTS_STREAM).await["config"]["compression"], "s2");
    assert_eq!(
        site.info(EVENTS_STREAM).await["config"]["subjects"],
        json!(["botstats.events.*.*.*"])
    );
    let before = site.rest(EVENTS_STREAM).await;
    assert_eq!(site.json(&["cells", "verify"]), json!({"ok": true, "streams": 0, "findings": []}));
    site.refuses(&split, "botstats cells init");
    site.refuses(&["cells", "finish"], "botstats cells init");
    site.publish("acme").await.unwrap();

    assert_eq!(site.json(&["cells", "init"])["changed"], true);
    assert_eq!(site.json(&["cells", "init"])["changed"], false);
    assert_eq!(site.subjects(EVENTS_STREAM).await.len(), 258);
    // Made or checked as before.
    assert_eq!(site.json(&["setup"])["warnings"], json!([]));
    site.refuses(&split, "botstats cells finish");
    let (checked, _) = site.ends(1, &["cells", "check"]);
    assert_eq!(checked["servers"].as_array().unwrap().len(), 1, "{checked}");
    site.refuses(&["cells", "finish"], "does not map events to slots");
    site.publish("acme").await.unwrap();

    site.map(true).await;
    assert_eq!(site.json(&["cells", "check"])["mapped"], true);
    site.publish("acme").await.unwrap();
    assert_eq!(site.json(&["cells", "finish"])["changed"], json!([EVENTS_STREAM]));
    assert_eq!(site.json(&["cells", "finish"])["changed"], json!([]));
    site.publish("other").await.unwrap();
    let stored = site.stored(EVENTS_STREAM).await;
    let plain = "botstats.events.acme.b1.web";
    let slots = ["botstats.slot.175.acme.b1.web", "botstats.slot.245.other.b1.web"];
    assert_eq!(stored, [plain, plain, slots[0], slots[1]]);
    assert_eq!(site.subjects(EVENTS_STREAM).await.len(), 257);
    assert_eq!(site.rest(EVENTS_STREAM).await, before, "more than the list was changed");
    site.refuses(&["setup", "--cells", "2"], "was not made for the slots 0-127");
    assert_eq!(site.json(&["setup"])["warnings"], json!([]));

    // A server that lost its mapping refuses events and stores none in the wrong place.
    site.map(false).await;
    let refused = site.publish("acme").await.unwrap_err();
    assert!(refused.contains("no stream found"), "{refused}");
    assert_eq!(site.stored(EVENTS_STREAM).await.len(), 4);
    site.refuses(&split, "does not map events to slots");
    let (found, _) = site.ends(1, &["cells", "verify"]);
    assert!(found.to_string().contains("does not map events to slots"), "{found}");
    assert!(found.to_string().contains("no ingest of BOTSTATS_EVENTS is ready"), "{found}");
    site.map(true).await;
    site.publish("acme").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_interrupted_after_each_step() {
    let site = Site::start(true).await;
    site.json(&["setup"]);
    site.json(&["cells", "init"]);
    site.json(&["cells", "finish"]);
    let before = site.rest(EVENTS_STREAM).await;
    for done in 0..=SplitStep::ALL.len() {
        let slot = u8::try_from(done).unwrap();
        let (child, slots) = (format!("{EVENTS_STREAM}_{done}"), slot.to_string());
        let account = account_of(slot);
        assert_eq!(site.publish(&account).await.unwrap(), EVENTS_STREAM);
        let order = [EVENTS_STREAM, child.as_str(), slots.as_str()];
        if let Some(last) = done.checked_sub(1) {
            let (step, folder) = (SplitStep::ALL[last], site.folder.path().join(&child));
            let more = ["--without-ingest"];
            KilledSplit::begin(&site.js, site.nats.port, order, step, &more, &folder)
                .await
                .kill()
                .await;
        }
        // Between taking and giving nobody has the slot.
        let published = site.publish(&account).await;
        match done {
            0 | 1 => assert_eq!(published.unwrap(), EVENTS_STREAM),
            2 | 3 => assert!(published.is_err()),
            _ => assert_eq!(published.unwrap(), child),
        }
        let listed = site.json(&["cells", "list"]);
        let listed = listed.as_array().unwrap().iter().find(|one| one["stream"] == child.as_str());
        assert_eq!(listed.is_some(), done > 0);
        let next = listed.map_or(Value::Null, |one| one["next_step"].clone());
        assert_eq!(next.is_string(), (1..4).contains(&done), "{next}");

        let whole =
            ["cells", "split", EVENTS_STREAM, &child, "--slots", &slots, "--without-ingest"];
        let resume = ["cells", "resume", &child, "--without-ingest"];
        let answer = if done == 0 { site.json(&whole) } else { site.json(&resume) };
        let splits = answer["splits"].as_array().unwrap();
        assert_eq!(splits.len(), usize::from(done < 4), "{answer}");
        if let Some(report) = splits.first() {
            assert_eq!(report["steps"].as_array().unwrap().len(), 4 - done, "{report}");
            assert_eq!(report["gap_ms"].is_number(), done < 2, "{report}");
        }
        assert_eq!(site.publish(&account).await.unwrap(), child);
        // Nothing is left, whoever asks.
        assert_eq!(site.json(&resume)["splits"], json!([]));
        assert_eq!(site.json(&["cells", "resume"])["splits"], json!([]));
        assert_eq!(site.json(&whole)["splits"][0]["steps"], json!([]));
    }
    assert_eq!(site.rest(EVENTS_STREAM).await, before, "more than the list was changed");
    let stored = site.stored(EVENTS_STREAM).await;
    let fences = stored.iter().filter(|subject| *subject == "botstats.cell.BOTSTATS_EVENTS");
    assert_eq!(fences.count(), 5);

    // A child is split, too; sequences grow along the chain.
    site.split(EVENTS_STREAM, B, "100-255");
    site.split(B, "BOTSTATS_EVENTS_C", "200-255");
    let account = account_of(200);
    assert_eq!(site.publish(&account).await.unwrap(), "BOTSTATS_EVENTS_C");
    let first = site.info("BOTSTATS_EVENTS_C").await["state"]["first_seq"].as_u64().unwrap();
    assert_eq!(first, (2 << 40) + 1);
    for (arguments, why) in [
        ([B, "BOTSTATS_EVENTS_D", "200-210"], "does not have the slots 200-210"),
        ([B, "BOTSTATS_EVENTS_C", "100-110"], "BOTSTATS_EVENTS_C exists"),
        ([B, EVENTS_STREAM, "100-110"], "BOTSTATS_EVENTS exists"),
        ([B, "BOTSTATS_EVENTS_D", "100-199"], "must keep at least one slot"),
        (["BOTSTATS_EVENTS_X", "BOTSTATS_EVENTS_D", "1"], "there is no stream BOTSTATS_EVENTS_X"),
    ] {
        let [parent, child, slots] = arguments;
        site.refuses(&["cells", "split", parent, child, "--slots", slots], why);
    }
    let (found, _) = site.ends(1, &["cells", "verify"]);
    let about: Vec<&str> = found["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["about"].as_str().unwrap())
        .collect();
    assert_eq!(about, ["ingest"; 8], "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_waits_for_its_ingest_and_survives_a_kill() {
    let site = Site::start(true).await;
    site.json(&["setup", "--cells", "2"]);
    let (second, child) = ("BOTSTATS_EVENTS_2", "BOTSTATS_EVENTS_HOT");
    let before = [(EVENTS_STREAM, "0-127"), (second, "128-255")];
    let ingests = site.ingests(&before).await;
    let acme = "175";
    let arguments = ["cells", "split", second, child, "--slots", acme];
    let short = [&arguments[..], &["--wait", "1s"]].concat();
    site.refuses(&short, "start one with BOTSTATS_STREAM=BOTSTATS_EVENTS_HOT");
    assert_eq!(site.publish("acme").await.unwrap(), second);
    // The second split of a stream waits for the first.
    let other = ["cells", "split", second, B, "--slots", "200", "--without-ingest"];
    site.refuses(&other, "botstats cells resume BOTSTATS_EVENTS_HOT");

    let folder = site.folder.path().join("split");
    let mut killed = Process::start("botstats", &arguments, &site.settings(), &folder);
    killed.logged("waiting for").await;
    killed.kill();
    assert_eq!(site.publish("acme").await.unwrap(), second);

    // An ingest of another stream's slots, one that is not ready, and the right one.
    let all = [&before[..], &[(child, acme)]].concat();
    let mut process = Process::start("botstats", &["cells", "resume"], &site.settings(), &folder);
    *ingests.lock() = statuses(&[&before[..], &[(child, "7")]].concat());
    process.logged("does not count the slot 175").await;
    let mut not_ready = statuses(&all);
    not_ready[2].ready = false;
    not_ready[2].missing.insert("stream".to_owned(), "3 of 9 messages applied".to_owned());
    *ingests.lock() = not_ready;
    process.logged("3 of 9 messages applied").await;
    // After the split the parent's ingest gives the slot up when it has read the fence.
    *ingests.lock() =
        statuses(&[(EVENTS_STREAM, "0-127"), (second, "128-174,176-255"), (child, acme)]);
    assert!(process.ended(PATIENCE).await.success(), "{}", process.log());
    assert_eq!(site.publish("acme").await.unwrap(), child);
    assert_eq!(site.json(&["cells", "verify"])["findings"], json!([]));
    let listed = site.botstats(&["cells", "list"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("128-174,176-255") && listed.contains("1 ready"), "{listed}");
    let status = site.botstats(&["status"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("128-174,176-255"), "{status:?}");

    // What an edit by hand breaks.
    let mut config = site.info(child).await["config"].clone();
    config["subjects"] = json!(["botstats.cell.BOTSTATS_EVENTS_HOT"]);
    let _: Value = site.js.request(format!("STREAM.UPDATE.{child}"), &config).await.unwrap();
    let (found, _) = site.ends(1, &["cells", "verify"]);
    assert!(found.to_string().contains("publishers of the slot 175 wait"), "{found}");
    site.json(&["cells", "resume"]);
    assert_eq!(site.json(&["cells", "verify"])["ok"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_installation_with_cells() {
    let site = Site::start(true).await;
    assert_eq!(site.json(&["setup", "--cells", "4"])["streams_made"], 4);
    let names = [EVENTS_STREAM, "BOTSTATS_EVENTS_2", "BOTSTATS_EVENTS_3", "BOTSTATS_EVENTS_4"];
    for (name, slots) in names.into_iter().zip(["0-63", "64-127", "128-191", "192-255"]) {
        let slots: Slots = slots.parse().unwrap();
        let subjects = slots.iter().map(slot_subjects);
        let expect: Vec<String> =
            std::iter::once(format!("botstats.cell.{name}")).chain(subjects).collect();
        assert_eq!(site.subjects(name).await, expect);
        let config = &site.info(name).await["config"];
        assert_eq!(config["metadata"]["botstats.slots"], slots.to_string());
        assert_eq!(config["compression"], "s2");
    }
    assert_eq!(site.publish("acme").await.unwrap(), "BOTSTATS_EVENTS_3");
    assert_eq!(site.publish("other").await.unwrap(), "BOTSTATS_EVENTS_4");
    let again = site.json(&["setup", "--cells", "4"]);
    assert_eq!((&again["streams_made"], &again["warnings"]), (&json!(0), &json!([])));
    site.refuses(&["setup", "--cells", "3"], "was not made for the slots 0-84");
    assert_eq!(site.json(&["cells", "init"])["changed"], false);
    assert_eq!(site.json(&["cells", "finish"])["changed"], json!([]));
    site.split(EVENTS_STREAM, B, "0-9");
    assert_eq!(site.json(&["setup", "--cells", "4"])["streams_made"], 0);
    assert_eq!(site.json(&["setup"])["stream_made"], false);

    let site = Site::start(false).await;
    site.json(&["setup"]);
    site.refuses(&["setup", "--cells", "4"], "was not made for the slots 0-63");
    assert_eq!(site.json(&["cells", "list"]).as_array().unwrap().len(), 1);
}

/// Of a cluster one server lacks the mapping; the command knows only another one.
#[tokio::test(flavor = "multi_thread")]
async fn each_server_of_a_cluster_is_asked() {
    let routes = free_ports::<3>();
    let urls: Vec<String> =
        routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
    let mut servers = Vec::new();
    for (number, port) in routes.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let urls = urls.join(", ");
        let more = format!(
            "server_name: n{number}\ncluster {{ name: test, listen: \"127.0.0.1:{port}\", routes: [{urls}] }}"
        );
        let config = folder.path().join("nats-server.conf");
        let write =
            |mapped| std::fs::write(&config, configuration(&folder, mapped, &more)).unwrap();
        write(number != 1);
        let nats = Configured::start(&config, &[], &folder.path().join("nats")).await;
        write(true);
        servers.push((nats, folder));
    }
    let settings = [("NATS_URL", servers[0].0.url())];
    let check = || {
        let output = run("botstats", &["cells", "check", "--json"], &settings);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), answer)
    };
    let (code, answer) = until("three servers", PATIENCE, async || {
        let (code, answer) = check();
        (answer["servers"].as_array()?.len() == 3).then_some((code, answer))
    })
    .await;
    assert_eq!((code, &answer["mapped"]), (Some(1), &json!(false)), "{answer}");
    for server in answer["servers"].as_array().unwrap() {
        assert_eq!(server["mapped"], server["server"] != "n1", "{answer}");
    }
    servers[1].0.reload().await;
    let (code, answer) = check();
    assert_eq!((code, &answer["mapped"]), (Some(0), &json!(true)), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strays_are_published_again() {
    let site = Site::start(true).await;
    site.json(&["setup", "--cells", "2"]);
    let second = "BOTSTATS_EVENTS_2";
    let _ingests = site.ingests(&[(EVENTS_STREAM, "0-127"), (second, "128-255")]).await;
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", "application/cloudevents+json");
    headers.insert("Nats-Msg-Id", "1");
    // Slot 175 is in the second stream.
    let stray = "botstats.slot.0.acme.b1.web";
    for payload in ["{\"n\":1}", "{\"n\":2}"] {
        let sent = site.js.publish_with_headers(stray, HeaderMap::new(), payload.into()).await;
        assert_eq!(sent.unwrap().await.unwrap().stream, EVENTS_STREAM);
    }
    let sent = site.js.publish_with_headers(stray, headers, "{\"n\":3}".into()).await;
    assert_eq!(sent.unwrap().await.unwrap().sequence, 3);
    let client = site.client.clone();
    let mut requests = client.subscribe(DEAD_LETTERS_SUBJECT).await.unwrap();
    client.flush().await.unwrap();
    spawn(async move {
        while let Some(request) = requests.next().await {
            let asked: DeadLettersRequest = serde_json::from_slice(&request.payload).unwrap();
            let rules = match asked.stream.as_deref() {
                Some(EVENTS_STREAM) => &[(3, "stray"), (2, "data"), (1, "stray")][..],
                Some(_) => &[],
                None => panic!("no stream is named"),
            };
            let wanted = |sequence: u64| match asked.sequence {
                Some(one) => sequence == one,
                None => asked.before.is_none_or(|before| sequence < before),
            };
            let of = |(sequence, rule): &(u64, &str)| DeadLetter {
                sequence: *sequence,
                rule: (*rule).to_owned(),
                reason: "a reason".to_owned(),
            };
            let letters: Vec<DeadLetter> =
                rules.iter().filter(|(sequence, _)| wanted(*sequence)).map(of).collect();
            let kept = u64::try_from(rules.len()).unwrap();
            let reply = serde_json::to_vec(&DeadLettersReply { kept, letters }).unwrap();
            client.publish(request.reply.unwrap(), reply.into()).await.unwrap();
        }
    });

    let listed = site.json(&["deadletters", "list"]);
    assert_eq!(
        (&listed["kept"], &listed["letters"][0]["stream"]),
        (&json!(3), &json!(EVENTS_STREAM))
    );
    let usage = site.ends(64, &["deadletters", "show", "3"]);
    assert!(usage.1.contains("BOTSTATS_EVENTS, BOTSTATS_EVENTS_2"), "{}", usage.1);
    let shown = site.json(&["deadletters", "show", "3", "--stream", EVENTS_STREAM]);
    assert_eq!((&shown["rule"], &shown["stream"]), (&json!("stray"), &json!(EVENTS_STREAM)));
    for _ in 0..2 {
        let answer = site.json(&["deadletters", "republish"]);
        assert_eq!(answer, json!({"republished": 2, "gone": 0, "unusable": 0}));
    }
    let stream = site.js.get_stream(second).await.unwrap();
    let mut payloads = Vec::new();
    for sequence in 1..=4 {
        let message = stream.get_raw_message(sequence).await.unwrap();
        assert_eq!(message.subject.as_str(), "botstats.slot.175.acme.b1.web");
        payloads.push(String::from_utf8_lossy(&message.payload).into_owned());
        let names: Vec<String> = message.headers.iter().map(|(name, _)| name.to_string()).collect();
        let is_last = sequence % 2 == 0;
        assert_eq!(names, if is_last { vec!["Content-Type"] } else { vec![] });
    }
    assert_eq!(payloads, ["{\"n\":1}", "{\"n\":3}", "{\"n\":1}", "{\"n\":3}"]);
    assert_eq!(site.stored(second).await.len(), 4);
}
