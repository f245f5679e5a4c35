//! Ingest and query as tasks of this process.

use std::time::Duration;

use botstats_common::io::nats::NatsSettings;
use botstats_common::io::stop;
use botstats_common::names::EVENTS_STREAM;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Plan;

/// The time that a service has to stop; both have shorter limits of their own.
const STOP_LIMIT: Duration = Duration::from_secs(45);

type Ended = Result<(), anyhow::Error>;

/// A program that runs as a task.
struct Service {
    name: &'static str,
    token: CancellationToken,
    task: Option<JoinHandle<Ended>>,
}

/// Both programs.
pub(super) struct Services {
    ingest: Service,
    query: Service,
}

/// The listeners of both services.
pub(super) struct Listeners {
    pub(super) ingest: TcpListener,
    pub(super) query: botstats_query::Listeners,
}

impl Services {
    pub(super) fn start(plan: &Plan, listeners: Listeners, nats: &NatsSettings) -> Self {
        let ingest = botstats_ingest::Settings {
            data: plan.folder.join("ingest"),
            stream: EVENTS_STREAM.to_owned(),
            service: plan.up.ingest.clone(),
            internal_addr: plan.up.ingest_internal_addr,
            nats: nats.clone(),
        };
        let query = botstats_query::Settings {
            service: plan.up.query.clone(),
            internal_addr: plan.up.query_internal_addr,
            nats: nats.clone(),
        };
        Self {
            ingest: Service::start("ingest", |token| async {
                botstats_ingest::run(ingest, Some(listeners.ingest), token)
                    .await
                    .map_err(anyhow::Error::new)
            }),
            query: Service::start("query", |token| async {
                botstats_query::run(query, Some(listeners.query), token)
                    .await
                    .map_err(anyhow::Error::new)
            }),
        }
    }

    /// Returns when a service has ended by itself, which is always an error.
    pub(super) async fn one_ended(&mut self) -> anyhow::Error {
        let Self { ingest, query } = self;
        tokio::select! {
            error = ingest.ended() => error,
            error = query.ended() => error,
        }
    }

    /// Stops query, then ingest.
    pub(super) async fn stop(self) {
        self.query.stop().await;
        self.ingest.stop().await;
    }
}

impl Service {
    fn start<F>(name: &'static str, run: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        let token = CancellationToken::new();
        Self { name, task: Some(stop::spawn(run(token.clone()))), token }
    }

    async fn ended(&mut self) -> anyhow::Error {
        let Some(task) = &mut self.task else { return std::future::pending().await };
        let ended = task.await;
        self.task = None;
        match ended {
            Ok(Ok(())) => anyhow::anyhow!("{} ended by itself", self.name),
            Ok(Err(error)) => error.context(format!("{} ended", self.name)),
            Err(panic) => anyhow::Error::new(panic).context(format!("{} panicked", self.name)),
        }
    }

    async fn stop(self) {
        let Some(task) = self.task else { return };
        self.token.cancel();
        match tokio::time::timeout(STOP_LIMIT, task).await {
            Ok(Ok(Ok(()))) => tracing::info!("{} stopped", self.name),
            Ok(Ok(Err(error))) => tracing::error!("{} stopped: {error:#}", self.name),
            Ok(Err(panic)) => tracing::error!("{} panicked while it stopped: {panic}", self.name),
            Err(_) => tracing::error!("{} did not stop within {STOP_LIMIT:?}", self.name),
        }
    }
}
