//! The streams of events as a table.

use std::fmt::Write as _;

use botstats_common::io::clock::rfc3339_ms;
use botstats_common::status::Status;
use serde_json::{Value, json};

use super::plan::{Step, unfinished};
use super::stream::Cell;
use super::verify::without_cells;
use crate::output::{Align, grouped, printable, table};

/// The ingests of a stream.
fn ingests<'a>(cell: &'a Cell, statuses: &'a [Status]) -> impl Iterator<Item = &'a Status> {
    statuses
        .iter()
        .filter(|status| status.ingest.as_ref().is_some_and(|ingest| ingest.stream == cell.name()))
}

/// The streams for people.
pub(crate) fn text(cells: &[Cell], statuses: &[Status]) -> String {
    if cells.is_empty() {
        return "there is no stream of events: run `botstats setup`".to_owned();
    }
    let columns = [
        ("STREAM", Align::Left),
        ("SLOTS", Align::Left),
        ("FROM", Align::Left),
        ("MESSAGES", Align::Right),
        ("INGESTS", Align::Left),
    ];
    let rows: Vec<Vec<String>> = cells
        .iter()
        .map(|cell| {
            let slots = match cell.slots.to_string() {
                none if none.is_empty() && without_cells(cells) => "all (no cells)".to_owned(),
                none if none.is_empty() => "none".to_owned(),
                slots => slots,
            };
            let all = ingests(cell, statuses).count();
            let ready = ingests(cell, statuses).filter(|status| status.ready).count();
            let ingests = match (all, ready) {
                (0, _) => "none".to_owned(),
                (all, ready) if all == ready => format!("{all} ready"),
                (all, ready) => format!("{ready} of {all} ready"),
            };
            let from = cell.lineage.parent.as_ref().map_or("", |parent| &parent.name);
            let name = printable(cell.name());
            vec![name, slots, printable(from), grouped(cell.messages), ingests]
        })
        .collect();
    let mut text = table(&columns, &rows);
    for (order, step) in unfinished(cells) {
        let child = &order.child;
        let waits = match step {
            Step::MakeChild | Step::TakeSlots => "nothing is moved yet",
            Step::StoreFence | Step::GiveSlots => "publishers of the slots WAIT",
        };
        // Writing to a string can't fail.
        let _written = writeln!(
            text,
            "the split of {} into {child} (slots {}) is not finished; {waits}; next: {}: run `botstats cells resume {child}`",
            order.parent,
            order.slots,
            step.text(),
        );
    }
    text
}

/// The streams for programs.
pub(crate) fn json(cells: &[Cell], statuses: &[Status]) -> Value {
    let unfinished = unfinished(cells);
    let of = |cell: &Cell| {
        let next = unfinished.iter().find(|(order, _)| order.child == cell.name());
        let ingests: Vec<Value> = ingests(cell, statuses)
            .map(|status| {
                let ingest = status.ingest.as_ref();
                json!({
                    "instance": status.instance, "ready": status.ready,
                    "slots": ingest.and_then(|ingest| ingest.slots),
                    "reads": ingest.and_then(|ingest| ingest.reads.clone()),
                    "sequence": ingest.map(|ingest| ingest.sequence),
                })
            })
            .collect();
        json!({
            "stream": cell.name(), "created": rfc3339_ms(cell.identity.created_ns / 1_000_000),
            "slots": cell.slots, "made_for": cell.lineage.slots,
            "from": cell.lineage.parent.as_ref().map(|parent| &parent.name),
            "takes_events_without_slot": cell.takes_unmapped(),
            "first_sequence": cell.first_sequence, "last_sequence": cell.last_sequence,
            "messages": cell.messages, "ingests": ingests,
            "next_step": next.map(|(_, step)| step.text()),
        })
    };
    cells.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::{cell, with_fence};
    use super::*;

    #[test]
    fn the_table() {
        let cells = [
            with_fence(cell("P", "0-99", "0-255", None), "200-255", "C"),
            cell("C", "200-255", "200-255", Some("P")),
            cell("D", "", "100-199", Some("P")),
        ];
        insta::assert_snapshot!(text(&cells, &[]), @r"
        STREAM  SLOTS    FROM  MESSAGES  INGESTS
        P       0-99                  0  none
        C       200-255  P            0  none
        D       none     P            0  none
        the split of P into D (slots 100-199) is not finished; publishers of the slots WAIT; next: store the fence in the parent: run `botstats cells resume D`
        ");
        let whole = [cell("P", "", "0-255", None)];
        assert!(text(&whole, &[]).contains("all (no cells)"));
        assert!(text(&[], &[]).contains("botstats setup"));
    }
}
