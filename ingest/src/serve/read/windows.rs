//! The windows of a request as parts: stretches of quarters that each count for one group or none.
//!
//! *Invariant*: what comes from outside is checked in numbers that cannot overflow before anything
//! is allocated or repeated for it.

use botstats_common::quarter::QUARTERS_PER_DAY;
use botstats_common::wire::{self, MAX_GROUPS, MAX_WINDOW_QUARTERS, Request, v1};

use super::ReadError;

/// The most runs of a window: a request of version 1 can have as many as it has groups.
const MAX_RUNS: usize =
    if v1::MAX_GROUPS > wire::MAX_RUNS { v1::MAX_GROUPS } else { wire::MAX_RUNS };
/// The first quarter after all that a store can have: the key of a bucket has 24 bits for the day.
const END_OF_DAYS: u64 = (1 << 24) * QUARTERS_PER_DAY as u64;

/// A stretch of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// The first quarter after it.
    pub(super) end: u32,
    /// Its group, numbered over all windows.
    pub(super) group: Option<u32>,
}

/// A window: parts that follow each other without a gap.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) start: u32,
    /// The first quarter after the window; `start` if the window is empty.
    pub(super) end: u32,
    parts: Vec<Part>,
    /// The index of the part of each quarter from `start` on.
    part_of_quarter: Vec<u32>,
    /// True if a group has more than one part.
    pub(super) repeats: bool,
}

impl Window {
    /// The windows of a request.
    ///
    /// # Errors
    /// [`ReadError::Request`] if a window is too long or malformed.
    pub(super) fn all_of(request: &Request) -> Result<Vec<Self>, ReadError> {
        if !(1..=2).contains(&request.windows.len()) {
            return Err(ReadError::Request("one or two windows are allowed"));
        }
        let mut first_group = 0;
        let mut windows = Vec::new();
        for window in &request.windows {
            windows.push(Self::of(window, first_group)?);
            first_group += window.groups;
        }
        Ok(windows)
    }

    fn of(window: &wire::Window, first_group: u32) -> Result<Self, ReadError> {
        let wire::Window { start, groups, runs } = window;
        let (start, groups) = (start.0, *groups);
        if groups > MAX_GROUPS {
            return Err(ReadError::Request("a window has too many groups"));
        }
        if runs.len() > MAX_RUNS {
            return Err(ReadError::Request("a window has too many runs"));
        }
        let mut length = 0_u64;
        for run in runs {
            if run.parts == 0 || run.quarters == 0 {
                return Err(ReadError::Request("a run has no parts, or parts of no length"));
            }
            if run.group.is_some_and(|group| group >= groups) {
                return Err(ReadError::Request("a run begins with a group that there is not"));
            }
            // Neither the product of two numbers of 32 bits nor the sum of few of them overflows.
            length = length.saturating_add(u64::from(run.parts) * u64::from(run.quarters));
        }
        if length > u64::from(MAX_WINDOW_QUARTERS) {
            return Err(ReadError::Request("a window is too long"));
        }
        let end = u64::from(start) + length;
        let (Ok(end), true) = (u32::try_from(end), end <= END_OF_DAYS) else {
            return Err(ReadError::Request("a window ends after all days that can be stored"));
        };
        let mut built = Self {
            start,
            end,
            parts: Vec::new(),
            part_of_quarter: Vec::with_capacity(usize::try_from(length).unwrap_or_default()),
            repeats: false,
        };
        let mut seen = vec![false; usize::try_from(groups).unwrap_or_default()];
        let mut at = start;
        for run in runs {
            let mut group = run.group;
            for _ in 0..run.parts {
                at += run.quarters;
                let part = u32::try_from(built.parts.len()).unwrap_or(u32::MAX);
                built.parts.push(Part { end: at, group: group.map(|group| first_group + group) });
                built.part_of_quarter.extend((0..run.quarters).map(|_| part));
                let place = group.and_then(|group| usize::try_from(group).ok());
                if let Some(seen) = place.and_then(|place| seen.get_mut(place)) {
                    built.repeats |= std::mem::replace(seen, true);
                }
                group = group.map(|group| (group + 1) % groups);
            }
        }
        Ok(built)
    }

    /// The number of the part that has a quarter; `None` outside the window.
    #[inline]
    pub(super) fn part_of(&self, quarter: u32) -> Option<u32> {
        let place = usize::try_from(quarter.checked_sub(self.start)?).ok()?;
        self.part_of_quarter.get(place).copied()
    }

    /// A part by its number; one that never ends if there is none.
    #[inline]
    pub(super) fn part(&self, number: u32) -> Part {
        let part = usize::try_from(number).ok().and_then(|number| self.parts.get(number));
        part.copied().unwrap_or(Part { end: u32::MAX, group: None })
    }

    /// The group of a quarter, in the window; `None` outside the window.
    pub(super) fn group_of(&self, quarter: u32) -> Option<Option<u32>> {
        Some(self.part(self.part_of(quarter)?).group)
    }
}
