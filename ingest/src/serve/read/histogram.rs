//! How many durations of each kept value a cell has, and the stats made of them.

use botstats_common::metric::TypeCode;
use botstats_common::stat::Stat;
use botstats_common::varint;

use crate::fold::value_code::{CODE_BITS, value_of};

/// A number of samples by metric and value code; sorted now and then.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// ([`key`], number of samples).
    counts: Vec<(u32, u64)>,
    /// The number of keys at the start that are sorted and distinct.
    distinct: usize,
}

/// Metric and value code in one number, ordered as durations are within a metric.
fn key(metric: TypeCode, code: u16) -> u32 {
    u32::from(metric.number()) << CODE_BITS | u32::from(code)
}

impl Histogram {
    /// Up to this many keys are sorted only at the end. Few in the tests of this crate, so that
    /// small cases sort more often.
    const SMALL: usize = if cfg!(test) { 2 } else { 1024 };

    pub(super) fn push(&mut self, metric: TypeCode, code: u16, count: u64) {
        self.push_key(key(metric, code), count);
    }

    fn push_key(&mut self, key: u32, count: u64) {
        if self.distinct == self.counts.len()
            && self.counts.last().is_none_or(|(last, _)| *last < key)
        {
            self.distinct += 1;
        }
        self.counts.push((key, count));
    }

    /// Sorts if the list has doubled. To be called after each list of samples.
    pub(super) fn settle(&mut self) {
        if self.counts.len() > 2 * self.distinct.max(Self::SMALL) {
            self.sort();
        }
    }

    fn sort(&mut self) {
        if self.distinct < self.counts.len() {
            self.counts.sort_unstable_by_key(|(key, _)| *key);
            self.counts.dedup_by(|more, kept| {
                let is_same = more.0 == kept.0;
                if is_same {
                    // No store has that many samples.
                    kept.1 = kept.1.saturating_add(more.1);
                }
                is_same
            });
            self.distinct = self.counts.len();
        }
    }

    pub(super) fn clear(&mut self) {
        self.counts.clear();
        self.distinct = 0;
    }

    /// Appends everything, in a form for [`Histogram::add_written`]: of each key four bytes, then
    /// the number of its samples.
    pub(super) fn write(&mut self, to: &mut Vec<u8>) {
        self.sort();
        for (key, count) in &self.counts {
            to.extend_from_slice(&key.to_le_bytes());
            varint::write(to, *count);
        }
    }

    /// Adds what was written; `None` if these are no bytes of [`Histogram::write`].
    pub(super) fn add_written(&mut self, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            let (key, rest) = bytes.split_first_chunk()?;
            bytes = rest;
            self.push_key(u32::from_le_bytes(*key), varint::read(&mut bytes)?);
        }
        self.settle();
        Some(())
    }

    /// Appends a number for each stat of a metric's durations: milliseconds, for [`Stat::Within`]
    /// the number of samples. All are 0 where a metric has no samples, which only a bucket can have
    /// that has lost a part.
    pub(super) fn stats(&mut self, metric: TypeCode, stats: &[Stat], to: &mut Vec<u64>) {
        self.sort();
        let from = self.counts.partition_point(|(other, _)| *other < key(metric, 0));
        let after = (u32::from(metric.number()) + 1) << CODE_BITS;
        let to_key = self.counts.partition_point(|(other, _)| *other < after);
        let counts = self.counts.get(from..to_key).unwrap_or_default();
        to.extend(stats.iter().map(|stat| stat_of(*stat, counts)));
    }
}

/// A stat of samples in ascending order.
fn stat_of(stat: Stat, counts: &[(u32, u64)]) -> u64 {
    let value = |entry: Option<&(u32, u64)>| {
        let code = entry.map_or(0, |(key, _)| key & ((1 << CODE_BITS) - 1));
        value_of(u16::try_from(code).unwrap_or(u16::MAX))
    };
    match stat {
        Stat::Min => value(counts.first()),
        Stat::Max => value(counts.last()),
        Stat::Percentile(percent) => {
            let number: u128 = counts.iter().map(|(_, count)| u128::from(*count)).sum();
            let rank = (u128::from(percent) * number).div_ceil(100);
            let mut reached = 0;
            value(counts.iter().find(|(_, count)| {
                reached += u128::from(*count);
                reached >= rank
            }))
        }
        Stat::Within(seconds) => {
            let most = u64::from(seconds) * 1000;
            let within = counts.iter().take_while(|entry| value(Some(entry)) <= most);
            within.fold(0, |number: u64, (_, count)| number.saturating_add(*count))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::value_code::code_of;

    #[test]
    fn stats_as_cases() {
        const STATS: [Stat; 6] = [
            Stat::Percentile(1),
            Stat::Percentile(50),
            Stat::Percentile(99),
            Stat::Min,
            Stat::Max,
            Stat::Within(2),
        ];
        for (durations, expect) in [
            (&[][..], [0; 6]),
            (&[0], [0, 0, 0, 0, 0, 1]),
            (&[7], [7, 7, 7, 7, 7, 1]),
            (&[1, 2], [1, 1, 2, 1, 2, 2]),
            (&[3, 2, 1], [1, 2, 3, 1, 3, 3]),
            // Kept to three digits: 2,004 ms is 2,000 ms, 2,005 ms is 2,010 ms.
            (&[2_004, 2_005, 2_000, 1_999], [2_000, 2_000, 2_010, 2_000, 2_010, 3]),
            (&[86_400_000, 5], [5, 5, 86_400_000, 5, 86_400_000, 1]),
        ] {
            let mut histogram = Histogram::default();
            for ms in durations {
                histogram.push(TypeCode::BotReplyTime, code_of(*ms), 1);
                histogram.push(TypeCode::ConversationLength, code_of(1), 1);
                histogram.push(TypeCode::OperatorReplyTime, code_of(*ms), 2);
                histogram.settle();
            }
            let mut found = Vec::new();
            histogram.stats(TypeCode::BotReplyTime, &STATS, &mut found);
            assert_eq!(found, expect, "{durations:?}");
        }
    }

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        for number in 1..=250_u64 {
            let mut histogram = Histogram::default();
            (1..=number).rev().for_each(|ms| histogram.push(TypeCode::ApiTime, code_of(ms), 1));
            for percent in 1..=99_u8 {
                let mut found = Vec::new();
                histogram.stats(TypeCode::ApiTime, &[Stat::Percentile(percent)], &mut found);
                // The smallest n with n / number >= percent / 100.
                let rank = (1..=number).find(|n| n * 100 >= u64::from(percent) * number).unwrap();
                assert_eq!(found, [rank], "{percent} of {number}");
            }
        }
    }

    #[test]
    fn what_was_written_is_added() {
        let mut one = Histogram::default();
        one.push(TypeCode::ApiTime, 16_000, u64::MAX);
        one.push(TypeCode::ConversationLength, 0, 1);
        one.push(TypeCode::ApiTime, 3, 4);
        let mut bytes = Vec::new();
        one.write(&mut bytes);
        let mut both = Histogram::default();
        both.add_written(&bytes).unwrap();
        both.add_written(&bytes).unwrap();
        both.sort();
        let api = |code| key(TypeCode::ApiTime, code);
        let lengths = key(TypeCode::ConversationLength, 0);
        assert_eq!(both.counts, [(lengths, 2), (api(3), 8), (api(16_000), u64::MAX)]);
        bytes.push(0);
        assert_eq!(both.add_written(&bytes), None);
        assert_eq!(both.add_written(&[1, 0, 0, 0]), None);
    }
}
