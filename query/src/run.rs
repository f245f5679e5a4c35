//! The service, put together: listeners, connection, watches; and taken apart in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use botstats_common::io::internal::{self, Readiness};
use botstats_common::io::listen::listen;
use botstats_common::io::nats::{ConnectError, Role};
use botstats_common::io::settings::EXIT_USAGE;
use botstats_common::io::setup::SetupError;
use botstats_common::io::stop::spawn;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::endpoint::call::{App, Backend};
use crate::endpoint::server;
use crate::nats::claims::Claims;
use crate::nats::ingests::Ingests;
use crate::nats::watch::{self, Shared};
use crate::nats::{Connection, clocks, probe, status};
use crate::settings::Settings;
use crate::telemetry;
use crate::throttle::Throttle;

/// What no waiting mends.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An address cannot be listened on.
    #[error("{variable}: {address} cannot be listened on")]
    Listen {
        /// The setting with the address.
        variable: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A setting of the connection to NATS.
    #[error("the connection to NATS cannot be made with these settings")]
    Nats(#[from] ConnectError),
    /// The throttle's KV bucket has another window.
    #[error(
        "BOTSTATS_THROTTLE_WINDOW is not the window of the KV bucket: set it to the bucket's, or \
         change the bucket (docs/operations.md)"
    )]
    Window(#[from] SetupError),
}

impl RunError {
    /// The exit code of a program that ends with it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Listen { .. } => 1,
            RunError::Nats(_) | RunError::Window(_) => EXIT_USAGE,
        }
    }
}

/// What the service listens on.
#[derive(Debug)]
pub struct Listeners {
    /// The endpoint.
    pub http: TcpListener,
    /// `/livez`, `/readyz` and `/metrics`.
    pub internal: TcpListener,
}

impl Listeners {
    fn at(settings: &Settings) -> Result<Self, RunError> {
        let (http, internal) = (settings.service.http_addr, settings.internal_addr);
        Ok(Self {
            internal: listen(internal, |_| Ok(()))
                .map_err(listen_error("BOTSTATS_INTERNAL_ADDR", internal))?,
            http: server::listen(http).map_err(listen_error("BOTSTATS_HTTP_ADDR", http))?,
        })
    }
}

/// Runs the service until the token is cancelled.
///
/// # Errors
/// [`RunError`]; what can be waited for is waited for, not ready.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<(), RunError> {
    let listeners = Listeners::at(&settings)?;
    run_on(settings, listeners, stop).await
}

/// The same on listeners that are there already.
///
/// # Errors
/// [`RunError`], as [`run`].
pub async fn run_on(
    settings: Settings,
    listeners: Listeners,
    stop: CancellationToken,
) -> Result<(), RunError> {
    // Ends everything else; cancelled also when this returns early or is dropped.
    let tasks = CancellationToken::new();
    let _ends_with_this = tasks.clone().drop_guard();
    let parts = [probe::NATS, watch::PART, probe::THROTTLE, probe::INGEST, clocks::PART];
    let readiness = Readiness::waiting_for(&parts);
    let directory = Shared::default();
    let throttle = Throttle::with_window(settings.service.throttle_window);
    let app = Arc::new(App::new(directory.clone(), throttle, readiness.clone()));
    telemetry::begin();
    let looked_at = Arc::clone(&app);
    let look = move || telemetry::look(&looked_at);
    let Listeners { http: listener, internal } = listeners;
    internal::serve(internal, readiness.clone(), look, tasks.clone())
        .map_err(listen_error("BOTSTATS_INTERNAL_ADDR", settings.internal_addr))?;

    let bound = listener
        .local_addr()
        .map_err(listen_error("BOTSTATS_HTTP_ADDR", settings.service.http_addr))?;
    // The endpoint is there at once: without NATS it says 503, and 401 where no token is given.
    let stop_listening = tasks.child_token();
    let limits = server::Limits { room: server::room(), idle: settings.service.http_idle };
    let mut served =
        spawn(server::serve(listener, Arc::clone(&app), limits, stop_listening.clone()));
    tracing::info!(address = %bound, "http listener ready");

    let failed = tokio::select! {
        () = stop.cancelled() => None,
        error = work(&settings, &app, directory, throttle, &readiness, &tasks) => Some(error),
    };
    readiness.missing("stop", "stopping".to_owned());
    stop_listening.cancel();
    if (&mut served).await.is_err() {
        tracing::error!("the listener's task did not end in order");
    }
    if let Some(claims) = app.backend.get().and_then(|backend| backend.claims.as_ref()) {
        claims.finish().await;
    }
    failed.map_or(Ok(()), Err)
}

/// Connects and keeps everything up to date; ends only with what no waiting mends.
async fn work(
    settings: &Settings,
    app: &App,
    directory: Shared,
    throttle: Option<Throttle>,
    readiness: &Readiness,
    tasks: &CancellationToken,
) -> RunError {
    let client = match settings.nats.connect_when_there(Role::Query, readiness, tasks).await {
        Ok(client) => client,
        Err(error) => return error.into(),
    };
    let connection = Connection::new(client.clone(), settings.nats.domain.as_deref());
    let claims = throttle.map(|throttle| Claims::new(connection.clone(), throttle));
    let backend = Backend {
        connection: connection.clone(),
        ingests: Ingests::default(),
        claims: claims.clone(),
    };
    // Set once: this is the only place, and it runs once.
    let _already = app.backend.set(backend);
    let instance = Uuid::now_v7().to_string();
    spawn(status::keep(client, instance, readiness.clone(), tasks.clone()));
    let (clocks, there) = (app.clocks.clone(), connection.clone());
    spawn(clocks::keep(there, clocks, readiness.clone(), tasks.clone()));
    let watching =
        watch::keep(connection.clone(), directory.clone(), readiness.clone(), tasks.clone());
    spawn(watching);
    let probing = probe::keep(connection, directory, claims, readiness.clone(), tasks.clone());
    match spawn(probing).await {
        Ok(Err(error)) => error.into(),
        // It ends only with the token that ends this program.
        _ => std::future::pending().await,
    }
}

fn listen_error(variable: &'static str, address: SocketAddr) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::Listen { variable, address, source }
}
