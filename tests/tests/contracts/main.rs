//! The documents for programs, `docs/openapi.json` and `docs/asyncapi.yaml`, are current, and
//! ingest does what they say of events.
//!
//!     BOTSTATS_TEST_RENEW=1 cargo test --workspace --test contracts is_current
//!
//! writes them anew.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agreement;
mod asyncapi;
mod curl;
mod server;
mod yaml;

use std::fs;
use std::path::Path;

use botstats_tests::setting;

/// A page of `docs/`.
fn docs(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

fn current(name: &str, wanted: &str) {
    let path = docs(name);
    if setting("BOTSTATS_TEST_RENEW", 0) > 0 {
        fs::write(&path, wanted).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == wanted,
        "docs/{name} is not current: BOTSTATS_TEST_RENEW=1 cargo test --workspace --test contracts is_current"
    );
}

#[test]
fn openapi_is_current() {
    let document = botstats_query::openapi::document();
    current("openapi.json", &(serde_json::to_string_pretty(&document).unwrap() + "\n"));
}

#[test]
fn asyncapi_is_current() {
    let document = asyncapi::document();
    // `.ci/contracts` compares what an independent reader makes of the YAML.
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("asyncapi.json"), document.to_string())
        .unwrap();
    let head = "# Made from the types of events: see tests/tests/contracts/main.rs\n";
    current("asyncapi.yaml", &(head.to_owned() + &yaml::document(&document)));
}
