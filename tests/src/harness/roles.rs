//! A nats-server with the configuration file as it is shipped, and the programs, each with its
//! role.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use super::{Answer, Configured, PATIENCE, Process, Query, Raw, get, run, until};

/// The users of the shipped file, and the variables of their passwords.
const USERS: [(&str, &str); 5] = [
    ("acme", "ACME_PASSWORD"),
    ("ingest", "INGEST_PASSWORD"),
    ("query", "QUERY_PASSWORD"),
    ("admin", "ADMIN_PASSWORD"),
    ("operator", "OPERATOR_PASSWORD"),
];

/// The configuration file as it is shipped.
pub fn shipped_configuration() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/deploy/nats-server.conf")
}

/// A nats-server with a configuration file, and those who use it.
pub struct Roles {
    pub nats: Configured,
    /// Settings for every program, such as how it logs.
    pub more: Vec<(&'static str, String)>,
    // Last: the folder goes after those who use it.
    pub folder: TempDir,
}

impl Roles {
    /// Starts a nats-server with the file as it is shipped.
    pub async fn start() -> Self {
        Self::with(&shipped_configuration()).await
    }

    /// Starts a nats-server with a file that has the users of the shipped one.
    pub async fn with(config: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let variables = USERS.map(|(user, variable)| (variable, Self::password(user)));
        let nats = Configured::start(config, &variables, &folder.path().join("nats")).await;
        Self { nats, more: Vec::new(), folder }
    }

    /// Starts a nats-server with a copy of the shipped file that lacks the first such text; gives
    /// the copy's folder too. The rest of the text after a `|` says where, and stays.
    pub async fn without(text: &str) -> (Self, TempDir) {
        let whole = std::fs::read_to_string(shipped_configuration()).expect("the shipped file");
        let stays = text.split_once('|').map_or("", |(_, stays)| stays);
        let text = text.replacen('|', "", 1);
        assert!(whole.contains(&text), "{text} is not in the file");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("nats-server.conf");
        std::fs::write(&file, whole.replacen(&text, stays, 1)).expect("a copy");
        (Self::with(&file).await, folder)
    }

    pub fn password(user: &str) -> String {
        format!("password-of-{user}")
    }

    /// Settings of a program that connects as that user.
    pub fn settings(&self, user: &str) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("NATS_URL", self.nats.url()),
            ("NATS_USER", user.to_owned()),
            ("NATS_PASSWORD", Self::password(user)),
        ];
        settings.extend(self.more.iter().cloned());
        settings
    }

    /// Runs `botstats` as that user.
    pub fn botstats(&self, user: &str, arguments: &[&str]) -> Output {
        run("botstats", arguments, &self.settings(user))
    }

    /// Runs a command as admin; it must work, and no right be missing.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.botstats("admin", &[arguments, &["--json"]].concat());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !told.contains("may not"), "{arguments:?}: {told}");
        serde_json::from_slice(&output.stdout).expect("an answer in JSON")
    }

    /// A client library's connection.
    pub async fn client(&self, user: &str) -> async_nats::Client {
        async_nats::ConnectOptions::new()
            .user_and_password(user.to_owned(), Self::password(user))
            .custom_inbox_prefix(format!("_INBOX_{user}"))
            .connect(self.nats.url())
            .await
            .expect("a connection")
    }

    /// A connection over a plain socket.
    pub async fn raw(&self, user: &str) -> Raw {
        Raw::connect(self.nats.port, user, &Self::password(user)).await
    }

    pub fn ingest_settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = self.settings("ingest");
        settings.push(("BOTSTATS_INTERNAL_ADDR", "127.0.0.1:0".to_owned()));
        let data = self.folder.path().join("ingest/data");
        settings.push(("BOTSTATS_DATA", data.display().to_string()));
        settings
    }

    /// Starts an ingest; gives where it says whether it is ready.
    pub async fn ingest(&self) -> (Process, SocketAddr) {
        let folder = self.folder.path().join("ingest");
        let process = Process::start("botstats-ingest", &[], &self.ingest_settings(), &folder);
        let internal = process.address("internal listener ready").await;
        (process, internal)
    }

    pub async fn query(&self) -> Query {
        let mut settings = self.settings("query");
        settings.push(("BOTSTATS_HTTP_ADDR", "127.0.0.1:0".to_owned()));
        settings.push(("BOTSTATS_INTERNAL_ADDR", "127.0.0.1:0".to_owned()));
        let folder = self.folder.path().join("query");
        let process = Process::start("botstats-query", &[], &settings, &folder);
        let (internal, http) = Query::addresses(&process).await;
        Query { process, http, internal }
    }

    /// Waits until an ingest has applied the messages up to `sequence`.
    pub async fn applied(&self, sequence: u64) {
        until(&format!("sequence {sequence} applied"), PATIENCE, async || {
            let said = self.botstats("admin", &["status", "--json"]);
            let said: Value = serde_json::from_slice(&said.stdout).ok()?;
            let applied = |one: &Value| one["ingest"]["sequence"].as_u64().unwrap_or_default();
            said.as_array()?.iter().any(|one| applied(one) >= sequence).then_some(())
        })
        .await;
    }
}

/// Waits until the program with that internal address is ready.
pub async fn ready(internal: SocketAddr) {
    until("a program that is ready", PATIENCE, async || {
        (get(internal, "/readyz", &[]).await.status == 200).then_some(())
    })
    .await;
}

/// Waits until the program is not ready. Returns that answer of `/readyz`.
pub async fn unready(internal: SocketAddr) -> Answer {
    until("a program that is not ready", PATIENCE, async || {
        Some(get(internal, "/readyz", &[]).await).filter(|answer| answer.status == 503)
    })
    .await
}

/// Waits until the program is not ready for a reason with that text.
pub async fn not_ready(internal: SocketAddr, reason: &str) {
    until(&format!("not ready: {reason}"), PATIENCE, async || {
        let answer = get(internal, "/readyz", &[]).await;
        (answer.status == 503 && answer.text().contains(reason)).then_some(())
    })
    .await;
}
