//! When conversations begin: the day's rhythm as a table of hours.

use super::Spread;

/// Milliseconds in an hour.
const HOUR_MS: i64 = 60 * 60 * 1000;
/// The weight of each hour of the day, in UTC.
const HOURS: [u64; 24] =
    [4, 3, 2, 2, 2, 3, 6, 12, 22, 30, 34, 33, 28, 29, 31, 32, 30, 28, 30, 33, 30, 22, 14, 8];
/// The share of a weekend's day, in percent of a working day.
const WEEKEND_PERCENT: u64 = 60;
/// A place within a share, as `[0, PLACES)`.
const PLACES: u64 = 1 << 16;

/// The density of beginnings over a span of time.
#[derive(Debug)]
pub(super) struct Rhythm {
    start_ms: i64,
    /// Pieces of at most an hour: their end, and the weight of all up to there.
    pieces: Vec<(i64, u128)>,
}

impl Rhythm {
    pub(super) fn new(start_ms: i64, end_ms: i64, spread: Spread) -> Self {
        let mut pieces = Vec::new();
        let (mut from, mut total) = (start_ms, 0_u128);
        while from < end_ms {
            let to = ((from.div_euclid(HOUR_MS) + 1) * HOUR_MS).min(end_ms);
            let weight = match spread {
                Spread::Even => 1,
                Spread::DayAndNight => weight(from),
            };
            total += u128::from(weight) * u128::from((to - from).unsigned_abs());
            pieces.push((to, total));
            from = to;
        }
        Self { start_ms, pieces }
    }

    /// When number `number` of `count` begins, at `place` of [`PLACES`] within its share. Ascending
    /// in (number, place).
    pub(super) fn time(&self, number: u64, count: u64, place: u64) -> i64 {
        let Some((_, total)) = self.pieces.last() else { return self.start_ms };
        let share = u128::from(number) * u128::from(PLACES) + u128::from(place);
        let all = (u128::from(count) * u128::from(PLACES)).max(1);
        let weight = total * share / all;
        let piece = self.pieces.partition_point(|(_, until)| *until <= weight);
        let (from, before) = match piece.checked_sub(1) {
            Some(previous) => self.pieces[previous],
            None => (self.start_ms, 0),
        };
        let Some((to, until)) = self.pieces.get(piece).copied() else { return from };
        let length = u128::from((to - from).unsigned_abs());
        let within = (weight - before) * length / (until - before).max(1);
        from + i64::try_from(within).unwrap_or_default()
    }
}

fn weight(ms: i64) -> u64 {
    let hour = usize::try_from(ms.div_euclid(HOUR_MS).rem_euclid(24)).unwrap_or_default();
    // 1970-01-01 was a Thursday: days 2 and 3 of each week of seven are Saturday and Sunday.
    let weekend = matches!(ms.div_euclid(24 * HOUR_MS).rem_euclid(7), 2 | 3);
    HOURS[hour] * if weekend { WEEKEND_PERCENT } else { 100 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_ascend_and_stay_inside() {
        // 2026-11-20T12:30:00Z, a Friday.
        let end = 1_795_177_800_000;
        for spread in [Spread::DayAndNight, Spread::Even] {
            let rhythm = Rhythm::new(end - 3 * 24 * HOUR_MS, end, spread);
            let times: Vec<i64> = (0..500).map(|n| rhythm.time(n, 500, PLACES - 1)).collect();
            assert!(times.is_sorted());
            assert!(times[0] >= end - 3 * 24 * HOUR_MS && times[499] < end);
        }
    }

    #[test]
    fn days_are_busier_than_nights() {
        // Wednesday, 2026-11-18, whole.
        let start = 1_794_960_000_000;
        let rhythm = Rhythm::new(start, start + 24 * HOUR_MS, Spread::DayAndNight);
        let in_hours = |from: i64, to: i64| {
            (0..10_000)
                .map(|n| (rhythm.time(n, 10_000, 0) - start) / HOUR_MS)
                .filter(|hour| (from..to).contains(hour))
                .count()
        };
        assert!(in_hours(0, 6) * 5 < in_hours(9, 15));
        assert!(weight(start) > weight(start + 3 * 24 * HOUR_MS), "Wednesday over Saturday");
    }
}
