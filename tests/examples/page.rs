//! A live installation for the tests of the page, in `tests/page`, and commands that disturb it.
//!
//!     cargo run -p botstats-tests --example page
//!
//! Prints a line of JSON when everything runs: the address of query, of its internal listener, and
//! the accounts' tokens. Then it carries out commands, a line of JSON each, and answers each with a
//! line. It ends when its input does. Addresses stay the same over restarts. The programs must have
//! been built: `cargo build --workspace --bins`.
//!
//! | command | what it does |
//! | --- | --- |
//! | `{"publish": [subject, event]}` | publishes the event, and waits until it is counted |
//! | `{"put": [key, entry]}` | puts an entry into the directory |
//! | `{"kill": program}` | kills `query`, `ingest` or `nats` |
//! | `{"start": program}` | starts it again; does not wait until it answers |
#![expect(clippy::print_stdout, reason = "its answers")]

use std::collections::BTreeMap;

use anyhow::Context as _;
use botstats_common::io::clock;
use botstats_tests::fixture;
use botstats_tests::harness::{
    Login, PATIENCE, Process, Query, Site, free_ports, outgoing, publish, publish_stubbornly,
};
use botstats_tests::model::Directory;
use serde::Deserialize;
use serde_json::{Value, json};

/// The account of the examples.
const ACCOUNT: &str = "acme";
/// An account with a bot and without an event.
const EMPTY: &str = "empty";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Command {
    Publish(String, Value),
    Put(String, Value),
    Kill(Program),
    Start(Program),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Program {
    Query,
    Ingest,
    Nats,
}

struct Installation {
    query: Query,
    ingest: Process,
    logins: [Login; 2],
    // Last: the others use it.
    site: Site,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut installation = Installation::start().await;
    println!("{}", installation.description());
    // Blocks only this thread, which has nothing else to do.
    for line in std::io::stdin().lines() {
        let line = line?;
        let command = serde_json::from_str(&line).with_context(|| format!("command {line}"))?;
        installation.obey(command).await?;
        println!("{{}}");
    }
    Ok(())
}

impl Installation {
    async fn start() -> Self {
        // With the throttle: the page must not use the account's call.
        let site = Site::start("1h").await;
        let ingest = site.ingest("ingest");
        let part_two = fixture::part_two();
        let login = site.add_account(ACCOUNT, &part_two.directory, &["b1", "b2"]).await;
        site.put(&format!("operators.{ACCOUNT}"), &json!(part_two.operators)).await;
        let nothing = Directory::nameless("America/New_York");
        let empty = site.add_account(EMPTY, &nothing, &["b1"]).await;
        let events = fixture::messages_until(clock::now_ms());
        publish(&site.js, events.iter().map(outgoing)).await;
        let mut query = site.query("query").await;
        // Fixed ports, so that the page finds a query that was killed and started again.
        let ports = free_ports::<2>();
        for (variable, port) in ["BOTSTATS_HTTP_ADDR", "BOTSTATS_INTERNAL_ADDR"].iter().zip(ports) {
            query.process.set(variable, format!("127.0.0.1:{port}"));
        }
        query.restart().await;
        query.ready().await;
        site.applied(PATIENCE).await;
        Self { query, ingest, logins: [login, empty], site }
    }

    fn description(&self) -> Value {
        let logins = self.logins.iter().map(|login| {
            let about = json!({"token": login.token, "bots": login.bot_tokens, "keys": login.keys});
            (login.account.clone(), about)
        });
        json!({
            "url": format!("http://{}", self.query.http),
            "internal": format!("http://{}", self.query.internal),
            "accounts": logins.collect::<BTreeMap<_, _>>(),
        })
    }

    async fn obey(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Publish(subject, event) => {
                let message = (subject, Vec::new(), event.to_string().into_bytes());
                publish_stubbornly(&self.site.js, &message, PATIENCE).await;
                self.site.applied(PATIENCE).await;
            }
            Command::Put(key, entry) => self.site.put(&key, &entry).await,
            Command::Kill(Program::Query) => self.query.process.kill(),
            Command::Kill(Program::Ingest) => self.ingest.kill(),
            Command::Kill(Program::Nats) => self.site.nats.kill(),
            Command::Start(Program::Query) => self.query.process.restart(),
            Command::Start(Program::Ingest) => self.ingest.restart(),
            Command::Start(Program::Nats) => self.site.nats.restart()?,
        }
        Ok(())
    }
}
