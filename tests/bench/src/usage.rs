//! What a process has used: CPU time, memory, bytes read and written. Linux only.

use std::fs;
use std::ops::Sub;
use std::time::Duration;

/// What a process has used since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Time of all its threads, user and system; in steps of 10 ms on most systems.
    pub cpu: Duration,
    /// Bytes that it made the system write to disks.
    pub disk_written: u64,
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            disk_written: self.disk_written.saturating_sub(before.disk_written),
        }
    }
}

/// What a process has used so far; of one that has ended but was not waited for only the CPU time.
pub fn of(pid: u32) -> Usage {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Usage {
        cpu: cpu(&stat(pid)),
        disk_written: written.and_then(|text| text.parse().ok()).unwrap_or_default(),
    }
}

/// Whether a process has ended.
pub fn has_ended(pid: u32) -> bool {
    !fs::exists(format!("/proc/{pid}")).unwrap_or_default() || stat(pid).starts_with('Z')
}

/// CPU time of this process, all threads, exactly.
pub fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).expect("time goes forward");
    Duration::new(seconds, u32::try_from(time.tv_nsec).expect("less than a second"))
}

/// The most memory that a process has had since its start or [`reset_peak`], in bytes; none of one
/// that has ended.
pub fn peak_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}

/// The peak begins anew at what the process has now.
pub fn reset_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("a process of ours");
}

/// State and numbers of a process: what follows its name, which may hold anything.
fn stat(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    let (_, rest) = stat.rsplit_once(") ").expect("a name in brackets");
    rest.to_owned()
}

fn cpu(stat: &str) -> Duration {
    // Fields 14 and 15 of proc(5), which counts from the process id on.
    let ticks: u64 =
        stat.split(' ').skip(11).take(2).map(|n| n.parse::<u64>().expect("ticks")).sum();
    Duration::from_micros(ticks * 1_000_000 / rustix::param::clock_ticks_per_second())
}
