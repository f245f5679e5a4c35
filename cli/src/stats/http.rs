//! One GET with a bearer token.

use std::time::Duration;

use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};

/// The time limit of the whole answer.
const LIMIT: Duration = Duration::from_secs(60);
/// The largest answer that is read, in bytes.
const MAX_BODY_BYTES: u64 = 256 * 1024 * 1024;

/// The format for the table, and for programs.
pub(crate) const JSON: &str = "application/json";
/// The format for spreadsheets.
pub(crate) const CSV: &str = "text/csv";

/// What the endpoint answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The HTTP status.
    pub(crate) status: u16,
    /// `Retry-After`, in seconds.
    pub(crate) retry_after: Option<u32>,
    /// The time up to which all events are counted.
    pub(crate) as_of: Option<String>,
    /// The body.
    pub(crate) body: String,
}

/// Asks with a token for that format. Redirects are not followed: the token must not go elsewhere.
pub(crate) async fn get(
    url: String,
    token: SecretString,
    format: &'static str,
) -> anyhow::Result<Reply> {
    tokio::task::spawn_blocking(move || blocking(&url, &token, format))
        .await
        .context("the request ended")?
}

fn blocking(url: &str, token: &SecretString, format: &str) -> anyhow::Result<Reply> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(LIMIT))
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(concat!("botstats/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut response = agent
        .get(url)
        .header("Authorization", format!("Bearer {}", token.expose_secret()))
        .header("Accept", format)
        .call()?;
    let header = |name: &str| {
        response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let retry_after = header("Retry-After").and_then(|seconds| seconds.parse().ok());
    let as_of = header("Data-As-Of");
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(MAX_BODY_BYTES).read_to_string()?;
    Ok(Reply { status, retry_after, as_of, body })
}
