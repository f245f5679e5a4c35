//! The page's paths with real programs: the page's files, who may see what, the rows, the limits,
//! live streams.

mod answers;
mod live;
mod page;

use std::net::SocketAddr;

use botstats_common::secret::SecretHash;
use botstats_tests::harness::{Answer, PATIENCE, get_as, until};
use serde_json::{Value, json};

/// The entry of a view token.
fn view(token: &str, more: &Value) -> Value {
    let mut entry = json!({"sha256": String::from(SecretHash::of(token)), "bots": null});
    for (name, value) in more.as_object().unwrap() {
        entry[name] = value.clone();
    }
    entry
}

/// Waits until a path gets this status.
async fn becomes(address: SocketAddr, token: &str, path: &str, status: u16) -> Answer {
    until(&format!("a {status} at {path}"), PATIENCE, async || {
        Some(get_as(token, address, path, &[]).await).filter(|answer| answer.status == status)
    })
    .await
}

/// The value of a metric of query.
async fn metric(internal: SocketAddr, series: &str) -> f64 {
    let metrics = botstats_tests::harness::get(internal, "/metrics", &[]).await;
    let line = metrics.text().lines().find(|line| line.starts_with(&format!("{series} ")));
    let line = line.unwrap_or_else(|| panic!("no {series}")).to_owned();
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}
