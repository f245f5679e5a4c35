//! A nats-server that runs with a configuration file as people have it.

use std::path::{Path, PathBuf};

use botstats::server::find;
use serde::Deserialize;

use super::{PATIENCE, Process, until};

/// A nats-server on a free port, with streams and log in a folder of its own.
pub struct Configured {
    pub process: Process,
    pub port: u16,
}

impl Configured {
    /// Starts it with that file and these variables, in that folder; flags give address and port.
    pub async fn start(config: &Path, variables: &[(&str, String)], folder: &Path) -> Self {
        let program = find(|_| {}).unwrap_or_else(|e| panic!("{e}"));
        let ports = folder.join("ports");
        std::fs::create_dir_all(&ports).expect("a folder for the server");
        let text = |path: &Path| path.to_str().expect("a path of UTF-8").to_owned();
        let (config, ports_folder) = (text(config), text(&ports));
        let arguments = [
            ["-c", &config],
            ["-a", "127.0.0.1"],
            ["-p", "-1"],
            ["--ports_file_dir", &ports_folder],
        ];
        let process = Process::start(&text(&program), &arguments.concat(), variables, folder);
        let port = until("a nats-server that listens", PATIENCE, async || named_port(&ports)).await;
        Self { process, port }
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Makes it read its configuration file again, and waits until it has.
    pub async fn reload(&self) {
        let reloads = || self.process.log().matches("Reloaded server configuration").count();
        let before = reloads();
        self.process.signal("HUP");
        until("the reload", PATIENCE, async || (reloads() > before).then_some(())).await;
    }
}

#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
}

fn named_port(folder: &Path) -> Option<u16> {
    let files = std::fs::read_dir(folder).ok()?;
    let file: PathBuf = files
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "ports"))?;
    let ports: Ports = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    ports.nats.first()?.rsplit(':').next()?.parse().ok()
}
