//! Reads time zone names in any letter case, and suggests near ones.

use botstats_common::directory::{EntryError, time_zone};
use botstats_common::zones;

/// The most names that are suggested.
const MAX_SUGGESTIONS: usize = 3;
/// The most edits between a text and a name that is suggested for it.
const NEAR: usize = 3;

/// Reads a time zone name in any letter case.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    match time_zone(text) {
        Ok(zone) => Ok(zone.iana_name().unwrap_or(text).to_owned()),
        Err(error) => {
            let none = matches!(error, EntryError::NoPlace(_));
            let near = if none { Vec::new() } else { near(text) };
            let hint = if let Some(hours) = offset_hours(text) {
                // The names of fixed offsets have the sign of POSIX.
                format!(
                    "a place such as Europe/Rome knows its summer time; \
                     Etc/GMT{:+} is always UTC{hours:+03}:00",
                    -hours
                )
            } else if near.is_empty() {
                "an IANA name such as Europe/Rome or UTC is needed".to_owned()
            } else {
                format!("did you mean {}?", near.join(" or "))
            };
            Err(format!("{error}; {hint}"))
        }
    }
}

/// The whole hours from UTC that a text such as `GMT+1`, `UTC-05:00` or `+2` means, if a zone has
/// them.
fn offset_hours(text: &str) -> Option<i32> {
    let lower = text.to_ascii_lowercase();
    let number = ["utc", "gmt"].iter().find_map(|name| lower.strip_prefix(name)).unwrap_or(&lower);
    let number = number.trim_start();
    let number = number.strip_suffix(":00").unwrap_or(number);
    let hours: i32 = number.starts_with(['+', '-']).then(|| number.parse().ok())??;
    (-14..=12).contains(&-hours).then_some(hours)
}

/// The known names nearest to a text, nearest first.
fn near(text: &str) -> Vec<String> {
    let text = text.to_lowercase().replace(' ', "_");
    let mut found: Vec<(usize, String)> = zones::names()
        .into_iter()
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let city = lower.rsplit('/').next().unwrap_or(&lower);
            let edits = distance(&text, &lower).min(distance(&text, city));
            // A short text is near to everything within a few edits.
            (edits <= NEAR.min(text.chars().count() / 3)).then_some((edits, name))
        })
        .collect();
    found.sort();
    found.into_iter().take(MAX_SUGGESTIONS).map(|(_, name)| name).collect()
}

/// Levenshtein's distance: insertions, deletions and replacements of one character.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, edits) in [
            ("", "", 0),
            ("", "abc", 3),
            ("rome", "rome", 0),
            ("roem", "rome", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(parse("europe/rome").as_deref(), Ok("Europe/Rome"));
        assert_eq!(parse("UTC").as_deref(), Ok("UTC"));
        for (typed, meant) in [
            ("Europe/Rom", "Europe/Rome"),
            ("rome", "Europe/Rome"),
            ("New York", "America/New_York"),
            ("America/New-York", "America/New_York"),
        ] {
            let error = parse(typed).unwrap_err();
            assert!(error.contains("did you mean") && error.contains(meant), "{error}");
        }
        assert!(parse("Mars/Olympus_Mons").unwrap_err().contains("such as"));
        for name in ["Factory", "factory", "Etc/Unknown", "localtime", "posix/Europe/Rome"] {
            let error = parse(name).unwrap_err();
            assert!(error.contains("no place's") && error.contains("such as"), "{error}");
        }
        for (typed, meant) in [
            ("GMT+1", "Etc/GMT-1 is always UTC+01:00"),
            ("utc -5", "Etc/GMT+5 is always UTC-05:00"),
            ("+02:00", "Etc/GMT-2 is always UTC+02:00"),
            ("UTC+14", "Etc/GMT-14 is always UTC+14:00"),
        ] {
            let error = parse(typed).unwrap_err();
            assert!(error.contains(meant), "{error}");
        }
        assert!(!parse("UTC+15").unwrap_err().contains("always"));
        for name in ["Etc/GMT+5", "EST5EDT", "GMT", "GMT+0"] {
            assert!(parse(name).is_ok(), "{name}");
        }
    }
}
