//! Folders, files and variables on a careless or hostile machine.

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
            // A rebuild makes its state anew: what is in the old file does not matter before its
            // end.
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
            ("NATS_PASSWORD", bytes),
            ("BOTSTATS_TOKEN", bytes),
            ("BOTSTATS_LOG", bytes),
            ("NATS_INBOX_PREFIX", OsStr::new("a b")),
            ("NATS_INBOX_PREFIX", OsStr::new("a.>")),
            ("NATS_INBOX_PREFIX", OsStr::new("ä")),
            ("NATS_URL", OsStr::new("nats://")),
            ("NATS_URL", OsStr::new("http://127.0.0.1:4222")),
            ("BOTSTATS_LOG", OsStr::new("===")),
            ("BOTSTATS_LOG", OsStr::new("warning")),
            ("BOTSTATS_LOG", OsStr::new("info,botstats_ingest=loud")),
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
            assert!(told.contains(variable), "{program} {variable}: {told}");
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

/// The programs with a command that reads all settings and then does not wait for NATS.
const PROGRAMS: [(&str, &[&str]); 4] = [
    ("botstats-ingest", &["run"]),
    ("botstats-query", &["run"]),
    ("botstats", &["status"]),
    ("botstats", &["up"]),
];

#[test]
fn a_url_that_is_refused_is_not_repeated() {
    for (program, arguments) in PROGRAMS {
        for url in [
            "ws://me:s3cret@127.0.0.1",
            "wss://me:s3cret@127.0.0.1",
            "WSS://me:s3cret@127.0.0.1",
            "http://me:s3cret@127.0.0.1",
            "https://me:s3cret@127.0.0.1",
            "tcp://me:s3cret@127.0.0.1",
            "amqp://me:s3cret@127.0.0.1",
            "opentls://me:s3cret@127.0.0.1",
            "nats:me:s3cret@127.0.0.1",
            "nats:/me:s3cret@127.0.0.1",
            "nats://127.0.0.1,ws://me:s3cret@127.0.0.1",
            "nats://me:s3cret@127.0.0.1,",
            // Characters of a password that must be encoded.
            "nats://me:s3cret/@127.0.0.1",
            "nats://me:12/s3cret@127.0.0.1",
            "nats://me:s3cret#@127.0.0.1",
            "nats://me:12#s3cret@127.0.0.1",
            "nats://me:s3cret?@127.0.0.1",
            "nats://me:12?s3cret@127.0.0.1",
            "nats://me:12,s3cret@127.0.0.1",
            "nats://me:%ffs3cret@127.0.0.1",
            "nats://:s3cret@127.0.0.1",
            "nats://s3cret@",
            "s3cret@127.0.0.1",
            "me:s3cret@127.0.0.1:4222",
            "nats://127.0.0.1/s3cret",
            "nats://me:s3cret@127.0.0.1:99999",
            "nats://me:s3cret@[::1",
        ] {
            let variable = [("NATS_URL", url.to_owned())];
            for output in [
                run(program, arguments, &variable),
                run(program, &[arguments, &["--nats-url", url]].concat(), &[]),
            ] {
                let told = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(64), "{program} {url}: {told}");
                assert!(!told.contains("s3"), "{program} {url}: {told}");
                for part in ["NATS_URL", "nats://HOST:PORT", "tls://", "percent-encoded"] {
                    assert!(told.contains(part), "{program} {url}: {told}");
                }
            }
        }
    }
}

#[test]
fn secrets_in_the_wrong_place_are_not_repeated() {
    for (arguments, variable, value) in [
        (&["status"][..], "NATS_CREDS", "-----BEGIN NATS USER JWT-----\ns3cret\n------END"),
        (&["status"], "NATS_CA", "-----BEGIN CERTIFICATE-----\ns3/cret\n-----END"),
        (&["status"], "NATS_PASSWORD_FILE", "s3cret"),
        (&["status"], "NATS_INBOX_PREFIX", "me:s3cret@host"),
        (&["setup"], "BOTSTATS_THROTTLE_WINDOW", "bst_s3cret"),
        (&["setup"], "BOTSTATS_BOT_THROTTLE_WINDOW", "bst_s3cret"),
        (&["stats"], "BOTSTATS_URL", "http://me:s3cret@127.0.0.1:9"),
        (&["stats"], "BOTSTATS_URL", "ftp://me:s3cret@127.0.0.1:9"),
        (&["stats"], "BOTSTATS_TOKEN_FILE", "bst_s3cret"),
    ] {
        let settings = [
            ("NATS_URL", "nats://127.0.0.1:9".to_owned()),
            ("NATS_USER", "me".to_owned()),
            (variable, value.to_owned()),
        ];
        let output = run("botstats", arguments, &settings);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(variable), "{value}: {told}");
        assert!(!told.contains("s3"), "{value}: {told}");
        let help = run("botstats", &[arguments, &["--help"]].concat(), &settings);
        assert_eq!(help.status.code(), Some(0));
        assert!(!String::from_utf8_lossy(&help.stdout).contains("s3"), "{value}");
    }
    for arguments in [&["bst_s3cret"][..], &["stats", "bst_s3cret"], &["stats", "--bst_s3cret"]] {
        let output = run("botstats", arguments, &[]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {told}");
        assert!(!told.contains("s3"), "{arguments:?}: {told}");
    }
}

/// Every variable of the programs but those that say where NATS and the data are.
const VARIABLES: [&str; 22] = [
    "NATS_CREDS",
    "NATS_USER",
    "NATS_PASSWORD",
    "NATS_PASSWORD_FILE",
    "NATS_CA",
    "NATS_INBOX_PREFIX",
    "BOTSTATS_LOG",
    "BOTSTATS_LOG_FORMAT",
    "BOTSTATS_KEEP_DAYS",
    "BOTSTATS_MAX_LAG",
    "BOTSTATS_REBUILD_DAMAGED",
    "BOTSTATS_INTERNAL_ADDR",
    "BOTSTATS_HTTP_ADDR",
    "BOTSTATS_THROTTLE_WINDOW",
    "BOTSTATS_BOT_THROTTLE_WINDOW",
    "BOTSTATS_PUBLIC_URL",
    "BOTSTATS_TOKEN",
    "BOTSTATS_TOKEN_FILE",
    "BOTSTATS_BOT_KEY",
    "BOTSTATS_URL",
    "NATS_SERVER_BIN",
    "XDG_DATA_HOME",
];

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_variable_is_an_unset_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = ("BOTSTATS_DATA", "/dev/null".to_owned());
    let nobody = ("NATS_URL", "nats://127.0.0.1:9".to_owned());
    for empty in ["", " ", "\t"] {
        // With the default filter it is told why an ingest does not start.
        let mut settings = VARIABLES.map(|name| (name, empty.to_owned())).to_vec();
        settings.extend([data.clone(), nobody.clone()]);
        for (program, arguments, code, says) in [
            ("botstats-ingest", &["run"][..], 1, "BOTSTATS_DATA"),
            ("botstats", &["status"], 1, "no connection to NATS at 127.0.0.1:9"),
            ("botstats", &["setup"], 1, "no connection to NATS at 127.0.0.1:9"),
            ("botstats", &["up"], 1, "--data"),
            ("botstats", &["stats"], 64, "set BOTSTATS_TOKEN or give --token-file"),
        ] {
            let output = run(program, arguments, &settings);
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{program} {arguments:?}: {told}");
            assert!(told.contains(says), "{program} {arguments:?}: {told}");
        }
        // Two that serve: addresses and the URL have their defaults only if others do not use them.
        let any = |name: &'static str| (name, "127.0.0.1:0".to_owned());
        settings.retain(|(name, _)| !name.ends_with("_ADDR"));
        settings.extend([any("BOTSTATS_HTTP_ADDR"), any("BOTSTATS_INTERNAL_ADDR")]);
        settings.push(("BOTSTATS_DATA", folder.path().join("data").display().to_string()));
        for program in ["botstats-ingest", "botstats-query"] {
            let process = Process::start(program, &[], &settings, folder.path());
            process.logged("waiting for NATS").await;
        }
    }
    // On the command line nothing is left out by mistake.
    for flag in ["--nats-url", "--nats-creds", "--nats-user", "--log", "--log-format"] {
        let output = run("botstats", &["status", flag, ""], &[]);
        assert_eq!(output.status.code(), Some(64), "{flag}: {output:?}");
    }
}

#[test]
fn words_for_yes_and_no() {
    let folder = tempfile::tempdir().unwrap();
    let address = ("BOTSTATS_INTERNAL_ADDR", "127.0.0.1:9".to_owned());
    for (word, code) in [
        ("true", 1),
        ("TRUE", 1),
        ("1", 1),
        ("yes", 1),
        ("On", 1),
        ("false", 1),
        ("0", 1),
        ("no", 1),
        ("off", 1),
        ("maybe", 64),
        ("2", 64),
    ] {
        let settings = [
            ("BOTSTATS_REBUILD_DAMAGED", word.to_owned()),
            ("BOTSTATS_LOG_FORMAT", "JSON".to_owned()),
            ("BOTSTATS_DATA", folder.path().display().to_string()),
            address.clone(),
        ];
        // Nobody is there to ask, which is 1.
        let output = run("botstats-ingest", &["healthcheck"], &settings);
        assert_eq!(output.status.code(), Some(code), "{word}: {output:?}");
    }
}
