//! `publish` and `simulate` against a real nats-server.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use crate::tools::World;
use botstats_common::io::producer::{Message, Publisher};
use botstats_common::io::stop;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// The subjects and payloads in the stream, in order. Only the protocol of batches needs headers.
async fn stored(url: &str) -> Vec<(String, String)> {
    let client = async_nats::connect(url).await.unwrap();
    let js = async_nats::jetstream::new(client);
    let mut stream = js.get_stream("BOTSTATS_EVENTS").await.unwrap();
    let last = stream.info().await.unwrap().state.last_sequence;
    let mut messages = Vec::new();
    for sequence in 1..=last {
        let message = stream.get_raw_message(sequence).await.unwrap();
        for (name, _) in message.headers.iter() {
            assert!(name.to_string().starts_with("Nats-Batch-"), "{name}");
        }
        let payload = String::from_utf8(message.payload.to_vec()).unwrap();
        messages.push((message.subject.to_string(), payload));
    }
    messages
}

#[tokio::test]
async fn good_lines_are_stored_as_they_stand_and_bad_ones_named() {
    let world = World::new();
    let big = "x".repeat(80_000);
    let mut lines = vec![
        r#"{"subject":"botstats.events.a.b.c","payload":{"z": 1,"a":[ ]}}"#.to_owned(),
        "nonsense".to_owned(),
        r#"{"subject":"elsewhere.a.b.c","payload":{}}"#.to_owned(),
        format!(r#"{{"subject":"botstats.events.a.b.big","payload":{{"x":"{big}"}}}}"#),
        String::new(),
    ];
    // So many that some go as batches, with the bad ones among them.
    lines.extend(
        (0..1_500)
            .map(|i| format!(r#"{{"payload":{{"n":{i}}},"subject":"botstats.events.a.b.c"}}"#)),
    );
    let file = world.file("lines", &lines.join("\n"));
    let said = world.run(["publish", &file, "--json"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let answer: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&answer["stored"], &answer["refused"]), (&json!(1_501), &json!(3)));
    let refused: Vec<u64> = answer["refusals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|refusal| refusal["line"].as_u64().unwrap())
        .collect();
    assert_eq!(refused, [2, 3, 4]);

    let messages = stored(&world.server.url()).await;
    assert_eq!(messages.len(), 1_501);
    let payloads: BTreeSet<&str> = messages.iter().map(|(_, payload)| payload.as_str()).collect();
    assert_eq!(payloads.len(), 1_501);
    assert!(payloads.contains(r#"{"z": 1,"a":[ ]}"#), "the payload's bytes changed");
}

/// As Windows and exports make them: what is harmless is published, the rest refused, nothing
/// dropped.
#[tokio::test]
async fn files_of_other_forms() {
    let world = World::new();
    let line = |id: u32| format!(r#"{{"subject":"botstats.events.a.b.c","payload":{{"n":{id}}}}}"#);
    let utf16 = |text: &str| -> Vec<u8> {
        [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
    };
    for (number, (bytes, stored, refused, why)) in [
        (format!("\u{feff}{}\r\n", line(0)).into_bytes(), 1, 0, ""),
        (format!("[{},\n{}]", line(1), line(2)).into_bytes(), 2, 0, ""),
        (utf16(&line(3)), 0, 1, "iconv -f UTF-16 -t UTF-8 FILE | botstats publish -"),
        (line(4).replace(',', ",\n").into_bytes(), 0, 2, "jq -c . FILE | botstats publish -"),
        (line(5).replacen('{', r#"{"headers":{"ce-id":"5"},"#, 1).into_bytes(), 0, 1, "headers"),
        (line(6).replace(r#"{"n":6}"#, r#""{\"n\":6}""#).into_bytes(), 0, 1, "payload is a text"),
        (Vec::new(), 0, 0, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let path = world.folder.path().join(format!("form-{number}"));
        fs::write(&path, bytes).unwrap();
        let said = world.run(["publish", path.to_str().unwrap(), "--json"]);
        let answer: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!((&answer["stored"], &answer["refused"]), (&json!(stored), &json!(refused)));
        assert_eq!(said.code, Some(i32::from(refused > 0)), "{said:?}");
        let first = answer["refusals"][0]["reason"].as_str().unwrap_or_default();
        assert!(first.contains(why) && first.is_empty() == why.is_empty(), "{first}");
    }
    let messages = stored(&world.server.url()).await;
    let payloads: Vec<&str> = messages.iter().map(|(_, payload)| payload.as_str()).collect();
    assert_eq!(payloads, [r#"{"n":0}"#, r#"{"n":1}"#, r#"{"n":2}"#]);
    let folder = world.folder.path().to_str().unwrap();
    world.run(["publish", folder]).failed(1, "is a folder");
}

#[test]
fn standard_input_is_a_file_too() {
    let world = World::new();
    let mut child =
        world.command().args(["publish", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let child = child.as_mut().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"{\"subject\":\"botstats.events.a.b.c\",\"payload\":{}}\n").unwrap();
    drop(input);
    let mut out = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut out).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(out, "1 event stored, 0 lines refused\n");
}

#[test]
fn without_a_stream_it_says_what_to_do() {
    let world = World::bare();
    let file = world.file("line", r#"{"subject":"botstats.events.a.b.c","payload":{}}"#);
    world.run(["publish", &file]).failed(1, "botstats setup");
}

#[test]
fn a_seed_is_a_file() {
    let world = World::new();
    let make = |name: &str, seed: &str| {
        let path = world.folder.path().join(name);
        let path = path.to_str().unwrap();
        let now = "2026-11-20T12:00:00Z";
        let options = ["--accounts", "2", "--days", "3", "--events", "2500"];
        let more = ["--seed", seed, "--now", now, "--out", path];
        world.run(["simulate"].iter().chain(&options).chain(&more)).ok();
        fs::read_to_string(path).unwrap()
    };
    let first = make("a", "1");
    assert_eq!(first.lines().count(), 2_500);
    assert!(first == make("b", "1"), "the same seed gave other bytes");
    assert!(first != make("c", "2"), "another seed gave the same bytes");
    let last: serde_json::Value = serde_json::from_str(first.lines().last().unwrap()).unwrap();
    assert!(last["payload"]["time"].as_str().unwrap().starts_with("2026-11-20T11:"), "{last}");
    // What is written can be published.
    let path = world.folder.path().join("a");
    let answer = world.json(["publish", path.to_str().unwrap()]);
    assert_eq!(answer, json!({"stored": 2_500, "refused": 0, "refusals": []}));
}

#[tokio::test]
async fn simulated_events_go_to_the_stream() {
    let world = World::new();
    let answer = world.json(["simulate", "--events", "1200", "--accounts", "1", "--days", "1"]);
    assert_eq!(answer, json!({"stored": 1_200, "refused": 0}));
    let messages = stored(&world.server.url()).await;
    assert_eq!(messages.len(), 1_200);
    assert!(messages.iter().all(|(subject, _)| subject.starts_with("botstats.events.sim-1.")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_loses_nothing() {
    let mut world = World::new();
    let client = async_nats::connect(world.server.url()).await.unwrap();
    let (sender, receiver) = mpsc::channel(100);
    let publisher = Publisher::new(client);
    let publishing = stop::spawn(async move { publisher.publish(receiver, |_| {}).await });
    let message = |tag: u64| Message {
        tag,
        subject: "botstats.events.a.b.c".to_owned(),
        payload: format!("{{\"n\":{tag}}}").into(),
    };
    const COUNT: u64 = 6_000;
    let feeding = stop::spawn(async move {
        for tag in 0..COUNT {
            sender.send(message(tag)).await.unwrap();
        }
    });
    // In the middle of it, whenever that is: the law holds for every moment.
    world.server.kill();
    world.server.restart().unwrap();
    feeding.await.unwrap();
    let counts = publishing.await.unwrap().unwrap();
    assert_eq!((counts.stored, counts.refused), (COUNT, 0));
    let messages = stored(&world.server.url()).await;
    let payloads: BTreeSet<&String> = messages.iter().map(|(_, payload)| payload).collect();
    assert_eq!(payloads.len(), usize::try_from(COUNT).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_forgotten_and_never_named() {
    let world = World::new();
    let users = world.file("users", "\u{feff}user-ann\r\n\nuser-bob\nuser-ann\n");
    let forget = ["forget", "acme", "b1", "web"];
    let said = world.json(forget.iter().chain(&["--user-file", users.as_str()]).copied());
    assert_eq!(said, json!({"stored": 3, "refused": 0, "refusals": []}));
    let messages = stored(world.server.url().as_str()).await;
    let mut told = Vec::new();
    let mut ids = std::collections::BTreeSet::new();
    for (subject, payload) in &messages {
        assert_eq!(subject, "botstats.events.acme.b1.web");
        let event: Value = serde_json::from_str(payload).unwrap();
        assert_eq!(event["type"], "io.botstats.user.forgotten.v1");
        assert_eq!(event["data"].as_object().unwrap().len(), 1);
        ids.insert(event["id"].to_string());
        told.push(event["data"]["userid"].as_str().unwrap().to_owned());
    }
    told.sort();
    assert_eq!(
        (told, ids.len()),
        (["user-ann", "user-ann", "user-bob"].map(str::to_owned).to_vec(), 3)
    );

    // A bad line: its number is named, and nothing is published.
    let bad = world.file("bad", &format!("user-ann\nuser-eve \n{}\n", "x".repeat(513)));
    let said = world.run(forget.iter().chain(&["--user-file", bad.as_str()]).copied());
    assert_eq!(said.code, Some(1), "{said:?}");
    for line in ["line 2: it begins or ends with a space", "line 3: userid is 5"] {
        assert!(said.out.contains(line), "{line}: {said:?}");
    }
    assert!(!format!("{said:?}").contains("user-"), "{said:?}");
    let empty = world.file("empty", "\n");
    world
        .run(forget.iter().chain(&["--user-file", empty.as_str()]).copied())
        .failed(1, "no user id");
    world.run(forget.iter().chain(&["--user-file", "/nowhere"]).copied()).failed(1, "/nowhere");
    // An id as an argument by mistake is not repeated.
    let said = world.run(forget.iter().chain(&["user-eve"]).copied());
    said.failed(64, "user ids are no arguments");
    assert!(!said.err.contains("user-eve"), "{said:?}");
    assert_eq!(stored(world.server.url().as_str()).await.len(), 3);

    let mut command = world.command();
    command.args(forget).arg("-").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"user-cid").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stored(world.server.url().as_str()).await.len(), 4);
}
