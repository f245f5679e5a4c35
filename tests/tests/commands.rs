//! The whole story by command: an account is made, events are published, statistics are asked for,
//! what was refused is looked at, a token is revoked, the bot and the account go.

use std::process::Output;

use anyhow::Context as _;
use botstats_common::shell::clock;
use botstats_tests::harness::{PATIENCE, Query, Site, event, run, until};
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
        let asked = ["stats", "--json", "--url", &url, "--types", "0-18", "--days", "2"];
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

    // Two good events, the second one again, and one without what its type needs.
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

    // A token is revoked: the other one goes on.
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
