//! Splits of cells whose command is killed after one of its steps, while events flow and clients
//! ask. An ingest or nats-server is killed at that moment too, and `cells resume` finishes what was
//! begun.

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
    Accounts, Process, Readers, SPLIT_LIMIT, Seen, Site, SplitStep, Traffic, botstats, cell_stream,
    check_chains, held, introduce_slots, killed_split, slots_by_stream, until, verified,
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

/// What is killed beside the command, once a step is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killed {
    Nothing,
    /// The ingest of the child.
    Child,
    /// The ingest of the parent.
    Parent,
    /// nats-server; in a cluster the leader of the stream that the step has changed: of the child
    /// if the child was made or given slots, else of the parent.
    Nats,
}

impl Killed {
    const ALL: [Self; 4] = [Self::Nothing, Self::Child, Self::Parent, Self::Nats];

    fn name(self) -> &'static str {
        match self {
            Killed::Nothing => "kill the command only",
            Killed::Child => "kill the child's ingest",
            Killed::Parent => "kill the parent's ingest",
            Killed::Nats => "kill nats-server",
        }
    }
}

/// The faults of a run: everything that is killed, after every step, in an order of the seed. After
/// these 16 faults they come again in another order.
pub fn plan(seed: u64, splits: usize) -> Vec<(Killed, SplitStep)> {
    let mut dice = Dice::new(seed);
    let mut plan = Vec::new();
    while plan.len() < splits {
        let each = |killed| SplitStep::ALL.map(|step| (killed, step));
        let mut deck: Vec<(Killed, SplitStep)> = Killed::ALL.into_iter().flat_map(each).collect();
        dice.shuffle(&mut deck);
        plan.extend(deck);
    }
    plan.truncate(splits);
    plan
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
    /// Answers to clients that asked all the time.
    pub answers: usize,
    /// Those of them that were a 503, by the fault before.
    pub unavailable: BTreeMap<String, usize>,
    /// The longest that an answer took, in milliseconds.
    pub slowest_answer_ms: i64,
}

/// Makes that number of splits, each with a fault.
pub async fn run(seed: u64, splits: usize, cluster: bool) -> SplitReport {
    let mut report = SplitReport::default();
    let mut dice = Dice::new(seed);
    for faults in plan(seed, splits).chunks(SPLITS) {
        installation(&mut dice, faults, cluster, &mut report).await;
    }
    report
}

async fn installation(
    dice: &mut Dice,
    faults: &[(Killed, SplitStep)],
    cluster: bool,
    report: &mut SplitReport,
) {
    let mut site = match cluster {
        true => Site::start_cluster("0s").await,
        false => Site::start_with("0s", true).await,
    };
    let mut ingests = BTreeMap::from([(EVENTS_STREAM.to_owned(), site.ingest("root"))]);
    let query = site.query("query").await;
    introduce_slots(&site).await;
    let mut accounts = Accounts::add(&site, dice.bits(), ACCOUNTS, faults.len() * MESSAGES).await;
    let readers = Readers::start(&site, &query).await;
    let traffic = Traffic::start(&site.js, accounts.messages(), RATE);
    traffic.more(RATE).await;
    let mut begun = Vec::new();
    for (number, (killed, step)) in (1..).zip(faults) {
        let owned = slots_by_stream(&site.js).await;
        let parents: Vec<(&String, &Slots)> =
            owned.iter().filter(|(_, slots)| slots.len() > 1).collect();
        let (parent, slots) = *dice.pick(&parents);
        let moved = some_of(dice, *slots).to_string();
        let child = cell_stream(&number.to_string());
        let what = format!("{} after {step:?}", killed.name());
        eprintln!("  {parent} to {child}, slots {moved}: {what}");
        begun.push((clock::now_ms(), what.clone()));
        let order = [parent.as_str(), &child, &moved];
        let ingest = killed_split(&site, order, *step, &child).await;
        ingests.insert(child.clone(), ingest);
        match killed {
            Killed::Nothing => {}
            Killed::Child => ingests.get_mut(&child).expect("an ingest").restart(),
            Killed::Parent => ingests.get_mut(parent).expect("an ingest").restart(),
            Killed::Nats => kill_nats(&mut site, step.changes(parent, &child)).await,
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
    report.add_answers(&readers.finish_among(&[200, 503]).await, &begun);
    let counted = site.all_counted(faults.len() + 1).await;
    let all = held(&site.js).await;
    report.published += published.receipts.len();
    report.stored_twice += published.check(&all);
    report.longest_wait_ms = report.longest_wait_ms.max(published.longest_wait().as_millis());
    check_chains(&site.js, &all, &counted).await;
    query.ready().await;
    accounts.judge(&query, &all, QUESTIONS).await;
    assert!(ingests.values().all(no_panic), "an ingest panicked");
}

impl SplitReport {
    /// Adds answers, and the times at which splits began. Only the loss of an ingest or of
    /// nats-server excuses a 503.
    fn add_answers(&mut self, answers: &[Seen], begun: &[(i64, String)]) {
        for seen in answers.iter().filter(|seen| seen.status == 503) {
            let before = begun.iter().rfind(|(begun_ms, _)| *begun_ms <= seen.got_ms);
            let (_, what) = before.expect("no 503 before the first split");
            *self.unavailable.entry(what.clone()).or_default() += 1;
        }
        let of_command = |what: &&String| what.starts_with(Killed::Nothing.name());
        assert_eq!(self.unavailable.keys().find(of_command), None, "{self:?}");
        self.answers += answers.len();
        let slowest_ms = answers.iter().map(Seen::took_ms).max().unwrap_or_default();
        self.slowest_answer_ms = self.slowest_answer_ms.max(slowest_ms);
    }
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
