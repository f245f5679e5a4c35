//! The statistics of a question: the rows of the account's call, made by its code.

use std::time::{Duration, Instant};

use botstats_common::io::clock;
use botstats_common::split::Split;
use bytes::Bytes;
use http::{HeaderMap, Response};
use jiff::civil::Date;

use super::shared::Weigh;
use super::viewer::{Seen, Viewer};
use super::{Dashboard, held};
use crate::admission::checks::check_dates;
use crate::answer::render::Rendering;
use crate::answer::{Format, MAX_PAGE_ROWS};
use crate::app::App;
use crate::deadlines::WAIT_LIMIT;
use crate::gather::{Statistics, Subject};
use crate::http::{Body, Coding, Request, whole_in};
use crate::problem::{Problem, TooLarge};
use crate::request::accept;
use crate::request::question::Question;
use crate::respond;

/// An answer is given to equal questions for 1 s. The contract allows 5 s; but a page that sees in
/// its stream that something happened asks at once, and its answer must have what happened.
pub(super) const SHARED_FOR: Duration = Duration::from_secs(1);

/// What equal questions have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct DataKey {
    seen: Seen,
    question: Question,
    format: Format,
}

/// An answer as bytes.
#[derive(Debug, Clone)]
pub(super) struct Rendered {
    bytes: Bytes,
    last_date: Date,
    as_of_ms: i64,
}

impl Weigh for Rendered {
    fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl App {
    pub(super) async fn page_data(
        &self,
        page: &Dashboard,
        segments: [&str; 4],
        request: &Request,
    ) -> Result<Response<Body>, Problem> {
        let (headers, query) = (&request.head.headers, request.head.uri.query());
        let (viewer, Asked { question, format, coding }) =
            Viewer::of(&self.directory.known(), headers, |operators, entry| {
                let asked = Asked::parse(segments, query, headers)?;
                check_dates(&asked.question, entry, clock::now_ms())?;
                let of_operators =
                    asked.question.split.is_some_and(|by| by.split == Split::Operator);
                if of_operators && !operators { Err(Problem::OperatorsHidden) } else { Ok(asked) }
            })?;
        let bots = viewer.asked(&question.bots)?;
        page.count(&viewer, request)?;
        let by = request.began + WAIT_LIMIT;
        let subject = Subject {
            account: &viewer.seen.account,
            bots: bots.as_deref(),
            request_id: &request.id,
        };
        let key = DataKey { seen: viewer.seen.clone(), question: question.clone(), format };
        let compute = self.rendered(page, &viewer, &question, subject, format, by);
        let answer = page.data.get(key, by, compute).await?;
        self.check_again(&viewer)?;
        let head = respond::StatisticsHead {
            format,
            coding,
            account: &viewer.seen.account,
            last_date: answer.last_date,
            as_of: &clock::rfc3339_ms(answer.as_of_ms),
            allowance: None,
        };
        Ok(respond::statistics(whole_in(answer.bytes, coding), &head))
    }

    async fn rendered(
        &self,
        page: &Dashboard,
        viewer: &Viewer,
        question: &Question,
        subject: Subject<'_>,
        format: Format,
        by: Instant,
    ) -> Result<Rendered, Problem> {
        let _turn = page.turn(&viewer.seen, by).await?;
        let (backend, _at_work) = self.begin_work(by).await?;
        let gathered = self.gather(backend, question, subject, &viewer.zone, by).await?;
        let labels = viewer.labels();
        let (id, too_large) = (subject.request_id, TooLarge::PageRows);
        let answer = gathered.answer(question, labels, id, MAX_PAGE_ROWS, too_large)?;
        let Statistics { answer, memory: of_cells, last_date, as_of_ms } = answer;
        let mut rendering = Rendering::new(answer, question, format);
        let mut bytes = Vec::new();
        while let Some(piece) = rendering.next_piece() {
            bytes.extend_from_slice(&piece);
        }
        let memory = self.reserve(bytes.len())?;
        drop((rendering, of_cells));
        Ok(Rendered { bytes: held(bytes, memory), last_date, as_of_ms })
    }
}

/// What a request asks for.
struct Asked {
    question: Question,
    format: Format,
    coding: Coding,
}

impl Asked {
    fn parse(
        segments: [&str; 4],
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Self, Problem> {
        Ok(Self {
            question: Question::parse_for_page(segments, query).map_err(Problem::Parameter)?,
            format: accept::format(headers).map_err(Problem::NotAcceptable)?,
            coding: accept::coding(headers).map_err(Problem::NotAcceptable)?,
        })
    }
}
