//! The cast of a simulation: accounts, their bots, and the bots' channels.

use botstats_common::ids::{Account, Bot, Channel};
use botstats_common::names;

use super::dice::Dice;

/// Channels in order of their use, with their share.
const CHANNELS: [(&str, u64); 5] =
    [("web", 50), ("whatsapp", 25), ("telegram", 12), ("messenger", 8), ("sms", 5)];
/// The most bots of a made-up account.
const MAX_BOTS: u64 = 5;

/// A bot that takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CastBot {
    /// The account that has the bot.
    pub account: Account,
    /// The id, unique in its account.
    pub bot: Bot,
    /// Its channels, with their shares of the bot's traffic.
    pub channels: Vec<(Channel, u64)>,
    /// Its share of all traffic.
    pub share: u64,
}

/// All bots of a simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cast {
    bots: Vec<CastBot>,
    /// For each bot: the shares of all up to it, and the number of its first channel.
    sums: Vec<(u64, usize)>,
    channels: usize,
}

/// The bot and channel of a conversation.
#[derive(Debug, Clone)]
pub(super) struct Pair<'a> {
    pub(super) account: &'a Account,
    pub(super) bot: &'a Bot,
    pub(super) channel: &'a Channel,
    /// The channel's number in the whole cast.
    pub(super) channel_index: usize,
}

impl Cast {
    /// A cast of these bots. Bots without a channel or share do not take part.
    #[must_use]
    pub fn new(bots: Vec<CastBot>) -> Self {
        let bots: Vec<CastBot> =
            bots.into_iter().filter(|bot| bot.share > 0 && shares(&bot.channels) > 0).collect();
        let (mut sum, mut channels) = (0, 0);
        let mut sums = Vec::with_capacity(bots.len());
        for bot in &bots {
            sum += bot.share;
            sums.push((sum, channels));
            channels += bot.channels.len();
        }
        Self { bots, sums, channels }
    }

    /// Made-up accounts `sim-1`, `sim-2`, ..., each with one to five bots `bot-1`, ...; the first
    /// ones have the most traffic.
    #[must_use]
    pub fn of_accounts(accounts: u32) -> Self {
        let mut bots = Vec::new();
        for number in 1..=u64::from(accounts.max(1)) {
            let mut dice = Dice::of(&[number]);
            let count = 1 + dice.below(MAX_BOTS);
            for bot in 1..=count {
                let channels = 1 + dice.below(4);
                bots.extend(cast_bot(number, bot, channels));
            }
        }
        Self::new(bots)
    }

    /// How many channels there are in all.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// The subject of each channel, in the order of their numbers.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = String> {
        let of_bot = |bot: &CastBot| -> Vec<String> {
            let subject = |(channel, _): &(Channel, u64)| {
                names::event_subject(&bot.account, &bot.bot, channel)
            };
            bot.channels.iter().map(subject).collect()
        };
        self.bots.iter().flat_map(of_bot)
    }

    /// Chooses bot and channel of the next conversation.
    ///
    /// # Panics
    /// If nobody takes part.
    pub(super) fn choose(&self, dice: &mut Dice) -> Pair<'_> {
        let total = self.sums.last().map_or(0, |(sum, _)| *sum);
        let ball = dice.below(total);
        let chosen = self.sums.partition_point(|(sum, _)| *sum <= ball);
        let (bot, first_channel) = (&self.bots[chosen], self.sums[chosen].1);
        let mut ball = dice.below(shares(&bot.channels));
        let mut index = 0;
        for (i, (_, share)) in bot.channels.iter().enumerate() {
            index = i;
            match ball.checked_sub(*share) {
                Some(rest) => ball = rest,
                None => break,
            }
        }
        Pair {
            account: &bot.account,
            bot: &bot.bot,
            channel: &bot.channels[index].0,
            channel_index: first_channel + index,
        }
    }
}

fn shares(channels: &[(Channel, u64)]) -> u64 {
    channels.iter().map(|(_, share)| share).sum()
}

fn cast_bot(account: u64, bot: u64, channels: u64) -> Option<CastBot> {
    let channels = CHANNELS
        .iter()
        .take(usize::try_from(channels).unwrap_or(1))
        .map(|(id, share)| Some((id.parse().ok()?, *share)))
        .collect::<Option<Vec<_>>>()?;
    Some(CastBot {
        account: format!("sim-{account}").parse().ok()?,
        bot: format!("bot-{bot}").parse().ok()?,
        channels,
        // A few large accounts and many small ones, as it is.
        share: (1_000_000 / (account * bot)).max(1),
    })
}
