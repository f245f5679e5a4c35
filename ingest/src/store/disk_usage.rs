//! The disk space that the store's file takes, and that its disk has left.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::statvfs;

/// The unit of `st_blocks` in bytes, on any file system.
const STAT_BLOCK_BYTES: u64 = 512;

/// A file and the file system that it is on, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskUsage {
    /// Length of the file.
    pub file_bytes: u64,
    /// Allocated for the file: less than its length where it has holes.
    pub file_disk_bytes: u64,
    /// Free on the file system for a user who is not root.
    pub free_bytes: u64,
    /// Size of the file system.
    pub size_bytes: u64,
}

pub(crate) fn disk_usage(file: &Path) -> io::Result<DiskUsage> {
    let metadata = fs::metadata(file)?;
    let disk = statvfs(file)?;
    Ok(DiskUsage {
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
        assert!(disk_usage(&file).is_err());
        fs::write(&file, vec![7; 100_000]).unwrap();
        fs::File::open(&file).unwrap().sync_all().unwrap();
        let usage = disk_usage(&file).unwrap();
        assert_eq!(usage.file_bytes, 100_000);
        assert!(usage.size_bytes > usage.free_bytes && usage.free_bytes > 0, "{usage:?}");
        let sparse = fs::File::options().write(true).open(&file).unwrap();
        sparse.set_len(1 << 30).unwrap();
        let usage = disk_usage(&file).unwrap();
        assert_eq!(usage.file_bytes, 1 << 30);
        assert!(usage.file_disk_bytes < 1 << 20, "{usage:?}");
    }
}
