//! Asks each nats-server whether it maps events to slots.
//!
//! A probe is an event of a made-up account. It names a stream that does not exist
//! (`Nats-Expected-Stream`), so that no stream stores it; a subscription on the same connection
//! sees on which subject it arrives.

use std::fmt::Write as _;
use std::time::Duration;

use async_nats::{Client, HeaderMap};
use botstats_common::io::nats::{NatsSettings, Role, chain, explain};
use botstats_common::io::producer::new_id;
use botstats_common::names::{EVENTS_PREFIX, SLOT_MAPPING, SLOT_PREFIX};
use botstats_common::slot::Slot;
use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::output::{Align, printable, table};

/// The time limit for a probe to come back.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// The most servers that are asked at once.
const AT_ONCE: usize = 8;
/// The stream that a probe names: no stream has this name.
const NO_STREAM: &str = "botstats-probe";

/// What a server does with events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Mapped,
    /// The subject stays as it is.
    NotMapped,
    /// The subject becomes another one.
    Wrong(String),
    /// The server could not be asked.
    Unknown(String),
}

/// A server and what it does with events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) found: Found,
}

impl Server {
    /// What is wrong with it; `None` if it maps events.
    pub(crate) fn problem(&self) -> Option<String> {
        Some(match &self.found {
            Found::Mapped => return None,
            Found::NotMapped => {
                "does not map events to slots: add the mapping to its configuration and reload it"
                    .to_owned()
            }
            Found::Wrong(subject) => format!(
                "maps events to {subject}, not to the account's slot: the mapping must be exactly the one that \
                 `botstats cells check --help` shows"
            ),
            Found::Unknown(why) => format!("could not be asked: {why}"),
        })
    }

    /// True if events of its publishers get lost or are misplaced, as far as is known.
    pub(crate) fn is_wrong(&self) -> bool {
        matches!(self.found, Found::NotMapped | Found::Wrong(_))
    }
}

/// The mapping as it stands in the configuration of nats-server.
pub(crate) fn configuration() -> String {
    let (from, to) = SLOT_MAPPING;
    format!("mappings {{ \"{from}\": \"{to}\" }}")
}

/// Asks each server that the settings or the connected server name; each once, however many
/// addresses it has.
pub(crate) async fn servers(nats: &NatsSettings, client: &Client) -> Vec<Server> {
    let each = nats.each_server(client);
    let asked: Vec<(String, Server)> =
        futures::stream::iter(each).map(server).buffered(AT_ONCE).collect().await;
    let mut servers: Vec<(String, Server)> = Vec::new();
    for (id, server) in asked {
        if id.is_empty() || servers.iter().all(|(other, _)| *other != id) {
            servers.push((id, server));
        }
    }
    servers.into_iter().map(|(_, server)| server).collect()
}

/// Asks a server; returns its id too, empty if it cannot be reached.
async fn server(nats: NatsSettings) -> (String, Server) {
    let address = nats.url.to_string();
    match nats.connect(Role::Admin).await {
        Ok(client) => {
            let info = client.server_info();
            let found = match probe(&client).await {
                Ok(found) => found,
                Err(error) => Found::Unknown(explain(error.as_ref())),
            };
            (info.server_id, Server { name: info.server_name, address, found })
        }
        Err(error) => {
            let found = Found::Unknown(chain(&error));
            (String::new(), Server { name: String::new(), address, found })
        }
    }
}

async fn probe(client: &Client) -> anyhow::Result<Found> {
    let account = format!("probe-{}", new_id());
    let rest = format!("{account}.probe.probe");
    let plain = format!("{EVENTS_PREFIX}{rest}");
    let mapped = format!("{SLOT_PREFIX}{}.{rest}", Slot::of_token(&account));
    let mut as_published = client.subscribe(plain.clone()).await?;
    let mut with_a_slot = client.subscribe(format!("{SLOT_PREFIX}*.{rest}")).await?;
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Expected-Stream", NO_STREAM);
    client.publish_with_headers(plain, headers, "".into()).await?;
    let arrival = async {
        tokio::select! {
            message = as_published.next() => message,
            message = with_a_slot.next() => message,
        }
    };
    let arrived = tokio::time::timeout(PROBE_LIMIT, arrival).await;
    // The connection is dropped next, but it may hold other subscriptions later.
    let _closed = (as_published.unsubscribe().await, with_a_slot.unsubscribe().await);
    Ok(match arrived.ok().flatten() {
        Some(message) if *message.subject == mapped => Found::Mapped,
        Some(message) if message.subject.starts_with(SLOT_PREFIX) => {
            Found::Wrong(message.subject.to_string())
        }
        Some(_) => Found::NotMapped,
        None => {
            let why = "a probe did not come back: a mapping may send events elsewhere, or the user may lack the rights \
                       to publish or to subscribe to events";
            match botstats_common::io::nats::recent_violation() {
                Some(violation) => Found::Unknown(format!("{why} ({violation})")),
                None => Found::Unknown(why.to_owned()),
            }
        }
    })
}

/// The servers as lines for people.
pub(crate) fn text(servers: &[Server]) -> String {
    let columns = [("SERVER", Align::Left), ("ADDRESS", Align::Left), ("EVENTS", Align::Left)];
    let rows: Vec<Vec<String>> = servers
        .iter()
        .map(|server| {
            let found = match server.found {
                Found::Mapped => "mapped to slots",
                Found::NotMapped => "not mapped",
                Found::Wrong(_) => "mapped wrongly",
                Found::Unknown(_) => "unknown",
            };
            vec![printable(&server.name), server.address.clone(), found.to_owned()]
        })
        .collect();
    let mut text = table(&columns, &rows);
    for server in servers {
        if let Some(problem) = server.problem() {
            // Writing to a string can't fail.
            let _written = writeln!(text, "{}: {}", server.address, printable(&problem));
        }
    }
    text
}

/// The servers for programs.
pub(crate) fn json(servers: &[Server]) -> Value {
    servers
        .iter()
        .map(|server| {
            json!({
                "server": server.name, "address": server.address,
                "mapped": server.found == Found::Mapped, "problem": server.problem(),
            })
        })
        .collect()
}
