//! RFC 3339, as its grammar has it.

/// RFC 3339 to Unix milliseconds; further digits are cut off. A leap second, which only 23:59 UTC
/// can have, counts as the second before it.
pub fn parse_time_ms(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let digits = |from: usize, to: usize| -> Option<i64> {
        let part = bytes.get(from..to)?;
        part.iter()
            .all(u8::is_ascii_digit)
            .then(|| part.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
    };
    let mark =
        |at: usize, allowed: &[u8]| bytes.get(at).filter(|b| allowed.contains(b)).map(|_| ());

    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
    for (at, allowed) in [(4, &b"-"[..]), (7, b"-"), (10, b"Tt"), (13, b":"), (16, b":")] {
        mark(at, allowed)?;
    }
    let small = |number: i64| i8::try_from(number).ok();
    let date =
        jiff::civil::Date::new(i16::try_from(year).ok()?, small(month)?, small(day)?).ok()?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }

    let mut at = 19;
    let mut fraction_ms = 0;
    if bytes.get(at) == Some(&b'.') {
        let start = at + 1;
        at = start + bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count();
        if at == start {
            return None;
        }
        for place in start..start + 3 {
            fraction_ms = fraction_ms * 10 + if place < at { digits(place, place + 1)? } else { 0 };
        }
    }

    let (offset_minutes, end) = match bytes.get(at)? {
        b'Z' | b'z' => (0, at + 1),
        sign @ (b'+' | b'-') => {
            let (hours, minutes) = (digits(at + 1, at + 3)?, digits(at + 4, at + 6)?);
            mark(at + 3, b":")?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            let total = hours * 60 + minutes;
            (if *sign == b'-' { -total } else { total }, at + 6)
        }
        _ => return None,
    };
    if end != bytes.len() {
        return None;
    }

    let minute_of_day = (hour * 60 + minute - offset_minutes).rem_euclid(24 * 60);
    if second == 60 && minute_of_day != 23 * 60 + 59 {
        return None;
    }

    let epoch = jiff::civil::date(1970, 1, 1);
    let days = i64::from((date - epoch).get_days());
    let seconds = (days * 24 + hour) * 3_600 + (minute - offset_minutes) * 60 + second.min(59);
    Some(seconds * 1_000 + fraction_ms)
}
