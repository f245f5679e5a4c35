//! Everything that the buckets say, without their layout: for tests that compare it with a model.

use std::collections::BTreeMap;

use botstats_common::metric::TypeCode;
use botstats_common::quarter::{QUARTERS_PER_DAY, QUARTERS_PER_HOUR};
use botstats_common::split::{NO_NAME, OTHER_NAMES, Split};
use redb::ReadableTable;

use super::StoreError;
use super::packed::Packed;
use crate::fold::body::{BodyError, Counts, Hour, sample_of, section};
use crate::fold::bucket_key::{self, NAMES};
use crate::fold::metrics::{Field, Source, source};
use crate::fold::names_of_day::{NONE, NamesOfDay, OTHER};
use crate::fold::value_code::value_of;

/// The contents of all buckets, by (account, bot, channel).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Without pairs that have nothing.
    pub pairs: BTreeMap<(String, String, String), PairContents>,
}

/// What one (bot, channel) has. A quarter counts quarters of an hour since 1970, a code is that of
/// a metric; durations are in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PairContents {
    /// (quarter, code) -> (count, sum), of all metrics but returning and active users. No count is
    /// 0.
    pub sums: BTreeMap<(u32, u8), (u64, u64)>,
    /// The active quarters of each user and generation, ascending; the list is sorted.
    pub users: Vec<Vec<u32>>,
    /// (quarter, code, kept value) -> number of samples.
    pub samples: BTreeMap<(u32, u8, u64), u64>,
    /// (quarter, split, name, code) -> (count, sum).
    pub names: BTreeMap<(u32, &'static str, String, u8), (u64, u64)>,
    /// (quarter, split, name, code, kept value) -> number of samples.
    pub name_samples: BTreeMap<(u32, &'static str, String, u8, u64), u64>,
}

/// The hours of one pair and day, until the names of the day are known.
#[derive(Default)]
struct PairDay {
    day: u32,
    pair: u32,
    hours: Vec<(u8, Hour)>,
    names: NamesOfDay,
}

/// Reads the contents of all buckets. `path_of` gives account, bot and channel of a pair.
///
/// # Errors
/// If a bucket is damaged or belongs to no pair, or if the file cannot be read.
pub(crate) fn contents<T: ReadableTable<&'static [u8], &'static [u8]>>(
    buckets: &Packed<T>,
    path_of: impl Fn(u32) -> Option<(String, String, String)>,
) -> Result<Contents, StoreError> {
    let wrong = |reason| StoreError::value("buckets", reason);
    let mut pairs: BTreeMap<u32, (PairContents, BTreeMap<u32, Vec<u32>>)> = BTreeMap::new();
    let mut open = PairDay::default();
    let mut end = |open: &mut PairDay| {
        if !open.hours.is_empty() {
            let (contents, users) = pairs.entry(open.pair).or_default();
            add(open, contents, users)?;
        }
        open.hours.clear();
        open.names.clear();
        Ok::<_, StoreError>(())
    };
    buckets.scan_all(|group, key, body| {
        let of_group = bucket_key::of_group(group);
        let (Some((day, _)), Some((pair, slot))) = (of_group, bucket_key::of_item(key)) else {
            return Err(wrong("a key is malformed"));
        };
        if (open.day, open.pair) != (day, pair) {
            end(&mut open)?;
            (open.day, open.pair) = (day, pair);
        }
        match slot {
            NAMES => open.names.load(Some(body))?,
            _ => open.hours.push((slot, Hour::decode(body)?)),
        }
        Ok(())
    })?;
    end(&mut open)?;
    let mut contents = Contents::default();
    for (pair, (mut of_pair, users)) in pairs {
        of_pair.users = users.into_values().collect();
        of_pair.users.sort_unstable();
        let path = path_of(pair).ok_or_else(|| wrong("a pair is not known"))?;
        if of_pair != PairContents::default() {
            contents.pairs.insert(path, of_pair);
        }
    }
    Ok(contents)
}

fn add(
    open: &PairDay,
    contents: &mut PairContents,
    users: &mut BTreeMap<u32, Vec<u32>>,
) -> Result<(), StoreError> {
    for (slot, hour) in &open.hours {
        let first = open.day * QUARTERS_PER_DAY + u32::from(*slot) * QUARTERS_PER_HOUR;
        for (quarter, totals) in (first..).zip(&hour.sums) {
            for code in TypeCode::ALL {
                let of_code = totals.samples(code, 0);
                if of_code.count != 0 && code != TypeCode::ReturningUser {
                    let sums = (of_code.count, of_code.sum);
                    contents.sums.insert((quarter, code.number()), sums);
                }
            }
        }
        for (ordinal, mask) in &hour.users {
            let quarters = (0..QUARTERS_PER_HOUR).filter(|quarter| mask >> quarter & 1 != 0);
            let of_user = users.entry(*ordinal).or_default();
            of_user.extend(quarters.map(|quarter| first + quarter));
        }
        for (cell, count) in &hour.samples {
            let (metric, code, quarter) = sample_of(*cell).ok_or(BodyError::Damaged)?;
            let key = (first + u32::from(quarter), metric.number(), value_of(code));
            *contents.samples.entry(key).or_default() += count;
        }
        for (section, cell, count) in &hour.named {
            let (split, is_samples) = section::split(*section).ok_or(BodyError::Damaged)?;
            let (index, cell) = section::index_of(split, is_samples, *cell);
            let index = u32::try_from(index).map_err(|_| BodyError::Damaged)?;
            let name = match index {
                NONE => NO_NAME,
                OTHER => OTHER_NAMES,
                _ => open.names.name(split, index).ok_or(BodyError::Damaged)?,
            };
            let counts = section::counts(split, is_samples, cell).ok_or(BodyError::Damaged)?;
            let (name, split_name) = (name.to_owned(), split.name());
            match counts {
                (Counts::Sample(metric, code), quarter) => {
                    let quarter = first + u32::from(quarter);
                    let key = (quarter, split_name, name, metric.number(), value_of(code));
                    *contents.name_samples.entry(key).or_default() += count;
                }
                (Counts::Field(field), quarter) => {
                    let (code, is_count, is_sum) = fed(split, field).ok_or(BodyError::Damaged)?;
                    let key = (first + u32::from(quarter), split_name, name, code.number());
                    let sums = contents.names.entry(key).or_default();
                    sums.0 += if is_count { *count } else { 0 };
                    sums.1 += if is_sum { *count } else { 0 };
                }
            }
        }
    }
    Ok(())
}

/// The metric of a split that a field feeds, and if it is the metric's count and its sum.
fn fed(split: Split, field: Field) -> Option<(TypeCode, bool, bool)> {
    split.codes().iter().find_map(|code| match source(*code) {
        Source::Count(count) => (count == field).then_some((*code, true, true)),
        Source::Pair { count, .. } if count == field => Some((*code, true, false)),
        Source::Pair { sum, .. } if sum == field => Some((*code, false, true)),
        _ => None,
    })
}
