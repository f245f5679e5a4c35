//! The worked example: 24 questions, and the same bytes whatever the order of arrival.

use botstats_tests::fixture;
use botstats_tests::generate::Dice;
use botstats_tests::in_process::Product;
use botstats_tests::model::{Message, Model};

const SHUFFLES: u64 = 200;
const KEEP_DAYS: u32 = 400;

/// Another order of arrival, with some messages twice or three times.
fn shuffled(dice: &mut Dice, messages: &[Message]) -> Vec<Message> {
    let mut shuffled = messages.to_vec();
    for message in messages {
        if dice.one_in(5) {
            shuffled.push(message.clone());
        }
    }
    dice.shuffle(&mut shuffled);
    for (sequence, message) in (1..).zip(&mut shuffled) {
        message.sequence = sequence;
    }
    shuffled
}

#[test]
fn all_questions_in_any_order_of_arrival() -> anyhow::Result<()> {
    let messages = fixture::messages();
    let questions = fixture::questions();
    let model = Model::of(&messages);
    for seed in 0..SHUFFLES {
        let mut dice = Dice::new(seed);
        let arrived = if seed == 0 { messages.clone() } else { shuffled(&mut dice, &messages) };
        let mut product = Product::new(KEEP_DAYS)?;
        let mut rest = &arrived[..];
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(rest.len().min(dice.index(100) + 1));
            product.apply(batch)?;
            rest = after;
        }
        for (number, (question, directory, rows)) in questions.iter().enumerate() {
            let answer = product.answer(question, directory)?;
            let got: Vec<serde_json::Value> = serde_json::from_str(&answer)?;
            assert_eq!(&got, rows, "question {number} after shuffle {seed}");
            product.check(&model, question, directory)?;
        }
    }
    Ok(())
}
