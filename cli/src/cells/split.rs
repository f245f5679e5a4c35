//! Splits a stream: carries out the steps of [`super::plan`].
//!
//! *Invariants*: before each step the streams are read again, so a split that was interrupted
//! anywhere goes on with the same steps.

use std::time::{Duration, Instant};

use async_nats::Client;
use botstats_common::io::clock::monotonic;
use botstats_common::io::logging::say;
use botstats_common::io::settings::show_duration;
use botstats_common::lineage::Fence;
use botstats_common::names::slot_subjects;
use botstats_common::slot::Slots;
use botstats_common::status::Status;

use super::plan::{Order, Step, next};
use super::requests::{Streams, is_transient};
use super::stream::{Cell, shown};
use crate::status;

/// How long a step is repeated while the servers do not answer or choose a leader.
const RETRY_LIMIT: Duration = Duration::from_secs(30);
/// Pause before a step is repeated, and between two status requests.
const PAUSE: Duration = Duration::from_millis(250);

/// A split that is carried out step by step.
#[derive(Debug)]
pub(crate) struct Split<'a> {
    pub(crate) streams: &'a Streams,
    pub(crate) order: &'a Order,
}

/// What a split did.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The steps that were done, for people.
    pub(crate) done: Vec<String>,
    /// How long no stream had the slots.
    pub(crate) gap: Option<Duration>,
}

impl Split<'_> {
    async fn look(&self) -> anyhow::Result<(Cell, Option<Cell>, Option<Step>)> {
        let parent = self.streams.get(&self.order.parent).await?;
        let child = self.streams.find(&self.order.child).await?;
        let step = next(self.order, &parent, child.as_ref())?;
        Ok((parent, child, step))
    }

    async fn act(&self, step: Step, parent: &Cell, child: Option<&Cell>) -> anyhow::Result<String> {
        let Order { parent: from, child: to, slots } = self.order;
        let moved: Vec<String> = slots.iter().map(slot_subjects).collect();
        Ok(match (step, child) {
            (Step::TakeSlots, _) => {
                let mut left = parent.subjects.clone();
                left.retain(|subject| !moved.contains(subject));
                self.streams.set_subjects(parent, &left).await?;
                format!("took the {} out of {from}: their publishers wait", shown(*slots))
            }
            (Step::StoreFence, Some(child)) => {
                let fence = Fence { slots: *slots, to: child.identity.clone() };
                let sequence = self.streams.store_fence(from, fence).await?;
                format!("stored the fence in {from} at sequence {sequence}")
            }
            (Step::GiveSlots, Some(child)) => {
                let all = [&child.subjects[..], &moved[..]].concat();
                self.streams.set_subjects(child, &all).await?;
                format!("gave the {} to {to}: their publishers go on", shown(*slots))
            }
            // Without the child no other step is next.
            (Step::MakeChild, _) | (_, None) => {
                self.streams.make_child(parent, to, *slots).await?;
                format!(
                    "made the stream {to} for the {}, which listens on no slot yet",
                    shown(*slots)
                )
            }
        })
    }

    /// Does all steps that are left, and says each on standard error. Waits this long for an ingest
    /// of the child; not at all with `None`.
    pub(crate) async fn finish(
        &self,
        client: &Client,
        wait: Option<Duration>,
    ) -> anyhow::Result<Report> {
        let mut report = Report::default();
        let mut is_waited_for = false;
        let mut taken: Option<Instant> = None;
        let mut may_be_taken = false;
        let mut failing_since: Option<Instant> = None;
        loop {
            let tried = async {
                let (parent, child, step) = self.look().await?;
                let Some(step) = step else { return Ok(None) };
                if step == Step::TakeSlots && !is_waited_for {
                    return Ok(Some((step, None)));
                }
                may_be_taken = step != Step::MakeChild;
                if step == Step::TakeSlots {
                    taken = Some(monotonic());
                }
                let text = self.act(step, &parent, child.as_ref()).await?;
                anyhow::Ok(Some((step, Some(text))))
            };
            let (step, text) = match tried.await {
                Ok(Some(done)) => done,
                Ok(None) => return Ok(report),
                Err(error) => {
                    let since = *failing_since.get_or_insert_with(monotonic);
                    if since.elapsed() >= RETRY_LIMIT || !is_transient(&error) {
                        return Err(self.interrupted(error, may_be_taken));
                    }
                    tracing::debug!("a step is repeated: {error:#}");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            failing_since = None;
            let text = match text {
                Some(text) => text,
                None => {
                    is_waited_for = true;
                    match wait {
                        None => continue,
                        Some(limit) => self.wait_for_ingest(client, limit).await?,
                    }
                }
            };
            say(&text);
            report.done.push(text);
            if let (Step::GiveSlots, Some(taken)) = (step, taken) {
                report.gap = Some(taken.elapsed());
            }
        }
    }

    fn interrupted(&self, error: anyhow::Error, may_be_taken: bool) -> anyhow::Error {
        if !may_be_taken {
            return error;
        }
        let Order { child, slots, .. } = self.order;
        error.context(format!(
            "the split is not finished, and publishers of the {} may wait: run `botstats cells resume {child}` as soon \
             as NATS answers",
            shown(*slots)
        ))
    }

    /// Waits until an ingest of the child is ready.
    async fn wait_for_ingest(&self, client: &Client, limit: Duration) -> anyhow::Result<String> {
        let Order { child, slots, .. } = self.order;
        let started = monotonic();
        let mut said = String::new();
        loop {
            let statuses = status::ask(client).await?;
            let why = match ready_ingest(&statuses, child, *slots) {
                Ok(instance) => return Ok(format!("an ingest of {child} is ready: {instance}")),
                Err(why) => why,
            };
            if started.elapsed() >= limit {
                anyhow::bail!(
                    "no ingest of {child} was ready within {}: {why}. Nothing is moved yet. Run the command again when \
                     one is, with a longer --wait, or with --without-ingest; or delete the stream {child}",
                    show_duration(limit)
                );
            }
            if why != said {
                say(&format!("waiting for an ingest of {child}: {why}"));
                said = why;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The instance of an ingest that will answer for the slots once the stream has them; else why
/// there is none.
pub(crate) fn ready_ingest(
    statuses: &[Status],
    stream: &str,
    slots: Slots,
) -> Result<String, String> {
    let mut why = format!(
        "none answers; start one with BOTSTATS_STREAM={stream} and a folder of its own (BOTSTATS_DATA)"
    );
    for status in statuses {
        let Some(ingest) = status.ingest.as_ref().filter(|ingest| ingest.stream == stream) else {
            continue;
        };
        let who = &status.instance;
        let counts = ingest.slots.unwrap_or(Slots::ALL);
        if let Some(refused) = &ingest.refused {
            why = format!("ingest {who} refuses its stream: {refused}");
        } else if !slots.is_subset(counts) {
            why = format!("ingest {who} does not count the {}", shown(slots.difference(counts)));
        } else if !status.ready {
            let reads = ingest.reads.as_deref().unwrap_or(stream);
            let (part, missing) = status.missing.iter().next().unzip();
            why = match (part, missing) {
                (Some(part), Some(missing)) => {
                    format!("ingest {who} reads {reads} and waits for {part}: {missing}")
                }
                _ => format!("ingest {who} reads {reads} and is not ready"),
            };
        } else {
            return Ok(who.clone());
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use botstats_common::status::IngestStatus;

    use super::*;

    #[test]
    fn an_ingest_that_is_ready() {
        let slots = |text: &str| text.parse::<Slots>().unwrap();
        let ingest = |stream: &str, has: &str, ready| Status {
            program: "ingest".to_owned(),
            instance: "i1".to_owned(),
            ready,
            ingest: Some(IngestStatus {
                stream: stream.to_owned(),
                slots: Some(slots(has)),
                ..IngestStatus::default()
            }),
            ..Status::default()
        };
        let mut waits = ingest("C", "7", false);
        waits.missing.insert("stream".to_owned(), "3 of 9 messages applied".to_owned());
        waits.ingest.as_mut().unwrap().reads = Some("P".to_owned());
        let mut refuses = ingest("C", "7", false);
        refuses.ingest.as_mut().unwrap().refused = Some("another stream".to_owned());
        let query = Status { program: "query".to_owned(), ready: true, ..Status::default() };
        for (statuses, expect) in [
            (vec![], Err("BOTSTATS_STREAM=C")),
            (vec![query, ingest("P", "0-255", true)], Err("BOTSTATS_STREAM=C")),
            (vec![waits.clone()], Err("reads P and waits for stream: 3 of 9 messages applied")),
            (vec![refuses.clone()], Err("refuses its stream: another stream")),
            (vec![ingest("C", "8", true)], Err("does not count the slot 7")),
            (vec![ingest("C", "7", false)], Err("is not ready")),
            (vec![refuses, waits, ingest("C", "7", true)], Ok("i1")),
        ] {
            match (ready_ingest(&statuses, "C", slots("7")), expect) {
                (Ok(got), Ok(expect)) => assert_eq!(got, expect),
                (Err(got), Err(expect)) => assert!(got.contains(expect), "{got}"),
                (got, expect) => panic!("{got:?} {expect:?}"),
            }
        }
    }
}
