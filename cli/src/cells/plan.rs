//! What is to be done next in a split, by what the streams say. There is no other state.
//!
//! | child | parent lists the slots | fence for the child | child lists slots | next |
//! | --- | --- | --- | --- | --- |
//! | absent | all | no | | make the child |
//! | absent | not all | | | refused |
//! | of another parent or of other slots | | | | refused |
//! | there | all | no | no | wait for an ingest, take the slots |
//! | there | some, but not all | no | no | refused |
//! | there | none | no | no | store the fence |
//! | there | none | yes | no | give the slots |
//! | there | some or all | yes | no | take the slots (again) |
//! | there | | | yes | nothing |
//!
//! *Why* a stream keeps at least one slot: a stream without slots cannot be told from one that
//! waits for its slots, and its ingests would have nothing to answer for. To move a whole stream to
//! other servers is a change of its placement, not a split.

use botstats_common::slot::Slots;

use super::stream::{Cell, shown};

/// A split: which stream gets which slots from which other stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) parent: String,
    pub(crate) child: String,
    pub(crate) slots: Slots,
}

/// A step of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make the child, which listens on its control subject only.
    MakeChild,
    /// Take the slots out of the parent's list. From here on there is no way back, and publishers
    /// of the slots' accounts wait. An ingest of the child should be ready.
    TakeSlots,
    /// Store the fence in the parent.
    StoreFence,
    /// Put the slots into the child's list. Publishers go on.
    GiveSlots,
}

impl Step {
    /// What is to be done, for people.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Step::MakeChild => "make the stream",
            Step::TakeSlots => "take the slots from the parent",
            Step::StoreFence => "store the fence in the parent",
            Step::GiveSlots => "give the slots to the stream",
        }
    }
}

/// Why a split is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// No stream has slots yet.
    #[error(
        "the stream {0} has no slots yet: run `botstats cells init`, add the mapping to every nats-server, and run \
             `botstats cells finish`; docs/scaling.md explains the steps"
    )]
    NotInitialised(String),
    /// Events of a server without the mapping would be stored in the wrong stream.
    #[error(
        "the stream {0} still takes events that a nats-server has not mapped to slots: run `botstats cells finish`"
    )]
    NotFinished(String),
    /// There is no such stream.
    #[error("there is no stream {0}; `botstats cells list` shows all")]
    NoParent(String),
    /// The parent lacks some of the slots.
    #[error("the stream {parent} does not have the {}; it has the {}; `botstats cells list` shows who has which", shown(*.missing), shown(*.has))]
    NotOwned {
        /// The parent.
        parent: String,
        /// The slots that it lacks.
        missing: Slots,
        /// The slots that it has.
        has: Slots,
    },
    /// The parent would have no slots.
    #[error(
        "the stream {0} must keep at least one slot; to move a whole stream to other servers change its placement \
             (`nats stream edit`)"
    )]
    All(String),
    /// The child exists for something else.
    #[error("the stream {child} exists, and was not made for the {} of {parent} as it is now; choose another name", shown(*.slots))]
    OtherChild {
        /// The child.
        child: String,
        /// The parent.
        parent: String,
        /// The slots of the order.
        slots: Slots,
    },
    /// Slots of the split are in the list of a third stream.
    #[error("the stream {owner} has the {} already; delete the stream {child} if nothing is in it", shown(*.slots))]
    OwnedElsewhere {
        /// The third stream.
        owner: String,
        /// The slots that it has.
        slots: Slots,
        /// The child.
        child: String,
    },
    /// Another split of the parent began.
    #[error("the split of {0} into {1} is not finished: run `botstats cells resume {1}` first")]
    Unfinished(String, String),
    /// The parent copies messages of other streams.
    #[error(
        "the stream {0} gets messages from other streams (mirror or sources), which no fence ends: it cannot be split"
    )]
    Fed(String),
}

/// The next step; `None` if the split is done.
///
/// # Errors
/// [`Refused`], if no step can be right.
pub(crate) fn next(
    order: &Order,
    parent: &Cell,
    child: Option<&Cell>,
) -> Result<Option<Step>, Refused> {
    let Order { slots, .. } = *order;
    let has = parent.slots.intersection(slots);
    let not_owned = || Refused::NotOwned {
        parent: order.parent.clone(),
        missing: slots.difference(parent.slots),
        has: parent.slots,
    };
    let Some(child) = child else {
        return if has == slots { Ok(Some(Step::MakeChild)) } else { Err(not_owned()) };
    };
    if child.lineage.slots != slots || child.lineage.parent.as_ref() != Some(&parent.identity) {
        let Order { child, parent, .. } = order.clone();
        return Err(Refused::OtherChild { child, parent, slots });
    }
    if !child.slots.is_empty() {
        return Ok(None);
    }
    let is_fenced = parent.has_fence(slots, &child.identity);
    match (has.is_empty(), is_fenced) {
        (true, false) => Ok(Some(Step::StoreFence)),
        (true, true) => Ok(Some(Step::GiveSlots)),
        (false, false) if has != slots => Err(not_owned()),
        (false, _) => Ok(Some(Step::TakeSlots)),
    }
}

/// Checks that a split may begin or go on, against all streams.
pub(crate) fn check(order: &Order, cells: &[Cell]) -> Result<(), Refused> {
    let find = |name: &str| cells.iter().find(|cell| cell.name() == name);
    let parent = find(&order.parent).ok_or_else(|| Refused::NoParent(order.parent.clone()))?;
    if cells.iter().all(|cell| cell.slots.is_empty()) {
        return Err(Refused::NotInitialised(order.parent.clone()));
    }
    if let Some(cell) = cells.iter().find(|cell| cell.takes_unmapped()) {
        return Err(Refused::NotFinished(cell.name().to_owned()));
    }
    let is_set = |field: &str| parent.config.get(field).is_some_and(|value| !value.is_null());
    if is_set("mirror") || is_set("sources") {
        return Err(Refused::Fed(order.parent.clone()));
    }
    let step = next(order, parent, find(&order.child))?;
    let keeps_some = !parent.slots.difference(order.slots).is_empty();
    if matches!(step, Some(Step::MakeChild | Step::TakeSlots)) && !keeps_some {
        return Err(Refused::All(order.parent.clone()));
    }
    let third = |cell: &&Cell| ![&order.parent, &order.child].contains(&&cell.identity.name);
    for cell in cells.iter().filter(third) {
        let slots = cell.slots.intersection(order.slots);
        if step.is_some() && !slots.is_empty() {
            let (owner, child) = (cell.name().to_owned(), order.child.clone());
            return Err(Refused::OwnedElsewhere { owner, slots, child });
        }
    }
    if step == Some(Step::MakeChild) {
        let of_parent = |(other, _): &(Order, Step)| other.parent == order.parent;
        if let Some((other, _)) = unfinished(cells).into_iter().find(of_parent) {
            return Err(Refused::Unfinished(other.parent, other.child));
        }
    }
    Ok(())
}

/// The splits that began and are not done, each with its next step.
pub(crate) fn unfinished(cells: &[Cell]) -> Vec<(Order, Step)> {
    let find = |name: &str| cells.iter().find(|cell| cell.name() == name);
    let of = |child: &Cell| {
        let parent = find(&child.lineage.parent.as_ref()?.name)?;
        let order = order_of(child)?;
        let step = next(&order, parent, Some(child)).ok()??;
        Some((order, step))
    };
    cells.iter().filter_map(of).collect()
}

/// The split that a stream was made by; `None` for a stream without a parent.
pub(crate) fn order_of(child: &Cell) -> Option<Order> {
    let parent = child.lineage.parent.as_ref()?;
    Some(Order {
        parent: parent.name.clone(),
        child: child.name().to_owned(),
        slots: child.lineage.slots,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use botstats_common::lineage::{Fence, Lineage, StreamIdentity};
    use botstats_common::names::{EVENTS_SUBJECTS, control_subject, slot_subjects};
    use serde_json::json;

    use super::*;

    pub(crate) fn slots(text: &str) -> Slots {
        text.parse().unwrap()
    }

    fn identity(name: &str) -> StreamIdentity {
        StreamIdentity { name: name.to_owned(), created_ns: 7 }
    }

    /// A stream that listens on these slots; made for those of `made_for`, by a split of `parent`.
    pub(crate) fn cell(name: &str, has: &str, made_for: &str, parent: Option<&str>) -> Cell {
        let subjects = slots(has).iter().map(slot_subjects);
        let first_sequence = if parent.is_some() { (1 << 40) + 1 } else { 1 };
        Cell {
            identity: identity(name),
            subjects: std::iter::once(control_subject(name)).chain(subjects).collect(),
            slots: slots(has),
            lineage: Lineage { slots: slots(made_for), parent: parent.map(identity) },
            first_sequence,
            oldest_sequence: first_sequence,
            last_sequence: first_sequence - 1,
            messages: 0,
            fences: Vec::new(),
            config: json!({}),
        }
    }

    pub(crate) fn with_fence(mut cell: Cell, moved: &str, to: &str) -> Cell {
        cell.fences.push(Fence { slots: slots(moved), to: identity(to) });
        cell
    }

    fn order() -> Order {
        Order { parent: "P".to_owned(), child: "C".to_owned(), slots: slots("100-255") }
    }

    #[test]
    fn the_truth_table() {
        let child = |has| Some(cell("C", has, "100-255", Some("P")));
        let other_slots = Some(cell("C", "", "101-255", Some("P")));
        let other_parent = Some(cell("C", "", "100-255", Some("X")));
        let no_parent = Some(cell("C", "", "100-255", None));
        let refused = |error: &str| Err(error.to_owned());
        for (parent_has, fence, child, expect) in [
            ("0-255", "", None, Ok(Some(Step::MakeChild))),
            ("0-100", "", None, refused("NotOwned")),
            ("0-99", "", None, refused("NotOwned")),
            ("0-255", "", other_slots, refused("OtherChild")),
            ("0-255", "", other_parent, refused("OtherChild")),
            ("0-255", "", no_parent, refused("OtherChild")),
            ("0-255", "", child(""), Ok(Some(Step::TakeSlots))),
            ("0-100", "", child(""), refused("NotOwned")),
            ("0-99", "", child(""), Ok(Some(Step::StoreFence))),
            // The fence of another split.
            ("0-9", "10-99", child(""), Ok(Some(Step::StoreFence))),
            ("0-99", "100-255", child(""), Ok(Some(Step::GiveSlots))),
            ("0-255", "100-255", child(""), Ok(Some(Step::TakeSlots))),
            ("0-100", "100-255", child(""), Ok(Some(Step::TakeSlots))),
            ("0-99", "100-255", child("100-255"), Ok(None)),
            // The child was split since.
            ("0-99", "100-255", child("100-199"), Ok(None)),
        ] {
            let mut parent = cell("P", parent_has, "0-255", None);
            if !fence.is_empty() {
                parent = with_fence(parent, fence, "C");
            }
            let got = next(&order(), &parent, child.as_ref()).map_err(|error| {
                format!("{error:?}").split([' ', '{', '(']).next().unwrap().to_owned()
            });
            assert_eq!(got, expect, "{parent_has} {fence} {child:?}");
        }
        // A fence to an earlier stream of the child's name.
        let mut parent = with_fence(cell("P", "0-99", "0-255", None), "100-255", "C");
        parent.fences[0].to.created_ns = 6;
        assert_eq!(next(&order(), &parent, child("").as_ref()), Ok(Some(Step::StoreFence)));
    }

    #[test]
    fn what_no_split_may_begin_with() {
        let whole = || cell("P", "0-255", "0-255", None);
        let unmapped = || {
            let mut cell = whole();
            cell.subjects.push(EVENTS_SUBJECTS.to_owned());
            cell
        };
        let mirror = Cell { config: json!({"mirror": {"name": "X"}}), ..whole() };
        let order_of = |text: &str| Order { slots: slots(text), ..order() };
        let waiting = || cell("D", "", "0-9", Some("P"));
        for (order, cells, expect) in [
            (order(), vec![whole()], ""),
            (order(), vec![cell("X", "0-255", "0-255", None)], "there is no stream P"),
            (order(), vec![cell("P", "", "0-255", None)], "botstats cells init"),
            (order(), vec![unmapped()], "botstats cells finish"),
            (order(), vec![mirror], "cannot be split"),
            (order_of("0-255"), vec![whole()], "at least one slot"),
            (
                order(),
                vec![cell("P", "0-200", "0-255", None)],
                "slots 201-255; it has the slots 0-200",
            ),
            (order(), vec![whole(), waiting()], "botstats cells resume D"),
            // What began may go on beside another that began.
            (order(), vec![whole(), waiting(), cell("C", "", "100-255", Some("P"))], ""),
            (
                order(),
                vec![
                    cell("P", "0-99", "0-255", None),
                    cell("C", "", "100-255", Some("P")),
                    cell("D", "100-255", "100-255", Some("P")),
                ],
                "the stream D has the slots 100-255 already",
            ),
        ] {
            let got = check(&order, &cells).err().map_or(String::new(), |error| error.to_string());
            assert!(if expect.is_empty() { got.is_empty() } else { got.contains(expect) }, "{got}");
        }
    }

    #[test]
    fn splits_that_are_not_done() {
        let cells = [
            cell("P", "0-99", "0-255", None),
            cell("A", "", "100-199", Some("P")),
            cell("B", "200-255", "200-255", Some("P")),
            cell("C", "", "200-210", Some("B")),
            cell("D", "", "7", Some("gone")),
        ];
        let shown: Vec<String> = unfinished(&cells)
            .into_iter()
            .map(|(order, step)| {
                format!("{} {} {} {step:?}", order.parent, order.child, order.slots)
            })
            .collect();
        assert_eq!(shown, ["P A 100-199 StoreFence", "B C 200-210 TakeSlots"]);
    }
}
