//! Every refusal of `docs/http.md`, case by case, and that none of them uses the call.

use std::net::SocketAddr;
use std::time::Duration;

use botstats_common::io::clock;
use botstats_tests::harness::{
    ALL, Answer, Login, PATIENCE, Stage, account_entry, get, get_as, head_as, send, until,
};
use botstats_tests::model::CODES;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PREFIX: &str = "/analytics/statistics/account";

/// Asks with the account's token.
async fn ask(address: SocketAddr, login: &Login, path: &str, headers: &[(&str, &str)]) -> Answer {
    get_as(&login.token, address, path, headers).await
}

/// Checks that an answer is a problem of that status, and that it repeats no secret.
fn is_problem(answer: &Answer, status: u16, case: &str) {
    assert_eq!(answer.status, status, "{case}: {answer:?}");
    let code = answer.problem();
    // Every answer of the endpoint has `Vary`.
    let vary = (code != "unknown-path").then_some("Authorization, Accept, Accept-Encoding");
    assert_eq!(answer.header("vary").as_deref(), vary, "{case}: {code}");
    let text = answer.text();
    assert!(!text.contains("key_acct") && !text.contains("token-of"), "{case}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_and_none_of_them_uses_the_call() {
    let stage = Stage::start("1h", 3).await;
    let address = stage.query.http;
    let [login, other, gone] = &stage.logins[..] else { panic!("three accounts") };

    // No token, malformed headers and unknown tokens.
    let unauthorized: [&[(&str, &str)]; 8] = [
        &[],
        &[("Authorization", "Bearer")],
        &[("Authorization", "Bearer ")],
        &[("Authorization", "Basic dXNlcjpwYXNz")],
        &[("Authorization", "Bearer token-of-nobody")],
        &[("Authorization", "token-of-acct-0")],
        &[("Authorization", "Bearer token-of-acct-0 token-of-acct-0")],
        &[("Authorization", "Bearer token-of-acct-0"), ("Authorization", "Bearer token-of-acct-1")],
    ];
    for headers in unauthorized {
        let answer = get(address, ALL, headers).await;
        is_problem(&answer, 401, &format!("{headers:?}"));
        assert!(answer.header("www-authenticate").is_some_and(|v| v.starts_with("Bearer")));
    }

    // A bad parameter of each kind, and the word that the answer must have.
    // (`query/src/request/question/bad_parameter.rs` has them all.)
    let (many, beyond) = (["1"; 65].join(","), CODES.len().to_string());
    for (tail, named) in [
        (format!("*/{beyond}/day/1").as_str(), beyond.as_str()),
        ("*/1,,2/day/1", "TYPES"),
        ("*/abc/day/1", "abc"),
        (&format!("*/{many}/day/1"), "64"),
        ("*/1/weeks/1", "weeks"),
        ("*/1/day/0", "30"),
        ("*/1/day/%D9%A3", "DAYS"),
        ("*/1/day/", "DAYS"),
        ("short/1/day/1", "APIKEY"),
        ("abcd%2Fefgh/1/day/1", "APIKEY"),
        ("%252A/1/day/1", "APIKEY"),
        ("*/1/day/1?x=1", "x"),
        ("*/1/day/1?fill=one", "one"),
        ("*/1/day/1?fill=zero&fill=zero", "fill"),
        ("*/1/day/*?to=2026-11-01", "from"),
        ("*/1/day/*?from=9000-01-01&to=9000-01-02", "today"),
        ("*/1/day/1?stats=p50,p100", "p100"),
        ("*/1/day/1?split=tag", "18"),
    ] {
        let path = format!("{PREFIX}/{tail}");
        let answer = ask(address, login, &path, &[]).await;
        is_problem(&answer, 400, tail);
        let detail = answer.json()["detail"].to_string();
        assert!(detail.contains(named), "{tail}: {detail}");
    }

    for accept in ["image/png", "text/html", "application/json;q=0", "application/xml, text/plain"]
    {
        let answer = ask(address, login, ALL, &[("Accept", accept)]).await;
        is_problem(&answer, 406, accept);
    }

    // All answers 404 look the same, whatever was not found.
    stage.site.put("account.acct-2", &removed(gone)).await;
    let foreign = &other.keys["b1"];
    let paths = [format!("{PREFIX}/{foreign}/1/day/1"), format!("{PREFIX}/no_such_key/1/day/1")];
    let request_id = [("X-Request-Id", "same")];
    let mut bodies = Vec::new();
    for path in &paths {
        let answer = ask(address, login, path, &request_id).await;
        is_problem(&answer, 404, path);
        bodies.push(answer.body);
    }
    let answer = ask(address, gone, ALL, &request_id).await;
    is_problem(&answer, 404, "a removed account");
    bodies.push(answer.body);
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "404 must not tell what is missing: {bodies:?}");
    is_problem(&get(address, "/", &[]).await, 404, "/");

    // The order of checking.
    for (case, path, token, accept, status) in [
        ("401 before all", format!("{PREFIX}/no_such_key/x/day/1"), "nobody", "image/png", 401),
        ("400 before 406", format!("{PREFIX}/no_such_key/x/day/1"), "acct-0", "image/png", 400),
        ("406 before 404", paths[1].clone(), "acct-0", "image/png", 406),
        ("400 before 404", format!("{PREFIX}/*/x/day/1"), "acct-2", "*/*", 400),
    ] {
        let answer =
            get_as(&format!("token-of-{token}"), address, &path, &[("Accept", accept)]).await;
        is_problem(&answer, status, case);
    }

    for method in ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer = send(address, &with_method(method, login), PATIENCE).await.unwrap();
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow").as_deref(), Some("GET"), "{method}");
    }

    // No request so far has used the call.
    let answer = ask(address, login, ALL, &[]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    used_up(&answer, 3_600);
    let again = ask(address, login, ALL, &[]).await;
    is_problem(&again, 429, "the second call");
    used_up(&again, 3_600);
    assert!(again.retry_after().is_some_and(|s| (3_580..=3_602).contains(&s)), "{again:?}");
    let same_allowance = format!("{PREFIX}/{}/13/hour/1?fill=zero", login.keys["b1"]);
    let again = ask(address, login, &same_allowance, &[("Accept", "text/csv")]).await;
    is_problem(&again, 429, "other parameters");
    is_problem(&ask(address, login, &paths[1], &[]).await, 404, "404 before 429");
    assert_eq!(ask(address, other, ALL, &[]).await.status, 200, "another account's call");

    let log = stage.query.process.log();
    let metrics = get(stage.query.internal, "/metrics", &[]).await;
    for secret in [&login.token, &other.token, &gone.token, &login.keys["b1"], foreign] {
        assert!(!log.contains(secret.as_str()), "a secret is in the log");
        assert!(!metrics.text().contains(secret.as_str()), "a secret is in the metrics");
    }
    assert!(metrics.text().contains("# TYPE"), "{}", metrics.text());
}

/// The entry of a removed account, its token still in it.
fn removed(login: &Login) -> serde_json::Value {
    let mut entry = account_entry(&login.token);
    entry["removed"] = true.into();
    entry
}

fn with_method(method: &str, login: &Login) -> Vec<u8> {
    let head = head_as(&login.token, ALL, &[]);
    [method.as_bytes(), &head[3..]].concat()
}

/// Checks the headers that say that the call of this window is used.
fn used_up(answer: &Answer, window_s: u64) {
    let policy = answer.header("ratelimit-policy");
    assert_eq!(policy, Some(format!("\"account\";q=1;w={window_s}")), "{answer:?}");
    let limit = answer.header("ratelimit").unwrap_or_default();
    let left = limit.strip_prefix("\"account\";r=0;t=").and_then(|t| t.parse::<u64>().ok());
    assert!(left.is_some_and(|t| t > 0 && t <= window_s + 2), "{limit}");
    if let Some(retry_after) = answer.retry_after() {
        assert_eq!(left, Some(retry_after), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_have_limits() {
    let stage = Stage::start("0s", 1).await;
    let address = stage.query.http;
    let token = &stage.logins[0].token;

    // Host, Connection and Authorization are three of the fields.
    for (more, status) in [(61, 200), (62, 431)] {
        let names: Vec<String> = (0..more).map(|n| format!("x-{n}")).collect();
        let headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        let answer = get_as(token, address, ALL, &headers).await;
        assert_eq!(answer.status, status, "{more} more fields: {answer:?}");
    }
    let empty = head_as(token, ALL, &[("x", "")]).len();
    for (bytes, status) in [(16 * 1024, 200), (16 * 1024 + 1, 431), (100 * 1024, 431)] {
        let filler = "x".repeat(bytes - empty);
        let answer = get_as(token, address, ALL, &[("x", &filler)]).await;
        assert_eq!(answer.status, status, "a head of {bytes} bytes: {answer:?}");
    }
    let long_path = format!("{ALL}?{}", "y".repeat(20 * 1024));
    let answer = get_as(token, address, &long_path, &[]).await;
    assert_eq!(answer.status, 431, "{answer:?}");

    // Bytes that are no HTTP are refused or cut off, and nothing else suffers.
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        if let Ok(answer) = send(address, bytes, PATIENCE).await {
            assert!((400..=505).contains(&answer.status), "{answer:?}");
        }
    }
    assert_eq!(stage.ask(&stage.logins[0]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_to_its_end_is_closed() {
    let stage = Stage::start("0s", 1).await;
    let address = stage.query.http;
    for dripping in [false, true] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let (mut reading, mut writing) = socket.split();
        let started = clock::monotonic();
        writing.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n").await.unwrap();
        let mut answer = Vec::new();
        let drip = async {
            loop {
                tokio::time::sleep(Duration::from_millis(250)).await;
                if dripping && writing.write_all(b"x-drip: 1\r\n").await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let closed = tokio::select! {
            closed = tokio::time::timeout(PATIENCE, reading.read_to_end(&mut answer)) => closed,
            () = drip => unreachable!("it drips for ever"),
        };
        assert!(closed.is_ok(), "it was never closed (dripping: {dripping})");
        // How soon after the limit of 5 s depends on the machine's load: the test program `timing`
        // checks that.
        let took = started.elapsed();
        assert!(took > Duration::from_millis(4_500), "closed after {took:?} ({dripping})");
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_is_followed() {
    let stage = Stage::start("0s", 1).await;
    let (address, login) = (stage.query.http, &stage.logins[0]);
    assert_eq!(stage.ask(login).await.status, 200);
    let sha256 = |secret: &str| String::from(botstats_common::secret::SecretHash::of(secret));

    // After a malformed value the last good entry stays in force.
    stage.site.put("account.acct-0", &json!({"timezone": "Mars/Base"})).await;
    stage.site.put("account.acct-0", &json!({"timezone": "Factory"})).await;
    stage.site.put("account.acct-0", &json!([])).await;
    assert_eq!(stage.ask(login).await.status, 200);
    stage.query.process.logged("account.acct-0").await;

    // A token that was revoked before a call never gets an answer, not even once.
    for round in 0..20 {
        let (old, new) = (format!("old-token-{round}"), format!("new-token-{round}"));
        stage.site.put("account.acct-0", &account_entry(&old)).await;
        let old = Login { token: old, ..login.clone() };
        until("the new token is known", PATIENCE, async || {
            (stage.ask(&old).await.status == 200).then_some(())
        })
        .await;
        stage.site.put("account.acct-0", &account_entry(&new)).await;
        assert_eq!(stage.ask(&old).await.status, 401, "round {round}");
    }
    let login = Login { token: "new-token-19".to_owned(), ..login.clone() };

    // Names, a rotated key and a removed bot soon show in answers, also in those for `*`.
    let name_is = async |name: &str| {
        until(&format!("the name {name}"), PATIENCE, async || {
            let answer = stage.ask(&login).await;
            let rows = answer.json();
            rows.as_array()?.iter().any(|row| row["BotName"] == *name).then_some(())
        })
        .await;
    };
    let by_key = async |key: &str| {
        ask(address, &login, &format!("{PREFIX}/{key}/13/day/2"), &[]).await.status
    };
    let bot = |name: &str, key: &str, removed| json!({"name": name, "key_sha256": sha256(key), "removed": removed});
    stage.site.put("bot.acct-0.b1", &bot("Renamed", "first_key", false)).await;
    name_is("Renamed").await;
    assert_eq!(by_key("first_key").await, 200);
    assert_eq!(by_key(&login.keys["b1"]).await, 404, "the old key");
    stage.site.put("bot.acct-0.b1", &bot("Last name", "first_key", true)).await;
    name_is("Last name").await;
    assert_eq!(by_key("first_key").await, 404, "a removed bot's key");
    stage.site.put("bot.acct-0.b1", &bot("Back", "second_key", false)).await;
    name_is("Back").await;
    assert_eq!(by_key("second_key").await, 200);
}
