//! Gathers the statistics that a question asks for. Uses no call: that is
//! [`crate::admission::throttle`].

use std::sync::Arc;
use std::time::Instant;

use botstats_common::directory::time_zone;
use botstats_common::ids::{Account, Bot};
use botstats_common::io::clock;
use jiff::civil::Date;

use crate::answer::budget::Reservation;
use crate::answer::cells::Cells;
use crate::answer::{Answer, Names};
use crate::app::{App, Backend};
use crate::nats::read::{Read, ReadError};
use crate::problem::{Problem, TooLarge};
use crate::request::question::Question;
use crate::telemetry::METRICS;
use crate::window::Window;

/// Whose statistics are gathered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) account: &'a Account,
    /// `None` is all bots.
    pub(crate) bot: Option<&'a Bot>,
    pub(crate) request_id: &'a str,
}

/// The cells of a question's groups, without names.
#[derive(Debug)]
pub(crate) struct Gathered {
    window: Window,
    cells: Cells,
    memory: Reservation,
}

/// An answer that can be sent, and what its head says.
#[derive(Debug)]
pub(crate) struct Statistics {
    pub(crate) answer: Answer<Arc<Names>>,
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
        let window = Window::new(self.clocks.now_ms()?, &zone, question.days, question.mode);
        let read = Read {
            request_id: subject.request_id,
            account: subject.account,
            bot: subject.bot,
            types: question.types,
            boundaries: &window.boundaries,
        };
        let began = clock::monotonic();
        let (cells, memory) = backend.reader.read(&read, deadline).await.inspect_err(|error| {
            if matches!(error, ReadError::Unreachable(_)) {
                METRICS.failed_reads.increment(1);
            }
        })?;
        METRICS.read_seconds.record(began.elapsed().as_secs_f64());
        Ok(Gathered { window, cells, memory })
    }
}

impl Gathered {
    /// The answer to the question, under these names.
    pub(crate) fn answer(
        self,
        question: &Question,
        names: Arc<Names>,
        request_id: &str,
    ) -> Result<Statistics, Problem> {
        let Gathered { window, cells, memory } = self;
        let as_of_ms = cells.as_of_ms;
        let answer = Answer::new(question, &window, names, cells).map_err(|malformed| {
            tracing::error!(
                request_id,
                "an ingest's answer is malformed and not used: {malformed}"
            );
            Problem::Unavailable("the statistics cannot be reached")
        })?;
        match answer.too_many_rows() {
            Some(rows) => Err(Problem::AnswerTooLarge(TooLarge::Rows(rows))),
            None => Ok(Statistics { answer, memory, last_date: window.last_date, as_of_ms }),
        }
    }
}
