//! Answers reads from a snapshot: buckets in, cells by group and row out.
//!
//! 1. `windows` turns the runs of a request into parts, and `limits` refuses what is too much.
//! 2. `scan` goes through the buckets of a window, day by day.
//! 3. `pairs` adds the buckets of each pair up, part by part. With `split`, `names` ranks the names
//!    in a first scan and adds up what each name has in a second one.
//! 4. What a pair or a name has in one part goes to `answer`. There `partial` merges it into the
//!    cells of rows, `rows` knows the rows, and `histogram` makes the stats.
//!
//! *Why* buckets and cells are not built as values: a month of 80 pairs has 57,600 buckets, and
//! allocating and freeing them takes most of the time. A bucket's bytes are added to the open cell
//! of its pair; a cell that ends is encoded at once.
//!
//! *Invariant*: memory grows with the answer (which has a limit), with the users and different
//! durations of the parts that are open, and with the names of one pair and day.
//!
//! *Not here*: time zones, shown names, the clock (but for a read's deadline).

mod answer;
mod histogram;
pub(super) mod limits;
mod names;
mod ordinals;
mod pairs;
mod partial;
mod rows;
mod scan;
#[cfg(test)]
mod tests;
mod windows;

use std::sync::Arc;
use std::time::Instant;

use botstats_common::ids::Account;
use botstats_common::wire::{self, ChunksWriter, MAX_CHUNK_BYTES, Request};
use parking_lot::RwLock;

use self::answer::Answer;
use self::names::{NameCells, Ranking};
use self::pairs::PairCells;
use self::scan::Scan;
use self::windows::Window;
use crate::event::registry::Registry;
use crate::fold::body::BodyError;
use crate::store::{Store, StoreError};

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each is")]
pub enum ReadError {
    #[error("the request is wrong: {0}")]
    Request(&'static str),
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
    #[error("the answer is larger than a query takes")]
    TooLarge,
    #[error("the read takes longer than its asker waits")]
    TooLate,
    #[error("the answer would not be complete before {since_ms} (Unix ms)")]
    Incomplete { since_ms: i64 },
    #[error("the windows have too many dates for {pairs} pairs of bot and channel")]
    TooManyPairs { pairs: u32 },
    #[error("the answer has more than {} names", wire::MAX_NAMES)]
    TooManyNames,
}

impl From<redb::StorageError> for ReadError {
    fn from(error: redb::StorageError) -> Self {
        Self::Store(error.into())
    }
}

impl From<BodyError> for ReadError {
    fn from(error: BodyError) -> Self {
        Self::Store(error.into())
    }
}

/// Answers reads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CellReader {
    store: Arc<Store>,
    registry: Arc<RwLock<Registry>>,
    /// How many UTC days of buckets the store keeps.
    keep_days: u32,
    until: Option<Instant>,
    max_chunk_bytes: usize,
    in_version_1: bool,
}

impl CellReader {
    pub(crate) fn new(store: Arc<Store>, registry: Arc<RwLock<Registry>>, keep_days: u32) -> Self {
        let (until, max_chunk_bytes, in_version_1) = (None, MAX_CHUNK_BYTES, false);
        Self { store, registry, keep_days, until, max_chunk_bytes, in_version_1 }
    }

    /// Sets the deadline, after which a read gives up.
    #[must_use]
    pub fn until(mut self, last_moment: Instant) -> Self {
        self.until = Some(last_moment);
        self
    }

    /// Bounds the size of a message, beside [`MAX_CHUNK_BYTES`].
    #[must_use]
    pub fn in_chunks_of(mut self, max_bytes: usize) -> Self {
        self.max_chunk_bytes = max_bytes.min(MAX_CHUNK_BYTES);
        self
    }

    /// Answers in version 1 of the messages: for requests of [`wire::v1::Request::upgrade`] alone.
    #[must_use]
    pub fn in_version_1(mut self) -> Self {
        self.in_version_1 = true;
        self
    }

    /// Gathers the whole answer from one snapshot, as messages to send. `as_of_ms` must be taken
    /// before the call: the answer has everything that was committed before, and perhaps more.
    ///
    /// # Errors
    /// [`ReadError`] if the request makes no sense, the answer passes a limit, or the store cannot
    /// be read.
    pub fn gather(
        &self,
        account: &Account,
        request: &Request,
        as_of_ms: i64,
    ) -> Result<Vec<Vec<u8>>, ReadError> {
        limits::check_columns(request)?;
        let windows = Window::all_of(request)?;
        let asked = self.registry.read().pairs(account, request.bots.as_deref());
        let (account, pairs) = asked.unwrap_or_default();
        let snapshot = self.store.snapshot()?;
        if request.complete {
            limits::check_complete(&windows, &snapshot.progress()?, self.keep_days)?;
        }
        limits::check_pairs(request.dates, pairs.len())?;
        let chunks = match self.in_version_1 {
            true => ChunksWriter::of_version_1(as_of_ms, self.max_chunk_bytes),
            false => ChunksWriter::new(as_of_ms, self.max_chunk_bytes),
        };
        let answer = Answer::new(request, &pairs, chunks);
        let mut scan = Scan::new(snapshot.buckets()?, account, &pairs, self.until);
        let answer = match request.split {
            None => {
                let mut cells = PairCells::new(answer, request, pairs.len());
                windows.iter().try_for_each(|window| scan.window(window, &mut cells))?;
                cells.into_answer()
            }
            Some(by) => {
                let mut ranking = Ranking::new(by.split, request.types);
                windows.iter().try_for_each(|window| scan.window(window, &mut ranking))?;
                let mut cells = NameCells::new(answer, request, by.split, ranking.kept(by.top));
                windows.iter().try_for_each(|window| scan.window(window, &mut cells))?;
                cells.into_answer()
            }
        };
        Ok(answer.finish())
    }
}
