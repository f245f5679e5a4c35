//! Gathers the statistics that a question asks for. Uses no call: that is
//! [`crate::admission::throttle`].

use std::time::Instant;

use botstats_common::directory::time_zone;
use botstats_common::ids::{Account, Bot};
use botstats_common::io::clock;
use botstats_common::metric::TypeSet;
use botstats_common::wire;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::answer::budget::Reservation;
use crate::answer::cells::Cells;
use crate::answer::overview::Overview;
use crate::answer::{Answer, Labels};
use crate::app::{App, Backend};
use crate::nats::read::{Read, ReadError};
use crate::problem::{Problem, TooLarge};
use crate::request::question::Question;
use crate::telemetry::METRICS;
use crate::window::{Windows, first_date_since};

/// Whose statistics are gathered.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The account.
    pub account: &'a Account,
    /// `None` is all bots.
    pub bots: Option<&'a [Bot]>,
    /// The id of the HTTP request.
    pub request_id: &'a str,
}

/// The cells of a question's groups, without names.
#[derive(Debug)]
pub(crate) struct Gathered {
    windows: Windows,
    cells: Cells,
    memory: Reservation,
}

/// An answer that can be sent, and what its head says.
#[derive(Debug)]
pub(crate) struct Statistics {
    pub(crate) answer: Answer,
    pub(crate) memory: Reservation,
    /// The last local date of the window.
    pub(crate) last_date: Date,
    /// Everything stored up to this instant (Unix ms) is counted.
    pub(crate) as_of_ms: i64,
}

impl App {
    /// Asks an ingest for the cells of a question, in the groups of a time zone.
    pub(crate) async fn gather(
        &self,
        backend: &Backend,
        question: &Question,
        subject: Subject<'_>,
        zone: &str,
        deadline: Instant,
    ) -> Result<Gathered, Problem> {
        let zone = time_zone(zone).map_err(|_| Problem::Internal)?;
        let windows =
            Windows::new(self.clocks.now_ms()?, &zone, question).map_err(Problem::Parameter)?;
        let request = request(question, &windows, subject);
        let read = Read { account: subject.account, request };
        let measured = measured(backend.reader.read(&read, deadline));
        let (cells, memory) = measured.await.map_err(|error| problem_of(error, &zone, &windows))?;
        Ok(Gathered { windows, cells, memory })
    }

    /// Asks an ingest what an account has and what goes on in it now.
    pub(crate) async fn overview(
        &self,
        backend: &Backend,
        subject: Subject<'_>,
        deadline: Instant,
    ) -> Result<(Overview, Reservation), Problem> {
        let request = wire::overview::Request {
            request_id: subject.request_id.to_owned(),
            bots: subject.bots.map(<[Bot]>::to_vec),
            now_ms: self.clocks.now_ms()?,
            // Set by each try.
            deadline_ms: 0,
        };
        let read = Read { account: subject.account, request };
        measured(backend.reader.read(&read, deadline)).await.map_err(|error| match error {
            ReadError::Unreachable(unreachable) => unreachable.into(),
            ReadError::TooLarge => Problem::AnswerTooLarge(TooLarge::Memory),
            ReadError::Incomplete(_) | ReadError::TooManyPairs(_) | ReadError::TooManyNames => {
                Problem::Unavailable("the statistics cannot be reached")
            }
        })
    }
}

/// Counts how long a read takes, and whether it fails.
async fn measured<T>(read: impl Future<Output = Result<T, ReadError>>) -> Result<T, ReadError> {
    let began = clock::monotonic();
    let outcome = read.await;
    match &outcome {
        Ok(_) => METRICS.read_seconds.record(began.elapsed().as_secs_f64()),
        Err(ReadError::Unreachable(_)) => METRICS.failed_reads.increment(1),
        Err(_) => {}
    }
    outcome
}

/// What an ingest is asked.
pub fn request(question: &Question, windows: &Windows, subject: Subject<'_>) -> wire::Request {
    let window = |window: &crate::window::Window| wire::Window {
        start: window.start,
        groups: u32::try_from(window.groups.len()).unwrap_or(u32::MAX),
        runs: window.runs.clone(),
    };
    let Windows { current, earlier, dates, .. } = windows;
    wire::Request {
        request_id: subject.request_id.to_owned(),
        bots: subject.bots.map(<[Bot]>::to_vec),
        types: question.types,
        listed: if question.is_basic() { TypeSet::BASIC } else { TypeSet::ALL },
        windows: [Some(current), earlier.as_ref()].into_iter().flatten().map(window).collect(),
        by: question.by,
        stats: question.stats.clone(),
        split: question.split,
        complete: question.must_be_complete(),
        dates: if question.is_basic() { 0 } else { *dates },
        // Set by each try.
        deadline_ms: 0,
    }
}

impl Gathered {
    /// The answer to the question, under these names, if it has at most `max_rows` rows; else
    /// `too_large` says that it has more.
    pub(crate) fn answer(
        self,
        question: &Question,
        labels: Labels,
        request_id: &str,
        max_rows: usize,
        too_large: fn(usize) -> TooLarge,
    ) -> Result<Statistics, Problem> {
        let Gathered { windows, cells, memory } = self;
        let as_of_ms = cells.as_of_ms;
        let answer = Answer::new(question, &windows, labels, cells).map_err(|malformed| {
            tracing::error!(
                request_id,
                "an ingest's answer is malformed and not used: {malformed}"
            );
            Problem::Unavailable("the statistics cannot be reached")
        })?;
        match answer.too_many_rows(max_rows) {
            Some(rows) => Err(Problem::AnswerTooLarge(too_large(rows))),
            None => Ok(Statistics { answer, memory, last_date: windows.last_date, as_of_ms }),
        }
    }
}

/// What a client is told about a read without an answer.
fn problem_of(error: ReadError, zone: &TimeZone, windows: &Windows) -> Problem {
    match error {
        ReadError::TooLarge => Problem::AnswerTooLarge(TooLarge::Memory),
        ReadError::TooManyPairs(pairs) => {
            Problem::AnswerTooLarge(TooLarge::Pairs { pairs, dates: windows.dates })
        }
        ReadError::TooManyNames => Problem::AnswerTooLarge(TooLarge::Names),
        ReadError::Incomplete(since_ms) => Problem::Incomplete(first_date_since(since_ms, zone)),
        ReadError::Unreachable(unreachable) => unreachable.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_without_an_answer_is_a_problem() {
        let question = Question::parse(["*", "0", "day", "7"], None).unwrap();
        let windows = Windows::new(1_795_171_920_000, &TimeZone::UTC, &question).unwrap();
        for (error, code) in [
            (ReadError::TooLarge, "answer-too-large"),
            (ReadError::TooManyPairs(70_000), "answer-too-large"),
            (ReadError::TooManyNames, "answer-too-large"),
            (ReadError::Incomplete(0), "incomplete"),
            (ReadError::Unreachable(crate::nats::Unreachable("x")), "unavailable"),
        ] {
            assert_eq!(problem_of(error, &TimeZone::UTC, &windows).code(), code);
        }
        let pairs = problem_of(ReadError::TooManyPairs(70_000), &TimeZone::UTC, &windows);
        let expected = TooLarge::Pairs { pairs: 70_000, dates: 7 };
        assert_eq!(pairs, Problem::AnswerTooLarge(expected));
    }
}
