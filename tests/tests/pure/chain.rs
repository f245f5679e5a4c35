//! Random streams that are cut by fences into chains: what a store holds of its slots does not
//! depend on where the fences are, how the chain is read, or when the store is opened again.

use async_nats::HeaderMap;
use botstats_common::lineage::{Control, Fence, StreamIdentity, first_sequence_after};
use botstats_common::names::control_subject;
use botstats_common::slot::{Slot, Slots};
use botstats_ingest::testing::{
    Contents, DecodedStream, Engine, Message as Incoming, Ownership, Store, Taken,
};
use botstats_tests::disk::Disk;
use botstats_tests::generate::{Dice, Plan};
use botstats_tests::harness::header_map;
use botstats_tests::in_process::incoming;
use botstats_tests::model::Message;
use botstats_tests::setting;

/// Streams of a run; `BOTSTATS_TEST_CHAINS` makes it more (or fewer).
const STREAMS: usize = 1_000;
const KEEP_DAYS: u32 = 36_600;
const DAY_MS: i64 = 86_400_000;

/// A stream of a chain: what it holds, and the fence to the next one.
struct Link {
    identity: StreamIdentity,
    messages: Vec<Message>,
    /// The fence, and its sequence.
    fence: Option<(Fence, u64)>,
}

/// The streams of a random stream of events, root first, and the slots of each.
struct Cut {
    links: Vec<Link>,
    slots: Vec<Slots>,
    /// Messages that were stored in a stream that had given their slots away.
    strays: u64,
}

fn slot_of(message: &Message) -> Slot {
    Slot::of_token(message.subject.split('.').nth(2).unwrap_or_default())
}

/// Some of the slots, with that of at least one account of the stream, and foreign ones.
fn some_slots(dice: &mut Dice, of: Slots, messages: &[Message]) -> Slots {
    let used: Slots = messages.iter().map(slot_of).collect::<Slots>().intersection(of);
    let used: Vec<Slot> = used.iter().collect();
    let mut slots: Slots = of.iter().filter(|_| dice.one_in(2)).collect();
    if !used.is_empty() {
        slots.insert(*dice.pick(&used));
    }
    slots
}

impl Cut {
    /// Cuts a stream by one fence or two.
    fn new(dice: &mut Dice, messages: &[Message]) -> Self {
        let generations = 1 + dice.index(2);
        let mut fences: Vec<usize> =
            (0..generations).map(|_| dice.index(messages.len() + 1)).collect();
        fences.sort_unstable();
        let mut slots = vec![Slots::ALL];
        for _ in 0..generations {
            let of = slots[slots.len() - 1];
            slots.push(some_slots(dice, of, messages));
        }
        let identity = |number: usize| StreamIdentity {
            name: format!("BOTSTATS_EVENTS_{number}"),
            created_ns: 7,
        };
        let (mut first, mut strays) = (1, 0);
        let mut links = Vec::new();
        for (number, of_link) in slots.iter().enumerate() {
            let mut link = Link { identity: identity(number), messages: Vec::new(), fence: None };
            let mut sequence = first;
            let given = slots.get(number + 1).copied().unwrap_or_default();
            let (begin, end) = match number {
                0 => (0, fences.first()),
                _ => (fences[number - 1], fences.get(number)),
            };
            let end = end.copied().unwrap_or(messages.len());
            for (at, message) in messages.iter().enumerate().skip(begin) {
                if at == end && link.fence.is_none() && number < generations {
                    link.fence_to(&identity(number + 1), given, message, &mut sequence);
                }
                let slot = slot_of(message);
                if !of_link.contains(slot) {
                    continue;
                }
                if at >= end && given.contains(slot) {
                    if !dice.one_in(10) {
                        continue;
                    }
                    strays += u64::from(number == 0);
                }
                link.push(dice, message, slot, &mut sequence);
            }
            if let (None, true, Some(last)) = (&link.fence, number < generations, messages.last()) {
                link.fence_to(&identity(number + 1), given, last, &mut sequence);
            }
            links.push(link);
            first = first_sequence_after(first);
        }
        Self { links, slots, strays }
    }
}

impl Link {
    fn fence_to(&mut self, to: &StreamIdentity, slots: Slots, at: &Message, sequence: &mut u64) {
        let fence = Fence { slots, to: to.clone() };
        self.messages.push(Message {
            sequence: *sequence,
            stored_ns: at.stored_ns,
            subject: control_subject(&self.identity.name),
            headers: Vec::new(),
            payload: Control::Moved(fence.clone()).encode(),
        });
        self.fence = Some((fence, *sequence));
        *sequence += 1;
    }

    fn push(&mut self, dice: &mut Dice, message: &Message, slot: Slot, sequence: &mut u64) {
        let mut message = Message { sequence: *sequence, ..message.clone() };
        if dice.one_in(2) {
            message.subject = message.subject.replacen("events", &format!("slot.{slot}"), 1);
        }
        self.messages.push(message);
        // Deleted messages leave gaps.
        *sequence += if dice.one_in(10) { 3 } else { 1 };
    }
}

/// An engine on a disk in memory.
struct Open {
    disk: Disk,
    engine: Engine,
}

impl Open {
    fn on(disk: Disk) -> anyhow::Result<Self> {
        let engine = Engine::on(Store::open_on(Box::new(disk.clone()))?, KEEP_DAYS)?;
        Ok(Self { disk, engine })
    }

    fn reopen(self) -> anyhow::Result<Self> {
        let Self { disk, engine } = self;
        drop(engine);
        Self::on(disk)
    }

    fn contents(&self, slots: Slots) -> anyhow::Result<Contents> {
        let mut contents = self.engine.store().snapshot()?.contents()?;
        contents.pairs.retain(|(account, ..), _| slots.contains(Slot::of_token(account)));
        Ok(contents)
    }
}

/// Counts by outcome; subjects that are wrong count only in a stream's own store.
fn counts(engine: &Engine) -> Vec<(String, u64)> {
    let progress = engine.progress();
    let mut counts = vec![
        ("accepted".to_owned(), progress.accepted),
        ("duplicates".to_owned(), progress.duplicates),
        ("conflicts".to_owned(), progress.conflicts),
        ("unknown".to_owned(), progress.unknown_types),
    ];
    let letters = progress.dead_letters.iter().map(|(rule, count)| (rule.clone(), *count));
    counts.extend(letters.filter(|(rule, _)| rule != "subject" && rule != "stray"));
    counts
}

/// Reads the links one after the other as the reader does, in batches of random sizes; loses
/// batches and opens the store again now and then. Stops after `stop_after` messages of the first
/// link, if that is given.
fn follow(
    mut open: Open,
    dice: &mut Dice,
    links: &[Link],
    slots: Slots,
    stop_after: Option<u64>,
) -> anyhow::Result<Open> {
    let largest = *dice.pick(&[2, 10, 100, 1_000]);
    let own = links.last().map(|link| link.identity.clone());
    'opened: loop {
        let checkpoint = open.engine.progress().checkpoint.clone();
        let done = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.sequence);
        if stop_after.is_some_and(|stop| done >= stop) {
            return Ok(open);
        }
        let attached = match checkpoint.as_ref().map(|checkpoint| &checkpoint.stream) {
            Some(stream) if Some(stream) == own.as_ref() => open.engine.progress().ownership,
            _ => Ownership { counted: slots, given_away: Slots::NONE },
        };
        let place = checkpoint.and_then(|c| links.iter().position(|l| l.identity == c.stream));
        let at_fence = |place: usize| matches!(links[place].fence, Some((_, at)) if at == done);
        let is_last = |place: usize| place + 1 == links.len();
        let mut at = match place {
            Some(place) if at_fence(place) && !is_last(place) => place + 1,
            place => place.unwrap_or_default(),
        };
        let mut decoder = open.engine.decoder();
        decoder.attach(attached);
        loop {
            let Link { identity, messages, fence } = &links[at];
            let ends_with = fence.clone().map(|(fence, _)| fence).filter(|_| !is_last(at));
            decoder.enter(DecodedStream::new(&identity.name, ends_with));
            let mut rest = messages.iter().filter(|m| m.sequence > done).peekable();
            let mut is_end = false;
            while rest.peek().is_some() && !is_end {
                let mut batch = open.engine.batch();
                (batch.stream, batch.ownership) = (identity.clone(), attached);
                for message in rest.by_ref().take(dice.index(largest) + 1) {
                    let headers = header_map(&message.headers);
                    let taken = batch.take(&mut decoder, &incoming(message, &headers))?;
                    anyhow::ensure!(taken != Taken::No, "an unexpected fence");
                    is_end = taken == Taken::Last;
                    let stops = stop_after.is_some_and(|stop| message.sequence >= stop);
                    if is_end || stops {
                        is_end = true;
                        break;
                    }
                }
                // The process ends before the commit, or after it.
                let is_lost = dice.one_in(15);
                if !is_lost {
                    open.engine.apply_batch(&batch)?;
                }
                if is_lost || dice.one_in(15) {
                    open = open.reopen()?;
                    continue 'opened;
                }
            }
            if stop_after.is_some() || is_last(at) {
                return Ok(open);
            }
            at += 1;
        }
    }
}

/// The store of the messages of these slots, as if they had been in one stream.
fn uncut(messages: &[Message], slots: Slots) -> anyhow::Result<Open> {
    let mut open = Open::on(Disk::default())?;
    let of_slots: Vec<&Message> = messages.iter().filter(|m| slots.contains(slot_of(m))).collect();
    let headers: Vec<HeaderMap> = of_slots.iter().map(|m| header_map(&m.headers)).collect();
    let batch: Vec<Incoming<'_>> = of_slots
        .iter()
        .zip(&headers)
        .map(|(message, headers)| incoming(message, headers))
        .collect();
    open.engine.apply(&batch)?;
    Ok(open)
}

fn check(seed: u64) -> anyhow::Result<()> {
    let mut dice = Dice::new(seed ^ 0xc4a1);
    let plan = Plan {
        seed,
        accounts: 2 + dice.below(4).unsigned_abs(),
        events: *dice.pick(&[5, 20, 60]),
        start_ms: 20_700 * DAY_MS,
        days: *dice.pick(&[1, 3]),
        conflicts: seed.is_multiple_of(4),
        bad: true,
    };
    let messages = plan.generate().messages;
    let cut = Cut::new(&mut dice, &messages);
    let last = cut.links.len() - 1;

    // The newest stream's store, which reads the whole chain.
    let slots = cut.slots[last];
    let wanted = uncut(&messages, slots)?;
    let child = follow(Open::on(Disk::default())?, &mut dice, &cut.links, slots, None)?;
    anyhow::ensure!(child.contents(Slots::ALL)? == wanted.contents(Slots::ALL)?, "child");
    let (got, counted) = (counts(&child.engine), counts(&wanted.engine));
    anyhow::ensure!(got == counted, "child: {got:?}, uncut {counted:?}");
    let ownership = child.engine.progress().ownership;
    anyhow::ensure!(ownership == Ownership { counted: slots, given_away: Slots::NONE });

    // A copy of the root's store, stopped before the fence or at it, goes on as the newest one's.
    let fence = cut.links[0].fence.as_ref().map_or(0, |(_, at)| *at);
    let stop =
        if dice.one_in(2) { fence } else { dice.below(fence.cast_signed()).unsigned_abs() + 1 };
    let root = Open::on(Disk::default())?;
    let root = follow(root, &mut dice, &cut.links[..1], Slots::ALL, Some(stop))?;
    let Open { disk, engine } = root;
    drop(engine);
    let copy = follow(Open::on(Disk::of(disk.bytes()))?, &mut dice, &cut.links, slots, None)?;
    anyhow::ensure!(copy.contents(slots)? == wanted.contents(slots)?, "copy");

    // The root's store, which goes on without the slots.
    let root = follow(Open::on(disk)?, &mut dice, &cut.links[..1], Slots::ALL, None)?;
    let kept = Slots::ALL.difference(cut.slots[1]);
    let wanted = uncut(&messages, kept)?;
    anyhow::ensure!(root.contents(kept)? == wanted.contents(kept)?, "root");
    let progress = root.engine.progress();
    let given_away = cut.slots[1];
    anyhow::ensure!(progress.ownership == Ownership { counted: Slots::ALL, given_away });
    let strays = progress.dead_letters.get("stray").copied().unwrap_or_default();
    let subjects = progress.dead_letters.get("subject").copied().unwrap_or_default();
    anyhow::ensure!(
        (strays..=strays + subjects).contains(&cut.strays),
        "{strays} strays and {subjects} wrong subjects, not {}",
        cut.strays
    );
    Ok(())
}

#[test]
fn a_chain_holds_what_one_stream_would() {
    let streams = u64::try_from(setting("BOTSTATS_TEST_CHAINS", STREAMS)).unwrap();
    let failures: Vec<String> = (0..streams)
        .filter_map(|seed| check(seed).err().map(|e| format!("seed {seed}: {e:#}")))
        .collect();
    assert!(
        failures.is_empty(),
        "{} failed: {}",
        failures.len(),
        failures[..failures.len().min(10)].join("\n\n")
    );
}
