//! Answers reads from a snapshot: buckets in, cells by group and pair out.
//!
//! *Why* buckets and cells are not built as values: a month of 80 pairs has 57,600 buckets, and
//! allocating and freeing them takes most of the time. A bucket's bytes are added to the open cell
//! of its pair; a cell that ends is encoded at once.
//!
//! *Invariant*: memory grows with the answer (which has a limit), not with the pairs of the
//! account.
//!
//! *Not here*: time zones, names, the clock (but for a read's deadline). Groups come as boundaries
//! in quarters, answers go as counts and sums.

use std::sync::Arc;
use std::time::Instant;

use botstats_common::ids::Account;
use botstats_common::io::clock::monotonic;
use botstats_common::metric::TypeSet;
use botstats_common::quarter::{QUARTERS_PER_DAY, QUARTERS_PER_HOUR};
use botstats_common::wire::{
    self, AnswerSize, Chunk, ChunksWriter, Frame, MAX_CHUNK_BYTES, MAX_GROUPS, Pair, Request,
    put_samples,
};
use parking_lot::RwLock;

use crate::event::registry::{NamedPair, Registry};
use crate::fold::bucket::{Bucket, BucketError, BucketId, QUARTERS, Totals};
use crate::fold::metrics::{Source, source};
use crate::store::keys::{BucketKey, bucket_id, bucket_key};
use crate::store::{Store, StoreError};

/// The longest window, in quarters: 30 local days with room for clock changes and a skipped day.
const MAX_WINDOW_QUARTERS: u32 = 33 * QUARTERS_PER_DAY;
/// Up to this many pairs are looked up one by one; for more, all rows of the account are scanned.
const FEW_PAIRS: usize = 16;
/// The deadline is checked once in this many rows.
const ROWS_A_DEADLINE_CHECK: usize = 4_096;

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
}

impl From<redb::StorageError> for ReadError {
    fn from(error: redb::StorageError) -> Self {
        Self::Store(error.into())
    }
}

/// Answers reads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CellReader {
    store: Arc<Store>,
    registry: Arc<RwLock<Registry>>,
    until: Option<Instant>,
    max_chunk_bytes: usize,
}

impl CellReader {
    pub(crate) fn new(store: Arc<Store>, registry: Arc<RwLock<Registry>>) -> Self {
        Self { store, registry, until: None, max_chunk_bytes: MAX_CHUNK_BYTES }
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

    /// Gathers the whole answer from one snapshot, as messages to send. `as_of_ms` must be taken
    /// before the call: the answer has everything that was committed before, and perhaps more.
    ///
    /// # Errors
    /// [`ReadError`] if the request makes no sense or the store cannot be read.
    pub fn gather(
        &self,
        account: &Account,
        request: &Request,
        as_of_ms: i64,
    ) -> Result<Vec<Vec<u8>>, ReadError> {
        let groups = Groups::of(request)?;
        let asked = self.registry.read().pairs(account, request.bots.as_deref());
        let Some((number, pairs)) = asked else {
            return Ok(ChunksWriter::new(as_of_ms, self.max_chunk_bytes).finish());
        };
        let chunks = ChunksWriter::new(as_of_ms, self.max_chunk_bytes);
        let mut answer = AnswerBuilder::new(&groups, &pairs, request.types, chunks);
        self.scan(number, &pairs, &mut answer)?;
        Ok(answer.chunks.finish())
    }

    /// As [`CellReader::gather`], decoded.
    ///
    /// # Errors
    /// [`ReadError`] if the request makes no sense or the store cannot be read.
    pub fn chunks(
        &self,
        account: &Account,
        request: &Request,
        as_of_ms: i64,
    ) -> Result<Vec<Chunk>, ReadError> {
        let mut chunks = Vec::new();
        for message in self.gather(account, request, as_of_ms)? {
            match wire::decode(&message) {
                Ok(Frame::Chunk(chunk)) => chunks.push(chunk),
                _ => return Err(ReadError::Request("the answer cannot be decoded again")),
            }
        }
        Ok(chunks)
    }

    fn scan(
        &self,
        account: u32,
        pairs: &[Arc<NamedPair>],
        answer: &mut AnswerBuilder<'_>,
    ) -> Result<(), ReadError> {
        let table = self.store.snapshot()?.buckets()?;
        let groups = answer.groups;
        for day in groups.first / QUARTERS_PER_DAY..=(groups.end - 1) / QUARTERS_PER_DAY {
            answer.flush(day * QUARTERS_PER_DAY);
            let key = |pair, hour| bucket_key(&BucketId { day, account, pair, hour });
            let ranges: Vec<(BucketKey, BucketKey)> = if pairs.len() <= FEW_PAIRS {
                pairs.iter().map(|p| (key(p.number, 0), key(p.number, u8::MAX))).collect()
            } else {
                vec![(key(0, 0), key(u32::MAX, u8::MAX))]
            };
            // Rows are in the order of their pairs' numbers, as pairs are.
            let mut asked = pairs.iter().map(|pair| pair.number).enumerate().peekable();
            for (from, to) in ranges {
                for (n, row) in table.range(from..=to)?.enumerate() {
                    if n % ROWS_A_DEADLINE_CHECK == 0
                        && self.until.is_some_and(|until| monotonic() > until)
                    {
                        return Err(ReadError::TooLate);
                    }
                    let (key, value) = row?;
                    let BucketId { pair: number, hour, .. } = bucket_id(&key.value());
                    while asked.next_if(|(_, asked)| *asked < number).is_some() {}
                    let Some(&(place, _)) = asked.peek().filter(|(_, asked)| *asked == number)
                    else {
                        continue;
                    };
                    let first = day * QUARTERS_PER_DAY + u32::from(hour) * QUARTERS_PER_HOUR;
                    answer.add(place, first, value.value()).map_err(StoreError::from)?;
                    if answer.size.is_too_large() {
                        return Err(ReadError::TooLarge);
                    }
                }
            }
        }
        answer.flush(u32::MAX);
        Ok(())
    }
}

/// The groups of a request.
struct Groups {
    first: u32,
    end: u32,
    /// The end of each group.
    ends: Vec<u32>,
    /// The group of each quarter from `first` on.
    of_quarter: Vec<u32>,
}

impl Groups {
    fn of(request: &Request) -> Result<Self, ReadError> {
        let bounds = &request.boundaries;
        let [first, .., end] = bounds[..] else {
            return Err(ReadError::Request("at least two boundaries are needed"));
        };
        if bounds.len() > MAX_GROUPS + 1 || end.0.saturating_sub(first.0) > MAX_WINDOW_QUARTERS {
            return Err(ReadError::Request("the window or the number of groups is too large"));
        }
        if !bounds.is_sorted_by(|a, b| a < b) {
            return Err(ReadError::Request("boundaries must ascend"));
        }
        let mut of_quarter = Vec::new();
        for (group, pair) in (0_u32..).zip(bounds.windows(2)) {
            of_quarter.extend((pair[0].0..pair[1].0).map(|_| group));
        }
        let ends = bounds.iter().skip(1).map(|q| q.0).collect();
        Ok(Self { first: first.0, end: end.0, ends, of_quarter })
    }

    fn of_quarter(&self, quarter: u32) -> Option<u32> {
        let place = usize::try_from(quarter.checked_sub(self.first)?).ok()?;
        self.of_quarter.get(place).copied()
    }

    fn end_of(&self, group: u32) -> u32 {
        usize::try_from(group).ok().and_then(|g| self.ends.get(g)).copied().unwrap_or(u32::MAX)
    }
}

/// The cell to which the next rows of a pair belong.
#[derive(Default)]
struct OpenCell {
    /// None between two cells.
    group: Option<u32>,
    totals: Totals,
    users: OrdinalSet,
    /// The pair's index in the answer, once it has any sample.
    place: Option<u32>,
}

/// A set of ordinals that is sorted now and then.
#[derive(Default)]
struct OrdinalSet {
    ordinals: Vec<u32>,
    /// The number of ordinals at the start that are sorted and distinct.
    distinct: usize,
}

impl OrdinalSet {
    /// Up to this many ordinals are sorted only at the end.
    const SMALL: usize = 4096;

    fn push(&mut self, ordinal: u32) {
        // The first list is sorted already.
        if self.distinct == self.ordinals.len()
            && self.ordinals.last().is_none_or(|last| *last < ordinal)
        {
            self.distinct += 1;
        }
        self.ordinals.push(ordinal);
    }

    /// Sorts if the set has doubled. To be called after each list of ordinals.
    fn settle(&mut self) {
        if self.ordinals.len() > 2 * self.distinct.max(Self::SMALL) {
            self.count();
        }
    }

    fn count(&mut self) -> u64 {
        if self.distinct < self.ordinals.len() {
            self.ordinals.sort_unstable();
            self.ordinals.dedup();
            self.distinct = self.ordinals.len();
        }
        self.distinct as u64
    }

    fn clear(&mut self) {
        self.ordinals.clear();
        self.distinct = 0;
    }
}

/// A cell that has ended.
struct EndedCell {
    group: u32,
    pair: u32,
    samples: std::ops::Range<usize>,
}

/// An answer that is being built: open cells, ended cells that are not sorted yet, chunks.
struct AnswerBuilder<'a> {
    groups: &'a Groups,
    pairs: &'a [Arc<NamedPair>],
    types: TypeSet,
    counts_users: bool,
    /// By index in `pairs`; none before the pair's first row.
    open: Vec<Option<Box<OpenCell>>>,
    placed: u32,
    ended: Vec<EndedCell>,
    samples: Vec<u8>,
    chunks: ChunksWriter,
    size: AnswerSize,
}

impl<'a> AnswerBuilder<'a> {
    fn new(
        groups: &'a Groups,
        pairs: &'a [Arc<NamedPair>],
        types: TypeSet,
        chunks: ChunksWriter,
    ) -> Self {
        let from_users = |code| matches!(source(code), Source::Active | Source::ActiveBut(_));
        Self {
            groups,
            pairs,
            types,
            counts_users: types.iter().any(from_users),
            open: pairs.iter().map(|_| None).collect(),
            placed: 0,
            ended: Vec::new(),
            samples: Vec::new(),
            chunks,
            size: AnswerSize::default(),
        }
    }

    /// Adds a pair's stored bucket whose first quarter is `first`.
    fn add(&mut self, pair: usize, first: u32, bytes: &[u8]) -> Result<(), BucketError> {
        const LAST: u32 = QUARTERS_PER_HOUR - 1;
        match (self.groups.of_quarter(first), self.groups.of_quarter(first + LAST)) {
            (Some(group), Some(last)) if group == last => {
                let counts_users = self.counts_users;
                let Some(open) = self.open_in(pair, group) else { return Ok(()) };
                let (any, users) = open.totals.add_stored(bytes)?;
                let without_place = open.place.is_none() && (any || !users.is_empty());
                if counts_users {
                    users.for_each(|ordinal| open.users.push(ordinal))?;
                    open.users.settle();
                }
                if without_place {
                    self.place(pair);
                }
                Ok(())
            }
            _ => self.add_parts(pair, first, &Bucket::decode(bytes)?),
        }
    }

    /// Adds a bucket whose quarters belong to more than one group.
    fn add_parts(&mut self, pair: usize, first: u32, bucket: &Bucket) -> Result<(), BucketError> {
        for (quarter, fields) in (first..).zip(&bucket.quarters) {
            let Some(group) = self.groups.of_quarter(quarter) else { continue };
            let mut users =
                bucket.users.iter().filter(|(_, m)| m & 1 << (quarter - first) != 0).peekable();
            if users.peek().is_none() && fields.iter().all(|n| *n == 0) {
                continue;
            }
            let Some(open) = self.open_in(pair, group) else { return Ok(()) };
            open.totals.add(fields);
            users.for_each(|(ordinal, _)| open.users.push(*ordinal));
            open.users.settle();
            self.place(pair);
        }
        Ok(())
    }

    /// The pair's open cell, after an open cell of another group was ended.
    fn open_in(&mut self, pair: usize, group: u32) -> Option<&mut OpenCell> {
        if self.open.get(pair)?.as_ref().is_none_or(|open| open.group != Some(group)) {
            self.end(pair);
            self.open.get_mut(pair)?.get_or_insert_default().group = Some(group);
        }
        self.open.get_mut(pair)?.as_deref_mut()
    }

    /// Puts a pair that has a sample into the answer.
    fn place(&mut self, pair: usize) {
        let (Some(Some(open)), Some(named)) = (self.open.get_mut(pair), self.pairs.get(pair))
        else {
            return;
        };
        if open.place.is_none() {
            let pair = Pair { bot: named.bot.clone(), channel: named.channel.clone() };
            self.size.add_pair(&pair);
            self.chunks.pair(&pair);
            open.place = Some(self.placed);
            self.placed += 1;
        }
    }

    fn end(&mut self, pair: usize) {
        let Some(Some(open)) = self.open.get_mut(pair) else { return };
        let (Some(group), Some(pair)) = (open.group.take(), open.place) else { return };
        let active = open.users.count();
        let samples = self.types.iter().map(|code| open.totals.samples(code, active));
        let start = self.samples.len();
        put_samples(samples.filter(|samples| samples.count > 0), &mut self.samples);
        if self.samples.len() > start {
            self.size.add_cell(self.samples.len() - start);
            self.ended.push(EndedCell { group, pair, samples: start..self.samples.len() });
        }
        open.totals = Totals::default();
        open.users.clear();
    }

    /// Writes out the cells of all groups that end at or before that quarter.
    fn flush(&mut self, quarter: u32) {
        for pair in 0..self.open.len() {
            let group = self.open.get(pair).and_then(|open| open.as_ref()?.group);
            if group.is_some_and(|group| self.groups.end_of(group) <= quarter) {
                self.end(pair);
            }
        }
        self.ended.sort_unstable_by_key(|cell| (cell.group, cell.pair));
        for EndedCell { group, pair, samples } in self.ended.drain(..) {
            self.chunks.cell(group, pair, self.samples.get(samples).unwrap_or_default());
        }
        self.samples.clear();
    }
}

const _: () = assert!(QUARTERS == QUARTERS_PER_HOUR as usize);
