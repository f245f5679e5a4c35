//! Far too many of one thing: pairs of an account, events of a conversation, conversations of a
//! user, accounts.

use botstats_common::io::telemetry;
use botstats_tests::disk::Disk;
use botstats_tests::generate::{Dice, plain};
use botstats_tests::in_process::Product;
use botstats_tests::model::{Directory, GroupMode, Kind, Message, Model, Question};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// 2026-11-18
const START_MS: i64 = 20_775 * DAY_MS;
const KINDS: [Kind; 8] = [
    Kind::Received,
    Kind::Received,
    Kind::Sent { fallback: false },
    Kind::Requested,
    Kind::Joined,
    Kind::OperatorMessage { automatic: false },
    Kind::Released,
    Kind::Ended,
];

/// Some of them again, some places later.
fn with_repeats(dice: &mut Dice, messages: impl Iterator<Item = Message>) -> Vec<Message> {
    let mut all: Vec<Message> = Vec::new();
    for message in messages {
        if dice.one_in(20) && !all.is_empty() {
            let back = dice.index(all.len().min(5_000)) + 1;
            let again = all[all.len() - back].clone();
            all.push(Message { stored_ns: message.stored_ns, ..again });
        }
        all.push(message);
    }
    for (sequence, message) in (1..).zip(&mut all) {
        message.sequence = sequence;
    }
    all
}

/// Applies them in a few batches with a restart between, and compares the accounts' answers.
fn check(messages: impl Iterator<Item = Message>, accounts: &[String]) -> anyhow::Result<()> {
    let mut dice = Dice::new(3);
    let messages = with_repeats(&mut dice, messages);
    let mut product = Product::on(Disk::default(), 400)?;
    for batch in messages.chunks(messages.len() / 6 + 1) {
        product.apply(batch)?;
        product.reopen()?;
    }
    let model = Model::of(&messages);
    product.check_counts(&model)?;
    let directory = Directory::nameless("Pacific/Chatham");
    for account in accounts {
        for (mode, days) in [(GroupMode::Hour, 2), (GroupMode::Day, 6), (GroupMode::Month, 30)] {
            let now_ms = START_MS + 5 * DAY_MS;
            let question = Question { now_ms, ..Question::of_all(account, mode, days) };
            product.check(&model, &question, &directory)?;
        }
        assert!(model.accounts().contains(account.as_str()), "{account} has no event");
    }
    Ok(())
}

#[test]
fn twelve_thousand_pairs_are_counted_and_warned_of_once() {
    let messages = (0..24_000_u64).map(|i| {
        let (bot, channel) = (format!("b{}", i % 4_000), format!("c{}", i % 12_000 / 4_000));
        let time_ms = START_MS + i64::try_from(i).unwrap() * 10_000;
        plain(i, ["many", &bot, &channel], ["c", &format!("u{}", i % 7)], Kind::Received, time_ms)
    });
    let mut product = Product::on(Disk::default(), 400).unwrap();
    let all: Vec<Message> = messages.clone().collect();
    all.chunks(5_000).for_each(|batch| product.apply(batch).unwrap());
    // The other tests of this program have no account with so many pairs.
    let text = telemetry::recorder().render();
    assert!(text.contains("\nbotstats_ingest_accounts_with_many_pairs_total 1\n"), "{text}");
    check(messages, &["many".to_owned()]).unwrap();
}

#[test]
fn a_conversation_of_a_hundred_thousand_events() {
    let mut dice = Dice::new(5);
    let messages = (0..100_000_u64).map(|i| {
        // Three days, a little out of order.
        let time_ms = START_MS + i64::try_from(i).unwrap() * 2_592 - dice.below(20_000);
        let kind = if dice.one_in(40) { *dice.pick(&KINDS) } else { KINDS[dice.index(3)] };
        plain(i, ["long", "b", "c"], ["one", &format!("u{}", dice.below(50))], kind, time_ms)
    });
    check(messages.collect::<Vec<_>>().into_iter(), &["long".to_owned()]).unwrap();
}

#[test]
fn a_user_in_ten_thousand_conversations() {
    let mut dice = Dice::new(6);
    let messages = (0..40_000_u64).map(|i| {
        let conversation = format!("c{}", dice.below(10_000));
        let time_ms = START_MS + i64::try_from(i).unwrap() * 8_000;
        plain(i, ["busy", "b", "c"], [&conversation, "one"], *dice.pick(&KINDS), time_ms)
    });
    check(messages.collect::<Vec<_>>().into_iter(), &["busy".to_owned()]).unwrap();
}

#[test]
fn a_thousand_tenants() {
    let mut dice = Dice::new(8);
    let messages = (0..30_000_u64).map(|i| {
        let account = format!("t{}", i % 1_000);
        let bot = format!("b{}", dice.below(3));
        let ids = [format!("c{}", dice.below(4)), format!("u{}", dice.below(4))];
        let time_ms = START_MS + i64::try_from(i).unwrap() * 10_000;
        plain(i, [&account, &bot, "c"], [&ids[0], &ids[1]], *dice.pick(&KINDS), time_ms)
    });
    let accounts: Vec<String> = (0..1_000).step_by(23).map(|i| format!("t{i}")).collect();
    check(messages.collect::<Vec<_>>().into_iter(), &accounts).unwrap();
}
