//! Three nats-servers that keep copies of everything.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::stream::Stream;
use botstats::server::{Options, Server, find};
use botstats_common::shell::nats;
use tempfile::TempDir;

use super::until;

/// How many servers.
const SERVERS: usize = 3;
/// How long the servers may take to find each other.
const FORMING: Duration = Duration::from_secs(60);

/// A cluster, and a client connected to it.
pub struct Cluster {
    /// The servers `n0`, `n1`, `n2`.
    pub servers: Vec<Server>,
    /// JetStream through a client that knows all of them.
    pub js: jetstream::Context,
    /// That client.
    pub client: async_nats::Client,
    // Last: the folder goes after those who use it.
    /// Folders of the servers, and of what uses them.
    pub folder: TempDir,
}

impl Cluster {
    /// Starts the servers and waits until JetStream answers.
    ///
    /// # Panics
    /// If they do not find each other.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let program = find(|_| {}).unwrap_or_else(|e| panic!("{e}"));
        let routes = free_ports();
        let urls: Vec<String> =
            routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        let start = |number: usize| {
            let mut options = Options::new(&program, folder.path().join(format!("n{number}")));
            options.sync_always = false;
            options.extra = format!(
                "server_name: n{number}\n\
                 cluster {{ name: test, listen: \"127.0.0.1:{}\", routes: [{}] }}",
                routes[number],
                urls.join(", "),
            );
            Server::start(options).unwrap_or_else(|e| panic!("{e}"))
        };
        let servers: Vec<Server> = (0..SERVERS).map(start).collect();
        let client = async_nats::ConnectOptions::new()
            .retry_on_initial_connect()
            .connect(url_of(&servers))
            .await
            .expect("a connection");
        let js = nats::jetstream(&client);
        until("a cluster with JetStream", FORMING, async || js.query_account().await.ok()).await;
        Self { servers, js, client, folder }
    }

    /// The addresses of all servers, as a setting.
    #[must_use]
    pub fn url(&self) -> String {
        url_of(&self.servers)
    }

    /// The server that leads that stream now.
    pub async fn leader(&self, stream: &str) -> usize {
        until(&format!("a leader of {stream}"), FORMING, async || {
            let mut stream: Stream = self.js.get_stream(stream).await.ok()?;
            let leader = stream.info().await.ok()?.cluster.as_ref()?.leader.clone()?;
            leader.strip_prefix('n')?.parse().ok()
        })
        .await
    }
}

fn url_of(servers: &[Server]) -> String {
    let urls: Vec<String> = servers.iter().map(Server::url).collect();
    urls.join(",")
}

/// Ports that nobody listens on now.
fn free_ports() -> Vec<u16> {
    let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let listeners: Vec<TcpListener> = (0..SERVERS).map(bind).collect();
    listeners.iter().map(|l| l.local_addr().expect("an address").port()).collect()
}
