//! What is wrong with the cells, by what streams, ingests and servers say.

use std::fmt::Write as _;

use botstats_common::names::control_subject;
use botstats_common::slot::{Slot, Slots};
use botstats_common::status::Status;
use serde_json::{Value, json};

use super::mapping::Server;
use super::plan::unfinished;
use super::split::ready_ingest;
use super::stream::{Cell, shown};
use crate::output::{grouped, printable};

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// A stream's subjects, lineage or fences.
    Stream,
    /// An ingest.
    Ingest,
    /// A nats-server.
    Server,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) about: About,
    /// False if everything works although it is so.
    pub(crate) is_problem: bool,
    pub(crate) text: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn problem(&mut self, about: About, text: String) {
        self.0.push(Finding { about, is_problem: true, text });
    }

    fn warning(&mut self, about: About, text: String) {
        self.0.push(Finding { about, is_problem: false, text });
    }
}

/// True if no stream has slots: an installation without cells.
pub(crate) fn without_cells(cells: &[Cell]) -> bool {
    cells.iter().all(|cell| cell.slots.is_empty())
}

/// All findings; none without cells.
pub(crate) fn findings(cells: &[Cell], statuses: &[Status], servers: &[Server]) -> Vec<Finding> {
    let mut found = Findings::default();
    if without_cells(cells) {
        return found.0;
    }
    ownership(&mut found, cells);
    for cell in cells {
        subjects(&mut found, cell);
        lineage(&mut found, cell, cells);
        if !cell.slots.is_empty() {
            ingests(&mut found, cell, cells, statuses);
        }
    }
    for server in servers {
        let Some(problem) = server.problem() else { continue };
        let text = format!("nats-server {}: {problem}", server.address);
        if server.is_wrong() {
            found.problem(About::Server, text);
        } else {
            found.warning(About::Server, text);
        }
    }
    found.0
}

/// Each slot is in the list of one stream.
fn ownership(found: &mut Findings, cells: &[Cell]) {
    let mut owned = Slots::NONE;
    for cell in cells {
        let twice = owned.intersection(cell.slots);
        if !twice.is_empty() {
            let text = format!("{} and another stream both have the {}", cell.name(), shown(twice));
            found.problem(About::Stream, text);
        }
        owned = owned.union(cell.slots);
    }
    let mut absent = Slots::ALL.difference(owned);
    for (order, step) in unfinished(cells) {
        let child = &order.child;
        let waiting = absent.intersection(order.slots);
        absent = absent.difference(order.slots);
        let waits = if waiting.is_empty() {
            String::new()
        } else {
            format!("; publishers of the {} wait", shown(waiting))
        };
        let text = format!(
            "the split of {} into {child} is not finished (next: {}){waits}: run `botstats cells resume {child}`",
            order.parent,
            step.text()
        );
        if waiting.is_empty() {
            found.warning(About::Stream, text);
        } else {
            found.problem(About::Stream, text);
        }
    }
    if !absent.is_empty() {
        let text = format!(
            "no stream has the {}: nothing stores the events of these accounts",
            shown(absent)
        );
        found.problem(About::Stream, text);
    }
}

fn subjects(found: &mut Findings, cell: &Cell) {
    let name = cell.name();
    let control = control_subject(name);
    if !cell.subjects.contains(&control) {
        let text = format!("{name} does not listen on {control}: it cannot be split");
        found.problem(About::Stream, text);
    }
    if cell.takes_unmapped() {
        let text = format!(
            "{name} still takes events that a nats-server has not mapped to slots: run `botstats cells finish`"
        );
        found.problem(About::Stream, text);
    }
}

/// What a stream was made for, has, and gave away agree.
fn lineage(found: &mut Findings, cell: &Cell, cells: &[Cell]) {
    let name = cell.name();
    let mut problem = |text: String| found.problem(About::Stream, text);
    let made_for = cell.lineage.slots;
    let foreign = cell.slots.difference(made_for);
    if !foreign.is_empty() {
        problem(format!(
            "{name} has the {}, but was made for the {} only: take the others out of its list",
            shown(foreign),
            shown(made_for)
        ));
    }
    let fenced = cell.fences.iter().fold(Slots::NONE, |all, fence| all.union(fence.slots));
    let back = cell.slots.intersection(fenced);
    if !back.is_empty() {
        problem(format!(
            "{name} has the {} although its fence gave them away: their events there are strays",
            shown(back)
        ));
    }
    let is_splitting = |slot: Slot| {
        unfinished(cells).iter().any(|(order, _)| {
            (order.parent == name || order.child == name) && order.slots.contains(slot)
        })
    };
    let lost = made_for.difference(cell.slots).difference(fenced);
    let lost: Slots = lost.iter().filter(|slot| !is_splitting(*slot)).collect();
    if !lost.is_empty() {
        problem(format!(
            "{name} was made for the {}, does not have them, and has no fence for them: no ingest can tell where their \
             events went on",
            shown(lost)
        ));
    }
    let Some(parent) = &cell.lineage.parent else { return };
    let Some(found_parent) = cells.iter().find(|other| other.identity == *parent) else {
        let text = format!(
            "{name} was split from {}, which is gone or was made anew: the events from before the split are nowhere, and an \
             ingest of {name} without a folder cannot start",
            parent.name
        );
        return problem(text);
    };
    if !cell.slots.is_empty() && !found_parent.has_fence(made_for, &cell.identity) {
        problem(format!(
            "{} has no fence that gives the {} to {name}: ingests of {name} never get to its events",
            parent.name,
            shown(made_for)
        ));
    }
    if cell.first_sequence <= found_parent.last_sequence {
        problem(format!(
            "{name} begins at sequence {}, which its parent {} has passed: ingests cannot order their events",
            cell.first_sequence, parent.name
        ));
    }
}

/// An ingest answers for the stream's slots, none for those of others.
fn ingests(found: &mut Findings, cell: &Cell, cells: &[Cell], statuses: &[Status]) {
    let name = cell.name();
    let ready = ready_ingest(statuses, name, cell.slots);
    if let Err(why) = &ready {
        let text =
            format!("no ingest of {name} is ready, so its accounts get no statistics: {why}");
        found.problem(About::Ingest, text);
    }
    let others = cells.iter().filter(|other| other.name() != name);
    let of_others = others.fold(Slots::NONE, |all, other| all.union(other.slots));
    for status in statuses {
        let Some(ingest) = status.ingest.as_ref().filter(|ingest| ingest.stream == name) else {
            continue;
        };
        let who = format!("ingest {} of {name}", status.instance);
        if ready.is_ok() && !status.ready {
            found.warning(About::Ingest, format!("{who} is not ready; another one is"));
        }
        if let Some(reads) = &ingest.reads {
            let text = format!("{who} still reads {reads}, an earlier stream of its slots");
            found.problem(About::Ingest, text);
        }
        let answered = ingest.slots.unwrap_or(Slots::ALL);
        // A slot that its stream has too is a finding of the streams.
        let stale = answered.intersection(of_others).difference(cell.slots);
        if !stale.is_empty() {
            let text = format!(
                "{who} still answers for the {}, which other streams have: it has not read its stream to the fence",
                shown(stale)
            );
            found.warning(About::Ingest, text);
        }
        let strays = ingest.dead_letters.get("stray").copied().unwrap_or_default();
        if strays > 0 {
            let text = format!(
                "{who} met {} strays so far (events stored in {name} after their slots had moved): \
                 `botstats deadletters republish` sends them to the right stream; repeating it does no harm",
                grouped(strays)
            );
            found.warning(About::Ingest, text);
        }
    }
}

/// The findings as lines for people.
pub(crate) fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let kind = if finding.is_problem { "problem" } else { "warning" };
        // Writing to a string can't fail.
        let _written = writeln!(text, "{kind}: {}", printable(&finding.text));
    }
    text
}

/// The findings for programs.
pub(crate) fn json(findings: &[Finding]) -> Value {
    findings
        .iter()
        .map(|finding| {
            let about = match finding.about {
                About::Stream => "stream",
                About::Ingest => "ingest",
                About::Server => "server",
            };
            json!({
                "severity": if finding.is_problem { "problem" } else { "warning" },
                "about": about, "text": finding.text,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use botstats_common::names::EVENTS_SUBJECTS;
    use botstats_common::status::IngestStatus;

    use super::super::mapping::Found;
    use super::super::plan::tests::{cell, slots, with_fence};
    use super::*;

    fn ingest(stream: &str, has: &str) -> Status {
        let ingest = IngestStatus {
            stream: stream.to_owned(),
            slots: Some(slots(has)),
            ..IngestStatus::default()
        };
        let (program, instance) = ("ingest".to_owned(), format!("i-{stream}"));
        Status { program, instance, ready: true, ingest: Some(ingest), ..Status::default() }
    }

    /// A parent with a child, as a finished split leaves them, and their ingests.
    fn good() -> (Vec<Cell>, Vec<Status>) {
        let parent = with_fence(cell("P", "0-99", "0-255", None), "100-255", "C");
        let child = cell("C", "100-255", "100-255", Some("P"));
        (vec![child, parent], vec![ingest("C", "100-255"), ingest("P", "0-99")])
    }

    fn check(change: impl FnOnce(&mut Vec<Cell>, &mut Vec<Status>), expect: &[&str]) {
        let (mut cells, mut statuses) = good();
        change(&mut cells, &mut statuses);
        let shown = text(&findings(&cells, &statuses, &[]));
        assert_eq!(shown.lines().count(), expect.len(), "{shown}");
        for (line, expect) in shown.lines().zip(expect) {
            assert!(line.contains(expect), "{line}\n{expect}");
        }
    }

    #[test]
    fn nothing_is_wrong() {
        check(|_, _| (), &[]);
        // A split further down.
        check(
            |cells, statuses| {
                cells[0] = with_fence(cell("C", "100-199", "100-255", Some("P")), "200-255", "D");
                let mut grandchild = cell("D", "200-255", "200-255", Some("C"));
                grandchild.first_sequence = 2 << 40;
                cells.push(grandchild);
                statuses.extend([ingest("D", "200-255")]);
                statuses[0] = ingest("C", "100-199");
            },
            &[],
        );
        check(
            |cells, statuses| {
                cells.clear();
                cells.push(cell("P", "", "0-255", None));
                statuses.clear();
            },
            &[],
        );
    }

    #[test]
    fn each_thing_that_is_wrong() {
        check(
            |cells, _| cells[0].slots = slots("100-254"),
            &["no stream has the slot 255", "was made for the slot 255"],
        );
        check(
            |cells, _| cells[1].slots = slots("0-100"),
            &[
                "P and another stream both have the slot 100",
                "although its fence",
                "no ingest of P is ready",
            ],
        );
        check(|cells, _| cells[0].subjects.clear(), &["C does not listen on botstats.cell.C"]);
        check(
            |cells, _| cells[1].subjects.push(EVENTS_SUBJECTS.to_owned()),
            &["run `botstats cells finish`"],
        );
        check(
            |cells, _| cells[1].fences.clear(),
            &["P has no fence that gives", "P was made for the slots 100-255"],
        );
        check(|cells, _| cells[1].identity.created_ns = 8, &["P, which is gone or was made anew"]);
        check(|cells, _| cells[1].last_sequence = 1 << 41, &["which its parent P has passed"]);
        check(
            |cells, _| cells[0].lineage.slots = slots("101-255"),
            &["C has the slot 100, but was made for the slots 101-255", "P has no fence"],
        );
        // Unfinished splits: publishers wait, or do not yet.
        check(
            |cells, statuses| {
                cells[0].slots = Slots::NONE;
                statuses.remove(0);
            },
            &[
                "problem: the split of P into C is not finished (next: give the slots to the stream); publishers of the slots \
               100-255 wait: run `botstats cells resume C`",
            ],
        );
        check(
            |cells, _| cells.push(cell("D", "", "7", Some("P"))),
            &["warning: the split of P into D is not finished (next: take"],
        );
        // Ingests.
        check(|_, statuses| drop(statuses.remove(0)), &["no ingest of C is ready"]);
        check(
            |_, statuses| statuses[0].ready = false,
            &["no ingest of C is ready, so its accounts get no statistics: ingest i-C reads C"],
        );
        check(
            |_, statuses| statuses.push(Status { ready: false, ..ingest("C", "100-255") }),
            &["warning: ingest i-C of C is not ready; another one is"],
        );
        check(
            |_, statuses| statuses[1] = ingest("P", "0-255"),
            &["warning: ingest i-P of P still answers for the slots 100-255"],
        );
        check(
            |_, statuses| statuses[0].ingest.as_mut().unwrap().reads = Some("P".to_owned()),
            &["problem: ingest i-C of C still reads P"],
        );
        check(
            |_, statuses| {
                let letters = &mut statuses[1].ingest.as_mut().unwrap().dead_letters;
                letters.insert("stray".to_owned(), 2);
            },
            &["warning: ingest i-P of P met 2 strays"],
        );
    }

    #[test]
    fn servers_without_the_mapping() {
        let (cells, statuses) = good();
        let server = |found| Server { name: "n0".to_owned(), address: "h:1".to_owned(), found };
        let servers = [
            server(Found::Mapped),
            server(Found::NotMapped),
            server(Found::Wrong("botstats.slot.1.a.b.c".to_owned())),
            server(Found::Unknown("down".to_owned())),
        ];
        let found = findings(&cells, &statuses, &servers);
        let problems: Vec<bool> = found.iter().map(|finding| finding.is_problem).collect();
        assert_eq!(problems, [true, true, false], "{found:?}");
    }
}
