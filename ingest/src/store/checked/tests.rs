//! The checked file over a disk in memory: what is written is read, what is damaged is found.

use redb::backends::InMemoryBackend;

use super::*;

#[test]
fn places_and_lengths() {
    for (content, disk) in [(0, 3), (1, 5), (2, 6), (1_024, 1_028), (1_025, 1_030), (2_048, 2_053)]
    {
        assert_eq!(disk_length(content * BLOCK_BYTES), disk * BLOCK_BYTES, "{content}");
        assert_eq!(content_length(disk * BLOCK_BYTES), content * BLOCK_BYTES, "{content}");
    }
    // A length that this format never writes is rounded down.
    for (disk, content) in
        [(4 * 4_096, 0), (5 * 4_096 + 1, 1), (6 * 4_096 - 1, 1), (1_029 * 4_096, 1_024)]
    {
        assert_eq!(content_length(disk), content * BLOCK_BYTES, "{disk}");
    }
    assert_eq!((in_group(1_022, 5), in_group(1_022, 1), in_group(1_024, 2_000)), (2, 1, 1_024));
}

fn open(disk: &'static InMemoryBackend) -> Result<CheckedFile> {
    assert_eq!(format_of(disk)?.unwrap_or(7), 7);
    CheckedFile::open(Box::new(Shared(disk)), 7, FirstFailure::default())
}

/// A disk that outlives the file.
#[derive(Debug)]
struct Shared(&'static InMemoryBackend);

impl StorageBackend for Shared {
    fn len(&self) -> Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> Result<()> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.0.write(offset, data)
    }
}

fn disk() -> &'static InMemoryBackend {
    Box::leak(Box::default())
}

/// A file of 1,030 blocks with some written.
fn made() -> &'static InMemoryBackend {
    let disk = disk();
    let file = open(disk).unwrap();
    assert_eq!(file.len().unwrap(), 0);
    file.set_len(1_030 * BLOCK_BYTES).unwrap();
    file.write(0, b"header 1").unwrap();
    file.write(BLOCK_BYTES, &[7; BLOCK]).unwrap();
    // Across the border of two groups.
    file.write(1_022 * BLOCK_BYTES, &[9; 4 * BLOCK]).unwrap();
    file.sync_data().unwrap();
    file.write(0, b"header 2").unwrap();
    file.sync_data().unwrap();
    disk
}

fn header_of(file: &CheckedFile) -> Vec<u8> {
    let mut out = vec![0; 8];
    file.read(0, &mut out).unwrap();
    out
}

#[test]
fn what_was_written_is_read() {
    let file = open(made()).unwrap();
    assert_eq!(file.len().unwrap(), 1_030 * BLOCK_BYTES);
    assert_eq!(header_of(&file), b"header 2");
    let mut out = vec![0; 4 * BLOCK];
    file.read(1_022 * BLOCK_BYTES, &mut out).unwrap();
    assert!(out.iter().all(|byte| *byte == 9));
    // Shorter, and longer again: what was cut off is not there any more.
    file.set_len(1_024 * BLOCK_BYTES).unwrap();
    file.set_len(1_030 * BLOCK_BYTES).unwrap();
    assert_eq!(file.len().unwrap(), 1_030 * BLOCK_BYTES);
    assert!(file.read(1_024 * BLOCK_BYTES, &mut out[..BLOCK]).is_err());
    file.read(1_022 * BLOCK_BYTES, &mut out[..2 * BLOCK]).unwrap();
}

#[test]
fn pages_are_whole_and_were_written() {
    let file = open(made()).unwrap();
    for (offset, length) in [(BLOCK_BYTES + 1, BLOCK), (BLOCK_BYTES, 100), (4_000, 100)] {
        assert!(file.read(offset, &mut vec![0; length]).is_err(), "{offset} {length}");
        assert!(file.write(offset, &vec![0; length]).is_err(), "{offset} {length}");
    }
    assert!(file.read(2 * BLOCK_BYTES, &mut vec![0; BLOCK]).is_err(), "never written");
}

#[test]
fn damage_is_found() {
    let read_all = |file: &CheckedFile| -> Result<()> {
        file.read(BLOCK_BYTES, &mut vec![0; BLOCK])?;
        file.read(1_022 * BLOCK_BYTES, &mut vec![0; 4 * BLOCK])
    };
    for (what, at) in [
        ("magic", 3),
        ("format", 16),
        ("checksum of the format", 27),
        ("what should be zero", 4_095),
        ("page", place_of(1) * BLOCK_BYTES + 17),
        ("page behind the border", place_of(1_025) * BLOCK_BYTES + 4_095),
        ("checksum", group_start(0) * BLOCK_BYTES + 4),
        ("checksum of the second group", group_start(1) * BLOCK_BYTES + 1),
    ] {
        let disk = made();
        let mut byte = [0];
        disk.read(at, &mut byte).unwrap();
        disk.write(at, &[byte[0] ^ 4]).unwrap();
        let found = open(disk).and_then(|file| read_all(&file)).unwrap_err();
        assert!(found.get_ref().is_some_and(|e| e.is::<Damage>()), "{what}: {found}");
    }
    let disk = made();
    disk.set_len(disk.len().unwrap() - 1).unwrap();
    let found = open(disk).unwrap_err().to_string();
    assert!(found.contains("it was cut to 4214784 bytes of content, it had 4218880"), "{found}");
}

#[test]
fn a_torn_header_is_the_one_before() {
    // The second header is in the second copy; a third would go into the first.
    let disk = made();
    disk.write(2 * BLOCK_BYTES + 100, b"torn").unwrap();
    let file = open(disk).unwrap();
    assert_eq!(header_of(&file), b"header 1");
    // The next one replaces the torn one, not the whole one, until it is synced.
    for _ in 0..3 {
        file.write(0, b"header 3").unwrap();
    }
    let mut first = vec![0; BLOCK];
    disk.read(BLOCK_BYTES, &mut first).unwrap();
    assert_eq!(Header::decode(&first).unwrap().content[..8], *b"header 1");
    assert_eq!(header_of(&open(disk).unwrap()), b"header 3");
    disk.write(BLOCK_BYTES + 8, b"torn").unwrap();
    disk.write(2 * BLOCK_BYTES + 8, b"torn").unwrap();
    assert!(open(disk).unwrap_err().to_string().contains("neither copy"));
}
