//! Pairs of requests whose answers must not tell them apart, neither by what they hold nor by their
//! times.

use botstats_common::secret::SecretHash;
use serde_json::{Value, json};

use super::{ALL, Stage, becomes};

/// An account's entry with that token.
pub fn account_entry(token: &str) -> Value {
    let sha256 = String::from(SecretHash::of(token));
    json!({"timezone": "UTC", "tokens": [{"id": "t", "sha256": sha256}]})
}

/// What is asked for that is foreign, revoked or nearly right, beside the same that never was.
/// Needs three accounts.
pub async fn lookalikes(stage: &Stage) -> Vec<(&'static str, [Vec<u8>; 2])> {
    let [login, other, revoked, ..] = &stage.logins[..] else { panic!("three accounts") };
    stage.site.put("account.acct-2", &account_entry("another")).await;
    becomes(stage.query.http, &revoked.token, ALL, 401).await;
    let request = |token: &str, key: &str| {
        format!(
            "GET /analytics/statistics/account/{key}/1/day/1 HTTP/1.1\r\nHost: a\r\n\
             X-Request-Id: r\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
        .into_bytes()
    };
    let but_last = |text: &str| text[..text.len() - 1].to_owned();
    let foreign = &other.keys["b1"];
    let keys = [foreign, &"x".repeat(foreign.len())];
    let gone = [&revoked.token, &format!("{}x", but_last(&revoked.token))];
    let wrong = [format!("{}y", but_last(&login.token)), format!("y{}", &login.token[1..])];
    vec![
        ("a foreign and an absent key", keys.map(|key| request(&login.token, key))),
        ("a revoked and an unknown token", gone.map(|token| request(token, "*"))),
        ("a token nearly right and one all wrong", wrong.map(|token| request(&token, "*"))),
    ]
}
