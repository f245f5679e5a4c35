//! Splits of cells that end after one of their steps, while events flow. An ingest or nats-server
//! is killed at that moment, and `cells resume` finishes what was begun.

use std::collections::BTreeMap;
use std::time::Duration;

use botstats_common::io::clock;
use botstats_common::names::EVENTS_STREAM;
use botstats_common::slot::{Slot, Slots};
use serde::Serialize;
use tokio::task::block_in_place;
use tokio::time::sleep;

use botstats_tests::generate::Dice;
use botstats_tests::harness::{
    Accounts, Process, SPLIT_LIMIT, SPLIT_STEPS, Site, Traffic, botstats, cell_stream,
    check_chains, held, introduce_slots, part_of_split, slots_by_stream, until, verified,
};

/// Splits of one installation: more cells are more processes than a small machine bears.
const SPLITS: usize = 5;
/// Messages a second, and of each split: enough for the longest.
const RATE: usize = 300;
const MESSAGES: usize = 6_000;
const ACCOUNTS: u64 = 30;
/// How long nats-server is away.
const DOWN: Duration = Duration::from_millis(500);
/// Questions for each account at the end.
const QUESTIONS: usize = 2;

/// What is killed, once a step is done.
#[derive(Debug, Clone, Copy)]
enum Killed {
    /// Only the tool, as in all cases.
    Nobody,
    /// An ingest of the child.
    Child,
    /// An ingest of the parent.
    Parent,
    /// nats-server; in a cluster the leader of the parent or of the child.
    Nats,
}

impl Killed {
    fn name(self) -> &'static str {
        match self {
            Killed::Nobody => "kill the tool",
            Killed::Child => "kill the child's ingest",
            Killed::Parent => "kill the parent's ingest",
            Killed::Nats => "kill nats-server",
        }
    }
}

/// What was done and measured.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SplitReport {
    pub splits: usize,
    /// Faults by name and step.
    pub faults: BTreeMap<String, usize>,
    pub published: usize,
    /// Messages that are stored more than once, because an acknowledgement was lost.
    pub stored_twice: usize,
    /// The longest that a publisher waited for an acknowledgement, in milliseconds.
    pub longest_wait_ms: u128,
}

/// Makes that number of splits, each with a fault.
pub async fn run(seed: u64, splits: usize, cluster: bool) -> SplitReport {
    let mut report = SplitReport::default();
    let mut dice = Dice::new(seed);
    while report.splits < splits {
        let count = SPLITS.min(splits - report.splits);
        installation(&mut dice, count, cluster, &mut report).await;
    }
    report
}

async fn installation(dice: &mut Dice, splits: usize, cluster: bool, report: &mut SplitReport) {
    let mut site = match cluster {
        true => Site::start_cluster("0s").await,
        false => Site::start_with("0s", true).await,
    };
    let mut ingests = BTreeMap::from([(EVENTS_STREAM.to_owned(), site.ingest("root"))]);
    let query = site.query("query").await;
    introduce_slots(&site).await;
    let mut accounts = Accounts::add(&site, dice.bits(), ACCOUNTS, splits * MESSAGES).await;
    let traffic = Traffic::start(&site.js, accounts.messages(), RATE);
    traffic.more(RATE).await;
    for number in 1..=splits {
        let owned = slots_by_stream(&site.js).await;
        let parents: Vec<(&String, &Slots)> =
            owned.iter().filter(|(_, slots)| slots.len() > 1).collect();
        let (parent, slots) = *dice.pick(&parents);
        let moved = some_of(dice, *slots).to_string();
        let child = cell_stream(&number.to_string());
        let killed = *dice.pick(&[Killed::Nobody, Killed::Child, Killed::Parent, Killed::Nats]);
        let steps = dice.index(SPLIT_STEPS) + 1;
        let what = format!("{} after step {steps}", killed.name());
        eprintln!("  {parent} to {child}, slots {moved}: {what}");
        let order = [parent.as_str(), &child, &moved];
        let ingest = part_of_split(&site, order, steps, &child).await;
        ingests.insert(child.clone(), ingest);
        match killed {
            Killed::Nobody => {}
            Killed::Child => ingests.get_mut(&child).expect("an ingest").restart(),
            Killed::Parent => ingests.get_mut(parent).expect("an ingest").restart(),
            Killed::Nats => {
                let stream = if steps < SPLIT_STEPS { parent } else { &child };
                kill_nats(&mut site, stream).await;
            }
        }
        until("the rest of the split", SPLIT_LIMIT, async || {
            let resumed = botstats(&site, &["cells", "resume", &child]);
            resumed.status.success().then_some(())
        })
        .await;
        assert_eq!(slots_by_stream(&site.js).await[&child].to_string(), moved);
        verified(&site).await;
        *report.faults.entry(what).or_default() += 1;
        report.splits += 1;
    }
    let published = traffic.finish().await;
    let counted = site.all_counted(splits + 1).await;
    let all = held(&site.js).await;
    report.published += published.receipts.len();
    report.stored_twice += published.check(&all);
    report.longest_wait_ms = report.longest_wait_ms.max(published.longest_wait().as_millis());
    check_chains(&site.js, &all, &counted).await;
    query.ready().await;
    accounts.judge(&query, &all, QUESTIONS).await;
    assert!(ingests.values().all(no_panic), "an ingest panicked");
}

/// Some of the slots, in no order, but not all.
fn some_of(dice: &mut Dice, slots: Slots) -> Slots {
    let mut all: Vec<Slot> = slots.iter().collect();
    dice.shuffle(&mut all);
    let count = 1 + dice.index(all.len() - 1);
    all.into_iter().take(count).collect()
}

async fn kill_nats(site: &mut Site, stream: &str) {
    let server = if site.others.is_empty() { &mut site.nats } else { site.leader(stream).await };
    let started = clock::monotonic();
    server.kill();
    sleep(DOWN).await;
    block_in_place(|| server.restart()).unwrap_or_else(|e| panic!("{e}"));
    eprintln!("  nats-server was away for {:.1?}", started.elapsed());
}

fn no_panic(process: &Process) -> bool {
    !process.log().contains("panicked")
}
