//! The numbers of a row, exact: from integers, rounded half up, written in their shortest form.

use botstats_common::metric::Kind;

/// A number with a fixed number of decimals, as an integer of its smallest unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    units: u128,
    decimals: u32,
}

impl Decimal {
    /// A whole number.
    #[must_use]
    pub fn whole(number: u64) -> Self {
        Self { units: number.into(), decimals: 0 }
    }

    /// `numerator / denominator` of some unit, rounded half up to whole ones; 10^`decimals` of them
    /// make 1. Nothing for a denominator of 0.
    fn divided(numerator: u128, denominator: u64, decimals: u32) -> Option<Self> {
        let denominator = u128::from(denominator);
        let units = (2 * numerator + denominator).checked_div(2 * denominator)?;
        Some(Self { units, decimals })
    }

    /// Writes it without trailing zeros and without an exponent.
    pub fn write(self, to: &mut Vec<u8>) {
        let unit = 10_u128.pow(self.decimals);
        to.extend_from_slice((self.units / unit).to_string().as_bytes());
        let rest = self.units % unit;
        if rest != 0 {
            let width = usize::try_from(self.decimals).unwrap_or_default();
            let digits = format!("{rest:0width$}");
            to.push(b'.');
            to.extend_from_slice(digits.trim_end_matches('0').as_bytes());
        }
    }
}

/// `Value`, `Count` and `Sum` of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    /// The number to read; absent for a mean or ratio of nothing.
    pub value: Option<Decimal>,
    /// How many samples.
    pub count: u64,
    /// Their sum; of durations in seconds.
    pub sum: Decimal,
}

impl Value {
    /// The numbers of `count` samples whose sum, as the wire has it, is `sum`.
    #[must_use]
    pub fn of(kind: Kind, count: u64, sum: u64) -> Self {
        let (value, shown_sum) = match kind {
            Kind::Users | Kind::Count => (Some(Decimal::whole(count)), Decimal::whole(count)),
            Kind::Mean => {
                (Decimal::divided(sum.into(), count, 3), Decimal { units: sum.into(), decimals: 3 })
            }
            Kind::Ratio => {
                (Decimal::divided(u128::from(sum) * 10_000, count, 2), Decimal::whole(sum))
            }
        };
        Self { value, count, sum: shown_sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: Decimal) -> String {
        let mut bytes = Vec::new();
        number.write(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    fn check(kind: Kind, count: u64, sum: u64, value: Option<&str>, shown_sum: &str) {
        let got = Value::of(kind, count, sum);
        let case = format!("{kind:?} {count} {sum}");
        assert_eq!(got.value.map(text).as_deref(), value, "{case}");
        assert_eq!((got.count, text(got.sum).as_str()), (count, shown_sum), "{case}");
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
        check(Kind::Mean, 0, 0, None, "0");
        check(Kind::Mean, 1, 420_000, Some("420"), "420");
        check(Kind::Mean, 2, 150_000, Some("75"), "150");
        check(Kind::Mean, 2, 1, Some("0.001"), "0.001");
        check(Kind::Mean, 3, 1, Some("0"), "0.001");
        check(Kind::Mean, 2, 1_001, Some("0.501"), "1.001");
        check(Kind::Mean, 3, 10_000, Some("3.333"), "10");
        check(Kind::Mean, 3, 20_000, Some("6.667"), "20");
        check(Kind::Mean, 1, 500, Some("0.5"), "0.5");
        check(Kind::Mean, 1, 50, Some("0.05"), "0.05");
        check(Kind::Mean, u64::MAX, u64::MAX, Some("0.001"), "18446744073709551.615");
        check(Kind::Ratio, 0, 0, None, "0");
        check(Kind::Ratio, 3, 1, Some("33.33"), "1");
        check(Kind::Ratio, 3, 2, Some("66.67"), "2");
        check(Kind::Ratio, 8, 1, Some("12.5"), "1");
        check(Kind::Ratio, 800, 1, Some("0.13"), "1");
        check(Kind::Ratio, 3, 0, Some("0"), "0");
        check(Kind::Ratio, u64::MAX, u64::MAX, Some("100"), "18446744073709551615");
    }
}
