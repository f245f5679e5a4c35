//! The page and its files, and the switch that removes them.

use botstats_tests::harness::{PATIENCE, Site, Stage, get, head_as, send};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors ";
/// Every path of the page.
const PATHS: [&str; 8] = [
    "/dashboard",
    "/dashboard/",
    "/dashboard/0123456789ab/page.js",
    "/dashboard/data/*/0/day/1",
    "/dashboard/now",
    "/dashboard/live",
    "/dashboard/account",
    "/dashboard/else",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_its_files_need_no_nats() {
    let mut site = Site::start("1h").await;
    site.more.push(("BOTSTATS_DASHBOARD_FRAME", "'self' https://wall.example".to_owned()));
    site.nats.kill();
    let query = site.query("query").await;
    let page = get(query.http, "/dashboard", &[]).await;
    let header = |name| page.header(name).unwrap();
    assert_eq!(page.status, 200, "{page:?}");
    assert_eq!(header("content-type"), "text/html; charset=utf-8");
    assert_eq!(header("cache-control"), "no-cache");
    assert_eq!(header("content-security-policy"), format!("{POLICY}'self' https://wall.example"));
    assert_eq!(header("referrer-policy"), "no-referrer");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert!(page.headers.iter().all(|(name, _)| !name.starts_with("access-control")));
    let tag = header("etag");
    let known = get(query.http, "/dashboard", &[("If-None-Match", &tag)]).await;
    assert_eq!((known.status, known.body.len()), (304, 0), "{known:?}");

    // Its links are relative, and lead to files that never change.
    let links = page.text().split('"').filter(|text| text.starts_with("dashboard/"));
    let links: Vec<String> = links.map(|link| format!("/{link}")).collect();
    assert!(links.len() >= 2, "{}", page.text());
    for link in &links {
        let plain = get(query.http, link, &[]).await;
        assert_eq!(plain.status, 200, "{link}");
        assert!(plain.header("cache-control").unwrap().ends_with("immutable"), "{plain:?}");
        assert_eq!(plain.header("x-content-type-options").as_deref(), Some("nosniff"));
        for coding in ["gzip", "zstd"] {
            let coded = get(query.http, link, &[("Accept-Encoding", coding)]).await;
            assert_eq!(coded.header("content-encoding").as_deref(), Some(coding));
            assert_eq!(coded.header("vary").as_deref(), Some("Accept-Encoding"));
        }
        let head = String::from_utf8(head_as("x", link, &[])).unwrap().replacen("GET", "HEAD", 1);
        let head = send(query.http, head.as_bytes(), PATIENCE).await.unwrap();
        assert_eq!((head.status, head.body.len()), (200, 0));
    }
    let slash = get(query.http, "/dashboard/", &[]).await;
    assert_eq!((slash.status, slash.header("location").as_deref()), (308, Some("../dashboard")));
    let gone = get(query.http, "/dashboard/0123456789ab/page.js", &[]).await;
    assert_eq!((gone.status, gone.problem().as_str()), (404, "unknown-path"));

    // What needs the directory says what is missing.
    for path in ["data/*/0/day/1", "now", "live", "account"] {
        let path = format!("/dashboard/{path}");
        assert_eq!(get(query.http, &path, &[]).await.status, 401);
        let away = botstats_tests::harness::get_as("x", query.http, &path, &[]).await;
        assert_eq!((away.status, away.retry_after()), (503, Some(2)), "{away:?}");
        assert!(away.text().contains("the directory cannot be reached"), "{away:?}");
        assert_eq!(away.header("referrer-policy").as_deref(), Some("no-referrer"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_switched_off_is_not_there() {
    let mut site = Site::start("0s").await;
    site.more.push(("BOTSTATS_DASHBOARD", "off".to_owned()));
    let stage = Stage::start_in(site, 1).await;
    let token = &stage.logins[0].token;
    for method in ["GET", "HEAD", "POST"] {
        for path in PATHS.into_iter().chain(["/unknown"]) {
            let head = String::from_utf8(head_as(token, path, &[])).unwrap();
            let head = head.replacen("GET", method, 1);
            let answer = send(stage.query.http, head.as_bytes(), PATIENCE).await.unwrap();
            let status = if method == "GET" { 404 } else { 405 };
            assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
            assert!(answer.header("content-security-policy").is_none(), "{answer:?}");
            if method == "GET" {
                assert_eq!(answer.problem(), "unknown-path");
            }
        }
    }
    assert_eq!(stage.ask(&stage.logins[0]).await.status, 200);
}
