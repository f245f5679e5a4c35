//! The file below redb: every page has a checksum, the header is there twice.
//!
//! redb finds damage only while it repairs a file; a bit that flips in any other page would become
//! a wrong number. So each page is compared with its checksum before redb gets it, and damage is an
//! error ([`Damage`]).
//!
//! *Invariants*: what [`CheckedFile`] gives to redb is what redb wrote. A header is replaced as a
//! whole or not at all, whatever a crash tears. Pages in use never share a write with others: a
//! page's checksum is written before the sync that makes the page count, and a crash before that
//! leaves only pages that nothing refers to.
//!
//! *Format*, in blocks of 4,096 bytes:
//!
//! | block | content |
//! | --- | --- |
//! | 0 | [`MAGIC`], the format of all that follows (u32), xxh3 of both (u64), the rest zero; never changed |
//! | 1, 2 | the header, in turns: its number (u64), the length of the content (u64), the first 4,072 bytes of the content, xxh3 of all that (u64); all least significant byte first. The one with the higher number counts, if it is whole |
//! | 3 + 1025 g | the checksums of the next 1,024 blocks, u32 each: the low half of xxh3 over the block, seeded with its number; 0 if it was never written |
//! | 4 + 1025 g + i | block 1024 g + i of the content; block 0 is in the header, its place here stays empty |

use std::io::{Error, ErrorKind, Result};
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::StoreError;

/// First bytes of a file.
const MAGIC: &[u8; 16] = b"botstats store \n";
const BLOCK: usize = 4_096;
const BLOCK_BYTES: u64 = 4_096;
/// The number of blocks whose checksums fit into one block.
const GROUP: u64 = BLOCK_BYTES / 4;
/// Blocks before the first group.
const FRONT: u64 = 3;
/// The bytes of the content's first block that are kept: redb's header takes 320.
const HEADER_BYTES: usize = BLOCK - 24;

/// The file does not have the bytes that were written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the file is damaged: {0}")]
pub struct Damage(pub String);

impl Damage {
    fn error(what: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidData, Self(what.into()))
    }
}

/// The first failure of the file: redb's errors after that do not name a reason.
pub(super) type FirstFailure = Arc<OnceLock<Failure>>;

/// A failure of the file, which can be cloned.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    Damage(Damage),
    Other(ErrorKind, String),
}

impl Failure {
    fn of(error: &Error) -> Self {
        match error.get_ref().and_then(|e| e.downcast_ref::<Damage>()) {
            Some(damage) => Self::Damage(damage.clone()),
            None => Self::Other(error.kind(), error.to_string()),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Damage(damage) => damage.into(),
            Failure::Other(kind, text) => Error::new(kind, text).into(),
        }
    }
}

type Sums = Box<[u32]>;
type LockResult<T> = std::result::Result<T, BackendError>;

/// A file with checksums, for redb.
#[derive(Debug)]
pub(super) struct CheckedFile {
    disk: Box<dyn StorageBackend>,
    state: Mutex<State>,
    first_failure: FirstFailure,
}

#[derive(Debug)]
struct State {
    header: Header,
    /// Which of the two copies was synced to the disk.
    durable: usize,
    /// The other copy was written since then.
    written: bool,
    /// By group; none until the group is needed.
    sums: Vec<Option<Sums>>,
    /// Groups with checksums that are not written yet, ascending.
    unwritten: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Header {
    /// 0 in a file without a header.
    number: u64,
    /// Length of the content.
    length: u64,
    content: Box<[u8]>,
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BLOCK);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.length.to_le_bytes());
        bytes.extend_from_slice(&self.content);
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    /// `None` if the bytes do not match their checksum.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (rest, sum) = bytes.split_last_chunk::<8>()?;
        let (number, rest_of) = rest.split_first_chunk::<8>()?;
        let (length, content) = rest_of.split_first_chunk::<8>()?;
        (xxh3_64(rest) == u64::from_le_bytes(*sum)).then(|| Self {
            number: u64::from_le_bytes(*number),
            length: u64::from_le_bytes(*length),
            content: content.into(),
        })
    }
}

/// The format of what is on a disk, without changing it; none if the disk is empty.
pub(super) fn format_of(disk: &dyn StorageBackend) -> Result<Option<u32>> {
    let bytes = disk.len()?;
    if bytes == 0 {
        return Ok(None);
    }
    if bytes < FRONT * BLOCK_BYTES {
        return Err(Damage::error(format!("it has only {bytes} bytes")));
    }
    let mut start = [0; BLOCK];
    disk.read(0, &mut start)?;
    let format = start[MAGIC.len()..].first_chunk().map(|format| u32::from_le_bytes(*format));
    format
        .filter(|format| start == first_block(*format))
        .ok_or_else(|| Damage::error("it does not begin as a store does"))
        .map(Some)
}

fn first_block(format: u32) -> [u8; BLOCK] {
    let start = [&MAGIC[..], &format.to_le_bytes()].concat();
    let sum = xxh3_64(&start).to_le_bytes();
    let mut block = [0; BLOCK];
    for (byte, value) in block.iter_mut().zip(start.into_iter().chain(sum)) {
        *byte = value;
    }
    block
}

impl CheckedFile {
    /// Opens what is on the disk; an empty disk gets a file of that format.
    pub(super) fn open(
        disk: Box<dyn StorageBackend>,
        format: u32,
        failure: FirstFailure,
    ) -> Result<Self> {
        let none = Header { number: 0, length: 0, content: vec![0; HEADER_BYTES].into() };
        let bytes = disk.len()?;
        let (header, durable) = if bytes == 0 {
            disk.set_len(FRONT * BLOCK_BYTES)?;
            disk.write(0, &first_block(format))?;
            (none, 1)
        } else {
            // The newest header may not be synced yet, and the next write replaces the other copy.
            disk.sync_data()?;
            newest_header(&*disk)?
        };
        let end = content_length(bytes);
        if end < header.length {
            return Err(Damage::error(format!(
                "it was cut to {end} bytes of content, it had {}",
                header.length
            )));
        }
        let state =
            State { header, durable, written: false, sums: Vec::new(), unwritten: Vec::new() };
        Ok(Self { disk, state: Mutex::new(state), first_failure: failure })
    }

    /// Keeps the error if it is the first failure.
    fn noted<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.first_failure.get_or_init(|| Failure::of(error));
        }
        result
    }

    fn write_header(&self, state: &mut State) -> Result<()> {
        state.header.number += 1;
        let copy = 1 - state.durable;
        state.written = true;
        let block = 1 + u64::from(copy == 1);
        self.disk.write(block * BLOCK_BYTES, &state.header.encode())
    }

    /// The checksums of a group, which are read if they are needed for the first time.
    fn sums<'a>(&self, state: &'a mut State, group: u64) -> Result<(usize, &'a mut Sums)> {
        let place = usize::try_from(group).map_err(Error::other)?;
        if state.sums.len() <= place {
            state.sums.resize(place + 1, None);
        }
        let sums = &mut state.sums[place];
        if sums.is_none() {
            let mut bytes = vec![0; BLOCK];
            self.disk.read(group_start(group) * BLOCK_BYTES, &mut bytes).map_err(cut_or)?;
            let (entries, _) = bytes.as_chunks::<4>();
            *sums = Some(entries.iter().map(|e| u32::from_le_bytes(*e)).collect());
        }
        match sums {
            Some(sums) => Ok((place, sums)),
            None => Err(Error::other("no checksums")),
        }
    }

    fn write_sums(&self, state: &mut State) -> Result<()> {
        while let Some(&group) = state.unwritten.last() {
            let sums = state.sums.get(group).and_then(Option::as_ref);
            let bytes: Vec<u8> =
                sums.iter().flat_map(|s| s.iter()).flat_map(|s| s.to_le_bytes()).collect();
            self.disk.write(group_start(group as u64) * BLOCK_BYTES, &bytes)?;
            state.unwritten.pop();
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.write_sums(&mut self.state.lock())?;
        // Not under the lock, so that reads go on. Meanwhile reads may write pages from redb's
        // buffer; the synced header does not refer to those.
        self.disk.sync_data()?;
        let mut state = self.state.lock();
        if std::mem::take(&mut state.written) {
            state.durable = 1 - state.durable;
        }
        Ok(())
    }

    fn resize(&self, length: u64) -> Result<()> {
        let mut state = self.state.lock();
        if length < state.header.length {
            // The header says the new length before the file has it, so that the file does not look
            // cut.
            state.header.length = length;
            self.write_header(&mut state)?;
            drop(state);
            self.sync()?;
            state = self.state.lock();
        }
        let groups = usize::try_from(length.div_ceil(GROUP * BLOCK_BYTES)).map_err(Error::other)?;
        state.sums.truncate(groups);
        state.unwritten.retain(|group| *group < groups);
        self.disk.set_len(disk_length(length))
    }

    fn read_pages(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let mut block = offset / BLOCK_BYTES;
        let (mut blocks, rest) = out.as_chunks_mut::<BLOCK>();
        if !rest.is_empty() || !offset.is_multiple_of(BLOCK_BYTES) {
            return Err(unaligned());
        }
        while !blocks.is_empty() {
            let (now, later) = blocks.split_at_mut(in_group(block, blocks.len()));
            self.disk
                .read(place_of(block) * BLOCK_BYTES, now.as_flattened_mut())
                .map_err(cut_or)?;
            let first = usize::try_from(block % GROUP).map_err(Error::other)?;
            let wanted = {
                let mut state = self.state.lock();
                let (_, sums) = self.sums(&mut state, block / GROUP)?;
                sums[first..first + now.len()].to_vec()
            };
            for ((number, bytes), wanted) in (block..).zip(now.iter()).zip(wanted) {
                if sum_of(number, bytes) != wanted {
                    let at = place_of(number) * BLOCK_BYTES;
                    return Err(Damage::error(format!(
                        "the page at byte {at} does not have the bytes that were written"
                    )));
                }
            }
            block += now.len() as u64;
            blocks = later;
        }
        Ok(())
    }

    fn write_pages(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut block = offset / BLOCK_BYTES;
        let (mut blocks, rest) = data.as_chunks::<BLOCK>();
        if !rest.is_empty() || !offset.is_multiple_of(BLOCK_BYTES) {
            return Err(unaligned());
        }
        while !blocks.is_empty() {
            let (now, later) = blocks.split_at(in_group(block, blocks.len()));
            self.disk.write(place_of(block) * BLOCK_BYTES, now.as_flattened())?;
            let first = usize::try_from(block % GROUP).map_err(Error::other)?;
            let mut state = self.state.lock();
            let (group, sums) = self.sums(&mut state, block / GROUP)?;
            for ((number, bytes), sum) in (block..).zip(now).zip(&mut sums[first..]) {
                *sum = sum_of(number, bytes);
            }
            if let Err(place) = state.unwritten.binary_search(&group) {
                state.unwritten.insert(place, group);
            }
            block += now.len() as u64;
            blocks = later;
        }
        Ok(())
    }
}

impl StorageBackend for CheckedFile {
    fn len(&self) -> Result<u64> {
        if self.state.lock().header.number == 0 {
            return Ok(0);
        }
        self.noted(self.disk.len().map(content_length))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        if offset >= BLOCK_BYTES {
            return self.noted(self.read_pages(offset, out));
        }
        let state = self.state.lock();
        let from = usize::try_from(offset).map_err(Error::other)?;
        let content = state.header.content.get(from..).and_then(|c| c.get(..out.len()));
        out.copy_from_slice(content.ok_or_else(unaligned)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.noted(self.resize(len))
    }

    fn sync_data(&self) -> Result<()> {
        self.noted(self.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        if offset >= BLOCK_BYTES {
            return self.noted(self.write_pages(offset, data));
        }
        let length = self.noted(self.disk.len())?;
        let mut state = self.state.lock();
        let from = usize::try_from(offset).map_err(Error::other)?;
        let content = state.header.content.get_mut(from..).and_then(|c| c.get_mut(..data.len()));
        content.ok_or_else(unaligned)?.copy_from_slice(data);
        state.header.length = content_length(length);
        let written = self.write_header(&mut state);
        self.noted(written)
    }

    fn close(&self) -> Result<()> {
        self.disk.close()
    }

    // Two stores would damage one file: the disk knows whether another program has the file open.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> LockResult<bool> {
        self.disk.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> LockResult<bool> {
        self.disk.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> LockResult<()> {
        self.disk.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> LockResult<()> {
        self.disk.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> LockResult<()> {
        self.disk.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> LockResult<bool> {
        self.disk.query_lock_range(start, end)
    }
}

/// The header with the highest number, and which copy it is.
fn newest_header(disk: &dyn StorageBackend) -> Result<(Header, usize)> {
    let mut block = vec![0; BLOCK];
    let mut newest: Option<(Header, usize)> = None;
    for (copy, at) in [(0, BLOCK_BYTES), (1, 2 * BLOCK_BYTES)] {
        disk.read(at, &mut block)?;
        if let Some(header) = Header::decode(&block)
            && newest.as_ref().is_none_or(|(other, _)| other.number < header.number)
        {
            newest = Some((header, copy));
        }
    }
    newest.ok_or_else(|| Damage::error("neither copy of its header is intact"))
}

/// The checksum of a block of the content; never 0.
fn sum_of(number: u64, bytes: &[u8]) -> u32 {
    let [a, b, c, d, ..] = xxh3_64_with_seed(bytes, number).to_le_bytes();
    u32::from_le_bytes([a, b, c, d]).max(1)
}

/// The block of a group's checksums on the disk.
fn group_start(group: u64) -> u64 {
    FRONT + group * (GROUP + 1)
}

/// The block on the disk that has a block of the content.
fn place_of(block: u64) -> u64 {
    group_start(block / GROUP) + 1 + block % GROUP
}

/// How many of `count` blocks from `block` on are in the group of `block`.
fn in_group(block: u64, count: usize) -> usize {
    usize::try_from(GROUP - block % GROUP).map_or(count, |left| left.min(count))
}

/// Bytes on the disk for content of that length.
fn disk_length(content: u64) -> u64 {
    match content.div_ceil(BLOCK_BYTES).checked_sub(1) {
        Some(last) => (place_of(last) + 1) * BLOCK_BYTES,
        None => FRONT * BLOCK_BYTES,
    }
}

/// Length of the content of a file with that many bytes on the disk.
fn content_length(bytes: u64) -> u64 {
    let blocks = (bytes / BLOCK_BYTES).saturating_sub(FRONT);
    let whole = blocks / (GROUP + 1) * GROUP;
    (whole + (blocks % (GROUP + 1)).saturating_sub(1)) * BLOCK_BYTES
}

fn unaligned() -> Error {
    Error::new(ErrorKind::Unsupported, "pages are read and written whole")
}

fn cut_or(error: Error) -> Error {
    if error.kind() == ErrorKind::UnexpectedEof {
        Damage::error("it ends before a page that it had")
    } else {
        error
    }
}

#[cfg(test)]
mod tests;
