//! Publishes one short conversation, every event acknowledged by the stream.
//!
//!     cargo run -p botstats-common --example publish -- acme bot1 web    # NATS_URL, default nats://127.0.0.1:4222
//!
//! The rules for events are in `docs/events.md`.
#![expect(clippy::print_stdout, reason = "its answer")]

use anyhow::ensure;
use botstats_common::event::{Event, What};
use botstats_common::ids::{Account, Bot, Channel};
use botstats_common::io::clock;
use botstats_common::io::nats::{NatsSettings, Role};
use botstats_common::io::producer::{Message, Publisher, new_id};
use clap::Parser;

#[derive(Parser)]
struct Arguments {
    account: Account,
    bot: Bot,
    channel: Channel,
    #[command(flatten)]
    nats: NatsSettings,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { account, bot, channel, nats } = Arguments::parse();
    let text = |text: &'static str| Some(text.into());
    let steps = [
        (0, What::MessageReceived { kind: text("text") }),
        (1, What::NlpEvaluated { detected: true, confidence: Some(0.9), intent: text("order") }),
        (2, What::MessageSent { fallback: None, parts: Some(2) }),
        (20, What::GoalReached { goal: "ordered".into() }),
        (21, What::TagSet { tag: "vip".into() }),
        (22, What::ConversationEnded { reason: text("done") }),
    ];
    let (conversation, began_ms) = (new_id(), clock::now_ms() - 30_000);
    let mut messages = Vec::new();
    for (number, (seconds, what)) in (1..).zip(steps) {
        let event = Event {
            id: new_id().into(),
            source: "/common/examples/publish".into(),
            time_ms: began_ms + seconds * 1_000,
            conversation: conversation.as_str().into(),
            user: "user-3".into(),
            what,
        };
        messages.push(Message::of(number, (&account, &bot, &channel), &event)?);
    }

    let publisher = Publisher::new(nats.connect(Role::Producer).await?);
    let counts = publisher
        .publish_all(messages, |progress| {
            for refused in &progress.refused {
                eprintln!("event {} is refused: {}", refused.tag, refused.reason);
            }
        })
        .await?;
    println!("{} events stored", counts.stored);
    ensure!(counts.refused == 0, "{} refused", counts.refused);
    Ok(())
}
