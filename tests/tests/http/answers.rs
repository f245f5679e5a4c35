//! What a 200 looks like: formats, codings, headers, and that one question has one answer.

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use botstats_common::io::clock;
use botstats_tests::harness::{
    ALL, Answer, PATIENCE, Stage, event, get, get_as, large, publish, send, stored, until,
};
use botstats_tests::model::{FIELDS, GroupMode, Model, Question, parse_time_ms};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

struct Asking<'a> {
    stage: &'a Stage,
}

impl Asking<'_> {
    async fn path(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let (token, address) = (&self.stage.logins[0].token, self.stage.query.http);
        let answer = get_as(token, address, path, headers).await;
        assert_eq!(answer.status, 200, "{path} {headers:?}: {answer:?}");
        assert!(answer.whole, "{path} {headers:?}");
        answer
    }

    async fn accept(&self, accept: &str) -> Answer {
        self.path(&format!("{ALL}?fill=zero"), &[("Accept", accept)]).await
    }

    /// The same again, if the running quarter of an hour changed in between.
    async fn both(&self, a: (&str, &[(&str, &str)]), b: (&str, &[(&str, &str)])) -> [Answer; 2] {
        let first = self.path(a.0, a.1).await;
        let second = self.path(b.0, b.1).await;
        let again = self.path(a.0, a.1).await;
        if first.body == again.body { [first, second] } else { [again, self.path(b.0, b.1).await] }
    }
}

async fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzipDecoder::new(bytes).read_to_end(&mut plain).await.unwrap();
    plain
}

async fn unzstd(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    ZstdDecoder::new(bytes).read_to_end(&mut plain).await.unwrap();
    plain
}

/// Fields of RFC 4180.
fn csv(text: &str) -> Vec<Vec<String>> {
    assert!(text.ends_with("\r\n"), "every line ends with CRLF");
    let mut rows = vec![vec![String::new()]];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let row = rows.last_mut().unwrap();
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                row.last_mut().unwrap().push('"');
                characters.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(String::new()),
            '\r' if !quoted => {
                assert_eq!(characters.next(), Some('\n'));
                if characters.peek().is_some() {
                    rows.push(vec![String::new()]);
                }
            }
            c => row.last_mut().unwrap().push(c),
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn formats_and_codings_hold_the_same_rows() {
    let stage = Stage::start("0s", 1).await;
    let asking = Asking { stage: &stage };
    let filled = format!("{ALL}?fill=zero");

    for (accept, media_type) in [
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("application/json", "application/json"),
        ("application/json;q=0.5, text/csv", "text/csv"),
        ("text/csv;q=0.1, application/json;q=0.9", "application/json"),
        ("text/*", "text/csv"),
        ("text/csv", "text/csv"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("image/png, application/x-ndjson;q=0.1", "application/x-ndjson"),
    ] {
        let content_type = asking.accept(accept).await.header("content-type").unwrap_or_default();
        assert_eq!(content_type.split(';').next(), Some(media_type), "{accept}");
    }

    let csv_header: &[(&str, &str)] = &[("Accept", "text/csv")];
    let [json, as_csv] = asking.both((&filled, &[]), (&filled, csv_header)).await;
    let rows = json.json().as_array().unwrap().clone();
    assert!(rows.iter().any(|row| row["Value"].is_null()), "no null to test");
    let lines = csv(as_csv.text());
    assert_eq!(lines[0], FIELDS);
    assert_eq!(lines.len(), rows.len() + 1);
    for (line, row) in lines[1..].iter().zip(&rows) {
        let fields = FIELDS.map(|field| match &row[field] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        assert_eq!(line[..], fields);
    }

    let lines_header: &[(&str, &str)] = &[("Accept", "application/x-ndjson")];
    let [json, lines] = asking.both((&filled, &[]), (&filled, lines_header)).await;
    let joined = lines.text().lines().collect::<Vec<_>>().join(",");
    assert_eq!(json.text(), format!("[{joined}]"));
    assert!(lines.text().ends_with('\n'));

    for (accept_encoding, coding) in [
        ("gzip", Some("gzip")),
        ("zstd", Some("zstd")),
        ("gzip;q=0.5, zstd;q=0.8", Some("zstd")),
        ("zstd;q=0, gzip", Some("gzip")),
        ("identity", None),
        ("br", None),
    ] {
        let headers: &[(&str, &str)] = &[("Accept-Encoding", accept_encoding)];
        let [plain, coded] = asking.both((&filled, &[]), (&filled, headers)).await;
        assert_eq!(plain.header("content-encoding"), None);
        assert_eq!(coded.header("content-encoding").as_deref(), coding, "{accept_encoding}");
        let decoded = match coding {
            Some("gzip") => gunzip(&coded.body).await,
            Some(_) => unzstd(&coded.body).await,
            None => coded.body.clone(),
        };
        assert!(decoded == plain.body, "{accept_encoding}: another body");
        assert!(coding.is_none() || coded.body.len() < plain.body.len(), "{accept_encoding}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_and_bytes() {
    let stage = Stage::start("0s", 1).await;
    let asking = Asking { stage: &stage };

    let before_ms = clock::now_ms();
    let answer = asking.path(ALL, &[("X-Request-Id", "my.request_1-2")]).await;
    assert_eq!(answer.header("x-request-id").as_deref(), Some("my.request_1-2"));
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    let vary = answer.header("vary").unwrap_or_default().to_ascii_lowercase();
    for name in ["authorization", "accept", "accept-encoding"] {
        assert!(vary.split(',').any(|item| item.trim() == name), "{vary}");
    }
    let as_of = answer.header("data-as-of").unwrap_or_default();
    assert_eq!(as_of.len(), "2026-11-20T10:52:00.000Z".len(), "{as_of}");
    let as_of_ms = parse_time_ms(&as_of).unwrap();
    assert!((before_ms - 60_000..before_ms + 5_000).contains(&as_of_ms), "{as_of}");

    for bad in ["", "with space", "é", &"x".repeat(129), "a/b"] {
        let made = asking.path(ALL, &[("X-Request-Id", bad)]).await.header("x-request-id");
        assert!(made.as_deref().is_some_and(|id| id != bad && !id.is_empty()), "{bad:?} {made:?}");
    }

    // One question has one answer, to the byte, however it is asked; and it is the model's.
    let tail =
        |types: &str, mode: &str| format!("/analytics/statistics/account/*/{types}/{mode}/3");
    let plain = tail("0,2,8,10,13", "hour");
    for other in [
        tail("13,10,8,2,0", "hour"),
        tail("13,13,2,0,10,8,8,8", "HOUR"),
        tail("0,2,8,10,13", "Hour"),
        plain.replace('*', "%2A"),
    ] {
        let [a, b] = asking.both((&plain, &[]), (&other, &[])).await;
        assert_eq!(a.text(), b.text(), "{other}");
    }
    let model = Model::of(&stored(&stage.site.js).await);
    for fill in [false, true] {
        for mode in GroupMode::ALL {
            let now_ms = clock::now_ms();
            let question = Question { fill, now_ms, ..Question::of_all("acct-0", mode, 2) };
            assert!(model.rows(&question, &stage.directory).len() > 10);
            stage.query.check(&model, &stage.logins[0], &question, &stage.directory).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_as_of_is_honest() {
    let stage = Stage::start("0s", 1).await;
    let asking = Asking { stage: &stage };
    let before = goals(&asking.path(ALL, &[]).await);
    for number in 1..=20 {
        let now_ms = clock::now_ms();
        let data = json!({"goal": "order"});
        let place = ["acct-0", "b1", "web"];
        let event = event(place, "goal.reached", now_ms, &format!("g{number}"), &data);
        publish(&stage.site.js, [event]).await;
        let stored_ms = stored(&stage.site.js).await.last().unwrap().stored_ns / 1_000_000;
        until("the event is counted", PATIENCE, async || {
            let answer = asking.path(ALL, &[]).await;
            let as_of = parse_time_ms(&answer.header("data-as-of")?)?;
            let counted = goals(&answer) == before + number;
            assert!(counted || as_of <= stored_ms, "as of {as_of}, without one of {stored_ms}");
            // With nothing pending it goes on with the stream's heartbeats.
            (counted && as_of > stored_ms).then_some(())
        })
        .await;
    }
}

fn goals(answer: &Answer) -> u64 {
    let rows = answer.json();
    let rows = rows.as_array().unwrap().iter();
    rows.filter(|row| row["EventType"] == 12).map(|row| row["Count"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_needs_no_token() {
    let stage = Stage::start("0s", 1).await;
    let answer = get(stage.query.http, "/openapi.json", &[]).await;
    assert_eq!(answer.status, 200);
    let description = answer.json();
    assert!(description["openapi"].as_str().is_some_and(|v| v.starts_with("3.")), "{description}");
    let paths = description["paths"].as_object().unwrap();
    let statistics =
        paths.iter().find(|(path, _)| path.starts_with("/analytics/statistics/account/"));
    let (path, statistics) = statistics.expect("the statistics are described");
    assert_eq!(path.matches('{').count(), 4, "{path}");
    let answers = statistics["get"]["responses"].as_object().unwrap();
    for status in ["200", "400", "401", "404", "406", "429", "503"] {
        assert!(answers.contains_key(status), "{status} is not described");
    }
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/metrics", 200)] {
        assert_eq!(get(stage.query.internal, path, &[]).await.status, status, "{path}");
        assert_eq!(get(stage.query.http, path, &[]).await.status, 404, "{path} is internal");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_of_all_sorts_send_by_themselves_is_understood() {
    let stage = Stage::start("0s", 1).await;
    let asking = Asking { stage: &stage };
    for accept in [
        // Java 8 and 11, a proxy, OData.
        "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
        "*",
        "application/json;odata=verbose",
        "text/html;x=\"a, application/json",
    ] {
        let answer = asking.path(ALL, &[("Accept", accept)]).await;
        assert_eq!(answer.header("content-type").as_deref(), Some("application/json"), "{accept}");
    }
    let packed = asking.path(ALL, &[("Accept-Encoding", "gzip;q=.5")]).await;
    assert_eq!(packed.header("content-encoding").as_deref(), Some("gzip"));
    // encodeURIComponent, Python's quote, clients that are made from the description.
    let plain = "/analytics/statistics/account/*/0,12/day/7";
    for encoded in [
        "/analytics/statistics/account/%2A/0%2C12/day/7",
        "/analytics/statistics/account/%2a/0%2c12/day/7",
        "/%61nalytics/statistic%73/%61ccount/*/%30,1%32/d%61y/%37",
    ] {
        let [first, second] = asking.both((plain, &[]), (encoded, &[])).await;
        assert_eq!(first.body, second.body, "{encoded}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_has_the_name_of_a_file_and_other_formats_have_none() {
    let stage = Stage::start("0s", 1).await;
    let asking = Asking { stage: &stage };
    let key = &stage.logins[0].keys["b1"];
    for (path, accept, coding) in [
        (ALL.to_owned(), "text/csv", "identity"),
        (ALL.to_owned(), "text/csv", "gzip"),
        (ALL.replace('*', key), "text/csv", "identity"),
    ] {
        let fields = [("Accept", accept), ("Accept-Encoding", coding)];
        let answer = asking.path(&path, &fields).await;
        let name = answer.header("content-disposition").unwrap();
        // The account's date, in its own zone, which is more than five hours before UTC.
        let date = name.strip_prefix("attachment; filename=\"botstats-acct-0-").unwrap();
        let date = date.strip_suffix(".csv\"").unwrap();
        let midnight_ms = parse_time_ms(&format!("{date}T00:00:00Z")).unwrap() - 345 * 60_000;
        // A test that runs over midnight may look a minute later.
        let day = midnight_ms..midnight_ms + 86_460_000;
        assert!(day.contains(&clock::now_ms()), "{name}");
        assert!(!name.contains(key.as_str()));
        assert_eq!(answer.header("content-type").as_deref(), Some("text/csv; charset=utf-8"));
        // Without a throttle nothing is said of one.
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
        assert_eq!(answer.header("ratelimit"), None);
        assert!(coding == "gzip" || answer.text().starts_with("GroupLabel,"), "no byte order mark");
    }
    for accept in ["application/json", "application/x-ndjson"] {
        let answer = asking.path(ALL, &[("Accept", accept)]).await;
        assert_eq!(answer.header("content-disposition"), None, "{accept}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_is_told_to_whoever_asks_and_counted_apart() {
    let mut stage = Stage::start("1h", 1).await;
    let address = stage.query.http;
    let check = async |method: &str| {
        let head = format!("{method} /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        send(address, head.as_bytes(), PATIENCE).await.unwrap()
    };
    let is = |answer: &Answer, status: u16, text: &str| {
        assert_eq!((answer.status, answer.text()), (status, text), "{answer:?}");
        assert_eq!(answer.header("content-type").as_deref(), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
        let retry_after = answer.header("retry-after");
        assert_eq!(retry_after.as_deref(), (status == 503).then_some("2"));
    };
    is(&check("GET").await, 200, "ready\n");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer = check(method).await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow").as_deref(), Some("GET, HEAD"), "{method}");
    }
    // What load balancers ask by themselves is refused elsewhere.
    for (line, status) in [("GET /", 404), ("HEAD /", 405), ("OPTIONS /", 405), ("OPTIONS *", 405)]
    {
        let head = format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = send(address, head.as_bytes(), PATIENCE).await.unwrap();
        assert_eq!(answer.status, status, "{line}");
    }
    stage.ingest.kill();
    let unready = until("the health of a query without an ingest", PATIENCE, async || {
        Some(check("GET").await).filter(|answer| answer.status == 503)
    });
    is(&unready.await, 503, "not ready\n");
    // A check that fails is no call that fails.
    let metrics = get(stage.query.internal, "/metrics", &[]).await;
    let of = |series: &str| {
        let line = metrics.text().lines().find_map(|line| line.strip_prefix(series));
        line.unwrap().trim().parse::<f64>().unwrap()
    };
    assert!(of("botstats_query_health_checks_total{status=\"200\"}") >= 1.0);
    assert!(of("botstats_query_health_checks_total{status=\"503\"}") >= 1.0);
    assert_eq!(of("botstats_query_requests_total{status=\"503\"}"), 0.0);
    assert_eq!(of("botstats_query_requests_total{status=\"200\"}"), 0.0);
    assert!(of("botstats_query_requests_total{status=\"405\"}") >= 5.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_too_many_rows_is_refused_and_uses_no_call() {
    let stage = Stage::start("1h", 1).await;
    stage.add_channels("acct-0", 160).await;
    let ask = async |path: &str| get_as(&stage.logins[0].token, stage.query.http, path, &[]).await;
    // 162 pairs of bot and channel, more than 29 days of hours, all codes.
    let path = large();
    for _ in 0..2 {
        let refused = ask(&path).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "answer-too-large"));
        let problem = refused.json();
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("rows") && detail.contains("2000000"), "{detail}");
        assert!(detail.contains("fill=zero") && detail.contains("no call was used"), "{detail}");
    }
    // By the day there are few enough; then the used call is what is found first.
    assert_eq!(ask(&path.replace("/hour/", "/day/")).await.status, 200);
    assert_eq!(ask(&path).await.status, 429);
}
