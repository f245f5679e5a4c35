//! Timestamps as RFC 3339 section 5.6 writes them, to the millisecond.
//!
//! *Why* not a library's reader: those at hand take more than the grammar (a space for the `T`,
//! zone names, missing seconds), and what is accepted must not change with a library's version.

use crate::quarter::DAY_MS;

/// Unix milliseconds (floor) of an RFC 3339 `date-time`; `None` if the text is not one. A leap
/// second (`:60`, only where one can be: 23:59 UTC) counts as the second before it.
#[must_use]
pub fn parse_ms(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (date_time, rest) = bytes.split_at_checked(19)?;
    let number = |from: usize, to: usize| digits(&date_time[from..to]);
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, sign)| date_time[at] != sign)
        || !date_time[10].eq_ignore_ascii_case(&b'T')
    {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days_from_civil(year, month, day)?;
    let (fraction_ms, zone) = fraction(rest)?;
    let offset_minutes = offset(zone)?;
    let minutes = hour * 60 + minute - offset_minutes;
    if second == 60 && minutes.rem_euclid(24 * 60) != 23 * 60 + 59 {
        return None;
    }
    Some(days * DAY_MS + minutes * 60_000 + second.min(59) * 1_000 + fraction_ms)
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = rest.strip_prefix(b".") else { return Some((0, rest)) };
    let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let ms = (0..3).fold(0, |ms, i| {
        let digit = if i < count { i64::from(digits[i] - b'0') } else { 0 };
        ms * 10 + digit
    });
    (count > 0).then(|| (ms, &digits[count..]))
}

fn offset(zone: &[u8]) -> Option<i64> {
    match zone {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            let total = hours * 60 + minutes;
            (hours <= 23 && minutes <= 59).then_some(if *sign == b'-' { -total } else { total })
        }
        _ => None,
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar; `None` if there is no such date.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if !(1..=in_month).contains(&day) {
        return None;
    }
    // Years are counted from March, so that the leap day is the last of one.
    let shifted = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    Some(
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468,
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_grammar() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-20T10:52:00Z", Some(1_795_171_920_000)),
            ("2026-11-20T10:52:00.0009Z", Some(1_795_171_920_000)),
            ("2026-11-20t10:52:00.1234567890123z", Some(1_795_171_920_123)),
            ("2026-11-20T12:52:00+02:00", Some(1_795_171_920_000)),
            ("2026-11-20T05:22:00-05:30", Some(1_795_171_920_000)),
            ("2026-11-20T10:52:00-00:00", Some(1_795_171_920_000)),
            ("2026-11-20T10:52:00.5Z", Some(1_795_171_920_500)),
            ("2026-11-20T10:52:00.999999Z", Some(1_795_171_920_999)),
            ("1969-12-31T23:59:59.999Z", Some(-1)),
            ("1969-12-31T23:59:59.9995Z", Some(-1)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800_000)),
            ("2016-12-31T23:59:60Z", Some(1_483_228_799_000)),
            ("2017-01-01T01:59:60.5+02:00", Some(1_483_228_799_500)),
            ("2016-12-31T22:59:60Z", None),
            ("2023-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("2026-11-31T00:00:00Z", None),
            ("2026-02-30T10:00:00Z", None),
            ("2026-11-20T24:00:00Z", None),
            ("2026-11-20T25:00:00Z", None),
            ("2026-11-20 10:52:00Z", None),
            ("2026-11-20T10:52:00", None),
            ("2026-11-20T10:52Z", None),
            ("2026-11-20T10:52:00.Z", None),
            ("2026-11-20T10:52:00,5Z", None),
            ("2026-11-20T10:52:00+0200", None),
            ("2026-11-20T10:52:00+24:00", None),
            ("2026-11-20T10:52:00Z ", None),
            (" 2026-11-20T10:52:00Z", None),
            ("+026-11-20T10:52:00Z", None),
            ("2026-11-20T10:52:00Z[UTC]", None),
            ("2026-11-20T11:52:00+01:00[Europe/Rome]", None),
            ("2026-11-20T10:52:0é", None),
            ("20261120T105200Z", None),
            ("2026-11-20", None),
            ("soon", None),
            ("", None),
            ("é026-11-20T10:52:00Z", None),
        ] {
            assert_eq!(parse_ms(text), ms, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_jiff(ms in -62_135_596_800_000_i64..253_402_207_200_000, offset in -23_i8..=23) {
            let zoned = jiff::Timestamp::from_millisecond(ms).unwrap()
                .to_zoned(jiff::tz::Offset::constant(offset).to_time_zone());
            // RFC 3339 has years of four digits only.
            prop_assume!((0..=9999).contains(&zoned.year()));
            let text = zoned.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string();
            prop_assert_eq!(parse_ms(&text), Some(ms), "{}", text);
        }

        #[test]
        fn never_panics(text in "\\PC{0,40}") {
            let _any = parse_ms(&text);
        }
    }
}
