//! The directory commands against a real nats-server.

use std::thread;

use crate::tools::World;
use botstats_common::secret::SecretHash;
use serde_json::{Value, json};

/// The value that a key of the directory has now.
fn stored(world: &World, key: &str) -> Value {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(world.server.url()).await.unwrap();
        let js = async_nats::jetstream::new(client);
        let kv = js.get_key_value("botstats_directory").await.unwrap();
        serde_json::from_slice(&kv.get(key).await.unwrap().unwrap()).unwrap()
    })
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap()
}

#[test]
fn an_account_comes_changes_goes_and_comes_back() {
    let world = World::new();
    let added =
        world.json(["account", "add", "acme", "--name", "Acme", "--timezone", "europe/rome"]);
    let entry = stored(&world, "account.acme");
    assert_eq!(entry["name"], "Acme");
    assert_eq!(entry["timezone"], "Europe/Rome");
    let hash = SecretHash::of(text(&added, "token"));
    assert_eq!(entry["tokens"][0]["sha256"], json!(hash));
    assert!(!entry.to_string().contains(text(&added, "token")), "the token itself is stored");

    let second = world.json(["token", "add", "acme"]);
    let ids = |world: &World| -> Vec<String> {
        let tokens = world.json(["token", "list", "acme"]);
        tokens.as_array().unwrap().iter().map(|t| text(t, "token_id").to_owned()).collect()
    };
    let (first_id, second_id) = (text(&added, "token_id"), text(&second, "token_id"));
    assert_eq!(ids(&world), [first_id, second_id]);
    world.run(["token", "revoke", "acme", first_id]).ok();
    assert_eq!(ids(&world), [second_id]);
    world.run(["token", "revoke", "acme", first_id]).failed(1, "has no token");

    world.run(["account", "set", "acme", "--timezone", "UTC"]).ok();
    let entry = stored(&world, "account.acme");
    assert_eq!((&entry["name"], &entry["timezone"]), (&json!("Acme"), &json!("UTC")));
    world.run(["account", "add", "acme"]).failed(1, "use `set`");
    world.run(["account", "remove", "acme"]).ok();
    // The hash stays: a call with the token must get 404, not 401.
    let entry = stored(&world, "account.acme");
    assert_eq!(entry["removed"], true);
    assert_eq!(entry["tokens"][0]["id"], second_id);
    world.run(["account", "set", "acme", "--name", "x"]).failed(1, "--restore");
    world.run(["account", "add", "acme"]).failed(1, "--restore");
    let back = world.json(["account", "add", "acme", "--restore"]);
    assert_eq!(ids(&world), [text(&back, "token_id")]);
    let entry = stored(&world, "account.acme");
    assert_eq!((&entry["name"], &entry["removed"]), (&json!("Acme"), &json!(false)));

    let listed = world.json(["account", "list"]);
    assert_eq!(listed[0]["account"], "acme");
    assert!(world.run(["account", "list"]).ok().contains("Acme"));
}

#[test]
fn a_bot_comes_changes_goes_and_comes_back() {
    let world = World::new();
    world.run(["bot", "add", "acme", "b1"]).failed(1, "there is no account acme");
    world.run(["account", "add", "acme"]).ok();
    let added = world.json([
        "bot",
        "add",
        "acme",
        "b1",
        "--name",
        "Pizza",
        "--channel",
        "web=Web",
        "--channel",
        "sms=S",
    ]);
    let entry = stored(&world, "bot.acme.b1");
    assert_eq!(entry["channels"], json!({"web": "Web", "sms": "S"}));
    assert_eq!(entry["key_sha256"], json!(SecretHash::of(text(&added, "key"))));

    world.run(["bot", "set", "acme", "b1", "--channel", "sms=", "--channel", "wa=WhatsApp"]).ok();
    let entry = stored(&world, "bot.acme.b1");
    assert_eq!(entry["name"], "Pizza");
    assert_eq!(entry["channels"], json!({"web": "Web", "wa": "WhatsApp"}));

    let rotated = world.json(["key", "rotate", "acme", "b1"]);
    assert_ne!(rotated["key"], added["key"]);
    let entry = stored(&world, "bot.acme.b1");
    assert_eq!(entry["key_sha256"], json!(SecretHash::of(text(&rotated, "key"))));

    world.run(["bot", "remove", "acme", "b1"]).ok();
    let entry = stored(&world, "bot.acme.b1");
    assert_eq!((&entry["name"], &entry["removed"]), (&json!("Pizza"), &json!(true)));
    assert_eq!(entry.get("key_sha256"), None);
    world.run(["key", "rotate", "acme", "b1"]).failed(1, "was removed");
    world.run(["bot", "add", "acme", "b1"]).failed(1, "--restore");
    world.run(["bot", "add", "acme", "b1", "--restore"]).ok();
    assert_eq!(stored(&world, "bot.acme.b1")["channels"], json!({"web": "Web", "wa": "WhatsApp"}));

    world.run(["account", "add", "other"]).ok();
    world.run(["bot", "add", "other", "x"]).ok();
    let bots = |account: &[&str]| {
        let listed = world.json(["bot", "list"].iter().chain(account).copied());
        let names = listed.as_array().unwrap().iter().map(|b| text(b, "bot").to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(bots(&[]), ["b1", "x"]);
    assert_eq!(bots(&["other"]), ["x"]);
    world.run(["account", "remove", "other"]).ok();
    world.run(["bot", "add", "other", "y"]).failed(1, "was removed");
}

#[test]
fn racing_commands_lose_nothing() {
    let world = World::new();
    let codes: Vec<Option<i32>> = thread::scope(|scope| {
        let racers: Vec<_> =
            (0..4).map(|_| scope.spawn(|| world.run(["account", "add", "acme"]).code)).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == Some(1)).count(), 3, "{codes:?}");
    thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| world.run(["token", "add", "acme"]).ok().to_owned());
        }
    });
    assert_eq!(stored(&world, "account.acme")["tokens"].as_array().unwrap().len(), 6);
}

#[test]
fn a_value_of_others_that_is_bad_is_told() {
    let world = World::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(world.server.url()).await.unwrap();
        let js = async_nats::jetstream::new(client);
        let kv = js.get_key_value("botstats_directory").await.unwrap();
        kv.put("account.bad", "nonsense".into()).await.unwrap();
        kv.put("account.gone", "{}".into()).await.unwrap();
        kv.delete("account.gone").await.unwrap();
    });
    world.run(["account", "set", "bad", "--name", "x"]).failed(1, "no entry");
    assert!(world.run(["account", "list"]).ok().contains("bad value"));
    // A key that somebody deleted is as good as never written.
    world.run(["account", "add", "gone"]).ok();
}
