//! The numbers of a row, exact: from integers, rounded half up, written in their shortest form.

use botstats_common::metric::Kind;
use botstats_common::stat::Stat;

/// A number with a fixed number of decimals, as an integer of its smallest unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    units: u128,
    decimals: u32,
}

impl Decimal {
    pub(super) fn whole(number: u64) -> Self {
        Self { units: number.into(), decimals: 0 }
    }

    /// What a stat of `count` durations says; `number` is what the wire has for it.
    pub(super) fn of_stat(stat: Stat, number: u64, count: u64) -> Option<Self> {
        match stat {
            Stat::Percentile(_) | Stat::Min | Stat::Max => {
                Some(Self { units: number.into(), decimals: 3 })
            }
            Stat::Within(_) => Self::percentage(number, count),
        }
    }

    /// The part of the whole in percent.
    fn percentage(part: u64, whole: u64) -> Option<Self> {
        Self::divided(u128::from(part) * 10_000, whole, 2)
    }

    /// `numerator / denominator` in units of 10^-`decimals`, rounded half up to whole units. `None`
    /// for a denominator of 0.
    fn divided(numerator: u128, denominator: u64, decimals: u32) -> Option<Self> {
        let small = |numerator: u128| {
            let twice = u64::try_from(numerator).ok()?.checked_mul(2)?.checked_add(denominator)?;
            twice.checked_div(denominator.checked_mul(2)?)
        };
        let units = match small(numerator) {
            Some(units) => units.into(),
            None => {
                let denominator = u128::from(denominator);
                (2 * numerator + denominator).checked_div(2 * denominator)?
            }
        };
        Some(Self { units, decimals })
    }

    /// Writes the number without trailing zeros and without an exponent.
    #[inline]
    pub(super) fn write(self, to: &mut Vec<u8>) {
        match u64::try_from(self.units) {
            Ok(whole) if self.decimals == 0 => write_whole(whole, to),
            Ok(units) => {
                let unit = 10_u64.pow(self.decimals);
                write_whole(units / unit, to);
                write_decimals(units % unit, self.decimals, to);
            }
            Err(_) => self.write_large(to),
        }
    }

    #[cold]
    fn write_large(self, to: &mut Vec<u8>) {
        let unit = 10_u128.pow(self.decimals);
        to.extend_from_slice(itoa::Buffer::new().format(self.units / unit).as_bytes());
        let rest = u64::try_from(self.units % unit).unwrap_or_default();
        write_decimals(rest, self.decimals, to);
    }
}

/// Writes a point and the `decimals` digits of `rest`, without the zeros at their end.
fn write_decimals(rest: u64, decimals: u32, to: &mut Vec<u8>) {
    if rest == 0 {
        return;
    }
    // The digit before the decimals keeps their leading zeros; the point takes its place.
    let unit = 10_u64.pow(decimals);
    let point = to.len();
    write_whole(unit + rest, to);
    if let Some(digit) = to.get_mut(point) {
        *digit = b'.';
    }
    while to.last() == Some(&b'0') {
        to.pop();
    }
}

/// Writes a whole number.
#[inline]
pub(super) fn write_whole(number: u64, to: &mut Vec<u8>) {
    // Most counts of an hour have one digit.
    if number < 10 {
        to.push(b'0' + number.to_le_bytes()[0]);
        return;
    }
    to.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// `Value`, `Count` and `Sum` of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    /// The number to read; absent for a mean or ratio of no samples.
    pub(super) value: Option<Decimal>,
    /// The number of samples.
    pub(super) count: u64,
    /// The sum of the samples; of durations in seconds.
    pub(super) sum: Decimal,
}

impl Value {
    /// The numbers of `count` samples whose sum, as the wire has it, is `sum`.
    pub(super) fn of(kind: Kind, count: u64, sum: u64) -> Self {
        let (value, shown_sum) = match kind {
            Kind::Users | Kind::Count => (Some(Decimal::whole(count)), Decimal::whole(count)),
            Kind::Mean { sum_decimals, .. } => {
                let thousandths = u128::from(sum) * 10_u128.pow(3 - sum_decimals);
                let shown_sum = Decimal { units: sum.into(), decimals: sum_decimals };
                (Decimal::divided(thousandths, count, 3), shown_sum)
            }
            Kind::Ratio => (Decimal::percentage(sum, count), Decimal::whole(sum)),
        };
        Self { value, count, sum: shown_sum }
    }

    /// The average of an hour of the week that occurred so often, with `sum` users or events in
    /// all.
    pub(super) fn average(occurrences: u64, sum: u64) -> Self {
        Self {
            value: Decimal::divided(u128::from(sum) * 100, occurrences, 2),
            count: occurrences,
            sum: Decimal::whole(sum),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(number: Decimal) -> String {
        let mut bytes = Vec::new();
        number.write(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn averages_of_hours_of_the_week() {
        for (occurrences, sum, value) in [
            (0, 0, None),
            (4, 0, Some("0")),
            (4, 10, Some("2.5")),
            (3, 1, Some("0.33")),
            (3, 2, Some("0.67")),
            (8, 1, Some("0.13")),
            (1, u64::MAX, Some("18446744073709551615")),
        ] {
            let got = Value::average(occurrences, sum);
            assert_eq!(got.value.map(text).as_deref(), value, "{occurrences} {sum}");
            assert_eq!((got.count, text(got.sum)), (occurrences, sum.to_string()));
        }
    }

    #[test]
    fn stats_of_durations() {
        for (stat, number, count, shown) in [
            (Stat::Percentile(50), 1_500, 3, Some("1.5")),
            (Stat::Percentile(99), 0, 3, Some("0")),
            (Stat::Min, 999, 1, Some("0.999")),
            (Stat::Max, 86_400_000, 1, Some("86400")),
            (Stat::Within(30), 2, 3, Some("66.67")),
            (Stat::Within(30), 0, 3, Some("0")),
            (Stat::Within(30), 3, 3, Some("100")),
            (Stat::Within(30), 1, 800, Some("0.13")),
            (Stat::Within(30), 0, 0, None),
        ] {
            let got = Decimal::of_stat(stat, number, count).map(text);
            assert_eq!(got.as_deref(), shown, "{stat} {number} {count}");
        }
    }

    fn check(kind: Kind, count: u64, sum: u64, value: Option<&str>, shown_sum: &str) {
        let got = Value::of(kind, count, sum);
        let case = format!("{kind:?} {count} {sum}");
        assert_eq!(got.value.map(text).as_deref(), value, "{case}");
        assert_eq!((got.count, text(got.sum).as_str()), (count, shown_sum), "{case}");
    }

    proptest! {
        #[test]
        fn numbers_as_their_definition_says(units in numbers(), denominator in numbers()) {
            let plain = |units: u128, decimals: u32| {
                let unit = 10_u128.pow(decimals);
                let width = usize::try_from(decimals).unwrap();
                let digits = format!("{}.{:0width$}", units / unit, units % unit);
                digits.trim_end_matches('0').trim_end_matches('.').to_owned()
            };
            for decimals in 0..4 {
                let units = u128::from(units);
                let expected = if decimals == 0 { units.to_string() } else { plain(units, decimals) };
                prop_assert_eq!(text(Decimal { units, decimals }), expected);
                for numerator in [units, units * 10_000] {
                    let (n, d) = (numerator, u128::from(denominator));
                    let quotient = (2 * n + d).checked_div(2 * d);
                    let got = Decimal::divided(numerator, denominator, 3);
                    prop_assert_eq!(got.map(text), quotient.map(|units| plain(units, 3)));
                }
            }
        }
    }

    fn numbers() -> impl Strategy<Value = u64> {
        let near = |n: u64| (n.saturating_sub(20)..=n.saturating_add(20)).boxed();
        prop_oneof![near(0), near(1_000), near(u64::MAX / 10), near(u64::MAX), any::<u64>()]
    }

    #[test]
    fn values() {
        check(Kind::Users, 3, 3, Some("3"), "3");
        check(Kind::Count, 0, 0, Some("0"), "0");
        check(
            Kind::Count,
            u64::MAX,
            u64::MAX,
            Some("18446744073709551615"),
            "18446744073709551615",
        );
        check(Kind::DURATION, 0, 0, None, "0");
        check(Kind::DURATION, 1, 420_000, Some("420"), "420");
        check(Kind::DURATION, 2, 150_000, Some("75"), "150");
        check(Kind::DURATION, 2, 1, Some("0.001"), "0.001");
        check(Kind::DURATION, 3, 1, Some("0"), "0.001");
        check(Kind::DURATION, 2, 1_001, Some("0.501"), "1.001");
        check(Kind::DURATION, 3, 10_000, Some("3.333"), "10");
        check(Kind::DURATION, 3, 20_000, Some("6.667"), "20");
        check(Kind::DURATION, 1, 500, Some("0.5"), "0.5");
        check(Kind::DURATION, 1, 50, Some("0.05"), "0.05");
        check(Kind::DURATION, u64::MAX, u64::MAX, Some("0.001"), "18446744073709551.615");
        let of_whole = Kind::Mean { unit: "count", sum_decimals: 0 };
        check(of_whole, 3, 20, Some("6.667"), "20");
        check(of_whole, 1, u64::MAX, Some("18446744073709551615"), "18446744073709551615");
        check(Kind::Ratio, 0, 0, None, "0");
        check(Kind::Ratio, 3, 1, Some("33.33"), "1");
        check(Kind::Ratio, 3, 2, Some("66.67"), "2");
        check(Kind::Ratio, 8, 1, Some("12.5"), "1");
        check(Kind::Ratio, 800, 1, Some("0.13"), "1");
        check(Kind::Ratio, 3, 0, Some("0"), "0");
        check(Kind::Ratio, u64::MAX, u64::MAX, Some("100"), "18446744073709551615");
    }
}
