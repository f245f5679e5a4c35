//! Folders, files and variables as a careless or hostile machine has them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use botstats_tests::harness::{PATIENCE, Process, Site, run};

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("file"), "x").unwrap();
    symlink(path("loop"), path("loop")).unwrap();
    symlink(path("absent/below"), path("dangling")).unwrap();
    std::fs::create_dir_all(path("occupied/lock")).unwrap();
    std::fs::create_dir_all(path("store/botstats.redb")).unwrap();
    let long = path(&"x".repeat(300));
    for data in [
        path("file"),
        path("file/below"),
        path("loop"),
        path("loop/below"),
        path("dangling"),
        path("occupied"),
        path("store"),
        long,
        "/proc/botstats".to_owned(),
        "/dev/null".to_owned(),
    ] {
        for command in ["run", "rebuild"] {
            // A rebuild makes its state anew: what is in the old file does not matter before its end.
            if command == "rebuild" && data.ends_with("store") {
                continue;
            }
            let settings = [
                ("BOTSTATS_DATA", data.clone()),
                ("BOTSTATS_INTERNAL_ADDR", "127.0.0.1:0".to_owned()),
                ("NATS_URL", "nats://127.0.0.1:9".to_owned()),
            ];
            let output = run("botstats-ingest", &[command], &settings);
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{command} {data}: {told}");
            assert!(!told.contains("panicked"), "{command} {data}: {told}");
            if !data.ends_with("store") {
                assert!(told.contains("BOTSTATS_DATA"), "{command} {data}: {told}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_an_odd_name_works_and_has_one_ingest() {
    let site = Site::start("0s").await;
    let folder = site.folder("ödd näme 食べ\u{1b}[2J 'quoted\" $(x)");
    let ingest = Process::start("botstats-ingest", &[], &site.ingest_settings(&folder), &folder);
    site.applied(PATIENCE).await;
    let link = site.folder("link");
    symlink(folder.join("data"), &link).unwrap();
    let mut settings = site.ingest_settings(&folder);
    settings.push(("BOTSTATS_DATA", link.display().to_string()));
    let second = run("botstats-ingest", &[], &settings);
    assert_eq!(second.status.code(), Some(75), "{second:?}");
    assert!(!ingest.log().contains('\u{1b}'), "the log steers terminals");
}

#[test]
fn settings_of_bytes_that_are_no_text_are_refused() {
    let bytes = OsStr::from_bytes(b"\xff\xfe");
    for program in ["botstats-ingest", "botstats-query", "botstats"] {
        for (variable, value) in [
            ("NATS_URL", bytes),
            ("NATS_USER", bytes),
            ("NATS_INBOX_PREFIX", OsStr::new("a b")),
            ("NATS_INBOX_PREFIX", OsStr::new("")),
            ("NATS_INBOX_PREFIX", OsStr::new("a.>")),
            ("NATS_INBOX_PREFIX", OsStr::new("ä")),
            ("NATS_URL", OsStr::new("nats://")),
            ("NATS_URL", OsStr::new("http://127.0.0.1:4222")),
            ("BOTSTATS_LOG", OsStr::new("===")),
            ("BOTSTATS_LOG_FORMAT", OsStr::new("ünï")),
        ] {
            let test = std::env::current_exe().unwrap();
            let path = test.parent().unwrap().parent().unwrap().join(program);
            let mut command = std::process::Command::new(path);
            command.env_clear().env(variable, value);
            if program == "botstats" {
                command.arg("status");
            }
            let output = command.output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{program} {variable}: {told}");
            let named = told.contains(variable) || value == bytes;
            assert!(named, "{program} {variable}: {told}");
        }
    }
}

#[test]
fn token_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let huge = file("huge", &"x".repeat(1024 * 1024));
    for (path, says) in [
        (file("empty", ""), "empty"),
        (file("line", "\n"), "line"),
        (huge, "larger than"),
        (folder.path().display().to_string(), "directory"),
        (folder.path().join("absent").display().to_string(), "absent"),
        // Good ones get as far as the endpoint, where nobody is.
        (file("good", "bst_x\r\n"), "is query running there?"),
    ] {
        let url = ["--url", "http://127.0.0.1:9"];
        let output = run("botstats", &["stats", "--token-file", &path, url[0], url[1]], &[]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(says), "{path}: {told}");
    }
}
