//! What the programs say of themselves: metrics, alerts, the dashboard, logs, and the id of a
//! request on its way through both programs.

mod exposition;
mod promql;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use botstats_common::io::clock;
use botstats_common::io::logging::{self, LogFormat, LogSettings};
use botstats_common::metric::TypeSet;
use botstats_common::quarter::Quarter;
use botstats_common::wire;
use botstats_tests::harness::{
    ALL, Outgoing, PATIENCE, Process, Query, Site, Stage, event, get, get_as, head_of, publish,
    send, until,
};
use botstats_tests::model::Directory;
use botstats_tests::setting;
use serde_json::{Value, json};

use exposition::{Exposition, parse};
use promql::{Selector, asked, fits};

/// Ids as awkward as they may be.
const ACCOUNT: &str = "Konto_-zq7";
const BOT: &str = "bOt-xq__8";
const CHANNEL: &str = "kanal-yq9";
const USER: &str = "u\"ser}\n{wq=\u{e4}";
const CONVERSATION: &str = "conv \\ vq5";

/// Set for a process that is to panic.
const PANIC: &str = "BOTSTATS_TEST_PANIC";

fn file(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

async fn metrics(address: SocketAddr) -> (String, Exposition) {
    let answer = get(address, "/metrics", &[]).await;
    let kind = answer.header("content-type");
    assert_eq!(kind.as_deref(), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text().to_owned();
    let read = parse(&text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    (text, read)
}

/// Events of every outcome, and messages that break each rule.
fn messages() -> Vec<Outgoing> {
    let now_ms = clock::now_ms();
    let of = |name: &str, time_ms: i64, id: &str, data: &Value| {
        let mut data = data.clone();
        data["userid"] = USER.into();
        data["conversationid"] = CONVERSATION.into();
        event([ACCOUNT, BOT, CHANNEL], name, time_ms, id, &data)
    };
    let accepted = of("message.received", now_ms - 9_000, "e1", &json!({}));
    let mut other_subject = accepted.clone();
    other_subject.0 = format!("botstats.events.{ACCOUNT}.{BOT}.b$d");
    let mut no_envelope = accepted.clone();
    no_envelope.2 = b"{".to_vec();
    vec![
        accepted.clone(),
        of("message.sent", now_ms - 8_000, "e2", &json!({})),
        of("message.sent", now_ms - 7_000, "e1", &json!({})),
        accepted,
        of("no.such.type", now_ms, "e3", &json!({})),
        other_subject,
        no_envelope,
        of("message.sent", now_ms, "e4", &json!({"fallback": "yes"})),
        of("message.sent", 0, "e5", &json!({})),
    ]
}

/// Asks so that there are many statuses; gives how often there was which.
async fn calls(queries: [&Query; 2], token: &str) -> BTreeMap<u16, f64> {
    let bearer = format!("Bearer {token}");
    let bearer = ("Authorization", bearer.as_str());
    let mut statuses = BTreeMap::new();
    let bad_question = ALL.replace("/day/2", "/day/99");
    for (query, path, headers) in [
        (0, ALL, &[bearer][..]),
        // Known to this one, not yet to the other.
        (0, ALL, &[bearer]),
        (1, ALL, &[bearer]),
        (0, ALL, &[]),
        (0, "/nothing", &[bearer]),
        (0, bad_question.as_str(), &[bearer]),
        (0, ALL, &[bearer, ("Accept", "image/png")]),
    ] {
        let answer = get(queries[query].http, path, headers).await;
        if query == 0 {
            *statuses.entry(answer.status).or_default() += 1.0;
        } else {
            assert_eq!(answer.status, 429, "{}", answer.text());
        }
    }
    let post = head_of(ALL, &[bearer]).strip_prefix(b"GET").unwrap().to_owned();
    let post = [b"POST", post.as_slice()].concat();
    let answer = send(queries[0].http, &post, PATIENCE).await.unwrap();
    *statuses.entry(answer.status).or_default() += 1.0;
    assert_eq!(statuses.keys().copied().collect::<Vec<_>>(), [200, 400, 401, 404, 405, 406, 429]);
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_and_those_who_use_them() {
    let site = Site::start("1h").await;
    let ingest = site.ingest("ingest");
    let login = site.add_account(ACCOUNT, &Directory::nameless("UTC"), &[BOT]).await;
    publish(&site.js, messages()).await;
    let (query, other) = (site.query("query").await, site.query("other").await);
    query.ready().await;
    other.ready().await;
    site.applied(PATIENCE).await;
    let statuses = calls([&query, &other], &login.token).await;

    let of_ingest = ingest.address("internal listener ready").await;
    // A read is counted after it was answered.
    let (ingest_text, ingest_metrics) = until("both reads are counted", PATIENCE, async || {
        let (text, page) = metrics(of_ingest).await;
        let answered = [("outcome", "answered")];
        let reads = page.get("botstats_ingest_reads_total")?.value(&answered)?;
        // An event is counted here when it is on the disk.
        let events = page.get("botstats_ingest_events_total")?;
        let conflicts = events.value(&[("outcome", "conflict")])?;
        (reads >= 2.0 && conflicts >= 1.0).then_some((text, page))
    })
    .await;
    let (query_text, query_metrics) = metrics(query.internal).await;
    let (other_text, other_metrics) = metrics(other.internal).await;

    // Nobody is named.
    let key = &login.keys[BOT];
    for text in [&ingest_text, &query_text, &other_text] {
        for id in [ACCOUNT, BOT, CHANNEL, "ser}", "wq=", "vq5", &login.token, key, "127.0.0.1"] {
            assert!(!text.contains(id), "{id} is in the metrics: {text}");
        }
    }

    // They say what happened.
    let value = |metrics: &Exposition, name: &str, labels: &[(&str, &str)]| {
        let value = metrics.get(name).and_then(|family| family.value(labels));
        value.unwrap_or_else(|| panic!("no {name} {labels:?}"))
    };
    let of = |name: &str, labels: &[(&str, &str)]| value(&ingest_metrics, name, labels);
    for (outcome, n) in [
        ("accepted", 2.0),
        ("duplicate", 1.0),
        ("conflict", 1.0),
        ("unknown_type", 1.0),
        ("dead_letter", 4.0),
    ] {
        assert_eq!(of("botstats_ingest_events_total", &[("outcome", outcome)]), n, "{outcome}");
    }
    for rule in ["subject", "envelope", "data", "time"] {
        assert_eq!(of("botstats_ingest_dead_letters_total", &[("rule", rule)]), 1.0, "{rule}");
    }
    assert_eq!(of("botstats_ingest_reads_total", &[("outcome", "answered")]), 2.0);
    assert_eq!(of("botstats_ingest_sequence", &[]), 9.0);
    assert_eq!(of("botstats_ingest_stream_sequence", &[]), 9.0);
    assert_eq!(of("botstats_ingest_lag_messages", &[]), 0.0);
    assert!(of("botstats_ingest_lag_seconds", &[]) < PATIENCE.as_secs_f64());
    assert_eq!(of("botstats_ingest_pairs", &[]), 1.0);
    let file_bytes = fs::metadata(site.folder("ingest").join("data/botstats.redb")).unwrap().len();
    assert_eq!(of("botstats_ingest_file_bytes", &[]), file_bytes as f64);
    for name in ["file_disk_bytes", "disk_free_bytes", "disk_size_bytes"] {
        assert!(of(&format!("botstats_ingest_{name}"), &[]) > 10_000.0, "{name}");
    }
    for part in ["filters", "pairs"] {
        assert!(of("botstats_ingest_memory_bytes", &[("of", part)]) > 30.0, "{part}");
    }
    let of = |name: &str, labels: &[(&str, &str)]| value(&query_metrics, name, labels);
    for (status, n) in &statuses {
        let status = status.to_string();
        assert_eq!(of("botstats_query_requests_total", &[("status", &status)]), *n, "{status}");
    }
    let decision = |decision: &'static str| [("decision", decision)];
    assert_eq!(of("botstats_query_throttle_decisions_total", &decision("granted")), 1.0);
    assert_eq!(of("botstats_query_throttle_decisions_total", &decision("remembered")), 1.0);
    let denied =
        value(&other_metrics, "botstats_query_throttle_decisions_total", &decision("denied"));
    assert_eq!(denied, 1.0);
    for (kind, n) in [("account", 1.0), ("bot", 1.0)] {
        assert_eq!(of("botstats_query_directory_entries", &[("kind", kind)]), n);
    }
    for metrics in [&ingest_metrics, &query_metrics] {
        assert_eq!(value(metrics, "botstats_ready", &[]), 1.0);
        assert_eq!(value(metrics, "botstats_nats_connected", &[]), 1.0);
        assert!(value(metrics, "process_resident_memory_bytes", &[]) > 1e6);
    }

    // Others rely on them.
    documented(&ingest_metrics, &query_metrics).unwrap();
    let mut known = Known::of(&[("ingest", &ingest_metrics), ("query", &query_metrics)]);
    let alerts = alerts().unwrap();
    for (alert, expression) in &alerts {
        known.check(expression).with_context(|| alert.clone()).unwrap();
    }
    known.has("ALERTS", [("alertstate", "firing")]);
    for (title, expression) in expressions(&dashboard()) {
        known.check(&expression).with_context(|| title.clone()).unwrap();
    }
    let unused: Vec<&String> = known.metrics.keys().filter(|n| !known.used.contains(*n)).collect();
    assert!(unused.is_empty(), "on no panel and in no alert: {unused:?}");
}

/// Every metric is in the table of the manual, and every one of the table exists, with these labels
/// and in these programs.
fn documented(ingest: &Exposition, query: &Exposition) -> Result<()> {
    let manual = file("docs/monitoring.md");
    let mut listed = BTreeMap::new();
    for line in manual.lines() {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (Some(name), Some(of), Some(_)) = (cells.next(), cells.next(), cells.next()) else {
            continue;
        };
        let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`')) else {
            continue;
        };
        if !name.starts_with("botstats_") && !name.starts_with("process_") {
            continue;
        }
        ensure!(listed.insert(name.to_owned(), of.to_owned()).is_none(), "{name} is listed twice");
    }
    let names = |metrics: &Exposition| -> BTreeSet<String> {
        let with_labels = metrics.iter().map(|(name, family)| {
            let labels: Vec<String> = family.label_names().into_iter().collect();
            if labels.is_empty() { name.clone() } else { format!("{name}{{{}}}", labels.join(",")) }
        });
        with_labels.collect()
    };
    let (ingest, query) = (names(ingest), names(query));
    let mut there = BTreeMap::new();
    for name in ingest.union(&query) {
        let of = match (ingest.contains(name), query.contains(name)) {
            (true, true) => "both",
            (true, false) => "ingest",
            _ => "query",
        };
        there.insert(name.clone(), of.to_owned());
    }
    let missing: Vec<_> = there.iter().filter(|(n, of)| listed.get(*n) != Some(of)).collect();
    let gone: Vec<_> = listed.iter().filter(|(n, of)| there.get(*n) != Some(of)).collect();
    ensure!(
        missing.is_empty() && gone.is_empty(),
        "not in the manual: {missing:?}; only in the manual: {gone:?}"
    );
    Ok(())
}

/// What can be asked for: the metrics, their labels and the values of those.
struct Known {
    metrics: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
    /// Which were asked for.
    used: BTreeSet<String>,
}

impl Known {
    fn of(programs: &[(&str, &Exposition)]) -> Self {
        let mut known = Self { metrics: BTreeMap::new(), used: BTreeSet::new() };
        for (job, metrics) in programs {
            known.has("up", [("job", *job)]);
            for family in metrics.values() {
                for sample in &family.samples {
                    let labels = sample.labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
                    known.has(&sample.name, labels.chain([("job", *job)]));
                }
            }
        }
        known
    }

    fn has<'a>(&mut self, metric: &str, labels: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let of_metric = self.metrics.entry(metric.to_owned()).or_default();
        // Prometheus gives each series this one.
        of_metric.entry("instance".to_owned()).or_default();
        for (label, value) in labels {
            of_metric.entry(label.to_owned()).or_default().insert(value.to_owned());
        }
    }

    fn check(&mut self, expression: &str) -> Result<()> {
        let asked = asked(expression)?;
        ensure!(!asked.selectors.is_empty(), "nothing is asked for");
        let mut labels = BTreeSet::new();
        for Selector { metric, matchers } in &asked.selectors {
            let of_metric = self.metrics.get(metric).with_context(|| format!("no {metric}"))?;
            // The parts of a histogram are one.
            let base = metric.strip_suffix("_bucket").or_else(|| metric.strip_suffix("_count"));
            for part in ["", "_bucket", "_count", "_sum"] {
                self.used.insert(format!("{}{part}", base.unwrap_or(metric)));
            }
            labels.extend(of_metric.keys().cloned());
            for (label, operator, value) in matchers {
                let there =
                    of_metric.get(label).with_context(|| format!("{metric} has no {label}"))?;
                let alternatives: Vec<&str> = match operator.as_str() {
                    "=" => vec![value],
                    "=~" => value.split('|').collect(),
                    other => anyhow::bail!("{other} is not expected here"),
                };
                for one in alternatives {
                    let found = there.iter().any(|value| fits(one, value));
                    ensure!(found, "no {metric} has a {label} {one}: {there:?}");
                }
            }
        }
        let strange: Vec<_> = asked.grouped.difference(&labels).collect();
        ensure!(strange.is_empty(), "labels that there are not: {strange:?}");
        Ok(())
    }
}

/// The alerts: name and expression.
fn alerts() -> Result<Vec<(String, String)>> {
    let rules = file("docs/deploy/observe/alerts.yml");
    let after = |start: &str| -> Vec<String> {
        let lines = rules.lines().filter_map(|line| line.trim().strip_prefix(start));
        lines.map(|rest| rest.trim().to_owned()).collect()
    };
    let (names, expressions) = (after("- alert:"), after("expr:"));
    ensure!(names.len() > 15 && names.len() == expressions.len(), "an expression a line");
    Ok(names.into_iter().zip(expressions).collect())
}

fn dashboard() -> Value {
    serde_json::from_str(&file("docs/deploy/observe/dashboard.json")).unwrap()
}

/// The expressions of all panels, with the panel's title.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap().to_owned();
            all.push((panel["title"].as_str().unwrap().to_owned(), expression));
        }
    }
    assert!(all.len() > 40, "{}", all.len());
    all
}

#[test]
fn each_alert_is_explained_and_tested() {
    let (manual, tests) = (file("docs/runbook.md"), file("docs/deploy/observe/alerts_test.yml"));
    let rules = file("docs/deploy/observe/alerts.yml");
    let headings: BTreeSet<&str> =
        manual.lines().filter_map(|l| l.strip_prefix("### Botstats")).collect();
    let mut names = BTreeSet::new();
    for (alert, _) in alerts().unwrap() {
        let name = alert.strip_prefix("Botstats").unwrap().to_owned();
        assert!(headings.contains(name.as_str()), "the manual does not explain {alert}");
        let runbook = format!("runbook: docs/runbook.md#{}\n", alert.to_lowercase());
        assert_eq!(rules.matches(&runbook).count(), 1, "{runbook}");
        assert!(tests.contains(&format!("      - alertname: {alert}\n")), "{alert} is not raised");
        let quiet = format!("{{alertname: {alert}, eval_time: 24h, exp_alerts: []}}");
        assert!(tests.contains(&quiet), "{alert} is not tried with a healthy site");
        names.insert(name);
    }
    let gone: Vec<_> = headings.iter().filter(|name| !names.contains(**name)).collect();
    assert!(gone.is_empty(), "explained, but no alerts: {gone:?}");
}

#[test]
fn the_dashboard_is_one() {
    let dashboard = dashboard();
    let source = json!({"type": "prometheus", "uid": "${datasource}"});
    let variable = &dashboard["templating"]["list"][0];
    assert_eq!(
        (&variable["name"], &variable["type"]),
        (&json!("datasource"), &json!("datasource"))
    );
    let provisioned = file("docs/deploy/observe/grafana-datasource.yml");
    let uid = variable["current"]["value"].as_str().unwrap();
    assert!(provisioned.contains(&format!("    uid: {uid}\n")), "{uid}");
    let (mut ids, mut titles, mut taken) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: an id twice");
        assert!(titles.insert(title), "{title}: a title twice");
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(place("w") > 0 && place("h") > 0 && place("x") + place("w") <= 24, "{title}");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{title} is over another panel");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"], source, "{title}");
        let mut references = BTreeSet::new();
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"], source, "{title}");
            assert!(references.insert(target["refId"].as_str().unwrap()), "{title}");
        }
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}: no unit");
    }
}

/// The lines of a log, each an object with what every line has.
fn lines(process: &Process) -> Vec<Value> {
    let log = process.log();
    // The last one may still be being written.
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(line).collect()
}

fn line(text: &str) -> Value {
    let line: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let levels = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];
    assert!(levels.contains(&line["level"].as_str().unwrap()), "{text}");
    assert!(line["target"].as_str().is_some_and(|target| !target.is_empty()), "{text}");
    assert!(line["message"].as_str().is_some_and(|message| !message.is_empty()), "{text}");
    let time = line["timestamp"].as_str().unwrap();
    assert!(time.len() >= 20 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{text}");
    line
}

/// Waits for a line with that id and that beginning of its message.
async fn line_with(process: &Process, id: &str, message: &str) -> Value {
    until(&format!("a line {message:?} with {id}"), PATIENCE, async || {
        let fits = |line: &Value| {
            line["request_id"] == id && line["message"].as_str().unwrap().starts_with(message)
        };
        lines(process).into_iter().find(fits)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_goes_through_both_programs() {
    let mut stage = Stage::start("0s", 1).await;
    let ask = async |id: &str| {
        let headers = [("X-Request-Id", id)];
        let answer = get_as(&stage.logins[0].token, stage.query.http, ALL, &headers).await;
        (answer.status, answer.header("x-request-id").unwrap(), answer)
    };
    let longest = "Z".repeat(128);
    for id in ["from-curl.42_Z", &longest] {
        let (status, echoed, _) = ask(id).await;
        assert_eq!((status, echoed.as_str()), (200, id));
        let answered = line_with(&stage.query.process, id, "answered with statistics").await;
        assert_eq!(answered["account"], "acct-0");
        let read = line_with(&stage.ingest, id, "read answered").await;
        assert_eq!((&read["account"], &read["level"]), (&json!("acct-0"), &json!("INFO")));
        assert!(read["took_ms"].is_u64() && read["chunks"] == 1, "{read}");
    }
    // One that was made is in both logs too.
    let (status, made, _) = ask("not one").await;
    assert_eq!(status, 200);
    assert_ne!(made, "not one");
    line_with(&stage.query.process, &made, "answered with statistics").await;
    line_with(&stage.ingest, &made, "read answered").await;

    // Who asks an ingest past query writes no lines into its log.
    let request = wire::v1::Request {
        request_id: "x\"}\n{\"level\":\"ERROR\",\"message\":\"forged\"}\u{1b}[31m".to_owned(),
        bots: None,
        types: TypeSet::from_iter([]),
        boundaries: vec![Quarter(0), Quarter(1)],
        deadline_ms: 1_000,
    };
    let bytes = wire::encode_as(wire::v1::VERSION, &request).unwrap();
    let subject = "botstats.read.v1.acct-0";
    stage.site.client.request(subject, bytes.into()).await.unwrap();
    line_with(&stage.ingest, "(not an id)", "read answered").await;
    assert!(!stage.ingest.log().contains("forged"), "{}", stage.ingest.log());

    // Without an ingest: the id is in the answer, and the log has the reason under it.
    stage.ingest.kill();
    let (status, echoed, answer) = ask("lost.1").await;
    assert_eq!((status, echoed.as_str()), (503, "lost.1"), "{}", answer.text());
    assert_eq!(answer.json()["request_id"], "lost.1");
    let refused = line_with(&stage.query.process, "lost.1", "a call got 503: ").await;
    assert_eq!((&refused["level"], &refused["account"]), (&json!("WARN"), &json!("acct-0")));
    let (_, metrics) = metrics(stage.query.internal).await;
    assert_eq!(metrics["botstats_query_failed_reads_total"].value(&[]), Some(1.0));
    assert_eq!(metrics["botstats_query_requests_total"].value(&[("status", "503")]), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_is_seen() {
    let mut stage = Stage::start("0s", 1).await;
    assert_eq!(stage.query.ask_all(&stage.logins[0].token).await.status, 200);
    let of_ingest = stage.ingest.address("internal listener ready").await;
    let of_query = stage.query.internal;
    let value =
        async |address: SocketAddr, name: &str| metrics(address).await.1[name].value(&[]).unwrap();
    stage.site.nats.kill();
    for address in [of_ingest, of_query] {
        until("no connection in the metrics", PATIENCE, async || {
            (value(address, "botstats_nats_connected").await == 0.0).then_some(())
        })
        .await;
        until("not ready in the metrics", PATIENCE, async || {
            (value(address, "botstats_ready").await == 0.0).then_some(())
        })
        .await;
    }
    // What nobody can look at any more grows older.
    let before = value(of_ingest, "botstats_ingest_lag_seconds").await;
    until("a lag that grows", PATIENCE, async || {
        let now = value(of_ingest, "botstats_ingest_lag_seconds").await;
        (now > before + 1.0).then_some(())
    })
    .await;
    stage.site.nats.restart().unwrap();
    for address in [of_ingest, of_query] {
        for name in ["botstats_ready", "botstats_nats_connected"] {
            until("all is back", PATIENCE, async || {
                (value(address, name).await == 1.0).then_some(())
            })
            .await;
        }
    }
    for process in [&stage.ingest, &stage.query.process] {
        assert!(lines(process).len() > 3);
    }
    let warnings =
        metrics(of_query).await.1["botstats_log_lines_total"].value(&[("level", "warn")]);
    let in_log = lines(&stage.query.process).iter().filter(|l| l["level"] == "WARN").count();
    assert!(warnings.is_some_and(|n| n >= 1.0 && n <= in_log as f64), "{warnings:?} {in_log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_stands_twice_is_named_and_counted_until_it_is_mended() {
    let stage = Stage::start("0s", 1).await;
    let (internal, login) = (stage.query.internal, &stage.logins[0]);
    let bad_entries = async |expected: f64| {
        until("the number of bad entries", PATIENCE, async || {
            let counted =
                metrics(internal).await.1["botstats_query_directory_bad_entries"].value(&[]);
            (counted == Some(expected)).then_some(())
        })
        .await;
    };
    let kv = stage.site.js.get_key_value("botstats_directory").await.unwrap();
    let copy = async |from: &str, to: &str| {
        let value = kv.get(from).await.unwrap().unwrap();
        kv.put(to, value).await.unwrap();
    };
    let told = |text: &str| -> Vec<String> {
        let messages = lines(&stage.query.process).into_iter().filter(|l| l["level"] == "WARN");
        let messages = messages.map(|l| l["message"].as_str().unwrap().to_owned());
        messages.filter(|message| message.contains(text)).collect()
    };
    bad_entries(0.0).await;
    // The account's entry, then one bot's, as an operator copies them by hand.
    for (from, to, status, what) in [
        ("account.acct-0", "account.acct-1", 401, "the same token"),
        ("bot.acct-0.b1", "bot.acct-0.b3", 404, "the same API key"),
    ] {
        copy(from, to).await;
        bad_entries(2.0).await;
        let path = ALL.replace('*', &login.keys["b1"]);
        let answer = get_as(&login.token, stage.query.http, &path, &[]).await;
        assert_eq!(answer.status, status, "{to}");
        let lines = until("the warning", PATIENCE, async || {
            let lines = told(what);
            (!lines.is_empty()).then_some(lines)
        })
        .await;
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains(from) && lines[0].contains(to), "{lines:?}");
        let entry = String::from_utf8(kv.get(from).await.unwrap().unwrap().to_vec()).unwrap();
        let entry: Value = serde_json::from_str(&entry).unwrap();
        let hash = entry["key_sha256"].as_str().or(entry["tokens"][0]["sha256"].as_str()).unwrap();
        let log = stage.query.process.log();
        assert!(
            !log.contains(hash) && !log.contains(&login.token) && !log.contains(&login.keys["b1"])
        );
        kv.delete(to).await.unwrap();
        bad_entries(0.0).await;
        let answer = get_as(&login.token, stage.query.http, &path, &[]).await;
        assert_eq!(answer.status, 200, "{to} is gone");
    }
    // A copy of a removed account is no clash.
    let account =
        String::from_utf8(kv.get("account.acct-0").await.unwrap().unwrap().to_vec()).unwrap();
    let mut removed: Value = serde_json::from_str(&account).unwrap();
    removed["removed"] = true.into();
    stage.site.put("account.acct-2", &removed).await;
    stage.site.put("account.bad", &json!([])).await;
    bad_entries(1.0).await;
    assert_eq!(stage.query.ask_all(&login.token).await.status, 200);
    // The copy of the bot's entry had its token, too.
    assert_eq!(told("have the same").len(), 3);
}

/// A 0 between the start and the state would be a leap for `increase`, and an alert.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_state_has_counted_goes_on_without_a_leap() {
    let mut stage = Stage::start("0s", 1).await;
    let counted = |page: &Exposition| {
        let names = ["events_total", "dead_letters_total"];
        let families = names.map(|name| page.get(&format!("botstats_ingest_{name}")));
        families.map(|family| {
            let samples = family?.samples.iter().map(|sample| format!("{sample:?}"));
            Some(samples.collect::<BTreeSet<_>>())
        })
    };
    let address = stage.ingest.address("internal listener ready").await;
    let accepted = stage.site.applied(PATIENCE).await.events["accepted"];
    let before = until("everything is on the disk", PATIENCE, async || {
        let page = metrics(address).await.1;
        let events = page.get("botstats_ingest_events_total")?;
        let synced = events.value(&[("outcome", "accepted")])? == accepted as f64;
        synced.then(|| counted(&page))
    })
    .await;
    assert!(accepted > 0 && before.iter().all(Option::is_some));

    stage.site.nats.kill();
    stage.ingest.restart();
    let address = stage.ingest.address("internal listener ready").await;
    stage.ingest.logged("store open").await;
    let (text, page) = metrics(address).await;
    assert!(counted(&page).iter().all(Option::is_none), "{text}");

    stage.site.nats.restart().unwrap();
    let after = until("the state's counts", PATIENCE, async || {
        let after = counted(&metrics(address).await.1);
        after.iter().all(Option::is_some).then_some(after)
    })
    .await;
    assert_eq!(after, before);
}

#[test]
fn a_panic_is_a_line_of_the_log() {
    if setting(PANIC, 0) == 1 {
        let format = LogFormat::Json;
        let _log = logging::start(&LogSettings { filter: "info".parse().unwrap(), format });
        let name = "it".to_owned();
        let _panicked = std::thread::spawn(move || panic!("{name} broke\nin two")).join();
        return;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "observability::a_panic_is_a_line_of_the_log", "--nocapture"])
        .env(PANIC, "1")
        .output()
        .unwrap();
    let said = String::from_utf8(child.stderr).unwrap();
    let all: Vec<Value> = said.lines().map(line).collect();
    let [told] = &all[..] else { panic!("{said}") };
    assert!(told["message"].as_str().unwrap().ends_with("it panicked: it broke\nin two"), "{told}");
    assert!(told["place"].as_str().unwrap().contains("observability"), "{told}");
    assert!(child.status.success());
}
