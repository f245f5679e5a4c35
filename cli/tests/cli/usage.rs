//! Exit codes, error texts and help of the real binary.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::tools::{World, botstats, run};

#[test]
fn bad_usage_is_64_and_says_what_is_allowed() {
    for (arguments, why) in [
        (&["frobnicate"][..], "unrecognized subcommand"),
        (&[], "Usage"),
        (&["account", "add", "a.b"], "1 to 64 of the characters"),
        (&["account", "add", "a", "--timezone", "Europe/Rom"], "did you mean Europe/Rome"),
        (&["account", "add", "a", "--timezone", "Factory"], "no place's"),
        (&["account", "set", "a", "--timezone", "GMT+1"], "Etc/GMT-1 is always UTC+01:00"),
        (&["account", "add", "a", "--zoneinfo", "/nowhere"], "BOTSTATS_ZONEINFO"),
        (&["account", "add", "a", "--name", ""], "1 to 256 bytes"),
        (&["account", "set", "a"], "--name"),
        (&["bot", "add", "a", "b", "--channel", "web"], "web=Web"),
        (&["setup", "--replicas", "2"], "1, 3 or 5"),
        (&["setup", "--throttle-window", "5"], "BOTSTATS_THROTTLE_WINDOW"),
        (&["setup", "--bot-throttle-window", "5"], "BOTSTATS_BOT_THROTTLE_WINDOW"),
        (&["token", "add", "a", "--only", "b"], "--view"),
        (&["token", "add", "a", "--operators"], "--view"),
        (&["token", "add", "a", "--bot", "b", "--view"], "cannot be used with"),
        (&["token", "add", "a", "--expires", "0s"], "more than 0s"),
        (&["token", "add", "a", "--expires", "soon"], "such as 250ms, 10s"),
        (&["token", "add", "a", "--view", "--public-url", "x"], "BOTSTATS_PUBLIC_URL"),
        (&["operator", "set", "a", "o1", "(none)"], "not allowed for an operator"),
        (&["operator", "set", "a", "o1", "(other)"], "not allowed for an operator"),
        (&["operator", "set", "a", "o1", ""], "1 to 256 bytes"),
        (&["operator", "set", "a", "(none)", "Ann"], "operator id"),
        (&["operator", "set", "a", "", "Ann"], "operator id"),
        (&["forget", "a", "b", "web"], "--user-file"),
        (&["forget", "a", "b", "web", "--user-file", "x", "-"], "cannot be used with"),
        (&["forget", "a", "b", "web", "ann"], "user ids are no arguments"),
        (&["setup", "--wait", "60"], "such as 250ms, 10s"),
        (&["simulate", "--days", "35"], "from 1 to 34"),
        (&["simulate", "--live", "--events", "5"], "--events"),
        (&["stats", "--types", "0,19"], "codes 0 to 18 and 100 to 108"),
        (&["stats", "--from", "2026-11-31", "--to", "2026-12-01"], "a date of the calendar"),
        (&["completions", "tcsh"], "bash, zsh, fish"),
        (&["stats", "--days", "31"], "from 1 to 30"),
        (&["stats", "--url", "nowhere"], "BOTSTATS_URL"),
        (&["deadletters", "show", "x"], "a whole number from 1"),
        (&["deadletters", "show", "1", "--stream", "EVENTS"], "BOTSTATS_EVENTS_ and"),
        (&["setup", "--cells", "1"], "from 2 to 256"),
        (
            &["cells", "split", "BOTSTATS_EVENTS", "EVENTS_B", "--slots", "1"],
            "BOTSTATS_EVENTS_ and",
        ),
        (&["cells", "split", "BOTSTATS_EVENTS", "BOTSTATS_EVENTS_B"], "--slots"),
        (
            &["cells", "split", "BOTSTATS_EVENTS", "BOTSTATS_EVENTS_B", "--slots", "256"],
            "from 0 to 255",
        ),
        (&["cells", "split", "BOTSTATS_EVENTS", "BOTSTATS_EVENTS_B", "--slots", ""], "one slot"),
        (&["cells", "resume", "X"], "BOTSTATS_EVENTS_ and"),
        (&["deadletters", "list", "--limit", "0"], "from 1 to 100000"),
        (&["up", "--keep-days", "39"], "BOTSTATS_KEEP_DAYS"),
        (&["status", "--nats-url", "::"], "NATS_URL"),
        (&["setup", "--max-bytes", "10 parsecs"], "such as 500MB, 10GB"),
        (&["up", "--max-bytes", "0"], "BOTSTATS_MAX_BYTES"),
        (&["setup", "--nats-domain", "a.b"], "NATS_JS_DOMAIN"),
    ] {
        let said = run(botstats().args(arguments));
        assert_eq!(said.code, Some(64), "{arguments:?}: {said:?}");
        assert!(said.err.contains(why), "{arguments:?}: {why:?} is not in {}", said.err);
        assert_eq!(said.out, "", "{arguments:?}");
    }
}

#[test]
fn a_bot_key_with_a_typo_is_not_repeated() {
    let mut command = botstats();
    command.env("BOTSTATS_TOKEN", "bst_x").env("BOTSTATS_BOT_KEY", "bsk_secret/secret");
    let said = run(command.arg("stats"));
    said.failed(64, "BOTSTATS_BOT_KEY");
    assert!(!said.err.contains("secret/secret"), "{}", said.err);
}

#[test]
fn help_shows_no_password() {
    let said = run(botstats().env("NATS_URL", "nats://me:hunter2@127.0.0.1").args(["--help"]));
    assert!(said.ok().contains("NATS_URL") && !said.out.contains("hunter2"), "{}", said.out);
}

#[test]
fn every_command_has_help() {
    for command in [
        "",
        "up",
        "account",
        "account add",
        "account set",
        "account list",
        "account remove",
        "token",
        "token add",
        "token list",
        "token revoke",
        "bot",
        "bot add",
        "bot set",
        "bot list",
        "bot remove",
        "key",
        "key rotate",
        "token add",
        "operator set",
        "forget",
        "publish",
        "simulate",
        "stats",
        "setup",
        "cells",
        "cells init",
        "cells check",
        "cells finish",
        "cells list",
        "cells split",
        "cells resume",
        "cells verify",
        "deadletters republish",
        "status",
        "deadletters",
        "deadletters list",
        "deadletters show",
        "completions",
    ] {
        let said = run(botstats().args(command.split_whitespace()).arg("--help"));
        assert!(said.ok().contains("--json"), "{command}");
        assert_eq!(said.err, "", "{command}");
    }
}

#[test]
fn without_nats_it_says_where_it_looked() {
    // Port 9 (discard) of this machine: nobody is there.
    let said = run(botstats().env("NATS_URL", "nats://127.0.0.1:9").args(["account", "list"]));
    said.failed(1, "no connection to NATS at 127.0.0.1:9");
}

#[test]
fn a_program_that_is_no_nats_server_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let said = run(botstats()
        .env("NATS_SERVER_BIN", "/bin/echo")
        .args(["up", "--nats-port", "0", "--http-addr", "127.0.0.1:0"])
        .args(["--ingest-internal-addr", "127.0.0.1:0", "--query-internal-addr", "127.0.0.1:0"])
        .arg("--data")
        .arg(folder.path()));
    said.failed(1, "NATS_SERVER_BIN");
}

#[test]
fn without_any_nats_server_it_says_what_was_tried() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("botstats");
    std::fs::create_dir(&cache).unwrap();
    // A program in the cache that is not the pinned one must not be run.
    let planted = cache.join("nats-server-2.15.1");
    std::fs::write(&planted, "#!/bin/sh\necho 'nats-server: v2.15.1'\n").unwrap();
    std::fs::set_permissions(&planted, std::fs::Permissions::from_mode(0o755)).unwrap();
    let said = run(botstats()
        .env_remove("NATS_SERVER_BIN")
        .env("PATH", folder.path())
        .env("XDG_CACHE_HOME", folder.path())
        .args(["up", "--nats-port", "0", "--http-addr", "127.0.0.1:0"])
        .args(["--ingest-internal-addr", "127.0.0.1:0", "--query-internal-addr", "127.0.0.1:0"])
        .arg("--data")
        .arg(folder.path().join("data")));
    for part in ["install one", "NATS_SERVER_BIN", "no nats-server there", "pip", "python3"] {
        said.failed(1, part);
    }
}

#[test]
fn setup_makes_then_checks_then_refuses_another_window() {
    let world = World::bare();
    world.run(["account", "list"]).failed(1, "botstats setup");
    assert_eq!(world.json(["setup"])["stream_made"], true);
    assert_eq!(world.json(["setup"])["stream_made"], false);
    let said = world.run(["setup", "--throttle-window", "15m"]);
    said.failed(1, "1h");
    said.failed(1, "15m");
    // What no waiting mends is told at once: this test would take an hour.
    world.run(["setup", "--throttle-window", "15m", "--wait", "1h"]).failed(1, "15m");
    let said = world.run(["setup", "--bot-throttle-window", "15m"]);
    said.failed(1, "KV bucket botstats_throttle_bot exists with the window (max_age) 30m");
    let again = world.json(["setup"]);
    assert_eq!(
        (&again["bot_throttle_made"], &again["bot_throttle_window_seconds"]),
        (&false.into(), &1800.0.into())
    );
}

#[test]
fn setup_waits_for_a_server_that_is_started_later() {
    let mut world = World::bare();
    world.server.kill();
    let mut setup = world.command();
    let mut setup = setup
        .args(["setup", "--wait", "40s", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(setup.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("trying again"), "{line}");
    world.server.restart().unwrap();
    let output = setup.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"stream_made\":true"), "{output:?}");
}

#[test]
fn nobody_there_is_told() {
    let world = World::new();
    let said = world.run(["status", "--json"]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), "[]\n"));
    world.run(["deadletters", "list"]).failed(1, "no ingest is running");
    world.run(["stats"]).failed(64, "BOTSTATS_TOKEN");
    let token = world.file("token", "bst_x\n");
    world
        .run(["stats", "--token-file", &token, "--url", "http://127.0.0.1:9"])
        .failed(1, "is query running there?");
}
