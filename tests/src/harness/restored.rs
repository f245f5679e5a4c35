//! An installation on a copy of another's folders.

use std::path::Path;
use std::process::Command;

use super::Site;

impl Site {
    /// Starts another nats-server on a copy of the folder in which one that is stopped now keeps its
    /// streams. Nothing is made in it.
    ///
    /// # Panics
    /// If any of that fails.
    pub async fn restored(store: &Path, window: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("nats")).expect("a folder for the server");
        copy(store, &folder.path().join("nats/jetstream"));
        Self::in_folder(folder, window, false).await
    }
}

/// Copies a folder, as `cp -a` does.
///
/// # Panics
/// If it can't be copied.
pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("cp runs").success(), "{} to {}", from.display(), to.display());
}
