//! A container can do no more than it must: docker says so, the kernel says so, and attempts fail.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::clients::is_open;
use super::stack::{Stack, id, pid, service};

/// The user and group of every program.
const USER: &str = "65532:65532";
/// File systems that hold nothing beyond the container's life, made by docker itself.
const PASSING: [&str; 8] =
    ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "shm"];
/// Ports that only health checks and metrics use.
const INTERNAL_PORTS: [u16; 4] = [6222, 8222, 9101, 9102];

/// Checks every container of the project: user, capabilities, limits, mounts, ports.
pub(super) async fn check_all(stack: &Stack) -> String {
    let containers = stack.all_containers().await;
    assert!(containers.len() >= 6, "only {} containers", containers.len());
    let mut running = 0;
    for container in &containers {
        let name = service(container);
        settings_of(container, name);
        if container["State"]["Running"] == true {
            running += 1;
            process_of(container, name);
            let changed = stack.docker(&["diff", id(container)]).await;
            // A mount point that was missing in the image is made by docker.
            let written = changed.lines().find(|line| !line.contains("/secrets"));
            assert_eq!(written, None, "{name} wrote outside its volumes");
        }
    }
    format!("{} containers, {running} of them running", containers.len())
}

/// What docker was told.
fn settings_of(container: &Value, name: &str) {
    let host = &container["HostConfig"];
    assert_eq!(container["Config"]["User"], USER, "{name}");
    assert_eq!(host["ReadonlyRootfs"], true, "{name}");
    assert_eq!(host["Privileged"], false, "{name}");
    assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]), "{name}");
    assert!(host["CapAdd"].is_null(), "{name}: {}", host["CapAdd"]);
    let options = host["SecurityOpt"].to_string();
    assert!(options.contains("no-new-privileges:true"), "{name}: {options}");
    assert!(host["Memory"].as_u64().is_some_and(|bytes| bytes > 0), "{name}");
    assert!(host["PidsLimit"].as_u64().is_some_and(|processes| processes > 0), "{name}");
    for mount in container["Mounts"].as_array().into_iter().flatten() {
        assert_eq!(mount["Type"], "volume", "{name}: {mount}");
        let (to, writes) = (mount["Destination"].as_str().expect("a path"), &mount["RW"]);
        // Only `secrets` writes passwords, and only a service's own folder is written else.
        let may_write = to == "/data" || name == "secrets";
        assert!(*writes == false || may_write, "{name}: {mount}");
        let role = to.strip_prefix("/secrets/");
        let whose = role.is_none_or(|role| may_read(name, role));
        assert!(whose, "{name} reads {to}");
    }
    for binding in container["HostConfig"]["PortBindings"].as_object().into_iter().flatten() {
        assert_eq!(binding.1[0]["HostIp"], "127.0.0.1", "{name}: {binding:?}");
    }
}

/// Whose password a service may see.
fn may_read(service: &str, role: &str) -> bool {
    let is_of_cells = service.starts_with("cells-");
    let service = service.trim_start_matches("cluster-").trim_start_matches("cells-");
    match service.trim_end_matches(['1', '2', '3', 'a', 'b', '-']) {
        "secrets" | "nats" => true,
        "setup" if is_of_cells => role == "operator",
        "setup" | "botstats" | "demo" => role == "admin",
        other => other == role,
    }
}

/// What the kernel says of its program.
fn process_of(container: &Value, name: &str) {
    let folder = format!("/proc/{}", pid(container));
    let status = fs::read_to_string(format!("{folder}/status")).expect("a status of the process");
    let field = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
        line.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(field("Uid:"), ["65532"; 4], "{name}");
    assert_eq!(field("Gid:"), ["65532"; 4], "{name}");
    assert_eq!(field("NoNewPrivs:"), ["1"], "{name}");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), ["0000000000000000"], "{name} {set}");
    }
    let mounts = fs::read_to_string(format!("{folder}/mounts")).expect("its mounts");
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (to, kind) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let writes = fields.next().unwrap_or_default().split(',').any(|option| option == "rw");
        // Docker's own files below /etc are root's.
        let known = to == "/data" || PASSING.contains(&kind) || to.starts_with("/etc/");
        assert!(!writes || known, "{name} may write to {line}");
    }
}

/// Tries to write where nothing may be written, from inside.
pub(super) async fn try_to_write(stack: &Stack) -> String {
    let nats = stack.container("nats").await;
    for path in ["/x", "/tmp/x", "/etc/x", "/etc/resolv.conf", "/secrets/admin/password"] {
        let script = format!("echo x > {path}");
        let tried = ["exec", id(&nats), "sh", "-c", &script];
        let output = stack.output("docker", &tried, "").await;
        assert!(!output.status.success(), "nats wrote to {path}");
    }
    stack.docker(&["exec", id(&nats), "sh", "-c", "echo x > /data/x && rm /data/x"]).await;
    let tried =
        ["compose", "run", "--rm", "-T", "botstats", "simulate", "--events", "1", "--out", "/x"];
    let output = stack.output("docker", &tried, "").await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("Read-only file system"), "{said}");
    let ingest = stack.container("ingest").await;
    let elsewhere = ["exec", id(&ingest), "/botstats-ingest", "rebuild", "--data", "/elsewhere"];
    let output = stack.output("docker", &elsewhere, "").await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("Read-only file system"), "{said}");
    for program in ["sh", "/bin/sh", "/bin/busybox"] {
        let output = stack.output("docker", &["exec", id(&ingest), program], "").await;
        assert!(!output.status.success(), "there is {program} in ingest's container");
    }
    "refused at 7 places; no shell in ingest's container".to_owned()
}

/// Checks that only the endpoint and NATS are reached from this machine's own addresses.
pub(super) async fn ports(stack: &Stack, published: &[u16]) -> String {
    let mut found = Vec::new();
    for container in stack.all_containers().await {
        for (_, bound) in container["NetworkSettings"]["Ports"].as_object().into_iter().flatten() {
            for one in bound.as_array().into_iter().flatten() {
                let port = one["HostPort"].as_str().and_then(|port| port.parse().ok());
                let port: u16 = port.expect("a port");
                assert_eq!(one["HostIp"], "127.0.0.1", "{bound}");
                assert!(published.contains(&port), "{} publishes {port}", service(&container));
                found.push(port);
            }
        }
    }
    assert_eq!(found.len(), published.len(), "{found:?}");
    let nats = stack.container("nats").await;
    let networks = nats["NetworkSettings"]["Networks"].as_object().expect("networks");
    let inside = networks.values().find_map(|network| network["IPAddress"].as_str()?.parse().ok());
    let inside: IpAddr = inside.expect("an address in the network");
    assert!(!is_open(SocketAddr::new(inside, 8222)).await, "the monitoring of nats-server is open");
    for port in INTERNAL_PORTS {
        assert!(!found.contains(&port), "{port} is published");
    }
    format!(
        "{} ports, all on 127.0.0.1; monitoring is for nats-server's container only",
        found.len()
    )
}
