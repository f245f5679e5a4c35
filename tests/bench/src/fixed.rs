//! A small axum server that says the same to everybody, from memory: the least that an answer costs
//! here.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use botstats_tests::harness::{Answer, Process};

/// Headers that the server makes itself.
const OWN: [&str; 4] = ["connection", "content-length", "date", "transfer-encoding"];
/// What the server says when it is there.
const READY: &str = "the fixed server is there";

/// What is said, but for the body.
#[derive(Debug, Serialize, Deserialize)]
struct Said {
    status: u16,
    headers: Vec<(String, String)>,
}

/// Starts a server in a process of its own that gives that answer.
pub async fn start(answer: &Answer, folder: &Path) -> anyhow::Result<(Process, SocketAddr)> {
    std::fs::create_dir_all(folder)?;
    let headers = answer.headers.iter().filter(|(name, _)| !OWN.contains(&name.as_str()));
    let said = Said { status: answer.status, headers: headers.cloned().collect() };
    std::fs::write(folder.join("head"), serde_json::to_vec(&said)?)?;
    std::fs::write(folder.join("body"), &answer.body)?;
    let text = folder.to_str().context("a path of UTF-8")?;
    let process = Process::start("bench", &["--serve", text], &[], folder);
    let address = process.address(READY).await;
    Ok((process, address))
}

/// Serves what [`start`] wrote, until the process is killed.
pub async fn serve(folder: &Path) -> anyhow::Result<()> {
    let said: Said = serde_json::from_slice(&std::fs::read(folder.join("head"))?)?;
    let body = Bytes::from(std::fs::read(folder.join("body"))?);
    let status = StatusCode::from_u16(said.status)?;
    let mut headers = HeaderMap::new();
    for (name, value) in said.headers {
        headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    let router = Router::new().fallback(move || {
        let answer = (status, headers.clone(), body.clone());
        std::future::ready(answer)
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("{READY} address={}", listener.local_addr()?);
    Ok(axum::serve(listener, router).await?)
}
