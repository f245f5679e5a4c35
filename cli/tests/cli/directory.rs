//! The directory commands against a real nats-server.

use std::thread;

use crate::tools::{World, run};
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

/// The ids in the list of an account's tokens, with their scopes.
fn scopes(world: &World) -> Vec<(String, String)> {
    let tokens = world.json(["token", "list", "acme"]);
    let tokens = tokens.as_array().unwrap().iter();
    tokens.map(|t| (text(t, "token_id").to_owned(), text(t, "scope").to_owned())).collect()
}

#[test]
fn tokens_of_every_scope_come_and_go() {
    let world = World::new();
    for narrow in [&["--bot", "b1"][..], &["--view"]] {
        let add = [&["token", "add", "acme"], narrow].concat();
        world.run(add).failed(1, "there is no account acme");
    }
    let first = world.json(["account", "add", "acme"]);
    world.run(["token", "add", "acme", "--bot", "b1"]).failed(1, "no such bot");
    world.run(["token", "add", "acme", "--view", "--only", "b1"]).failed(1, "has no bot b1");
    world.run(["bot", "add", "acme", "b1"]).ok();
    world.run(["bot", "add", "acme", "b2"]).ok();

    let of_bot = world.json(["token", "add", "acme", "--bot", "b1", "--expires", "30d"]);
    let entry = stored(&world, "bot.acme.b1");
    let item = &entry["tokens"][0];
    assert_eq!(item["sha256"], json!(SecretHash::of(text(&of_bot, "token"))));
    assert_eq!((&item["id"], &item["expires"]), (&of_bot["token_id"], &of_bot["expires"]));
    assert_eq!((text(&of_bot, "scope"), text(&of_bot, "bot")), ("bot", "b1"));
    assert!(entry["key_sha256"].is_string(), "the key stays: {entry}");

    let view = world.json(["token", "add", "acme", "--view"]);
    assert_eq!(text(&view, "link"), format!("/dashboard#{}", text(&view, "token")));
    let mut command = world.command();
    command.env("BOTSTATS_PUBLIC_URL", "https://stats.example.com/x/");
    command.args(["token", "add", "acme", "--view", "--only", "b2", "--only", "b1", "--operators"]);
    let narrow = run(command.args(["--expires", "7d", "--json"]));
    let narrow: Value = serde_json::from_str(narrow.ok()).unwrap();
    let link = format!("https://stats.example.com/x/dashboard#{}", text(&narrow, "token"));
    assert_eq!(text(&narrow, "link"), link);
    let days = |token: &Value| {
        let entry = stored(&world, &format!("view.acme.{}", text(token, "token_id")));
        assert_eq!(entry["sha256"], json!(SecretHash::of(text(token, "token"))));
        let at = |field: &str| text(&entry, field).parse::<jiff::Timestamp>().unwrap();
        let days = at("expires").duration_since(at("created")).as_secs_f64() / 86_400.0;
        (days.round(), entry["bots"].clone(), entry["operators"].clone())
    };
    assert_eq!(days(&view), (90.0, json!(null), json!(false)));
    assert_eq!(days(&narrow), (7.0, json!(["b1", "b2"]), json!(true)));

    let id = |token: &Value| text(token, "token_id").to_owned();
    let listed = scopes(&world);
    let expected = [(&first, "account"), (&of_bot, "bot"), (&view, "view"), (&narrow, "view")];
    for (token, scope) in expected {
        assert!(listed.contains(&(id(token), scope.to_owned())), "{listed:?}");
    }
    assert_eq!(listed.len(), 4);
    let table = world.run(["token", "list"]).ok().to_owned();
    for shown in [
        "SCOPE",
        "EXPIRES",
        "bot b1",
        "view of all bots",
        "view of b1, b2, with operators",
        "never",
    ] {
        assert!(table.contains(shown), "{shown} is not in {table}");
    }
    for secret in [&first, &of_bot, &view, &narrow] {
        assert!(!table.contains(text(secret, "token")));
    }

    for token in [&of_bot, &view, &first] {
        world.run(["token", "revoke", "acme", &id(token)]).ok();
        world.run(["token", "revoke", "acme", &id(token)]).failed(1, "has no token");
    }
    assert_eq!(scopes(&world), [(id(&narrow), "view".to_owned())]);
    assert_eq!(stored(&world, "bot.acme.b1").get("tokens"), None);

    // What goes takes its tokens along, and does not bring them back.
    world.run(["token", "add", "acme", "--bot", "b1"]).ok();
    world.run(["bot", "remove", "acme", "b1"]).ok();
    world.run(["bot", "add", "acme", "b1", "--restore"]).ok();
    world.run(["token", "add", "acme", "--bot", "b2"]).ok();
    assert_eq!(scopes(&world).len(), 2);
    world.run(["account", "remove", "acme"]).ok();
    world.run(["token", "add", "acme", "--view"]).failed(1, "was removed");
    world.run(["token", "add", "acme", "--bot", "b2"]).failed(1, "was removed");
    let back = world.json(["account", "add", "acme", "--restore"]);
    assert_eq!(scopes(&world), [(id(&back), "account".to_owned())]);
    world.run(["account", "add", "acme", "--restore"]).failed(1, "use `set`");
    world.run(["token", "revoke", "nobody", "t1"]).failed(1, "no such account");
}

#[test]
fn operators_get_names() {
    let world = World::new();
    world.run(["operator", "set", "acme", "o1", "Ann"]).failed(1, "there is no account acme");
    world.run(["account", "add", "acme"]).ok();
    assert!(world.run(["operator", "list", "acme"]).ok().contains("operator set"));
    world.run(["operator", "set", "acme", "o1", "Ann"]).ok();
    world.run(["operator", "set", "acme", "a b@c", "Bob"]).ok();
    world.run(["operator", "set", "acme", "o1", "Anna"]).ok();
    assert_eq!(stored(&world, "operators.acme"), json!({"o1": "Anna", "a b@c": "Bob"}));
    let listed = world.json(["operator", "list", "acme"]);
    assert_eq!(
        listed,
        json!([{"operator": "a b@c", "name": "Bob"}, {"operator": "o1", "name": "Anna"}])
    );
    assert!(world.run(["operator", "list", "acme"]).ok().contains("Anna"));
    world.run(["operator", "remove", "acme", "o1"]).ok();
    world.run(["operator", "remove", "acme", "o1"]).failed(1, "has no name");
    assert_eq!(stored(&world, "operators.acme"), json!({"a b@c": "Bob"}));
    // Names do not show in the lists of accounts and bots.
    assert_eq!(world.json(["account", "list"]).as_array().unwrap().len(), 1);
    world.run(["account", "remove", "acme"]).ok();
    world.run(["operator", "set", "acme", "o1", "Ann"]).failed(1, "was removed");
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
