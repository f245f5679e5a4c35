//! What a request may ask for, and from when on a store can answer completely.

use botstats_common::quarter::{DAY_MS, Quarter};
use botstats_common::stat::{MAX_STATS, MAX_WITHIN_S, Stat};
use botstats_common::wire::{MAX_DATES_TIMES_PAIRS, Request};

use super::ReadError;
use super::windows::Window;
use crate::store::Progress;

/// An event may be so much later than the moment it was stored, in nanoseconds.
const AHEAD_NS: i64 = 5 * 60 * 1_000_000_000;
const NS_PER_MS: i64 = 1_000_000;

/// Checks stats and split.
pub(super) fn check_columns(request: &Request) -> Result<(), ReadError> {
    if request.stats.len() > MAX_STATS {
        return Err(ReadError::Request("at most 8 stats are allowed"));
    }
    for stat in &request.stats {
        match stat {
            Stat::Percentile(percent) if !(1..=99).contains(percent) => {
                return Err(ReadError::Request("percentiles from 1 to 99 are allowed"));
            }
            Stat::Within(seconds) if !(1..=MAX_WITHIN_S).contains(seconds) => {
                return Err(ReadError::Request("within 1 to 604800 seconds is allowed"));
            }
            Stat::Percentile(_) | Stat::Min | Stat::Max | Stat::Within(_) => {}
        }
    }
    let is_of = |split: botstats_common::split::Split| {
        request.types.iter().all(|code| split.codes().contains(&code))
    };
    match request.split {
        Some(by) if !is_of(by.split) => {
            Err(ReadError::Request("a metric is not counted by the names of that split"))
        }
        _ => Ok(()),
    }
}

/// Checks the number of dates times pairs.
pub(in crate::serve) fn check_pairs(dates: u32, pairs: usize) -> Result<(), ReadError> {
    let pairs = u32::try_from(pairs).unwrap_or(u32::MAX);
    match u64::from(dates) * u64::from(pairs) > MAX_DATES_TIMES_PAIRS {
        true => Err(ReadError::TooManyPairs { pairs }),
        false => Ok(()),
    }
}

/// Checks that no window reaches further back than the store is complete.
pub(super) fn check_complete(
    windows: &[Window],
    progress: &Progress,
    keep_days: u32,
) -> Result<(), ReadError> {
    let Some(since_ms) = complete_since(progress, keep_days) else { return Ok(()) };
    let reaches_back =
        |window: &Window| window.start < window.end && Quarter(window.start).start_ms() < since_ms;
    match windows.iter().any(reaches_back) {
        true => Err(ReadError::Incomplete { since_ms }),
        false => Ok(()),
    }
}

/// The first instant (Unix ms) from which on nothing is missing; `None` in an empty store, which
/// has nothing to miss.
pub(in crate::serve) fn complete_since(progress: &Progress, keep_days: u32) -> Option<i64> {
    progress.checkpoint.as_ref()?;
    let kept_from = i64::from(progress.watermark.day()) - i64::from(keep_days) + 1;
    // Days before these two were deleted, or may have lost a part.
    let deleted_to = progress.deleted_to_day.max(progress.buckets_from_day);
    let from_day = kept_from.max(deleted_to.into());
    // Messages before the first one were stored no later. Their events are at most that late.
    let after_first = progress.first.filter(|first| first.sequence != 1).map(|first| {
        first.stored_ns.saturating_add(AHEAD_NS).div_euclid(NS_PER_MS).saturating_add(1)
    });
    Some((from_day * DAY_MS).max(after_first.unwrap_or(i64::MIN)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::watermark::Watermark;
    use crate::store::{Checkpoint, FirstMessage};

    #[test]
    fn complete_since_as_cases() {
        const AT_MS: i64 = 20_000 * DAY_MS + 7;
        let mut watermark = Watermark::default();
        watermark.observe(AT_MS, AT_MS);
        watermark.observe(AT_MS + 7 * DAY_MS, AT_MS + 7 * DAY_MS);
        assert_eq!(watermark.day(), 20_007);
        let checkpoint =
            Checkpoint { stream: Default::default(), sequence: 9, stored_ns: 0, subject_hash: 0 };
        let progress = |(sequence, stored_ms): (u64, i64), buckets_from_day, deleted_to_day| {
            let first = Some(FirstMessage { sequence, stored_ns: stored_ms * NS_PER_MS });
            let (checkpoint, watermark) = (Some(checkpoint.clone()), watermark.clone());
            Progress {
                checkpoint,
                first,
                watermark,
                buckets_from_day,
                deleted_to_day,
                ..Progress::default()
            }
        };
        let whole = (1, AT_MS);
        for (progress, keep_days, expect) in [
            (progress(whole, 0, 0), 40, 19_968 * DAY_MS),
            (progress(whole, 0, 0), 30_000, 0),
            (progress(whole, 19_968, 19_968), 40, 19_968 * DAY_MS),
            (progress(whole, 19_968, 19_970), 40, 19_970 * DAY_MS),
            (progress(whole, 19_971, 19_970), 40, 19_971 * DAY_MS),
            // Kept longer from now on: what was deleted stays deleted.
            (progress(whole, 19_967, 19_967), 400, 19_967 * DAY_MS),
            // Older messages were gone when the store was made.
            (progress((2, AT_MS), 0, 0), 40, AT_MS + 300_001),
            (progress((2, 1), 0, 0), 40, 19_968 * DAY_MS),
            (progress((2, i64::MAX / NS_PER_MS), 0, 0), 40, i64::MAX / NS_PER_MS + 1),
        ] {
            assert_eq!(complete_since(&progress, keep_days), Some(expect), "{progress:?}");
        }
        assert_eq!(complete_since(&Progress::default(), 40), None);
    }
}
