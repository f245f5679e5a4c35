//! After a whole session with everything that people and hostile clients do, with every program at
//! its most verbose log level, no secret and no user's id is anywhere but where it belongs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use botstats_common::io::clock;
use botstats_common::io::nats::jetstream;
use botstats_tests::harness::{
    ALL, Answer, Outgoing, PATIENCE, Roles, event, get, head_of, publish, ready, run, send, unready,
};
use data_encoding::{BASE64, BASE64URL, HEXLOWER, HEXUPPER};
use serde_json::{Value, json};

const USER: &str = "user-5b1f~Jos\u{e9}+secret";
const CONVERSATION: &str = "conversation-77aa~geheim";
/// Put where an event must not have it: in fields of the wrong type, in what is no JSON.
const MISPLACED: &str = "misplaced-3f9c~secret";

/// What must not be found, by what it is, and what was written, by where.
#[derive(Default)]
struct Session {
    secrets: BTreeMap<String, String>,
    written: Vec<(String, Vec<u8>)>,
}

impl Session {
    fn secret(&mut self, what: &str, secret: &str) {
        assert!(secret.len() >= 8, "{what} is too short to be searched for");
        self.secrets.insert(what.to_owned(), secret.to_owned());
    }

    fn write(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.written.push((place.into(), bytes.into()));
    }

    /// A command's log, and what it answered if that tells no new secret.
    fn ran(&mut self, command: &[&str], output: &Output, tells_secret: bool) {
        let shown = format!("botstats {} {}", command[0], command.get(1).unwrap_or(&""));
        self.write(format!("log of {shown}"), output.stderr.clone());
        if !tells_secret {
            self.write(format!("answer of {shown}"), output.stdout.clone());
        }
    }

    fn heard(&mut self, place: &str, answer: &Answer) {
        self.write(place, answer.body.clone());
        for (name, value) in &answer.headers {
            self.write(format!("{place}, header {name}"), value.clone());
        }
    }

    async fn look_at(&mut self, internal: SocketAddr) {
        for path in ["/metrics", "/readyz", "/livez", "/nothing"] {
            let answer = get(internal, path, &[]).await;
            self.write(path, answer.body);
        }
    }

    fn command_line(&mut self, pid: u32) {
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap();
        self.write("command line", read("cmdline"));
    }

    fn check(&self) {
        let mut found = Vec::new();
        for (what, secret) in &self.secrets {
            for (form, text) in forms(secret) {
                for (place, bytes) in &self.written {
                    if contains(bytes, &text) {
                        let line = bytes.split(|b| *b == b'\n').find(|line| contains(line, &text));
                        let line = String::from_utf8_lossy(line.unwrap_or_default());
                        let line: String = line.chars().take(300).collect();
                        found.push(format!("{what} ({form}) in {place}: {line}"));
                    }
                }
            }
        }
        assert!(found.is_empty(), "{} leaks:\n{}", found.len(), found.join("\n"));
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// How a secret could be written.
fn forms(secret: &str) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = secret.as_bytes();
    let percent = |keep: fn(&u8) -> bool, hex: fn(u8) -> String| {
        bytes.iter().map(|b| if keep(b) { char::from(*b).to_string() } else { hex(*b) }).collect()
    };
    let upper = |b: u8| format!("%{b:02X}");
    let lower = |b: u8| format!("%{b:02x}");
    let unreserved: fn(&u8) -> bool = |b| b.is_ascii_alphanumeric() || b"-_.~".contains(b);
    let list = |bytes: &[u8]| bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let texts: Vec<(&'static str, String)> = vec![
        ("as it is", secret.to_owned()),
        ("percent-encoded", percent(unreserved, upper)),
        ("percent-encoded, lower case", percent(unreserved, lower)),
        ("percent-encoded, every byte", percent(|_| false, upper)),
        ("in JSON", serde_json::to_string(secret).unwrap().trim_matches('"').to_owned()),
        ("escaped", secret.escape_default().to_string()),
        ("as bytes escaped", bytes.escape_ascii().to_string()),
        ("as a list", list(bytes)),
        ("hex", HEXLOWER.encode(bytes)),
        ("HEX", HEXUPPER.encode(bytes)),
    ];
    let mut forms: Vec<_> =
        texts.into_iter().map(|(form, text)| (form, text.into_bytes())).collect();
    // Within base64 of something longer it may begin at each of three places.
    for shift in 0..3 {
        let shifted = [&vec![b' '; shift][..], bytes].concat();
        let whole = shifted.len() / 3 * 3;
        let skip = if shift == 0 { 0 } else { 4 };
        for encoding in [BASE64, BASE64URL] {
            let text = encoding.encode(&shifted[..whole]);
            forms.push(("base64", text.as_bytes()[skip..].to_vec()));
        }
    }
    forms
}

#[test]
fn the_search_finds_every_form() {
    let long = format!("xx{USER}yy");
    for shift in 0..3 {
        let text = BASE64.encode(&long.as_bytes()[shift..]);
        assert!(forms(USER).iter().any(|(_, form)| contains(text.as_bytes(), form)), "{shift}");
    }
    let debug = format!("{USER:?} {:?}", USER.as_bytes());
    let found = forms(USER).into_iter().filter(|(_, form)| contains(debug.as_bytes(), form));
    assert!(found.count() >= 2, "{debug}");
    let mut session = Session::default();
    session.secret("user", USER);
    session.write("somewhere", HEXLOWER.encode(long.as_bytes()));
    assert!(std::panic::catch_unwind(|| session.check()).is_err());
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap().to_owned()
}

/// An event of our user, with other data fields.
fn of_user(name: &str, id: &str, data: Value) -> Outgoing {
    let mut all = json!({"userid": USER, "conversationid": CONVERSATION});
    all.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
    event(["acme", "b1", "web"], name, clock::now_ms(), id, &all)
}

/// Events that count, and every sort that is refused with something in it that nobody may read.
fn events() -> Vec<Outgoing> {
    let bytes = |text: &str| {
        let (subject, headers, _) = of_user("goal.reached", "x", json!({}));
        (subject, headers, text.as_bytes().to_vec())
    };
    let changed = |change: fn(&mut Value)| {
        let (subject, headers, payload) = of_user("message.received", "changed", json!({}));
        let mut envelope = serde_json::from_slice(&payload).unwrap();
        change(&mut envelope);
        (subject, headers, envelope.to_string().into_bytes())
    };
    let headers = |name: &str, value: &str| {
        let (subject, mut headers, payload) = of_user("message.received", "headers", json!({}));
        headers.push((name.to_owned(), value.to_owned()));
        (subject, headers, payload)
    };
    vec![
        of_user("message.received", "1", json!({})),
        of_user("message.sent", "2", json!({"fallback": true})),
        of_user("operator.joined", "3", json!({"operatorid": "o1"})),
        of_user("goal.reached", "4", json!({"goal": "order"})),
        of_user("tag.set", "5", json!({"tag": "vip"})),
        of_user("message.received", "1", json!({"kind": MISPLACED})),
        of_user("message.sent", "6", json!({"fallback": MISPLACED})),
        of_user("message.sent", "7", json!({"parts": MISPLACED})),
        of_user("nlp.evaluated", "8", json!({"detected": MISPLACED, "confidence": MISPLACED})),
        of_user("message.received", "9", json!({"userid": [MISPLACED]})),
        of_user("message.received", "10", json!({"userid": MISPLACED.repeat(30)})),
        of_user("message.received", "11", json!({"conversationid": {MISPLACED: 1}})),
        changed(|e| e["type"] = MISPLACED.into()),
        changed(|e| e["time"] = MISPLACED.into()),
        changed(|e| e["specversion"] = MISPLACED.into()),
        changed(|e| e["id"] = MISPLACED.repeat(20).into()),
        changed(|e| e["source"] = json!([MISPLACED])),
        changed(|e| e["data"] = MISPLACED.into()),
        changed(|e| e[MISPLACED] = MISPLACED.into()),
        bytes(MISPLACED),
        bytes(&format!("{{\"{MISPLACED}")),
        bytes(&format!("[\"{MISPLACED}\"]")),
        headers("ce-specversion", MISPLACED),
        headers("ce-id", MISPLACED),
        headers("Content-Type", MISPLACED),
        headers("X-Other", MISPLACED),
    ]
}

/// A whole session; `format` is that of the logs.
async fn session(format: &str) {
    let mut session = Session::default();
    session.secret("a user id", USER);
    session.secret("a conversation id", CONVERSATION);
    session.secret("something misplaced", MISPLACED);
    let mut site = Roles::start().await;
    for user in ["acme", "ingest", "query", "admin", "operator"] {
        session.secret(&format!("the password of {user}"), &Roles::password(user));
    }
    site.more = vec![
        ("BOTSTATS_LOG", "trace,async_nats=trace,hyper=trace,ureq=trace,rustls=trace".to_owned()),
        ("BOTSTATS_LOG_FORMAT", format.to_owned()),
        ("RUST_LOG", "trace".to_owned()),
    ];
    let command = |session: &mut Session, arguments: &[&str], tells_secret: bool| {
        let output = site.botstats("admin", &[arguments, &["--json"]].concat());
        session.ran(arguments, &output, tells_secret);
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default()
    };
    command(&mut session, &["setup"], false);
    let (mut ingest, _) = site.ingest().await;
    let mut query = site.query().await;

    let mut tokens = Vec::new();
    let mut keys = Vec::new();
    for account in ["acme", "other"] {
        let added = command(&mut session, &["account", "add", account], true);
        tokens.push(text(&added, "token"));
        let added = command(&mut session, &["bot", "add", account, "b1"], true);
        keys.push(text(&added, "key"));
    }
    tokens.push(text(&command(&mut session, &["token", "add", "acme"], true), "token"));
    let revoked = text(&command(&mut session, &["token", "add", "acme"], true), "token");
    keys.push(text(&command(&mut session, &["key", "rotate", "acme", "b1"], true), "key"));
    tokens.push(revoked.clone());
    // A client may hold secrets that this site does not know: another site's token, a token with a
    // typo.
    tokens.push("bst_nobodys-token-0123456789".to_owned());
    keys.push("bsk_nobodys-key-0123456789".to_owned());
    for (number, token) in tokens.iter().enumerate() {
        session.secret(&format!("token {number}"), token);
    }
    for (number, key) in keys.iter().enumerate() {
        session.secret(&format!("key {number}"), key);
    }

    // Events by the command and by a client.
    let events = events();
    let count = u64::try_from(events.len()).unwrap();
    publish(&jetstream(&site.client("acme").await, None), events.clone()).await;
    let lines: Vec<String> = events
        .iter()
        .map(|(subject, _, payload)| {
            let payload = String::from_utf8_lossy(payload);
            format!("{{\"subject\":\"{subject}\",\"payload\":{payload}}}")
        })
        .chain([MISPLACED.to_owned()])
        .collect();
    let file = site.folder.path().join("events");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let file = file.display().to_string();
    let published = site.botstats("acme", &["publish", &file, "--json"]);
    session.ran(&["publish"], &published, false);
    let published: Value = serde_json::from_slice(&published.stdout).unwrap();
    site.applied(count + published["stored"].as_u64().unwrap()).await;
    let letters = command(&mut session, &["deadletters", "list"], false);
    assert!(letters["kept"].as_u64().unwrap() > 20, "{letters}");
    command(&mut session, &["status"], false);
    command(&mut session, &["account", "list"], false);
    command(&mut session, &["bot", "list"], false);
    let listed = command(&mut session, &["token", "list", "acme"], false);
    let revoked_id = text(&listed[2], "token_id");
    command(&mut session, &["token", "revoke", "acme", &revoked_id], false);
    ready(query.internal).await;

    ask_all_sorts(&mut session, query.http, &tokens, &keys).await;
    // The command that asks, with a key and tokens, a good one and bad ones.
    let url = format!("http://{}", query.http);
    for token in &tokens {
        let mut settings = site.settings("admin");
        settings.push(("BOTSTATS_TOKEN", token.clone()));
        settings.push(("BOTSTATS_BOT_KEY", keys[2].clone()));
        let asked = run("botstats", &["stats", "--url", &url], &settings);
        session.ran(&["stats"], &asked, false);
    }

    // A crash of each, then NATS goes away and comes back, then rights that are missing.
    session.write("log of ingest, first", ingest.log());
    session.write("log of query, first", query.process.log());
    ingest.restart();
    query.restart().await;
    let ingest_again = ingest.address("internal listener ready").await;
    ready(query.internal).await;
    session.command_line(ingest.pid());
    session.command_line(query.process.pid());
    session.look_at(query.internal).await;
    session.look_at(ingest_again).await;
    let denied = site.botstats("query", &["account", "add", "third", "--json"]);
    session.ran(&["account", "add"], &denied, false);
    site.nats.process.signal("STOP");
    ask_all_sorts(&mut session, query.http, &tokens[..1], &keys[..1]).await;
    session.look_at(query.internal).await;
    site.nats.process.kill();
    unready(ingest_again).await;
    let nobody = site.botstats("admin", &["status", "--json"]);
    session.ran(&["status"], &nobody, false);
    session.look_at(query.internal).await;
    session.look_at(ingest_again).await;
    for process in [&mut ingest, &mut query.process] {
        process.signal("TERM");
        let ended = process.ended(Duration::from_secs(20)).await;
        assert!(ended.success(), "{ended:?}");
    }
    session.write("log of ingest", ingest.log());
    session.write("log of query", query.process.log());
    let logged = session.written.iter().filter(|(place, _)| place.starts_with("log of"));
    assert!(logged.map(|(_, log)| log.len()).sum::<usize>() > 10_000, "the logs are too quiet");
    write_folder(&mut session, &site.folder.path().join("ingest/data"));
    session.check();
}

/// Every file of ingest's folder.
fn write_folder(session: &mut Session, folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        session.write(path.display().to_string(), std::fs::read(&path).unwrap());
    }
}

/// Requests of every sort, with each token and key wherever a client could put it.
async fn ask_all_sorts(
    session: &mut Session,
    http: SocketAddr,
    tokens: &[String],
    keys: &[String],
) {
    let everywhere = |key: &str| {
        let encoded: String = key.bytes().map(|b| format!("%{b:02X}")).collect();
        [
            ALL.replace('*', key),
            ALL.replace('*', &encoded),
            ALL.replace('*', &format!("{key}!")),
            ALL.replace("day/2", &format!("{key}/2")),
            ALL.replace("day/2", &format!("day/{key}")),
            ALL.replace("/0,1", &format!("/{key},1")),
            format!("{ALL}?key={key}"),
            format!("{ALL}?{key}=1"),
            format!("{ALL}?fill={key}"),
            format!("/{key}"),
            format!("/openapi.json?{key}"),
        ]
    };
    let mut asked = 0;
    for token in tokens {
        let bearer = format!("Bearer {token}");
        for key in keys {
            for path in everywhere(key).into_iter().chain([ALL.replace('*', token)]) {
                let answer = get(http, &path, &[("Authorization", &bearer)]).await;
                session.heard("an HTTP answer", &answer);
                asked += 1;
            }
        }
        for headers in [
            &[("Authorization", token.as_str())][..],
            &[("Authorization", &format!("Basic {token}"))],
            &[("Authorization", &format!("Bearer {token} {token}"))],
            &[("Authorization", &bearer), ("Authorization", &bearer)],
            &[("Authorization", &bearer), ("Accept", "image/png")],
            &[("Authorization", &bearer), ("Accept", token)],
            &[("Authorization", &bearer), ("Accept-Encoding", token)],
            &[("Authorization", &bearer), ("Cookie", token)],
            &[("Authorization", &bearer), ("X-Long", &token.repeat(600))],
            &[("X-Api-Key", token)],
        ] {
            let answer = get(http, ALL, headers).await;
            session.heard("an HTTP answer", &answer);
        }
        for bytes in [
            String::from_utf8(head_of(ALL, &[("Authorization", &bearer)]))
                .unwrap()
                .replacen("GET", "HEAD", 1),
            format!("{token} / HTTP/1.1\r\nHost: x\r\n\r\n"),
            format!("GET /{token} HTTP/9.9\r\n\r\n"),
            format!("GET / HTTP/1.1\r\n{token}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: {token}\r\n\r\n"),
            format!("POST {ALL} HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{token:50}"),
        ] {
            // Some get no answer, which tells nothing.
            if let Ok(answer) = send(http, bytes.as_bytes(), PATIENCE).await {
                session.heard("an HTTP answer", &answer);
            }
        }
    }
    assert!(asked > 0, "nothing was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_told_in_json_logs() {
    session("json").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_told_in_text_logs() {
    session("text").await;
}
