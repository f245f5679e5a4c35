//! Users: found or made in the store, first seen, and active in quarters.

use parking_lot::RwLock;

use crate::event::registry::{PairNumbers, Registry};
use crate::fold::deltas::BucketDeltas;
use crate::store::{Commit, StoreError, UserRow};

/// A user's activity in the batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Activity {
    pub(super) numbers: PairNumbers,
    pub(super) user: u128,
    /// The message's index in the batch.
    pub(super) index: usize,
    pub(super) quarter: u32,
}

impl Activity {
    /// True if both are of one user in one quarter.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.numbers, self.user, self.quarter) == (other.numbers, other.user, other.quarter)
    }
}

/// Finds or makes the users, notes when they were first seen, and marks them active; returns the
/// pairs that have new users.
pub(super) fn count_users(
    commit: &Commit,
    registry: &RwLock<Registry>,
    mut activities: Vec<Activity>,
    deltas: &mut BucketDeltas,
) -> Result<Vec<u32>, StoreError> {
    let mut table = commit.users()?;
    activities.sort_unstable();
    let by_user = |a: &Activity, b: &Activity| (a.numbers, a.user) == (b.numbers, b.user);
    let mut found: Vec<Option<UserRow>> = Vec::new();
    // New users get ordinals in the order of the stream, however messages are cut into batches.
    let mut newcomers: Vec<(usize, usize, u32)> = Vec::new();
    for (i, user) in activities.chunk_by(by_user).enumerate() {
        let row = table.get(user[0].numbers.pair, user[0].user)?;
        if row.is_none() {
            newcomers.push((user[0].index, i, user[0].numbers.pair));
        }
        found.push(row);
    }
    newcomers.sort_unstable();
    {
        let mut registry = registry.write();
        for (_, i, pair) in &newcomers {
            let row = registry.row_mut(*pair).ok_or_else(|| unknown_pair(*pair))?;
            found[*i] = Some(UserRow { ordinal: row.next_user, first_seen: u32::MAX });
            row.next_user = row.next_user.checked_add(1).ok_or_else(|| unknown_pair(*pair))?;
        }
    }
    for (user, row) in activities.chunk_by(by_user).zip(found) {
        let Some(mut row) = row else { continue };
        let numbers = user[0].numbers;
        for activity in user {
            deltas.user(numbers, activity.quarter, row.ordinal);
        }
        let earliest = user.iter().map(|a| a.quarter).min().unwrap_or(u32::MAX);
        if earliest < row.first_seen {
            if row.first_seen != u32::MAX {
                deltas.new_user(numbers, row.first_seen, -1);
            }
            deltas.new_user(numbers, earliest, 1);
            row.first_seen = earliest;
            table.put(numbers.pair, user[0].user, row)?;
        }
    }
    Ok(newcomers.into_iter().map(|(_, _, pair)| pair).collect())
}

fn unknown_pair(pair: u32) -> StoreError {
    StoreError::value("pairs", format!("pair {pair} is missing or full"))
}
