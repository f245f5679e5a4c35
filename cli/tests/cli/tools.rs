//! What these tests share: the real binary, and a real nats-server for each test.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use botstats::server::{self, Options, Server};
use serde_json::Value;

/// A nats-server with the stream and the KV buckets, for one test.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) folder: tempfile::TempDir,
}

/// The exit code and output of a command.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl World {
    /// A server without stream and buckets.
    pub(crate) fn bare() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = server::find(|line| eprintln!("{line}")).unwrap();
        let server = Server::start(Options::new(program, folder.path().join("nats"))).unwrap();
        Self { server, folder }
    }

    pub(crate) fn new() -> Self {
        let world = Self::bare();
        world.run(["setup"]).ok();
        world
    }

    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Said {
        run(self.command().args(arguments))
    }

    /// Runs a command with `--json`; it must succeed.
    pub(crate) fn json<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Value {
        let said = self.run(arguments.into_iter().chain(["--json"]));
        serde_json::from_str(said.ok()).unwrap()
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = botstats();
        command.env("NATS_URL", self.server.url());
        command
    }

    /// Writes a file; returns its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// The real binary, without settings from outside.
pub(crate) fn botstats() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_botstats"));
    for (name, _) in std::env::vars() {
        if name.starts_with("BOTSTATS_") || (name.starts_with("NATS_") && name != "NATS_SERVER_BIN")
        {
            command.env_remove(name);
        }
    }
    command
}

pub(crate) fn run(command: &mut Command) -> Said {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Said {
    /// The standard output of a command that must have succeeded.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.out
    }

    /// Checks that the command ended with `code`, wrote `why` to standard error, and wrote nothing
    /// to standard output.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, why: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(why), "{why:?} is not in {self:?}");
        assert_eq!(self.out, "", "{self:?}");
    }
}
