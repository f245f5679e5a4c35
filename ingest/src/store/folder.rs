//! The folder of an ingest: its lock, and files that replace each other.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::OpenError;

/// The store's file in the folder.
pub const STORE_FILE: &str = "botstats.redb";
/// The file that a rebuild writes. It replaces [`STORE_FILE`] at the end.
pub(crate) const REBUILD_FILE: &str = "rebuild.redb";
/// A damaged file that was moved aside.
pub(crate) const DAMAGED_FILE: &str = "damaged.redb";

/// Replaces a file by another one, and syncs the folder.
pub(crate) fn replace(new: &Path, old: &Path) -> std::io::Result<()> {
    std::fs::rename(new, old)?;
    let folder = old.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// A folder that no other ingest can use until this value is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder if it does not exist, and takes its lock.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another process has it.
    pub fn lock(path: &Path) -> Result<Self, OpenError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        std::fs::create_dir_all(path).map_err(io(path))?;
        let lock_path = path.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { folder: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(io(&lock_path)(source)),
        }
    }

    /// The path of a file in the folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}
