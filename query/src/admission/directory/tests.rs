//! Tokens, keys and clashes as cases.

use super::*;

fn hash(text: &str) -> SecretHash {
    SecretHash::of(text)
}

fn account_json(tokens: &[&str], removed: bool) -> String {
    let tokens: Vec<_> = tokens
        .iter()
        .map(|t| serde_json::json!({"id": "t", "sha256": String::from(hash(t))}))
        .collect();
    serde_json::json!({"tokens": tokens, "removed": removed}).to_string()
}

fn bot_json(key: &str, removed: bool) -> String {
    serde_json::json!({"name": key, "key_sha256": String::from(hash(key)), "removed": removed})
        .to_string()
}

fn put(directory: &mut Directory, key: &str, json: &str) {
    directory.apply(key, Change::Put(json.as_bytes())).unwrap();
}

/// The moment of most tests.
const NOW_MS: i64 = 1_795_168_800_000;

fn holder<'a>(directory: &'a Directory, token: &str) -> Option<&'a str> {
    directory.grant(&hash(token), NOW_MS).map(|grant| grant.account.as_str())
}

/// What a token grants at [`NOW_MS`], in words.
fn grants(directory: &Directory, token: &str) -> String {
    let Some(Grant { account, scope }) = directory.grant(&hash(token), NOW_MS) else {
        return "nothing".to_owned();
    };
    match scope {
        Scope::Account => format!("account {account}"),
        Scope::Bot(bot) => format!("bot {bot} of {account}"),
        Scope::View { bots, operators } => {
            let bots = bots.map_or("all".to_owned(), |bots| {
                bots.iter().map(Bot::as_str).collect::<Vec<_>>().join("+")
            });
            let names = if operators { " with operators" } else { "" };
            format!("view of {bots} of {account}{names}")
        }
    }
}

fn bot_of<'a>(directory: &'a Directory, account: &str, key: &str) -> Option<&'a str> {
    directory.bot_of(&account.parse().unwrap(), &hash(key)).map(Bot::as_str)
}

#[test]
fn tokens_come_and_go() {
    let mut d = Directory::default();
    put(&mut d, "account.a", &account_json(&["t1", "t2"], false));
    put(&mut d, "account.b", &account_json(&["t3"], false));
    assert_eq!(holder(&d, "t1"), Some("a"));
    assert_eq!(holder(&d, "t3"), Some("b"));
    assert_eq!(holder(&d, "t4"), None);
    put(&mut d, "account.a", &account_json(&["t2"], true));
    assert_eq!(holder(&d, "t1"), None);
    // A removed account is still known by its token: 404, not 401.
    assert_eq!(holder(&d, "t2"), Some("a"));
    d.apply("account.a", Change::Delete).unwrap();
    assert_eq!(holder(&d, "t2"), None);
    assert!(d.account(&"a".parse().unwrap()).is_none());
}

#[test]
fn a_token_in_two_places_is_the_live_ones_or_nobodys() {
    let mut d = Directory::default();
    put(&mut d, "account.a", &account_json(&["t"], false));
    put(&mut d, "account.b", &account_json(&["t"], false));
    assert_eq!(holder(&d, "t"), None);
    put(&mut d, "account.a", &account_json(&["t"], true));
    assert_eq!(holder(&d, "t"), Some("b"));
    put(&mut d, "account.b", &account_json(&["t"], true));
    assert_eq!(holder(&d, "t"), None);
}

#[test]
fn keys_belong_to_one_live_bot_of_the_account() {
    let mut d = Directory::default();
    put(&mut d, "bot.a.b1", &bot_json("k1", false));
    put(&mut d, "bot.a.b2", &bot_json("k2", true));
    put(&mut d, "bot.b.b1", &bot_json("k3", false));
    assert_eq!(bot_of(&d, "a", "k1"), Some("b1"));
    assert_eq!(bot_of(&d, "a", "k2"), None, "removed");
    assert_eq!(bot_of(&d, "a", "k3"), None, "another account's");
    // The same key in another account stays there.
    put(&mut d, "bot.b.b2", &bot_json("k1", false));
    assert_eq!((bot_of(&d, "a", "k1"), bot_of(&d, "b", "k1")), (Some("b1"), Some("b2")));
    // Two bots of one account: whose numbers were meant cannot be known.
    put(&mut d, "bot.a.b3", &bot_json("k1", false));
    assert_eq!(bot_of(&d, "a", "k1"), None);
    put(&mut d, "bot.a.b3", &bot_json("k4", false));
    assert_eq!((bot_of(&d, "a", "k1"), bot_of(&d, "a", "k4")), (Some("b1"), Some("b3")));
    d.apply("bot.a.b1", Change::Delete).unwrap();
    assert_eq!(bot_of(&d, "a", "k1"), None);
    assert_eq!(d.names(&"a".parse().unwrap()).len(), 2);
}

fn clashes(directory: &Directory) -> Vec<String> {
    directory.clashes().iter().map(Clash::to_string).collect()
}

#[test]
fn secrets_that_stand_twice_are_told_with_the_keys_of_their_entries() {
    let mut d = Directory::default();
    let two = account_json(&["t1", "t2"], false).replacen("\"id\":\"t\"", "\"id\":\"u\"", 1);
    put(&mut d, "account.a", &two);
    put(&mut d, "account.b", &account_json(&["t3"], false));
    put(&mut d, "bot.a.b1", &bot_json("k1", false));
    assert!(d.clashes().is_empty() && d.bad_entries() == 0);

    // A copy of a whole entry: two tokens, one clash.
    put(&mut d, "account.c", &two);
    insta::assert_snapshot!(clashes(&d).join("\n"), @"account.a, account.c have the same token: whose it is cannot be told, so calls with it get 401; give each account a token of its own (`botstats token add`) and revoke the shared one");
    assert_eq!((holder(&d, "t1"), d.bad_entries()), (None, 2));
    // A value that cannot be read leaves the last good one, so the clash too; it counts once.
    assert!(d.apply("account.c", Change::Put(b"nonsense")).is_err());
    assert_eq!((clashes(&d).len(), d.bad_entries()), (1, 2));
    // Only one of them is not removed: it is whose token it is.
    let removed = two.replace("\"removed\":false", "\"removed\":true");
    put(&mut d, "account.c", &removed);
    assert_eq!((holder(&d, "t1"), d.bad_entries()), (Some("a"), 0));
    put(&mut d, "account.c", &two);
    assert_eq!(d.bad_entries(), 2);
    put(&mut d, "account.a", &account_json(&["t9"], false));
    assert_eq!((holder(&d, "t1"), d.bad_entries()), (Some("c"), 0));
    d.apply("account.c", Change::Delete).unwrap();

    // Many copies are not all named.
    for n in 0..8 {
        put(&mut d, &format!("account.m{n}"), &account_json(&["t4"], false));
    }
    let text = clashes(&d).join("\n");
    assert!(
        text.starts_with(
            "account.m0, account.m1, account.m2, account.m3, account.m4 and 3 more have"
        ),
        "{text}"
    );
    assert_eq!(d.bad_entries(), 8);
    for n in 0..8 {
        d.apply(&format!("account.m{n}"), Change::Delete).unwrap();
    }
    assert_eq!(d.bad_entries(), 0);

    // The same key in another account opens there what it opens here.
    put(&mut d, "bot.b.b1", &bot_json("k1", false));
    put(&mut d, "bot.a.b2", &bot_json("k1", true));
    assert!(d.clashes().is_empty());
    put(&mut d, "bot.a.b2", &bot_json("k1", false));
    insta::assert_snapshot!(clashes(&d).join("\n"), @"bot.a.b1, bot.a.b2 have the same API key: which bot it means cannot be told, so calls with it get 404; give each bot a key of its own (`botstats key rotate`)");
    assert_eq!((bot_of(&d, "a", "k1"), d.bad_entries()), (None, 2));
    put(&mut d, "account.a", &account_json(&["t9"], true));
    assert!(d.clashes().is_empty(), "of a removed account");
    put(&mut d, "account.a", &account_json(&["t9"], false));
    put(&mut d, "bot.a.b1", &bot_json("k2", false));
    assert!(d.clashes().is_empty());
}

#[test]
fn what_stands_twice_within_an_account_is_told() {
    let entry = |tokens: &[(&str, &str)], removed: bool| {
        let tokens: Vec<_> = tokens
            .iter()
            .map(|(id, t)| serde_json::json!({"id": id, "sha256": String::from(hash(t))}))
            .collect();
        serde_json::json!({"tokens": tokens, "removed": removed}).to_string()
    };
    let mut d = Directory::default();
    for (tokens, removed, expected) in [
        (&[("a", "t1"), ("b", "t2")][..], false, ""),
        (&[("a", "t1"), ("a", "t1")], false, ""),
        (&[("a", "t1"), ("b", "t1")], true, ""),
        (
            &[("a", "t1"), ("b", "t1")],
            false,
            "account.a has the same token under two ids: revoking one of them leaves it in force",
        ),
        (
            &[("a", "t1"), ("a", "t2")],
            false,
            "account.a has two tokens of the same id: revoking that id ends both",
        ),
        (&[("a", "t1")], false, ""),
    ] {
        put(&mut d, "account.a", &entry(tokens, removed));
        assert_eq!(clashes(&d).join("\n"), expected, "{tokens:?}");
        assert_eq!(d.bad_entries(), usize::from(!expected.is_empty()));
        assert_eq!(holder(&d, "t1"), Some("a"), "it is in force all the same");
    }
}

/// A token of a bot or of an account, as it stands in an entry.
fn item(token: &str, expires: &serde_json::Value) -> serde_json::Value {
    serde_json::json!({"id": token, "sha256": String::from(hash(token)), "expires": expires})
}

fn view_json(token: &str, more: &serde_json::Value) -> String {
    let mut entry = serde_json::json!({"sha256": String::from(hash(token))});
    for (name, value) in more.as_object().unwrap() {
        entry[name] = value.clone();
    }
    entry.to_string()
}

#[test]
fn tokens_have_scopes() {
    let json = |value: serde_json::Value| value.to_string();
    let null = serde_json::Value::Null;
    let mut d = Directory::default();
    put(&mut d, "account.a", &json(serde_json::json!({"tokens": [item("t", &null)]})));
    let bot =
        |removed: bool| json(serde_json::json!({"tokens": [item("b", &null)], "removed": removed}));
    put(&mut d, "bot.a.b1", &bot(false));
    put(&mut d, "view.a.v1", &view_json("v", &serde_json::json!({})));
    let some = serde_json::json!({"bots": ["b2", "b1"], "operators": true});
    put(&mut d, "view.a.v2", &view_json("w", &some));
    put(&mut d, "operators.a", r#"{"o1":"Ann"}"#);
    let account = "a".parse().unwrap();
    assert_eq!(grants(&d, "t"), "account a");
    assert_eq!(grants(&d, "b"), "bot b1 of a");
    assert_eq!(grants(&d, "v"), "view of all of a");
    assert_eq!(grants(&d, "w"), "view of b1+b2 of a with operators");
    assert_eq!(d.operators(&account).get("o1").map(String::as_str), Some("Ann"));
    assert!(d.operators(&"b".parse().unwrap()).is_empty() && d.clashes().is_empty());

    // A removed bot's tokens are nobody's, a removed account's are still known.
    put(&mut d, "bot.a.b1", &bot(true));
    assert_eq!(grants(&d, "b"), "nothing");
    put(&mut d, "bot.a.b1", &bot(false));
    put(&mut d, "account.a", r#"{"removed":true}"#);
    assert_eq!((grants(&d, "t"), grants(&d, "b")), ("nothing".into(), "bot b1 of a".into()));
    for key in ["bot.a.b1", "view.a.v1", "view.a.v2", "operators.a"] {
        d.apply(key, Change::Delete).unwrap();
    }
    for token in ["b", "v", "w"] {
        assert_eq!(grants(&d, token), "nothing", "{token}");
    }
    assert!(d.operators(&account).is_empty() && d.tokens.is_empty() && d.views.is_empty());
}

#[test]
fn tokens_end() {
    let mut d = Directory::default();
    for (expires, valid) in [
        (serde_json::json!(null), true),
        (serde_json::json!("2026-11-20T10:00:00.001Z"), true),
        (serde_json::json!("2026-11-20T10:00:00Z"), false),
        (serde_json::json!("2026-11-20T11:00:00+01:00"), false),
        (serde_json::json!("tomorrow"), false),
        (serde_json::json!(1_895_168_800), false),
    ] {
        let entry = serde_json::json!({"name": "N", "tokens": [item("t", &expires)]});
        put(&mut d, "account.a", &entry.to_string());
        let entry = serde_json::json!({"name": "N", "tokens": [item("b", &expires)]});
        put(&mut d, "bot.a.b1", &entry.to_string());
        let more = serde_json::json!({"expires": expires});
        put(&mut d, "view.a.v1", &view_json("v", &more));
        for token in ["t", "b", "v"] {
            assert_eq!(grants(&d, token) != "nothing", valid, "{token} {expires}");
        }
        // The rest of the entries is good.
        assert_eq!(d.account(&"a".parse().unwrap()).unwrap().name.as_deref(), Some("N"));
        assert!(d.bad().is_empty());
        let unclear = !valid && !expires.as_str().is_some_and(|text| text.starts_with('2'));
        assert_eq!(d.clashes().len(), if unclear { 3 } else { 0 }, "{expires}");
    }
    let text = clashes(&d).join("\n");
    assert!(text.contains("view.a.v1 has a token whose expiry cannot be understood"), "{text}");
    let more = serde_json::json!({"bots": ["no id"]});
    put(&mut d, "view.a.v1", &view_json("v", &more));
    assert_eq!(grants(&d, "v"), "nothing");
    assert!(clashes(&d).join("\n").contains("view.a.v1 has bots that cannot be understood"));
}

#[test]
fn a_token_in_two_scopes_is_nobodys() {
    let null = serde_json::Value::Null;
    let tokens = serde_json::json!({"tokens": [item("t", &null)]}).to_string();
    let expired = serde_json::json!("2026-01-01T00:00:00Z");
    let expired = serde_json::json!({"tokens": [item("t", &expired)]}).to_string();
    let view = view_json("t", &serde_json::json!({}));
    let other = serde_json::json!({"tokens": []}).to_string();
    for (entries, granted, clashing) in [
        (&[("account.a", &tokens), ("bot.a.b1", &tokens)][..], "nothing", true),
        (&[("account.a", &tokens), ("view.a.v1", &view)], "nothing", true),
        (&[("account.a", &other), ("bot.a.b1", &tokens), ("bot.a.b2", &tokens)], "nothing", true),
        (&[("account.a", &other), ("bot.a.b1", &tokens), ("view.a.v1", &view)], "nothing", true),
        (&[("account.a", &other), ("view.a.v1", &view), ("view.a.v2", &view)], "nothing", true),
        // An expired one could be its true place.
        (&[("account.a", &expired), ("bot.a.b1", &tokens)], "nothing", true),
        (&[("account.a", &other), ("bot.a.b1", &tokens)], "bot b1 of a", false),
    ] {
        let mut d = Directory::default();
        for (key, json) in entries {
            put(&mut d, key, json);
        }
        assert_eq!(
            (grants(&d, "t").as_str(), !d.clashes().is_empty()),
            (granted, clashing),
            "{entries:?}"
        );
    }
    // The removed account's does not count.
    let mut d = Directory::default();
    let removed = tokens.replace("]}", "],\"removed\":true}");
    put(&mut d, "account.a", &removed);
    put(&mut d, "account.b", "{}");
    put(&mut d, "bot.b.b1", &tokens);
    assert_eq!((grants(&d, "t").as_str(), d.clashes().is_empty()), ("bot b1 of b", true));
    put(&mut d, "account.a", &tokens);
    insta::assert_snapshot!(clashes(&d).join("\n"), @"account.a, bot.b.b1 have the same token: whose it is cannot be told, so calls with it get 401; give each account a token of its own (`botstats token add`) and revoke the shared one");
    assert_eq!((grants(&d, "t").as_str(), d.bad_entries()), ("nothing", 2));
}

#[test]
fn a_bad_value_leaves_the_last_good_one() {
    let mut d = Directory::default();
    put(&mut d, "account.a", &account_json(&["t"], false));
    put(&mut d, "bot.a.b", &bot_json("k", false));
    for bad in ["{", "[]", r#"{"timezone":"Mars"}"#, r#"{"tokens":[{"id":"x","sha256":"y"}]}"#] {
        assert!(d.apply("account.a", Change::Put(bad.as_bytes())).is_err(), "{bad}");
        assert_eq!(holder(&d, "t"), Some("a"), "{bad}");
    }
    assert!(d.apply("bot.a.b", Change::Put(b"nonsense")).is_err());
    assert_eq!(bot_of(&d, "a", "k"), Some("b"));
    assert_eq!(d.bad().len(), 2);

    // A full read that finds bad values only keeps what was known before ...
    let mut fresh = Directory::default();
    for key in ["account.a", "bot.a.b", "account.new"] {
        assert!(fresh.apply(key, Change::Put(b"nonsense")).is_err());
    }
    fresh.keep_last_good(&d);
    assert_eq!((holder(&fresh, "t"), bot_of(&fresh, "a", "k")), (Some("a"), Some("b")));
    // ... but not of a key that is gone, or has a newer good value.
    let mut fresh = Directory::default();
    put(&mut fresh, "account.a", &account_json(&["t2"], false));
    assert!(fresh.apply("account.a", Change::Put(b"nonsense")).is_err());
    fresh.keep_last_good(&d);
    assert_eq!((holder(&fresh, "t"), holder(&fresh, "t2")), (None, Some("a")));
    assert_eq!(bot_of(&fresh, "a", "k"), None);
    put(&mut d, "account.a", &account_json(&["t"], false));
    assert_eq!(d.bad().len(), 1);

    put(&mut d, "view.a.v1", &view_json("v", &serde_json::json!({})));
    put(&mut d, "operators.a", r#"{"o1":"Ann"}"#);
    let mut fresh = Directory::default();
    for known in [&mut d, &mut fresh] {
        for (key, json) in [("view.a.v1", "{}"), ("operators.a", r#"{"o1":"(none)"}"#)] {
            assert!(known.apply(key, Change::Put(json.as_bytes())).is_err(), "{key}");
        }
    }
    fresh.keep_last_good(&d);
    for known in [&d, &fresh] {
        assert_eq!(grants(known, "v"), "view of all of a");
        assert_eq!(known.operators(&"a".parse().unwrap()).len(), 1);
    }
}

#[test]
fn other_keys_are_ignored() {
    let mut d = Directory::default();
    for key in ["x", "account.a.b", "bot.a", "account.*", "view.a", "operators.a.b"] {
        d.apply(key, Change::Put(b"nonsense")).unwrap();
    }
    assert!(d.bad().is_empty() && d.accounts.is_empty() && d.bots.is_empty());
    assert!(d.views.is_empty() && d.operators.is_empty());
}
