//! The program's command line.
//!
//! Cargo builds a package's programs for the package's own tests. This test makes sure that
//! `cargo test --workspace` builds this program too, which the end-to-end tests in `tests/` run.

use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_botstats-query");

#[test]
fn it_tells_its_version_and_refuses_an_unknown_flag() {
    let version = Command::new(PROGRAM).arg("--version").output().unwrap();
    let expected = concat!("botstats-query ", env!("CARGO_PKG_VERSION"), " ");
    let told = String::from_utf8(version.stdout).unwrap();
    assert!(version.status.success() && told.starts_with(expected), "{told}");

    let unknown = Command::new(PROGRAM).arg("--no-such-flag").output().unwrap();
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(unknown.status.code() == Some(64) && said.contains("--no-such-flag"), "{said}");
}
