//! Many accounts with random events, and the model's judgement of what is counted of them.

use std::collections::BTreeMap;

use super::{Held, Login, Outgoing, Query, Site, as_one, outgoing};
use crate::generate::{Dice, Generated, Plan, question};
use crate::model::Model;
use botstats_common::io::clock;

const DAY_MS: i64 = 86_400_000;

/// Accounts with logins, and the messages that are to be published for them.
pub struct Accounts {
    pub generated: Generated,
    pub logins: BTreeMap<String, Login>,
    dice: Dice,
}

impl Accounts {
    /// Puts the accounts into the directory of the site.
    pub async fn add(site: &Site, seed: u64, accounts: u64, events: usize) -> Self {
        let (start_ms, days) = (clock::now_ms() - 26 * DAY_MS, 25);
        let generated =
            Plan { seed, accounts, events, start_ms, days, conflicts: true, bad: true }.generate();
        let mut logins = BTreeMap::new();
        for (account, directory) in &generated.directories {
            let bots: Vec<&str> = generated.bots[account].iter().map(String::as_str).collect();
            logins.insert(account.clone(), site.add_account(account, directory, &bots).await);
        }
        Self { generated, logins, dice: Dice::new(seed) }
    }

    pub fn messages(&self) -> Vec<Outgoing> {
        self.generated.messages.iter().map(outgoing).collect()
    }

    /// Asks each account that number of random questions, and checks that the answers are the
    /// model's to the byte.
    pub async fn judge(&mut self, query: &Query, held: &[Held], questions: usize) {
        let model = Model::of(&as_one(held));
        for (account, directory) in &self.generated.directories {
            for _ in 0..questions {
                let question = question(&mut self.dice, &self.generated, account, 0);
                query.check(&model, &self.logins[account], &question, directory).await;
            }
        }
    }
}
