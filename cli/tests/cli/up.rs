//! `botstats up` as a person starts and stops it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use botstats_common::io::clock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::tools::{botstats, run};

/// How long anything may take in these tests.
const LIMIT: Duration = Duration::from_secs(90);

/// A running `botstats up`; killed at the end if it still runs.
struct Up {
    child: Child,
    /// What it said when it was there.
    said: Value,
    log: PathBuf,
}

impl Up {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let log = folder.join("up.log");
        let mut child = command(folder)
            .args(arguments)
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        // Its own waits have limits, after which it ends, which ends this line too.
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let said = serde_json::from_str(&line);
        let said = said.unwrap_or_else(|_| panic!("{}", fs::read_to_string(&log).unwrap()));
        Self { child, said, log }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        until("the end", || self.child.try_wait().unwrap())
    }

    fn text(&self, field: &str) -> &str {
        self.said[field].as_str().unwrap_or_else(|| panic!("{field} in {}", self.said))
    }

    /// Whether anything of it still listens.
    fn listens(&self) -> bool {
        let http = self.text("url").strip_prefix("http://").unwrap();
        [http, self.text("nats"), self.text("ingest_internal"), self.text("query_internal")]
            .into_iter()
            .any(|address| TcpStream::connect(address).is_ok())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
        let _ended_before = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// `botstats up` on free ports.
fn command(folder: &Path) -> Command {
    let mut command = botstats();
    command.args(["up", "--nats-port", "0", "--http-addr", "127.0.0.1:0"]);
    command.args(["--ingest-internal-addr", "127.0.0.1:0"]);
    command.args(["--query-internal-addr", "127.0.0.1:0", "--data"]).arg(folder);
    command
}

/// Waits for a condition.
#[track_caller]
fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = clock::monotonic();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(started.elapsed() < LIMIT, "waited too long for {what}");
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// Runs the printed line in a shell, as a person would; gives status and body.
fn paste(curl: &str) -> (u16, String) {
    let output =
        Command::new("sh").args(["-c", &format!("{curl} -s -w '\\n%{{http_code}}'")]).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

#[test]
fn the_demo_answers_at_once_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &["--demo"]);
    assert_eq!(up.said["throttle_window_seconds"], 10.0);
    assert!(up.text("data").ends_with("/demo"));

    let (status, body) = paste(up.text("curl"));
    assert_eq!(status, 200, "{body}");
    let rows: Vec<Value> = serde_json::from_str(&body).unwrap();
    let labels = |name: &str| rows.iter().filter(|row| row["EventLabel"] == name).count();
    for name in ["New User", "Active User", "Messages", "Conversation Length", "Takeover Rate"] {
        assert!(labels(name) > 10, "{} rows of {name}", labels(name));
    }
    // The link opens the page with a token that sees all bots and the operators' names.
    let (page, token) = up.text("page").split_once('#').unwrap();
    assert_eq!(page, format!("{}/dashboard", up.text("url")));
    assert_eq!(paste(&format!("curl '{page}'")).0, 200);
    let (status, body) =
        paste(&format!("curl -H 'Authorization: Bearer {token}' '{page}/account'"));
    assert_eq!(status, 200, "{body}");
    let seen: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(seen["Bots"].as_array().unwrap().len(), 2, "{seen}");
    assert_eq!(seen["Operators"]["op-1"], "Amara", "{seen}");
    // A month can be compared with the days before it, and names are all there.
    let asked = |question: &str| {
        let line = format!("curl -H 'Authorization: Bearer {token}' '{page}/data/*/{question}'");
        let (status, body) = paste(&line);
        assert_eq!(status, 200, "{question}: {body}");
        serde_json::from_str::<Vec<Value>>(&body).unwrap()
    };
    let days = asked("100,108/day/30?by=none&previous=period");
    assert!(days.iter().filter(|row| row["Period"] == "current").count() >= 60, "{days:?}");
    assert!(days.iter().any(|row| row["Period"] == "previous"), "{days:?}");
    for (split, code, names) in [
        ("goal", 12, 4),
        ("tag", 18, 5),
        ("intent", 6, 7),
        ("integration", 14, 3),
        ("operator", 17, 12),
    ] {
        let rows = asked(&format!("{code}/total/30?by=none&split={split}"));
        assert_eq!(rows.len(), names, "{split}: {rows:?}");
    }
    let now: Value = {
        let line = format!("curl -H 'Authorization: Bearer {token}' '{page}/now'");
        serde_json::from_str(&paste(&line).1).unwrap()
    };
    let open = |row: &Value| row["Open"].as_u64().unwrap();
    assert!(now["Bots"].as_array().unwrap().iter().map(open).sum::<u64>() > 5, "{now}");

    // The hour, here ten seconds, is used.
    assert_eq!(paste(up.text("curl")).0, 429);

    // The other commands find it.
    let nats = format!("nats://{}", up.text("nats"));
    until("both programs", || {
        let status = run(botstats().env("NATS_URL", &nats).args(["status", "--json"]));
        let programs: Vec<Value> = serde_json::from_str(&status.out).ok()?;
        (programs.len() == 2).then_some(())
    });
    let bots = run(botstats().env("NATS_URL", &nats).args(["bot", "list", "demo"]));
    assert!(bots.ok().contains("Pizza Palace"), "{bots:?}");

    // Traffic goes on.
    let applied = || {
        let said = run(botstats().env("NATS_URL", &nats).args(["status", "--json"]));
        let programs: Vec<Value> = serde_json::from_str(&said.out).ok()?;
        programs.iter().find_map(|p| p["ingest"]["sequence"].as_u64())
    };
    let before = until("an ingest", applied);
    until("more events", || applied().filter(|now| *now > before));

    // The table, once the window has passed.
    let stats = until("the next window", || {
        let said = run(botstats().env("BOTSTATS_TOKEN", up.text("token")).args([
            "stats",
            "--url",
            up.text("url"),
        ]));
        if said.code != Some(0) {
            assert!(said.err.contains("429"), "{said:?}");
            return None;
        }
        Some(said)
    });
    assert!(stats.out.contains("Active User") && stats.out.contains('█'), "{}", stats.out);

    up.signal(Signal::TERM);
    assert_eq!(up.wait().code(), Some(0));
    assert!(!up.listens(), "something still listens");
    let mut rest = String::new();
    up.child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");

    // A second start has the same history and new tokens.
    let again = Up::start(folder.path(), &["--demo"]);
    assert_ne!(again.text("token"), up.text("token"));
    let old = again.text("curl").replace(again.text("token"), up.text("token"));
    assert_eq!(paste(&old).0, 401);
    let (_, old_view) = up.text("page").split_once('#').unwrap();
    let (page, _) = again.text("page").split_once('#').unwrap();
    let old = format!("curl -H 'Authorization: Bearer {old_view}' '{page}/account'");
    assert_eq!(paste(&old).0, 401);
}

/// The summary for people: the link stands before the curl line, and only if there is a page.
#[test]
fn a_person_is_told_where_to_look() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, page, wanted) in [
        (&["--demo"][..], "on", &["/dashboard#bst_", "curl -H"][..]),
        (&[], "on", &["token add acme --view"]),
        (&["--demo"], "off", &["curl -H"]),
    ] {
        let mut child = command(folder.path())
            .args(arguments)
            .env("BOTSTATS_DASHBOARD", page)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let text: Vec<String> =
            lines.take_while(|line| !line.contains("stops all of it")).collect();
        let text = text.join("\n");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let places: Vec<usize> =
            wanted.iter().map(|part| text.find(part).unwrap_or_else(|| panic!("{text}"))).collect();
        assert!(places.is_sorted(), "{text}");
        assert_eq!(text.contains("dashboard"), page == "on" && arguments == ["--demo"], "{text}");
        assert_eq!(text.contains("--view"), page == "on" && arguments.is_empty(), "{text}");
    }
}

#[test]
fn a_killed_up_takes_its_nats_server_along() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[]);
    assert_eq!(up.said["token"], Value::Null);
    // A second one on the same folder is told so.
    run(&mut command(folder.path())).failed(1, "another `botstats up`");
    up.signal(Signal::KILL);
    up.wait();
    until("the end of the nats-server", || (!up.listens()).then_some(()));
}

#[test]
fn a_nats_server_that_dies_stops_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[]);
    let file = fs::read_dir(folder.path().join("nats/ports")).unwrap().next().unwrap().unwrap();
    let name = file.file_name().into_string().unwrap();
    let pid = name.trim_end_matches(".ports").rsplit('_').next().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    assert_eq!(up.wait().code(), Some(1));
    let log = fs::read_to_string(&up.log).unwrap();
    assert!(log.contains("the nats-server ended"), "{log}");
    assert!(!up.listens(), "something still listens");
}

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    for (flag, value) in [
        ("--http-addr", address.clone()),
        ("--ingest-internal-addr", address.clone()),
        ("--query-internal-addr", address.clone()),
        ("--nats-port", taken.local_addr().unwrap().port().to_string()),
    ] {
        let mut command = botstats();
        let defaults = ["--http-addr", "--ingest-internal-addr", "--query-internal-addr"];
        command.arg("up").arg("--data").arg(folder.path());
        for other in defaults.into_iter().filter(|other| *other != flag) {
            command.args([other, "127.0.0.1:0"]);
        }
        if flag != "--nats-port" {
            command.args(["--nats-port", "0"]);
        }
        run(command.args([flag, &value])).failed(1, flag);
    }
}
