//! nats-server computes the same slot of an account as the product does.

use std::collections::BTreeMap;
use std::time::Duration;

use botstats_common::ids::{Account, Bot, Channel};
use botstats_common::names::{SLOT_PREFIX, event_subject};
use botstats_common::slot::{SLOT_COUNT, Slot};
use botstats_tests::generate::Dice;
use botstats_tests::spread::Spread;
use futures::StreamExt as _;

const ACCOUNTS: usize = 10_000;
/// The most characters of an id.
const MOST: usize = 64;
const CHARACTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
/// The longest wait for the next message.
const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn slots_are_those_of_the_server() {
    let spread = Spread::start(0, false).await;
    let mut mapped = spread.client.subscribe(format!("{SLOT_PREFIX}>")).await.unwrap();
    let seed = 16;
    let mut dice = Dice::new(seed);
    let (bot, channel): (Bot, Channel) = ("b1".parse().unwrap(), "web".parse().unwrap());
    let mut slots: BTreeMap<String, Slot> = BTreeMap::new();
    for number in 0..ACCOUNTS {
        // Each length and each character comes, whatever the dice say.
        let mut id: Vec<u8> = (0..=number % MOST).map(|_| *dice.pick(CHARACTERS)).collect();
        id[0] = CHARACTERS[number % CHARACTERS.len()];
        let account: Account = String::from_utf8(id).unwrap().parse().unwrap();
        let subject = event_subject(&account, &bot, &channel);
        slots.insert(account.as_str().to_owned(), Slot::of(&account));
        spread.client.publish(subject, "{}".into()).await.unwrap();
    }
    assert!(slots.len() > ACCOUNTS * 9 / 10, "seed {seed} repeats ids");
    let used: std::collections::BTreeSet<Slot> = slots.values().copied().collect();
    assert_eq!(used.len(), SLOT_COUNT);
    for _ in 0..ACCOUNTS {
        let message = tokio::time::timeout(LIMIT, mapped.next()).await.unwrap().unwrap();
        let subject = message.subject.as_str();
        let tokens: Vec<&str> = subject.strip_prefix(SLOT_PREFIX).unwrap().split('.').collect();
        let [slot, account, "b1", "web"] = tokens[..] else { panic!("{subject}") };
        assert_eq!(slot.parse(), Ok(slots[account]), "{account}");
    }
}
