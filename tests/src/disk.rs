//! A disk in memory that fails on command, and whose power can be cut at any operation.
//!
//! *Invariants*: what was synced survives a cut. What was written since may be there, or not, or in
//! part, in any order: the choice is the dice's.

use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;

use botstats_ingest::testing::StorageBackend;
use parking_lot::{Mutex, MutexGuard};

use crate::generate::Dice;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A disk. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// What a reader sees.
    bytes: Vec<u8>,
    /// Everything that was done, if it is recorded.
    log: Option<Vec<Operation>>,
    done: usize,
    fault: Option<Fault>,
}

#[derive(Debug, Clone)]
pub enum Operation {
    /// Bytes written at an offset.
    Write(usize, Vec<u8>),
    Length(usize),
    /// Everything before is on the disk for certain.
    Sync,
}

/// When and how a disk fails. Operations are counted from 0.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// This operation and all after it; if it is a write, a part of it is written.
    From(usize),
    /// From this operation on there is no room: what would make the file longer, and writes to
    /// where nothing was written yet, fail.
    FullFrom(usize),
}

impl Disk {
    /// One that holds these bytes.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Inner { bytes, ..Inner::default() })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock()
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// Records what is done from here on.
    pub fn record(&self) {
        let mut inner = self.lock();
        inner.log = Some(Vec::new());
        inner.done = 0;
    }

    pub fn recorded(&self) -> Vec<Operation> {
        self.lock().log.clone().unwrap_or_default()
    }

    pub fn operations(&self) -> usize {
        self.lock().done
    }

    /// Fails so from now on, counting from here; or works again.
    pub fn set_fault(&self, fault: Option<Fault>) {
        let mut inner = self.lock();
        inner.fault = fault;
        inner.done = 0;
    }
}

impl Inner {
    /// Counts an operation, and says how it fails. `room` is whether it needs some.
    fn begin(&mut self, room: bool) -> std::result::Result<(), Error> {
        let number = self.done;
        self.done += 1;
        match self.fault {
            Some(Fault::From(first)) if number >= first => Err(Error::other("the disk is broken")),
            Some(Fault::FullFrom(first)) if number >= first && room => {
                Err(Error::new(ErrorKind::StorageFull, "no space left on the disk"))
            }
            _ => Ok(()),
        }
    }

    fn log(&mut self, operation: impl FnOnce() -> Operation) {
        if let Some(log) = &mut self.log {
            log.push(operation());
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64> {
        Ok(self.lock().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let inner = self.lock();
        let from = usize::try_from(offset).map_err(Error::other)?;
        let found = inner.bytes.get(from..).and_then(|bytes| bytes.get(..out.len()));
        out.copy_from_slice(found.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut inner = self.lock();
        let length = usize::try_from(len).map_err(Error::other)?;
        let longer = length > inner.bytes.len();
        inner.begin(longer)?;
        inner.bytes.resize(length, 0);
        inner.log(|| Operation::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        let mut inner = self.lock();
        inner.begin(false)?;
        inner.log(|| Operation::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut inner = self.lock();
        let from = usize::try_from(offset).map_err(Error::other)?;
        let place = from..from + data.len();
        // A place where there are only zeros has no room on the disk yet.
        let new = inner.bytes.get(place).is_none_or(|old| old.iter().all(|byte| *byte == 0));
        let begun = inner.begin(new);
        // A write that fails may have written something.
        let part = if begun.is_ok() { data.len() } else { data.len() / 2 / SECTOR * SECTOR };
        let operation = Operation::Write(from, data[..part].to_vec());
        apply(&operation, &mut inner.bytes);
        inner.log(|| operation);
        begun
    }
}

fn apply(operation: &Operation, bytes: &mut Vec<u8>) {
    match operation {
        Operation::Write(at, data) => {
            if bytes.len() < at + data.len() {
                bytes.resize(at + data.len(), 0);
            }
            bytes[*at..at + data.len()].copy_from_slice(data);
        }
        Operation::Length(length) => bytes.resize(*length, 0),
        Operation::Sync => {}
    }
}

/// Follows a recorded run, and says what a disk may hold if the power is cut on the way.
#[derive(Debug)]
pub struct Replay {
    synced: Vec<u8>,
    since: Vec<Operation>,
}

impl Replay {
    /// Begins where the recording began.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { synced: bytes, since: Vec::new() }
    }

    /// Goes on by one operation.
    pub fn step(&mut self, operation: Operation) {
        if matches!(operation, Operation::Sync) {
            for operation in self.since.drain(..) {
                apply(&operation, &mut self.synced);
            }
        } else {
            self.since.push(operation);
        }
    }

    /// Nothing since the last sync has reached the disk.
    pub fn nothing_more(&self) -> Vec<u8> {
        self.synced.clone()
    }

    /// Everything has: the program was killed, the machine goes on.
    pub fn everything(&self) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        self.since.iter().for_each(|operation| apply(operation, &mut bytes));
        bytes
    }

    /// Some of it has, in some order; of a write perhaps some sectors.
    pub fn some(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        let mut order: Vec<&Operation> = self.since.iter().collect();
        for last in (1..order.len()).rev() {
            order.swap(last, dice.index(last + 1));
        }
        for operation in order {
            match operation {
                Operation::Write(at, data) => {
                    let whole = dice.one_in(3);
                    let lost = dice.one_in(3);
                    for (number, sector) in data.chunks(SECTOR).enumerate() {
                        if whole || (!lost && dice.one_in(2)) {
                            let at = at + number * SECTOR;
                            apply(&Operation::Write(at, sector.to_vec()), &mut bytes);
                        }
                    }
                }
                // The length as it was or as it should be, but never without what is synced.
                Operation::Length(length) if *length >= bytes.len() => {
                    if dice.one_in(2) {
                        apply(operation, &mut bytes);
                    }
                }
                Operation::Length(_) | Operation::Sync => {}
            }
        }
        bytes
    }
}
