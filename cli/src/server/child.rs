//! A nats-server as a child process, with a folder of its own.
//!
//! *Invariants*: the server listens on 127.0.0.1 only. The server ends when its value is dropped,
//! and also when this process is killed: then a pipe from this process closes, and the watcher that
//! reads the pipe stops the server. The server has a process group of its own, so the terminal's
//! Ctrl-C does not end it before the programs that use it.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use botstats_common::io::clock;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

/// The time limit of a start; long, because after a crash the server reads the whole of a large
/// stream.
const START_LIMIT: Duration = Duration::from_secs(120);
/// The time that the server has to end before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// The interval in which a start or end is checked.
const POLL: Duration = Duration::from_millis(10);
/// The time limit of one check of the socket.
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// The size at which the log file is rotated, in bytes; one old file is kept.
const LOG_BYTES: u64 = 8 * 1024 * 1024;

/// The options of a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program, as [`super::find()`] gives it.
    pub program: PathBuf,
    /// Folder for streams, log and configuration; made if absent, never removed.
    pub folder: PathBuf,
    /// The port on 127.0.0.1; `None` takes a free one, and keeps it over restarts.
    pub port: Option<u16>,
    /// Whether every acknowledged message is on the disk (`sync_interval: always`).
    pub sync_always: bool,
    /// More lines for the configuration, such as `authorization { .. }`.
    pub extra: String,
}

impl Options {
    /// A free port, everything synced, nothing extra.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, folder: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            folder: folder.into(),
            port: None,
            sync_always: true,
            extra: String::new(),
        }
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its folder can't be written.
    #[error("the nats-server's folder {path} can't be used")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The program could not be run.
    #[error("{path} could not be started")]
    Spawn {
        /// The program.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The server ended by itself.
    #[error("nats-server ended at its start ({status}): {log}")]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// The last line of its log.
        log: String,
    },
    /// The server runs, but takes no connections.
    #[error("nats-server took no connections within {} s; its log: {log}", START_LIMIT.as_secs())]
    Late {
        /// Where its log is.
        log: PathBuf,
    },
}

/// A running nats-server, or a stopped one that can be started again.
#[derive(Debug)]
pub struct Server {
    options: Options,
    port: u16,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    watcher: Child,
}

impl Server {
    /// Starts a server and waits until it takes connections.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(options: Options) -> Result<Self, StartError> {
        let mut server = Self { port: options.port.unwrap_or(0), options, running: None };
        server.restart()?;
        Ok(server)
    }

    /// Stops the server if it runs, and starts it with the same folder and port.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn restart(&mut self) -> Result<(), StartError> {
        self.stop();
        let ports = self
            .prepare()
            .map_err(|source| StartError::Folder { path: self.options.folder.clone(), source })?;
        let program = &self.options.program;
        let spawned = |source| StartError::Spawn { path: program.clone(), source };
        let mut child = Command::new(program)
            .arg("-c")
            .arg(self.options.folder.join("nats-server.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(spawned)?;
        let watcher = match watch(child.id()) {
            Ok(watcher) => watcher,
            Err(source) => {
                end(&mut child, Signal::KILL);
                return Err(StartError::Spawn { path: "sh".into(), source });
            }
        };
        self.running = Some(Running { child, watcher });
        self.port = self.wait_until_there(&ports).inspect_err(|_| self.stop())?;
        Ok(())
    }

    /// The URL for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// Its log file.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.options.folder.join("nats-server.log")
    }

    /// The exit status, if the server ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.running.as_mut()?.child.try_wait().ok()??;
        self.finish(Signal::KILL);
        Some(status)
    }

    /// Stops the server in order (SIGTERM), and kills it after 10 s. Does nothing if the server
    /// does not run.
    pub fn stop(&mut self) {
        self.finish(Signal::TERM);
    }

    /// Kills the server (SIGKILL), which stands for a crash.
    pub fn kill(&mut self) {
        self.finish(Signal::KILL);
    }

    fn finish(&mut self, signal: Signal) {
        let Some(mut running) = self.running.take() else { return };
        // The watcher ends first: once the server is gone another process may get its id, and the
        // watcher would signal that process.
        end(&mut running.watcher, Signal::KILL);
        end(&mut running.child, signal);
    }

    /// Writes the configuration; gives the folder in which the server will name its port.
    fn prepare(&self) -> io::Result<PathBuf> {
        let folder = fs::create_dir_all(&self.options.folder)
            .and_then(|()| self.options.folder.canonicalize())?;
        let ports = folder.join("ports");
        if ports.exists() {
            fs::remove_dir_all(&ports)?;
        }
        fs::create_dir(&ports)?;
        fs::write(folder.join("nats-server.conf"), self.configuration(&folder, &ports))?;
        Ok(ports)
    }

    fn configuration(&self, folder: &Path, ports: &Path) -> String {
        let port = if self.port == 0 { -1 } else { i32::from(self.port) };
        let sync = if self.options.sync_always { "always" } else { "\"2m\"" };
        format!(
            "# Written at each start.\n\
             listen: \"127.0.0.1:{port}\"\n\
             ports_file_dir: {ports}\n\
             log_file: {log}\n\
             logfile_size_limit: {LOG_BYTES}\n\
             logfile_max_num: 2\n\
             jetstream {{ store_dir: {store}, sync_interval: {sync} }}\n\
             {extra}\n",
            ports = quoted(ports),
            log = quoted(&folder.join("nats-server.log")),
            store = quoted(&folder.join("jetstream")),
            extra = self.options.extra,
        )
    }

    fn wait_until_there(&mut self, ports: &Path) -> Result<u16, StartError> {
        let started = clock::monotonic();
        loop {
            if let Some(status) = self.ended() {
                return Err(StartError::Ended { status, log: last_line(&self.log()) });
            }
            if let Some(port) = named_port(ports).filter(|port| has_jetstream(*port)) {
                return Ok(port);
            }
            if started.elapsed() >= START_LIMIT {
                return Err(StartError::Late { log: self.log() });
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts a shell that waits until its standard input closes, and then stops process `pid`. The
/// input is a pipe from this process, which closes when this process ends in any way.
fn watch(pid: u32) -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", "read -r _; kill -TERM \"$0\""])
        .arg(pid.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

/// Sends a signal to a child, kills the child if it runs after [`STOP_LIMIT`], and reaps it.
fn end(child: &mut Child, signal: Signal) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // The child was not reaped yet, so no other process has its id.
        let _ended = kill_process(pid, signal);
    }
    let started = clock::monotonic();
    while started.elapsed() < STOP_LIMIT {
        match child.try_wait() {
            Ok(None) => thread::sleep(POLL),
            Ok(Some(_)) | Err(_) => return,
        }
    }
    let _ended = child.kill();
    let _reaped = child.wait();
}

/// A path as a string of nats-server's configuration.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
}

/// The port that the server names in its ports file once it listens.
fn named_port(folder: &Path) -> Option<u16> {
    let files = fs::read_dir(folder).ok()?;
    let file = files
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "ports"))?;
    let ports: Ports = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    ports.nats.first()?.rsplit(':').next()?.parse().ok()
}

/// True if a server with JetStream greets on a port.
fn has_jetstream(port: u16) -> bool {
    let greeting = || -> io::Result<String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, PROBE_LIMIT)?;
        stream.set_read_timeout(Some(PROBE_LIMIT))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line)
    };
    greeting().is_ok_and(|line| line.starts_with("INFO ") && line.contains("\"jetstream\":true"))
}

fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let line = text.lines().rfind(|line| line.contains("[FTL]")).or_else(|| text.lines().last());
    line.map_or_else(|| format!("no log in {}", log.display()), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted() {
        assert_eq!(quoted(Path::new("/a b/\"c\\")), r#""/a b/\"c\\""#);
    }
}
