//! Which chains fit, where they are read, and what is refused, as cases.

use super::*;

const GENERATION: u64 = 1 << 40;
const SLOTS: [&str; 3] = ["0-255", "128-255", "192-255"];
const NAMES: [&str; 3] = ["A", "B", "C"];

fn identity(name: &str) -> StreamIdentity {
    StreamIdentity { name: name.to_owned(), created_ns: 5 }
}

fn set(text: &str) -> Slots {
    text.parse().unwrap()
}

fn fence_at(sequence: u64) -> Place {
    Place { sequence, stored_ns: 7, subject_hash: 9 }
}

/// A chain of three: the first two have 100 messages, the last of them the fence.
fn chain() -> Vec<Link> {
    (0..3)
        .map(|at| {
            let base = u64::try_from(at).unwrap() * GENERATION;
            let (first_sequence, last_sequence) = (base + 1, base + 100);
            Link {
                state: StreamState { identity: identity(NAMES[at]), first_sequence, last_sequence },
                first: base + 1,
                slots: set(SLOTS[at]),
                parent: at.checked_sub(1).map(|before| identity(NAMES[before])),
                is_used: true,
                fence: (at < 2).then(|| fence_at(base + 100)),
            }
        })
        .collect()
}

/// The last stream has no slots and no message yet, the one before no fence.
fn before_the_fence() -> Vec<Link> {
    let mut links = chain();
    links[1].fence = None;
    links[2].is_used = false;
    links[2].state.last_sequence = links[2].first - 1;
    links
}

fn at(name: &str, sequence: u64) -> Checkpoint {
    Checkpoint { stream: identity(name), sequence, stored_ns: 7, subject_hash: 9 }
}

fn chain_refusal(result: Result<Placed, Refusal>) -> ChainRefusal {
    match result {
        Err(Refusal::Chain(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn streams_that_fit() {
    let (a, b) = (|| "A".to_owned(), || "B".to_owned());
    let wrong = |change: &dyn Fn(&mut Vec<Link>)| {
        let mut links = chain();
        change(&mut links);
        fits(&links).unwrap_err()
    };
    assert_eq!(fits(&chain()), Ok(()));
    assert_eq!(fits(&chain()[2..]), Ok(()));
    for replaced in [
        wrong(&|links| links[0].state.identity.created_ns = 6),
        wrong(&|links| links[0].state.identity.name = "X".to_owned()),
    ] {
        assert!(matches!(replaced, ChainRefusal::OtherParent { .. }), "{replaced}");
    }
    let reordered = wrong(&|links| links.swap(0, 1));
    assert!(matches!(reordered, ChainRefusal::OtherParent { .. }), "{reordered}");
    assert_eq!(
        wrong(&|links| links[0].slots = set("0-199")),
        ChainRefusal::ForeignSlots { child: b(), parent: a(), slots: set("200-255") }
    );
    let (first, needed) = (2 * GENERATION + 1, GENERATION + 1);
    assert_eq!(
        wrong(&|links| links[1].first = first),
        ChainRefusal::Order { child: b(), parent: a(), first, needed }
    );
}

#[test]
fn what_is_a_fence() {
    let expected = Fence { slots: set("128-255"), to: identity("B") };
    for (slots, to, expect) in [
        ("128-255", "B", Some(true)),
        ("0-127", "C", Some(false)),
        ("128-254", "B", None),
        ("0-255", "B", None),
        ("0-127", "B", None),
        ("128-255", "C", None),
        ("100-128", "C", None),
    ] {
        let fence = Fence { slots: set(slots), to: identity(to) };
        let found = is_fence(&fence, &expected, &fence_at(3), "A");
        assert_eq!(found.ok(), expect, "{slots} to {to}");
    }
    let made_again = StreamIdentity { created_ns: 6, ..identity("B") };
    let fence = Fence { to: made_again, ..expected.clone() };
    let refused = is_fence(&fence, &expected, &fence_at(3), "A").unwrap_err();
    assert!(refused.to_string().contains("at sequence 3"), "{refused}");
    assert!(refused.what_to_do().contains("a rebuild does not help"));
}

#[test]
fn where_a_chain_is_read() {
    let here = |index, start| Placed { index, start, passed_fence: None };
    let (b, c) = (GENERATION, 2 * GENERATION);
    type Change<'a> = &'a dyn Fn(&mut Vec<Link>);
    let whole = |_: &mut Vec<Link>| {};
    let cases: [(Change<'_>, Option<Checkpoint>, Placed); 9] = [
        (&whole, None, here(0, Start::From(1))),
        (&|links| links[0].state.first_sequence = 50, None, here(0, Start::From(50))),
        // Its fence is gone, with all that came before.
        (
            &|links| {
                links[0].state.first_sequence = 101;
                links[0].fence = None;
            },
            None,
            here(1, Start::From(b + 1)),
        ),
        (&|links| links[1].state.first_sequence = b + 50, None, here(1, Start::From(b + 50))),
        (&|links| links[2].state.first_sequence = c + 9, None, here(2, Start::From(c + 9))),
        (&whole, Some(at("A", 99)), here(0, Start::AtCheckpoint(99))),
        (
            &whole,
            Some(at("A", 100)),
            Placed { index: 1, start: Start::From(b + 1), passed_fence: Some(100) },
        ),
        // Empty as yet.
        (
            &|links| {
                links[1].state.last_sequence = b;
                links[1].fence = None;
                links[2].is_used = false;
            },
            Some(at("A", 100)),
            Placed { index: 1, start: Start::From(b + 1), passed_fence: Some(100) },
        ),
        (
            &|links| drop(links.drain(..2)),
            Some(at("C", c + 5)),
            here(0, Start::AtCheckpoint(c + 5)),
        ),
    ];
    for (number, (change, position, expect)) in cases.into_iter().enumerate() {
        let mut links = chain();
        change(&mut links);
        assert_eq!(place(&links, position.as_ref()), Ok(expect), "case {number}");
    }
    let follows = place(&before_the_fence()[1..], Some(&at("B", b + 100)));
    assert_eq!(follows, Ok(here(0, Start::AtCheckpoint(b + 100))));
}

#[test]
fn what_is_not_read() {
    let (child, parent) = ("B".to_owned(), "A".to_owned());
    let mut no_fence = chain();
    no_fence[0].fence = None;
    let refusal = ChainRefusal::NoFence { child: child.clone(), parent: parent.clone() };
    assert_eq!(chain_refusal(place(&no_fence, None)), refusal);
    assert_eq!(chain_refusal(place(&no_fence, Some(&at("A", 50)))), refusal);

    let mut past = chain();
    past[0].state.last_sequence = 200;
    let refusal = ChainRefusal::PastFence { child: child.clone(), parent: parent.clone() };
    assert_eq!(chain_refusal(place(&past, Some(&at("A", 101)))), refusal);

    let mut shortened = chain();
    shortened[1].state.first_sequence += 1;
    let refusal = ChainRefusal::Shortened { child, parent };
    assert_eq!(chain_refusal(place(&shortened, Some(&at("A", 100)))), refusal);

    let refusal = ChainRefusal::NotInChain { stream: "C".to_owned(), counted: "X".to_owned() };
    assert_eq!(chain_refusal(place(&chain(), Some(&at("X", 5)))), refusal);

    // The stream itself is compared as ever.
    let lost = place(&chain(), Some(&at("A", 101)));
    assert_eq!(lost, Err(Refusal::LostTail { sequence: 101, last: 100 }));
    let other = Checkpoint { stored_ns: 8, ..at("A", 100) };
    assert_eq!(place(&chain(), Some(&other)), Err(Refusal::OtherMessage { sequence: 100 }));
}

#[test]
fn what_must_be_applied() {
    assert_eq!(must_apply(&chain()), 2 * GENERATION + 100);
    assert_eq!(must_apply(&chain()[2..]), 2 * GENERATION + 100);
    assert_eq!(must_apply(&before_the_fence()), GENERATION + 100);
}

#[test]
fn slots_of_a_store() {
    let own = &chain()[1];
    let ownership = |counted: &str, given_away: &str| Ownership {
        counted: set(counted),
        given_away: set(given_away),
    };
    let refused = None;
    for (position, is_at_fence, store, expect) in [
        (None, false, ("0-255", ""), Some(("128-255", ""))),
        (Some("B"), false, ("128-255", ""), Some(("128-255", ""))),
        (Some("B"), false, ("128-255", "192-255"), Some(("128-255", "192-255"))),
        (Some("B"), false, ("0-255", "0-9,255"), Some(("128-255", "255"))),
        (Some("B"), false, ("128-254", ""), refused),
        (Some("A"), false, ("128-255", ""), Some(("128-255", ""))),
        (Some("A"), false, ("0-255", "0-9"), Some(("128-255", ""))),
        (Some("A"), true, ("0-255", "0-9,128-255"), Some(("128-255", ""))),
        (Some("A"), false, ("0-255", "128-255"), refused),
        (Some("A"), true, ("0-127", ""), refused),
    ] {
        let position = position.map(|name| at(name, 50));
        let found = attach(own, position.as_ref(), is_at_fence, ownership(store.0, store.1));
        let expect = expect.map(|(counted, given_away)| ownership(counted, given_away));
        assert_eq!(found.ok(), expect, "{position:?} {is_at_fence} {store:?}");
    }
}
