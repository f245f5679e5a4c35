//! What the store's file takes, and what its disk has left.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::statvfs;

/// `st_blocks` counts these, whatever the file system's own blocks are.
const STAT_BLOCK_BYTES: u64 = 512;

/// A file and the file system that it is on, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Its length.
    pub file_bytes: u64,
    /// What is allotted to it: less where there are holes.
    pub file_disk_bytes: u64,
    /// Free for a user who is not root.
    pub free_bytes: u64,
    /// All of it.
    pub size_bytes: u64,
}

/// Looks at a file.
///
/// # Errors
/// If there is none.
pub fn disk_room(file: &Path) -> io::Result<Room> {
    let metadata = fs::metadata(file)?;
    let disk = statvfs(file)?;
    Ok(Room {
        file_bytes: metadata.len(),
        file_disk_bytes: metadata.blocks().saturating_mul(STAT_BLOCK_BYTES),
        free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        size_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_its_disk() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        assert!(disk_room(&file).is_err());
        fs::write(&file, vec![7; 100_000]).unwrap();
        fs::File::open(&file).unwrap().sync_all().unwrap();
        let room = disk_room(&file).unwrap();
        assert_eq!(room.file_bytes, 100_000);
        assert!(room.size_bytes > room.free_bytes && room.free_bytes > 0, "{room:?}");
        let sparse = fs::File::options().write(true).open(&file).unwrap();
        sparse.set_len(1 << 30).unwrap();
        let room = disk_room(&file).unwrap();
        assert_eq!(room.file_bytes, 1 << 30);
        assert!(room.file_disk_bytes < 1 << 20, "{room:?}");
    }
}
