//! The commands that make, split and check cells, run as an operator does.

use std::process::Output;
use std::time::Duration;

use botstats::cells::{Order, Split, Streams};
use botstats_common::names::EVENTS_STREAM;
use tokio::task::block_in_place;

use super::{PATIENCE, Process, Site, ready, run, until};

/// How long a split may take: its longest step waits for an ingest that reads the parent's past.
pub const SPLIT_LIMIT: Duration = Duration::from_secs(90);

/// The changes that a split makes: the stream, the slots out of the parent, the fence, the slots
/// into the child.
pub const SPLIT_STEPS: usize = 4;

/// Makes that number of changes of a split and no more, as a tool does that is killed behind them,
/// and starts an ingest of the new stream. Before slots are taken that ingest is ready.
pub async fn part_of_split(
    site: &Site,
    [parent, child, slots]: [&str; 3],
    steps: usize,
    ingest: &str,
) -> Process {
    let order = Order {
        parent: parent.to_owned(),
        child: child.to_owned(),
        slots: slots.parse().expect("slots"),
    };
    let split = Split::new(Streams::new(site.js.clone()), order);
    let step = async || {
        let (_, text) = split.step().await.expect("a step").expect("a step that is left");
        eprintln!("{text}");
    };
    step().await;
    let ingest = site.ingest_of(child, ingest);
    if steps > 1 {
        ready(ingest.address("internal listener ready").await).await;
    }
    for _ in 1..steps {
        step().await;
    }
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
    let arguments = ["cells", "split", parent, child, "--slots", slots];
    let folder = site.folder(&format!("split-{child}"));
    let mut tool = Process::start("botstats", &arguments, &site.settings(), &folder);
    until(&format!("the stream {child}"), PATIENCE, async || {
        site.js.get_stream(child).await.ok().map(drop)
    })
    .await;
    let ingests = ingests.iter().map(|name| site.ingest_of(child, name)).collect();
    let status = tool.ended(SPLIT_LIMIT).await;
    eprintln!("$ botstats cells split {parent} {child} --slots {slots}\n{}", tool.log());
    assert!(status.success(), "{}", tool.log());
    ingests
}

/// The name of a cell's stream.
pub fn cell_stream(cell: &str) -> String {
    format!("{EVENTS_STREAM}_{cell}")
}
