//! Users: found or made in the store, first seen, active in quarters, and forgotten.
//!
//! A user is forgotten at the end of a quarter: what it does later is of another *generation*, a
//! user of its own. Numbers of quarters up to that one don't change.
//!
//! | user | in `users` | in `forgotten` |
//! | --- | --- | --- |
//! | never forgotten | ordinal and first quarter | nothing |
//! | forgotten within the last 38 days | a stub | all its generations |
//! | forgotten longer ago | ordinal and first quarter of its last generation | nothing |

use std::cmp::Reverse;
use std::ops::Range;

use botstats_common::quarter::{QUARTERS_PER_DAY, QUARTERS_PER_HOUR, Quarter};

use super::upcoming::New;
use crate::event::Kind;
use crate::event::registry::PairNumbers;
use crate::fold::body::mask_of_user;
use crate::fold::bucket_key;
use crate::fold::changes::Changes;
use crate::fold::generations::{Generation, Generations};
use crate::fold::timeline::Entry;
use crate::store::keys::{day_of, pair_of};
use crate::store::packed::{Block, Changed};
use crate::store::{Commit, Counts, PackedTable, StoreError, StoredUser};

/// What users did in the batch. The memory of one batch serves the next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Activities {
    active: Vec<Activity>,
    forgotten: Vec<Activity>,
}

/// A user's activity in a quarter, or that it was to be forgotten in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Activity {
    user: u128,
    /// The event's place in the batch.
    place: u32,
    quarter: u32,
    account: u32,
}

impl Activity {
    fn numbers(&self) -> PairNumbers {
        PairNumbers { account: self.account, pair: pair_of(self.user) }
    }
}

impl Activities {
    pub(super) fn clear(&mut self) {
        self.active.clear();
        self.forgotten.clear();
    }

    /// Notes what an accepted event says of its user.
    pub(super) fn add(&mut self, event: &New) {
        let New { place, user, numbers, entry: Entry { kind, time_ms, .. }, .. } = *event;
        let list = match kind {
            Kind::Received => &mut self.active,
            Kind::Forgotten => &mut self.forgotten,
            _ => return,
        };
        let quarter = Quarter::of_ms(time_ms).0;
        // Successive messages of a user in one quarter are one activity.
        if list.last().is_none_or(|last| (last.user, last.quarter) != (user, quarter)) {
            list.push(Activity { user, place, quarter, account: numbers.account });
        }
    }
}

/// A user that the batch names.
struct Named {
    key: u128,
    stored: StoredUser,
    /// Its generations, if it was ever forgotten.
    generations: Option<Generations>,
    is_changed: bool,
}

/// Counts users, and forgets those that are to be forgotten.
pub(super) fn count_users(
    commit: &Commit,
    counts: &mut Counts,
    Activities { active, forgotten }: &mut Activities,
    changes: &mut Changes,
) -> Result<(), StoreError> {
    active.sort_unstable();
    // The latest first: what it cuts off gets an ordinal that is not in the store yet, so an
    // earlier one must find the rest under the stored ordinal.
    forgotten.sort_unstable_by_key(|activity| (activity.user, Reverse(activity.quarter)));
    let mut pass = UserPass { commit, counts, changes, named: Vec::new() };
    pass.find(active, forgotten)?;
    pass.forget(forgotten)?;
    pass.activate(active)?;
    pass.store()
}

struct UserPass<'a> {
    commit: &'a Commit,
    counts: &'a mut Counts,
    changes: &'a mut Changes,
    /// By key.
    named: Vec<Named>,
}

impl UserPass<'_> {
    /// Reads the users that the batch names.
    fn find(&mut self, active: &[Activity], forgotten: &[Activity]) -> Result<(), StoreError> {
        let (users, table) = (self.commit.users()?, self.commit.forgotten()?);
        let mut keys: Vec<u128> = Vec::with_capacity(active.len());
        keys.extend(active.iter().chain(forgotten).map(|activity| activity.user));
        if !forgotten.is_empty() {
            keys.sort_unstable();
        }
        keys.dedup();
        self.named.reserve_exact(keys.len());
        let mut block = Block::default();
        for key in keys {
            if !block.covers(&[], key) {
                users.block_of(&[], key, &mut block)?;
            }
            let stored = match block.get(key) {
                Some(body) => StoredUser::decode(body)?,
                None => StoredUser::None,
            };
            let generations = match stored {
                StoredUser::Forgotten => Some(table.get(key)?),
                _ => None,
            };
            self.named.push(Named { key, stored, generations, is_changed: false });
        }
        Ok(())
    }

    /// Adds the quarters in which users were to be forgotten, and moves what they did later, as far
    /// as it is stored, to new generations.
    fn forget(&mut self, forgotten: &[Activity]) -> Result<(), StoreError> {
        if forgotten.is_empty() {
            return Ok(());
        }
        let buckets = self.commit.buckets()?;
        for activity in forgotten {
            let Activity { user, quarter, .. } = *activity;
            let Ok(place) = self.named.binary_search_by_key(&user, |named| named.key) else {
                continue;
            };
            let named = &mut self.named[place];
            let only = match named.stored {
                StoredUser::Known(generation) => Some(generation),
                StoredUser::None | StoredUser::Forgotten => None,
            };
            let generations = named.generations.get_or_insert_with(|| Generations::of(only));
            named.is_changed = true;
            let Some(later) = generations.forget_at(quarter) else { continue };
            // A generation with activity on both sides of the end of that quarter.
            let numbers = activity.numbers();
            let moved = activity_of(&buckets, numbers, later.ordinal, (quarter + 1)..later.end)?;
            let Some(first) = moved.first().copied() else { continue };
            let ordinal = self.counts.next(numbers.pair)?;
            for quarter in moved {
                self.changes.not_user(numbers, quarter, later.ordinal);
                self.changes.user(numbers, quarter, ordinal);
            }
            self.changes.new_user(numbers, first, 1);
            generations.put(first, Generation { ordinal, first_seen: first });
        }
        Ok(())
    }

    /// Marks users as active, and moves first seen.
    fn activate(&mut self, active: &[Activity]) -> Result<(), StoreError> {
        // New users get ordinals in the order of the stream, however messages are cut into batches.
        let mut newcomers: Vec<(u32, usize, u32)> = Vec::new();
        let mut place = 0;
        let mut places = Vec::new();
        for activities in active.chunk_by(|a, b| a.user == b.user) {
            while self.named[place].key != activities[0].user {
                place += 1;
            }
            places.push(place);
            let named = &self.named[place];
            match &named.generations {
                None if matches!(named.stored, StoredUser::None) => {
                    newcomers.push((activities[0].place, place, u32::MAX));
                }
                None => {}
                Some(generations) => {
                    let mut before = None;
                    for activity in activities {
                        let (index, generation) = generations.at(activity.quarter);
                        if generation.is_none() && before != Some(index) {
                            newcomers.push((activity.place, place, activity.quarter));
                            before = Some(index);
                        }
                    }
                }
            }
        }
        newcomers.sort_unstable();
        for (_, place, quarter) in newcomers {
            let named = &mut self.named[place];
            let new = |counts: &mut Counts| -> Result<Generation, StoreError> {
                let ordinal = counts.next(pair_of(named.key))?;
                Ok(Generation { ordinal, first_seen: u32::MAX })
            };
            match &mut named.generations {
                None => named.stored = StoredUser::Known(new(self.counts)?),
                // Another activity of the batch may have made it.
                Some(generations) if generations.at(quarter).1.is_none() => {
                    generations.put(quarter, new(self.counts)?);
                }
                Some(_) => {}
            }
        }
        let of_users = active.chunk_by(|a, b| a.user == b.user);
        for (activities, place) in of_users.zip(places) {
            let named = &mut self.named[place];
            for activity in activities {
                let numbers = activity.numbers();
                let generation = match (&mut named.generations, &mut named.stored) {
                    (Some(generations), _) => generations.at_mut(activity.quarter),
                    (None, StoredUser::Known(generation)) => Some(generation),
                    (None, _) => None,
                };
                let Some(generation) = generation else { continue };
                self.changes.user(numbers, activity.quarter, generation.ordinal);
                if activity.quarter < generation.first_seen {
                    if generation.first_seen != u32::MAX {
                        self.changes.new_user(numbers, generation.first_seen, -1);
                    }
                    self.changes.new_user(numbers, activity.quarter, 1);
                    generation.first_seen = activity.quarter;
                    named.is_changed = true;
                }
            }
        }
        Ok(())
    }

    /// Writes the users that have changed.
    fn store(self) -> Result<(), StoreError> {
        let mut users = self.commit.users()?;
        let mut forgotten = self.commit.forgotten()?;
        let (mut block, mut changed, mut body) = (Block::default(), Changed::default(), Vec::new());
        for named in self.named.iter().filter(|named| named.is_changed) {
            let stored = match &named.generations {
                Some(generations) => {
                    forgotten.put(named.key, generations)?;
                    StoredUser::Forgotten
                }
                None => named.stored,
            };
            if stored == StoredUser::Forgotten && named.stored == StoredUser::Forgotten {
                continue;
            }
            users.seek(&[], named.key, &mut block, &mut changed)?;
            body.clear();
            stored.encode(&mut body);
            changed.put(named.key, &body);
        }
        users.put(&mut block, &mut changed)
    }
}

/// The quarters of a range in which a user of a pair was active, ascending.
fn activity_of(
    buckets: &PackedTable<'_>,
    numbers: PairNumbers,
    ordinal: u32,
    range: Range<u32>,
) -> Result<Vec<u32>, StoreError> {
    let mut quarters = Vec::new();
    let Some(last_day) = buckets.last_group()?.as_deref().and_then(day_of) else {
        return Ok(quarters);
    };
    let hours = bucket_key::item(numbers.pair, 0)..=bucket_key::item(numbers.pair, 23);
    for day in Quarter(range.start).day()..=last_day.min(Quarter(range.end - 1).day()) {
        let group = bucket_key::group(day, numbers.account);
        buckets.scan_keys(&group, hours.clone(), |key, body| {
            let Some((_, hour)) = bucket_key::of_item(key) else { return Ok(()) };
            let first = day * QUARTERS_PER_DAY + u32::from(hour) * QUARTERS_PER_HOUR;
            let mask = mask_of_user(body, ordinal)?;
            let of_hour = (first..).take(4).filter(|q| mask >> (q - first) & 1 == 1);
            quarters.extend(of_hour.filter(|quarter| range.contains(quarter)));
            Ok::<_, StoreError>(())
        })?;
    }
    Ok(quarters)
}

/// Deletes the generations that ended more than 38 days before.
pub(super) fn prune_generations(commit: &Commit, before_day: u32) -> Result<(), StoreError> {
    let (mut users, mut forgotten) = (commit.users()?, commit.forgotten()?);
    let (mut block, mut changed, mut body) = (Block::default(), Changed::default(), Vec::new());
    for (key, mut generations) in forgotten.select(|of| of.has_end_before(before_day))? {
        generations.prune(before_day);
        let left = match generations.only() {
            Some(last) => last,
            None => {
                forgotten.put(key, &generations)?;
                continue;
            }
        };
        forgotten.remove(key)?;
        users.seek(&[], key, &mut block, &mut changed)?;
        match left {
            Some(generation) => {
                body.clear();
                StoredUser::Known(generation).encode(&mut body);
                changed.put(key, &body);
            }
            None => changed.remove(key),
        }
    }
    users.put(&mut block, &mut changed)
}
