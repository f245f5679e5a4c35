//! Metrics of this process, with the names that Prometheus' own libraries use.
//!
//! They are read from `/proc` at each scrape; a system without `/proc` has none of them.
//!
//! *Why* not the crate metrics-process: a counter of the crate metrics is a whole number, so the
//! processor time would lose the parts of a second, or be a gauge.

use std::fmt::Write as _;
use std::fs;
use std::sync::LazyLock;

use rustix::param::clock_ticks_per_second;
use rustix::process::{Resource, getrlimit};

use super::clock::now_ms;

/// The start of the metrics, in Unix milliseconds; the process starts only moments before.
static STARTED_MS: LazyLock<i64> = LazyLock::new(now_ms);

/// Notes the start time.
pub(super) fn begin() {
    LazyLock::force(&STARTED_MS);
}

/// Appends the metrics in the text format.
pub(super) fn write(text: &mut String) {
    let mut metric = |name: &str, kind: &str, help: &str, value: Option<String>| {
        let Some(value) = value else { return };
        // Writing to a string can't fail.
        let _written = write!(
            text,
            "# HELP process_{name} {help}\n# TYPE process_{name} {kind}\nprocess_{name} {value}\n\n"
        );
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let threads = field(&status, "Threads:").map(|n| n.to_string());
    let resident = field(&status, "VmRSS:").map(|kib| (kib * 1024).to_string());
    let cpu = cpu_seconds(&stat, clock_ticks_per_second());
    // One of the descriptors is that of the folder `/proc/self/fd` itself.
    let open = fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count().saturating_sub(1));
    let most = getrlimit(Resource::Nofile).current;
    let started = *STARTED_MS;
    let started = format!("{}.{:03}", started.div_euclid(1_000), started.rem_euclid(1_000));
    metric("cpu_seconds_total", "counter", "Processor time taken, in seconds", cpu);
    metric("resident_memory_bytes", "gauge", "Memory in use, in bytes", resident);
    metric("open_fds", "gauge", "Open file descriptors", open.map(|n| n.to_string()));
    metric("max_fds", "gauge", "The limit of open file descriptors", most.map(|n| n.to_string()));
    metric("threads", "gauge", "Threads of the operating system", threads);
    let help = "When the process began, in seconds since 1970";
    metric("start_time_seconds", "gauge", help, Some(started));
}

/// A number of `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// User and system time out of `/proc/self/stat`.
fn cpu_seconds(stat: &str, ticks_per_second: u64) -> Option<String> {
    // The program's name is in brackets and may hold any character. These are fields 14 and 15 of
    // proc(5).
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let both = ticks()?.checked_add(ticks()?)?;
    let per_second = ticks_per_second.max(1);
    let milliseconds = both % per_second * 1_000 / per_second;
    Some(format!("{}.{milliseconds:03}", both / per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 1250 37 0 0 20 0 9 0 77 88 99";
        assert_eq!(cpu_seconds(stat, 100).as_deref(), Some("12.870"));
        assert_eq!(cpu_seconds("", 100), None);
        assert_eq!(cpu_seconds("1 (x) S 1", 100), None);
    }

    #[test]
    fn this_process() {
        begin();
        let mut text = String::new();
        write(&mut text);
        let value = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name}: {text}")).parse::<f64>().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_start_time_seconds") > 1.7e9);
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }
}
