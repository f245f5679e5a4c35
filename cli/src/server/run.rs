//! Runs a program to its end, within a limit.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use botstats_common::io::clock;

/// The interval in which the program's end is checked.
const POLL: Duration = Duration::from_millis(10);
/// The most bytes that are kept of an output.
const MAX_OUTPUT_BYTES: u64 = 1024 * 1024;

/// Runs a command; returns its standard output, or the error in one line.
pub(super) fn run(command: &mut Command, limit: Duration) -> Result<String, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    // Threads read both pipes at the same time: a full pipe would block the program for ever.
    let out = child.stdout.take().map(|pipe| thread::spawn(move || text_of(pipe)));
    let err = child.stderr.take().map(|pipe| thread::spawn(move || text_of(pipe)));
    let started = clock::monotonic();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            break status;
        }
        if started.elapsed() >= limit {
            // This fails if the program has just ended, which is fine.
            let _ended = child.kill();
            child.wait().map_err(|e| e.to_string())?;
            return Err(format!("no end within {} s", limit.as_secs()));
        }
        thread::sleep(POLL);
    };
    let join = |reader: Option<thread::JoinHandle<String>>| {
        reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
    };
    let (out, err) = (join(out), join(err));
    if status.success() {
        return Ok(out);
    }
    let last_line = err.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("").trim();
    Err(format!("{status}: {last_line}").trim_end_matches([' ', ':']).to_owned())
}

fn text_of(pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    // The part before a read error is still useful.
    let _partial = pipe.take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_limits() {
        let sh = |script: &str, limit| run(Command::new("sh").args(["-c", script]), limit);
        let long = Duration::from_secs(20);
        assert_eq!(sh("echo yes", long), Ok("yes\n".to_owned()));
        assert_eq!(sh("echo why >&2; exit 3", long), Err("exit status: 3: why".to_owned()));
        let error = sh("exec tail -f /dev/null", Duration::from_millis(50)).unwrap_err();
        assert!(error.starts_with("no end"), "{error}");
        assert!(run(&mut Command::new("/no/such/program"), long).is_err());
    }
}
