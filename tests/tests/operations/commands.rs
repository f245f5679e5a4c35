//! The whole story by command: make an account, publish events, ask for statistics, look at dead
//! letters, revoke a token, remove the bot and the account.

use std::process::Output;

use anyhow::Context as _;
use botstats_common::io::clock;
use botstats_tests::harness::{PATIENCE, Query, Site, event, publish, run, until};
use botstats_tests::model::CODES;
use serde_json::{Value, json};

struct Commands {
    settings: Vec<(&'static str, String)>,
}

impl Commands {
    /// Runs a command that must work, and gives its answer.
    fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = run("botstats", &[arguments, &["--json"]].concat(), &self.settings);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        anyhow::ensure!(output.status.success(), "{arguments:?}: {told}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Asks for statistics with a token.
    fn stats(&self, query: &Query, token: &str, more: &[&str]) -> Output {
        let url = format!("http://{}", query.http);
        let types = format!("0-{}", CODES.len() - 1);
        let asked = ["stats", "--json", "--url", &url, "--types", &types, "--days", "2"];
        let mut settings = self.settings.clone();
        settings.push(("BOTSTATS_TOKEN", token.to_owned()));
        run("botstats", &[&asked, more].concat(), &settings)
    }
}

fn text(value: &Value, field: &str) -> anyhow::Result<String> {
    Ok(value[field].as_str().with_context(|| format!("no {field} in {value}"))?.to_owned())
}

/// Count by type code.
fn counts(output: &Output) -> anyhow::Result<Vec<(u64, u64)>> {
    let told = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{told}");
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    let number = |row: &Value, field: &str| row[field].as_u64().context("a number");
    rows.iter().map(|row| Ok((number(row, "EventType")?, number(row, "Count")?))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_of_an_account() -> anyhow::Result<()> {
    let site = Site::start("0s").await;
    let _ingest = site.ingest("ingest");
    let query = site.query("query").await;
    query.ready().await;
    let commands = Commands { settings: site.settings() };
    let token = text(&commands.json(&["account", "add", "acme"])?, "token")?;
    let bot = ["bot", "add", "acme", "b1", "--name", "Pizza", "--channel", "web=Web"];
    let key = text(&commands.json(&bot)?, "key")?;

    // Two good events, a duplicate of the second, and an event that lacks a required field.
    let now_ms = clock::now_ms();
    let line = |name: &str, id: &str, data: Value| -> anyhow::Result<String> {
        let (subject, _, payload) = event(["acme", "b1", "web"], name, now_ms, id, &data);
        let payload: Value = serde_json::from_slice(&payload)?;
        Ok(json!({"subject": subject, "payload": payload}).to_string())
    };
    let lines = [
        line("message.received", "1", json!({}))?,
        line("goal.reached", "2", json!({"goal": "order"}))?,
        line("goal.reached", "2", json!({"goal": "order"}))?,
        line("goal.reached", "3", json!({}))?,
    ];
    let file = site.folder("events.ndjson");
    std::fs::write(&file, lines.join("\n"))?;
    let published = commands.json(&["publish", &file.display().to_string()])?;
    assert_eq!(published["stored"], 4, "{published}");
    let status = site.applied(PATIENCE).await;
    assert_eq!(status.events.get("duplicate"), Some(&1), "{status:?}");

    let expected = [(0, 1), (2, 1), (8, 1), (10, 1), (12, 1), (13, 1)];
    until("the account and its key are known", PATIENCE, async || {
        commands.stats(&query, &token, &["--bot", &key]).status.success().then_some(())
    })
    .await;
    assert_eq!(counts(&commands.stats(&query, &token, &[]))?, expected);
    assert_eq!(counts(&commands.stats(&query, &token, &["--bot", &key]))?, expected);
    let table = commands.stats(&query, &token, &[]);
    assert!(!String::from_utf8_lossy(&table.stderr).contains(&token));

    let letters = commands.json(&["deadletters", "list"])?;
    assert_eq!((&letters["kept"], &letters["letters"][0]["rule"]), (&json!(1), &json!("data")));
    // Lines that are published together may reach the stream in another order than the file's.
    let sequence = letters["letters"][0]["sequence"].to_string();
    let letter = commands.json(&["deadletters", "show", &sequence])?.to_string();
    assert!(letter.contains("goal.reached") && letter.contains("botstats.events.acme.b1.web"));
    assert!(letter.contains(r#"\"id\":\"3\""#) || letter.contains(r#""id":"3""#), "{letter}");
    let found = commands.json(&["status"])?.to_string();
    assert!(found.contains("\"ingest\"") && found.contains("\"query\""), "{found}");

    // One token is revoked, the other keeps working.
    let second = commands.json(&["token", "add", "acme"])?;
    let tokens = commands.json(&["token", "list", "acme"])?;
    let first_id = text(&tokens[0], "token_id")?;
    commands.json(&["token", "revoke", "acme", &first_id])?;
    let second = text(&second, "token")?;
    until("the second token works", PATIENCE, async || {
        commands.stats(&query, &second, &[]).status.success().then_some(())
    })
    .await;
    let revoked = commands.stats(&query, &token, &[]);
    assert!(!revoked.status.success());
    assert!(String::from_utf8_lossy(&revoked.stderr).contains("401"), "{revoked:?}");

    // A removed bot keeps its rows, not its key; a removed account has nothing.
    commands.json(&["bot", "remove", "acme", "b1"])?;
    assert!(!commands.stats(&query, &second, &["--bot", &key]).status.success());
    assert_eq!(counts(&commands.stats(&query, &second, &[]))?, expected);
    commands.json(&["account", "remove", "acme"])?;
    let gone = commands.stats(&query, &second, &[]);
    assert!(String::from_utf8_lossy(&gone.stderr).contains("404"), "{gone:?}");
    let again = run("botstats", &["account", "add", "acme"], &commands.settings);
    assert!(!again.status.success(), "a removed id comes back only when that is meant");
    let back = text(&commands.json(&["account", "add", "acme", "--restore"])?, "token")?;
    let restored = until("the restored account answers", PATIENCE, async || {
        let output = commands.stats(&query, &back, &[]);
        output.status.success().then(|| counts(&output))
    })
    .await?;
    assert_eq!(restored, expected);
    Ok(())
}

/// A zone of one offset, as a file of RFC 9636.
fn zone_file(offset_s: i32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _version in 1..=2 {
        bytes.extend(b"TZif2");
        bytes.extend([0; 15]);
        // One type of local time, whose letters are four bytes long.
        bytes.extend([0_u32, 0, 0, 0, 1, 4].map(u32::to_be_bytes).concat());
        bytes.extend(offset_s.to_be_bytes());
        bytes.extend(b"\0\0XYZ\0");
    }
    // In POSIX the sign of an offset is the other way round.
    let (hours, minutes) = (-offset_s / 3600, offset_s.abs() % 3600 / 60);
    bytes.extend(format!("\nXYZ{hours}:{minutes:02}\n").bytes());
    bytes
}

/// Newer rules of a zone need no new program, and every program reports the release that it uses.
#[tokio::test(flavor = "multi_thread")]
async fn the_time_zones_of_a_folder() -> anyhow::Result<()> {
    let site = Site::start("0s").await;
    let _ingest = site.ingest("ingest");
    let zones = site.folder("zones");
    std::fs::create_dir_all(zones.join("Europe"))?;
    std::fs::create_dir_all(zones.join("Mars"))?;
    std::fs::write(zones.join("Europe/Rome"), zone_file(6 * 3600 + 900))?;
    std::fs::write(zones.join("Mars/Base"), zone_file(-3600))?;
    std::fs::write(zones.join("tzdata.zi"), "# version 2099z\n")?;
    let mut commands = Commands { settings: site.settings() };
    let refused =
        run("botstats", &["account", "add", "m", "--timezone", "mars/base"], &commands.settings);
    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
    commands.settings.push(("BOTSTATS_ZONEINFO", zones.display().to_string()));
    let query = Query::start(&commands.settings, "0s", &site.folder("query")).await;
    query.ready().await;
    let now_ms = clock::now_ms();
    for (account, zone, offset) in [
        ("rome", "Europe/Rome", "+06:15"),
        ("mars", "mars/base", "-01:00"),
        // Not in the folder, so the built-in zone is used.
        ("kathmandu", "Asia/Kathmandu", "+05:45"),
    ] {
        let token =
            text(&commands.json(&["account", "add", account, "--timezone", zone])?, "token")?;
        let (subject, headers, payload) =
            event([account, "b1", "web"], "message.received", now_ms, "1", &json!({}));
        publish(&site.js, vec![(subject, headers, payload)]).await;
        site.applied(PATIENCE).await;
        let label = until("an answer with a row", PATIENCE, async || {
            let output = commands.stats(&query, &token, &["--group", "hour"]);
            let rows: Vec<Value> = serde_json::from_slice(&output.stdout).ok()?;
            rows.first()?["GroupLabel"].as_str().map(str::to_owned)
        })
        .await;
        assert!(label.ends_with(offset), "{zone}: {label}");
    }
    let found = commands.json(&["status"])?;
    let of = |program: &str| {
        let mut all = found.as_array().into_iter().flatten();
        all.find(|status| status["program"] == program).map(|status| status["zones"].clone())
    };
    assert_eq!((of("query"), of("ingest")), (Some(json!("2099z")), Some(Value::Null)), "{found}");

    for program in ["botstats", "botstats-query", "botstats-ingest"] {
        let output = run(program, &["--version"], &[]);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.contains("(time zones 20"), "{told}");
    }
    let bad = [("BOTSTATS_ZONEINFO", site.folder("nothing").display().to_string())];
    for arguments in
        [&["botstats-query"][..], &["botstats", "up"], &["botstats", "account", "add", "a"]]
    {
        let output = run(arguments[0], &arguments[1..], &bad);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {told}");
        assert!(told.contains("BOTSTATS_ZONEINFO"), "{arguments:?}: {told}");
    }
    Ok(())
}

/// Events of `botstats forget` are good ones, also of a user that ingest never saw.
#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_accepts_that_users_are_forgotten() {
    let site = Site::start("0s").await;
    let _ingest = site.ingest("ingest");
    let place = ["acme", "b1", "web"];
    publish(&site.js, [event(place, "message.received", clock::now_ms(), "1", &json!({}))]).await;
    let before = site.applied(PATIENCE).await;
    assert_eq!(before.events["accepted"], 1, "{before:?}");
    let users = site.folder("users");
    std::fs::write(&users, "u1\nnever-seen\n").unwrap();
    let commands = Commands { settings: site.settings() };
    let users = users.display().to_string();
    for round in 1..=2 {
        let said = commands.json(&["forget", "acme", "b1", "web", "--user-file", &users]).unwrap();
        assert_eq!(said["stored"], 2, "{said}");
        let after = site.applied(PATIENCE).await;
        assert_eq!(after.events["accepted"], 1 + 2 * round, "{after:?}");
        assert!(after.dead_letters.values().all(|count| *count == 0), "{after:?}");
    }
    let letters = commands.json(&["deadletters", "list"]).unwrap();
    assert_eq!(letters["letters"], json!([]));
}
