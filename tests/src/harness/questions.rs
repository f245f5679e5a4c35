//! Questions with all parameters to a real query, and the model's judgement of the answers.

use std::collections::BTreeMap;

use botstats_common::io::clock;
use serde_json::json;

use super::{Answer, Login, PATIENCE, Query, Site, get_as, until};
use crate::in_process::json_of;
use crate::model::{Asked, Contents, Dates, Directory, answer};

/// Milliseconds in a quarter of an hour.
const QUARTER_MS: i64 = 15 * 60_000;

/// The most rows of an answer for the page.
const PAGE_ROWS: usize = 5_000;

/// What everything is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    pub contents: &'a Contents,
    /// Names of operators by id.
    pub operators: &'a BTreeMap<String, String>,
}

/// The path that asks this behind `/analytics/statistics/`, with the segments that say whose.
fn path(whose: &str, asked: &Asked) -> String {
    let days = match asked.dates {
        Dates::Last(number) => number.to_string(),
        Dates::FromTo(..) => "*".to_owned(),
    };
    let query = asked.query();
    let types: Vec<String> = asked.types.iter().map(ToString::to_string).collect();
    let (types, mode) = (types.join(","), asked.grain.name());
    let mark = if query.is_empty() { "" } else { "?" };
    format!("/analytics/statistics/{whose}{types}/{mode}/{days}{mark}{query}")
}

impl Site {
    /// Gives the operators of an account these names.
    pub async fn put_operators(&self, account: &str, operators: &BTreeMap<String, String>) {
        self.put(&format!("operators.{account}"), &json!(operators)).await;
    }
}

impl Query {
    /// Asks with the account's token, and checks that the answer is the model's to the byte; gives
    /// its length.
    pub async fn check_asked(
        &self,
        judge: Judge<'_>,
        login: &Login,
        asked: &Asked,
        directory: &Directory,
    ) -> usize {
        let key = match asked.bots.as_deref() {
            None => "*",
            Some([bot]) => login.keys[bot].as_str(),
            Some(_) => panic!("a path names one bot or all"),
        };
        let path = path(&format!("account/{key}/"), asked);
        self.check_path(&login.token, &path, judge, asked, directory).await
    }

    /// The same with the token of the bot that is asked for.
    pub async fn check_bot(
        &self,
        token: &str,
        judge: Judge<'_>,
        asked: &Asked,
        directory: &Directory,
    ) -> usize {
        self.check_path(token, &path("", asked), judge, asked, directory).await
    }

    /// The same as the page asks, with any token, for `*` or the id of a bot; `asked` has the bots
    /// that the token sees. An answer that is too large for the page must be so.
    pub async fn check_page(
        &self,
        token: &str,
        whose: &str,
        judge: Judge<'_>,
        asked: &Asked,
        directory: &Directory,
    ) {
        let path = path("", asked).replacen(
            "/analytics/statistics/",
            &format!("/dashboard/data/{whose}/"),
            1,
        );
        let first = get_as(token, self.http, &path, &[]).await;
        if first.status == 400 && first.problem() == "answer-too-large" {
            let asked = Asked { now_ms: clock::now_ms(), ..asked.clone() };
            let rows = answer(judge.contents, &asked, directory, judge.operators).len();
            assert!(rows > PAGE_ROWS, "{path}: {rows} rows, {first:?}");
            return;
        }
        self.check_path(token, &path, judge, asked, directory).await;
    }

    async fn check_path(
        &self,
        token: &str,
        path: &str,
        judge: Judge<'_>,
        asked: &Asked,
        directory: &Directory,
    ) -> usize {
        let (now_ms, got) = self.answer_to(token, path).await;
        let asked = Asked { now_ms, ..asked.clone() };
        let wanted = json_of(&answer(judge.contents, &asked, directory, judge.operators));
        let got = got.text();
        let rows = |text: &str| text.replace("},{", "}\n{");
        let (of_got, of_wanted) = (rows(got), rows(&wanted));
        let mut lines = of_got.lines().zip(of_wanted.lines()).enumerate();
        let first = lines.find(|(_, (got, wanted))| got != wanted);
        assert!(
            got == wanted,
            "{path} in {} at {now_ms}, {} bytes, the model has {}; the first other row: {first:?}",
            directory.timezone,
            got.len(),
            wanted.len(),
        );
        got.len()
    }

    /// Asks until there is a 200 that was asked for and given in one quarter of an hour; gives that
    /// moment with it.
    async fn answer_to(&self, token: &str, path: &str) -> (i64, Answer) {
        let quarter = |ms: i64| ms.div_euclid(QUARTER_MS);
        until(&format!("a 200 for {path}"), PATIENCE, async || {
            let before_ms = clock::now_ms();
            let answer = get_as(token, self.http, path, &[]).await;
            assert!(matches!(answer.status, 200 | 503), "{path}: {answer:?}");
            let is_of_one_quarter = quarter(before_ms) == quarter(clock::now_ms());
            (answer.status == 200 && is_of_one_quarter).then_some((before_ms, answer))
        })
        .await
    }
}
