//! Gives the first stream of an installation all slots, in two steps with the mapping between them.

use anyhow::bail;
use botstats_common::io::nats::NatsSettings;
use botstats_common::io::setup::cell_subjects;
use botstats_common::names::{EVENTS_STREAM, EVENTS_SUBJECTS};
use botstats_common::rules::meets;
use botstats_common::slot::Slots;
use serde_json::json;

use super::mapping::{self, configuration};
use super::requests::Streams;
use super::stream::{Cell, shown};
use super::verify::without_cells;
use crate::output::Answer;

/// What the first stream listens on once it has all slots, too; `None` if a stream has slots
/// already.
///
/// # Errors
/// Says which of its subjects takes events of slots already.
fn with_all_slots(root: &Cell, cells: &[Cell]) -> anyhow::Result<Option<Vec<String>>> {
    if !without_cells(cells) {
        return Ok(None);
    }
    let added = cell_subjects(root.name(), Slots::ALL);
    let takes = |subject: &&String| added.iter().any(|new| *subject != new && meets(subject, new));
    if let Some(wide) = root.subjects.iter().find(takes) {
        bail!(
            "the stream {EVENTS_STREAM} listens on {wide}, which takes events of every slot: replace this subject by \
             {EVENTS_SUBJECTS} first (`nats stream edit {EVENTS_STREAM} --subjects ..`)"
        );
    }
    let kept = root.subjects.iter().filter(|subject| !added.contains(subject)).cloned();
    Ok(Some(kept.chain(added.iter().cloned()).collect()))
}

/// Gives the first stream all slots beside the subjects that it has.
pub(crate) async fn init(streams: &Streams) -> anyhow::Result<Answer> {
    let cells = streams.all().await?;
    let Some(root) = cells.iter().find(|cell| cell.name() == EVENTS_STREAM) else {
        bail!(
            "there is no stream {EVENTS_STREAM}: run `botstats setup`; with --cells N it makes several streams at once"
        )
    };
    let wanted = with_all_slots(root, &cells)?;
    if let Some(subjects) = &wanted {
        streams.set_subjects(root, subjects).await?;
    }
    let first = match wanted {
        Some(_) => format!("the stream {EVENTS_STREAM} has the {} now", shown(Slots::ALL)),
        None => "streams of events have slots already; nothing was changed".to_owned(),
    };
    let text = format!(
        "{first}\nnext: add this line to the account BOTSTATS in the configuration of every nats-server and reload it\n  {}\n\
         then run `botstats cells check` and `botstats cells finish`",
        configuration()
    );
    let json =
        json!({"stream": EVENTS_STREAM, "changed": wanted.is_some(), "mapping": configuration()});
    Ok(Answer::new(text, json))
}

/// Takes the subjects of events without a slot out of the streams' lists.
pub(crate) async fn finish(
    streams: &Streams,
    nats: &NatsSettings,
    client: &async_nats::Client,
) -> anyhow::Result<Answer> {
    let cells = streams.all().await?;
    if without_cells(&cells) {
        bail!("no stream of events has slots: run `botstats cells init` first");
    }
    let unfinished: Vec<&Cell> = cells.iter().filter(|cell| cell.takes_unmapped()).collect();
    if unfinished.is_empty() {
        let text = "every stream takes only events with a slot already; nothing was changed";
        return Ok(Answer::new(text, json!({"changed": []})));
    }
    let servers = mapping::servers(nats, client).await;
    if servers.iter().any(|server| server.problem().is_some()) {
        bail!(
            "nothing was changed, because not every nats-server maps events to slots:\n{}",
            mapping::text(&servers).trim_end()
        );
    }
    let mut changed = Vec::new();
    for cell in unfinished {
        let mut subjects = cell.subjects.clone();
        subjects.retain(|subject| !meets(subject, EVENTS_SUBJECTS));
        streams.set_subjects(cell, &subjects).await?;
        changed.push(cell.name());
    }
    let text = format!(
        "{} takes only events with a slot now; a nats-server without the mapping refuses events. Streams can be split: \
         `botstats cells split --help`",
        changed.join(", ")
    );
    Ok(Answer::new(text, json!({"changed": changed, "servers": mapping::json(&servers)})))
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::cell;
    use super::*;

    #[test]
    fn what_the_first_stream_listens_on() {
        let root = |subjects: &[&str]| {
            let mut cell = cell(EVENTS_STREAM, "", "0-255", None);
            cell.subjects = subjects.iter().map(|subject| (*subject).to_owned()).collect();
            cell
        };
        let listens = |subjects: &[&str]| {
            let root = root(subjects);
            with_all_slots(&root, std::slice::from_ref(&root))
        };
        let all = listens(&[EVENTS_SUBJECTS, "old.>"]).unwrap().unwrap();
        assert_eq!(all[..3], [EVENTS_SUBJECTS, "old.>", "botstats.cell.BOTSTATS_EVENTS"]);
        assert_eq!((all.len(), all[258].as_str()), (259, "botstats.slot.255.*.*.*"));
        // A run that was repeated.
        let again = listens(&["botstats.cell.BOTSTATS_EVENTS", EVENTS_SUBJECTS]).unwrap().unwrap();
        assert_eq!(again.len(), 258);
        for wide in ["botstats.>", ">", "botstats.slot.>", "botstats.cell.*"] {
            let error = listens(&[EVENTS_SUBJECTS, wide]).unwrap_err().to_string();
            assert!(error.contains(&format!("listens on {wide}, which")), "{error}");
        }
        let done = cell(EVENTS_STREAM, "0-255", "0-255", None);
        assert_eq!(with_all_slots(&done, std::slice::from_ref(&done)).unwrap(), None);
    }
}
