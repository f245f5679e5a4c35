//! The internal HTTP listener: `/livez`, `/readyz` and `/metrics`. Not for the public.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::listen::reached_at;
use super::readiness::Readiness;
use super::{process, telemetry};

/// Sets the gauges that are measured only when the metrics are read.
pub type SetGauges = Arc<dyn Fn() + Send + Sync>;

/// Serves the internal listener until the token is cancelled.
///
/// # Errors
/// If the listener has no local address.
pub fn serve(
    listener: TcpListener,
    readiness: Readiness,
    set_gauges: SetGauges,
    stop: CancellationToken,
) -> std::io::Result<SocketAddr> {
    let bound = listener.local_addr()?;
    process::begin();
    super::stop::spawn(telemetry::keep(stop.clone()));
    let router = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(move |readiness| metrics(readiness, Arc::clone(&set_gauges))))
        .with_state(readiness);
    super::stop::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(
                "the internal listener ended, /livez, /readyz and /metrics are gone: {error}"
            );
        }
    });
    tracing::info!(address = %bound, "internal listener ready: /livez /readyz /metrics");
    Ok(bound)
}

async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    let missing = readiness.all_missing();
    if missing.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let lines: String = missing.iter().map(|(part, why)| format!("{part}: {why}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{lines}"))
}

async fn metrics(State(readiness): State<Readiness>, set_gauges: SetGauges) -> impl IntoResponse {
    // `set_gauges` asks the file system, which may block.
    let text = tokio::task::spawn_blocking(move || {
        set_gauges();
        telemetry::text(&readiness)
    });
    match text.await {
        Ok(text) => {
            Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
        }
        Err(error) => {
            tracing::error!("the metrics could not be collected, so /metrics answers 500: {error}");
            Err(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// Asks `/readyz` of a program on this machine, as its health check does.
///
/// # Errors
/// The parts that the program lacks, or why it did not answer.
pub async fn healthcheck(address: SocketAddr) -> Result<(), String> {
    let asked = tokio::time::timeout(Duration::from_secs(2), async {
        let mut stream = TcpStream::connect(&reached_at(address)[..]).await?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
        let mut answer = String::new();
        stream.take(64 * 1024).read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    });
    let answer = match asked.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(format!("no answer from {address}: {error}")),
        Err(_) => return Err(format!("no answer from {address} within 2 s")),
    };
    if answer.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    let body = answer.split_once("\r\n\r\n").map_or(answer.as_str(), |(_, body)| body);
    Err(body.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readyz_says_what_is_missing() {
        let readiness = Readiness::waiting_for(&["nats", "stream"]);
        let stop = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = serve(listener, readiness.clone(), Arc::new(|| {}), stop.clone()).unwrap();
        readiness.present("nats");
        readiness.missing("stream", "no stream BOTSTATS_EVENTS".to_owned());
        let error = healthcheck(address).await.unwrap_err();
        assert_eq!(error, "not ready\nstream: no stream BOTSTATS_EVENTS");
        readiness.present("stream");
        healthcheck(address).await.unwrap();
        stop.cancel();
    }
}
