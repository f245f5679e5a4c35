//! Every place where the product reads bytes that it did not write in the same run, and what must
//! hold there whatever the bytes are.
//!
//! A [`Target`] is a function of bytes that panics if something does not hold: a decoder panics,
//! gives two results for the same bytes, reads something else from what it wrote, or judges
//! otherwise than [`crate::model`]. The programs in `tests/fuzz` feed them what a coverage-guided
//! engine makes up; `tests/tests/pure/decoders.rs` feeds them the same seeds and findings, and
//! changes to them, without an engine.

mod event;
mod http;
mod stored;
mod wire;

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

/// A decoder with what must hold of it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: that of its program and of its folders of seeds and findings.
    pub name: &'static str,
    /// Panics if something does not hold for these bytes.
    pub check: fn(&[u8]),
}

/// All of them. `tests/fuzz` has a program of the same name for each.
pub const TARGETS: [Target; 15] = [
    Target { name: "event", check: event::event },
    Target { name: "subject", check: event::subject },
    Target { name: "time", check: event::time },
    Target { name: "question", check: http::question },
    Target { name: "accept", check: http::accept },
    Target { name: "settings", check: http::settings },
    Target { name: "read_request", check: wire::read_request },
    Target { name: "read_reply", check: wire::read_reply },
    Target { name: "directory", check: wire::directory },
    Target { name: "status", check: wire::status },
    Target { name: "rescue", check: wire::rescue },
    Target { name: "block", check: stored::block },
    Target { name: "slice", check: stored::slice },
    Target { name: "bucket", check: stored::bucket },
    Target { name: "row", check: stored::row },
];

/// Checks bytes for the target of that name.
pub fn check(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of that name").check)(bytes);
}

/// The folder of the programs, seeds and findings.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

impl Target {
    /// The inputs that are kept: seeds, and whatever was found once. In the order of their names.
    pub fn kept(&self) -> Vec<Vec<u8>> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for kind in ["seeds", "found"] {
            let folder = folder().join(kind).join(self.name);
            if let Ok(entries) = fs::read_dir(folder) {
                paths.extend(entries.map(|entry| entry.expect("an entry").path()));
            }
        }
        paths.sort();
        paths.iter().map(|path| fs::read(path).expect("a kept input")).collect()
    }
}

/// The lines of an input, and what follows the first empty one.
fn head_and_body(bytes: &[u8]) -> (Vec<&str>, &[u8]) {
    let mut rest = bytes;
    let mut lines = Vec::new();
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let line = &rest[..end.unwrap_or(rest.len())];
        rest = end.map_or(&[], |end| &rest[end + 1..]);
        if line.is_empty() {
            return (lines, rest);
        }
        if let Ok(line) = std::str::from_utf8(line) {
            lines.push(line);
        }
    }
}

/// Reads the same bytes twice, and what is written of it once more: all three must be equal.
fn reads_again<T: PartialEq + Debug, E: Debug>(
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<T, E>,
    write: impl Fn(&T) -> Vec<u8>,
) -> Option<T> {
    let (first, second) = (read(bytes), read(bytes));
    assert_eq!(format!("{first:?}"), format!("{second:?}"), "not repeatable");
    let first = first.ok()?;
    let written = write(&first);
    let again = read(&written);
    assert_eq!(again.as_ref().ok(), Some(&first), "written as {written:?}, read as {again:?}");
    Some(first)
}
