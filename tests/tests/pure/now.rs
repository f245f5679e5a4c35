//! What goes on now: random streams through the engine, against the model, at moments that a query
//! may ask for.

use std::collections::BTreeSet;

use botstats_common::io::clock::rfc3339_ms;
use botstats_tests::disk::Disk;
use botstats_tests::generate::{Dice, Plan, moment};
use botstats_tests::in_process::Product;
use botstats_tests::model::{Message, Model, Now};
use botstats_tests::setting;

use crate::model_in_process::{accepted_at_once, number, plan};

/// Streams of a run; `BOTSTATS_TEST_NOW` makes it more (or fewer).
const STREAMS: usize = 30;
/// Moments at which each stream is looked at, some times while it goes on.
const MOMENTS: usize = 20;
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
const NS_PER_MS: i64 = 1_000_000;
/// The clock of a query may be that far behind the server's.
const BEHIND_MS: i64 = 2 * MINUTE_MS;

/// A busy stream of few days, so that much is open at its end.
fn busy(seed: u64) -> Plan {
    let mut dice = Dice::new(seed ^ 0x0b05);
    let (events, days) = (*dice.pick(&[400, 1_500, 3_000]), *dice.pick(&[1, 1, 2]));
    Plan { events, days, ..plan(seed) }
}

/// A moment after the last message: often one at which something stops to be open, or the one
/// before or after.
fn asked_at(dice: &mut Dice, messages: &[Message], model: &Model) -> i64 {
    let newest_ms = messages.last().map_or(0, |message| message.stored_ns / NS_PER_MS);
    let from_ms = newest_ms - BEHIND_MS;
    if dice.one_in(4) {
        return moment(dice, from_ms, newest_ms + 26 * 60 * MINUTE_MS).max(from_ms);
    }
    let recent = &model.events[model.events.len().saturating_sub(60)..];
    let later_ms = *dice.pick(&[0, 30 * MINUTE_MS, DAY_MS]) + *dice.pick(&[-1, 0, 1]);
    let ms = recent.get(dice.index(recent.len().max(1))).map_or(0, |(_, e)| e.time_ms + later_ms);
    if ms < from_ms { from_ms + dice.below(20 * MINUTE_MS) } else { ms }
}

/// Compares at some moments; adds up what is counted there.
fn compare(
    product: &mut Product,
    dice: &mut Dice,
    messages: &[Message],
    seen: &mut Now,
) -> anyhow::Result<()> {
    let model = Model::of(messages);
    product.check_counts(&model)?;
    let accounts: BTreeSet<&str> = model.accounts().into_iter().collect();
    for _ in 0..MOMENTS {
        let now_ms = asked_at(dice, messages, &model);
        for account in &accounts {
            let bots: Vec<String> = model.now(account, 0).into_keys().map(|(bot, _)| bot).collect();
            let some = dice.one_in(4).then(|| vec![dice.pick(&bots).clone(), "none".to_owned()]);
            for now in product.check_now(&model, account, some.as_deref(), now_ms)? {
                seen.open += now.open;
                seen.waiting += now.waiting;
                seen.waiting_active += now.waiting_active;
                seen.with_operator += now.with_operator;
                seen.unanswered += now.unanswered;
            }
        }
    }
    Ok(())
}

fn check(seed: u64, seen: &mut Now) -> anyhow::Result<()> {
    let messages = busy(seed).generate().messages;
    let mut dice = Dice::new(seed ^ 0x90e);
    let mut product = Product::on(Disk::default(), 400)?;
    let looks = [2, 5, 8, 10].map(|tenth| messages.len() * tenth / 10);
    product.apply_in_batches(&mut dice, &messages, &looks, |product, dice, applied| {
        compare(product, dice, applied, seen)
    })?;
    product.reopen()?;
    compare(&mut product, &mut dice, &messages, seen)
}

fn assert_much_was_open(seen: Now) {
    let Now { open, waiting, waiting_active, with_operator, unanswered, .. } = seen;
    for count in [open, waiting, with_operator, unanswered] {
        assert!(count > 1_000, "little was open: {seen:?}");
    }
    assert!(waiting_active > 50, "few waited and wrote: {seen:?}");
}

#[test]
fn what_goes_on_equals_the_models() {
    let streams = u64::try_from(setting("BOTSTATS_TEST_NOW", STREAMS)).unwrap();
    let mut seen = Now::default();
    let failures: Vec<String> = (0..streams)
        .filter_map(|seed| check(seed, &mut seen).err().map(|e| format!("seed {seed}: {e:#}")))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert_much_was_open(seen);
}

#[test]
fn the_order_of_arrival_is_invisible_now() {
    let mut seen = Now::default();
    for seed in 0..12 {
        let plan = Plan { conflicts: false, ..busy(3_000 + seed) };
        let stored_ns = (plan.start_ms + plan.days * DAY_MS) * NS_PER_MS;
        let mut messages = accepted_at_once(&plan.generate().messages, stored_ns);
        let mut dice = Dice::new(seed);
        for order in 0..4 {
            dice.shuffle(&mut messages);
            number(&mut messages);
            let mut product = Product::on(Disk::default(), 400).unwrap();
            for batch in messages.chunks(dice.index(300) + 20) {
                product.apply(batch).unwrap();
            }
            if dice.one_in(2) {
                product.reopen().unwrap();
            }
            let same = compare(&mut product, &mut dice, &messages, &mut seen);
            same.unwrap_or_else(|error| panic!("seed {seed}, order {order}: {error:#}"));
        }
    }
    assert_much_was_open(seen);
}

/// Kinds of events, with what their data must have.
const KINDS: [(&str, &str); 10] = [
    ("message.received", ""),
    ("message.received", ""),
    ("message.sent", ""),
    ("operator.requested", ""),
    ("operator.requested", ""),
    ("operator.joined", ""),
    ("operator.message", r#","automatic":true"#),
    ("operator.released", ""),
    ("feedback.given", r#","score":5"#),
    ("conversation.ended", ""),
];

/// Few events of few conversations in the last days before `end_ms` and up to five minutes after,
/// at and beside idle times before it. All are stored then.
fn few(dice: &mut Dice, end_ms: i64) -> Vec<Message> {
    let conversations = dice.index(4) + 1;
    let message = |sequence: u64| {
        let (name, data) = *dice.pick(&KINDS);
        let ago_ms = match dice.below(4) {
            0 => dice.below(26 * 60) * MINUTE_MS,
            1 => *dice.pick(&[0, 30 * MINUTE_MS, DAY_MS]) + dice.below(3) - 1,
            _ => dice.below(40 * MINUTE_MS),
        };
        let time_ms = end_ms - ago_ms.max(-5 * MINUTE_MS) + dice.below(5 * MINUTE_MS);
        let time = rfc3339_ms(time_ms);
        let id = if dice.one_in(8) { sequence.saturating_sub(1) } else { sequence };
        let conversation = dice.index(conversations);
        let payload = format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"io.botstats.{name}.v1","time":"{time}","data":{{"conversationid":"{conversation}","userid":"u"{data}}}}}"#
        );
        Message {
            sequence,
            stored_ns: end_ms * NS_PER_MS,
            subject: "botstats.events.a.b.c".to_owned(),
            headers: Vec::new(),
            payload: payload.into(),
        }
    };
    (1..=8 + 4 * conversations as u64).map(message).collect()
}

#[test]
fn few_events_at_every_edge() {
    let streams = 10 * u64::try_from(setting("BOTSTATS_TEST_NOW", STREAMS)).unwrap();
    let mut seen = Now::default();
    for seed in 0..streams {
        let mut dice = Dice::new(seed ^ 0xfe3);
        // Often just before or after a midnight.
        let end_ms = 20_700 * DAY_MS + *dice.pick(&[-3, 1, 30, 24 * 60]) * MINUTE_MS;
        let messages = few(&mut dice, end_ms);
        let mut product = Product::on(Disk::default(), 400).unwrap();
        for batch in messages.chunks(dice.index(8) + 1) {
            product.apply(batch).unwrap();
        }
        for turn in ["first", "after a restart"] {
            let same = compare(&mut product, &mut dice, &messages, &mut seen);
            same.unwrap_or_else(|error| panic!("seed {seed}, {turn}: {error:#}"));
            product.reopen().unwrap();
        }
    }
    assert_much_was_open(seen);
    assert!(seen.waiting_active > 1_000, "few waited and wrote: {seen:?}");
}
