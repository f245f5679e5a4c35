//! The containers of one run, handled as a person would: with `docker` and `docker compose`.
//!
//! *Invariants*: every command has a limit.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use botstats_tests::harness::{free_ports, until};

/// How long one command may take; the longest brings up a cluster.
const COMMAND_LIMIT: Duration = Duration::from_secs(240);
/// All profiles: what `down` must take along.
const PROFILES: [&str; 8] =
    ["tools", "demo", "observe", "cluster", "cluster-tools", "cells", "cells-third", "cells-tools"];

/// A compose project of its own.
pub(super) struct Stack {
    root: PathBuf,
    settings: Vec<(&'static str, String)>,
    /// The first of query's two ports.
    pub(super) http_port: u16,
    /// The nats-server's port.
    pub(super) nats_port: u16,
    /// The cluster's.
    pub(super) cluster_nats_port: u16,
    /// That of the cells.
    pub(super) cells_nats_port: u16,
}

impl Stack {
    /// For the repository in that folder; nothing is started yet.
    pub(super) fn new(root: &Path, project: &str, window: Duration) -> Self {
        let [http_port, _, cluster_http_port, _, cells_http_port, _, nats_port, others @ ..] =
            free_ports::<9>();
        let [cluster_nats_port, cells_nats_port] = others;
        let range = |first: u16| format!("{first}-{}", first + 1);
        let settings = vec![
            ("COMPOSE_PROJECT_NAME", project.to_owned()),
            ("BOTSTATS_IMAGES", project.to_owned()),
            ("BOTSTATS_HTTP_PORTS", range(http_port)),
            ("BOTSTATS_NATS_PORT", nats_port.to_string()),
            ("BOTSTATS_CLUSTER_HTTP_PORTS", range(cluster_http_port)),
            ("BOTSTATS_CLUSTER_NATS_PORT", cluster_nats_port.to_string()),
            ("BOTSTATS_CELLS_HTTP_PORTS", range(cells_http_port)),
            ("BOTSTATS_CELLS_NATS_PORT", cells_nats_port.to_string()),
            ("BOTSTATS_URL", format!("http://127.0.0.1:{http_port}")),
            ("BOTSTATS_PUBLIC_URL", format!("http://127.0.0.1:{http_port}")),
            ("BOTSTATS_THROTTLE_WINDOW", format!("{}s", window.as_secs())),
        ];
        let root = root.to_owned();
        Self { root, settings, http_port, nats_port, cluster_nats_port, cells_nats_port }
    }

    /// The name of the project, with which the names of its images begin.
    pub(super) fn project(&self) -> &str {
        &self.settings[0].1
    }

    /// The repository's folder.
    pub(super) fn root_folder(&self) -> &Path {
        &self.root
    }

    /// Runs a program in the repository's folder, with that text as its input.
    pub(super) async fn output(&self, program: &str, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(program)
            .args(arguments)
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let run = async {
            // The exit code shows a program that ended before it had read all input.
            let _unread = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
            child.wait_with_output().await.expect("the program's end")
        };
        let ended = tokio::time::timeout(COMMAND_LIMIT, run).await;
        ended.unwrap_or_else(|_| panic!("{program} {arguments:?}: not within {COMMAND_LIMIT:?}"))
    }

    /// Runs `docker` with these arguments; gives its standard output.
    pub(super) async fn docker(&self, arguments: &[&str]) -> String {
        let output = self.output("docker", arguments, "").await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {}: {said}", arguments.join(" "));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs `docker compose` with these arguments; gives its standard output.
    pub(super) async fn compose(&self, arguments: &[&str]) -> String {
        self.docker(&[&["compose"], arguments].concat()).await
    }

    /// Runs a command of `botstats` in that service's container; gives its answer.
    pub(super) async fn botstats(&self, service: &str, arguments: &[&str]) -> Value {
        let run = ["run", "--rm", "-T", service];
        let said = self.compose(&[&run, arguments, &["--json"]].concat()).await;
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {said}"))
    }

    /// The containers of a service that run, by name.
    pub(super) async fn containers(&self, service: &str) -> Vec<Value> {
        let filter = format!("label=com.docker.compose.service={service}");
        self.inspect(&["ps", "-q", "--filter", &filter]).await
    }

    /// All containers of the project, those that have ended too.
    pub(super) async fn all_containers(&self) -> Vec<Value> {
        self.inspect(&["ps", "-aq"]).await
    }

    async fn inspect(&self, list: &[&str]) -> Vec<Value> {
        let project = format!("label=com.docker.compose.project={}", self.project());
        let ids = self.docker(&[list, &["--filter", &project]].concat()).await;
        let ids: Vec<&str> = ids.lines().collect();
        if ids.is_empty() {
            return Vec::new();
        }
        let said = self.docker(&[&["inspect"], &ids[..]].concat()).await;
        let mut found: Vec<Value> = serde_json::from_str(&said).expect("what docker inspect says");
        found.sort_by_key(|container| container["Name"].to_string());
        found
    }

    /// The only container of a service that runs.
    pub(super) async fn container(&self, service: &str) -> Value {
        let mut found = self.containers(service).await;
        assert_eq!(found.len(), 1, "containers of {service}");
        found.remove(0)
    }

    /// Waits until that many containers of a service are healthy.
    pub(super) async fn healthy(&self, service: &str, count: usize, limit: Duration) {
        eprintln!("    waiting for {count} healthy {service}");
        until(&format!("{count} healthy {service}"), limit, async || {
            let found = self.containers(service).await;
            let healthy = found.iter().filter(|c| c["State"]["Health"]["Status"] == "healthy");
            (healthy.count() == count).then_some(())
        })
        .await;
    }

    /// Where a service's containers answer on this machine, by container's name.
    pub(super) async fn addresses(&self, service: &str) -> Vec<SocketAddr> {
        self.containers(service).await.iter().map(address).collect()
    }

    /// A password, from where nats-server reads it.
    pub(super) async fn password(&self, service: &str, role: &str) -> String {
        let container = self.container(service).await;
        let file = format!("/secrets/{role}/password");
        self.docker(&["exec", id(&container), "cat", &file]).await
    }

    /// Removes everything but images; volumes only if so told.
    pub(super) async fn down(&self, volumes: bool) {
        let profiles = PROFILES.iter().flat_map(|profile| ["--profile", profile]);
        let more: &[&str] = if volumes { &["-v"] } else { &[] };
        let arguments: Vec<&str> =
            profiles.chain(["down", "--remove-orphans"]).chain(more.iter().copied()).collect();
        self.compose(&arguments).await;
    }
}

/// A container's id.
pub(super) fn id(container: &Value) -> &str {
    container["Id"].as_str().expect("an id")
}

/// The process id of a container's program on this machine.
pub(super) fn pid(container: &Value) -> u32 {
    let pid = container["State"]["Pid"].as_u64().expect("a process id");
    u32::try_from(pid).expect("a process id")
}

/// The name of a container's service.
pub(super) fn service(container: &Value) -> &str {
    container["Config"]["Labels"]["com.docker.compose.service"].as_str().expect("a service")
}

fn address(container: &Value) -> SocketAddr {
    let bound = &container["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostPort"];
    let port = bound.as_str().and_then(|port| port.parse().ok()).expect("a port");
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
