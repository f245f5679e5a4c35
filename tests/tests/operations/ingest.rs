//! `botstats-ingest` by its command line: help, bad settings, a folder in use.

use std::process::{Command, Output};

use botstats_tests::harness::binary;

fn ingest(args: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(binary("botstats-ingest"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn help_lists_every_setting_with_its_default() {
    let output = ingest(&["--help"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for (variable, default) in [
        ("BOTSTATS_DATA", "botstats-data"),
        ("BOTSTATS_KEEP_DAYS", "400"),
        ("BOTSTATS_REBUILD_DAMAGED", "false"),
        ("NATS_INBOX_PREFIX", ""),
        ("BOTSTATS_MAX_LAG", "60s"),
        ("BOTSTATS_INTERNAL_ADDR", "127.0.0.1:9101"),
        ("NATS_URL", "nats://127.0.0.1:4222"),
        ("NATS_CREDS", ""),
        ("NATS_USER", ""),
        ("NATS_PASSWORD", ""),
        ("NATS_PASSWORD_FILE", ""),
        ("NATS_CA", ""),
        ("BOTSTATS_LOG", "info"),
        ("BOTSTATS_LOG_FORMAT", "text"),
    ] {
        assert!(text.contains(variable) && text.contains(default), "{variable}: {text}");
    }
}

#[test]
fn a_bad_value_stops_the_start_and_names_its_variable() {
    for (variable, value, allowed) in [
        ("BOTSTATS_KEEP_DAYS", "39", "40"),
        ("BOTSTATS_KEEP_DAYS", "many", "40 to 36600"),
        ("BOTSTATS_MAX_LAG", "60", "10s"),
        ("BOTSTATS_INTERNAL_ADDR", "localhost", "127.0.0.1:8080"),
        ("NATS_URL", "ftp://x", "nats://HOST:PORT"),
        ("BOTSTATS_LOG_FORMAT", "xml", "json"),
    ] {
        let output = ingest(&[], &[(variable, value)]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{text}");
        assert!(text.contains(variable) && text.contains(allowed), "{variable}: {text}");
    }
}

#[test]
fn a_folder_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let lock = botstats_ingest::Folder::lock(folder.path()).unwrap();
    for command in ["run", "rebuild"] {
        let data = folder.path().to_str().unwrap();
        let output =
            ingest(&[command, "--data", data], &[("BOTSTATS_INTERNAL_ADDR", "127.0.0.1:0")]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(75), "{text}");
        assert!(text.contains("is used by another ingest"), "{text}");
    }
    drop(lock);
}
