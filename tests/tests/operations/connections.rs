//! TLS and credentials: what is right works, what is wrong says what to do.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use botstats::server::{Options, Server, find};
use botstats_common::io::{clock, stop};
use botstats_tests::harness::{PATIENCE, Process, not_ready, ready, run, until};
use data_encoding::BASE64URL_NOPAD;
use nkeys::{KeyPair, KeyPairType};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

fn server(folder: &Path, extra: String) -> Server {
    let program = find(|_| {}).unwrap_or_else(|e| panic!("{e}"));
    let mut options = Options::new(program, folder.join("nats"));
    options.sync_always = false;
    options.extra = extra;
    Server::start(options).unwrap()
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Runs `botstats setup`; checks its exit code, and what it says.
fn check(case: &str, settings: &[(&str, String)], code: i32, says: &[&str]) {
    let output: Output = run("botstats", &["setup"], settings);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{case}: {told}");
    for text in says {
        assert!(told.contains(text), "{case}: {text:?} is not in: {told}");
    }
}

/// An authority, and what it signs.
struct Authority {
    issuer: Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A server's `tls` block with a certificate for that name.
    fn server(&self, folder: &Path, name: &str) -> String {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let cert = write(folder, &format!("{name}.crt"), &signed.pem());
        let key = write(folder, &format!("{name}.key"), &key.serialize_pem());
        format!("tls {{ cert_file: \"{cert}\", key_file: \"{key}\" }}")
    }
}

#[test]
fn tls() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (authority, other) = (Authority::new(), Authority::new());
    let right = write(folder, "ca.pem", &authority.pem);
    let both = write(folder, "both.pem", &format!("{}{}", other.pem, authority.pem));
    let wrong = write(folder, "other.pem", &other.pem);
    let empty = write(folder, "empty.pem", "");
    let nonsense = write(folder, "nonsense.pem", "not a certificate\n");
    let broken = write(folder, "broken.pem", &authority.pem.replace("MII", "???"));
    let absent = folder.join("absent.pem").display().to_string();
    let a_folder = folder.display().to_string();
    let secured = server(folder, authority.server(folder, "127.0.0.1"));
    let misnamed = server(&folder.join("misnamed"), authority.server(folder, "nats.example"));
    let plain = server(&folder.join("plain"), String::new());

    let set_ca = "set NATS_CA to the certificate of the authority";
    for (case, nats, ca, code, says) in [
        ("the right authority", &secured, Some(&right), 0, &[][..]),
        ("among others", &secured, Some(&both), 0, &[]),
        ("no authority", &secured, None, 1, &["127.0.0.1", set_ca]),
        ("another authority", &secured, Some(&wrong), 1, &[set_ca]),
        ("another name", &misnamed, Some(&right), 1, &["NATS_URL must name the server as"]),
        ("no TLS", &plain, Some(&right), 1, &["need a server with TLS"]),
        ("an empty file", &secured, Some(&empty), 64, &["NATS_CA", "empty.pem"]),
        ("no certificate", &secured, Some(&nonsense), 64, &["NATS_CA", "nonsense.pem"]),
        ("a broken certificate", &secured, Some(&broken), 64, &["NATS_CA", "broken.pem"]),
        ("no file", &secured, Some(&absent), 64, &["NATS_CA", "absent.pem"]),
        ("a folder", &secured, Some(&a_folder), 64, &["NATS_CA"]),
    ] {
        let ca = ca.map(|file| ("NATS_CA", file.clone()));
        for scheme in ["nats", "tls"] {
            let url = nats.url().replace("nats://", &format!("{scheme}://"));
            let settings: Vec<_> = ca.clone().into_iter().chain([("NATS_URL", url)]).collect();
            check(&format!("{case}, {scheme}"), &settings, code, says);
        }
    }
}

/// A JWT as nats-server reads it.
fn jwt(issuer: &KeyPair, subject: &KeyPair, more: &Value, nats: &Value) -> String {
    let mut claims = json!({
        "jti": "test", "iat": clock::now_ms() / 1_000 - 60, "iss": issuer.public_key(),
        "sub": subject.public_key(), "name": "test", "nats": nats,
    });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let encode = |json: Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
    let text =
        format!("{}.{}", encode(json!({"typ": "JWT", "alg": "ed25519-nkey"})), encode(claims));
    let signature = issuer.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", BASE64URL_NOPAD.encode(&signature))
}

/// A server that takes users by the JWTs of an operator, and what makes those.
struct Operator {
    server: Server,
    account: KeyPair,
    folder: PathBuf,
}

fn key(kind: KeyPairType, number: u8) -> KeyPair {
    KeyPair::new_from_raw(kind, [number; 32]).unwrap()
}

impl Operator {
    fn start(folder: &Path) -> Self {
        let operator = key(KeyPairType::Operator, 1);
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
            "wildcards": true, "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1,
            "streams": -1, "consumer": -1,
        });
        let account = key(KeyPairType::Account, 2);
        let nats = json!({"type": "account", "version": 2, "limits": limits});
        let account_jwt = jwt(&operator, &account, &json!({}), &nats);
        let system = key(KeyPairType::Account, 3);
        let plain = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
            "wildcards": true, "conn": -1, "leaf": -1});
        let nats = json!({"type": "account", "version": 2, "limits": plain});
        let system_jwt = jwt(&operator, &system, &json!({}), &nats);
        let nats = json!({"type": "operator", "version": 2, "system_account": system.public_key()});
        let operator_jwt = jwt(&operator, &operator, &json!({}), &nats);
        let (account_id, system_id) = (account.public_key(), system.public_key());
        let extra = format!(
            "operator: {operator_jwt}\nsystem_account: {system_id}\nresolver: MEMORY\n\
             resolver_preload {{ {account_id}: {account_jwt}\n {system_id}: {system_jwt} }}\n"
        );
        Self { server: server(folder, extra), account, folder: folder.to_owned() }
    }

    /// A credentials file of a user whose JWT was signed by that account.
    fn creds(&self, name: &str, signer: &KeyPair, more: &Value) -> String {
        let user = key(KeyPairType::User, 4);
        let nats = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
        let token = jwt(signer, &user, more, &nats);
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            user.seed().unwrap()
        );
        write(&self.folder, name, &text)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials() {
    let folder = tempfile::tempdir().unwrap();
    let operator = Operator::start(folder.path());
    let right = operator.creds("right.creds", &operator.account, &json!({}));
    let stranger = operator.creds("stranger.creds", &key(KeyPairType::Account, 9), &json!({}));
    let past = clock::now_ms() / 1_000 - 10;
    let expired = operator.creds("expired.creds", &operator.account, &json!({"exp": past}));
    let whole = std::fs::read_to_string(&right).unwrap();
    let no_seed = write(folder.path(), "no_seed.creds", whole.split("\n\n").next().unwrap());
    let empty = write(folder.path(), "empty.creds", "");
    let mut long = whole.clone();
    long.push_str(&"x".repeat(1024 * 1024));
    let long = write(folder.path(), "long.creds", &long);
    let absent = folder.path().join("absent.creds").display().to_string();
    let a_folder = folder.path().display().to_string();
    let check_creds = "or NATS_CREDS";
    for (case, creds, code, says) in [
        ("the right ones", Some(&right), 0, &[][..]),
        ("none", None, 1, &[check_creds]),
        ("a stranger's", Some(&stranger), 1, &[check_creds]),
        ("expired", Some(&expired), 1, &[check_creds]),
        ("no seed", Some(&no_seed), 64, &["NATS_CREDS", "no_seed.creds"]),
        ("an empty file", Some(&empty), 64, &["NATS_CREDS", "empty.creds"]),
        ("a huge file", Some(&long), 64, &["NATS_CREDS", "long.creds"]),
        ("no file", Some(&absent), 64, &["NATS_CREDS", "absent.creds"]),
        ("a folder", Some(&a_folder), 64, &["NATS_CREDS"]),
    ] {
        let mut settings = vec![("NATS_URL", operator.server.url())];
        settings.extend(creds.map(|file| ("NATS_CREDS", file.clone())));
        check(case, &settings, code, says);
    }

    // The services: wrong credentials are waited for, a wrong file ends the start.
    let seed = whole.lines().find(|line| line.starts_with("SU")).unwrap();
    let token = whole.lines().find(|line| line.starts_with("ey")).unwrap();
    for (program, listeners) in [("botstats-ingest", 1), ("botstats-query", 2)] {
        let start = |creds: &str, name: &str| {
            let folder = folder.path().join(format!("{program}-{name}"));
            let mut settings = vec![
                ("NATS_URL", operator.server.url()),
                ("NATS_CREDS", creds.to_owned()),
                ("BOTSTATS_INTERNAL_ADDR", "127.0.0.1:0".to_owned()),
                ("BOTSTATS_LOG", "trace".to_owned()),
            ];
            settings.push(match listeners {
                1 => ("BOTSTATS_DATA", folder.join("data").display().to_string()),
                _ => ("BOTSTATS_HTTP_ADDR", "127.0.0.1:0".to_owned()),
            });
            Process::start(program, &[], &settings, &folder)
        };
        let mut process = start(&absent, "absent");
        let ended = process.ended(botstats_tests::harness::PATIENCE).await;
        assert_eq!(ended.code(), Some(64), "{program}");
        let process = start(&expired, "expired");
        let internal = process.address("internal listener ready").await;
        not_ready(internal, check_creds).await;
        let process = start(&right, "right");
        let internal = process.address("internal listener ready").await;
        if listeners == 1 {
            ready(internal).await;
        } else {
            not_ready(internal, "no ingest answers reads").await;
        }
        let log = process.log();
        assert!(!log.contains(seed) && !log.contains(token), "{program} logs its credentials");
    }
}

#[test]
fn user_and_password() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let secret = "pass word:@/%ü";
    let nats = server(folder, format!("authorization {{ user: me, password: \"{secret}\" }}"));
    let file = |name: &str, text: &str| ("NATS_PASSWORD_FILE", write(folder, name, text));
    let long = "x".repeat(1024 * 1024);
    let wrong = "check NATS_USER with NATS_PASSWORD";
    let absent = folder.join("absent").display().to_string();
    for (case, user, given, code, says) in [
        ("a variable", "me", ("NATS_PASSWORD", secret.to_owned()), 0, ""),
        ("a file", "me", file("plain", secret), 0, ""),
        ("a line end", "me", file("line", &format!("{secret}\n")), 0, ""),
        ("a DOS line end", "me", file("dos", &format!("{secret}\r\n")), 0, ""),
        ("a wrong one", "me", ("NATS_PASSWORD", "no".to_owned()), 1, wrong),
        ("another user", "you", ("NATS_PASSWORD", secret.to_owned()), 1, wrong),
        ("an empty variable", "me", ("NATS_PASSWORD", String::new()), 1, wrong),
        ("an empty file", "me", file("empty", ""), 64, "NATS_PASSWORD_FILE"),
        ("only a line end", "me", file("empty-line", "\n"), 64, "NATS_PASSWORD_FILE"),
        ("a huge file", "me", file("huge", &long), 64, "NATS_PASSWORD_FILE"),
        ("no file", "me", ("NATS_PASSWORD_FILE", absent), 64, "NATS_PASSWORD_FILE"),
        ("a folder", "me", ("NATS_PASSWORD_FILE", folder.display().to_string()), 64, "_FILE"),
    ] {
        let settings = [("NATS_URL", nats.url()), ("NATS_USER", user.to_owned()), given];
        check(case, &settings, code, &[says]);
        let told = run("botstats", &["setup"], &settings);
        let told = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(!told.contains(secret), "{case}: {told}");
    }
    // A password without a user, and bytes that are no text.
    std::fs::write(folder.join("binary"), b"\xff\xfe").unwrap();
    let binary = ("NATS_PASSWORD_FILE", folder.join("binary").display().to_string());
    let me = ("NATS_USER", "me".to_owned());
    check("no text", &[("NATS_URL", nats.url()), me, binary], 64, &["NATS_PASSWORD_FILE"]);
}

#[test]
fn a_token_in_the_url() {
    let folder = tempfile::tempdir().unwrap();
    let secret = "to/ken";
    let nats = server(folder.path(), format!("authorization {{ token: \"{secret}\" }}"));
    let url = |user: &str| nats.url().replace("://", &format!("://{user}@"));
    let of = |user: &str| [("NATS_URL", url(user))];
    check("the right one", &of("to%2Fken"), 0, &[]);
    check("a wrong one", &of("other"), 1, &["check NATS_USER"]);
    let told = run("botstats", &["setup"], &of("other-s3cret"));
    assert!(!String::from_utf8_lossy(&told.stderr).contains("s3cret"), "{told:?}");
}

#[test]
fn empty_variables_beside_a_url() {
    let folder = tempfile::tempdir().unwrap();
    let nats = server(folder.path(), "authorization { user: me, password: pw }".to_owned());
    let url = nats.url().replace("://", "://me:pw@");
    for empty in ["", " "] {
        let names = ["USER", "PASSWORD", "PASSWORD_FILE", "CREDS", "CA", "INBOX_PREFIX"];
        let names = names.map(|name| format!("NATS_{name}"));
        let mut settings: Vec<(&str, String)> =
            names.iter().map(|name| (name.as_str(), empty.to_owned())).collect();
        settings.push(("NATS_URL", url.clone()));
        check("empty", &settings, 0, &[]);
    }
    let upper = url.replace("nats://", "NATS://");
    check("upper case, a space", &[("NATS_URL", format!(" {upper} "))], 0, &[]);
}

/// How often the programs are to try; each tries about once a second. More than they have different
/// things to tell, which are eight.
const TRIES: usize = 12;

/// A server of the protocol that refuses everybody with these bytes, but perhaps the first, whom it
/// leaves.
struct Refusing {
    url: String,
    tries: Arc<AtomicUsize>,
}

impl Refusing {
    async fn start(info: &'static str, refusal: &'static str, take_first: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        stop::spawn(async move {
            loop {
                let Ok((mut socket, _)) = listener.accept().await else { return };
                let before = counted.fetch_add(1, Ordering::Relaxed);
                let first = before == 0 && take_first;
                stop::spawn(async move {
                    let (reader, mut writer) = socket.split();
                    writer.write_all(info.as_bytes()).await.ok()?;
                    let mut lines = BufReader::new(reader).lines();
                    let speaks = !info.is_empty() && !info.contains("tls_required");
                    while speaks && lines.next_line().await.ok()?? != "PING" {}
                    let answer = if first { "PONG\r\n" } else { refusal };
                    writer.write_all(answer.as_bytes()).await.ok()
                });
            }
        });
        Self { url, tries }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_again_and_again_is_no_flood_of_the_log() {
    const INFO: &str = "INFO {\"server_id\":\"x\",\"version\":\"2.15.0\",\"proto\":1,\
        \"headers\":true,\"max_payload\":1048576}\r\n";
    const TLS: &str = "INFO {\"server_id\":\"x\",\"version\":\"2.15.0\",\"proto\":1,\
        \"headers\":true,\"max_payload\":1048576,\"tls_required\":true}\r\n";
    let folder = tempfile::tempdir().unwrap();
    let mut cases = Vec::new();
    for (case, info, refusal, take_first) in [
        ("password", INFO, "-ERR 'Authorization Violation'\r\n", false),
        ("later", INFO, "-ERR 'Authorization Violation'\r\n", true),
        ("connections", INFO, "-ERR 'maximum connections exceeded'\r\n", true),
        ("account", INFO, "-ERR 'maximum account active connections exceeded'\r\n", false),
        ("slow", INFO, "-ERR 'Authentication Timeout'\r\n", false),
        ("closes", INFO, "", true),
        ("at-once", "", "", false),
        ("tls", TLS, "", false),
        ("another-protocol", "", "HTTP/1.1 400 Bad Request\r\n\r\n", false),
    ] {
        for program in ["botstats-ingest", "botstats-query"] {
            // In turn with the client library's own lines.
            let filter = ["info", "info,async_nats=warn"][cases.len() / 2 % 2];
            let server = Refusing::start(info, refusal, take_first).await;
            let name = format!("{case} {program} {filter}");
            let folder = folder.path().join(cases.len().to_string());
            let settings = [
                ("NATS_URL", server.url.clone()),
                ("NATS_USER", "me".to_owned()),
                ("NATS_PASSWORD", "s3cret".to_owned()),
                ("BOTSTATS_LOG", filter.to_owned()),
                ("BOTSTATS_INTERNAL_ADDR", "127.0.0.1:0".to_owned()),
                ("BOTSTATS_HTTP_ADDR", "127.0.0.1:0".to_owned()),
                ("BOTSTATS_DATA", folder.join("data").display().to_string()),
            ];
            cases.push((name, server, Process::start(program, &[], &settings, &folder)));
        }
    }
    for (name, server, process) in cases {
        until(&format!("tries: {name}"), PATIENCE, async || {
            (server.tries.load(Ordering::Relaxed) >= TRIES).then_some(())
        })
        .await;
        let log = process.log();
        assert!(!log.contains("s3cret"), "{name}: {log}");
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut told: Vec<(String, String)> = lines
            .filter(|line| line["level"] != "INFO")
            .map(|line| (line["target"].to_string(), line["message"].to_string()))
            .collect();
        let all = told.len();
        assert!((1..TRIES).contains(&all), "{name}: {log}");
        told.sort();
        told.dedup();
        assert_eq!(told.len(), all, "a line came twice, {name}: {log}");
    }
}
