//! Answers reads from a snapshot: buckets in, cells by group and pair out.
//!
//! *Not here*: time zones, names, the clock. Groups come as boundaries in quarters, answers go as
//! counts and sums.

use std::sync::{Arc, PoisonError, RwLock};

use botstats_common::ids::Account;
use botstats_common::quarter::{QUARTERS_PER_DAY, QUARTERS_PER_HOUR};
use botstats_common::wire::{Cell, Chunk, MAX_CHUNK_BYTES, MAX_GROUPS, Pair, Request};
use rustc_hash::FxHashMap;

use crate::bucket::{Bucket, QUARTERS, Totals};
use crate::registry::{NamedPair, Registry};
use crate::store::keys::{BucketKey, bucket_key, bucket_place};
use crate::store::{Store, StoreError};

/// The longest window, in quarters: 30 local days with room for clock changes and a skipped day.
const MAX_WINDOW_QUARTERS: u32 = 33 * QUARTERS_PER_DAY;
/// With no more pairs than this their rows are looked up one pair at a time.
const FEW_PAIRS: usize = 16;
/// Most bytes that a sample, a cell without samples, and a pair take in a chunk.
const SAMPLE_BYTES: usize = 1 + 10 + 10;
const CELL_BYTES: usize = 5 + 5 + 2;
const PAIR_BYTES: usize = 2 * (1 + 64);

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The request makes no sense.
    #[error("bad request: {0}")]
    Request(&'static str),
    /// The store cannot be read.
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
}

impl From<redb::StorageError> for ReadError {
    fn from(error: redb::StorageError) -> Self {
        Self::Store(error.into())
    }
}

/// Answers reads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader {
    store: Arc<Store>,
    registry: Arc<RwLock<Registry>>,
}

impl Reader {
    pub(crate) fn new(store: Arc<Store>, registry: Arc<RwLock<Registry>>) -> Self {
        Self { store, registry }
    }

    /// Gathers the whole answer from one snapshot. `as_of_ms` must be known before the call: what is
    /// committed meanwhile may be in the answer, what was committed before is.
    ///
    /// # Errors
    /// [`ReadError`] if the request makes no sense or the store cannot be read.
    pub fn gather(
        &self,
        account: &Account,
        request: &Request,
        as_of_ms: i64,
    ) -> Result<Vec<Chunk>, ReadError> {
        let groups = Groups::of(request)?;
        let asked = self
            .registry
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .pairs(account, request.bots.as_deref());
        let mut answer = Answer::new(request, as_of_ms);
        if let Some((number, pairs)) = asked {
            self.scan(number, &pairs, &groups, &mut answer)?;
        }
        Ok(answer.finish())
    }

    fn scan(
        &self,
        account: u32,
        pairs: &[Arc<NamedPair>],
        groups: &Groups,
        answer: &mut Answer,
    ) -> Result<(), ReadError> {
        let by_number: FxHashMap<u32, &NamedPair> =
            pairs.iter().map(|p| (p.number, &**p)).collect();
        let table = self.store.snapshot()?.buckets()?;
        for day in groups.first / QUARTERS_PER_DAY..=(groups.end - 1) / QUARTERS_PER_DAY {
            answer.flush(groups, day * QUARTERS_PER_DAY);
            let ranges: Vec<(BucketKey, BucketKey)> = if pairs.len() <= FEW_PAIRS {
                let one = |p: &Arc<NamedPair>| {
                    (
                        bucket_key(day, account, p.number, 0),
                        bucket_key(day, account, p.number, u8::MAX),
                    )
                };
                pairs.iter().map(one).collect()
            } else {
                vec![(bucket_key(day, account, 0, 0), bucket_key(day, account, u32::MAX, u8::MAX))]
            };
            for (from, to) in ranges {
                for row in table.range(from..=to)? {
                    let (key, value) = row?;
                    let (_, number, hour) = bucket_place(&key.value());
                    if let Some(pair) = by_number.get(&number) {
                        let bucket = Bucket::decode(value.value()).map_err(StoreError::from)?;
                        let first = day * QUARTERS_PER_DAY + u32::from(hour) * QUARTERS_PER_HOUR;
                        answer.add(groups, pair, first, &bucket);
                    }
                }
            }
        }
        answer.flush(groups, u32::MAX);
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

/// One cell in the making.
#[derive(Default)]
struct Sums {
    totals: Totals,
    users: Users,
}

/// A set of ordinals that is brought in order now and then.
#[derive(Default)]
struct Users {
    ordinals: Vec<u32>,
    /// How many of the first are in order and distinct.
    distinct: usize,
}

impl Users {
    /// Below so many, order is brought in only at the end.
    const SMALL: usize = 4096;

    fn extend(&mut self, ordinals: impl Iterator<Item = u32>) {
        self.ordinals.extend(ordinals);
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
}

/// The answer in the making: cells still open, chunks that are full.
struct Answer<'a> {
    request: &'a Request,
    places: FxHashMap<u32, u32>,
    open: FxHashMap<(u32, u32), Sums>,
    chunk: Chunk,
    chunk_bytes: usize,
    done: Vec<Chunk>,
}

impl<'a> Answer<'a> {
    fn new(request: &'a Request, as_of_ms: i64) -> Self {
        Self {
            request,
            places: FxHashMap::default(),
            open: FxHashMap::default(),
            chunk: Chunk { as_of_ms, ..Chunk::default() },
            chunk_bytes: 0,
            done: Vec::new(),
        }
    }

    /// Adds the bucket whose first quarter is `first`.
    fn add(&mut self, groups: &Groups, pair: &NamedPair, first: u32, bucket: &Bucket) {
        let active = bucket.users.iter().fold(0, |all, (_, mask)| all | mask);
        let mut quarter = 0;
        while quarter < QUARTERS {
            let group_of =
                |q: usize| u32::try_from(q).ok().and_then(|q| groups.of_quarter(first + q));
            let Some(group) = group_of(quarter) else {
                quarter += 1;
                continue;
            };
            // The run of quarters that belong to one group.
            let end = (quarter..QUARTERS).find(|q| group_of(*q) != Some(group)).unwrap_or(QUARTERS);
            let mask = (quarter..end).fold(0_u8, |m, q| m | 1 << q);
            let fields = &bucket.quarters[quarter..end];
            quarter = end;
            if active & mask == 0 && fields.iter().flatten().all(|n| *n == 0) {
                continue;
            }
            let place = self.place(pair);
            let sums = self.open.entry((group, place)).or_default();
            for quarter in fields {
                sums.totals.add(quarter);
            }
            if active & mask != 0 {
                let users = bucket.users.iter().filter(|(_, m)| m & mask != 0);
                sums.users.extend(users.map(|(ordinal, _)| *ordinal));
            }
        }
    }

    /// The place of a pair in the answer's list; the first time it is written there.
    fn place(&mut self, pair: &NamedPair) -> u32 {
        if let Some(place) = self.places.get(&pair.number) {
            return *place;
        }
        let place = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.places.insert(pair.number, place);
        self.make_room(PAIR_BYTES);
        self.chunk.pairs.push(Pair { bot: pair.bot.clone(), channel: pair.channel.clone() });
        place
    }

    /// Writes out the cells of all groups that end at or before that quarter.
    fn flush(&mut self, groups: &Groups, quarter: u32) {
        let mut ended: Vec<((u32, u32), Sums)> =
            self.open.extract_if(|(group, _), _| groups.end_of(*group) <= quarter).collect();
        ended.sort_unstable_by_key(|(key, _)| *key);
        for ((group, pair), mut sums) in ended {
            let active = sums.users.count();
            let codes = self.request.types.iter();
            let samples: Vec<_> = codes
                .map(|code| sums.totals.samples(code, active))
                .filter(|s| s.count > 0)
                .collect();
            if !samples.is_empty() {
                self.make_room(CELL_BYTES + SAMPLE_BYTES * samples.len());
                self.chunk.cells.push(Cell { group, pair, samples });
            }
        }
    }

    fn make_room(&mut self, bytes: usize) {
        // Half, so that the frame around the chunk never matters.
        if self.chunk_bytes + bytes > MAX_CHUNK_BYTES / 2 {
            let next = Chunk {
                number: self.chunk.number + 1,
                as_of_ms: self.chunk.as_of_ms,
                ..Chunk::default()
            };
            self.done.push(std::mem::replace(&mut self.chunk, next));
            self.chunk_bytes = 0;
        }
        self.chunk_bytes += bytes;
    }

    fn finish(mut self) -> Vec<Chunk> {
        self.chunk.last = true;
        self.done.push(self.chunk);
        self.done
    }
}
