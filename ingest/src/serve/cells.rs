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
use botstats_common::metric::{TypeCode, TypeSet};
use botstats_common::quarter::{QUARTERS_PER_DAY, QUARTERS_PER_HOUR};
use botstats_common::wire::{
    self, AnswerSize, Chunk, ChunksWriter, Frame, MAX_CHUNK_BYTES, MAX_GROUPS, Pair, Request,
    put_samples,
};
use parking_lot::RwLock;

use crate::event::registry::{NamedPair, Registry};
use crate::fold::body::{BodyError, QUARTERS, Totals, fields_of};
use crate::fold::bucket_key;
use crate::fold::metrics::{Source, source};
use crate::store::{Store, StoreError};

/// The longest window, in quarters: 30 local days with room for clock changes and a skipped day.
const MAX_WINDOW_QUARTERS: u32 = 33 * QUARTERS_PER_DAY;
/// Up to this many pairs are looked up one by one; for more, all buckets of the account are
/// scanned.
const FEW_PAIRS: usize = 16;
/// The deadline is checked once in this many buckets.
const BUCKETS_A_DEADLINE_CHECK: usize = 4_096;

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

    /// Gathers the buckets day by day. A day's buckets come in the order of mixed pair numbers, but
    /// what goes into the answer at the end of a day does not depend on that order.
    fn scan(
        &self,
        account: u32,
        pairs: &[Arc<NamedPair>],
        answer: &mut AnswerBuilder<'_>,
    ) -> Result<(), ReadError> {
        let table = self.store.snapshot()?.buckets()?;
        let first_key = |pair: &NamedPair| bucket_key::item(pair.number, 0);
        let last_key = |pair: &NamedPair| bucket_key::item(pair.number, bucket_key::NAMES - 1);
        let mut asked: Vec<(u128, usize)> =
            pairs.iter().enumerate().map(|(place, pair)| (first_key(pair), place)).collect();
        asked.sort_unstable();
        let ranges: Vec<(u128, u128)> = if pairs.len() <= FEW_PAIRS {
            pairs.iter().map(|pair| (first_key(pair), last_key(pair))).collect()
        } else {
            vec![(0, u128::MAX)]
        };
        let groups = answer.groups;
        let mut buckets = 0_usize;
        for day in groups.first / QUARTERS_PER_DAY..=(groups.end - 1) / QUARTERS_PER_DAY {
            answer.flush(day * QUARTERS_PER_DAY);
            let group = bucket_key::group(day, account);
            for (from, to) in &ranges {
                let begin = asked.partition_point(|(first, _)| first < from);
                let mut asked = asked.get(begin..).unwrap_or_default();
                table.scan_keys(&group, *from..=*to, |key, body| {
                    if buckets.is_multiple_of(BUCKETS_A_DEADLINE_CHECK)
                        && self.until.is_some_and(|until| monotonic() > until)
                    {
                        return Err(ReadError::TooLate);
                    }
                    buckets += 1;
                    // The pair whose first key is the last one at or before this key.
                    while let [_, rest @ ..] = asked
                        && rest.first().is_some_and(|(first, _)| *first <= key)
                    {
                        asked = rest;
                    }
                    let of_pair = asked.first().and_then(|(first, place)| {
                        Some((u8::try_from(key.checked_sub(*first)?).ok()?, *place))
                    });
                    let Some((hour, place)) = of_pair.filter(|(slot, _)| *slot < bucket_key::NAMES)
                    else {
                        return Ok(());
                    };
                    let first = day * QUARTERS_PER_DAY + u32::from(hour) * QUARTERS_PER_HOUR;
                    answer.add(place, first, body).map_err(StoreError::from)?;
                    if answer.size.is_too_large() {
                        return Err(ReadError::TooLarge);
                    }
                    Ok(())
                })?;
            }
        }
        answer.flush(u32::MAX);
        if answer.size.is_too_large() {
            return Err(ReadError::TooLarge);
        }
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

/// The cell to which the next buckets of a pair belong.
#[derive(Default)]
struct OpenCell {
    /// None between two cells.
    group: Option<u32>,
    totals: Totals,
    users: OrdinalSet,
    /// True once the pair has any sample.
    any: bool,
    /// The pair's index in the answer, from the end of the first day on which it has any sample.
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
    /// The index in `pairs`.
    pair: usize,
    samples: std::ops::Range<usize>,
}

/// An answer that is being built: open cells, ended cells that are not sorted yet, chunks.
struct AnswerBuilder<'a> {
    groups: &'a Groups,
    pairs: &'a [Arc<NamedPair>],
    types: Vec<TypeCode>,
    counts_users: bool,
    /// The fields that make a pair a part of the answer.
    listed: u64,
    /// By index in `pairs`; none before the pair's first bucket.
    open: Vec<Option<Box<OpenCell>>>,
    /// Pairs that have a sample since the last flush.
    unplaced: Vec<usize>,
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
        // With `fill` a pair has rows if it has a sample of any metric that the endpoint offers,
        // asked for or not.
        let is_offered = |code: &TypeCode| TypeCode::OFFERED.contains(code);
        let listed: Vec<TypeCode> = match types.iter().all(|code| is_offered(&code)) {
            true => TypeCode::OFFERED.to_vec(),
            false => TypeCode::ALL.to_vec(),
        };
        let from_users = |code| matches!(source(code), Source::Active | Source::ActiveBut(_));
        Self {
            groups,
            pairs,
            types: types.iter().collect(),
            counts_users: types.iter().any(from_users),
            listed: fields_of(listed),
            open: pairs.iter().map(|_| None).collect(),
            unplaced: Vec::new(),
            placed: 0,
            ended: Vec::new(),
            samples: Vec::new(),
            chunks,
            size: AnswerSize::default(),
        }
    }

    /// Adds a pair's stored bucket whose first quarter is `first`.
    fn add(&mut self, pair: usize, first: u32, body: &[u8]) -> Result<(), BodyError> {
        const LAST: u32 = QUARTERS_PER_HOUR - 1;
        match (self.groups.of_quarter(first), self.groups.of_quarter(first + LAST)) {
            (Some(group), Some(last)) if group == last => {
                let (counts_users, listed) = (self.counts_users, self.listed);
                let Some(open) = self.open_in(pair, group) else { return Ok(()) };
                let (fields, users) = open.totals.add_stored(body)?;
                let is_first = !open.any && (fields & listed != 0 || !users.is_empty());
                open.any |= is_first;
                if counts_users {
                    users.for_each(|ordinal, _| open.users.push(ordinal))?;
                    open.users.settle();
                }
                if is_first {
                    self.unplaced.push(pair);
                }
                Ok(())
            }
            _ => self.add_parts(pair, first, body),
        }
    }

    /// Adds a bucket whose quarters belong to more than one group.
    fn add_parts(&mut self, pair: usize, first: u32, body: &[u8]) -> Result<(), BodyError> {
        let mut quarters = [Totals::default(); QUARTERS];
        let users = Totals::add_quarters(&mut quarters, body)?;
        let mut active = 0;
        users.for_each(|_, mask| active |= mask)?;
        for (n, totals) in (0_u32..).zip(&quarters) {
            let Some(group) = self.groups.of_quarter(first + n) else { continue };
            let any = active >> n & 1 != 0 || totals.fields() & self.listed != 0;
            let Some(open) = self.open_in(pair, group) else { return Ok(()) };
            open.totals.add(totals)?;
            users.for_each(|ordinal, mask| {
                if mask >> n & 1 != 0 {
                    open.users.push(ordinal);
                }
            })?;
            open.users.settle();
            if any && !open.any {
                open.any = true;
                self.unplaced.push(pair);
            }
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

    fn end(&mut self, pair: usize) {
        let Some(Some(open)) = self.open.get_mut(pair) else { return };
        let Some(group) = open.group.take().filter(|_| open.any) else { return };
        let active = open.users.count();
        let samples = self.types.iter().map(|code| open.totals.samples(*code, active));
        let start = self.samples.len();
        put_samples(samples.filter(|samples| samples.count > 0), &mut self.samples);
        if self.samples.len() > start {
            self.size.add_cell(self.samples.len() - start);
            self.ended.push(EndedCell { group, pair, samples: start..self.samples.len() });
        }
        open.totals = Totals::default();
        open.users.clear();
    }

    /// Writes out the pairs that have their first sample, and the cells of all groups that end at
    /// or before that quarter.
    fn flush(&mut self, quarter: u32) {
        self.place();
        for pair in 0..self.open.len() {
            let group = self.open.get(pair).and_then(|open| open.as_ref()?.group);
            if group.is_some_and(|group| self.groups.end_of(group) <= quarter) {
                self.end(pair);
            }
        }
        let place =
            |pair: usize| self.open.get(pair).and_then(|open| open.as_ref()?.place).unwrap_or(0);
        self.ended.sort_unstable_by_key(|cell: &EndedCell| (cell.group, place(cell.pair)));
        for EndedCell { group, pair, samples } in self.ended.drain(..) {
            let place = place(pair);
            self.chunks.cell(group, place, self.samples.get(samples).unwrap_or_default());
        }
        self.samples.clear();
    }

    /// Puts pairs that have a sample into the answer, in the order of their numbers.
    fn place(&mut self) {
        self.unplaced.sort_unstable();
        for pair in self.unplaced.drain(..) {
            let (Some(Some(open)), Some(named)) = (self.open.get_mut(pair), self.pairs.get(pair))
            else {
                continue;
            };
            let pair = Pair { bot: named.bot.clone(), channel: named.channel.clone() };
            self.size.add_pair(&pair);
            self.chunks.pair(&pair);
            open.place = Some(self.placed);
            self.placed += 1;
        }
    }
}

const _: () = assert!(QUARTERS == QUARTERS_PER_HOUR as usize);
