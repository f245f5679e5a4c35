//! `docker-compose.yml` as its users see it. The checks bring it up with the lines of README.md,
//! drive it from outside, kill, replace and remove its containers, and bring it up again; the model
//! judges the answers.
//!
//! Needs Docker, the images that the file names, and those of the programs (`tests/compose/run`
//! makes all of it). Some checks look into `/proc` and need root and an engine on this machine.
#![expect(
    clippy::expect_used,
    reason = "support of tests: a panic is how a test says that its ground is gone"
)]
#![expect(missing_docs, reason = "support of tests: a name that says all needs no comment")]

mod cells;
mod clients;
mod confined;
mod profiles;
mod readme;
mod report;
mod stack;
mod story;

use std::path::Path;
use std::time::Duration;

pub use report::{Check, Report};

use cells::cells;
use profiles::{cluster, demo};
use stack::Stack;
use story::Story;

/// The throttle window of a run: short, so that an account can be asked often.
const WINDOW: Duration = Duration::from_secs(3);

/// Runs all checks, or only that of the profile `cells`, on a compose project of that name, which
/// is gone afterwards.
pub async fn run(root: &Path, project: &str, only_cells: bool) -> Report {
    let stack = Stack::new(root, project, WINDOW);
    let mut report = Report::default();
    if !only_cells {
        checks(&stack, &mut report).await;
    }
    report.check("cells: a split, and a cell that is away", cells(&stack)).await;
    if !report.holds() {
        let logs = stack.output("docker", &["compose", "logs", "--tail", "40"], "").await;
        eprintln!("{}", String::from_utf8_lossy(&logs.stdout));
    }
    eprintln!("  removing everything");
    stack.down(true).await;
    report
}

async fn checks(stack: &Stack, report: &mut Report) {
    let mut sizes = std::collections::BTreeMap::new();
    report
        .check("each image is under 30 MiB, without a user root", async {
            sizes = story::images(stack).await;
            format!("{sizes:?} bytes")
        })
        .await;
    report.image_bytes = sizes;

    let mut first = None;
    report
        .check("README's lines, pasted: from up to the first answer", async {
            let (story, took) = Story::begin(stack).await;
            first = Some((story, took));
            format!("{:.1} s", took.as_secs_f64())
        })
        .await;
    let Some((mut story, took)) = first else { return };
    report.first_answer_ms = took.as_millis();

    report.check("no container may do more than it must", confined::check_all(stack)).await;
    report.check("none writes outside its volumes", confined::try_to_write(stack)).await;
    let published = [stack.http_port, stack.http_port + 1, stack.nats_port];
    report.check("what is not for outside is not", confined::ports(stack, &published)).await;
    report.check("rights in NATS hold", story.rights()).await;
    report.check("answers of both replicas are the model's", story.equals_the_model()).await;
    report.check("one replica's 200 throttles the other", story.shares_the_throttle()).await;
    report.check("ingest killed, and back by itself", story.ingest_killed()).await;
    report.check("nats-server killed while events come", story.nats_killed()).await;
    report.check("one query replaced while the other serves", story.query_replaced()).await;
    report.check("demo: traffic that goes on", demo(stack)).await;
    report.check("stopped in order and in time", story.stopped()).await;
    report.check("down and up keep the data", story.down_and_up()).await;
    drop(story);
    report.check("cluster: a server and an ingest killed", cluster(stack)).await;
}
