//! From a seed to faults: all that is random about a run, but for the scheduling of real processes.

use serde::Serialize;

use botstats_tests::generate::Dice;

/// Steps of one episode: its installation has lived through enough then, and its stream is long
/// enough for the model.
const STEPS: usize = 14;
/// When a kill comes, in milliseconds after the beginning of a step: while the step's events are
/// published, read and counted, or just after.
pub const MOMENTS_MS: std::ops::RangeInclusive<i64> = 5..=500;

/// The seed of a run, and how many faults of each kind it has.
#[derive(Debug, Clone, Serialize)]
pub struct Numbers {
    /// Everything else being equal, another seed is another run.
    pub seed: u64,
    pub ingest_kills: usize,
    /// Kills of nats-server.
    pub broker_kills: usize,
    /// Other faults, in equal parts of each kind.
    pub others: usize,
    /// Three servers that keep copies, instead of one. It is the leader of a stream that is killed
    /// or frozen, and everything must work again without it.
    pub cluster: bool,
}

/// What happens at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum What {
    /// Ingest is killed and started again at once.
    KillIngest,
    /// nats-server is killed and started again after some time.
    KillNats {
        /// How long it is away.
        down_ms: u64,
    },
    /// All connections through the proxy are cut, some times with a short pause.
    Cut {
        /// How often.
        times: u64,
    },
    /// Nothing passes the proxy; connections stay.
    Silence {
        /// How long.
        for_ms: u64,
    },
    /// Everything passes the proxy late.
    Slow {
        /// The delay of each piece, in milliseconds.
        by_ms: u64,
        /// How long pieces are delayed, in milliseconds.
        for_ms: u64,
    },
    /// Ingest is stopped and continued.
    FreezeIngest {
        /// How long it is stopped.
        for_ms: u64,
    },
    /// nats-server is stopped and continued.
    FreezeNats {
        /// How long it is stopped.
        for_ms: u64,
    },
    /// Ingest's consumer is deleted.
    DeleteConsumer,
    /// A query service is killed and started again at once.
    KillQuery {
        /// One of those that have a throttle window; else the one without.
        throttled: bool,
    },
}

impl What {
    /// Its name in a report.
    pub fn name(self) -> &'static str {
        match self {
            What::KillIngest => "kill ingest",
            What::KillNats { .. } => "kill nats-server",
            What::Cut { .. } => "cut connections",
            What::Silence { .. } => "silent network",
            What::Slow { .. } => "slow network",
            What::FreezeIngest { .. } => "freeze ingest",
            What::FreezeNats { .. } => "freeze nats-server",
            What::DeleteConsumer => "delete the consumer",
            What::KillQuery { .. } => "kill query",
        }
    }
}

/// A fault and its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Milliseconds after the fault before, or after the beginning of the step.
    pub after_ms: u64,
    /// What happens.
    pub what: What,
}

/// Some events are published, and meanwhile something happens; then everything must work again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The step's share of the episode's events, in relation to the other steps'.
    pub share: usize,
    /// What happens, in order.
    pub faults: Vec<Fault>,
}

/// One installation and what it lives through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Episode {
    /// Its place in the run, from 1.
    pub number: usize,
    /// For its events and questions.
    pub seed: u64,
    /// Whether ingest connects through the proxy.
    pub ingest_by_proxy: bool,
    /// Whether the query services do.
    pub query_by_proxy: bool,
    /// Whether there are three servers.
    pub cluster: bool,
    /// What happens.
    pub steps: Vec<Step>,
}

impl Episode {
    /// About how many events it has.
    pub fn events(&self) -> usize {
        self.steps.iter().map(|step| step.share).sum()
    }
}

impl Numbers {
    /// The run's episodes: always the same for the same numbers.
    pub fn episodes(&self) -> Vec<Episode> {
        let mut dice = Dice::new(self.seed);
        let mut faults: Vec<Fault> = Vec::new();
        let count = self.ingest_kills + self.broker_kills + self.others;
        for number in 0..count {
            let after_ms = between(&mut dice, MOMENTS_MS);
            let what = if number < self.ingest_kills {
                What::KillIngest
            } else if number < self.ingest_kills + self.broker_kills {
                What::KillNats { down_ms: between(&mut dice, 0..=2_000) }
            } else {
                other(&mut dice, number, self.cluster)
            };
            faults.push(Fault { after_ms, what });
        }
        dice.shuffle(&mut faults);
        let mut steps = Vec::new();
        let mut rest = faults.as_slice();
        while !rest.is_empty() {
            let together = *dice.pick(&[1, 1, 1, 2, 3]);
            let (now, later) = rest.split_at(together.min(rest.len()));
            let share = *dice.pick(&[100, 300, 600, 600, 1_500]);
            steps.push(Step { share, faults: now.to_vec() });
            rest = later;
        }
        let episodes = (1..).zip(steps.chunks(STEPS));
        episodes
            .map(|(number, steps)| Episode {
                number,
                seed: dice.bits(),
                ingest_by_proxy: !dice.one_in(4) && !self.cluster,
                query_by_proxy: !dice.one_in(4) && !self.cluster,
                cluster: self.cluster,
                steps: steps.to_vec(),
            })
            .collect()
    }
}

fn between(dice: &mut Dice, range: std::ops::RangeInclusive<i64>) -> u64 {
    (range.start() + dice.below(range.end() - range.start() + 1)).unsigned_abs()
}

/// A fault of the kind whose turn it is.
fn other(dice: &mut Dice, turn: usize, cluster: bool) -> What {
    // Now and then longer than a connection is thought to be alive without a sign.
    let for_ms = |dice: &mut Dice| match dice.below(8) {
        0 => between(dice, 10_000..=13_000),
        _ => between(dice, 50..=3_000),
    };
    // Clients of a cluster know all its servers: they would go round a proxy.
    match turn % if cluster { 4 } else { 7 } {
        0 => What::FreezeNats { for_ms: for_ms(dice) },
        1 => What::FreezeIngest { for_ms: for_ms(dice) },
        2 => What::DeleteConsumer,
        3 => What::KillQuery { throttled: dice.one_in(2) },
        4 => What::Cut { times: between(dice, 1..=8) },
        5 => What::Silence { for_ms: for_ms(dice) },
        _ => What::Slow { by_ms: between(dice, 1..=30), for_ms: between(dice, 200..=2_000) },
    }
}
