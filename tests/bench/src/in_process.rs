//! The engine without a server: batches of simulated messages applied in this process, with the CPU
//! time that took. Steadier than anything over sockets.

use std::path::Path;
use std::time::Duration;

use async_nats::HeaderMap;
use botstats::simulate::Event;
use botstats_common::ids::Account;
use botstats_common::wire::Reply;
use botstats_ingest::StoreError;
use botstats_ingest::testing::{Engine, Message};
use botstats_query::{
    Answer, Collecting, Format, Labels, Question, Rendering, Subject, Windows, request,
};

use super::load::Headers;
use super::usage;

/// Nanoseconds in a millisecond.
const NS_PER_MS: i64 = 1_000_000;
/// What an event takes from the bot into the stream.
pub const ON_THE_WAY_MS: i64 = 200;
/// Messages of a commit while there is more to take than can be counted at once.
pub const FULL_BATCH: usize = botstats_ingest::testing::MAX_BATCH_MESSAGES;
/// Days that are kept, as by default.
pub(super) const KEEP_DAYS: u32 = 400;

/// An engine that is fed, with the sequence it is at.
pub struct Fed {
    engine: Engine,
    headers: HeaderMap,
    sequence: u64,
}

impl Fed {
    /// One on a folder, which is made if absent.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let headers = Headers::ContentType.map();
        Ok(Self { engine: Engine::open(folder, KEEP_DAYS)?, headers, sequence: 0 })
    }

    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Applies events, each with the moment at which it was stored (Unix milliseconds), in one
    /// commit; gives the CPU time that took.
    pub fn apply<'a>(
        &mut self,
        events: impl IntoIterator<Item = (i64, &'a Event)>,
    ) -> anyhow::Result<Duration> {
        self.commit_by(events, |engine, messages| {
            let cpu = usage::own_cpu();
            engine.apply(messages)?;
            Ok(usage::own_cpu() - cpu)
        })
    }

    /// The same without a look at a clock, which Valgrind does not stand.
    pub fn commit<'a>(
        &mut self,
        events: impl IntoIterator<Item = (i64, &'a Event)>,
    ) -> anyhow::Result<()> {
        self.commit_by(events, |engine, messages| engine.apply(messages))
    }

    fn commit_by<'a, T>(
        &mut self,
        events: impl IntoIterator<Item = (i64, &'a Event)>,
        apply: impl FnOnce(&mut Engine, &[Message<'_>]) -> Result<T, StoreError>,
    ) -> anyhow::Result<T> {
        let before = self.engine.progress().accepted;
        let messages: Vec<Message<'_>> = events
            .into_iter()
            .zip(self.sequence + 1..)
            .map(|((stored_ms, event), sequence)| Message {
                sequence,
                stored_ns: stored_ms * NS_PER_MS,
                subject: &event.subject,
                headers: Some(&self.headers).into(),
                payload: &event.payload,
            })
            .collect();
        let given = apply(&mut self.engine, &messages)?;
        let count = u64::try_from(messages.len())?;
        self.sequence += count;
        let accepted = self.engine.progress().accepted - before;
        anyhow::ensure!(accepted == count, "{accepted} of {count} events were counted");
        Ok(given)
    }

    /// Applies events in the order of their times, each stored at once, in commits of `batch`
    /// events; returns the CPU time.
    pub fn apply_all(
        &mut self,
        events: impl IntoIterator<Item = Event>,
        batch: usize,
    ) -> anyhow::Result<Duration> {
        let mut events = events.into_iter();
        let mut cpu = Duration::ZERO;
        loop {
            let piece: Vec<Event> = events.by_ref().take(batch).collect();
            if piece.is_empty() {
                return Ok(cpu);
            }
            cpu += self.apply(piece.iter().map(|event| (event.time_ms + ON_THE_WAY_MS, event)))?;
        }
    }
}

/// A question about all bots, in UTC, and its windows.
pub(super) fn question(
    [types, mode, days]: [&str; 3],
    query: Option<&str>,
    now_ms: i64,
) -> anyhow::Result<(Question, Windows)> {
    let question = Question::parse(["*", types, mode, days], query);
    let question = question.map_err(|error| anyhow::anyhow!("{error}"))?;
    let windows = Windows::new(now_ms, &jiff::tz::TimeZone::UTC, &question)?;
    Ok((question, windows))
}

/// What ingest and query do for an answer, up to its first byte.
pub(super) fn rendering(
    engine: &Engine,
    account: &Account,
    (question, windows): &(Question, Windows),
) -> anyhow::Result<Rendering> {
    let request = request(question, windows, Subject { account, bots: None, request_id: "" });
    let mut collecting = Collecting::new(question.stats.len());
    for message in engine.reader().gather(account, &request, 0)? {
        let Reply::Chunk(chunk) = Reply::decode(&message)? else {
            anyhow::bail!("what was gathered is no chunk")
        };
        collecting.add(chunk)?;
    }
    let answer = Answer::new(question, windows, Labels::default(), collecting.finish()?)?;
    Ok(Rendering::new(answer, question, Format::Json))
}

/// CPU microseconds an event.
pub fn us_each(cpu: Duration, events: usize) -> f64 {
    cpu.as_secs_f64() * 1e6 / events as f64
}
