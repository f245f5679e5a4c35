//! What tokens of each scope may ask, with the real program: the bot's call, expiry, revocation,
//! removed bots, and what happens without the bucket of the bots' calls.

use std::time::Duration;

use botstats_common::io::clock;
use botstats_common::io::setup::{self, Shape};
use botstats_common::names::BOT_THROTTLE_BUCKET;
use botstats_common::secret::SecretHash;
use botstats_tests::harness::{
    ALL, PATIENCE, Stage, becomes, bot_tokens, get, get_as, head_as, send, until,
};
use serde_json::{Value, json};

use crate::tokens::view;

/// The bot's call for all metrics of the last two days.
fn of_bot() -> String {
    ALL.replace("account/*/", "")
}

fn token(id: &str, token: &str, expires: &Value) -> Value {
    json!({"id": id, "sha256": String::from(SecretHash::of(token)), "expires": expires})
}

#[tokio::test(flavor = "multi_thread")]
async fn each_token_may_ask_what_its_scope_allows() {
    let stage = Stage::start_with("1h", "1h", 2).await;
    let address = stage.query.http;
    let (null, past) = (json!(null), json!("2026-01-01T00:00:00Z"));
    let soon = json!(clock::rfc3339_ms(clock::now_ms() + 86_400_000));
    let hash = |text: &str| String::from(SecretHash::of(text));
    let mut account = json!({"tokens": [
        token("t1", "token-of-acct-0", &null), token("t2", "account-expired", &past),
        token("t3", "account-unclear", &json!("soon")), token("t4", "account-until", &soon),
    ]});
    stage.site.put("account.acct-0", &account).await;
    let tokens = json!([
        token("b1", "bot-token", &null),
        token("b2", "bot-expired", &past),
        token("b3", "bot-unclear", &json!(17)),
        token("b4", "bot-until", &soon),
        token("b5", "clash", &null),
    ]);
    let bot = |name: &str, tokens: &Value| json!({"name": name, "key_sha256": hash("key-of-b1"), "tokens": tokens});
    stage.site.put("bot.acct-0.b1", &bot("Pizza", &tokens)).await;
    let removed = json!({"tokens": [token("b6", "bot-removed", &null)], "removed": true});
    stage.site.put("bot.acct-0.b9", &removed).await;
    for (id, entry) in [
        ("v1", view("view-all", &json!({}))),
        ("v2", view("view-expired", &json!({"expires": past}))),
        ("v3", view("view-unclear", &json!({"bots": [7]}))),
        ("v4", view("clash", &json!({}))),
        ("v5", view("view-some", &json!({"bots": ["b1"], "operators": true, "later": 1}))),
    ] {
        stage.site.put(&format!("view.acct-0.{id}"), &entry).await;
    }
    let bad = "/analytics/statistics/x/day/1";
    becomes(address, "view-some", bad, 403).await;
    let of_account = "/analytics/statistics/account/*/x/day/1";

    // (token, account's call, bot's call): a good token gets to its bad parameter.
    for (token, on_account, on_bot) in [
        ("token-of-acct-0", 400, 403),
        ("account-until", 400, 403),
        ("account-expired", 401, 401),
        ("account-unclear", 401, 401),
        ("bot-token", 403, 400),
        ("bot-until", 403, 400),
        ("bot-expired", 401, 401),
        ("bot-unclear", 401, 401),
        ("bot-removed", 401, 401),
        ("view-all", 403, 403),
        ("view-some", 403, 403),
        ("view-expired", 401, 401),
        ("view-unclear", 401, 401),
        ("clash", 401, 401),
        ("nobodys", 401, 401),
    ] {
        for (path, status) in [(of_account, on_account), (bad, on_bot)] {
            let answer = get_as(token, address, path, &[]).await;
            assert_eq!(answer.status, status, "{token} {path}: {answer:?}");
            let code = match status {
                400 => "bad-parameter",
                401 => "unauthorized",
                _ => "forbidden",
            };
            assert_eq!(answer.problem(), code, "{token} {path}");
            assert_eq!(
                answer.header("www-authenticate").is_some(),
                status == 401,
                "{token} {path}"
            );
            let vary = answer.header("vary");
            assert_eq!(vary.as_deref(), Some("Authorization, Accept, Accept-Encoding"));
            for secret in ["acct-0", "Pizza", token] {
                assert!(!answer.text().contains(secret), "{secret} in {answer:?}");
            }
        }
    }
    // The scope comes before parameters, `Accept` and the used call, the token before the scope.
    let wrong = [("Accept", "image/png")];
    for (token, path, status) in [
        ("view-all", bad, 403),
        ("bot-token", of_bot().as_str(), 406),
        ("bot-token", of_account, 403),
    ] {
        assert_eq!(get_as(token, address, path, &wrong).await.status, status, "{token} {path}");
    }
    for path in [bad, of_account] {
        assert_eq!(get(address, path, &[]).await.status, 401);
    }
    for path in ["account/day/1", "dlr/day/1", "%61ccount/day/1", "0/day", "0/day/1/2"] {
        let path = format!("/analytics/statistics/{path}");
        let answer = get_as("bot-token", address, &path, &[]).await;
        assert_eq!((answer.status, answer.problem().as_str()), (404, "unknown-path"), "{path}");
    }
    let head = String::from_utf8(head_as("bot-token", &of_bot(), &[])).unwrap();
    let head = head.replacen("GET", "HEAD", 1);
    assert_eq!(send(address, head.as_bytes(), PATIENCE).await.unwrap().status, 405);

    // None of this used a call. The bot's and the account's are apart.
    let answer = get_as("bot-token", address, &of_bot(), &[]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let header = |name| answer.header(name).unwrap();
    assert_eq!(header("ratelimit-policy"), "\"bot\";q=1;w=3600");
    assert_eq!(header("ratelimit"), "\"bot\";r=0;t=3601");
    assert_eq!(header("cache-control"), "private, max-age=3600");
    assert!(header("data-as-of").ends_with('Z'));
    for token in ["bot-token", "bot-until"] {
        let used = get_as(token, address, &of_bot(), &[]).await;
        assert_eq!((used.status, used.problem().as_str()), (429, "throttled"));
        assert!(used.retry_after().is_some_and(|s| (3_500..=3_601).contains(&s)), "{used:?}");
        assert!(used.header("ratelimit").unwrap().starts_with("\"bot\";r=0;t="), "{used:?}");
        assert!(used.text().contains("a bot has one call in 3600 s"), "{used:?}");
    }
    assert_eq!(get_as("token-of-acct-0", address, ALL, &[]).await.status, 200);
    let used = get_as("token-of-acct-0", address, ALL, &[]).await;
    assert_eq!(used.status, 429);
    assert!(used.header("ratelimit").unwrap().starts_with("\"account\";r=0;t="), "{used:?}");

    // A removed account: 404 for its bots too, 403 stays 403.
    account["removed"] = true.into();
    stage.site.put("account.acct-0", &account).await;
    becomes(address, "token-of-acct-0", ALL, 404).await;
    let gone = get_as("bot-token", address, &of_bot(), &[]).await;
    assert_eq!((gone.status, gone.problem().as_str()), (404, "not-found"));
    assert_eq!(get_as("view-all", address, &of_bot(), &[]).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bots_call_gives_the_rows_of_the_bot() {
    let stage = Stage::start_with("0s", "0s", 1).await;
    let (address, login) = (stage.query.http, &stage.logins[0]);
    let tokens = bot_tokens(&stage);
    for more in ["", "?fill=zero"] {
        for accept in ["application/json", "text/csv", "application/x-ndjson"] {
            let headers = [("Accept", accept)];
            let by_key = ALL.replace("/*/", &format!("/{}/", login.keys["b1"]));
            // A quarter of an hour may begin between the two calls.
            until("the same rows", PATIENCE, async || {
                let expected =
                    get_as(&login.token, address, &format!("{by_key}{more}"), &headers).await;
                let of_bot =
                    get_as(&tokens[0], address, &format!("{}{more}", of_bot()), &headers).await;
                assert_eq!((expected.status, of_bot.status), (200, 200), "{of_bot:?}");
                assert!(of_bot.body.len() > 500, "{of_bot:?}");
                assert_eq!(of_bot.header("cache-control").as_deref(), Some("no-store"));
                assert!(of_bot.header("ratelimit").is_none());
                (of_bot.body == expected.body).then_some(())
            })
            .await;
        }
    }
}

/// Nobody gets an answer once the change is acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_bots_token_ends_at_once() {
    let stage = Stage::start_with("1h", "0s", 1).await;
    let address = stage.query.http;
    let key = "bot.acct-0.b1";
    let entry = |tokens: Value, removed: bool| json!({"tokens": tokens, "removed": removed});
    let good = json!([token("b1", "bot-token", &json!(null))]);
    let past = json!([token("b1", "bot-token", &json!("2026-01-01T00:00:00Z"))]);
    for (what, ended) in [
        ("revoked", entry(json!([]), false)),
        ("expired", entry(past, false)),
        ("removed", entry(good.clone(), true)),
        ("unclear", entry(json!([token("b1", "bot-token", &json!([]))]), false)),
    ] {
        stage.site.put(key, &entry(good.clone(), false)).await;
        becomes(address, "bot-token", &of_bot(), 200).await;
        stage.site.put(key, &ended).await;
        let answer = get_as("bot-token", address, &of_bot(), &[]).await;
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
        assert_eq!(get_as("bot-token", address, &of_bot(), &[]).await.status, 401, "{what}");
    }
    // A token that expires between two calls.
    let end_ms = clock::now_ms() + 2_000;
    let ending = json!([token("b1", "bot-token", &json!(clock::rfc3339_ms(end_ms)))]);
    stage.site.put(key, &entry(ending, false)).await;
    let answer = becomes(address, "bot-token", &of_bot(), 200).await;
    assert!(answer.whole);
    becomes(address, "bot-token", &of_bot(), 401).await;
    assert!(clock::now_ms() >= end_ms);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_bucket_only_the_bots_call_fails() {
    let stage = Stage::start_with("0s", "1h", 1).await;
    let (query, login) = (&stage.query, &stage.logins[0]);
    let tokens = bot_tokens(&stage);
    let metric = async || {
        let metrics = get(query.internal, "/metrics", &[]).await;
        let series = "\nbotstats_query_bot_calls_possible ";
        metrics.text().split_once(series).unwrap().1.lines().next().unwrap().to_owned()
    };
    until("the bucket is seen", PATIENCE, async || (metric().await == "1").then_some(())).await;
    stage.site.js.delete_key_value(BOT_THROTTLE_BUCKET).await.unwrap();
    let answer = get_as(&tokens[0], query.http, &of_bot(), &[]).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "unavailable"));
    until("the loss is seen", PATIENCE, async || (metric().await == "0").then_some(())).await;
    let answer = get_as(&tokens[0], query.http, &of_bot(), &[]).await;
    assert_eq!((answer.status, answer.retry_after()), (503, Some(2)), "{answer:?}");
    // All else goes on.
    query.ready().await;
    assert_eq!(stage.ask(login).await.status, 200);
    assert_eq!(get(query.http, "/healthz", &[]).await.status, 200);
    let status = stage.site.statuses().await;
    let status = status.iter().find(|status| status.program == "query").unwrap();
    assert!(status.ready && status.missing.is_empty(), "{status:?}");
    let why = &status.limited["bot-throttle"];
    assert!(why.contains("botstats_throttle_bot is missing: run `botstats setup`"), "{why}");

    let hour = Duration::from_secs(3_600);
    setup::calls_bucket(&stage.site.js, BOT_THROTTLE_BUCKET, hour, Shape::default()).await.unwrap();
    becomes(query.http, &tokens[0], &of_bot(), 200).await;
    assert_eq!(get_as(&tokens[0], query.http, &of_bot(), &[]).await.status, 429);
    until("it is told", PATIENCE, async || {
        (metric().await == "1" && query.process.log().contains("bot-throttle is there"))
            .then_some(())
    })
    .await;
    // Once for each loss, however many checks there were.
    assert_eq!(query.process.log().matches("some calls are not answered").count(), 1);
    // The other throttle's bucket means nothing to it.
    assert!(stage.site.statuses().await.iter().all(|status| status.limited.is_empty()));
}
