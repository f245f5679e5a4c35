//! Everything that the product's store holds, against everything that the model knows: sums, users,
//! samples and names of every quarter of an hour, however they came there.

use botstats_tests::generate::{Dice, Life, Lifetime};
use botstats_tests::in_process::Product;
use botstats_tests::model::{Contents, MAX_NAMES, Message, Model};
use botstats_tests::setting;

use crate::model_in_process::{accepted_at_once, number, plan};

/// Streams of a run; `BOTSTATS_TEST_CONTENTS` makes it more (or fewer).
const STREAMS: usize = 40;
/// Days of a life; `BOTSTATS_TEST_CONTENTS_DAYS` makes it longer.
const DAYS: usize = 150;
const DAY_MS: i64 = 86_400_000;
const NS_PER_MS: i64 = 1_000_000;
/// Names that a pair keeps for a day: few, so that most streams have more.
const BOUNDS: [usize; 4] = [1, 3, 5, MAX_NAMES];

/// Compares what is known from that UTC day on.
fn same(
    product: &mut Product,
    model: &Model,
    max_names: usize,
    from_day: u32,
) -> anyhow::Result<()> {
    let got: Contents = product.contents()?.from_day(from_day);
    let wanted = model.contents(max_names).from_day(from_day);
    match got.difference(&wanted) {
        None => Ok(()),
        Some(difference) => anyhow::bail!("product, then model: {difference}"),
    }
}

fn apply(product: &mut Product, dice: &mut Dice, mut rest: &[Message]) -> anyhow::Result<()> {
    let largest = *dice.pick(&[3, 40, 400, 100_000]);
    while !rest.is_empty() {
        let (batch, later) = rest.split_at((dice.index(largest) + 1).min(rest.len()));
        product.apply(batch)?;
        rest = later;
        if dice.one_in(20) {
            product.reopen()?;
        }
    }
    Ok(())
}

fn check(seed: u64) -> anyhow::Result<()> {
    let messages = plan(seed).generate().messages;
    let mut dice = Dice::new(seed ^ 0xc047);
    let max_names = *dice.pick(&BOUNDS);
    let mut product = Product::bounded(36_600, max_names)?;
    let half = messages.len() / 2;
    for part in [&messages[..half], &messages[half..]] {
        apply(&mut product, &mut dice, part)?;
        let last = part.last().map_or(0, |message| message.sequence);
        let model = Model::of(&messages[..usize::try_from(last)?]);
        product.check_counts(&model)?;
        same(&mut product, &model, max_names, 0)?;
    }
    Ok(())
}

#[test]
fn a_store_holds_what_the_model_knows() {
    let streams = u64::try_from(setting("BOTSTATS_TEST_CONTENTS", STREAMS)).unwrap();
    let failures: Vec<String> = (0..streams)
        .filter_map(|seed| check(seed).err().map(|e| format!("seed {seed}: {e:#}")))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// What is stored within a day, so that in every order all of the forgetting is accepted.
#[test]
fn the_order_of_arrival_is_invisible_in_the_store() -> anyhow::Result<()> {
    for seed in 0..6 {
        let mut plan = plan(2_000 + seed);
        (plan.conflicts, plan.days, plan.events) = (false, 1, 1_500);
        let stored_ns = (plan.start_ms + DAY_MS) * NS_PER_MS;
        let mut messages = accepted_at_once(&plan.generate().messages, stored_ns);
        let mut dice = Dice::new(seed);
        for order in 0..6 {
            if order > 0 {
                dice.shuffle(&mut messages);
                number(&mut messages);
            }
            let max_names = *dice.pick(&BOUNDS);
            let mut product = Product::bounded(400, max_names)?;
            apply(&mut product, &mut dice, &messages)?;
            same(&mut product, &Model::of(&messages), max_names, 0)
                .map_err(|e| e.context(format!("seed {seed}, order {order}")))?;
        }
    }
    Ok(())
}

/// A store that forgets old days keeps the others exact, and knows who was there before.
#[test]
fn months_with_few_days_kept() -> anyhow::Result<()> {
    let life = Life {
        seed: 77,
        accounts: 2,
        start_ms: 20_376 * DAY_MS,
        events: 60,
        users: 12,
        newcomers: true,
        clock: |ns| ns,
        bots_too: false,
    };
    let mut dice = Dice::new(78);
    let mut model = Model::default();
    let mut all = Product::bounded(400, 3)?;
    let mut few = Product::bounded(40, 3)?;
    let mut lifetime: Lifetime = life.begin();
    for day in 1..=setting("BOTSTATS_TEST_CONTENTS_DAYS", DAYS) {
        let messages = lifetime.next().unwrap_or_default();
        model.add(&messages);
        for product in [&mut all, &mut few] {
            apply(product, &mut dice, &messages)?;
            product.check_counts(&model)?;
        }
        if day % 10 == 0 {
            let today = u32::try_from(lifetime.now_ms() / DAY_MS)?;
            same(&mut all, &model, 3, 0).map_err(|e| e.context(format!("day {day}, all")))?;
            same(&mut few, &model, 3, today - 36).map_err(|e| e.context(format!("day {day}")))?;
        }
    }
    Ok(())
}
