//! Starts the service (listeners, connection to NATS, what follows NATS) and stops it in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use botstats_common::io::internal;
use botstats_common::io::listen::listen;
use botstats_common::io::nats::{ConnectError, Role, answer_status};
use botstats_common::io::readiness::Readiness;
use botstats_common::io::settings::EXIT_USAGE;
use botstats_common::io::setup::SetupError;
use botstats_common::io::stop::spawn;
use futures::future::{BoxFuture, join_all};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::admission::allowance::{Allowance, Policy};
use crate::app::App;
use crate::dashboard::Dashboard;
use crate::deadlines::LISTENER_STOP_LIMIT;
use crate::http;
use crate::nats::claims::Claims;
use crate::nats::ingests::Ingests;
use crate::nats::readiness::{self as checks, Checked, WrongWindow};
use crate::nats::watch::{self, LiveDirectory};
use crate::nats::{Connection, clocks, status};
use crate::settings::Settings;
use crate::telemetry::{self, METRICS};

/// An error that ends the service, because no waiting mends it.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An address cannot be listened on.
    #[error("{variable}: {address} cannot be listened on")]
    Listen {
        /// The setting with the address.
        variable: &'static str,
        /// As it was set.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A setting of the connection to NATS is wrong.
    #[error("the connection to NATS cannot be made with these settings")]
    Nats(#[from] ConnectError),
    /// A KV bucket of calls has another window.
    #[error(
        "{variable} is not the window of the KV bucket: set it to the bucket's, or \
         change the bucket (docs/runbook.md)"
    )]
    Window {
        /// The setting with the window.
        variable: &'static str,
        /// Names the bucket and both windows.
        source: SetupError,
    },
}

impl RunError {
    /// The exit code of a program that ends with it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Listen { .. } => 1,
            RunError::Nats(_) | RunError::Window { .. } => EXIT_USAGE,
        }
    }
}

/// The sockets that the service listens on.
#[derive(Debug)]
pub struct Listeners {
    /// The public endpoint.
    pub http: TcpListener,
    /// `/livez`, `/readyz` and `/metrics`.
    pub internal: TcpListener,
}

impl Listeners {
    fn at(settings: &Settings) -> Result<Self, RunError> {
        let (http_addr, internal) = (settings.service.http_addr, settings.internal_addr);
        Ok(Self {
            internal: listen(internal, |_| Ok(()))
                .map_err(listen_error("BOTSTATS_INTERNAL_ADDR", internal))?,
            http: http::listen(http_addr).map_err(listen_error("BOTSTATS_HTTP_ADDR", http_addr))?,
        })
    }
}

/// What a program waits for until it ends.
///
/// Boxed, so that the compiler makes the service's code here, once, and not in each program that
/// runs it.
pub type Running = BoxFuture<'static, Result<(), RunError>>;

/// Runs the service until the token is cancelled, on listeners that are open already or on the
/// settings'.
///
/// # Errors
/// [`RunError`]. While NATS or an ingest is away the service runs and is not ready.
pub fn run(settings: Settings, listeners: Option<Listeners>, stop: CancellationToken) -> Running {
    Box::pin(async {
        let listeners = match listeners {
            Some(listeners) => listeners,
            None => Listeners::at(&settings)?,
        };
        serve(settings, listeners, stop).await
    })
}

async fn serve(
    settings: Settings,
    listeners: Listeners,
    stop: CancellationToken,
) -> Result<(), RunError> {
    // Ends everything else; cancelled also when this returns early or is dropped.
    let tasks = CancellationToken::new();
    let _ends_with_this = tasks.clone().drop_guard();
    let parts = [checks::NATS, watch::PART, checks::THROTTLE, checks::INGEST, clocks::PART];
    let readiness = Readiness::waiting_for(&parts);
    let of_accounts = Allowance::of_accounts(settings.service.throttle_window);
    let of_bots = Allowance::of_bots(settings.service.bot_throttle_window);
    let directory = LiveDirectory::default();
    // The endpoint's own token: a stop of the endpoint ends live streams at once.
    let stop_listening = tasks.child_token();
    let frame = &settings.service.dashboard_frame;
    let page = || Dashboard::new(frame, stop_listening.clone());
    let page = settings.service.dashboard.then(page);
    let app = Arc::new(App::new(directory, of_accounts, of_bots, readiness.clone(), page));
    telemetry::begin();
    let observed = Arc::clone(&app);
    let observe = Arc::new(move || observed.observe());
    let Listeners { http: listener, internal } = listeners;
    internal::serve(internal, readiness.clone(), observe, tasks.clone())
        .map_err(listen_error("BOTSTATS_INTERNAL_ADDR", settings.internal_addr))?;

    let bound = listener
        .local_addr()
        .map_err(listen_error("BOTSTATS_HTTP_ADDR", settings.service.http_addr))?;
    // The endpoint is there at once: without NATS it answers 503, or 401 to a request without a
    // token.
    let limits = http::Limits {
        connections: http::connection_limit(),
        idle: settings.service.http_idle,
        stop: LISTENER_STOP_LIMIT,
    };
    METRICS.connection_limit.set(u32::try_from(limits.connections).unwrap_or(u32::MAX));
    let metrics = METRICS.connections.clone();
    let serving = http::serve(listener, Arc::clone(&app), limits, metrics, stop_listening.clone());
    let mut served = spawn(serving);
    tracing::info!(address = %bound, "http listener ready");

    let failed = tokio::select! {
        () = stop.cancelled() => None,
        error = work(&settings, &app, &readiness, &tasks) => Some(error),
    };
    readiness.missing("stop", "stopping".to_owned());
    stop_listening.cancel();
    if (&mut served).await.is_err() {
        tracing::error!("the task of the http listener panicked");
    }
    if let Some(backend) = app.backend.get() {
        join_all(backend.claims.iter().flatten().map(Claims::finish)).await;
    }
    failed.map_or(Ok(()), Err)
}

/// Connects to NATS and keeps everything up to date; ends only with an error.
async fn work(
    settings: &Settings,
    app: &App,
    readiness: &Readiness,
    tasks: &CancellationToken,
) -> RunError {
    let client = match settings.nats.connect_when_there(Role::Query, readiness, tasks).await {
        Ok(client) => client,
        Err(error) => return error.into(),
    };
    let connection = Connection::new(client.clone(), settings.nats.domain.as_deref());
    let claims = |policy| {
        let allowance = app.throttle(policy).allowance();
        allowance.map(|one| Claims::new(connection.clone(), one))
    };
    let claims = [Policy::Account, Policy::Bot].map(claims);
    let ingests = Ingests::default();
    app.connected(connection.clone(), ingests.clone(), claims.clone());
    let (instance, shown) = (Uuid::now_v7().to_string(), readiness.clone());
    let status = move || std::future::ready(status::status(&instance, &shown));
    spawn(answer_status(client, tasks.clone(), status));
    let (clocks, directory) = (app.clocks.clone(), app.directory.clone());
    spawn(clocks::compare(connection.clone(), clocks, readiness.clone(), tasks.clone()));
    let followed = directory.clone();
    spawn(watch::follow(connection.clone(), followed, readiness.clone(), tasks.clone()));
    let checked = Checked { connection, directory, claims, ingests };
    match spawn(checks::check(checked, readiness.clone(), tasks.clone())).await {
        Ok(Err(WrongWindow { variable, source })) => RunError::Window { variable, source },
        // The checks end without an error only when the program stops.
        _ => std::future::pending().await,
    }
}

fn listen_error(variable: &'static str, address: SocketAddr) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::Listen { variable, address, source }
}
