//! The commands that make, split and check cells, run as an operator does.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use async_nats::jetstream;
use botstats_common::names::{EVENTS_STREAM, control_subject};
use botstats_common::slot::Slots;
use tokio::task::block_in_place;

use super::slots::{has_fence, slots_of};
use super::{PATIENCE, Process, Proxy, Site, run, until};

/// How long a split may take: its longest step waits for an ingest that reads the parent's past.
pub const SPLIT_LIMIT: Duration = Duration::from_secs(90);

/// A change that a split makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitStep {
    MakeChild,
    TakeSlots,
    StoreFence,
    GiveSlots,
}

impl SplitStep {
    /// All of them, in order.
    pub const ALL: [Self; 4] =
        [Self::MakeChild, Self::TakeSlots, Self::StoreFence, Self::GiveSlots];

    /// The stream that the step changes.
    pub fn changes<'a>(self, parent: &'a str, child: &'a str) -> &'a str {
        match self {
            Self::MakeChild | Self::GiveSlots => child,
            Self::TakeSlots | Self::StoreFence => parent,
        }
    }

    /// The beginning of what the program sends for the step, and for nothing else.
    fn request(self, parent: &str, child: &str) -> String {
        let subject = match self {
            Self::MakeChild => format!("$JS.API.STREAM.CREATE.{child}"),
            Self::TakeSlots => format!("$JS.API.STREAM.UPDATE.{parent}"),
            Self::StoreFence => control_subject(parent),
            Self::GiveSlots => format!("$JS.API.STREAM.UPDATE.{child}"),
        };
        format!("PUB {subject} ")
    }

    /// True if the server has done it.
    async fn is_done(
        self,
        js: &jetstream::Context,
        [parent, child]: [&str; 2],
        moved: Slots,
    ) -> bool {
        let lists = async |stream| slots_of(js, stream).await;
        match self {
            Self::MakeChild => lists(child).await.is_some(),
            Self::TakeSlots => {
                lists(parent).await.is_some_and(|slots| slots.intersection(moved).is_empty())
            }
            Self::StoreFence => has_fence(js, parent, child).await,
            Self::GiveSlots => lists(child).await == Some(moved),
        }
    }
}

/// A split by the command that will be killed.
pub struct KilledSplit<'a> {
    js: &'a jetstream::Context,
    order: [&'a str; 3],
    step: SplitStep,
    proxy: Proxy,
    tool: Process,
}

impl<'a> KilledSplit<'a> {
    /// Starts the command with these further arguments. The answer to this step will not reach the
    /// command.
    pub async fn begin(
        js: &'a jetstream::Context,
        port: u16,
        order: [&'a str; 3],
        step: SplitStep,
        more: &[&str],
        folder: &Path,
    ) -> Self {
        let [parent, child, _] = order;
        let proxy = Proxy::holding_after(port, &step.request(parent, child)).await;
        let tool = begin_split(order, more, &[("NATS_URL", proxy.url())], folder);
        Self { js, order, step, proxy, tool }
    }

    /// Kills the command once the server has done the step.
    pub async fn kill(mut self) {
        let Self { js, order: [parent, child, slots], step, .. } = self;
        let moved = slots.parse().expect("slots");
        until(&format!("{step:?} for {child}, without its answer"), SPLIT_LIMIT, async || {
            let is_done = self.proxy.holds() && step.is_done(js, [parent, child], moved).await;
            is_done.then_some(())
        })
        .await;
        self.tool.kill();
        eprintln!(
            "$ botstats cells split {parent} {child} --slots {slots}\n{}killed after {step:?}",
            self.tool.log()
        );
    }
}

/// A split whose command is killed after this step. Starts an ingest of this name once there is the
/// stream, and gives it.
pub async fn killed_split(site: &Site, order: [&str; 3], step: SplitStep, ingest: &str) -> Process {
    let [_, child, _] = order;
    let folder = site.folder(&format!("split-{child}"));
    let split = KilledSplit::begin(&site.js, site.nats.port(), order, step, &[], &folder).await;
    until_made(site, child).await;
    let ingest = site.ingest_of(child, ingest);
    split.kill().await;
    ingest
}

/// Waits until streams, ingests and servers are as they should be.
pub async fn verified(site: &Site) {
    let mut said = String::new();
    until("cells that are as they should be", PATIENCE, async || {
        let output = botstats(site, &["cells", "verify"]);
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        if found != said {
            eprintln!("$ botstats cells verify\n{found}");
            said = found;
        }
        output.status.success().then_some(())
    })
    .await;
}

/// Runs `botstats` with these arguments.
pub fn botstats(site: &Site, arguments: &[&str]) -> Output {
    block_in_place(|| run("botstats", arguments, &site.settings()))
}

/// The same; it must work. Gives what it wrote to standard output.
pub fn done(site: &Site, arguments: &[&str]) -> String {
    let output = botstats(site, arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}\n{told}");
    eprintln!("$ botstats {}\n{said}{told}", arguments.join(" "));
    said
}

/// Gives the streams of a running installation slots: the first step of growth.
pub async fn introduce_slots(site: &Site) {
    done(site, &["cells", "init"]);
    let early = botstats(site, &["cells", "finish"]);
    assert!(!early.status.success(), "finished without a mapping: {early:?}");
    site.map_slots().await;
    done(site, &["cells", "check"]);
    done(site, &["cells", "finish"]);
}

/// Moves slots to a new stream with the command; starts ingests of these names once there is the
/// stream, and gives them.
pub async fn split(
    site: &Site,
    [parent, child, slots]: [&str; 3],
    ingests: &[&str],
) -> Vec<Process> {
    let mut tool = begin_split(
        [parent, child, slots],
        &[],
        &site.settings(),
        &site.folder(&format!("split-{child}")),
    );
    until_made(site, child).await;
    let ingests = ingests.iter().map(|name| site.ingest_of(child, name)).collect();
    let status = tool.ended(SPLIT_LIMIT).await;
    eprintln!("$ botstats cells split {parent} {child} --slots {slots}\n{}", tool.log());
    assert!(status.success(), "{}", tool.log());
    ingests
}

fn begin_split(
    [parent, child, slots]: [&str; 3],
    more: &[&str],
    settings: &[(&str, String)],
    folder: &Path,
) -> Process {
    let arguments = [&["cells", "split", parent, child, "--slots", slots], more].concat();
    Process::start("botstats", &arguments, settings, folder)
}

async fn until_made(site: &Site, child: &str) {
    until(&format!("the stream {child}"), PATIENCE, async || {
        site.js.get_stream(child).await.ok().map(drop)
    })
    .await;
}

/// The name of a cell's stream.
pub fn cell_stream(cell: &str) -> String {
    format!("{EVENTS_STREAM}_{cell}")
}
