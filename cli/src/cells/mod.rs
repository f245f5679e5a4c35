//! `botstats cells`: streams that share the accounts by slots.
//!
//! A cell is a stream of events with its ingests. Which stream has which slots stands in the
//! streams' lists of subjects only; nats-server refuses that two streams have the same subject.
//! `plan` says what is to be done next and `verify` what is wrong, both without a request;
//! `requests` asks JetStream; `mapping` asks the servers; `init` and `split` change streams.

mod init;
mod list;
mod mapping;
mod plan;
mod requests;
mod split;
mod stream;
mod verify;

use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::Client;
use botstats_common::io::clock::monotonic;
use botstats_common::io::logging::say;
use botstats_common::io::nats::{NatsSettings, Role};
use botstats_common::io::settings::duration;
use botstats_common::names::events_stream;
use botstats_common::slot::Slots;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::output::{Answer, BadUsage};
use crate::status;
use plan::{Order, Step};
use requests::Streams;
use split::{Report, Split};
use stream::{Cell, shown, some_slots};
use verify::{About, Finding};

/// How long a split's ingests may take to notice that it is done, before what they have not noticed
/// is said.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
#[command(
    after_long_help = "A cell is a stream of events with its ingests. Accounts are spread over 256 slots, and each slot \
    is in one stream. Without cells the stream BOTSTATS_EVENTS has all events. docs/scaling.md explains when cells help.\n\n\
    FROM ONE STREAM TO SEVERAL, while events come in\n  \
    1. botstats cells init                   the stream BOTSTATS_EVENTS gets all slots\n  \
    2. add the mapping that `cells check --help` shows to every nats-server, and reload them\n  \
    3. botstats cells check                  every server maps events to slots?\n  \
    4. botstats cells finish                 events without a slot are refused from here on\n  \
    5. botstats cells split BOTSTATS_EVENTS BOTSTATS_EVENTS_B --slots 128-255\n  \
    6. botstats cells verify\n\n\
    A new installation begins with several streams by `botstats setup --cells N`.\n\
    init, finish, split and resume change streams: run them as the NATS user `operator` of \
    docs/deploy/nats-server.conf."
)]
pub(crate) enum CellsCommand {
    /// Give the stream BOTSTATS_EVENTS all slots, beside the subjects that it has
    #[command(
        after_long_help = "Changes nothing else, and nothing if a stream has slots already. Ingest and query must be \
        of a version that knows cells.\n\n\
        EXAMPLES\n  botstats cells init"
    )]
    Init,
    /// Ask every nats-server whether it maps events to slots
    #[command(after_long_help = check_help())]
    Check,
    /// Let the streams refuse events without a slot, once every nats-server maps them
    #[command(
        after_long_help = "Changes nothing while `botstats cells check` finds a server that does not map, or that \
        it cannot ask. From then on a server without the mapping refuses events (no responders): its publishers retry, and \
        nothing is stored in the wrong stream.\n\n\
        EXAMPLES\n  botstats cells finish"
    )]
    Finish,
    /// List the streams of events with their slots and ingests
    #[command(after_long_help = "EXAMPLES\n  \
        botstats cells list\n  \
        botstats cells list --json | jq -r '.[] | [.stream, .slots] | @tsv'")]
    List,
    /// Move slots of a stream to a new one
    #[command(after_long_help = SPLIT_HELP)]
    Split(SplitArgs),
    /// Finish splits that were interrupted
    #[command(
        after_long_help = "Finds in the streams which steps of a split are left, and does them. Without CHILD: of \
        every split that began. Nothing happens if nothing is left. Until publishers of the slots wait (`cells list` says \
        so) there is a way back, too: delete the stream CHILD.\n\n\
        EXAMPLES\n  \
        botstats cells resume\n  \
        botstats cells resume BOTSTATS_EVENTS_B"
    )]
    Resume(ResumeArgs),
    /// Check streams, fences, ingests and nats-servers
    #[command(
        after_long_help = "Exit code 1 if there is a problem. A warning alone does no harm.\n\n\
        EXAMPLES\n  \
        botstats cells verify\n  \
        botstats cells verify --json | jq -r '.findings[].text'"
    )]
    Verify,
}

const SPLIT_HELP: &str = "\
Steps, each said on standard error. Each may be repeated, and their state is in the streams alone:
  1. make CHILD, with the settings of PARENT and compression; it listens on no slot yet
  2. wait until an ingest with BOTSTATS_STREAM=CHILD is ready: it counts the slots' events of PARENT first
  3. take the slots out of PARENT's list; from here on publishers of these accounts get errors and retry
  4. store a fence in PARENT: the last of its messages that concerns the slots
  5. put the slots into CHILD's list; publishers go on, typically 20 to 100 ms after step 3
  6. verify

Until step 3 there is a way back: delete the stream CHILD. After it `botstats cells resume` finishes the split.
PARENT keeps at least one slot. An account's slot is the 32-bit FNV-1a of its id modulo 256.

EXAMPLES
  botstats cells split BOTSTATS_EVENTS BOTSTATS_EVENTS_B --slots 128-255
  botstats cells split BOTSTATS_EVENTS BOTSTATS_EVENTS_ACME --slots 175     the slot of a large account
  botstats cells split BOTSTATS_EVENTS_B BOTSTATS_EVENTS_C --slots 192-255 --wait 2h";

fn check_help() -> String {
    format!(
        "Asks the servers of NATS_URL, and those of the cluster that they name. Servers that are not advertised must be in \
         NATS_URL. Nothing is stored. Exit code 1 unless every server maps events.\n\n\
         The mapping, in the account BOTSTATS (never in that of the publishers), in every server's configuration:\n  {}\n\n\
         EXAMPLES\n  \
         botstats cells check\n  \
         botstats cells check --nats-url nats://a:4222,nats://b:4222",
        mapping::configuration()
    )
}

#[derive(Debug, Args)]
pub(crate) struct SplitArgs {
    /// The stream that has the slots
    #[arg(value_name = "PARENT", value_parser = events_stream)]
    parent: String,
    /// The stream that gets them: BOTSTATS_EVENTS_ and a name
    #[arg(value_name = "CHILD", value_parser = events_stream)]
    child: String,
    /// The slots to move: numbers from 0 to 255 and ranges, as in 0-63,200
    #[arg(long, value_name = "SLOTS", value_parser = some_slots)]
    slots: Slots,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// The stream that gets the slots
    #[arg(value_name = "CHILD", value_parser = events_stream)]
    child: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Clone, Copy, Args)]
struct Waiting {
    /// The longest wait for an ingest of CHILD that is ready
    #[arg(long, default_value = "10m", value_name = "DURATION", value_parser = duration)]
    wait: Duration,
    /// Do not wait: until an ingest of CHILD has caught up, the accounts get no statistics (503)
    #[arg(long, conflicts_with = "wait")]
    without_ingest: bool,
}

impl Waiting {
    /// The longest wait; `None` is no wait.
    fn limit(self) -> Option<Duration> {
        (!self.without_ingest).then_some(self.wait)
    }
}

/// The connection of a command.
struct Site<'a> {
    nats: &'a NatsSettings,
    client: Client,
    streams: Streams,
}

pub(crate) async fn run(command: CellsCommand, nats: &NatsSettings) -> anyhow::Result<Answer> {
    let client = nats.connect(Role::Admin).await?;
    let streams = Streams::new(nats.jetstream(&client));
    let site = Site { nats, client, streams };
    match command {
        CellsCommand::Init => init::init(&site.streams).await,
        CellsCommand::Check => {
            let servers = mapping::servers(nats, &site.client).await;
            let good = servers.iter().all(|server| server.problem().is_none());
            let json = json!({"mapped": good, "servers": mapping::json(&servers)});
            Ok(Answer::new(mapping::text(&servers), json).ok_if(good))
        }
        CellsCommand::Finish => init::finish(&site.streams, nats, &site.client).await,
        CellsCommand::List => {
            let cells = site.streams.all().await?;
            let statuses = status::ask(&site.client).await?;
            Ok(Answer::new(list::text(&cells, &statuses), list::json(&cells, &statuses)))
        }
        CellsCommand::Split(SplitArgs { parent, child, slots, waiting }) => {
            if parent == child {
                let text = format!(
                    "PARENT and CHILD are both {parent}: CHILD is a new stream with a name of its own"
                );
                return Err(BadUsage(text).into());
            }
            let order = Order { parent, child, slots };
            let report = site.carry_out(&order, waiting.limit()).await?;
            site.answer(vec![(order, report)], waiting.limit()).await
        }
        CellsCommand::Resume(ResumeArgs { child, waiting }) => {
            site.resume(child, waiting.limit()).await
        }
        CellsCommand::Verify => {
            let (cells, findings) = site.verify().await?;
            let is_good = findings.iter().all(|finding| !finding.is_problem);
            let first = if cells == 0 {
                "there are no cells: the stream BOTSTATS_EVENTS has all events".to_owned()
            } else if findings.is_empty() {
                match cells {
                    1 => "one stream has all slots, and nothing is wrong".to_owned(),
                    _ => format!("{cells} streams share all slots, and nothing is wrong"),
                }
            } else {
                String::new()
            };
            let json =
                json!({"ok": is_good, "streams": cells, "findings": verify::json(&findings)});
            Ok(Answer::new(format!("{first}{}", verify::text(&findings)), json).ok_if(is_good))
        }
    }
}

impl Site<'_> {
    /// The number of streams that have slots, and what is wrong.
    async fn verify(&self) -> anyhow::Result<(usize, Vec<Finding>)> {
        let cells = self.streams.all().await?;
        let count = cells.iter().filter(|cell| !cell.slots.is_empty()).count();
        if count == 0 {
            return Ok((0, Vec::new()));
        }
        let servers = mapping::servers(self.nats, &self.client).await;
        Ok((count, self.findings(&cells, &servers).await?))
    }

    /// What is wrong with these streams and servers, and with the ingests.
    async fn findings(
        &self,
        cells: &[Cell],
        servers: &[mapping::Server],
    ) -> anyhow::Result<Vec<Finding>> {
        let statuses = status::ask(&self.client).await?;
        Ok(verify::findings(cells, &statuses, servers))
    }

    /// Checks a split, and does the steps that are left.
    async fn carry_out(&self, order: &Order, wait: Option<Duration>) -> anyhow::Result<Report> {
        let cells = self.streams.all().await?;
        plan::check(order, &cells)?;
        let find = |name: &str| cells.iter().find(|cell| cell.name() == name);
        let parent = find(&order.parent).context("the parent is gone")?;
        let step = plan::next(order, parent, find(&order.child))?;
        // After that the split can only go on.
        if matches!(step, Some(Step::MakeChild | Step::TakeSlots)) {
            let servers = mapping::servers(self.nats, &self.client).await;
            if servers.iter().any(mapping::Server::is_wrong) {
                bail!(
                    "nothing was changed, because not every nats-server maps events to slots:\n{}",
                    mapping::text(&servers).trim_end()
                );
            }
            for server in servers {
                if let Some(problem) = server.problem() {
                    say(&format!("warning: nats-server {}: {problem}", server.address));
                }
            }
        }
        Split { streams: &self.streams, order }.finish(&self.client, wait).await
    }

    async fn resume(
        &self,
        child: Option<String>,
        wait: Option<Duration>,
    ) -> anyhow::Result<Answer> {
        let cells = self.streams.all().await?;
        let orders: Vec<Order> = match &child {
            None => plan::unfinished(&cells).into_iter().map(|(order, _)| order).collect(),
            Some(name) => {
                let cell = cells.iter().find(|cell| cell.name() == name);
                let cell = cell.with_context(|| {
                    format!("there is no stream {name}: `botstats cells split` makes it")
                })?;
                let order = plan::order_of(cell);
                vec![order.with_context(|| format!("the stream {name} was not made by a split"))?]
            }
        };
        let mut reports = Vec::new();
        for order in orders {
            let report = self.carry_out(&order, wait).await?;
            if !report.done.is_empty() {
                reports.push((order, report));
            }
        }
        if reports.is_empty() {
            let text = match child {
                None => "every split is done; nothing was changed".to_owned(),
                Some(child) => format!("the split into {child} is done; nothing was changed"),
            };
            return Ok(Answer::new(text, json!({"splits": [], "findings": []})));
        }
        self.answer(reports, wait).await
    }

    /// Verifies, gives ingests a while to notice, and puts all of it into an answer.
    async fn answer(
        &self,
        reports: Vec<(Order, Report)>,
        wait: Option<Duration>,
    ) -> anyhow::Result<Answer> {
        let counts = |finding: &Finding| wait.is_some() || finding.about != About::Ingest;
        let servers = mapping::servers(self.nats, &self.client).await;
        let started = monotonic();
        let findings = loop {
            let cells = self.streams.all().await?;
            let findings = self.findings(&cells, &servers).await?;
            let is_settled = findings.iter().all(|finding| finding.about != About::Ingest);
            let is_late = started.elapsed() >= SETTLE_LIMIT;
            if is_settled || is_late || wait.is_none() {
                break findings;
            }
        };
        let is_good = findings.iter().all(|finding| !finding.is_problem || !counts(finding));
        let mut text = String::new();
        let mut splits = Vec::new();
        for (Order { parent, child, slots }, report) in reports {
            let gap_ms = report.gap.map(|gap| gap.as_millis());
            let gap =
                gap_ms.map_or(String::new(), |ms| format!("; no stream had them for {ms} ms"));
            text.push_str(&format!("{child} has the {} of {parent} now{gap}\n", shown(slots)));
            splits.push(json!({
                "parent": parent, "child": child, "slots": slots, "steps": report.done,
                "gap_ms": gap_ms.and_then(|ms| u64::try_from(ms).ok()),
            }));
        }
        text.push_str(&verify::text(&findings));
        let json = json!({"splits": splits, "findings": verify::json(&findings)});
        Ok(Answer::new(text, json).ok_if(is_good))
    }
}
