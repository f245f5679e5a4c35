//! Time zone data from a folder, such as `/usr/share/zoneinfo`, for use when they are newer than
//! the built-in data.
//!
//! *Invariants*: the whole folder is read once, at the start. So a file that is replaced later
//! can't change the groups of an account between two calls.

use std::fs;
use std::path::Path;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::zones::{self, Zones};

/// The most levels of folders that are read: `America/Argentina/Buenos_Aires` has three.
const MAX_DEPTH: usize = 3;
/// The most zones that are read from a folder; the IANA data have about 600 names.
const MAX_ZONES: usize = 5_000;
/// The largest file of a zone that is read, in bytes; files of the IANA data stay below 4,000.
const MAX_ZONE_BYTES: u64 = 64 * 1024;
/// The first bytes of a zone's file (RFC 9636, section 3.1).
const MAGIC: &[u8] = b"TZif";
/// The file that names the release in its first line: `# version 2026a`.
const RELEASE_FILE: &str = "tzdata.zi";
/// The range `[start, end)`, in Unix seconds, in which the offset of a zone must be a multiple of a
/// quarter of an hour: 2000 to 2037. It ends there because many files have a change without effect
/// at the last second of 32 bits, in January 2038.
const CHECKED_S: [i64; 2] = [946_684_800, 2_145_916_800];
const MINUTE_S: i64 = 60;
const QUARTER_S: i32 = 15 * 60;

/// Where time zones come from.
#[derive(Debug, Clone, Args)]
pub struct ZoneSettings {
    /// Folder of time zone data (TZif files, such as /usr/share/zoneinfo) to take instead of those
    /// built in; read once, at the start
    #[arg(long, env = "BOTSTATS_ZONEINFO", value_name = "DIR", value_parser = folder, global = true)]
    pub zoneinfo: Option<Zones>,
}

impl ZoneSettings {
    /// Makes the program use these zones.
    pub fn start(&self) {
        let Some(zones) = &self.zoneinfo else { return };
        zones::prefer(zones.clone());
        let (release, built_in) = (zones::release(), zones::built_in_release());
        let count = zones.by_name.len();
        tracing::info!(release, count, "time zones come from the folder of BOTSTATS_ZONEINFO");
        if zones.release.as_deref().is_some_and(|release| release < built_in) {
            tracing::warn!(
                "the time zones of BOTSTATS_ZONEINFO are older ({release}) than those built in \
                 ({built_in})"
            );
        }
    }
}

/// Reads a folder of zones.
///
/// # Errors
/// Says what is wrong with it.
pub fn folder(text: &str) -> Result<Zones, String> {
    let folder = Path::new(text);
    let mut zones = Zones::default();
    collect(folder, "", 1, &mut zones)?;
    if zones.by_name.is_empty() {
        return Err("a folder with time zone files (TZif), such as /usr/share/zoneinfo".to_owned());
    }
    zones.release = fs::read_to_string(folder.join(RELEASE_FILE)).ok().and_then(|text| {
        let release = text.lines().next()?.strip_prefix("# version ")?;
        release.bytes().all(|b| b.is_ascii_alphanumeric()).then(|| release.to_owned())
    });
    Ok(zones)
}

fn collect(folder: &Path, prefix: &str, depth: usize, zones: &mut Zones) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let entry = entry.map_err(|error| format!("{}: {error}", folder.display()))?;
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else { continue };
        let name = format!("{prefix}{name}");
        // Links are followed: a mounted folder may hold only links. A link that leads nowhere is
        // skipped.
        let Ok(about) = fs::metadata(&path) else { continue };
        if !zones::is_place(&name) {
            continue;
        }
        if about.is_dir() && depth < MAX_DEPTH {
            collect(&path, &format!("{name}/"), depth + 1, zones)?;
        }
        if about.is_file() && about.len() <= MAX_ZONE_BYTES {
            let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            if bytes.starts_with(MAGIC) {
                let zone =
                    zone(&name, &bytes).map_err(|why| format!("{}: {why}", path.display()))?;
                zones.by_name.insert(name.to_ascii_lowercase(), zone);
            }
        }
        if zones.by_name.len() > MAX_ZONES {
            return Err(format!("more than {MAX_ZONES} time zones"));
        }
    }
    Ok(())
}

/// Parses a zone's file. Refuses a zone whose offset is not a multiple of a quarter of an hour:
/// statistics are stored by quarter.
fn zone(name: &str, bytes: &[u8]) -> Result<TimeZone, String> {
    let zone = TimeZone::tzif(name, bytes).map_err(|error| error.to_string())?;
    let [from, to] = CHECKED_S;
    let from = Timestamp::from_second(from).map_err(|error| error.to_string())?;
    let changes = zones::changes_after(&zone, from).take_while(|(at_s, _)| *at_s < to);
    let at_first = (from.as_second(), zone.to_offset(from).seconds());
    for (at_s, offset_s) in std::iter::once(at_first).chain(changes) {
        if at_s % MINUTE_S != 0 {
            return Err(
                "it counts leap seconds; take a folder whose zones do not (not right/)".to_owned()
            );
        }
        if offset_s % QUARTER_S != 0 {
            return Err("its offset from UTC is not a multiple of 15 minutes".to_owned());
        }
    }
    Ok(zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A zone of one offset that begins at a moment, as a TZif file of version 2 has it.
    fn tzif(offset_s: i32, begins_s: i64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for time_bytes in [4_usize, 8] {
            bytes.extend(MAGIC);
            bytes.push(b'2');
            bytes.extend([0; 15]);
            // Numbers of UT and standard indicators, leap seconds, times, types, letters.
            for count in [0_u32, 0, 0, 1, 2, 4] {
                bytes.extend(count.to_be_bytes());
            }
            bytes.extend(&begins_s.to_be_bytes()[8 - time_bytes..]);
            bytes.push(1);
            for offset_s in [0, offset_s] {
                bytes.extend(offset_s.to_be_bytes());
                bytes.extend([0, 0]);
            }
            bytes.extend(b"XYZ\0");
        }
        bytes.extend(b"\n\n");
        bytes
    }

    #[test]
    fn a_folder_is_read_whole_or_refused() {
        let begins_s = 1_767_225_600;
        let files = |files: &[(&str, Vec<u8>)]| -> Result<Zones, String> {
            let folder = tempfile::tempdir().unwrap();
            for (name, bytes) in files {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
            super::folder(folder.path().to_str().unwrap())
        };
        let good = || tzif(6 * 3600 + 900, begins_s);
        let zones = files(&[
            ("Europe/Rome", good()),
            ("America/Argentina/Ushuaia", good()),
            ("Factory", good()),
            ("localtime", good()),
            ("posixrules", good()),
            ("right/Europe/Rome", tzif(0, begins_s + 27)),
            ("posix/Europe/Rome", good()),
            ("tzdata.zi", b"# version 2099z\nR A 1 2".to_vec()),
            ("zone.tab", b"IT Europe/Rome".to_vec()),
            ("empty", Vec::new()),
        ])
        .unwrap();
        let names: Vec<&str> = zones.by_name.keys().map(String::as_str).collect();
        assert_eq!(names, ["america/argentina/ushuaia", "europe/rome"]);
        assert_eq!(zones.release.as_deref(), Some("2099z"));
        let rome = &zones.by_name["europe/rome"];
        assert_eq!(rome.iana_name(), Some("Europe/Rome"));
        let now = Timestamp::from_second(begins_s + 1).unwrap();
        assert_eq!(rome.to_offset(now).seconds(), 6 * 3600 + 900);
        // Its file has no rules for the future.
        for (from_s, expect) in [(begins_s - 1, 1), (begins_s, 0), (begins_s + 1, 0)] {
            let from = Timestamp::from_second(from_s).unwrap();
            let changes: Vec<_> = zones::changes_after(rome, from).collect();
            assert_eq!(changes, vec![(begins_s, 6 * 3600 + 900); expect], "{from_s}");
        }
        assert_eq!(files(&[("Cuba", good())]).unwrap().release, None);
        assert!(files(&[("Cuba", tzif(3600, i64::from(i32::MAX)))]).is_ok());

        for (bad, why) in [
            (vec![("zone.tab", b"IT Europe/Rome".to_vec())], "a folder with time zone files"),
            (vec![("A/B", tzif(0, begins_s + 27))], "leap seconds"),
            (vec![("A/B", tzif(20 * 60, begins_s))], "15 minutes"),
            (vec![("A/B", b"TZif2".to_vec())], "A/B: "),
        ] {
            let error = files(&bad).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(super::folder("/nowhere/at/all").unwrap_err().contains("/nowhere/at/all: "));
        assert!(super::folder("/dev/null").is_err());
    }
}
