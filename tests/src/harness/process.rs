//! One of our programs as a child process.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{PATIENCE, until};

/// Lines of a log that are shown when a test fails.
const TAIL_LINES: usize = 40;

/// A program that was started; it can be killed and started again.
#[derive(Debug)]
pub struct Process {
    program: PathBuf,
    arguments: Vec<String>,
    settings: Vec<(String, String)>,
    folder: PathBuf,
    starts: u32,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// Kills the child when this process ends in any way: then the pipe to its input closes.
    watcher: Child,
}

impl Process {
    /// Starts a program of this workspace with only these settings in its environment. Its log goes
    /// into `folder`, as JSON lines.
    pub fn start(
        program: &str,
        arguments: &[&str],
        settings: &[(&str, String)],
        folder: &Path,
    ) -> Self {
        Self::start_other(&binary(program), arguments, settings, folder)
    }

    /// The same with `script` run by a shell first; it ends with `exec "$0" "$@"`.
    pub fn start_after(
        shell: &[&str],
        script: &str,
        program: &str,
        settings: &[(&str, String)],
        folder: &Path,
    ) -> Self {
        let program = binary(program);
        let path = program.to_str().expect("a path of UTF-8");
        let (first, rest) = shell.split_first().expect("a shell");
        let arguments: Vec<&str> = rest.iter().copied().chain(["-c", script, path]).collect();
        Self::start_other(Path::new(first), &arguments, settings, folder)
    }

    /// The same for any program.
    pub fn start_other(
        program: &Path,
        arguments: &[&str],
        settings: &[(&str, String)],
        folder: &Path,
    ) -> Self {
        fs::create_dir_all(folder).expect("a folder for the process");
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let mut process = Self {
            program: program.to_owned(),
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
            settings: settings.collect(),
            folder: folder.to_owned(),
            starts: 0,
            running: None,
        };
        process.restart();
        process
    }

    /// Starts an ingest with these settings, whose log and data are in that folder.
    pub fn ingest(settings: &[(&str, String)], folder: &Path) -> Self {
        let mut settings = settings.to_vec();
        settings.push(("BOTSTATS_INTERNAL_ADDR", "127.0.0.1:0".to_owned()));
        settings.push(("BOTSTATS_DATA", folder.join("data").display().to_string()));
        Self::start("botstats-ingest", &[], &settings, folder)
    }

    /// Kills it if it runs, and starts it again with the same settings.
    pub fn restart(&mut self) {
        self.kill();
        self.starts += 1;
        let log = File::create(self.log_file()).expect("a log file");
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .env("BOTSTATS_LOG_FORMAT", "json")
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("the program starts");
        let watcher = Command::new("sh")
            .args(["-c", "read -r _; kill -KILL \"$0\"", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell");
        self.running = Some(Running { child, watcher });
    }

    /// Changes a setting for the next start.
    pub fn set(&mut self, name: &str, value: String) {
        self.settings.retain(|(other, _)| other != name);
        self.settings.push((name.to_owned(), value));
    }

    /// Kills it with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            // The watcher first: it must not signal a process id that is no longer this child's.
            let _gone = running.watcher.kill();
            let _reaped = running.watcher.wait();
            let _gone = running.child.kill();
            let _reaped = running.child.wait();
        }
    }

    /// Sends a signal such as `TERM` or `STOP`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Stops it in order; then the folder of an ingest has everything that was applied.
    pub async fn stop(&mut self) {
        self.signal("TERM");
        let status = self.ended(super::PATIENCE).await;
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let running = self.running.as_mut().expect("it was started");
        let child = &mut running.child;
        let status = until("the end of the process", limit, async || {
            child.try_wait().expect("a child of ours")
        });
        let status = status.await;
        self.kill();
        status
    }

    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("it runs").child.id()
    }

    /// The most memory that it has had, in bytes.
    pub fn peak_rss_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a status");
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("a VmHWM line");
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().expect("a number of kB");
        kib * 1024
    }

    /// What it has logged since its last start.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).expect("a log")).into_owned()
    }

    /// Waits until the line is logged whose message begins so, and gives the address in it.
    pub async fn address(&self, message: &str) -> SocketAddr {
        until(&format!("the log line {message:?}"), PATIENCE, async || {
            self.log().lines().find_map(|line| address_in(line, message))
        })
        .await
    }

    /// Waits until it has logged that text since its last start.
    pub async fn logged(&self, text: &str) {
        until(&format!("{text:?} in the log"), PATIENCE, async || {
            self.log().contains(text).then_some(())
        })
        .await;
    }

    fn log_file(&self) -> PathBuf {
        let name = self.program.file_name().unwrap_or_default().to_string_lossy();
        self.folder.join(format!("{name}.{}.log", self.starts))
    }

    fn show_log(&self) {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        eprintln!("--- the last lines of {}", self.log_file().display());
        for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
            eprintln!("{line}");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_log();
        }
        self.kill();
    }
}

/// Sends a signal such as `TERM` or `STOP` to a child of ours.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status();
    assert!(sent.expect("kill runs").success(), "signal {name} to {pid}");
}

/// The address in a line of a log, in JSON or text, if it has that message.
fn address_in(line: &str, message: &str) -> Option<SocketAddr> {
    let Ok(line) = serde_json::from_str::<Value>(line) else {
        let (_, rest) = line.split_once(message)?;
        let (_, address) = rest.split_once("address=")?;
        return address.split_whitespace().next()?.parse().ok();
    };
    line["message"].as_str()?.starts_with(message).then_some(())?;
    line["address"].as_str()?.parse().ok()
}

/// Runs a program of this workspace to its end, with only these settings in its environment.
pub fn run(program: &str, arguments: &[&str], settings: &[(&str, String)]) -> Output {
    Command::new(binary(program))
        .args(arguments)
        .env_clear()
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .output()
        .expect("the program runs")
}

/// A program of this workspace, built in the same profile as this one.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the program's own path");
    let folder = own.parent().expect("programs are in a folder");
    // Programs are in target/PROFILE, tests in deps below it, examples in examples.
    let is_below = folder.ends_with("deps") || folder.ends_with("examples");
    let folder = if is_below { folder.parent().unwrap_or(folder) } else { folder };
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "there is no {}: build the programs first, `cargo build --workspace --bins`",
        path.display()
    );
    path
}
