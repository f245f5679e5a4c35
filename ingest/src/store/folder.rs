//! The folder of an ingest: its lock, and files that take each other's place.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::OpenError;

/// The file of the store.
pub const STORE_FILE: &str = "botstats.redb";
/// The file that a rebuild makes before it takes the other's place.
pub(crate) const REBUILD_FILE: &str = "rebuild.redb";
/// A damaged file that was set aside.
pub(crate) const DAMAGED_FILE: &str = "damaged.redb";

/// Puts a file into another's place, for good.
///
/// # Errors
/// If that is not possible.
pub(crate) fn replace(new: &Path, old: &Path) -> std::io::Result<()> {
    std::fs::rename(new, old)?;
    let folder = old.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// A folder that no other ingest uses while this lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder if need be, and takes its lock.
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

    /// A file in the folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}
