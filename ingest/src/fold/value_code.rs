//! Durations kept to three significant digits, as numbers that order as the durations do.
//!
//! *Format* of a code: a duration below 1,000 ms is its own code. Any other is rounded half up to
//! `m * 10^e` ms with m from 100 to 999, and its code is `1000 + (e - 1) * 900 + (m - 100)`.
//!
//! *Why*: a percentile needs the values of all samples; with three digits most of them are equal.

/// Bits that hold any code.
pub(crate) const CODE_BITS: u32 = 14;

/// Codes below this one are milliseconds.
const EXACT: u64 = 1000;
/// Values of three digits.
const VALUES: u64 = 900;
/// The least value of three digits.
const LEAST: u64 = 100;

/// The code of a duration in milliseconds.
pub(crate) fn code_of(ms: u64) -> u16 {
    if ms < EXACT {
        return u16::try_from(ms).unwrap_or_default();
    }
    let mut exponent = 1;
    let mut unit = 10;
    while ms / unit >= EXACT {
        exponent += 1;
        unit *= 10;
    }
    let digits = ms / unit + u64::from(ms % unit >= unit / 2);
    // 999.5 becomes 1,000, whose code is that of 100 in the next power of ten.
    let code = EXACT + (exponent - 1) * VALUES + (digits - LEAST);
    u16::try_from(code).unwrap_or(u16::MAX)
}

/// The duration that a code stands for, in milliseconds; the largest number if it does not fit.
pub(crate) fn value_of(code: u16) -> u64 {
    let code = u64::from(code);
    let Some(above) = code.checked_sub(EXACT) else { return code };
    let power = u32::try_from(above / VALUES + 1).unwrap_or(u32::MAX);
    10_u64
        .checked_pow(power)
        .and_then(|unit| unit.checked_mul(above % VALUES + LEAST))
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds as `docs/metrics.md` says: three significant digits, half up.
    fn kept(ms: u64) -> u128 {
        let ms = u128::from(ms);
        let digits = ms.to_string().len();
        if digits <= 3 {
            return ms;
        }
        let unit = 10_u128.pow(u32::try_from(digits - 3).unwrap());
        (ms + unit / 2) / unit * unit
    }

    fn check(ms: u64) {
        assert_eq!(u128::from(value_of(code_of(ms))), kept(ms), "{ms}");
    }

    #[test]
    fn codes_as_cases() {
        for (ms, code, value) in [
            (0, 0, 0),
            (999, 999, 999),
            (1_000, 1_000, 1_000),
            (1_004, 1_000, 1_000),
            (1_005, 1_001, 1_010),
            (9_994, 1_899, 9_990),
            (9_995, 1_900, 10_000),
            (99_949, 2_799, 99_900),
            (99_950, 2_800, 100_000),
            (86_400_000, 5_364, 86_400_000),
        ] {
            assert_eq!((code_of(ms), value_of(code)), (code, value), "{ms}");
        }
    }

    #[test]
    fn every_duration_up_to_twenty_minutes_and_the_borders_beyond() {
        (0..1_200_000).for_each(check);
        for exponent in 4..19 {
            for digits in 100..=1_000 {
                let value: u64 = digits * 10_u64.pow(exponent - 2);
                let half = 5 * 10_u64.pow(exponent - 3);
                for near in [value, value - half, value - half - 1, value - half + 1] {
                    check(near);
                }
            }
        }
    }

    #[test]
    fn codes_order_like_their_values() {
        let last = code_of(u64::MAX);
        assert!(u32::from(last) < 1 << CODE_BITS);
        assert!((0..last).all(|code| value_of(code) < value_of(code + 1)));
        assert!((0..last).all(|code| code_of(value_of(code)) == code));
        (0..=u16::MAX).for_each(|code| assert!(value_of(code) > 0 || code == 0));
    }
}
