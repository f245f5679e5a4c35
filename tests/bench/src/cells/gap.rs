//! How long publishers of slots wait while these slots move to another stream.
//!
//! Each round moves 16 slots from the first stream to a new one. Publishers of accounts of these
//! slots send one event after the other; in the second half of the measure a publisher of all
//! accounts saturates the server meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use botstats_common::io::producer::{BATCHES_IN_FLIGHT, MAX_BATCH, Message, Publisher};
use botstats_common::io::{clock, stop};
use botstats_common::slot::{Slot, Slots};
use botstats_tests::harness::connection;
use botstats_tests::spread::{Moved, Spread, make_child, name};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{ACCOUNTS, Row, Scale, ms, say};
use crate::Target;

/// The slots that move in a round.
const SLOTS: usize = 16;
/// Publishers that send an event at a time.
const PULSES: usize = 4;
/// Publishers are at work before and after a move for this time.
const AROUND: Duration = Duration::from_millis(500);

pub(super) async fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (what, is_saturated) in [("little traffic", false), ("saturated server", true)] {
        let spread = Spread::start(1, false).await;
        let [mut whole, mut removed, mut fenced, mut added, mut longest] =
            [(); 5].map(|()| Vec::new());
        // There are no more slots than that.
        let rounds = scale.rounds.min(256 / SLOTS);
        for round in 0..rounds {
            let slots: Slots = Slot::all().skip(round * SLOTS).take(SLOTS).collect();
            let (parent, child) = (name(1), name(round + 2));
            make_child(&spread.js, &parent, &child, slots).await;
            let (moved, wait) = watched(&spread, (&parent, &child), slots, is_saturated).await?;
            whole.push(ms(moved.whole()));
            removed.push(ms(moved.removed));
            fenced.push(ms(moved.fenced));
            added.push(ms(moved.added));
            longest.push(ms(wait));
            say(&format!(
                "  round {}, {what}: moved in {:.0?}, an event waited for {wait:.0?}",
                round + 1,
                moved.whole(),
            ));
        }
        let row = |name: &str, rounds| Row::new(format!("gap, {what}: {name}"), "ms", rounds);
        rows.extend([
            row("slots taken from a stream", removed),
            row("fence", fenced),
            row("slots given to a stream", added),
            row("all three", whole),
            row("longest wait of an event", longest).should_be(Target::less(1_000.0, 200.0)),
        ]);
    }
    Ok(rows)
}

/// Moves slots while accounts of them publish; gives the longest wait of an event too.
async fn watched(
    spread: &Spread,
    (parent, child): (&str, &str),
    slots: Slots,
    is_saturated: bool,
) -> anyhow::Result<(Moved, Duration)> {
    let end = CancellationToken::new();
    let publisher = Publisher::new(connection(&spread.nats.url()).await);
    let tags = Arc::new(AtomicU64::new(0));
    let (mut saturating, mut pulses) = (Vec::new(), Vec::new());
    if is_saturated {
        let (sender, receiver) = mpsc::channel(BATCHES_IN_FLIGHT * MAX_BATCH);
        let publisher = publisher.clone();
        saturating.push(stop::spawn(async move { publisher.publish(receiver, |_| {}).await }));
        let (end, tags) = (end.clone(), tags.clone());
        stop::spawn(async move {
            while !end.is_cancelled() {
                let tag = tags.fetch_add(1, Ordering::Relaxed);
                let of = tag % u64::from(ACCOUNTS);
                if sender.send(message(tag, &format!("sim-{of}"))).await.is_err() {
                    break;
                }
            }
        });
    }
    let names = (0_u64..).map(|number| format!("pulse-{number}"));
    let moving = names.filter(|name| slots.contains(Slot::of_token(name))).take(PULSES);
    for account in moving {
        let (publisher, end, tags) = (publisher.clone(), end.clone(), tags.clone());
        pulses.push(stop::spawn(async move {
            let mut longest = Duration::ZERO;
            while !end.is_cancelled() {
                let begun = clock::monotonic();
                let one = message(tags.fetch_add(1, Ordering::Relaxed), &account);
                publisher.publish_all([one], |_| {}).await?;
                longest = longest.max(begun.elapsed());
            }
            anyhow::Ok(longest)
        }));
    }
    tokio::time::sleep(AROUND).await;
    let moved = spread.move_slots(parent, child, slots).await;
    tokio::time::sleep(AROUND).await;
    end.cancel();
    for publisher in saturating {
        publisher.await??;
    }
    let mut longest = Duration::ZERO;
    for pulse in pulses {
        longest = longest.max(pulse.await??);
    }
    anyhow::ensure!(spread.messages(child).await > 0, "no event is in the stream of the slots");
    Ok((moved, longest))
}

fn message(tag: u64, account: &str) -> Message {
    let subject = format!("botstats.events.{account}.b1.web");
    Message { tag, subject, payload: format!(r#"{{"id":"{tag}"}}"#).into() }
}
