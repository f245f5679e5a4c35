//! The lines of `docs/examples/curl.sh` against a live installation: each gets the answer that is
//! written above it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use botstats_common::secret::SecretHash;
use botstats_tests::harness::{ALL, Stage, becomes, get_as};
use botstats_tests::model::FIELDS;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde_json::{Value, json};

/// A line, and what it answers.
#[derive(Debug)]
struct Line {
    status: u16,
    /// The type of the content, or the problem.
    what: String,
    command: String,
}

/// The answer to a line: what curl wrote, and what it says of the answer's head.
#[derive(Debug)]
struct Said {
    status: u16,
    headers: Value,
    output: String,
}

fn docs(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    fs::read_to_string(path).unwrap()
}

fn lines() -> Vec<Line> {
    let text = docs("examples/curl.sh");
    text.split("\n\n").skip(1).map(Line::parse).collect()
}

impl Line {
    /// A line of curl below the comment that says what it answers.
    fn parse(block: &str) -> Self {
        let (comment, command) = block.split_once('\n').unwrap();
        let (answer, _) = comment.strip_prefix("# ").unwrap().split_once(": ").unwrap();
        let (status, what) = answer.split_once(' ').unwrap();
        let (status, what) = (status.parse().unwrap(), what.to_owned());
        assert!(command.starts_with("curl "), "{command}");
        Self { status, what, command: command.to_owned() }
    }
}

/// The local date of the stage's accounts, so many days ago.
fn today(stage: &Stage, days_ago: i64) -> String {
    let zone = TimeZone::get(&stage.directory.timezone).unwrap();
    let today = zone.to_datetime(Timestamp::now()).date();
    (today - Span::new().days(days_ago)).to_string()
}

/// The columns of the answer to a line, in order.
fn columns(command: &str) -> Vec<String> {
    let parameter = |name: &str| {
        let (_, value) = command.split_once(&format!("{name}="))?;
        value.split(['&', '"']).next()
    };
    let mut columns: Vec<String> = FIELDS.map(str::to_owned).to_vec();
    let mut put_after = |column: &str, new: &[String]| {
        let place = columns.iter().position(|of| of == column).unwrap() + 1;
        columns.splice(place..place, new.iter().cloned());
    };
    if let Some(stats) = parameter("stats") {
        let column = |item: &str| {
            let (first, rest) = item.split_at(1);
            format!("{}{}", first.to_uppercase(), rest.replace(':', ""))
        };
        put_after("Unit", &stats.split(',').map(column).collect::<Vec<_>>());
    }
    if parameter("split").is_some() {
        put_after("ChannelName", &["SplitBy", "SplitName"].map(str::to_owned));
        put_after("ChannelId", &["SplitId".to_owned()]);
    }
    if parameter("previous").is_some() {
        columns.insert(0, "Period".to_owned());
    }
    columns
}

/// Runs a line in a shell. Curl's own settings file makes it say status and headers, so the line
/// need not.
fn run(stage: &Stage, command: &str) -> Said {
    let home = stage.site.folder("curl");
    fs::create_dir_all(&home).unwrap();
    let settings =
        "silent\nshow-error\nmax-time = 40\nwrite-out = \"%{stderr}%{http_code} %{header_json}\"\n";
    fs::write(home.join(".curlrc"), settings).unwrap();
    let done = Command::new("sh")
        .args(["-c", command])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("CURL_HOME", &home)
        .env("BOTSTATS_URL", format!("http://{}", stage.query.http))
        .env("BOTSTATS_TOKEN", &stage.logins[0].token)
        .env("BOTSTATS_BOT_KEY", &stage.logins[0].keys["b1"])
        .env("BOTSTATS_BOT_TOKEN", &stage.logins[0].bot_tokens["b1"])
        .env("BOTSTATS_VIEW_TOKEN", "view-token")
        .env("BOTSTATS_BOT", "b1")
        .env("FROM", today(stage, 6))
        .env("TO", today(stage, 0))
        .current_dir(&home)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    // A stream has no end: curl says so after the time that its line gives it.
    let (_, answer) = told
        .split_once("curl: (28)")
        .map_or(("", &*told), |(_, rest)| rest.split_once('\n').unwrap_or_default());
    let (status, headers) = answer
        .split_once(' ')
        .and_then(|(status, headers)| {
            Some((status.parse().ok()?, serde_json::from_str(headers).ok()?))
        })
        .unwrap_or_else(|| panic!("curl 7.83 or newer is needed; {command}: {told}"));
    Said { status, headers, output: String::from_utf8(done.stdout).unwrap() }
}

impl Said {
    fn header(&self, name: &str) -> &str {
        self.headers[name][0].as_str().unwrap_or_default()
    }

    /// The body: with -i it stands behind the head.
    fn body(&self) -> &str {
        let head = self.output.starts_with("HTTP/");
        if head { self.output.split_once("\r\n\r\n").unwrap().1 } else { &self.output }
    }

    fn check(&self, line: &Line) {
        let case = format!("{line:?}: {self:?}");
        assert_eq!(self.status, line.status, "{case}");
        let media_type = self.header("content-type").split(';').next().unwrap();
        if line.status == 200 {
            assert_eq!(media_type, line.what, "{case}");
            self.check_rows(&columns(&line.command), &case);
            return;
        }
        assert_eq!(media_type, "application/problem+json", "{case}");
        let retry_after: u64 = self.header("retry-after").parse().unwrap_or_default();
        assert_eq!(retry_after > 0, [429, 503].contains(&line.status), "{case}");
        if line.command.contains("--head") {
            assert!(self.body().is_empty(), "{case}");
            return;
        }
        let problem: Value = serde_json::from_str(self.body()).unwrap();
        assert_eq!(problem["type"], format!("urn:botstats:problem:{}", line.what), "{case}");
        assert_eq!(problem["status"], line.status, "{case}");
        for field in ["title", "detail", "request_id"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{case}");
        }
    }

    fn check_rows(&self, columns: &[String], case: &str) {
        let fields = |row: &Value| {
            let mut names: Vec<&str> =
                row.as_object().unwrap().keys().map(String::as_str).collect();
            let mut wanted: Vec<&str> = columns.iter().map(String::as_str).collect();
            names.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(names, wanted, "{case}");
        };
        match self.header("content-type") {
            "application/json" if case.contains("openapi.json") => {
                let document: Value = serde_json::from_str(self.body()).unwrap();
                assert_eq!(document, botstats_query::openapi::document());
            }
            "application/json" => {
                let rows: Vec<Value> = serde_json::from_str(self.body()).unwrap();
                assert!(!rows.is_empty(), "{case}");
                rows.iter().for_each(fields);
            }
            "text/plain; charset=utf-8" => assert_eq!(self.body(), "ready\n", "{case}"),
            "application/x-ndjson" => {
                assert!(!self.body().is_empty(), "{case}");
                self.body().lines().for_each(|line| fields(&serde_json::from_str(line).unwrap()));
            }
            _ => {
                let mut lines = self.body().split_terminator("\r\n");
                assert_eq!(lines.next(), Some(columns.join(",").as_str()), "{case}");
                assert!(lines.next().is_some(), "{case}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_answers_what_stands_above_it() {
    let lines = lines();
    let of = |status: u16| lines.iter().filter(move |line| line.status == status);
    let statuses = [200, 400, 401, 403, 404, 405, 406, 429, 431, 503];
    assert!(statuses.iter().all(|status| of(*status).next().is_some()), "{lines:?}");
    assert!(lines.iter().all(|line| statuses.contains(&line.status)), "{lines:?}");

    let mut open = Stage::start_with("0s", "0s", 1).await;
    for line in lines.iter().filter(|line| ![429, 503].contains(&line.status)) {
        let said = run(&open, &line.command);
        said.check(line);
        if line.command.contains("--compressed") {
            assert!(["gzip", "zstd"].contains(&said.header("content-encoding")), "{said:?}");
            assert_eq!(said.header("x-request-id"), "my-request.1");
        }
        if line.command.contains("gzip -d") {
            assert_eq!(said.header("content-encoding"), "gzip", "{said:?}");
        }
    }
    open.ingest.kill();
    of(503).for_each(|line| run(&open, &line.command).check(line));

    // No error uses the call, the first 200 does, and what needs no token never does.
    let throttled = Stage::start_with("1h", "1h", 1).await;
    for line in lines.iter().filter(|line| ![200, 429, 503].contains(&line.status)) {
        run(&throttled, &line.command).check(line);
    }
    let first = of(200).next().unwrap();
    run(&throttled, &first.command).check(first);
    // What does not come compressed gzip complains of.
    for line in of(200).filter(|line| !line.command.contains("gzip -d")) {
        let status = run(&throttled, &line.command).status;
        let needs_no_token = !line.command.contains("Authorization");
        // A bot has a call of its own.
        let is_of_bot = line.command.contains("BOTSTATS_BOT_TOKEN");
        assert_eq!(status, if needs_no_token || is_of_bot { 200 } else { 429 }, "{line:?}");
    }
    of(429).for_each(|line| run(&throttled, &line.command).check(line));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_of_the_page_answers() {
    let stage = Stage::start_with("1h", "1h", 1).await;
    let page = docs("http.md");
    let block = page.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(block.contains("http://127.0.0.1:8080"), "{block}");
    let command = block.replace("127.0.0.1:8080", &stage.query.http.to_string());
    let what = "application/json".to_owned();
    run(&stage, &command).check(&Line { status: 200, what, command: command.clone() });
}

/// The lines of docs/dashboard.md, with a token that sees everything. What the page says of the
/// answers of two paths has their fields.
#[tokio::test(flavor = "multi_thread")]
async fn the_lines_about_the_dashboard_answer() {
    let stage = Stage::start_with("1h", "1h", 1).await;
    let view = json!({"sha256": String::from(SecretHash::of("view-token")), "bots": null, "operators": true});
    stage.site.put("view.acct-0.v1", &view).await;
    becomes(stage.query.http, "view-token", "/dashboard/now", 200).await;
    let page = docs("dashboard.md");
    let block = page.split("```sh\n").nth(2).unwrap().split("```").next().unwrap();
    let lines: Vec<Line> = block.split("\n\n").map(Line::parse).collect();
    assert!(lines.len() > 10, "{lines:?}");
    let examples: Vec<Value> = page
        .split("```json\n")
        .skip(1)
        .map(|rest| serde_json::from_str(rest.split("```").next().unwrap()).unwrap())
        .collect();
    assert_eq!(examples.len(), 2);
    for line in &lines {
        let said = run(&stage, &line.command);
        let media_type = said.header("content-type").split(';').next().unwrap().to_owned();
        let is_data = line.command.contains("/dashboard/data/");
        if line.status != 200 || is_data {
            said.check(line);
        }
        assert_eq!(
            (said.status, line.status == 200 && media_type != line.what),
            (line.status, false)
        );
        let body = || serde_json::from_str::<Value>(said.body()).unwrap();
        let of_path = |path: &str| line.status == 200 && line.command.contains(path);
        if of_path("/dashboard/now") {
            assert_eq!(names(&body()), names(&examples[0]), "{said:?}");
            assert_eq!(names(&body()["Bots"][0]), names(&examples[0]["Bots"][0]), "{said:?}");
        }
        if of_path("/dashboard/account") {
            assert_eq!(names(&body()), names(&examples[1]), "{said:?}");
            assert_eq!(names(&body()["Bots"][0]), names(&examples[1]["Bots"][0]), "{said:?}");
        }
        if of_path("/dashboard/live") {
            assert!(said.body().starts_with("event: now\ndata: {\"AsOf\":"), "{said:?}");
        }
    }
    // None of them uses the account's call.
    let answer = get_as(&stage.logins[0].token, stage.query.http, ALL, &[]).await;
    assert_eq!(answer.status, 200);
}

/// The names of an object's fields, in order.
fn names(object: &Value) -> Vec<&String> {
    object.as_object().unwrap().keys().collect()
}

/// The page's other lines are those of the file, so they are tested with it.
#[test]
fn the_questions_of_the_page_are_those_of_the_file() {
    let commands: Vec<String> = lines().into_iter().map(|line| line.command).collect();
    let page = docs("http.md");
    let block = page.split("```sh\n").nth(2).unwrap().split("```").next().unwrap();
    let questions: Vec<&str> = block.trim_end().split("\n\n").collect();
    assert!(questions.len() > 10, "{block}");
    for question in questions {
        let (_, command) = question.split_once('\n').unwrap();
        assert!(commands.iter().any(|of| of.trim_end() == command), "{command}");
    }
}
