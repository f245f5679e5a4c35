//! Finds nats-server: named by a variable, on the path, in the cache, or fetched once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use botstats_common::io::nats::MIN_SERVER;
use botstats_common::io::settings;

use super::fetch;
use super::run::run;

/// The time limit of `nats-server --version`.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// Why no nats-server can be had.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The variable names a program that can't be used. No other place is tried, because the user
    /// chose this one.
    #[error(
        "NATS_SERVER_BIN is {path}, but {problem}: it must name a nats-server {}.{} or newer",
        MIN_SERVER.0, MIN_SERVER.1
    )]
    Named {
        /// What the variable says.
        path: PathBuf,
        /// What is wrong with it.
        problem: Problem,
    },
    /// No place has one.
    #[error(
        "no nats-server {}.{} or newer; install one (https://nats.io/download) or name it in \
         NATS_SERVER_BIN. Tried: {}",
        MIN_SERVER.0, MIN_SERVER.1, .tried.join("; ")
    )]
    NotFound {
        /// Each place, with what was wrong there.
        tried: Vec<String>,
    },
}

/// What is wrong with a program that should be nats-server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It does not run.
    #[error("it does not run ({0})")]
    DoesNotRun(String),
    /// It runs, but says something else than its version.
    #[error("its output is no version: {0:?}")]
    NoVersion(String),
    /// It is too old.
    #[error("its version is {0}.{1}")]
    TooOld(i64, i64),
}

/// Finds nats-server in `NATS_SERVER_BIN`, on `PATH`, in the user's cache folder; else fetches it
/// once and keeps it in the cache. Several processes may do so at once. `progress` gets a line when
/// something takes long.
///
/// # Errors
/// [`FindError`] says what was tried and what to do.
pub fn find(progress: impl Fn(&str)) -> Result<PathBuf, FindError> {
    if let Some(named) = settings::variable("NATS_SERVER_BIN") {
        let path = PathBuf::from(named);
        return match check(&path) {
            Ok(()) => Ok(path),
            Err(problem) => Err(FindError::Named { path, problem }),
        };
    }
    let mut tried = Vec::new();
    for path in on_path() {
        match check(&path) {
            Ok(()) => return Ok(path),
            Err(problem) => tried.push(format!("{}: {problem}", path.display())),
        }
    }
    if tried.is_empty() {
        tried.push("PATH: no nats-server there".to_owned());
    }
    let fetched = fetch::cached_or_fetched(&progress).map_err(|e| e.to_string());
    match fetched.and_then(|path| check(&path).map(|()| path).map_err(|p| p.to_string())) {
        Ok(path) => Ok(path),
        Err(problem) => {
            tried.push(problem);
            Err(FindError::NotFound { tried })
        }
    }
}

fn on_path() -> Vec<PathBuf> {
    let path = settings::variable("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("nats-server"))
        .filter(|file| file.is_file())
        .collect()
}

fn check(program: &Path) -> Result<(), Problem> {
    let said =
        run(Command::new(program).arg("--version"), VERSION_LIMIT).map_err(Problem::DoesNotRun)?;
    judge_version(&said)
}

/// Judges what `nats-server --version` says, such as `nats-server: v2.15.1`.
fn judge_version(said: &str) -> Result<(), Problem> {
    let unknown = || Problem::NoVersion(said.trim().chars().take(80).collect());
    let version = said.trim().strip_prefix("nats-server: v").ok_or_else(unknown)?;
    let mut parts = version.split('.').map(str::parse::<i64>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= MIN_SERVER => Ok(()),
        (Some(Ok(major)), Some(Ok(minor))) => Err(Problem::TooOld(major, minor)),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (said, ok) in [
            ("nats-server: v2.15.1\n", true),
            ("nats-server: v2.14.0", true),
            ("nats-server: v3.0.0-RC.1", true),
            ("nats-server: v2.13.9", false),
            ("nats-server: v2.9.10", false),
            ("nats-server: vx", false),
            ("bash 5.2", false),
            ("", false),
        ] {
            assert_eq!(judge_version(said).is_ok(), ok, "{said:?}");
        }
    }
}
