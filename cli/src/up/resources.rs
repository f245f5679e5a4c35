//! The folder and the ports of `up`.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use botstats_common::io::listen;
use botstats_common::io::settings::user_folder;
use tokio::net::TcpListener;

/// The folder of all data; made if absent, readable by its owner only.
pub(super) fn folder(given: Option<PathBuf>, demo: bool) -> anyhow::Result<PathBuf> {
    let mut folder = match given {
        Some(folder) => folder,
        None => user_folder("XDG_DATA_HOME", ".local/share")
            .context("neither XDG_DATA_HOME nor HOME is set; give --data DIR")?,
    };
    if demo {
        folder.push("demo");
    }
    let shown = folder.display();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("the folder {shown} (--data) can't be made"))?;
    folder.canonicalize().with_context(|| format!("{shown}"))
}

/// Locks the folder for as long as the file is open.
pub(super) fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("up.lock");
    let file = File::create(&path).with_context(|| format!("{}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another `botstats up` works in {}; stop it, or give --data another folder",
            folder.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{}", path.display()))
        }
    }
}

/// Listens on that address; an error names the flag. Must be called inside a runtime.
pub(super) fn listen(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    named(listen::listen(address, |_| Ok(())), address, flag)
}

/// [`listen()`] with the socket options of the endpoint.
pub(super) fn listen_http(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    named(botstats_query::listen(address), address, flag)
}

fn named(
    listening: io::Result<TcpListener>,
    address: SocketAddr,
    flag: &str,
) -> anyhow::Result<TcpListener> {
    listening.with_context(|| format!("{address} can't be listened on; choose another with {flag}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn taken_ports_and_folders_are_named() {
        let taken = listen(([127, 0, 0, 1], 0).into(), "").unwrap();
        let address = taken.local_addr().unwrap();
        for error in [listen(address, "--this-flag"), listen_http(address, "--this-flag")] {
            let error = error.unwrap_err();
            assert!(format!("{error:#}").contains("--this-flag"), "{error:#}");
        }
        assert_ne!(address.port(), 0);

        let given = tempfile::tempdir().unwrap();
        let made = folder(Some(given.path().join("a")), true).unwrap();
        assert!(made.ends_with("a/demo") && made.is_dir());
        let held = lock(&made).unwrap();
        assert!(lock(&made).unwrap_err().to_string().contains("another `botstats up`"));
        drop(held);
        lock(&made).unwrap();
    }
}
